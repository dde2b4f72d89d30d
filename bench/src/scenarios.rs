//! What is measured, as tables: which servers work under which load, and beside what their figures
//! stand. Knows no processes.

/// One question that is asked of several servers.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it asks, for the heading of its table.
    pub(crate) about: &'static str,
    /// What one round does.
    pub(crate) measure: Measure,
    /// Flags for every generator.
    pub(crate) load: &'static str,
    /// The same for `--quick`, where it is smaller.
    pub(crate) quick: Option<&'static str>,
    /// Names of contestants, unless others are asked for.
    pub(crate) servers: &'static [&'static str],
    /// Those whose figures are 1.
    pub(crate) bases: &'static [&'static str],
}

impl Scenario {
    /// Flags for every generator.
    pub(crate) fn flags(&self, quick: bool) -> &'static str {
        self.quick.filter(|_| quick).unwrap_or(self.load)
    }
}

/// What one round does with each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Everybody is there from the beginning; publish for so many milliseconds.
    Slices(u64),
    /// Open all streams and close them again.
    Opening,
    /// A new server: what memory do the streams take when nothing happens? Then updates to all for
    /// so many milliseconds, at least one, and what memory do they take then?
    Idle(u64),
    /// All come back at once and have missed so many updates.
    Storm(u64),
}

const FLOORS: &[&str] = &["floor-batch", "floor-write"];
const ALL: &[&str] =
    &["tidings", "floor-batch", "floor-write", "nchan", "redis", "nats", "mosquitto", "uws"];
const HUB: &[&str] = &["tidings", "floor-batch", "floor-write"];
const DURABLE: &[&str] = &["tidings-fsync", "floor-durable"];
const SOCKETS: &[&str] = &["tidings", "tidings-ws", "uws"];
const PATTERNS: &[&str] =
    &["tidings", "tidings-exact", "tidings-prefixes", "tidings-suffixes", "tidings-anywhere"];

