//! Every bound of the connectors, with its reason.

use std::time::Duration;

pub use crate::nats::limits::*;

/// Bytes of a system's answer that are kept. Enough for an error page; a hostile endpoint's endless
/// one costs no more.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a reason: a sentence, and room for a name in it.
pub const REASON_BYTES_MAX: usize = 512;
/// Bytes of a sink's name: it is part of keys, labels and paths.
pub const NAME_BYTES_MAX: usize = 64;

/// Entries that one sink holds at a time, delivered or waiting behind one that is not.
pub const WINDOW_ENTRIES_MAX: usize = 4_096;
/// Bytes of them.
pub const WINDOW_BYTES_MAX: usize = 1024 * 1024;
/// Both for a sink that takes many entries at a time, in runs: the next is there when one is
/// delivered.
pub const WINDOW_RUNS_MAX: usize = 4;
/// Bytes of live entries that wait for such a sink before it reads them from the history again.
pub const PENDING_RUNS_BYTES_MAX: usize = 8 * 1024 * 1024;
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

/// Failures of a system in a row after which it is left alone for a while.
pub const BREAKER_FAILURES: u32 = 5;
/// The first such while, which doubles.
pub const BREAKER_WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest: an endpoint that is back gets what waits within a minute.
pub const BREAKER_WAIT_MAX: Duration = Duration::from_secs(60);
/// The part of a rate at which is sent, so that lateness on the way cannot make up more than it.
pub const PACE_PART: f64 = 0.97;
/// How late a timer may be for the next one to make up for it.
pub const PACE_LATENESS: Duration = Duration::from_millis(10);
/// A sink with a rate sends nothing for so long: together with what a process that has just ended
/// sent, no second holds more than the rate.
pub const PACE_FIRST_WAIT: Duration = Duration::from_secs(1);
/// An entry whose next try is further away than this lets later ones of other keys go on: it and
/// those of its key are copied into the state.
pub const PARK_AFTER: Duration = Duration::from_millis(100);
/// Copies in the state that one sink may have.
pub const PARKED_ROWS_MAX: usize = 10_000;
/// Bytes of them.
pub const PARKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Dead letters of one sink; the sink waits when there are as many.
pub const DEAD_LETTERS_MAX: usize = 100_000;
/// Bytes of them.
pub const DEAD_LETTERS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How often a sink looks whether there is room for another dead letter.
pub const FULL_WAIT: Duration = Duration::from_secs(1);
/// Copies that are read back at a time.
pub const LOAD_ROWS_MAX: usize = 64;
/// Bytes of them (one more entry may exceed it).
pub const LOAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of entries that a sink is given at a time (one more entry may exceed it).
pub const RUN_BYTES_MAX: usize = 512 * 1024;
/// Entries that are known while a system is left alone: enough to ask by another one than the one
/// that failed.
pub const WINDOW_WHILE_OPEN_MAX: usize = 32;

/// How long what a sink delivered waits to be saved together with what others delivered.
pub const SAVE_EVERY: Duration = Duration::from_millis(100);
/// Acknowledged entries that are saved without waiting any longer.
pub const SAVE_ACKNOWLEDGED_MAX: usize = 1_000;
/// But not sooner behind the last commit: where a hundred thousand are acknowledged in a second,
/// the disk has more to do.
pub const SAVE_PAUSE: Duration = Duration::from_millis(10);
/// A position that moved over what is not for its sink is saved this often: a thousand quiet sinks
/// would keep the disk busy.
pub const SAVE_QUIET_EVERY: Duration = Duration::from_secs(5);
/// Bytes of one commit (one sink more may exceed it).
pub const SAVE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// When a commit is tried again that failed.
pub const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often the log says that commits fail.
pub const SAVE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Acknowledged entries of one sink that may be unsaved: as many are delivered again after a crash.
/// Of one that takes many at a time, [`WINDOW_RUNS_MAX`] runs.
pub const UNSAVED_MAX: usize = 2_000;

/// When a follow-up is published again for which the hub has no space.
pub const FOLLOW_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// When the history is read again that could not be read just now.
pub const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Sinks that read the history's disk at the same time: they share what one of them has read.
pub const READERS_MAX: usize = 4;
/// What people ask of one sink that it has not come to yet.
pub const COMMANDS_MAX: usize = 64;

