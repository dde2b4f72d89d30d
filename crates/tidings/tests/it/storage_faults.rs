//! Disks that fill, files that rot or are foreign, a second process, a clock that jumps: a clear
//! answer each time, and nothing that was acknowledged is lost.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::http::{self, PATIENCE, Part};
use crate::hub::{HUB, Launch, TestHub, run_in};
use crate::tokens::{self, Role, bearer, token_final};

const TOPIC: &str = "https://faults.example/";
pub(crate) const SMALL_SEGMENTS: &str = "[history]\nsegment_size = \"1 MiB\"";

/// A hub whose history lies on a small file system of its own; gives the folder as seen from here.
fn on_small_disk(mount_point: &Path, size: &str) -> (TestHub, PathBuf) {
    let script =
        format!("mount -t tmpfs -o size={size} tidings {0} && exec \"$@\"", mount_point.display());
    // Root mounts in a namespace of its own; anybody else is root in a user namespace first.
    let user = std::process::Command::new("id").arg("-u").output().unwrap().stdout;
    let flags = if user == b"0\n" { "-m" } else { "-Urm" };
    let under = ["unshare", flags, "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    let data = Some(mount_point.to_path_buf());
    let hub = TestHub::launch(Launch { under, data, ..Launch::toml(SMALL_SEGMENTS) });
    let seen = PathBuf::from(format!("/proc/{}/root{}", hub.pid(), mount_point.display()));
    (hub, seen)
}

#[test]
fn a_full_disk_refuses_updates_keeps_streams_alive_and_recovers_by_itself() {
    let mount_point = TempDir::new().unwrap();
    let (hub, disk) = on_small_disk(mount_point.path(), "24m");
    let mut live = hub.subscribe("match=*");
    let padding = "x".repeat(32 * 1024);
    let mut acknowledged = Vec::new();
    let mut attempt = 0;
    let mut publish = || {
        attempt += 1;
        let data = format!("update {attempt} {padding}");
        let token = token_final(Role::Publish, &["*"]);
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", &data)]);
        if reply.status == 200 {
            acknowledged.push(data);
        }
        reply
    };
    publish().expect(200);
    let ballast = fill(&disk);
    // What was allocated before may still be used; then the disk is full.
    let refused = (0..1_000).map(|_| publish()).find(|reply| reply.status != 200).unwrap();
    assert_eq!(refused.status, 507, "{:?}", refused.text());
    let content = refused.header("content-type").unwrap_or_default();
    assert!(content.starts_with("application/problem+json"), "{content}");
    assert_eq!(refused.json()["status"], json!(507));
    publish().expect(507);

    std::fs::remove_file(ballast).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while publish().status != 200 {
        assert!(Instant::now() < deadline, "did not recover\n{}", hub.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    publish().expect(200);
    assert!(live.data(acknowledged.len()) == acknowledged, "the live stream has another order");
    let history: Vec<String> = hub.history().into_iter().map(|event| event.data).collect();
    assert!(history == acknowledged, "the history has {} updates", history.len());
}

/// Takes all space of a file system.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 4 << 10] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    path
}

#[test]
fn a_damaged_segment_closes_streams_at_the_gap_and_is_named_by_check() {
    const COUNT: usize = 400;
    let launch = Launch::toml(SMALL_SEGMENTS);
    let hub = TestHub::launch(launch.clone());
    let padding = "x".repeat(16 * 1024);
    for number in 0..COUNT {
        let data = format!("update {number:06} {padding}");
        hub.publish(&[("topic", TOPIC), ("data", &data)]);
    }
    let data = hub.data();
    let folder = hub.config().parent().unwrap().to_path_buf();
    let mut hub = hub;
    hub.kill9();
    let damaged = damage(&data, "update 000200 ");

    let found = run_in(&folder, &["check"], Some(&launch));
    let said = String::from_utf8_lossy(&[found.stdout, found.stderr].concat()).into_owned();
    assert_ne!(found.status.code(), Some(0), "check found nothing: {said}");
    let name = damaged.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.contains(&name), "check does not name {name}: {said}");

    let hub = hub.restart();
    // As a browser does: read to the end of the stream, go on behind the last id.
    let mut cursor = "earliest".to_owned();
    let mut last = None;
    let mut told = false;
    for _ in 0..5 {
        let query = format!("match=*&last_event_id={}", http::encode(&cursor));
        let mut stream = hub.subscribe(&query);
        let answered = stream.head.header("mercure-last-event-id");
        let mut first = true;
        while last != Some(COUNT - 1) {
            let Some(event) = stream.next_within(PATIENCE) else { break };
            let number: usize = event.data[7..13].parse().unwrap();
            assert_ne!(number, 200, "the damaged update was delivered");
            let expected = last.map_or(0, |last| last + 1);
            if number != expected {
                assert!(first, "{expected} to {number} are missing in the middle of a stream");
                assert_ne!(answered.as_ref(), Some(&cursor), "the gap was hidden");
                told = true;
            }
            first = false;
            last = Some(number);
            cursor = event.id.unwrap();
        }
        if last == Some(COUNT - 1) {
            break;
        }
        assert_eq!(stream.ended, Some(Part::End), "the stream neither goes on nor ends");
    }
    assert_eq!(last, Some(COUNT - 1), "what stands behind the damage was not reached");
    assert!(told, "the damage was not noticed");
    assert!(damaged.exists(), "damaged files are kept for the operator");
    // Publishing and live delivery do not suffer.
    let mut live = hub.subscribe("match=*");
    hub.publish(&[("topic", TOPIC), ("data", "after the damage")]);
    assert_eq!(live.event().data, "after the damage");
}

#[test]
fn a_client_that_nothing_was_for_comes_past_the_damage_too() {
    let hub = TestHub::launch(Launch::toml(SMALL_SEGMENTS));
    let padding = "x".repeat(16 * 1024);
    let wanted = "https://faults.example/wanted";
    for number in 0..200 {
        let data = format!("update {number:06} {padding}");
        hub.publish(&[("topic", TOPIC), ("data", &data)]);
    }
    hub.publish(&[("topic", wanted), ("data", "behind the damage")]);
    let data = hub.data();
    let mut hub = hub;
    hub.kill9();
    damage(&data, "update 000100 ");

    let hub = hub.restart();
    let mut cursor = "earliest".to_owned();
    for _ in 0..5 {
        let query =
            format!("match={}&last_event_id={}", http::encode(wanted), http::encode(&cursor));
        let mut stream = hub.subscribe(&query);
        if let Some(event) = stream.next_within(PATIENCE) {
            assert_eq!(event.data, "behind the damage");
            return;
        }
        assert_eq!(stream.ended, Some(Part::End));
        // As a browser does it: an id counts without an event, too.
        let said = String::from_utf8_lossy(&stream.raw).into_owned();
        let mut ids = said.lines().filter_map(|line| line.strip_prefix("id: "));
        let told = ids.next_back().expect("the stream ended without saying how far it came");
        assert_ne!(told, cursor, "the client stands still");
        told.clone_into(&mut cursor);
    }
    panic!("the client never got past the damage");
}

/// Changes one byte behind `text` in the history; gives the file.
pub(crate) fn damage(data: &Path, text: &str) -> PathBuf {
    for path in files(data) {
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = find(&bytes, text.as_bytes()) {
            let at = at + text.len() + 100;
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 0x20], at as u64).unwrap();
            return path;
        }
    }
    panic!("no file below {} holds {text:?}", data.display());
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// All files below a folder, by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let first = TestHub::start("");
    let mut live = first.subscribe("match=*");
    let launch = Launch { data: Some(first.data()), ..Launch::default() };
    let log = TestHub::try_launch(launch).err().expect("a second hub runs on the same folder");
    assert!(log.contains(&first.data().display().to_string()), "the folder is not named: {log}");
    first.publish(&[("topic", TOPIC), ("data", "still here")]);
    assert_eq!(live.event().data, "still here");
}

