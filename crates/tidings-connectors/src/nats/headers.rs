//! Header blocks of NATS messages, both ways: `NATS/1.0`, a status where there is one, and fields
//! whose names may repeat. Knows no field's meaning.

use crate::limits::NATS_HEADER_FIELDS_MAX;

const VERSION: &str = "NATS/1.0";

/// A block of headers as it was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// What a server says about a request instead of an answer: 503 nobody answers, 404 nothing
    /// there, 408 too late, 409 a conflict.
    pub(super) status: Option<u16>,
    /// The same in words.
    pub(super) description: String,
    /// Names and values in their order.
    pub(super) fields: Vec<(String, String)>,
    /// Fields that are no text, have no name, or are too many.
    pub(super) unreadable: usize,
}

impl Headers {
    /// Reads a block. `None` when it does not begin as one.
    pub(super) fn parse(block: &[u8]) -> Option<Headers> {
        let mut lines = block.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.next()?.strip_prefix(VERSION.as_bytes())?;
        let mut headers = Headers::default();
        if let Ok(status) = std::str::from_utf8(first) {
            let (code, words) = status.trim().split_once(' ').unwrap_or((status.trim(), ""));
            headers.status = code.parse().ok();
            headers.description = words.trim().to_owned();
        }
        for line in lines.filter(|line| !line.is_empty()) {
            let field = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':'));
            match field.map(|(name, value)| (name.trim(), value.trim())) {
                Some((name, value))
                    if !name.is_empty() && headers.fields.len() < NATS_HEADER_FIELDS_MAX =>
                {
                    headers.fields.push((name.to_owned(), value.to_owned()));
                }
                _ => headers.unreadable += 1,
            }
        }
        Some(headers)
    }

    /// The first value of a field; names are compared without regard to case.
    #[cfg(test)]
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A block that is written. May be cleared and used again.
#[derive(Debug)]
pub(super) struct Block(Vec<u8>);

impl Block {
    /// Without fields.
    pub(super) fn new() -> Block {
        let mut block = Block(Vec::with_capacity(256));
        block.clear();
        block
    }

    /// Without fields again.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.extend_from_slice(VERSION.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds a field. Answers whether it could: names are printable ASCII without a colon, values
    /// have no end of a line. Anything else could pretend to be another field.
    pub(super) fn add(&mut self, name: &str, value: &str) -> bool {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        let is_value = !value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if is_name && is_value {
            for part in [name, ": ", value, "\r\n"] {
                self.0.extend_from_slice(part.as_bytes());
            }
        }
        is_name && is_value
    }

    /// The bytes with their end.
    pub(super) fn finish(&mut self) -> &[u8] {
        self.0.extend_from_slice(b"\r\n");
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_block_that_is_written_is_read_again() {
        let mut block = Block::new();
        assert!(block.add("Nats-Msg-Id", "urn:uuid:1"));
        assert!(block.add("a", "1"));
        assert!(block.add("a", "2: é"));
        assert!(block.add("empty", ""));
        let bytes = block.finish();
        assert_eq!(
            bytes,
            "NATS/1.0\r\nNats-Msg-Id: urn:uuid:1\r\na: 1\r\na: 2: é\r\nempty: \r\n\r\n".as_bytes()
        );
        let read = Headers::parse(bytes).unwrap();
        assert_eq!(
            read.fields,
            [
                field("Nats-Msg-Id", "urn:uuid:1"),
                field("a", "1"),
                field("a", "2: é"),
                field("empty", "")
            ]
        );
        assert_eq!((read.first("nats-msg-id"), read.unreadable), (Some("urn:uuid:1"), 0));
    }

    #[test]
    fn no_field_pretends_to_be_another() {
        let mut block = Block::new();
        for (name, value) in [
            ("a", "1\r\nb: 2"),
            ("a\r\nb", "1"),
            ("a:b", "1"),
            ("a b", "1"),
            ("", "1"),
            ("a", "\0"),
        ] {
            assert!(!block.add(name, value), "{name:?} {value:?}");
        }
        assert_eq!(block.finish(), b"NATS/1.0\r\n\r\n");
    }

    #[test]
    fn a_status_stands_in_the_first_line() {
        let read = |block: &[u8]| {
            Headers::parse(block).map(|headers| (headers.status, headers.description))
        };
        assert_eq!(read(b"NATS/1.0 503\r\n\r\n"), Some((Some(503), String::new())));
        let described = Some((Some(404), "No Messages".to_owned()));
        assert_eq!(read(b"NATS/1.0 404 No Messages\r\n\r\n"), described);
        assert_eq!(read(b"NATS/1.0\r\n\r\n"), Some((None, String::new())));
        assert_eq!(read(b"HTTP/1.1 200\r\n\r\n"), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn what_cannot_be_read_is_counted() {
        let read = Headers::parse(b"NATS/1.0\r\na:1\r\nno field\r\nb:\xff\r\n:x\r\n\r\n").unwrap();
        assert_eq!((read.fields, read.unreadable), (vec![field("a", "1")], 3));
        let many = format!("NATS/1.0\r\n{}", "a:1\r\n".repeat(NATS_HEADER_FIELDS_MAX + 2));
        assert_eq!(Headers::parse(many.as_bytes()).unwrap().unreadable, 2);
    }
}
