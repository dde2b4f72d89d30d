//! The checked name of what changes. A topic is any string and is never normalized; how a protocol
//! restricts its own topics further is that protocol's business.

use std::sync::Arc;

use crate::limits::{FIELD_BYTES_MAX, OWN_TOPIC_BYTES_MAX, TOPIC_BYTES_MAX};

/// Why a string is no topic (or no other one-line field of an update).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// Longer than the limit, in bytes.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Holds a character that could start a new line or end a string in some protocol.
    #[error("contains a null, carriage return or line feed character")]
    LineBreak,
    /// Empty where something is needed.
    #[error("is empty")]
    Empty,
}

fn check(text: &str, max: usize) -> Result<(), BadText> {
    if text.len() > max {
        return Err(BadText::TooLong { max });
    }
    // Without this, a field could inject another one into a stream of lines (CWE-93).
    if text.bytes().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err(BadText::LineBreak);
    }
    Ok(())
}

/// The name of what changes: at most 4 KiB of text without null, CR and LF.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks `text`. The empty topic is a topic: it names the hub itself in relative form.
    pub fn parse(text: &str) -> Result<Topic, BadText> {
        check(text, TOPIC_BYTES_MAX)?;
        Ok(Topic(text.into()))
    }

    /// A topic of the hub itself, which may hold a percent-encoded pattern: at most 16 KiB.
    pub fn own(text: &str) -> Result<Topic, BadText> {
        check(text, OWN_TOPIC_BYTES_MAX)?;
        Ok(Topic(text.into()))
    }

    /// The topic as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A one-line field of an update (id, type, content type, idempotency key): at most 1 KiB, not
/// empty, without null, CR and LF.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line(Arc<str>);

impl Line {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Line, BadText> {
        if text.is_empty() {
            return Err(BadText::Empty);
        }
        check(text, FIELD_BYTES_MAX)?;
        Ok(Line(text.into()))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_any_line_of_text() {
        for good in ["", "*", "a/b/c", "https://example.com/é", "cms.cache.x", "\u{feff}"] {
            assert_eq!(Topic::parse(good).unwrap().as_str(), good);
        }
        for bad in ["a\0", "a\nb", "\r"] {
            assert_eq!(Topic::parse(bad), Err(BadText::LineBreak));
        }
        assert!(Topic::parse(&"x".repeat(TOPIC_BYTES_MAX)).is_ok());
        assert!(Topic::parse(&"x".repeat(TOPIC_BYTES_MAX + 1)).is_err());
        assert_eq!(Line::parse(""), Err(BadText::Empty));
    }
}
