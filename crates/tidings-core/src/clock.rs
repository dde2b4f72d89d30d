//! What time it is, as told from outside: the hub never asks the operating system.

use std::time::Duration;

/// The two times that the hub needs.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01 by the wall clock. May jump in both directions.
    fn wall(&self) -> u64;
    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;
}
