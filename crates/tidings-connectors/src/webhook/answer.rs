//! What an endpoint's answer means for the update. Knows no connection.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::exchange::{Exchanged, failure};
use crate::connector::{Answer, Failure, Fault, Outcome, RetryAfter};
use crate::limits::RETRY_AFTER_MAX;

/// Which statuses say that an update was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// All from 200 to 299.
    Any2xx,
    /// These.
    Only(Vec<u16>),
}

impl Success {
    fn is(&self, status: StatusCode) -> bool {
        match self {
            Success::Any2xx => status.is_success(),
            Success::Only(statuses) => statuses.contains(&status.as_u16()),
        }
    }
}

/// What became of one update, whose answer came at `now_wall_ms` (milliseconds since 1970).
pub fn outcome(exchanged: Exchanged, success: &Success, now_wall_ms: u64) -> Outcome {
    let Exchanged { status, headers, body, .. } = exchanged;
    let answer = Answer { status: Some(status.as_u16()), body };
    if success.is(status) {
        return Outcome { delivered: 1, failure: None, answer };
    }
    let fault = fault(status);
    let retry_after = retry_after(&headers, now_wall_ms).map(|wait| RetryAfter {
        wait,
        is_for_all: matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ),
    });
    let failure = Failure { retry_after, ..failure(fault, reason(status)) };
    Outcome { delivered: 0, failure: Some(failure), answer }
}

fn fault(status: StatusCode) -> Fault {
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Fault::Busy,
        410 => Fault::Gone,
        _ => Fault::Rejected,
    }
}

fn reason(status: StatusCode) -> String {
    let why = match status.as_u16() {
        200..=299 => ", which is not among the statuses that count as success",
        300..=399 => "; redirects are not followed, so name the final URL",
        410 => "; it wants nothing more",
        _ => "",
    };
    match status.canonical_reason() {
        Some(words) => format!("the answer was {} {words}{why}", status.as_u16()),
        None => format!("the answer was {}{why}", status.as_u16()),
    }
}

/// How long the endpoint asks to be left alone (RFC 9110, 10.2.3): seconds, or until a date in one
/// of its three forms (5.6.7). `None` when it does not ask, or nobody can tell what for.
fn retry_after(headers: &HeaderMap, now_wall_ms: u64) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number can hold are for ever.
        Duration::from_secs(asked.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(asked).ok()?;
        let since_1970 = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        since_1970.saturating_sub(Duration::from_millis(now_wall_ms))
    };
    Some(wait.min(RETRY_AFTER_MAX))
}
