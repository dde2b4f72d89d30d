//! Bounds of sockets in shards, each with its reason. Those of streams stand with all others.

use std::time::Duration;

/// Bytes that a shard reads of one socket before others get their turn.
pub(crate) const SOCKET_TURN_BYTES: usize = 64 * 1024;
/// Messages of one socket that are not answered yet, beyond which it is not read: enough to keep a
/// line of commands going over any distance.
pub(crate) const SOCKET_MESSAGES_WAITING: usize = 16;
/// Bytes of these, which one message may exceed.
pub(crate) const SOCKET_BYTES_WAITING: usize = 256 * 1024;
/// Bytes of answers that found a socket full, beyond which it is not read.
pub(crate) const SOCKET_ANSWERS_BYTES: usize = 64 * 1024;
/// How long a client has to close its side once it was told the end.
pub(crate) const SOCKET_CLOSING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take over one message, as it may over the body of a request.
pub(crate) const SOCKET_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take where others wait for the memory that its message has.
pub(crate) const SOCKET_MESSAGE_TIMEOUT_SHORT: Duration = Duration::from_secs(5);
/// How often it is looked at whether others wait for that.
pub(crate) const SOCKET_MEMORY_JUDGED_EVERY: Duration = Duration::from_secs(1);
/// When a socket is read again for which there was no memory.
pub(crate) const SOCKET_MEMORY_RETRY: Duration = Duration::from_millis(100);
/// Earlier grants that a socket remembers, to know what its past has brought already. Who changes
/// its rights more often gets repeats, where it asks for the past once more.
pub(crate) const SOCKET_GRANTS_REMEMBERED: usize = 8;
/// Wishes that a socket let go of while a past is brought, which are remembered for the same end.
pub(crate) const SOCKET_LEFT_REMEMBERED: usize = 64;
/// When a socket may come back that ends alone: at once, as far as people can tell, and not without
/// a pause where it ends again.
pub(crate) const SOCKET_COMES_BACK: Duration = Duration::from_secs(1);
