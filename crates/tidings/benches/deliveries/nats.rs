//! Messages of NATS through the hub and back to NATS, beside the same messages through the server
//! alone.

use std::time::Duration;

use crate::Arguments;
use crate::figures::{middle, ratio, table};
use crate::hub::{Hub, Keep};
use crate::nats_client::{AT_ONCE, Client, Server};

/// What is published, and what comes out of the hub.
const IN: &str = "in.bench";
const OUT: &str = "out.bench";

/// What the rounds of one way brought.
#[derive(Default)]
struct Runs {
    rate: Vec<f64>,
    /// Microseconds of the hub's CPU for each message.
    cpu: Vec<f64>,
}

/// Wanted: at least 0.3 × the server's own rate.
pub(crate) fn run(arguments: &Arguments) {
    let messages = arguments.get("messages", 1_000_000_usize).next_multiple_of(AT_ONCE);
    let (bytes, window) = (arguments.get("bytes", 256), arguments.get("window", 16_384));
    let server = Server::start();
    let both = |subject: &str, counted: &str| {
        let mut client = Client::connect(server.address, counted);
        client.wait(subject);
        client.carry(subject, messages, bytes, window)
    };
    let [mut memory, mut fsync, mut bare] = [(); 3].map(|()| Runs::default());
    let rate = |took: Duration| messages as f64 / took.as_secs_f64();
    for _ in 0..arguments.get("rounds", 5) {
        for (durability, runs) in [("memory", &mut memory), ("fsync", &mut fsync)] {
            let hub = Hub::keeping(Keep::Default, durability, None, &connectors(&server));
            let before = hub.cpu();
            runs.rate.push(rate(both(IN, OUT)));
            runs.cpu.push((hub.cpu() - before).as_secs_f64() * 1e6 / messages as f64);
        }
        bare.rate.push(rate(both(OUT, OUT)));
        bare.cpu.push(0.0);
    }
    let heads = ["way", "messages a second", "× server alone (≥ 0.3)", "hub's CPU µs each"];
    let rows = [("through tidings, memory", &memory), ("through tidings, fsync", &fsync)];
    let rows = rows.into_iter().chain([("nats-server alone", &bare)]).map(|(name, runs)| {
        let (rate, cpu) = (middle(&runs.rate, 0), middle(&runs.cpu, 1));
        vec![name.to_owned(), rate, ratio(&runs.rate, &bare.rate), cpu]
    });
    let title = format!("nats: messages of {bytes} bytes from one subject to another");
    table(&title, &heads, &rows.collect::<Vec<_>>());
}

fn connectors(server: &Server) -> String {
    format!(
        "[[source]]\nkind = \"nats\"\nname = \"from\"\nurl = \"nats://{address}\"\n\
         subjects = [\"{IN}\"]\n\
         [[sink]]\nkind = \"nats\"\nname = \"to\"\nurl = \"nats://{address}\"\n\
         topics = [\"{IN}\"]\nsubject = {{ replace = [\"in\", \"out\"] }}\n",
        address = server.address
    )
}
