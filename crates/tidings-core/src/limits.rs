//! Every bound of the hub, with its reason. A number that limits something stands here or in a
//! configuration default, never in the middle of a function.

/// Longest topic in bytes; matchers are as long at most. Long enough for any IRI in use.
pub const TOPIC_BYTES_MAX: usize = 4 * 1024;
/// Longest id, event type, content type, idempotency key or attribute in bytes.
pub const FIELD_BYTES_MAX: usize = 1024;
/// Topics of one update: as many as the hubs that people migrate from accept.
pub const TOPICS_MAX: usize = 1_000;
/// Attributes of one update: MQTT and NATS headers are rarely more than a dozen.
pub const ATTRIBUTES_MAX: usize = 64;
/// Data of one update in bytes unless the operator says otherwise.
pub const UPDATE_BYTES_DEFAULT: usize = 1024 * 1024;
/// Largest record that the format on disk carries, in bytes. No configuration goes beyond.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Hops through connectors after which an update is taken for a loop.
pub const HOPS_MAX: u8 = 8;

/// Bytes that may wait for the writer, twice the largest record so that one always fits. More
/// publishers than this wait for room.
pub const QUEUE_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;
/// Weight in bytes that one permit of the queue stands for; every update takes one at least.
pub const QUEUE_PERMIT_BYTES: usize = 1024;
/// Updates that may wait for the writer: as many as there are permits.
pub const QUEUE_UPDATES_MAX: usize = QUEUE_BYTES_MAX / QUEUE_PERMIT_BYTES;
/// Updates that one sync covers at most, so that nobody waits for an endless batch.
pub const BATCH_UPDATES_MAX: usize = 4 * 1024;
/// Bytes that one sync covers at most. A batch may exceed both by what is published together.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of committed entries that may wait for the fan-out. The writer never waits for it: beyond,
/// everybody reads the history again.
pub const FAN_OUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Committed batches that may wait for the fan-out, with the same consequence.
pub const FAN_OUT_BATCHES_MAX: usize = 4 * 1024;

/// Live entries that wait for one receiver: what one fan-out brings, at most. Who has more waiting
/// reads the history again.
pub const PENDING_ENTRIES_MAX: usize = 2 * BATCH_UPDATES_MAX;
/// Who may hold back many bytes may hold back an entry for each so many of them.
pub const PENDING_ENTRY_BYTES: usize = 256;
/// Bytes of live entries that one receiver may hold back before it reads the history again. What
/// several receivers wait for is charged to each in equal parts.
pub const PENDING_BYTES_MAX: usize = 64 * 1024;
/// The same where many receivers stand behind one subscription: as much as arrives while their
/// owner writes to ten thousand sockets.
pub const PENDING_BYTES_OF_MANY_MAX: usize = 512 * 1024;
/// What a waiting run costs beside its entries, in bytes, rounded up.
pub const RUN_BYTES: usize = 64;

/// Entries that one `take` hands out at most, so that one receiver cannot keep a thread.
pub const TAKE_ENTRIES_MAX: usize = 512;
/// Bytes that one `take` hands out at most (a take may exceed it by one entry).
pub const TAKE_BYTES_MAX: usize = 64 * 1024;

/// What matchers picked in a round, in picks of 8 bytes, for which memory is kept for the next one.
pub const PICKS_KEPT_MAX: usize = 128 * 1024;
/// Bytes of a chunk of the history in memory: few are at hand for much, and what is let go of comes
/// in pieces that are small beside what is kept.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of the history in memory that a reader copies at a time: about what one `take` hands out.
pub const MEMORY_BLOCK_BYTES: usize = TAKE_BYTES_MAX;
/// Bytes of data from which on an entry that is kept in memory is one for all who read it: what a
/// slow reader has not taken would else be a copy of its own.
pub const SHARED_DATA_BYTES: usize = 16 * 1024;
/// Bytes of a block: the unit in which the history is read, checked and shared between readers.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Bytes behind the last record that are written with zeros at a time: enough that few syncs wait
/// for the file system's journal, and that one that does hardly takes longer.
pub const WRITTEN_AHEAD_BYTES: u64 = 1024 * 1024;
/// Bytes of history that readers share at one time.
pub const BLOCKS_CACHED_BYTES: usize = 64 * 1024 * 1024;
/// Smallest and largest size of a segment file in bytes. The largest bounds recovery after a crash.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the newest history that a start looks through for idempotency keys.
pub const RECENT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Idempotency keys that are remembered; the oldest is forgotten first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 65_536;
/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_AGE: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// A fan-out that takes less is not worth another thread: whoever publishes next hardly waits.
pub const LIGHT_FAN_OUT_MAX: std::time::Duration = std::time::Duration::from_micros(30);
/// A fan-out to more lists than this is never taken for one.
pub const LIGHT_FAN_OUT_LISTS_MAX: usize = 64;
/// Rounds in a row that took longer before the thread does them: one may have been interrupted.
pub const HEAVY_FAN_OUTS: usize = 3;

