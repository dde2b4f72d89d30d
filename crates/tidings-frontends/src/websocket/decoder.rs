//! A client's bytes, in whatever pieces they come, as messages and control frames.
//!
//! Knows no socket, no clock and none of the protocols that are spoken in messages. Extensions are
//! not negotiated, so their bits are mistakes. Between messages nothing is held.

use bytes::{Bytes, BytesMut};

use super::assembling::{ALL, Assembling};
use super::fault::Fault;
use super::frame::{Opcode, unmask};
use crate::limits::{CONTROL_BYTES_MAX, FRAGMENT_BYTES_USUAL, FRAGMENTS_MAX};
use crate::shard::talk::{FrameLimits, Said};

/// What a client's bytes say, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message; text is checked UTF-8.
    Said(Said),
    /// A ping with what the pong has to repeat.
    Ping(Bytes),
    /// A pong, whatever it carries.
    Pong,
    /// The end of what the client says, with its code if it gave one.
    Close(Option<u16>),
}

/// A frame whose head was read.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_last: bool,
    /// For the next byte, and the three behind it.
    mask: [u8; 4],
    /// Bytes that are still to come.
    left: usize,
    /// What has come of a control frame. Few bytes, apart from what every socket keeps.
    control: Option<Box<BytesMut>>,
}

/// A message that is not whole yet.
#[derive(Debug)]
struct Partial {
    memory: &'static Assembling,
    is_text: bool,
    bytes: BytesMut,
    claimed: usize,
    fragments: usize,
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.memory.release(self.claimed);
    }
}

/// Longest head of a client's frame: two bytes, eight of length, four of mask.
const HEAD_BYTES: usize = 14;

/// Takes a client's bytes apart.
#[derive(Debug)]
pub(crate) struct Decoder {
    limits: FrameLimits,
    memory: &'static Assembling,
    /// As much of the next frame's head as has come.
    head: [u8; HEAD_BYTES],
    head_bytes: u8,
    frame: Option<Frame>,
    partial: Option<Box<Partial>>,
}

/// What came of taking bytes.
enum Step {
    /// Something is whole.
    Whole(Event),
    /// The next thing can begin.
    On,
    /// More bytes are needed, or memory for them.
    Wait,
}

impl Decoder {
    /// A client that has said nothing yet.
    pub(crate) fn new(limits: FrameLimits) -> Decoder {
        Decoder::within(limits, &ALL)
    }

    fn within(limits: FrameLimits, memory: &'static Assembling) -> Decoder {
        let head = [0; HEAD_BYTES];
        Decoder { limits, memory, head, head_bytes: 0, frame: None, partial: None }
    }

    /// What its client may say.
    pub(crate) fn limits(&self) -> FrameLimits {
        self.limits
    }

    /// Other limits, for what begins from now on.
    pub(crate) fn limit(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Whether a message has begun that is not whole: what a client may not leave so for ever.
    pub(crate) fn is_waiting(&self) -> bool {
        self.head_bytes > 0 || self.frame.is_some() || self.partial.is_some()
    }

    /// Whether it has memory for a message.
    pub(crate) fn has_memory(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.claimed > 0)
    }

