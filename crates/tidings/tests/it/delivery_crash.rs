//! kill -9 at chosen system calls: between a publish and its receipt, and between an endpoint's
//! answer and the saved position. Nothing that was accepted is without a delivery, and what
//! follows a delivery is published once.
//!
//! `TIDINGS_DELIVERY_ROUNDS` sets how often each point is met; `scripts/delivery-loop` is the long
//! form.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::hub::{Launch, TestHub};
use crate::receiver::{Received, Receiver, Reply};
use crate::sinks::{
    ADMIN, CACHE, Dice, Publisher, dead_letters, history_of, publish, rounds, webhook,
};

const ROUNDS: usize = 3;
/// Publishing for so long without a kill: the point was not met.
const UNMET_AFTER: Duration = Duration::from_secs(10);
/// How long the last delivery may take behind the last kill.
const PATIENCE: Duration = Duration::from_secs(60);
const KILLED: i32 = -9;

/// A system call at whose beginning the hub is killed.
struct Point {
    call: &'static str,
    /// Only on this file of the data folder.
    file: Option<&'static str>,
    /// Calls of one thread up to the one that kills: at least, and at most. The start of a hub
    /// writes to the state as well, and what is of interest comes behind that.
    calls: (u64, u64),
}

/// Where a request is read, its record is written, synced and acknowledged, and where a request
/// leaves for the endpoint.
const BEFORE_THE_RECEIPT: &[Point] = &[
    Point { call: "recvfrom", file: None, calls: (1, 60) },
    Point { call: "pwrite64", file: Some("00000000000000000001.log"), calls: (1, 40) },
    Point { call: "fdatasync", file: Some("00000000000000000001.log"), calls: (1, 40) },
    Point { call: "sendto", file: None, calls: (1, 60) },
    Point { call: "writev", file: None, calls: (1, 60) },
];

/// Where an endpoint's answer is read, and where what it changes is written and synced.
const BEHIND_THE_ANSWER: &[Point] = &[
    Point { call: "recvfrom", file: None, calls: (1, 100) },
    Point { call: "pwrite64", file: Some("state"), calls: (14, 40) },
    Point { call: "fdatasync", file: Some("state"), calls: (7, 15) },
];

#[test]
fn nothing_accepted_is_without_a_delivery_or_a_dead_letter() {
    let mut campaign = Campaign::new("");
    campaign.run(&[BEFORE_THE_RECEIPT, BEHIND_THE_ANSWER]);
    campaign.judge();
}

#[test]
fn a_follow_up_stands_once_in_the_history() {
    let mut campaign =
        Campaign::new("then = { publish = { replace = [\"cms.cache\", \"relayed.cache\"] } }\n");
    campaign.run(&[BEFORE_THE_RECEIPT, BEHIND_THE_ANSWER]);
    let (hub, history) = campaign.judge();
    // The last is followed up like the others.
    let deadline = Instant::now() + PATIENCE;
    let relayed = loop {
        let relayed = history_of(&hub, "relayed.cache.>");
        if relayed.last().is_some_and(|data| data == "end") {
            break relayed;
        }
        assert!(Instant::now() < deadline, "{} of {}", relayed.len(), history.len());
    };
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for data in &relayed {
        *counts.entry(data).or_default() += 1;
    }
    let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(repeated.is_empty(), "followed up more than once: {repeated:?}");
    // Without a key one comes after the other, and so do the follow-ups.
    assert!(relayed == history, "{} follow-ups of {} updates", relayed.len(), history.len());
}

/// A hub that is killed again and again, and what the outside knows of it.
struct Campaign {
    folder: TempDir,
    toml: String,
    receiver: Receiver,
    dice: Dice,
    next: usize,
    accepted: Vec<String>,
}

impl Campaign {
    fn new(more: &str) -> Campaign {
        let strace = Command::new("strace").arg("-V").output();
        assert!(strace.is_ok(), "strace is missing; scripts/test installs it");
        let dice = Dice::from_clock();
        let own = Mutex::new(dice.clone());
        let receiver = Receiver::with(move |_| {
            Reply::status(if own.lock().unwrap().below(20) == 0 { 503 } else { 200 })
        });
        let more = format!("retry = {{ first = \"10ms\", max = \"100ms\" }}\n{more}");
        let toml = format!("{ADMIN}{}", webhook("crash", &receiver.url("/"), CACHE, &more));
        let folder = TempDir::new().unwrap();
        Campaign { folder, toml, receiver, dice, next: 0, accepted: Vec::new() }
    }

