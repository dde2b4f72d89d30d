//! What a receiver has that can be talked to: what its client may say, what was not answered yet,
//! and what it wants. Knows nobody else, and not what messages mean.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::limits::{
    SOCKET_ANSWERS_BYTES, SOCKET_BYTES_WAITING, SOCKET_MEMORY_JUDGED_EVERY, SOCKET_MEMORY_RETRY,
    SOCKET_MESSAGE_TIMEOUT, SOCKET_MESSAGE_TIMEOUT_SHORT, SOCKET_MESSAGES_WAITING,
    SOCKET_TURN_BYTES,
};
use super::outlet::Outlet;
use super::receiver::Receiver;
use super::side::Side;
use super::talk::{Ear, FrameLimits, Hearer, Said};
use super::wants::Wants;
use super::words::End;
use crate::http::HttpCounters;
use crate::websocket::frame::{self, Decoder, Event, Fault};

/// The talking side of a receiver.
pub(super) struct Socket {
    decoder: Decoder,
    hearer: Arc<dyn Hearer>,
    counters: Arc<HttpCounters>,
    ear: Ear,
    credit: Credit,
    bucket: Bucket,
    /// What was read and could not be heard yet. Most have none.
    unread: Option<Box<Bytes>>,
    /// There may be more to read, and nobody will say so.
    has_more: bool,
    /// Not read before this.
    pub(super) paused: Option<Duration>,
    /// Since when a message is not whole.
    unfinished: Option<Duration>,
    /// The client has said its last.
    pub(super) has_ended: bool,
    /// What it says makes no sense any more.
    is_broken: bool,
    /// When it is closed though its client does not close it.
    pub(super) closes: Option<Duration>,
    pub(super) wants: Wants,
    /// The past that is brought now, and what waits behind it.
    pub(super) side: Option<Box<Side>>,
    pub(super) sides: Sides,
}

/// Joins whose past waits for that of another. Most sockets have none.
#[derive(Default)]
pub(super) struct Sides(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    sides: VecDeque<Side>,
}

impl Sides {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.sides.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, side: Side) {
        self.0.get_or_insert_default().sides.push_back(side);
    }

    /// The one that waits longest, and with it what can be brought in one go.
    pub(super) fn pop(&mut self) -> Option<Side> {
        let sides = &mut self.0.as_mut()?.sides;
        let mut first = sides.pop_front()?;
        while let Some(next) = sides.pop_front_if(|next| first.takes(next)) {
            first.take(next);
        }
        self.0.take_if(|waiting| waiting.sides.is_empty());
        Some(first)
    }

    /// Those of which this is so, which go.
    pub(super) fn extract_if(&mut self, mut goes: impl FnMut(&mut Side) -> bool) -> Vec<Side> {
        let Some(waiting) = &mut self.0 else { return Vec::new() };
        let (mut gone, mut left) = (Vec::new(), VecDeque::new());
        for mut side in std::mem::take(&mut waiting.sides) {
            if goes(&mut side) { gone.push(side) } else { left.push_back(side) }
        }
        waiting.sides = left;
        self.0.take_if(|waiting| waiting.sides.is_empty());
        gone
    }
}

/// Told also when a panic takes the shard's sockets with it.
impl Drop for Socket {
    fn drop(&mut self) {
        self.counters.sockets.fetch_sub(1, Ordering::Relaxed);
        self.hearer.ended();
    }
}

/// Messages that are not answered.
#[derive(Default)]
struct Credit {
    messages: u32,
    /// A message has fewer than 2^32.
    bytes: u32,
}

/// How much was said lately.
#[derive(Default)]
struct Bucket {
    /// When all of it is within the rate.
    even: Duration,
}

impl Bucket {
    fn each(limits: &FrameLimits) -> Duration {
        Duration::from_secs(1) / limits.per_second.max(1)
    }

    fn take(&mut self, limits: &FrameLimits, now: Duration) {
        self.even = self.even.max(now) + Bucket::each(limits);
    }

    /// When the next frame is heard, if not now.
    fn opens(&self, limits: &FrameLimits, now: Duration) -> Option<Duration> {
        let burst = Bucket::each(limits) * limits.burst.saturating_sub(1);
        Some(self.even.saturating_sub(burst)).filter(|opens| *opens > now)
    }
}

