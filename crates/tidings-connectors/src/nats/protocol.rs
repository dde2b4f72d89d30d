//! The NATS client protocol: bytes to frames and back. Knows no socket, no login and no meaning of
//! a frame. Written after <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::fmt::Write as _;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{NATS_INFO_BYTES_MAX, NATS_LINE_BYTES_MAX, NATS_MESSAGE_BYTES_MAX};

/// Asks the server whether it is there and has read what came before.
pub(super) const PING: &[u8] = b"PING\r\n";
/// Answers the server's own question.
pub(super) const PONG: &[u8] = b"PONG\r\n";

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// What it is, as JSON; the first frame, and again when its cluster changes.
    Info(Bytes),
    /// A message of a subscription.
    Message(Message),
    /// It asks whether we are there.
    Ping,
    /// It has read everything before our question.
    Pong,
    /// It accepted something; not sent to us, as we do not ask for it.
    Okay,
    /// It refused something, in words.
    Error(String),
}

/// A message of a subscription. Each part is a copy of its own, though equal subjects share one:
/// who keeps one keeps nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Where it was published. Bytes: a server does not ask whether they are text.
    pub(super) subject: Bytes,
    /// The number of the subscription.
    pub(super) subscription: u64,
    /// Where an answer is awaited.
    pub(super) reply: Option<Bytes>,
    /// The block of headers as it came.
    pub(super) headers: Option<Bytes>,
    /// What was published.
    pub(super) payload: Bytes,
}

/// The server says what the protocol does not know. The connection is of no use after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFrame {
    /// A line without an end.
    #[error("the server sent a line of more than {max} bytes; is this a NATS server?")]
    LongLine {
        /// The limit in bytes.
        max: usize,
    },
    /// A word that begins no frame, or numbers that make no sense.
    #[error("the server sent a line that is not of the NATS protocol; is this a NATS server?")]
    NotUnderstood,
    /// A message beyond the size that is taken of any server.
    #[error("the server sent a message of more than {max} bytes")]
    LongMessage {
        /// The limit in bytes.
        max: usize,
    },
}

/// The line before a message.
#[derive(Debug)]
struct Head {
    subject: Bytes,
    subscription: u64,
    reply: Option<Bytes>,
    headers: Option<usize>,
    /// Headers and payload in bytes.
    total: usize,
}

/// Makes frames out of bytes as they arrive, cut anywhere.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// So many bytes of the buffer hold no end of a line.
    searched: usize,
    /// A message whose bytes are not all there.
    head: Option<Head>,
    message_max: usize,
    /// Of the last message: many in a row have the same.
    subject: Bytes,
}

impl Default for Decoder {
    fn default() -> Decoder {
        let (buffer, message_max) = (BytesMut::new(), NATS_MESSAGE_BYTES_MAX);
        Decoder { buffer, searched: 0, head: None, message_max, subject: Bytes::new() }
    }
}

