//! What a connection over the limit is told. Knows no request: it reads one only to throw it away.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Body;
use super::places::Full;
use crate::limits::{HEAD_BYTES_MAX, REFUSAL_RETRY_SECONDS, REFUSAL_TIMEOUT};
use crate::problem;

const TITLE: &str = "Too many connections";

fn detail(full: Full) -> &'static str {
    match full {
        Full::InTotal => "The hub has no place for another connection. Come back later.",
        Full::OfAddress => "Your address has too many connections. Close some or come back later.",
    }
}

/// The answer to a request of a proxy's client that has too many.
pub(super) fn response(full_of: Full) -> http::Response<Body> {
    let mut response = problem::problem(StatusCode::TOO_MANY_REQUESTS, TITLE, detail(full_of));
    response.headers_mut().insert(http::header::RETRY_AFTER, REFUSAL_RETRY_SECONDS.into());
    response
}

/// Tells a connection that there is no place for it and closes it.
pub(super) async fn tell(stream: TcpStream, full_of: Full) {
    // Whether it was heard does not matter: the connection is closed either way.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, answer(stream, full_of)).await;
}

async fn answer(mut stream: TcpStream, full_of: Full) -> std::io::Result<()> {
    let body = problem::document(StatusCode::TOO_MANY_REQUESTS, TITLE, detail(full_of));
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nretry-after: {REFUSAL_RETRY_SECONDS}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // Clients do not expect an answer before they have asked.
    stream.readable().await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection and take the answer away.
    let mut thrown_away = [0; 2048];
    let mut bytes = 0;
    while bytes < HEAD_BYTES_MAX {
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut thrown_away));
        match read.await {
            Ok(Ok(1..)) => bytes += thrown_away.len(),
            Ok(Ok(0) | Err(_)) | Err(_) => break,
        }
    }
    Ok(())
}

/// What a request without TLS is told where there is TLS. It is to be sent again as it is.
pub(super) fn moved(to: Option<HeaderValue>) -> http::Response<Body> {
    let detail = "This hub is reached by https.";
    let mut response = problem::problem(StatusCode::PERMANENT_REDIRECT, "Use https", detail);
    response.headers_mut().extend(to.map(|to| (http::header::LOCATION, to)));
    response
}

/// What a frontend that panicked answers.
pub(super) fn panicked() -> http::Response<Body> {
    problem::problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "The hub made a mistake; its log has more under this request id.",
    )
}

/// What a path that nobody claims answers.
pub(super) fn not_found() -> http::Response<Body> {
    problem::problem(StatusCode::NOT_FOUND, "Not found", "Nothing is served at this path.")
}
