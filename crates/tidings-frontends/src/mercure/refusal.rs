//! Every way in which this frontend says no, and how each generation of the protocol words it.
//!
//! The wire never says why a token was refused; [`Refusal`]'s `Display` does, for the operator's
//! log, and holds no token, no key and no query.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use tidings_core::{Flaw, Refused};

use super::access::Presentation;
use super::content::FORM_TYPE;
pub(super) use super::fault::Excess;
use super::fault::Fault;
use crate::auth::{Generation, KeyProblem, Role, TokenCause, shortened};
use crate::http::{Body, BodyProblem, full};
use crate::problem::problem;

/// A request was refused; nothing of it was stored, delivered or subscribed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The client's: a token is needed and there is none.
    #[error("a token is needed and none was sent")]
    NoToken,
    /// The client's: the token is not valid.
    #[error("the token is not valid: {cause}")]
    BadToken {
        /// The first reason.
        cause: TokenCause,
        /// What was found and what would pass, for the operator's log; empty when nobody looks.
        checks: String,
    },
    /// The client's: an API key that does not count.
    #[error("the API key is refused: {0}")]
    BadKey(KeyProblem),
    /// The client's: a ticket that was used, is too old, or never was one.
    #[error("the ticket is not valid: it was used, is too old, or its token counts no longer")]
    BadTicket,
    /// The client's: its API key asks too often, or it has too many tickets. For how long.
    #[error("an API key asks too often, or too many tickets are not used")]
    TooMany(Duration),
    /// The client's: the token was not presented as the protocol says.
    #[error("the token was not presented as it must be: {0}")]
    BadPresentation(Presentation),
    /// The client's: a cookie publishes, and nothing says from which page.
    #[error(
        "a publication with a token in a cookie has neither Origin nor Referer: a browser sends \
         one, and anybody else should send the token in the Authorization header"
    )]
    NoOrigin,
    /// The client's, or the operator's list is not complete: a page that may not publish by cookie.
    #[error(
        "a publication with a token in a cookie comes from a page of {0}: list its origin in \
         mercure.publish_origins, or make public_url what browsers see"
    )]
    ForeignPage(String),
    /// The client's: the token is valid and does not allow this.
    #[error("the token does not allow this")]
    NotGranted {
        /// To do what.
        role: Role,
        /// The first topic that it does not cover; `None` when it grants nothing of the kind.
        topic: Option<String>,
    },
    /// The client's: the token ended while the request was on its way.
    #[error("the token has expired")]
    Expired,
    /// The client's: a topic that belongs to the hub.
    #[error("a topic is reserved for the hub")]
    Reserved,
    /// The client's: a parameter.
    #[error("a parameter is wrong: {0}")]
    BadParameter(Fault),
    /// The client's: a field of a document that has no meaning, by its name as it may be shown.
    #[error("a field of the document is unknown")]
    UnknownField(String),
    /// The client's: a pattern that its language does not allow.
    #[error("a pattern is wrong: {0}")]
    BadPattern(tidings_core::BadPattern),
    /// The client's: the update or one of its fields exceeds a limit.
    #[error("the update exceeds a limit: {0}")]
    TooLarge(Excess),
    /// The client's: the body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The client's: a query body in a format that is not read.
    #[error("the query's body is no form")]
    UnsupportedBody,
    /// The client's: a body in a content coding.
    #[error("the body is in a content coding")]
    Coded,
    /// The client's: a method that the hub's URL does not have.
    #[error("the method is not allowed")]
    BadMethod,
    /// The client's: a list or subscription that is not there, or not any more.
    #[error("no such list or subscription")]
    NotFound,
    /// The client's: lists of subscriptions and documents can only be read.
    #[error("the method is not allowed: this is only read")]
    ReadOnly,
    /// The client's: what is made here is made by POST.
    #[error("the method is not allowed: send a POST")]
    PostOnly,
    /// The client's: an idempotency key that stands for another update.
    #[error("the idempotency key was used for another update")]
    KeyReused,
    /// The operator's: publishers have to wait longer than they should.
    #[error("no place became free in the queue in time")]
    Busy,
    /// The operator's: the bodies of other requests hold all the memory for them.
    #[error("no memory for the body became free in time")]
    Crowded,
    /// The operator's: no space is left.
    #[error("no space is left for the history")]
    NoSpace,
    /// The operator's: the history cannot be written.
    #[error("the history cannot be written: {0}")]
    StorageFailed(String),
    /// The hub is shutting down.
    #[error("the hub is shutting down")]
    ShuttingDown,
}