/// What came of listening.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing more is there.
    All,
    /// There is more, and others get their turn first.
    Some,
    /// It is not read now: something has to happen before.
    NotNow,
    /// The client ends it, with its code if it gave one.
    Close(Option<u16>),
    /// It broke the protocol.
    Fault(Fault),
    /// It is not there any more.
    Gone,
}

impl Socket {
    pub(super) fn new(
        hearer: Arc<dyn Hearer>,
        limits: FrameLimits,
        ear: Ear,
        begun: Bytes,
        wants: Wants,
        counters: Arc<HttpCounters>,
    ) -> Socket {
        counters.sockets.fetch_add(1, Ordering::Relaxed);
        Socket {
            decoder: Decoder::new(limits),
            hearer,
            counters,
            ear,
            credit: Credit::default(),
            bucket: Bucket::default(),
            unread: boxed(begun),
            has_more: true,
            paused: None,
            unfinished: None,
            has_ended: false,
            is_broken: false,
            closes: None,
            wants,
            side: None,
            sides: Sides::default(),
        }
    }

    /// Other limits from the next frame on.
    pub(super) fn limit(&mut self, limits: FrameLimits) {
        self.decoder.limit(limits);
    }

    /// One message is answered.
    pub(super) fn done(&mut self, bytes: usize) {
        self.credit.messages = self.credit.messages.saturating_sub(1);
        self.credit.bytes = self.credit.bytes.saturating_sub(short(bytes));
    }

    /// The kernel said that there is something to read.
    pub(super) fn has_something(&mut self) {
        self.has_more = true;
    }

    /// Whether listening may bring something.
    pub(super) fn is_unread(&self) -> bool {
        self.has_more || self.unread.is_some()
    }

    /// Whether it broke the protocol: what it says makes no sense any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether a receiver's way through the history waits for this socket's past.
    pub(super) fn is_held(&self) -> bool {
        self.side.as_ref().is_some_and(|side| side.holds)
    }

    /// When to look next whether a message takes its client too long.
    pub(super) fn late(&self, now: Duration) -> Option<Duration> {
        let since = self.unfinished?;
        let judged = (since + SOCKET_MESSAGE_TIMEOUT_SHORT).max(now + SOCKET_MEMORY_JUDGED_EVERY);
        Some(judged.min(since + SOCKET_MESSAGE_TIMEOUT))
    }

    /// How it ends by now because a message has taken its client too long, if one has.
    pub(super) fn is_late(&self, now: Duration) -> Option<End> {
        let since = self.unfinished?;
        if now >= since + SOCKET_MESSAGE_TIMEOUT {
            return Some(End::TooSlow);
        }
        let is_short =
            now >= since + SOCKET_MESSAGE_TIMEOUT_SHORT && self.decoder.keeps_others_waiting();
        is_short.then_some(End::Crowded)
    }

    /// Whether too much waits to hear more. Notes when that ends by itself.
    fn is_busy(&mut self, now: Duration) -> bool {
        let sides = self.sides.len() + usize::from(self.side.is_some());
        if self.credit.messages as usize + sides >= SOCKET_MESSAGES_WAITING
            || self.credit.bytes as usize >= SOCKET_BYTES_WAITING
        {
            return true;
        }
        self.paused = self.bucket.opens(&self.decoder.limits(), now);
        self.paused.is_some()
    }

