//! Bounds of NATS connections, each with its reason.

use std::time::Duration;

/// Bytes of a line of the NATS protocol. A server takes lines of 4 KiB by default, and adds numbers
/// and the subject for the acknowledgement to what it passes on.
pub const NATS_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a server's first line, which lists the servers of its cluster.
pub const NATS_INFO_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message, headers included: no NATS server can be told to take more. What a server
/// says that it takes bounds what is sent to it, not what comes: it may be told to take more while
/// connections last, and says nothing then.
pub const NATS_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a subject that is published: with the rest of its line it fits what servers take.
pub const NATS_SUBJECT_BYTES_MAX: usize = 3 * 1024;
/// Header fields of a message that are looked at; an update keeps fewer.
pub const NATS_HEADER_FIELDS_MAX: usize = 256;
/// Servers that are known: what the configuration names, and as many that they name in turn.
pub const NATS_SERVERS_MAX: usize = 64;
/// Subjects of one source.
pub const NATS_SUBJECTS_MAX: usize = 256;
/// Bytes of a credentials file or a certificate file: a chain of a dozen certificates.
pub const NATS_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Time for name, connection, certificates and login at one NATS server.
pub const NATS_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until the greeting of a server that another one told of: what the configuration names is
/// tried again soon.
pub const NATS_TOLD_TIMEOUT: Duration = Duration::from_secs(1);
/// The first wait before a NATS server is tried again; doubled each time.
pub const NATS_AGAIN_MIN: Duration = Duration::from_millis(100);
/// The longest: who restarts a server waits no longer than that for the hub.
pub const NATS_AGAIN_MAX: Duration = Duration::from_secs(2);
/// A server is asked so often whether it is still there.
pub const NATS_PING_EVERY: Duration = Duration::from_secs(20);
/// It is gone when so many such questions in a row are not answered.
pub const NATS_UNANSWERED_MAX: u32 = 2;
/// Time for a delivery to NATS when the options do not say.
pub const NATS_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Time in which a source that ends brings what the server had sent it already.
pub const NATS_DRAIN_MAX: Duration = Duration::from_secs(3);
/// A connection whose server sends nothing more has handed on everything when it was quiet so long.
pub const NATS_QUIET: Duration = Duration::from_millis(100);
/// Who does not read for so long is behind: when the server closes the connection then, it may have
/// dropped what it held.
pub const NATS_HELD_BACK_MIN: Duration = Duration::from_millis(100);
/// How long that counts: a server takes ten seconds at most to notice.
pub const NATS_HELD_BACK_COUNTS: Duration = Duration::from_secs(30);
/// Bytes that are read from a NATS server at a time, and before somebody takes what is in them.
pub const NATS_READ_BYTES_MAX: usize = 64 * 1024;
/// Such reads that wait for a source.
pub const NATS_READS_MAX: usize = 2;
/// Bytes that wait to be written before a connection takes more to write.
pub const NATS_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// What waits to be written by one connection, in pieces.
pub const NATS_COMMANDS_MAX: usize = 64;
/// Refusals of a server that are kept between two of its answers.
pub const NATS_REFUSALS_MAX: usize = 256;
/// Entries that a NATS sink takes at a time: one question to the server for all of them.
pub const NATS_RUN_MAX: usize = 2_048;
/// Bytes of a message's head, headers of our own included, beyond what the update weighs: room that
/// is taken beforehand.
pub const NATS_HEADS_BYTES: usize = 64;
/// Subjects that a sink remembers as refused by the server.
pub const NATS_REFUSED_SUBJECTS_MAX: usize = 1_024;
/// Messages that are asked of a `JetStream` consumer at a time when the options do not say.
pub const NATS_BATCH_DEFAULT: usize = 256;
/// The most that the options may say.
pub const NATS_BATCH_MAX: usize = 1_024;
/// After so long a `JetStream` server gives a message again that nobody acknowledged.
pub const NATS_ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest that the options may say: an acknowledgement takes a turn through the disk.
pub const NATS_ACK_WAIT_MIN: Duration = Duration::from_secs(1);
/// Messages of a new `JetStream` consumer that may wait for their acknowledgement.
pub const NATS_ACK_PENDING_DEFAULT: usize = 1_024;
/// How long a question to a `JetStream` server for messages stands.
pub const NATS_PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Time for an answer of a `JetStream` server beyond that.
pub const NATS_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a `JetStream` server keeps a message back that the hub cannot take just now.
pub const NATS_LATER: Duration = Duration::from_secs(5);
/// How long a source waits before it asks again for a stream that is not as it should be.
pub const NATS_STREAM_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Messages of a stream that wait for the hub's answer.
pub const NATS_UNACKNOWLEDGED_MAX: usize = 1_024;
/// Bytes that wait for a NATS server which reads nothing, before it is left.
pub const NATS_UNREAD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Frames within a second that a NATS server may send though nobody asked: it asks whether we are
/// there each two minutes, refuses each subscription once, and tells of its cluster when that
/// changes. Beyond, it is broken or hostile, and would keep a core busy.
pub const NATS_UNASKED_PER_SECOND_MAX: u32 = 1_024;
/// For how many of them news of a cluster counts: 64 KiB of JSON to read.
pub const NATS_INFO_WEIGHT: u32 = 16;
/// Messages that a server may refuse within a second: more than a connector sends.
pub const NATS_REFUSED_PER_SECOND_MAX: u32 = 262_144;
/// The newest messages of a stream that a source knows as published when the server gives them
/// again: many times what may wait for its acknowledgement at a time. 3 MiB.
pub const NATS_PUBLISHED_MAX: usize = 65_536;
/// Messages that it knew so when it connected and that may still come again.
pub const NATS_OWED_MAX: usize = 2 * NATS_PUBLISHED_MAX;
/// Frames that a server may send between our login and its answer.
pub const NATS_LOGIN_FRAMES_MAX: usize = 64;
