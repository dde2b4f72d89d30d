//! The room for copies and dead letters: that of the sink itself, and that of all sinks together.

use super::Delivery;
use crate::limits::{DEAD_LETTERS_BYTES_MAX, DEAD_LETTERS_MAX, PARKED_BYTES_MAX, PARKED_ROWS_MAX};

/// What there was no room for when somebody looked last, in bytes.
#[derive(Debug, Default)]
pub(super) struct Full {
    pub(super) copy: Option<usize>,
    pub(super) letter: Option<Growth>,
}

/// What a dead letter takes, and what it frees when it has been a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    pub(super) takes: usize,
    pub(super) frees: usize,
}

/// Whose room is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The sink's own.
    Own,
    /// That of all sinks together.
    Shared,
}

impl Delivery {
    /// Whose room does not suffice for a copy.
    pub(super) fn lacks_for_copy(&self, weight: usize) -> Option<Lack> {
        if self.copies >= PARKED_ROWS_MAX
            || self.copies_bytes.saturating_add(weight) > PARKED_BYTES_MAX
        {
            return Some(Lack::Own);
        }
        (!self.part.has_room(weight)).then_some(Lack::Shared)
    }

    /// Whose room does not suffice for a dead letter.
    pub(super) fn lacks_for_letter(&self, Growth { takes, frees }: Growth) -> Option<Lack> {
        if self.dead.rows >= DEAD_LETTERS_MAX
            || self.dead.bytes.saturating_add(takes) > DEAD_LETTERS_BYTES_MAX
        {
            return Some(Lack::Own);
        }
        (!self.part.has_room(takes.saturating_sub(frees))).then_some(Lack::Shared)
    }

    /// Whose room does not suffice for another copy or dead letter that waits for it.
    pub fn lacks(&self) -> Option<Lack> {
        let letter = self.full.letter.and_then(|growth| self.lacks_for_letter(growth));
        letter.or_else(|| self.full.copy.and_then(|weight| self.lacks_for_copy(weight)))
    }
}
