//! What a sink and a source are told, from a file or over the API alike. Knows no file, no place
//! in one, and no system: what only one kind takes stays as it was written, checked by its rows.

mod parts;
mod read;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::reader::{find, put, remove};
use crate::rows::OptionRow;
pub use crate::span::Span;
pub use parts::{KeyOf, Pick, Replace, Retry, Then};
#[doc(hidden)]
pub use read::fuzz_endpoint;
pub use read::{endpoint, is_name, sink, source};

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

impl SinkSpecification {
    /// The form that [`sink`] reads, secrets included.
    pub fn to_json(&self) -> Value {
        let mut tree = self.to.options.clone();
        tree.insert("name".to_owned(), json!(self.name));
        tree.insert("kind".to_owned(), json!(self.to.kind));
        tree.insert("topics".to_owned(), json!(self.topics));
        if let Some(key) = &self.key {
            tree.insert("key".to_owned(), json!(key));
            tree.insert("concurrency".to_owned(), json!(self.concurrency));
        }
        if let Some(rate) = self.rate {
            tree.insert("rate".to_owned(), json!(rate));
        }
        tree.insert("retry".to_owned(), json!(self.retry));
        if let Some(then) = &self.then {
            tree.insert("then".to_owned(), json!(then));
        }
        Value::Object(tree)
    }
}

impl SystemOptions {
    /// Takes the values out that are never shown, by their paths. `rows` are those of the kind.
    pub fn take_secrets(&mut self, rows: &[OptionRow]) -> BTreeMap<&'static str, Value> {
        let secret = rows.iter().filter(|row| row.is_secret);
        secret.filter_map(|row| Some((row.path, remove(&mut self.options, row.path)?))).collect()
    }

    /// Puts values that were taken out in again.
    pub fn put_secret(&mut self, path: &str, value: Value) {
        put(&mut self.options, path, value);
    }

    /// The value at a dotted path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        find(&self.options, path)
    }
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

/// One thing that is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOption {
    /// Where: `retry.first`, `topics[1].nats`; empty for the whole.
    pub path: String,
    /// What is wrong. Without secrets.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether it is the name at the path that means nothing, not the value.
    pub is_unknown: bool,
}

#[cfg(test)]
mod tests;
