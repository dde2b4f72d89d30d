//! `GET`, `HEAD` and `QUERY`: parameters become a selection and the answer is a stream of
//! Server-Sent Events. What is delivered is the core's decision, and how the shards'.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use tidings_core::{Asker, BadPattern, Hub, Language, Matcher, Selection, Start};

use super::access::{self, Access, Worded};
use super::cursor::{self, Beginning, Reader};
use super::fault::Fault;
use super::form::{self, Field, Text};
use super::presence::{self, Asked, Presence};
use super::publish::plain_text;
use super::refusal::Refusal;
use super::{Mercure, Settings, is_form, refuse_coded, ticket};
use crate::auth::{Generation, Role};
use crate::http::{Bodies, Content, Lasting, Received, Request, empty};
use crate::limits::{
    BARE_PATTERNS_OF_ONE_STRANGER, BODY_TIMEOUT, DRAFT_TOPICS_MAX, FORM_FIELDS_MAX, MATCHERS_MAX,
    QUERY_BYTES_MAX,
};
use crate::shard::{Limits, Stream};
use crate::sse::continuity::Continuity;

/// Parameters of protocol 1.0 and their pattern languages. Every other name that starts with
/// `match` is reserved for languages to come.
const MATCHERS: [(&str, Language); 6] = [
    ("match", Language::Exact),
    ("match_exact", Language::Exact),
    ("match_urlpattern", Language::UrlPattern),
    ("match_uritemplate", Language::UriTemplate),
    ("match_mqtt", Language::Mqtt),
    ("match_nats", Language::Nats),
];
/// The parameter of protocol 0.x.
const TOPIC: &str = "topic";

/// The parameter of both generations, ours, that asks for continuity in band.
const CONTINUITY: &str = "continuity";

/// Answers one `GET`, `HEAD` or `QUERY`.
pub(super) async fn subscribe(
    mercure: &Mercure,
    request: Request,
    query: &[Field],
    settings: &Settings,
) -> Worded<Response<Content>> {
    let without_token = generation_of(query, &[]).unwrap_or_else(|| settings.without_token());
    if request.closing.has_begun() {
        return Err((without_token, Refusal::ShuttingDown));
    }
    let Request { head, body, id: request, closing, .. } = request;
    let ticket = ticket::redeemed(mercure, &head, query, settings)?;
    let access = match &ticket {
        Some(ticket) => Access::Token(Arc::clone(&ticket.verified)),
        None => who(mercure, &head, query, settings, without_token).await?,
    };
    let generation = access.generation().unwrap_or(without_token);
    let body = if head.method == Method::QUERY {
        let fields = read_query_body(&mercure.query_bodies, &head, body, settings).await;
        fields.map_err(|refusal| (generation, refusal))?
    } else {
        Vec::new()
    };
    let by_parameters = || generation_of(query, &body).unwrap_or(without_token);
    let generation = access.generation().unwrap_or_else(by_parameters);
    let asked = match &ticket {
        Some(ticket) => ticket::borrowed(&ticket.matchers),
        None => read_matchers(generation, query, &body).map_err(|no| (generation, no))?,
    };
    let asker = if access.verified().is_some() { Asker::Known } else { Asker::Stranger };
    let matchers = compile(mercure, &asked, asker).map_err(|refusal| (generation, refusal))?;
    let tells = read_continuity(query, &body).map_err(|refusal| (generation, refusal))?;

    let grant = access.grant();
    let anonymous = matches!(access, Access::Anonymous);
    let replay_max = settings.anonymous_replay_max.filter(|_| anonymous);
    let reader = Reader { generation, grant: Arc::clone(&grant), replay_max };
    let expires = grant.expires;
    // Without presence nothing is announced, so nothing of it can be forgotten.
    let scope = mercure.presence.as_ref().map(|_| presence::scope(generation));
    let selection = Selection { matchers, grant, scope };
    let cursor = cursor::asked(&head.headers, query, &body);
    // A reader that panicked has said why; what it would have found is not known.
    let beginning =
        begin(mercure, reader, cursor).await.ok_or((generation, Refusal::ShuttingDown))?;
    let beginning = behind_what_is_forgotten(&mercure.hub, &selection, beginning);
    let mut answer = if head.method == Method::HEAD {
        Response::new(Content::Body(empty()))
    } else {
        // Before anybody can know of it: what is published from here on is for this stream.
        let start = match beginning.start {
            Start::Now => Start::After(mercure.hub.end()),
            other => other,
        };
        let join = |presence: &Presence| -> Box<dyn Send> {
            Box::new(presence.join(generation, access.verified(), &asked))
        };
        let present = mercure.presence.as_ref().map(join);
        let limits = Limits { expires, heartbeat: settings.heartbeat, lifetime: settings.lifetime };
        let tells = tells.then(|| beginning.continuity.clone());
        let talk = None;
        begun(mercure, Stream { request, selection, start, limits, tells, present, talk, closing })
    };
    mark_as_stream(answer.headers_mut());
    if ticket.is_some() {
        ticket::mark(answer.headers_mut());
    }
    beginning.mark(answer.headers_mut());
    Ok(answer)
}

