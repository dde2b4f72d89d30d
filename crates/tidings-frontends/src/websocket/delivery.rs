//! An entry as a message. Does not know who receives it: the bytes are the same for everybody.

use bytes::Bytes;
use serde_json::json;
use tidings_core::{Entry, Form};

/// The entry as a text message, rendered once for all receivers.
pub(crate) fn text(entry: &Entry) -> &Bytes {
    entry.rendered(Form::SocketText, |entry| {
        let data = String::from_utf8_lossy(&entry.update.data);
        let topic = entry.update.topics.first().map(|topic| topic.as_str());
        let update = json!({ "op": "update", "id": entry.id(), "topic": topic, "data": data });
        framed(update.to_string().as_bytes())
    })
}

/// The same, a binary message where the data is no text.
pub(crate) fn binary(entry: &Entry) -> Bytes {
    text(entry).clone()
}

/// A text message in one frame.
pub(crate) fn framed(text: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(text.len() + 10);
    frame.push(0x81);
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(length @ ..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text);
    frame.into()
}
