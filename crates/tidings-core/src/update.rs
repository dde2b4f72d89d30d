//! What is published ([`Update`]) and what stands in the history ([`Entry`]). Neither knows a
//! protocol; frontends and connectors convert by hand.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::ids::Ids;
use crate::limits::{ATTRIBUTES_MAX, HOPS_MAX, RECORD_BYTES_MAX, TOPICS_MAX};
use crate::topic::{Line, Topic};

/// Where an update came from when a connector brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The connector's name in the configuration.
    pub connector: Line,
    /// The position in the upstream system: a redelivery has the same one. A system without
    /// positions has none, and nothing that it sends is known to be a redelivery.
    pub position: Option<Line>,
    /// Connectors that the update has passed through.
    pub hops: u8,
}

/// A topic's new state as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The canonical topic first, then the alternates. Never empty.
    pub topics: Vec<Topic>,
    /// The new state, as bytes; at most the configured size.
    pub data: Bytes,
    /// What `data` is, as a media type.
    pub content_type: Option<Line>,
    /// Only for receivers whose grant covers one of the topics.
    pub private: bool,
    /// The publisher's own id. Several updates may carry the same.
    pub id: Option<Line>,
    /// What kind of event this is for receivers (`event:` of a Server-Sent Event).
    pub event_type: Option<Line>,
    /// How long receivers wait before they reconnect, in milliseconds.
    pub retry: Option<u64>,
    /// Named values beside the data: NATS headers, MQTT 5 properties, CloudEvents attributes.
    pub attributes: Vec<(Line, String)>,
    /// A repeated publication with the same key gets the first one's receipt.
    pub idempotency_key: Option<Line>,
    /// Where a connector took it from.
    pub origin: Option<Origin>,
    /// Lives in memory only and costs no disk (presence, typing).
    pub ephemeral: bool,
}

impl Update {
    /// A public, durable update of one topic.
    pub fn new(topic: Topic, data: impl Into<Bytes>) -> Update {
        Update {
            topics: vec![topic],
            data: data.into(),
            content_type: None,
            private: false,
            id: None,
            event_type: None,
            retry: None,
            attributes: Vec::new(),
            idempotency_key: None,
            origin: None,
            ephemeral: false,
        }
    }

    /// About what this update weighs in memory and in the history, in bytes.
    pub fn weight(&self) -> usize {
        let topics: usize = self.topics.iter().map(|topic| topic.as_str().len() + 2).sum();
        let attributes: usize =
            self.attributes.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        128 + topics + attributes + self.data.len()
    }

    /// What makes this update unacceptable whoever publishes it, if anything.
    pub(crate) fn flaw(&self, data_bytes_max: usize) -> Option<Flaw> {
        let attribute_bytes: usize = self.attributes.iter().map(|(_, value)| value.len()).sum();
        match self {
            _ if self.topics.is_empty() => Some(Flaw::NoTopic),
            _ if self.topics.len() > TOPICS_MAX => Some(Flaw::TooManyTopics),
            _ if self.attributes.len() > ATTRIBUTES_MAX => Some(Flaw::TooManyAttributes),
            _ if self.data.len() + attribute_bytes > data_bytes_max => Some(Flaw::TooLarge),
            _ if self.weight() > RECORD_BYTES_MAX => Some(Flaw::TooLarge),
            _ if self.origin.as_ref().is_some_and(|origin| origin.hops > HOPS_MAX) => {
                Some(Flaw::TooManyHops)
            }
            _ => None,
        }
    }
}

/// What is wrong with an update in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It names no topic.
    #[error("an update needs at least one topic")]
    NoTopic,
    /// It names more topics than the limit.
    #[error("more than {TOPICS_MAX} topics")]
    TooManyTopics,
    /// It carries more attributes than the limit.
    #[error("more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
    /// Data and attributes exceed the configured size.
    #[error("the update is larger than the configured limit")]
    TooLarge,
    /// It went through too many connectors: a loop.
    #[error("passed through more than {HOPS_MAX} connectors: there is a loop")]
    TooManyHops,
}

