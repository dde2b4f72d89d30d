//! Every bound of the frontends, with its reason. A number that limits something stands here or in
//! a configuration default, never in the middle of a function.

/// Longest token in bytes. A token travels in a header or cookie, and common proxies cut those off
/// at 8 or 16 KiB; twice that leaves room and still costs less to refuse than to verify.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// Mercure authorization details in one token, as in the hubs that people migrate from.
pub const TOKEN_DETAILS_MAX: usize = 100;
/// Topics of all Mercure authorization details of one token together: each is a matcher that is
/// judged for every private update.
pub const TOKEN_TOPICS_MAX: usize = 100;
/// Selectors in `publish` or `subscribe` of a 0.x token, as in the hubs that people migrate from.
pub const CLAIM_SELECTORS_MAX: usize = 1_000;
/// Issuers that accept 0.x. Such a token need not name its issuer, so each costs every stranger's
/// token one signature check.
pub const DRAFT_ISSUERS_MAX: usize = 16;
/// Verified tokens that are remembered, in each of two halves.
pub const TOKENS_CACHED: usize = 8 * 1024;
/// Bytes of the tokens that are remembered, in each of two halves. Memory follows the tokens' size.
pub const TOKEN_BYTES_CACHED: usize = 8 * 1024 * 1024;
/// Largest key file in bytes: several times the PEM text of the largest RSA key.
pub const KEY_FILE_BYTES_MAX: usize = 64 * 1024;
/// Smallest RSA key in bits (RFC 7518 section 3.3).
pub const RSA_BITS_MIN: usize = 2_048;
