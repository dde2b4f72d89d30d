//! An entry that is owed to a system, and the lane that it stands in.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::Entry;

use super::Now;
use super::answers::milliseconds;
use super::changes::{Row, RowKey};
use crate::connector::{Answer, Failure};

/// Where an entry that is owed is kept, which decides what "done" changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// In the history, behind the position.
    History,
    /// As a copy in the state: it failed while others of its sink go on, or it was sent for again.
    Copy {
        /// No follow-up is published for it: it was replayed.
        is_replayed: bool,
    },
}

/// An entry that is owed.
#[derive(Debug)]
pub(super) struct Item {
    /// Its place in the history.
    pub(super) number: u64,
    /// The entry itself; copies are read when their turn comes.
    pub(super) entry: Option<Arc<Entry>>,
    pub(super) weight: usize,
    pub(super) kept: Kept,
    /// How often it failed, and how often because the system does not want it.
    pub(super) tries: u32,
    pub(super) rejected: u32,
    /// Since when it can be delivered, by the wall clock.
    pub(super) since: u64,
    /// Not tried before this, on the monotonic clock.
    pub(super) due: Duration,
    /// Why it failed last.
    pub(super) last: Option<Box<(Failure, Answer)>>,
    /// It is to become a dead letter, as soon as there is room for one.
    pub(super) is_given_up: bool,
}

impl Item {
    pub(super) fn key(&self, lane: u64) -> RowKey {
        RowKey { lane, number: self.number }
    }

    /// What is written down of a copy.
    pub(super) fn row(&self, lane: u64, now: Now) -> Row {
        let wait = self.due.saturating_sub(now.monotonic);
        Row {
            key: self.key(lane),
            weight: self.weight,
            tries: self.tries,
            rejected: self.rejected,
            since: self.since,
            due: now.wall.saturating_add(milliseconds(wait)),
            wait,
            is_replayed: self.kept == Kept::Copy { is_replayed: true },
        }
    }

    pub(super) fn is_copy(&self) -> bool {
        matches!(self.kept, Kept::Copy { .. })
    }
}
