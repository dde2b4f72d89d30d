//! How often something may happen within a second. Knows not what.

use std::time::Duration;

use tokio::time::Instant;

/// Counts second by second.
#[derive(Debug)]
pub(super) struct Pace {
    max: u32,
    since: Instant,
    count: u32,
}

impl Pace {
    /// `max` within each second.
    pub(super) fn new(max: u32) -> Pace {
        Pace { max, since: Instant::now(), count: 0 }
    }

    /// Counts one that stands for `weight`. Whether it is within the bound.
    pub(super) fn allows(&mut self, weight: u32) -> bool {
        self.allows_at(weight, Instant::now)
    }

    /// The clock is asked seldom: who is far from the bound needs no second.
    fn allows_at(&mut self, weight: u32, now: impl FnOnce() -> Instant) -> bool {
        self.count = self.count.saturating_add(weight);
        if self.count <= self.max {
            return true;
        }
        let now = now();
        if now.saturating_duration_since(self.since) < Duration::from_secs(1) {
            return false;
        }
        (self.since, self.count) = (now, weight);
        weight <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_second_and_no_more() {
        let mut pace = Pace::new(10);
        let begin = pace.since;
        let mut at =
            |after, weight| pace.allows_at(weight, || begin + Duration::from_millis(after));
        assert!((0..8).all(|_| at(500, 1)));
        assert!(at(500, 2) && !at(500, 1) && !at(999, 1));
        assert!(at(1_100, 10) && !at(2_000, 1));
        assert!(!at(2_200, 11));
    }
}
