//! Tokens for consumers: an application presents its API key and gets a short-lived token for one
//! of its visitors, which subscribes and never publishes.
//!
//! Decides who gets which token. Knows no storage: keys come from the operator, and tickets for
//! streams are the Mercure frontend's.

pub(crate) mod date;
mod exchange;
pub(crate) mod limits;
mod narrowing;
mod presented;
mod refusal;
mod shlink;
mod wanted;

use std::sync::{Arc, PoisonError, RwLock};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use tidings_core::{Clock, Namespace};

use crate::auth::OwnIssuer;
use crate::http::{Answer, Bodies, Body, Content, Frontend, Request, empty};
use crate::limits::EXCHANGE_BODIES_BYTES_MAX;
use crate::mercure::{BadOrigin, Mercure, Origins};
use crate::problem::problem;
use refusal::Refusal;

/// Where keys are exchanged.
const TOKEN_PATH: &str = "/.well-known/tidings/token";
/// Where tickets are made.
const TICKET_PATH: &str = "/.well-known/tidings/ticket";

/// What the operator decides about this frontend.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether Shlink's web clients are served.
    pub mercure_info: bool,
    /// Origins of pages that may exchange keys; usually none, since a key does not belong into a
    /// browser.
    pub cors_origins: Vec<String>,
    /// Whether the operator has said under which URL clients reach the hub.
    pub has_public_url: bool,
}

/// What a reload replaces.
struct Settings {
    mercure_info: bool,
    origins: Origins,
    has_public_url: bool,
}

impl Settings {
    fn new(options: &Options) -> Result<Settings, BadOrigin> {
        Ok(Settings {
            mercure_info: options.mercure_info,
            origins: Origins::new(&options.cors_origins)?,
            has_public_url: options.has_public_url,
        })
    }
}

/// The frontend.
pub struct Tokens {
    own: Arc<OwnIssuer>,
    mercure: Arc<Mercure>,
    namespace: Namespace,
    clock: Arc<dyn Clock>,
    /// What the public URL's path puts before all paths.
    base: String,
    bodies: Bodies,
    settings: RwLock<Arc<Settings>>,
}

/// What is served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Exchange,
    Ticket,
    MercureInfo,
}

impl Tokens {
    /// Hands out tokens of `own` for the hub of this namespace, and tickets of `mercure`. `base` is
    /// the path of the public URL; the same is served with and without it.
    ///
    /// # Errors
    /// When an entry of a list of origins is none.
    pub fn new(
        own: Arc<OwnIssuer>,
        mercure: Arc<Mercure>,
        clock: Arc<dyn Clock>,
        base: &str,
        options: &Options,
    ) -> Result<Tokens, BadOrigin> {
        Ok(Tokens {
            namespace: mercure.namespace().clone(),
            own,
            mercure,
            clock,
            base: base.trim_end_matches('/').to_owned(),
            bodies: Bodies::new(EXCHANGE_BODIES_BYTES_MAX),
            settings: RwLock::new(Arc::new(Settings::new(options)?)),
        })
    }

    /// Uses other options from the next request on.
    ///
    /// # Errors
    /// When an entry of a list of origins is none; nothing has changed then.
    pub fn reload(&self, options: &Options) -> Result<(), BadOrigin> {
        let settings = Arc::new(Settings::new(options)?);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        Ok(())
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn place(&self, path: &str) -> Option<Place> {
        let own = path.strip_prefix(&self.base).filter(|rest| rest.starts_with('/'));
        match own.unwrap_or(path) {
            TOKEN_PATH => Some(Place::Exchange),
            TICKET_PATH => Some(Place::Ticket),
            path if shlink::PATHS.contains(&path) => {
                self.settings().mercure_info.then_some(Place::MercureInfo)
            }
            _ => None,
        }
    }

    async fn answer(&self, place: Place, request: Request) -> Response<Body> {
        let settings = self.settings();
        if place == Place::MercureInfo {
            return self.mercure_info(&settings, &request);
        }
        let origin = request.head.headers.get(header::ORIGIN).cloned();
        let mut answer = match request.head.method {
            Method::OPTIONS => preflight("POST, OPTIONS"),
            Method::POST => exchange::exchange(self, &settings, request).await,
            _ => Refusal::Method.answer(false),
        };
        settings.mark(origin.as_ref(), answer.headers_mut());
        answer
    }

    fn mercure_info(&self, settings: &Settings, request: &Request) -> Response<Body> {
        let mut answer = match request.head.method {
            Method::GET | Method::HEAD => return shlink::answer(self, settings, request),
            Method::OPTIONS => {
                let mut answer = preflight("GET, HEAD, OPTIONS");
                allow(answer.headers_mut(), "GET, HEAD", "x-api-key, content-type, accept");
                answer
            }
            _ => {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let mut answer = problem(status, "Method not allowed", "This is read by GET.");
                let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
                answer.headers_mut().insert(header::ALLOW, allowed);
                answer
            }
        };
        shlink::mark(answer.headers_mut());
        answer
    }
}

impl Settings {
    /// Says who may read an answer to a page of this origin. Never with credentials: a key is no
    /// cookie.
    fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        let allowed = match (self.origins.lists(origin), self.origins.everybody) {
            (true, _) => origin.clone(),
            (false, true) => HeaderValue::from_static("*"),
            (false, false) => return,
        };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        allow(answer, "POST", "authorization, content-type, x-api-key");
        let exposed = HeaderValue::from_static("Retry-After, WWW-Authenticate, X-Request-Id");
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

fn allow(answer: &mut HeaderMap, methods: &'static str, headers: &'static str) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(headers));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
}

fn preflight(methods: &'static str) -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

impl Frontend for Tokens {
    fn claims(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        match self.place(request.head.uri.path()) {
            Some(Place::Ticket) => Arc::clone(&self.mercure).ticket(request),
            Some(place) => {
                Box::pin(async move { self.answer(place, request).await.map(Content::Body) })
            }
            // A reload may come between the claim and the call.
            None => Box::pin(std::future::ready(
                problem(StatusCode::NOT_FOUND, "Not found", "Nothing is served at this path.")
                    .map(Content::Body),
            )),
        }
    }
}

/// Feeds outside bytes to the readers of requests for tokens.
#[doc(hidden)]
pub fn fuzz_exchange(bytes: &[u8]) {
    exchange::fuzz(bytes);
}
