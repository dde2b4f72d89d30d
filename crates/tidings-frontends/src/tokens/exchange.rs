//! `POST /.well-known/tidings/token`: an API key becomes a token that subscribes (RFC 6749 section
//! 4.4, RFC 9396). Knows no storage.

use std::sync::{Arc, LazyLock};

use http::request::Parts;
use http::{Response, StatusCode, header};
use serde_json::json;
use tidings_core::Namespace;

use super::presented;
use super::refusal::{Refusal, json_answer};
use super::wanted::{self, Asked};
use super::{Settings, Tokens, narrowing};
use crate::auth::{
    ApiKey, Auth, Generation, Granting, KeptPattern, Options, OwnIssuer, OwnSecrets, Portion, Role,
    Wanted, WantedKey,
};
use crate::http::{Body, Request};
use crate::limits::{
    EXCHANGE_BODY_BYTES_MAX, EXCHANGE_BODY_TIMEOUT, ISSUED_LIFETIME_DEFAULT, TOKEN_BYTES_MAX,
};

/// Answers one request, and says in the log what came of it.
pub(super) async fn exchange(
    tokens: &Tokens,
    settings: &Settings,
    request: Request,
) -> Response<Body> {
    let (id, client) = (request.id, request.client);
    let field = request.head.headers.get(header::AUTHORIZATION).map(|field| field.as_bytes());
    let scheme = field.and_then(|field| field.get(..6)).unwrap_or_default();
    let by_basic = scheme.eq_ignore_ascii_case(b"basic ");
    match answer(tokens, settings, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::info!(request = %id, %client, reason = %refusal, "no token is handed out");
            refusal.answer(by_basic)
        }
    }
}

async fn answer(
    tokens: &Tokens,
    settings: &Settings,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    if request.closing.has_begun() {
        return Err(Refusal::NotNow("the hub is shutting down"));
    }
    let Request { head, body, id, client, .. } = request;
    // Before the body: strangers have it read for nothing.
    let presented = presented::key(&head.headers)?;
    let key = tokens.own.keys().admit(&presented.text, client, &*tokens.clock)?;
    let read = tokens.bodies.read(body, EXCHANGE_BODY_BYTES_MAX, EXCHANGE_BODY_TIMEOUT).await;
    let (bytes, _share) = read?;
    let asked = asked(&head, &bytes)?;
    check_client(&asked, &key, &tokens.namespace)?;
    if asked.generation == Some(Generation::Draft) && !settings.mercure_info {
        return Err(Refusal::Bad("this hub makes tokens of 1.0 only"));
    }
    let (granting, portions) = granting(&key, &asked, &tokens.namespace)?;
    let subject = asked.subject.unwrap_or_else(|| format!("key:{}", key.name));
    let lifetime = asked.lifetime.unwrap_or(ISSUED_LIFETIME_DEFAULT);
    let wanted = Wanted { key: &key, subject: Some(&subject), granting, lifetime };
    let issued = tokens.own.issue(&wanted, tokens.clock.wall())?;
    if issued.token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::Details("the token would be longer than any may be"));
    }
    tokens.own.keys().count_issued();
    let seconds = issued.lifetime;
    tracing::info!(request = %id, %client, key = key.name, seconds, "a token is handed out");
    let document = json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.lifetime,
        "expires_at": issued.expires,
        "authorization_details": portions.iter().map(Portion::detail).collect::<Vec<_>>(),
    });
    Ok(json_answer(StatusCode::OK, document.to_string()))
}

/// Whether what the body says of its sender and of whom the token is for is so.
fn check_client(asked: &Asked, key: &ApiKey, namespace: &Namespace) -> Result<(), Refusal> {
    if asked.client_id.as_ref().is_some_and(|id| *id != key.id) {
        return Err(Refusal::Bad("`client_id` is not the id of the API key"));
    }
    let hub_url = namespace.hub_url().as_str();
    match asked.targets.iter().all(|target| target == hub_url) {
        true => Ok(()),
        false => Err(Refusal::Target),
    }
}

/// What the body asks for, by its type.
fn asked(head: &Parts, bytes: &[u8]) -> Result<Asked, Refusal> {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        _ if bytes.is_empty() => Ok(Asked::default()),
        "application/json" => wanted::json(bytes),
        "application/x-www-form-urlencoded" => wanted::form(bytes),
        _ => Err(Refusal::Bad(
            "the body must be application/json or application/x-www-form-urlencoded",
        )),
    }
}