impl Decoder {
    /// Where bytes that arrive are put.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether bytes wait that are no whole frame yet, or were not looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.head.is_none()
    }

    /// Bounds messages, headers included, in bytes; without it to what any server can allow.
    pub(super) fn bound(&mut self, message_max: usize) {
        self.message_max = message_max;
    }

    /// The next frame; `None` until more bytes arrive.
    ///
    /// # Errors
    ///
    /// See [`BadFrame`]. Nothing behind it can be read.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, BadFrame> {
        if let Some(head) = self.head.take() {
            return self.message(head);
        }
        let Some(line) = self.line()? else { return Ok(None) };
        let (word, rest) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
            Some(end) => line.split_at_checked(end).ok_or(BadFrame::NotUnderstood)?,
            None => (line.as_ref(), &[][..]),
        };
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("MSG") {
            let head = self.head(rest, false)?;
            self.message(head)
        } else if is("HMSG") {
            let head = self.head(rest, true)?;
            self.message(head)
        } else if is("PING") {
            Ok(Some(Frame::Ping))
        } else if is("PONG") {
            Ok(Some(Frame::Pong))
        } else if is("INFO") {
            Ok(Some(Frame::Info(Bytes::copy_from_slice(rest.trim_ascii()))))
        } else if is("-ERR") {
            let text = String::from_utf8_lossy(rest.trim_ascii()).into_owned();
            Ok(Some(Frame::Error(text.trim_matches('\'').to_owned())))
        } else if is("+OK") {
            Ok(Some(Frame::Okay))
        } else {
            Err(BadFrame::NotUnderstood)
        }
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<BytesMut>, BadFrame> {
        let is_greeting =
            self.buffer.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"INFO"));
        let max = if is_greeting { NATS_INFO_BYTES_MAX } else { NATS_LINE_BYTES_MAX };
        let fresh = self.buffer.get(self.searched..).unwrap_or_default();
        let found = memchr::memchr(b'\n', fresh).map(|at| self.searched + at);
        if found.unwrap_or(self.buffer.len()) > max {
            return Err(BadFrame::LongLine { max });
        }
        let Some(end) = found else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        self.searched = 0;
        let mut line = self.buffer.split_to(end);
        self.buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.truncate(end.saturating_sub(1));
        }
        Ok(Some(line))
    }

    /// `subject subscription [reply] [header bytes] total bytes`.
    fn head(&mut self, rest: &[u8], has_headers: bool) -> Result<Head, BadFrame> {
        let mut words = [&[][..]; 5];
        let mut count = 0;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        for word in rest.split(blank).filter(|word| !word.is_empty()) {
            *words.get_mut(count).ok_or(BadFrame::NotUnderstood)? = word;
            count += 1;
        }
        let [subject, subscription, rest @ ..] = words;
        let sizes = if has_headers { 2 } else { 1 };
        let (reply, [first, second]) = match (count.checked_sub(2 + sizes), rest) {
            (Some(0), [first, second, _]) => (None, [first, second]),
            (Some(1), [reply, first, second]) => (Some(reply), [first, second]),
            _ => return Err(BadFrame::NotUnderstood),
        };
        let (headers, total) = match has_headers {
            true => (Some(self.size(first)?), self.size(second)?),
            false => (None, self.size(first)?),
        };
        if headers.is_some_and(|headers| headers > total) {
            return Err(BadFrame::NotUnderstood);
        }
        if self.subject != subject {
            self.subject = Bytes::copy_from_slice(subject);
        }
        Ok(Head {
            subject: self.subject.clone(),
            subscription: number(subscription)?,
            reply: reply.map(Bytes::copy_from_slice),
            headers,
            total,
        })
    }

    fn size(&self, digits: &[u8]) -> Result<usize, BadFrame> {
        let max = self.message_max;
        let size = usize::try_from(number(digits)?).map_err(|_| BadFrame::LongMessage { max })?;
        if size > max { Err(BadFrame::LongMessage { max }) } else { Ok(size) }
    }

    /// The message behind its line, once it is whole.
    fn message(&mut self, head: Head) -> Result<Option<Frame>, BadFrame> {
        let Some((bytes, rest)) = self.buffer.split_at_checked(head.total) else {
            let missing = (head.total + 2).saturating_sub(self.buffer.len());
            self.buffer.reserve(missing);
            self.head = Some(head);
            return Ok(None);
        };
        match rest {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => {
                self.head = Some(head);
                return Ok(None);
            }
            _ => return Err(BadFrame::NotUnderstood),
        }
        let (headers, payload) =
            bytes.split_at_checked(head.headers.unwrap_or(0)).ok_or(BadFrame::NotUnderstood)?;
        let message = Message {
            subject: head.subject,
            subscription: head.subscription,
            reply: head.reply,
            headers: head.headers.map(|_| Bytes::copy_from_slice(headers)),
            payload: Bytes::copy_from_slice(payload),
        };
        self.buffer.advance(head.total + 2);
        Ok(Some(Frame::Message(message)))
    }
}

