//! What is saved of one sink, and what is noted and not saved yet.

use std::sync::Arc;
use std::time::Instant;

use tidings_core::{Entry, Offset};

use crate::delivery::{Changes, RowKey};
use crate::records::SinkRecord;

/// What is saved of one sink.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) record: SinkRecord,
    pub(super) changes: Changes,
    /// Acknowledged entries on their way to the disk.
    pub(super) saving: usize,
    /// The place that stands on the disk.
    pub(super) saved: Offset,
    /// Copies on their way to the disk.
    pub(super) saving_copies: Vec<(RowKey, Arc<Entry>)>,
    pub(super) since: Instant,
}

/// How far saving is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noted {
    /// Acknowledged entries that are not saved yet.
    pub unsaved: usize,
    /// The place that is saved: what is behind it may be needed once more.
    pub saved: Option<Offset>,
}

impl Page {
    pub(super) fn so_far(&self) -> Noted {
        let unsaved = self.changes.acknowledged + self.saving;
        Noted { unsaved, saved: Some(self.saved) }
    }

    /// A copy that is noted and may not be saved yet.
    pub(super) fn noted(&self, key: RowKey) -> Option<Arc<Entry>> {
        let later = self.changes.copies.iter().rev().find(|(noted, _)| *noted == key);
        let later = later.and_then(|(_, copy)| copy.as_ref()).map(|(_, entry)| entry);
        let saving = || self.saving_copies.iter().find(|(saving, _)| *saving == key);
        later.or_else(|| saving().map(|(_, entry)| entry)).map(Arc::clone)
    }
}
