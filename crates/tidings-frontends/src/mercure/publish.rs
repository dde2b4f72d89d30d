//! `POST`: a form becomes an update. The order of the checks is that of the hubs in use: token,
//! parameters, grant. Knows no socket; the hub decides what may be published.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use tidings_core::{
    Candidate, Durability, Grant, Hub, Line, Receipt, Refused, Room, Topic, Update,
};
use unicode_general_category::{GeneralCategory, get_general_category};

use super::access::{self, Access, Worded};
use super::cursor::EARLIEST;
use super::fault::Fault;
use super::form::{self, Field, Text};
use super::refusal::{Excess, Refusal};
use super::{Mercure, PLAIN_TEXT, Settings, is_form, refuse_coded};
use crate::auth::{Generation, Role, Verified};
use crate::http::{Body, BodyProblem, Request, Share, full};
use crate::limits::{
    BODY_TIMEOUT, FORM_FIELDS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, PUBLISH_ROOM_WAIT_MAX,
    PUBLISH_TOPICS_MAX,
};

/// What hubs of 0.x look for in a topic to call it theirs.
pub(super) const DRAFT_RESERVED: &str = "/.well-known/mercure";
const RECEIPT: HeaderName = HeaderName::from_static("tidings-receipt");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Answers one `POST`.
pub(super) async fn publish(
    mercure: &Mercure,
    request: Request,
    query: &[Field],
    settings: &Settings,
) -> Worded<Response<Body>> {
    let clock = &*mercure.clock;
    let (head, mut body) = (request.head, request.body);
    let without_token = settings.without_token();
    let role = Role::Publish;
    let access =
        access::read_with_fresh_keys(&head, query, role, settings, clock, without_token).await?;
    let Access::Token(verified) = access else { return Err((without_token, Refusal::NoToken)) };
    let generation = verified.generation;
    let answer = async {
        may_publish(&verified)?;
        refuse_coded(&head.headers)?;
        let (body, share) = match body.take_whole() {
            Some(whole) if whole.len() > settings.body_bytes_max => {
                return Err(BodyProblem::TooLarge.into());
            }
            Some(whole) => (whole, Share::default()),
            None => {
                let read = mercure.bodies.read(body, settings.body_bytes_max, BODY_TIMEOUT);
                Box::pin(read).await?
            }
        };
        let update = read_update(generation, &head.headers, &body)?;
        drop(body);
        if generation == Generation::Draft {
            refuse_as_draft_does(mercure, &verified.grant, &update)?;
        }
        let hub = &mercure.hub;
        let room = match hub.room_now(update.weight()) {
            Some(room) => room,
            None => Box::pin(room(hub, update.weight())).await?,
        };
        // From here on the update counts in the hub's queue.
        drop(share);
        let published = hub.publish_in(room, &verified.grant, update)?;
        Ok(receipt(&published.receipt().await?))
    };
    answer.await.map_err(|refusal| (generation, refusal))
}

/// Whether the token is a publisher's at all.
fn may_publish(verified: &Verified) -> Result<(), Refusal> {
    let may = match verified.generation {
        // `publish: []` is a publisher's token that covers no topic; parameters are read first.
        Generation::Draft => verified.may,
        Generation::Final => !verified.grant.publish.is_empty(),
    };
    let nothing = Refusal::NotGranted { role: Role::Publish, topic: None };
    if may { Ok(()) } else { Err(nothing) }
}

/// A place in the queue. Only the wait for it ends early: what has one is stored or refused, never
/// unknown.
async fn room(hub: &Hub, weight: usize) -> Result<Room, Refusal> {
    let waited = tokio::time::timeout(PUBLISH_ROOM_WAIT_MAX, hub.room(weight)).await;
    Ok(waited.map_err(|_| Refusal::Busy)??)
}

fn receipt(receipt: &Receipt) -> Response<Body> {
    let durability = match receipt.durability {
        Durability::Fsync => "fsync",
        Durability::Written => "written",
        Durability::Memory => "memory",
    };
    let repeated = if receipt.repeated { "; repeated" } else { "" };
    let line = ["durability=", durability, "; cursor=\"", &receipt.cursor, "\"", repeated].concat();
    let mut answer = Response::new(full(Bytes::copy_from_slice(receipt.id.as_bytes())));
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, PLAIN_TEXT);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(line) = HeaderValue::try_from(line) {
        headers.insert(RECEIPT, line);
    }
    answer
}