    /// Whether others may have to wait for the memory that it has.
    pub(crate) fn keeps_others_waiting(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| self.memory.is_short(partial.claimed))
    }

    /// Takes bytes until something is whole, and says how many it took. Fewer than all without
    /// something whole means that there is no memory for them now: they are to be fed again after
    /// a while.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. Nothing may be fed behind one.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Fault> {
        let mut rest = bytes;
        let event = loop {
            let step = match self.frame.take() {
                None => self.take_head(&mut rest)?,
                Some(frame) if frame.opcode.is_control() => self.take_control(frame, &mut rest)?,
                Some(frame) => self.take_payload(frame, &mut rest)?,
            };
            match step {
                Step::Whole(event) => break Some(event),
                Step::On => {}
                Step::Wait => break None,
            }
        };
        Ok((bytes.len() - rest.len(), event))
    }

    /// Reads on in a head.
    fn take_head(&mut self, rest: &mut &[u8]) -> Result<Step, Fault> {
        loop {
            let have = usize::from(self.head_bytes);
            let need = self.head_length();
            if have == need {
                break;
            }
            let Some((byte, behind)) = rest.split_first() else { return Ok(Step::Wait) };
            if let Some(place) = self.head.get_mut(have) {
                *place = *byte;
            }
            *rest = behind;
            self.head_bytes += 1;
            // As early as possible: what is wrong by its first two bytes is not waited for.
            if have == 1 {
                self.check_head()?;
            }
        }
        self.head_bytes = 0;
        let frame = self.read_head()?;
        self.frame = Some(frame);
        Ok(Step::On)
    }

    /// Bytes of the head that has begun: at least two, and what the second one asks for.
    fn head_length(&self) -> usize {
        let [_, second, ..] = self.head;
        match (self.head_bytes, second & 0x7F) {
            (0 | 1, _) => 2,
            (_, 127) => HEAD_BYTES,
            (_, 126) => 8,
            _ => 6,
        }
    }

    /// What the first two bytes alone say (RFC 6455 section 5.2).
    fn check_head(&self) -> Result<Opcode, Fault> {
        let [first, second, ..] = self.head;
        if first & 0x70 != 0 {
            return Err(Fault::Reserved);
        }
        let opcode = Opcode::of(first & 0x0F).ok_or(Fault::UnknownOpcode)?;
        let is_last = first & 0x80 != 0;
        match opcode {
            _ if second & 0x80 == 0 => Err(Fault::Unmasked),
            _ if opcode.is_control() && !is_last => Err(Fault::FragmentedControl),
            _ if opcode.is_control() && usize::from(second & 0x7F) > CONTROL_BYTES_MAX => {
                Err(Fault::LongControl)
            }
            Opcode::Continuation if self.partial.is_none() => Err(Fault::NothingToContinue),
            Opcode::Text | Opcode::Binary if self.partial.is_some() => Err(Fault::Interleaved),
            Opcode::Binary if !self.limits.binary => Err(Fault::Binary),
            _ => Ok(opcode),
        }
    }

    /// A whole head.
    fn read_head(&mut self) -> Result<Frame, Fault> {
        let opcode = self.check_head()?;
        let [first, second, a, b, c, d, e, f, g, h, i, j, k, l] = self.head;
        let (length, mask) = match second & 0x7F {
            127 => {
                let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                if length <= u64::from(u16::MAX) || length >> 63 != 0 {
                    return Err(Fault::BadLength);
                }
                (length, [i, j, k, l])
            }
            126 => {
                let length = u16::from_be_bytes([a, b]);
                if length < 126 {
                    return Err(Fault::BadLength);
                }
                (u64::from(length), [c, d, e, f])
            }
            short => (u64::from(short), [a, b, c, d]),
        };
        let length = usize::try_from(length).map_err(|_| Fault::TooLong)?;
        if !opcode.is_control() {
            let before = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
            if length > self.limits.message_bytes.saturating_sub(before) {
                return Err(Fault::TooLong);
            }
        }
        if let (Opcode::Continuation, Some(partial)) = (opcode, &mut self.partial) {
            partial.fragments += 1;
            if partial.fragments > FRAGMENTS_MAX + partial.bytes.len() / FRAGMENT_BYTES_USUAL {
                return Err(Fault::TooManyFragments);
            }
        }
        let is_last = first & 0x80 != 0;
        Ok(Frame { opcode, is_last, mask, left: length, control: None })
    }

    /// Reads on in a control frame.
    fn take_control(&mut self, mut frame: Frame, rest: &mut &[u8]) -> Result<Step, Fault> {
        let mut control = frame.control.take().unwrap_or_default();
        let begin = control.len();
        control.extend_from_slice(taken(&mut frame, rest));
        if let Some(piece) = control.get_mut(begin..) {
            unmask(piece, &mut frame.mask);
        }
        if frame.left > 0 {
            frame.control = Some(control);
            self.frame = Some(frame);
            return Ok(Step::Wait);
        }
        Ok(Step::Whole(match frame.opcode {
            Opcode::Ping => Event::Ping(control.freeze()),
            Opcode::Close => Event::Close(close_code(&control)?),
            _ => Event::Pong,
        }))
    }

    /// Reads on in a message.
    fn take_payload(&mut self, mut frame: Frame, rest: &mut &[u8]) -> Result<Step, Fault> {
        let is_text = frame.opcode == Opcode::Text;
        let is_here = self.partial.is_none() && frame.is_last && frame.left <= rest.len();
        if is_here {
            // As most messages come: in one frame that was read at once.
            let mut bytes = BytesMut::from(taken(&mut frame, rest));
            unmask(&mut bytes, &mut frame.mask);
            return Ok(Step::Whole(said(is_text, bytes.freeze())?));
        }
        let memory = self.memory;
        let partial = self.partial.get_or_insert_with(|| {
            let bytes = BytesMut::new();
            Box::new(Partial { memory, is_text, bytes, claimed: 0, fragments: 1 })
        });
        // For the whole frame at once: who has a part does not wait for the rest beside others.
        let needed = partial.bytes.len() + frame.left;
        if needed > partial.claimed {
            if !memory.claim(partial.claimed, needed) {
                self.frame = Some(frame);
                return Ok(Step::Wait);
            }
            partial.claimed = needed;
        }
        let begin = partial.bytes.len();
        partial.bytes.extend_from_slice(taken(&mut frame, rest));
        if let Some(piece) = partial.bytes.get_mut(begin..) {
            unmask(piece, &mut frame.mask);
        }
        if frame.left > 0 {
            self.frame = Some(frame);
            return Ok(Step::Wait);
        }
        if frame.is_last
            && let Some(mut partial) = self.partial.take()
        {
            let bytes = std::mem::take(&mut partial.bytes).freeze();
            return Ok(Step::Whole(said(partial.is_text, bytes)?));
        }
        Ok(Step::On)
    }
}