/// All scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a1",
        about: "1,000 subscribers of one topic, 256 bytes; the next when everybody has the last",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 1 --window 1",
        quick: None,
        servers: ALL,
        bases: &["floor-write"],
    },
    Scenario {
        name: "a16",
        about: "1,000 subscribers of one topic, 256 bytes, 16 updates on their way",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 16 --window 16",
        quick: None,
        servers: ALL,
        bases: FLOORS,
    },
    Scenario {
        name: "a1-ws",
        about: "as a1, over WebSockets",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 1 --window 1",
        quick: None,
        servers: SOCKETS,
        bases: &["tidings", "uws"],
    },
    Scenario {
        name: "a16-ws",
        about: "as a16, over WebSockets",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 16 --window 16",
        quick: None,
        servers: SOCKETS,
        bases: &["tidings", "uws"],
    },
    Scenario {
        name: "c-ws",
        about: "as c, over WebSockets",
        measure: Measure::Slices(400),
        load: "--subscribers 5000 --topics own --publishers 16 --window 64",
        quick: Some("--subscribers 2000 --topics own --publishers 16 --window 64"),
        servers: SOCKETS,
        bases: &["tidings", "uws"],
    },
    Scenario {
        name: "idle-ws",
        about: "10,000 idle sockets",
        measure: Measure::Idle(1),
        load: "--subscribers 10000",
        quick: Some("--subscribers 2000"),
        servers: SOCKETS,
        bases: &[],
    },
    Scenario {
        name: "a1-4k",
        about: "as a1, with 4 KiB",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 1 --window 1 --payload 4096",
        quick: None,
        servers: &["tidings", "floor-write"],
        bases: &["floor-write"],
    },
    Scenario {
        name: "a1-64k",
        about: "as a1, with 64 KiB",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 1 --window 1 --payload 65536",
        quick: None,
        servers: &["tidings", "floor-write"],
        bases: &["floor-write"],
    },
    Scenario {
        name: "a1-fsync",
        about: "as a1, each acknowledged when it is on the disk",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 1 --window 1",
        quick: None,
        servers: DURABLE,
        bases: &["floor-durable"],
    },
    Scenario {
        name: "a16-fsync",
        about: "as a16, each acknowledged when it is on the disk",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 16 --window 16",
        quick: None,
        servers: DURABLE,
        bases: &["floor-durable"],
    },
    Scenario {
        name: "b5-fsync",
        about: "as b5, each acknowledged when it is on the disk",
        measure: Measure::Slices(2000),
        load: "--subscribers 10000 --publishers 4 --rate 5",
        quick: None,
        servers: DURABLE,
        bases: &["floor-durable"],
    },
    Scenario {
        name: "c-fsync",
        about: "as c, each acknowledged when it is on the disk",
        measure: Measure::Slices(400),
        load: "--subscribers 5000 --topics own --publishers 16 --window 64",
        quick: None,
        servers: DURABLE,
        bases: &["floor-durable"],
    },
    Scenario {
        name: "b",
        about: "10,000 subscribers of one topic, 20 updates a second",
        measure: Measure::Slices(2000),
        load: "--subscribers 10000 --publishers 4 --rate 20",
        quick: None,
        servers: HUB,
        bases: FLOORS,
    },
    Scenario {
        name: "b5",
        about: "10,000 subscribers of one topic, 5 updates a second",
        measure: Measure::Slices(2000),
        load: "--subscribers 10000 --publishers 4 --rate 5",
        quick: None,
        servers: HUB,
        bases: &["floor-write", "floor-batch"],
    },
    Scenario {
        name: "c",
        about: "5,000 subscribers, each with a topic of its own; 64 updates on their way",
        measure: Measure::Slices(400),
        load: "--subscribers 5000 --topics own --publishers 16 --window 64",
        quick: Some("--subscribers 2000 --topics own --publishers 16 --window 64"),
        servers: ALL,
        bases: FLOORS,
    },
    Scenario {
        name: "d",
        about: "10,000 idle streams; HTTP/2 over 100 connections",
        measure: Measure::Idle(1),
        load: "--subscribers 10000",
        quick: Some("--subscribers 2000"),
        servers: &[
            "tidings",
            "tidings-tls",
            "tidings-h2-100",
            "floor-write",
            "nchan",
            "redis",
            "mosquitto",
            "uws",
        ],
        bases: &[],
    },
    Scenario {
        name: "e",
        about: "no subscriber, 16 publishers, each the next when the last is acknowledged",
        measure: Measure::Slices(400),
        load: "--subscribers 0 --publishers 16 --window 16",
        quick: None,
        servers: ALL,
        bases: FLOORS,
    },
    Scenario {
        name: "f",
        about: "publish what nobody listens to, beside 100,000 patterns",
        measure: Measure::Slices(400),
        load: "--subscribers 0 --publishers 16 --window 16",
        quick: None,
        servers: PATTERNS,
        bases: &["tidings"],
    },
    Scenario {
        name: "f1",
        about: "publish what one of 100,000 patterns matches",
        measure: Measure::Slices(400),
        load: "--subscribers 1 --publishers 16 --window 16",
        quick: None,
        servers: PATTERNS,
        bases: &["tidings"],
    },
    Scenario {
        name: "f100",
        about: "publish what a hundred of 100,000 patterns match",
        measure: Measure::Slices(400),
        load: "--subscribers 100 --publishers 16 --window 16",
        quick: None,
        servers: PATTERNS,
        bases: &["tidings"],
    },
    Scenario {
        name: "r",
        about: "10,000 come back at once with a cursor, and have missed 10 updates",
        measure: Measure::Storm(10),
        load: "--subscribers 10000",
        quick: Some("--subscribers 2000"),
        servers: &["tidings"],
        bases: &[],
    },
    Scenario {
        name: "t",
        about: "as a16, with TLS",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 16 --window 16",
        quick: None,
        servers: &["tidings", "tidings-tls"],
        bases: &["tidings"],
    },
    Scenario {
        name: "h2",
        about: "as a16, over 10 HTTP/2 connections",
        measure: Measure::Slices(400),
        load: "--subscribers 1000 --publishers 16 --window 16",
        quick: None,
        servers: &["tidings", "tidings-h2-10"],
        bases: &["tidings"],
    },
    Scenario {
        name: "cores",
        about: "12 updates ahead of two readers, on one core and on two, one the generator's",
        // Long, since at its end the last ones wait for their turn to be read.
        measure: Measure::Slices(2000),
        load: "--subscribers 1000 --publishers 64 --window 1024 --read-every 50 --ahead 12",
        quick: None,
        servers: &["tidings", "tidings-two-cores"],
        bases: &["tidings"],
    },
    Scenario {
        name: "w",
        about: "1,000 subscribers, 50 updates of 2 KiB a second; a tenth reads 1 KiB a second",
        measure: Measure::Slices(2000),
        load: "--subscribers 1000 --publishers 4 --rate 50 --payload 2048",
        quick: None,
        servers: &["tidings", "tidings-slow"],
        bases: &["tidings"],
    },
    Scenario {
        name: "visitors",
        about: "1,000 subscribers, 50 updates a second; 10,000 others a second come and go",
        measure: Measure::Slices(2000),
        load: "--subscribers 1000 --publishers 4 --rate 50",
        quick: None,
        servers: &["tidings", "tidings-visited"],
        bases: &["tidings"],
    },
    Scenario {
        name: "changes",
        about: "as c, beside 10,000 sockets that subscribe and unsubscribe in turn each second",
        measure: Measure::Slices(1000),
        load: "--subscribers 5000 --topics own --publishers 16 --window 64",
        quick: Some("--subscribers 2000 --topics own --publishers 16 --window 64"),
        servers: &["tidings", "tidings-changed"],
        bases: &["tidings"],
    },
    Scenario {
        name: "stalled",
        about: "5,000 readers of 1 KiB a second, who are sent 200 KiB a second",
        measure: Measure::Idle(5000),
        load: "--subscribers 5000 --slow 100 --publishers 4 --rate 100 --payload 2048",
        quick: Some("--subscribers 1000 --slow 100 --publishers 4 --rate 100 --payload 2048"),
        servers: &["tidings"],
        bases: &[],
    },
    Scenario {
        name: "connect",
        about: "streams opened one after the other, 100 at a time",
        measure: Measure::Opening,
        load: "--subscribers 5000",
        quick: Some("--subscribers 1000"),
        servers: &["tidings", "floor-write", "nchan"],
        bases: &["floor-write"],
    },
    Scenario {
        name: "fsync",
        about: "as e, each acknowledged when it is on the disk",
        measure: Measure::Slices(400),
        load: "--subscribers 0 --publishers 16 --window 16",
        quick: None,
        servers: DURABLE,
        bases: &["floor-durable"],
    },
    Scenario {
        name: "million",
        about: "a million streams over 10,000 HTTP/2 connections, then one update to all",
        measure: Measure::Idle(1),
        load: "--subscribers 1000000 --http2-connections 10000 --tokens shared",
        quick: Some("--subscribers 100000 --http2-connections 1000 --tokens shared"),
        servers: &["tidings"],
        bases: &[],
    },
];

/// The scenario with this name.
pub(crate) fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::contestant;

    #[test]
    fn every_name_in_the_tables_is_known() {
        for scenario in SCENARIOS {
            for name in scenario.servers.iter().chain(scenario.bases) {
                assert!(contestant(name).is_some(), "{}: {name}", scenario.name);
            }
            for base in scenario.bases {
                assert!(scenario.servers.contains(base), "{}: {base}", scenario.name);
            }
        }
    }
}
