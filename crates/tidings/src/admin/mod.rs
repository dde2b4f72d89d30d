//! The operator's listener: whether the program lives, is ready, and what it counts.
//!
//! Loopback by default, apart from what clients reach; what changes anything needs a token. Knows
//! no protocol of clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use http::{HeaderValue, Method, Response, StatusCode, header};
use tidings_connectors::endpoints::Endpoints;
use tidings_connectors::sinks::Sinks;
use tidings_connectors::sources::Sources;
use tidings_core::{Clock, Hub};
use tidings_frontends::auth::{Auth, Secret};
use tidings_frontends::courier::Courier;
use tidings_frontends::http::{Answer, Bodies, Body, Content, Frontend, Request, Server, full};
use tidings_frontends::problem::problem;

mod answers;
mod attempts;
mod dead_letters;
mod documents;
mod endpoints;
mod keys;
mod metrics;
mod openapi;
mod replays;
mod revocations;
mod routes;
mod sinks;
mod written;

pub use documents::{
    AttemptDocument, AttemptsDocument, CreatorDocument, EndpointDocument, LetterDocument,
    LettersDocument, RedrivenDocument, ReplayRequest, ReplaysDocument, SelectionDocument,
    SinkDocument, SinksDocument, TrialDocument,
};
pub use keys::{
    IssuerDocument, KEYS_PATH, KeyDocument, KeyRequest, KeysDocument, MadeDocument, ROTATE_PATH,
    RevokedKeyDocument, RotationRequest, TopicDocument,
};
pub use revocations::{ListDocument, REVOCATIONS_PATH, RevocationDocument, RevokedDocument};

use crate::keys::Keyring;
use crate::ledger::Ledger;
use crate::limits::ADMIN_BODIES_BYTES_MAX;

/// Whether the program wants to be sent clients: set when everything runs, cleared when it ends.
pub type Ready = Arc<AtomicBool>;

/// What people may ask of sinks.
pub struct Running {
    /// All that run.
    pub sinks: Arc<Sinks>,
    /// Those that were made over the API.
    pub endpoints: Arc<Endpoints>,
    /// The sources that run.
    pub sources: Arc<Sources>,
}

/// The sinks, once any run.
pub type RunningSinks = Arc<OnceLock<Running>>;

/// What a reload replaces.
pub struct Current {
    /// Who verifies tokens now.
    pub auth: Arc<Auth>,
    /// The token of operators, if there is one.
    pub token: Option<Secret>,
}

/// What the listener shows.
pub struct Admin {
    /// See [`Ready`].
    pub ready: Ready,
    /// The hub behind it.
    pub hub: Hub,
    /// The side that clients reach.
    pub public: Arc<Server>,
    /// What a reload replaces.
    pub current: Arc<RwLock<Current>>,
    /// What is revoked.
    ledger: Arc<Ledger>,
    /// What applications exchange for tokens.
    keys: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    /// See [`RunningSinks`].
    pub sinks: RunningSinks,
    /// Courier's side of the hub, where it is served.
    courier: Option<Arc<Courier>>,
    bodies: Bodies,
}

/// Everything that is served without a token.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/metrics", openapi::PATH];

impl Frontend for Admin {
    fn claims(&self, path: &str) -> bool {
        routes::claims(path) || OPEN.contains(&path)
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        if !routes::claims(request.head.uri.path()) {
            return Box::pin(async move {
                let response = self.answer(&request.head.method, request.head.uri.path()).await;
                response.map(Content::Body)
            });
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let turned_away = revocations::turned_away(current.token.as_ref(), &request);
        drop(current);
        Box::pin(async move {
            let response = match turned_away {
                Some(refusal) => refusal,
                None => routes::answer(self, request).await,
            };
            response.map(Content::Body)
        })
    }
}

impl Admin {
    /// The listener's answers for these parts.
    pub(crate) fn new(
        ready: Ready,
        hub: Hub,
        public: Arc<Server>,
        current: Arc<RwLock<Current>>,
        (ledger, keys): (Arc<Ledger>, Arc<Keyring>),
        clock: Arc<dyn Clock>,
        sinks: RunningSinks,
    ) -> Admin {
        let bodies = Bodies::new(ADMIN_BODIES_BYTES_MAX);
        let courier = None;
        Admin { ready, hub, public, current, ledger, keys, clock, sinks, courier, bodies }
    }

    /// The same, which also tells of Courier's connections.
    pub(crate) fn with_courier(self, courier: Option<Arc<Courier>>) -> Admin {
        Admin { courier, ..self }
    }

    /// What verifies tokens now.
    fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).auth)
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let detail = "This is read by GET.";
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "Wrong method", detail);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/livez" => self.livez(),
            "/readyz" => self.readyz(),
            "/metrics" => self.metrics().await,
            openapi::PATH => openapi::answer(),
            _ => problem(StatusCode::NOT_FOUND, "Not found", "Nothing is served at this path."),
        }
    }

    /// Alive as long as it answers: who does not answer is to be restarted.
    fn livez(&self) -> Response<Body> {
        text("alive\n")
    }

    fn readyz(&self) -> Response<Body> {
        let reason = if !self.ready.load(Ordering::Acquire) {
            "The hub is starting or shutting down."
        } else if !self.hub.is_writable() {
            "The history's storage has failed; subscribers are still served. See the log."
        } else {
            return text("ready\n");
        };
        problem(StatusCode::SERVICE_UNAVAILABLE, "Not ready", reason)
    }

    async fn metrics(&self) -> Response<Body> {
        let auth = self.auth();
        let trust = metrics::Trust {
            sets: auth.key_sets(),
            revocations: self.ledger.list().len() as u64,
            keys: self.keys.standing(),
            issued: self.keys.issued(),
            now: self.clock.wall(),
        };
        let sinks = match self.sinks.get() {
            Some(running) => metrics::told_of(&running.sinks, &running.sources).await,
            None => metrics::Told::default(),
        };
        let courier = self.courier.as_ref().map(|courier| courier.connections());
        match metrics::render(&self.hub, &self.public, &trust, &sinks, courier) {
            Ok(body) => {
                let mut response = text(&body);
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(std::fmt::Error) => problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "The metrics could not be written.",
            ),
        }
    }
}

fn text(body: &str) -> Response<Body> {
    let mut response = Response::new(full(body.to_owned()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
