//! Every bound of the frontends, with its reason.

use std::time::Duration;

pub use crate::courier::limits::*;
pub use crate::tokens::limits::*;
pub use crate::websocket::limits::*;

// ---- HTTP: connections and requests ----

/// Connections in total unless the operator says otherwise: what one machine serves without being
/// tuned for more. Where fewer files may be open, the program lowers it to what is possible.
pub const CONNECTIONS_MAX_DEFAULT: usize = 100_000;
/// Connections of one client address (one /64 of IPv6) unless the operator says otherwise: an
/// office behind one address, not one machine that takes all the places.
pub const CONNECTIONS_PER_ADDRESS_DEFAULT: usize = 1_024;
/// Time for a request's head unless the operator says otherwise. It is also how long an idle
/// HTTP/1.1 connection is kept, so it must outlast the pauses of a publisher that reuses one.
pub const HEAD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Time that a shutdown takes unless the operator says otherwise: Docker kills after 10 seconds,
/// others later.
pub const SHUTDOWN_BUDGET_DEFAULT: Duration = Duration::from_secs(8);
/// Time after the last stream's end for answers that are still being written.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// Bytes of an HTTP/1.1 head, and of the buffer that a connection reads through. Longer lists of
/// matchers belong into the body of a QUERY request.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a request, as many as the usual servers accept.
pub const HEADERS_MAX: usize = 100;
/// Requests of one HTTP/2 connection at the same time: a page with many streams, or a proxy.
pub const HTTP2_STREAMS_MAX: u32 = 256;
/// Bytes that one HTTP/2 connection may send before they are read.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes that one HTTP/2 stream may send before they are read.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that wait for the window of one HTTP/2 stream: what a slow reader costs.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a body that an HTTP/2 stream is given at once. A client has to take one such piece
/// within the time that sockets may stay full: 2 KiB a second by default.
pub const HTTP2_PIECE_BYTES: usize = 64 * 1024;
/// Silence after which an HTTP/2 peer is asked whether it is still there.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the answer to that question.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a whole request body: 1 MiB takes this long at 280 kbit/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a body that has memory for which others wait.
pub const BODY_TIMEOUT_SHORT: Duration = Duration::from_secs(5);
/// How often it is looked at whether others wait for that.
pub const BODY_MEMORY_JUDGED_EVERY: Duration = Duration::from_secs(1);
/// Bytes of all publications' bodies that are being read or wait for a place in the hub's queue,
/// those aside that came with their heads ([`USUAL_REQUEST_BYTES_MAX`] each at most): many times
/// what a busy hub has under way, and little beside a machine's memory.
pub const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of all bodies of QUERY requests that are being read. Their own, because strangers may
/// send those and must not keep publishers waiting.
pub const QUERIES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Hops of `X-Forwarded-For` that are read from the right; no chain of proxies is longer.
pub const FORWARDED_HOPS_MAX: usize = 32;
/// Pause of the accept loop when descriptors or buffers have run out: long enough for a
/// connection to end, short enough that nobody takes the hub for dead.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections over the limit that are told so at the same time; further ones are just closed.
pub const REFUSALS_MAX: usize = 64;
/// Time that telling one of them takes at most.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Seconds after which a refused client may come back (`Retry-After`).
pub const REFUSAL_RETRY_SECONDS: u32 = 5;
/// Connections that the kernel keeps while the accept loop is busy: reconnect storms come at once.
pub const LISTEN_BACKLOG: u32 = 4_096;
/// Connections that are accepted before others get their turn: publishers stand behind them.
pub const ACCEPT_BURST: usize = 8;
/// A wait for that turn which tells that there is more to do than processors: an idle hub's is a
/// tenth of it.
pub const ACCEPT_TURN_LATE: Duration = Duration::from_micros(300);
/// How many times as long as that wait the others then have for themselves. Thousands who connect
/// at once are let in by the hundred, while a publisher waits a little longer than usual.
pub const ACCEPT_REST: u32 = 4;
/// How long ago somebody connected may have been answered for that to be done: nobody rests for
/// publishers that are not there.
pub const ACCEPT_WORK_RECENT: Duration = Duration::from_millis(500);
/// The longest of these rests: new clients wait no longer for a machine that stood still.
pub const ACCEPT_REST_MAX: Duration = Duration::from_millis(50);
/// Time that a client may leave its socket full unless the operator says otherwise: mobile networks
/// come back sooner.
pub const WRITE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Bytes that a client whose socket stays full must take within that time: ten times slower than
/// the slowest mobile networks, and too fast for somebody who only wants to hold a place.
pub const WRITE_PROGRESS_BYTES_MIN: usize = 16 * 1024;

