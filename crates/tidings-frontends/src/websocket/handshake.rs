//! How a request becomes a WebSocket (RFC 6455 section 4.2). Knows no token and no origin: who may
//! is somebody else's matter.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};

use crate::http::Body;
use crate::problem::problem;

/// What stands behind every key before it is hashed (section 4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key, before they are written in base64.
const KEY_BYTES: usize = 16;
/// The version of the protocol, the only one that was ever finished.
const VERSION: &str = "13";

/// The client's fault: its request is no beginning of a WebSocket that is served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a WebSocket begins with GET")]
    NotGet,
    #[error("a WebSocket begins over HTTP/1.1")]
    BadVersion,
    #[error("the fields `Upgrade: websocket` and `Connection: Upgrade` ask for a WebSocket")]
    NoUpgrade,
    #[error("the field `Sec-WebSocket-Version` has to be 13")]
    OtherProtocol,
    #[error(
        "a request for a WebSocket has no body: send neither `Transfer-Encoding` nor a \
         `Content-Length` above 0, and messages behind the answer"
    )]
    Body,
    #[error("the field `Sec-WebSocket-Key` has to be 16 bytes in base64, once")]
    BadKey,
    #[error("none of the subprotocols in `Sec-WebSocket-Protocol` is spoken here")]
    NoSubprotocol,
}

impl Refusal {
    fn verdict(self) -> (StatusCode, &'static str) {
        match self {
            Refusal::NotGet => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Refusal::BadVersion | Refusal::NoUpgrade | Refusal::OtherProtocol => {
                (StatusCode::UPGRADE_REQUIRED, "Upgrade required")
            }
            Refusal::Body | Refusal::BadKey | Refusal::NoSubprotocol => {
                (StatusCode::BAD_REQUEST, "Bad request")
            }
        }
    }

    /// The status of the answer.
    pub(crate) fn status(self) -> StatusCode {
        self.verdict().0
    }

    /// The answer: a problem document, and what the client could do.
    pub(crate) fn answer(self, version: Version) -> Response<Body> {
        let (status, title) = self.verdict();
        let mut answer = problem(status, title, &self.to_string());
        let headers = answer.headers_mut();
        if self == Refusal::NotGet {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        // A field about the connection, which HTTP/2 does not have.
        if status == StatusCode::UPGRADE_REQUIRED && version < Version::HTTP_2 {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        if self == Refusal::OtherProtocol {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        }
        answer
    }
}

/// A request that begins a WebSocket.
#[derive(Debug)]
pub(crate) struct Accepted {
    key: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Accepted {
    /// The head of the answer (section 4.2.2).
    pub(crate) fn answer<B>(self, body: B) -> Response<B> {
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.key);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        answer
    }
}

/// Reads the head of a request. Of `protocols` the first one counts that the client offers; where
/// it offers none, nothing is agreed on and the first one is spoken. Without `protocols`, what is
/// offered does not matter.
///
/// # Errors
///
/// See [`Refusal`].
pub(crate) fn accept(head: &Parts, protocols: &[&'static str]) -> Result<Accepted, Refusal> {
    if head.method != Method::GET {
        return Err(Refusal::NotGet);
    }
    if head.version != Version::HTTP_11 {
        return Err(Refusal::BadVersion);
    }
    let headers = &head.headers;
    let asks = |name: &HeaderName, token: &str| {
        tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
    };
    if !asks(&header::UPGRADE, "websocket") || !asks(&header::CONNECTION, "upgrade") {
        return Err(Refusal::NoUpgrade);
    }
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    if !matches!((versions.next(), versions.next()), (Some(version), None) if version == VERSION) {
        return Err(Refusal::OtherProtocol);
    }
    if has_body(headers) {
        return Err(Refusal::Body);
    }
    let key = accepted_key(headers).ok_or(Refusal::BadKey)?;
    let mut offered = offered(headers).peekable();
    let has_offered = offered.peek().is_some();
    let offered: Vec<&str> = offered.collect();
    let protocol = protocols.iter().find(|protocol| offered.contains(protocol));
    if has_offered && !protocols.is_empty() && protocol.is_none() {
        return Err(Refusal::NoSubprotocol);
    }
    Ok(Accepted { key, protocol: protocol.map(|protocol| HeaderValue::from_static(protocol)) })
}

/// The subprotocols that a client offers, in its order.
pub(crate) fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
}

/// The elements of a list (RFC 9110 section 5.6.1) that are texts.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let fields = headers.get_all(name).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Whether a body follows the head (RFC 9112 section 6.3). Who has framed its bytes as a body and
/// who takes them for frames would read different things.
fn has_body(headers: &HeaderMap) -> bool {
    let is_none = |length: &HeaderValue| length.to_str().is_ok_and(|text| text.trim() == "0");
    headers.contains_key(header::TRANSFER_ENCODING)
        || !headers.get_all(header::CONTENT_LENGTH).iter().all(is_none)
}

fn accepted_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return None };
    if STANDARD.decode(key.as_bytes()).ok()?.len() != KEY_BYTES {
        return None;
    }
    let hashed = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::try_from(STANDARD.encode(hashed.as_ref())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const FIELDS: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn head(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/ws");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn with(name: &str, value: Option<&str>) -> Parts {
        let mut fields: Vec<_> = FIELDS.into_iter().filter(|(known, _)| *known != name).collect();
        fields.extend(value.map(|value| (name, value)));
        head(&fields)
    }

    #[test]
    fn the_key_is_answered_as_in_the_specification() {
        let answer = accept(&head(&FIELDS), &["a"]).unwrap().answer(());
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()["upgrade"], "websocket");
        assert_eq!(answer.headers()["connection"], "Upgrade");
        assert!(!answer.headers().contains_key("sec-websocket-protocol"), "none was offered");
    }

