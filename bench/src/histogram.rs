//! Times in buckets whose width grows with the time: any quantile within 3 %, in 15 KiB. Knows no
//! clock.

/// Buckets for each doubling: 32, so that one is 1/32 of its lower bound wide.
const STEPS: u64 = 32;
const BUCKETS: usize = 60 * 32;

/// Counts of times in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts a time.
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanoseconds)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The time that this share of all (0.0 to 1.0) does not exceed, in nanoseconds: the end of its
    /// bucket. Nothing without a count.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        // Counts of a run are far below 2^52.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(|place| lower_bound(place + 1).saturating_sub(1))
    }
}

fn bucket(value: u64) -> usize {
    let doublings = (value / STEPS).checked_ilog2().map_or(0, |log| u64::from(log) + 1);
    let shift = doublings.saturating_sub(1);
    let place = shift * STEPS + (value >> shift);
    usize::try_from(place).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The least value of a bucket: what `bucket` undoes.
fn lower_bound(place: usize) -> u64 {
    let place = place as u64;
    let shift = (place / STEPS).saturating_sub(1);
    (place - shift * STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket_and_buckets_are_narrow() {
        for power in 0..50 {
            for value in [1u64 << power, (1 << power) + (1 << power) / 3, (2 << power) - 1] {
                let (low, high) = (lower_bound(bucket(value)), lower_bound(bucket(value) + 1));
                assert!(low <= value && value < high, "{value}: {low}..{high}");
                assert!(high - low <= low / 31 + 1, "{value}: {low}..{high}");
            }
        }
    }

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut times = Histogram::default();
        assert_eq!(times.quantile(0.5), None);
        (1..=100_000).for_each(|value| times.add(value));
        for (share, wanted) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0)] {
            let got = times.quantile(share).unwrap() as f64;
            assert!((got / wanted - 1.0).abs() < 0.035, "{share}: {got}");
        }
        times.clear();
        assert_eq!(times.quantile(0.5), None);
    }
}
