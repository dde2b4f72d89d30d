//! One HTTP/1.1 connection to an origin, from the first packet to the last answer. Whoever uses it
//! drives it, so that an idle one has no task. Knows neither who may be reached nor what is sent.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::exchange::Exchanged;
use super::wire::{self, Wire};
use crate::limits::{
    ADDRESSES_TRIED_MAX, ANSWER_BYTES_MAX, ANSWER_HEAD_BYTES_MAX, ANSWER_HEADS_BYTES_MAX,
};

/// What connections have in common that may serve the same requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) is_encrypted: bool,
    pub(super) host: Host<String>,
    port: u16,
    /// How a request names it (RFC 9112, 3.2).
    pub(super) authority: HeaderValue,
}

impl Origin {
    /// `None` for a URL without a host, or whose port nobody knows.
    pub(super) fn of(url: &Url) -> Option<Origin> {
        let host = url.host()?.to_owned();
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        Some(Origin {
            is_encrypted: url.scheme() == "https",
            host,
            port: url.port_or_known_default()?,
            authority: HeaderValue::try_from(authority).ok()?,
        })
    }

    /// Whether a URL is of this origin. Makes nothing.
    pub(super) fn has(&self, url: &Url) -> bool {
        self.is_encrypted == (url.scheme() == "https")
            && url.port_or_known_default() == Some(self.port)
            && url.host().is_some_and(|host| self.host == host)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconnected {
    #[error("no connection to {0} in time")]
    TimedOut(SocketAddr),
    #[error("no connection to {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("no encrypted connection to {0}: {1}")]
    Unencrypted(SocketAddr, String),
    #[error("its host is no name that a certificate can be for")]
    Unnamed,
    #[error("it leads nowhere")]
    Nowhere,
}

/// Why an exchange has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no answer in time")]
    Late,
    #[error("the answer {0} did not come to its end in time")]
    LateBody(http::StatusCode),
    #[error(
        "{ANSWER_HEADS_BYTES_MAX} bytes of interim answers (1xx) came, and no answer; \
         the connection was closed"
    )]
    Interim,
    #[error("the connection was closed before an answer")]
    Closed(#[source] hyper::Error),
    #[error("{}", broken(.0))]
    Broken(#[source] hyper::Error),
}

fn broken(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return format!("the head of its answer is larger than {ANSWER_HEAD_BYTES_MAX} bytes");
    }
    if error.is_parse() {
        return format!("its answer is not HTTP/1.1: {error}");
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A connection that is open, or was until a moment ago.
pub(super) struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    incoming: Arc<wire::Incoming>,
    /// The other end.
    pub(super) peer: SocketAddr,
    /// Which requests it may serve.
    pub(super) origin: Arc<Origin>,
    /// When its last exchange ended.
    pub(super) idle_since: Instant,
}

impl Open {
    /// Connects to the first of these addresses that lets it. Each gets a share of the time.
    pub(super) async fn connect(
        origin: &Arc<Origin>,
        addresses: &[SocketAddr],
        tls: &TlsConnector,
        deadline: Instant,
    ) -> Result<Open, Unconnected> {
        let mut left = u32::try_from(addresses.len().min(ADDRESSES_TRIED_MAX)).unwrap_or(1);
        let mut last = Unconnected::Nowhere;
        for address in addresses.iter().take(ADDRESSES_TRIED_MAX) {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / left.max(1);
            left = left.saturating_sub(1);
            let connecting = Box::pin(Wire::open(origin, *address, tls));
            match timeout_at(now + share, connecting).await {
                Err(_) => last = Unconnected::TimedOut(*address),
                Ok(Err(error)) => last = error,
                Ok(Ok(wire)) => return Open::over(wire, origin, *address).await,
            }
        }
        Err(last)
    }

    async fn over(wire: Wire, origin: &Arc<Origin>, peer: SocketAddr) -> Result<Open, Unconnected> {
        let incoming = Arc::clone(&wire.incoming);
        let handshake = http1::Builder::new()
            // Header lines have hyper's own bound of 100.
            .max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(wire));
        let (sender, connection) = handshake
            .await
            .map_err(|error| Unconnected::Unreachable(peer, io::Error::other(error)))?;
        let own = Arc::clone(&incoming);
        let driver = Driver { connection: Box::new(connection), incoming: own, has_ended: false };
        let origin = Arc::clone(origin);
        Ok(Open { sender, driver, incoming, peer, origin, idle_since: Instant::now() })
    }

    /// Sends a request and takes the whole answer, or its first [`ANSWER_BYTES_MAX`] bytes. Where
    /// the body has a time of its own, the head is the answer without it.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        body_time: Option<Duration>,
    ) -> Result<Exchanged, Unanswered> {
        self.incoming.room.store(ANSWER_HEADS_BYTES_MAX, Ordering::Relaxed);
        self.incoming.came.store(false, Ordering::Relaxed);
        let sent = self.sender.send_request(request);
        let answer: Response<Incoming> = match timeout_at(deadline, self.driver.with(sent)).await {
            Err(_) => return Err(Unanswered::Late),
            Ok(Err(error)) => return Err(self.judged(error)),
            Ok(Ok(answer)) => answer,
        };
        // Its body has a bound of its own.
        self.incoming.room.store(usize::MAX, Ordering::Relaxed);
        let (head, body) = answer.into_parts();
        let until = body_time.map_or(deadline, |time| deadline.min(Instant::now() + time));
        let taken = timeout_at(until, self.driver.with(bounded(body))).await;
        let (body, is_whole) = match taken {
            Ok(Ok(taken)) => taken,
            _ if body_time.is_some() => (Bytes::new(), false),
            Ok(Err(error)) => return Err(Unanswered::Broken(error)),
            Err(_) => return Err(Unanswered::LateBody(head.status)),
        };
        Ok(Exchanged { status: head.status, headers: head.headers, body, is_whole })
    }

    fn judged(&self, error: hyper::Error) -> Unanswered {
        match self.incoming.room.load(Ordering::Relaxed) {
            0 => Unanswered::Interim,
            // Not a byte came since the request went.
            ANSWER_HEADS_BYTES_MAX if is_close(&error) => Unanswered::Closed(error),
            _ => Unanswered::Broken(error),
        }
    }

    /// Whether it can take another request, as far as is known here: it is idle, and no close and
    /// no byte that nobody asked for has come.
    pub(super) async fn is_free(&mut self) -> bool {
        let mut turn = |context: &mut Context<'_>| {
            self.driver.turn(context);
            Poll::Ready(())
        };
        std::future::poll_fn(&mut turn).await;
        !self.driver.has_ended && self.sender.is_ready()
    }
}

