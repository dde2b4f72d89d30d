//! Who works for a shard: its thread, which waits for its sockets, and, where so little is to be
//! done that to wake a thread would take longer, a task of the runtime, behind whoever is about to
//! be answered there. Knows nothing of what is done.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::time::{Duration, Instant};

use mio::Events;
use tidings_core::after_others;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::AbortHandle;

use super::inbox::Inbox;
use super::run::Shard;
use crate::limits::{EVENTS_AT_ONCE, HELP_LATE_MAX};

/// A shard at which one works at a time. There is none any more when it has ended.
pub(super) struct Desk {
    shard: Mutex<Option<Shard>>,
    inbox: Arc<Inbox>,
}

impl Desk {
    pub(super) fn new(shard: Shard, inbox: Arc<Inbox>) -> Arc<Desk> {
        Arc::new(Desk { shard: Mutex::new(Some(shard)), inbox })
    }

    /// What a panic leaves behind is cleared away under the lock.
    fn lock(&self) -> MutexGuard<'_, Option<Shard>> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work: until the shard is told to end.
    pub(super) fn run(&self, mut poll: mio::Poll) {
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        let waker = Waker::from(Arc::clone(&self.inbox));
        loop {
            let wait = self.work(|shard| shard.plan(&waker)).unwrap_or(Some(Duration::ZERO));
            if let Err(error) = poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a shard could not wait");
            }
            let goes_on = self.work(|shard| {
                let goes_on = shard.turn(&events, &waker);
                shard.note_work();
                goes_on
            });
            match goes_on {
                Some(true) => {}
                Some(false) => break,
                // What it was woken for may not have been looked at.
                None => self.inbox.wake_thread(),
            }
        }
        self.inbox.end();
        // Its streams end with it.
        drop(self.lock().take());
    }

    /// Nothing when it panicked.
    fn work<T>(&self, work: impl FnMut(&mut Shard) -> T) -> Option<T> {
        self.lock().as_mut()?.guarded(work)
    }

    /// Has a task help, where there is a runtime whose threads are always there. It helps until it
    /// is aborted.
    pub(super) fn find_help(self: &Arc<Desk>) -> Option<AbortHandle> {
        let runtime = Handle::try_current().ok()?;
        let is_driven = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
        is_driven.then(|| {
            let help = Help(Arc::clone(self));
            self.inbox.set_help(true);
            runtime.spawn(help.run()).abort_handle()
        })
    }
}

/// The task. When it is dropped with its runtime, the thread does everything.
struct Help(Arc<Desk>);

impl Drop for Help {
    fn drop(&mut self) {
        self.0.inbox.set_help(false);
    }
}

impl Help {
    async fn run(self) {
        let inbox = &self.0.inbox;
        let waker = Waker::from(Arc::clone(inbox));
        loop {
            inbox.called().await;
            let called = Instant::now();
            // Whoever has an answer now is given it first.
            after_others().await;
            // Where that takes long the thread has its turn meanwhile.
            let is_late = called.elapsed() > HELP_LATE_MAX;
            if is_late || !self.help(&waker) {
                inbox.wake_thread();
            }
        }
    }

    /// Answers whether nothing is left to be done now.
    fn help(&self, waker: &Waker) -> bool {
        let mut shard = match self.0.shard.try_lock() {
            Ok(shard) => shard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The thread is at work, and may have looked already.
            Err(TryLockError::WouldBlock) => return false,
        };
        let Some(shard) = &mut *shard else { return true };
        let is_done = shard.guarded(|shard| shard.help(waker)).unwrap_or(false);
        shard.note_work();
        is_done
    }
}
