//! What deliveries to other systems cost, beside a bare client that does nothing else. Prints
//! tables; each scenario takes its counts by arguments, as in
//! `cargo bench -p tidings --bench deliveries -- webhooks entries=20000 rounds=3`.
//!
//! The hub, the receiver and the bare client are processes of their own, all on this machine.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

mod bare_client;
mod catch_up;
mod drain;
mod endpoint;
mod figures;
mod hostile;
mod hub;
mod latency;
mod nats;
mod nats_client;
mod neighbours;
mod publisher;
mod receiver;
mod webhooks;

use std::collections::BTreeMap;
use std::str::FromStr;

/// A word on the command line, what it does, and what it takes.
type Scenario = (&'static str, fn(&Arguments), &'static str);

const SCENARIOS: [Scenario; 7] = [
    ("webhooks", webhooks::run, "entries= rounds= topics= bytes= concurrency= threads= pin="),
    ("latency", latency::run, "rate= seconds= rounds= bytes= connections="),
    ("neighbours", neighbours::run, "endpoints= rate= seconds= rounds= bytes="),
    ("hostile", hostile::run, "each= timeout= rounds="),
    ("drain", drain::run, "entries= rate= topics= bytes="),
    ("nats", nats::run, "messages= bytes= window= rounds="),
    ("catch-up", catch_up::run, "mib= sinks= bytes= rounds="),
];

/// `name=value` on the command line.
pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// The value of `name`, or what stands here for it.
    pub(crate) fn get<T: FromStr>(&self, name: &str, otherwise: T) -> T {
        let Some(text) = self.0.get(name) else { return otherwise };
        text.parse().unwrap_or_else(|_| die(&format!("{name}={text} is no value for {name}")))
    }
}

fn main() {
    // Cargo adds an option of its own.
    let words: Vec<String> =
        std::env::args().skip(1).filter(|one| !one.starts_with("--")).collect();
    let pairs = words.iter().filter_map(|word| word.split_once('='));
    let arguments =
        Arguments(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let names: Vec<&str> =
        words.iter().filter(|word| !word.contains('=')).map(String::as_str).collect();
    match names.as_slice() {
        ["receiver"] => receiver::run(),
        ["bare-client"] => bare_client::run(&arguments),
        // Without a word it is part of a run of all benchmarks.
        [] => SCENARIOS.iter().for_each(|(_, run, _)| run(&arguments)),
        names => names.iter().for_each(|name| scenario(name)(&arguments)),
    }
}

fn scenario(name: &str) -> fn(&Arguments) {
    let known = SCENARIOS.iter().find(|(known, ..)| *known == name);
    let list = SCENARIOS.map(|(name, _, takes)| format!("  {name:<12}{takes}"));
    let unknown = || die(&format!("{name} is no scenario; these are:\n{}", list.join("\n")));
    known.map_or_else(unknown, |(_, run, _)| *run)
}

fn die(message: &str) -> ! {
    println!("{message}");
    std::process::exit(2)
}
