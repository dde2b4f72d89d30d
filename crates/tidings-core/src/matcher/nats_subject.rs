//! NATS subjects with wildcards. Knows no NATS connection and no queue group.

use crate::matcher::BadPattern;
use crate::matcher::levels::Level;

/// A subject with `*` for one token and `>` for one or more at the end.
#[derive(Debug)]
pub struct NatsSubject(Box<str>);

impl NatsSubject {
    /// Reads a subject. Tokens are separated by dots, are not empty and have no white space;
    /// `>` stands alone as the last token. A `*` or `>` beside other characters is no wildcard.
    pub fn parse(text: &str) -> Result<NatsSubject, BadPattern> {
        let reason = if !is_subject(text) {
            "a token is empty or has white space"
        } else if text.split('.').rev().skip(1).any(|token| token == ">") {
            "> must be the last token"
        } else {
            return Ok(NatsSubject(text.into()));
        };
        Err(BadPattern::Invalid { language: "NATS subject", reason: reason.to_owned() })
    }

    /// Whether it matches the topic. A topic that is no subject is never matched.
    pub fn matches(&self, topic: &str) -> bool {
        if !is_subject(topic) {
            return false;
        }
        let mut tokens = topic.split('.');
        for level in self.levels() {
            let fits = match (level, tokens.next()) {
                (_, None) => false,
                (Level::Rest, Some(_)) => return true,
                (Level::One, Some(_)) => true,
                (Level::Word(word), Some(token)) => word == token,
            };
            if !fits {
                return false;
            }
        }
        tokens.next().is_none()
    }

    /// The subject's tokens.
    pub(super) fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        self.0.split('.').map(|token| match token {
            "*" => Level::One,
            ">" => Level::Rest,
            word => Level::Word(word),
        })
    }
}

/// Whether a text can be published as a subject.
pub(super) fn is_subject(text: &str) -> bool {
    !text.contains([' ', '\t', '\r', '\n', '\x0c', '\0'])
        && text.split('.').all(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_tokens() {
        for (subject, topic, expected) in [
            ("time.us.east", "time.us.east", true),
            ("time.*.east", "time.us.east", true),
            ("time.*.east", "time.us.east.atlanta", false),
            ("time.us.*", "time.us", false),
            ("time.us.>", "time.us.east.atlanta", true),
            ("time.us.>", "time.us.east", true),
            ("time.us.>", "time.us", false),
            (">", "a", true),
            ("*", "a.b", false),
            ("*.*", "a.b", true),
            ("*.>", "a", false),
            ("a*", "ab", false),
            ("a*", "a*", true),
            ("a.*", "a.", false),
            (">", "a..b", false),
            (">", "a b", false),
            (">", "", false),
            ("*", "A", true),
            ("a", "A", false),
        ] {
            let parsed = NatsSubject::parse(subject).unwrap();
            assert_eq!(parsed.matches(topic), expected, "{subject} {topic}");
        }
    }

    #[test]
    fn empty_tokens_and_early_rests_are_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\t", ">.a", "a.>.b"] {
            assert!(NatsSubject::parse(bad).is_err(), "{bad:?}");
        }
    }
}
