//! What journeys of sinks share: their configuration, a publisher that goes on, what the admin
//! listener says of a sink, and what the history holds. Knows no system that updates leave to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::http::{self, Connection, PATIENCE, Pairs, Reply};
use crate::hub::{HUB, TestHub};
use crate::tokens::{Role, bearer, token_final};

/// The admin token of a test, as configuration. Stands before the sinks.
pub(crate) const ADMIN: &str = "[admin]\ntoken = \"admin-token-of-the-tests\"\n";
/// Retries that a test can wait for.
pub(crate) const QUICK: &str = "retry = { first = \"20ms\", max = \"200ms\" }\n";
/// A `topics` that takes everything below `cms.cache`.
pub(crate) const CACHE: &str = "{ nats = \"cms.cache.>\" }";

/// A webhook sink on this machine: its name, its URL, the only element of its `topics`, and more
/// lines.
pub(crate) fn webhook(name: &str, url: &str, topics: &str, more: &str) -> String {
    format!(
        "[[sink]]\nkind = \"webhook\"\nname = \"{name}\"\nurl = \"{url}\"\n\
         topics = [{topics}]\nallow = [\"127.0.0.0/8\"]\n{more}\n"
    )
}

/// A topic as an element of `topics`.
pub(crate) fn exactly(topic: &str) -> String {
    format!("\"{topic}\"")
}

/// The request to the admin listener with its token, and the answer.
#[track_caller]
pub(crate) fn ask(hub: &TestHub, method: &str, path: &str, body: &Value) -> Reply {
    ask_with(hub, method, path, &[], body)
}

/// The same with more headers.
#[track_caller]
pub(crate) fn ask_with(
    hub: &TestHub,
    method: &str,
    path: &str,
    more: Pairs<'_>,
    body: &Value,
) -> Reply {
    let (name, value) = bearer("admin-token-of-the-tests");
    let mut headers = vec![(name.as_str(), value.as_str()), ("Content-Type", "application/json")];
    headers.extend_from_slice(more);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let admin = hub.admin.expect("the admin listener's address in the log");
    let target = format!("/tidings/admin/sinks{path}");
    http::exchange(admin, &http::request(method, &target, &headers, body.as_bytes()))
}

/// The dead letters of a sink, oldest first. Each has `number`, `kind`, `topic`, `tries`, `fault`,
/// `reason` and `status`.
#[track_caller]
pub(crate) fn dead_letters(hub: &TestHub, sink: &str) -> Vec<Value> {
    let path = format!("/{sink}/dead-letters");
    let list = ask(hub, "GET", &path, &Value::Null).expect(200).json();
    list["dead_letters"].as_array().unwrap_or_else(|| panic!("{list}")).clone()
}

/// Waits until a sink has so many dead letters.
#[track_caller]
pub(crate) fn wait_for_dead_letters(hub: &TestHub, sink: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = dead_letters(hub, sink);
        if list.len() >= count {
            return list;
        }
        assert!(Instant::now() < deadline, "{} dead letters of {count}: {list:?}", list.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a sink is doing: `running`, `paused`, `disabled` or `waiting`.
#[track_caller]
pub(crate) fn state(hub: &TestHub, sink: &str) -> String {
    let found = ask(hub, "GET", &format!("/{sink}"), &Value::Null).expect(200).json();
    found["state"].as_str().unwrap_or_else(|| panic!("{found}")).to_owned()
}

/// Waits until it is doing that.
#[track_caller]
pub(crate) fn wait_for_state(hub: &TestHub, sink: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while state(hub, sink) != wanted {
        assert!(Instant::now() < deadline, "{sink} is {}, not {wanted}", state(hub, sink));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Publishes an update without more than topic and data.
#[track_caller]
pub(crate) fn publish(hub: &TestHub, topic: &str, data: &str) {
    hub.publish(&[("topic", topic), ("data", data)]);
}

/// One connection that publishes one update after the other.
pub(crate) struct Publisher {
    connection: Connection,
    authorization: String,
}

impl Publisher {
    pub(crate) fn new(address: SocketAddr) -> Publisher {
        let authorization = format!("Bearer {}", token_final(Role::Publish, &["*"]));
        Publisher { connection: Connection::open(address), authorization }
    }

    /// Publishes; false when the hub is gone before it has acknowledged.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, data: &str) -> bool {
        let headers = [
            ("Authorization", self.authorization.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let body = http::form(&[("topic", topic), ("data", data)]);
        if !self.connection.send(&http::request("POST", HUB, &headers, body.as_bytes())) {
            return false;
        }
        let Some(reply) = self.connection.reply() else { return false };
        assert_eq!(reply.status, 200, "{:?}", reply.text());
        true
    }
}

/// The data of all that the history holds for a NATS filter, in order.
#[track_caller]
pub(crate) fn history_of(hub: &TestHub, filter: &str) -> Vec<String> {
    static ENDS: AtomicU64 = AtomicU64::new(0);
    let end = format!("end-of-filtered-history-{}", ENDS.fetch_add(1, Ordering::Relaxed));
    publish(hub, "https://tests.example/end-of-filtered", &end);
    let query = format!(
        "match_nats={}&match={}&last_event_id=earliest",
        http::encode(filter),
        http::encode("https://tests.example/end-of-filtered")
    );
    let mut stream = hub.subscribe(&query);
    let mut found = Vec::new();
    loop {
        let event = stream.event();
        if event.data == end {
            return found;
        }
        if !event.data.starts_with("end-of-filtered-history-") {
            found.push(event.data);
        }
    }
}

/// How often a loop runs: a variable of the environment, or the short form.
pub(crate) fn rounds(variable: &str, short: usize) -> usize {
    std::env::var(variable).map_or(short, |n| n.parse().expect("a number of rounds"))
}

/// A small random number generator (xorshift) for moments and answers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The same one each time.
    pub(crate) fn of(seed: u64) -> Dice {
        // No bit set would be all that ever comes.
        Dice(seed.max(1))
    }

    /// Another one each time; the seed is printed, so that a failure tells it.
    pub(crate) fn from_clock() -> Dice {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        eprintln!("seed of this run: {seed}");
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A number of the process in `/proc/PID/status`, in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
