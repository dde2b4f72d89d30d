//! One receiver's way through the history, up to where it joined those who hear live. Blocks on a
//! disk; knows no list of live entries.

use std::sync::Arc;

use crate::batch::{Batch, Run};
use crate::error::Missed;
use crate::history::Stored;
use crate::hub::{Hub, Shared};
use crate::limits::{TAKE_BYTES_MAX, TAKE_ENTRIES_MAX};
use crate::metrics::count;
use crate::selection::Selection;
use crate::update::{Entry, Offset};

/// Where a receiver begins.
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

/// What taking says beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The receiver has everything up to here, also when nothing matched.
    pub offset: Offset,
    /// The receiver was too slow: ephemeral updates that may have been for it are forgotten. What
    /// they told has to be read anew from where it is kept. Said once for each such loss, and not
    /// for what was forgotten before the receiver began (see `Hub::forgotten_behind`).
    pub ephemerals_lost: bool,
}

/// One receiver's way through the history.
#[derive(Debug)]
pub struct Reading {
    pub(crate) shared: Arc<Shared>,
    selection: Arc<Selection>,
    pub(crate) position: Offset,
    until: Offset,
    /// Whether something that the hub announces may be for it.
    hears_announced: bool,
    /// Up to where it was told what was forgotten.
    told_forgotten: Offset,
}

impl Hub {
    /// The way of a receiver from its start to what is committed now. Whoever hears live what comes
    /// behind that, and heard it before this call, misses nothing.
    pub fn reading(&self, selection: Arc<Selection>, start: Start) -> Reading {
        let shared = Arc::clone(&self.inner.shared);
        let committed = shared.subscribers.committed();
        Reading::new(shared, selection, start, committed)
    }

    /// The same up to a place that is committed already, and not further.
    pub fn reading_until(&self, selection: Arc<Selection>, start: Start, until: Offset) -> Reading {
        Reading::new(Arc::clone(&self.inner.shared), selection, start, until)
    }
}

impl Reading {
    pub(crate) fn new(
        shared: Arc<Shared>,
        selection: Arc<Selection>,
        start: Start,
        until: Offset,
    ) -> Reading {
        let position = match start {
            Start::Now => until,
            Start::Earliest => shared.history.bounds().before_first.min(until),
            Start::After(offset) | Start::Judged { after: offset, .. } => offset.min(until),
        };
        let hears_announced = selection.may_select_announced(&shared.namespace);
        let told_forgotten = match start {
            Start::Judged { forgotten, .. } => forgotten,
            Start::Now | Start::Earliest | Start::After(_) => {
                shared.tail.forgotten(hears_announced)
            }
        };
        Reading { shared, selection, position, until, hears_announced, told_forgotten }
    }

    /// What is read for.
    pub fn selection(&self) -> &Arc<Selection> {
        &self.selection
    }

    /// Up to where the receiver has everything.
    pub fn offset(&self) -> Offset {
        self.position
    }

    /// Whether there is nothing left to read.
    pub fn is_done(&self) -> bool {
        self.position >= self.until
    }

    /// Reads on to a place that is committed already.
    pub fn read_until(&mut self, until: Offset) {
        self.until = self.until.max(until);
    }

    /// The history has to be read once more, up to `until`. The receiver has everything up to
    /// `after`, if that is further than it knew.
    pub(crate) fn goes_on(&mut self, after: Offset, until: Offset) {
        self.position = self.position.max(after.min(until));
        self.until = self.until.max(until);
    }

    /// Moves what is next to `batch`, bounded in number and bytes. May block on a disk.
    ///
    /// # Errors
    ///
    /// `Missed` when the history no longer has what comes next. The place moves behind the gap, so
    /// that the next call goes on there.
    pub fn take(&mut self, batch: &mut Batch) -> Result<Taken, Missed> {
        let (shared, selection) = (&self.shared, &self.selection);
        let namespace = &shared.namespace;
        let found = shared.tail.behind(self.position, self.until, self.hears_announced);
        let ephemerals_lost = found.forgotten > self.position.max(self.told_forgotten);
        let mut ephemerals = found.entries;
        let (mut bytes, mut nonsense) = (0, None);
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut visit = |stored: &Stored<'_>| {
            if selection.selects_stored(stored, namespace) {
                let Some(entry) = stored.to_entry() else {
                    nonsense = Some(stored.offset());
                    return false;
                };
                bytes += entry.update.weight();
                entries.push(entry);
            }
            entries.len() < TAKE_ENTRIES_MAX && bytes < TAKE_BYTES_MAX
        };
        if self.position < found.until {
            let scanned = shared.history.scan(self.position, found.until, &mut visit);
            let whole = |place| before_nonsense(self.position, place, &ephemerals);
            match nonsense.map_or(scanned, whole) {
                Ok(reached) => self.position = reached,
                Err(missed) => {
                    self.position = missed.until.max(self.position);
                    count(&shared.counters.missed);
                    return Err(missed);
                }
            }
        }
        ephemerals.retain(|entry| selection.selects_entry(entry, namespace));
        // Not before what is missing in the history was told, which may end sooner.
        self.told_forgotten = self.told_forgotten.max(found.forgotten);
        entries.extend(ephemerals.into_iter().filter(|entry| entry.offset <= self.position));
        entries.sort_by_key(|entry| entry.offset);
        if let Some(run) = Run::of(entries.into_iter()) {
            let length = run.entries.len();
            batch.add(Arc::new(run), 0..length);
        }
        Ok(Taken { offset: self.position, ephemerals_lost })
    }
}

/// Up to where a reader has everything when the entry at `place` makes no sense though its checksum
/// is right: up to that place. A reader who had that already misses this one entry.
fn before_nonsense(
    position: Offset,
    place: Offset,
    ephemerals: &[Arc<Entry>],
) -> Result<Offset, Missed> {
    let directly_before = Offset::durable(place.durable.saturating_sub(1));
    let places = ephemerals.iter().map(|entry| entry.offset).filter(|offset| *offset < place);
    let before = places.max().max(Some(directly_before)).max(Some(position));
    match before.filter(|before| *before > position) {
        Some(before) => Ok(before),
        None => {
            tracing::error!(place = place.durable, "an entry of the history makes no sense");
            Err(Missed { after: position, until: place })
        }
    }
}