/// A place in the history: the number of a durable entry, and behind it the sub-offset of
/// ephemeral updates (`n.1`, `n.2` …; 0 for the durable entry itself). Strictly increasing, gaps
/// allowed, never used twice in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset {
    /// The durable entry.
    pub durable: u64,
    /// The ephemeral update behind it, from 1.
    pub sub: u32,
}

impl Offset {
    /// Before everything.
    pub const ZERO: Offset = Offset { durable: 0, sub: 0 };

    /// The place of the durable entry `number`.
    pub fn durable(number: u64) -> Offset {
        Offset { durable: number, sub: 0 }
    }
}

/// Which log it is: changes whenever acknowledged entries may be gone, so that a cursor from
/// before is not taken for a place in a history that no longer holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// Receivers who are told of the same thing in the same words. What the hub itself announces in a
/// scope reaches nobody outside of it; published updates have none and reach everybody. The text
/// names the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(pub &'static str);

/// The forms in which an entry's bytes are shared between receivers. Closed, and none depends on
/// the receiver, so that an entry is rendered once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One Server-Sent Event.
    ServerSentEvent,
    /// One text message of a WebSocket, frame included.
    SocketText,
    /// The same, or a binary message where the data is no text.
    SocketBinary,
    /// The data alone as a text message, frame included.
    SocketRaw,
}

const FORMS: usize = 4;

/// An item of the history: an update with its place and time.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub offset: Offset,
    /// The log that the place belongs to.
    pub epoch: Epoch,
    /// When the hub took it, in milliseconds since 1970-01-01 by the wall clock.
    pub time: u64,
    /// What was published.
    pub update: Update,
    /// Who may receive it, when it is not everybody: of what the hub itself announces.
    pub(crate) scope: Option<Scope>,
    ids: Arc<Ids>,
    /// Whose idempotency key it carries; empty without one.
    publisher: Box<str>,
    /// What [`Entry::cursor`] says, once somebody has asked.
    cursor: OnceLock<Arc<str>>,
    forms: [OnceLock<Bytes>; FORMS],
}

impl Entry {
    pub(crate) fn new(
        offset: Offset,
        epoch: Epoch,
        time: u64,
        update: Update,
        ids: Arc<Ids>,
    ) -> Entry {
        let forms = [const { OnceLock::new() }; FORMS];
        let (publisher, cursor) = (Box::default(), OnceLock::new());
        Entry { offset, epoch, time, update, scope: None, ids, publisher, cursor, forms }
    }

    /// Keeps it inside a scope.
    pub(crate) fn inside(mut self, scope: Scope) -> Entry {
        self.scope = Some(scope);
        self
    }

    /// Notes whose idempotency key it carries: keys of different publishers never meet.
    pub(crate) fn published_by(mut self, publisher: &str) -> Entry {
        if self.update.idempotency_key.is_some() {
            self.publisher = publisher.into();
        }
        self
    }

    pub(crate) fn publisher(&self) -> &str {
        &self.publisher
    }

    /// The id that receivers see: the publisher's own, else the hub's.
    pub fn id(&self) -> &str {
        self.update.id.as_ref().map_or_else(|| &**self.cursor(), Line::as_str)
    }

    /// The hub's own id of this entry: an opaque `urn:uuid:` that says exactly this place.
    pub fn cursor(&self) -> &Arc<str> {
        self.cursor.get_or_init(|| self.ids.seal(self.epoch, self.offset))
    }

    /// The entry in `form`, rendered by the first who asks and shared by all.
    pub fn rendered(&self, form: Form, render: impl FnOnce(&Entry) -> Bytes) -> &Bytes {
        let [event, text, binary, raw] = &self.forms;
        let slot = match form {
            Form::ServerSentEvent => event,
            Form::SocketText => text,
            Form::SocketBinary => binary,
            Form::SocketRaw => raw,
        };
        slot.get_or_init(|| render(self))
    }
}
