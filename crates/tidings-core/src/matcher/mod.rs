//! Picks topics. Each pattern language is one variant and one file; none of them knows who asks.

pub mod index;
pub mod mqtt_filter;
pub mod nats_subject;
pub mod uri_template;
pub mod url_pattern;

mod levels;
mod places;

use std::cell::OnceCell;

use url::Url;

pub use mqtt_filter::MqttFilter;
pub use nats_subject::NatsSubject;
pub use uri_template::UriTemplate;
pub use url_pattern::UrlPattern;

use crate::namespace::Namespace;

/// A pattern language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// The topic itself, byte for byte.
    Exact,
    /// WHATWG URL Pattern.
    UrlPattern,
    /// RFC 6570, matched in reverse; a string that is no template is exact.
    UriTemplate,
    /// MQTT 5.0 section 4.7.
    Mqtt,
    /// NATS subjects with `*` and `>`.
    Nats,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Longer than a topic may be.
    #[error("the pattern is longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Not valid in its language.
    #[error("not a valid {language}: {reason}")]
    Invalid {
        /// The language's name for people.
        language: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Would cost too much to evaluate.
    #[error("the pattern is too complex: {reason}")]
    TooComplex {
        /// Which bound it exceeds.
        reason: String,
    },
}

/// Picks topics.
#[derive(Debug)]
pub enum Matcher {
    /// Every topic.
    Any,
    /// One topic, byte for byte.
    Exact(Box<str>),
    /// A WHATWG URL Pattern.
    UrlPattern(UrlPattern),
    /// An RFC 6570 template in reverse.
    UriTemplate(UriTemplate),
    /// An MQTT topic filter.
    Mqtt(MqttFilter),
    /// A NATS subject with wildcards.
    Nats(NatsSubject),
}

impl Matcher {
    /// Reads `pattern` in `language`. The value `*` matches every topic in the languages of
    /// Mercure; relative URL patterns resolve against the namespace's hub URL.
    pub fn parse(
        language: Language,
        pattern: &str,
        namespace: &Namespace,
    ) -> Result<Matcher, BadPattern> {
        let max = crate::limits::TOPIC_BYTES_MAX;
        if pattern.len() > max {
            return Err(BadPattern::TooLong { max });
        }
        match language {
            // Before the language is looked at: the wildcard belongs to all of Mercure's.
            Language::Exact | Language::UrlPattern | Language::UriTemplate if pattern == "*" => {
                Ok(Matcher::Any)
            }
            Language::Exact => Ok(Matcher::Exact(pattern.into())),
            Language::UrlPattern => {
                UrlPattern::parse(pattern, namespace.hub_url()).map(Matcher::UrlPattern)
            }
            Language::UriTemplate => Ok(match UriTemplate::parse(pattern)? {
                Some(template) => Matcher::UriTemplate(template),
                None => Matcher::Exact(pattern.into()),
            }),
            Language::Mqtt => MqttFilter::parse(pattern).map(Matcher::Mqtt),
            Language::Nats => NatsSubject::parse(pattern).map(Matcher::Nats),
        }
    }

    /// Whether it picks `topic`.
    pub fn matches(&self, topic: &Candidate<'_>) -> bool {
        match self {
            Matcher::Any => true,
            Matcher::Exact(text) => **text == *topic.text(),
            Matcher::UrlPattern(pattern) => topic.url().is_some_and(|url| pattern.matches(url)),
            Matcher::UriTemplate(template) => template.matches(topic.text()),
            Matcher::Mqtt(filter) => !topic.is_reserved() && filter.matches(topic.text()),
            Matcher::Nats(subject) => !topic.is_reserved() && subject.matches(topic.text()),
        }
    }
}

/// A topic as matchers look at it: its text, and once somebody asks, its URL.
#[derive(Debug)]
pub struct Candidate<'t> {
    text: &'t str,
    namespace: &'t Namespace,
    url: OnceCell<Option<Url>>,
    reserved: OnceCell<bool>,
}

impl<'t> Candidate<'t> {
    /// Looks at `text` from the hub whose namespace this is.
    pub fn new(text: &'t str, namespace: &'t Namespace) -> Candidate<'t> {
        Candidate { text, namespace, url: OnceCell::new(), reserved: OnceCell::new() }
    }

    /// The topic as it was published.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The topic resolved against the hub's URL; `None` when it is no URL reference.
    pub fn url(&self) -> Option<&Url> {
        self.url.get_or_init(|| self.namespace.resolve(self.text)).as_ref()
    }

    /// Whether it lies in the namespace that belongs to the hub itself. Wildcards of other
    /// protocols do not reach in there.
    pub fn is_reserved(&self) -> bool {
        *self.reserved.get_or_init(|| self.namespace.contains(self.url()))
    }
}