/// As much of a frame as there is.
fn taken<'b>(frame: &mut Frame, rest: &mut &'b [u8]) -> &'b [u8] {
    let (piece, behind) = rest.split_at(frame.left.min(rest.len()));
    frame.left -= piece.len();
    *rest = behind;
    piece
}

fn said(is_text: bool, bytes: Bytes) -> Result<Event, Fault> {
    if !is_text {
        return Ok(Event::Said(Said::Binary(bytes)));
    }
    // Not before the message is whole: nobody sees any of it until then.
    std::str::from_utf8(&bytes).map_err(|_| Fault::NotUtf8)?;
    Ok(Event::Said(Said::Text(bytes)))
}

/// The code of a close frame (RFC 6455 section 5.5.1); its reason is only checked.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Fault::BadClose) };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 to 1006 and 1015 are never sent; what is not assigned by now is nobody's.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::BadClose);
    }
    std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::frame;
    use proptest::prelude::*;

    const LIMITS: FrameLimits =
        FrameLimits { message_bytes: 70_000, binary: true, per_second: 50, burst: 200 };
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    /// A client's frame: its first byte, its payload.
    fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
        let (head, length) = frame::head(first, payload.len());
        let mut bytes = head[..length].to_vec();
        bytes[1] |= 0x80;
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    fn all(frames: &[(u8, &[u8])]) -> Vec<u8> {
        frames.iter().flat_map(|(first, payload)| sent(*first, payload)).collect()
    }

    /// A word for everything that came out of these pieces.
    fn heard(decoder: &mut Decoder, pieces: &[&[u8]]) -> Vec<String> {
        let mut heard = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let event = match decoder.feed(rest) {
                    Err(fault) => {
                        heard.push(format!("{fault:?} {}", fault.close()));
                        return heard;
                    }
                    Ok((taken, event)) => {
                        rest = &rest[taken..];
                        event
                    }
                };
                let Some(event) = event else { break };
                heard.push(match event {
                    Event::Said(Said::Text(text)) => format!("text {}", shown(&text)),
                    Event::Said(Said::Binary(bytes)) => format!("binary {}", shown(&bytes)),
                    Event::Ping(bytes) => format!("ping {}", shown(&bytes)),
                    Event::Pong => "pong".to_owned(),
                    Event::Close(code) => format!("close {code:?}"),
                });
            }
            assert!(rest.is_empty(), "everything is taken");
        }
        heard
    }

    fn shown(bytes: &[u8]) -> String {
        if bytes.len() > 40 {
            return format!("of {}", bytes.len());
        }
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn check(bytes: &[u8], expected: &[&str]) {
        let told = |pieces: &[&[u8]]| heard(&mut Decoder::new(LIMITS), pieces);
        assert_eq!(told(&[bytes]), expected, "at once: {}", shown(bytes));
        if bytes.len() > 5_000 {
            return;
        }
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(told(&each), expected, "byte by byte: {}", shown(bytes));
        for at in 0..bytes.len() {
            let (before, behind) = bytes.split_at(at);
            assert_eq!(told(&[before, behind]), expected, "cut at {at}: {}", shown(bytes));
        }
    }

    #[test]
    fn messages_of_every_length_come_whole() {
        for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, 40, 124, 125, 126, 127, 128, 1_000, 4_000] {
            let text = vec![b'x'; length];
            let expected = shown(&text);
            check(&sent(0x81, &text), &[&format!("text {expected}")]);
            check(&sent(0x82, &text), &[&format!("binary {expected}")]);
        }
        for length in [65_535, 65_536, 65_537, 70_000] {
            check(&sent(0x81, &vec![b'x'; length]), &[&format!("text of {length}")]);
        }
        check(&sent(0x81, &vec![b'x'; 70_001]), &["TooLong 1009"]);
        check(&sent(0x82, &vec![b'x'; 70_001]), &["TooLong 1009"]);
        check(&sent(0x81, "Hällo µ\u{1F600}".as_bytes()), &["text Hällo µ\u{1F600}"]);
    }

    #[test]
    fn fragments_become_one_message_and_control_frames_stand_between_them() {
        let hello: &[(u8, &[u8])] = &[(0x01, b"Hel"), (0x80, b"lo")];
        check(&all(hello), &["text Hello"]);
        check(&all(&[(0x02, b"Hel"), (0x80, b"lo")]), &["binary Hello"]);
        check(&all(&[(0x01, b""), (0x00, b""), (0x80, b"")]), &["text "]);
        check(&all(&[(0x01, b""), (0x00, b"a"), (0x00, b""), (0x80, b"b")]), &["text ab"]);
        check(
            &all(&[
                (0x01, b"a"),
                (0x89, b"p"),
                (0x8A, b""),
                (0x00, b"b"),
                (0x89, b""),
                (0x80, b"c"),
            ]),
            &["ping p", "pong", "ping ", "text abc"],
        );
        check(
            &all(&[(0x01, b"a"), (0x88, b"\x03\xE8"), (0x80, b"b")]),
            &["close Some(1000)", "text ab"],
        );
        check(&all(&[(0x01, "é".as_bytes().split_at(1).0), (0x80, &[0xA9])]), &["text é"]);
        check(&all(&[(0x81, b"a"), (0x81, b"b"), (0x82, b"c")]), &["text a", "text b", "binary c"]);
        check(&all(&[(0x01, b"a"), (0x81, b"b")]), &["Interleaved 1002"]);
        check(&all(&[(0x01, b"a"), (0x01, b"b")]), &["Interleaved 1002"]);
        check(&all(&[(0x02, b"a"), (0x82, b"b")]), &["Interleaved 1002"]);
        check(&all(&[(0x80, b"a")]), &["NothingToContinue 1002"]);
        check(&all(&[(0x00, b"a")]), &["NothingToContinue 1002"]);
        check(&all(&[(0x81, b"a"), (0x80, b"b")]), &["text a", "NothingToContinue 1002"]);
        check(
            &all(&[(0x01, b"a"), (0x80, b"b"), (0x00, b"c")]),
            &["text ab", "NothingToContinue 1002"],
        );
    }

    #[test]
    fn fragments_are_bounded_in_number_and_together_in_bytes() {
        let pieces = |count: usize, piece: &[u8]| {
            let mut bytes = sent(0x01, piece);
            for _ in 2..count {
                bytes.extend(sent(0x00, piece));
            }
            bytes.extend(sent(0x80, piece));
            bytes
        };
        check(&pieces(FRAGMENTS_MAX, b""), &["text "]);
        check(&pieces(FRAGMENTS_MAX + 1, b""), &["TooManyFragments 1009"]);
        check(&pieces(FRAGMENTS_MAX + 100, b"a"), &["TooManyFragments 1009"]);
        check(&pieces(FRAGMENTS_MAX + 100, &[b'a'; 40]), &["text of 44960"]);
        let half = vec![b'a'; 35_000];
        check(&all(&[(0x01, &half), (0x80, &half)]), &["text of 70000"]);
        check(&all(&[(0x01, &half), (0x00, &half), (0x80, b"a")]), &["TooLong 1009"]);
        check(&all(&[(0x01, &half), (0x00, &half), (0x80, b"")]), &["text of 70000"]);
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_head() {
        let bytes = sent(0x81, &vec![b'x'; 70_001]);
        let mut decoder = Decoder::new(LIMITS);
        assert_eq!(decoder.feed(&bytes[..14]), Err(Fault::TooLong));
        for length in [1_u64 << 62, u64::from(u32::MAX) + 1, i64::MAX as u64] {
            let mut head = vec![0x82, 0xFF];
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&MASK);
            check(&head, &["TooLong 1009"]);
        }
    }

    #[test]
    fn a_length_is_written_as_short_as_it_can_be() {
        let long = |length: u64| {
            let mut head = vec![0x81, 0xFF];
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&MASK);
            head
        };
        for length in [0, 1, 125, 126, 65_535, 1 << 63, u64::MAX] {
            check(&long(length), &["BadLength 1002"]);
        }
        for length in [0_u16, 1, 125] {
            let mut head = vec![0x81, 0xFE];
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&MASK);
            check(&head, &["BadLength 1002"]);
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_and_missing_masks_are_refused() {
        for bits in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
            for opcode in [0x81, 0x82, 0x88, 0x89, 0x8A, 0x01] {
                check(&sent(opcode | bits, b"a"), &["Reserved 1002"]);
            }
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check(&sent(0x80 | opcode, b"a"), &["UnknownOpcode 1002"]);
            check(&sent(opcode, b"a"), &["UnknownOpcode 1002"]);
        }
        for opcode in [0x81, 0x82, 0x01, 0x88, 0x89, 0x8A] {
            check(&[opcode, 0x01, b'a'], &["Unmasked 1002"]);
            check(&[opcode, 0x00], &["Unmasked 1002"]);
        }
    }

    #[test]
    fn control_frames_are_whole_and_short() {
        let long = [b'a'; 125];
        check(&sent(0x89, &long), &["ping of 125"]);
        check(&sent(0x8A, &long), &["pong"]);
        check(&sent(0x89, b""), &["ping "]);
        for opcode in [0x88, 0x89, 0x8A] {
            check(&sent(opcode, &[b'a'; 126]), &["LongControl 1002"]);
            check(&sent(opcode, &[b'a'; 4_000]), &["LongControl 1002"]);
            check(&sent(opcode & 0x0F, b"a"), &["FragmentedControl 1002"]);
        }
        check(&all(&[(0x89, b"1"), (0x89, b"2"), (0x89, b"3")]), &["ping 1", "ping 2", "ping 3"]);
    }

    #[test]
    fn a_close_says_a_code_that_may_be_sent() {
        let close = |code: u16, reason: &[u8]| {
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend_from_slice(reason);
            sent(0x88, &payload)
        };
        check(&sent(0x88, b""), &["close None"]);
        check(&sent(0x88, b"a"), &["BadClose 1002"]);
        let good = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        for code in good.into_iter().chain([3000, 3999, 4000, 4999]) {
            check(&close(code, b""), &[&format!("close Some({code})")]);
            check(&close(code, "gé".as_bytes()), &[&format!("close Some({code})")]);
        }
        let bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
        for code in bad {
            check(&close(code, b""), &["BadClose 1002"]);
        }
        check(&close(1000, &[0xFF]), &["NotUtf8 1007"]);
        check(&close(1000, &[b'a'; 123]), &["close Some(1000)"]);
        check(&close(1000, &[b'a'; 124]), &["LongControl 1002"]);
    }

    #[test]
    fn text_is_utf8_as_a_whole_and_binary_anything() {
        for bad in [
            &b"\xFF"[..],
            b"a\xC3",
            b"\xC0\xAF",
            b"\xED\xA0\x80",
            b"\xF4\x90\x80\x80",
            b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited",
        ] {
            check(&sent(0x81, bad), &["NotUtf8 1007"]);
            check(&all(&[(0x01, b"a"), (0x80, bad)]), &["NotUtf8 1007"]);
            check(&sent(0x82, bad), &[&format!("binary {}", shown(bad))]);
        }
        check(&all(&[(0x01, b"\xC3"), (0x80, b"a")]), &["NotUtf8 1007"]);
    }

    #[test]
    fn binary_is_refused_where_only_text_is_spoken() {
        let mut decoder = Decoder::new(FrameLimits { binary: false, ..LIMITS });
        assert_eq!(heard(&mut decoder, &[&sent(0x82, b"a")]), ["Binary 1003"]);
        let mut decoder = Decoder::new(FrameLimits { binary: false, ..LIMITS });
        assert_eq!(heard(&mut decoder, &[&sent(0x81, b"a")]), ["text a"]);
    }

    #[test]
    fn every_first_two_bytes_are_taken_or_refused() {
        for bits in 0..=u16::MAX {
            let mut decoder = Decoder::new(LIMITS);
            let [first, second] = bits.to_be_bytes();
            let mut bytes = vec![first, second];
            bytes.extend_from_slice(&[0; 20]);
            let answer = decoder.feed(&bytes);
            let is_known = matches!(first & 0x0F, 0 | 1 | 2 | 8 | 9 | 10);
            let is_wrong = first & 0x70 != 0 || !is_known || second & 0x80 == 0;
            assert!(answer.is_err() || !is_wrong, "{first:02x} {second:02x}");
        }
    }

    #[test]
    fn other_limits_hold_from_the_next_frame_on() {
        let mut decoder = Decoder::new(FrameLimits { message_bytes: 3, ..LIMITS });
        assert_eq!(heard(&mut decoder, &[&sent(0x81, b"abc")]), ["text abc"]);
        decoder.limit(FrameLimits { message_bytes: 4, ..LIMITS });
        assert_eq!(heard(&mut decoder, &[&sent(0x81, b"abcd")]), ["text abcd"]);
        assert_eq!(heard(&mut decoder, &[&sent(0x81, b"abcde")]), ["TooLong 1009"]);
    }

    #[test]
    fn unfinished_messages_share_their_memory_and_wait_for_it() {
        let memory: &'static Assembling = Box::leak(Box::new(Assembling::up_to(10, 20)));
        let (mut one, mut other) =
            (Decoder::within(LIMITS, memory), Decoder::within(LIMITS, memory));
        let begun = sent(0x01, b"12345678");
        assert_eq!(one.feed(&begun), Ok((begun.len(), None)));
        assert!(one.is_waiting() && !other.is_waiting());
        assert_eq!(other.feed(&begun), Ok((6, None)), "the head, and nothing behind it");
        assert_eq!(other.feed(&begun[6..]), Ok((0, None)));
        assert!(other.is_waiting() && !other.has_memory());
        let whole = sent(0x81, b"12345678901234567890");
        let mut third = Decoder::within(LIMITS, memory);
        let third = third.feed(&whole).unwrap();
        assert!(third.0 == whole.len() && third.1.is_some(), "what is whole needs none of it");
        let end = sent(0x80, b"9");
        let said = Event::Said(Said::Text("123456789".into()));
        assert_eq!(one.feed(&end), Ok((end.len(), Some(said))));
        assert_eq!(other.feed(&begun[6..]), Ok((8, None)), "it was given back");
        drop(other);
        assert_eq!(memory.claimed(), 0);
    }

    #[test]
    fn memory_is_claimed_for_a_whole_frame_at_once() {
        let memory: &'static Assembling = Box::leak(Box::new(Assembling::up_to(10, 36)));
        let frame = sent(0x81, &[b'x'; 28]);
        let mut one = Decoder::within(LIMITS, memory);
        assert_eq!(one.feed(&frame[..8]), Ok((8, None)));
        assert!(one.has_memory() && one.keeps_others_waiting() && memory.claimed() == 28);
        let mut other = Decoder::within(LIMITS, memory);
        assert_eq!(other.feed(&sent(0x81, &[b'x'; 10])[..8]), Ok((6, None)));
        assert_eq!(one.feed(&frame[8..]).unwrap().0, 26);
        assert!(!one.has_memory() && memory.claimed() == 0);
    }

    #[test]
    fn nothing_is_held_between_messages() {
        let mut decoder = Decoder::new(LIMITS);
        let bytes = all(&[(0x01, b"a"), (0x89, b"p"), (0x80, b"b"), (0x88, b"")]);
        assert_eq!(heard(&mut decoder, &[&bytes]).len(), 3);
        assert!(!decoder.is_waiting() && decoder.partial.is_none());
        assert!(size_of::<Decoder>() <= 256, "{}", size_of::<Decoder>());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            heard(&mut Decoder::new(LIMITS), &[&bytes]);
        }

        #[test]
        fn pieces_of_any_size_say_the_same(
            texts in proptest::collection::vec("[a-zé]{0,300}", 1..6),
            cuts in proptest::collection::vec(1_usize..50, 1..30),
        ) {
            let bytes: Vec<u8> =
                texts.iter().flat_map(|text| sent(0x81, text.as_bytes())).collect();
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> =
                texts.iter().map(|text| format!("text {}", shown(text.as_bytes()))).collect();
            prop_assert_eq!(heard(&mut Decoder::new(LIMITS), &pieces), expected);
        }
    }
}
