//! Every bound of the program around the hub, with its reason.

use std::time::Duration;

/// Longest configuration file in bytes: a thousand issuers fit; a wrong path to a log does not.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Longest file behind a `…_FILE` variable in bytes: a PEM key with its whole chain fits.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest `.env` file in bytes.
pub const DOTENV_BYTES_MAX: u64 = 256 * 1024;
/// Mistakes that one report names. Who has more repairs these first.
pub const MISTAKES_MAX: usize = 50;
/// Issuers of one configuration. A token of an older generation is tried against every issuer's
/// key, so their number is work that a stranger can ask for.
pub const ISSUERS_MAX: usize = 100;
/// Deepest nesting of blocks in directives of another hub; the deepest that exists is three.
pub const DIRECTIVE_DEPTH_MAX: usize = 8;

/// Shortest heartbeat: below this the hub would talk to idle connections all the time.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// Random bytes of the key that `tidings dev` makes for itself: as many as HS256 needs.
pub const DEV_KEY_BYTES: usize = 32;
/// How long the token in the banner of `tidings dev` lasts: a working week.
pub const DEV_TOKEN_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
