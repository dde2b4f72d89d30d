//! What a signed webhook costs the hub, beside the bare client: a backlog with a key for each
//! topic, over connections that stay open, with every attempt recorded.

use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::figures::{middle, ratio, table};
use crate::hub::Hub;
use crate::publisher::{Load, publish};
use crate::{Arguments, bare_client};

/// The signing key without its prefix, in base64.
pub(crate) const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What follows the last answer: attempts are written, and the place is saved.
pub(crate) const SETTLED: Duration = Duration::from_millis(500);

/// What the rounds of one contestant brought.
#[derive(Default)]
struct Runs {
    /// Microseconds of CPU for each delivery.
    cpu: Vec<f64>,
    /// Deliveries a second.
    rate: Vec<f64>,
}

impl Runs {
    fn row(&self, name: &str, floor: &Runs) -> Vec<String> {
        vec![
            name.to_owned(),
            middle(&self.cpu, 1),
            ratio(&self.cpu, &floor.cpu),
            middle(&self.rate, 0),
            ratio(&self.rate, &floor.rate),
        ]
    }
}

struct Scene {
    endpoint: Endpoint,
    entries: usize,
    topics: usize,
    bytes: usize,
    concurrency: usize,
    /// Of the runtime of the bare client; 0 is as many as cores, which is what the hub does.
    threads: usize,
    /// The core of the hub and of the bare client; the receiver has the other one.
    cpu: Option<u8>,
}

/// Wanted: at most twice the CPU, at least half the rate.
pub(crate) fn run(arguments: &Arguments) {
    let pin = arguments.get("pin", true);
    let mut scene = Scene {
        endpoint: Endpoint::start(pin.then_some(1)),
        entries: arguments.get("entries", 100_000),
        topics: arguments.get("topics", 1_000),
        bytes: arguments.get("bytes", 1_024),
        concurrency: arguments.get("concurrency", 32),
        threads: arguments.get("threads", 0),
        cpu: pin.then_some(0),
    };
    let [mut memory, mut fsync, mut bare] = [(); 3].map(|()| Runs::default());
    for _ in 0..arguments.get("rounds", 5) {
        scene.hub("memory", &mut memory);
        scene.bare(&mut bare);
        scene.hub("fsync", &mut fsync);
    }
    let title = format!(
        "webhooks: {} updates of {} bytes to one endpoint, {} connections, signed, each recorded",
        scene.entries, scene.bytes, scene.concurrency
    );
    let heads = ["client", "CPU µs each", "CPU × bare (≤ 2)", "per second", "rate × bare (≥ 0.5)"];
    let rows = [("tidings, memory", &memory), ("tidings, fsync", &fsync), ("bare", &bare)];
    table(&title, &heads, &rows.map(|(name, runs)| runs.row(name, &bare)));
}

impl Scene {
    fn hub(&mut self, durability: &'static str, runs: &mut Runs) {
        let sink = format!(
            "[[sink]]\nkind = \"webhook\"\nname = \"bench\"\ntopics = [\"*\"]\nkey = \"topic\"\n\
             concurrency = {}\nsecrets = [\"whsec_{KEY}\"]\nurl = \"{}\"\n",
            self.concurrency,
            self.endpoint.url("good")
        );
        let hub = Hub::start(durability, self.cpu, &sink);
        backlog(&hub, self.entries, self.topics, self.bytes);
        self.endpoint.reset();
        let before = hub.cpu();
        hub.reload(&sink);
        let report = self.endpoint.wait_for(self.entries);
        std::thread::sleep(SETTLED);
        assert_eq!(self.endpoint.count(), self.entries, "some came twice");
        runs.cpu.push(micros(hub.cpu() - before, self.entries));
        runs.rate.push(self.entries as f64 / report.took().as_secs_f64());
    }

    fn bare(&mut self, runs: &mut Runs) {
        self.endpoint.reset();
        let with = [
            format!("entries={}", self.entries),
            format!("bytes={}", self.bytes),
            format!("concurrency={}", self.concurrency),
            format!("threads={}", self.threads),
        ];
        let cost = bare_client::send(&self.endpoint.address, self.cpu, &with);
        let report = self.endpoint.wait_for(self.entries);
        runs.cpu.push(micros(cost, self.entries));
        runs.rate.push(self.entries as f64 / report.took().as_secs_f64());
    }
}

fn micros(cost: Duration, count: usize) -> f64 {
    cost.as_secs_f64() * 1e6 / count as f64
}

/// Publishes what the sinks of a hub are behind with when they come back: they have had their
/// place, and do not run meanwhile.
pub(crate) fn backlog(hub: &Hub, entries: usize, topics: usize, bytes: usize) {
    hub.reload("");
    let topic = |number: usize| format!("bench.{}", number % topics);
    publish(
        hub.address,
        &Load { count: entries, rate: None, connections: 16, bytes, topic: &topic },
    );
}
