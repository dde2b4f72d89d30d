//! What the log says of a request: its target without secrets, and what became of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::Response;
use http::request::Parts;

use super::handing::Content;
use super::redacted::{redacted, shortened};
use super::request_id::RequestId;

/// A request's line in the log, taken before the request is given away.
pub(super) struct Line {
    asked: Option<Arc<Parts>>,
    client: IpAddr,
    id: RequestId,
    /// Whether topics are shown.
    topics: bool,
}

impl Line {
    pub(super) fn new(head: &Arc<Parts>, client: IpAddr, id: RequestId, topics: bool) -> Line {
        let wanted = tracing::enabled!(target: "tidings::request", tracing::Level::INFO);
        let asked = wanted.then(|| Arc::clone(head));
        Line { asked, client, id, topics }
    }

    /// Refusals are worth a line in production, the rest only when somebody looks closely.
    pub(super) fn write(self, response: &Response<Content>, begun: Instant) {
        let Line { asked, client, id, topics } = self;
        let Some(asked) = asked else { return };
        let status = response.status().as_u16();
        let detailed = tracing::enabled!(target: "tidings::request", tracing::Level::DEBUG);
        if status < 400 && !detailed {
            return;
        }
        let (method, target) = (shortened(&asked.method), redacted(&asked.uri, topics));
        let milliseconds = begun.elapsed().as_micros() as f64 / 1000.0;
        if status < 400 {
            tracing::debug!(target: "tidings::request", %method, target, status, milliseconds,
                %client, request = %id, "answered");
        } else {
            tracing::info!(target: "tidings::request", %method, target, status, milliseconds,
                %client, request = %id, "refused");
        }
    }
}