/// Bytes of a request that is read in one piece without the help of a library: a head with a token,
/// and an update of a few kilobytes.
pub const USUAL_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a head that is kept to be known again: twice a usual one with a token. There is one for
/// each connection that publishes.
pub const FAMILIAR_HEAD_BYTES_MAX: usize = 4 * 1024;
/// Time for the body behind a usual head: many clients send the two in pieces that follow at once.
pub const USUAL_BODY_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of an answer that leave in one piece with its head.
pub const GATHERED_BODY_BYTES_MAX: usize = 16 * 1024;
/// Streams of one HTTP/2 connection that its client has reset before the hub got to them; one more
/// ends the connection. Who navigates away resets a few, who resets on purpose thousands.
pub const HTTP2_RESETS_PENDING_MAX: usize = 20;
/// Streams of one HTTP/2 connection that the hub resets for mistakes of its client; one more ends
/// the connection. No client that works makes so many.
pub const HTTP2_ERRORS_MAX: usize = 100;

// ---- TLS and what stands before it ----

/// Time for a TLS handshake: several round trips of a slow mobile network. The connection holds a
/// place meanwhile.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pairs of certificate and key from files: each name of a hub that has many.
pub const CERTIFICATES_MAX: usize = 100;
/// Certificates in one file: an own one and what leads to its root, with room to spare.
pub const CHAIN_CERTIFICATES_MAX: usize = 16;
/// Largest file of a certificate or key in bytes: a chain of large RSA certificates takes 10 KiB.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 256 * 1024;
/// How often files of certificates are looked at: renewals come days before the end.
pub const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Time before its end from which on a certificate is in the log every day: who renews
/// automatically has done so before, and others have two weeks.
pub const CERTIFICATE_WARNED_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Bytes behind the fixed part of a binary PROXY header: the addresses of Unix sockets take 216,
/// and what balancers add about TLS and their network a few hundred more.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a PROXY header that is a line, as its specification says.
pub const PROXY_LINE_BYTES_MAX: usize = 107;
/// Time for a PROXY header: the balancer sends it as soon as it is connected.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the log has the same hint about proxies.
pub const HINT_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Longest forwarded host and port that the log repeats: as long as names can be.
pub const FORWARDED_HOST_BYTES_MAX: usize = 260;

// ---- ACME ----

/// Names in one certificate, as the public servers allow.
pub const ACME_DOMAINS_MAX: usize = 100;
/// Orders that are begun within a day. The public servers count failures by the hour and the week,
/// and a name that does not validate at the tenth time needs a person.
pub const ACME_ATTEMPTS_PER_DAY_MAX: usize = 10;
/// Wait after the first failed order; the next ones wait four times as long each.
pub const ACME_RETRY_FIRST: Duration = Duration::from_secs(60);
/// Longest wait after failed orders.
pub const ACME_RETRY_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// Longest wait that an ACME server can ask for: the longest span over which public ones count.
pub const ACME_RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How far a clock is set back in ordinary life. What was noted at a time further ahead than this
/// was noted by a clock that was wrong, and holds up no order.
pub const ACME_CLOCK_STEP_MAX: Duration = Duration::from_secs(60 * 60);
/// Time for one answer of an ACME server.
pub const ACME_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time until an ACME server has validated names, or made a certificate.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for an order from its beginning to its end.
pub const ACME_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Bytes of an answer of an ACME server: a chain of certificates is the longest.
pub const ACME_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long the hub sleeps at most before it looks at the clock again, which may jump.
pub const ACME_LOOK_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Characters of an ACME server's explanation that the log repeats.
pub const ACME_DETAIL_CHARS_MAX: usize = 300;

