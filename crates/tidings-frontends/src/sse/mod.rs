//! Server-Sent Events (WHATWG HTML, section 9.2) as bytes. Knows no receiver and no socket.

pub(crate) mod continuity;
pub(crate) mod event;

use std::fmt::Write;

use bytes::Bytes;
use tidings_core::{Hub, Offset};

/// A comment: opens a stream for proxies and `EventSource`, and keeps it open.
pub(crate) const COMMENT: &[u8] = b":\n";

/// How a receiver's bytes are told apart from what follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In chunks of HTTP/1.1 (RFC 9112 section 7.1).
    Chunked,
    /// Not at all: the connection ends with the stream, or carries frames of its own.
    Bare,
    /// No events: messages of a WebSocket, all of them text.
    Messages,
    /// The same with binary messages where data is no text.
    MessagesBinary,
    /// Messages that hold data and nothing else.
    Raw,
}

/// So many there are.
pub(crate) const FRAMINGS: usize = 5;

impl Framing {
    /// Whether these are messages of a WebSocket, which a client answers.
    pub(crate) fn is_messages(self) -> bool {
        matches!(self, Framing::Messages | Framing::MessagesBinary | Framing::Raw)
    }

    /// Text of an event stream in this framing.
    pub(crate) fn frame(self, text: &[u8]) -> Bytes {
        match self {
            Framing::Chunked => chunk(text),
            Framing::Bare | Framing::Messages | Framing::MessagesBinary | Framing::Raw => {
                Bytes::copy_from_slice(text)
            }
        }
    }

    /// What says that nothing follows an event stream.
    pub(crate) fn end(self) -> &'static [u8] {
        match self {
            Framing::Chunked => b"0\r\n\r\n",
            Framing::Bare | Framing::Messages | Framing::MessagesBinary | Framing::Raw => b"",
        }
    }
}

/// Room for the length of a chunk, before it.
const LENGTH_BYTES: usize = 18;

/// A chunk of HTTP/1.1 with this text, which is not empty: an empty one would be the last.
fn chunk(text: &[u8]) -> Bytes {
    chunk_of(text.len(), |chunk| chunk.extend_from_slice(text))
}

/// A chunk with what `write` writes, about so many bytes. Nothing is copied twice.
fn chunk_of(bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut chunk = Vec::with_capacity(LENGTH_BYTES + bytes + 2);
    chunk.resize(LENGTH_BYTES, 0);
    write(&mut chunk);
    let (mut length, mut begin) = (chunk.len() - LENGTH_BYTES, LENGTH_BYTES);
    let mut put = |byte: u8| {
        begin -= 1;
        if let Some(place) = chunk.get_mut(begin) {
            *place = byte;
        }
    };
    put(b'\n');
    put(b'\r');
    loop {
        put(*b"0123456789abcdef".get(length % 16).unwrap_or(&b'0'));
        length /= 16;
        if length == 0 {
            break;
        }
    }
    chunk.extend_from_slice(b"\r\n");
    Bytes::from(chunk).slice(begin..)
}

/// A stream's last words: where its client is, when it has come further than it was told, and how
/// long it is to wait. Empty when there is nothing to say.
pub(crate) fn farewell(
    hub: &Hub,
    place: Option<Offset>,
    pause_milliseconds: Option<u128>,
) -> String {
    let mut block = String::new();
    if let Some(place) = place {
        let _written = writeln!(block, "id: {}", hub.cursor(place));
    }
    if let Some(pause) = pause_milliseconds {
        let _written = writeln!(block, "retry: {pause}");
    }
    if !block.is_empty() {
        block.push('\n');
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_its_length() {
        for length in [1, 9, 15, 16, 255, 256, 4_095, 1 << 20] {
            let text = vec![b'x'; length];
            let text = String::from_utf8(text).unwrap();
            let expected = format!("{length:x}\r\n{text}\r\n");
            assert_eq!(Framing::Chunked.frame(text.as_bytes()), expected);
            assert_eq!(Framing::Bare.frame(text.as_bytes()), text);
        }
    }
}
