//! The operator's listener: whether the program lives, is ready, and what it counts.
//!
//! Loopback by default, apart from what clients reach. Knows no protocol of theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Method, Response, StatusCode, header};
use tidings_core::Hub;
use tidings_frontends::http::{Answer, Body, Frontend, Request, Server, full};
use tidings_frontends::problem::problem;

mod metrics;

/// Whether the program wants to be sent clients: set when everything runs, cleared when it ends.
pub type Ready = Arc<AtomicBool>;

/// What the listener shows.
pub struct Admin {
    /// See [`Ready`].
    pub ready: Ready,
    /// The hub behind it.
    pub hub: Hub,
    /// The side that clients reach.
    pub public: Arc<Server>,
}

/// One path and what it answers.
type Route = (&'static str, fn(&Admin) -> Response<Body>);

/// Everything that is served without a token.
const ROUTES: [Route; 3] =
    [("/livez", Admin::livez), ("/readyz", Admin::readyz), ("/metrics", Admin::metrics)];

impl Frontend for Admin {
    fn claims(&self, path: &str) -> bool {
        ROUTES.iter().any(|(route, _)| *route == path)
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        let response = self.answer(&request.head.method, request.head.uri.path());
        Box::pin(std::future::ready(response))
    }
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let detail = "This is read by GET.";
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "Wrong method", detail);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match ROUTES.iter().find(|(route, _)| *route == path) {
            Some((_, answer)) => answer(self),
            None => problem(StatusCode::NOT_FOUND, "Not found", "Nothing is served at this path."),
        }
    }

    /// Alive as long as it answers: who does not answer is to be restarted.
    fn livez(&self) -> Response<Body> {
        text("alive\n")
    }

    fn readyz(&self) -> Response<Body> {
        let reason = if !self.ready.load(Ordering::Acquire) {
            "The hub is starting or shutting down."
        } else if !self.hub.is_writable() {
            "The history's storage has failed; subscribers are still served. See the log."
        } else {
            return text("ready\n");
        };
        problem(StatusCode::SERVICE_UNAVAILABLE, "Not ready", reason)
    }

    fn metrics(&self) -> Response<Body> {
        match metrics::render(&self.hub, &self.public) {
            Ok(body) => {
                let mut response = text(&body);
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(std::fmt::Error) => problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "The metrics could not be written.",
            ),
        }
    }
}

fn text(body: &str) -> Response<Body> {
    let mut response = Response::new(full(body.to_owned()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
