//! One receiver's place in the history: replay up to where it joined, then live, without gap or
//! repeat. No queue of its own but a short list; who overflows it reads the history again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::batch::{Batch, Run};
use crate::error::Missed;
use crate::history::Stored;
use crate::hub::Shared;
use crate::limits::{
    PENDING_BYTES_MAX, PENDING_ENTRIES_MAX, RUN_BYTES, TAKE_BYTES_MAX, TAKE_ENTRIES_MAX,
};
use crate::metrics::count;
use crate::ready::ReadyList;
use crate::selection::Selection;
use crate::update::{Entry, Offset};

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Now,
    /// With the earliest entry that is kept.
    Earliest,
    /// Behind this place.
    After(Offset),
}

/// What [`Subscription::take`] says beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The receiver has everything up to here, also when nothing matched.
    pub offset: Offset,
    /// The receiver was too slow and ephemeral updates are gone: what they told has to be read
    /// anew from where it is kept.
    pub ephemerals_lost: bool,
}

/// A receiver as the fan-out sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    list: Mutex<Waiting>,
    owner: Arc<ReadyList>,
    /// The owner's name for it.
    key: u64,
    /// Its grant ended before its time.
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What waits, and what each run is charged to this receiver in bytes.
    runs: VecDeque<(Arc<Run>, usize)>,
    /// Entries of the first run that were taken already.
    taken: usize,
    entries: usize,
    bytes: usize,
    /// Everything up to here is left to the replay or was pushed already.
    seen: Offset,
    /// Live entries were dropped: the history has to be read again.
    overflowed: bool,
    /// It overflowed before, so that the history stands in for what it was not pushed.
    joined_again: bool,
    ephemerals_lost: bool,
    /// The key stands in the owner's list.
    announced: bool,
}

impl Slot {
    pub(crate) fn new(owner: Arc<ReadyList>, key: u64) -> Slot {
        Slot { list: Mutex::default(), owner, key, ended: AtomicBool::new(false) }
    }

