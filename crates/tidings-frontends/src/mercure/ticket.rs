//! Tickets over HTTP: who shows a token gets one (`POST /.well-known/tidings/ticket`), and
//! `?ticket=` of the hub's URL is who has one. A browser's `EventSource` can send no header, and a
//! token in a URL ends up in logs (RFC 9700 section 4.3.2); a ticket there is of no use any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tidings_core::{Asker, Language};

use super::access::{self, Access, Worded};
use super::fault::Fault;
use super::form::{self, Field};
use super::presence::Asked;
use super::refusal::Refusal;
use super::tickets::{NoTicket, Owner, Ticket};
use super::{Mercure, Settings, cookie, subscribe};
use crate::auth::{
    Generation, Granting, NotAdmitted, Portion, Role, Verified, Wanted, is_key_like, language,
};
use crate::http::{Body, Request, full};
use crate::limits::{
    BODY_TIMEOUT, MATCHERS_MAX, QUERY_BYTES_MAX, TICKET_LIFETIME_DEFAULT, TICKET_LIFETIME_MAX,
};
use crate::problem::shown_name;

/// The parameter of the hub's URL.
pub(super) const PARAMETER: &str = "ticket";
/// What may stand beside it.
const BESIDE: [&str; 6] =
    ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID", "last-event-id", "continuity"];
/// The header of an API key.
const API_KEY: &str = "x-api-key";

/// What a request for a ticket may say.
const FIELDS: [&str; 2] = ["matchers", "lifetime"];

/// What a request for a ticket says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    matchers: Vec<MatcherDocument>,
    #[serde(default)]
    lifetime: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatcherDocument {
    #[serde(rename = "match")]
    pattern: String,
    #[serde(default)]
    match_type: Option<String>,
}

/// Makes a ticket.
pub(super) async fn make(
    mercure: &Mercure,
    request: Request,
    settings: &Settings,
) -> Worded<Response<Body>> {
    let words = |refusal| (Generation::Final, refusal);
    match request.head.method {
        Method::POST => {}
        _ => return Err(words(Refusal::PostOnly)),
    }
    if request.closing.has_begun() {
        return Err(words(Refusal::ShuttingDown));
    }
    let (verified, owners) = shown(mercure, &request, settings).await?;
    super::refuse_coded(&request.head.headers).map_err(words)?;
    let read = mercure.query_bodies.read(request.body, QUERY_BYTES_MAX, BODY_TIMEOUT).await;
    let (bytes, _share) = read.map_err(|problem| words(problem.into()))?;
    let (matchers, lifetime) = wanted(&bytes).map_err(words)?;
    subscribe::compile(mercure, &borrowed(&matchers), Asker::Known).map_err(words)?;
    let now = mercure.clock.wall();
    let ticket = Ticket { verified, matchers };
    let expires = now.saturating_add(lifetime.saturating_mul(1_000));
    let text = mercure.tickets.put(ticket, owners, now, expires).map_err(|no| match no {
        NoTicket::TooMany => words(Refusal::TooMany(Duration::from_secs(TICKET_LIFETIME_DEFAULT))),
        NoTicket::NoRandomness => words(Refusal::Busy),
    })?;
    tracing::debug!(request = %request.id, "a ticket is handed out");
    Ok(answer(mercure, &text, lifetime))
}

fn answer(mercure: &Mercure, text: &str, lifetime: u64) -> Response<Body> {
    let mut url = mercure.hub.namespace().hub_url().clone();
    url.query_pairs_mut().append_pair(PARAMETER, text);
    let document = json!({ "ticket": text, "url": url.as_str(), "expires_in": lifetime });
    let mut answer = Response::new(full(document.to_string()));
    *answer.status_mut() = StatusCode::CREATED;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    mark(headers);
    answer
}

