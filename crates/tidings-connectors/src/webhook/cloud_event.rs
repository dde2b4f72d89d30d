//! An update as a CloudEvent 1.0.2: as headers beside the data (binary mode of the HTTP protocol
//! binding) or as one JSON object (structured mode). Knows no signature and no other header.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use tidings_core::{Entry, Line};

use super::timestamp::rfc3339;
use crate::limits::EXTENSION_NAME_BYTES_MAX;

/// What the structured form is, as a media type (JSON event format section 3).
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json";
/// What media types of events in whole begin with (HTTP protocol binding section 3).
const EVENTS: &str = "application/cloudevents";
/// What an update without an event type is.
const TYPE: &str = "tidings.update";

/// Names that extensions cannot have: the attributes of the specification, and the data's.
const CORE: [&str; 9] = [
    "data",
    "datacontenttype",
    "dataschema",
    "id",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

/// What a header's value cannot hold as it is (HTTP protocol binding section 3.1.3.2): everything
/// but printable ASCII, and blank, quote and percent sign. One round of decoding gives the text.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// `text` as a header's value.
pub(super) fn header_value(text: &str) -> HeaderValue {
    let encoded = Cow::from(utf8_percent_encode(text, ENCODED));
    HeaderValue::from_str(&encoded).expect("what is left is printable ASCII")
}

/// Whether something of this media type would be read as an event in whole.
pub(super) fn is_event(content_type: &[u8]) -> bool {
    content_type
        .get(..EVENTS.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(EVENTS.as_bytes()))
}

/// One event: its attributes, which are checked, and its data.
pub(super) struct CloudEvent<'e> {
    /// Without `datacontenttype`, which is a header of HTTP itself in binary mode.
    attributes: Vec<(Cow<'e, str>, Cow<'e, str>)>,
    content_type: &'e str,
    data: &'e [u8],
}

impl<'e> CloudEvent<'e> {
    /// `entry` of the hub with the URL `source`, whose data is of `content_type`. What no attribute
    /// can be, because of its name or the characters in it, is left out.
    pub(super) fn new(entry: &'e Entry, source: &'e str, content_type: &'e str) -> CloudEvent<'e> {
        let update = &entry.update;
        let event_type = update.event_type.as_ref().map(Line::as_str);
        let event_type = event_type.filter(|text| is_text(text)).unwrap_or(TYPE);
        let subject = update.topics.first().map_or("", |topic| topic.as_str());
        let core = [
            ("specversion", Cow::from("1.0")),
            ("id", Cow::from(&**entry.cursor())),
            ("source", Cow::from(source)),
            ("type", Cow::from(event_type)),
            ("time", Cow::from(rfc3339(entry.time))),
        ];
        let mut attributes: Vec<_> =
            core.into_iter().map(|(name, value)| (Cow::from(name), value)).collect();
        if !subject.is_empty() && is_text(subject) {
            attributes.push((Cow::from("subject"), Cow::from(subject)));
        }
        let mut names = BTreeSet::new();
        for (name, value) in &update.attributes {
            if let Some(name) = extension(name.as_str())
                && is_text(value)
                && names.insert(name.clone())
            {
                attributes.push((Cow::from(name), Cow::from(value)));
            }
        }
        CloudEvent { attributes, content_type, data: &update.data }
    }

    /// Its attributes as headers.
    pub(super) fn put_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.attributes {
            let name = HeaderName::try_from(format!("ce-{name}"));
            let name = name.expect("names of attributes are letters and digits");
            headers.insert(name, header_value(value));
        }
    }
}

impl Serialize for CloudEvent<'_> {
    /// The JSON event format. Data that says that it is JSON stands there as JSON, and as base64
    /// where it is none after all: as a text it would be taken for a JSON string.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(None)?;
        for (name, value) in &self.attributes {
            object.serialize_entry(name, value)?;
        }
        object.serialize_entry("datacontenttype", self.content_type)?;
        let text = std::str::from_utf8(self.data).ok();
        let json = text.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match (text, json) {
            _ if self.data.is_empty() => {}
            (_, Some(value)) if is_json(self.content_type) => {
                object.serialize_entry("data", value)?;
            }
            (Some(text), _) if !is_json(self.content_type) => {
                object.serialize_entry("data", text)?;
            }
            _ => object.serialize_entry("data_base64", &STANDARD.encode(self.data))?,
        }
        object.end()
    }
}