#[test]
fn a_torn_tail_is_cut_off_and_what_was_acknowledged_stays() {
    let hub = TestHub::start("");
    let sent: Vec<String> = (0..50).map(|number| format!("tail {number:03}")).collect();
    for data in &sent {
        hub.publish(&[("topic", TOPIC), ("data", data)]);
    }
    let data = hub.data();
    let mut hub = hub;
    hub.kill9();
    // A write that power loss interrupted: half a record behind the last one.
    let path = files(&data)
        .into_iter()
        .find(|path| find(&std::fs::read(path).unwrap(), b"tail 049").is_some())
        .unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let end = find(&bytes, b"tail 049").unwrap() + 8;
    let start = end.next_multiple_of(8);
    let torn: Vec<u8> = bytes[end - 60..end - 20].to_vec();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&torn, start as u64).unwrap();
    let hub = hub.restart();
    let kept: Vec<String> = hub.history().into_iter().map(|event| event.data).collect();
    assert_eq!(kept, sent);
    hub.publish(&[("topic", TOPIC), ("data", "and on")]);
    assert_eq!(hub.history().last().unwrap().data, "and on");
}

/// A hub whose wall clock is moved while it runs.
struct Jumping {
    hub: TestHub,
    clock: PathBuf,
    _folder: TempDir,
}

