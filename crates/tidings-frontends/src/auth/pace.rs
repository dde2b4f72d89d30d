//! How often API keys may ask, and addresses be wrong: buckets that fill by the minute. Knows no
//! key.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::limits::{FAILED_KEYS_PER_MINUTE, FAILING_ADDRESSES_MAX};

/// What is left of somebody's bucket. It begins full.
#[derive(Debug, Default)]
struct Pace {
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
    fn take(&mut self, per_minute: u32, now: Duration) -> Result<(), Duration> {
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
    fn is_full(&mut self, now: Duration) -> bool {
        self.settle(now);
        self.taken <= 0.0
    }

    fn settle(&mut self, now: Duration) {
        let back = now.saturating_sub(self.at).as_secs_f64() / FILL.as_secs_f64();
        self.taken = (self.taken - back).max(0.0);
        self.at = now;
    }
}

/// Who asked how often lately.
#[derive(Default)]
pub(super) struct Paces {
    /// By the id of the key.
    keys: HashMap<Box<str>, Pace>,
    /// By the address that presented what is no key.
    failing: HashMap<IpAddr, Pace>,
}

impl Paces {
    /// Counts a request of the key with this id, which may ask so often in a minute.
    ///
    /// # Errors
    /// It asks too often: how long until it may again.
    pub(super) fn of_key(
        &mut self,
        id: &str,
        per_minute: u32,
        now: Duration,
    ) -> Result<(), Duration> {
        self.keys.entry(id.into()).or_default().take(per_minute, now)
    }

    /// Forgets the keys that are no longer there.
    pub(super) fn forget_others(&mut self, is_there: impl Fn(&str) -> bool) {
        self.keys.retain(|id, _| is_there(id));
    }

    /// Counts a wrong key of an address.
    ///
    /// # Errors
    /// There were too many: how long until the next one is only wrong.
    pub(super) fn fail(&mut self, client: IpAddr, now: Duration) -> Result<(), Duration> {
        let client = network(client);
        if self.failing.len() >= FAILING_ADDRESSES_MAX && !self.failing.contains_key(&client) {
            self.failing.retain(|_, pace| !pace.is_full(now));
            if self.failing.len() >= FAILING_ADDRESSES_MAX {
                // To forget them costs the log some lines; no key can be guessed.
                self.failing.clear();
            }
        }
        self.failing.entry(client).or_default().take(FAILED_KEYS_PER_MINUTE, now)
    }
}

/// The addresses that one party has at will: one of IPv4, a /64 of IPv6.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
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

    #[test]
    fn addresses_that_fail_are_remembered_within_a_bound() {
        let mut paces = Paces::default();
        let many = u32::try_from(FAILING_ADDRESSES_MAX).unwrap() + 5;
        for number in 0..many {
            let client = IpAddr::V4(number.into());
            paces.fail(client, Duration::from_secs(1)).unwrap();
            assert!(paces.failing.len() <= FAILING_ADDRESSES_MAX);
        }
    }
}
