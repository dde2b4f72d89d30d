//! When the next order is begun: not before it is due, not too often, and not before the server
//! wants it. Knows no server and no clock: times are seconds since 1970.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{
    ACME_ATTEMPTS_PER_DAY_MAX, ACME_CLOCK_STEP_MAX, ACME_RETRY_AFTER_MAX, ACME_RETRY_FIRST,
    ACME_RETRY_MAX,
};

const DAY: u64 = 24 * 60 * 60;

/// What was tried. It is kept in a file, so that a hub that is started again and again does not
/// ask again and again.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Schedule {
    /// When orders of the last day were begun.
    attempts: Vec<u64>,
    /// Before this the server wants no order.
    told: u64,
    /// When that was noted, and `backoff`.
    #[serde(default)]
    noted: u64,
    /// Before this nobody has changed anything, most likely.
    #[serde(skip)]
    backoff: u64,
    #[serde(skip)]
    failures: u32,
}

impl Schedule {
    /// When to begin the next order, which is due at `due`, as it looks at `now`. What was noted by
    /// a clock that was ahead does not count: it would hold up orders until that time comes.
    pub(super) fn next(&self, due: u64, now: u64) -> u64 {
        let mut attempts = self.attempts_by(now);
        attempts.sort_unstable();
        // The attempt that must be a day old before another one may begin.
        let oldest = attempts.iter().rev().nth(ACME_ATTEMPTS_PER_DAY_MAX - 1);
        let room = oldest.map_or(0, |oldest| oldest.saturating_add(DAY));
        if !is_past(self.noted, now) {
            return due.max(room);
        }
        let longest = now.saturating_add(ACME_RETRY_AFTER_MAX.as_secs() + 1);
        due.max(self.told.min(longest)).max(self.backoff).max(room)
    }

    /// An order begins.
    pub(super) fn begin(&mut self, now: u64) {
        self.attempts = self.attempts_by(now);
        self.attempts.push(now);
    }

    /// The orders of the day before `now`.
    fn attempts_by(&self, now: u64) -> Vec<u64> {
        let begun = self.attempts.iter().copied();
        begun.filter(|at| *at >= now.saturating_sub(DAY) && is_past(*at, now)).collect()
    }

    /// It has failed; `jitter` is from 0 to 1.
    pub(super) fn fail(&mut self, now: u64, told: Option<Duration>, jitter: f64) {
        if let Some(told) = told {
            // Whole seconds: the one that has begun does not count.
            self.told = now.saturating_add(told.min(ACME_RETRY_AFTER_MAX).as_secs() + 1);
        }
        let factor = 4_u32.saturating_pow(self.failures);
        let wait = ACME_RETRY_FIRST.saturating_mul(factor).min(ACME_RETRY_MAX);
        // Many hubs that failed together do not come back together.
        let wait = wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0);
        self.backoff = now.saturating_add(wait.as_secs());
        self.noted = now;
        self.failures = self.failures.saturating_add(1);
    }

    /// It has given a certificate. One that is due at once is not replaced at once.
    pub(super) fn succeed(&mut self, now: u64) {
        let attempts = std::mem::take(&mut self.attempts);
        let backoff = now.saturating_add(ACME_RETRY_MAX.as_secs());
        *self = Schedule { attempts, backoff, noted: now, ..Schedule::default() };
    }

    /// An operator says that something has changed. What the server wants stands.
    pub(super) fn hurry(&mut self) {
        self.backoff = 0;
    }
}