/// Attempts that wait to be recorded. Beyond, they are dropped and counted: deliveries do not wait
/// for what only people look at.
pub const ATTEMPTS_QUEUE_MAX: usize = 16_384;
/// Attempts that are recorded between two looks at the queue.
pub const ATTEMPTS_AT_ONCE_MAX: usize = 256;
/// Bytes of one recorded attempt: the answer, the reason, and names around them.
pub const ATTEMPT_BYTES_MAX: usize = ANSWER_BYTES_MAX + REASON_BYTES_MAX + 4_096;
/// Size of a file of attempts in bytes. Whole files go when they are too old.
pub const ATTEMPTS_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Attempts of all sinks that are looked at for one page.
pub const ATTEMPTS_SCAN_MAX: u64 = 10_000;
/// Attempts on one page.
pub const ATTEMPTS_PAGE_MAX: usize = 100;
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
/// Time for one request of `tidings relay`: its destinations are allowed to be slow.
pub const RELAY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
// Webhooks: the way there.

/// How long a connection may take, from looking the name up to the end of the TLS handshake.
pub const WEBHOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all of an exchange may take, to the last byte of the answer.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that either can be set to: whoever hangs for so long holds a lane of its sink.
pub const WEBHOOK_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// How long what a name resolved to counts. Short enough for an endpoint that moves, and long
/// enough to cost nothing while one is busy.
pub const NAME_AGE_MAX: Duration = Duration::from_secs(30);
/// How long one look-up may take, waiting for its turn included.
pub const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Look-ups at a time in the whole process, of names that were answered quickly the last time or
/// were not asked for before: each blocks a thread until the system gives up.
pub const LOOK_UPS_MAX: usize = 192;
/// Look-ups at a time of the others, so that names whose servers never answer, however many there
/// are, hold up each other and nobody else.
pub const LOOK_UPS_SLOW_MAX: usize = 64;
/// What takes longer is slow: what a name server does not know itself takes it a second at most.
pub const LOOK_UP_SLOW: Duration = Duration::from_secs(2);
/// Addresses of a name that are remembered. The name's owner says how many there are.
pub const ADDRESSES_MAX: usize = 64;
/// Addresses that are tried for one connection: each gets a share of the time that is of use.
pub const ADDRESSES_TRIED_MAX: usize = 8;
/// How long a connection waits for its next request. Most servers wait longer, so that it is the
/// hub that closes and no request meets a closed connection.
pub const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer's head, and of what is read from a connection at a time. Twice what common
/// servers allow themselves.
pub const ANSWER_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that may come until the head of an answer is there: room for interim answers beside the
/// largest head and the begin of a body that is read with it. Thousands of the smallest, which cost
/// a millisecond; servers send one or two, or one now and then while they work.
pub const ANSWER_HEADS_BYTES_MAX: usize = 8 * ANSWER_HEAD_BYTES_MAX;
/// The longest wait that a system can ask for: far beyond every patience, and small enough to be
/// added to a time.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

// What a webhook is told, and the requests that are made of it.

/// Bytes of an endpoint's URL: more than servers take.
pub const URL_BYTES_MAX: usize = 8 * 1024;
/// Headers that a webhook is told to send: servers take about a hundred in all.
pub const HEADERS_MAX: usize = 32;
/// Bytes of the name of one.
pub const HEADER_NAME_BYTES_MAX: usize = 128;
/// Bytes of its value, of a user's name, a password or a bearer token: what servers take in a line.
pub const HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of the headers that an update fills, its topic and attributes. A server that takes even
/// this much is rare; who has more to say uses the structured form.
pub const FILLED_HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's body when a webhook does not say: the largest update, as it is.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Networks that a webhook may reach besides public ones.
pub const ALLOWED_NETWORKS_MAX: usize = 64;
/// Statuses that count as success, when a webhook names them.
pub const SUCCESS_STATUSES_MAX: usize = 32;
/// The longest that a webhook may wait for an answer: its place is taken for so long.
pub const EXCHANGE_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
/// Bytes of a file with root certificates: the whole bundle of an operating system is a quarter.
pub const ROOTS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How often a request is sent on to another place by 307 or 308, where that is followed at all.
pub const REDIRECTS_MAX: usize = 5;

/// Keys that sign a webhook at a time: each makes the header longer and costs a signature.
pub const SIGNING_KEYS_MAX: usize = 8;
/// Bytes of a shared signing key (Standard Webhooks 1.0, "Signature scheme").
pub const SHARED_KEY_BYTES_MIN: usize = 24;
/// The most of them.
pub const SHARED_KEY_BYTES_MAX: usize = 64;
/// How long a key still signs after a new one came, unless somebody says otherwise.
pub const KEY_OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest of that: a key that was replaced is not kept for ever.
pub const KEY_OVERLAP_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Characters of a CloudEvents attribute's name (CloudEvents 1.0, "Naming conventions").
pub const EXTENSION_NAME_BYTES_MAX: usize = 20;
/// The longest: a delivery holds its place in the order for so long.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
// What sources bring.

