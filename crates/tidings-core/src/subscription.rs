//! One receiver's place in the history: replay up to where it joined, then live, without gap or
//! repeat. No queue of its own but a short list; who overflows it reads the history again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use crate::batch::{Batch, Run};
use crate::error::Missed;
use crate::history::Stored;
use crate::hub::Shared;
use crate::limits::{TAKE_BYTES_MAX, TAKE_ENTRIES_MAX};
use crate::metrics::count;
use crate::ready::ReadyList;
use crate::selection::Selection;
use crate::slot::{Ending, Slot};
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
        Ending::of(&self.slot)
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
        self.replay_until.is_none() && !self.slot.is_exhausted()
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
        if self.replay_until.is_none() && self.slot.is_exhausted() {
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
        let is_all = self.slot.take(batch);
        if let Some(last) = batch.last() {
            self.position = self.position.max(last.offset);
        }
        if is_all {
            self.position = self.position.max(fanned_out);
        }
        Taken { offset: self.position, ephemerals_lost: false }
    }

    /// Ready when [`Subscription::take`] has something to do. For a task that owns one subscription
    /// made by `Hub::subscribe`.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.replay_until.is_some() || self.is_ended() || self.slot.has_work() {
            return Poll::Ready(());
        }
        self.ready_keys.clear();
        match self.slot.poll(context, &mut self.ready_keys) {
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

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.subscribers.remove(self.slot_id);
        self.shared.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
