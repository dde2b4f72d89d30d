//! The second stage behind the hub's order: hands committed batches to the receivers. The first
//! stage never waits for it. Knows no disk and no publisher.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::task::Waker;

use crate::hub::Shared;
use crate::limits::BATCH_UPDATES_MAX;
use crate::update::Entry;

/// What waits for the second stage.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) bytes: AtomicUsize,
    /// Batches were left out because too much waited: everybody has to read the history.
    pub(crate) left_out: AtomicBool,
}

pub(crate) fn weight(entries: &[Arc<Entry>]) -> usize {
    entries.iter().map(|entry| entry.update.weight()).sum()
}

/// The second stage.
pub(crate) struct FanOut {
    pub(crate) shared: Arc<Shared>,
    pub(crate) backlog: Arc<Backlog>,
}

impl FanOut {
    /// Until the first stage ends.
    pub(crate) fn run(&self, committed: &Receiver<Vec<Arc<Entry>>>) {
        let mut wake = Vec::new();
        while let Ok(mut batch) = committed.recv() {
            // What was committed while the last batch was delivered leaves in one go.
            while batch.len() < BATCH_UPDATES_MAX
                && let Ok(mut next) = committed.try_recv()
            {
                batch.append(&mut next);
            }
            self.backlog.bytes.fetch_sub(weight(&batch), Ordering::Relaxed);
            let delivering = AssertUnwindSafe(|| self.deliver(&batch, &mut wake));
            if catch_unwind(delivering).is_err() {
                tracing::error!(
                    "the fan-out of a batch failed: receivers read it from the history"
                );
                self.shared.subscribers.overflow(&self.shared.counters, &mut wake);
            }
            if let Some(last) = batch.last() {
                self.shared.set_fanned_out(last.offset);
            }
            for waker in wake.drain(..) {
                waker.wake();
            }
        }
    }

    fn deliver(&self, batch: &[Arc<Entry>], wake: &mut Vec<Waker>) {
        let Shared { subscribers, namespace, counters, .. } = &*self.shared;
        if self.backlog.left_out.swap(false, Ordering::AcqRel) {
            tracing::warn!("the fan-out fell behind: receivers read the history");
            subscribers.overflow(counters, wake);
        }
        subscribers.push(batch, namespace, counters, wake);
    }
}
