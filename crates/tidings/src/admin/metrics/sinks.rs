//! What sinks count, as metrics. Labels are the names of sinks of the configuration, a set that
//! nobody from outside makes larger, and one for all endpoints made over the API together.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::MetricType;
use tidings_connectors::delivery::{Standing, Status};
use tidings_connectors::nats::Counters;
use tidings_connectors::sinks::{Known, Origin, Sinks};
use tidings_connectors::sources::Sources;

use super::{Sample, Values, gauge};
use crate::limits::SINKS_COUNTED_MAX;

/// What sinks said at one moment.
#[derive(Debug, Default)]
pub(in crate::admin) struct Told {
    sinks: Vec<(Known, Status)>,
    attempts_dropped: Option<u64>,
    nats: Vec<(String, Arc<Counters>)>,
    undelivered: (u64, Option<u64>),
}

/// The label of all endpoints together: no sink can have this name.
const ENDPOINTS: &str = "api:endpoints";

/// Asks all sinks.
pub(in crate::admin) async fn told_of(sinks: &Sinks, sources: &Sources) -> Told {
    let space = sinks.space();
    let mut told = Told {
        sinks: Vec::new(),
        attempts_dropped: Some(sinks.attempts().dropped()),
        nats: sources.nats(),
        undelivered: (space.taken() as u64, space.most().map(|most| most as u64)),
    };
    let (configured, made): (Vec<_>, Vec<_>) =
        sinks.all().into_iter().partition(|known| known.origin == Origin::Configuration);
    let nats = configured.iter().filter_map(|known| Some((known, known.nats.as_ref()?)));
    told.nats.extend(nats.map(|(known, nats)| (known.told.name.clone(), Arc::clone(nats))));
    told.nats.truncate(SINKS_COUNTED_MAX);
    for known in configured.into_iter().take(SINKS_COUNTED_MAX).chain(made) {
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
        let values = told.sinks.iter().map(|(known, status)| (label(known), value(status)));
        Sample { name, help, kind: MetricType::Gauge, values: Values::OfSinks(summed(values)) }
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
            "Whether it sends nothing: paused, disabled, failed, or without room for dead letters.",
            &|at| {
                let is_failed = at.failure.is_some();
                u64::from(at.is_full || is_failed || at.standing != Standing::Running)
            },
        ),
        one(
            "tidings_sink_failed",
            "Whether it does not run though it should, as after a mistake of the hub.",
            &|at| u64::from(at.failure.is_some()),
        ),
        one("tidings_sink_behind_entries", "Places of the history that it has before it.", &|at| {
            end.saturating_sub(at.position.durable)
        }),
    ];
    samples.extend(counted(told));
    samples.extend(super::nats::of_nats(&told.nats));
    let (bytes, most) = told.undelivered;
    let help = "Bytes of dead letters and of what is set aside, of all sinks together.";
    samples.push(gauge("tidings_undelivered_bytes", help, bytes));
    let help = "The most that they may be before sinks wait.";
    samples.extend(most.map(|most| gauge("tidings_undelivered_max_bytes", help, most)));
    samples.push(Sample {
        name: "tidings_attempts_dropped",
        help: "Attempts that were not recorded since the storage did not keep up.",
        kind: MetricType::Counter,
        values: Values::One(dropped),
    });
    samples
}

fn counted(told: &Told) -> [Sample; 2] {
    let gaps = told.sinks.iter().map(|(known, _)| (label(known), known.counts.gaps()));
    let results = told.sinks.iter().flat_map(|(known, _)| {
        let results = known.counts.results().into_iter();
        results.map(|(result, count)| ((label(known), result), count))
    });
    let results = summed(results).into_iter();
    let results = results.map(|((sink, result), count)| (sink, result, count));
    [
        Sample {
            name: "tidings_sink_gaps",
            help: "Gaps of the history recorded as dead letters.",
            kind: MetricType::Counter,
            values: Values::OfSinks(summed(gaps)),
        },
        Sample {
            name: "tidings_sink_deliveries",
            help: "Entries delivered, and tries that failed, by whose fault it was.",
            kind: MetricType::Counter,
            values: Values::OfResults(results.collect()),
        },
    ]
}

fn label(known: &Known) -> String {
    match known.origin {
        Origin::Configuration => known.told.name.clone(),
        Origin::Api => ENDPOINTS.to_owned(),
    }
}

/// One value for each label.
fn summed<L: Ord>(values: impl Iterator<Item = (L, u64)>) -> Vec<(L, u64)> {
    let mut sums = BTreeMap::new();
    for (label, value) in values {
        *sums.entry(label).or_default() += value;
    }
    sums.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn known(name: &str, origin: Origin) -> Known {
        let tree = serde_json::json!({
            "kind": "webhook", "name": name, "topics": ["*"], "url": "https://shop.example/",
        });
        let told = tidings_connectors::specification::sink(&tree).unwrap();
        Known { told, origin, counts: Arc::default(), nats: None, failure: None }
    }

    #[test]
    fn what_does_not_run_and_what_all_have_taken_is_counted() {
        let failed = Status { failure: Some("why".to_owned()), ..Status::default() };
        let sinks = vec![
            (known("one", Origin::Configuration), failed.clone()),
            (known("two", Origin::Configuration), Status::default()),
            (known("three", Origin::Api), failed.clone()),
            (known("four", Origin::Api), failed),
        ];
        let told =
            Told { sinks, attempts_dropped: Some(0), nats: Vec::new(), undelivered: (7, Some(9)) };
        let samples = of_sinks(&told, 0);
        let values = |name: &str| {
            let found = samples.iter().find(|sample| sample.name == name).unwrap();
            match &found.values {
                Values::OfSinks(values) => values.clone(),
                Values::One(value) => vec![(String::new(), *value)],
                other => panic!("{other:?}"),
            }
        };
        let wanted = [("api:endpoints", 2), ("one", 1), ("two", 0)];
        let wanted = wanted.map(|(label, value)| (label.to_owned(), value));
        assert_eq!(values("tidings_sink_failed"), wanted);
        assert_eq!(values("tidings_sink_stopped"), wanted);
        assert_eq!(values("tidings_undelivered_bytes")[0].1, 7);
        assert_eq!(values("tidings_undelivered_max_bytes")[0].1, 9);
    }
}