// ---- Tokens ----

/// Longest token in bytes. A token travels in a header or cookie, and common proxies cut those off
/// at 8 or 16 KiB; twice that leaves room and still costs less to refuse than to verify.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// Characters of what was found, and of what would pass, that the log repeats for each check that
/// a token fails: a URL or a list of two. There are nine checks at most.
pub const FINDING_CHARS_MAX: usize = 160;
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
/// Tokens that are known without a hash: a few services publish nearly everything.
pub const RECENT_TOKENS: usize = 32;
/// Verified tokens that are remembered, in each of two halves.
pub const TOKENS_CACHED: usize = 8 * 1024;
/// Bytes of the tokens that are remembered, in each of two halves. Memory follows the tokens' size.
pub const TOKEN_BYTES_CACHED: usize = 8 * 1024 * 1024;
/// Largest key file in bytes: several times the PEM text of the largest RSA key.
pub const KEY_FILE_BYTES_MAX: usize = 64 * 1024;
/// Bytes from which on the path of a key is not shown: paths are shorter, pasted keys often not.
pub const PATH_SHOWN_BYTES_MAX: usize = 256;
/// Smallest RSA key in bits (RFC 7518 section 3.3).
pub const RSA_BITS_MIN: usize = 2_048;
/// Largest RSA key in bits: larger ones take a stranger's token milliseconds to check.
pub const RSA_BITS_MAX: usize = 8_192;
/// Largest key set in bytes: room for certificate chains beside a thousand keys.
pub const KEY_SET_BYTES_MAX: usize = 1024 * 1024;
/// Keys of a set that are used. Issuers publish two or three; a token that names none of them may
/// be tried against each.
pub const KEY_SET_KEYS_MAX: usize = 64;
/// Longest name of a key in bytes, as of an id.
pub const KID_BYTES_MAX: usize = 1_024;
/// How long a request waits for a key set that is being read, because its token's key may be in
/// it: shorter than clients wait for an answer.
pub const KEY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Revocations at one time. Each costs a little memory and a row; who needs more has lost a key,
/// and revokes that.
pub const REVOCATIONS_MAX: usize = 10_000;
/// Longest token id, subject, key name or issuer that can be revoked, in bytes.
pub const REVOKED_BYTES_MAX: usize = 1_024;

// ---- Mercure ----

