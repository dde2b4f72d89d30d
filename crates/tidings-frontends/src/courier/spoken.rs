//! What clients say, over a socket or to the hook: an action, a topic and a message. Knows neither
//! how it came nor what becomes of it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::{Line, Topic, Update};

use super::topic::{broadcast, topic};

/// One of these. Fields that are not here do not matter.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spoken<'s> {
    #[serde(default)]
    pub(super) action: Option<String>,
    #[serde(default)]
    pub(super) topic: Option<String>,
    /// Any JSON, as it was written.
    #[serde(default, borrow)]
    pub(super) message: Option<&'s RawValue>,
}

impl<'s> Spoken<'s> {
    /// Reads a text; `None` when it is nothing of that kind.
    pub(super) fn read(text: &'s [u8]) -> Option<Spoken<'s>> {
        // An object: a list of the same fields would be read as well.
        let begin = text.iter().find(|byte| !byte.is_ascii_whitespace());
        begin.filter(|byte| **byte == b'{')?;
        serde_json::from_slice(text).ok()
    }

    /// What it names; the empty topic where it names none.
    pub(super) fn topic(&self) -> &str {
        self.topic.as_deref().unwrap_or_default()
    }

    /// What it publishes in an audience. `None` for actions that publish nothing, and for topics
    /// that are longer than any.
    pub(super) fn update(&self, audience: &str) -> Option<Update> {
        let topic = match self.action.as_deref() {
            Some("publish") => topic(audience, self.topic()).ok()?,
            Some("broadcast") => Topic::parse(&broadcast(audience)).ok()?,
            _ => return None,
        };
        let message = self.message.map_or("null", RawValue::get);
        let mut update = Update::new(topic, Bytes::copy_from_slice(message.as_bytes()));
        update.content_type = Line::parse("application/json").ok();
        update.private = true;
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(text: &str) -> Option<Update> {
        Spoken::read(text.as_bytes()).unwrap().update("a")
    }

    #[test]
    fn a_message_is_published_as_it_was_written() {
        let said = r#" {"topic":"x/y","action":"publish","message": {"b":1, "a":[1e5,"\u00e9"]} }"#;
        let update = update(said).unwrap();
        assert_eq!(update.data, r#"{"b":1, "a":[1e5,"\u00e9"]}"#);
        assert_eq!(update.topics[0].as_str(), "urn:tidings:audience:a:x%2Fy");
        assert!(update.private && update.topics.len() == 1);
        assert_eq!(update.content_type.unwrap().as_str(), "application/json");
    }

    #[test]
    fn what_is_left_out_is_empty() {
        let empty = update(r#"{"action":"publish"}"#).unwrap();
        assert_eq!(
            (empty.topics[0].as_str(), &empty.data[..]),
            ("urn:tidings:audience:a:", &b"null"[..])
        );
        let all = update(r#"{"action":"broadcast","topic":"x","message":1}"#).unwrap();
        assert_eq!((all.topics[0].as_str(), &all.data[..]), ("urn:tidings:audience:a", &b"1"[..]));
        for other in [r#"{"action":"Publish"}"#, r#"{"action":null,"more":[]}"#, "{}"] {
            assert!(update(other).is_none(), "{other}");
        }
        let long = format!(r#"{{"action":"publish","topic":"{}"}}"#, "x".repeat(5_000));
        assert!(update(&long).is_none());
    }

    #[test]
    fn what_is_no_object_of_texts_is_nothing() {
        for bad in ["", "5", "null", "[]", "[\"publish\"]", "{\"action\":5}", "{", "{}{}", "\u{1}"]
        {
            assert!(Spoken::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
