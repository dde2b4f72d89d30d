//! What the kernel saw: no acknowledgement leaves before the sync that covers its bytes returned.
//!
//! The hub runs under strace. Each update carries a marker in its id and data, so that the write
//! into the history and the write to the socket are found in the trace by themselves; nothing in
//! the program helps. The same judgement must fail against `durability = "written"`, which
//! acknowledges earlier on purpose.
//!
//! `TIDINGS_STRACE_PUBLISHES` sets the number of updates.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::{self, Connection};
use crate::hub::{HUB, Launch, TestHub};
use crate::tokens::{Role, token_final};

const PUBLISHES: usize = 10_000;
const PUBLISHERS: usize = 16;
const WRITES: [&str; 9] = [
    "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "splice",
];
const SYNCS: [&str; 2] = ["fdatasync", "fsync"];

#[test]
fn no_acknowledgement_leaves_before_the_sync_that_covers_it() {
    let count = std::env::var("TIDINGS_STRACE_PUBLISHES").map_or(PUBLISHES, |n| n.parse().unwrap());
    let traced = Traced::run("fsync", count, None);
    assert_eq!(traced.acknowledged.len(), count, "refused: {:?}", traced.refused.first());
    let covered = traced.judge().unwrap();
    assert_eq!(covered, count, "acknowledgements found in the trace");
    eprintln!("{covered} acknowledgements, each behind its sync");
}

#[test]
fn the_same_judgement_fails_against_written() {
    let traced = Traced::run("written", 300, None);
    assert_eq!(traced.acknowledged.len(), 300, "refused: {:?}", traced.refused.first());
    traced.judge().expect_err("`written` acknowledges before the disk has it");
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    let mut traced = Traced::run("fsync", 2_000, Some(40));
    traced.judge_failed_sync().unwrap();
    assert!(!traced.refused.is_empty());
    for reply in &traced.refused {
        assert_eq!(reply.status, 503, "{:?}", reply.text());
    }
    // The history is read-only now: what is durable can be read, and nothing else is shown.
    let readable = traced.readable();
    for id in &traced.acknowledged {
        assert!(readable.contains(id), "{id} was acknowledged and cannot be read");
    }
    for id in &readable {
        let shown = traced.acknowledged.contains(id);
        assert!(shown, "{id} is delivered and was not acknowledged");
    }
    // The next start trusts nothing behind the last sync without writing it again.
    let hub = traced.hub.take().unwrap();
    let hub = hub.restart_with(Launch::default());
    let mut ids: Vec<String> = hub.history().into_iter().filter_map(|event| event.id).collect();
    ids.retain(|id| traced.acknowledged.contains(id));
    assert_eq!(ids.len(), traced.acknowledged.len(), "acknowledged updates after a restart");
}

#[test]
fn the_judgement_of_failed_syncs_fails_against_written() {
    let traced = Traced::run("written", 300, Some(40));
    traced.judge_failed_sync().expect_err("`written` goes on acknowledging");
}

/// One run of publishers against a traced hub.
struct Traced {
    hub: Option<TestHub>,
    data: PathBuf,
    _folder: TempDir,
    trace: Trace,
    /// Ids that the hub acknowledged.
    acknowledged: std::collections::HashSet<String>,
    refused: Vec<http::Reply>,
}

