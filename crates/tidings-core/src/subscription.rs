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
    /// Behind a place that was judged (see `Hub::forgotten_behind`).
    Judged {
        /// The place.
        after: Offset,
        /// Up to here the receiver is told that ephemeral updates are forgotten.
        forgotten: Offset,
    },
}

/// What [`Subscription::take`] says beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The receiver has everything up to here, also when nothing matched.
    pub offset: Offset,
    /// The receiver was too slow: ephemeral updates that may have been for it are forgotten. What
    /// they told has to be read anew from where it is kept. Said once for each such loss, and not
    /// for what was forgotten before the subscription began (see `Hub::forgotten_behind`).
    pub ephemerals_lost: bool,
}

/// Whether a subscription has ended, for those who do not own it.
#[derive(Debug, Clone)]
pub struct Ending(Arc<Slot>);

impl Ending {
    /// As [`Subscription::is_ended`].
    pub fn has_come(&self) -> bool {
        self.0.is_ended()
    }
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
        let full = list.entries + run.entries.len() > PENDING_ENTRIES_MAX
            || list.bytes + charge > PENDING_BYTES_MAX;
        let pushed = if list.overflowed || full && !list.runs.is_empty() {
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
    /// Whether something that the hub announces may be for it.
    hears_announced: bool,
    /// Up to where it was told what was forgotten.
    told_forgotten: Offset,
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
            Start::After(offset) | Start::Judged { after: offset, .. } => offset.min(joined),
        };
        let replay_until = (position < joined).then_some(joined);
        let hears_announced = selection.may_select_announced(&shared.namespace);
        let told_forgotten = match start {
            Start::Judged { forgotten, .. } => forgotten,
            Start::Now | Start::Earliest | Start::After(_) => {
                shared.tail.forgotten(hears_announced)
            }
        };
        Subscription {
            told_forgotten,
            shared,
            slot,
            slot_id,
            selection,
            position,
            replay_until,
            hears_announced,
            ready_keys: Vec::new(),
        }
    }

    /// What tells others than the owner that the subscription has ended.
    pub fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.slot))
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
        let namespace = self.shared.namespace();
        let found = self.shared.tail.behind(self.position, until, self.hears_announced);
        let ephemerals_lost = found.forgotten > self.position.max(self.told_forgotten);
        let mut ephemerals = found.entries;
        ephemerals.retain(|entry| self.selection.selects_entry(entry, namespace));
        let mut bytes = 0;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut visit = |stored: &Stored<'_>| {
            if self.selection.selects_stored(stored, namespace) {
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
        if self.position < found.until {
            match self.shared.history.scan(self.position, found.until, &mut visit) {
                Ok(reached) => self.position = reached,
                Err(missed) => {
                    self.position = missed.until.max(self.position);
                    count(&self.shared.counters.missed);
                    return Err(missed);
                }
            }
        }
        // Not before what is missing in the history was told, which may end sooner.
        self.told_forgotten = self.told_forgotten.max(found.forgotten);
        entries.extend(ephemerals.into_iter().filter(|entry| entry.offset <= self.position));
        entries.sort_by_key(|entry| entry.offset);
        if !entries.is_empty() {
            let length = entries.len();
            batch.add(Arc::new(Run::new(entries.into())), 0..length);
        }
        if self.position >= until {
            self.replay_until = None;
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
        Taken { offset: self.position, ephemerals_lost: false }
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
