//! Picks topics. Each pattern language is one variant and one file; none of them knows who asks.

pub mod index;
pub mod mqtt_filter;
pub mod nats_subject;
pub mod uri_template;
pub mod url_pattern;

mod levels;
mod places;
mod steps;

use std::cell::OnceCell;
use std::sync::Arc;

use url::Url;

pub use mqtt_filter::MqttFilter;
pub use nats_subject::NatsSubject;
pub use steps::Steps;
pub use uri_template::UriTemplate;
pub use url_pattern::UrlPattern;

use crate::namespace::{AUDIENCE_PREFIX, Namespace, audience};

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
    /// As good as any, but others of its kind take all the time that there is for them. Another
    /// time there may be a place.
    #[error("too many patterns without fixed text are in use: try again later")]
    Crowded,
}

/// Picks topics.
#[derive(Debug)]
pub enum Matcher {
    /// Every topic but those of audiences, which have to be named.
    Any,
    /// Every topic. No pattern says so: it is the operator's alone.
    Everything,
    /// One topic, byte for byte.
    Exact(Arc<str>),
    /// A WHATWG URL Pattern; behind a pointer, so that the many exact matchers stay small.
    UrlPattern(Box<UrlPattern>),
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
                let parsed = UrlPattern::parse(pattern, namespace.hub_url())?;
                Ok(Matcher::UrlPattern(Box::new(parsed)))
            }
            Language::UriTemplate => Ok(match UriTemplate::parse(pattern)? {
                Some(template) => Matcher::UriTemplate(template),
                None => Matcher::Exact(pattern.into()),
            }),
            Language::Mqtt => MqttFilter::parse(pattern).map(Matcher::Mqtt),
            Language::Nats => NatsSubject::parse(pattern).map(Matcher::Nats),
        }
    }

    /// Whether it is a pattern without literal text at its begin and its end: every topic has to
    /// ask it.
    pub fn is_bare(&self) -> bool {
        match self {
            Matcher::UrlPattern(pattern) => {
                pattern.literal_prefix().is_empty() && pattern.literal_suffix().is_empty()
            }
            Matcher::UriTemplate(template) => {
                template.literal_prefix().is_empty() && template.literal_suffix().is_empty()
            }
            Matcher::Any
            | Matcher::Everything
            | Matcher::Exact(_)
            | Matcher::Mqtt(_)
            | Matcher::Nats(_) => false,
        }
    }

    /// Whether it could pick a topic below the hub's own path, as far as its fixed text tells.
    pub(crate) fn reaches_into(&self, namespace: &Namespace) -> bool {
        let below = format!("{}/", namespace.hub_url().path());
        let meets = |fixed: &str, whole: &str| fixed.starts_with(whole) || whole.starts_with(fixed);
        match self {
            Matcher::Any | Matcher::Everything => true,
            Matcher::Exact(text) => Candidate::new(text, namespace).is_reserved(),
            Matcher::UrlPattern(pattern) => {
                let topic = Candidate::new(&below, namespace);
                let reach = topic.url().map(url_pattern::reach).unwrap_or_default();
                let reach = reach.trim_end_matches(url_pattern::BOUNDARY);
                meets(&pattern.literal_prefix(), reach)
            }
            Matcher::UriTemplate(template) => meets(template.literal_prefix(), &below),
            Matcher::Mqtt(_) | Matcher::Nats(_) => false,
        }
    }

    /// Whether it picks `topic`.
    pub fn matches(&self, topic: &Candidate<'_>) -> bool {
        self.matches_within(topic, &mut Steps::unlimited())
    }

    /// Whether it picks `topic` and finds that out within `steps`.
    pub(crate) fn matches_within(&self, topic: &Candidate<'_>, steps: &mut Steps) -> bool {
        match self {
            Matcher::Any => audience(topic.text()).is_none(),
            Matcher::Everything => true,
            Matcher::Exact(text) => **text == *topic.text(),
            // Relative to the hub's own URL as they are, they can name no audience.
            Matcher::UrlPattern(pattern) => {
                audience(topic.text()).is_none()
                    && topic.url().is_some_and(|url| pattern.matches_within(url, steps))
            }
            Matcher::UriTemplate(template) => {
                let named = template.literal_prefix().len();
                let whole = audience(topic.text()).map(|name| AUDIENCE_PREFIX.len() + name.len());
                whole.is_none_or(|whole| named >= whole)
                    && template.matches_within(topic.text(), steps)
            }
            Matcher::Mqtt(filter) => !topic.is_hidden() && filter.matches(topic.text()),
            Matcher::Nats(subject) => !topic.is_hidden() && subject.matches(topic.text()),
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

    /// Whether wildcards of other protocols do not reach it: it belongs to the hub itself, or to an
    /// audience.
    pub(crate) fn is_hidden(&self) -> bool {
        audience(self.text).is_some() || self.is_reserved()
    }

    /// Whether it lies in the namespace that belongs to the hub itself. Wildcards of other
    /// protocols do not reach in there.
    pub fn is_reserved(&self) -> bool {
        *self.reserved.get_or_init(|| {
            self.namespace.may_contain(self.text) && self.namespace.contains(self.url())
        })
    }
}

/// What a fuzzer calls: reads a pattern and topics out of `bytes` and lets the pattern and the
/// index judge them. Panics when the two disagree.
///
/// The first byte chooses the language; then the pattern and the topics, null characters between.
#[doc(hidden)]
pub fn fuzz_patterns(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let language = match first % 5 {
        0 => Language::Exact,
        1 => Language::UrlPattern,
        2 => Language::UriTemplate,
        3 => Language::Mqtt,
        _ => Language::Nats,
    };
    let Ok(hub_url) = Url::parse("https://hub.example/.well-known/mercure") else { return };
    let namespace = Namespace::new(hub_url);
    let text = String::from_utf8_lossy(rest);
    let mut texts = text.split('\0');
    let pattern = texts.next().unwrap_or_default();
    let Ok(matcher) = Matcher::parse(language, pattern, &namespace) else { return };
    let matcher = Arc::new(matcher);
    let mut index = index::Index::default();
    let id = index::MatcherId::new(0);
    index.insert(id, &matcher);
    // The pattern is a topic that is close to itself.
    for topic in texts.take(16).chain([pattern]) {
        let candidate = Candidate::new(topic, &namespace);
        let mut found = Vec::new();
        index.find(&candidate, &mut index::Budget::unlimited(), &mut found);
        let expected: &[index::MatcherId] = if matcher.matches(&candidate) { &[id] } else { &[] };
        assert_eq!(found, expected, "the index and the matcher disagree");
    }
    index.remove(id, &matcher);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn namespace() -> Namespace {
        Namespace::new(Url::parse("https://hub.example/.well-known/mercure").unwrap())
    }

    fn matches(language: Language, pattern: &str, topic: &str) -> bool {
        let namespace = namespace();
        let matcher = Matcher::parse(language, pattern, &namespace).unwrap();
        matcher.matches(&Candidate::new(topic, &namespace))
    }

    #[test]
    fn m18_the_wildcard_is_recognised_before_the_language() {
        for language in [Language::Exact, Language::UrlPattern, Language::UriTemplate] {
            for topic in ["", "*", "a b", "urn:x", "http://[bad", "https://other.example:1/x"] {
                assert!(matches(language, "*", topic), "{language:?} {topic:?}");
            }
        }
    }

    #[test]
    fn a_pattern_reaches_the_hubs_own_topics_unless_its_fixed_text_leads_elsewhere() {
        let own = "/.well-known/mercure/subscriptions";
        for (language, pattern, expected) in [
            (Language::Exact, "*", true),
            (Language::Exact, &format!("{own}/exact/a/b"), true),
            (Language::Exact, "/books/1", false),
            (Language::UriTemplate, &format!("{own}{{/topic}}{{/subscriber}}"), true),
            (Language::UriTemplate, "/.well-known/{+rest}", true),
            (Language::UriTemplate, "{+all}", true),
            (Language::UriTemplate, "/books/{id}", false),
            (Language::UriTemplate, "/.well-known/mercury/{id}", false),
            (Language::UrlPattern, &format!("{own}/exact/:match/:subscriber"), true),
            (Language::UrlPattern, "/.well-known/:any*", true),
            (Language::UrlPattern, "https://other.example/:any*", false),
            (Language::Mqtt, "#", false),
            (Language::Nats, ">", false),
        ] {
            let matcher = Matcher::parse(language, pattern, &namespace()).unwrap();
            assert_eq!(matcher.reaches_into(&namespace()), expected, "{language:?} {pattern}");
        }
    }

    #[test]
    fn topics_of_an_audience_are_picked_by_what_names_it_whole_and_by_nothing_else() {
        const ONE: &str = "urn:tidings:audience:0b3d6e6c-9f5e-4a11-8a7c-0f6f4c2f1d11";
        let topic = format!("{ONE}:books%2F1");
        let of = |text: &str| format!("{ONE}{text}");
        // A colon would begin a name in a URL pattern.
        let url = |text: &str| text.replace(':', "\\:");
        use Language::{Exact, Mqtt, Nats, UriTemplate, UrlPattern};
        for (language, pattern) in [
            (Exact, "*".to_owned()),
            (UriTemplate, "*".to_owned()),
            (UriTemplate, "{+all}".to_owned()),
            (UriTemplate, "urn:tidings:audience:{+all}".to_owned()),
            (UriTemplate, format!("{}{{+rest}}", &ONE[..ONE.len() - 1])),
            (UriTemplate, "{+first}:books%2F1".to_owned()),
            (UrlPattern, "*".to_owned()),
            (UrlPattern, "*:*".to_owned()),
            (UrlPattern, "urn:*".to_owned()),
            (UrlPattern, url("urn:tidings:audience:*")),
            (UrlPattern, url(&of(":*"))),
            (Mqtt, "#".to_owned()),
            (Mqtt, "+".to_owned()),
            (Mqtt, topic.clone()),
            (Nats, ">".to_owned()),
            (Nats, "*".to_owned()),
        ] {
            assert!(!matches(language, &pattern, &topic), "{language:?} {pattern}");
        }
        for (language, pattern) in
            [(Exact, topic.clone()), (UriTemplate, of(":{topic}")), (UriTemplate, of("{+rest}"))]
        {
            assert!(matches(language, &pattern, &topic), "{language:?} {pattern}");
        }
        assert!(!matches(UriTemplate, &of("{+rest}"), &of("0:books")), "another audience");
        // Of nobody: the text decides.
        assert!(matches(Exact, "*", &format!("URN{}", &topic[3..])));
        assert!(Matcher::Everything.matches(&Candidate::new(&topic, &namespace())));
    }

    #[test]
    fn m19_exact_is_byte_for_byte() {
        let topic = "https://example.com/caf\u{e9}";
        assert!(matches(Language::Exact, topic, topic));
        for other in [
            "https://example.com/cafe\u{301}",
            "https://example.com/caf%C3%A9",
            "https://EXAMPLE.com/caf\u{e9}",
            "https://example.com/caf\u{e9}/",
            "/caf\u{e9}",
        ] {
            assert!(!matches(Language::Exact, topic, other), "{other}");
        }
        assert!(!matches(Language::Exact, "/a", "https://hub.example/a"));
        assert!(matches(Language::Exact, "/books/:id", "/books/:id"));
        assert!(!matches(Language::Exact, "/books/:id", "/books/1"));
    }

    #[test]
    fn m20_relative_topics_and_patterns_meet_at_the_hub_url() {
        assert!(matches(Language::UrlPattern, "/books/:id", "https://hub.example/books/1"));
        assert!(matches(Language::UrlPattern, "https://hub.example/books/:id", "/books/1"));
        assert!(matches(Language::UrlPattern, "books/:id", "/.well-known/books/1"));
        assert!(matches(Language::UrlPattern, "/Books/:id", "/Books/1"));
        assert!(!matches(Language::UrlPattern, "/Books/:id", "/books/1"));
        assert!(matches(Language::UrlPattern, "https://HUB.example/a", "https://hub.EXAMPLE/a"));
    }

    #[test]
    fn m21_a_topic_that_is_no_url_reference_matches_no_url_pattern() {
        for pattern in ["*://*/*", "https://*:*/*", ":scheme://*:*/*?*#*"] {
            assert!(!matches(Language::UrlPattern, pattern, "http://[bad"), "{pattern}");
        }
    }

    #[test]
    fn patterns_longer_than_a_topic_are_refused() {
        let max = crate::limits::TOPIC_BYTES_MAX;
        for language in [Language::Exact, Language::UrlPattern, Language::Mqtt, Language::Nats] {
            assert!(Matcher::parse(language, &"a".repeat(max), &namespace()).is_ok());
            let refused = Matcher::parse(language, &"a".repeat(max + 1), &namespace());
            assert_eq!(refused.unwrap_err(), BadPattern::TooLong { max });
        }
    }

    #[test]
    fn bare_is_a_pattern_without_literal_text_at_begin_and_end() {
        for (language, pattern, expected) in [
            (Language::UrlPattern, ":scheme://*:*/*?*#*", true),
            (Language::UrlPattern, "*://*/:id", true),
            (Language::UrlPattern, "*://*/x", false),
            (Language::UrlPattern, "https://*/:id", false),
            (Language::UrlPattern, "https://*/x", false),
            (Language::UriTemplate, "{+any}", true),
            (Language::UriTemplate, "{scheme}://{+host}/{id}", true),
            (Language::UriTemplate, "{+any}.json", false),
            (Language::UriTemplate, "/books/{id}", false),
            (Language::UriTemplate, "/books/{id}.json", false),
            (Language::UriTemplate, "/books", false),
            (Language::Exact, "*", false),
            (Language::Exact, "a", false),
            (Language::Mqtt, "#", false),
            (Language::Nats, ">", false),
        ] {
            let matcher = Matcher::parse(language, pattern, &namespace()).unwrap();
            assert_eq!(matcher.is_bare(), expected, "{language:?} {pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_pattern_breaks_anything(
            language in 0..5u8,
            text in prop::collection::vec(
                prop::sample::select(vec![
                    "/", ":", ".", "?", "#", "+", "*", "$", ">", "(", ")", "{", "}", "[", "]", "|",
                    "^", "\\", "a", "b", "7", "-", "@", "é", "\u{1f600}", "\0", "https://", "%41",
                    ":id", "{?a}", "(a+)", "..", "&&", "--", "\\p{L}", "{2,3}", "xn--", "~",
                ]),
                0..40,
            ),
        ) {
            let mut bytes = vec![language];
            bytes.extend_from_slice(text.concat().as_bytes());
            fuzz_patterns(&bytes);
        }

        #[test]
        fn no_bytes_break_anything(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            fuzz_patterns(&bytes);
        }
    }
}
