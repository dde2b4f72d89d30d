//! From the bytes of a stream to its updates, split wherever the network splits them. Knows no
//! socket. It must not cost much: the generator shares a machine with the hub, and takes apart a
//! million frames a second.

use crate::http::Head;
use crate::limits::{HEAD_BYTES_MAX, LINE_BYTES_MAX};
use crate::packet::{self, Packets};
use crate::payload;

/// The stream is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The answer was no success, or no answer.
    Refused,
    /// A chunk without a length.
    Chunk,
    /// A line or head without an end.
    Endless,
    /// The other side ended it.
    Ended,
}

/// What is in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The subscription stands.
    Open,
    /// An update: its number and the length of its payload.
    Update(u64, usize),
    /// The server asks whether we are there (NATS).
    Ping,
}

/// How updates stand in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Server-Sent Events: dispatched by the empty line.
    Events,
    /// A payload is a line of its own, as with redis and NATS.
    Bare,
    /// No lines at all: packets with their length in front.
    Packets(Packets),
}

/// A subscriber's stream. Two that are equal find the same in the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    framing: Framing,
    dialect: Dialect,
    /// The beginning of a line whose end has not arrived.
    rest: Vec<u8>,
    /// The update that the next empty line dispatches.
    update: Option<(u64, usize)>,
}

/// What the lines are packed in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Framing {
    /// The head of an HTTP/1.1 answer has not arrived yet.
    Head(Vec<u8>),
    Chunked(Chunked),
    Nothing,
}

impl Stream {
    /// The body of an HTTP/1.1 answer whose head is to come.
    pub(crate) fn behind_head(dialect: Dialect) -> Stream {
        Stream { framing: Framing::Head(Vec::new()), ..Stream::bare(dialect) }
    }

    /// Updates from the first byte on.
    pub(crate) fn bare(dialect: Dialect) -> Stream {
        Stream { framing: Framing::Nothing, dialect, rest: Vec::new(), update: None }
    }

    /// Takes what arrived and tells what is in it.
    pub(crate) fn feed(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Found)) -> Result<(), Broken> {
        let mut parts =
            Parts { dialect: self.dialect, rest: &mut self.rest, update: &mut self.update, tell };
        match &mut self.framing {
            Framing::Nothing => parts.feed(bytes),
            Framing::Chunked(chunked) => chunked.feed(bytes, &mut |part| parts.feed(part)),
            Framing::Head(seen) => {
                seen.extend_from_slice(bytes);
                if seen.len() > HEAD_BYTES_MAX {
                    return Err(Broken::Endless);
                }
                let Some(head) = Head::parse(seen) else { return Ok(()) };
                let upgraded = head.is_upgrade() && matches!(self.dialect, Dialect::Packets(_));
                if !head.is_success() && !upgraded {
                    return Err(Broken::Refused);
                }
                if !matches!(self.dialect, Dialect::Packets(kind) if !kind.begin_with_head()) {
                    (parts.tell)(Found::Open);
                }
                let chunked = head.has(b"transfer-encoding");
                let body = seen.get(head.length..).unwrap_or(&[]).to_vec();
                self.framing = match chunked {
                    true => Framing::Chunked(Chunked::default()),
                    false => Framing::Nothing,
                };
                self.feed(&body, tell)
            }
        }
    }
}

struct Parts<'a> {
    dialect: Dialect,
    rest: &'a mut Vec<u8>,
    update: &'a mut Option<(u64, usize)>,
    tell: &'a mut dyn FnMut(Found),
}

impl Parts<'_> {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        match self.dialect {
            Dialect::Packets(kind) => self.packets(kind, bytes),
            Dialect::Events | Dialect::Bare => self.lines(bytes),
        }
        if self.rest.len() > LINE_BYTES_MAX { Err(Broken::Endless) } else { Ok(()) }
    }

    fn packets(&mut self, kind: Packets, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((length, found)) = packet::next(kind, self.rest.get(used..).unwrap_or(&[])) {
            used += length;
            if let Some(found) = found {
                (self.tell)(found);
            }
        }
        self.rest.drain(..used);
    }

    fn lines(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, behind) = bytes.split_at(end);
            if self.rest.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(self.rest);
                whole.extend_from_slice(line);
                self.line(&whole);
            }
            bytes = behind.get(1..).unwrap_or(&[]);
        }
        self.rest.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let update = |text: &[u8]| payload::number(text).map(|number| (number, text.len()));
        match self.dialect {
            Dialect::Events if line.is_empty() => {
                if let Some((number, length)) = self.update.take() {
                    (self.tell)(Found::Update(number, length));
                }
            }
            Dialect::Events => {
                if let Some(text) = line.strip_prefix(b"data:") {
                    *self.update = update(text.strip_prefix(b" ").unwrap_or(text));
                }
            }
            Dialect::Bare => match line {
                // What redis and NATS answer to a subscription, the latter to our own PING.
                b"subscribe" | b"PONG" => (self.tell)(Found::Open),
                b"PING" => (self.tell)(Found::Ping),
                _ => {
                    if let Some((number, length)) = update(line) {
                        (self.tell)(Found::Update(number, length));
                    }
                }
            },
            Dialect::Packets(_) => {}
        }
    }
}

