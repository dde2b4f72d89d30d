//! kill -9 under load: no acknowledged update is lost, none is repeated, and every receiver sees
//! the one order that the history holds.
//!
//! `TIDINGS_CRASH_ROUNDS` sets the number of kills; `scripts/crash-loop` is the long form.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::http::{self, Connection, Event, EventStream, PATIENCE};
use crate::hub::{HUB, Launch, TestHub};
use crate::tokens::{Role, token_final};

const PUBLISHERS: usize = 6;
const ROUNDS: usize = 25;
/// Updates whose data starts with this end a round for the subscribers.
const MARK: &str = "mark ";

/// When an update was sent and, perhaps, acknowledged, on the test's own clock of steps.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    sent: u64,
    acknowledged: Option<u64>,
}

/// Everything the publishers know.
#[derive(Default)]
struct Ledger {
    steps: AtomicU64,
    acknowledged: AtomicU64,
    attempts: Mutex<HashMap<String, Attempt>>,
}

#[test]
fn killed_hubs_lose_no_acknowledged_update_and_keep_the_order() {
    let rounds = std::env::var("TIDINGS_CRASH_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let mut dice = Dice::from_clock();
    eprintln!("seed of this run: {}", dice.0);
    let ledger = Arc::new(Ledger::default());
    let mut receivers = vec![
        Receiver::new("match=*"),
        Receiver::new("match=https%3A%2F%2Fcrash.example%2F1"),
        Receiver::new("match=*"),
    ];
    // Small segments, so that kills meet the change from one to the next.
    let mut hub = TestHub::launch(Launch::toml("[history]\nsegment_size = \"1 MiB\""));
    for round in 0..rounds {
        receivers.iter_mut().for_each(|receiver| receiver.connect(hub.address));
        let readers: Vec<_> = receivers
            .drain(..)
            .map(|receiver| std::thread::spawn(|| receiver.until_cut()))
            .collect();
        let started = ledger.acknowledged.load(Ordering::SeqCst);
        let wanted = started + 20 + dice.below(200);
        let stop = Arc::new(AtomicBool::new(false));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let (ledger, stop, address) = (ledger.clone(), stop.clone(), hub.address);
                let sizes = Dice(dice.next());
                std::thread::spawn(move || {
                    publish(address, &format!("{round}-{publisher}"), &ledger, &stop, sizes);
                })
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        while ledger.acknowledged.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < deadline, "round {round}: no progress\n{}", hub.log());
            std::thread::sleep(Duration::from_micros(200 + dice.below(2_000)));
        }
        hub.kill9();
        stop.store(true, Ordering::SeqCst);
        publishers.into_iter().for_each(|thread| thread.join().unwrap());
        receivers.extend(readers.into_iter().map(|thread| thread.join().unwrap()));
        hub = hub.restart();
    }
    let last = format!("{MARK}last");
    receivers.iter_mut().for_each(|receiver| receiver.connect(hub.address));
    hub.publish(&[("topic", "https://crash.example/1"), ("data", &last)]);
    receivers.iter_mut().for_each(|receiver| receiver.until(&last));

    let history = read_all(&hub, &last);
    judge(&history, &ledger);
    // The same order again after one more restart, and the same ids.
    let hub = hub.restart();
    same("what is replayed after one more restart", &read_all(&hub, &last), &history);
    same("a receiver of all against the history", &receivers[0].seen, &history);
    same("another receiver of all against the history", &receivers[2].seen, &history);
    let attempts = ledger.attempts.lock().unwrap();
    let one: Vec<Event> = history
        .iter()
        .filter(|event| event.data == last || topic(key(&event.data)) == 1)
        .cloned()
        .collect();
    same("a receiver of one topic against the history", &receivers[1].seen, &one);
    eprintln!(
        "{rounds} kills: {} acknowledged of {} sent, {} in the history",
        ledger.acknowledged.load(Ordering::SeqCst),
        attempts.len(),
        history.len() - 1
    );
}

/// Says where two sequences part, without printing the whole of them.
#[track_caller]
fn same(what: &str, left: &[Event], right: &[Event]) {
    let parting = left.iter().zip(right).position(|(left, right)| left != right);
    let at = match parting {
        Some(at) => at,
        None if left.len() == right.len() => return,
        None => left.len().min(right.len()),
    };
    let show = |events: &[Event]| {
        let around = events.iter().skip(at.saturating_sub(2)).take(5);
        around.map(|e| format!("\n  {:?} {}", e.id, key(&e.data))).collect::<String>()
    };
    let (lefts, rights) = (left.len(), right.len());
    panic!("{what}: {lefts} and {rights}, from {at} on:{}\nand:{}", show(left), show(right));
}

