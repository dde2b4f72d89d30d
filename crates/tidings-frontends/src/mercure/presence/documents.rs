//! A subscription in the words of each generation: its topic, the document that watchers get, and
//! the list. Knows neither who asks nor who is there.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use tidings_core::{Language, Line, Namespace, Topic, Update};

use super::registry::{Connection, Shown};
use super::subscriber::Subscriber;
use crate::auth::Generation;

/// The JSON-LD context of protocol 0.x.
const CONTEXT: &str = "https://mercure.rocks/";
/// What is not unreserved (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Makes documents for one hub.
#[derive(Debug)]
pub(super) struct Documents {
    /// The hub's path with `/subscriptions`.
    path: String,
}

#[derive(Serialize)]
struct FinalDocument<'d> {
    id: &'d str,
    #[serde(rename = "type")]
    kind: &'static str,
    match_type: &'static str,
    #[serde(rename = "match")]
    pattern: &'d str,
    subscriber: &'d str,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'d Value>,
}

#[derive(Serialize)]
struct DraftDocument<'d> {
    #[serde(rename = "@context", skip_serializing_if = "Option::is_none")]
    context: Option<&'static str>,
    id: &'d str,
    #[serde(rename = "type")]
    kind: &'static str,
    subscriber: &'d str,
    topic: &'d str,
    active: bool,
    #[serde(rename = "lastEventID", skip_serializing_if = "Option::is_none")]
    last_event_id: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'d Value>,
}

/// The name of a pattern language in topics, documents and paths.
pub(super) fn match_type(language: Language) -> &'static str {
    match language {
        Language::Exact => "exact",
        Language::UrlPattern => "urlpattern",
        Language::UriTemplate => "uritemplate",
        Language::Mqtt => "mqtt",
        Language::Nats => "nats",
    }
}

/// Simple expansion of RFC 6570: everything but unreserved characters is percent-encoded.
fn expanded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// As forms encode: a space is a `+`.
fn escaped(text: &str) -> String {
    // A percent sign of the text itself is `%25` by now.
    expanded(text).replace("%20", "+")
}

/// Documents are made of strings, numbers and what was JSON before: nothing of it can fail.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

impl Documents {
    pub(super) fn new(namespace: &Namespace) -> Documents {
        Documents { path: format!("{}/subscriptions", namespace.hub_url().path()) }
    }

    /// The path of the list of all subscriptions.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The topic of a subscription, if the generation has words for it.
    fn topic(
        &self,
        generation: Generation,
        shown: &Shown,
        subscriber: Subscriber,
    ) -> Option<String> {
        let (path, pattern) = (&self.path, &shown.pattern);
        let subscriber = expanded(&subscriber.to_string());
        match generation {
            Generation::Final => {
                let (kind, text) = (match_type(pattern.language), expanded(&pattern.text));
                Some(format!("{path}/{kind}/{text}/{subscriber}"))
            }
            Generation::Draft => pattern
                .is_in_draft
                .then(|| format!("{path}/{}/{subscriber}", escaped(&pattern.text))),
        }
    }

    /// The document of a subscription, if the generation has words for it. `last_event_id` stands
    /// in single documents of 0.x; members of a list have no context of their own.
    pub(super) fn document(
        &self,
        generation: Generation,
        connection: &Connection,
        shown: &Shown,
        place: Place<'_>,
    ) -> Option<Vec<u8>> {
        let id = self.topic(generation, shown, connection.subscriber)?;
        let subscriber = connection.subscriber.to_string();
        let (subscriber, payload) = (subscriber.as_str(), connection.payload(shown));
        let text = &shown.pattern.text;
        let active = !matches!(place, Place::Announced { active: false });
        Some(match generation {
            Generation::Final => json(&FinalDocument {
                id: &id,
                kind: "subscription",
                match_type: match_type(shown.pattern.language),
                pattern: text,
                subscriber,
                active,
                payload,
            }),
            Generation::Draft => json(&DraftDocument {
                context: (!matches!(place, Place::Listed)).then_some(CONTEXT),
                id: &id,
                kind: "Subscription",
                subscriber,
                topic: text,
                active,
                last_event_id: match place {
                    Place::Alone { last_event_id } => Some(last_event_id),
                    Place::Listed | Place::Announced { .. } => None,
                },
                payload,
            }),
        })
    }

    /// What watchers of a generation are told when a subscription begins or ends.
    pub(super) fn update(
        &self,
        generation: Generation,
        connection: &Connection,
        shown: &Shown,
        active: bool,
    ) -> Option<Update> {
        let topic = self.topic(generation, shown, connection.subscriber)?;
        let place = Place::Announced { active };
        let document = self.document(generation, connection, shown, place)?;
        let mut update = Update::new(Topic::own(&topic).ok()?, document);
        update.content_type = Line::parse(content_type(generation)).ok();
        update.event_type = match generation {
            Generation::Final => Line::parse("mercure").ok(),
            // Its clients listen to events without a name.
            Generation::Draft => None,
        };
        Some(update)
    }

    /// What stands before the members of a list.
    pub(super) fn list_head(&self, generation: Generation, id: &str, last: &str) -> Bytes {
        let text = |text: &str| Value::from(text).to_string();
        let head = match generation {
            Generation::Final => {
                format!(r#"{{"id":{},"type":"subscriptions","subscriptions":["#, text(id))
            }
            Generation::Draft => {
                format!(
                    r#"{{"@context":"{CONTEXT}","id":{},"type":"Subscriptions","lastEventID":{},"#,
                    text(id),
                    text(last)
                ) + r#""subscriptions":["#
            }
        };
        head.into()
    }
}

/// Where a document stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'p> {
    /// In an announcement.
    Announced {
        /// Whether the subscription began or ended.
        active: bool,
    },
    /// In a list.
    Listed,
    /// As an answer of its own.
    Alone {
        /// The cursor of the answer.
        last_event_id: &'p str,
    },
}

/// What documents of a generation are.
pub(super) fn content_type(generation: Generation) -> &'static str {
    match generation {
        Generation::Final => "application/json",
        Generation::Draft => "application/ld+json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m67_variables_are_encoded_once_and_as_a_whole() {
        for (text, simple, form) in [
            ("a/b", "a%2Fb", "a%2Fb"),
            ("a b+c", "a%20b%2Bc", "a+b%2Bc"),
            ("%2F", "%252F", "%252F"),
            ("é", "%C3%A9", "%C3%A9"),
            ("-._~*", "-._~%2A", "-._~%2A"),
            ("https://e.com/{id}?x=%20", "https%3A%2F%2Fe.com%2F%7Bid%7D%3Fx%3D%2520", ""),
        ] {
            assert_eq!(expanded(text), simple);
            assert_eq!(escaped(text), if form.is_empty() { simple } else { form });
        }
    }
}