/// What the token grants, and the same in the words of authorization details.
fn granting(
    key: &ApiKey,
    asked: &Asked,
    namespace: &Namespace,
) -> Result<(Granting, Vec<Portion>), Refusal> {
    let own = || vec![Portion { topics: key.topics.clone(), payload: None }];
    let portions = match &asked.portions {
        Some(portions) => {
            narrowing::check(key, portions, namespace)?;
            portions.clone()
        }
        None => own(),
    };
    if asked.generation != Some(Generation::Draft) {
        return Ok((Granting::Final(portions.clone()), portions));
    }
    let sayable = |portion: &mut Portion| {
        portion.topics.retain(|topic| narrowing::is_selector(topic, namespace));
        portion.payload = None;
    };
    let mut left = portions.clone();
    left.iter_mut().for_each(sayable);
    let is_narrowed = asked.portions.is_some();
    if is_narrowed && left != portions {
        return Err(Refusal::Details(
            "a token of 0.x grants exact topics without braces and URI Templates, and no payload",
        ));
    }
    left.retain(|portion| !portion.topics.is_empty());
    if left.is_empty() {
        return Err(Refusal::Details("no topic of the API key can stand in a token of 0.x"));
    }
    Ok((Granting::Draft(narrowing::selectors(&left, namespace)), left))
}

/// Who asks in [`fuzz`]: a key for everything and one for a few topics.
struct Asking {
    own: Arc<OwnIssuer>,
    auth: Auth,
    namespace: Namespace,
    keys: Vec<ApiKey>,
}

impl Asking {
    fn begin() -> Option<Asking> {
        let (public_url, hub_url) = ("https://hub.example", "https://hub.example/hub");
        let hub_url = hub_url.parse().ok()?;
        let own = Arc::new(OwnIssuer::new(
            &public_url.parse().ok()?,
            &hub_url,
            OwnSecrets::first([1; 32]),
        ));
        let namespace = Namespace::new(hub_url);
        let auth = Auth::offline(&Options::default(), &namespace).ok()?;
        let auth = auth.with_own(&own, true).ok()?;
        let key = |topics: &[(&str, &str)]| {
            let topic = |(pattern, match_type): &(&str, &str)| KeptPattern {
                pattern: (*pattern).to_owned(),
                match_type: (*match_type).to_owned(),
            };
            let topics = topics.iter().map(topic).collect();
            let name = "fuzz".to_owned();
            let (lifetime_max, per_minute, expires) = (60, 1, None);
            let wanted = WantedKey { name, topics, lifetime_max, per_minute, expires };
            ApiKey::make(wanted, &namespace, 0).ok().map(|(key, _)| key)
        };
        let few = [("a", "exact"), ("https://e.com/{id}", "uritemplate"), ("b/#", "mqtt")];
        let keys = vec![key(&[("*", "exact")])?, key(&few)?];
        own.keys().replace(keys.clone());
        Some(Asking { own, auth, namespace, keys })
    }
}

/// Feeds outside bytes to both readers of bodies, and makes the tokens that they ask for: those
/// subscribe, and publish nothing.
pub(super) fn fuzz(bytes: &[u8]) {
    static ASKING: LazyLock<Option<Asking>> = LazyLock::new(Asking::begin);
    let Some(asking) = ASKING.as_ref() else { return };
    for asked in [wanted::json(bytes), wanted::form(bytes)].into_iter().flatten() {
        for key in &asking.keys {
            let Ok((granting, _)) = granting(key, &asked, &asking.namespace) else { continue };
            let subject = asked.subject.as_deref();
            let lifetime = asked.lifetime.unwrap_or(ISSUED_LIFETIME_DEFAULT);
            let Ok(issued) = asking.own.issue(&Wanted { key, subject, granting, lifetime }, 0)
            else {
                continue;
            };
            if issued.token.len() > TOKEN_BYTES_MAX {
                continue;
            }
            let verified = |role| asking.auth.verify(&issued.token, role, 0);
            assert!(verified(Role::Subscribe).is_ok(), "a token that was made is of use");
            assert!(verified(Role::Publish).is_err(), "and for nothing else");
        }
    }
}
