//! What tests of sockets share: a client's frames, and somebody who hears it.

use super::*;
use crate::shard::talk::{Ear, FrameLimits, Hearer, Joined, Order, Said, Talk};
use tidings_core::Matcher;

pub(super) const LIMITS: FrameLimits =
    FrameLimits { message_bytes: 64 * 1024, binary: true, per_second: 100_000, burst: 10_000 };

/// Hears a socket, and answers only where a test does.
#[derive(Default)]
pub(super) struct Listener(Mutex<Listened>);

#[derive(Default)]
pub(super) struct Listened {
    pub(super) said: Vec<Said>,
    pub(super) ended: usize,
    ear: Option<Ear>,
    /// Answers each message at once, with itself.
    pub(super) echoes: bool,
}

impl Hearer for Listener {
    fn heard(self: Arc<Self>, said: Said, ear: &Ear) {
        let mut listened = self.0.lock().unwrap();
        listened.ear = Some(ear.clone());
        if listened.echoes {
            ear.order(Order::Say(crate::websocket::frame::text(said.bytes())));
            ear.order(Order::Done { bytes: said.bytes().len() });
        }
        listened.said.push(said);
    }

    fn ended(&self) {
        self.0.lock().unwrap().ended += 1;
    }
}

impl Listener {
    pub(super) fn lock(&self) -> MutexGuard<'_, Listened> {
        self.0.lock().unwrap()
    }

    /// What was said in text, in order.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |said: &Said| match said {
            Said::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            Said::Binary(bytes) => format!("{bytes:?}"),
        };
        self.lock().said.iter().map(text).collect()
    }
}

/// A socket in a shard that a test drives.
pub(super) struct Talking {
    pub(super) number: u32,
    pub(super) script: Script,
    pub(super) hearer: Arc<Listener>,
    pub(super) ear: Ear,
}

/// What a server's frame is, with its payload.
pub(super) type Heard = (u8, Vec<u8>);

/// A client's frame, which ends its message.
pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 1, 200, 90];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What a server sent, as far as it is whole.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Heard> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        let (length, rest) = match second {
            126 if rest.len() >= 2 => {
                (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..])
            }
            127 if rest.len() >= 8 => {
                (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..])
            }
            126 | 127 => break,
            short => (usize::from(*short), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    frames
}

impl Talking {
    pub(super) fn says(&self, opcode: u8, payload: &[u8]) {
        self.script.lock().says.extend(masked(opcode, payload));
    }

    pub(super) fn frames(&self) -> Vec<Heard> {
        let taken = self.script.lock().taken.clone();
        frames(taken.strip_prefix(HEAD).unwrap_or_default())
    }

    /// The payloads of text frames.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts = self.frames().into_iter().filter(|(first, _)| *first == 0x81);
        texts.map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    }

    /// The code of the close frame, if there is one; nothing follows it.
    pub(super) fn close_code(&self) -> Option<u16> {
        let frames = self.frames();
        let closes = frames.iter().filter(|(first, _)| *first == 0x88).count();
        assert!(closes <= 1, "it closes once");
        let (first, payload) = frames.last()?;
        assert_eq!(closes == 1, *first == 0x88, "nothing follows a close frame");
        (closes == 1).then(|| u16::from_be_bytes([payload[0], payload[1]]))
    }

    pub(super) fn order(&self, order: Order) {
        self.ear.order(order);
    }

    /// Joins `matchers`; the answer is `done <name> <place> <cancelled>`.
    pub(super) fn join(&self, name: &str, matchers: &[Arc<Matcher>], start: Start) {
        let (number, matchers, around) = (0, matchers.into(), Some(around()));
        self.order(Order::Join { number, matchers, start, around, answer: answer(name) });
    }

    pub(super) fn leave(&self, name: &str, matchers: &[Arc<Matcher>]) {
        let matchers = matchers.into();
        self.order(Order::Leave { number: None, matchers, answer: answer(name) });
    }
}

fn around() -> crate::shard::talk::Around {
    let frame = |text: &str| crate::websocket::frame::text(text.as_bytes());
    Box::new(move |_| [frame("past"), frame("live")])
}

pub(super) fn answer(name: &str) -> crate::shard::talk::Answer {
    let name = name.to_owned();
    Box::new(move |joined: Joined| {
        let (place, cancelled) = (joined.place.durable, joined.cancelled);
        let text = format!("done {name} {place} {cancelled} {}", joined.missed.is_some());
        crate::websocket::frame::text(text.as_bytes())
    })
}

impl Driven {
    pub(super) fn exact(&self, topic: &str) -> Arc<Matcher> {
        self.hub.matcher(Language::Exact, topic).unwrap()
    }

    /// A client that has asked for nothing yet.
    pub(super) fn talk(&mut self, asks: &Asks, limits: FrameLimits, script: &Script) -> Talking {
        self.talk_behind(asks, limits, script, Bytes::new())
    }

    /// The same for one that said something behind its request already.
    pub(super) fn talk_behind(
        &mut self,
        asks: &Asks,
        limits: FrameLimits,
        script: &Script,
        begun: Bytes,
    ) -> Talking {
        let hearer = Arc::new(Listener::default());
        let outlet = Outlet::Scripted(script.clone());
        let (mut stream, mut carrier) = self.served.stream(asks, outlet);
        stream.selection.matchers.clear();
        let shared: Arc<dyn Hearer> = Arc::<Listener>::clone(&hearer);
        stream.talk = Some(Box::new(Talk { hearer: shared, limits, opening: None }));
        carrier.begun = begun;
        let number = u32::try_from(self.shard.receivers.vacant_key()).unwrap();
        let counted = self.load.one_more();
        self.shard.look_at_clock();
        self.shard.welcome(Arrival { stream, carrier, counted });
        let serial = self.receiver(number).map_or(0, |receiver| receiver.serial);
        let ear = Ear { inbox: Arc::clone(&self.inbox), number, serial };
        Talking { number, script: script.clone(), hearer, ear }
    }
}