impl Jumping {
    fn start(toml: &str) -> Jumping {
        let library = ["/usr/lib", "/usr/local/lib"]
            .iter()
            .flat_map(|root| files_named(Path::new(root), "libfaketimeMT.so.1", 3))
            .next()
            .expect("libfaketime is missing; scripts/test installs it (package faketime)");
        let folder = TempDir::new().unwrap();
        let clock = folder.path().join("clock");
        std::fs::write(&clock, "+0\n").unwrap();
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let hub = TestHub::launch(Launch { environment, ..Launch::toml(toml) });
        Jumping { hub, clock, _folder: folder }
    }

    /// Moves the hub's wall clock to this distance from the true time.
    fn jump(&self, seconds: i64) {
        let next = self.clock.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
        // In one step: the hub never reads half a file.
        std::fs::rename(&next, &self.clock).unwrap();
    }
}

fn files_named(folder: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            found.extend(files_named(&path, name, depth - 1));
        }
    }
    found
}

const HOUR: i64 = 3_600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

/// A publisher's token that outlives every jump.
fn long_lived_token() -> String {
    let mut claims = tokens::claims_final(json!([tokens::detail(Role::Publish, &["*"])]));
    claims["exp"] = json!(tokens::now() + 20 * 365 * 24 * 3_600);
    tokens::mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, Role::Publish.key())
}

#[test]
fn a_clock_that_jumps_deletes_no_entry_and_repeats_no_id() {
    let jumping = Jumping::start("[history]\nsegment_size = \"1 MiB\"\nkeep = { age = \"1d\" }");
    let token = long_lived_token();
    let padding = "x".repeat(400 * 1024);
    let mut sent = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for seconds in [0, HOUR, -HOUR, TEN_YEARS, 0] {
        jumping.jump(seconds);
        // Enough to begin new segments, which is when old ones may go.
        for number in 0..6 {
            let data = format!("{seconds} {number} {padding}");
            let reply = jumping.hub.publish_with(&token, &[("topic", TOPIC), ("data", &data)]);
            assert!(ids.insert(reply.expect(200).text()), "an id twice");
            sent.push(data);
        }
    }
    let kept: Vec<String> = jumping.hub.history().into_iter().map(|event| event.data).collect();
    let short = |all: &[String]| -> Vec<String> {
        all.iter().map(|data| data[..data.rfind(' ').unwrap()].to_owned()).collect()
    };
    assert_eq!(short(&kept), short(&sent));
}

#[test]
fn m48_m57_exp_is_judged_by_the_wall_clock_also_after_a_jump() {
    let jumping = Jumping::start("[mercure]\nheartbeat = \"1s\"");
    let hub = &jumping.hub;
    let token = token_final(Role::Subscribe, &["*"]);
    let mut stream = hub.subscribe_with(&token, "match=*", &[]);
    let (name, value) = bearer(&token);
    let headers = [(name.as_str(), value.as_str())];
    jumping.jump(2 * HOUR);
    let (_, end) = stream.until_end();
    assert_eq!(end, Part::End, "a connection whose token has expired");
    let refused = hub.get(&format!("{HUB}?match=*"), &headers).expect(401);
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("invalid_token"), "{challenge}");
    for seconds in [0, -HOUR] {
        jumping.jump(seconds);
        let mut stream = hub.subscribe_with(&token, "match=*", &[]);
        hub.publish_with(&long_lived_token(), &[("topic", TOPIC), ("data", "valid again")])
            .expect(200);
        assert_eq!(stream.event().data, "valid again");
    }
}

