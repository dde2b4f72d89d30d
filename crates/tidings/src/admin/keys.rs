//! `/tidings/admin/keys`: lists, makes and revokes API keys, for operators who present the admin
//! token; and `/tidings/admin/issuer/rotate`, a new secret for the tokens that they get. Knows no
//! storage.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tidings_frontends::auth::{ApiKey, KeptPattern, WantedKey};
use tidings_frontends::http::Body;
use tidings_frontends::limits::{API_KEY_PER_MINUTE_DEFAULT, ISSUED_LIFETIME_MAX_DEFAULT};
use tidings_frontends::problem::problem;

use super::answers::{self, failed, json};
use super::routes::Asked;
use crate::keys::{Keyring, KeyringProblem};

/// Where they are.
pub const KEYS_PATH: &str = "/tidings/admin/keys";

/// Where the secret of the hub's own tokens is changed.
pub const ROTATE_PATH: &str = "/tidings/admin/issuer/rotate";

/// What a request that makes no sense is called.
const TITLE: &str = "Not a key";
/// What a request for a key has to say.
const HINT: &str = "Send JSON with `name` and `topics` (texts, or objects of `match` and \
                    `match_type`), and with `lifetime_max` (seconds), `per_minute` and `expires` \
                    (seconds since 1970) if you like.";

/// What a new key is to be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Its name.
    pub name: String,
    /// What its tokens may read at most.
    pub topics: Vec<TopicDocument>,
    /// How long its tokens hold at most, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_max: Option<u64>,
    /// How often it may ask in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// When it ends, in seconds since 1970; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// A topic: its text, or a pattern with its language.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TopicDocument {
    /// An exact topic, or `*`.
    Text(String),
    /// A pattern.
    Pattern(KeptPattern),
}

impl From<TopicDocument> for KeptPattern {
    fn from(document: TopicDocument) -> KeptPattern {
        match document {
            TopicDocument::Text(pattern) => KeptPattern { pattern, match_type: "exact".to_owned() },
            TopicDocument::Pattern(pattern) => pattern,
        }
    }
}

impl From<KeyRequest> for WantedKey {
    fn from(request: KeyRequest) -> WantedKey {
        WantedKey {
            name: request.name,
            topics: request.topics.into_iter().map(KeptPattern::from).collect(),
            lifetime_max: request.lifetime_max.unwrap_or(ISSUED_LIFETIME_MAX_DEFAULT),
            per_minute: request.per_minute.unwrap_or(API_KEY_PER_MINUTE_DEFAULT),
            expires: request.expires,
        }
    }
}

/// A key in answers, without what is secret of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyDocument {
    /// Its public part, the `client_id` of its tokens.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it ends, in seconds since 1970; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What its tokens may read at most.
    pub topics: Vec<KeptPattern>,
    /// How long its tokens hold at most, in seconds.
    pub lifetime_max: u64,
    /// How often it may ask in a minute.
    pub per_minute: u32,
    /// When it was revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
}

impl From<ApiKey> for KeyDocument {
    fn from(key: ApiKey) -> KeyDocument {
        let ApiKey { id, name, made, expires, topics, lifetime_max, per_minute, revoked, .. } = key;
        KeyDocument { id, name, made, expires, topics, lifetime_max, per_minute, revoked }
    }
}

/// The answer to who made a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct MadeDocument {
    /// What its holder presents. This is the only time that it is told.
    pub key: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub document: KeyDocument,
    /// `"disk"`, or `"memory"` when it ends with the process.
    pub kept: String,
}

/// The answer to a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeysDocument {
    /// The oldest first; those that were revoked are among them for a while.
    pub keys: Vec<KeyDocument>,
    /// `"disk"`, or `"memory"` when they end with the process.
    pub kept: String,
}

/// The answer to who revoked a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct RevokedKeyDocument {
    /// Which one that was.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Subscriptions that ended by it.
    pub ended: usize,
}

/// How a new secret begins.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotationRequest {
    /// Whether tokens of those before end at once.
    pub now: bool,
}

