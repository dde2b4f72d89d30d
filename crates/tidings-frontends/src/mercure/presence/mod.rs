//! Who is subscribed to what: told to watchers as it changes, and listed on request, in the words
//! of each generation of the protocol.
//!
//! `registry` holds the live connections, `documents` words them, `announcer` tells changes to the
//! hub in batches, `api` answers requests. None of them knows a socket, or how a token is verified.

mod announcer;
mod api;
mod documents;
mod list;
mod registry;
mod subscriber;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_core::{AUDIENCE_PREFIX, Candidate, Hub, Language, Scope};

use crate::auth::{Auth, Generation, Verified};
use announcer::{Announcer, Spoken};
use documents::Documents;
use registry::{Connection, Pattern, Registry};
use subscriber::Subscriber;

pub(super) use api::{answer, fuzz, mark_refused};

/// The scope of the announcements that a generation's subscribers hear.
pub(super) fn scope(generation: Generation) -> Scope {
    match generation {
        Generation::Final => Scope("mercure 1.0"),
        Generation::Draft => Scope("mercure 0.x"),
    }
}

/// Everybody who is subscribed now.
pub(super) struct Presence {
    hub: Hub,
    registry: Arc<Registry>,
    documents: Arc<Documents>,
    spoken: Arc<Spoken>,
    /// Ends with this.
    _announcer: Announcer,
}

/// A name that nobody has had before, as a `urn:uuid:`.
pub(super) fn fresh_name() -> String {
    Subscriber::random().to_string()
}

/// One matcher of a subscriber: the language that it named, and what it wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) language: Language,
    pub(super) text: &'a str,
}

/// A connection that is there as long as this is.
pub(super) struct Present {
    registry: Arc<Registry>,
    connection: Arc<Connection>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.registry.leave(&self.connection);
    }
}

impl Presence {
    /// Nobody is there yet. Announces on a thread of this kind.
    ///
    /// # Errors
    ///
    /// When the thread does not start.
    pub(super) fn new(hub: &Hub, thread: std::thread::Builder) -> std::io::Result<Presence> {
        let registry = Arc::new(Registry::default());
        let documents = Arc::new(Documents::new(hub.namespace()));
        let spoken = Arc::new(Spoken::default());
        let announcer = Announcer::start(
            thread,
            hub.clone(),
            Arc::clone(&registry),
            Arc::clone(&documents),
            Arc::clone(&spoken),
        )?;
        Ok(Presence { hub: hub.clone(), registry, documents, spoken, _announcer: announcer })
    }

    /// Announces in the words of the generations that these issuers' tokens belong to.
    pub(super) fn speak_as(&self, auth: &Auth) {
        let Spoken { draft, modern } = &*self.spoken;
        draft.store(auth.accepts(Generation::Draft), Ordering::Relaxed);
        modern.store(auth.accepts(Generation::Final), Ordering::Relaxed);
    }

    /// The path below which requests for lists arrive.
    pub(super) fn path(&self) -> &str {
        self.documents.path()
    }

    /// A connection begins, with one subscription for each of these.
    pub(super) fn join(
        &self,
        generation: Generation,
        verified: Option<&Arc<Verified>>,
        asked: &[Asked<'_>],
    ) -> Present {
        let shown = asked.iter().filter(|asked| is_shown(asked.text)).map(|asked| {
            let detail = verified.and_then(|verified| self.payload_of(verified, asked.text));
            let pattern = match generation {
                Generation::Final => Pattern::new(asked.language, asked.text),
                Generation::Draft => Pattern::of_draft(asked.text),
            };
            (pattern, detail)
        });
        let shown: Vec<_> = shown.collect();
        // Kept for its payloads only.
        let verified = verified.filter(|_| shown.iter().any(|(_, detail)| detail.is_some()));
        let connection = self.registry.join(Subscriber::random(), verified.cloned(), shown);
        Present { registry: Arc::clone(&self.registry), connection }
    }

    /// Which detail of the token says what a subscription carries along: the first whose topics
    /// match its pattern as if that were a topic, when it has a payload.
    fn payload_of(&self, verified: &Verified, text: &str) -> Option<u16> {
        let topic = Candidate::new(text, self.hub.namespace());
        let speaks_of_it = |matchers: &[Arc<tidings_core::Matcher>]| {
            matchers.iter().any(|matcher| matcher.matches(&topic))
        };
        let found = verified.details.iter().position(|detail| speaks_of_it(&detail.topics))?;
        verified.details.get(found)?.payload.as_ref()?;
        u16::try_from(found).ok()
    }
}

/// Whether others see a subscription to this. Its name must fit into a path: a dot segment (RFC
/// 3986 section 3.3) does not, encoded or not, since whoever resolves it asks for another place,
/// which other grants cover. And what a tenant listens to is nobody else's matter.
fn is_shown(text: &str) -> bool {
    !matches!(text, "." | "..") && !text.starts_with(AUDIENCE_PREFIX)
}

#[cfg(test)]
mod tests;
