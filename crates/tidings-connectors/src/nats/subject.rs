//! What NATS takes as a subject, a pattern of subjects, a queue group and a name. Knows no topic.

use crate::limits::NATS_SUBJECT_BYTES_MAX;

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NATS_SUBJECT_BYTES_MAX
        && !text.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control())
}

/// Why a text cannot be published as a subject, if it cannot.
pub(super) fn flaw(text: &str) -> Option<&'static str> {
    if text.len() > NATS_SUBJECT_BYTES_MAX {
        Some("it is longer than NATS takes")
    } else if !is_plain(text) {
        Some("NATS subjects have no white space and are not empty")
    } else if text.split('.').any(str::is_empty) {
        Some("a token between its dots is empty")
    } else if text.split('.').any(|token| matches!(token, "*" | ">")) {
        Some("it has a wildcard, and messages are published to one subject")
    } else {
        None
    }
}

/// Whether it can be subscribed to.
pub(super) fn is_pattern(text: &str) -> bool {
    is_plain(text)
        && text.split('.').all(|token| !token.is_empty())
        && !text.split('.').rev().skip(1).any(|token| token == ">")
}

/// Whether it is a queue group.
pub(super) fn is_queue_group(text: &str) -> bool {
    is_plain(text)
}

/// Whether it is a name of a stream or consumer: they become a token of a subject.
pub(super) fn is_name(text: &str) -> bool {
    is_plain(text) && !text.contains(['.', '*', '>', '/', '\\'])
}

/// Whether two patterns have subjects in common.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_subjects_are_published() {
        for good in ["a", "a.b", "a*", "a.>b", "https://x/y", "é.ü", "$x"] {
            assert_eq!(flaw(good), None, "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nPUB x 0", "*", "a.*", "a.>"] {
            assert!(flaw(bad).is_some(), "{bad:?}");
        }
        assert!(flaw(&"x".repeat(NATS_SUBJECT_BYTES_MAX + 1)).is_some());
    }

    #[test]
    fn patterns_names_and_groups_are_checked() {
        for good in ["a", "a.>", ">", "*.a", "a*"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "a.>.b", "a..b", "a b", ">.a"] {
            assert!(!is_pattern(bad), "{bad}");
        }
        assert!(is_name("CMS_1-x") && !is_name("a.b") && !is_name("") && !is_name("a b"));
        assert!(is_queue_group("a.b") && !is_queue_group("a b"));
    }

    #[test]
    fn patterns_overlap_when_a_subject_fits_both() {
        for (one, other, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "*.b", true),
            ("a.*", "a.b.c", false),
            (">", "a", true),
            ("*", ">", true),
            ("a.b", "a.c", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
