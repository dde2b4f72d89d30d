//! What the operator should know about the proxies in front: seldom said, and always with what to
//! set. Changes no answer.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use http::HeaderMap;
use url::Url;

use super::forwarded::FORWARDED_FOR;
use crate::limits::{FORWARDED_HOST_BYTES_MAX, HINT_INTERVAL};

/// A line of the log that does not fill it.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    said: Mutex<Option<Instant>>,
}

impl Seldom {
    /// Whether it is time again.
    pub(super) fn may_speak(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = said.is_some_and(|said| said.elapsed() < HINT_INTERVAL);
        if !silent {
            *said = Some(Instant::now());
        }
        !silent
    }
}

/// The hints of a server.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// A balancer without its header.
    pub(super) balancer: Seldom,
    contradiction: Seldom,
    stranger: Seldom,
}

impl Hints {
    /// Looks at what the peer of a request says about its client.
    pub(super) fn look(&self, peer: IpAddr, trusted: bool, headers: &HeaderMap, public: &Url) {
        if !trusted {
            if headers.contains_key(&FORWARDED_FOR) && self.stranger.may_speak() {
                tracing::warn!(
                    %peer,
                    "X-Forwarded-For of an unknown proxy is not believed: if this is yours, put \
                     its address into `http.trusted_proxies`, or all its clients count as one"
                );
            }
            return;
        }
        let Some(claim) = contradiction(headers, public) else { return };
        if self.contradiction.may_speak() {
            tracing::warn!(
                %peer,
                "the proxy says that clients use {claim}, and `public_url` is {public}: set \
                 `public_url` to what clients use (tokens and topics depend on it), or let the \
                 proxy send the right X-Forwarded-Proto and X-Forwarded-Host"
            );
        }
    }
}

/// What a proxy says about its clients' URL, if the public URL is another one.
fn contradiction(headers: &HeaderMap, public: &Url) -> Option<String> {
    let first = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        text.split(',').next().map(str::trim)
    };
    let scheme = first("x-forwarded-proto").and_then(|scheme| {
        ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))
    });
    let host = first("x-forwarded-host").filter(|host| is_host(host));
    let said = format!(
        "{}://{}",
        scheme.unwrap_or(public.scheme()),
        host.or(public.host_str()).unwrap_or_default()
    );
    let url = Url::parse(&said).ok()?;
    let differs = url.scheme() != public.scheme()
        || (host.is_some()
            && (url.host() != public.host()
                || url.port_or_known_default() != public.port_or_known_default()));
    differs.then_some(said)
}

/// Whether a text is host and port, and short enough for the log.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.is_empty() && text.len() <= FORWARDED_HOST_BYTES_MAX && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pairs: &[(&'static str, &str)], public: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        contradiction(&headers, &Url::parse(public).unwrap())
    }

    #[test]
    fn a_proxy_that_agrees_with_the_public_url_is_no_news() {
        let public = "https://hub.example.com";
        for pairs in [
            [("x-forwarded-proto", "https"), ("x-forwarded-host", "hub.example.com")],
            [("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "hub.example.com:443")],
            [("x-forwarded-proto", "https, http"), ("x-forwarded-host", "HUB.example.com, a")],
            [("x-forwarded-proto", "wss"), ("x-forwarded-host", "<script>")],
        ] {
            assert_eq!(claim(&pairs, public), None, "{pairs:?}");
        }
        assert_eq!(claim(&[], public), None);
        assert_eq!(claim(&[("x-forwarded-proto", "https")], "https://hub.example.com:8443"), None);
    }

    #[test]
    fn a_proxy_that_contradicts_the_public_url_is_quoted() {
        let public = "https://hub.example.com";
        let proto = claim(&[("x-forwarded-proto", "http")], public);
        assert_eq!(proto.as_deref(), Some("http://hub.example.com"));
        let host = claim(&[("x-forwarded-host", "push.example.com")], public);
        assert_eq!(host.as_deref(), Some("https://push.example.com"));
        let port = claim(&[("x-forwarded-host", "hub.example.com:8443")], public);
        assert_eq!(port.as_deref(), Some("https://hub.example.com:8443"));
    }

    #[test]
    fn a_hint_is_said_once_in_its_time() {
        let hint = Seldom::default();
        assert!(hint.may_speak());
        assert!(!hint.may_speak() && !hint.may_speak());
    }
}