    fn launch(&self) -> Launch {
        Launch { data: Some(self.folder.path().join("history")), ..Launch::toml(&self.toml) }
    }

    /// Meets each point as often as the environment says.
    fn run(&mut self, points: &[&[Point]]) {
        // The files have to be there for the tracer to know them.
        let hub = TestHub::launch(self.launch());
        publish(&hub, "cms.cache.start", "start");
        self.receiver.wait_for_body("/", "start");
        drop(hub);
        for point in points.iter().copied().flatten() {
            let mut met = 0;
            let wanted = rounds("TIDINGS_DELIVERY_ROUNDS", ROUNDS);
            // Some are killed while they start.
            let mut left = wanted * 3;
            while met < wanted && left > 0 {
                left -= 1;
                met += usize::from(self.kill_at(point));
            }
            let (call, file) = (point.call, point.file.unwrap_or("any file"));
            eprintln!("{call} of {file}: killed {met} times, {} accepted", self.accepted.len());
            assert!(met >= wanted, "{call} of {file} was met {met} times only");
        }
    }

    /// Publishes to a hub that is killed at this point; false when it never came there.
    fn kill_at(&mut self, point: &Point) -> bool {
        let (least, most) = point.calls;
        let at = least + self.dice.below(most - least + 1);
        let mut launch = self.launch();
        launch.under = under_strace(point, at, &self.folder.path().join("history"));
        let Ok(mut hub) = TestHub::try_launch(launch) else { return false };
        let mut publisher = Publisher::new(hub.address);
        let begun = Instant::now();
        while begun.elapsed() < UNMET_AFTER {
            // Slower than what is delivered, so that both go on side by side.
            std::thread::sleep(Duration::from_millis(1));
            let data = format!("update {}", self.next);
            self.next += 1;
            if !publisher.publish("cms.cache.node", &data) {
                assert_eq!(hub.wait_for_exit(PATIENCE), KILLED, "{}", hub.log());
                return true;
            }
            self.accepted.push(data);
        }
        hub.kill9();
        false
    }

    /// Everything accepted is in the history, and all of the history is delivered, in its order.
    fn judge(&self) -> (TestHub, Vec<String>) {
        let hub = TestHub::launch(self.launch());
        publish(&hub, "cms.cache.node", "end");
        let is_end = |one: &Received| one.succeeded() && one.body == b"end";
        let received = self.receiver.wait_within(PATIENCE, |all| all.iter().any(is_end));
        let history = history_of(&hub, "cms.cache.>");
        let stored: HashSet<&String> = history.iter().collect();
        let lost: Vec<_> = self.accepted.iter().filter(|data| !stored.contains(data)).collect();
        assert!(lost.is_empty(), "accepted and not in the history: {lost:?}");
        let mut seen = HashSet::new();
        let delivered: Vec<String> = received
            .iter()
            .filter(|request| request.succeeded())
            .map(Received::text)
            .filter(|body| seen.insert(body.clone()))
            .collect();
        let missing: BTreeSet<_> = stored.iter().filter(|data| !seen.contains(**data)).collect();
        assert!(missing.is_empty(), "without a delivery: {missing:?}");
        assert!(delivered == history, "delivered in another order");
        assert!(dead_letters(&hub, "crash").is_empty());
        let repeated = received.iter().filter(|request| request.succeeded()).count() - seen.len();
        eprintln!("{} accepted, {} stored, {repeated} repeated", self.accepted.len(), stored.len());
        (hub, history)
    }
}

fn under_strace(point: &Point, at: u64, data: &Path) -> Vec<String> {
    let mut under: Vec<String> =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null"].map(str::to_owned).into();
    if let Some(file) = point.file {
        under.extend(["-P".to_owned(), data.join(file).display().to_string()]);
    }
    under.extend(["-e".to_owned(), format!("trace={}", point.call)]);
    under.extend(["-e".to_owned(), format!("inject={}:signal=KILL:when={at}", point.call)]);
    under
}
