//! The list of subscriptions as a body that is made while it is read: however long it is, it holds
//! up neither who joins nor other requests, and needs memory for one piece.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::documents::{Documents, Place};
use super::registry::{Connection, Pattern, Registry, Shown};
use super::subscriber::Subscriber;
use crate::auth::Generation;
use crate::http::{self, BoxError};
use crate::limits::{PRESENCE_PAGE, PRESENCE_PIECE_BYTES};

/// The subscriptions that are wanted.
#[derive(Debug)]
pub(super) enum Wanted {
    /// All of them.
    All,
    /// Those of this pattern, in the words of 1.0.
    Final(tidings_core::Language, String),
    /// Those of this topic, in the words of 0.x.
    Draft(String),
}

impl Wanted {
    /// The first of a connection's subscriptions that is one of them.
    pub(super) fn among<'c>(&self, connection: &'c Connection) -> Option<&'c Shown> {
        connection.subscriptions.iter().find(|shown| self.is(&shown.pattern))
    }

    /// Whether a subscription to this is one of them.
    pub(super) fn is(&self, pattern: &Pattern) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Final(language, text) => {
                pattern.language == *language && *pattern.text == **text
            }
            Wanted::Draft(topic) => pattern.is_in_draft && *pattern.text == **topic,
        }
    }
}

/// A list on its way.
pub(super) struct List {
    registry: Arc<Registry>,
    documents: Arc<Documents>,
    generation: Generation,
    wanted: Wanted,
    /// What was not handed out yet.
    head: Bytes,
    after: Subscriber,
    /// A connection of which a part is written, and its next subscription. The rest is left out
    /// when it ends: that is told behind the list's cursor.
    begun: Option<(Arc<Connection>, usize)>,
    is_first: bool,
    ended: bool,
}

impl List {
    pub(super) fn new(
        registry: Arc<Registry>,
        documents: Arc<Documents>,
        generation: Generation,
        wanted: Wanted,
        head: Bytes,
    ) -> List {
        let after = Subscriber::FIRST;
        let (begun, is_first, ended) = (None, true, false);
        List { registry, documents, generation, wanted, head, after, begun, is_first, ended }
    }

    /// The list as a body: whole when it is short.
    pub(super) fn into_body(mut self) -> http::Body {
        let first = self.next();
        if self.ended {
            return http::full(first);
        }
        self.head = first;
        http::boxed(self)
    }

    /// The next piece; may be empty. Longer than the bound by one subscription at most.
    fn next(&mut self) -> Bytes {
        let mut piece = Vec::from(std::mem::take(&mut self.head));
        if let Some((connection, next)) = self.begun.take() {
            self.add(connection, next, &mut piece);
        }
        if self.begun.is_some() {
            return piece.into();
        }
        let page = self.registry.page(self.after, PRESENCE_PAGE);
        let is_last = page.len() < PRESENCE_PAGE;
        for connection in page {
            self.after = connection.subscriber;
            self.add(connection, 0, &mut piece);
            if self.begun.is_some() {
                return piece.into();
            }
        }
        if is_last {
            piece.extend_from_slice(b"]}");
            self.ended = true;
        }
        piece.into()
    }

    /// Adds what is wanted of a connection, from one of its subscriptions on, up to the bound.
    fn add(&mut self, connection: Arc<Connection>, from: usize, piece: &mut Vec<u8>) {
        let mut is_written = false;
        for (index, shown) in connection.subscriptions.iter().enumerate().skip(from) {
            if piece.len() >= PRESENCE_PIECE_BYTES {
                self.begun = Some((connection, index));
                return;
            }
            if !self.wanted.is(&shown.pattern) {
                continue;
            }
            let documents = &self.documents;
            let document = documents.document(self.generation, &connection, shown, Place::Listed);
            if let Some(document) = document {
                // Who is listed has its end told; of who left meanwhile there is nothing to say.
                if !is_written && !self.registry.list(connection.subscriber) {
                    return;
                }
                is_written = true;
                if !std::mem::take(&mut self.is_first) {
                    piece.push(b',');
                }
                piece.extend_from_slice(&document);
            }
        }
    }
}

impl Body for List {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let list = self.get_mut();
        if list.ended {
            return Poll::Ready(None);
        }
        let piece = list.next();
        if piece.is_empty() {
            // Nothing wanted on this page: others have their turn before the next.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
