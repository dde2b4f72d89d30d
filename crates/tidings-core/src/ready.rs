//! Who has something to take: a list that belongs to one task (or to one shard of thousands of
//! sockets), filled by the fan-out, woken once for each batch.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Keys of subscriptions that have something to take.
#[derive(Debug, Default)]
pub struct ReadyList {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: Vec<u64>,
    waker: Option<Waker>,
}

impl ReadyList {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key and hands out the waker that is to be woken when the batch is done.
    pub(crate) fn add(&self, key: u64) -> Option<Waker> {
        let mut inner = self.lock();
        // An owner that never runs dry does not look here: its key is not added again and again.
        if inner.keys.last() != Some(&key) {
            inner.keys.push(key);
        }
        inner.waker.take()
    }

    /// Moves the ready keys to `keys`; pending, with the task noted, while there are none.
    pub fn poll(&self, context: &mut Context<'_>, keys: &mut Vec<u64>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.keys.is_empty() {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        keys.append(&mut inner.keys);
        Poll::Ready(())
    }
}
