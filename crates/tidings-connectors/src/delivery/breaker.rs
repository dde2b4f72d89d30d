//! Whether a system is asked at all: after several failures in a row it is left alone for a while,
//! then asked once. Knows no entry and no clock.

use std::time::Duration;

use super::dice::Dice;
use crate::limits::{BREAKER_FAILURES, BREAKER_WAIT_FIRST, BREAKER_WAIT_MAX};

/// The state of one system as its sink sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaker {
    /// Everything goes; so many failures came since the last success.
    Closed { failures: u32 },
    /// Nothing goes until then, on the monotonic clock.
    Open { until: Duration, wait: Duration },
    /// One is on its way to find out.
    Probing { wait: Duration },
}

impl Breaker {
    pub(super) const NEW: Breaker = Breaker::Closed { failures: 0 };

    pub(super) fn is_closed(self) -> bool {
        matches!(self, Breaker::Closed { .. })
    }

    /// Whether something may be sent now, and if not, when to ask again.
    pub(super) fn allows(self, now: Duration) -> Result<(), Option<Duration>> {
        match self {
            Breaker::Closed { .. } => Ok(()),
            Breaker::Open { until, .. } if now >= until => Ok(()),
            Breaker::Open { until, .. } => Err(Some(until)),
            Breaker::Probing { .. } => Err(None),
        }
    }

    /// Something is being sent.
    pub(super) fn sent(&mut self) {
        if let Breaker::Open { wait, .. } = *self {
            *self = Breaker::Probing { wait };
        }
    }

    /// The system answered, be it that it does not want what it was given.
    pub(super) fn succeeded(&mut self) {
        *self = Breaker::NEW;
    }

    /// The system did not answer or could not. `now` is when.
    pub(super) fn failed(&mut self, now: Duration, dice: &mut Dice) {
        let wait = match *self {
            Breaker::Closed { failures } if failures + 1 < BREAKER_FAILURES => {
                *self = Breaker::Closed { failures: failures + 1 };
                return;
            }
            Breaker::Closed { .. } => BREAKER_WAIT_FIRST,
            // Answers to what was sent before it opened.
            Breaker::Open { .. } => return,
            Breaker::Probing { wait } => (wait * 2).min(BREAKER_WAIT_MAX),
        };
        *self = Breaker::Open { until: now + dice.shorten(wait), wait };
    }

    /// When something may be sent again, if nothing may be now.
    pub(super) fn until(self) -> Option<Duration> {
        match self {
            Breaker::Open { until, .. } => Some(until),
            Breaker::Closed { .. } | Breaker::Probing { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_waits_longer_each_time() {
        let (mut breaker, mut dice) = (Breaker::NEW, Dice::new(1));
        let mut now = Duration::ZERO;
        for _ in 1..BREAKER_FAILURES {
            breaker.failed(now, &mut dice);
            assert!(breaker.is_closed());
        }
        breaker.succeeded();
        for _ in 1..BREAKER_FAILURES {
            breaker.failed(now, &mut dice);
            assert!(breaker.is_closed(), "a success in between counts");
        }
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            breaker.failed(now, &mut dice);
            let until = breaker.until().expect("open");
            assert_eq!(breaker.allows(until - Duration::from_millis(1)), Err(Some(until)));
            let wait = until - now;
            assert!(wait <= BREAKER_WAIT_MAX);
            longest = longest.max(wait);
            now = until;
            assert_eq!(breaker.allows(now), Ok(()));
            breaker.sent();
            assert_eq!(breaker.allows(now), Err(None), "one at a time");
        }
        assert!(longest >= BREAKER_WAIT_MAX / 2);
        breaker.succeeded();
        assert_eq!(breaker.allows(now), Ok(()));
    }
}
