//! What a hub is told when it is opened. Knows no file format: the program fills these in.

use std::path::PathBuf;
use std::time::Duration;

use crate::namespace::Namespace;

/// How safe an acknowledged update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk: survives a loss of power.
    Fsync,
    /// With the operating system: survives the end of the process, not a loss of power.
    Written,
    /// In the process only.
    Memory,
}

/// How much history is kept. Whatever exceeds one of these is let go, in whole segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// Entries older than this, by the time that the hub was running.
    pub age: Option<Duration>,
    /// Size in bytes.
    pub bytes: Option<u64>,
    /// At least so many of the newest entries stay.
    pub entries: Option<u64>,
}

/// Where and how the history is kept.
#[derive(Debug, Clone)]
pub struct HistoryOptions {
    /// The data folder. Without one everything lives in memory, whatever `durability` says.
    pub path: Option<PathBuf>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// What is kept.
    pub keep: Keep,
    /// How much larger, in bytes, the history may become for those who still need it
    /// ([`crate::Hub::hold_history`]): than `keep.bytes`, or without that than what would be kept.
    pub hold_bytes: u64,
    /// Size of a segment file in bytes, within the bounds of `limits`.
    pub segment_bytes: u64,
}

/// What a hub needs to know.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Its own URL.
    pub namespace: Namespace,
    /// The largest update (data and attributes) in bytes.
    pub update_bytes_max: usize,
    /// The history.
    pub history: HistoryOptions,
}
