//! The bytes of a connection to an endpoint, encrypted or not, and how many may still come. Knows
//! no HTTP.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::{Origin, Unconnected};
use super::tls::{complaint, server_name};

/// The bytes of a connection, encrypted or not.
pub(super) struct Wire {
    stream: Stream,
    pub(super) incoming: Arc<Incoming>,
}

/// What the connection's owner and its bytes say to each other.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Bytes that may still come; reading fails when there are none. Interim answers (RFC 9110,
    /// 15.2) are passed over where nobody counts them, and somebody might send them without end.
    pub(super) room: AtomicUsize,
    /// Bytes came since the owner asked last.
    pub(super) came: AtomicBool,
    /// The owner needs more of what began to come.
    pub(super) is_awaited: AtomicBool,
}

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Connects to one address of an origin.
    pub(super) async fn open(
        origin: &Origin,
        address: SocketAddr,
        tls: &TlsConnector,
    ) -> Result<Wire, Unconnected> {
        let unreachable = |error| Unconnected::Unreachable(address, error);
        let plain = TcpStream::connect(address).await.map_err(unreachable)?;
        // A request is written at once; waiting for more would only delay it.
        plain.set_nodelay(true).map_err(unreachable)?;
        let stream = if origin.is_encrypted {
            let name = server_name(&origin.host).ok_or(Unconnected::Unnamed)?;
            let encrypted = tls.connect(name, plain).await.map_err(|error| {
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
                let told = cause.map_or_else(|| error.to_string(), complaint);
                Unconnected::Unencrypted(address, told)
            })?;
            Stream::Encrypted(Box::new(encrypted))
        } else {
            Stream::Plain(plain)
        };
        let incoming = Arc::new(Incoming {
            room: AtomicUsize::new(usize::MAX),
            came: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
        });
        Ok(Wire { stream, incoming })
    }

    /// Says at once that a part of an answer came, when the rest of it did not come with it. Many
    /// servers write head and body apart and hold the body back until then; the system would wait
    /// 40 ms for something to send along.
    fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        if self.incoming.is_awaited.load(Ordering::Relaxed) {
            self.incoming.is_awaited.store(false, Ordering::Relaxed);
            let plain = match &self.stream {
                Stream::Plain(stream) => stream,
                Stream::Encrypted(stream) => stream.get_ref().0,
            };
            // It only makes things faster.
            let _ = plain.set_quickack(true);
        }
    }

    fn poll_stream(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.incoming.room.load(Ordering::Relaxed);
        let before = buffer.filled().len();
        if room == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        let came = buffer.filled().len() - before;
        if came > 0 {
            self.incoming.room.store(room.saturating_sub(came), Ordering::Relaxed);
            self.incoming.came.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.as_mut().poll_stream(context, buffer);
        if polled.is_pending() {
            self.acknowledge();
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}
