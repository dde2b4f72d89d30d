//! A connection that opens: whose it is by its URL, and where its subscriptions begin. Knows
//! nothing of what is said over it.

use std::sync::Arc;

use http::Response;
use tidings_core::{Grant, Selection, Start};
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Counted};
use super::refusal::Refusal;
use super::session::Session;
use super::signed::{BadSignature, Signed};
use super::token::BadToken;
use super::{Courier, audiences};
use crate::http::{Content, Lasting, Request};
use crate::limits::{SOCKET_BURST_DEFAULT, SOCKET_PER_SECOND_DEFAULT};
use crate::shard::Stream;
use crate::shard::talk::{Answering, FrameLimits, Talk};
use crate::sse::Framing;
use crate::websocket::{frame, handshake};

impl Courier {
    /// A socket for whoever sent this request.
    pub(super) async fn open(&self, request: Request) -> Result<Response<Content>, Refusal> {
        let Request { head, id, closing, .. } = request;
        let query = head.uri.query().unwrap_or_default();
        let given = |name| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
        };
        let token = given("token").ok_or(Refusal::BadSignature(BadSignature::Missing))?;
        let keys = self.keys();
        let opened = keys.signer.open(&token, &keys.secret, self.clock().wall());
        let opened = opened.map_err(Refusal::BadSignature)?;
        let (audience, email, expires, mark) = match &opened {
            Signed::Sealed { audience, email, expires } => {
                (self.audiences.find_id(audience), email, *expires, Some(keys.mark))
            }
            Signed::Old(bearer) => {
                (self.audience_of(bearer), &bearer.email, bearer.expires, keys.old_mark)
            }
        };
        let counts = self.check(email.as_deref(), expires, mark);
        counts.map_err(|_| Refusal::BadSignature(BadSignature::Inner(BadToken::Fallen)))?;
        let audience = audience.ok_or(Refusal::NoAudience)?;
        let accepted = handshake::accept(&head, &[]).map_err(Refusal::Handshake)?;
        if closing.has_begun() {
            return Err(Refusal::NotNow("the hub is shutting down"));
        }
        let grant = self.grant(&audience.id, email.as_deref(), expires, mark);
        let start = self.start(&grant, given("after")).await?;
        // Nothing at first: what comes is brought by subscriptions.
        let selection = Selection { matchers: Vec::new(), grant: Arc::clone(&grant), scope: None };
        let session = Session::new(&audience.id);
        let answering = self.answering.get_or_init(|| Answering::here(TaskTracker::new()));
        let counted = Counted::one_more(&self.connections);
        let (hub, answering) = (self.hub().clone(), (Arc::clone(answering), counted));
        let hearer = Arc::new(Connection::new(hub, grant, start, id, session, answering));
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
}
