//! The HTTP client of one sink: a request goes out, an answer comes back, both bounded. Knows who
//! may be reached, and not what an answer means. The environment's proxies are not used: they
//! would resolve names themselves.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;

use super::address::{Egress, Refusal};
use super::connection::{Open, Origin, Unanswered, Unconnected};
use super::pool::Pool;
use crate::connector::{Failure, Fault};
use crate::limits::{
    BODY_PATIENCE, NAME_AGE_MAX, REASON_BYTES_MAX, WEBHOOK_CONNECT_TIMEOUT, WEBHOOK_TIMEOUT,
    WEBHOOK_TIMEOUT_MAX,
};

#[cfg(test)]
mod tests;

/// How long an exchange may take. More than [`WEBHOOK_TIMEOUT_MAX`] counts as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// To the end of the TLS handshake, with the look-up of the name.
    pub connect: Duration,
    /// To the last byte of the answer.
    pub total: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { connect: WEBHOOK_CONNECT_TIMEOUT, total: WEBHOOK_TIMEOUT }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// What the endpoint says of the request.
    pub status: StatusCode,
    /// All fields of the head, at most [`crate::limits::ANSWER_HEAD_BYTES_MAX`] bytes of it.
    pub headers: HeaderMap,
    /// The first bytes of the body, at most [`crate::limits::ANSWER_BYTES_MAX`].
    pub body: Bytes,
    /// Whether that is all of the body.
    pub is_whole: bool,
}

/// Sends requests to one origin, as many at a time as it is asked to, over connections that are
/// kept for [`crate::limits::IDLE_CONNECTION_MAX`]. There are never more of them than requests were
/// on their way at a time. A request to another origin is possible, but the connections are given
/// up for it.
pub struct Client {
    egress: Egress,
    tls: TlsConnector,
    times: Times,
    /// How long a body is waited for that nobody needs.
    body_time: Option<Duration>,
    pool: Pool,
    /// Where the last URL led, and since when that is known.
    known: Mutex<Option<Known>>,
    /// One look-up at a time: the others wait for its answer.
    looking: Semaphore,
}

/// Where an origin is.
#[derive(Clone)]
struct Known {
    origin: Arc<Origin>,
    addresses: Arc<[SocketAddr]>,
    since: Instant,
}

impl Client {
    /// Without a connection.
    pub fn new(egress: Egress, tls: Arc<ClientConfig>, times: Times) -> Client {
        let times = Times {
            connect: times.connect.min(WEBHOOK_TIMEOUT_MAX),
            total: times.total.min(WEBHOOK_TIMEOUT_MAX),
        };
        Client {
            egress,
            tls: TlsConnector::from(tls),
            times,
            body_time: None,
            pool: Pool::default(),
            known: Mutex::new(None),
            looking: Semaphore::new(1),
        }
    }

    /// The same client, to which the head of an answer is the answer: what is behind it may be
    /// missing, and is waited for no longer than [`BODY_PATIENCE`].
    #[must_use]
    pub fn content_with_heads(self) -> Client {
        Client { body_time: Some(BODY_PATIENCE), ..self }
    }

