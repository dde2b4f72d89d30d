//! The hub's own URL and the topics that belong to it. Publishers cannot use those, in whatever
//! spelling: a resolved URL decides, not the text (Mercure 1.0, "Reserved topics").
//!
//! And topics of audiences, each of which is alone with its own: there the text decides, byte for
//! byte.

use percent_encoding_lite::decode_unreserved;
use url::Url;

/// What topics of audiences begin with: the audience's name follows, which has no colon, and behind
/// one more colon whatever the audience calls the topic.
pub const AUDIENCE_PREFIX: &str = "urn:tidings:audience:";

/// The name of the audience to which a topic belongs, if it belongs to one.
pub fn audience(topic: &str) -> Option<&str> {
    topic.strip_prefix(AUDIENCE_PREFIX).and_then(|rest| rest.split(':').next())
}

/// The hub's URL and the topics below its path.
#[derive(Debug, Clone)]
pub struct Namespace {
    hub_url: Url,
    path: String,
    path_slash: String,
    /// What every topic of the namespace has in its text, unless it is spelt in an odd way.
    word: String,
}

impl Namespace {
    /// The namespace of the hub at `hub_url`, path included (`https://host/.well-known/mercure`).
    pub fn new(hub_url: Url) -> Namespace {
        let path = decode_unreserved(hub_url.path());
        let path_slash = format!("{path}/");
        let word = path.rsplit('/').next().unwrap_or_default().to_owned();
        Namespace { hub_url, path, path_slash, word }
    }

    /// The hub's URL: the base of every relative topic and pattern.
    pub fn hub_url(&self) -> &Url {
        &self.hub_url
    }

    /// The URL that `topic` means, if it is a URL reference.
    pub fn resolve(&self, topic: &str) -> Option<Url> {
        self.hub_url.join(topic).ok()
    }

    /// Whether a topic may turn out to be in here when it is resolved. Says no only where that is
    /// certain, which it is of nearly all, at a glance.
    pub(crate) fn may_contain(&self, topic: &str) -> bool {
        let text = topic.trim_matches(|character| character <= ' ');
        // The hub's own path comes without being written where nothing, or only a scheme, stands
        // before a query or fragment.
        let is_without_path =
            text.is_empty() || text.starts_with(['?', '#']) || text.ends_with(':');
        is_without_path
            || text.contains(&self.word)
            || text.contains(":?")
            || text.contains(":#")
            || text.bytes().any(|byte| matches!(byte, b'%' | b'\t' | b'\n' | b'\r'))
    }

    /// Whether a resolved topic is the hub's path or below it, whatever its scheme and host.
    pub fn contains(&self, topic: Option<&Url>) -> bool {
        topic.is_some_and(|url| {
            let path = decode_unreserved(url.path());
            path == self.path || path.starts_with(&self.path_slash)
        })
    }
}

/// Percent-decoding of unreserved characters only (RFC 3986 section 2.3): what remains encoded
/// cannot be confused with a path separator.
mod percent_encoding_lite {
    fn hex(byte: Option<&u8>) -> Option<u8> {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| digit.try_into().ok())
    }

    pub(super) fn decode_unreserved(path: &str) -> String {
        let bytes = path.as_bytes();
        let mut decoded = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&first, tail)) = rest.split_first() {
            let value = match (first, hex(tail.first()), hex(tail.get(1))) {
                (b'%', Some(high), Some(low)) => Some(high * 16 + low),
                _ => None,
            };
            match value.filter(|value| value.is_ascii_alphanumeric() || b"-._~".contains(value)) {
                Some(value) => {
                    decoded.push(value);
                    rest = tail.get(2..).unwrap_or_default();
                }
                None => {
                    decoded.push(first);
                    rest = tail;
                }
            }
        }
        // Only ASCII was put in place of ASCII, so the text is still UTF-8.
        String::from_utf8_lossy(&decoded).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reserved(topic: &str) -> bool {
        let hub = Namespace::new(Url::parse("https://hub.example/.well-known/mercure").unwrap());
        let reserved = hub.contains(hub.resolve(topic).as_ref());
        assert!(!reserved || hub.may_contain(topic), "{topic:?}");
        reserved
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_is_ruled_out_at_a_glance_is_not_reserved(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "https", "http", ":", "/", "//", "\\", "?", "#", ".", "..", "mercure",
                    "Mercure",
                    ".well-known", "%6D", "ercure", "mer", "cure", "\t", "\n", " ", "x", "@", "é",
                    "\0", "subscriptions", "hub.example", "data", "[", "*", ";",
                ]),
                0..8,
            ),
        ) {
            reserved(&parts.concat());
        }
    }

    #[test]
    fn the_name_of_an_audience_ends_at_the_next_colon() {
        assert_eq!(audience("urn:tidings:audience:a-1:books:1"), Some("a-1"));
        assert_eq!(audience("urn:tidings:audience:a-1"), Some("a-1"));
        assert_eq!(audience("urn:tidings:audience:"), Some(""));
        for other in ["urn:tidings:audience", "urn:TIDINGS:audience:a", " urn:tidings:audience:a"] {
            assert_eq!(audience(other), None, "{other}");
        }
    }

    #[test]
    fn every_spelling_of_the_hub_path_is_reserved() {
        for topic in [
            "",
            "mercure/x",
            "#fragment",
            "?query",
            "/.well-known/mercure",
            "/.well-known/mercure/subscriptions",
            "https://other.example/.well-known/%6Dercure",
            "https://e.com\\.well-known\\mercure\\x",
            "//other/.well-known/mercure",
            "/a/../.well-known/mercure",
            "/%2e/.well-known/mercure/",
            "ftp://x/.well-known/mercure?x",
            "/.well-known/mer\tcure",
        ] {
            assert!(reserved(topic), "{topic:?}");
        }
        for topic in [
            "../mercure/x",
            "/.well-known/mercureXXX",
            "urn:example:mercure",
            "https://e.com/.well-known/mercure%2Fx",
            "/.well-known//mercure",
            "http://[bad",
            "*",
        ] {
            assert!(!reserved(topic), "{topic:?}");
        }
    }
}
