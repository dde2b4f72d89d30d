//! What can be wrong with the parameters of a request. Knows no status and no answer.

/// What is wrong with a parameter, worded for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("missing \"topic\" field: an update needs at least one")]
    NoTopicToPublish,
    #[error("missing \"topic\" parameter")]
    NoTopicToSubscribe,
    #[error("missing \"match\" subscription parameter")]
    NoMatch,
    #[error(
        "\"topic\" is a parameter of protocol 0.x: use \"match\", \"match_urlpattern\" or \
         \"match_uritemplate\""
    )]
    TopicInFinal,
    #[error("\"topic\" and \"match\" parameters belong to different generations of the protocol")]
    Mixed,
    #[error(
        "a parameter whose name starts with \"match\" is no supported matcher; names are \
         case-sensitive"
    )]
    UnknownMatcher,
    #[error("too many \"topic\" parameters")]
    TooManyTopics,
    #[error("too many matchers")]
    TooManyMatchers,
    #[error("too many parameters")]
    TooManyFields,
    #[error("text must be UTF-8")]
    NotUtf8,
    #[error("text must not contain control or format characters")]
    ForbiddenCharacter,
    #[error("\"*\" is no topic: it is the pattern for every topic")]
    Wildcard,
    #[error("an \"id\" must not start with \"#\" or be \"earliest\"")]
    ReservedId,
    #[error(
        "an \"id\" must not start or end with a space: the Last-Event-ID header could not carry it"
    )]
    PaddedId,
    #[error("the event type \"mercure\" is reserved for the hub")]
    ReservedType,
    #[error("\"retry\" must be a number of milliseconds in ASCII digits")]
    BadRetry,
    #[error("\"retry\" is too large: it must fit into 64 bits")]
    RetryTooLarge,
    #[error("\"continuity\" takes the value 1")]
    BadContinuity,
    #[error(
        "a ticket is asked for by JSON with `matchers`, each with `match` and `match_type`, and \
         with `lifetime` in seconds, 1 at least"
    )]
    BadTicketRequest,
    #[error(
        "beside a ticket there is only \"last_event_id\" and \"continuity\", and no other token"
    )]
    BesideTicket,
    #[error("the Idempotency-Key header must be one line of at most 256 visible characters")]
    BadIdempotencyKey,
    #[error("the body must be application/x-www-form-urlencoded")]
    NotAForm,
    #[error("the body broke off")]
    BrokenBody,
    #[error("the update is not acceptable")]
    Flawed,
    #[error(
        "a topic of an audience is published as private, and beside topics of that audience only"
    )]
    Audience,
}

/// Which limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("the body is larger than the limit")]
    Body,
    #[error("the update is larger than the limit")]
    Update,
    #[error("a field is longer than the limit")]
    Field,
    #[error("too many topics in update")]
    Topics,
    #[error("too many fields")]
    Fields,
}

impl Fault {
    /// The line that hubs of protocol 0.x answer.
    pub(super) fn in_draft(self) -> &'static str {
        match self {
            Fault::NoTopicToPublish | Fault::NotAForm => "Missing \"topic\" parameter",
            Fault::NoTopicToSubscribe | Fault::NoMatch => "Missing \"topic\" parameter.",
            Fault::TooManyTopics | Fault::TooManyMatchers => "Too many \"topic\" parameters.",
            Fault::BadRetry | Fault::RetryTooLarge => "Invalid \"retry\" parameter",
            Fault::Mixed => "\"topic\" and \"match\" parameters cannot be mixed",
            Fault::ForbiddenCharacter => "a field contains a forbidden control character",
            Fault::TopicInFinal
            | Fault::UnknownMatcher
            | Fault::TooManyFields
            | Fault::NotUtf8
            | Fault::Wildcard
            | Fault::ReservedId
            | Fault::PaddedId
            | Fault::ReservedType
            | Fault::BadContinuity
            | Fault::BadTicketRequest
            | Fault::BesideTicket
            | Fault::BadIdempotencyKey
            | Fault::BrokenBody
            | Fault::Flawed
            | Fault::Audience => "Bad Request",
        }
    }
}
