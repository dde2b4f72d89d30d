//! Enough of HTTP/2 (RFC 9113) for a client whose every stream is one `GET` that never ends: a few
//! bytes per stream, so that a million fit. Knows no sockets. It reads no header beside the status,
//! as encoders write it by its static index, and never runs out of windows: they are opened as wide
//! as the protocol allows.

use crate::decode::Broken;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
/// The largest window (RFC 9113, section 6.9.1), and what every connection has at first.
const WINDOW_BYTES: u32 = 0x7fff_ffff;
const WINDOW_AT_FIRST_BYTES: u32 = 0xffff;
/// The connection's window is opened again when so much of it is used.
const WINDOW_STEP_BYTES: u32 = 1 << 24;
/// Frames are no longer than this unless a client allows it.
const FRAME_BYTES: u32 = 16 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// `:status: 200` in HPACK's static table (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

/// What is in a connection. Streams are counted from 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A stream was answered with 200.
    Open(usize),
    /// The next bytes of its body.
    Body(usize, &'a [u8]),
    /// It ended, or was refused.
    Closed(usize),
}

/// A connection's frames, split wherever the network splits them.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: Vec<u8>,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Bytes of the frame that are to come.
    left: u32,
    /// What of a frame came that is taken whole.
    whole: Vec<u8>,
    /// Received since the connection's window was opened.
    received: u32,
}

/// What a client says first: the preface, its settings, and a wide window.
pub(crate) fn preface(out: &mut Vec<u8>) {
    out.extend_from_slice(PREFACE);
    frame(out, SETTINGS, 0, 0, 12);
    // ENABLE_PUSH: 0; INITIAL_WINDOW_SIZE.
    out.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 4]);
    out.extend_from_slice(&WINDOW_BYTES.to_be_bytes());
    window_update(out, WINDOW_BYTES - WINDOW_AT_FIRST_BYTES);
}

/// The request of a stream, encrypted or not.
pub(crate) fn request(
    out: &mut Vec<u8>,
    stream: usize,
    encrypted: bool,
    target: &str,
    token: Option<&str>,
) {
    // Indexes of the static table: GET, http or https; then names with literal values.
    let mut block = vec![0x82, if encrypted { 0x87 } else { 0x86 }];
    literal(&mut block, &[0x04], target);
    literal(&mut block, &[0x01], "127.0.0.1");
    literal(&mut block, &[0x0f, 19 - 15], "text/event-stream");
    if let Some(token) = token {
        literal(&mut block, &[0x0f, 23 - 15], &format!("Bearer {token}"));
    }
    let id = u32::try_from(stream * 2 + 1).unwrap_or(u32::MAX);
    frame(out, HEADERS, END_STREAM | END_HEADERS, id, block.len());
    out.extend_from_slice(&block);
}

/// A header without indexing and without Huffman's code (RFC 7541, section 6.2.2).
fn literal(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    // A length in seven bits, or 127 and the rest in groups of seven.
    let mut length = value.len();
    if length < 127 {
        out.push(length.to_le_bytes()[0]);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(length.to_le_bytes()[0] | 128);
            length >>= 7;
        }
        out.push(length.to_le_bytes()[0]);
    }
    out.extend_from_slice(value.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    let [_, length @ ..] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, by: u32) {
    frame(out, WINDOW_UPDATE, 0, 0, 4);
    out.extend_from_slice(&by.to_be_bytes());
}

