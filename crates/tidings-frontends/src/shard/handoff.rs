//! Where a shard's bytes go over to a task that sends them on a connection which carries many
//! streams. Holds little: who is slow keeps the shard's bytes with the shard.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;

use super::inbox::{Inbox, Message};
use crate::http::BoxError;
use crate::limits::{HANDOFF_BYTES, HTTP2_PIECE_BYTES};

/// Both sides of it.
#[derive(Default)]
pub(crate) struct Handoff {
    state: Mutex<State>,
    /// Whom to tell, on the shard's side.
    shard: OnceLock<(Arc<Inbox>, u32)>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    phase: Phase,
    /// The task waits for more: everything before has left, as far as it can tell.
    asks: bool,
    /// The shard is to be told when there is room, or when the task asks.
    wants_room: bool,
    /// The task that sends.
    task: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Open,
    /// Nothing follows.
    Ended,
    /// The shard let go of it before its end.
    Cut,
    /// Nobody sends it any more.
    Gone,
}

/// The shard's side. What is not ended when this is dropped is cut off.
pub(crate) struct Feed(pub(crate) Arc<Handoff>);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.leave(Phase::Cut);
    }
}

/// The body that the task sends.
pub(crate) struct Sent(pub(crate) Arc<Handoff>);

impl Handoff {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells `number` of this shard when there is room again, or nobody sends any more.
    pub(super) fn belongs_to(&self, inbox: &Arc<Inbox>, number: u32) {
        let _known = self.shard.set((Arc::clone(inbox), number));
    }

    fn tell_shard(&self) {
        if let Some((inbox, number)) = self.shard.get() {
            inbox.put(Message::Look(*number));
        }
    }

    pub(super) fn write(&self, bytes: &Bytes) -> io::Result<usize> {
        let mut state = self.lock();
        if state.phase == Phase::Gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.bytes >= HANDOFF_BYTES {
            state.wants_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // In pieces that are small enough for the slowest client that is waited for.
        let piece = bytes.slice(..bytes.len().min(HTTP2_PIECE_BYTES));
        let taken = piece.len();
        state.bytes += taken;
        state.asks = false;
        state.pieces.push_back(piece);
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
        Ok(taken)
    }

    /// Whether everything has left. If not, the shard is told when it has.
    pub(super) fn is_empty(&self) -> bool {
        let mut state = self.lock();
        state.wants_room = !state.asks;
        state.asks
    }

    /// An error when nobody sends any more.
    pub(super) fn look(&self) -> io::Result<()> {
        match self.lock().phase {
            Phase::Gone => Err(io::ErrorKind::BrokenPipe.into()),
            Phase::Open | Phase::Ended | Phase::Cut => Ok(()),
        }
    }

    pub(super) fn end(&self) {
        self.leave(Phase::Ended);
    }

    fn leave(&self, phase: Phase) {
        let task = {
            let mut state = self.lock();
            if state.phase == Phase::Open {
                state.phase = phase;
            }
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Whether the shard let go of it: nothing that waits is to be sent.
    pub(crate) fn poll_cut(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Cut {
            state.task = Some(context.waker().clone());
        }
        state.phase == Phase::Cut
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = self.0.lock();
        if state.phase == Phase::Cut {
            return Poll::Ready(Some(Err("the stream was cut off".into())));
        }
        if let Some(piece) = state.pieces.pop_front() {
            state.bytes -= piece.len();
            let wanted = std::mem::take(&mut state.wants_room);
            if state.pieces.is_empty() {
                // An idle stream keeps no buffer.
                state.pieces = VecDeque::new();
            }
            drop(state);
            if wanted {
                self.0.tell_shard();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if state.phase == Phase::Ended {
            return Poll::Ready(None);
        }
        state.task = Some(context.waker().clone());
        state.asks = true;
        let wanted = std::mem::take(&mut state.wants_room);
        drop(state);
        if wanted {
            self.0.tell_shard();
        }
        Poll::Pending
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            state.phase = Phase::Gone;
            state.pieces = VecDeque::new();
            state.task = None;
        }
        self.0.tell_shard();
    }
}