/// Every acknowledged update exactly once, nothing that nobody sent, and nobody before an update
/// that was acknowledged before he was sent.
fn judge(history: &[Event], ledger: &Ledger) {
    let attempts = ledger.attempts.lock().unwrap();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut latest_sent = 0;
    for event in history.iter().filter(|event| !event.data.starts_with(MARK)) {
        let key = key(&event.data);
        let attempt =
            attempts.get(key).unwrap_or_else(|| panic!("nobody published {:?}", event.data));
        *seen.entry(key).or_default() += 1;
        if let Some(acknowledged) = attempt.acknowledged {
            assert!(acknowledged > latest_sent, "{key} stands behind an update sent after it");
        }
        latest_sent = latest_sent.max(attempt.sent);
    }
    for (key, attempt) in attempts.iter() {
        let count = seen.get(key.as_str()).copied().unwrap_or_default();
        if attempt.acknowledged.is_some() {
            assert_eq!(count, 1, "acknowledged update {key} is in the history {count} times");
        } else {
            assert!(count <= 1, "update {key} was sent once and stored {count} times");
        }
    }
}

/// One publisher: one update after the other on one connection until the hub is gone.
fn publish(address: SocketAddr, name: &str, ledger: &Ledger, stop: &AtomicBool, mut dice: Dice) {
    let token = token_final(Role::Publish, &["*"]);
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let mut connection = Connection::open(address);
    for number in 0.. {
        let key = format!("{name}-{number}");
        let padding = "x".repeat(usize::try_from(dice.below(3_000)).unwrap());
        let data = format!("{key} {padding}");
        let topic = format!("https://crash.example/{}", topic(&key));
        let body = http::form(&[("topic", &topic), ("data", &data)]);
        let sent = ledger.steps.fetch_add(1, Ordering::SeqCst) + 1;
        let attempt = Attempt { sent, acknowledged: None };
        ledger.attempts.lock().unwrap().insert(key.clone(), attempt);
        if !connection.send(&http::request("POST", HUB, &headers, body.as_bytes())) {
            return;
        }
        let Some(reply) = connection.reply() else { return };
        assert_eq!(reply.status, 200, "{:?}", reply.text());
        let acknowledged = Some(ledger.steps.fetch_add(1, Ordering::SeqCst) + 1);
        ledger.attempts.lock().unwrap().insert(key, Attempt { sent, acknowledged });
        ledger.acknowledged.fetch_add(1, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// What names an update: the first word of its data.
fn key(data: &str) -> &str {
    data.split(' ').next().unwrap_or_default()
}

/// Which of the topics an update has, by its key.
fn topic(key: &str) -> usize {
    key.bytes().map(usize::from).sum::<usize>() % 3
}

fn read_all(hub: &TestHub, last: &str) -> Vec<Event> {
    let mut stream = hub.subscribe("match=*&last_event_id=earliest");
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Event| event.data != last) {
        events.push(stream.event());
    }
    events
}

/// A subscriber as a browser is one: it reads, and after a cut goes on behind the last id.
struct Receiver {
    query: &'static str,
    seen: Vec<Event>,
    stream: Option<EventStream>,
}

impl Receiver {
    fn new(query: &'static str) -> Receiver {
        Receiver { query, seen: Vec::new(), stream: None }
    }

    fn connect(&mut self, address: SocketAddr) {
        let token = token_final(Role::Subscribe, &["*"]);
        let cursor = self.seen.last().and_then(|event| event.id.clone());
        let cursor = cursor.as_deref().unwrap_or("earliest");
        let target = format!("{HUB}?{}", self.query);
        let headers =
            [("Authorization", format!("Bearer {token}")), ("Last-Event-ID", cursor.to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut stream = http::stream(address, &http::request("GET", &target, &headers, b""));
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        let answer = stream.head.header("mercure-last-event-id");
        if !self.seen.is_empty() {
            assert_eq!(answer.as_deref(), Some(cursor), "the hub lost the receiver's place");
        }
        stream.until_open();
        self.stream = Some(stream);
    }

    /// Everything that arrives from a hub until it is killed.
    fn until_cut(mut self) -> Receiver {
        let mut stream = self.stream.take().unwrap();
        self.seen.extend(stream.until_end().0);
        self
    }

    fn until(&mut self, data: &str) {
        let stream = self.stream.as_mut().unwrap();
        while self.seen.last().is_none_or(|event| event.data != data) {
            self.seen.push(stream.event());
        }
    }
}

/// A small random number generator (xorshift); good enough to vary the moment of a kill.
struct Dice(u64);

impl Dice {
    fn from_clock() -> Dice {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Dice(now.as_nanos() as u64 | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
