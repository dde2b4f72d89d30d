//! Outside bytes for what reads them here: whatever they are, nothing panics and no bound is
//! exceeded.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{
    Durability, Grant, Language, Matcher, Namespace, Offset, Receipt, Start, TokenIdentity,
};

use super::frame::{Decoder, Event, Fault};
use super::judge::Right;
use super::messages::{Code, Goes};
use super::session::{Input, Joining, Output, Rules, Session, denial};
use crate::auth::{Generation, Verified};
use crate::shard::talk::{FrameLimits, Said};

const LIMITS: FrameLimits =
    FrameLimits { message_bytes: 4 * 1024, binary: true, per_second: 1, burst: 1 };
const SUBSCRIPTIONS: usize = 5;

/// What a client says that says this in pieces of so many bytes.
fn heard(bytes: &[u8], piece: usize) -> (Vec<Event>, Option<Fault>) {
    let (mut decoder, mut events) = (Decoder::new(LIMITS), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let mut rest = piece;
        loop {
            match decoder.feed(rest) {
                Ok((taken, event)) => {
                    rest = rest.get(taken..).unwrap_or_default();
                    match event {
                        Some(event) => events.push(event),
                        None => break,
                    }
                }
                Err(fault) => return (events, Some(fault)),
            }
        }
        assert!(rest.is_empty(), "there is memory for all of it");
    }
    (events, None)
}

/// Takes `bytes` for what a client says.
pub fn fuzz_frames(bytes: &[u8]) {
    let whole = heard(bytes, bytes.len());
    for event in &whole.0 {
        if let Event::Said(said) = event {
            assert!(said.bytes().len() <= LIMITS.message_bytes);
        }
    }
    assert_eq!(heard(bytes, 1), whole, "pieces do not matter");
    assert_eq!(heard(bytes, 7), whole, "pieces do not matter");
}

/// Takes each line of `bytes` for a message of a client, in text or, behind a null byte, in binary.
pub fn fuzz_sessions(bytes: &[u8]) {
    let limits = (LIMITS, FrameLimits { message_bytes: 8 * 1024, ..LIMITS });
    let rules = Rules { subscriptions_max: SUBSCRIPTIONS, reader: limits.0, publisher: limits.1 };
    let anonymous = bytes.len().is_multiple_of(2);
    let mut script = Script::default();
    let mut session = Session::new(Arc::new(rules), anonymous, None);
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let said = match line.split_first() {
            Some((0, binary)) => Said::Binary(Bytes::copy_from_slice(binary)),
            _ => Said::Text(Bytes::copy_from_slice(String::from_utf8_lossy(line).as_bytes())),
        };
        let mut next = Some(Input::Said(said));
        while let Some(input) = next.take() {
            for output in session.handle(input) {
                assert!(next.is_none(), "one answer at most is waited for");
                match script.run(output) {
                    Some(answer) => next = Some(answer),
                    None if script.has_ended => return,
                    None => {}
                }
            }
        }
    }
}

/// Answers a session as a hub might, now well and now badly.
#[derive(Default)]
struct Script {
    number: u32,
    /// Matchers of each subscription.
    joined: HashMap<String, usize>,
    has_ended: bool,
}

impl Script {
    fn run(&mut self, output: Output) -> Option<Input> {
        self.number += 1;
        let is_good = !self.number.is_multiple_of(5);
        let bad = || denial(Code::Internal, "as told");
        match output {
            Output::Judge(_) => {
                let right = || Right { subscribe: Some(verified()), publish: Some(verified()) };
                return Some(Input::Judged(if is_good { Ok(right()) } else { Err(bad()) }));
            }
            Output::Compile(patterns) => {
                let compiled = patterns.iter().map(|pattern| matcher(&pattern.text)).collect();
                return Some(Input::Compiled(if is_good { Ok(compiled) } else { Err(bad()) }));
            }
            Output::Begin { .. } => {
                let begun = (Start::Earliest, Goes::Resumed);
                return Some(Input::Begun(if is_good { Ok(begun) } else { Err(bad()) }));
            }
            Output::Publish { .. } => {
                return Some(Input::Published(if is_good { Ok(receipt()) } else { Err(bad()) }));
            }
            Output::Join(Joining { name, matchers, .. }) => {
                assert!(self.joined.insert(name, matchers.len()).is_none(), "names are unique");
                assert!(self.joined.values().sum::<usize>() <= SUBSCRIPTIONS);
            }
            Output::Leave { name, matchers, .. } => {
                let joined = self.joined.remove(&name).unwrap_or_default();
                assert!(matchers.len() <= joined, "nobody leaves what it has not joined");
            }
            Output::End { .. } => self.has_ended = true,
            Output::Say(_) | Output::Grant { .. } | Output::Limits(_) => {}
        }
        None
    }
}

/// Every pattern is taken for a topic: compiling them is tried elsewhere.
fn matcher(text: &str) -> Arc<Matcher> {
    let url = url::Url::parse("https://hub.example/").expect("a URL");
    let parsed = Matcher::parse(Language::Exact, text, &Namespace::new(url));
    Arc::new(parsed.unwrap_or(Matcher::Any))
}

fn verified() -> Arc<Verified> {
    let any = vec![Arc::new(Matcher::Any)];
    let token = TokenIdentity::default();
    let grant = Grant { publish: any.clone(), subscribe: any, expires: Some(1), token };
    let (grant, details) = (Arc::new(grant), Vec::new());
    Arc::new(Verified { generation: Generation::Final, grant, details, may: true })
}

fn receipt() -> Receipt {
    let (id, cursor) = ("urn:x".into(), "urn:y".into());
    let durability = Durability::Memory;
    Receipt { id, cursor, offset: Offset::ZERO, durability, repeated: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_taken() {
        let frames = [&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'][..], &[0x89, 0x80, 1, 2, 3, 4]];
        fuzz_frames(&frames.concat());
        fuzz_frames(&[0xFF; 40]);
        let said = r#"{"op":"authenticate","ref":1,"token":"x"}
{"op":"subscribe","ref":2,"matchers":[{"match":"a"},{"match":"b"}],"start":"earliest"}
{"op":"publish","ref":3,"topics":["a"],"data":"x"}
{"op":"unsubscribe","ref":4,"name":"2"}
{"op":"ping"}
nothing"#;
        fuzz_sessions(said.as_bytes());
        fuzz_sessions(format!("{said}\n").as_bytes());
    }
}
