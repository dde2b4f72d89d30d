//! Every way in which the exchange says no, in the words of OAuth 2.0 (RFC 6749 section 5.2). The
//! wire never says why a key was refused; `Display` does, for the operator's log.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::presented::Presentation;
use crate::auth::{KeyProblem, NoRandomness, NotAdmitted};
use crate::http::{Body, BodyProblem, full};

/// A token was not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The client's: no key, or not one.
    #[error("{0}")]
    Presentation(Presentation),
    /// The client's: a key that does not count.
    #[error("the API key is refused: {0}")]
    BadKey(KeyProblem),
    /// The client's: it asks too often, with a good key or with wrong ones.
    #[error("asked too often: come back in {} seconds", .0.as_secs())]
    TooOften(Duration),
    /// The client's: something in the request.
    #[error("the request is wrong: {0}")]
    Bad(&'static str),
    /// The client's: a field without a meaning, by its name as it may be shown to it.
    #[error("a field is unknown, and reading over it could widen the token")]
    UnknownField(String),
    /// The client's: a scope, of which there are none.
    #[error("there are no scopes here: what a token may read is said by `topics`")]
    Scope,
    /// The client's: a token for somebody else (RFC 8707 section 2).
    #[error("`resource` and `audience` can only be the URL of this hub")]
    Target,
    /// The client's: a grant type that is not served.
    #[error("the grant type is not client_credentials")]
    GrantType,
    /// The client's: topics that no token of this key, or no token at all, can be for.
    #[error("the topics are refused: {0}")]
    Details(&'static str),
    /// The client's: a body that is too large.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// The operator's, or the system's: not now.
    #[error("{0}")]
    NotNow(&'static str),
    /// The client's: another method.
    #[error("the method is not allowed")]
    Method,
}

impl From<Presentation> for Refusal {
    fn from(presentation: Presentation) -> Refusal {
        Refusal::Presentation(presentation)
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(refused: NotAdmitted) -> Refusal {
        match refused {
            NotAdmitted::Bad(problem) => Refusal::BadKey(problem),
            NotAdmitted::TooManyBad(_, wait) | NotAdmitted::TooOften(wait) => {
                Refusal::TooOften(wait)
            }
        }
    }
}

impl From<NoRandomness> for Refusal {
    fn from(_: NoRandomness) -> Refusal {
        Refusal::NotNow("the system gives no random numbers")
    }
}

impl From<BodyProblem> for Refusal {
    fn from(problem: BodyProblem) -> Refusal {
        match problem {
            BodyProblem::TooLarge => Refusal::TooLarge,
            BodyProblem::TooSlow => Refusal::Bad("the body did not arrive in time"),
            BodyProblem::Broken => Refusal::Bad("the body broke off"),
            BodyProblem::NoMemory => Refusal::NotNow("too many bodies are on their way"),
        }
    }
}

/// Whole seconds until somebody may come back.
pub(super) fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1)
}

impl Refusal {
    fn verdict(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::Presentation(Presentation::Repeated)
            | Refusal::Bad(_)
            | Refusal::UnknownField(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Refusal::Scope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Refusal::Target => (StatusCode::BAD_REQUEST, "invalid_target"),
            Refusal::Presentation(_) | Refusal::BadKey(_) => {
                (StatusCode::UNAUTHORIZED, "invalid_client")
            }
            // RFC 8628 has the name of this one.
            Refusal::TooOften(_) => (StatusCode::TOO_MANY_REQUESTS, "slow_down"),
            Refusal::GrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            // RFC 9396 section 5.
            Refusal::Details(_) => (StatusCode::BAD_REQUEST, "invalid_authorization_details"),
            Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
            Refusal::NotNow(_) => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
        }
    }

    fn description(&self) -> String {
        match self {
            // Which part of it is wrong helps only those who guess.
            Refusal::BadKey(_) => "the API key is not valid".to_owned(),
            Refusal::Bad(what) | Refusal::Details(what) | Refusal::NotNow(what) => {
                (*what).to_owned()
            }
            Refusal::UnknownField(name) => format!("the field `{name}` is unknown"),
            Refusal::Method => "send a POST".to_owned(),
            other => other.to_string(),
        }
    }

    /// The answer. `asked_by_basic` says how the key was presented, and so may be again.
    pub(super) fn answer(&self, asked_by_basic: bool) -> Response<Body> {
        let (status, code) = self.verdict();
        let document = json!({ "error": code, "error_description": self.description() });
        let mut answer = json_answer(status, document.to_string());
        let headers = answer.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = if asked_by_basic { "Basic realm=\"tidings\"" } else { "Bearer" };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        match self {
            Refusal::TooOften(wait) => {
                headers.insert(header::RETRY_AFTER, seconds(*wait).into());
            }
            Refusal::NotNow(_) => {
                let wait = crate::limits::PUBLISH_RETRY_SECONDS;
                headers.insert(header::RETRY_AFTER, wait.into());
            }
            Refusal::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
            }
            _ => {}
        }
        answer
    }
}

/// A document that nobody may keep.
pub(super) fn json_answer(status: StatusCode, document: String) -> Response<Body> {
    let mut answer = Response::new(full(document));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_whole_seconds_and_never_none() {
        let wait = Duration::from_millis;
        assert_eq!([seconds(wait(0)), seconds(wait(1)), seconds(wait(1_000))], [1, 1, 1]);
        assert_eq!(seconds(wait(1_001)), 2);
    }

    #[test]
    fn refusals_have_the_words_of_oauth() {
        for (refusal, status, challenge) in [
            (Refusal::Presentation(Presentation::Missing), 401, Some("Bearer")),
            (Refusal::BadKey(KeyProblem::Revoked), 401, Some("Bearer")),
            (Refusal::Presentation(Presentation::Repeated), 400, None),
            (Refusal::Details("x"), 400, None),
            (Refusal::TooOften(Duration::ZERO), 429, None),
            (Refusal::NotNow("x"), 503, None),
        ] {
            let answer = refusal.answer(false);
            assert_eq!(answer.status(), status, "{refusal}");
            let found = answer.headers().get(header::WWW_AUTHENTICATE);
            assert_eq!(found.map(|value| value.to_str().unwrap()), challenge, "{refusal}");
            assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        }
        let basic = Refusal::BadKey(KeyProblem::Unknown).answer(true);
        assert_eq!(basic.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"tidings\"");
        assert!(!Refusal::BadKey(KeyProblem::Revoked).description().contains("revoked"));
    }
}