impl From<BodyProblem> for Refusal {
    fn from(problem: BodyProblem) -> Refusal {
        match problem {
            BodyProblem::TooLarge => Refusal::TooLarge(Excess::Body),
            BodyProblem::TooSlow => Refusal::TooSlow,
            BodyProblem::Broken => Refusal::BadParameter(Fault::BrokenBody),
            BodyProblem::NoMemory => Refusal::Crowded,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::Flawed(Flaw::TooLarge) => Refusal::TooLarge(Excess::Update),
            Refused::Flawed(Flaw::TooManyTopics) => Refusal::TooLarge(Excess::Topics),
            Refused::Flawed(Flaw::NoTopic) => Refusal::BadParameter(Fault::NoTopicToPublish),
            Refused::Flawed(Flaw::TooManyAttributes | Flaw::TooManyHops) => {
                Refusal::BadParameter(Fault::Flawed)
            }
            Refused::Reserved(_) => Refusal::Reserved,
            Refused::Audience(_) => Refusal::BadParameter(Fault::Audience),
            Refused::NotGranted(topic) => {
                Refusal::NotGranted { role: Role::Publish, topic: Some(topic.as_str().to_owned()) }
            }
            Refused::Expired => Refusal::Expired,
            Refused::Fallen => Refusal::bad_token(TokenCause::Revoked),
            Refused::KeyReused => Refusal::KeyReused,
            Refused::NoSpace => Refusal::NoSpace,
            Refused::StorageFailed(reason) => Refusal::StorageFailed(reason),
            Refused::ShuttingDown => Refusal::ShuttingDown,
        }
    }
}

/// What an answer of protocol 1.0 says beside its status.
enum Challenge {
    None,
    /// A `WWW-Authenticate` field, with an error code if there is one (RFC 6750 section 3.1).
    Bearer(Option<&'static str>),
}

impl Refusal {
    /// A token that is refused for this reason, about which nothing else is to be said.
    pub(super) fn bad_token(cause: TokenCause) -> Refusal {
        Refusal::BadToken { cause, checks: String::new() }
    }

    /// The checks that the token fails, what was found and what would pass, for the operator's log.
    /// `topics` says whether it may show them.
    pub(super) fn checks(&self, topics: bool) -> Option<String> {
        match self {
            Refusal::BadToken { checks, .. } => {
                Some(checks.clone()).filter(|said| !said.is_empty())
            }
            Refusal::NotGranted { role, topic: None } => {
                Some(format!("{role}: nothing granted, would pass: a token that grants topics"))
            }
            Refusal::NotGranted { role, topic: Some(topic) } => {
                let topic = match topics {
                    true => format!("{:?}", shortened(topic)),
                    false => "a topic (not shown without log.topics)".to_owned(),
                };
                Some(format!(
                    "{role}: nothing granted matches {topic}, would pass: a token that grants it"
                ))
            }
            _ => None,
        }
    }

    /// The exact reason, for the operator's log. What is said of a pattern may quote it, and a
    /// pattern is a topic as good as any.
    pub(super) fn reason(&self, topics: bool) -> String {
        match self {
            Refusal::BadPattern(_) if !topics => "a pattern is wrong".to_owned(),
            refusal => refusal.to_string(),
        }
    }

