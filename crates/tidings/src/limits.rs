//! Every bound of the program around the hub, with its reason.

use std::time::Duration;

/// Longest configuration file in bytes: a thousand issuers fit; a wrong path to a log does not.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Longest `.env` file in bytes.
pub const DOTENV_BYTES_MAX: u64 = 256 * 1024;
/// Mistakes that one report names. Who has more repairs these first.
pub const MISTAKES_MAX: usize = 50;
/// Characters of a value that a report repeats. What is longer may be a secret in the wrong place.
pub const VALUE_SHOWN_CHARS_MAX: usize = 40;
/// Issuers of one configuration. A token of an older generation is tried against every issuer's
/// key, so their number is work that a stranger can ask for.
pub const ISSUERS_MAX: usize = 100;
/// Largest limit of connections that can be set: more than a machine has memory for.
pub const CONNECTIONS_SETTING_MAX: i64 = 10_000_000;
/// Messages of one socket in a second that can be set: as good as no bound.
pub const SOCKET_RATE_SETTING_MAX: i64 = 1_000_000;
/// Largest message of a socket in bytes that can be set: the largest update, however it is escaped.
pub const SOCKET_MESSAGE_SETTING_MAX: u64 = 128 * 1024 * 1024;
/// Deepest nesting of blocks in directives of another hub; the deepest that exists is three.
pub const DIRECTIVE_DEPTH_MAX: usize = 8;

/// Shortest heartbeat: below this the hub would talk to idle connections all the time.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// Random bytes of the key that `tidings dev` makes for itself: as many as HS256 needs.
pub const DEV_KEY_BYTES: usize = 32;
/// How long the token in the banner of `tidings dev` lasts: a working week.
pub const DEV_TOKEN_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Time for a hub to answer a new connection of `tidings publish` and `tidings subscribe`.
pub const CLIENT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole publication: longer than a hub lets a publisher wait for its queue.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that `tidings publish` reads from standard input: no hub takes more.
pub const PUBLISH_DATA_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of an event that `tidings subscribe` reads: the largest update with room for its framing.
pub const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a refusal's text that are shown.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Wait before a subscriber comes back when the hub has not said how long, as browsers do it.
pub const RECONNECT_DEFAULT: Duration = Duration::from_secs(3);
/// Longest wait that repeated failures lead to.
pub const RECONNECT_MAX: Duration = Duration::from_secs(60);
/// Time for the answer to a health check; supervisors ask every few seconds.
pub const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Descriptors that connections of clients leave to everything else: the files of the history and
/// its readers, the admin listener, connections that are being refused.
pub const DESCRIPTORS_RESERVED: usize = 256;
/// Connections of the admin listener: a scraper, a supervisor and some people.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Shortest admin token in bytes: what can be guessed must not revoke.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 16;
/// Bytes of a request's body on the admin listener: a revocation with the longest names.
pub const ADMIN_BODY_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a request that makes or changes a sink: the longest lists of topics and headers.
pub const SINK_BODY_BYTES_MAX: usize = 256 * 1024;
/// Bytes of all bodies on the admin listener at one time.
pub const ADMIN_BODIES_BYTES_MAX: usize = 1024 * 1024;
/// Time for such a body: it comes from a command on the same machine or network.
pub const ADMIN_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer to a command that asks the admin listener: a trial of a sink takes as long as
/// its system does.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer to such a command: as many revocations as there may be, each with names of
/// usual length.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Time for reading a key set or an issuer's metadata together, from the connection to the end of
/// the body.
pub const KEY_SET_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an issuer's metadata: the longest that are published have some ten thousand.
pub const METADATA_BYTES_MAX: usize = 256 * 1024;
/// Shortest time between two reads of a key set that tokens ask for. Whoever sends tokens with
/// names of keys that do not exist costs the issuer one request in this time.
pub const KEY_SET_REST: Duration = Duration::from_secs(5);
/// How long a key set is used before it is read again, where its issuer does not say.
pub const KEY_SET_AGE_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// The least of that, whatever the issuer says.
pub const KEY_SET_AGE_MIN: Duration = Duration::from_secs(60);
/// The most of that: a key that was withdrawn is refused within an hour.
pub const KEY_SET_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// Pause after a key set could not be read; doubled each time.
pub const KEY_SET_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest such pause.
pub const KEY_SET_RETRY_MAX: Duration = Duration::from_secs(60);
/// Time for reads of the history that are still going on when the program has ended otherwise.
pub const BLOCKING_END_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for what sinks tried to be recorded when the program ends. They are for looking into only.
pub const ATTEMPTS_END_TIMEOUT: Duration = Duration::from_millis(500);

/// Polls after which a busy thread of the runtime looks at its sockets again. Fewer would part
/// requests that come together, which are cheaper to answer, and whose updates are cheaper to
/// deliver, when that is done for all of them; behind more of the runtime's own 61 a request waits
/// longer, where connections of HTTP/2 write for many streams at a poll.
pub(crate) const POLLS_BEFORE_SOCKETS: u32 = 31;

/// Sinks on one page of the admin listener.
pub const SINKS_PAGE_MAX: usize = 1_000;
/// Sinks of the configuration that have metrics of their own: each has a dozen.
pub const SINKS_COUNTED_MAX: usize = 1_000;
/// Bytes of a system's answer that the admin listener shows: enough for what an error page says.
pub const ANSWER_SHOWN_BYTES_MAX: usize = 4 * 1024;

/// Rows of an older database that are brought at a time: as many as share a sync. After an
/// interruption as many are looked up again.
pub const IMPORT_PORTION: usize = tidings_core::limits::PUBLISHED_AT_ONCE_MAX;
/// Bytes of messages beyond which a portion is brought: as many as share a sync.
pub const IMPORT_PORTION_BYTES: usize = tidings_core::limits::PUBLISHED_AT_ONCE_BYTES_MAX;
/// Rows that were left out and are named: enough to see what is wrong with all of them.
pub const IMPORT_PROBLEMS_SHOWN_MAX: usize = 20;
/// Bytes of one file of a history that is brought: as of any hub.
pub(crate) const IMPORT_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
