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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, in milliseconds since 1970.
    const THEN: u64 = 784_111_777_000;

    fn answered(status: u16, retry_after: Option<&str>, success: &Success, now: u64) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            let value = http::HeaderValue::from_bytes(value.as_bytes());
            headers.insert(RETRY_AFTER, value.unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::from_static(b"words");
        outcome(Exchanged { status, headers, body, is_whole: true }, success, now)
    }

    #[test]
    fn each_status_means_what_it_says() {
        for status in [200, 201, 202, 204, 206, 299] {
            let outcome = answered(status, None, &Success::Any2xx, THEN);
            let answer = Answer { status: Some(status), body: Bytes::from_static(b"words") };
            assert_eq!(outcome, Outcome { delivered: 1, failure: None, answer });
        }
        for (status, fault) in [
            (100, Fault::Rejected),
            (101, Fault::Rejected),
            (300, Fault::Rejected),
            (301, Fault::Rejected),
            (304, Fault::Rejected),
            (307, Fault::Rejected),
            (308, Fault::Rejected),
            (400, Fault::Rejected),
            (401, Fault::Rejected),
            (404, Fault::Rejected),
            (408, Fault::Busy),
            (410, Fault::Gone),
            (413, Fault::Rejected),
            (425, Fault::Busy),
            (429, Fault::Busy),
            (499, Fault::Rejected),
            (500, Fault::Busy),
            (501, Fault::Busy),
            (503, Fault::Busy),
            (599, Fault::Busy),
            (600, Fault::Rejected),
            (999, Fault::Rejected),
        ] {
            let outcome = answered(status, None, &Success::Any2xx, THEN);
            let failure = outcome.failure.unwrap();
            assert_eq!((outcome.delivered, failure.fault), (0, fault), "{status}");
            assert!(failure.reason.contains(&status.to_string()), "{}", failure.reason);
            assert_eq!(outcome.answer.status, Some(status));
        }
    }

    #[test]
    fn a_list_of_statuses_is_the_whole_list() {
        let only = Success::Only(vec![200, 302, 410]);
        for status in [200, 302, 410] {
            assert_eq!(answered(status, None, &only, THEN).failure, None, "{status}");
        }
        let failure = answered(204, None, &only, THEN).failure.unwrap();
        assert_eq!(failure.fault, Fault::Rejected);
        assert!(failure.reason.contains("not among"), "{}", failure.reason);
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let millis = |millis| Some(Duration::from_millis(millis));
        for (value, now, wait) in [
            ("0", THEN, millis(0)),
            ("1", THEN, millis(1_000)),
            ("120", THEN, millis(120_000)),
            ("0000000000000000000000120", THEN, millis(120_000)),
            (" 7 ", THEN, millis(7_000)),
            ("31536000", THEN, Some(RETRY_AFTER_MAX)),
            ("31536001", THEN, Some(RETRY_AFTER_MAX)),
            ("99999999999999999999999", THEN, Some(RETRY_AFTER_MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", THEN - 5_000, millis(5_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", THEN - 4_999, millis(4_999)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", THEN - 5_000, millis(5_000)),
            ("Sun Nov  6 08:49:37 1994", THEN - 5_000, millis(5_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", THEN, millis(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", THEN + 60_000, millis(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", THEN, Some(RETRY_AFTER_MAX)),
            ("", THEN, None),
            ("+1", THEN, None),
            ("-1", THEN, None),
            ("1.5", THEN, None),
            ("1, 2", THEN, None),
            ("soon", THEN, None),
            ("٣", THEN, None),
            ("0x10", THEN, None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", THEN, None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", THEN, None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", THEN, None),
            ("Sun, 06 Nov 1994 08:49:37 CET", THEN, None),
            ("1994-11-06T08:49:37Z", THEN, None),
        ] {
            let failure = answered(503, Some(value), &Success::Any2xx, now).failure.unwrap();
            assert_eq!(failure.retry_after.map(|asked| asked.wait), wait, "{value:?}");
        }
        assert_eq!(answered(503, None, &Success::Any2xx, 0).failure.unwrap().retry_after, None);
    }

    #[test]
    fn only_a_busy_endpoint_asks_for_everybody() {
        for (status, is_for_all) in
            [(429, true), (503, true), (500, false), (408, false), (404, false)]
        {
            let failure = answered(status, Some("3"), &Success::Any2xx, 0).failure.unwrap();
            let asked = RetryAfter { wait: Duration::from_secs(3), is_for_all };
            assert_eq!(failure.retry_after, Some(asked), "{status}");
        }
    }
}