impl Frames {
    /// Takes what arrived, tells what is in it, and appends what has to be answered.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        tell: &mut dyn FnMut(Part<'_>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if self.header.len() < HEADER_BYTES {
                let (part, behind) =
                    bytes.split_at(bytes.len().min(HEADER_BYTES - self.header.len()));
                self.header.extend_from_slice(part);
                bytes = behind;
                if self.header.len() < HEADER_BYTES {
                    return Ok(());
                }
                self.begin()?;
            }
            let length = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (part, behind) = bytes.split_at(length);
            bytes = behind;
            self.left -= u32::try_from(length).unwrap_or(self.left);
            if self.kind == DATA {
                if !part.is_empty() {
                    tell(Part::Body(self.number(), part))?;
                }
            } else {
                self.whole.extend_from_slice(part);
            }
            if self.left == 0 {
                self.end(out, tell)?;
                self.header.clear();
                self.whole.clear();
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Broken> {
        let [a, b, c, kind, flags, w, x, y, z] = *self.header.as_slice() else {
            return Err(Broken::Chunk);
        };
        self.left = u32::from_be_bytes([0, a, b, c]);
        (self.kind, self.flags) = (kind, flags);
        self.stream = u32::from_be_bytes([w, x, y, z]) & WINDOW_BYTES;
        let padded = matches!(kind, DATA | HEADERS) && flags & PADDED != 0;
        if self.left > FRAME_BYTES || padded { Err(Broken::Chunk) } else { Ok(()) }
    }

    /// The stream's number; its id is odd.
    fn number(&self) -> usize {
        usize::try_from(self.stream / 2).unwrap_or(usize::MAX)
    }

    fn end(
        &mut self,
        out: &mut Vec<u8>,
        tell: &mut dyn FnMut(Part<'_>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let header = self.header.get(..3).unwrap_or(&[0, 0, 0]);
        let ends = self.flags & END_STREAM != 0;
        match self.kind {
            DATA => {
                let length = header.iter().fold(0, |length, byte| length << 8 | u32::from(*byte));
                self.received += length;
                if self.received >= WINDOW_STEP_BYTES {
                    window_update(out, std::mem::take(&mut self.received));
                }
                if ends { tell(Part::Closed(self.number())) } else { Ok(()) }
            }
            HEADERS if !ends && self.whole.first() == Some(&STATUS_200) => {
                tell(Part::Open(self.number()))
            }
            HEADERS | RST_STREAM => tell(Part::Closed(self.number())),
            SETTINGS if self.flags & ACK == 0 => {
                frame(out, SETTINGS, ACK, 0, 0);
                Ok(())
            }
            PING if self.flags & ACK == 0 => {
                frame(out, PING, ACK, 0, self.whole.len());
                out.extend_from_slice(&self.whole);
                Ok(())
            }
            GOAWAY => Err(Broken::Ended),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_wherever_the_bytes_are_split() {
        let mut bytes = Vec::new();
        let mut put = |kind, flags, stream, body: &[u8]| {
            frame(&mut bytes, kind, flags, stream, body.len());
            bytes.extend_from_slice(body);
        };
        put(SETTINGS, 0, 0, b"");
        put(HEADERS, END_HEADERS, 3, &[STATUS_200, 0x61]);
        put(DATA, 0, 3, b"data");
        put(PING, 0, 0, b"12345678");
        put(HEADERS, END_HEADERS, 5, &[0x8d]);
        for at in 0..=bytes.len() {
            let (mut frames, mut out, mut told) = (Frames::default(), Vec::new(), Vec::new());
            for part in [&bytes[..at], &bytes[at..]] {
                let mut tell = |part: Part<'_>| {
                    told.push(match part {
                        Part::Open(stream) => format!("open {stream};"),
                        Part::Body(1, body) => String::from_utf8(body.to_vec()).unwrap(),
                        other => format!(";{other:?}"),
                    });
                    Ok(())
                };
                frames.feed(part, &mut out, &mut tell).unwrap();
            }
            assert_eq!(told.concat(), "open 1;data;Closed(2)", "split at {at}");
            assert_eq!(out.len(), 9 + 9 + 8, "settings and ping are acknowledged");
        }
    }

    #[test]
    fn long_values_have_a_long_length() {
        let mut out = Vec::new();
        literal(&mut out, &[4], &"x".repeat(127 + 200));
        assert_eq!(out.get(..4), Some(&[4, 127, 200, 1][..]));
        assert_eq!(out.len(), 4 + 327);
    }
}
