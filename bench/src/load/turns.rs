//! When who is read, where everybody is read once in a while: all in turns, spread over the
//! interval. Knows no sockets.

/// Turns of so many, by a clock of nanoseconds.
#[derive(Debug)]
pub(crate) struct Turns {
    count: usize,
    interval: u64,
    /// Turns since the clock began that were given or skipped.
    given: u64,
}

impl Turns {
    /// Everybody of `count` once in `interval` nanoseconds.
    pub(crate) fn new(count: usize, interval: u64) -> Turns {
        Turns { count, interval: interval.max(1), given: 0 }
    }

    /// Whose turn it is until now. Who comes late gives everybody one turn, not several.
    pub(crate) fn due(&mut self, now: u64) -> impl Iterator<Item = usize> + use<> {
        let (count, length) = (self.count.max(1), self.count as u64);
        let since = u128::from(now) * u128::from(length);
        let due = u64::try_from(since / u128::from(self.interval)).unwrap_or(u64::MAX);
        let first = self.given.max(due.saturating_sub(length));
        self.given = self.given.max(due);
        // The remainder is below a number of subscribers.
        (first..due).map(move |turn| usize::try_from(turn).unwrap_or(0) % count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_interval_and_nobody_two() {
        let mut turns = Turns::new(10, 1_000);
        let mut seen = Vec::new();
        for now in (0..=3_000).step_by(70) {
            let due: Vec<usize> = turns.due(now).collect();
            assert!(due.len() <= 1, "spread over the interval");
            seen.extend(due);
        }
        assert_eq!(seen, (0..29).map(|turn| turn % 10).collect::<Vec<_>>());
    }

    #[test]
    fn who_was_away_gives_everybody_one_turn() {
        let mut turns = Turns::new(10, 1_000);
        assert_eq!(turns.due(450).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let mut due: Vec<usize> = turns.due(60_000).collect();
        due.sort_unstable();
        assert_eq!(due, (0..10).collect::<Vec<_>>());
        assert_eq!(turns.due(60_050).count(), 0);
        assert_eq!(turns.due(60_100).count(), 1);
        assert_eq!(Turns::new(0, 1_000).due(60_000).count(), 0);
    }
}
