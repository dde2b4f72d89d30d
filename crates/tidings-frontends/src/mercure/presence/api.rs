//! The lists of subscriptions over HTTP: who may read which, and the cursor from which a watcher
//! who has read one misses nothing.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tidings_core::Candidate;

use super::Presence;
use super::documents::{Place, content_type};
use super::list::{List, Wanted};
use super::subscriber::Subscriber;
use crate::auth::{self, Generation, Role};
use crate::http::{Body, empty, full, redacted};
use crate::mercure::Mercure;
use crate::mercure::access::{self, Access, Worded};
use crate::mercure::cursor::EARLIEST;
use crate::mercure::form::Field;
use crate::mercure::refusal::Refusal;

/// What a path names.
#[derive(Debug)]
enum Named {
    List(Wanted),
    One(Wanted, Subscriber),
}

/// Answers a request below [`Presence::path`].
pub(in crate::mercure) async fn answer(
    mercure: &Mercure,
    presence: &Presence,
    head: &Parts,
    query: &[Field],
) -> Worded<Response<Body>> {
    let settings = mercure.settings();
    let without_token = settings.without_token();
    match head.method {
        Method::GET | Method::HEAD => {}
        _ => return Err((without_token, Refusal::ReadOnly)),
    }
    let (role, clock) = (Role::Subscribe, &*mercure.clock);
    let access =
        access::read_with_fresh_keys(head, query, role, &settings, clock, without_token).await?;
    // Who is there is nobody's business who has not proved more than to exist.
    let Access::Token(verified) = &access else { return Err((without_token, Refusal::NoToken)) };
    let generation = verified.generation;
    let path = head.uri.path();
    let id = match generation {
        Generation::Final => path.to_owned(),
        Generation::Draft => request_uri(path, head.uri.query()),
    };
    let topic = Candidate::new(&id, mercure.hub.namespace());
    if !verified.grant.covers_reading(&[topic]) {
        // As in every line of the log: where a token stands in a target, it is not shown.
        let topic = Some(redacted(&head.uri, true));
        return Err((generation, Refusal::NotGranted { role, topic }));
    }
    let named = path.strip_prefix(presence.path()).and_then(|rest| named(generation, rest));
    let Some(named) = named else { return Err((generation, Refusal::NotFound)) };
    // Before anything is read: what happens from here on comes behind the cursor.
    // The hub's own id of that place: publishers may give theirs to several updates.
    let last = mercure.hub.cursor(mercure.hub.end());
    let etag = match generation {
        Generation::Final => format!("\"{last}\""),
        Generation::Draft => last.clone(),
    };
    let is_there = match &named {
        Named::List(_) => true,
        Named::One(wanted, subscriber) => {
            let connection = presence.registry.find(*subscriber);
            connection.is_some_and(|connection| wanted.among(&connection).is_some())
        }
    };
    if is_there && is_known(&head.headers, &etag, generation) && presence.registry.is_quiet() {
        let mut answer = Response::new(empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        mark(mercure, generation, &last, &etag, answer.headers_mut());
        return Ok(answer);
    }
    let body = match named {
        // Nobody is shown, so nobody's end has to be told.
        Named::List(_) if head.method == Method::HEAD => empty(),
        Named::List(wanted) => {
            let documents = &presence.documents;
            let start = documents.list_head(generation, &id, &last);
            let (registry, documents) = (presence.registry.clone(), documents.clone());
            List::new(registry, documents, generation, wanted, start).into_body()
        }
        Named::One(wanted, subscriber) => {
            let document = one(presence, generation, &wanted, subscriber, &last);
            full(document.ok_or((generation, Refusal::NotFound))?)
        }
    };
    let body = if head.method == Method::HEAD { empty() } else { body };
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(generation)));
    mark(mercure, generation, &last, &etag, headers);
    Ok(answer)
}

/// The path with the query, as 0.x names a list; without a token that stands in there.
fn request_uri(path: &str, query: Option<&str>) -> String {
    let kept: Vec<&str> = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !is_token(pair))
        .collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Whether a pair of the query holds a token, however its name is written.
fn is_token(pair: &str) -> bool {
    let mut fields = url::form_urlencoded::parse(pair.as_bytes());
    fields.any(|(name, _)| name == "authorization")
}

/// What the rest of a path names, if it names anything. Each part was encoded once.
fn named(generation: Generation, rest: &str) -> Option<Named> {
    if rest.is_empty() {
        return Some(Named::List(Wanted::All));
    }
    let parts: Vec<&str> = rest.strip_prefix('/')?.splitn(4, '/').collect();
    // Whoever resolves such a path asks for another one.
    if parts.iter().any(|part| is_dots(part)) {
        return None;
    }
    let plain = |part: &str| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
    let form = |part: &str| plain(&part.replace('+', "%20")).filter(|part| !part.is_empty());
    match (generation, parts.as_slice()) {
        (Generation::Final, [kind, text]) => {
            Some(Named::List(Wanted::Final(auth::language(kind)?, plain(text)?)))
        }
        (Generation::Final, [kind, text, subscriber]) => {
            let wanted = Wanted::Final(auth::language(kind)?, plain(text)?);
            Some(Named::One(wanted, Subscriber::parse(&plain(subscriber)?)?))
        }
        (Generation::Draft, [topic]) => Some(Named::List(Wanted::Draft(form(topic)?))),
        (Generation::Draft, [topic, subscriber]) => {
            let wanted = Wanted::Draft(form(topic)?);
            Some(Named::One(wanted, Subscriber::parse(&form(subscriber)?)?))
        }
        _ => None,
    }
}