/// The answer to who wanted a new secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct IssuerDocument {
    /// The `kid` of tokens from now on.
    pub kid: String,
    /// Those before it whose tokens go on.
    pub previous: Vec<PreviousDocument>,
    /// Subscriptions that ended by it.
    pub ended: usize,
    /// `"disk"`, or `"memory"` when they end with the process.
    pub kept: String,
}

/// A secret that signs no more.
#[derive(Debug, Serialize, Deserialize)]
pub struct PreviousDocument {
    /// The `kid` of its tokens.
    pub kid: String,
    /// Until when they count at most, in seconds since 1970.
    pub until: u64,
}

fn kept(ring: &Keyring) -> String {
    if ring.is_durable() { "disk" } else { "memory" }.to_owned()
}

/// Lists the keys.
pub(super) async fn list(asked: Asked) -> Response<Body> {
    let ring = &asked.admin.keys;
    let keys = ring.list().into_iter().map(KeyDocument::from).collect();
    json(StatusCode::OK, &KeysDocument { keys, kept: kept(ring) })
}

/// Makes a key.
pub(super) async fn create(asked: Asked) -> Response<Body> {
    let ring = Arc::clone(&asked.admin.keys);
    let request: KeyRequest = match answers::body(asked, TITLE, HINT).await {
        Ok(request) => request,
        Err(answer) => return *answer,
    };
    let own = Arc::clone(&ring);
    match tokio::task::spawn_blocking(move || own.create(request.into())).await {
        Ok(Ok((key, text))) => {
            tracing::warn!(id = key.id, name = key.name, "an API key was made");
            let made = MadeDocument { key: text, document: key.into(), kept: kept(&ring) };
            json(StatusCode::CREATED, &made)
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => failed(),
    }
}

/// Revokes a key, by its id or name.
pub(super) async fn revoke(asked: Asked) -> Response<Body> {
    let (ring, named) = (Arc::clone(&asked.admin.keys), asked.name().to_owned());
    match tokio::task::spawn_blocking(move || ring.revoke(&named)).await {
        Ok(Ok(Some((key, ended)))) => {
            let ApiKey { id, name, .. } = key;
            tracing::warn!(id, name, ended, "an API key was revoked: its tokens no longer count");
            json(StatusCode::OK, &RevokedKeyDocument { id, name, ended })
        }
        Ok(Ok(None)) => {
            let detail = "No key that counts has this id or name: GET /tidings/admin/keys lists \
                          them.";
            problem(StatusCode::NOT_FOUND, "No such key", detail)
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => failed(),
    }
}

/// Has tokens signed by a new secret from now on. Without a body, those before go on.
pub(super) async fn rotate_issuer(asked: Asked) -> Response<Body> {
    let ring = Arc::clone(&asked.admin.keys);
    let hint = "Send nothing, or JSON with `now`, which is true or false.";
    let request: RotationRequest =
        match answers::body_or_default(asked, "Not a rotation", hint).await {
            Ok(request) => request,
            Err(answer) => return *answer,
        };
    let (own, now) = (Arc::clone(&ring), request.now);
    match tokio::task::spawn_blocking(move || own.rotate_issuer(now)).await {
        Ok(Ok((secrets, ended))) => {
            let kid = secrets.kid();
            tracing::warn!(kid, now, ended, "the hub's own tokens are signed by a new secret");
            let previous = secrets.previous().map(|(kid, until)| PreviousDocument { kid, until });
            let previous = previous.collect();
            json(StatusCode::OK, &IssuerDocument { kid, previous, ended, kept: kept(&ring) })
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => failed(),
    }
}

fn refused(error: &KeyringProblem) -> Response<Body> {
    let (status, title) = match error {
        KeyringProblem::Bad(_) => (StatusCode::BAD_REQUEST, TITLE),
        KeyringProblem::Taken(_) => (StatusCode::CONFLICT, "The name is taken"),
        KeyringProblem::Full => (StatusCode::CONFLICT, "Too many keys"),
        KeyringProblem::Rotated(_) => (StatusCode::CONFLICT, "Too many secrets"),
        KeyringProblem::Storage(_) | KeyringProblem::NoRandomness(_) => {
            tracing::error!(%error, "what was asked of the API keys failed");
            (StatusCode::SERVICE_UNAVAILABLE, "Not stored")
        }
    };
    problem(status, title, &format!("{error}."))
}