    /// Whether it is the operator's matter and not the client's.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self,
            Refusal::Busy | Refusal::Crowded | Refusal::NoSpace | Refusal::StorageFailed(_)
        )
    }

    /// The answer in the words of `generation`. `metadata_url` is where challenges point to.
    pub(super) fn answer(&self, generation: Generation, metadata_url: &str) -> Response<Body> {
        let mut answer = match generation {
            Generation::Draft => self.in_draft(),
            Generation::Final => self.in_final(metadata_url),
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let later = matches!(
            self,
            Refusal::Busy | Refusal::Crowded | Refusal::NoSpace | Refusal::ShuttingDown
        );
        if later {
            headers.insert(header::RETRY_AFTER, crate::limits::PUBLISH_RETRY_SECONDS.into());
        }
        let text = HeaderValue::from_static;
        let (name, value) = match self {
            Refusal::TooMany(wait) => (header::RETRY_AFTER, (wait.as_secs() + 1).into()),
            Refusal::PostOnly => (header::ALLOW, text(super::cors::POST_METHODS)),
            Refusal::BadMethod => (header::ALLOW, text(super::cors::METHODS)),
            Refusal::ReadOnly => (header::ALLOW, text(super::cors::READ_METHODS)),
            Refusal::UnsupportedBody => (HeaderName::from_static("accept-query"), text(FORM_TYPE)),
            Refusal::Coded => (header::ACCEPT_ENCODING, text("identity")),
            _ => return answer,
        };
        headers.insert(name, value);
        answer
    }

    /// Status and challenge of protocol 1.0 (mercure section 7, RFC 6750).
    fn verdict(&self) -> (StatusCode, Challenge) {
        let bearer = |code| Challenge::Bearer(Some(code));
        match self {
            Refusal::NoToken => (StatusCode::UNAUTHORIZED, Challenge::Bearer(None)),
            Refusal::BadToken { .. }
            | Refusal::Expired
            | Refusal::BadKey(_)
            | Refusal::BadTicket => (StatusCode::UNAUTHORIZED, bearer("invalid_token")),
            Refusal::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, Challenge::None),
            Refusal::BadPresentation(_) | Refusal::NoOrigin | Refusal::ForeignPage(_) => {
                (StatusCode::BAD_REQUEST, bearer("invalid_request"))
            }
            Refusal::NotGranted { .. } => (StatusCode::FORBIDDEN, bearer("insufficient_scope")),
            Refusal::Reserved
            | Refusal::BadParameter(_)
            | Refusal::UnknownField(_)
            | Refusal::BadPattern(_) => (StatusCode::BAD_REQUEST, Challenge::None),
            Refusal::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Challenge::None),
            Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, Challenge::None),
            Refusal::UnsupportedBody | Refusal::Coded => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Challenge::None)
            }
            Refusal::BadMethod | Refusal::ReadOnly | Refusal::PostOnly => {
                (StatusCode::METHOD_NOT_ALLOWED, Challenge::None)
            }
            Refusal::NotFound => (StatusCode::NOT_FOUND, Challenge::None),
            Refusal::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, Challenge::None),
            Refusal::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, Challenge::None),
            Refusal::Busy
            | Refusal::Crowded
            | Refusal::StorageFailed(_)
            | Refusal::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, Challenge::None),
        }
    }

    fn in_final(&self, metadata_url: &str) -> Response<Body> {
        let (status, challenge) = self.verdict();
        let title = status.canonical_reason().unwrap_or("Refused");
        let mut answer = problem(status, title, &self.detail());
        if let Challenge::Bearer(code) = challenge {
            let code = code.map(|code| format!("error=\"{code}\", ")).unwrap_or_default();
            let challenge = format!("Bearer {code}resource_metadata=\"{metadata_url}\"");
            // A URL has no characters that a header field could not carry.
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        answer
    }

    /// What the client may know.
    fn detail(&self) -> String {
        match self {
            Refusal::NoToken => "An access token is needed.".to_owned(),
            // Which check failed helps only those who forge tokens.
            Refusal::BadToken { .. } | Refusal::Expired => {
                "The access token is not valid.".to_owned()
            }
            Refusal::BadKey(_) => "The API key is not valid.".to_owned(),
            Refusal::BadTicket => {
                "The ticket is not valid: each is good once and for a short time. Ask for a new \
                one."
                    .to_owned()
            }
            Refusal::TooMany(_) => {
                "Too many requests, or tickets that nobody has used: try again later.".to_owned()
            }
            Refusal::BadPresentation(presentation) => format!(
                "Expected a token once, as \
                `Authorization: Bearer <token>`: {presentation}."
            ),
            Refusal::NoOrigin | Refusal::ForeignPage(_) => {
                "A token in a cookie publishes only from pages of the hub's own origin and of \
                those that the hub is told."
                    .to_owned()
            }
            Refusal::NotGranted { .. } => "The access token does not allow this.".to_owned(),
            Refusal::Reserved => "A topic lies in the namespace of the hub itself.".to_owned(),
            Refusal::BadParameter(fault) => format!("{fault}."),
            Refusal::BadPattern(pattern) => format!("A pattern cannot be used: {pattern}."),
            Refusal::TooLarge(excess) => format!("{excess}."),
            Refusal::UnsupportedBody => Fault::NotAForm.to_string(),
            Refusal::Coded => "The body must not have a Content-Encoding.".to_owned(),
            Refusal::Busy => "Too many publishers are waiting: try again.".to_owned(),
            Refusal::Crowded => "Too many bodies are on their way: try again.".to_owned(),
            Refusal::NoSpace => "No space is left: try again later.".to_owned(),
            Refusal::StorageFailed(_) => "Updates cannot be stored.".to_owned(),
            Refusal::UnknownField(name) => format!("The field `{name}` is unknown."),
            Refusal::TooSlow
            | Refusal::BadMethod
            | Refusal::ReadOnly
            | Refusal::PostOnly
            | Refusal::NotFound
            | Refusal::KeyReused
            | Refusal::ShuttingDown => format!("{self}."),
        }
    }

    /// The words of protocol 0.x: 401 for everything about tokens, one line of plain text.
    fn in_draft(&self) -> Response<Body> {
        let (status, line): (StatusCode, &str) = match self {
            Refusal::NoToken
            | Refusal::BadToken { .. }
            | Refusal::BadPresentation(_)
            | Refusal::BadKey(_)
            | Refusal::BadTicket
            | Refusal::NoOrigin
            | Refusal::ForeignPage(_)
            | Refusal::NotGranted { .. }
            | Refusal::Expired => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Refusal::Reserved => {
                (StatusCode::FORBIDDEN, "a topic is in the hub's reserved namespace")
            }
            Refusal::BadParameter(fault) => (StatusCode::BAD_REQUEST, fault.in_draft()),
            Refusal::BadPattern(_) => (StatusCode::BAD_REQUEST, "Invalid \"topic\" parameter."),
            Refusal::TooLarge(Excess::Topics) => {
                (StatusCode::BAD_REQUEST, "too many topics in update")
            }
            Refusal::TooLarge(Excess::Field | Excess::Fields) => {
                (StatusCode::BAD_REQUEST, "Bad Request")
            }
            Refusal::NotFound => (StatusCode::NOT_FOUND, "404 page not found"),
            Refusal::TooLarge(_)
            | Refusal::TooSlow
            | Refusal::UnknownField(_)
            | Refusal::UnsupportedBody
            | Refusal::Coded
            | Refusal::BadMethod
            | Refusal::ReadOnly
            | Refusal::PostOnly
            | Refusal::TooMany(_)
            | Refusal::KeyReused
            | Refusal::Busy
            | Refusal::Crowded
            | Refusal::NoSpace
            | Refusal::StorageFailed(_)
            | Refusal::ShuttingDown => {
                let (status, _) = self.verdict();
                (status, status.canonical_reason().unwrap_or("Refused"))
            }
        };
        let mut answer = Response::new(full(format!("{line}\n")));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, super::PLAIN_TEXT);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "https://hub.example/.well-known/oauth-protected-resource/hub";

    fn check(refusal: &Refusal, status: u16, challenge: Option<&str>, draft: u16, line: &str) {
        let answer = refusal.answer(Generation::Final, METADATA);
        assert_eq!(answer.status(), status, "{refusal}");
        let found = answer.headers().get(header::WWW_AUTHENTICATE);
        let metadata = format!("resource_metadata=\"{METADATA}\"");
        let challenge = challenge.map(|code| format!("Bearer {code}{metadata}"));
        assert_eq!(found.map(|value| value.to_str().unwrap()), challenge.as_deref(), "{refusal}");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");

        let answer = refusal.answer(Generation::Draft, METADATA);
        assert_eq!(answer.status(), draft, "{refusal}");
        assert!(!answer.headers().contains_key(header::WWW_AUTHENTICATE), "{refusal}");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
        let body = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(http_body_util::BodyExt::collect(answer.into_body()));
        assert_eq!(body.unwrap().to_bytes(), format!("{line}\n"), "{refusal}");
    }

    #[test]
    fn m39_to_m42_tokens_are_refused_in_the_words_of_their_generation() {
        let code = |code: &str| format!("error=\"{code}\", ");
        let invalid_request = code("invalid_request");
        let scope = code("insufficient_scope");
        check(&Refusal::NoToken, 401, Some(""), 401, "Unauthorized");
        check(&Refusal::Expired, 401, Some(&code("invalid_token")), 401, "Unauthorized");
        let presentation = Refusal::BadPresentation(Presentation::NotBearer);
        check(&presentation, 400, Some(&invalid_request), 401, "Unauthorized");
        for origin in [Refusal::NoOrigin, Refusal::ForeignPage("https://a".to_owned())] {
            check(&origin, 400, Some(&invalid_request), 401, "Unauthorized");
        }
        let topic = Some("a".to_owned());
        check(
            &Refusal::NotGranted { role: Role::Publish, topic },
            403,
            Some(&scope),
            401,
            "Unauthorized",
        );
    }

    #[test]
    fn parameters_are_refused_in_the_words_of_their_generation() {
        let fault = |fault| Refusal::BadParameter(fault);
        let reserved = "a topic is in the hub's reserved namespace";
        check(&Refusal::Reserved, 400, None, 403, reserved);
        let missing = "Missing \"topic\" parameter.";
        check(&fault(Fault::NoTopicToSubscribe), 400, None, 400, missing);
        let missing = "Missing \"topic\" parameter";
        check(&fault(Fault::NoTopicToPublish), 400, None, 400, missing);
        check(&fault(Fault::BadRetry), 400, None, 400, "Invalid \"retry\" parameter");
        let many = "too many topics in update";
        check(&Refusal::TooLarge(Excess::Topics), 413, None, 400, many);
        check(&Refusal::TooLarge(Excess::Body), 413, None, 413, "Payload Too Large");
        check(&Refusal::TooLarge(Excess::Update), 413, None, 413, "Payload Too Large");
        let retry = "Invalid \"retry\" parameter";
        check(&fault(Fault::RetryTooLarge), 400, None, 400, retry);
        check(&Refusal::Coded, 415, None, 415, "Unsupported Media Type");
        check(&Refusal::TooLarge(Excess::Field), 413, None, 400, "Bad Request");
    }

    #[test]
    fn what_is_the_hubs_own_matter_is_said_in_both_generations() {
        check(&Refusal::Busy, 503, None, 503, "Service Unavailable");
        check(&Refusal::ShuttingDown, 503, None, 503, "Service Unavailable");
        check(&Refusal::NoSpace, 507, None, 507, "Insufficient Storage");
        let failed = Refusal::StorageFailed("device gone".to_owned());
        check(&failed, 503, None, 503, "Service Unavailable");
        check(&Refusal::from(BodyProblem::NoMemory), 503, None, 503, "Service Unavailable");
        for later in [Refusal::Busy, Refusal::Crowded] {
            let answer = later.answer(Generation::Draft, METADATA);
            assert!(answer.headers().contains_key(header::RETRY_AFTER), "{later}");
        }
    }

    #[test]
    fn only_what_the_operator_can_mend_is_the_operators_matter() {
        let failed = Refusal::StorageFailed("device gone".to_owned());
        for ours in [Refusal::Busy, Refusal::Crowded, Refusal::NoSpace, failed] {
            assert!(ours.is_ours(), "{ours}");
        }
        for theirs in [Refusal::NoToken, Refusal::ShuttingDown, Refusal::TooSlow] {
            assert!(!theirs.is_ours(), "{theirs}");
        }
    }

    #[test]
    fn the_log_says_what_a_token_lacks_and_names_topics_only_where_they_may_be_logged() {
        let lacking = |topic: Option<&str>| Refusal::NotGranted {
            role: Role::Publish,
            topic: topic.map(str::to_owned),
        };
        let nothing = "publish: nothing granted, would pass: a token that grants topics";
        assert_eq!(lacking(None).checks(true).unwrap(), nothing);
        assert_eq!(lacking(None).checks(false).unwrap(), nothing);
        assert_eq!(
            lacking(Some("a\nb")).checks(true).unwrap(),
            "publish: nothing granted matches \"a b\", would pass: a token that grants it"
        );
        assert_eq!(
            lacking(Some("hush")).checks(false).unwrap(),
            "publish: nothing granted matches a topic (not shown without log.topics), would pass: \
             a token that grants it"
        );
        let long = lacking(Some(&"é".repeat(10_000))).checks(true).unwrap();
        assert!(long.chars().count() < 300 && long.contains("é…"), "{long}");
        assert_eq!(Refusal::Reserved.checks(true), None);
        assert_eq!(Refusal::bad_token(TokenCause::Revoked).checks(true), None);
    }

    #[test]
    fn the_log_quotes_a_pattern_only_where_topics_may_be_logged() {
        let namespace = tidings_core::Namespace::new("https://hub.example/hub".parse().unwrap());
        let language = tidings_core::Language::Mqtt;
        let bad = tidings_core::Matcher::parse(language, "#/hush", &namespace).unwrap_err();
        let pattern = Refusal::BadPattern(bad);
        assert_eq!(pattern.reason(false), "a pattern is wrong");
        assert_eq!(pattern.reason(true), pattern.to_string());
        assert_ne!(pattern.reason(true), pattern.reason(false));
        let parameter = Refusal::BadParameter(Fault::NotUtf8);
        for topics in [false, true] {
            assert_eq!(parameter.reason(topics), parameter.to_string());
        }
    }
}
