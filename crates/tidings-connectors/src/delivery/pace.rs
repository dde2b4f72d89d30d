//! How fast a sink may send: evenly, never a burst for what was not sent before. Knows no entry.

use std::time::Duration;

use crate::limits::{PACE_FIRST_WAIT, PACE_LATENESS, PACE_PART};

/// The next moment at which something may be sent.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Between two; none without a rate.
    interval: Option<Duration>,
    next: Duration,
}

impl Pace {
    /// At most `rate` in any second. Nothing goes in the first moment after `began`: a process that
    /// ended just before may have sent as much as is allowed.
    pub(super) fn new(rate: Option<u32>, began: Duration) -> Pace {
        let interval =
            rate.map(|rate| Duration::from_secs(1).div_f64(f64::from(rate.max(1)) * PACE_PART));
        let next = if interval.is_some() { began + PACE_FIRST_WAIT } else { began };
        Pace { interval, next }
    }

    /// When the next may be sent, if not now.
    pub(super) fn allows(&self, now: Duration) -> Result<(), Duration> {
        match self.interval {
            Some(_) if now < self.next => Err(self.next),
            _ => Ok(()),
        }
    }

    /// One is being sent.
    pub(super) fn sent(&mut self, now: Duration) {
        if let Some(interval) = self.interval {
            // A timer that came a little late is made up for, an outage is not.
            self.next = self.next.max(now.saturating_sub(PACE_LATENESS)) + interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The most that were sent in any second.
    fn busiest(sent: &[Duration]) -> usize {
        let second = Duration::from_secs(1);
        let within =
            |from: usize| sent.iter().skip(from).take_while(move |at| **at < sent[from] + second);
        (0..sent.len()).map(|from| within(from).count()).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_sliding_second_holds_more_than_the_rate(
            rate in 1_u32..400,
            pauses in proptest::collection::vec(0_u64..400, 1..800),
        ) {
            let mut pace = Pace::new(Some(rate), Duration::ZERO);
            let (mut now, mut sent) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                // Most timers are on time, some late, and sometimes nothing is to be sent for long.
                now += match pause {
                    0..300 => Duration::ZERO,
                    300..395 => Duration::from_millis(pause - 299),
                    _ => Duration::from_secs(600),
                };
                match pace.allows(now) {
                    Ok(()) => { pace.sent(now); sent.push(now); }
                    Err(next) => now = next,
                }
            }
            let most = busiest(&sent);
            prop_assert!(most as f64 <= f64::from(rate) * 1.05 + 0.001, "{most}");
            prop_assert!(sent.iter().all(|at| *at >= PACE_FIRST_WAIT));
        }
    }

    #[test]
    fn what_waits_is_drained_at_nearly_the_whole_rate() {
        let mut pace = Pace::new(Some(100), Duration::ZERO);
        let mut now = PACE_FIRST_WAIT;
        for _ in 0..10_000 {
            if let Err(next) = pace.allows(now) {
                // A timer that is a millisecond late.
                now = next + Duration::from_millis(1);
            }
            pace.sent(now);
        }
        assert!(now < Duration::from_secs(105), "{now:?}");
    }
}
