//! Counters of the hub. Names, units and export are the program's business.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the hub counts since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Updates accepted.
    pub published: AtomicU64,
    /// Updates answered with the receipt of an earlier one.
    pub repeated: AtomicU64,
    /// Updates refused, whatever the reason.
    pub refused: AtomicU64,
    /// Batches committed to the history.
    pub batches: AtomicU64,
    /// Entries handed to receivers' lists by the fan-out.
    pub fanned_out: AtomicU64,
    /// Times that a receiver was too slow and was sent back to the history.
    pub overflows: AtomicU64,
    /// Gaps told to receivers.
    pub missed: AtomicU64,
    /// Receivers now.
    pub subscribers: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Adds a number.
pub(crate) fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
}
