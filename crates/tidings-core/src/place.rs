//! Places in the history from outside: what a cursor means, what stands behind a place, and where
//! the ends are. Knows nobody who reads.

use std::sync::Arc;

use crate::error::Missed;
use crate::history::Stored;
use crate::hub::Hub;
use crate::limits::SUB_MAX;
use crate::reading::Start;
use crate::selection::Selection;
use crate::update::{Entry, Epoch, Offset, Update};

/// What a cursor means to this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// The place of a kept entry, or of one that ephemeral updates followed.
    Entry(Offset),
    /// One of this hub's places, no longer kept.
    Trimmed,
    /// One of this hub's places before acknowledged entries may have been lost.
    OtherEpoch,
    /// Nothing that this hub knows.
    Unknown,
}

/// What is forgotten behind a place, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The last place up to which something is, as far as no durable entry is passed: who begins
    /// there, and says so, has hidden nothing. `None` when nothing is forgotten.
    pub until: Option<Offset>,
    /// A beginning there, which knows what is said about it.
    pub start: Start,
}

impl Hub {
    /// What a cursor means: a publisher's id (its earliest entry) or one of the hub's own.
    pub fn locate(&self, cursor: &str) -> Located {
        let shared = &self.inner.shared;
        // The hub's own first: whoever publishes one again does so later than it was given out.
        let Some(place) = shared.ids.open(cursor) else { return self.locate_client_id(cursor) };
        let bounds = shared.history.bounds();
        if !place.is_of(shared.epoch)
            || place.offset.durable > bounds.last.durable.max(shared.fanned_out().durable)
        {
            return Located::OtherEpoch;
        }
        if place.offset < bounds.before_first {
            return Located::Trimmed;
        }
        Located::Entry(place.offset)
    }

    fn locate_client_id(&self, id: &str) -> Located {
        let shared = &self.inner.shared;
        match shared.history.find_id(id) {
            Some((epoch, _)) if epoch != shared.epoch => Located::OtherEpoch,
            // Appended, but nobody was told yet.
            Some((_, offset)) if offset > shared.subscribers.committed() => Located::Unknown,
            Some((_, offset)) => Located::Entry(offset),
            None => Located::Unknown,
        }
    }

    /// An entry of an update that is not published: it stands nowhere, nobody receives it, and its
    /// cursor is another one for each of some numbers. For trying out what takes entries. `time` is
    /// in milliseconds since 1970-01-01.
    pub fn made_up(&self, update: Update, time: u64, number: u32) -> Arc<Entry> {
        let shared = &self.inner.shared;
        // Behind no durable entry there ever was.
        let offset = Offset { durable: 0, sub: 1 + number % SUB_MAX };
        Arc::new(Entry::new(offset, shared.epoch, time, update, Arc::clone(&shared.ids)))
    }

    /// The newest durable entry that was acknowledged, if one is kept.
    pub fn last_entry(&self) -> Option<Arc<Entry>> {
        let history = &self.inner.shared.history;
        let bounds = history.bounds();
        let newest = bounds.last.min(self.inner.shared.subscribers.committed());
        let mut last = None;
        if newest > bounds.before_first {
            let before = Offset::durable(newest.durable.saturating_sub(1));
            let mut visit = |stored: &Stored<'_>| {
                last = stored.to_entry();
                true
            };
            history.scan(before.max(bounds.before_first), newest, &mut visit).ok()?;
        }
        last
    }

    /// The gap right behind a place, if the history cannot go on there without one. Who begins
    /// behind the gap and says so has hidden nothing. May read from the disk.
    pub fn gap_after(&self, place: Offset) -> Option<Missed> {
        let last = self.last();
        let history = &self.inner.shared.history;
        if place >= last { None } else { history.scan(place, last, &mut |_| false).err() }
    }

    /// The place before the earliest kept entry.
    pub fn before_first(&self) -> Offset {
        self.inner.shared.history.bounds().before_first
    }

    /// The place of the newest durable entry.
    pub fn last(&self) -> Offset {
        self.inner.shared.history.bounds().last
    }

    /// A name for the history as it is: another one says that acknowledged entries may be gone.
    pub fn epoch(&self) -> String {
        format!("{:016x}", self.inner.shared.epoch.0)
    }

    /// The same as a number, as entries carry it.
    pub fn epoch_now(&self) -> Epoch {
        self.inner.shared.epoch
    }

    /// The hub's opaque id for a place.
    pub fn cursor(&self, offset: Offset) -> String {
        self.inner.shared.ids.seal(self.inner.shared.epoch, offset).as_ref().into()
    }

    /// The place of the newest entry that was acknowledged or announced: whoever begins behind it
    /// misses nothing that comes.
    pub fn end(&self) -> Offset {
        self.inner.shared.subscribers.committed()
    }

    /// Judges whether what this selection asks for held ephemeral updates behind `place` that are
    /// forgotten by now. A subscription that begins as judged tells what is forgotten from here on.
    pub fn forgotten_behind(&self, place: Offset, selection: &Selection) -> Judged {
        let shared = &self.inner.shared;
        let announced = selection.may_select_announced(&shared.namespace);
        let forgotten = shared.tail.forgotten(announced);
        let directly_behind = Offset { durable: place.durable, sub: SUB_MAX };
        let no_entry_follows = self.last().durable <= place.durable;
        let until = if no_entry_follows { forgotten } else { forgotten.min(directly_behind) };
        let until = (place < forgotten).then_some(until);
        let start = Start::Judged { after: until.unwrap_or(place), forgotten };
        Judged { until, start }
    }
}
