//! What a token says once its signature is believed: times, audience, and which topics it grants.
//! Knows no keys and no signatures.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidings_core::{BadPattern, Language, Matcher};

use super::jwt::{DETAILS, LEGACY, LEGACY_NAMESPACED};
use super::problem::TokenCause;
use super::{Detail, Role};
use crate::limits::{CLAIM_SELECTORS_MAX, TOKEN_DETAILS_MAX, TOKEN_TOPICS_MAX};

/// The `type` of Mercure's authorization details.
pub const DETAIL_TYPE: &str = "https://mercure.rocks/authorization-detail";

/// Makes a matcher of a pattern; the hub's own shares equal ones.
pub(super) type Matchers<'m> = dyn Fn(Language, &str) -> Made + Send + Sync + 'm;
/// What comes of a pattern.
type Made = Result<Arc<Matcher>, BadPattern>;

/// What a token grants in one role.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// The topics.
    pub(super) matchers: Vec<Arc<Matcher>>,
    /// Whether the token speaks of this role at all; it may still grant nothing.
    pub(super) may: bool,
    /// For subscribers: what their subscriptions carry along.
    pub(super) details: Vec<Detail>,
}

/// A NumericDate (RFC 7519 section 2) in milliseconds since 1970. Fractions are kept; what is
/// before 1970 or beyond the end of time becomes its nearest end.
fn milliseconds(value: &Value) -> Option<u64> {
    if let Some(seconds) = value.as_u64() {
        return Some(seconds.saturating_mul(1_000));
    }
    // A cast from a float saturates.
    value.as_f64().map(|seconds| (seconds * 1_000.0).floor() as u64)
}

fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, TokenCause> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => milliseconds(value).map(Some).ok_or(TokenCause::BadClaim(name)),
    }
}

/// The `exp` claim in milliseconds since 1970, if there is one.
pub(super) fn expiry(claims: &Map<String, Value>) -> Result<Option<u64>, TokenCause> {
    time(claims, "exp")
}

/// The `nbf` claim in milliseconds since 1970, if there is one.
pub(super) fn not_before(claims: &Map<String, Value>) -> Result<Option<u64>, TokenCause> {
    time(claims, "nbf")
}

/// A claim that is a text (RFC 7519 sections 4.1.2 and 4.1.7), if there is one.
pub(super) fn text<'c>(
    claims: &'c Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'c str>, TokenCause> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(TokenCause::BadClaim(name)),
    }
}

/// Whether `aud` (RFC 7519 section 4.1.3: a string or an array of strings) names one of `accepted`.
pub(super) fn check_audience(
    claims: &Map<String, Value>,
    accepted: &[String],
) -> Result<(), TokenCause> {
    let is_accepted = |value: &str| accepted.iter().any(|accepted| accepted == value);
    let named = match claims.get("aud") {
        None => false,
        Some(Value::String(one)) => is_accepted(one),
        Some(Value::Array(several)) => {
            let mut named = false;
            for value in several {
                named |= is_accepted(value.as_str().ok_or(TokenCause::BadClaim("aud"))?);
            }
            named
        }
        Some(_) => return Err(TokenCause::BadClaim("aud")),
    };
    if named { Ok(()) } else { Err(TokenCause::WrongAudience) }
}

/// What a 0.x token grants: strings in `mercure.publish` and `mercure.subscribe`.
pub(super) fn legacy(
    claims: &Map<String, Value>,
    role: Role,
    matchers: &Matchers<'_>,
) -> Result<Granted, TokenCause> {
    let claim = match (claims.get(LEGACY_NAMESPACED), claims.get(LEGACY)) {
        // As a whole: what the other one grants beside is gone.
        (Some(claim), _) if !claim.is_null() => claim,
        (_, Some(claim)) if !claim.is_null() => claim,
        _ => return Ok(Granted::default()),
    };
    let claim = claim.as_object().ok_or(TokenCause::BadClaim(LEGACY))?;
    // Both are read, whichever the role: a broken token is broken for everybody.
    let publish = selectors(claim.get("publish"))?;
    let subscribe = selectors(claim.get("subscribe"))?;
    let chosen = match role {
        Role::Publish => publish,
        Role::Subscribe => subscribe,
    };
    let mut granted = Granted { may: chosen.is_some(), ..Granted::default() };
    for selector in chosen.unwrap_or_default() {
        let matcher = matchers(Language::UriTemplate, selector);
        granted.matchers.push(matcher.map_err(|bad| TokenCause::pattern(&bad))?);
    }
    if let (Role::Subscribe, Some(payload)) = (role, claim.get("payload")) {
        let any = matchers(Language::Exact, "*").map_err(|bad| TokenCause::pattern(&bad))?;
        granted.details.push(Detail { topics: vec![any], payload: Some(payload.clone()) });
    }
    Ok(granted)
}

