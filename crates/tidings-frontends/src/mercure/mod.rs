//! The Mercure protocol, 1.0 and 0.x side by side on one URL.
//!
//! A form becomes an update, parameters become a selection, entries become Server-Sent Events.
//! Which generation a request is, its token says, or else its parameters; where the two differ is
//! data in `refusal`, `cursor` and the readers of parameters. Knows nothing of storage, of other
//! protocols, or of why a token is valid.

mod access;
mod content;
mod cookie;
mod cors;
mod cursor;
mod fault;
mod form;
pub(crate) mod lent;
mod metadata;
mod origins;
mod presence;
mod publish;
mod refusal;
mod subscribe;
mod ticket;
mod tickets;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use tidings_core::{Clock, Hub, Namespace};

pub use origins::BadOrigin;

use crate::auth::{Auth, Generation};
use crate::http::{Answer, Bodies, Body, Content, Frontend, Request, empty};
use crate::limits::{
    BODIES_BYTES_MAX, COOKIE_DEFAULT, FORM_BYTES_DEFAULT, FORM_FIELDS_MAX, HEARTBEAT_DEFAULT,
    QUERIES_BYTES_MAX, STREAM_LIFETIME_DEFAULT,
};
use crate::shard::Shards;
use access::Worded;
use content::{is_form, refuse_coded};
use cookie::Cookies;
use cors::Cors;
use fault::Fault;
use metadata::Metadata;
pub(crate) use origins::Origins;
use presence::Presence;
use refusal::Refusal;
pub(crate) use subscribe::too_many_bare;
use tickets::Tickets;

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// What the operator decides about this frontend.
#[derive(Debug, Clone)]
pub struct Options {
    /// Origins of pages that may talk to the hub, with credentials: `https://app.example.com`,
    /// with one `*` as the first host label or as the port, or `null`. The entry `*` lets all
    /// others in without credentials.
    pub cors_origins: Vec<String>,
    /// The cookie that tokens are read from beside the header, and `mercureAuthorization` behind it
    /// where an issuer accepts 0.x; `None` reads no cookie.
    pub cookie: Option<String>,
    /// Origins of pages that may publish with a token in a cookie, beside the hub's own; entries as
    /// in `cors_origins`, where `*` does not stand for `null`.
    pub publish_origins: Vec<String>,
    /// Whether log lines show what is wrong with a pattern, which may quote it.
    pub log_topics: bool,
    /// Silence on a stream after which a comment is sent; `None` sends none.
    pub heartbeat: Option<Duration>,
    /// How long a stream lives at most; it ends after 80 to 100 % of this. `None` for ever.
    pub connection_age_max: Option<Duration>,
    /// Largest body of a request in bytes.
    pub body_bytes_max: usize,
    /// Entries that a subscriber without a token is sent at most when it asks for `earliest` or
    /// with an unknown cursor; `None` for all that are kept.
    pub anonymous_replay_max: Option<u64>,
    /// Whether subscriptions are listed and announced. For the life of the program.
    pub subscriptions: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cors_origins: Vec::new(),
            cookie: Some(COOKIE_DEFAULT.to_owned()),
            publish_origins: Vec::new(),
            log_topics: false,
            heartbeat: Some(HEARTBEAT_DEFAULT),
            connection_age_max: Some(STREAM_LIFETIME_DEFAULT),
            body_bytes_max: FORM_BYTES_DEFAULT,
            anonymous_replay_max: None,
            subscriptions: false,
        }
    }
}

/// What a reload replaces. A request uses the same from its beginning to its end.
struct Settings {
    auth: Arc<Auth>,
    cors: Cors,
    cookies: Cookies,
    publish_origins: Origins,
    /// Origins of pages whose cookies count, beside `*`: the hub's own, and those that get answers
    /// with credentials.
    credentials_origins: Origins,
    log_topics: bool,
    metadata: Metadata,
    heartbeat: Option<Duration>,
    lifetime: Option<Duration>,
    body_bytes_max: usize,
    anonymous_replay_max: Option<u64>,
}

