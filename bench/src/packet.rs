//! Packets with their length in front: MQTT 3.1.1 and WebSocket (RFC 6455), as far as a benchmark
//! meets them. Knows no streams of bytes; those hold packets back until they are complete.

use crate::decode::Found;
use crate::payload;

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packets {
    /// MQTT 3.1.1.
    Mqtt,
    /// Frames of a WebSocket server, which are not masked: what was published, as it was.
    WebSocket,
    /// The same from the hub: its messages are JSON, and one of them says that a subscription
    /// stands.
    Hub,
}

impl Packets {
    /// Whether the answer's head says that a subscription stands.
    pub(crate) fn begin_with_head(self) -> bool {
        self != Packets::Hub
    }
}

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;

/// Length and meaning of the first packet, when it is complete.
pub(crate) fn next(kind: Packets, bytes: &[u8]) -> Option<(usize, Option<Found>)> {
    match kind {
        Packets::Mqtt => {
            let (length, first, body) = mqtt(bytes)?;
            let found = match first >> 4 {
                PUBLISH => {
                    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
                    update(body.get(2 + topic..)?)
                }
                SUBACK => Some(Found::Open),
                _ => None,
            };
            Some((length, found))
        }
        Packets::WebSocket | Packets::Hub => {
            let (first, second) = (*bytes.first()?, *bytes.get(1)?);
            let (head, length) = match second & 127 {
                126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
                127 => {
                    let length = bytes.get(2..10)?.try_into().ok()?;
                    (10, usize::try_from(u64::from_be_bytes(length)).ok()?)
                }
                short => (2, usize::from(short)),
            };
            let end = length.checked_add(head)?;
            let body = bytes.get(head..end)?;
            let found = match first & 15 {
                1 | 2 if kind == Packets::Hub => message(body),
                1 | 2 => update(body),
                9 => Some(Found::Ping),
                _ => None,
            };
            Some((end, found))
        }
    }
}

/// What a message of the hub says. Data that a benchmark sends has nothing that JSON escapes, and
/// its member stands last.
fn message(body: &[u8]) -> Option<Found> {
    if body.starts_with(br#"{"op":"subscribed""#) {
        return Some(Found::Open);
    }
    let data = br#""data":""#;
    let at = memchr::memmem::find(body, data)?;
    let text = body.get(at + data.len()..)?;
    update(text.get(..memchr::memchr(b'"', text)?)?)
}

/// A text message of a client in one frame, with a mask of zeros.
pub(crate) fn masked_text(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short @ ..=125) => frame.push(0x80 | short),
        // No command of a benchmark is longer than this says.
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}

fn update(payload: &[u8]) -> Option<Found> {
    payload::number(payload).map(|number| Found::Update(number, payload.len()))
}

/// The length, first byte and body of an MQTT packet.
fn mqtt(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let (mut length, mut head) = (0, 1);
    loop {
        let byte = *bytes.get(head)?;
        length |= usize::from(byte & 127) << (7 * (head - 1));
        head += 1;
        // Four bytes of length at most; what has more is never complete.
        if byte & 128 == 0 {
            break;
        }
        if head > 4 {
            return None;
        }
    }
    Some((head + length, *bytes.first()?, bytes.get(head..head + length)?))
}

/// The length of everything up to the first acknowledgement of a publication.
pub(crate) fn puback(bytes: &[u8]) -> Option<usize> {
    let mut used = 0;
    loop {
        let (length, first, _) = mqtt(bytes.get(used..)?)?;
        used += length;
        if first >> 4 == PUBACK {
            return Some(used);
        }
    }
}

/// An MQTT packet whose body has these parts.
pub(crate) fn mqtt_packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![first];
    while left >= 128 {
        out.push(left.to_le_bytes()[0] | 128);
        left >>= 7;
    }
    out.push(left.to_le_bytes()[0]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A text with its length in front, as MQTT writes it.
pub(crate) fn mqtt_text(text: &str) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Dialect, Stream};

    #[test]
    fn packets_are_found_wherever_the_bytes_are_split() {
        let long = format!("bench 8 99 {}", "x".repeat(250));
        let mqtt = [
            mqtt_packet(0x20, &[&[0, 0]]),
            mqtt_packet(0x90, &[&[0, 1, 0]]),
            mqtt_packet(0x30, &[&mqtt_text("a"), b"bench 7 99 x"]),
            mqtt_packet(0x30, &[&mqtt_text("a"), long.as_bytes()]),
        ];
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let socket = [&head[..], b"\x82\x0cbench 7 99 x", b"\x82\x7e\x01\x05", long.as_bytes()];
        let wanted = [Found::Open, Found::Update(7, 12), Found::Update(8, long.len())];
        for (kind, bytes) in [(Packets::Mqtt, mqtt.concat()), (Packets::WebSocket, socket.concat())]
        {
            for at in 0..=bytes.len() {
                let mut stream = match kind {
                    Packets::Mqtt => Stream::bare(Dialect::Packets(kind)),
                    Packets::WebSocket | Packets::Hub => {
                        Stream::behind_head(Dialect::Packets(kind))
                    }
                };
                let mut found = Vec::new();
                for part in [&bytes[..at], &bytes[at..]] {
                    stream.feed(part, &mut |what| found.push(what)).unwrap();
                }
                assert_eq!(found, wanted, "{kind:?} split at {at}");
            }
        }
    }

    #[test]
    fn messages_of_the_hub_say_when_a_subscription_stands_and_what_they_bring() {
        let frame = |text: &str| [&[0x81, text.len() as u8], text.as_bytes()].concat();
        let bytes = [
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            frame(r#"{"op":"hello","session":"s"}"#),
            frame(r#"{"op":"subscribed","ref":1}"#),
            frame(r#"{"op":"update","id":"urn:x","topic":"t","data":"bench 7 99 x"}"#),
            b"\x89\0".to_vec(),
        ];
        let mut stream = Stream::behind_head(Dialect::Packets(Packets::Hub));
        let mut found = Vec::new();
        stream.feed(&bytes.concat(), &mut |what| found.push(what)).unwrap();
        assert_eq!(found, [Found::Open, Found::Update(7, 12), Found::Ping]);
    }

    #[test]
    fn an_acknowledgement_is_found_behind_others() {
        let bytes = [0x20, 2, 0, 0, 0x40, 2, 0, 1];
        assert_eq!(puback(&bytes), Some(8));
        assert_eq!(puback(&bytes[..7]), None);
    }
}