/// A stopped hub's folder with some updates in several segments; the cursor of the last.
fn stopped(launch: &Launch) -> (TestHub, String) {
    let hub = TestHub::launch(launch.clone());
    let padding = "x".repeat(300 * 1024);
    let mut cursor = String::new();
    for number in 0..12 {
        let data = format!("{number} {padding}");
        cursor = hub.publish(&[("topic", TOPIC), ("data", &data)]);
    }
    let mut hub = hub;
    hub.signal("TERM");
    assert_eq!(hub.wait_for_exit(PATIENCE), 0, "{}", hub.log());
    (hub, cursor)
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
    let found: Vec<_> = files(data).into_iter().filter(is_segment).collect();
    assert!(found.len() > 2, "several segments: {found:?}");
    found
}

#[test]
fn an_unknown_format_version_is_refused_and_both_versions_are_named() {
    let folder = TempDir::new().unwrap();
    let data = Some(folder.path().join("history"));
    let launch = Launch { data, ..Launch::toml(SMALL_SEGMENTS) };
    let (hub, _) = stopped(&launch);
    let path = segments(&hub.data()).remove(0);
    // The version stands behind the eight bytes that say what the file is.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&7_u32.to_le_bytes(), 8).unwrap();
    let before = std::fs::read(&path).unwrap();
    let log = hub.try_restart_with(launch).err().expect("started on an unknown format");
    for named in ["version 7", "version 1", path.file_name().unwrap().to_str().unwrap()] {
        assert!(log.contains(named), "{named:?} is not named: {log}");
    }
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}

#[test]
fn a_foreign_file_in_the_place_of_a_segment_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let data = Some(folder.path().join("history"));
    let launch = Launch { data, ..Launch::toml(SMALL_SEGMENTS) };
    let (hub, _) = stopped(&launch);
    let path = segments(&hub.data()).remove(1);
    let foreign = b"SQLite format 3\0 or whatever else somebody put here, long enough for a header";
    std::fs::write(&path, foreign).unwrap();
    let log = hub.try_restart_with(launch).err().expect("started on a foreign file");
    assert!(log.contains(path.file_name().unwrap().to_str().unwrap()), "not named: {log}");
    assert!(std::fs::read(&path).unwrap() == foreign, "the file was changed");
}

#[test]
fn a_removed_segment_begins_a_new_epoch_and_receivers_are_told() {
    let launch = Launch::toml(SMALL_SEGMENTS);
    let (hub, cursor) = stopped(&launch);
    std::fs::remove_file(segments(&hub.data()).remove(1)).unwrap();
    let hub = hub.restart();
    let mut stream = hub.subscribe(&format!("match=*&last_event_id={}", http::encode(&cursor)));
    assert_eq!(stream.head.header("mercure-last-event-id").as_deref(), Some("earliest"));
    assert!(stream.event().data.starts_with("0 "), "told `earliest`, so it begins there");
}

#[test]
fn a_restored_backup_begins_a_new_epoch_and_repeats_no_id() {
    let launch = Launch::toml(SMALL_SEGMENTS);
    let (hub, before) = stopped(&launch);
    let (data, backup) = (hub.data(), hub.data().with_extension("backup"));
    copy(&data, &backup);
    let hub = hub.restart();
    let after = hub.publish(&[("topic", TOPIC), ("data", "after the backup")]);
    let mut hub = hub;
    hub.kill9();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let hub = hub.restart();
    for cursor in [&before, &after] {
        let stream = hub.subscribe(&format!("match=*&last_event_id={}", http::encode(cursor)));
        let told = stream.head.header("mercure-last-event-id");
        assert_eq!(told.as_deref(), Some("earliest"), "for {cursor}");
    }
    let again = hub.publish(&[("topic", TOPIC), ("data", "after the restore")]);
    assert_ne!(again, after, "one id for two updates");
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

#[test]
fn check_is_content_with_a_healthy_folder_also_while_a_hub_runs_on_it() {
    let launch = Launch::toml(SMALL_SEGMENTS);
    let (hub, _) = stopped(&launch);
    let hub = hub.restart();
    let folder = hub.config().parent().unwrap().to_path_buf();
    let found = run_in(&folder, &["check"], Some(&launch));
    let said = String::from_utf8_lossy(&[found.stdout, found.stderr].concat()).into_owned();
    assert_eq!(found.status.code(), Some(0), "{said}");
    let mut hub = hub;
    hub.kill9();
    let found = run_in(&folder, &["check"], Some(&launch));
    let said = String::from_utf8_lossy(&[found.stdout, found.stderr].concat()).into_owned();
    assert_eq!(found.status.code(), Some(0), "{said}");
}