/// Bytes of a QUERY request's body: as much as fits into a request's head, without the limits of
/// proxies on the way. Anybody may send one, so it is much smaller than an update.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Fields of one form or query: room for every topic that may be published and as many fields
/// that mean nothing here.
pub const FORM_FIELDS_MAX: usize = 2 * tidings_core::limits::TOPICS_MAX;
/// Topics of one published update.
pub const PUBLISH_TOPICS_MAX: usize = tidings_core::limits::TOPICS_MAX;
/// Matchers of one subscription in protocol 1.0.
pub const MATCHERS_MAX: usize = tidings_core::limits::MATCHERS_MAX;
/// `topic` parameters of one subscription in protocol 0.x, as in its hubs.
pub const DRAFT_TOPICS_MAX: usize = 1_000;
/// Name of the cookie with a token unless the operator says otherwise: what the protocol
/// recommends. Browsers set it over https only.
pub const COOKIE_DEFAULT: &str = "__Secure-mercure_access_token";
/// Bytes of an origin that a log line carries: longer than the longest host name.
pub(crate) const ORIGIN_SHOWN_BYTES_MAX: usize = 300;
/// Shortest `authorization` parameter that hubs of 0.x take for a token.
pub const DRAFT_TOKEN_BYTES_MIN: usize = 41;
/// Shortest `Authorization` header that hubs of 0.x take for one with a token.
pub const DRAFT_HEADER_BYTES_MIN: usize = DRAFT_TOKEN_BYTES_MIN + "Bearer ".len();
/// Longest `Idempotency-Key` in bytes: several times a UUID.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// How long a publisher waits for a place in the hub's queue before it is asked to come back:
/// shorter than the time-outs of the usual HTTP clients, so that they hear why.
pub const PUBLISH_ROOM_WAIT_MAX: Duration = Duration::from_secs(5);
/// Seconds after which such a publisher may come back (`Retry-After`).
pub const PUBLISH_RETRY_SECONDS: u32 = 5;
/// Bytes of a form for each byte of an update's data: percent-encoding triples all that is not a
/// plain letter, and topics, id and type come on top.
pub const FORM_BYTES_EACH: usize = 4;
/// Bytes of a form beside those: topics and names of fields of an update without much data.
pub const FORM_BYTES_BESIDE: usize = 64 * 1024;
/// Bytes of a form unless the operator says otherwise.
pub const FORM_BYTES_DEFAULT: usize = form_bytes(tidings_core::limits::UPDATE_BYTES_DEFAULT);
/// Silence on a stream after which a comment is sent unless the operator says otherwise: many
/// proxies and mobile networks forget a silent connection after 30 seconds.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
/// How long a stream lives unless the operator says otherwise: a change of who may read, or of
/// which machine serves, reaches everybody within this time.
pub const STREAM_LIFETIME_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// How often a stream with a token looks at the wall clock, which may jump.
pub const EXPIRY_JUDGED_EVERY: Duration = Duration::from_secs(30);
/// Threads that read the history for streams, as long as there are processors for them: more would
/// only take time from those who write.
pub const CATCH_UP_READERS: usize = 4;
/// Turns of reading that a shard waits for at a time. Each brings as much as one write carries.
pub const READS_AT_ONCE: usize = 16;
/// Threads that look up where streams begin. Their own, because a client waits for its answer's
/// head meanwhile; a look-up is much shorter than a turn of reading.
pub const CURSOR_READERS: usize = 2;
/// How little those threads matter (`nice`): next to nothing while a thread that publishes wants
/// the same processor.
pub const READERS_NICENESS: i32 = 19;
/// How long one stream reads before others get their turn.
pub const CATCH_UP_TURN: Duration = Duration::from_millis(1);
/// Bytes that one turn hands to a socket: what waits for a slow reader is bounded by this, and so
/// is the time that one write keeps a thread from others.
pub const CATCH_UP_FRAME_BYTES: usize = 32 * 1024;

// ---- Shards ----

/// Steps in which a shard's times pass: silence is broken and streams end no later than this after
/// their moment.
pub const WHEEL_TICK: Duration = Duration::from_millis(10);
/// Steps of one turn of the wheel: twenty seconds, longer than the usual silence.
pub const WHEEL_SLOTS: usize = 2_048;
/// Receivers that are so few that a shard's thread is not woken for them.
pub const LIGHT_TURN_MAX: usize = 32;
/// Turns in a row with so few before that is so: where there are many now and then, all is for the
/// thread.
pub const LIGHT_TURNS_MIN: u32 = 16;
/// Times that something is done for them without the thread before it has its turn: what has no end
/// is not for a task among others.
pub const HELPS_AT_ONCE: usize = 4;
/// The longest time that whoever helps a shard leaves to others, once it has been called, before
/// the thread is woken instead.
pub const HELP_LATE_MAX: Duration = Duration::from_millis(1);
/// Sockets that a shard hears of at a time.
pub const EVENTS_AT_ONCE: usize = 1_024;
/// Which part of the time that writing takes a shard first waits for more to write: thousands of
/// writes that are saved, for an eighth of the time in which they are made.
pub const GATHER_SHARE: u32 = 8;
/// The longest of these waits.
pub const GATHER_MAX: Duration = Duration::from_millis(1);
/// Turns that a shard begins at once, at most, after waits that brought nothing: as soon as several
/// publish at a time it waits again.
pub const GATHERS_SKIPPED_MAX: u32 = 15;
/// A wait shorter than this is not worth going to sleep for.
pub const GATHER_MIN: Duration = Duration::from_micros(50);
/// Bytes of a shard's room for what clients say that counts for nothing.
pub const SCRATCH_BYTES: usize = 16 * 1024;
/// Bytes that a client may say at a time behind a request that is answered by a stream.
pub const IGNORED_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are encrypted before the socket has taken them: one record of TLS.
pub const ENCRYPT_BYTES: usize = 16 * 1024;
/// Bytes that wait for the task of a connection with many streams, for each stream.
pub const HANDOFF_BYTES: usize = 16 * 1024;
/// Bytes that an audience remembers of what it was given last, while somebody in it is behind:
/// what comes during one turn of reading.
pub const RECENT_BYTES: usize = 32 * 1024;

