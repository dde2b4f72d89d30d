//! Every bound of the connectors, with its reason.

use std::time::Duration;

/// Bytes of a system's answer that are kept. Enough for an error page; a hostile endpoint's endless
/// one costs no more.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a reason: a sentence, and room for a name in it.
pub const REASON_BYTES_MAX: usize = 512;
/// Bytes of a sink's name: it is part of keys, labels and paths.
pub const NAME_BYTES_MAX: usize = 64;

/// Entries that one sink holds at a time, delivered or waiting behind one that is not.
pub const WINDOW_ENTRIES_MAX: usize = 1_024;
/// Bytes of them.
pub const WINDOW_BYTES_MAX: usize = 1024 * 1024;
/// Lanes of a sink with a key, when its specification does not say.
pub const CONCURRENCY_DEFAULT: usize = 32;
/// The most that a specification may say: each is a connection.
pub const CONCURRENCY_MAX: usize = 1_024;

/// The first wait before an entry is tried again.
pub const RETRY_FIRST_DEFAULT: Duration = Duration::from_secs(1);
/// The longest.
pub const RETRY_MAX_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// How long an entry is tried again, from when it was published.
pub const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How often an entry is offered to a system that does not want it.
pub const REJECTED_TRIES_MAX: u32 = 3;
