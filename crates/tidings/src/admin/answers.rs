//! How the operator's listener answers: JSON, problems (RFC 9457), and what a body says. Knows no
//! meaning of either.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_core::StateError;
use tidings_frontends::http::{Body, empty, full};
use tidings_frontends::problem::problem;

use super::routes::Asked;
use crate::limits::{ADMIN_BODY_BYTES_MAX, ADMIN_BODY_TIMEOUT};

/// A document as JSON.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Done, and there is nothing to say.
pub(super) fn done() -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The fault of whoever asked.
pub(super) fn bad(title: &str, detail: &str) -> Response<Body> {
    problem(StatusCode::BAD_REQUEST, title, detail)
}

/// There is no sink of this name.
pub(super) fn no_sink(name: &str) -> Response<Body> {
    let detail = format!("No sink is called {name:?}: GET /tidings/admin/sinks lists them.");
    problem(StatusCode::NOT_FOUND, "No such sink", &detail)
}

/// There is one, and it does not run; or there is none.
pub(super) fn not_running(name: &str, failure: Option<String>) -> Response<Body> {
    let Some(failure) = failure else { return no_sink(name) };
    let detail = format!(
        "The sink {name:?} does not run: {failure}. It is tried again by itself; resume it to try \
         at once."
    );
    problem(StatusCode::CONFLICT, "Failed sink", &detail)
}

/// The storage said no.
pub(super) fn not_stored(error: &StateError) -> Response<Body> {
    tracing::error!(%error, "what the admin listener was asked for failed");
    problem(StatusCode::SERVICE_UNAVAILABLE, "Not stored", &format!("{error}."))
}

/// Something that only a mistake of this program or its end explains.
pub(super) fn failed() -> Response<Body> {
    let detail = "The request could not be answered. See the log.";
    problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", detail)
}

/// The body of a request as the document that it has to be.
///
/// # Errors
///
/// The answer to whoever sent something else. `title` and `hint` are its words.
pub(super) async fn body<T: DeserializeOwned>(
    asked: Asked,
    title: &str,
    hint: &str,
) -> Result<T, Box<Response<Body>>> {
    let bytes = whole(asked, title).await?;
    serde_json::from_slice(&bytes).map_err(|_| Box::new(bad(title, hint)))
}

/// The same where nothing at all may be sent.
///
/// # Errors
///
/// As of [`body`].
pub(super) async fn body_or_default<T: DeserializeOwned + Default>(
    asked: Asked,
    title: &str,
    hint: &str,
) -> Result<T, Box<Response<Body>>> {
    let bytes = whole(asked, title).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    // A list would be taken for the fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Box::new(bad(title, hint)));
    }
    serde_json::from_slice(&bytes).map_err(|_| Box::new(bad(title, hint)))
}

async fn whole(asked: Asked, title: &str) -> Result<Bytes, Box<Response<Body>>> {
    let Asked { admin, request, .. } = asked;
    let read = admin.bodies.read(request.body, ADMIN_BODY_BYTES_MAX, ADMIN_BODY_TIMEOUT).await;
    let (bytes, _share) = read.map_err(|error| Box::new(bad(title, &format!("{error}."))))?;
    Ok(bytes)
}