/// The chunked coding of HTTP/1.1 (RFC 9112, section 7.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Chunked {
    /// In the line with the length; what its digits make so far.
    Length(u32),
    /// Behind the digits, up to the end of that line.
    LengthEnd(u32),
    /// So many bytes are to come.
    Bytes(u32),
    /// At the line end behind the bytes.
    #[default]
    BytesEnd,
}

impl Chunked {
    fn feed(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        while let [first, behind @ ..] = bytes {
            if let Chunked::Bytes(left) = self {
                let length = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let (part, behind) = bytes.split_at(length);
                take(part)?;
                bytes = behind;
                // No more than was left: `length` fits.
                *left -= u32::try_from(length).unwrap_or(*left);
                if *left == 0 {
                    *self = Chunked::BytesEnd;
                }
                continue;
            }
            *self = self.step(*first)?;
            bytes = behind;
        }
        Ok(())
    }

    /// One byte outside of a chunk's own.
    fn step(&self, byte: u8) -> Result<Chunked, Broken> {
        let digit = char::from(byte).to_digit(16);
        match (self, digit) {
            // Where the first chunk begins, there is no line end before it.
            (Chunked::BytesEnd, None) if matches!(byte, b'\r' | b'\n') => Ok(Chunked::BytesEnd),
            (Chunked::BytesEnd, Some(digit)) => Ok(Chunked::Length(digit)),
            (Chunked::Length(before), Some(digit)) => {
                let length = before.checked_mul(16).ok_or(Broken::Chunk)?;
                Ok(Chunked::Length(length + digit))
            }
            (Chunked::Length(length), None) if matches!(byte, b'\r' | b';' | b' ') => {
                Ok(Chunked::LengthEnd(*length))
            }
            (Chunked::LengthEnd(0), _) if byte == b'\n' => Err(Broken::Ended),
            (Chunked::LengthEnd(length), _) if byte == b'\n' => Ok(Chunked::Bytes(*length)),
            (Chunked::LengthEnd(length), _) => Ok(Chunked::LengthEnd(*length)),
            _ => Err(Broken::Chunk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn found(stream: &mut Stream, parts: &[&[u8]]) -> Result<Vec<Found>, Broken> {
        let mut found = Vec::new();
        for part in parts {
            stream.feed(part, &mut |what| found.push(what))?;
        }
        Ok(found)
    }

    #[test]
    fn events_are_found_wherever_the_bytes_are_split() {
        let text = format!(
            "{HEAD}{}{}{}{}",
            chunk(":\n"),
            chunk("id: urn:uuid:1\ndata: bench 7 99 xx\n\n"),
            // Two in a chunk, and one whose event is in two chunks.
            chunk("id: a\ndata: bench 8 99 xx\n\nid: b\ndata: bench 9 99 xx\n\nid: c\nda"),
            chunk("ta: bench 10 99 xx\n\n"),
        );
        let update = |number| Found::Update(number, "bench 7 99 xx".len() + (number / 10) as usize);
        let wanted = [Found::Open, update(7), update(8), update(9), update(10)];
        let bytes = text.as_bytes();
        for at in 0..=bytes.len() {
            let parts = [&bytes[..at], &bytes[at..]];
            assert_eq!(
                found(&mut Stream::behind_head(Dialect::Events), &parts).unwrap(),
                wanted,
                "split at {at}"
            );
        }
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(found(&mut Stream::behind_head(Dialect::Events), &each).unwrap(), wanted);
    }

    #[test]
    fn an_event_without_its_empty_line_is_not_told() {
        let text = format!("{HEAD}{}", chunk("data: bench 7 99 xx\n"));
        assert_eq!(
            found(&mut Stream::behind_head(Dialect::Events), &[text.as_bytes()]).unwrap(),
            [Found::Open]
        );
    }

    #[test]
    fn refusals_ends_and_nonsense_are_told() {
        let refused =
            found(&mut Stream::behind_head(Dialect::Events), &[b"HTTP/1.1 429 Too Many\r\n\r\n"]);
        assert_eq!(refused, Err(Broken::Refused));
        let ended =
            found(&mut Stream::behind_head(Dialect::Events), &[HEAD.as_bytes(), b"0\r\n\r\n"]);
        assert_eq!(ended, Err(Broken::Ended));
        let nonsense =
            found(&mut Stream::behind_head(Dialect::Events), &[HEAD.as_bytes(), b"data: x\n\n"]);
        assert_eq!(nonsense, Err(Broken::Chunk));
    }

    #[test]
    fn payloads_of_redis_and_nats_are_lines() {
        let redis = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
            *3\r\n$7\r\nmessage\r\n$1\r\na\r\n$13\r\nbench 7 99 xx\r\n";
        let mut stream = Stream::bare(Dialect::Bare);
        assert_eq!(found(&mut stream, &[redis]).unwrap(), [Found::Open, Found::Update(7, 13)]);
        let nats = b"+OK\r\nPONG\r\nMSG a 1 13\r\nbench 7 99 xx\r\nPING\r\n";
        let wanted = [Found::Open, Found::Update(7, 13), Found::Ping];
        assert_eq!(found(&mut stream, &[nats]).unwrap(), wanted);
    }
}
