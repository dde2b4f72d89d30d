//! What a load generator says to who runs it: one JSON line for each command. Knows no tables.

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::order::Faults;

/// After `open` or `storm`: how long it took until everybody had the head of an answer; after a
/// storm, also everything missed meanwhile.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Streams that stand.
    pub(crate) streams: usize,
    /// Streams that do not.
    pub(crate) refused: usize,
    /// Why the last of these broke, if any did.
    pub(crate) reason: String,
    /// Wall time.
    pub(crate) seconds: f64,
    /// CPU of the generator, in seconds.
    pub(crate) own_cpu: f64,
    /// Deliveries of what was missed.
    pub(crate) deliveries: u64,
    /// What went wrong with those.
    pub(crate) faults: Faults,
}

/// After `go`: a slice, from the first publication until everything was delivered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Updates received by those who should.
    pub(crate) deliveries: u64,
    /// Updates published.
    pub(crate) publishes: u64,
    /// Updates that were due, by the rate, and were not published in time.
    pub(crate) owed: u64,
    /// Wall time.
    pub(crate) seconds: f64,
    /// From sending a publication, or when it was due, to its answer.
    pub(crate) acknowledged: Quantiles,
    /// The same, to each delivery.
    pub(crate) delivered: Quantiles,
    /// All zero, or the run is void.
    pub(crate) faults: Faults,
    /// Streams that the server ended.
    pub(crate) ended: u64,
    /// Why the last of these broke, if any did.
    pub(crate) reason: String,
    /// Reads that found something.
    pub(crate) reads: u64,
    /// CPU of the generator, in seconds.
    pub(crate) own_cpu: f64,
    /// Others who came, were answered and left.
    pub(crate) visits: u64,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half took no longer.
    pub(crate) p50: f64,
    /// One in a hundred took longer.
    pub(crate) p99: f64,
    /// One in a thousand took longer.
    pub(crate) p999: f64,
}

impl Quantiles {
    /// Of what was counted.
    pub(crate) fn of(times: &Histogram) -> Quantiles {
        let at = |share| times.quantile(share).map_or(0.0, |time| time as f64 / 1e6);
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}
