//! HTTP/1.1 and HTTP/2 for every frontend that speaks it: connections in, [`Request`]s out.
//!
//! Knows no Mercure, no token and no hub. A frontend claims paths and answers requests; limits,
//! request ids, the client's address and the order of a shutdown are decided here for all of them.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

mod accept;
pub mod acme;
mod body;
mod certificate;
mod closing;
mod connection;
mod counters;
mod date;
mod entrance;
mod familiar;
mod forwarded;
mod handing;
mod head;
mod hints;
mod impatient;
mod line;
mod places;
mod proxy_protocol;
mod received;
mod redacted;
mod refusal;
mod request_id;
mod secure;
mod streams;
mod tls;
mod usual;
mod vanished;
mod wire;

pub use accept::{HttpOptions, Listener, Server, bind};
pub(crate) use body::shared;
pub use body::{Bodies, BodyProblem, Share, empty, full};
pub use certificate::{BadCertificate, CertificateFiles, Expired, Flaw, check_certificate};
pub use closing::{Closing, Open, Shutdown};
pub use counters::{HttpCounters, SOCKET_CLOSES};
pub use entrance::Entrance;
#[doc(hidden)]
pub use forwarded::fuzz_forwarded;
pub use handing::{Content, Lasting};
#[doc(hidden)]
pub use proxy_protocol::fuzz_proxy_protocol;
pub use received::MaybeWhole;
pub use redacted::redacted;
pub use request_id::RequestId;
pub use tls::{Loaded, Tls};

pub(crate) use places::Place;
pub(crate) use vanished::has_vanished;

/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer, whole or streamed.
pub type Body = MaybeWhole<UnsyncBoxBody<Bytes, BoxError>>;
/// The body of a request.
pub type Received = MaybeWhole<hyper::body::Incoming>;
/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = http::Response<Content>> + Send>>;

/// A request as a frontend sees it.
#[derive(Debug)]
pub struct Request {
    /// Method, target, version and headers.
    pub head: Arc<http::request::Parts>,
    /// The body; [`Bodies`] read it within bounds.
    pub body: Received,
    /// Who asks: the peer, or what the trusted proxies in front say.
    pub client: IpAddr,
    /// This request's own name in logs and in the answer's `X-Request-Id`.
    pub id: RequestId,
    /// When a long answer has to end because the program does.
    pub closing: Closing,
}

/// A protocol on top of HTTP.
pub trait Frontend: Send + Sync {
    /// Whether requests for `path` (as sent, without the query) are this frontend's.
    fn claims(&self, path: &str) -> bool;
    /// Answers one request. A panic is answered with 500 and ends nothing else.
    fn call(self: Arc<Self>, request: Request) -> Answer;
}

/// A body from any other body.
pub fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    MaybeWhole::coming(body.map_err(Into::into).boxed_unsync())
}

#[cfg(test)]
mod tests;
