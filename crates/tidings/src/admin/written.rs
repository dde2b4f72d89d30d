//! What a request says of an endpoint: its body with every mistake in it, the token of its creator,
//! and which version it is for. Knows no storage, and of tokens only whom to ask.

use http::{HeaderValue, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json as tree};
use tidings_connectors::specification::BadOption;
use tidings_frontends::http::{Body, BodyProblem};
use tidings_frontends::problem::problem;

use super::Admin;
use super::answers::{bad, json};
use super::routes::Asked;
use crate::limits::{ADMIN_BODY_TIMEOUT, SINK_BODY_BYTES_MAX};

/// The answer instead of what was asked for.
pub(super) type Refusal = Box<Response<Body>>;

/// What a request that makes no sink is called.
pub(super) const TITLE: &str = "Not a sink";

/// What is written of an endpoint, and what is kept of the token that it names.
pub(super) async fn written(asked: &mut Asked) -> Result<(Value, Option<Value>), Refusal> {
    let mut written: Map<String, Value> = read(asked, SINK_BODY_BYTES_MAX, TITLE).await?;
    let creator = match written.remove("token") {
        None => None,
        Some(Value::String(token)) => match keep(&asked.admin, &token).await {
            Ok(kept) => Some(kept),
            Err(message) => return Err(mistakes(TITLE, &[mistake("token", message)])),
        },
        Some(_) => {
            let message = "a token is a text, as subscribers send it".to_owned();
            return Err(mistakes(TITLE, &[mistake("token", message)]));
        }
    };
    Ok((Value::Object(written), creator))
}

/// What is kept of a subscriber's token, or why it is refused.
async fn keep(admin: &Admin, token: &str) -> Result<Value, String> {
    let auth = admin.auth();
    let judged_by = auth.keys_generation();
    let mut kept = auth.keep(token, admin.clock.wall());
    if let Err(problem) = &kept
        && auth.key_may_come(&problem.cause, judged_by).await
    {
        kept = auth.keep(token, admin.clock.wall());
    }
    let kept = kept.map_err(|problem| format!("the token is refused: {}", problem.cause))?;
    serde_json::to_value(kept).map_err(|_| "the token cannot be kept".to_owned())
}

/// The version that the request is for; `None` for any.
pub(super) fn version(asked: &Asked) -> Result<Option<u64>, Refusal> {
    let mut fields = asked.request.head.headers.get_all(header::IF_MATCH).iter();
    let (first, more) = (fields.next(), fields.next());
    let Some(text) = first.map(|value| value.to_str().unwrap_or_default().trim()) else {
        return Ok(None);
    };
    if text == "*" && more.is_none() {
        return Ok(None);
    }
    // A strong one (RFC 9110 section 8.8.3): a weak one is none of ours.
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match number.and_then(|number| number.parse().ok()).filter(|_| more.is_none()) {
        Some(version) => Ok(Some(version)),
        None => {
            let detail = "`If-Match` takes the ETag of the sink as it was read, or `*`.";
            let status = StatusCode::PRECONDITION_FAILED;
            Err(Box::new(problem(status, "Another version", detail)))
        }
    }
}

/// Something that is wrong at `path`.
pub(super) fn mistake(path: &str, message: String) -> BadOption {
    BadOption { path: path.to_owned(), message, hint: None, is_unknown: false }
}

/// A problem document (RFC 9457) with each mistake in `errors`: where it is, what is wrong, and
/// what to do.
pub(super) fn mistakes(title: &str, found: &[BadOption]) -> Refusal {
    let errors: Vec<Value> = found
        .iter()
        .map(|bad| tree!({ "path": bad.path, "detail": bad.message, "hint": bad.hint }))
        .collect();
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let detail = match errors.len() {
        1 => "One thing is wrong with it, see `errors`.".to_owned(),
        count => format!("{count} things are wrong with it, see `errors`."),
    };
    let document = tree!({
        "type": "about:blank",
        "status": status.as_u16(),
        "title": title,
        "detail": detail,
        "errors": errors,
    });
    let mut answer = json(status, &document);
    let kind = HeaderValue::from_static("application/problem+json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    Box::new(answer)
}

/// The body of a request as JSON; without a body, what an empty object is. `title` is that of the
/// problem that is answered otherwise.
pub(super) async fn read<T: DeserializeOwned>(
    asked: &mut Asked,
    bytes_max: usize,
    title: &str,
) -> Result<T, Box<Response<Body>>> {
    let read =
        asked.admin.bodies.read(&mut asked.request.body, bytes_max, ADMIN_BODY_TIMEOUT).await;
    let (bytes, _share) = read.map_err(|error| Box::new(unread(error, title)))?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        // Where, and not what: the body may hold secrets.
        let (line, column) = (error.line(), error.column());
        let detail = if error.is_data() {
            "The JSON does not have the members that belong here.".to_owned()
        } else {
            format!("This is no JSON: see line {line}, column {column}.")
        };
        Box::new(bad(title, &detail))
    })
}

fn unread(error: BodyProblem, title: &str) -> Response<Body> {
    let status = match error {
        BodyProblem::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyProblem::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyProblem::Broken => StatusCode::BAD_REQUEST,
        BodyProblem::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, title, &format!("{error}."))
}
