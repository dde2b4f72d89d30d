//! What clients say, over a socket or to the hook: an action, a topic and a message. Knows neither
//! how it came nor what becomes of it.

use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidings_core::{Line, Topic, Update};

use super::topic::{broadcast, topic};

/// One of these. Members of other names do not matter.
#[derive(Debug, Default)]
pub(super) struct Spoken<'s> {
    pub(super) action: Option<String>,
    pub(super) topic: Option<String>,
    /// Any JSON, as it was written.
    pub(super) message: Option<&'s RawValue>,
}

/// A value with whether its name was written exactly so.
struct Named<T> {
    value: Option<T>,
    is_exact: bool,
}

impl<T> Named<T> {
    const fn none() -> Named<T> {
        Named { value: None, is_exact: false }
    }

    /// The last one counts, of those whose names are as they should be where there are any. No
    /// value changes nothing.
    fn put(&mut self, value: Option<T>, is_exact: bool) {
        if value.is_some() && (is_exact || !self.is_exact) {
            (self.value, self.is_exact) = (value, is_exact);
        }
    }
}

/// A name as those programs compare it: whatever the case of its letters, of which two have a
/// third form (Unicode's simple case folding).
fn folded(name: &str) -> String {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

impl<'s> Deserialize<'s> for Spoken<'s> {
    fn deserialize<D: Deserializer<'s>>(from: D) -> Result<Spoken<'s>, D::Error> {
        struct Members;

        impl<'s> Visitor<'s> for Members {
            type Value = Spoken<'s>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'s>>(self, mut members: M) -> Result<Spoken<'s>, M::Error> {
                let (mut action, mut topic) = (Named::none(), Named::none());
                let mut message = Named::none();
                while let Some(name) = members.next_key::<String>()? {
                    let known = folded(&name);
                    let is_exact = known == name;
                    match known.as_str() {
                        "action" => action.put(members.next_value()?, is_exact),
                        "topic" => topic.put(members.next_value()?, is_exact),
                        "message" => message.put(Some(members.next_value()?), is_exact),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let (action, topic) = (action.value, topic.value);
                Ok(Spoken { action, topic, message: message.value })
            }
        }

        from.deserialize_map(Members)
    }
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
    fn names_are_read_in_any_case_and_those_written_right_count() {
        let data = |text: &str| {
            let update = update(text).unwrap();
            let data = String::from_utf8(update.data.to_vec()).unwrap();
            (update.topics[0].as_str().to_owned(), data)
        };
        let expected = ("urn:tidings:audience:a:x".to_owned(), "1".to_owned());
        for text in [
            r#"{"Action":"publish","TOPIC":"x","Message":1}"#,
            r#"{"action":"publish","topic":"x","message":1,"Message":2,"Topic":"y"}"#,
            r#"{"Message":2,"Topic":"y","action":"publish","topic":"x","message":1}"#,
            r#"{"action":"other","action":"publish","topic":"y","topic":"x","message":1}"#,
            r#"{"action":"publish","action":null,"topic":"x","topic":null,"message":1}"#,
            "{\"action\":\"publish\",\"topic\":\"x\",\"me\u{17f}\u{17f}age\":1}",
            r#"{"act\u0049on":"publish","topic":"x","message":1}"#,
        ] {
            assert_eq!(data(text), expected, "{text}");
        }
        assert!(Spoken::read(br#"{"Action":5}"#).is_none());
    }

    #[test]
    fn what_is_no_object_of_texts_is_nothing() {
        for bad in ["", "5", "null", "[]", "[\"publish\"]", "{\"action\":5}", "{", "{}{}", "\u{1}"]
        {
            assert!(Spoken::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
