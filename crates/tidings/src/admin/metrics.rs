//! Every metric in one table, written in the OpenMetrics text format.
//!
//! Counts nothing itself: it reads what the parts count. Labels come from closed sets in the code
//! and the configuration, never from clients.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tidings_core::Hub;
use tidings_frontends::auth::KeySet;
use tidings_frontends::http::{SOCKET_CLOSES, Server};

mod nats;
mod sinks;

pub(super) use sinks::{Told, told_of};

/// What [`render`] writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric with its values of this moment.
#[derive(Debug)]
struct Sample {
    /// `tidings_<noun>_<unit>`; counters get `_total` behind it when they are written.
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Values,
}

#[derive(Debug)]
enum Values {
    One(u64),
    /// The name of the label, and each of its values.
    Labelled(&'static str, Vec<(&'static str, u64)>),
    /// For each sink.
    OfSinks(Vec<(String, u64)>),
    /// For each source and sink with a connection of its own.
    OfConnectors(Vec<(String, u64)>),
    /// For each sink and each result of a closed set.
    OfResults(Vec<(String, &'static str, u64)>),
}

/// What is known of keys and revocations now.
pub(super) struct Trust<'a> {
    /// The key sets in use.
    pub(super) sets: &'a [Arc<KeySet>],
    /// Revocations in force.
    pub(super) revocations: u64,
    /// API keys that count.
    pub(super) keys: u64,
    /// Tokens that were handed out for them.
    pub(super) issued: u64,
    /// The wall clock in milliseconds since 1970.
    pub(super) now: u64,
}

/// All metrics, as text. `courier` are the connections of its clients, where they are served.
pub(super) fn render(
    hub: &Hub,
    server: &Server,
    trust: &Trust<'_>,
    told: &Told,
    courier: Option<u64>,
) -> Result<String, fmt::Error> {
    let mut samples = of_hub(hub);
    samples.extend(of_trust(trust));
    samples.extend(sinks::of_sinks(told, hub.end().durable));
    samples.extend(of_http(server));
    samples.extend(server.certificate_seconds_left().map(|left| {
        let help = "Seconds until the first certificate expires.";
        gauge("tidings_certificate_remaining_seconds", help, left)
    }));
    samples.extend(courier.map(|connections| {
        gauge("tidings_courier_connections", "Connections of Courier's clients now.", connections)
    }));
    samples.extend(of_process());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Samples(samples)));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

fn counter(name: &'static str, help: &'static str, counter: &AtomicU64) -> Sample {
    let values = Values::One(counter.load(Ordering::Relaxed));
    Sample { name, help, kind: MetricType::Counter, values }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample { name, help, kind: MetricType::Gauge, values: Values::One(value) }
}

fn of_hub(hub: &Hub) -> Vec<Sample> {
    let counters = hub.counters();
    vec![
        counter("tidings_updates_published", "Updates accepted.", &counters.published),
        counter(
            "tidings_updates_repeated",
            "Updates answered with the receipt of an earlier one.",
            &counters.repeated,
        ),
        counter("tidings_updates_refused", "Updates refused by the hub.", &counters.refused),
        counter(
            "tidings_history_batches",
            "Batches committed to the history, each by one sync.",
            &counters.batches,
        ),
        counter(
            "tidings_deliveries_queued",
            "Entries handed to receivers by the fan-out.",
            &counters.fanned_out,
        ),
        counter(
            "tidings_receivers_overflowed",
            "Times that a slow receiver was sent back to the history.",
            &counters.overflows,
        ),
        counter("tidings_gaps_told", "Gaps of the history told to receivers.", &counters.missed),
        gauge(
            "tidings_subscribers",
            "Receivers now.",
            counters.subscribers.load(Ordering::Relaxed),
        ),
        gauge(
            "tidings_history_writable",
            "Whether updates are accepted: 0 after the storage has failed.",
            u64::from(hub.is_writable()),
        ),
    ]
}

fn of_trust(trust: &Trust<'_>) -> Vec<Sample> {
    let reads = trust.sets.iter().map(|set| set.reads());
    let (read, failed) = reads.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let ages = trust.sets.iter().filter_map(|set| set.read_at());
    let oldest = ages.map(|at| trust.now.saturating_sub(at) / 1_000).max().unwrap_or(0);
    let missing = trust.sets.iter().filter(|set| set.read_at().is_none()).count();
    vec![
        Sample {
            name: "tidings_key_sets_read",
            help: "Reads of issuers' key sets, by what came of them. Starts anew for a set that a \
                   reload brings.",
            kind: MetricType::Counter,
            values: Values::Labelled("outcome", vec![("ok", read), ("failed", failed)]),
        },
        gauge("tidings_key_sets_missing", "Key sets that were never read.", missing as u64),
        gauge("tidings_key_set_age_seconds", "Since the oldest key set was read.", oldest),
        gauge("tidings_revocations", "Revocations of tokens in force.", trust.revocations),
        gauge("tidings_api_keys", "API keys that count.", trust.keys),
        Sample {
            name: "tidings_tokens_issued",
            help: "Tokens handed out for API keys.",
            kind: MetricType::Counter,
            values: Values::One(trust.issued),
        },
    ]
}

