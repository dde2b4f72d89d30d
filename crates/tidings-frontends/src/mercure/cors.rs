//! Which pages of other origins may talk to the hub (Fetch standard, section 3.2). Knows no token:
//! it only says what a browser may let a page do.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::origins::{BadOrigin, Origins};

/// Methods of the hub's URL.
pub(super) const METHODS: &str = "GET, HEAD, POST, QUERY, OPTIONS";
/// Methods of the URLs that are only read.
pub(super) const READ_METHODS: &str = "GET, HEAD, OPTIONS";
/// Methods of the URL that makes tickets.
pub(super) const POST_METHODS: &str = "POST, OPTIONS";
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, QUERY");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, content-type, idempotency-key, if-none-match, last-event-id",
);
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "ETag, Link, Last-Event-ID, Mercure-Last-Event-ID, Retry-After, Tidings-Receipt, \
     WWW-Authenticate, X-Request-Id",
);
/// How long a browser remembers a preflight: as long as the strictest of them allows.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// Who may read answers, by the origin of the page.
#[derive(Debug, Default)]
pub(super) struct Cors {
    /// Listed origins get credentials; `*` lets all others in without.
    origins: Origins,
}

impl Cors {
    /// Reads the list: origins that may send credentials, and `*` for all others without.
    pub(super) fn new(origins: &[String]) -> Result<Cors, BadOrigin> {
        Ok(Cors { origins: Origins::new(origins)? })
    }

    /// Says on an answer to a request from `origin` who may read it.
    pub(super) fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        // Also without an origin: a cache must not hand this answer to somebody who sends one.
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        if self.origins.lists(origin) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer
                .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        } else if self.origins.everybody {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            return;
        }
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }

    /// Says on the answer to a preflight what may be sent. [`Cors::mark`] says to whom.
    pub(super) fn mark_preflight(&self, answer: &mut HeaderMap) {
        for name in [header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS]
        {
            answer.append(header::VARY, header_name_value(&name));
        }
        if answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            answer.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
        }
    }
}

fn header_name_value(name: &HeaderName) -> HeaderValue {
    HeaderValue::from_name(name.clone())
}

/// Reads `bytes` as a list of origins, one a line, whose last line is the origin that asks.
pub(super) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let asks = lines.pop().and_then(|line| HeaderValue::from_str(&line).ok());
    if let Ok(cors) = Cors::new(&lines) {
        let mut answer = HeaderMap::new();
        cors.mark(asks.as_ref(), &mut answer);
        cors.mark_preflight(&mut answer);
        let everybody = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_some_and(|to| to == "*");
        let credentials = answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        assert!(!(everybody && credentials), "a wildcard came with credentials");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(origins: &[&str], origin: &str) -> (Option<String>, bool) {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let mut headers = HeaderMap::new();
        let origin = HeaderValue::from_str(origin).unwrap();
        Cors::new(&origins).unwrap().mark(Some(&origin), &mut headers);
        let allowed = headers
            .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
            .map(|value| value.to_str().unwrap().to_owned());
        (allowed, headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS))
    }

    #[test]
    fn m12_only_listed_origins_get_credentials() {
        let listed = ["https://app.example.com", "https://*.e.com", "http://localhost:*"];
        for origin in [
            "https://app.example.com",
            "https://a.e.com",
            "https://a.b.e.com",
            "http://localhost:81",
        ] {
            assert_eq!(answer(&listed, origin), (Some(origin.to_owned()), true), "{origin}");
        }
        for origin in [
            "https://app.example.com.evil.com",
            "http://app.example.com",
            "https://app.example.com:444",
            "https://e.com",
            "https://.e.com",
            "https://evil.com/.e.com",
            "https://evil.com:1.e.com",
            "https://user@a.e.com",
            "http://localhost:",
            "http://localhost:1:2",
            "null",
        ] {
            assert_eq!(answer(&listed, origin), (None, false), "{origin}");
        }
    }

    #[test]
    fn m12_a_wildcard_never_comes_with_credentials() {
        assert_eq!(answer(&["*"], "https://x"), (Some("*".to_owned()), false));
        let dev = ["http://127.0.0.1:*", "*"];
        assert_eq!(answer(&dev, "http://127.0.0.1:5"), (Some("http://127.0.0.1:5".into()), true));
        assert_eq!(answer(&dev, "https://x"), (Some("*".to_owned()), false));
        assert_eq!(answer(&["*"], "null"), (Some("*".to_owned()), false));
        assert_eq!(answer(&["null"], "null"), (Some("null".to_owned()), true));
    }

    #[test]
    fn without_a_list_nothing_is_said() {
        let mut headers = HeaderMap::new();
        let origin = HeaderValue::from_static("https://x");
        Cors::default().mark(Some(&origin), &mut headers);
        assert!(headers.is_empty());
    }
}