/// Nobody is to be told a URL with a ticket.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Who asks: by a token, or by an API key, which then stands for a token of all that it has.
async fn shown(
    mercure: &Mercure,
    request: &Request,
    settings: &Settings,
) -> Worded<(Arc<Verified>, Vec<Owner>)> {
    let words = |refusal| (Generation::Final, refusal);
    if let Some(key) = presented_key(&request.head) {
        return of_key(mercure, request, settings, key).map_err(words);
    }
    let (role, clock) = (Role::Subscribe, &*mercure.clock);
    let by_parameters = Generation::Final;
    let read =
        access::read_with_fresh_keys(&request.head, &[], role, settings, clock, by_parameters);
    let Access::Token(verified) = read.await? else { return Err(words(Refusal::NoToken)) };
    if !request.head.headers.contains_key(header::AUTHORIZATION) {
        // It came in a cookie, which a browser sends whatever page makes the request.
        cookie::check_origin(&request.head.headers, &settings.publish_origins).map_err(words)?;
    }
    let owners = owners(&verified, &request.head.headers, settings);
    Ok((verified, owners))
}

/// Whose ticket it is that is asked for by the token of this request.
fn owners(verified: &Verified, headers: &HeaderMap, settings: &Settings) -> Vec<Owner> {
    let token = &verified.grant.token;
    let field = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let shown = match field.and_then(access::Bearer::parse) {
        Some(bearer) => Some(bearer.token.as_bytes()),
        None => settings.cookies.token(headers),
    };
    let own = settings.auth.own().and_then(|own| own.client_of(token));
    let key = own.map(|client| Owner::Key(client.into()));
    Owner::token(token, shown.unwrap_or_default()).into_iter().chain(key).collect()
}

/// The API key of a request, if it has one.
fn presented_key(head: &Parts) -> Option<&str> {
    if let Some(field) = head.headers.get(API_KEY) {
        // What is no text is no key either.
        return Some(field.to_str().unwrap_or_default().trim());
    }
    let text = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    let key = rest.trim();
    (scheme.eq_ignore_ascii_case("bearer") && is_key_like(key)).then_some(key)
}

fn of_key(
    mercure: &Mercure,
    request: &Request,
    settings: &Settings,
    presented: &str,
) -> Result<(Arc<Verified>, Vec<Owner>), Refusal> {
    let headers = &request.head.headers;
    let fields = [header::AUTHORIZATION.as_str(), API_KEY].map(|name| headers.get_all(name));
    if fields.into_iter().map(|all| all.iter().count()).sum::<usize>() > 1 {
        return Err(Refusal::BadPresentation(access::Presentation::Repeated));
    }
    let own = settings.auth.own().ok_or(Refusal::NoToken)?;
    let key = own.keys().admit(presented, request.client, &*mercure.clock);
    let key = key.map_err(|refused| match refused {
        NotAdmitted::Bad(problem) => Refusal::BadKey(problem),
        NotAdmitted::TooManyBad(_, wait) | NotAdmitted::TooOften(wait) => Refusal::TooMany(wait),
    })?;
    let granting = Granting::Final(vec![Portion { topics: key.topics.clone(), payload: None }]);
    let subject = format!("key:{}", key.name);
    let lifetime = key.lifetime_max;
    let wanted = Wanted { key: &key, subject: Some(&subject), granting, lifetime };
    let now = mercure.clock.wall();
    let issued = own.issue(&wanted, now).map_err(|_| Refusal::Busy)?;
    let verified = settings.auth.verify(&issued.token, Role::Subscribe, now);
    let verified = verified.map_err(|problem| Refusal::bad_token(problem.cause))?;
    Ok((verified, vec![Owner::Key(key.id.as_str().into())]))
}