/// Decimal digits, as many as a u64 holds.
fn number(digits: &[u8]) -> Result<u64, BadFrame> {
    if digits.is_empty() {
        return Err(BadFrame::NotUnderstood);
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
        let next = value.and_then(|value| sum.checked_mul(10)?.checked_add(value));
        next.ok_or(BadFrame::NotUnderstood)
    })
}

/// Appends the login: `options` is a JSON object in one line.
pub(super) fn connect(output: &mut BytesMut, options: &str) {
    for part in ["CONNECT ", options, "\r\n"] {
        output.extend_from_slice(part.as_bytes());
    }
}

/// Appends a message. `headers` is a whole block; both subjects were checked.
pub(super) fn publish(
    output: &mut BytesMut,
    subject: &str,
    reply: Option<&str>,
    headers: Option<&[u8]>,
    payload: &[u8],
) {
    let word = if headers.is_some() { "HPUB " } else { "PUB " };
    let block = headers.unwrap_or_default();
    let (mut first, mut second) = ([0; 20], [0; 20]);
    let total = decimal(block.len() + payload.len(), &mut first);
    output.reserve(payload.len() + block.len() + subject.len() + 64);
    let mut add = |part: &[u8]| output.extend_from_slice(part);
    add(word.as_bytes());
    add(subject.as_bytes());
    let headers = headers.map(|block| decimal(block.len(), &mut second));
    for word in [reply, headers, Some(total)].into_iter().flatten() {
        add(b" ");
        add(word.as_bytes());
    }
    add(b"\r\n");
    add(block);
    add(payload);
    add(b"\r\n");
}

/// A number's digits, without the machinery of formatting: each message has several.
pub(super) fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &str {
    let mut begin = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        begin -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(begin..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
}

/// Appends a subscription with its number.
pub(super) fn subscribe(output: &mut BytesMut, subject: &str, queue: Option<&str>, number: u64) {
    let _written = match queue {
        Some(queue) => write!(output, "SUB {subject} {queue} {number}\r\n"),
        None => write!(output, "SUB {subject} {number}\r\n"),
    };
}

/// Appends the end of a subscription.
pub(super) fn unsubscribe(output: &mut BytesMut, number: u64) {
    let _written = write!(output, "UNSUB {number}\r\n");
}

/// For fuzzing: whatever the bytes, in one piece or in two, the frames are the same and nothing
/// panics.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) {
    let whole = frames([bytes]);
    let middle = bytes.first().map_or(0, |byte| usize::from(*byte)).min(bytes.len());
    let (first, second) = bytes.split_at(middle);
    assert_eq!(whole, frames([first, second]), "frames depend on how they were cut");
    for frame in whole.0 {
        if let Frame::Message(Message { headers: Some(block), .. }) = frame {
            let _headers = super::headers::Headers::parse(&block);
        }
    }
}

