//! A stream that begins: what its frontend says of it, and what carries its bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{Selection, Start};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::outlet::Outlet;
use super::talk::Talk;
use crate::http::{Closing, HttpCounters, Place, RequestId};
use crate::sse::Framing;
use crate::sse::continuity::Continuity;

/// When a stream ends, and how it is kept open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The end of the grant, in milliseconds since 1970 by the wall clock.
    pub(crate) expires: Option<u64>,
    /// Silence after which a comment is sent.
    pub(crate) heartbeat: Option<Duration>,
    /// How long a stream lives at most.
    pub(crate) lifetime: Option<Duration>,
}

/// What a frontend says of a stream.
pub(crate) struct Stream {
    pub(crate) request: RequestId,
    pub(crate) selection: Selection,
    pub(crate) start: Start,
    pub(crate) limits: Limits,
    /// Says first how it goes on from what the client has, and later where there is a gap; its
    /// heartbeats say how far the client has come.
    pub(crate) tells: Option<Continuity>,
    /// Dropped with the stream: others see that it is there.
    pub(crate) present: Option<Box<dyn Send>>,
    /// Its client is listened to, where it is a socket.
    pub(crate) talk: Option<Box<Talk>>,
    pub(crate) closing: Closing,
}

/// What carries a stream to its client.
pub(crate) struct Carrier {
    pub(crate) outlet: Outlet,
    pub(crate) framing: Framing,
    /// What is said before the stream.
    pub(crate) head: Bytes,
    /// What the client said behind its request already; a head's bytes at most.
    pub(crate) begun: Bytes,
    pub(crate) patience: Arc<Patience>,
    /// The client's, of the connection and of the request.
    pub(crate) places: [Option<Place>; 2],
    /// As long as there is one the server has not ended.
    pub(crate) open: TaskTrackerToken,
}

/// How long a client is waited for that takes nothing.
pub(crate) struct Patience {
    /// Time that it may leave its socket full.
    pub(crate) write_timeout: Duration,
    /// Time that its machine may leave bytes unacknowledged.
    pub(crate) acknowledge_timeout: Duration,
    pub(crate) counters: Arc<HttpCounters>,
}

/// A shard's share of all streams.
#[derive(Clone, Default)]
pub(super) struct Load(Arc<AtomicUsize>);

/// One stream in it, until this is dropped.
pub(super) struct Counted(Load);

impl Load {
    pub(super) fn streams(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn one_more(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a shard begins a stream with.
pub(super) struct Arrival {
    pub(super) stream: Stream,
    pub(super) carrier: Carrier,
    pub(super) counted: Counted,
}
