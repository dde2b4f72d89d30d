//! The hub over a WebSocket (RFC 6455): the same subscriptions as over Server-Sent Events, changed
//! on an open connection. Knows nothing of storage, and not who else receives.
//!
//! A request becomes a socket by a `handshake`; the shard takes its `frame`s apart. What a message
//! says is read by `commands` and understood by a `session`, around which a `conversation` does
//! what takes time. `messages` are the answers, `delivery` and `words` what nobody asked for.

mod assembling;
mod commands;
mod conversation;
mod decoder;
pub(crate) mod delivery;
mod echo;
mod fault;
pub(crate) mod frame;
mod fuzz;
pub(crate) mod handshake;
mod judge;
pub(crate) mod limits;
mod messages;
mod session;
pub(crate) mod words;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Response};
use tidings_core::{Grant, Selection, Start};
use tokio_util::task::TaskTracker;

#[doc(hidden)]
pub use echo::Echo;
#[doc(hidden)]
pub use fuzz::{fuzz_frames, fuzz_sessions};

use crate::http::{Answer, Content, Frontend, Lasting, Request};
use crate::limits::{
    SOCKET_BURST_DEFAULT, SOCKET_LOGIN_TIMEOUT, SOCKET_MESSAGE_BYTES_DEFAULT,
    SOCKET_PER_SECOND_DEFAULT, SOCKET_PUBLISH_BYTES_DEFAULT, SOCKET_SUBSCRIPTIONS_DEFAULT,
};
use crate::mercure::Mercure;
use crate::mercure::lent::{self, Lent, Refused};
use crate::shard::Stream;
use crate::shard::talk::{Answering, FrameLimits, Talk};
use crate::sse::Framing;
use conversation::Conversation;
use judge::{Right, judge, judge_reader};
use messages::{Allowed, Message};
use session::{Rules, Session};

/// The subprotocol that is spoken here.
const PROTOCOL: &str = "tidings.v1.json";
/// What stands before a token that is offered as a subprotocol: a page cannot set header fields.
const TOKEN_PREFIX: &str = "bearer.";
/// The parameter by which binary messages are asked for.
const BINARY: &str = "binary=1";

/// What the operator decides about this frontend.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Matchers of all subscriptions of one socket together.
    pub subscriptions_max: usize,
    /// Bytes of a publisher's message. Who has not shown that it may publish says less.
    pub message_bytes_max: usize,
    /// Messages that a client may send in a second, in the long run.
    pub per_second: u32,
    /// Messages at a time after silence.
    pub burst: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            subscriptions_max: SOCKET_SUBSCRIPTIONS_DEFAULT,
            message_bytes_max: SOCKET_PUBLISH_BYTES_DEFAULT,
            per_second: SOCKET_PER_SECOND_DEFAULT,
            burst: SOCKET_BURST_DEFAULT,
        }
    }
}

/// The frontend. Whose tokens count, which pages may send cookies and how long receivers live is
/// the Mercure frontend's to say, so that both change together.
pub struct WebSocket {
    mercure: Arc<Mercure>,
    path: String,
    /// For sockets that open from now on: those of text, and those of binary messages too.
    rules: RwLock<[Arc<Rules>; 2]>,
    /// Answers on their way. Each ends by itself within the time that publishers wait.
    answering: OnceLock<Arc<Answering>>,
}

impl WebSocket {
    /// At this path, over the hub of `mercure`.
    pub fn new(mercure: Arc<Mercure>, path: String, options: Options) -> WebSocket {
        let rules = RwLock::new(rules(&options));
        WebSocket { mercure, path, rules, answering: OnceLock::new() }
    }