/// Whether a part of a path is a dot segment (RFC 3986 section 3.3), in whatever spelling.
fn is_dots(part: &str) -> bool {
    matches!(percent_decode_str(part).collect::<Vec<u8>>().as_slice(), b"." | b"..")
}

/// The document of one live subscription.
fn one(
    presence: &Presence,
    generation: Generation,
    wanted: &Wanted,
    subscriber: Subscriber,
    last: &str,
) -> Option<Vec<u8>> {
    let connection = presence.registry.find(subscriber)?;
    let shown = wanted.among(&connection)?;
    let place = Place::Alone { last_event_id: last };
    let document = presence.documents.document(generation, &connection, shown, place)?;
    presence.registry.list(subscriber).then_some(document)
}

/// Whether the client says that it has this already.
fn is_known(headers: &HeaderMap, etag: &str, generation: Generation) -> bool {
    let mut fields = headers.get_all(header::IF_NONE_MATCH).iter();
    match generation {
        Generation::Draft => fields.any(|field| field.as_bytes() == etag.as_bytes()),
        // No tag of ours holds a comma.
        Generation::Final => fields.filter_map(|field| field.to_str().ok()).any(|field| {
            let mut tags = field.split(',').map(str::trim);
            tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
        }),
    }
}

/// Where a watcher begins who has this answer: how the protocol of 1.0 marks refusals as well. One
/// without a valid token is not told how far the hub has come.
pub(in crate::mercure) fn mark_refused(
    mercure: &Mercure,
    refusal: &Refusal,
    headers: &mut HeaderMap,
) {
    let last = match refusal {
        Refusal::NotGranted { .. } | Refusal::NotFound => mercure.hub.cursor(mercure.hub.end()),
        _ => EARLIEST.to_owned(),
    };
    if let Some(link) = link(mercure, Generation::Final, &last) {
        headers.insert(header::LINK, link);
    }
}

/// The hub, and from where on nothing is missed, in the words of RFC 8288.
fn link(mercure: &Mercure, generation: Generation, last: &str) -> Option<HeaderValue> {
    let link = format!(
        "<{}>; rel=\"mercure\"; last-event-id=\"{last}\"; type=\"mercure\"; content-type=\"{}\"",
        mercure.path,
        content_type(generation)
    );
    HeaderValue::from_str(&link).ok()
}

fn mark(
    mercure: &Mercure,
    generation: Generation,
    last: &str,
    etag: &str,
    headers: &mut HeaderMap,
) {
    let fields: [(HeaderName, Option<HeaderValue>); 5] = [
        (header::LINK, link(mercure, generation, last)),
        (header::ETAG, HeaderValue::from_str(etag).ok()),
        (header::CACHE_CONTROL, Some(HeaderValue::from_static("must-revalidate"))),
        // A cache that several clients share must not take one's answer for another's.
        (header::VARY, Some(HeaderValue::from_static("Authorization, Cookie"))),
        (header::X_CONTENT_TYPE_OPTIONS, Some(HeaderValue::from_static("nosniff"))),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// See `fuzz_subscriptions`.
pub(in crate::mercure) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    for generation in [Generation::Draft, Generation::Final] {
        named(generation, path);
    }
    request_uri(path, Some(query));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_no_part_of_a_name_however_it_is_written() {
        for query in ["authorization=a.b", "authorizatio%6E=a.b", "%61uthorization=a", ""] {
            assert_eq!(request_uri("/x", Some(query)), "/x", "{query}");
        }
        assert_eq!(request_uri("/x", Some("a=1&authorization=t&b")), "/x?a=1&b");
        assert_eq!(request_uri("/x", Some("xauthorization=1")), "/x?xauthorization=1");
    }

    #[test]
    fn m70_a_path_names_lists_and_single_subscriptions_by_generation() {
        let one = "/urn%3Auuid%3A00000000-0000-4000-8000-000000000000";
        let count = |generation, rest: &str| match named(generation, rest) {
            None => 0,
            Some(Named::List(_)) => 1,
            Some(Named::One(..)) => 2,
        };
        for (rest, in_final, in_draft) in [
            ("", 1, 1),
            ("/", 0, 0),
            ("/a", 0, 1),
            ("/exact/a", 1, 0),
            ("/exact/", 1, 0),
            ("/Exact/a", 0, 0),
            ("/regexp/a", 0, 0),
            (&format!("/a{one}"), 0, 2),
            (&format!("/exact/a{one}"), 2, 0),
            (&format!("/exact/{one}"), 2, 0),
            (&format!("/exact/a{one}/x"), 0, 0),
            ("/exact/../x", 0, 0),
            ("/exact/%2e%2E", 0, 0),
            ("/exact/%FF", 0, 0),
        ] {
            assert_eq!(count(Generation::Final, rest), in_final, "{rest}");
            assert_eq!(count(Generation::Draft, rest), in_draft, "{rest}");
        }
        let Some(Named::List(Wanted::Final(_, text))) = named(Generation::Final, "/exact/a+%252F")
        else {
            panic!()
        };
        assert_eq!(text, "a+%2F");
        let Some(Named::List(Wanted::Draft(topic))) = named(Generation::Draft, "/a+%252F%2B")
        else {
            panic!()
        };
        assert_eq!(topic, "a %2F+");
    }

    #[test]
    fn a_request_uri_has_the_query_but_no_token() {
        for (query, expected) in [
            (None, "/p"),
            (Some(""), "/p"),
            (Some("a=b"), "/p?a=b"),
            (Some("authorization=x"), "/p"),
            (Some("a=b&authorization=x&c"), "/p?a=b&c"),
        ] {
            assert_eq!(request_uri("/p", query), expected);
        }
    }
}
