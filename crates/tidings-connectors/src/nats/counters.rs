//! What a NATS connector counts. Knows not who reads it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened so far, and how it stands.
#[derive(Debug, Default)]
pub struct Counters {
    /// 1 while logged in, else 0.
    pub connected: AtomicU64,
    /// Logins, the first one included.
    pub connections: AtomicU64,
    /// Messages that came: of the subjects, or of the stream, those that it gave again included.
    pub received: AtomicU64,
    /// Messages that the server, or the stream where it has to, has taken.
    pub sent: AtomicU64,
    /// Bytes of frames that wait to be written.
    pub unwritten_bytes: AtomicU64,
    /// Errors that servers told us once we were logged in.
    pub errors: AtomicU64,
    /// Connections that were left because their server sent what nobody asked for, without end.
    pub floods: AtomicU64,
    /// Connections that ended while we did not read for too long: what the server had for us may
    /// be lost, unless it came from a stream.
    pub cut_off: AtomicU64,
    /// Header fields that did not become attributes, or attributes that did not become fields.
    pub fields_dropped: AtomicU64,
    /// Messages whose subject cannot be a topic. They are lost, and told in the log.
    pub not_taken: AtomicU64,
    /// Messages that the server did not let us publish. Where they were answers to a stream, its
    /// messages come again and again.
    pub refused: AtomicU64,
    /// Messages of a stream that the hub never takes. They are given up, and told in the log.
    pub given_up: AtomicU64,
    /// Messages of a stream that came again though the hub had them.
    pub repeated: AtomicU64,
    /// Tries to publish an entry that is larger than the server takes.
    pub too_large: AtomicU64,
    /// Tries to publish an entry that came through too many hubs.
    pub looped: AtomicU64,
    /// Tries to publish an entry whose topic is no subject.
    pub no_subject: AtomicU64,
}

impl Counters {
    /// Counts one more. Answers how many there are when the log should be told: not of each, or a
    /// flood of messages would be one of the log as well.
    pub(super) fn tells(counter: &AtomicU64) -> Option<u64> {
        let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        count.is_power_of_two().then_some(count)
    }

    /// Counts so many more.
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
