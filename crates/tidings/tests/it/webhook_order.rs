//! Order of each key, with an endpoint that fails now and then and a hub that is killed.
//!
//! `TIDINGS_ORDER_ROUNDS` sets the number of kills; `scripts/delivery-loop` is the long form.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::hub::TestHub;
use crate::receiver::{Received, Receiver, Reply};
use crate::sinks::{ADMIN, Dice, Publisher, dead_letters, history_of, publish, rounds, webhook};

const KEYS: usize = 100;
const PUBLISHERS: usize = 4;
const ROUNDS: usize = 5;
/// How long what waits may take behind the last kill.
const PATIENCE: Duration = Duration::from_secs(120);

/// An endpoint that answers one request of ten with an error of its own, and one of two hundred
/// with a pause that is long enough for the entry to be put aside.
fn unreliable(seed: Dice) -> impl Fn(&Received) -> Reply + Send + Sync {
    let dice = Mutex::new(seed);
    move |_| {
        let mut dice = dice.lock().unwrap();
        match (dice.below(200), dice.below(10)) {
            (0, _) => Reply::status(500).header("Retry-After", "2"),
            (_, 0) => Reply::status(500 + (dice.below(5) as u16)),
            _ => Reply::status(200),
        }
    }
}

/// The data of one publisher's updates begins with their key.
fn key(data: &str) -> &str {
    data.split(' ').next().unwrap_or_default()
}

fn by_key(all: impl IntoIterator<Item = String>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for data in all {
        found.entry(key(&data).to_owned()).or_default().push(data);
    }
    found
}

/// Bodies in the order in which each was first answered with success.
fn first_successes(received: &[Received]) -> Vec<String> {
    let mut seen = HashSet::new();
    received
        .iter()
        .filter(|request| request.succeeded())
        .map(Received::text)
        .filter(|body| seen.insert(body.clone()))
        .collect()
}

#[test]
fn first_successes_of_a_key_are_as_published_with_errors_and_kills() {
    let rounds = rounds("TIDINGS_ORDER_ROUNDS", ROUNDS);
    let mut dice = Dice::from_clock();
    let receiver = Receiver::with(unreliable(dice.clone()));
    let retry = "key = \"topic\"\nretry = { first = \"20ms\", max = \"500ms\" }\n";
    let sink = webhook("order", &receiver.url("/"), "{ nats = \"order.>\" }", retry);
    let mut hub = TestHub::start(&format!("{ADMIN}{sink}"));
    // What each publisher has numbered so far, and what was acknowledged to it.
    let mut counts = [0; PUBLISHERS];
    let mut acknowledged: HashSet<String> = HashSet::new();
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let address = hub.address;
        let lasting = Duration::from_millis(100 + dice.below(900));
        let stop = &stop;
        let results: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
            let publishers: Vec<_> = counts
                .iter()
                .copied()
                .enumerate()
                .map(|(publisher, count)| {
                    scope.spawn(move || load(address, publisher, count, stop))
                })
                .collect();
            std::thread::sleep(lasting);
            hub.kill9();
            stop.store(true, Ordering::SeqCst);
            publishers.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (count, (next, accepted)) in counts.iter_mut().zip(results) {
            *count = next;
            acknowledged.extend(accepted);
        }
        eprintln!(
            "round {round}: {} acknowledged, {} received",
            acknowledged.len(),
            receiver.count()
        );
        hub = hub.restart();
    }
    for number in 0..KEYS {
        publish(&hub, &format!("order.{number}"), &format!("{number} end"));
    }
    receiver.wait_within(PATIENCE, |requests| {
        let ends = requests.iter().filter(|one| one.succeeded() && one.body.ends_with(b" end"));
        ends.map(|one| &one.body).collect::<HashSet<_>>().len() == KEYS
    });
    let received = receiver.received();
    let history = history_of(&hub, "order.>");
    let stored: HashSet<&String> = history.iter().collect();
    assert!(acknowledged.iter().all(|data| stored.contains(data)), "acknowledged and not stored");
    let (wanted, found) = (by_key(history.clone()), by_key(first_successes(&received)));
    assert_eq!(wanted.len(), KEYS);
    for (key, wanted) in &wanted {
        let found = found.get(key).map_or(&[][..], Vec::as_slice);
        let parting = wanted.iter().zip(found).position(|(wanted, found)| wanted != found);
        let at = parting.unwrap_or(wanted.len().min(found.len()));
        let near =
            |all: &[String]| all.iter().skip(at.saturating_sub(1)).take(4).cloned().collect();
        let (left, right): (Vec<_>, Vec<_>) = (near(wanted), near(found));
        assert!(wanted == found, "key {key} from {at} on: {left:?} came as {right:?}");
    }
    assert!(dead_letters(&hub, "order").is_empty());
    let errors = received.iter().filter(|request| !request.succeeded()).count();
    eprintln!(
        "{rounds} kills, {} updates of {KEYS} keys, {} requests of which {errors} failed",
        history.len(),
        received.len()
    );
    assert!(errors > received.len() / 20, "the endpoint failed too seldom to prove anything");
}

/// One publisher: an update after the other, each to one of its own keys, until the hub is gone.
/// Gives the next number and what was acknowledged.
fn load(
    address: std::net::SocketAddr,
    publisher: usize,
    first: usize,
    stop: &AtomicBool,
) -> (usize, Vec<String>) {
    let mut accepted = Vec::new();
    let mut connection = Publisher::new(address);
    let mut number = first;
    loop {
        let key = number * PUBLISHERS % KEYS + publisher;
        let data = format!("{key} {number}");
        number += 1;
        if !connection.publish(&format!("order.{key}"), &data) {
            return (number, accepted);
        }
        accepted.push(data);
        // Not much faster than what is delivered, so that kills meet both.
        std::thread::sleep(Duration::from_millis(1));
        if stop.load(Ordering::SeqCst) {
            return (number, accepted);
        }
    }
}
