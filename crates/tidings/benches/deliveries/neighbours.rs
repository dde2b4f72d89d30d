//! What endpoints that hang and endpoints that fail cost the others: as many sinks as endpoints,
//! each with a topic of its own, and once more the good ones alone.

use std::fmt::Write as _;

use crate::Arguments;
use crate::endpoint::Endpoint;
use crate::figures::{ratio, table};
use crate::hub::Hub;
use crate::latency::Delays;
use crate::publisher::{Load, publish};

struct Scene {
    endpoint: Endpoint,
    endpoints: usize,
    /// Updates for each endpoint in a second.
    rate_each: f64,
    seconds: f64,
    bytes: usize,
}

/// Wanted: a p99 of at most twice that of the good ones alone.
pub(crate) fn run(arguments: &Arguments) {
    let endpoints = arguments.get("endpoints", 1_000);
    let mut scene = Scene {
        endpoint: Endpoint::start(None),
        endpoints,
        rate_each: arguments.get("rate", 500.0) / endpoints as f64,
        seconds: arguments.get("seconds", 20.0),
        bytes: arguments.get("bytes", 1_024),
    };
    let [mut alone, mut beside] = [(); 2].map(|()| Delays::default());
    for _ in 0..arguments.get("rounds", 3) {
        scene.measure(&|number| kind(number) == "good", &mut alone);
        scene.measure(&|_| true, &mut beside);
    }
    let heads = ["endpoints", "received after p50 / p99 / p99.9 ms", "p99 × alone (≤ 2)"];
    let row = |name: &str, delays: &Delays| {
        vec![name.to_owned(), delays.shown(), ratio(delays.p99(), alone.p99())]
    };
    let rows = [
        row("the good ones alone", &alone),
        row("the same, beside a tenth that hangs and a tenth that answers 500", &beside),
    ];
    let title = format!(
        "neighbours: {endpoints} endpoints, {:.2} updates a second to each",
        scene.rate_each
    );
    table(&title, &heads, &rows);
}

/// What the endpoint of this number does.
fn kind(number: usize) -> &'static str {
    match number % 10 {
        0 => "hang",
        1 => "fail",
        _ => "good",
    }
}

impl Scene {
    fn measure(&mut self, is_there: &(dyn Fn(usize) -> bool + Sync), delays: &mut Delays) {
        let there: Vec<usize> = (0..self.endpoints).filter(|one| is_there(*one)).collect();
        let mut sinks = String::new();
        for number in &there {
            let url = self.endpoint.url(kind(*number));
            let _whole = write!(
                sinks,
                "[[sink]]\nkind = \"webhook\"\nname = \"s{number}\"\n\
                 topics = [\"bench.{number}\"]\nurl = \"{url}\"\n"
            );
        }
        let hub = Hub::start("fsync", None, &sinks);
        self.endpoint.reset();
        let rate = self.rate_each * there.len() as f64;
        let count = (rate * self.seconds) as usize;
        let of = |number: usize| there.get(number % there.len()).copied().unwrap_or_default();
        let topic = |number: usize| format!("bench.{}", of(number));
        let (rate, connections, bytes) = (Some(rate), 4, self.bytes);
        publish(hub.address, &Load { count, rate, connections, bytes, topic: &topic });
        let good = (0..count).filter(|number| kind(of(*number)) == "good").count();
        delays.add(&self.endpoint.wait_for(good));
    }
}