    /// Posts a body and takes the answer, whatever its status; redirects are not followed. `host`
    /// and `content-length` are set here. Dropping the future closes its connection.
    ///
    /// # Errors
    /// When there is no whole answer in time: none of the endpoint's making is among them. The
    /// reason names the host, and no header and no path.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Exchanged, Failure> {
        let exchanged = self.exchange(url, headers, body).await;
        exchanged.map_err(|unsent| self.failure(&unsent, url))
    }

    async fn exchange(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Exchanged, Unsent> {
        let began = Instant::now();
        let deadline = began + self.times.total;
        let Known { origin, addresses, .. } = match self.known(url, began) {
            Some(known) => known,
            None => {
                let connect_until = deadline.min(began + self.times.connect);
                let place = timeout_at(connect_until, self.place(url));
                place.await.map_err(|_| Unsent::Unfound)??
            }
        };
        let letter = Letter::new(url, &origin, headers, body)?;
        if let Some(open) = self.pool.take(url, &addresses).await {
            match self.over(open, letter.request(), deadline).await {
                // It had been closed, and the close and the request met on their way. An endpoint
                // that closes without a word where it should answer gets this once more as well,
                // which is what "at least once" allows.
                Err(Unsent::Unanswered(Unanswered::Closed(_))) => {}
                answered => return answered,
            }
        }
        let connect_until = deadline.min(Instant::now() + self.times.connect);
        let open = Open::connect(&origin, &addresses, &self.tls, connect_until).await?;
        self.over(open, letter.request(), deadline).await
    }

    async fn over(
        &self,
        mut open: Open,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Exchanged, Unsent> {
        let exchanged = open.exchange(request, deadline, self.body_time).await?;
        if exchanged.is_whole {
            self.pool.give(open).await;
        }
        Ok(exchanged)
    }

    /// Finds out where a URL leads. What is not known for sure any more is looked up before a
    /// connection is used, so that one to an address that the name has no more is closed and not
    /// used again.
    async fn place(&self, url: &Url) -> Result<Known, Refusal> {
        // Only a closed semaphore gives none, and nobody closes this one.
        let _turn = self.looking.acquire().await.map_err(|_| Refusal::TimedOut)?;
        // Somebody else may have found out meanwhile.
        if let Some(known) = self.known(url, Instant::now()) {
            return Ok(known);
        }
        let found = self.egress.resolve(url).await;
        self.pool.keep_only(found.as_deref().unwrap_or_default());
        let known = Known {
            addresses: found?.into(),
            origin: Arc::new(Origin::of(url).ok_or(Refusal::NoHost)?),
            since: Instant::now(),
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    fn known(&self, url: &Url, now: Instant) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_use = |known: &&Known| now < known.since + NAME_AGE_MAX && known.origin.has(url);
        known.as_ref().filter(is_of_use).cloned()
    }

    fn failure(&self, unsent: &Unsent, url: &Url) -> Failure {
        let (host, times) = (url.host_str().unwrap_or("the URL"), &self.times);
        let within = match unsent.fault() {
            Fault::TimedOut if unsent.is_of_the_connection() => {
                Some(times.connect.min(times.total))
            }
            Fault::TimedOut => Some(times.total),
            _ => None,
        };
        let reason = match within {
            Some(within) => format!("{host}: {unsent} ({within:?} at most)"),
            None => format!("{host}: {unsent}"),
        };
        failure(unsent.fault(), reason)
    }
}

/// A failure whose reason is no longer than it may be, and without a wish of the system's.
pub(super) fn failure(fault: Fault, mut reason: String) -> Failure {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Failure { fault, reason, retry_after: None }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("its name was not resolved in time")]
    Unfound,
    #[error("its path or query cannot be sent; write special characters as %XX")]
    Unwritable,
    #[error(transparent)]
    Unconnected(#[from] Unconnected),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

impl Unsent {
    fn fault(&self) -> Fault {
        match self {
            Unsent::Refused(Refusal::Unresolved(_)) => Fault::Unreachable,
            Unsent::Refused(Refusal::TimedOut)
            | Unsent::Unfound
            | Unsent::Unconnected(Unconnected::TimedOut(_))
            | Unsent::Unanswered(Unanswered::Late | Unanswered::LateBody(_)) => Fault::TimedOut,
            Unsent::Refused(_) | Unsent::Unwritable | Unsent::Unconnected(Unconnected::Unnamed) => {
                Fault::Rejected
            }
            Unsent::Unconnected(_) | Unsent::Unanswered(_) => Fault::Unreachable,
        }
    }

    /// Whether it happened before there was a connection.
    fn is_of_the_connection(&self) -> bool {
        !matches!(self, Unsent::Unanswered(_))
    }
}

/// A request that can be made twice.
struct Letter {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Letter {
    fn new(
        url: &Url,
        origin: &Origin,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Letter, Unsent> {
        let written = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        headers.insert(HOST, origin.authority.clone());
        // Also for an empty body, which has a length nonetheless (RFC 9110, 8.6).
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let uri = Uri::try_from(written).map_err(|_| Unsent::Unwritable)?;
        Ok(Letter { uri, headers, body })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}
