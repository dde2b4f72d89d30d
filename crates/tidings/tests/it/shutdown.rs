//! SIGTERM: not ready, drain, close the streams evenly, end with code 0 and a clean history.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::http::{self, Connection, PATIENCE, Part};
use crate::hub::{HUB, TestHub};
use crate::tokens::{Role, token_final};

const TOPIC: &str = "https://shutdown.example/";
const BUDGET: Duration = Duration::from_secs(3);
const TOML: &str = "[http]\nshutdown_budget = \"3s\"";

#[test]
fn streams_end_well_and_spread_over_the_budget_with_a_retry() {
    const STREAMS: usize = 20;
    let mut hub = TestHub::start(TOML);
    let streams: Vec<_> = (0..STREAMS).map(|_| hub.subscribe("match=*")).collect();
    hub.publish(&[("topic", TOPIC), ("data", "before")]);
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            std::thread::spawn(move || {
                let (events, end) = stream.until_end();
                (events, end, stream.retry, Instant::now())
            })
        })
        .collect();
    let began = Instant::now();
    hub.signal("TERM");
    let mut ends = Vec::new();
    let mut retries = std::collections::HashSet::new();
    for reader in readers {
        let (events, end, retry, at) = reader.join().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(end, Part::End, "cut instead of ended");
        let retry = retry.expect("a stream closed at shutdown says when to come back");
        retry.parse::<u64>().expect("milliseconds");
        retries.insert(retry);
        ends.push(at - began);
    }
    assert_eq!(hub.wait_for_exit(BUDGET + PATIENCE), 0, "{}", hub.log());
    ends.sort();
    let (first, last) = (ends[0], ends[STREAMS - 1]);
    assert!(last < BUDGET + Duration::from_secs(2), "the budget was {BUDGET:?}: {ends:?}");
    assert!(last - first > BUDGET / 4, "all at once: {ends:?}");
    assert!(retries.len() > STREAMS / 4, "no jitter: {retries:?}");
}

#[test]
fn what_was_acknowledged_before_and_during_a_shutdown_is_there_after_it() {
    let hub = TestHub::start(TOML);
    let address = hub.address;
    let acknowledged = Mutex::new(Vec::new());
    let code = std::thread::scope(|scope| {
        for publisher in 0..4 {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                let authorization = format!("Bearer {}", token_final(Role::Publish, &["*"]));
                let headers = [
                    ("Authorization", authorization.as_str()),
                    ("Content-Type", "application/x-www-form-urlencoded"),
                ];
                let mut connection = Connection::open(address);
                for number in 0.. {
                    let data = format!("{publisher} {number}");
                    let body = http::form(&[("topic", TOPIC), ("data", &data)]);
                    connection.send(&http::request("POST", HUB, &headers, body.as_bytes()));
                    match connection.reply() {
                        Some(reply) if reply.status == 200 => {
                            acknowledged.lock().unwrap().push(data);
                        }
                        Some(reply) => {
                            assert_eq!(reply.status, 503, "{:?}", reply.text());
                            return;
                        }
                        None => return,
                    }
                }
            });
        }
        let deadline = Instant::now() + PATIENCE;
        while acknowledged.lock().unwrap().len() < 100 {
            assert!(Instant::now() < deadline, "no progress\n{}", hub.log());
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut hub = hub;
        hub.signal("TERM");
        let code = hub.wait_for_exit(BUDGET + PATIENCE);
        (code, hub)
    });
    let (code, hub) = code;
    assert_eq!(code, 0, "{}", hub.log());
    let hub = hub.restart();
    let history: Vec<String> = hub.history().into_iter().map(|event| event.data).collect();
    for data in acknowledged.into_inner().unwrap() {
        let count = history.iter().filter(|kept| **kept == data).count();
        assert_eq!(count, 1, "{data:?} was acknowledged");
    }
}

#[test]
fn cursors_hold_over_a_clean_restart_also_with_written() {
    let hub =
        TestHub::start("[history]\ndurability = \"written\"\n[http]\nshutdown_budget = \"1s\"");
    let cursor = hub.publish(&[("topic", TOPIC), ("data", "one")]);
    hub.publish(&[("topic", TOPIC), ("data", "two")]);
    let mut hub = hub;
    hub.signal("TERM");
    assert_eq!(hub.wait_for_exit(PATIENCE), 0, "{}", hub.log());
    let hub = hub.restart();
    let mut stream = hub.subscribe(&format!("match=*&last_event_id={}", http::encode(&cursor)));
    assert_eq!(stream.head.header("mercure-last-event-id").as_deref(), Some(cursor.as_str()));
    assert_eq!(stream.event().data, "two");
}

#[test]
fn a_stopping_hub_is_alive_but_not_ready_and_takes_nothing_new() {
    let mut hub = TestHub::start(TOML);
    let admin = hub.admin.expect("the admin listener's address in the log");
    let ask = |path| http::exchange(admin, &http::request("GET", path, &[], b"")).status;
    assert_eq!((ask("/livez"), ask("/readyz")), (200, 200));
    // An open connection from before keeps the program busy for its budget.
    let streams: Vec<_> = (0..8).map(|_| hub.subscribe("match=*")).collect();
    hub.signal("TERM");
    let deadline = Instant::now() + BUDGET;
    while ask("/readyz") != 503 {
        assert!(Instant::now() < deadline, "still ready\n{}", hub.log());
    }
    assert_eq!(ask("/livez"), 200);
    drop(streams);
    assert_eq!(hub.wait_for_exit(BUDGET + PATIENCE), 0);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut hub = TestHub::start("[http]\nshutdown_budget = \"60s\"");
    let _streams: Vec<_> = (0..8).map(|_| hub.subscribe("match=*")).collect();
    let began = Instant::now();
    hub.signal("TERM");
    hub.wait_for_log("shut");
    hub.signal("TERM");
    hub.wait_for_exit(Duration::from_secs(10));
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn an_idle_hub_ends_quickly_on_either_signal() {
    for name in ["TERM", "INT"] {
        let mut hub = TestHub::start("[http]\nshutdown_budget = \"60s\"");
        hub.signal(name);
        assert_eq!(hub.wait_for_exit(Duration::from_secs(10)), 0, "{}", hub.log());
    }
}
