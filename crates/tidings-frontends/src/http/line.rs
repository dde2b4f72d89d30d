//! What the log says of a request: its target without secrets, and what became of it.

use std::net::IpAddr;
use std::time::Instant;

use http::Response;

use super::handing::Content;
use super::redacted::{redacted, shortened};
use super::request_id::RequestId;

/// A request's line in the log, taken before the request is given away.
pub(super) struct Line {
    method: String,
    target: Option<String>,
    client: IpAddr,
    id: RequestId,
}

impl Line {
    pub(super) fn new(
        head: &http::request::Parts,
        client: IpAddr,
        id: RequestId,
        topics: bool,
    ) -> Line {
        let wanted = tracing::enabled!(target: "tidings::request", tracing::Level::INFO);
        let target = wanted.then(|| redacted(&head.uri, topics));
        let method = if wanted { shortened(&head.method) } else { String::new() };
        Line { method, target, client, id }
    }

    /// Refusals are worth a line in production, the rest only when somebody looks closely.
    pub(super) fn write(self, response: &Response<Content>, begun: Instant) {
        let Line { method, client, id, .. } = self;
        let Some(target) = self.target else { return };
        let status = response.status().as_u16();
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