fn of_http(server: &Server) -> Vec<Sample> {
    let counters = server.counters();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let answers = classes.into_iter().zip(counters.answers.iter().map(load)).collect();
    let refused = vec![
        ("total", load(&counters.refused_in_total)),
        ("address", load(&counters.refused_of_address)),
    ];
    let labelled = |name, help, label, values| Sample {
        name,
        help,
        kind: MetricType::Counter,
        values: Values::Labelled(label, values),
    };
    vec![
        gauge("tidings_connections_open", "Connections now.", server.connections_open() as u64),
        counter("tidings_connections_accepted", "Connections let in.", &counters.connections),
        labelled(
            "tidings_connections_refused",
            "Connections and proxied requests refused, by the limit that was reached.",
            "limit",
            refused,
        ),
        counter(
            "tidings_connections_silent",
            "Connections closed because no request came in time.",
            &counters.silent,
        ),
        counter(
            "tidings_connections_stalled",
            "Connections cut off because their clients left their sockets full.",
            &counters.stalled,
        ),
        counter(
            "tidings_handshakes_failed",
            "TLS handshakes that failed or took too long.",
            &counters.handshakes_failed,
        ),
        counter(
            "tidings_proxy_headers_bad",
            "Connections of balancers closed for want of a PROXY header.",
            &counters.proxy_headers_bad,
        ),
        counter(
            "tidings_accept_pauses",
            "Times that no connection could be accepted, as when descriptors run out.",
            &counters.accept_pauses,
        ),
        labelled("tidings_requests_answered", "Requests, by class of status.", "class", answers),
        gauge("tidings_sockets", "WebSockets now.", load(&counters.sockets)),
        counter(
            "tidings_socket_messages",
            "Messages that clients of WebSockets said.",
            &counters.socket_messages,
        ),
        labelled(
            "tidings_socket_closes",
            "WebSockets that the hub closed, by the code of the close.",
            "code",
            SOCKET_CLOSES.into_iter().zip(counters.socket_closes.iter().map(load)).collect(),
        ),
        counter(
            "tidings_requests_panicked",
            "Requests that met a mistake of this program.",
            &counters.panics,
        ),
    ]
}

/// What the operating system says about this process; nothing where it does not.
fn of_process() -> Vec<Sample> {
    let mut samples = Vec::new();
    if let Some(bytes) = resident_bytes() {
        samples.push(gauge("tidings_process_resident_bytes", "Memory in use.", bytes));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let help = "Open descriptors: files and sockets.";
        samples.push(gauge("tidings_process_open_descriptors", help, open.count() as u64));
    }
    samples
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The values of one moment, for the encoder.
#[derive(Debug)]
struct Samples(Vec<Sample>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for sample in &self.0 {
            let mut metric =
                encoder.encode_descriptor(sample.name, sample.help, None, sample.kind)?;
            match &sample.values {
                Values::One(value) => encode(sample.kind, *value, metric)?,
                Values::Labelled(label, values) => {
                    for (name, value) in values {
                        encode(sample.kind, *value, metric.encode_family(&[(*label, *name)])?)?;
                    }
                }
                Values::OfSinks(values) => {
                    for (sink, value) in values {
                        let labels = [("sink", sink.as_str())];
                        encode(sample.kind, *value, metric.encode_family(&labels)?)?;
                    }
                }
                Values::OfConnectors(values) => {
                    for (connector, value) in values {
                        let labels = [("connector", connector.as_str())];
                        encode(sample.kind, *value, metric.encode_family(&labels)?)?;
                    }
                }
                Values::OfResults(values) => {
                    for (sink, result, value) in values {
                        let labels = [("sink", sink.as_str()), ("result", *result)];
                        encode(sample.kind, *value, metric.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn encode(kind: MetricType, value: u64, encoder: MetricEncoder) -> Result<(), fmt::Error> {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_frontends::http::{HttpOptions, Shutdown};

    #[test]
    fn names_say_whose_metric_it_is_and_labels_come_from_closed_sets() {
        let shutdown = Shutdown::new(std::time::Duration::ZERO);
        let server = Server::new(Vec::new(), HttpOptions::default(), shutdown);
        let mut samples = of_http(&server);
        samples.extend(of_process());
        samples.extend(of_trust(&Trust { sets: &[], revocations: 3, keys: 2, issued: 5, now: 0 }));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Samples(samples)));
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        assert!(written.contains("tidings_key_sets_read_total{outcome=\"failed\"} 0\n"));
        assert!(written.contains("tidings_revocations 3\n"), "{written}");
        assert!(written.contains("tidings_tokens_issued_total 5\n"), "{written}");
        assert!(written.ends_with("# EOF\n"));
        assert!(
            written.contains("tidings_requests_answered_total{class=\"2xx\"} 0\n"),
            "{written}"
        );
        assert!(written.contains("tidings_connections_open 0\n"), "{written}");
        assert!(written.contains("# TYPE tidings_connections_accepted counter\n"), "{written}");
        let lines = written.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            assert!(line.starts_with("tidings_"), "{line}");
        }
        #[cfg(target_os = "linux")]
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