/// The longest time that publishers and receivers wait for the task that tells them what the disk
/// has, before the writer's thread does.
pub const TELLING_LATE_MAX: std::time::Duration = std::time::Duration::from_millis(10);

/// Matchers of one subscriber, as in the hubs that people migrate from.
pub const MATCHERS_MAX: usize = 100;
/// Steps, of less than a nanosecond each, that one update may take for patterns which name a host,
/// as many again for those which name none, and for those that cost most. What is not found out by
/// then does not match: one update cannot hold up those behind it.
pub const MATCH_STEPS_MAX: u64 = 20_000_000;
/// Different patterns without literal text at begin and end that subscribers may bring to one hub,
/// such as `{scheme}://{+host}/{id}`: each update asks every one of them. The operator's own, in
/// grants, are not refused. A thousand cost an update with one topic a tenth of a millisecond.
pub const BARE_PATTERNS_MAX: usize = 1_000;
/// Of these, when they are so many strangers bring no others: who shows a token has a place that
/// nobody takes away who shows none.
pub const BARE_PATTERNS_OF_STRANGERS: usize = BARE_PATTERNS_MAX / 2;
/// What the authors of one pattern's regular expressions may write, in bytes: a list of fifty
/// words. Reading it costs less than a millisecond.
pub const EXPRESSION_BYTES_MAX: usize = 512;
/// Different properties of Unicode in one regular expression: each has to be looked up in tables.
pub const PROPERTIES_MAX: usize = 8;
/// Table of one regular expression in bytes: room for what people write (a UUID, a list of words).
/// Making it costs about a millisecond, looking into it the same for every byte.
pub const EXPRESSION_TABLE_BYTES_MAX: usize = 32 * 1024;
/// Bytes of working memory for making a table; beyond, there is none.
pub const EXPRESSION_TABLE_WORK_BYTES_MAX: usize = 64 * 1024;
/// States of a regular expression that is too large for a table: as many as its author can write
/// without counts. Each may cost time for every byte of a topic.
pub const EXPRESSION_STATES_MAX: usize = 600;
/// Steps for one byte of a topic beyond which a pattern is asked after all others, on a budget of
/// such patterns. Ten times what a pattern with a handful of wildcards takes.
pub const COSTLY_STEPS_PER_BYTE: usize = 32;
/// Compiled size of one pattern's regular expressions in bytes; a larger one is refused. Bounds
/// their working memory as well.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 64 * 1024;
/// Variables and groups in one pattern: each costs memory and time for every candidate topic.
pub const PATTERN_PARTS_MAX: usize = 64;

/// What the hub itself announces at a time. Publishers stand behind it in the writer's queue.
pub const ANNOUNCED_AT_ONCE_MAX: usize = 256;
/// Ephemeral updates that are remembered, of publishers and of the hub each: what happens while a
/// receiver reads a list and then subscribes behind it, or reconnects.
pub const EPHEMERALS_KEPT_MAX: usize = 4 * 1024;
/// Bytes of them, of publishers and of the hub each.
pub const EPHEMERALS_KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long they are remembered: longer than clients take to reconnect.
pub const EPHEMERALS_AGE: std::time::Duration = std::time::Duration::from_secs(60);
/// Topic of the hub itself in bytes: its path, and somebody's pattern that is percent-encoded.
pub const OWN_TOPIC_BYTES_MAX: usize = 4 * TOPIC_BYTES_MAX;
/// Ephemeral updates behind one durable entry, at most: what fits an id.
pub const SUB_MAX: u32 = (1 << 20) - 1;
/// The largest offset that fits an id: at a million entries a second, 142 years.
pub const DURABLE_MAX: u64 = (1 << 52) - 1;
/// The table of interned matchers is swept of dead ones when it has grown to this, and then each
/// time it doubles.
pub const SWEEP_AT_MIN: usize = 1_024;

/// Updates that are published together, in one place of the queue: a connector's reading of its
/// socket. Others stand behind them in that queue.
pub const PUBLISHED_AT_ONCE_MAX: usize = BATCH_UPDATES_MAX;
/// Bytes of them (one update may be more).
pub const PUBLISHED_AT_ONCE_BYTES_MAX: usize = 2 * 1024 * 1024;

// What is kept for whoever delivers it elsewhere.

/// Bytes beyond what is kept that stay for holds unless the operator says otherwise: an outage of a
/// day with a dozen updates of 1 KiB a second.
pub const HOLD_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// The same where the history is in memory: as much as is kept there anyway.
pub const HOLD_BYTES_IN_MEMORY_DEFAULT: u64 = 64 * 1024 * 1024;
/// Bytes of a history in memory when the operator names no size.
pub const KEEP_BYTES_IN_MEMORY_DEFAULT: u64 = 64 * 1024 * 1024;
