//! Reads a stream of events as the HTML standard says ("Interpreting an event stream"). Knows no
//! network: bytes come in as they come, events go out.

use std::time::Duration;

use super::ClientProblem;
use crate::limits::EVENT_BYTES_MAX;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The last id that the stream has sent, for this event or an earlier one.
    pub(super) id: String,
    /// `message` when the stream names none.
    pub(super) kind: String,
    /// The lines of the data.
    pub(super) data: String,
}

/// The state between two pieces of a stream. A new connection begins with a new one.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// The line before ended by a CR: an LF now belongs to it.
    after_return: bool,
    begun: bool,
    id: String,
    last_id: String,
    kind: String,
    data: String,
    retry: Option<Duration>,
}

impl Events {
    /// A stream that goes on after `last_id`.
    pub(super) fn after(last_id: &str) -> Events {
        Events { id: last_id.to_owned(), last_id: last_id.to_owned(), ..Events::default() }
    }

    /// Reads the next bytes; the events that they complete.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, ClientProblem> {
        let mut events = Vec::new();
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + text.len() > EVENT_BYTES_MAX {
                return Err(ClientProblem::EventTooLarge(EVENT_BYTES_MAX));
            }
            self.line.extend_from_slice(text);
            let Some((ending, rest)) = rest.split_first() else { break };
            self.after_return = *ending == b'\r';
            bytes = rest;
            let line = std::mem::take(&mut self.line);
            events.extend(self.line(&line));
        }
        Ok(events)
    }

    /// The id that a new connection goes on after.
    pub(super) fn last_id(&self) -> &str {
        &self.last_id
    }

    /// How long to wait before a new connection, if the stream said so.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let line =
            if self.begun { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis);
            }
            // Comments and fields of later versions.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.id.clone_into(&mut self.last_id);
        let mut kind = std::mem::take(&mut self.kind);
        let mut data = std::mem::take(&mut self.data);
        // Without the last line's end; without a line there is no event.
        data.pop()?;
        if kind.is_empty() {
            "message".clone_into(&mut kind);
        }
        Some(Event { id: self.last_id.clone(), kind, data })
    }
}

/// Reads `bytes` as a stream, at once and in pieces; both must give the same events.
pub(super) fn fuzz(bytes: &[u8]) {
    let whole = Events::default().read(bytes);
    let (mut events, mut parts) = (Events::default(), Vec::new());
    let size = bytes.first().map_or(1, |first| usize::from(first % 16) + 1);
    for piece in bytes.chunks(size) {
        parts.extend(events.read(piece).unwrap_or_default());
    }
    assert_eq!(whole.ok(), Some(parts), "pieces change what is read");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(id: &str, kind: &str, data: &str) -> Event {
        Event { id: id.into(), kind: kind.into(), data: data.into() }
    }

    fn read(text: &str) -> Vec<Event> {
        Events::default().read(text.as_bytes()).unwrap()
    }

    #[test]
    fn lines_end_by_all_three_line_ends() {
        for end in ["\n", "\r", "\r\n"] {
            let text = ["event: a", "id:1", "data: x", "data:  y", "", "data", "", ""].join(end);
            assert_eq!(read(&text), [event("1", "a", "x\n y"), event("1", "message", "")]);
        }
    }

    #[test]
    fn a_byte_order_mark_belongs_to_no_line_but_only_at_the_start() {
        assert_eq!(read("\u{feff}data: x\n\n"), [event("", "message", "x")]);
        assert_eq!(read("\n\u{feff}data: x\n\n"), []);
    }

    #[test]
    fn what_is_not_a_field_is_ignored() {
        assert_eq!(read(":\n: c\nother: x\nDATA: x\n data: x\n\n"), []);
        assert_eq!(read("event: a\n\ndata: x\n\n"), [event("", "message", "x")]);
        assert_eq!(read("data: not ended\n"), []);
    }

    #[test]
    fn an_id_with_a_nul_is_ignored_and_an_empty_one_resets() {
        let mut events = Events::default();
        assert_eq!(
            events.read(b"id: 1\n\nid: 2\0\ndata: x\n\n").unwrap(),
            [event("1", "message", "x")]
        );
        assert_eq!(events.last_id(), "1");
        events.read(b"id\n\n").unwrap();
        assert_eq!(events.last_id(), "");
        events.read(b"id: 3\n").unwrap();
        assert_eq!(events.last_id(), "", "an event that broke off was not received");
    }

    #[test]
    fn only_whole_numbers_set_the_time_to_retry() {
        let mut events = Events::after("7");
        events.read(b"retry: 1500\nretry: +3\nretry: 3s\nretry:\n").unwrap();
        assert_eq!(events.retry(), Some(Duration::from_millis(1500)));
        assert_eq!(events.last_id(), "7");
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1024 * 1024];
        let mut pieces = (0..64).map(|_| events.read(&piece));
        assert!(pieces.any(|read| matches!(read, Err(ClientProblem::EventTooLarge(_)))));
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_what_is_read(
            lines in proptest::collection::vec("(data: .{0,5}|id: .?|event: a|:|)", 0..12),
            end in "\n|\r|\r\n",
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let text = lines.join(&end) + &end + &end;
            let whole = read(&text);
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let (mut events, mut parts, mut from) = (Events::default(), Vec::new(), 0);
            for cut in cuts {
                parts.extend(events.read(&text.as_bytes()[from..cut]).unwrap());
                from = cut;
            }
            prop_assert_eq!(parts, whole);
        }
    }
}
