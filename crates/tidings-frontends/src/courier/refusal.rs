//! Every way in which Courier says no, with its codes. The wire says no more than the codes do;
//! `Display` says the reason, for the operator's log.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Version};
use serde_json::json;
use tidings_core::{Flaw, Refused};

use super::audiences::AudienceProblem;
use super::signed::BadSignature;
use super::token::BadToken;
use crate::http::{Body, BodyProblem, full};
use crate::limits::PUBLISH_RETRY_SECONDS;
use crate::websocket::handshake;

/// A request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The client's: no token, or one that does not count.
    #[error("the token does not count: {0}")]
    Forbidden(BadToken),
    /// The client's: a URL that opens nothing.
    #[error("the URL opens nothing: {0}")]
    BadSignature(BadSignature),
    /// The client's: nothing is there.
    #[error("nothing is served at this path")]
    NoPath,
    /// The client's: another method.
    #[error("the method is not allowed")]
    Method,
    /// The client's: nobody has made its audience.
    #[error("there is no audience of this name")]
    NoAudience,
    /// Whose fault it is the problem says.
    #[error("no audience was made: {0}")]
    NotMade(AudienceProblem),
    /// The client's: a body that says no topic.
    #[error("the body is no topic")]
    BadTopic,
    /// Whose fault it is the problem says.
    #[error("the topic was not noted down: {0}")]
    TopicNotMade(AudienceProblem),
    /// The operator's.
    #[error("the topics cannot be read: {0}")]
    TopicsUnread(AudienceProblem),
    /// The client's: a body that is no message.
    #[error("the body is no message")]
    BadHook,
    /// The client's: a message that says not what or where.
    #[error("the message has no action, or no topic that can be one")]
    IncompleteHook,
    /// The hub said no.
    #[error("{0}")]
    Refused(&'static str, StatusCode),
    /// The client's, or its network's.
    #[error("{0}")]
    Body(BodyProblem),
    /// The system's.
    #[error("the system gives no random numbers")]
    NotSigned,
    /// The client's: it asks for no WebSocket.
    #[error("{0}")]
    Handshake(handshake::Refusal),
    /// The hub's: not now.
    #[error("{0}")]
    NotNow(&'static str),
}

impl From<BadToken> for Refusal {
    fn from(bad: BadToken) -> Refusal {
        Refusal::Forbidden(bad)
    }
}

impl From<BodyProblem> for Refusal {
    fn from(problem: BodyProblem) -> Refusal {
        Refusal::Body(problem)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let (reason, status) = match refused {
            Refused::Flawed(Flaw::TooLarge) => {
                ("the message is larger than the limit", StatusCode::PAYLOAD_TOO_LARGE)
            }
            Refused::Expired => ("the token has expired", StatusCode::FORBIDDEN),
            Refused::Fallen => ("the token no longer counts", StatusCode::FORBIDDEN),
            Refused::NoSpace => {
                ("no space is left for the history", StatusCode::INSUFFICIENT_STORAGE)
            }
            Refused::ShuttingDown => return Refusal::NotNow("the hub is shutting down"),
            Refused::StorageFailed(_) => return Refusal::NotNow("the history cannot be written"),
            // What an audience publishes names its own topics and nothing else.
            Refused::Flawed(_)
            | Refused::Reserved(_)
            | Refused::Audience(_)
            | Refused::NotGranted(_)
            | Refused::KeyReused => ("the message is refused", StatusCode::INTERNAL_SERVER_ERROR),
        };
        Refusal::Refused(reason, status)
    }
}

impl Refusal {
    fn verdict(&self) -> (StatusCode, &'static str) {
        const UNKNOWN: &str = "ESERVER_UNKNOWN";
        match self {
            Refusal::Forbidden(_) => (StatusCode::FORBIDDEN, "ESTATUS_FORBIDDEN"),
            Refusal::Refused(_, status) if *status == StatusCode::FORBIDDEN => {
                (*status, "ESTATUS_FORBIDDEN")
            }
            Refusal::BadSignature(_) => (StatusCode::FORBIDDEN, "ETOKEN_INVALID"),
            Refusal::NoPath => (StatusCode::NOT_FOUND, UNKNOWN),
            Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, UNKNOWN),
            Refusal::NoAudience => (StatusCode::BAD_REQUEST, "EAUD_NOTFOUND"),
            Refusal::NotMade(_) => (StatusCode::BAD_REQUEST, "EAUD_CREATEFAILURE"),
            Refusal::BadTopic => (StatusCode::PRECONDITION_FAILED, "ETOPICS_INVALID"),
            Refusal::TopicNotMade(_) => (StatusCode::BAD_REQUEST, "ETOPICS_CREATE"),
            Refusal::TopicsUnread(_) => (StatusCode::BAD_REQUEST, "ETOPICS_NOTFOUND"),
            Refusal::BadHook => (StatusCode::PRECONDITION_FAILED, "EHOOK_INVALID"),
            Refusal::IncompleteHook => (StatusCode::UNPROCESSABLE_ENTITY, "EHOOK_INVALID"),
            Refusal::Refused(_, status) => (*status, UNKNOWN),
            Refusal::Body(BodyProblem::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, UNKNOWN),
            Refusal::Body(BodyProblem::TooSlow) => (StatusCode::REQUEST_TIMEOUT, UNKNOWN),
            Refusal::Body(BodyProblem::Broken) => (StatusCode::BAD_REQUEST, UNKNOWN),
            Refusal::NotSigned => (StatusCode::NOT_FOUND, "ECRYPT_FAILURE"),
            Refusal::Handshake(refusal) => (refusal.status(), UNKNOWN),
            Refusal::NotNow(_) | Refusal::Body(BodyProblem::NoMemory) => {
                (StatusCode::SERVICE_UNAVAILABLE, UNKNOWN)
            }
        }
    }

    /// What a client is told. Why a token does not count helps only those who guess, and what is
    /// wrong with the storage is the operator's matter.
    fn message(&self) -> String {
        match self {
            Refusal::Forbidden(_) => "the token is missing or not valid".to_owned(),
            Refusal::BadSignature(_) => "the token of the URL is missing or not valid".to_owned(),
            Refusal::NotMade(AudienceProblem::Storage(_) | AudienceProblem::Damaged) => {
                "the audience could not be stored".to_owned()
            }
            Refusal::TopicNotMade(AudienceProblem::Storage(_) | AudienceProblem::Damaged) => {
                "the topic could not be stored".to_owned()
            }
            Refusal::TopicsUnread(_) => "the topics could not be read".to_owned(),
            other => other.to_string(),
        }
    }

    /// The answer to a request of this version.
    pub(super) fn answer(&self, version: Version) -> Response<Body> {
        let (status, code) = self.verdict();
        let body =
            json!({ "status": status.as_u16(), "error": self.message(), "code": code }).to_string();
        let mut answer = match self {
            // With what could be done.
            Refusal::Handshake(refusal) => refusal.answer(version).map(|_| full(body)),
            _ => Response::new(full(body)),
        };
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(PUBLISH_RETRY_SECONDS));
        }
        answer
    }
}
