//! From a publisher's request to an endpoint, at a steady rate.

use crate::Arguments;
use crate::endpoint::Endpoint;
use crate::figures::{middle, table};
use crate::hub::Hub;
use crate::publisher::{Load, publish};
use crate::receiver::Report;
use crate::webhooks::KEY;

/// What the rounds brought, in milliseconds: p50, p99, p99.9.
#[derive(Default)]
pub(crate) struct Delays([Vec<f64>; 3]);

impl Delays {
    pub(crate) fn add(&mut self, report: &Report) {
        for (all, one) in self.0.iter_mut().zip(report.delays) {
            all.push(one as f64 / 1e6);
        }
    }

    /// A cell of a table.
    pub(crate) fn shown(&self) -> String {
        self.0.each_ref().map(|delays| middle(delays, 2)).join(" / ")
    }

    /// The p99 of each round.
    pub(crate) fn p99(&self) -> &[f64] {
        &self.0[1]
    }
}

/// Wanted: p99 of at most 25 ms.
pub(crate) fn run(arguments: &Arguments) {
    let rate = arguments.get("rate", 2_000.0);
    let count = (rate * arguments.get("seconds", 10.0)) as usize;
    let rounds = arguments.get("rounds", 3);
    // More than one, since an update that is synced to the disk may take longer than 1 / rate.
    let connections = arguments.get("connections", 4);
    let bytes = arguments.get("bytes", 1_024);
    let mut endpoint = Endpoint::start(None);
    let sink = format!(
        "[[sink]]\nkind = \"webhook\"\nname = \"bench\"\ntopics = [\"*\"]\nkey = \"topic\"\n\
         secrets = [\"whsec_{KEY}\"]\nurl = \"{}\"\n",
        endpoint.url("good")
    );
    let kinds = ["memory", "fsync"];
    let [mut memory, mut fsync] = [(); 2].map(|()| (Delays::default(), Vec::new()));
    for _ in 0..rounds {
        for (durability, (delays, reached)) in kinds.into_iter().zip([&mut memory, &mut fsync]) {
            let hub = Hub::start(durability, None, &sink);
            endpoint.reset();
            let topic = |number: usize| format!("bench.{}", number % 1_000);
            let rate = Some(rate);
            let load = Load { count, rate, connections, bytes, topic: &topic };
            reached.push(publish(hub.address, &load));
            delays.add(&endpoint.wait_for(count));
        }
    }
    let heads = ["hub", "published a second", "received after p50 / p99 (≤ 25) / p99.9 ms"];
    let rows = kinds
        .into_iter()
        .zip([&memory, &fsync])
        .map(|(name, (delays, reached))| vec![name.to_owned(), middle(reached, 0), delays.shown()]);
    let title = format!("latency: {rate:.0} updates of {bytes} bytes a second to one endpoint");
    table(&title, &heads, &rows.collect::<Vec<_>>());
}
