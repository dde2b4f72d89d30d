//! What endpoints cost that answer a byte a second, or without an end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::Arguments;
use crate::endpoint::Endpoint;
use crate::figures::{middle, table};
use crate::hub::Hub;
use crate::publisher::{Load, publish};
use crate::webhooks::SETTLED;

/// Deliveries to one bad endpoint before: as many as fill what the hub keeps of recent attempts in
/// memory, 32 MiB with 64 KiB of each answer. That is bounded for all endpoints together, and full
/// in a hub that has run for a while.
const WARM: usize = 600;
const PATIENCE: Duration = Duration::from_secs(120);

/// Wanted: at most 64 KiB for each, and an end of each exchange within a second of its time limit.
pub(crate) fn run(arguments: &Arguments) {
    let each: usize = arguments.get("each", 200);
    let timeout: u64 = arguments.get("timeout", 10);
    let mut endpoint = Endpoint::start(None);
    let mut rows = Vec::new();
    let [mut grown, mut longest] = [(); 2].map(|()| Vec::new());
    for path in ["dribble", "endless"] {
        grown.clear();
        longest.clear();
        for _ in 0..arguments.get("rounds", 3) {
            let hub = Hub::start("fsync", None, &sinks(&endpoint, path, each, timeout));
            endpoint.reset();
            publish_to(&hub, "warm", WARM);
            wait_for_end(&mut endpoint, WARM);
            endpoint.reset();
            hub.forget_peak();
            let before = hub.resident();
            publish_to(&hub, "bench", 1);
            wait_for_end(&mut endpoint, each);
            grown.push(hub.peak().saturating_sub(before) as f64 / 1024.0 / each as f64);
            longest.push(endpoint.report().longest as f64 / 1e9);
        }
        rows.push(vec![path.to_owned(), middle(&grown, 1), middle(&longest, 2)]);
    }
    let title = format!("hostile: {each} endpoints that answer badly, with a limit of {timeout} s");
    let limit = format!("longest exchange s (≤ {})", timeout + 1);
    table(&title, &["body", "KiB of memory each (≤ 64)", &limit], &rows);
}

/// Until so many exchanges have ended.
fn wait_for_end(endpoint: &mut Endpoint, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while endpoint.report().ended < count {
        assert!(Instant::now() < deadline, "some exchanges never ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(SETTLED);
}

fn publish_to(hub: &Hub, topic: &str, count: usize) {
    let topic = |_| topic.to_owned();
    let load = Load { count, rate: None, connections: 1, bytes: 1_024, topic: &topic };
    publish(hub.address, &load);
}

/// As many bad ones as told, and one of another topic for before.
fn sinks(endpoint: &Endpoint, path: &str, count: usize, timeout: u64) -> String {
    let mut sinks = format!(
        "[[sink]]\nkind = \"webhook\"\nname = \"warm\"\ntopics = [\"warm\"]\nurl = \"{}\"\n",
        endpoint.url("endless")
    );
    for number in 0..count {
        let _whole = write!(
            sinks,
            "[[sink]]\nkind = \"webhook\"\nname = \"s{number}\"\ntopics = [\"bench\"]\n\
             url = \"{}\"\ntimeout = \"{timeout}s\"\nretry = {{ give_up_after = \"1s\" }}\n",
            endpoint.url(path)
        );
    }
    sinks
}
