//! What is saved of one sink, and what is noted and not saved yet.

use std::sync::{Arc, PoisonError};
use tokio::time::Instant;

use tidings_core::{Entry, Offset, StateError, Write};

use super::Book;
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
    /// Another one each time that a sink of this name is opened.
    pub(super) opening: u64,
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

impl Book {
    /// Which opening of a sink this is: see [`Book::write`].
    pub(crate) fn opening(&self, name: &str) -> Option<u64> {
        self.lock().pages.get(name).map(|page| page.opening)
    }

    /// Changes other rows of a sink, unless it is not open any more, or anew: what is left behind
    /// by who comes late would be found by the next sink of its name. Answers whether they were
    /// changed. Blocks on the disk.
    pub(crate) fn write(
        &self,
        name: &str,
        opening: Option<u64>,
        writes: &[Write<'_>],
    ) -> Result<bool, StateError> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = opening.is_some() && self.opening(name) == opening;
        if is_open {
            self.hub.state().commit(writes)?;
        }
        Ok(is_open)
    }
}
