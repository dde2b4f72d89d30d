//! Streams of HTTP/2 connections. One that its client gives no room stands still though its
//! connection does not. Such a stream is reset in the end.
//!
//! Knows no request and no protocol: only pieces of bodies, and how long one has been waiting.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Sleep;
use tokio_util::task::TaskTracker;

use super::{Body, BoxError, Server, boxed};
use crate::limits::HTTP2_PIECE_BYTES;
use crate::shard::Handoff;

tokio::task_local! {
    /// Of the stream that the current task is.
    static PIECES: Arc<Pieces>;
}

/// Runs the streams of one connection as tasks of their own; they end with their connection.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: TaskTracker,
    server: Arc<Server>,
    limit: Duration,
}

/// The pieces that a body handed out. One is on its way when the number is odd.
#[derive(Default)]
struct Pieces {
    handed_out: AtomicUsize,
    /// What the stream is sent from, when a shard does that: it is the one that waits.
    handoff: OnceLock<Arc<Handoff>>,
}

impl Pieces {
    /// The number of the piece that is on its way.
    fn waiting(&self) -> Option<usize> {
        let number = self.handed_out.load(Ordering::Relaxed);
        (number % 2 == 1).then_some(number)
    }

    fn asked(&self) {
        if self.waiting().is_some() {
            self.handed_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn handed_out(&self) {
        self.handed_out.fetch_add(1, Ordering::Relaxed);
    }
}

impl Streams {
    /// Streams that are reset when one piece waits for `limit`.
    pub(super) fn new(server: Arc<Server>, limit: Duration) -> Streams {
        Streams { tasks: TaskTracker::new(), server, limit }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(Watched {
            stream: Box::pin(stream),
            pieces: Arc::default(),
            waiting: None,
            limit: self.limit,
            server: Arc::clone(&self.server),
        });
    }
}

/// A stream, and what is watched of it. Written out: there are a hundred thousand of them.
struct Watched<F> {
    stream: Pin<Box<F>>,
    pieces: Arc<Pieces>,
    /// Since when one piece is on its way, by its number.
    waiting: Option<Box<(usize, Pin<Box<Sleep>>)>>,
    limit: Duration,
    server: Arc<Server>,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Watched { stream, pieces, waiting, limit, server } = &mut *self;
        let polled = PIECES.sync_scope(Arc::clone(pieces), || stream.as_mut().poll(context));
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if pieces.handoff.get().is_some_and(|handoff| handoff.poll_cut(context)) {
            return Poll::Ready(());
        }
        let Some(number) = pieces.waiting() else {
            *waiting = None;
            return Poll::Pending;
        };
        let begin = || Box::new((number, Box::pin(tokio::time::sleep(*limit))));
        if waiting.as_ref().is_none_or(|waiting| waiting.0 != number) {
            *waiting = Some(begin());
        }
        let timer = &mut waiting.get_or_insert_with(begin).1;
        timer.as_mut().poll(context).map(|()| {
            server.counters.stalled.fetch_add(1, Ordering::Relaxed);
        })
    }
}

/// Has the answer's body count its pieces, if the current task is a stream's.
pub(super) fn watched(response: Response<Body>) -> Response<Body> {
    match PIECES.try_with(Arc::clone) {
        Ok(pieces) => response.map(|body| boxed(InPieces { body, rest: Bytes::new(), pieces })),
        Err(_) => response,
    }
}

/// Lets a shard end the stream that the current task is.
pub(super) fn ended_by(handoff: &Arc<Handoff>) {
    let _none = PIECES.try_with(|pieces| pieces.handoff.set(Arc::clone(handoff)));
}

/// A body in pieces that are small enough for the slowest client that is waited for.
struct InPieces {
    body: Body,
    rest: Bytes,
    pieces: Arc<Pieces>,
}

impl InPieces {
    fn piece(&mut self) -> Frame<Bytes> {
        self.pieces.handed_out();
        Frame::data(self.rest.split_to(self.rest.len().min(HTTP2_PIECE_BYTES)))
    }
}

impl http_body::Body for InPieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.pieces.asked();
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(bytes) => {
                self.rest = bytes;
                self.piece()
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, of_body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
