//! A socket that does not wait for ever for a client that takes nothing.
//!
//! Knows no request and no protocol: only bytes, and how long they have been waiting.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Server;
use super::patience::{Current, Over, Patience};
use crate::limits::WRITE_PROGRESS_BYTES_MIN;

/// A connection's socket.
pub(super) struct Impatient {
    stream: TcpStream,
    server: Arc<Server>,
    limit: Duration,
    current: Current,
    /// There is none while everything that was to be written could be.
    waiting: Option<Waiting>,
}

/// Bytes that found the socket full.
struct Waiting {
    patience: Patience,
    /// What the client took meanwhile.
    taken: usize,
}

impl Impatient {
    /// Errors when the socket stays full for `limit` and the client takes next to nothing, or
    /// while the `current` answer has no right to go on.
    pub(super) fn new(
        stream: TcpStream,
        limit: Duration,
        current: Current,
        server: Arc<Server>,
    ) -> Impatient {
        Impatient { stream, server, limit, current, waiting: None }
    }

    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        offered: usize,
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
                written
            }
            Poll::Pending => self.poll_over(context).map(|over| {
                Err(match over {
                    Over::Late => {
                        self.server.counters.stalled.fetch_add(1, Ordering::Relaxed);
                        io::ErrorKind::TimedOut.into()
                    }
                    Over::Ended => io::Error::other("the answer ended while its client took none"),
                })
            }),
        }
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        let begin = || Waiting { patience: Patience::new(self.limit), taken: 0 };
        let waiting = self.waiting.get_or_insert_with(begin);
        loop {
            let over = ready!(waiting.patience.poll(context, &self.current));
            if over == Over::Ended || waiting.taken < WRITE_PROGRESS_BYTES_MIN {
                return Poll::Ready(over);
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written, slices.iter().map(|slice| slice.len()).sum())
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
