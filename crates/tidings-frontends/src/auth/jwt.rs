//! The outside of a token: JWS compact serialization (RFC 7515 section 7.1) and its header. Decides
//! nothing by what a token says of itself; keys in a header (`jwk`, `jku`, `x5u`, `x5c`) are never
//! looked at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Generation;
use super::algorithm::Algorithm;
use super::json::{self, BadObject};
use super::problem::TokenCause;
use crate::limits::TOKEN_BYTES_MAX;

/// The claim that makes a token one of protocol 1.0 (RFC 9396).
pub(super) const DETAILS: &str = "authorization_details";
/// The claim of 0.x.
pub(super) const LEGACY: &str = "mercure";
/// The claim of 0.x under a name that cannot collide. Replaces the other one as a whole.
pub(super) const LEGACY_NAMESPACED: &str = "https://mercure.rocks/";

/// A token taken apart. Nothing in it is to be believed before the signature was verified.
pub(super) struct Compact<'t> {
    /// The `alg` of the header, if it is one of ours.
    pub(super) algorithm: Option<Algorithm>,
    /// Whether `typ` is that of an access token (RFC 9068 section 2.1).
    pub(super) is_access_token: bool,
    /// The `kid` of the header: a hint.
    pub(super) kid: Option<Box<str>>,
    /// The claims.
    pub(super) claims: Map<String, Value>,
    /// The header's members, for explanations.
    pub(super) header: Map<String, Value>,
    /// What the signature covers.
    pub(super) signed: &'t [u8],
    /// The signature.
    pub(super) signature: Vec<u8>,
}

/// Takes a token apart.
pub(super) fn read(token: &str) -> Result<Compact<'_>, TokenCause> {
    // Before anything else: what follows costs time and memory by length.
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenCause::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenCause::NotCompact)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenCause::NotCompact)?;
    if payload.contains('.') {
        return Err(TokenCause::NotCompact);
    }
    let header = object(header, TokenCause::BadHeader)?;
    let claims = object(payload, TokenCause::BadPayload)?;
    let signature = decode(signature).ok_or(TokenCause::NotCompact)?;
    check_critical(&header)?;
    let name = header.get("alg").and_then(Value::as_str).ok_or(TokenCause::BadHeader)?;
    Ok(Compact {
        algorithm: Algorithm::parse(name),
        is_access_token: is_access_token(&header),
        kid: header.get("kid").and_then(Value::as_str).map(Box::from),
        claims,
        signed: signed.as_bytes(),
        signature,
        header,
    })
}

/// Which generation a token seems to be of, when it is not readable or not to be believed. Decides
/// only in which words it is refused.
pub(super) fn guess(token: &str) -> Option<Generation> {
    let mut parts = token.split('.');
    let header = parts.next().and_then(|part| object(part, TokenCause::BadHeader).ok());
    let claims = parts.next().and_then(|part| object(part, TokenCause::BadPayload).ok());
    let has = |name| claims.as_ref().is_some_and(|claims| claims.contains_key(name));
    if has(DETAILS) {
        Some(Generation::Final)
    } else if has(LEGACY) || has(LEGACY_NAMESPACED) {
        Some(Generation::Draft)
    } else if header.as_ref().is_some_and(is_access_token) {
        Some(Generation::Final)
    } else {
        None
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    // Refuses padding and loose bits, so that one token has one spelling.
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn object(part: &str, malformed: TokenCause) -> Result<Map<String, Value>, TokenCause> {
    let bytes = decode(part).ok_or(malformed.clone())?;
    json::object(&bytes).map_err(|bad| match bad {
        BadObject::Malformed => malformed,
        BadObject::DuplicateMember => TokenCause::DuplicateMember,
    })
}

fn check_critical(header: &Map<String, Value>) -> Result<(), TokenCause> {
    // No extension is understood here, so whatever is critical is unknown (RFC 7515 section
    // 4.1.11). An unencoded payload (RFC 7797) would be signed over other bytes than are read.
    let encoded = header.get("b64").is_none_or(|value| *value == Value::Bool(true));
    if header.contains_key("crit") || !encoded {
        return Err(TokenCause::CriticalExtension);
    }
    Ok(())
}

fn is_access_token(header: &Map<String, Value>) -> bool {
    header.get("typ").and_then(Value::as_str).is_some_and(|kind| {
        kind.eq_ignore_ascii_case("at+jwt") || kind.eq_ignore_ascii_case("application/at+jwt")
    })
}
