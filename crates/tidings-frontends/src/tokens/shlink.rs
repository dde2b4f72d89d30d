//! `GET /rest/v{1,2,3}/mercure-info`: what Shlink's web client asks for, with an API key of this
//! hub. Its answers and problems (RFC 9457) have the shape and the words that this client knows.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::date::shown;
use super::presented::{self, Presentation};
use super::refusal::{json_answer, seconds};
use super::{Settings, Tokens, narrowing};
use crate::auth::{Granting, NotAdmitted, Portion, Wanted};
use crate::http::{Body, Request};

/// The paths, by their beginning, version and end.
pub(super) const PATHS: [&str; 3] =
    ["/rest/v1/mercure-info", "/rest/v2/mercure-info", "/rest/v3/mercure-info"];
/// How long a token holds that is handed out here, in seconds.
const LIFETIME: u64 = 24 * 60 * 60;
/// Where the types of problems are.
const TYPES: &str = "https://shlink.io/api/error/";

/// Why there is no token. The client's fault but for the last two.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no X-Api-Key was sent")]
    Missing,
    #[error("the API key is refused: {0}")]
    Refused(NotAdmitted),
    #[error("none of the API key's topics can stand in a token of 0.x")]
    NothingSayable,
    #[error("public_url is not set, so nobody can be told where the hub is")]
    NotConfigured,
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// Answers one request, and says in the log what came of it.
pub(super) fn answer(tokens: &Tokens, settings: &Settings, request: &Request) -> Response<Body> {
    let (id, client) = (request.id, request.client);
    let mut answer = match told(tokens, settings, request) {
        Ok(document) => json_answer(StatusCode::OK, document.to_string()),
        Err(refusal) => {
            tracing::info!(request = %id, %client, reason = %refusal, "no mercure-info");
            refusal.answer()
        }
    };
    mark(answer.headers_mut());
    answer
}

/// Everybody may read the answer who has a key.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

fn told(tokens: &Tokens, settings: &Settings, request: &Request) -> Result<Value, Refusal> {
    let presented = presented::of_its_own(&request.head.headers).map_err(|wrong| match wrong {
        Presentation::Missing => Refusal::Missing,
        _ => Refusal::Refused(NotAdmitted::Bad(crate::auth::KeyProblem::Malformed)),
    })?;
    if presented.text.is_empty() {
        return Err(Refusal::Missing);
    }
    let key = tokens.own.keys().admit(&presented.text, request.client, &*tokens.clock);
    let key = key.map_err(Refusal::Refused)?;
    if !settings.has_public_url {
        return Err(Refusal::NotConfigured);
    }
    let own = [Portion { topics: key.topics.clone(), payload: None }];
    let selectors = narrowing::selectors(&own, &tokens.namespace);
    if selectors.is_empty() {
        return Err(Refusal::NothingSayable);
    }
    let granting = Granting::Draft(selectors);
    let wanted = Wanted { key: &key, subject: None, granting, lifetime: LIFETIME };
    let issued = tokens.own.issue(&wanted, tokens.clock.wall());
    let issued = issued.map_err(|_| Refusal::NoRandomness)?;
    tokens.own.keys().count_issued();
    let (id, client, seconds) = (request.id, request.client, issued.lifetime);
    tracing::info!(request = %id, %client, key = key.name, seconds, "a token is handed out");
    Ok(json!({
        "mercureHubUrl": tokens.namespace.hub_url().as_str(),
        // The one is in Shlink's documents, the other in its code and its clients.
        "token": issued.token,
        "jwt": issued.token,
        "jwtExpiration": shown(issued.expires),
    }))
}

impl Refusal {
    fn answer(&self) -> Response<Body> {
        let (status, kind, title, detail) = match self {
            Refusal::Missing => (
                StatusCode::UNAUTHORIZED,
                "missing-authentication",
                "Invalid authorization",
                "Expected one of the following authentication headers, [\"X-Api-Key\"], but none \
                 were provided",
            ),
            Refusal::Refused(NotAdmitted::Bad(_)) => (
                StatusCode::UNAUTHORIZED,
                "invalid-api-key",
                "Invalid API key",
                "Provided API key does not exist or is invalid.",
            ),
            Refusal::Refused(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "Too many requests",
                "Too many requests: come back later.",
            ),
            Refusal::NothingSayable => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Forbidden",
                "No topic of the API key can stand in a token of this kind.",
            ),
            Refusal::NotConfigured => (
                StatusCode::NOT_IMPLEMENTED,
                "mercure-not-configured",
                "Mercure integration not configured",
                "This Shlink instance is not integrated with a mercure hub.",
            ),
            Refusal::NoRandomness => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unexpected-error",
                "Unexpected error",
                "No token could be made: try again.",
            ),
        };
        let mut document = json!({
            "title": title,
            "type": format!("{TYPES}{kind}"),
            "detail": detail,
            "status": status.as_u16(),
        });
        if matches!(self, Refusal::Missing) {
            document["expectedHeaders"] = json!(["X-Api-Key"]);
        }
        let mut answer = json_answer(status, document.to_string());
        let headers = answer.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if let Refusal::Refused(NotAdmitted::TooOften(wait) | NotAdmitted::TooManyBad(_, wait)) =
            self
        {
            headers.insert(header::RETRY_AFTER, seconds(*wait).into());
        }
        answer
    }
}
