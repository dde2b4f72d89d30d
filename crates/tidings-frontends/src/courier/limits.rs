//! Bounds of Courier, with their reasons.

use std::time::Duration;

/// Audiences at one time, each a customer of the application: all are known by name in memory, a
/// few hundred bytes each.
pub const AUDIENCES_MAX: usize = 100_000;
/// Characters of an audience's name and of a topic that is noted down: the columns of the database
/// that held them before have no more.
pub const AUDIENCE_TEXT_CHARACTERS_MAX: usize = 255;
/// Topics that one audience notes down: all are listed in one answer.
pub const AUDIENCE_TOPICS_MAX: usize = 10_000;
/// Subscriptions of one connection. Nobody is told that there are too many, so it is the most that
/// any socket may have.
pub const COURIER_SUBSCRIPTIONS_MAX: usize = crate::limits::SOCKET_SUBSCRIPTIONS_MAX;
/// How long a signed URL opens connections unless the operator says otherwise: a page opens it at
/// once, and whoever finds it in a log comes too late.
pub const SIGN_LIFETIME_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Bytes of a request's body beside those of an update: the topic, the names of the fields and what
/// escapes take.
pub const COURIER_BODY_BYTES_BESIDE: usize = 64 * 1024;
/// Bytes of all bodies that are being read: as many as publishers of other protocols have.
pub const COURIER_BODIES_BYTES_MAX: usize = crate::limits::BODIES_BYTES_MAX;
/// Bytes of all lists of topics that clients have not taken yet: the longest of one audience, and
/// many usual ones beside it.
pub const COURIER_LISTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a list waits for others before it.
pub const COURIER_LIST_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of a secret below which signatures can be guessed (RFC 7518 section 3.2). Such a secret is
/// used all the same, and said to be short.
pub const COURIER_SECRET_BYTES_USUAL: usize = 32;
