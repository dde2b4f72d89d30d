//! A socket that does not wait for ever for a client that takes nothing, or that is gone.
//!
//! Knows no request and no protocol: only bytes, and how long they have been waiting.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::vanished::has_vanished;
use super::{HttpOptions, Server};
use crate::limits::WRITE_PROGRESS_BYTES_MIN;

/// A connection's socket.
pub(super) struct Impatient {
    stream: TcpStream,
    server: Arc<Server>,
    limit: Duration,
    acknowledge_limit: Duration,
    /// When the client was sent something last.
    written: Instant,
    /// There is none while everything that was to be written could be.
    waiting: Option<Waiting>,
}

/// Bytes that found the socket full.
struct Waiting {
    timer: Pin<Box<Sleep>>,
    /// What the client took meanwhile.
    taken: usize,
}

impl Impatient {
    /// Errors when the socket stays full for the write timeout and the client takes next to
    /// nothing, or when it is written to and its machine has long acknowledged nothing.
    pub(super) fn new(stream: TcpStream, options: &HttpOptions, server: Arc<Server>) -> Impatient {
        let (limit, acknowledge_limit) = (options.write_timeout, options.acknowledge_timeout);
        let (written, waiting) = (Instant::now(), None);
        Impatient { stream, server, limit, acknowledge_limit, written, waiting }
    }

    /// The socket, for somebody who waits in another way.
    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// When the client was sent something last.
    pub(super) fn written(&self) -> Instant {
        self.written
    }

    /// Before something is written: an error when what was written long before never arrived.
    /// Answers what time it is.
    fn check(&self) -> io::Result<Instant> {
        let now = Instant::now();
        // Heartbeats come a little early by this clock.
        let limit = self.acknowledge_limit * 9 / 10;
        let is_late = now.saturating_duration_since(self.written) >= limit;
        let is_gone = is_late && has_vanished(&self.stream, limit);
        if is_gone { Err(io::ErrorKind::TimedOut.into()) } else { Ok(now) }
    }

    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        offered: usize,
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(taken)) if *taken < offered => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.taken += taken;
                }
                written
            }
            Poll::Ready(_) => {
                self.waiting = None;
                self.written = now;
                written
            }
            Poll::Pending => self.poll_late(context).map(|()| {
                self.server.counters.stalled.fetch_add(1, Ordering::Relaxed);
                Err(io::ErrorKind::TimedOut.into())
            }),
        }
    }

    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let begin = || Waiting { timer: Box::pin(tokio::time::sleep(limit)), taken: 0 };
        let waiting = self.waiting.get_or_insert_with(begin);
        loop {
            ready!(waiting.timer.as_mut().poll(context));
            if waiting.taken < WRITE_PROGRESS_BYTES_MIN {
                return Poll::Ready(());
            }
            *waiting = begin();
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.check()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written, bytes.len(), now)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let now = self.check()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written, slices.iter().map(|slice| slice.len()).sum(), now)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
