//! What a sink and a source are told, from a file or over the API alike. Knows no file, no place
//! in one, and no system: what only one kind takes stays as it was written, checked by its rows.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidings_core::{BadPattern, Hub, Language, Matcher};

use crate::limits::{GIVE_UP_AFTER_DEFAULT, RETRY_FIRST_DEFAULT, RETRY_MAX_DEFAULT};
pub use crate::span::Span;

/// What a sink is told.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSpecification {
    /// Unique among all sinks and sources: `[a-z0-9][a-z0-9._-]{0,63}`.
    pub name: String,
    /// Which topics it is for; at least one.
    pub topics: Vec<Pick>,
    /// What keeps an order of its own. Without a key, the whole sink is one order.
    pub key: Option<KeyOf>,
    /// Deliveries at a time, `1..=CONCURRENCY_MAX`; 1 without a key.
    pub concurrency: usize,
    /// Deliveries in a second at most; at least 1.
    pub rate: Option<u32>,
    /// When a failed delivery is tried again.
    pub retry: Retry,
    /// What is done after a delivery that succeeded.
    pub then: Option<Then>,
    /// Where the deliveries go.
    pub to: SystemOptions,
}

/// What a source is told.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpecification {
    /// As [`SinkSpecification::name`].
    pub name: String,
    /// Whether its updates are for those only whose grant names their topic.
    pub private: bool,
    /// Where the updates come from.
    pub from: SystemOptions,
}

/// Which system, and what it is told about it: the options of one kind, each of the form that its
/// row says. Options that were not written are not there.
#[derive(Clone, PartialEq)]
pub struct SystemOptions {
    /// The kind, as [`crate::SINKS`] or [`crate::SOURCES`] name it.
    pub kind: String,
    /// Its options. Some are secrets.
    pub options: Map<String, Value>,
}

impl fmt::Debug for SystemOptions {
    /// Without values: any may be a secret, also in a URL.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        formatter
            .debug_struct("SystemOptions")
            .field("kind", &self.kind)
            .field("options", &names)
            .finish()
    }
}

/// Topics that a sink is for. `"*"` is all of them, another text is one topic, and `{ nats = "a.>" }`
/// is a pattern in its language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// Every topic.
    All,
    /// One topic, byte for byte.
    Exact(String),
    /// A WHATWG URL Pattern.
    UrlPattern(String),
    /// An RFC 6570 template.
    UriTemplate(String),
    /// An MQTT topic filter.
    Mqtt(String),
    /// A NATS subject with `*` and `>`.
    Nats(String),
}

impl Pick {
    /// The language and the pattern in it.
    pub fn pattern(&self) -> (Language, &str) {
        match self {
            Pick::All => (Language::Exact, "*"),
            Pick::Exact(text) => (Language::Exact, text),
            Pick::UrlPattern(text) => (Language::UrlPattern, text),
            Pick::UriTemplate(text) => (Language::UriTemplate, text),
            Pick::Mqtt(text) => (Language::Mqtt, text),
            Pick::Nats(text) => (Language::Nats, text),
        }
    }

    /// What picks the topics in `hub`.
    ///
    /// # Errors
    ///
    /// When the pattern is not valid in its language or too costly.
    pub fn matcher(&self, hub: &Hub) -> Result<Arc<Matcher>, BadPattern> {
        let (language, pattern) = self.pattern();
        hub.matcher(language, pattern)
    }
}

/// What keeps an order of its own within a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOf {
    /// The canonical topic.
    Topic,
    /// The attribute with this name. Updates without it share one order.
    Attribute(String),
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first wait; doubled each time. Not zero.
    pub first: Span,
    /// The longest wait; not shorter than the first.
    pub max: Span,
    /// How long it is tried again, from when the update was published.
    pub give_up_after: Span,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            first: Span(RETRY_FIRST_DEFAULT),
            max: Span(RETRY_MAX_DEFAULT),
            give_up_after: Span(GIVE_UP_AFTER_DEFAULT),
        }
    }
}

/// What is done after a delivery that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Then {
    /// Publish the update again, under a topic that begins differently.
    pub publish: Replace,
}

/// A change of a text's begin. Written as `{ replace = ["from", "to"] }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replace {
    /// The begin that goes; not empty.
    pub from: String,
    /// What comes in its place; not the same.
    pub to: String,
}

/// One thing that is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOption {
    /// Where: `retry.first`, `topics[1].nats`; empty for the whole.
    pub path: String,
    /// What is wrong. Without secrets.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}
