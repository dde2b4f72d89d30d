//! Frames of the WebSocket protocol (RFC 6455 section 5): their opcodes and masks, and the frames
//! that a server sends. Knows neither what a message means nor who gets it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::CONTROL_BYTES_MAX;

pub(crate) use super::decoder::{Decoder, Event};
pub(crate) use super::fault::Fault;

/// What a frame is (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// The opcode of these four bits, if the protocol has it.
    pub(super) fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    /// Whether it is about the socket itself, and may stand between the pieces of a message.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Takes a mask off (RFC 6455 section 5.3), and turns it so that it is right for what follows.
pub(super) fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let length = bytes.len();
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(length % 4);
}

/// The opcode of a text frame that is a whole message.
pub(crate) const TEXT: u8 = 0x81;
/// The same of a binary one.
pub(crate) const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// Bytes of a server's longest head.
pub(crate) const OWN_HEAD_BYTES: usize = 10;

/// The head of a server's frame, which is not masked, and how many of the bytes it has.
pub(crate) fn head(opcode: u8, length: usize) -> ([u8; OWN_HEAD_BYTES], usize) {
    let mut bytes = [0; OWN_HEAD_BYTES];
    let mut put = bytes.as_mut_slice();
    put.put_u8(opcode);
    // What fits is written as short as it can be (RFC 6455 section 5.2).
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => put.put_u8(short),
        (_, Ok(medium)) => {
            put.put_u8(126);
            put.put_u16(medium);
        }
        _ => {
            put.put_u8(127);
            put.put_u64(length as u64);
        }
    }
    let left = put.len();
    (bytes, OWN_HEAD_BYTES - left)
}

/// A message of the server in one frame.
pub(crate) fn message(opcode: u8, payload: &[u8]) -> Bytes {
    let (head, length) = head(opcode, payload.len());
    let mut frame = BytesMut::with_capacity(length + payload.len());
    frame.extend_from_slice(head.split_at(length).0);
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// A text message.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    message(TEXT, payload)
}

/// Asks whether the client is still there.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[PING, 0])
}

/// Answers a client's ping with what it carried.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    message(PONG, payload.split_at_checked(CONTROL_BYTES_MAX).map_or(payload, |it| it.0))
}

/// Says that nothing follows, and why; a reason that does not fit is cut off. `None` answers a
/// close without a code.
pub(crate) fn close(code: Option<u16>, reason: &str) -> Bytes {
    let Some(code) = code else { return message(CLOSE, &[]) };
    let reason = reason.get(..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)).unwrap_or("");
    let mut payload = BytesMut::with_capacity(2 + reason.len());
    payload.put_u16(code);
    payload.extend_from_slice(reason.as_bytes());
    message(CLOSE, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_server_are_as_in_the_specification() {
        assert_eq!(&text(b"Hello")[..], [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(&ping()[..], [0x89, 0]);
        assert_eq!(&pong(b"Hello")[..], [0x8a, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(&message(BINARY, &[7; 256])[..4], [0x82, 0x7E, 0x01, 0x00]);
        let long = message(BINARY, &vec![7; 65_536]);
        assert_eq!(&long[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(long.len(), 65_546);
        for (length, head_bytes) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(head(TEXT, length).1, head_bytes, "{length}");
        }
    }

    #[test]
    fn a_close_frame_is_never_too_long() {
        assert_eq!(&close(None, "not said")[..], [0x88, 0]);
        assert_eq!(&close(Some(1000), "")[..], [0x88, 2, 0x03, 0xE8]);
        assert_eq!(&close(Some(1008), "expired")[4..], b"expired");
        let long = close(Some(1008), &"é".repeat(100));
        assert_eq!(long.len(), 2 + 2 + 122, "cut off between characters");
        assert_eq!(pong(&[0; 200]).len(), 127);
    }

    #[test]
    fn a_mask_goes_on_where_it_was() {
        let mut mask = [1, 2, 3, 4];
        let mut bytes = [0; 3];
        unmask(&mut bytes, &mut mask);
        assert_eq!((bytes, mask), ([1, 2, 3], [4, 1, 2, 3]));
        let mut bytes = [0; 21];
        unmask(&mut bytes, &mut mask);
        assert_eq!(bytes[..9], [4, 1, 2, 3, 4, 1, 2, 3, 4]);
        assert_eq!(mask, [1, 2, 3, 4]);
    }
}
