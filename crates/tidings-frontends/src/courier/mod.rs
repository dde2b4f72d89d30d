//! Courier: messages of an application's tenants over bare WebSockets, as clients of
//! `websublime/courier` speak. Each audience is a tenant, alone with its topics.
//!
//! A `token` says of whose audience somebody is, `rest` answers requests, what is `signed` opens a
//! `connection`, whose `session` is the machine without a socket. Knows no configuration file, and
//! nothing of the hub's other protocols but how long receivers live.

mod audiences;
mod connection;
pub(crate) mod delivery;
mod documents;
mod keys;
mod known;
pub(crate) mod limits;
mod opening;
mod refusal;
mod rest;
mod session;
mod signed;
mod spoken;
#[cfg(test)]
mod testing;
mod token;
mod topic;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use tidings_core::{AUDIENCE_PREFIX, Clock, Grant, Hub, Language, Refused, TokenIdentity};
use tokio::sync::Semaphore;
use url::Url;

pub use audiences::{Audience, AudienceProblem, Audiences, Dates, NotedTopic, TakenTopic};
pub use keys::Keys;
pub use known::{How, Taken};
pub use signed::{BadKeySecret, NoSeal, check_key_secret};
pub use topic::topic;

use crate::http::{Answer, Bodies, Content, Frontend, Request, empty};
use crate::limits::{COURIER_BODIES_BYTES_MAX, COURIER_BODY_BYTES_BESIDE, COURIER_LISTS_BYTES_MAX};
use crate::mercure::Mercure;
use crate::shard::talk::Answering;
use refusal::Refusal;
use token::Bearer;

/// Who has made grants of this frontend, for whoever takes some back.
const ISSUER: &str = "urn:tidings:courier";
/// By which key.
const KEY: &str = "courier";

/// What the operator decides about this frontend.
#[derive(Clone)]
pub struct Options {
    /// The secret of the application's tokens.
    pub jwt_secret: String,
    /// The key of URLs that an older program signed: 16, 24 or 32 bytes. Without it none of them
    /// opens anything.
    pub key_secret: Option<String>,
    /// Where clients open connections.
    pub ws_url: Url,
    /// What stands before all paths; empty, or with a slash at its begin and none at its end.
    pub path: String,
    /// How long a signed URL opens connections.
    pub sign_lifetime: Duration,
    /// Bytes of an update's data.
    pub update_bytes_max: usize,
}

// By hand: secrets reach no log.
impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Options");
        shown.field("ws_url", &self.ws_url.as_str()).field("path", &self.path);
        shown.finish_non_exhaustive()
    }
}