    #[test]
    fn what_is_no_handshake_is_refused_with_what_could_be_done() {
        let check = |head: &Parts, refusal: Refusal, status: u16| {
            assert_eq!(accept(head, &["a"]).unwrap_err(), refusal);
            assert_eq!(refusal.answer(head.version).status(), status);
        };
        let mut post = head(&FIELDS);
        post.method = Method::POST;
        check(&post, Refusal::NotGet, 405);
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let mut other = head(&FIELDS);
            other.version = version;
            check(&other, Refusal::BadVersion, 426);
        }
        let upgrades =
            |version| Refusal::BadVersion.answer(version).headers().contains_key(header::UPGRADE);
        assert!(upgrades(Version::HTTP_11) && !upgrades(Version::HTTP_2));
        for value in [None, Some("h2c"), Some("websockets")] {
            check(&with("upgrade", value), Refusal::NoUpgrade, 426);
        }
        for value in [None, Some("keep-alive"), Some("close")] {
            check(&with("connection", value), Refusal::NoUpgrade, 426);
        }
        for value in [None, Some("12"), Some("8, 13"), Some("")] {
            check(&with("sec-websocket-version", value), Refusal::OtherProtocol, 426);
        }
        let answer = Refusal::OtherProtocol.answer(Version::HTTP_11);
        assert_eq!(answer.headers()["sec-websocket-version"], "13");
        for value in [None, Some(""), Some("AAAA"), Some("dGhlIHNhbXBsZSBub25jZQ"), Some("é")] {
            check(&with("sec-websocket-key", value), Refusal::BadKey, 400);
        }
        for length in ["1", "0, 1", "x"] {
            check(&with("content-length", Some(length)), Refusal::Body, 400);
        }
        check(&with("transfer-encoding", Some("chunked")), Refusal::Body, 400);
        assert!(accept(&with("content-length", Some("0")), &["a"]).is_ok());
        let twice = [&FIELDS[..], &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]].concat();
        check(&head(&twice), Refusal::BadKey, 400);
    }

    #[test]
    fn a_subprotocol_is_agreed_on_when_one_is_offered() {
        let agreed = |offered: &str, spoken: &[&'static str]| {
            let head = with("sec-websocket-protocol", Some(offered));
            let answer = accept(&head, spoken)?.answer(());
            let agreed = answer.headers().get("sec-websocket-protocol").cloned();
            Ok::<_, Refusal>(agreed.map(|value| value.to_str().unwrap().to_owned()))
        };
        assert_eq!(agreed("b, a", &["a"]), Ok(Some("a".to_owned())));
        assert_eq!(agreed("a,bearer.x.y", &["a"]), Ok(Some("a".to_owned())));
        assert_eq!(agreed("A", &["a"]), Err(Refusal::NoSubprotocol));
        assert_eq!(agreed("bearer.x.y", &["a"]), Err(Refusal::NoSubprotocol));
        assert_eq!(agreed("anything", &[]), Ok(None));
        assert_eq!(agreed(" , ", &["a"]), Ok(None));
    }
}
