//! What plain requests and browsers are told about TLS. Knows no certificate.

use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;

use super::HttpOptions;

/// Where a request that came without TLS is to be sent again. A trusted proxy that has done TLS for
/// the client says so. Only the public URL decides where; the `Host` header does not.
pub(super) fn redirect(options: &HttpOptions, trusted: bool, head: &Parts) -> Option<HeaderValue> {
    let public = options.public_url.as_ref().filter(|_| options.redirect)?;
    let by_proxy = head.headers.get("x-forwarded-proto");
    if trusted && by_proxy.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https")) {
        return None;
    }
    let target = head.uri.path_and_query().filter(|target| target.as_str().starts_with('/'))?;
    let origin = public.origin().ascii_serialization();
    HeaderValue::try_from(format!("{origin}{target}")).ok()
}

/// `Strict-Transport-Security` (RFC 6797 section 6.1) for this host alone.
pub(super) fn hsts(span: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", span.as_secs()))
        .unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(target: &str, forwarded: Option<&str>, trusted: bool) -> Option<String> {
        let options = HttpOptions {
            public_url: Some("https://hub.example.com:8443/base".parse().unwrap()),
            redirect: true,
            ..HttpOptions::default()
        };
        let mut request = http::Request::get(target).header("host", "evil.example");
        if let Some(scheme) = forwarded {
            request = request.header("x-forwarded-proto", scheme);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        redirect(&options, trusted, &head).map(|to| to.to_str().unwrap().to_owned())
    }

    #[test]
    fn plain_requests_go_to_the_public_url_whatever_host_they_name() {
        let to = location("/.well-known/mercure?topic=a%20b", None, false);
        assert_eq!(
            to.as_deref(),
            Some("https://hub.example.com:8443/.well-known/mercure?topic=a%20b")
        );
        let to = location("http://evil.example//x", None, false);
        assert_eq!(to.as_deref(), Some("https://hub.example.com:8443//x"));
        assert_eq!(location("*", None, false), None);
    }

    #[test]
    fn only_a_trusted_proxy_says_that_there_was_tls() {
        assert_eq!(location("/", Some("https"), true), None);
        assert!(location("/", Some("https"), false).is_some());
        assert!(location("/", Some("http"), true).is_some());
    }
}
