//! What the first stage has committed and nobody was told of yet: the publishers get their answers,
//! then the second stage the entries, in the hub's order, whoever does it. Knows no disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::answers::{Answer, Outcome};
use crate::fan_out::Handover;
use crate::hub::{Hub, Shared};
use crate::update::Entry;

/// A committed batch.
pub(crate) struct Committed {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) answers: Vec<(Answer, Outcome)>,
}

/// See the module.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    waiting: Mutex<VecDeque<Committed>>,
    /// Held by who tells, one at a time; until the end.
    fan_out: Mutex<Option<Handover>>,
    /// Wakes the task that tells.
    called: Notify,
    /// It was called, and has not had its turn.
    is_called: AtomicBool,
    /// There is such a task.
    has_teller: AtomicBool,
}

/// The task that tells.
struct Teller(Arc<Outbox>);

impl Hub {
    /// Tells publishers and receivers of what the disk has, in place of the thread that waits for
    /// it, until the hub ends or this is dropped. It is for a task beside those who publish: the
    /// kernel has to wake one thread then for all of them, and not the same one for each answer. A
    /// hub has one such task at most.
    pub fn telling(&self) -> impl Future<Output = ()> + Send + 'static {
        let teller = Teller::new(Arc::clone(self.inner.writer.outbox()));
        async move { teller.run().await }
    }
}

impl Outbox {
    pub(crate) fn new(shared: Arc<Shared>, fan_out: Handover) -> Arc<Outbox> {
        Arc::new(Outbox {
            shared,
            waiting: Mutex::default(),
            fan_out: Mutex::new(Some(fan_out)),
            called: Notify::new(),
            is_called: AtomicBool::new(false),
            has_teller: AtomicBool::new(false),
        })
    }

    /// Behind what waits already. Somebody has to tell of it.
    pub(crate) fn put(&self, committed: Committed) {
        lock(&self.waiting).push_back(committed);
    }

    /// Whether nobody was told yet of something.
    pub(crate) fn is_waiting(&self) -> bool {
        !lock(&self.waiting).is_empty()
    }

    /// Tells of everything that waits, here.
    pub(crate) fn tell(&self) {
        let fan_out = lock(&self.fan_out);
        // The lock is not held while somebody is told.
        let next = || lock(&self.waiting).pop_front();
        while let Some(Committed { entries, answers }) = next() {
            let answering = AssertUnwindSafe(|| {
                for (answer, outcome) in answers {
                    answer.tell(outcome, &self.shared);
                }
            });
            if catch_unwind(answering).is_err() {
                self.shared.failed.store(true, Ordering::Release);
                tracing::error!("answering failed: publishing has stopped until a restart");
            }
            if !entries.is_empty()
                && let Some(fan_out) = &*fan_out
            {
                fan_out.give(entries);
            }
        }
    }

    /// Has the task tell, if there is one. With a task that was called before and has not had its
    /// turn, what waits would grow.
    pub(crate) fn have_told(&self) {
        let has_teller = || self.has_teller.load(Ordering::SeqCst);
        if has_teller() && !self.is_called.swap(true, Ordering::SeqCst) {
            self.called.notify_one();
            if has_teller() {
                return;
            }
        }
        self.tell();
    }

    /// Tells of everything, and hands nothing more to the second stage.
    pub(crate) fn end(&self) {
        self.tell();
        *lock(&self.fan_out) = None;
        self.called.notify_one();
    }

    fn has_ended(&self) -> bool {
        lock(&self.fan_out).is_none()
    }
}

impl Teller {
    fn new(outbox: Arc<Outbox>) -> Teller {
        outbox.is_called.store(false, Ordering::SeqCst);
        outbox.has_teller.store(true, Ordering::SeqCst);
        Teller(outbox)
    }

    async fn run(self) {
        while !self.0.has_ended() {
            self.0.called.notified().await;
            // Before it tells: for what comes from now on it is called again.
            self.0.is_called.store(false, Ordering::SeqCst);
            self.0.tell();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.has_teller.store(false, Ordering::SeqCst);
        // It may have been called in vain.
        self.0.tell();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
