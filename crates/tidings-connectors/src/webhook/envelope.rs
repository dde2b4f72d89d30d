//! An update and what the hub knows of it as one JSON object. Knows no request.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tidings_core::{Entry, Line};

use super::timestamp::rfc3339;

/// What an envelope is, as a media type.
pub(super) const MEDIA_TYPE: &str = "application/json";

/// The body of a request in the form `envelope`.
#[derive(Serialize)]
pub(super) struct Envelope<'e> {
    /// The hub's own id of the entry.
    id: &'e str,
    /// The canonical one.
    topic: &'e str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    event_type: Option<&'e str>,
    /// When the hub took it.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'e str>,
    #[serde(flatten)]
    content: Content<'e>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'e str, Values<'e>>,
}

#[derive(Serialize)]
enum Content<'e> {
    #[serde(rename = "data")]
    Text(&'e str),
    #[serde(rename = "data_base64")]
    Bytes(String),
}

/// What stands behind a name: a list only where the name stands there more than once.
#[derive(Serialize)]
#[serde(untagged)]
enum Values<'e> {
    One(&'e str),
    Several(Vec<&'e str>),
}

impl<'e> Values<'e> {
    fn add(&mut self, value: &'e str) {
        match self {
            Values::One(first) => *self = Values::Several(vec![*first, value]),
            Values::Several(values) => values.push(value),
        }
    }
}

impl<'e> Envelope<'e> {
    /// The one of `entry`.
    pub(super) fn new(entry: &'e Entry) -> Envelope<'e> {
        let update = &entry.update;
        let mut attributes = BTreeMap::new();
        for (name, value) in &update.attributes {
            attributes
                .entry(name.as_str())
                .and_modify(|values: &mut Values<'e>| values.add(value))
                .or_insert(Values::One(value));
        }
        Envelope {
            id: entry.cursor(),
            topic: update.topics.first().map_or("", |topic| topic.as_str()),
            event_type: update.event_type.as_ref().map(Line::as_str),
            time: rfc3339(entry.time),
            content_type: update.content_type.as_ref().map(Line::as_str),
            content: match std::str::from_utf8(&update.data) {
                Ok(text) => Content::Text(text),
                Err(_) => Content::Bytes(STANDARD.encode(&update.data)),
            },
            attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidings_core::{Line, Update};

    use super::super::samples;
    use super::*;

    fn written(update: Update) -> (String, serde_json::Value) {
        let entry = samples::entry(update);
        (entry.cursor().to_string(), serde_json::to_value(Envelope::new(&entry)).unwrap())
    }

    #[test]
    fn an_envelope_says_everything_that_receivers_may_know() {
        let mut update = samples::update("shop/1", "blue \"é\"\n");
        update.topics.push(samples::topic("alternate"));
        update.event_type = Line::parse("changed").ok();
        update.content_type = Line::parse("text/plain").ok();
        update.attributes = samples::attributes(&[("b", "2"), ("a", "1"), ("b", "3"), ("b", "")]);
        let (id, value) = written(update);
        let expected = json!({
            "id": id,
            "topic": "shop/1",
            "type": "changed",
            "time": samples::TIME_TEXT,
            "content_type": "text/plain",
            "data": "blue \"é\"\n",
            "attributes": { "a": "1", "b": ["2", "3", ""] },
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let (id, value) = written(samples::update("a", ""));
        let time = samples::TIME_TEXT;
        assert_eq!(value, json!({ "id": id, "topic": "a", "time": time, "data": "" }));
    }

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        let (_, value) = written(Update::new(samples::topic("a"), vec![0xff, 0, b'a']));
        assert_eq!(value["data_base64"], "/wBh");
        assert!(value.get("data").is_none());
    }
}