impl Traced {
    /// Publishes `count` updates; with `fail`, the thread that syncs gets EIO at that sync once.
    fn run(durability: &str, count: usize, fail: Option<usize>) -> Traced {
        let strace = Command::new("strace").arg("-V").output();
        assert!(strace.is_ok(), "strace is missing; scripts/test installs it");
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("trace");
        let calls = format!("trace={},{}", WRITES.join(","), SYNCS.join(","));
        let mut under: Vec<String> = [
            "strace",
            "-D",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-y",
            "-s",
            "1048576",
            "-e",
            "signal=none",
        ]
        .map(str::to_owned)
        .to_vec();
        under.extend(["-e".to_owned(), calls, "-o".to_owned(), file.display().to_string()]);
        if let Some(nth) = fail {
            under.extend(["-e".to_owned(), format!("inject=fdatasync:error=EIO:when={nth}")]);
        }
        let toml = format!("[history]\ndurability = \"{durability}\"");
        let launch = Launch { under, ..Launch::toml(&toml) };
        let hub = TestHub::launch(launch);
        let next = AtomicUsize::new(0);
        let answers: Vec<(String, http::Reply)> = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|_| scope.spawn(|| publish(hub.address, &next, count)))
                .collect();
            publishers.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let (good, bad): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(_, reply)| reply.status == 200);
        let acknowledged = good.into_iter().map(|(id, _)| id).collect();
        let refused = bad.into_iter().map(|(_, reply)| reply).collect();
        let data = std::fs::canonicalize(hub.data()).unwrap();
        let trace = Trace::read(&file, &data);
        Traced { hub: Some(hub), data, _folder: folder, trace, acknowledged, refused }
    }

    /// For each acknowledgement in the trace, the order write, sync, answer. Gives their number,
    /// or what is wrong with the first that breaks it.
    fn judge(&self) -> Result<usize, String> {
        if self.trace.files.is_empty() {
            return Err(format!("nothing was written below {}", self.data.display()));
        }
        for (id, answer) in &self.trace.answers {
            self.trace.covered(id, *answer)?;
        }
        Ok(self.trace.answers.len())
    }

    /// The same where a sync failed: no sync from the failed one on covers anything.
    fn judge_failed_sync(&self) -> Result<(), String> {
        let failed = self.trace.failed.ok_or("no sync failed")?;
        self.judge()?;
        for (id, answer) in &self.trace.answers {
            let covered = self.trace.covered(id, *answer)?;
            if covered > failed {
                return Err(format!("{id} trusts a sync behind the failed one"));
            }
        }
        Ok(())
    }

    /// Ids of what a reader from the earliest entry gets now, when nothing more can be published.
    fn readable(&self) -> Vec<String> {
        let hub = self.hub.as_ref().unwrap();
        let mut stream = hub.subscribe("match=*&last_event_id=earliest");
        let mut ids = Vec::new();
        while ids.len() < self.acknowledged.len() {
            ids.push(stream.event().id.unwrap());
        }
        // The stream stays open and silent. There is nothing to wait for, so a moment must do.
        while let Some(event) = stream.next_within(Duration::from_millis(300)) {
            ids.push(event.id.unwrap());
        }
        assert_eq!(stream.ended, None, "reading must go on");
        ids
    }
}

/// One connection; each update's marker is its id.
fn publish(address: SocketAddr, next: &AtomicUsize, count: usize) -> Vec<(String, http::Reply)> {
    let authorization = format!("Bearer {}", token_final(Role::Publish, &["*"]));
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let mut connection = Connection::open(address);
    let mut answers = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return answers;
        }
        let id = marker(number);
        let body = http::form(&[
            ("topic", "https://strace.example/"),
            ("id", &id),
            ("data", &format!("data-{id}")),
        ]);
        connection.send(&http::request("POST", HUB, &headers, body.as_bytes()));
        let reply = connection.reply().expect("the hub closed the connection");
        let refused = reply.status != 200;
        answers.push((id, reply));
        if refused {
            // A refusal may end the connection.
            connection = Connection::open(address);
        }
    }
}

fn marker(number: usize) -> String {
    format!("marker{number:06}.")
}

/// The trace, reduced to what the judgement needs. Places are line numbers.
#[derive(Default)]
struct Trace {
    /// Files of the history that were written.
    files: Vec<String>,
    /// Where the write that carried an update's data into a file had returned.
    written: HashMap<String, (usize, usize)>,
    /// Successful syncs by file: where they began and returned, in order.
    syncs: HashMap<usize, Vec<(usize, usize)>>,
    /// Where the first write of a marker to a socket began.
    answers: HashMap<String, usize>,
    /// Where the first failed sync returned.
    failed: Option<usize>,
}

