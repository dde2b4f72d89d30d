//! The second stage behind the hub's order: hands committed batches to the receivers. The first
//! stage never waits for it. Knows no disk and no publisher.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::hub::Shared;
use crate::limits::{
    BATCH_UPDATES_MAX, FAN_OUT_BATCHES_MAX, FAN_OUT_BYTES_MAX, HEAVY_FAN_OUTS,
    LIGHT_FAN_OUT_LISTS_MAX, LIGHT_FAN_OUT_MAX,
};
use crate::update::Entry;

/// What waits for the second stage.
#[derive(Debug, Default)]
struct Backlog {
    /// Batches that its thread has not delivered yet.
    batches: AtomicUsize,
    bytes: AtomicUsize,
    /// Batches were left out because too much waited: everybody has to read the history.
    left_out: AtomicBool,
    /// Rounds in a row that took so much that it was worth waking a thread for them.
    heavy: AtomicUsize,
}

impl Backlog {
    /// Notes how much a round took. Not by time alone: a thread may be interrupted.
    fn note(&self, lists: usize, took: Duration) {
        let heavy = match (lists > LIGHT_FAN_OUT_LISTS_MAX, took < LIGHT_FAN_OUT_MAX) {
            (true, _) => HEAVY_FAN_OUTS,
            (false, true) => 0,
            (false, false) => self.heavy.load(Ordering::Relaxed).saturating_add(1),
        };
        self.heavy.store(heavy, Ordering::Relaxed);
    }
}

fn weight(entries: &[Arc<Entry>]) -> usize {
    entries.iter().map(|entry| entry.update.weight()).sum()
}

/// The second stage.
#[derive(Debug)]
pub(crate) struct FanOut {
    shared: Arc<Shared>,
    backlog: Backlog,
}

/// The first stage's end of it. Its thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Handover {
    fan_out: Arc<FanOut>,
    batches: SyncSender<Vec<Arc<Entry>>>,
}

impl Handover {
    /// Hands a batch over. Never waits for receivers: what takes more than a moment is left to the
    /// thread.
    pub(crate) fn give(&self, entries: Vec<Arc<Entry>>) {
        let backlog = &self.fan_out.backlog;
        // Nobody else gives anything meanwhile, and the thread has nothing: the order is kept.
        let is_idle = backlog.batches.load(Ordering::Acquire) == 0;
        if is_idle && backlog.heavy.load(Ordering::Relaxed) < HEAVY_FAN_OUTS {
            return self.fan_out.round(&entries, &mut Vec::new());
        }
        let bytes = weight(&entries);
        let waiting = backlog.bytes.fetch_add(bytes, Ordering::Relaxed);
        backlog.batches.fetch_add(1, Ordering::SeqCst);
        if waiting > FAN_OUT_BYTES_MAX || self.batches.try_send(entries).is_err() {
            backlog.bytes.fetch_sub(bytes, Ordering::Relaxed);
            backlog.left_out.store(true, Ordering::SeqCst);
            // Seen by the thread with the batch that it has, if it has one, or behind it.
            if backlog.batches.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.fan_out.round(&[], &mut Vec::new());
            }
        }
    }
}

impl FanOut {
    /// Starts the thread.
    pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<(Handover, JoinHandle<()>)> {
        let (batches, committed) = sync_channel(FAN_OUT_BATCHES_MAX);
        let fan_out = Arc::new(FanOut { shared, backlog: Backlog::default() });
        let own = Arc::clone(&fan_out);
        let thread = std::thread::Builder::new()
            .name("tidings-fan-out".into())
            .spawn(move || own.run(&committed))?;
        Ok((Handover { fan_out, batches }, thread))
    }

    /// Until the first stage ends.
    fn run(&self, committed: &Receiver<Vec<Arc<Entry>>>) {
        let mut wake = Vec::new();
        while let Ok(mut batch) = committed.recv() {
            let mut batches = 1;
            // What was committed while the last batch was delivered leaves in one go.
            while batch.len() < BATCH_UPDATES_MAX
                && let Ok(mut next) = committed.try_recv()
            {
                batch.append(&mut next);
                batches += 1;
            }
            self.backlog.bytes.fetch_sub(weight(&batch), Ordering::Relaxed);
            self.round(&batch, &mut wake);
            let waiting = self.backlog.batches.fetch_sub(batches, Ordering::SeqCst);
            if waiting == batches && self.backlog.left_out.load(Ordering::SeqCst) {
                self.round(&[], &mut wake);
            }
        }
    }

    /// Delivers what was committed and wakes who got something.
    fn round(&self, batch: &[Arc<Entry>], wake: &mut Vec<Waker>) {
        let begun = Instant::now();
        let delivering = AssertUnwindSafe(|| self.deliver(batch, wake));
        let delivered = catch_unwind(delivering);
        if delivered.is_err() {
            tracing::error!("the fan-out of a batch failed: receivers read it from the history");
            let fanned_out = self.shared.fanned_out();
            self.shared.subscribers.overflow(fanned_out, &self.shared.counters, wake);
        }
        if let Some(last) = batch.last() {
            self.shared.set_fanned_out(last.offset);
        }
        self.backlog.note(delivered.unwrap_or_default(), begun.elapsed());
        for waker in wake.drain(..) {
            waker.wake();
        }
    }

    /// Answers to how many lists something was added.
    fn deliver(&self, batch: &[Arc<Entry>], wake: &mut Vec<Waker>) -> usize {
        let Shared { subscribers, namespace, counters, .. } = &*self.shared;
        if self.backlog.left_out.swap(false, Ordering::SeqCst) {
            tracing::warn!("the fan-out fell behind: receivers read the history");
            subscribers.overflow(self.shared.fanned_out(), counters, wake);
        }
        subscribers.push(batch, namespace, counters, wake)
    }
}
