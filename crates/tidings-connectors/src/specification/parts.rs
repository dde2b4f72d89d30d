//! The parts of a specification that every kind shares: topics, keys, retries, follow-ups. Knows
//! how each is written as JSON, and no table around it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings_core::{BadPattern, Hub, Language, Line, Matcher, Namespace};
use url::Url;

use crate::forms::{self, Flaw, shown};
use crate::limits::{GIVE_UP_AFTER_DEFAULT, RETRY_FIRST_DEFAULT, RETRY_MAX_DEFAULT};
use crate::span::Span;

/// Topics that a sink is for. `"*"` is all of them, another text is one topic, and
/// `{ nats = "a.>" }` is a pattern in its language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyOf {
    /// The canonical topic.
    Topic,
    /// The attribute with this name. Updates without it share one order.
    Attribute(String),
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// Publish the update again, under a topic that begins differently.
    pub publish: Replace,
}

/// A change of a text's begin. Written as `{ replace = ["from", "to"] }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenReplace", into = "WrittenReplace")]
pub struct Replace {
    /// The begin that goes; not empty.
    pub from: String,
    /// What comes in its place; not the same.
    pub to: String,
}

/// [`Pick`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Pattern(WrittenPattern),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenPattern {
    UrlPattern(String),
    UriTemplate(String),
    Mqtt(String),
    Nats(String),
}

impl From<Written> for Pick {
    fn from(written: Written) -> Pick {
        match written {
            Written::Text(text) if text == "*" => Pick::All,
            Written::Text(text) => Pick::Exact(text),
            Written::Pattern(WrittenPattern::UrlPattern(text)) => Pick::UrlPattern(text),
            Written::Pattern(WrittenPattern::UriTemplate(text)) => Pick::UriTemplate(text),
            Written::Pattern(WrittenPattern::Mqtt(text)) => Pick::Mqtt(text),
            Written::Pattern(WrittenPattern::Nats(text)) => Pick::Nats(text),
        }
    }
}

impl From<Pick> for Written {
    fn from(pick: Pick) -> Written {
        match pick {
            Pick::All => Written::Text("*".to_owned()),
            Pick::Exact(text) => Written::Text(text),
            Pick::UrlPattern(text) => Written::Pattern(WrittenPattern::UrlPattern(text)),
            Pick::UriTemplate(text) => Written::Pattern(WrittenPattern::UriTemplate(text)),
            Pick::Mqtt(text) => Written::Pattern(WrittenPattern::Mqtt(text)),
            Pick::Nats(text) => Written::Pattern(WrittenPattern::Nats(text)),
        }
    }
}

impl Pick {
    /// Reads one and checks its pattern.
    pub(crate) fn read(value: &Value) -> Result<Pick, Flaw> {
        let pick = Pick::deserialize(value).map_err(|_| {
            let kind = forms::kind(value);
            let message = match value {
                Value::Object(_) => "takes one pattern in a table".to_owned(),
                _ => format!("takes topics and patterns, not {kind}"),
            };
            Flaw::new(message).hint(
                "\"*\", a topic, or a table with nats, mqtt, url_pattern or uri_template, as in \
                 { nats = \"cms.>\" }",
            )
        })?;
        let (language, pattern) = pick.pattern();
        if pattern.is_empty() {
            return Err(Flaw::new("has an empty topic").hint("\"*\" stands for every topic"));
        }
        // Which hub it will be does not decide whether a pattern is one.
        let base = Url::parse("https://hub.invalid/.well-known/mercure").expect("a constant URL");
        Matcher::parse(language, pattern, &Namespace::new(base))
            .map_err(|bad| Flaw::new(format!("has {}: {bad}", shown(pattern))))?;
        Ok(pick)
    }
}

impl From<KeyOf> for String {
    fn from(key: KeyOf) -> String {
        match key {
            KeyOf::Topic => "topic".to_owned(),
            KeyOf::Attribute(name) => format!("attribute:{name}"),
        }
    }
}

impl TryFrom<String> for KeyOf {
    type Error = String;

    fn try_from(text: String) -> Result<KeyOf, String> {
        KeyOf::read(&text).map_err(|flaw| format!("the key {}", flaw.message))
    }
}

impl KeyOf {
    /// Reads `topic` or `attribute:NAME`.
    pub(crate) fn read(text: &str) -> Result<KeyOf, Flaw> {
        if text == "topic" {
            return Ok(KeyOf::Topic);
        }
        match text.strip_prefix("attribute:") {
            Some(name) if Line::parse(name).is_ok() => Ok(KeyOf::Attribute(name.to_owned())),
            Some(_) => Err(Flaw::new("has no name of an attribute behind \"attribute:\"")
                .hint("as in \"attribute:customer\"")),
            None => Err(Flaw::new(format!("does not take {}", shown(text)))
                .hint("\"topic\", or \"attribute:NAME\" with the name of an attribute")),
        }
    }
}

/// [`Replace`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReplace {
    replace: (String, String),
}

impl From<Replace> for WrittenReplace {
    fn from(replace: Replace) -> WrittenReplace {
        WrittenReplace { replace: (replace.from, replace.to) }
    }
}

impl TryFrom<WrittenReplace> for Replace {
    type Error = String;

    fn try_from(written: WrittenReplace) -> Result<Replace, String> {
        let (from, to) = written.replace;
        Replace::new(from, to).map_err(|flaw| format!("`replace` {}", flaw.message))
    }
}

impl Replace {
    fn new(from: String, to: String) -> Result<Replace, Flaw> {
        if from.is_empty() {
            return Err(Flaw::new("has nothing to replace: its first text is empty"));
        }
        if from == to {
            let hint = "the second text is what comes in place of the first";
            return Err(Flaw::new("has the same text twice").hint(hint));
        }
        Ok(Replace { from, to })
    }

    /// Reads the list of two texts.
    pub(crate) fn read(value: &Value) -> Result<Replace, Flaw> {
        let (from, to) =
            <(String, String)>::deserialize(value).map_err(|_| Flaw::new("takes two texts"))?;
        if [&from, &to].iter().any(|text| text.chars().any(char::is_control)) {
            return Err(Flaw::new("has a control character"));
        }
        Replace::new(from, to)
    }

    /// The text with another begin; `None` where it begins differently.
    pub fn apply(&self, text: &str) -> Option<String> {
        text.strip_prefix(self.from.as_str()).map(|rest| format!("{}{rest}", self.to))
    }
}
