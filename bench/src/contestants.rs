//! Who is measured: servers by their names on the command line. Knows no scenario, starts nothing.

use crate::compare::Program;

/// A server under a name, with flags of its own for the generator.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    /// Its name in tables.
    pub(crate) name: String,
    /// What runs.
    pub(crate) program: Program,
    /// Flags behind those of the scenario; the last of a name counts.
    pub(crate) load: &'static str,
    /// CPUs of its own, instead of those that all servers have.
    pub(crate) cpus: Option<&'static str>,
}

/// The contestant with this name.
pub(crate) fn contestant(name: &str) -> Option<Contestant> {
    let hub = Program::Tidings { durability: "memory", tls: false };
    let patterns = |flags| (hub.clone(), flags);
    let (program, load) = match name {
        // On two cores it shares one with the generator.
        "tidings" | "tidings-two-cores" => (hub.clone(), ""),
        "tidings-tls" => (Program::Tidings { durability: "memory", tls: true }, ""),
        "tidings-fsync" => (Program::Tidings { durability: "fsync", tls: false }, ""),
        "tidings-h2-10" => (hub.clone(), "--http2-connections 10"),
        "tidings-h2-100" => (hub.clone(), "--http2-connections 100"),
        "tidings-ws" => (hub.clone(), "--kind socket"),
        "tidings-slow" => (hub.clone(), "--slow 10"),
        "tidings-visited" => (hub.clone(), "--visitors 10000"),
        "tidings-changed" => (hub.clone(), "--changers 10000"),
        "tidings-before" => (Program::Before, ""),
        // As if nobody had a token of his own.
        "tidings-shared" => (hub.clone(), "--tokens shared"),
        "tidings-exact" => patterns("--bystanders 100000 --population exact"),
        "tidings-prefixes" => patterns("--bystanders 100000 --population prefixes"),
        "tidings-suffixes" => patterns("--bystanders 100000 --population suffixes"),
        // The bound above which strangers' patterns of this kind are refused.
        "tidings-anywhere" => patterns("--bystanders 1000 --population anywhere"),
        "floor-write" => (Program::Floor { command: "floor-write", durable: false }, ""),
        "floor-batch" => (Program::Floor { command: "floor-batch", durable: false }, ""),
        "floor-durable" => (Program::Floor { command: "floor-batch", durable: true }, ""),
        "nchan" => (Program::Nchan, "--kind nchan"),
        "redis" => (Program::Redis, "--kind redis"),
        "nats" => (Program::Nats, "--kind nats"),
        "mosquitto" => (Program::Mosquitto, "--kind mosquitto"),
        "uws" => (Program::Uws, "--kind uws"),
        _ => return None,
    };
    let cpus = (name == "tidings-two-cores").then_some("0,1");
    Some(Contestant { name: name.to_owned(), program, load, cpus })
}
