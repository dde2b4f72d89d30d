//! `/healthz` for clients' side probes: supervisors and balancers that know the Mercure hub's image
//! ask there. Says that requests are answered, nothing else; what operators want to know is on
//! their own listener.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use tidings_frontends::http::{Answer, Body, Content, Frontend, Request, empty};
use tidings_frontends::problem::problem;

/// Answers 200 without a body as long as there is somebody to answer.
pub(super) struct Healthz;

impl Frontend for Healthz {
    fn claims(&self, path: &str) -> bool {
        path == "/healthz"
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(std::future::ready(answer(&request.head.method).map(Content::Body)))
    }
}

fn answer(method: &Method) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let detail = "This is read by GET.";
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "Wrong method", detail);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(empty());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
