//! One receiver's place in the history: replay up to where it joined, then live, without gap or
//! repeat. No queue of its own but a short list; who overflows it reads the history again.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::batch::Batch;
use crate::error::Missed;
use crate::held::Held;
use crate::hub::{Hub, Shared};
use crate::limits::{PENDING_BYTES_MAX, PENDING_BYTES_OF_MANY_MAX};
use crate::reading::{Reading, Start, Taken};
use crate::ready::ReadyList;
use crate::selection::Selection;
use crate::slot::Slot;
use crate::update::Offset;

/// One receiver and its place in the history, or one place for many who ask for the same. Dropping
/// it ends it.
#[derive(Debug)]
pub struct Subscription {
    /// The history is to be read before live entries count, as long as this is not done.
    reading: Reading,
    slot: Arc<Slot>,
    slot_id: usize,
    /// There is none where many stand behind it: each holds its own.
    held: Option<Held>,
    ready_keys: Vec<u64>,
}

/// What there was to be taken without the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Everything was taken. Readiness tells of what comes next.
    Everything,
    /// A part: there is more, and nothing else tells of that.
    More,
    /// Nothing was: the history has to be read.
    Behind,
}

impl Hub {
    /// Begins a subscription that belongs to one task, which waits by `Subscription::poll_ready`.
    pub fn subscribe(&self, selection: Selection, start: Start) -> Subscription {
        self.subscribe_keeping(selection, start, PENDING_BYTES_MAX)
    }

    /// [`Hub::subscribe`] of who may hold back so many bytes of live entries before the history is
    /// read again.
    pub fn subscribe_keeping(
        &self,
        selection: Selection,
        start: Start,
        pending_bytes_max: usize,
    ) -> Subscription {
        let owner = Arc::new(ReadyList::default());
        let grant = Arc::clone(&selection.grant);
        let shared = Arc::clone(&self.inner.shared);
        let subscription = Subscription::new(
            Arc::clone(&shared),
            Arc::new(selection),
            start,
            Arc::clone(&owner),
            0,
            pending_bytes_max,
        );
        subscription.holding(Held::new(shared, &grant, owner, 0))
    }

    /// Begins, with what comes from now on, a subscription behind which many receivers stand who
    /// ask for the same and may read the same. Its owner has many such: `key` appears in the
    /// owner's list when there is something to take. It does not end by itself: each receiver's
    /// grant is held for itself (`Hub::hold`).
    pub fn subscribe_for_many(
        &self,
        selection: Arc<Selection>,
        owner: Arc<ReadyList>,
        key: u64,
    ) -> Subscription {
        let shared = Arc::clone(&self.inner.shared);
        Subscription::new(shared, selection, Start::Now, owner, key, PENDING_BYTES_OF_MANY_MAX)
    }
}

impl Subscription {
    pub(crate) fn new(
        shared: Arc<Shared>,
        selection: Arc<Selection>,
        start: Start,
        owner: Arc<ReadyList>,
        key: u64,
        pending_bytes_max: usize,
    ) -> Subscription {
        let slot = Arc::new(Slot::new(owner, key, pending_bytes_max));
        // Live before history: rules out a gap.
        let (slot_id, joined) = shared.subscribers.add(&slot, &selection);
        let reading = Reading::new(shared, selection, start, joined);
        Subscription { reading, slot, slot_id, held: None, ready_keys: Vec::new() }
    }

    /// Ends by itself when `held` does.
    pub(crate) fn holding(mut self, held: Held) -> Subscription {
        self.held = Some(held);
        self
    }

    /// Up to where this receiver has everything.
    pub fn offset(&self) -> Offset {
        self.reading.position
    }

    /// [`Subscription::offset`] as it would be after taking, when nothing is there to be taken.
    pub fn caught_up(&self) -> Offset {
        // Read first: everything up to here has been pushed already.
        let fanned_out = self.reading.shared.fanned_out();
        let has_work = !self.reading.is_done() || self.slot.has_work();
        if has_work { self.offset() } else { self.offset().max(fanned_out) }
    }

    /// What it asked for.
    pub fn selection(&self) -> &Arc<Selection> {
        self.reading.selection()
    }

    /// Whether its grant ended before its time, as when its token was revoked: nothing more may be
    /// handed out. Readiness tells of it.
    pub fn is_ended(&self) -> bool {
        self.held.as_ref().is_some_and(Held::has_fallen)
    }

    /// Whether it is up with the hub. While not, [`Subscription::take`] reads the history, which
    /// may block on a disk.
    pub fn is_live(&self) -> bool {
        self.reading.is_done() && !self.slot.is_exhausted()
    }

    /// Looks at what taking looks at. What many subscriptions need comes from memory side by side
    /// that way.
    pub fn look_ahead(&self) {
        self.slot.look_ahead();
        black_box((self.reading.is_done(), self.reading.position));
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
            return Ok(Taken { offset: self.reading.position, ephemerals_lost: false });
        }
        if self.reading.is_done() && self.slot.is_exhausted() {
            // Asked first: it may overflow again as soon as it has joined.
            let whole_until = self.slot.whole_until();
            let joined = self.reading.shared.subscribers.rejoin(&self.slot);
            self.reading.goes_on(whole_until, joined);
        }
        if self.reading.is_done() {
            self.take_waiting(batch);
            return Ok(Taken { offset: self.reading.position, ephemerals_lost: false });
        }
        self.reading.take(batch)
    }

    /// [`Subscription::take`] for who must not wait for a disk.
    pub fn take_live(&mut self, batch: &mut Batch) -> Live {
        match self.is_live() {
            true if self.take_waiting(batch) => Live::Everything,
            true => Live::More,
            false => Live::Behind,
        }
    }

    /// Answers whether that was all there is up to now.
    fn take_waiting(&mut self, batch: &mut Batch) -> bool {
        // Read first: everything up to here has been pushed already.
        let fanned_out = self.reading.shared.fanned_out();
        let is_all = self.slot.take(batch);
        let position = &mut self.reading.position;
        if let Some(last) = batch.last() {
            *position = (*position).max(last.offset);
        }
        if is_all {
            *position = (*position).max(fanned_out);
        }
        is_all
    }

    /// Ready when [`Subscription::take`] has something to do. For a task that owns one subscription
    /// made by `Hub::subscribe`.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.reading.is_done() || self.is_ended() || self.slot.has_work() {
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
        self.reading.shared.subscribers.remove(self.slot_id);
    }
}
