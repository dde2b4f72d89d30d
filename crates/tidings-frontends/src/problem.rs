//! Problem details (RFC 9457): the body of a refusal that no protocol defines otherwise.
//!
//! Knows no protocol; what it is given goes to the client, so no secret may be in it.

use http::{Response, StatusCode, header};

use crate::http::{Body, full};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_whatever_its_text_contains() {
        let text = document(StatusCode::BAD_REQUEST, "Bad \"topic\"", "line\nbreak");
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["status"], 400);
        assert_eq!(parsed["title"], "Bad \"topic\"");
        assert_eq!(parsed["detail"], "line\nbreak");
    }
}