impl Trace {
    /// Reads the trace once every call of it has been written: the tracer is behind the hub.
    fn read(file: &Path, data: &Path) -> Trace {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut size = 0;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = std::fs::metadata(file).unwrap().len();
            if now == size || Instant::now() > deadline {
                break;
            }
            size = now;
        }
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        let mut trace = Trace::default();
        let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let (thread, call) = line.split_once(' ').unwrap_or((line, ""));
            let call = call.trim_start();
            if let Some(begun) = call.strip_suffix("<unfinished ...>") {
                trace.begun(at, begun);
                open.insert(thread, (at, begun));
            } else if call.starts_with("<... ") {
                let Some((began, begun)) = open.remove(thread) else { continue };
                trace.returned(began, at, begun, call, data);
            } else {
                trace.begun(at, call);
                trace.returned(at, at, call, call, data);
            }
        }
        trace
    }

    /// A call that begins: what matters is when a marker may reach a socket.
    fn begun(&mut self, at: usize, call: &str) {
        if !descriptor(call).is_some_and(is_socket) {
            return;
        }
        for id in markers(call) {
            self.answers.entry(id.to_owned()).or_insert(at);
        }
    }

    /// A call that returned: writes into files and syncs.
    fn returned(&mut self, began: usize, at: usize, begun: &str, end: &str, data: &Path) {
        let Some(path) = descriptor(begun) else { return };
        if !Path::new(path).starts_with(data) {
            return;
        }
        let file = self.files.iter().position(|known| known == path).unwrap_or_else(|| {
            self.files.push(path.to_owned());
            self.files.len() - 1
        });
        let name = begun.split('(').next().unwrap_or_default();
        // Padded by strace in resumed calls: `)      = 0`.
        let result = end.rsplit_once(" = ").map_or("", |(_, result)| result);
        if SYNCS.contains(&name) {
            if result.starts_with('0') {
                self.syncs.entry(file).or_default().push((began, at));
            } else if self.failed.is_none() {
                self.failed = Some(at);
            }
        } else if WRITES.contains(&name) && !result.starts_with('-') {
            for id in markers(begun) {
                // The whole record, not an index of ids.
                if begun.contains(&format!("data-{id}")) {
                    self.written.entry(id.to_owned()).or_insert((at, file));
                }
            }
        }
    }

    /// Where the sync that covers an update returned, if that is before its answer began.
    fn covered(&self, id: &str, answer: usize) -> Result<usize, String> {
        let (written, file) = self.written.get(id).ok_or(format!("{id} was never written"))?;
        let syncs =
            self.syncs.get(file).ok_or(format!("{} was never synced", self.files[*file]))?;
        let first = syncs.partition_point(|(began, _)| began <= written);
        let (_, returned) = syncs.get(first).ok_or(format!("{id} was never synced"))?;
        if *returned < answer {
            Ok(*returned)
        } else {
            Err(format!("{id}: answered at line {answer}, its sync returned at {returned}"))
        }
    }
}

/// What stands behind the file descriptor of a call, as strace decodes it.
fn descriptor(call: &str) -> Option<&str> {
    let rest = call.split_once('(')?.1;
    let rest = rest.split_once('<')?;
    rest.0.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    // Paths of the tests hold no `>`.
    Some(rest.1.split_once('>')?.0)
}

fn is_socket(descriptor: &str) -> bool {
    ["socket:", "TCP:", "TCPv6:"].iter().any(|kind| descriptor.starts_with(kind))
}

/// All markers in a call.
fn markers(call: &str) -> impl Iterator<Item = &str> {
    let length = marker(0).len();
    call.match_indices("marker").filter_map(move |(at, _)| {
        let id = call.get(at..at + length)?;
        (id.ends_with('.') && id[6..length - 1].bytes().all(|b| b.is_ascii_digit())).then_some(id)
    })
}
