//! When an entry that failed is tried again, or that it is not. Knows no entry.

use std::time::Duration;

use super::dice::Dice;
use crate::connector::{Failure, Fault};
use crate::limits::REJECTED_TRIES_MAX;

/// How a sink tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first wait, which doubles.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
    /// How long an entry is tried again, from when it was published.
    pub give_up_after: Duration,
}

/// What comes next for an entry that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is tried again after this wait.
    After(Duration),
    /// It becomes a dead letter.
    GiveUp,
}

impl Retry {
    /// `tries` have failed, `rejected` of them because the system does not want it; `age` is how
    /// long it has been tried or could have been.
    pub(super) fn next(
        &self,
        failure: &Failure,
        tries: u32,
        rejected: u32,
        age: Duration,
        dice: &mut Dice,
    ) -> Next {
        let is_hopeless = match failure.fault {
            Fault::Never => true,
            Fault::Rejected => rejected >= REJECTED_TRIES_MAX,
            Fault::Unreachable | Fault::TimedOut | Fault::Busy | Fault::Gone => false,
        };
        if is_hopeless {
            return Next::GiveUp;
        }
        // What the system asks for is done exactly, our own waits are spread.
        let wait = match failure.retry_after {
            Some(asked) => asked.wait,
            None => dice.shorten(self.backoff(tries)),
        };
        if age.saturating_add(wait) > self.give_up_after { Next::GiveUp } else { Next::After(wait) }
    }

    fn backoff(&self, tries: u32) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::RetryAfter;

    const RETRY: Retry = Retry {
        first: Duration::from_secs(1),
        max: Duration::from_secs(300),
        give_up_after: Duration::from_secs(3600),
    };

    fn failure(fault: Fault) -> Failure {
        Failure { fault, reason: String::new(), retry_after: None }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_patience_ends() {
        let dice = &mut Dice::new(3);
        let mut age = Duration::ZERO;
        let mut expected = Duration::from_secs(1);
        for tries in 1.. {
            match RETRY.next(&failure(Fault::Busy), tries, 0, age, dice) {
                Next::After(wait) => {
                    assert!(wait <= expected && wait >= expected / 2, "{wait:?} {expected:?}");
                    expected = (expected * 2).min(RETRY.max);
                    age += wait;
                }
                Next::GiveUp => break,
            }
        }
        assert!(age > RETRY.give_up_after - RETRY.max, "{age:?}");
        let late = RETRY.next(&failure(Fault::Busy), u32::MAX, 0, Duration::MAX, dice);
        assert_eq!(late, Next::GiveUp, "old ones are tried once");
    }

    #[test]
    fn what_the_system_asks_for_is_done_exactly() {
        let asked = |seconds| Failure {
            retry_after: Some(RetryAfter { wait: Duration::from_secs(seconds), is_for_all: true }),
            ..failure(Fault::Busy)
        };
        let dice = &mut Dice::new(3);
        let next = RETRY.next(&asked(1234), 9, 0, Duration::ZERO, dice);
        assert_eq!(next, Next::After(Duration::from_secs(1234)));
        assert_eq!(RETRY.next(&asked(3601), 1, 0, Duration::ZERO, dice), Next::GiveUp);
    }

    #[test]
    fn what_is_not_wanted_is_offered_three_times() {
        let dice = &mut Dice::new(3);
        let next = |tries, dice: &mut Dice| {
            RETRY.next(&failure(Fault::Rejected), tries, tries, Duration::ZERO, dice)
        };
        assert!(matches!(next(1, dice), Next::After(_)));
        assert!(matches!(next(2, dice), Next::After(_)));
        assert_eq!(next(3, dice), Next::GiveUp);
        assert_eq!(RETRY.next(&failure(Fault::Never), 1, 0, Duration::ZERO, dice), Next::GiveUp);
    }
}
