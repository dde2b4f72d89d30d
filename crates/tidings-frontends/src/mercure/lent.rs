//! What this frontend lends to others that serve the same hub in another protocol: its settings of
//! the moment, its rules for texts and cookies, and where subscriptions begin. Knows none of those
//! protocols.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use tidings_core::{Clock, Hub, Language, Line, Scope, Selection, Start, Topic};

use super::access::{Bearer, Presentation};
use super::cursor::Reader;
use super::presence::{self, Asked};
use super::refusal::Refusal;
use super::{Mercure, Settings, cookie, cursor, publish, subscribe};
use crate::auth::{Auth, Generation, TokenCause, Verified};
use crate::http::Content;
use crate::problem::problem;
use crate::shard::{Limits, Shards};
use crate::sse::continuity::Continuity;

pub(crate) use super::cursor::EARLIEST;

/// The settings of one moment.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Settings>);

/// A name that nobody has had before, as a `urn:uuid:`.
pub(crate) fn fresh_name() -> String {
    presence::fresh_name()
}

/// Whether a text has neither control nor format characters.
pub(crate) fn is_plain(text: &str) -> bool {
    publish::plain_text(text).is_ok()
}

/// A topic of protocol 1.0, or what is wrong with it.
pub(crate) fn topic(text: &str) -> Result<Topic, String> {
    publish::read_topic(Generation::Final, text).map_err(|refusal| refusal.to_string())
}

/// A publisher's id of protocol 1.0, or what is wrong with it.
pub(crate) fn id(text: &str) -> Result<Line, String> {
    publish::read_id(Generation::Final, text).map_err(|refusal| refusal.to_string())
}

/// A type of events of protocol 1.0, or what is wrong with it.
pub(crate) fn event_type(text: &str) -> Result<Line, String> {
    publish::read_type(Generation::Final, text).map_err(|refusal| refusal.to_string())
}

/// The token of an `Authorization` header.
///
/// # Errors
///
/// The answer to a request whose header is none with a token.
pub(crate) fn bearer<'h>(
    headers: &'h HeaderMap,
    lent: &Lent,
) -> Result<Option<&'h str>, Box<Refused>> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let misused = |presentation| lent.refused(&Refusal::BadPresentation(presentation));
    if fields.next().is_some() {
        return Err(misused(Presentation::Repeated));
    }
    let bearer = Bearer::parse(field.as_bytes());
    Ok(Some(bearer.ok_or_else(|| misused(Presentation::NotBearer))?.token))
}

/// The refusal of a request that a page made which may not.
fn foreign(what: &str) -> Box<Refused> {
    let detail = "this page may not: its origin has to be listed by the operator";
    let answer = problem(StatusCode::FORBIDDEN, "Forbidden", detail).map(Content::Body);
    Box::new(Refused { reason: format!("{what} asks for a socket"), answer })
}

/// A request was refused: what the log may show, and the answer.
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) answer: Response<Content>,
}

impl Lent {
    pub(crate) fn auth(&self) -> &Arc<Auth> {
        &self.0.auth
    }

    /// How a receiver is kept open whose grant ends at `expires`.
    pub(crate) fn limits(&self, expires: Option<u64>) -> Limits {
        Limits { expires, heartbeat: self.0.heartbeat, lifetime: self.0.lifetime }
    }

    /// Entries that somebody without a token gets of the past at most.
    pub(crate) fn anonymous_replay_max(&self) -> Option<u64> {
        self.0.anonymous_replay_max
    }

    /// Whether the page of this request may read answers: the hub's own, or one of an origin that
    /// is listed. Where browsers do not ask, as for sockets, any page could read what is behind a
    /// firewall. Whoever is no browser names no origin.
    ///
    /// # Errors
    ///
    /// The answer to a request of another page.
    pub(crate) fn check_page(&self, headers: &HeaderMap) -> Result<(), Box<Refused>> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let listed = &self.0.credentials_origins;
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if listed.everybody || listed.lists(origin) => Ok(()),
            _ => Err(foreign("a page of an origin that mercure.cors_origins does not list")),
        }
    }

    /// The token in a cookie. A browser sends it whatever page opens the connection, so the page
    /// has to be the hub's own, or of an origin that gets credentials.
    ///
    /// # Errors
    ///
    /// The answer to a request of another page, whatever its token is.
    pub(crate) fn cookie<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<&'h str>, Box<Refused>> {
        let Some(token) = self.0.cookies.token(headers) else { return Ok(None) };
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (Some(origin), None) if self.0.credentials_origins.lists(origin) => {
                // What is no text is no token either.
                Ok(Some(std::str::from_utf8(token).unwrap_or_default()))
            }
            (None, _) => Err(foreign("a cookie with a token and no Origin, as browsers send")),
            _ => Err(foreign("a cookie with a token, of a page whose origin gets no credentials")),
        }
    }

    /// Whether the page of this request may publish with a token in a cookie.
    pub(crate) fn publishes_by_cookie(&self, headers: &HeaderMap) -> bool {
        cookie::check_origin(headers, &self.0.publish_origins).is_ok()
    }

    /// The answer to a request whose token is not valid.
    pub(crate) fn bad_token(&self, cause: TokenCause) -> Box<Refused> {
        self.refused(&Refusal::bad_token(cause))
    }

    /// The answer to a request that offers several tokens as subprotocols.
    pub(crate) fn several_tokens(&self) -> Box<Refused> {
        self.refused(&Refusal::BadPresentation(Presentation::RepeatedProtocol))
    }

    /// The answer to a request that comes too late.
    pub(crate) fn shutting_down(&self) -> Box<Refused> {
        self.refused(&Refusal::ShuttingDown)
    }

    fn refused(&self, refusal: &Refusal) -> Box<Refused> {
        let answer = refusal.answer(Generation::Final, &self.0.metadata.url).map(Content::Body);
        Box::new(Refused { reason: refusal.reason(self.0.log_topics), answer })
    }
}

impl Mercure {
    /// The settings that count now.
    pub(crate) fn lent(&self) -> Lent {
        Lent(self.settings())
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// In whose words receivers of messages hear what the hub announces, where it announces.
    pub(crate) fn scope(&self) -> Option<Scope> {
        self.presence.as_ref().map(|_| presence::scope(Generation::Final))
    }

    /// Shows a subscription to watchers as long as the answer is there.
    pub(crate) fn join<'p>(
        &self,
        verified: Option<&Arc<Verified>>,
        patterns: impl Iterator<Item = (Language, &'p str)>,
    ) -> Option<Box<dyn Send>> {
        let presence = self.presence.as_ref()?;
        let asked: Vec<_> = patterns.map(|(language, text)| Asked { language, text }).collect();
        Some(Box::new(presence.join(Generation::Final, verified, &asked)))
    }

    /// Where a subscription to `selection` begins that goes on behind `cursor`, and how it goes on.
    /// `None` when the hub cannot say.
    pub(crate) async fn begin(
        &self,
        selection: Selection,
        replay_max: Option<u64>,
        cursor: String,
    ) -> Option<(Start, Continuity)> {
        let hub = self.hub.clone();
        let find = move || {
            let grant = Arc::clone(&selection.grant);
            let reader = Reader { generation: Generation::Final, grant, replay_max };
            let found = cursor::begin(&hub, &reader, &cursor);
            let found = subscribe::behind_a_gap(&hub, found);
            let found = subscribe::behind_what_is_forgotten(&hub, &selection, found);
            (found.start, found.continuity)
        };
        self.shards.cursor_readers.read(find).await
    }
}