/// Who asks, by a token or without one where that is allowed.
async fn who(
    mercure: &Mercure,
    head: &Parts,
    query: &[Field],
    settings: &Settings,
    words: Generation,
) -> Worded<Access> {
    let (role, clock) = (Role::Subscribe, &*mercure.clock);
    let read = access::read_with_fresh_keys(head, query, role, settings, clock, words);
    match read.await? {
        Access::Anonymous if !settings.auth.anonymous_allowed() => Err((words, Refusal::NoToken)),
        access => Ok(access),
    }
}

/// The stream as an answer: it begins when it is given its connection.
fn begun(mercure: &Mercure, stream: Stream) -> Response<Content> {
    tracing::debug!(request = %stream.request, "a stream opens");
    let shards = Arc::clone(&mercure.shards);
    let begin = move |carrier| shards.begin(stream, carrier);
    Response::new(Content::Lasting(Lasting::new(begin)))
}

/// Where the stream begins. May read from the disk, so it happens where that keeps nobody up.
async fn begin(mercure: &Mercure, reader: Reader, asked: Option<String>) -> Option<Beginning> {
    let Some(asked) = asked else { return Some(Beginning::NOW) };
    let hub = mercure.hub.clone();
    let find = move || behind_a_gap(&hub, cursor::begin(&hub, &reader, &asked));
    mercure.shards.cursor_readers.read(find).await
}

/// Where announcements that would be for this client are forgotten, the stream begins behind them
/// and the answer says so.
pub(super) fn behind_what_is_forgotten(
    hub: &Hub,
    selection: &Selection,
    beginning: Beginning,
) -> Beginning {
    let Start::After(place) = beginning.start else { return beginning };
    let judged = hub.forgotten_behind(place, selection);
    let start = judged.start;
    let Some(known) = judged.until else { return Beginning { start, ..beginning } };
    let continuity = match beginning.continuity {
        Continuity::Resumed(cursor) => Continuity::Gap(cursor),
        other => other,
    };
    Beginning { start, ..cursor::behind(hub, known, continuity) }
}

/// Where the history cannot go on without a gap, the stream begins behind the gap and the answer
/// says so: to close it each time would keep the client before the gap for ever.
pub(super) fn behind_a_gap(hub: &Hub, beginning: Beginning) -> Beginning {
    let place = match beginning.start {
        Start::Now => return beginning,
        Start::Earliest => hub.before_first(),
        Start::After(place) | Start::Judged { after: place, .. } => place,
    };
    match hub.gap_after(place) {
        Some(missed) => cursor::behind(hub, missed.until, beginning.continuity.with_gap()),
        None => beginning,
    }
}

/// The generation that parameters belong to; both when they are mixed is 1.0's business.
fn generation_of(query: &[Field], body: &[Field]) -> Option<Generation> {
    let mut fields = query.iter().chain(body).map(|field| field.name.readable());
    let mut has_topic = false;
    if fields.any(|name| {
        has_topic |= name == TOPIC;
        is_matcher(name)
    }) {
        return Some(Generation::Final);
    }
    has_topic.then_some(Generation::Draft)
}

