//! What one sink did since it runs, in numbers. Knows no sink and no metric.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::connector::{Fault, Outcome};

/// Counted by a sink's loop, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Counts {
    delivered: AtomicU64,
    /// In the order of [`Fault::ALL`].
    failed: [AtomicU64; Fault::ALL.len()],
    gaps: AtomicU64,
}

impl Counts {
    /// One answer of the system.
    pub(crate) fn answered(&self, outcome: &Outcome) {
        let delivered = u64::try_from(outcome.delivered).unwrap_or(u64::MAX);
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        let Some(failure) = &outcome.failure else { return };
        let all = Fault::ALL.iter().zip(&self.failed);
        for (_, count) in all.filter(|(fault, _)| **fault == failure.fault) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries that the history no longer had.
    pub(crate) fn missed(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// How many entries were delivered, and how many tries failed by whose fault: each word of a
    /// closed set with its number.
    pub fn results(&self) -> Vec<(&'static str, u64)> {
        let failed = Fault::ALL.iter().zip(&self.failed);
        let failed = failed.map(|(fault, count)| (fault.name(), count.load(Ordering::Relaxed)));
        let delivered = ("delivered", self.delivered.load(Ordering::Relaxed));
        std::iter::once(delivered).chain(failed).collect()
    }

    /// How many gaps of the history were recorded.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::{Answer, Failure};

    #[test]
    fn each_result_is_counted_under_its_own_word() {
        let counts = Counts::default();
        let failure = Failure { fault: Fault::Rejected, reason: "no".into(), retry_after: None };
        let answer = Answer::default();
        counts.answered(&Outcome { delivered: 3, failure: None, answer: answer.clone() });
        counts.answered(&Outcome { delivered: 1, failure: Some(failure), answer });
        counts.missed();
        let results = counts.results();
        assert_eq!(results.first(), Some(&("delivered", 4)));
        assert!(results.contains(&("rejected", 1)) && results.contains(&("busy", 0)));
        assert_eq!((results.len(), counts.gaps()), (7, 1));
    }
}