/// The name of an attribute as that of an extension (CloudEvents 1.0.2, "Naming conventions").
fn extension(name: &str) -> Option<String> {
    let is_name = (1..=EXTENSION_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let name = is_name.then(|| name.to_ascii_lowercase())?;
    (!CORE.contains(&name.as_str())).then_some(name)
}

/// Whether an attribute can have this value (CloudEvents 1.0.2, "Type system"): neither control
/// characters nor what Unicode assigns to nobody for ever.
fn is_text(text: &str) -> bool {
    !text.chars().any(|character| {
        let code = u32::from(character);
        character.is_control() || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    })
}

/// Whether a media type, without its parameters, is `*/json` or `*/*+json`.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type.split_once('/').map_or("", |(_, subtype)| subtype);
    let subtype = subtype.to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidings_core::Update;

    use super::super::samples;
    use super::*;

    const SOURCE: &str = "https://hub.example/";

    fn structured(update: Update, content_type: &str) -> Value {
        let entry = samples::entry(update);
        serde_json::to_value(CloudEvent::new(&entry, SOURCE, content_type)).unwrap()
    }

    fn binary(update: Update) -> HeaderMap {
        let entry = samples::entry(update);
        let mut headers = HeaderMap::new();
        CloudEvent::new(&entry, SOURCE, "text/plain").put_headers(&mut headers);
        headers
    }

    #[test]
    fn header_values_are_encoded_as_the_binding_says() {
        for (text, encoded) in [
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("plain!~", "plain!~"),
            ("100% \"sure\"", "100%25%20%22sure%22"),
            ("a\r\nx: y\0\t\u{7f}\u{85}", "a%0D%0Ax:%20y%00%09%7F%C2%85"),
            ("", ""),
        ] {
            assert_eq!(header_value(text), encoded);
        }
    }

    #[test]
    fn an_event_says_what_the_hub_knows() {
        let mut update = samples::update("shop/é", "{\"a\": 1}");
        update.event_type = Line::parse("shop.changed").ok();
        update.attributes = samples::attributes(&[("TraceParent", "0 1"), ("x-other", "no")]);
        let entry = samples::entry(update.clone());
        let mut headers = HeaderMap::new();
        let event = CloudEvent::new(&entry, SOURCE, "application/json");
        event.put_headers(&mut headers);
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", entry.cursor()),
            ("ce-source", SOURCE),
            ("ce-type", "shop.changed"),
            ("ce-time", samples::TIME_TEXT),
            ("ce-subject", "shop/%C3%A9"),
            ("ce-traceparent", "0%201"),
        ];
        assert_eq!(headers.len(), expected.len(), "{headers:?}");
        for (name, value) in expected {
            assert_eq!(headers[name], *value, "{name}");
        }
        let value = serde_json::to_value(&event).unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": &**entry.cursor(),
            "source": SOURCE,
            "type": "shop.changed",
            "time": samples::TIME_TEXT,
            "subject": "shop/é",
            "traceparent": "0 1",
            "datacontenttype": "application/json",
            "data": { "a": 1 },
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_is_no_text_is_left_out_and_a_type_is_always_there() {
        let mut update = samples::update("a\tb", "x");
        for event_type in [None, Line::parse("a\u{85}").ok()] {
            update.event_type = event_type;
            let headers = binary(update.clone());
            assert_eq!(headers["ce-type"], "tidings.update");
            assert!(!headers.contains_key("ce-subject"));
        }
    }

    #[test]
    fn extensions_are_those_attributes_that_can_be() {
        let mut update = samples::update("a", "x");
        let long = "a".repeat(20);
        update.attributes = samples::attributes(&[
            ("Region", "eu"),
            ("REGION", "second"),
            (&long, "20"),
            (&"a".repeat(21), "21"),
            ("id", "mine"),
            ("Source", "mine"),
            ("specversion", "2"),
            ("DataContentType", "text/html"),
            ("dataschema", "x"),
            ("data", "x"),
            ("data_base64", "x"),
            ("with space", "x"),
            ("é", "x"),
            ("control", "a\r\nx: y"),
            ("nobody", "\u{ffff}"),
            ("empty", ""),
        ]);
        let headers = binary(update.clone());
        let names: BTreeSet<&str> = headers.keys().map(HeaderName::as_str).collect();
        let own = format!("ce-{long}");
        let core = ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-subject"];
        let mut expected = BTreeSet::from(core);
        expected.extend([own.as_str(), "ce-region", "ce-empty"]);
        assert_eq!(names, expected);
        assert_eq!(headers["ce-region"], "eu");
        let value = structured(update, "text/plain");
        assert_eq!((&value["region"], &value["specversion"]), (&json!("eu"), &json!("1.0")));
        assert!(value["id"].as_str().unwrap().starts_with("urn:uuid:"));
    }

    #[test]
    fn data_stands_in_the_object_as_its_type_says() {
        for (data, content_type, name, expected) in [
            ("{\"a\":1}", "application/json; charset=utf-8", "data", json!({ "a": 1 })),
            (" [1] ", "Application/Vnd.Api+JSON", "data", json!([1])),
            ("null", "application/json", "data", Value::Null),
            ("\"text\"", "application/json", "data", json!("text")),
            ("{\"a\":1}", "text/plain", "data", json!("{\"a\":1}")),
            ("<a/>", "application/xml", "data", json!("<a/>")),
            ("{", "application/json", "data_base64", json!("ew==")),
            ("{} {}", "text/json", "data_base64", json!("e30ge30=")),
        ] {
            let value = structured(samples::update("a", data), content_type);
            assert_eq!(value.get(name), Some(&expected), "{data} as {content_type}");
            assert_eq!(value.get("data").is_some(), name == "data");
            assert_eq!(value["datacontenttype"], content_type);
        }
        for content_type in ["application/json", "image/png"] {
            let value = structured(Update::new(samples::topic("a"), vec![0xff]), content_type);
            assert_eq!((value.get("data"), &value["data_base64"]), (None, &json!("/w==")));
        }
        let value = structured(samples::update("a", ""), "application/json");
        assert!(value.get("data").is_none() && value.get("data_base64").is_none());
    }

    #[test]
    fn json_keeps_its_numbers_and_may_be_deep() {
        let number = "{\"n\":12345678901234567890.10}";
        let entry = samples::entry(samples::update("a", number));
        let event = CloudEvent::new(&entry, SOURCE, "application/json");
        assert!(serde_json::to_string(&event).unwrap().ends_with(&format!("\"data\":{number}}}")));
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let entry = samples::entry(samples::update("a", &deep));
        let event = CloudEvent::new(&entry, SOURCE, "application/json");
        assert!(serde_json::to_string(&event).unwrap().contains("[[]]"));
    }
}