/// Why the frontend cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum NoCourier {
    /// The operator's mistake.
    #[error(transparent)]
    BadKeySecret(#[from] BadKeySecret),
    /// The storage's or the system's fault.
    #[error(transparent)]
    Seal(#[from] NoSeal),
    /// The storage's fault.
    #[error(transparent)]
    Audiences(#[from] AudienceProblem),
}

/// The frontend.
pub struct Courier {
    mercure: Arc<Mercure>,
    audiences: Arc<Audiences>,
    /// Seals URLs: the same as ever.
    own: [u8; 32],
    keys: RwLock<Arc<Keys>>,
    ws_url: Url,
    base: String,
    body_bytes_max: usize,
    bodies: Bodies,
    lists: Lists,
    /// Who may be at the storage: one at a time, so that strangers hold no other threads.
    storage: Arc<Semaphore>,
    /// Messages that are being worked off. Each ends by itself within the time that publishers
    /// wait.
    answering: OnceLock<Arc<Answering>>,
    /// How many are connected.
    connections: Arc<AtomicU64>,
}

/// Lists of topics on their way to clients.
struct Lists {
    making: Semaphore,
    memory: Bodies,
}

/// What is served.
enum Place {
    Socket,
    /// A path below, without the frontend's own before it.
    Rest(String),
}

/// Whose token it is, for logs and revocation.
fn identity(email: Option<&str>, mark: Option<u64>) -> TokenIdentity {
    TokenIdentity {
        issuer: Some(ISSUER.into()),
        subject: email.map(Into::into),
        key: Some(KEY.into()),
        key_mark: mark,
        ..TokenIdentity::default()
    }
}

impl Courier {
    /// Over the hub of `mercure`, whose settings say how long receivers live. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`NoCourier`].
    pub fn new(
        mercure: Arc<Mercure>,
        clock: Arc<dyn Clock>,
        options: &Options,
    ) -> Result<Courier, NoCourier> {
        let hub = mercure.hub().clone();
        let own = signed::kept_key(hub.state())?;
        Ok(Courier {
            audiences: Arc::new(Audiences::open(hub, clock)?),
            mercure,
            keys: RwLock::new(Arc::new(Keys::new(&own, options)?)),
            own,
            ws_url: options.ws_url.clone(),
            base: options.path.clone(),
            body_bytes_max: options.update_bytes_max.saturating_add(COURIER_BODY_BYTES_BESIDE),
            bodies: Bodies::new(COURIER_BODIES_BYTES_MAX),
            lists: Lists {
                making: Semaphore::new(1),
                memory: Bodies::new(COURIER_LISTS_BYTES_MAX),
            },
            storage: Arc::new(Semaphore::new(1)),
            answering: OnceLock::new(),
            connections: Arc::default(),
        })
    }

    /// What a reload would replace: secrets, and how long URLs are signed for. Everything else
    /// needs a new frontend.
    ///
    /// # Errors
    ///
    /// When the key of old URLs is none.
    pub fn prepared(&self, options: &Options) -> Result<Keys, NoCourier> {
        Keys::new(&self.own, options)
    }

    /// Uses these from the next request on. What was opened by others falls as soon as the hub
    /// judges by [`Courier::marks`].
    pub fn reload(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that grants of this frontend may stand on now.
    pub fn marks(&self) -> Vec<u64> {
        let keys = self.keys();
        [Some(keys.mark), keys.old_mark].into_iter().flatten().collect()
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn hub(&self) -> &Hub {
        self.mercure.hub()
    }

    fn clock(&self) -> &dyn Clock {
        self.mercure.clock()
    }

    fn place(&self, path: &str) -> Option<Place> {
        let path = path.strip_prefix(&self.base)?.trim_end_matches('/');
        match path {
            // The second one is what old settings name where nobody has set another.
            "/ws" | "/v1/ws" => Some(Place::Socket),
            path if path == "/v1" || path.starts_with("/v1/") => Some(Place::Rest(path.to_owned())),
            _ => None,
        }
    }

    /// The audience of a token: of several names, the first that somebody has made.
    fn audience_of(&self, bearer: &Bearer) -> Option<Arc<Audience>> {
        bearer.audiences.iter().find_map(|name| self.audiences.find(name))
    }

    /// Does something with the audiences that may take the disk's time.
    async fn with_audiences<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Audiences) -> Result<T, AudienceProblem> + Send + 'static,
    ) -> Result<T, AudienceProblem> {
        let audiences = Arc::clone(&self.audiences);
        // It is never closed.
        let alone = Arc::clone(&self.storage).acquire_owned().await.ok();
        let done = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            work(&audiences)
        });
        // A panic was reported where it happened.
        done.await.unwrap_or(Err(AudienceProblem::Damaged))
    }

    /// What somebody of an audience may do: everything in it, and nothing beside it. `mark` is what
    /// it stands on.
    fn grant(
        &self,
        audience: &str,
        email: Option<&str>,
        expires: Option<u64>,
        mark: Option<u64>,
    ) -> Arc<Grant> {
        let own = format!("{AUDIENCE_PREFIX}{audience}");
        let patterns = [
            (Language::Exact, own.clone()),
            (Language::Exact, format!("{own}:")),
            (Language::UriTemplate, format!("{own}:{{topic}}")),
        ];
        let compiled =
            |(language, text): &(Language, String)| self.hub().matcher(*language, text).ok();
        // An id is a UUID, so these are patterns.
        let topics: Vec<_> = patterns.iter().filter_map(compiled).collect();
        let token = identity(email, mark);
        Arc::new(Grant { publish: topics.clone(), subscribe: topics, expires, token })
    }

    /// Whether somebody's token still counts: the operator may have revoked it.
    fn check(
        &self,
        email: Option<&str>,
        expires: Option<u64>,
        mark: Option<u64>,
    ) -> Result<(), Refused> {
        let token = identity(email, mark);
        self.hub().check_grant(&Grant { expires, token, ..Grant::default() })
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response<Content> {
        let (id, client, version) = (request.id, request.client, request.head.version);
        let answered = match self.place(request.head.uri.path()) {
            Some(Place::Rest(_)) if request.head.method == Method::OPTIONS => Ok(preflight()),
            Some(Place::Socket) => Box::pin(self.open(request)).await,
            Some(Place::Rest(path)) => {
                let answered = Box::pin(rest::answer(&self, &path, request)).await;
                answered.map(|answer| answer.map(Content::Body))
            }
            None => Err(Refusal::NoPath),
        };
        let mut answer = answered.unwrap_or_else(|refusal| {
            tracing::info!(request = %id, %client, reason = %refusal, "refused");
            refusal.answer(version).map(Content::Body)
        });
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            mark(answer.headers_mut());
        }
        answer
    }
}

/// Every page may read answers: nothing is sent by a browser itself that would be a right.
fn mark(answer: &mut HeaderMap) {
    let everybody = HeaderValue::from_static("*");
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, everybody);
}

fn preflight() -> Response<Content> {
    let mut answer = Response::new(Content::Body(empty()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    let methods = HeaderValue::from_static("GET,POST");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let fields = HeaderValue::from_static("Origin, Content-Type, Accept, Authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields);
    answer
}

impl Frontend for Courier {
    fn claims(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(self.answer(request))
    }
}

/// Takes lines for what a client of an audience says.
#[doc(hidden)]
pub fn fuzz_courier(bytes: &[u8]) {
    session::fuzz(bytes);
}

/// Takes bytes for what stands in a signed URL: nothing of it opens anything.
#[doc(hidden)]
pub fn fuzz_signed(bytes: &[u8]) {
    let secret = token::Secret::new("a secret that nobody knows");
    let text = String::from_utf8_lossy(bytes);
    for old in ["0123456789abcdef", "0123456789abcdef01234567"] {
        if let Ok(Some(signer)) = signed::Signer::new(&[7; 32], Some(old), "the same") {
            assert!(signer.open(&text, &secret, 0).is_err());
        }
    }
    assert!(secret.verify(&text, 0).is_err());
}