/// Whether an error says that the other end had closed the connection.
fn is_close(error: &hyper::Error) -> bool {
    use io::ErrorKind as Kind;
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return true;
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &io::Error| {
        matches!(
            cause.kind(),
            Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::BrokenPipe
                | Kind::NotConnected
                | Kind::UnexpectedEof
        )
    })
}

/// The first bytes of a body, and whether they are all.
async fn bounded(mut body: Incoming) -> Result<(Bytes, bool), hyper::Error> {
    let mut kept = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        // Fields behind the body are of no use here.
        let Ok(bytes) = frame?.into_data() else { continue };
        let room = ANSWER_BYTES_MAX.saturating_sub(kept.len());
        match bytes.get(..room) {
            Some(fitting) if bytes.len() > room => {
                kept.extend_from_slice(fitting);
                return Ok((kept.freeze(), false));
            }
            // Copied, because each piece would keep the buffer that it was read into.
            _ => kept.extend_from_slice(&bytes),
        }
    }
    Ok((kept.freeze(), true))
}

/// What moves bytes between a connection and its requests, for as long as somebody waits.
struct Driver {
    incoming: Arc<wire::Incoming>,
    connection: Box<http1::Connection<TokioIo<Wire>, Full<Bytes>>>,
    has_ended: bool,
}

impl Driver {
    fn turn(&mut self, context: &mut Context<'_>) {
        // What ended it reaches whoever waits for an answer by itself.
        if !self.has_ended && Pin::new(&mut *self.connection).poll(context).is_ready() {
            self.has_ended = true;
        }
    }

    /// Waits for something that this connection brings about.
    async fn with<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            self.turn(context);
            let polled = work.as_mut().poll(context);
            // A part came, and it is not enough.
            if polled.is_ready() || !self.incoming.came.swap(false, Ordering::Relaxed) {
                return polled;
            }
            self.incoming.is_awaited.store(true, Ordering::Relaxed);
            self.turn(context);
            work.as_mut().poll(context)
        })
        .await
    }
}
