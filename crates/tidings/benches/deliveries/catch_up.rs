//! What it takes that a thousand sinks are behind by the whole history at the same time. Each picks
//! little of it, so that what is measured is reading and not delivering.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::Arguments;
use crate::endpoint::Endpoint;
use crate::figures::{middle, table};
use crate::hub::Hub;
use crate::publisher::{Load, publish};

/// One in so many updates is for a sink; the others are for nobody.
const ONE_IN: usize = 100;

struct Scene {
    endpoint: Endpoint,
    sinks: usize,
    bytes: usize,
    count: usize,
}

/// What the rounds brought.
#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    read_mib: Vec<f64>,
    times: Vec<f64>,
    grown_mib: Vec<f64>,
}

/// Wanted: at most 5 × the range is read, and at most 256 MiB of memory more.
pub(crate) fn run(arguments: &Arguments) {
    let (mib, bytes) = (arguments.get("mib", 1_024_usize), arguments.get("bytes", 4_096));
    let sinks = arguments.get("sinks", 1_000);
    let count = ((mib << 20) / bytes).max(sinks);
    let mut scene = Scene { endpoint: Endpoint::start(None), sinks, bytes, count };
    let mut runs = Runs::default();
    for _ in 0..arguments.get("rounds", 1) {
        scene.measure(&mut runs);
    }
    let heads = ["all live after s", "read MiB", "× the range (≤ 5)", "memory + MiB (≤ 256)"];
    let row = vec![
        middle(&runs.seconds, 1),
        middle(&runs.read_mib, 0),
        middle(&runs.times, 2),
        middle(&runs.grown_mib, 0),
    ];
    table(&format!("catch-up: {sinks} sinks that are {mib} MiB behind"), &heads, &[row]);
}

impl Scene {
    /// The last updates are for each sink in turn, so that all of them have to come to the end.
    fn topic(&self, number: usize) -> String {
        let left = self.count - number;
        match number % ONE_IN {
            _ if left <= self.sinks => format!("bench.{}", left - 1),
            0 => format!("bench.{}", number / ONE_IN % self.sinks),
            _ => "nobody".to_owned(),
        }
    }

    fn measure(&mut self, runs: &mut Runs) {
        let mut sinks = String::new();
        for number in 0..self.sinks {
            let _whole = write!(
                sinks,
                "[[sink]]\nkind = \"webhook\"\nname = \"s{number}\"\n\
                 topics = [\"bench.{number}\"]\nurl = \"{}\"\n",
                self.endpoint.url("good")
            );
        }
        let hub = Hub::start("written", None, &sinks);
        hub.reload("");
        let topic = |number: usize| self.topic(number);
        let load = Load {
            count: self.count,
            rate: None,
            connections: 16,
            bytes: self.bytes,
            topic: &topic,
        };
        publish(hub.address, &load);
        let wanted = (0..self.count).filter(|number| self.topic(*number) != "nobody").count();
        self.endpoint.reset();
        std::thread::sleep(Duration::from_secs(2));
        hub.forget_peak();
        let (before, read_before, begin) = (hub.resident(), hub.read_from_files(), Instant::now());
        hub.reload(&sinks);
        self.endpoint.wait_for(wanted);
        let read = (hub.read_from_files() - read_before) as f64;
        runs.seconds.push(begin.elapsed().as_secs_f64());
        runs.read_mib.push(read / 1_048_576.0);
        runs.times.push(read / (self.count * self.bytes) as f64);
        runs.grown_mib.push(hub.peak().saturating_sub(before) as f64 / 1_048_576.0);
    }
}