impl Settings {
    fn new(auth: Arc<Auth>, namespace: &Namespace, options: &Options) -> Result<Self, BadOrigin> {
        let cookie = options.cookie.clone();
        Ok(Settings {
            cors: Cors::new(&options.cors_origins)?,
            metadata: Metadata::new(namespace, &auth, cookie.as_deref(), options.subscriptions),
            cookies: Cookies::new(cookie, auth.accepts(Generation::Draft)),
            publish_origins: Origins::new(&options.publish_origins)?.and_of(namespace.hub_url()),
            credentials_origins: Origins::new(&options.cors_origins)?.and_of(namespace.hub_url()),
            auth,
            log_topics: options.log_topics,
            // A timer without a length would never let anything else happen.
            heartbeat: options.heartbeat.filter(|heartbeat| !heartbeat.is_zero()),
            lifetime: options.connection_age_max.filter(|age| !age.is_zero()),
            body_bytes_max: options.body_bytes_max,
            anonymous_replay_max: options.anonymous_replay_max,
        })
    }

    /// The generation where neither a token nor a parameter tells: 1.0, unless no issuer here
    /// speaks it.
    fn without_token(&self) -> Generation {
        let only_draft =
            self.auth.accepts(Generation::Draft) && !self.auth.accepts(Generation::Final);
        if only_draft { Generation::Draft } else { Generation::Final }
    }
}

/// Why the frontend does not start.
#[derive(Debug, thiserror::Error)]
pub enum BadStart {
    /// The operator's fault: an entry of a list of origins is none.
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The operating system's: without the thread subscribers would be announced to nobody.
    #[error(
        "the thread that announces subscribers did not start: {0}; raise the limit of threads, or \
         switch subscriptions off"
    )]
    Thread(std::io::Error),
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// What its path says.
    Protocol,
    /// A ticket for a stream.
    Ticket,
}

/// The frontend.
pub struct Mercure {
    hub: Hub,
    clock: Arc<dyn Clock>,
    settings: RwLock<Arc<Settings>>,
    path: String,
    metadata_path: String,
    shards: Arc<Shards>,
    presence: Option<Presence>,
    tickets: Tickets,
    /// Memory for the bodies of publications.
    bodies: Bodies,
    /// Memory for the bodies of queries.
    query_bodies: Bodies,
}

impl Mercure {
    /// The protocol over `hub`, at the path of the hub's own URL. `shards` serve its streams.
    ///
    /// # Errors
    ///
    /// See [`BadStart`].
    pub fn new(
        hub: Hub,
        auth: Arc<Auth>,
        clock: Arc<dyn Clock>,
        shards: Arc<Shards>,
        options: &Options,
    ) -> Result<Mercure, BadStart> {
        let settings = Settings::new(auth, hub.namespace(), options)?;
        let metadata_path = settings.metadata.path.clone();
        let thread = std::thread::Builder::new();
        let presence = options.subscriptions.then(|| Presence::new(&hub, thread)).transpose();
        let presence = presence.map_err(BadStart::Thread)?;
        if let Some(presence) = &presence {
            presence.speak_as(&settings.auth);
        }
        let path = hub.namespace().hub_url().path().to_owned();
        Ok(Mercure {
            hub,
            clock,
            settings: RwLock::new(Arc::new(settings)),
            path,
            metadata_path,
            shards,
            presence,
            tickets: Tickets::default(),
            bodies: Bodies::new(BODIES_BYTES_MAX),
            query_bodies: Bodies::new(QUERIES_BYTES_MAX),
        })
    }

    /// Uses other keys and options from the next request on. Open streams keep theirs.
    ///
    /// # Errors
    ///
    /// When an entry of a list of origins is none; nothing has changed then.
    pub fn reload(&self, auth: Arc<Auth>, options: &Options) -> Result<(), BadOrigin> {
        let settings = Arc::new(Settings::new(auth, self.hub.namespace(), options)?);
        if let Some(presence) = &self.presence {
            presence.speak_as(&settings.auth);
        }
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        Ok(())
    }

