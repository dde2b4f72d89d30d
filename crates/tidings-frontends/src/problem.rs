//! Problem details (RFC 9457): the body of a refusal that no protocol defines otherwise.
//!
//! Knows no protocol; what it is given goes to the client, so no secret may be in it.

use http::{Response, StatusCode, header};

use crate::http::{Body, full};
use crate::limits::FIELD_NAME_BYTES_SHOWN_MAX;

/// A response of `status` whose body is a problem document: `title` names the kind of problem,
/// `detail` says what to do about this one.
pub fn problem(status: StatusCode, title: &str, detail: &str) -> Response<Body> {
    let mut response = Response::new(full(document(status, title, detail)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    response
}

/// The JSON text of a problem document (RFC 9457 section 3.1).
pub fn document(status: StatusCode, title: &str, detail: &str) -> String {
    serde_json::json!({
        "type": "about:blank",
        "status": status.as_u16(),
        "title": title,
        "detail": detail,
    })
    .to_string()
}

/// The name of a field as a client may be shown what it sent: visible ASCII without quotes and
/// backslashes (RFC 6749 section 5.2 allows no more), the rest percent-encoded, and not all of a
/// long one. Not for a log: who forgets a name sends a secret in its place.
pub(crate) fn shown_name(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'`');
    let mut shown = String::new();
    for byte in name.bytes().take(FIELD_NAME_BYTES_SHOWN_MAX) {
        match is_plain(byte) {
            true => shown.push(char::from(byte)),
            false => shown.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > FIELD_NAME_BYTES_SHOWN_MAX {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_in_plain_characters_and_not_without_end() {
        assert_eq!(shown_name("topic[0]"), "topic[0]");
        assert_eq!(shown_name("a b\"\\`\n\u{e9}"), "a%20b%22%5C%60%0A%C3%A9");
        let long = shown_name(&"x".repeat(1_000_000));
        assert_eq!(long, format!("{}...", "x".repeat(FIELD_NAME_BYTES_SHOWN_MAX)));
    }

    #[test]
    fn a_problem_is_json_whatever_its_text_contains() {
        let text = document(StatusCode::BAD_REQUEST, "Bad \"topic\"", "line\nbreak");
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["status"], 400);
        assert_eq!(parsed["title"], "Bad \"topic\"");
        assert_eq!(parsed["detail"], "line\nbreak");
    }
}