/// Whether a clock that is right at `now` can have been at `at` before. Clocks are set back a
/// little now and then.
fn is_past(at: u64, now: u64) -> bool {
    at <= now.saturating_add(ACME_CLOCK_STEP_MAX.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn an_order_waits_until_it_is_due() {
        assert_eq!(Schedule::default().next(NOW, NOW), NOW);
        assert_eq!(Schedule::default().next(NOW + 5, NOW), NOW + 5);
    }

    #[test]
    fn failures_wait_longer_each_time_and_never_too_long() {
        let mut schedule = Schedule::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            schedule.fail(NOW, None, 0.5);
            waits.push(schedule.next(0, NOW) - NOW);
        }
        assert_eq!(waits, [60, 240, 960, 3_840, 15_360, 21_600, 21_600, 21_600, 21_600]);
        schedule.fail(NOW, None, 0.0);
        assert_eq!(schedule.next(0, NOW) - NOW, 16_200);
        schedule.succeed(NOW);
        assert_eq!(schedule.next(0, NOW), NOW + ACME_RETRY_MAX.as_secs());
        schedule.fail(NOW, None, 0.5);
        assert_eq!(schedule.next(0, NOW) - NOW, 60, "failures are forgotten");
    }

    #[test]
    fn a_day_has_so_many_orders_and_no_more_even_after_restarts() {
        let mut schedule = Schedule::default();
        let mut now = NOW;
        let mut begun = Vec::new();
        for _ in 0..30 {
            now = schedule.next(now, now);
            schedule.begin(now);
            schedule.fail(now, None, 0.0);
            begun.push(now);
            let kept = serde_json::to_string(&schedule).unwrap();
            schedule = serde_json::from_str(&kept).unwrap();
            now += 1;
        }
        for (at, first) in begun.iter().enumerate() {
            let within = begun[at..].iter().filter(|begun| **begun < first + DAY).count();
            assert!(within <= ACME_ATTEMPTS_PER_DAY_MAX, "{within} from {first} on");
        }
    }

    #[test]
    fn what_the_server_wants_stands_and_an_operator_ends_the_rest() {
        let mut schedule = Schedule::default();
        schedule.fail(NOW, Some(Duration::from_secs(7_200)), 0.5);
        assert_eq!(schedule.next(0, NOW), NOW + 7_201);
        schedule.hurry();
        assert_eq!(schedule.next(0, NOW), NOW + 7_201);
        let mut schedule = Schedule::default();
        schedule.fail(NOW, None, 0.5);
        schedule.hurry();
        assert_eq!(schedule.next(0, NOW), 0);
        schedule.fail(NOW, Some(Duration::MAX), 0.5);
        assert_eq!(schedule.next(0, NOW), NOW + ACME_RETRY_AFTER_MAX.as_secs() + 1);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_hold_up_orders() {
        let ahead = NOW + 1_000 * DAY;
        let mut schedule = Schedule::default();
        for _ in 0..ACME_ATTEMPTS_PER_DAY_MAX {
            schedule.begin(ahead);
        }
        assert_eq!(schedule.next(ahead, ahead), ahead + DAY, "by that clock it is enough");
        assert_eq!(schedule.next(NOW, NOW), NOW, "attempts");
        schedule.fail(ahead, Some(Duration::from_secs(7_200)), 0.5);
        assert_eq!(schedule.next(ahead, ahead), ahead + DAY);
        assert_eq!(schedule.next(NOW, NOW), NOW, "what was told, and the pause");
        let kept = serde_json::to_string(&schedule).unwrap();
        let schedule: Schedule = serde_json::from_str(&kept).unwrap();
        assert_eq!(schedule.next(NOW, NOW), NOW, "after a restart");
        let kept = format!(r#"{{"attempts":[],"told":{ahead}}}"#);
        let schedule: Schedule = serde_json::from_str(&kept).unwrap();
        let longest = NOW + ACME_RETRY_AFTER_MAX.as_secs() + 1;
        assert_eq!(schedule.next(NOW, NOW), longest, "nobody can tell when it was noted");
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_forgets_nothing() {
        let mut schedule = Schedule::default();
        for _ in 0..ACME_ATTEMPTS_PER_DAY_MAX {
            schedule.begin(NOW);
        }
        schedule.fail(NOW, Some(Duration::from_secs(2 * DAY)), 0.5);
        assert_eq!(schedule.next(NOW - 60, NOW - 60), NOW + 2 * DAY + 1);
        schedule.begin(NOW - 60);
        schedule.succeed(NOW - 60);
        assert_eq!(schedule.next(NOW - 60, NOW - 60), NOW + DAY);
    }
}
