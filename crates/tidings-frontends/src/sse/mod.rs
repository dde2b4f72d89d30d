//! Server-Sent Events (WHATWG HTML, section 9.2) as bytes. Knows no receiver and no socket.

pub(crate) mod continuity;
pub(crate) mod event;

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};
use tidings_core::{Hub, Offset};

/// A comment: opens a stream for proxies and `EventSource`, and keeps it open.
pub(crate) const COMMENT: &[u8] = b":\n";

/// How a stream's bytes are told apart from what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In chunks of HTTP/1.1 (RFC 9112 section 7.1).
    Chunked,
    /// Not at all: the connection ends with the stream, or carries frames of its own.
    Bare,
}

impl Framing {
    /// Text in this framing.
    pub(crate) fn frame(self, text: &[u8]) -> Bytes {
        match self {
            Framing::Chunked => chunk(text),
            Framing::Bare => Bytes::copy_from_slice(text),
        }
    }

    /// What says that nothing follows.
    pub(crate) fn end(self) -> &'static [u8] {
        match self {
            Framing::Chunked => b"0\r\n\r\n",
            Framing::Bare => b"",
        }
    }
}

/// A chunk of HTTP/1.1 with this text, which is not empty: an empty one would be the last.
fn chunk(text: &[u8]) -> Bytes {
    let mut chunk = BytesMut::with_capacity(text.len() + 16);
    // Writing to memory does not fail.
    let _written = write!(chunk, "{:x}\r\n", text.len());
    chunk.put_slice(text);
    chunk.put_slice(b"\r\n");
    chunk.freeze()
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
