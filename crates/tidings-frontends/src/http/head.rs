//! What of a request's head is judged before any frontend sees it. Knows no path and no protocol
//! on top of HTTP.

use http::request::Parts;
use http::uri::Authority;
use http::{Response, StatusCode, Version, header};

use super::Body;
use crate::problem::problem;

/// The refusal of a head that no frontend should see.
pub(super) fn refusal(head: &Parts) -> Option<Response<Body>> {
    host_refusal(head).or_else(|| coding_refusal(head))
}

/// One host that can be read (RFC 9112 section 3.2): where two hops read different hosts, they
/// speak about different requests.
fn host_refusal(head: &Parts) -> Option<Response<Body>> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let detail = match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 => {
            "A request of HTTP/1.1 needs a Host header."
        }
        (None, _) => return None,
        (Some(_), Some(_)) => "A request must not have more than one Host header.",
        (Some(host), None) if host.to_str().is_ok_and(is_host) => return None,
        (Some(_), None) => "The Host header must be a host, and a port where there is one.",
    };
    Some(problem(StatusCode::BAD_REQUEST, "Bad Host header", detail))
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2). It is empty where the target names no host.
fn is_host(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let Some(rest) = text.strip_prefix(authority.host()) else { return false };
    let port = rest.strip_prefix(':').unwrap_or_default();
    !authority.host().is_empty()
        && (rest.is_empty() || rest.starts_with(':'))
        // `parse` alone would take a sign.
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Codings beside `chunked` are not undone here, and a body that is still coded is not what the
/// client meant (RFC 9112 section 6.1).
fn coding_refusal(head: &Parts) -> Option<Response<Body>> {
    let fields = head.headers.get_all(header::TRANSFER_ENCODING);
    let known = fields.iter().all(|field| {
        field.as_bytes().split(|byte| *byte == b',').all(|coding| {
            let coding = coding.trim_ascii();
            coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked")
        })
    });
    (!known).then(|| {
        let detail = "The only transfer coding that is read is chunked.";
        problem(StatusCode::NOT_IMPLEMENTED, "Unknown transfer coding", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_at_most_a_port() {
        for host in
            ["", "a", "A.example:80", "127.0.0.1:3000", "[::1]", "[::1]:65535", "a_b", "a:", "a."]
        {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "a b", "u@a", "u:p@a", "a:b", "a:80:80", "a:65536", "a/b", "/", "a?b", "a#b", ":80",
            "::1", "[::1", "[::1]x", "a:+1", "http://a", "@",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }
}