// ---- Presence ----

/// A subscriber that leaves within this time was never there for others: a page that reloads.
pub const PRESENCE_CANCEL_WINDOW: Duration = Duration::from_millis(100);
/// Time between two rounds of announcements: watchers are woken no more often. Five thousand
/// subscriptions a second are announced, and what that makes to write comes evenly.
pub const PRESENCE_PACE: Duration = Duration::from_millis(50);
/// Bytes of one round of announcements, of which one may be larger alone: what the hub remembers
/// lasts for more than a second however large payloads are, so that watchers can keep up.
pub const PRESENCE_ROUND_BYTES: usize = 128 * 1024;
/// Ends that wait to be announced beyond which lists show only who was announced: as many single
/// subscriptions are announced in about three seconds.
pub const PRESENCE_ENDED_MAX: usize = 16 * 1024;
/// Bytes of one piece of a list, which one subscription may exceed: what a reader that is slow
/// keeps in memory.
pub const PRESENCE_PIECE_BYTES: usize = 64 * 1024;
/// Time after which an announcement is tried again that could not be made.
pub const PRESENCE_RETRY: Duration = Duration::from_secs(1);
/// Connections of one page of a list: less than a millisecond under the lock that joining takes.
pub const PRESENCE_PAGE: usize = 256;
/// Room in the tables of who is there that is not worth giving back.
pub const PRESENCE_PENDING_SWEEP: usize = 1_024;

/// Patterns without literal text at begin and end that one receiver may have which shows no token:
/// a page has one or two, and somebody who wants to keep others out needs many connections.
pub const BARE_PATTERNS_OF_ONE_STRANGER: usize = 10;

/// Bytes of the largest form that is read where updates have so many bytes of data at most.
pub const fn form_bytes(update_bytes: usize) -> usize {
    update_bytes.saturating_mul(FORM_BYTES_EACH).saturating_add(FORM_BYTES_BESIDE)
}

/// Bytes of a path's segment that a log line carries: longer ones are more likely tokens.
pub(crate) const SEGMENT_BYTES_SHOWN_MAX: usize = 64;
/// Bytes of a segment in three parts that a log line carries: names of files like `page.min.js`
/// are shorter, and the head alone of a token is not.
pub(crate) const DOTTED_BYTES_SHOWN_MAX: usize = 24;
/// Bytes of a method that a log line carries: the longest registered ones, `UPDATEREDIRECTREF`
/// aside. A method can be any text, so a token as well.
pub(crate) const METHOD_BYTES_SHOWN_MAX: usize = 16;
/// Bytes of a target that a log line carries: long lists of topics say nothing at the end.
pub(crate) const TARGET_BYTES_MAX: usize = 256;
/// An event of this size leaves in a piece of its own, shared by all who get it: to copy it for
/// each would cost a slow reader's share of memory many times over.
pub(crate) const PIECE_BYTES: usize = 16 * 1024;
/// Bytes of an unknown field's name that its sender is shown: enough to find it.
pub(crate) const FIELD_NAME_BYTES_SHOWN_MAX: usize = 64;