fn selectors(list: Option<&Value>) -> Result<Option<Vec<&str>>, TokenCause> {
    let list = match list {
        // Absent is another thing than empty: who has no list may not even ask.
        None | Some(Value::Null) => return Ok(None),
        Some(list) => list.as_array().ok_or(TokenCause::BadClaim(LEGACY))?,
    };
    if list.len() > CLAIM_SELECTORS_MAX {
        return Err(TokenCause::TooMany("selectors"));
    }
    let selectors = list.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    selectors.map(Some).ok_or(TokenCause::BadClaim(LEGACY))
}

/// What a 1.0 token grants: its authorization details (RFC 9396) of Mercure's type. One bad detail
/// spoils the token, also when another role would use it.
pub(super) fn details(
    claims: &Map<String, Value>,
    role: Role,
    matchers: &Matchers<'_>,
) -> Result<Granted, TokenCause> {
    let Some(entries) = claims.get(DETAILS) else {
        return Ok(Granted::default());
    };
    let entries = entries.as_array().ok_or(TokenCause::BadClaim(DETAILS))?;
    let mut granted = Granted::default();
    let (mut details, mut topics) = (0, 0);
    for entry in entries {
        let entry = entry.as_object().ok_or(TokenCause::BadDetails("an entry is no object"))?;
        let kind = entry.get("type").and_then(Value::as_str);
        if kind.ok_or(TokenCause::BadDetails("an entry has no type"))? != DETAIL_TYPE {
            continue;
        }
        details += 1;
        if details > TOKEN_DETAILS_MAX {
            return Err(TokenCause::TooMany("authorization details"));
        }
        let actions = actions(entry)?;
        let payload = payload(entry)?;
        let list = filled_list(entry, "topics", "topics is no filled array")?;
        topics += list.len();
        if topics > TOKEN_TOPICS_MAX {
            return Err(TokenCause::TooMany("topics in authorization details"));
        }
        let list = list.iter().map(|topic| matcher(topic, matchers)).collect::<Result<Vec<_>, _>>();
        let list = list?;
        if !actions.contains(&role.action()) {
            continue;
        }
        granted.may = true;
        granted.matchers.extend(list.iter().cloned());
        if role == Role::Subscribe {
            granted.details.push(Detail { topics: list, payload: payload.cloned() });
        }
    }
    Ok(granted)
}

fn filled_list<'d>(
    entry: &'d Map<String, Value>,
    name: &str,
    flaw: &'static str,
) -> Result<&'d Vec<Value>, TokenCause> {
    let list = entry.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
    list.ok_or(TokenCause::BadDetails(flaw))
}

/// The actions of a detail. Unknown ones grant nothing and harm nothing.
fn actions(entry: &Map<String, Value>) -> Result<Vec<&str>, TokenCause> {
    let list = filled_list(entry, "actions", "actions is no filled array")?;
    let actions = list.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    actions.ok_or(TokenCause::BadDetails("an action is no string"))
}

fn payload(entry: &Map<String, Value>) -> Result<Option<&Value>, TokenCause> {
    match entry.get("payload") {
        Some(payload) if !payload.is_object() => {
            Err(TokenCause::BadDetails("a payload is no object"))
        }
        payload => Ok(payload),
    }
}

fn matcher(topic: &Value, matchers: &Matchers<'_>) -> Result<Arc<Matcher>, TokenCause> {
    let topic = topic.as_object().ok_or(TokenCause::BadDetails("a topic is no object"))?;
    let pattern = topic.get("match").and_then(Value::as_str);
    let pattern = pattern.ok_or(TokenCause::BadDetails("a topic has no match"))?;
    let name = match topic.get("match_type") {
        None => "exact",
        Some(name) => name.as_str().ok_or(TokenCause::BadDetails("a match_type is no string"))?,
    };
    let language = match (pattern, language(name)) {
        // The wildcard is recognised before its type is looked at.
        ("*", _) => Language::Exact,
        (_, Some(language)) => language,
        (_, None) => return Err(TokenCause::UnknownMatchType),
    };
    matchers(language, pattern).map_err(|bad| TokenCause::pattern(&bad))
}

/// The `match_type` of a pattern language.
pub(super) fn match_type(language: Language) -> &'static str {
    match language {
        Language::Exact => "exact",
        Language::UrlPattern => "urlpattern",
        Language::UriTemplate => "uritemplate",
        Language::Mqtt => "mqtt",
        Language::Nats => "nats",
    }
}

/// The pattern language of a `match_type`, which is case-sensitive.
pub fn language(match_type: &str) -> Option<Language> {
    match match_type {
        "exact" => Some(Language::Exact),
        "urlpattern" => Some(Language::UrlPattern),
        "uritemplate" => Some(Language::UriTemplate),
        "mqtt" => Some(Language::Mqtt),
        "nats" => Some(Language::Nats),
        _ => None,
    }
}
