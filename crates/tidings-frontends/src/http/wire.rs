//! A connection's bytes, behind TLS or not, and which version of HTTP they are. Knows no request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::impatient::Impatient;

/// What a connection of HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What requests are read from and answers written to.
pub(super) struct Wire {
    stream: Stream,
    /// Bytes that were read to find out the version, and are to be read again.
    begun: Bytes,
}

enum Stream {
    Plain(Impatient),
    Encrypted(Box<TlsStream<Impatient>>),
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Wire {
    pub(super) fn plain(stream: Impatient) -> Wire {
        Wire { stream: Stream::Plain(stream), begun: Bytes::new() }
    }

    pub(super) fn encrypted(stream: TlsStream<Impatient>) -> Wire {
        Wire { stream: Stream::Encrypted(Box::new(stream)), begun: Bytes::new() }
    }

    /// What the client speaks, by as many of its first bytes as it takes to know. Those are read
    /// again.
    ///
    /// # Errors
    ///
    /// When the connection ends before.
    pub(super) async fn spoken(&mut self) -> io::Result<Spoken> {
        let mut begun = BytesMut::from(std::mem::take(&mut self.begun));
        let spoken = loop {
            let known = begun.len().min(PREFACE.len());
            if begun.get(..known) != PREFACE.get(..known) {
                break Spoken::Http1;
            }
            if known == PREFACE.len() {
                break Spoken::Http2;
            }
            if self.read_buf(&mut begun).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        self.begun = begun.freeze();
        Ok(spoken)
    }

    /// When the client was sent something last.
    pub(super) fn written(&self) -> Instant {
        match &self.stream {
            Stream::Plain(stream) => stream.written(),
            Stream::Encrypted(stream) => stream.get_ref().0.written(),
        }
    }

    /// Has these bytes read once more.
    pub(super) fn put_back(&mut self, bytes: &Bytes) {
        self.begun = bytes.clone();
    }

    /// The socket, the session behind which it stands, and what was put back and not read again.
    pub(super) fn into_parts(self) -> (TcpStream, Option<ServerConnection>, Bytes) {
        match self.stream {
            Stream::Plain(stream) => (stream.into_inner(), None, self.begun),
            Stream::Encrypted(stream) => {
                let (stream, session) = stream.into_inner();
                (stream.into_inner(), Some(session), self.begun)
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if !wire.begun.is_empty() {
            let count = wire.begun.len().min(buffer.remaining());
            buffer.put_slice(&wire.begun.split_to(count));
            return Poll::Ready(Ok(()));
        }
        match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
