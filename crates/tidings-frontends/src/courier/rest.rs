//! The requests of Courier but that for a socket: audiences, topics, the hook and signed URLs. What
//! is checked in which order is that of the programs that clients were written for.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Courier;
use super::audiences::Audience;
use super::connection::{NotPublished, publish};
use super::documents::{AudienceDocument, SignDocument, TopicDocument};
use super::refusal::Refusal;
use super::spoken::Spoken;
use super::token::{self, Bearer};
use crate::http::{Body, Request, full, shared};
use crate::limits::{BODY_TIMEOUT, COURIER_LIST_WAIT_MAX};

/// What a path and a method ask for.
#[derive(Clone, Copy)]
enum Asked {
    MakeAudience,
    MakeTopic,
    ListTopics,
    Hook,
    Sign,
}

impl Asked {
    /// HEAD is GET, whose body nobody sends (RFC 9110 section 9.3.2).
    fn of(path: &str, method: &Method) -> Result<Asked, Refusal> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let asked = match (path, method) {
            ("/v1/audience", &Method::POST) => Asked::MakeAudience,
            ("/v1/topic", &Method::POST) => Asked::MakeTopic,
            ("/v1/topic", &Method::GET) => Asked::ListTopics,
            ("/v1/hook", &Method::POST) => Asked::Hook,
            ("/v1/sign", &Method::GET) => Asked::Sign,
            ("/v1/audience" | "/v1/topic" | "/v1/hook" | "/v1/sign", _) => {
                return Err(Refusal::Method);
            }
            _ => return Err(Refusal::NoPath),
        };
        Ok(asked)
    }
}

/// Answers one request for a path, which stands behind the frontend's own.
pub(super) async fn answer(
    courier: &Courier,
    path: &str,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let Request { head, body, closing, .. } = request;
    let token = token::presented(&head.headers)?;
    let keys = courier.keys();
    let bearer = keys.secret.verify(token, courier.clock().wall())?;
    courier.check(bearer.email.as_deref(), bearer.expires, Some(keys.mark))?;
    let asked = Asked::of(path, &head.method)?;
    if closing.has_begun() {
        return Err(Refusal::NotNow("the hub is shutting down"));
    }
    if matches!(asked, Asked::MakeAudience) {
        return make_audience(courier, &bearer).await;
    }
    let audience = courier.audience_of(&bearer).ok_or(Refusal::NoAudience)?;
    match asked {
        Asked::ListTopics => return list_topics(courier, &audience).await,
        Asked::Sign => return sign(courier, &audience, &bearer),
        Asked::MakeAudience | Asked::MakeTopic | Asked::Hook => {}
    }
    let (body, _share) =
        Box::pin(courier.bodies.read(body, courier.body_bytes_max, BODY_TIMEOUT)).await?;
    match asked {
        Asked::Hook => hook(courier, &audience, &bearer, &head.headers, &body).await,
        _ => make_topic(courier, &audience, &head.headers, &body).await,
    }
}

async fn make_audience(courier: &Courier, bearer: &Bearer) -> Result<Response<Body>, Refusal> {
    let audience = match courier.audience_of(bearer) {
        Some(audience) => audience,
        None => {
            let name = bearer.audiences.first().cloned().unwrap_or_default();
            let made = courier.with_audiences(move |audiences| audiences.make(&name)).await;
            made.map_err(Refusal::NotMade)?
        }
    };
    Ok(good(&AudienceDocument::of(&audience)))
}

async fn make_topic(
    courier: &Courier,
    audience: &Audience,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let text = match kind(headers) {
        Some(Kind::Json) => {
            Spoken::read(body).map(|spoken| spoken.topic().to_owned()).ok_or(Refusal::BadTopic)?
        }
        Some(Kind::Form) => field(body, "topic").unwrap_or_default(),
        None => return Err(Refusal::BadTopic),
    };
    let id = audience.id.clone();
    let made = courier.with_audiences(move |audiences| audiences.make_topic(&id, &text)).await;
    Ok(good(&TopicDocument::of(audience, &made.map_err(Refusal::TopicNotMade)?)))
}