    /// Ends it, and hands out the waker of whoever owns it.
    pub(crate) fn end(&self) -> Option<Waker> {
        self.ended.store(true, Ordering::Release);
        self.owner.add(self.key)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on live entries are for this slot; called under the registry's lock.
    pub(crate) fn join(&self, committed: Offset, again: bool) {
        let mut list = self.lock();
        list.joined_again |= again;
        list.seen = list.seen.max(committed);
        list.overflowed = false;
        list.announced = false;
    }

    /// Adds a run that so many receivers share. Answers what became of it, and the waker to wake
    /// when the fan-out is done.
    pub(crate) fn push(&self, run: &Arc<Run>, shared_by: usize) -> (Pushed, Option<Waker>) {
        let mut list = self.lock();
        // Behind the history that it reads now, but not in it.
        list.ephemerals_lost |= list.joined_again && run.has_ephemeral_up_to(list.seen);
        let Some(run) = list.unseen(run) else { return (Pushed::Already, None) };
        list.seen = run.last();
        // What many wait for costs each of them little.
        let charge = run.weight / shared_by.max(1) + RUN_BYTES;
        let full = list.entries + run.entries.len() > PENDING_ENTRIES_MAX
            || list.bytes + charge > PENDING_BYTES_MAX;
        let pushed = if list.overflowed || full && !list.runs.is_empty() {
            list.ephemerals_lost |= run.has_ephemeral_up_to(run.last());
            if std::mem::replace(&mut list.overflowed, true) {
                return (Pushed::Already, None);
            }
            Pushed::Overflowed
        } else {
            let count = run.entries.len();
            list.entries += count;
            list.bytes += charge;
            list.runs.push_back((run, charge));
            Pushed::Taken(count)
        };
        if std::mem::replace(&mut list.announced, true) {
            return (pushed, None);
        }
        drop(list);
        (pushed, self.owner.add(self.key))
    }

    /// Live entries were not pushed to it. Answers whether that is news, and the waker to wake.
    pub(crate) fn overflow(&self) -> (bool, Option<Waker>) {
        let mut list = self.lock();
        list.ephemerals_lost = true;
        let news = !std::mem::replace(&mut list.overflowed, true);
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

/// One receiver and its place in the history. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    slot_id: usize,
    selection: Selection,
    position: Offset,
    /// The history is to be read up to here before live entries count.
    replay_until: Option<Offset>,
    ready_keys: Vec<u64>,
}

impl Subscription {
    pub(crate) fn new(
        shared: Arc<Shared>,
        selection: Selection,
        start: Start,
        owner: Arc<ReadyList>,
        key: u64,
    ) -> Subscription {
        let slot = Arc::new(Slot::new(owner, key));
        // Live before history: rules out a gap.
        let (slot_id, joined) = shared.subscribers.add(&slot, &selection);
        let position = match start {
            Start::Now => joined,
            Start::Earliest => shared.history.bounds().before_first.min(joined),
            Start::After(offset) => offset.min(joined),
        };
        let replay_until = (position < joined).then_some(joined);
        let ready_keys = Vec::new();
        Subscription { shared, slot, slot_id, selection, position, replay_until, ready_keys }
    }

    /// Up to where this receiver has everything.
    pub fn offset(&self) -> Offset {
        self.position
    }

    /// What it asked for.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Whether its grant ended before its time, as when its token was revoked: nothing more may be
    /// handed out. Readiness tells of it.
    pub fn is_ended(&self) -> bool {
        self.slot.is_ended()
    }

    /// Whether it is up with the hub. While not, [`Subscription::take`] reads the history, which
    /// may block on a disk.
    pub fn is_live(&self) -> bool {
        self.replay_until.is_none() && !self.slot.lock().is_exhausted()
    }

    /// Moves what is next to `batch`, bounded in number and bytes, and says up to where the
    /// receiver has everything now. An empty batch of a live subscription means that nothing waits,
    /// or that it has ended ([`Subscription::is_ended`]).
    ///
    /// # Errors
    ///
    /// `Missed` when the history no longer has what comes next. The place moves behind the gap, so
    /// that the next call goes on there.
    pub fn take(&mut self, batch: &mut Batch) -> Result<Taken, Missed> {
        if self.is_ended() {
            return Ok(Taken { offset: self.position, ephemerals_lost: false });
        }
        if self.replay_until.is_none() && self.slot.lock().is_exhausted() {
            let joined = self.shared.subscribers.rejoin(&self.slot);
            self.replay_until = Some(joined);
        }
        match self.replay_until {
            Some(until) => self.take_history(until, batch),
            None => Ok(self.take_live(batch)),
        }
    }

    fn take_history(&mut self, until: Offset, batch: &mut Batch) -> Result<Taken, Missed> {
        let mut bytes = 0;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut visit = |stored: &Stored<'_>| {
            if self.selection.selects_stored(stored, self.shared.namespace()) {
                match stored.to_entry() {
                    Some(entry) => {
                        bytes += entry.update.weight();
                        entries.push(entry);
                    }
                    None => tracing::error!("an entry of the history makes no sense: left out"),
                }
            }
            entries.len() < TAKE_ENTRIES_MAX && bytes < TAKE_BYTES_MAX
        };
        if self.position < until {
            let scanned = self.shared.history.scan(self.position, until, &mut visit);
            if !entries.is_empty() {
                let length = entries.len();
                batch.add(Arc::new(Run::new(entries.into())), 0..length);
            }
            match scanned {
                Ok(reached) => self.position = reached,
                Err(missed) => {
                    self.position = missed.until.max(self.position);
                    count(&self.shared.counters.missed);
                    return Err(missed);
                }
            }
        }
        let mut ephemerals_lost = false;
        if self.position >= until {
            self.replay_until = None;
            ephemerals_lost = std::mem::take(&mut self.slot.lock().ephemerals_lost);
        }
        Ok(Taken { offset: self.position, ephemerals_lost })
    }

    fn take_live(&mut self, batch: &mut Batch) -> Taken {
        // Read first: everything up to here has been pushed already.
        let fanned_out = self.shared.fanned_out();
        let mut list = self.slot.lock();
        list.take(batch);
        if let Some(last) = batch.last() {
            self.position = self.position.max(last.offset);
        }
        if list.runs.is_empty() {
            list.announced = list.overflowed;
            if !list.overflowed {
                self.position = self.position.max(fanned_out);
            }
            // An idle receiver keeps no buffer.
            list.runs = VecDeque::new();
        }
        // While it is overflowed the flag waits for the end of the replay.
        let told = !list.overflowed && list.ephemerals_lost;
        list.ephemerals_lost &= !told;
        Taken { offset: self.position, ephemerals_lost: told }
    }

    /// Ready when [`Subscription::take`] has something to do. For a task that owns one subscription
    /// made by `Hub::subscribe`.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.replay_until.is_some() || self.is_ended() || self.slot.lock().has_work() {
            return Poll::Ready(());
        }
        self.ready_keys.clear();
        match self.slot.owner.poll(context, &mut self.ready_keys) {
            Poll::Ready(()) => {
                self.ready_keys.clear();
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Waits for [`Subscription::poll_ready`] and takes.
    ///
    /// # Errors
    ///
    /// As [`Subscription::take`]. The history is read on the calling thread.
    pub async fn next(&mut self, batch: &mut Batch) -> Result<Taken, Missed> {
        std::future::poll_fn(|context| self.poll_ready(context)).await;
        self.take(batch)
    }
}

impl Waiting {
    /// What of a run lies behind the place where this receiver joined.
    fn unseen(&self, run: &Arc<Run>) -> Option<Arc<Run>> {
        let from = run.entries.partition_point(|entry| entry.offset <= self.seen);
        match run.entries.get(from..) {
            _ if from == 0 => Some(Arc::clone(run)),
            None | Some([]) => None,
            Some(rest) => Some(Arc::new(Run::new(rest.into()))),
        }
    }

    /// Moves what waits to `batch`, bounded in number and bytes.
    fn take(&mut self, batch: &mut Batch) {
        let mut room = TAKE_ENTRIES_MAX;
        let mut bytes = 0;
        while room > 0
            && bytes < TAKE_BYTES_MAX
            && let Some((run, charge)) = self.runs.pop_front()
        {
            let begin = std::mem::take(&mut self.taken);
            let mut end = begin;
            while end < run.entries.len().min(begin + room) && bytes < TAKE_BYTES_MAX {
                bytes += run.entries.get(end).map_or(0, |entry| entry.update.weight());
                end += 1;
            }
            room -= end - begin;
            self.entries -= end - begin;
            batch.add(Arc::clone(&run), begin..end);
            if end < run.entries.len() {
                self.taken = end;
                self.runs.push_front((run, charge));
            } else {
                self.bytes -= charge;
            }
        }
    }

    fn is_exhausted(&self) -> bool {
        self.overflowed && self.runs.is_empty()
    }

    fn has_work(&self) -> bool {
        self.overflowed || !self.runs.is_empty()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.subscribers.remove(self.slot_id);
        self.shared.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
