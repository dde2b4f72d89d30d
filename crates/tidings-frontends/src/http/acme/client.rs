//! Requests to an ACME server, bounded in bytes and time. Knows no ACME but `Retry-After`.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error as Failed, HttpClient};

use super::AcmeProblem;
use crate::causes;
use crate::limits::{ACME_ANSWER_BYTES_MAX, ACME_ANSWER_TIMEOUT};

/// How long an ACME server wants to be left alone, as far as it has said so.
pub(super) type Told = Arc<Mutex<Option<Duration>>>;

/// Speaks HTTP to an ACME server.
pub(super) struct Client {
    http: reqwest::Client,
    told: Told,
}

impl Client {
    /// A client that trusts the system's certificates, or those in a file instead.
    pub(super) fn new(roots: Option<&Path>, told: Told) -> Result<Client, AcmeProblem> {
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ACME_ANSWER_TIMEOUT)
            .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = roots {
            let unusable = |reason: String| AcmeProblem::Roots { file: shown(path), reason };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| unusable("holds no certificates as PEM".to_owned()))?;
            if roots.is_empty() {
                return Err(unusable("holds no certificates as PEM".to_owned()));
            }
            builder = builder.tls_certs_only(roots);
        }
        let http = builder.build().map_err(|error| AcmeProblem::Client(causes(&error)))?;
        Ok(Client { http, told })
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Failed>> + Send>>;

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let (http, told) = (self.http.clone(), Arc::clone(&self.told));
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            // The library's own name would hide who asks.
            head.headers.remove(header::USER_AGENT);
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(head, body.to_bytes());
            let request =
                reqwest::Request::try_from(request).map_err(|error| unreachable(&error))?;
            let mut answer = http.execute(request).await.map_err(|error| unreachable(&error))?;
            let refused = !answer.status().is_success();
            *told.lock().unwrap_or_else(PoisonError::into_inner) =
                refused.then(|| retry_after(answer.headers())).flatten();
            let mut body = BytesMut::new();
            while let Some(piece) = answer.chunk().await.map_err(|error| unreachable(&error))? {
                if body.len() + piece.len() > ACME_ANSWER_BYTES_MAX {
                    return Err(Failed::Str("an answer of a reasonable size"));
                }
                body.extend_from_slice(&piece);
            }
            let mut response = Response::new(());
            *response.status_mut() = answer.status();
            std::mem::swap(response.headers_mut(), answer.headers_mut());
            let (parts, ()) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body.freeze()) })
        })
    }
}

fn unreachable(error: &reqwest::Error) -> Failed {
    Failed::Other(causes(error).into())
}

/// `Retry-After` as a span (RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap<HeaderValue>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers).map(|span| span.as_secs())
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3_600));
        assert!((3_590..=3_600).contains(&after(&later).unwrap()));
    }
}
