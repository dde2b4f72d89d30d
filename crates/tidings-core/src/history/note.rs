//! What a history tells the state beside it, so that the next start knows more than the segments
//! say.

/// What a history notes outside of its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// A segment with this base was begun.
    Begun(u64),
    /// A number was given away that no entry of the history has.
    Skipped(u64),
    /// The process ends well.
    Ended(CleanEnd),
}

/// How far the history had come when the process ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CleanEnd {
    /// The segment that was written.
    pub(crate) base: u64,
    /// Behind its last record.
    pub(crate) position: u32,
    /// Its last offset.
    pub(crate) last: u64,
    /// Milliseconds that the hub has been running, over all its lives.
    pub(crate) observed: u64,
}