/// Reads the form.
fn read_update(
    generation: Generation,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Update, Refusal> {
    if !is_form(headers) {
        return Err(Refusal::BadParameter(Fault::NotAForm));
    }
    let fields =
        form::parse(body, FORM_FIELDS_MAX).map_err(|_| Refusal::TooLarge(Excess::Fields))?;
    if fields.iter().any(|field| field.name.utf8().is_none() || field.value.utf8().is_none()) {
        return Err(Refusal::BadParameter(Fault::NotUtf8));
    }
    let mut topics = Vec::new();
    for topic in form::all(&fields, "topic") {
        if topics.len() == PUBLISH_TOPICS_MAX {
            return Err(Refusal::TooLarge(Excess::Topics));
        }
        topics.push(read_topic(generation, topic.readable())?);
    }
    if topics.is_empty() {
        return Err(Refusal::BadParameter(Fault::NoTopicToPublish));
    }
    // An empty field is as good as none: clients with fixed forms send those. In 1.0 an empty
    // `retry` is none of the numbers that it has to be.
    let given = |name| form::first(&fields, name).map(Text::readable).filter(|t| !t.is_empty());
    let retry = form::first(&fields, "retry").map(Text::readable);
    let retry = retry.filter(|text| generation == Generation::Final || !text.is_empty());
    let retry = retry.map(read_retry).transpose()?;
    let id = given("id").map(|id| read_id(generation, id)).transpose()?;
    let event_type = given("type").map(|text| read_type(generation, text)).transpose()?;
    let private = form::first(&fields, "private").is_some();
    let data = fields.into_iter().find(|field| field.name.utf8() == Some("data"));
    let data = data.map(|field| field.value.into_readable()).unwrap_or_default();
    Ok(Update {
        topics,
        data: data.into(),
        content_type: None,
        private,
        id,
        event_type,
        retry,
        attributes: Vec::new(),
        idempotency_key: read_idempotency_key(headers)?,
        origin: None,
        ephemeral: false,
    })
}

pub(super) fn read_topic(generation: Generation, text: &str) -> Result<Topic, Refusal> {
    if generation == Generation::Final {
        if text == "*" {
            return Err(Refusal::BadParameter(Fault::Wildcard));
        }
        plain_text(text)?;
    }
    Topic::parse(text).map_err(|bad| refuse_text(&bad))
}

pub(super) fn read_id(generation: Generation, text: &str) -> Result<Line, Refusal> {
    if generation == Generation::Final {
        if text.starts_with('#') || text == EARLIEST {
            return Err(Refusal::BadParameter(Fault::ReservedId));
        }
        // Spaces around a header's value are not part of it (RFC 9110 section 5.5).
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(Refusal::BadParameter(Fault::PaddedId));
        }
        plain_text(text)?;
    }
    Line::parse(text).map_err(|bad| refuse_text(&bad))
}

pub(super) fn read_type(generation: Generation, text: &str) -> Result<Line, Refusal> {
    if generation == Generation::Final {
        if text == "mercure" {
            return Err(Refusal::BadParameter(Fault::ReservedType));
        }
        plain_text(text)?;
    }
    Line::parse(text).map_err(|bad| refuse_text(&bad))
}

fn read_retry(text: &str) -> Result<u64, Refusal> {
    // `parse` alone would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(Refusal::BadParameter(Fault::BadRetry));
    }
    text.parse().map_err(|_| Refusal::BadParameter(Fault::RetryTooLarge))
}

fn refuse_text(bad: &tidings_core::BadText) -> Refusal {
    match bad {
        tidings_core::BadText::TooLong { .. } => Refusal::TooLarge(Excess::Field),
        tidings_core::BadText::LineBreak | tidings_core::BadText::Empty => {
            Refusal::BadParameter(Fault::ForbiddenCharacter)
        }
    }
}

/// Refuses control characters (C0, DEL, C1) and format characters (Unicode category Cf): they hide
/// in logs and user interfaces, or end a line.
pub(super) fn plain_text(text: &str) -> Result<(), Refusal> {
    let forbidden = |character: char| {
        character.is_control() || get_general_category(character) == GeneralCategory::Format
    };
    // None of the format characters is one of ASCII, and nearly all text is.
    let is_forbidden = match text.is_ascii() {
        true => text.bytes().any(|byte| byte.is_ascii_control()),
        false => text.chars().any(forbidden),
    };
    if is_forbidden {
        return Err(Refusal::BadParameter(Fault::ForbiddenCharacter));
    }
    Ok(())
}

/// The key of a repeated publication. The hub keeps the keys of different publishers apart.
fn read_idempotency_key(headers: &HeaderMap) -> Result<Option<Line>, Refusal> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let single = keys.next().is_none();
    let key = key.to_str().ok().filter(|key| single && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX);
    let key = key.and_then(|key| Line::parse(key).ok());
    key.map(Some).ok_or(Refusal::BadParameter(Fault::BadIdempotencyKey))
}

/// What hubs of 0.x refuse beside what the hub does itself. They look at the grant first.
fn refuse_as_draft_does(mercure: &Mercure, grant: &Grant, update: &Update) -> Result<(), Refusal> {
    if !update.topics.iter().any(|topic| super::is_reserved_in_draft(topic.as_str())) {
        return Ok(());
    }
    let namespace = mercure.hub.namespace();
    let is_covered =
        |topic: &&Topic| grant.covers_publishing(&Candidate::new(topic.as_str(), namespace));
    let uncovered = update.topics.iter().find(|topic| !is_covered(topic));
    Err(uncovered.map_or(Refusal::Reserved, |topic| Refused::NotGranted(topic.clone()).into()))
}
