//! What connections to NATS count, as metrics. Labels are the names of sources and sinks of the
//! configuration, one name space.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::MetricType;
use tidings_connectors::nats::Counters;

use super::{Sample, Values};

/// One metric of each connection.
type Row = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);

const GAUGES: [Row; 2] = [
    ("tidings_nats_connected", "Whether a NATS server has let it in.", |nats| &nats.connected),
    ("tidings_nats_unwritten_bytes", "Bytes that wait to be written to the server.", |nats| {
        &nats.unwritten_bytes
    }),
];

const COUNTS: [Row; 14] = [
    ("tidings_nats_connections", "Logins at NATS servers, the first one included.", |nats| {
        &nats.connections
    }),
    ("tidings_nats_messages_received", "Messages that came to a source.", |nats| &nats.received),
    ("tidings_nats_messages_sent", "Messages that a server or stream has taken.", |nats| {
        &nats.sent
    }),
    ("tidings_nats_messages_refused", "Messages that the server does not let publish.", |nats| {
        &nats.refused
    }),
    ("tidings_nats_messages_too_large", "Entries larger than the server takes.", |nats| {
        &nats.too_large
    }),
    ("tidings_nats_messages_looped", "Entries that came through too many hubs.", |nats| {
        &nats.looped
    }),
    ("tidings_nats_messages_without_subject", "Entries whose topic is no subject.", |nats| {
        &nats.no_subject
    }),
    ("tidings_nats_messages_without_topic", "Messages lost: their subject is no topic.", |nats| {
        &nats.not_taken
    }),
    ("tidings_nats_messages_given_up", "Messages of a stream that the hub never takes.", |nats| {
        &nats.given_up
    }),
    ("tidings_nats_messages_repeated", "Messages of a stream that came again, left out.", |nats| {
        &nats.repeated
    }),
    ("tidings_nats_fields_dropped", "Header fields or attributes left out.", |nats| {
        &nats.fields_dropped
    }),
    ("tidings_nats_server_errors", "Errors that servers told after the login.", |nats| {
        &nats.errors
    }),
    ("tidings_nats_floods", "Connections left because the server babbled.", |nats| &nats.floods),
    (
        "tidings_nats_cut_off",
        "Connections that ended while the hub did not read: messages may be lost.",
        |nats| &nats.cut_off,
    ),
];

/// The metrics of these; none where there are none.
pub(super) fn of_nats(all: &[(String, Arc<Counters>)]) -> Vec<Sample> {
    if all.is_empty() {
        return Vec::new();
    }
    let sample = |kind: MetricType, (name, help, of): &Row| {
        let values = all
            .iter()
            .map(|(connector, counters)| (connector.clone(), of(counters).load(Ordering::Relaxed)));
        Sample { name, help, kind, values: Values::OfConnectors(values.collect()) }
    };
    let gauges = GAUGES.iter().map(|row| sample(MetricType::Gauge, row));
    let counts = COUNTS.iter().map(|row| sample(MetricType::Counter, row));
    gauges.chain(counts).collect()
}