/// What the pieces say, and how it ended.
fn frames<const N: usize>(pieces: [&[u8]; N]) -> (Vec<Frame>, Option<BadFrame>) {
    let mut decoder = Decoder::default();
    decoder.bound(NATS_LINE_BYTES_MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(bad) => return (frames, Some(bad)),
            }
        }
    }
    (frames, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = b"INFO {\"a\":1} \r\nPING\r\npong\r\n+OK\r\n\
        -ERR 'Unknown Protocol Operation'\r\nMSG a.b 1 5\r\nhello\r\nMSG a 2 _R 0\r\n\r\n\
        hmsg\ta  3 12 14\r\nNATS/1.0\r\n\r\n\xff\n\r\nHMSG a 3 r.e 12 12\r\nNATS/1.0\r\n\r\n\r\n";

    fn message(subject: &'static str, subscription: u64, payload: &'static [u8]) -> Message {
        Message {
            subject: subject.into(),
            subscription,
            reply: None,
            headers: None,
            payload: payload.into(),
        }
    }

    fn expected() -> Vec<Frame> {
        let block = Some(Bytes::from_static(b"NATS/1.0\r\n\r\n"));
        let reply = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        vec![
            Frame::Info("{\"a\":1}".into()),
            Frame::Ping,
            Frame::Pong,
            Frame::Okay,
            Frame::Error("Unknown Protocol Operation".to_owned()),
            Frame::Message(message("a.b", 1, b"hello")),
            Frame::Message(Message { reply: reply("_R"), ..message("a", 2, b"") }),
            Frame::Message(Message { headers: block.clone(), ..message("a", 3, b"\xff\n") }),
            Frame::Message(Message { headers: block, reply: reply("r.e"), ..message("a", 3, b"") }),
        ]
    }

    #[test]
    fn frames_are_the_same_wherever_the_bytes_are_cut() {
        for at in 0..=STREAM.len() {
            let (first, second) = STREAM.split_at(at);
            assert_eq!(frames([first, second]), (expected(), None), "cut at {at}");
        }
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for byte in STREAM {
            decoder.buffer().extend_from_slice(&[*byte]);
            found.extend(decoder.next().unwrap());
        }
        assert_eq!(found, expected());
        assert!(decoder.is_empty());
    }

    #[test]
    fn hostile_frames_are_refused() {
        let long = NATS_LINE_BYTES_MAX;
        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "MSG\r\n",
            "MSG a 1\r\n",
            "MSG a 1 r 5 6\r\n",
            "MSG a 1 -1\r\n",
            "MSG a x 1\r\n",
            "MSG a 1 1x\r\n",
            "MSG a 1 18446744073709551616\r\n",
            "MSG a 1 2\r\nabc\r\n",
            "MSG a 1 r 1 1 1 1 1\r\n",
            "HMSG a 1 5\r\n",
            "HMSG a 1 6 5\r\n",
        ] {
            let (found, end) = frames([bad.as_bytes()]);
            assert_eq!((found.len(), end), (0, Some(BadFrame::NotUnderstood)), "{bad:?}");
        }
        let large = format!("MSG a 1 {}\r\n", long + 1);
        assert_eq!(frames([large.as_bytes()]).1, Some(BadFrame::LongMessage { max: long }));
        let endless = vec![b'x'; long + 1];
        assert_eq!(frames([&endless]).1, Some(BadFrame::LongLine { max: long }));
        let mut greeting = b"INFO ".to_vec();
        greeting.resize(NATS_INFO_BYTES_MAX, b' ');
        assert_eq!(frames([&greeting]), (vec![], None));
        greeting.push(b' ');
        let max = NATS_INFO_BYTES_MAX;
        assert_eq!(frames([&greeting]).1, Some(BadFrame::LongLine { max }));
    }

    #[test]
    fn what_is_written_is_as_the_protocol_says() {
        let mut output = BytesMut::new();
        connect(&mut output, "{}");
        subscribe(&mut output, "a.>", None, 1);
        subscribe(&mut output, "a.*", Some("q"), 2);
        unsubscribe(&mut output, 2);
        publish(&mut output, "a.b", None, None, b"\xff\r\n");
        publish(&mut output, "a", Some("r"), Some(b"NATS/1.0\r\n\r\n"), b"xy");
        publish(&mut output, "a", Some("r"), None, b"");
        let expected: &[u8] = b"CONNECT {}\r\nSUB a.> 1\r\nSUB a.* q 2\r\nUNSUB 2\r\n\
            PUB a.b 3\r\n\xff\r\n\r\nHPUB a r 12 14\r\nNATS/1.0\r\n\r\nxy\r\nPUB a r 0\r\n\r\n";
        assert_eq!(output.as_ref(), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_frames(&bytes);
        }

        #[test]
        fn damaged_frames_do_not_panic(at in 0..STREAM.len(), byte: u8, cut in 0..STREAM.len()) {
            let mut bytes = STREAM.to_vec();
            bytes[at] = byte;
            bytes.rotate_left(cut);
            fuzz_frames(&bytes);
        }
    }
}
