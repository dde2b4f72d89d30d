//! What sinks count, as metrics. Labels are the names of sinks of the configuration, a set that
//! nobody from outside makes larger.

use prometheus_client::metrics::MetricType;
use tidings_connectors::delivery::{Standing, Status};
use tidings_connectors::sinks::{Known, Origin, Sinks};

use super::{Sample, Values};
use crate::limits::SINKS_COUNTED_MAX;

/// What sinks said at one moment.
#[derive(Debug, Default)]
pub(in crate::admin) struct Told {
    sinks: Vec<(Known, Status)>,
    attempts_dropped: Option<u64>,
}

/// Asks the sinks of the configuration.
pub(in crate::admin) async fn told_of(sinks: &Sinks) -> Told {
    let mut told = Told { sinks: Vec::new(), attempts_dropped: Some(sinks.attempts().dropped()) };
    let configured = sinks.all().into_iter();
    let configured = configured.filter(|known| known.origin == Origin::Configuration);
    for known in configured.take(SINKS_COUNTED_MAX) {
        if let Some(status) = sinks.status(&known.told.name).await {
            told.sinks.push((known, status));
        }
    }
    told
}

/// The metrics of that; none as long as there are no sinks. `end` is the place of the history's
/// newest entry.
pub(super) fn of_sinks(told: &Told, end: u64) -> Vec<Sample> {
    let Some(dropped) = told.attempts_dropped else { return Vec::new() };
    let one = |name, help, value: &dyn Fn(&Status) -> u64| {
        let values = told.sinks.iter();
        let values = values.map(|(known, status)| (known.told.name.clone(), value(status)));
        Sample { name, help, kind: MetricType::Gauge, values: Values::OfSinks(values.collect()) }
    };
    let mut samples = vec![
        one("tidings_sink_waiting_entries", "Entries taken from the history, not done.", &|at| {
            at.waiting as u64
        }),
        one("tidings_sink_parked_entries", "Entries set aside, as copies.", &|at| at.parked as u64),
        one("tidings_sink_dead_letters", "Dead letters.", &|at| at.dead as u64),
        one(
            "tidings_sink_resting",
            "Whether the system is left alone for a while, since it failed or asked for it.",
            &|at| u64::from(at.is_resting),
        ),
        one(
            "tidings_sink_stopped",
            "Whether it sends nothing: paused, disabled, or without room for dead letters.",
            &|at| u64::from(at.is_full || at.standing != Standing::Running),
        ),
        one("tidings_sink_behind_entries", "Places of the history that it has before it.", &|at| {
            end.saturating_sub(at.position.durable)
        }),
    ];
    samples.extend(counted(told));
    samples.push(Sample {
        name: "tidings_attempts_dropped",
        help: "Attempts that were not recorded since the storage did not keep up.",
        kind: MetricType::Counter,
        values: Values::One(dropped),
    });
    samples
}

fn counted(told: &Told) -> [Sample; 2] {
    let gaps = told.sinks.iter().map(|(known, _)| (known.told.name.clone(), known.counts.gaps()));
    let results = told.sinks.iter().flat_map(|(known, _)| {
        let results = known.counts.results().into_iter();
        results.map(|(result, count)| (known.told.name.clone(), result, count))
    });
    [
        Sample {
            name: "tidings_sink_gaps",
            help: "Gaps of the history recorded as dead letters.",
            kind: MetricType::Counter,
            values: Values::OfSinks(gaps.collect()),
        },
        Sample {
            name: "tidings_sink_deliveries",
            help: "Entries delivered, and tries that failed, by whose fault it was.",
            kind: MetricType::Counter,
            values: Values::OfResults(results.collect()),
        },
    ]
}