/// Whether a name lies in the space that 1.0 reserves for matchers.
fn is_matcher(name: &str) -> bool {
    name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match"))
}

async fn read_query_body(
    bodies: &Bodies,
    head: &Parts,
    body: Received,
    settings: &Settings,
) -> Result<Vec<Field>, Refusal> {
    let bytes_max = settings.body_bytes_max.min(QUERY_BYTES_MAX);
    refuse_coded(&head.headers)?;
    let (bytes, _share) = bodies.read(body, bytes_max, BODY_TIMEOUT).await?;
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    if !is_form(&head.headers) {
        return Err(Refusal::UnsupportedBody);
    }
    form::parse(&bytes, FORM_FIELDS_MAX).map_err(|_| Refusal::BadParameter(Fault::TooManyFields))
}

fn read_matchers<'f>(
    generation: Generation,
    query: &'f [Field],
    body: &'f [Field],
) -> Result<Vec<Asked<'f>>, Refusal> {
    let fields = || query.iter().chain(body);
    let has_matcher = fields().any(|field| is_matcher(field.name.readable()));
    let has_topic = fields().any(|field| field.name.utf8() == Some(TOPIC));
    let wrong = |fault| Err(Refusal::BadParameter(fault));
    match (generation, has_topic, has_matcher) {
        (_, true, true) => wrong(Fault::Mixed),
        (Generation::Final, true, false) => wrong(Fault::TopicInFinal),
        (Generation::Final, false, false) => wrong(Fault::NoMatch),
        (Generation::Draft, false, _) => wrong(Fault::NoTopicToSubscribe),
        (Generation::Final, false, true) => read_final(fields()),
        (Generation::Draft, true, false) => read_draft(fields()),
    }
}

/// Whether the client wants to be told in band how its stream goes on.
fn read_continuity(query: &[Field], body: &[Field]) -> Result<bool, Refusal> {
    let mut asked = form::all(query, CONTINUITY).chain(form::all(body, CONTINUITY)).peekable();
    let tells = asked.peek().is_some();
    // Other values may get a meaning; to take them for this one would hide that.
    if asked.any(|value| value.utf8() != Some("1")) {
        return Err(Refusal::BadParameter(Fault::BadContinuity));
    }
    Ok(tells)
}

fn read_final<'f>(fields: impl Iterator<Item = &'f Field>) -> Result<Vec<Asked<'f>>, Refusal> {
    let mut asked = Vec::new();
    for field in fields.filter(|field| is_matcher(field.name.readable())) {
        let known = MATCHERS.iter().find(|(name, _)| field.name.utf8() == Some(name));
        let Some((_, language)) = known else {
            return Err(Refusal::BadParameter(Fault::UnknownMatcher));
        };
        let text = text(&field.value)?;
        plain_text(text)?;
        if asked.len() == MATCHERS_MAX {
            return Err(Refusal::BadParameter(Fault::TooManyMatchers));
        }
        asked.push(Asked { language: *language, text });
    }
    Ok(distinct(asked))
}

fn read_draft<'f>(fields: impl Iterator<Item = &'f Field>) -> Result<Vec<Asked<'f>>, Refusal> {
    let mut asked = Vec::new();
    for field in fields.filter(|field| field.name.utf8() == Some(TOPIC)) {
        if asked.len() == DRAFT_TOPICS_MAX {
            return Err(Refusal::BadParameter(Fault::TooManyTopics));
        }
        asked.push(Asked { language: Language::UriTemplate, text: text(&field.value)? });
    }
    Ok(distinct(asked))
}

fn text(value: &Text) -> Result<&str, Refusal> {
    value.utf8().ok_or(Refusal::BadParameter(Fault::NotUtf8))
}