    /// Hears as much of these as may be heard now: how many, and why not all.
    fn hear(&mut self, bytes: &[u8], ears: &mut Ears) -> (usize, Option<Heard>) {
        let mut taken = 0;
        loop {
            if self.is_broken {
                return (bytes.len(), None);
            }
            if !ears.is_over && self.is_busy(ears.now) {
                return (taken, Some(Heard::NotNow));
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            let event = match self.decoder.feed(rest) {
                Ok((more, event)) => {
                    taken += more;
                    event
                }
                Err(fault) => {
                    self.is_broken = true;
                    return (bytes.len(), Some(Heard::Fault(fault)));
                }
            };
            match event {
                Some(event) => {
                    self.bucket.take(&self.decoder.limits(), ears.now);
                    if let Some(code) = self.on_event(event, ears) {
                        return (bytes.len(), Some(Heard::Close(code)));
                    }
                }
                None if taken < bytes.len() => {
                    if !self.decoder.has_memory() {
                        // It is not its client that takes time.
                        self.unfinished = None;
                    }
                    self.paused = Some(ears.now + SOCKET_MEMORY_RETRY);
                    return (taken, Some(Heard::NotNow));
                }
                None => return (taken, None),
            }
        }
    }

    /// Answers with the code when it was the last that the client says.
    fn on_event(&mut self, event: Event, ears: &mut Ears) -> Option<Option<u16>> {
        if matches!(event, Event::Said(_)) {
            // The next one has its own time.
            self.unfinished = None;
        }
        match event {
            Event::Close(code) => {
                self.has_ended = true;
                // Nothing may follow it; what does is not looked at.
                self.is_broken = true;
                return Some(code);
            }
            Event::Said(said) if !ears.is_over => self.pass_on(said),
            Event::Ping(payload) if !ears.is_over => {
                ears.pongs.extend_from_slice(&frame::pong(&payload));
            }
            Event::Said(_) | Event::Ping(_) | Event::Pong => {}
        }
        None
    }

    fn pass_on(&mut self, said: Said) {
        self.counters.socket_messages.fetch_add(1, Ordering::Relaxed);
        self.credit.messages += 1;
        self.credit.bytes = self.credit.bytes.saturating_add(short(said.bytes().len()));
        Arc::clone(&self.hearer).heard(said, &self.ear);
    }

    /// Reads on, from where it stopped.
    fn listen(&mut self, outlet: &mut Outlet, scratch: &mut [u8], ears: &mut Ears) -> Heard {
        self.paused = None;
        let mut unread = self.unread.take().map(|unread| *unread).unwrap_or_default();
        let (taken, stopped) = self.hear(&unread, ears);
        if let Some(why) = stopped {
            unread.advance(taken);
            self.unread = boxed(unread);
            return why;
        }
        let mut read = 0;
        while read < SOCKET_TURN_BYTES {
            let count = match outlet.read(scratch) {
                Ok(0) => return Heard::Gone,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_more = false;
                    return Heard::All;
                }
                Err(_) => return Heard::Gone,
            };
            read += count;
            let bytes = scratch.get(..count).unwrap_or_default();
            let (taken, stopped) = self.hear(bytes, ears);
            if let Some(why) = stopped {
                let left = bytes.get(taken..).unwrap_or_default();
                self.unread = boxed(Bytes::copy_from_slice(left));
                return why;
            }
        }
        Heard::Some
    }
}

/// One turn of listening.
struct Ears {
    now: Duration,
    /// What is said does not count any more.
    is_over: bool,
    /// Answers to pings, in their order.
    pongs: Vec<u8>,
}

impl Receiver {
    /// Hears what the client says, as much as may be heard now: what came of it, and the answers
    /// to its pings.
    pub(super) fn listen(&mut self, scratch: &mut [u8], now: Duration) -> (Heard, Vec<u8>) {
        let (is_over, owes) = (self.phase.is_last(), self.unsent_words() >= SOCKET_ANSWERS_BYTES);
        let mut ears = Ears { now, is_over, pongs: Vec::new() };
        let Some(socket) = &mut self.socket else { return (Heard::All, ears.pongs) };
        if owes && !is_over {
            // Who takes no answers asks nothing more.
            return (Heard::NotNow, ears.pongs);
        }
        let heard = socket.listen(&mut self.outlet, scratch, &mut ears);
        let waits = socket.decoder.is_waiting();
        socket.unfinished = waits.then(|| socket.unfinished.unwrap_or(now));
        (heard, ears.pongs)
    }
}

/// Nothing where there are none.
fn boxed(bytes: Bytes) -> Option<Box<Bytes>> {
    (!bytes.is_empty()).then(|| Box::new(bytes))
}

/// As many as are counted.
fn short(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_heard_at_once_and_then_so_many_a_second() {
        let limits = FrameLimits { message_bytes: 1, binary: false, per_second: 50, burst: 200 };
        let (mut bucket, mut heard) = (Bucket::default(), 0);
        let mut now = Duration::from_secs(7);
        while bucket.opens(&limits, now).is_none() {
            bucket.take(&limits, now);
            heard += 1;
        }
        assert_eq!(heard, 200);
        for _ in 0..100 {
            now = bucket.opens(&limits, now).unwrap();
            assert!(bucket.opens(&limits, now).is_none());
            bucket.take(&limits, now);
        }
        assert_eq!(now, Duration::from_secs(9));
        now += Duration::from_secs(60);
        assert!((0..200).all(|_| {
            bucket.take(&limits, now);
            true
        }));
        assert!(bucket.opens(&limits, now).is_some());
    }
}
