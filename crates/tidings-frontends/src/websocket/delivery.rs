//! An entry as a message. Does not know who receives it: the bytes are the same for everybody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use tidings_core::{Entry, Form, Line};

use super::frame::{BINARY, OWN_HEAD_BYTES, TEXT, head};

/// The fields of an update. Alternate topics never leave the hub.
#[derive(Serialize)]
struct Told<'e> {
    op: &'static str,
    id: &'e str,
    topic: &'e str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    event_type: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'e str>,
    cursor: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl Told<'_> {
    /// Everything but the data.
    fn without_data(entry: &Entry) -> Told<'_> {
        let update = &entry.update;
        Told {
            op: "update",
            id: entry.id(),
            topic: update.topics.first().map_or("", |topic| topic.as_str()),
            event_type: update.event_type.as_ref().map(Line::as_str),
            content_type: update.content_type.as_ref().map(Line::as_str),
            cursor: entry.cursor(),
            data: None,
            data_base64: None,
        }
    }

    fn write(&self, into: &mut Vec<u8>) {
        // Texts alone, into memory: nothing of it can fail.
        let _written = serde_json::to_writer(into, self);
    }
}

/// Bytes of what stands around the data and the names in a message, rounded up.
const AROUND_BYTES: usize = 160;

/// The entry as a text message, rendered once for all receivers.
pub(crate) fn text(entry: &Entry) -> &Bytes {
    entry.rendered(Form::SocketText, |entry| {
        let data = &entry.update.data;
        let told = Told::without_data(entry);
        let told = match std::str::from_utf8(data) {
            Ok(text) => Told { data: Some(text), ..told },
            Err(_) => Told { data_base64: Some(STANDARD.encode(data)), ..told },
        };
        framed(TEXT, data.len() + AROUND_BYTES, |message| told.write(message))
    })
}

/// The same, a binary message where the data is no text: four bytes with the length of the head,
/// the head, the data.
pub(crate) fn binary(entry: &Entry) -> Bytes {
    if std::str::from_utf8(&entry.update.data).is_ok() {
        return text(entry).clone();
    }
    let rendered = entry.rendered(Form::SocketBinary, |entry| {
        let data = &entry.update.data;
        let mut told = Vec::with_capacity(AROUND_BYTES);
        Told::without_data(entry).write(&mut told);
        framed(BINARY, told.len() + data.len() + 4, |message| {
            let length = u32::try_from(told.len()).unwrap_or(u32::MAX);
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(&told);
            message.extend_from_slice(data);
        })
    });
    rendered.clone()
}

/// A frame with what `write` writes, about so many bytes. Nothing is copied twice.
pub(crate) fn framed(opcode: u8, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = Vec::with_capacity(OWN_HEAD_BYTES + bytes);
    frame.resize(OWN_HEAD_BYTES, 0);
    write(&mut frame);
    let (head, length) = head(opcode, frame.len() - OWN_HEAD_BYTES);
    let begin = OWN_HEAD_BYTES - length;
    for (place, byte) in frame.iter_mut().skip(begin).zip(head.iter().take(length)) {
        *place = *byte;
    }
    Bytes::from(frame).slice(begin..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::frame;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use tidings_core::{
        Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace, Topic, Update,
    };

    struct Stopped;

    impl Clock for Stopped {
        fn wall(&self) -> u64 {
            0
        }

        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    fn hub() -> Hub {
        let history = HistoryOptions {
            hold_bytes: 0,
            path: None,
            durability: Durability::Memory,
            keep: Keep::default(),
            segment_bytes: 1024 * 1024,
        };
        let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
        let options = HubOptions { namespace, update_bytes_max: 1 << 20, history };
        Hub::open(options, Arc::new(Stopped)).unwrap()
    }

    fn entry(data: &[u8]) -> Arc<Entry> {
        let mut update = Update::new(Topic::parse("https://e/1").unwrap(), data.to_vec());
        update.topics.push(Topic::parse("alternate").unwrap());
        update.event_type = Some(Line::parse("changed").unwrap());
        update.content_type = Some(Line::parse("application/cbor").unwrap());
        hub().made_up(update, 0, 1)
    }

    #[test]
    fn an_update_is_a_text_message_without_its_alternate_topics() {
        let entry = entry(b"{\"a\": 1}\n");
        let frame = text(&entry);
        assert_eq!(frame[0], 0x81);
        let length = u16::from_be_bytes([frame[2], frame[3]]);
        assert_eq!((frame[1], usize::from(length)), (126, frame.len() - 4));
        let told: Value = serde_json::from_slice(&frame[4..]).unwrap();
        let expected = json!({
            "op": "update", "id": &**entry.cursor(), "topic": "https://e/1", "type": "changed",
            "content_type": "application/cbor", "cursor": &**entry.cursor(),
            "data": "{\"a\": 1}\n",
        });
        assert_eq!(told, expected);
        assert!(frame[4..].starts_with(b"{\"op\":\"update\",\"id\":"));
        assert_eq!(&binary(&entry), frame, "text stays text");
    }

    #[test]
    fn what_is_no_text_is_base64_or_a_binary_message() {
        let entry = entry(b"\0\x01\xFF");
        let told: Value = serde_json::from_slice(&text(&entry)[4..]).unwrap();
        assert_eq!((&told["data_base64"], &told["data"]), (&json!("AAH/"), &Value::Null));
        let frame = binary(&entry);
        assert_eq!(frame[0], 0x82);
        let length = usize::try_from(u32::from_be_bytes(frame[4..8].try_into().unwrap())).unwrap();
        let head: Value = serde_json::from_slice(&frame[8..8 + length]).unwrap();
        assert_eq!(head["topic"], "https://e/1");
        assert_eq!(&frame[8 + length..], b"\0\x01\xFF");
    }

    #[test]
    fn heads_of_every_length_stand_right_before_the_message() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let text = vec![b'x'; length];
            let frame = framed(TEXT, length, |message| message.extend_from_slice(&text));
            assert_eq!(frame, frame::text(&text), "{length}");
        }
    }
}
