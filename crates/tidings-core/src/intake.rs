//! What waits for the writer. Whoever puts something here while the writer sleeps calls it, a moment
//! later: others who are about to put something here do so meanwhile, and one call, one batch and
//! one sync serve them all. Knows nothing of what it carries.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// A queue with one end for many and one for the writer. Bounded by whoever puts things in.
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
    /// The writer sleeps, and nobody has undertaken to call it.
    is_asleep: bool,
}

/// The duty to call the writer, done when this is dropped.
#[derive(Debug)]
pub(crate) struct Call<T>(Arc<Intake<T>>);

/// What the writer finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Something, moved to where it wanted it.
    Some,
    /// Nothing for as long as it waited.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl<T> Default for Intake<T> {
    fn default() -> Intake<T> {
        let inner = Inner { waiting: VecDeque::new(), is_closed: false, is_asleep: false };
        Intake { inner: Mutex::new(inner), called: Condvar::new() }
    }
}

impl<T> Intake<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `item` in, unless the intake is closed. Hands out the duty to call the writer, if this
    /// is whose it is.
    pub(crate) fn put(self: &Arc<Intake<T>>, item: T) -> Result<Option<Call<T>>, T> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(item);
        }
        inner.waiting.push_back(item);
        let is_mine = std::mem::take(&mut inner.is_asleep);
        drop(inner);
        Ok(is_mine.then(|| Call(Arc::clone(self))))
    }

    /// Closes the intake: what is in it is still found.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.is_asleep = false;
        drop(inner);
        self.called.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits until something is there, `timeout` at most, and moves it out one by one for as long
    /// as `wanted` wants more.
    pub(crate) fn take(&self, timeout: Duration, mut wanted: impl FnMut(T) -> bool) -> Found {
        let mut inner = self.lock();
        if inner.waiting.is_empty() && !inner.is_closed {
            inner.is_asleep = true;
            let sleeping = |inner: &mut Inner<T>| inner.waiting.is_empty() && !inner.is_closed;
            let slept = self.called.wait_timeout_while(inner, timeout, sleeping);
            inner = slept.unwrap_or_else(PoisonError::into_inner).0;
            inner.is_asleep = false;
        }
        let mut found = if inner.is_closed { Found::End } else { Found::Nothing };
        while let Some(item) = inner.waiting.pop_front() {
            found = Found::Some;
            if !wanted(item) {
                break;
            }
        }
        found
    }
}

impl<T> Call<T> {
    /// Waits until those who have their turn anyway have had it, then calls.
    pub(crate) async fn after_others(self) {
        let mut has_waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            // Woken at once: its task stands behind all that are ready now.
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        self.0.called.notify_one();
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
        assert_eq!(intake.take(SOON, |_| true), Found::Nothing);
        for number in 0..5 {
            assert!(intake.put(number).unwrap().is_none(), "nobody sleeps");
        }
        let mut first_three = |number| {
            found.push(number);
            found.len() < 3
        };
        assert_eq!(intake.take(LONG, &mut first_three), Found::Some);
        intake.close();
        assert!(intake.is_closed());
        assert_eq!(intake.put(5).unwrap_err(), 5);
        let mut rest = Vec::new();
        let all = |number| {
            rest.push(number);
            true
        };
        assert_eq!(intake.take(LONG, all), Found::Some);
        assert_eq!((found, rest), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!(intake.take(LONG, |_| true), Found::End);
    }

    #[test]
    fn one_of_many_calls_a_writer_that_sleeps() {
        let intake = Arc::new(Intake::default());
        for round in 0..200 {
            let writer = {
                let intake = Arc::clone(&intake);
                std::thread::spawn(move || intake.take(LONG, |_| true))
            };
            while !intake.lock().is_asleep {
                std::thread::yield_now();
            }
            let calls: Vec<_> = (0..3).map(|_| intake.put(round).unwrap()).collect();
            assert_eq!(calls.iter().flatten().count(), 1);
            drop(calls);
            assert_eq!(writer.join().unwrap(), Found::Some);
            intake.take(SOON, |_| true);
        }
    }
}
