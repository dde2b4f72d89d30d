//! From a cursor that a client brings to a place in the history. Knows no protocol's words for one.

use crate::hub::Hub;
use crate::update::Offset;

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

impl Hub {
    /// What a cursor means: a publisher's id (its earliest entry) or one of the hub's own.
    pub fn locate(&self, cursor: &str) -> Located {
        let shared = self.shared();
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
        let shared = self.shared();
        match shared.history.find_id(id) {
            Some((epoch, _)) if epoch != shared.epoch => Located::OtherEpoch,
            // Appended, but nobody was told yet.
            Some((_, offset)) if offset > shared.subscribers.committed() => Located::Unknown,
            Some((_, offset)) => Located::Entry(offset),
            None => Located::Unknown,
        }
    }
}