    /// The hub's own URL and topics.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.hub.namespace()
    }

    /// Answers a request for a ticket, wherever that was sent.
    pub(crate) fn ticket(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(self.answer(request, Errand::Ticket))
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(self: Arc<Self>, request: Request, errand: Errand) -> Response<Content> {
        let settings = self.settings();
        let origin = request.head.headers.get(header::ORIGIN).cloned();
        let is_options = request.head.method == Method::OPTIONS;
        let is_preflight =
            is_options && request.head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let (id, client) = (request.id, request.client);
        let is_list = self.presence_at(request.head.uri.path()).is_some();
        let mut answer = match self.dispatch(request, &settings, errand).await {
            Ok(answer) => answer,
            Err((generation, refusal)) => {
                let reason = refusal.reason(settings.log_topics);
                if refusal.is_ours() {
                    tracing::error!(request = %id, %client, reason, "refused");
                } else {
                    let checks = refusal.checks(settings.log_topics);
                    tracing::info!(request = %id, %client, reason, checks, "refused");
                }
                let mut answer = refusal.answer(generation, &settings.metadata.url);
                if is_list && generation == Generation::Final {
                    presence::mark_refused(&self, &refusal, answer.headers_mut());
                }
                answer.map(Content::Body)
            }
        };
        settings.cors.mark(origin.as_ref(), answer.headers_mut());
        if is_preflight {
            settings.cors.mark_preflight(answer.headers_mut());
        }
        answer
    }

    async fn dispatch(
        &self,
        request: Request,
        settings: &Settings,
        errand: Errand,
    ) -> Worded<Response<Content>> {
        let method = request.head.method.clone();
        if errand == Errand::Ticket {
            return match method {
                Method::OPTIONS => Ok(options(cors::POST_METHODS).map(Content::Body)),
                _ => {
                    let answer = Box::pin(ticket::make(self, request, settings)).await?;
                    Ok(answer.map(Content::Body))
                }
            };
        }
        let presence = self.presence_at(request.head.uri.path());
        let is_metadata = request.head.uri.path() == self.metadata_path;
        if method == Method::OPTIONS {
            let is_read = is_metadata || presence.is_some();
            let methods = if is_read { cors::READ_METHODS } else { cors::METHODS };
            return Ok(options(methods).map(Content::Body));
        }
        if is_metadata {
            return match method {
                Method::GET | Method::HEAD => Ok(settings.metadata.answer().map(Content::Body)),
                _ => Err((Generation::Final, Refusal::ReadOnly)),
            };
        }
        let query = request.head.uri.query().unwrap_or_default();
        let query = form::parse(query.as_bytes(), FORM_FIELDS_MAX)
            .map_err(|_| (settings.without_token(), Refusal::BadParameter(Fault::TooManyFields)))?;
        if let Some(presence) = presence {
            // Rare futures are kept apart: every publication would make room for them.
            let answer = Box::pin(presence::answer(self, presence, &request.head, &query)).await?;
            return Ok(answer.map(Content::Body));
        }
        match method {
            Method::GET | Method::HEAD | Method::QUERY => {
                Box::pin(subscribe::subscribe(self, request, &query, settings)).await
            }
            Method::POST => {
                let answer = publish::publish(self, request, &query, settings).await?;
                Ok(answer.map(Content::Body))
            }
            _ => Err((Generation::Final, Refusal::BadMethod)),
        }
    }
}

impl Mercure {
    /// Who answers for a path below which subscriptions are listed.
    fn presence_at(&self, path: &str) -> Option<&Presence> {
        let presence = self.presence.as_ref()?;
        let rest = path.strip_prefix(presence.path())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(presence)
    }
}

impl Frontend for Mercure {
    fn claims(&self, path: &str) -> bool {
        let ours = path == self.path || path == self.metadata_path;
        ours || self.presence_at(path).is_some()
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(self.answer(request, Errand::Protocol))
    }
}

fn options(methods: &'static str) -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

/// Whether hubs of protocol 0.x take a topic for theirs, beside what every hub does.
pub fn is_reserved_in_draft(topic: &str) -> bool {
    topic.contains(publish::DRAFT_RESERVED)
}

/// Feeds outside bytes to the reader of forms and queries.
#[doc(hidden)]
pub fn fuzz_form(bytes: &[u8]) {
    form::fuzz(bytes);
}

/// Feeds outside bytes to the reader of cookies and of the page that sent them.
#[doc(hidden)]
pub fn fuzz_cookies(bytes: &[u8]) {
    cookie::fuzz(bytes);
}

/// Feeds outside bytes to the reader of paths of subscriptions.
#[doc(hidden)]
pub fn fuzz_subscriptions(bytes: &[u8]) {
    presence::fuzz(bytes);
}

/// Feeds outside bytes to the reader of lists of origins.
#[doc(hidden)]
pub fn fuzz_origins(bytes: &[u8]) {
    cors::fuzz(bytes);
}