/// Messages of a source that wait for the hub. Beyond, the source stops reading.
pub const INCOMING_MAX: usize = 1_024;
/// Bytes of a source's messages that the hub has not taken yet; one larger message still fits.
pub const INCOMING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a source waits before it offers the hub again what there was no room for.
pub const INGEST_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long it does so when the source has ended: the hub wants to end as well.
pub const INGEST_PATIENCE_MAX: Duration = Duration::from_secs(5);
/// How often the log says that updates of a source were refused, at most.
pub const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(1);

/// How often is looked whether sinks have delivered all, before an end that keeps nothing.
pub const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(20);

// Endpoints made over the API.

/// Endpoints of one hub: each is a task with a place of its own in the history.
pub const ENDPOINTS_MAX: usize = 10_000;
/// How long an endpoint that is changed may take to end what is on its way. What is cut off then is
/// sent again, as it is changed; whoever changes it waits for no endpoint that hangs.
pub const CHANGE_PATIENCE: Duration = Duration::from_secs(1);
// Looking into it: dead letters, replays.

/// Copies that a sink may have before what is delivered again has to wait: half, so that what fails
/// for the first time can still be set aside.
pub const AGAIN_ROWS_MAX: usize = PARKED_ROWS_MAX / 2;
/// Bytes of them. More than the largest update, so that each gets its turn.
pub const AGAIN_BYTES_MAX: usize = PARKED_BYTES_MAX / 2;
/// How often what waits for that room looks whether there is some.
pub const AGAIN_WAIT: Duration = Duration::from_millis(100);
/// How long it waits for any while dead letters are delivered again, before it gives up: they stay
/// where they are.
pub const AGAIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long somebody waits for the answer while dead letters are delivered again; it goes on
/// behind that.
pub const REDRIVE_ANSWER_AFTER: Duration = Duration::from_secs(5);
/// Dead letters that are read from the state at a time: each may be as large as an update.
pub const LETTERS_AT_ONCE_MAX: usize = 8;
/// Dead letters that are handed to a sink at a time.
pub const LETTERS_HANDED_MAX: usize = 64;
/// Bytes of them (some more may exceed it).
pub const LETTERS_HANDED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Dead letters on one page.
pub const LETTERS_PAGE_MAX: usize = 1_000;
/// Bytes of a system's answer that a list shows. The attempt has the rest.
pub const LETTER_ANSWER_BYTES_MAX: usize = 1_024;
/// Dead letters that are named in one request.
pub const LETTERS_NAMED_MAX: usize = 10_000;

/// Replays of one sink that run at a time: each reads the history.
pub const REPLAYS_MAX: usize = 8;
/// Replays of one sink that are remembered.
pub const REPLAYS_KEPT_MAX: usize = 64;
/// Entries that one replay names.
pub const REPLAY_IDS_MAX: usize = 1_000;
/// Failed entries that one replay looks for.
pub const REPLAY_FAILED_MAX: usize = 100_000;
/// How often a replay looks whether its sink works again.
pub const REPLAY_DISABLED_WAIT: Duration = Duration::from_secs(1);

/// Bytes of attempts that wait to be recorded; further ones are recorded without their answers.
pub const ATTEMPTS_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Answers that a sink looks at before it sends what is next.
pub const LANDED_AT_ONCE_MAX: usize = 64;
/// How long a relay waits for the body of an answer whose head it has. Long enough for a server
/// that writes it right behind the head, whose connection is then used again.
pub const BODY_PATIENCE: Duration = Duration::from_millis(100);
/// Places of the history, from its end, in which a source that begins looks for what it brought
/// before. What a crash left without acknowledgement stands near the end. It takes a second.
pub const RECALLED_PLACES_MAX: u64 = 262_144;
/// Positions that it remembers of that.
pub const RECALLED_MAX: usize = 65_536;

// The space of all sinks together.

/// Bytes of copies and dead letters of all sinks together, when the configuration does not say. A
/// dozen sinks may be full at once; ten thousand would fill the disk.
pub const UNDELIVERED_BYTES_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;
/// Sinks whose rows are read at a time while all is counted.
pub const COUNTED_AT_ONCE_MAX: usize = 1_024;

// Sinks that do not run though they should.

/// How long a sink waits that failed by a mistake of the hub, or for want of the state, before it
/// is started again; doubled each time.
pub const START_AGAIN_FIRST: Duration = Duration::from_secs(1);
/// The longest, and how long it has to run for the next wait to be the first again.
pub const START_AGAIN_MAX: Duration = Duration::from_secs(5 * 60);
/// How often is looked whether the wait of one is over.
pub const START_AGAIN_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long an attempt waits to be recorded together with others.
pub const ATTEMPTS_GATHERED_FOR: Duration = Duration::from_millis(5);
