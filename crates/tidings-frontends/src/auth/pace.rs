//! How often somebody may do something: a bucket that fills by the minute. Knows nobody's name.

use std::time::Duration;

/// What is left of somebody's bucket. It begins full.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How much was taken and has not come back, in parts of a minute's worth.
    taken: f64,
    /// When that was counted, on a clock that never goes back.
    at: Duration,
}

/// The span over which a whole bucket comes back.
const FILL: Duration = Duration::from_secs(60);

impl Pace {
    /// Takes one of `per_minute` (at least one).
    ///
    /// # Errors
    /// None is left: how long it takes until there is one.
    pub(super) fn take(&mut self, per_minute: u32, now: Duration) -> Result<(), Duration> {
        let size = f64::from(per_minute.max(1));
        self.settle(now);
        let wanted = self.taken + 1.0 / size;
        // A hair's breadth of rounding is no reason to wait.
        if wanted > 1.0 + 1e-9 {
            return Err(FILL.mul_f64((wanted - 1.0).min(1.0)));
        }
        self.taken = wanted;
        Ok(())
    }

    /// Whether it is as good as new.
    pub(super) fn is_full(&mut self, now: Duration) -> bool {
        self.settle(now);
        self.taken <= 0.0
    }

    fn settle(&mut self, now: Duration) {
        let back = now.saturating_sub(self.at).as_secs_f64() / FILL.as_secs_f64();
        self.taken = (self.taken - back).max(0.0);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_empty_after_a_minutes_worth_and_fills_again() {
        let mut pace = Pace::default();
        let at = Duration::from_millis;
        for _ in 0..4 {
            assert_eq!(pace.take(4, at(0)), Ok(()));
        }
        let wait = pace.take(4, at(0)).unwrap_err();
        assert!((at(14_990)..=at(15_010)).contains(&wait), "{wait:?}");
        assert!(pace.take(4, at(14_900)).is_err());
        assert_eq!(pace.take(4, at(15_000)), Ok(()));
        assert!(pace.take(4, at(15_001)).is_err());
        assert!(!pace.is_full(at(70_000)));
        assert!(pace.is_full(at(75_100)));
    }
}