/// The matchers and the lifetime in seconds that a body asks for.
fn wanted(bytes: &[u8]) -> Result<(Vec<(Language, String)>, u64), Refusal> {
    let wrong = |fault| Refusal::BadParameter(fault);
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|_| unknown_field(bytes).unwrap_or_else(|| wrong(Fault::BadTicketRequest)))?;
    if document.matchers.is_empty() {
        return Err(wrong(Fault::NoMatch));
    }
    if document.matchers.len() > MATCHERS_MAX {
        return Err(wrong(Fault::TooManyMatchers));
    }
    let matcher = |one: MatcherDocument| {
        let kind = one.match_type.as_deref().unwrap_or("exact");
        super::publish::plain_text(&one.pattern)?;
        Ok((language(kind).ok_or(wrong(Fault::UnknownMatcher))?, one.pattern))
    };
    let matchers = document.matchers.into_iter().map(matcher).collect::<Result<_, Refusal>>()?;
    match document.lifetime {
        Some(0) => Err(wrong(Fault::BadTicketRequest)),
        asked => Ok((matchers, asked.unwrap_or(TICKET_LIFETIME_DEFAULT).min(TICKET_LIFETIME_MAX))),
    }
}

/// The first field of a body that has no meaning here, as a refusal.
fn unknown_field(bytes: &[u8]) -> Option<Refusal> {
    let named: BTreeMap<String, IgnoredAny> = serde_json::from_slice(bytes).ok()?;
    let unknown = named.keys().find(|name| !FIELDS.contains(&name.as_str()))?;
    Some(Refusal::UnknownField(shown_name(unknown)))
}

/// Matchers as the rest of the protocol takes them.
pub(super) fn borrowed(matchers: &[(Language, String)]) -> Vec<Asked<'_>> {
    matchers.iter().map(|(language, text)| Asked { language: *language, text }).collect()
}

/// The ticket of a request, if it has one. It is used up by that, whatever is wrong beside it.
pub(super) fn redeemed(
    mercure: &Mercure,
    head: &Parts,
    query: &[Field],
    settings: &Settings,
) -> Worded<Option<Ticket>> {
    let mut named = form::all(query, PARAMETER);
    let Some(text) = named.next() else { return Ok(None) };
    let now = mercure.clock.wall();
    let taken = text.utf8().and_then(|text| mercure.tickets.take(text, now));
    let words = |refusal| (Generation::Final, refusal);
    let is_alone = query.iter().all(|field| {
        let name = field.name.readable();
        name == PARAMETER || BESIDE.contains(&name)
    });
    let has_more = named.next().is_some()
        || !is_alone
        || head.method == Method::QUERY
        || head.headers.contains_key(header::AUTHORIZATION);
    if has_more {
        return Err(words(Refusal::BadParameter(Fault::BesideTicket)));
    }
    let ticket = taken.filter(|ticket| settings.auth.still_holds(&ticket.verified, now));
    ticket.map(Some).ok_or(words(Refusal::BadTicket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<(Vec<(Language, String)>, u64)> {
        wanted(body.as_bytes()).ok()
    }

    #[test]
    fn a_request_names_matchers_and_a_short_lifetime() {
        let exact = (Language::Exact, "a".to_owned());
        let body = r#"{"matchers":[{"match":"a"},{"match":"b/#","match_type":"mqtt"}]}"#;
        let mqtt = (Language::Mqtt, "b/#".to_owned());
        assert_eq!(read(body), Some((vec![exact.clone(), mqtt], TICKET_LIFETIME_DEFAULT)));
        let body = |lifetime| format!(r#"{{"matchers":[{{"match":"a"}}],"lifetime":{lifetime}}}"#);
        assert_eq!(read(&body("5")), Some((vec![exact.clone()], 5)));
        assert_eq!(read(&body("3600")), Some((vec![exact], TICKET_LIFETIME_MAX)));
        let many =
            format!(r#"{{"matchers":[{}]}}"#, vec![r#"{"match":"a"}"#; MATCHERS_MAX + 1].join(","));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"matchers":[]}"#,
            r#"{"matchers":["a"]}"#,
            r#"{"matchers":[{"match":"a","match_type":"regexp"}]}"#,
            r#"{"matchers":[{"match":"a\u0000"}]}"#,
            r#"{"matchers":[{"match":"a"}],"topic":"b"}"#,
            &body("0"),
            &body("-1"),
            &many,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let refused = wanted(br#"{"matchers":[{"match":"a"}],"Lifetime":5}"#).unwrap_err();
        assert!(matches!(refused, Refusal::UnknownField(name) if name == "Lifetime"));
    }
}
