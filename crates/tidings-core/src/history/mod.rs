//! The append-only log. One writer appends; readers scan from a place, whatever they are: a
//! reconnect, a slow reader, a sink that was down, a restart.

pub(crate) mod memory;

use std::sync::Arc;

use crate::error::Missed;
use crate::update::{Entry, Offset};

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
    /// The storage failed and cannot be trusted any more in this process.
    Failed(String),
}

/// An item of the history as a scan meets it, decoded no further than asked for.
pub(crate) enum Stored<'s> {
    /// In memory.
    Shared(&'s Arc<Entry>),
}

impl Stored<'_> {
    pub(crate) fn is_private(&self) -> bool {
        match self {
            Stored::Shared(entry) => entry.update.private,
        }
    }

    /// Whether `pick` says yes to one of the topics, asked in order until it does.
    pub(crate) fn any_topic(&self, pick: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Stored::Shared(entry) => entry.update.topics.iter().any(|topic| pick(topic.as_str())),
        }
    }

    pub(crate) fn to_entry(&self) -> Arc<Entry> {
        match self {
            Stored::Shared(entry) => Arc::clone(entry),
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
    /// to where everything was visited: always behind `after`.
    fn scan(&self, after: Offset, until: Offset, visit: Visit<'_>) -> Result<Offset, Missed>;

    /// What is held.
    fn bounds(&self) -> Bounds;

    /// The place of the earliest entry with this publisher's id.
    fn find_id(&self, id: &str) -> Option<Offset>;

    /// Lets go of what need not be kept any more.
    fn maintain(&self);

    /// The process ends well: note it.
    fn close(&self);
}