/// Equal patterns count once: each costs an entry in the hub's index.
fn distinct(mut asked: Vec<Asked<'_>>) -> Vec<Asked<'_>> {
    let mut known = HashSet::new();
    asked.retain(|asked| known.insert((asked.language, asked.text)));
    asked
}

pub(super) fn compile(
    mercure: &Mercure,
    asked: &[Asked<'_>],
    asker: Asker,
) -> Result<Vec<Arc<Matcher>>, Refusal> {
    let mut has_wildcard = false;
    let matchers: Result<Vec<_>, _> = asked
        .iter()
        // The wildcard comes before the language: `*` is every topic in each of them.
        .filter(|asked| asked.text != "*" || !std::mem::replace(&mut has_wildcard, true))
        .map(|Asked { language, text }| {
            let language = if *text == "*" { Language::Exact } else { *language };
            mercure.hub.matcher_of_subscriber(language, text, asker)
        })
        .collect();
    let matchers = matchers.map_err(|bad| match bad {
        BadPattern::Crowded => Refusal::Busy,
        bad => Refusal::BadPattern(bad),
    })?;
    match too_many_bare(&matchers, asker) {
        Some(bad) => Err(Refusal::BadPattern(bad)),
        None => Ok(matchers),
    }
}

/// Why one receiver of a stranger may not have all of these, if it may not.
pub(crate) fn too_many_bare(matchers: &[Arc<Matcher>], asker: Asker) -> Option<BadPattern> {
    let bare = || matchers.iter().filter(|matcher| matcher.is_bare()).count();
    let is_too_much = asker == Asker::Stranger && bare() > BARE_PATTERNS_OF_ONE_STRANGER;
    is_too_much.then(|| {
        let max = BARE_PATTERNS_OF_ONE_STRANGER;
        let reason = format!("more than {max} patterns without fixed text need a token");
        BadPattern::TooComplex { reason }
    })
}

/// What tells browsers and proxies that this is a stream and nothing to keep.
fn mark_as_stream(headers: &mut http::HeaderMap) {
    let fields = [
        (header::CONTENT_TYPE, super::EVENT_STREAM),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0"),
        ),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        (header::EXPIRES, HeaderValue::from_static("0")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Proxies of the nginx kind hold small answers back without it.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    for (name, value) in fields {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, body: &str, expected: Option<Generation>) {
        let fields = |text: &str| form::parse(text.as_bytes(), 10).unwrap();
        assert_eq!(generation_of(&fields(query), &fields(body)), expected, "{query} {body}");
    }

    #[test]
    fn parameters_tell_the_generation() {
        check("topic=a", "", Some(Generation::Draft));
        check("match=a", "", Some(Generation::Final));
        check("MATCHING=a", "", Some(Generation::Final));
        check("topic=a&match_exact=b", "", Some(Generation::Final));
        check("topic=a", "match=b", Some(Generation::Final));
        check("mat=a&Topic=b&lastEventID=c", "", None);
        check("", "", None);
    }

    #[test]
    fn m07_the_prefix_is_reserved_in_any_case() {
        for name in ["match", "Match", "matching", "match_regexp", "matchURLPattern", "MATCH_é"] {
            assert!(is_matcher(name), "{name}");
        }
        for name in ["matc", "matché".get(1..).unwrap(), "", "é", "matçh"] {
            assert!(!is_matcher(name), "{name}");
        }
    }

    #[test]
    fn continuity_is_told_to_those_who_ask_for_it_with_1() {
        let read = |query: &str, body: &str| {
            let fields = |text: &str| form::parse(text.as_bytes(), 10).unwrap();
            read_continuity(&fields(query), &fields(body)).ok()
        };
        assert_eq!(read("match=*", "topic=t"), Some(false));
        assert_eq!(read("continuity=1", ""), Some(true));
        assert_eq!(read("", "continuity=1"), Some(true));
        for other in ["", "0", "2", "true", "%FF", "1&continuity=2"] {
            assert_eq!(read(&format!("continuity={other}"), ""), None, "{other}");
            assert_eq!(read("continuity=1", &format!("continuity={other}")), None, "{other}");
        }
    }
}
