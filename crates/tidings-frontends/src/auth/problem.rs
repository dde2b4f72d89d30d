//! Why a token is refused. The exact reason is for the operator's log; what the client hears is the
//! protocol's business. Nothing here ever holds text of a token.

use tidings_core::BadPattern;

use super::Generation;

/// A token was refused. The client's fault, or its issuer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct TokenProblem {
    /// In which generation's words it is refused.
    pub generation: Generation,
    /// Whether the token said so itself. When it did not, the rest of the request may know better.
    pub recognized: bool,
    /// The reason.
    pub cause: TokenCause,
}

/// Every reason why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenCause {
    /// Longer than a token may be.
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of base64url.
    #[error("the token is not a JWS in compact serialization")]
    NotCompact,
    /// The header is no JSON object with a string `alg`.
    #[error("the token's header is malformed")]
    BadHeader,
    /// The payload is no JSON object.
    #[error("the token's payload is malformed")]
    BadPayload,
    /// A member stands twice in the header or payload.
    #[error("the token names a member twice")]
    DuplicateMember,
    /// `crit` or an unencoded payload.
    #[error("the token demands an extension that is not understood")]
    CriticalExtension,
    /// A 1.0 token without `iss`.
    #[error("the token does not name its issuer")]
    IssuerMissing,
    /// An issuer that is not configured.
    #[error("the token's issuer is not configured")]
    UnknownIssuer,
    /// The issuer does not accept tokens of this generation.
    #[error("the token's issuer is not configured to accept this generation of tokens")]
    GenerationNotAccepted,
    /// The issuer has no key for this role.
    #[error("the token's issuer has no key for this role")]
    NoKey,
    /// `alg` is none of those of the issuer's keys.
    #[error("the token's algorithm is not that of the key")]
    AlgorithmNotAllowed,
    /// The signature is wrong.
    #[error("the token's signature does not verify")]
    BadSignature,
    /// No key of the issuer's set made the signature, and the set lacks the key that is named.
    #[error("the token's key is not in the key set of {}", .issuers.join(", "))]
    KeyUnknown {
        /// The issuers whose sets were looked at, as configured.
        issuers: Vec<Box<str>>,
    },
    /// The issuer's key set has not been read yet.
    #[error("the key set of {} could not be read yet", .issuers.join(", "))]
    KeysUnread {
        /// The issuers, as configured.
        issuers: Vec<Box<str>>,
    },
    /// The operator revoked it: its id, its subject or its key.
    #[error("the token was revoked")]
    Revoked,
    /// `typ` is not that of an access token.
    #[error("the token's typ is not at+jwt")]
    WrongType,
    /// No `exp` where it is required.
    #[error("the token has no exp claim")]
    ExpiryMissing,
    /// After its `exp`.
    #[error("the token has expired")]
    Expired,
    /// Before its `nbf`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` does not name this hub.
    #[error("the token is for another audience")]
    WrongAudience,
    /// A claim that is not of the type that its definition asks for.
    #[error("the token's claim {0} is malformed")]
    BadClaim(&'static str),
    /// An authorization detail that breaks its definition; the reason is of a closed set.
    #[error("the token's authorization details are malformed: {0}")]
    BadDetails(&'static str),
    /// More details, topics or selectors than one token may have.
    #[error("the token has too many {0}")]
    TooMany(&'static str),
    /// A `match_type` that this hub does not know.
    #[error("the token uses a match_type that is not supported")]
    UnknownMatchType,
    /// A pattern that is not valid in its language, too long or too complex.
    #[error("a pattern of the token is {0}")]
    BadPattern(&'static str),
}

impl TokenCause {
    /// What is wrong with a pattern, without the words of its parser: those may quote the pattern,
    /// and the pattern is text of the token.
    pub(super) fn pattern(bad: &BadPattern) -> TokenCause {
        TokenCause::BadPattern(match bad {
            BadPattern::TooLong { .. } => "too long",
            BadPattern::Invalid { .. } => "not valid in its language",
            BadPattern::TooComplex { .. } => "too complex",
            // Of subscribers only; a token's patterns are not counted.
            BadPattern::Crowded => "one of too many",
        })
    }
}