async fn list_topics(courier: &Courier, audience: &Audience) -> Result<Response<Body>, Refusal> {
    // One list at a time is made; how many wait for their clients is a matter of their bytes.
    let alone = tokio::time::timeout(COURIER_LIST_WAIT_MAX, courier.lists.making.acquire());
    let _alone = alone.await.map_err(|_| Refusal::NotNow("too many lists are asked for"))?;
    let id = audience.id.clone();
    let topics = courier.with_audiences(move |audiences| audiences.topics(&id)).await;
    let topics = topics.map_err(Refusal::TopicsUnread)?;
    let documents: Vec<_> = topics.iter().map(|topic| TopicDocument::of(audience, topic)).collect();
    let bytes = rendered(&documents);
    let share = courier.lists.memory.share(bytes.len(), COURIER_LIST_WAIT_MAX).await?;
    Ok(as_json(shared(bytes, share)))
}

async fn hook(
    courier: &Courier,
    audience: &Audience,
    bearer: &Bearer,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Body>, Refusal> {
    let (spoken, echo) = match kind(headers) {
        Some(Kind::Json) => {
            let spoken = Spoken::read(body).ok_or(Refusal::BadHook)?;
            let echo: &RawValue = serde_json::from_slice(body).map_err(|_| Refusal::BadHook)?;
            (spoken, echo.to_owned())
        }
        Some(Kind::Form) => of_form(body).ok_or(Refusal::BadHook)?,
        None => return Err(Refusal::BadHook),
    };
    let is_empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    if is_empty(&spoken.action) || is_empty(&spoken.topic) {
        return Err(Refusal::IncompleteHook);
    }
    match spoken.update(&audience.id) {
        Some(update) => {
            let (email, expires) = (bearer.email.as_deref(), bearer.expires);
            let mark = Some(courier.keys().mark);
            let grant = courier.grant(&audience.id, email, expires, mark);
            // Larger than the rest, and waits longest.
            let published = Box::pin(publish(courier.hub(), &grant, update)).await;
            published.map_err(|problem| match problem {
                NotPublished::Busy => Refusal::NotNow("too many messages wait; try again"),
                NotPublished::Refused(refused) => refused.into(),
            })?;
        }
        // Nobody would get it: it has to be said.
        None if spoken.action.as_deref() == Some("publish") => return Err(Refusal::IncompleteHook),
        None => {}
    }
    Ok(good(&echo))
}

/// A message of a form, which has no place for what is more than a text.
fn of_form(body: &[u8]) -> Option<(Spoken<'static>, Box<RawValue>)> {
    if field(body, "message").is_some() {
        return None;
    }
    let (action, topic) = (field(body, "action"), field(body, "topic"));
    let echo = serde_json::json!({ "topic": topic, "action": action, "message": null });
    let echo = RawValue::from_string(echo.to_string()).ok()?;
    Some((Spoken { action, topic, message: None }, echo))
}

fn sign(
    courier: &Courier,
    audience: &Audience,
    bearer: &Bearer,
) -> Result<Response<Body>, Refusal> {
    let now = courier.clock().wall();
    let keys = courier.keys();
    let key = keys.signer.seal(&audience.id, bearer, now, keys.sign_lifetime);
    let key = key.ok_or(Refusal::NotSigned)?;
    let mut url = courier.ws_url.clone();
    url.query_pairs_mut().append_pair("token", &key);
    let hub = courier.hub();
    let cursor = hub.cursor(hub.end());
    Ok(good(&SignDocument { key: &key, url: url.as_str(), cursor: &cursor }))
}

/// How a body is written.
enum Kind {
    Json,
    Form,
}

fn kind(headers: &HeaderMap) -> Option<Kind> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok())?;
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Some(Kind::Json);
    }
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded").then_some(Kind::Form)
}

/// The last field of this name, as forms of those programs are read.
fn field(body: &[u8], name: &str) -> Option<String> {
    let fields = url::form_urlencoded::parse(body);
    fields.filter(|(found, _)| found == name).last().map(|(_, value)| value.into_owned())
}

#[derive(Serialize)]
struct Wrapped<'a, T: ?Sized> {
    data: &'a T,
}

fn rendered<T: Serialize + ?Sized>(data: &T) -> Vec<u8> {
    // Texts and numbers, into memory: nothing of it can fail.
    serde_json::to_vec(&Wrapped { data }).unwrap_or_default()
}

fn good<T: Serialize + ?Sized>(data: &T) -> Response<Body> {
    as_json(full(rendered(data)))
}

fn as_json(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