    /// Uses other options for sockets that open from now on.
    pub fn reload(&self, options: Options) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules(&options);
    }

    fn rules(&self, binary: bool) -> Arc<Rules> {
        let [text, both] = &*self.rules.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(if binary { both } else { text })
    }

    /// Where sockets are answered: the runtime that serves the first of them.
    fn answering(&self) -> Arc<Answering> {
        let made = self.answering.get_or_init(|| Answering::here(TaskTracker::new()));
        Arc::clone(made)
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response<Content> {
        let (id, client) = (request.id, request.client);
        let accepted = match handshake::accept(&request.head, &[PROTOCOL]) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                tracing::info!(request = %id, %client, reason = %refusal, "refused");
                return refusal.answer(request.head.version).map(Content::Body);
            }
        };
        match self.open(request).await {
            Ok(lasting) => accepted.answer(Content::Lasting(lasting)),
            Err(refused) => {
                let Refused { reason, answer } = *refused;
                tracing::info!(request = %id, %client, reason, "refused");
                answer
            }
        }
    }

    /// A socket for whoever sent this request.
    async fn open(&self, request: Request) -> Result<Lasting, Box<Refused>> {
        let Request { head, id, closing, .. } = request;
        let mercure = &self.mercure;
        let lent = mercure.lent();
        if closing.has_begun() {
            return Err(lent.shutting_down());
        }
        lent.check_page(&head.headers)?;
        let right = self.right(&head, &lent).await?;
        let anonymous = lent.auth().anonymous_allowed();
        let binary = head.uri.query().is_some_and(|query| query.split('&').any(|it| it == BINARY));
        let rules = self.rules(binary);
        let expires = match &right {
            Some(right) => right.expires(),
            None if anonymous => None,
            // Who says nothing holds a place for nothing.
            None => Some(mercure.clock().wall().saturating_add(milliseconds(SOCKET_LOGIN_TIMEOUT))),
        };
        let grant = right.as_ref().and_then(Right::grant);
        let grant = grant.unwrap_or_else(|| Arc::new(Grant::anonymous()));
        let session = Session::new(rules, anonymous, right);
        let (limits, allowed) = (session.limits(), session.allowed());
        let life = lent.limits(expires);
        let place = mercure.hub().end();
        let opening = Some(self.hello(&mercure.hub().cursor(place), life.heartbeat, allowed));
        let (mercure, answering) = (Arc::clone(mercure), self.answering());
        let hearer = Arc::new(Conversation::new(mercure, id, session, answering));
        let stream = Stream {
            request: id,
            // Nothing at first: what comes is brought by subscriptions.
            selection: Selection { matchers: Vec::new(), grant, scope: self.mercure.scope() },
            start: Start::After(place),
            limits: life,
            tells: None,
            present: None,
            talk: Some(Box::new(Talk { hearer, limits, opening })),
            closing,
        };
        tracing::debug!(request = %id, "a socket opens");
        let shards = Arc::clone(self.mercure.shards());
        let framing = if binary { Framing::MessagesBinary } else { Framing::Messages };
        Ok(Lasting::messages(framing, move |carrier| shards.begin(stream, carrier)))
    }

    /// What the token of a request allows; `None` where it has none.
    async fn right(&self, head: &Parts, lent: &Lent) -> Result<Option<Right>, Box<Refused>> {
        let Some((token, by_cookie)) = presented(&head.headers, lent)? else { return Ok(None) };
        let (auth, clock) = (lent.auth(), self.mercure.clock());
        let judged = if by_cookie && !lent.publishes_by_cookie(&head.headers) {
            judge_reader(auth, clock, token).await
        } else {
            judge(auth, clock, token).await
        };
        judged.map(Some).map_err(|cause| lent.bad_token(cause))
    }

    fn hello(&self, cursor: &str, heartbeat: Option<Duration>, limits: Allowed) -> bytes::Bytes {
        let hello = Message::Hello {
            session: &lent::fresh_name(),
            epoch: &self.mercure.hub().epoch(),
            cursor,
            heartbeat: heartbeat.map(milliseconds),
            limits,
        };
        hello.frame()
    }
}

/// What these options mean for sockets of text, and for those of binary messages too.
fn rules(options: &Options) -> [Arc<Rules>; 2] {
    let Options { subscriptions_max, message_bytes_max, per_second, burst } = *options;
    [false, true].map(|binary| {
        let limits = |message_bytes| FrameLimits { message_bytes, binary, per_second, burst };
        let reader = limits(SOCKET_MESSAGE_BYTES_DEFAULT.min(message_bytes_max));
        Arc::new(Rules { subscriptions_max, reader, publisher: limits(message_bytes_max) })
    })
}

/// The token of a request, and whether a browser added it by itself: of the header, of a
/// subprotocol, or of a cookie. What stands behind the first of them is not looked at.
fn presented<'h>(
    headers: &'h HeaderMap,
    lent: &Lent,
) -> Result<Option<(&'h str, bool)>, Box<Refused>> {
    if let Some(token) = lent::bearer(headers, lent)? {
        return Ok(Some((token, false)));
    }
    let offered = handshake::offered(headers);
    let mut tokens = offered.filter_map(|protocol| protocol.strip_prefix(TOKEN_PREFIX));
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => return Ok(Some((token, false))),
        (Some(_), Some(_)) => return Err(lent.several_tokens()),
        (None, _) => {}
    }
    Ok(lent.cookie(headers)?.map(|token| (token, true)))
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Frontend for WebSocket {
    fn claims(&self, path: &str) -> bool {
        path == self.path
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(self.answer(request))
    }
}
