//! What waits for one receiver: a short list that the fan-out fills and the receiver empties. Who
//! overflows it reads the history instead.

use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

use crate::batch::{Batch, Run};
use crate::limits::{
    PENDING_ENTRIES_MAX, PENDING_ENTRY_BYTES, RUN_BYTES, TAKE_BYTES_MAX, TAKE_ENTRIES_MAX,
};
use crate::ready::ReadyList;
use crate::update::Offset;

/// A receiver as the fan-out sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    list: Mutex<Waiting>,
    owner: Arc<ReadyList>,
    /// The owner's name for it.
    key: u64,
    /// Bytes and entries that may wait before it reads the history instead.
    pending_bytes_max: usize,
    pending_entries_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What waits, and what each run is charged to this receiver in bytes. Mostly one.
    runs: SmallVec<[(Arc<Run>, usize); 1]>,
    /// Entries of the first run that were taken already.
    taken: usize,
    entries: usize,
    bytes: usize,
    /// Everything up to here is left to the replay or was pushed already.
    seen: Offset,
    /// Live entries were dropped: the history has to be read again.
    overflowed: bool,
    /// Up to here none was, as far as that was known then.
    whole_until: Offset,
    /// The key stands in the owner's list.
    announced: bool,
}

impl Slot {
    pub(crate) fn new(owner: Arc<ReadyList>, key: u64, pending_bytes_max: usize) -> Slot {
        let pending_entries_max = PENDING_ENTRIES_MAX.max(pending_bytes_max / PENDING_ENTRY_BYTES);
        Slot { list: Mutex::default(), owner, key, pending_bytes_max, pending_entries_max }
    }

    /// Whether live entries were dropped and all before them is taken.
    pub(crate) fn is_exhausted(&self) -> bool {
        let list = self.lock();
        list.overflowed && list.runs.is_empty()
    }

    pub(crate) fn has_work(&self) -> bool {
        let list = self.lock();
        list.overflowed || !list.runs.is_empty()
    }

    /// Moves what waits to `batch`, bounded in number and bytes. Answers whether that was all there
    /// is up to now.
    pub(crate) fn take(&self, batch: &mut Batch) -> bool {
        let mut list = self.lock();
        list.take(batch);
        if !list.runs.is_empty() {
            return false;
        }
        list.announced = list.overflowed;
        // An idle receiver keeps no buffer.
        list.runs = SmallVec::new();
        !list.overflowed
    }

    /// Looks at it, so that it is at hand when it is filled or emptied. Not at what the lock is
    /// for: to take that, everything before has to have come from memory.
    pub(crate) fn look_ahead(&self) {
        black_box((self.list.is_poisoned(), self.pending_entries_max));
    }

    /// See `ReadyList::poll`, of its owner.
    pub(crate) fn poll(&self, context: &mut Context<'_>, keys: &mut Vec<u64>) -> Poll<()> {
        self.owner.poll(context, keys)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on live entries are for this slot; called under the registry's lock.
    pub(crate) fn join(&self, committed: Offset) {
        let mut list = self.lock();
        list.seen = list.seen.max(committed);
        list.overflowed = false;
        list.announced = false;
    }

    /// Adds a run that so many receivers share. Answers what became of it, and the waker to wake
    /// when the fan-out is done.
    pub(crate) fn push(&self, run: &Arc<Run>, shared_by: usize) -> (Pushed, Option<Waker>) {
        let mut list = self.lock();
        let Some(run) = list.unseen(run) else { return (Pushed::Already, None) };
        list.seen = run.last();
        // What many wait for costs each of them little.
        let charge = run.weight / shared_by.max(1) + RUN_BYTES;
        let full = list.entries + run.entries.len() > self.pending_entries_max
            || list.bytes + charge > self.pending_bytes_max;
        let pushed = if list.overflowed || full && !list.runs.is_empty() {
            if std::mem::replace(&mut list.overflowed, true) {
                return (Pushed::Already, None);
            }
            Pushed::Overflowed
        } else {
            let count = run.entries.len();
            list.entries += count;
            list.bytes += charge;
            list.runs.push((run, charge));
            Pushed::Taken(count)
        };
        if std::mem::replace(&mut list.announced, true) {
            return (pushed, None);
        }
        drop(list);
        (pushed, self.owner.add(self.key))
    }

    /// Up to where nothing was dropped before it overflowed last.
    pub(crate) fn whole_until(&self) -> Offset {
        self.lock().whole_until
    }

    /// Live entries behind `fanned_out` were not pushed to it. Answers whether that is news, and
    /// the waker to wake.
    pub(crate) fn overflow(&self, fanned_out: Offset) -> (bool, Option<Waker>) {
        let mut list = self.lock();
        let news = !std::mem::replace(&mut list.overflowed, true);
        if news {
            list.whole_until = fanned_out;
        }
        if std::mem::replace(&mut list.announced, true) {
            return (news, None);
        }
        drop(list);
        (news, self.owner.add(self.key))
    }
}

/// What became of a pushed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// So many entries wait now.
    Taken(usize),
    Already,
    Overflowed,
}

impl Waiting {
    /// What of a run lies behind the place where this receiver joined.
    fn unseen(&self, run: &Arc<Run>) -> Option<Arc<Run>> {
        let from = run.entries.partition_point(|entry| entry.offset <= self.seen);
        if from == 0 {
            return Some(Arc::clone(run));
        }
        Run::of(run.entries.iter().skip(from).cloned()).map(Arc::new)
    }

    /// Moves what waits to `batch`, bounded in number and bytes.
    fn take(&mut self, batch: &mut Batch) {
        let mut room = TAKE_ENTRIES_MAX;
        let mut bytes = 0;
        let mut whole = 0;
        for (run, charge) in &self.runs {
            if room == 0 || bytes >= TAKE_BYTES_MAX {
                break;
            }
            let begin = std::mem::take(&mut self.taken);
            let mut end = begin;
            while end < run.entries.len().min(begin + room) && bytes < TAKE_BYTES_MAX {
                bytes += run.entries.get(end).map_or(0, |entry| entry.update.weight());
                end += 1;
            }
            room -= end - begin;
            self.entries -= end - begin;
            batch.add(Arc::clone(run), begin..end);
            if end < run.entries.len() {
                self.taken = end;
                break;
            }
            self.bytes -= charge;
            whole += 1;
        }
        self.runs.drain(..whole);
    }
}
