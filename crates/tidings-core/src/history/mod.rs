//! The append-only log. One writer appends; readers scan from a place, whatever they are: a
//! reconnect, a slow reader, a sink that was down, a restart.

pub(crate) mod blocks;
pub(crate) mod disk;
#[cfg(test)]
mod disk_tests;
pub(crate) mod memory;
pub(crate) mod note;
pub(crate) mod open;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod retention;
pub(crate) mod segment;
pub(crate) mod sidecar;

use std::sync::Arc;

use self::record::Record;
use crate::error::Missed;
use crate::ids::Ids;
use crate::update::{Entry, Epoch, Offset};

/// What the history holds: everything behind `before_first` up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) before_first: Offset,
    pub(crate) last: Offset,
}

/// Why a batch was not appended.
#[derive(Debug, Clone)]
pub(crate) enum AppendError {
    /// No space; nothing of the batch stands in the history, and the next one may fit.
    NoSpace,
    /// The operating system refused before anything was written (no descriptors); the next batch
    /// may succeed.
    NotNow(String),
    /// The storage failed and cannot be trusted any more in this process.
    Failed(String),
}

/// An item of the history as a scan meets it, decoded no further than asked for.
pub(crate) struct Stored<'s> {
    /// Bytes that were checked, or that never left this process.
    pub(crate) record: Record<'s>,
    /// The entry itself where it is kept as such: its record is without the data.
    pub(crate) shared: Option<&'s Arc<Entry>>,
    /// The log that it stands in.
    pub(crate) epoch: Epoch,
    /// The key of the hub's ids.
    pub(crate) ids: &'s Arc<Ids>,
}

impl Stored<'_> {
    pub(crate) fn is_private(&self) -> bool {
        self.record.is_private()
    }

    /// Whether `pick` says yes to one of the topics, asked in order until it does; yes as well when
    /// a topic makes no sense, so that whoever reads learns of it.
    pub(crate) fn any_topic(&self, pick: &mut dyn FnMut(&str) -> bool) -> bool {
        self.record.any_topic(pick)
    }

    /// Whether the publisher gave it this id.
    pub(crate) fn has_id(&self, id: &str) -> bool {
        self.record.id() == Some(id)
    }

    /// Its place.
    pub(crate) fn offset(&self) -> Offset {
        Offset::durable(self.record.offset)
    }

    /// When the hub took it, by the wall clock.
    pub(crate) fn time(&self) -> u64 {
        self.record.time()
    }

    /// Whether it carries what a repeated publication is known by.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.record.is_repeatable()
    }

    /// The whole entry; `None` when the record makes no sense though its checksum is right.
    pub(crate) fn to_entry(&self) -> Option<Arc<Entry>> {
        match self.shared {
            Some(entry) => Some(Arc::clone(entry)),
            None => self.record.to_entry(self.epoch, self.ids).map(Arc::new),
        }
    }
}

/// Looks at one item; `false` ends the scan behind it.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&Stored<'_>) -> bool;

/// Where entries are kept: in memory or on disk.
pub(crate) trait History: Send + Sync + std::fmt::Debug {
    /// Appends a batch, in order; on return it is as durable as this history promises. Called by
    /// the writer's thread only.
    fn append(&self, batch: &[Arc<Entry>]) -> Result<(), AppendError>;

    /// Visits what follows `after` up to `until`, as much as can be read in one go, and answers up
    /// to where everything was visited: always behind `after`. A gap that ends where it begins says
    /// that the history could not be read just now.
    fn scan(&self, after: Offset, until: Offset, visit: Visit<'_>) -> Result<Offset, Missed>;

    /// What is held.
    fn bounds(&self) -> Bounds;

    /// The place of the earliest entry with this publisher's id, and the log that it belongs to.
    fn find_id(&self, id: &str) -> Option<(Epoch, Offset)>;

    /// A place not far from the end, in bytes: behind it stands what was published last.
    fn recent(&self) -> Offset;

    /// Notes, before anybody is told of it, that the number of a durable entry is given away
    /// without one: no later run may hand it out again.
    fn skip_to(&self, number: u64) -> Result<(), AppendError>;

    /// Lets go of what need not be kept any more, and finds out whether what is kept still has its
    /// place; an error is as final as one of a sync.
    fn maintain(&self) -> Result<(), AppendError>;

    /// The process ends well: note it.
    fn close(&self);
}
