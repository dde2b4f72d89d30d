//! Bounds of API keys, of the tokens that they get, and of tickets, with their reasons.

use std::time::Duration;

use crate::limits::TOKEN_TOPICS_MAX;

/// API keys at one time, those that were revoked and are still listed among them: one for each
/// application of a large organization.
pub const API_KEYS_MAX: usize = 1_000;
/// Longest name of an API key in bytes, as of a sink.
pub const API_KEY_NAME_BYTES_MAX: usize = 64;
/// Topics of one API key: as many as a token may have, since its tokens have them all.
pub const API_KEY_TOPICS_MAX: usize = TOKEN_TOPICS_MAX;
/// Bytes of all topics of one API key: with them, a token stays well below the longest that is
/// read.
pub const API_KEY_TOPICS_BYTES_MAX: usize = 16 * 1024;
/// Longest lifetime in seconds of a token that an API key may get: who needs it for longer asks
/// again, and a year is no short-lived token any more.
pub const ISSUED_LIFETIME_LIMIT: u64 = 30 * 24 * 60 * 60;
/// The same unless the operator says otherwise: a day, as the hubs' older tokens for web clients.
pub const ISSUED_LIFETIME_MAX_DEFAULT: u64 = 24 * 60 * 60;
/// Lifetime in seconds of a token where nobody says how long.
pub const ISSUED_LIFETIME_DEFAULT: u64 = 60 * 60;
/// How often an API key may ask in a minute unless the operator says otherwise: ten visitors a
/// second.
pub const API_KEY_PER_MINUTE_DEFAULT: u32 = 600;
/// Wrong API keys of one address in a minute before it is told to wait. No key can be guessed: this
/// is for the log, and for programs with an old key that ask without a pause.
pub const FAILED_KEYS_PER_MINUTE: u32 = 60;
/// Addresses whose wrong keys are counted. A row has some hundred bytes.
pub const FAILING_ADDRESSES_MAX: usize = 10_000;
/// Bytes of a request for a token: a hundred topics of usual length.
pub const EXCHANGE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all such requests that are being read.
pub const EXCHANGE_BODIES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time for such a request: it comes from a server, in one piece.
pub const EXCHANGE_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest `sub` in bytes that may be asked for: what fits into the columns of usual databases.
pub const ISSUED_SUBJECT_BYTES_MAX: usize = 255;
/// Lifetime in seconds of a stream ticket unless it is asked for another one.
pub const TICKET_LIFETIME_DEFAULT: u64 = 30;
/// The most of that: a ticket stands in a URL, and is used at once.
pub const TICKET_LIFETIME_MAX: u64 = 60;
/// Tickets at one time: each has some kilobytes at most, usually a few hundred bytes.
pub const TICKETS_MAX: usize = 100_000;
/// Tickets of one token at one time: a browser with many tabs needs a few.
pub const TICKETS_EACH_MAX: usize = 100;
/// Tickets of one API key and of all tokens that were made for it at one time: thirty visitors a
/// second whose tickets nobody uses.
pub const TICKETS_OF_KEY_MAX: usize = 1_000;
/// Bytes of all tickets at one time, with what stands around each.
pub const TICKET_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same of one token.
pub const TICKET_BYTES_EACH_MAX: usize = 1024 * 1024;
/// The same of one API key with all its tokens: an eighth of all, so that one cannot have it all.
pub const TICKET_BYTES_OF_KEY_MAX: usize = 8 * 1024 * 1024;
/// What a ticket without matchers takes: its rows, its owners' names and what is kept of a token.
pub const TICKET_BYTES_BESIDE: usize = 1024;
/// What stands around the text of a matcher, of the ticket or of its token.
pub const TICKET_MATCHER_BYTES_BESIDE: usize = 64;
/// Secrets of the hub's own tokens that count at one time: a new one every few days.
pub const OWN_SECRETS_MAX: usize = 8;
