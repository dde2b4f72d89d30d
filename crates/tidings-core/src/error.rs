//! Every way in which the hub says no, and whose fault it is.

use std::path::Path;

use crate::topic::Topic;
use crate::update::{Flaw, Offset};

/// The hub refused an update. Nothing of it was stored or delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The publisher's fault: the update itself.
    #[error("{0}")]
    Flawed(#[from] Flaw),
    /// The publisher's fault: a topic that belongs to the hub.
    #[error("the topic {:?} is reserved for the hub", .0.as_str())]
    Reserved(Topic),
    /// The publisher's fault: a topic of an audience beside one of somebody else, or for everybody.
    #[error(
        "the topic {:?} belongs to an audience: an update of it has to be private, and all its \
         topics of that audience", .0.as_str()
    )]
    Audience(Topic),
    /// The publisher's fault: the grant does not cover this topic.
    #[error("the grant does not cover the topic {:?}", .0.as_str())]
    NotGranted(Topic),
    /// The publisher's fault: the grant has ended.
    #[error("the grant has expired")]
    Expired,
    /// The publisher's fault: the grant ended before its time, as when its token was revoked.
    #[error("the grant no longer stands")]
    Fallen,
    /// The publisher's fault: the idempotency key was used for another update before.
    #[error("the idempotency key was used for another update")]
    KeyReused,
    /// The operator's matter: no space for the history. Ends by itself when there is space.
    #[error("no space is left for the history")]
    NoSpace,
    /// The operator's matter: the history's storage failed; the hub must be restarted.
    #[error("the history cannot be written: {0}")]
    StorageFailed(String),
    /// The hub is shutting down.
    #[error("the hub is shutting down")]
    ShuttingDown,
}

/// The history no longer holds everything in a range: what was between is lost for this reader.
/// Not the end: the reader goes on behind the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the history no longer has what followed {after:?} up to {until:?}")]
pub struct Missed {
    /// The last place before the gap.
    pub after: Offset,
    /// The last place inside the gap.
    pub until: Offset,
}

pub(crate) fn io_error(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io { path: path.display().to_string(), source }
}

/// Why a history cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process: only one hub can use a data folder at a time")]
    InUse {
        /// The data folder.
        path: String,
    },
    /// Written by another version of the format.
    #[error("{path} has format version {found}, this program reads version {supported}")]
    UnknownFormat {
        /// The file.
        path: String,
        /// The version in the file.
        found: u32,
        /// The version that this program reads.
        supported: u32,
    },
    /// Not one of ours.
    #[error("{path} is not a Tidings history file")]
    Foreign {
        /// The file.
        path: String,
    },
    /// The operating system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The small state store could not be opened.
    #[error("{path}: {reason}")]
    State {
        /// The file.
        path: String,
        /// What it said.
        reason: String,
    },
}
