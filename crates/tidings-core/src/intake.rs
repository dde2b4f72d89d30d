//! What waits for the first stage behind the hub's order. Whoever puts something here while nobody
//! sees to it has to, a moment later: others who are about to put something here do so meanwhile,
//! and one batch and one sync serve them all. Knows nothing of what it carries.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue that is filled by many and emptied by one at a time. Bounded by whoever fills it.
#[derive(Debug)]
pub(crate) struct Intake<T> {
    inner: Mutex<Inner<T>>,
    called: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: VecDeque<T>,
    /// Nothing is put in any more.
    is_closed: bool,
    /// Somebody sees to what waits, now or in a moment.
    is_seen_to: bool,
    /// That is the thread.
    is_called: bool,
}

/// The duty to see to what waits. It is the thread's when this is dropped.
#[derive(Debug)]
pub(crate) struct Duty<T>(Option<Arc<Intake<T>>>);

/// What is found in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Something, moved to where it was wanted.
    Some,
    /// Nothing.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl<T> Default for Intake<T> {
    fn default() -> Intake<T> {
        let waiting = VecDeque::new();
        let inner = Inner { waiting, is_closed: false, is_seen_to: false, is_called: false };
        Intake { inner: Mutex::new(inner), called: Condvar::new() }
    }
}

impl<T> Intake<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `item` in, unless the intake is closed. Hands out the duty to see to it if nobody has
    /// it.
    pub(crate) fn put(self: &Arc<Intake<T>>, item: T) -> Result<Option<Duty<T>>, T> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(item);
        }
        inner.waiting.push_back(item);
        let is_mine = !std::mem::replace(&mut inner.is_seen_to, true);
        drop(inner);
        Ok(is_mine.then(|| Duty(Some(Arc::clone(self)))))
    }

    /// Closes the intake: what is in it is still found.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.called.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Moves what waits out one by one for as long as `wanted` wants more. Who finds nothing has
    /// done its duty.
    pub(crate) fn take(&self, wanted: impl FnMut(T) -> bool) -> Found {
        self.lock().take(wanted)
    }

    /// For the thread: waits until it is called, `timeout` at most. Answers whether it is to take
    /// what waits. After that time it is in any case: whose duty it was may have been forgotten.
    pub(crate) fn is_called(&self, timeout: Duration) -> bool {
        let sleeping = |inner: &mut Inner<T>| !inner.is_called && !inner.is_closed;
        let slept = self.called.wait_timeout_while(self.lock(), timeout, sleeping);
        let (inner, slept) = slept.unwrap_or_else(PoisonError::into_inner);
        !slept.timed_out() || !inner.waiting.is_empty()
    }
}

impl<T> Inner<T> {
    fn take(&mut self, mut wanted: impl FnMut(T) -> bool) -> Found {
        if self.waiting.is_empty() {
            (self.is_called, self.is_seen_to) = (false, false);
            return if self.is_closed { Found::End } else { Found::Nothing };
        }
        while let Some(item) = self.waiting.pop_front()
            && wanted(item)
        {}
        Found::Some
    }
}

impl<T> Duty<T> {
    /// Does it here, by `work`, which answers whether there may be more. Not for ever: others may
    /// put in more than one can see to, and that is for the thread.
    pub(crate) fn see_to(mut self, mut work: impl FnMut() -> bool) {
        for _ in 0..4 {
            if !work() {
                self.0 = None;
                return;
            }
        }
    }
}

impl<T> Drop for Duty<T> {
    fn drop(&mut self) {
        if let Some(intake) = &self.0 {
            intake.lock().is_called = true;
            intake.called.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_put_in_is_found_in_order_until_nothing_will_come() {
        let intake = Arc::new(Intake::default());
        let mut found = Vec::new();
        assert_eq!(intake.take(|_| true), Found::Nothing);
        let duties: Vec<_> = (0..5).map(|number| intake.put(number).unwrap()).collect();
        assert_eq!(duties.iter().flatten().count(), 1, "one sees to it for all");
        let mut first_three = |number| {
            found.push(number);
            found.len() < 3
        };
        assert_eq!(intake.take(&mut first_three), Found::Some);
        assert!(intake.is_called(SOON), "a duty may be forgotten");
        drop(duties);
        assert!(intake.is_called(LONG));
        intake.close();
        assert!(intake.is_closed());
        assert_eq!(intake.put(5).unwrap_err(), 5);
        let mut rest = Vec::new();
        let all = |number| {
            rest.push(number);
            true
        };
        assert_eq!(intake.take(all), Found::Some);
        assert_eq!((found, rest), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!(intake.take(|_| true), Found::End);
        assert!(intake.is_called(LONG));
    }

    #[test]
    fn the_thread_is_called_by_a_duty_that_is_dropped() {
        let intake = Arc::new(Intake::default());
        for round in 0..200 {
            let thread = {
                let intake = Arc::clone(&intake);
                std::thread::spawn(move || {
                    let mut found = 0;
                    let all = |_| {
                        found += 1;
                        true
                    };
                    assert!(intake.is_called(LONG));
                    assert_eq!(intake.take(all), Found::Some);
                    assert_eq!(intake.take(|_| true), Found::Nothing);
                    found
                })
            };
            let duties: Vec<_> = (0..3).map(|_| intake.put(round).unwrap()).collect();
            assert_eq!(duties.iter().flatten().count(), 1);
            drop(duties);
            assert_eq!(thread.join().unwrap(), 3);
        }
    }

    #[test]
    fn a_duty_that_is_done_calls_nobody_and_one_without_end_becomes_the_threads() {
        let intake = Arc::new(Intake::default());
        intake.put(0).unwrap().unwrap().see_to(|| intake.take(|_| true) == Found::Some);
        assert!(!intake.is_called(SOON));
        let duty = intake.put(1).unwrap().unwrap();
        duty.see_to(|| {
            assert!(intake.put(2).unwrap().is_none());
            intake.take(|_| true) == Found::Some
        });
        assert!(intake.put(3).unwrap().is_none());
        assert!(intake.is_called(LONG));
        assert_eq!(intake.take(|_| true), Found::Some);
        assert_eq!(intake.take(|_| true), Found::Nothing);
        assert!(intake.put(4).unwrap().is_some());
    }
}
