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
mod known;
pub(crate) mod limits;
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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use tidings_core::{AUDIENCE_PREFIX, Clock, Grant, Hub, Language, Selection, Start, TokenIdentity};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use url::Url;

pub use audiences::{Audience, AudienceProblem, Audiences, Dates, NotedTopic, TakenTopic};
pub use known::{How, Taken};
pub use signed::{BadKeySecret, NoSeal, check_key_secret};
pub use topic::topic;

use crate::http::{Answer, Bodies, Content, Frontend, Lasting, Request, empty};
use crate::limits::{
    COURIER_BODIES_BYTES_MAX, COURIER_BODY_BYTES_BESIDE, SOCKET_BURST_DEFAULT,
    SOCKET_PER_SECOND_DEFAULT,
};
use crate::mercure::Mercure;
use crate::shard::Stream;
use crate::shard::talk::{FrameLimits, Talk};
use crate::sse::Framing;
use crate::websocket::{frame, handshake};
use connection::Connection;
use refusal::Refusal;
use session::Session;
use signed::{BadSignature, Signed, Signer};
use token::{Bearer, Secret};

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
    secret: Secret,
    signer: Signer,
    ws_url: Url,
    base: String,
    sign_lifetime: RwLock<Duration>,
    body_bytes_max: usize,
    bodies: Bodies,
    /// Who may be at the storage: one at a time, so that strangers hold no other threads.
    storage: Arc<Semaphore>,
    /// Messages that are being worked off. Each ends by itself within the time that publishers
    /// wait.
    tasks: TaskTracker,
}

/// What is served.
enum Place {
    Socket,
    /// A path below, without the frontend's own before it.
    Rest(String),
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
        let signer = Signer::new(&own, options.key_secret.as_deref())?;
        Ok(Courier {
            audiences: Arc::new(Audiences::open(hub, clock)?),
            mercure,
            secret: Secret::new(&options.jwt_secret),
            signer: signer.ok_or(NoSeal::Damaged)?,
            ws_url: options.ws_url.clone(),
            base: options.path.clone(),
            sign_lifetime: RwLock::new(options.sign_lifetime),
            body_bytes_max: options.update_bytes_max.saturating_add(COURIER_BODY_BYTES_BESIDE),
            bodies: Bodies::new(COURIER_BODIES_BYTES_MAX),
            storage: Arc::new(Semaphore::new(1)),
            tasks: TaskTracker::new(),
        })
    }

    /// Signs URLs for so long from now on. Everything else needs a new frontend.
    pub fn reload(&self, sign_lifetime: Duration) {
        *self.sign_lifetime.write().unwrap_or_else(PoisonError::into_inner) = sign_lifetime;
    }

    fn sign_lifetime(&self) -> Duration {
        *self.sign_lifetime.read().unwrap_or_else(PoisonError::into_inner)
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

    /// What somebody of an audience may do: everything in it, and nothing beside it.
    fn grant(&self, audience: &str, email: Option<&str>, expires: Option<u64>) -> Arc<Grant> {
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
        let token = TokenIdentity {
            issuer: Some(ISSUER.into()),
            subject: email.map(Into::into),
            key: Some(KEY.into()),
            ..TokenIdentity::default()
        };
        Arc::new(Grant { publish: topics.clone(), subscribe: topics, expires, token })
    }

    /// A socket for whoever sent this request.
    async fn open(&self, request: Request) -> Result<Response<Content>, Refusal> {
        let Request { head, id, closing, .. } = request;
        let query = head.uri.query().unwrap_or_default();
        let given = |name| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
        };
        let token = given("token").ok_or(Refusal::BadSignature(BadSignature::Missing))?;
        let opened = self.signer.open(&token, &self.secret, self.clock().wall());
        let opened = opened.map_err(Refusal::BadSignature)?;
        let (audience, email, expires) = match &opened {
            Signed::Sealed { audience, email, expires } => {
                (self.audiences.find_id(audience), email, *expires)
            }
            Signed::Old(bearer) => (self.audience_of(bearer), &bearer.email, bearer.expires),
        };
        let audience = audience.ok_or(Refusal::NoAudience)?;
        let accepted = handshake::accept(&head, &[]).map_err(Refusal::Handshake)?;
        if closing.has_begun() {
            return Err(Refusal::NotNow("the hub is shutting down"));
        }
        let grant = self.grant(&audience.id, email.as_deref(), expires);
        let start = self.start(&grant, given("after")).await?;
        // Nothing at first: what comes is brought by subscriptions.
        let selection = Selection { matchers: Vec::new(), grant: Arc::clone(&grant), scope: None };
        let session = Session::new(&audience.id);
        let (hub, tasks) = (self.hub().clone(), self.tasks.clone());
        let hearer = Arc::new(Connection::new(hub, grant, start, id, session, tasks));
        let opening = Some(frame::text(audiences::fresh_id().as_bytes()));
        let limits = FrameLimits {
            message_bytes: self.body_bytes_max,
            binary: false,
            per_second: SOCKET_PER_SECOND_DEFAULT,
            burst: SOCKET_BURST_DEFAULT,
        };
        let stream = Stream {
            request: id,
            selection,
            start: Start::After(self.hub().end()),
            limits: self.mercure.lent().limits(expires),
            tells: None,
            present: None,
            talk: Some(Box::new(Talk { hearer, limits, opening })),
            closing,
        };
        tracing::debug!(request = %id, "a connection of an audience opens");
        let shards = Arc::clone(self.mercure.shards());
        let begin = Lasting::messages(Framing::Raw, move |carrier| shards.begin(stream, carrier));
        Ok(accepted.answer(Content::Lasting(begin)))
    }

    /// Where subscriptions of a connection begin that names a place: `earliest`, a cursor, or only
    /// the UUID in one. What is not known means everything that is kept.
    async fn start(&self, grant: &Arc<Grant>, after: Option<String>) -> Result<Start, Refusal> {
        let Some(after) = after.filter(|after| !after.is_empty()) else { return Ok(Start::Now) };
        let is_bare = after.len() == 36 && !after.starts_with("urn:");
        let cursor = if is_bare { format!("urn:uuid:{after}") } else { after };
        let grant = Arc::clone(grant);
        let selection = Selection { matchers: Vec::new(), grant, scope: None };
        let begun = Box::pin(self.mercure.begin(selection, None, cursor)).await;
        // A reader that panicked has said why; what it would have found is not known.
        let (start, _) = begun.ok_or(Refusal::NotNow("the place could not be looked up"))?;
        Ok(start)
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
    let secret = Secret::new("a secret that nobody knows");
    let text = String::from_utf8_lossy(bytes);
    for old in ["0123456789abcdef", "0123456789abcdef01234567"] {
        if let Ok(Some(signer)) = Signer::new(&[7; 32], Some(old)) {
            assert!(signer.open(&text, &secret, 0).is_err());
        }
    }
    assert!(secret.verify(&text, 0).is_err());
}
