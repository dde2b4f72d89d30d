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

// What specifications may hold.

/// Texts, numbers and tables of one list in an option. A sink for more topics than that is for a
/// pattern.
pub const OPTION_LIST_MAX: usize = 256;
/// Bytes of one text in an option. Keys and tokens are far shorter; what is longer is a file.
pub const OPTION_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Characters of a value or name that a mistake repeats. What is longer may be a secret in the
/// wrong place.
pub const OPTION_SHOWN_CHARS_MAX: usize = 40;
/// The longest time that any option takes: nobody waits longer, and sums of such stay exact.
pub const OPTION_SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The shortest first wait before another try. Below it, a failing system would be asked without
/// a pause.
pub const RETRY_FIRST_MIN: Duration = Duration::from_millis(10);
/// The shortest time limit of an exchange: below it, nothing is ever delivered.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// The longest: a delivery holds its place in the order for so long.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
/// Time for one request of `tidings relay`: its destinations are allowed to be slow.
pub const RELAY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
