//! Subjects on which answers are awaited: no other client uses them. Knows no question.

use std::fmt::Write as _;

/// A family of subjects of our own.
#[derive(Debug, Clone)]
pub(super) struct Inbox(String);

impl Inbox {
    /// One that nobody else has.
    pub(super) fn new() -> Inbox {
        let mut bytes = [0u8; 12];
        // Without randomness from the system nothing here works: TLS and ids need it as well.
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        let mut name = String::from("_INBOX.");
        for byte in bytes {
            // Writing into a text cannot fail.
            let _written = write!(name, "{byte:02x}");
        }
        Inbox(name)
    }

    /// What to subscribe to.
    pub(super) fn pattern(&self) -> String {
        format!("{}.>", self.0)
    }

    /// The subject for the answer to a question.
    pub(super) fn subject(&self, question: u64, part: usize) -> String {
        format!("{}.{question}.{part}", self.0)
    }

    /// Which question an answer belongs to.
    pub(super) fn question(&self, subject: &[u8]) -> Option<(u64, usize)> {
        let rest = std::str::from_utf8(subject).ok()?.strip_prefix(&self.0)?.strip_prefix('.')?;
        let (question, part) = rest.split_once('.')?;
        Some((question.parse().ok()?, part.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_its_question() {
        let inbox = Inbox::new();
        let subject = inbox.subject(7, 255);
        assert_eq!(inbox.question(subject.as_bytes()), Some((7, 255)));
        assert!(inbox.pattern().ends_with(".>"));
        let other = Inbox::new().subject(7, 255);
        assert_eq!(inbox.question(other.as_bytes()), None);
        for bad in [&b""[..], b"_INBOX", b"\xff", b"_INBOX.x.1"] {
            assert_eq!(inbox.question(bad), None);
        }
    }
}
