//! An entry as a Server-Sent Event (WHATWG HTML, section 9.2). Does not know who receives it: the
//! bytes are the same for everybody.

use bytes::Bytes;
use tidings_core::{Entry, Form, Update};

use super::chunk_of;

/// The entry as an event in a chunk of HTTP/1.1, rendered once for all receivers.
pub(crate) fn chunked(entry: &Entry) -> &Bytes {
    entry.rendered(Form::ServerSentEvent, |entry| {
        let (id, update) = (entry.id(), &entry.update);
        chunk_of(id.len() + update.data.len() + 64, |chunk| render(id, update, chunk))
    })
}

/// The same event alone; the bytes are shared with the chunk.
pub(crate) fn bare(entry: &Entry) -> Bytes {
    let chunk = chunked(entry);
    let head = chunk.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    chunk.slice(head..chunk.len().saturating_sub(2).max(head))
}

/// One event. The fields before `data` are [`Line`](tidings_core::Line)s and cannot hold a line
/// end; `data` gets a field for each of its lines, so that nothing in it becomes another field.
fn render(id: &str, update: &Update, event: &mut Vec<u8>) {
    if let Some(event_type) = &update.event_type {
        field(event, "event", event_type.as_str().as_bytes());
    }
    if let Some(milliseconds) = update.retry {
        field(event, "retry", milliseconds.to_string().as_bytes());
    }
    field(event, "id", id.as_bytes());
    for line in lines(&update.data) {
        field(event, "data", line);
    }
    event.push(b'\n');
}

fn field(event: &mut Vec<u8>, name: &str, value: &[u8]) {
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(b": ");
    event.extend_from_slice(value);
    event.push(b'\n');
}

/// The lines of `data`: CR, LF and CRLF each end one, as they would in the stream itself.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text) else {
            rest = None;
            return Some(text);
        };
        let (line, ended) = text.split_at(end);
        rest = ended.strip_prefix(b"\r\n").or_else(|| ended.get(1..));
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidings_core::{Line, Topic};

    fn update(data: &str) -> Update {
        Update::new(Topic::parse("t").unwrap(), data.to_owned())
    }

    fn rendered(id: &str, update: &Update) -> Vec<u8> {
        let mut event = Vec::new();
        render(id, update, &mut event);
        event
    }

    fn check(data: &str, expected: &str) {
        assert_eq!(rendered("1", &update(data)), expected.as_bytes(), "{data:?}");
    }

    #[test]
    fn m27_every_line_end_starts_a_new_data_field() {
        check("", "id: 1\ndata: \n\n");
        check("a", "id: 1\ndata: a\n\n");
        check("a\nb", "id: 1\ndata: a\ndata: b\n\n");
        check("a\rb", "id: 1\ndata: a\ndata: b\n\n");
        check("a\r\nb", "id: 1\ndata: a\ndata: b\n\n");
        check("a\n\rb", "id: 1\ndata: a\ndata: \ndata: b\n\n");
        check("a\n", "id: 1\ndata: a\ndata: \n\n");
        check("\r\n", "id: 1\ndata: \ndata: \n\n");
        check("x\n\nid: forged", "id: 1\ndata: x\ndata: \ndata: id: forged\n\n");
    }

    #[test]
    fn m14_the_fields_come_in_the_order_of_other_hubs() {
        let mut update = update("d");
        update.event_type = Some(Line::parse("message").unwrap());
        update.retry = Some(0);
        assert_eq!(rendered("urn:x", &update), b"event: message\nretry: 0\nid: urn:x\ndata: d\n\n");
    }

    proptest! {
        #[test]
        fn data_is_read_back_and_injects_nothing(data in "[a\r\n:d ]{0,20}") {
            let event = rendered("1", &update(&data));
            let text = std::str::from_utf8(&event).unwrap();
            let mut read = String::new();
            let body = text.strip_prefix("id: 1\n").unwrap().strip_suffix("\n\n").unwrap();
            for line in body.split(['\r', '\n']) {
                read.push_str(line.strip_prefix("data: ").unwrap());
                read.push('\n');
            }
            let expected = data.replace("\r\n", "\n").replace('\r', "\n") + "\n";
            prop_assert_eq!(read, expected);
        }
    }
}
