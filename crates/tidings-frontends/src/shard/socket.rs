//! What a receiver has that can be talked to: what its client may say, what was not answered yet,
//! and what it wants. Knows nobody else, and not what messages mean.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::limits::{
    SOCKET_ANSWERS_BYTES, SOCKET_BYTES_WAITING, SOCKET_MEMORY_RETRY, SOCKET_MESSAGE_TIMEOUT,
    SOCKET_MESSAGES_WAITING, SOCKET_TURN_BYTES,
};
use super::outlet::Outlet;
use super::receiver::Receiver;
use super::side::Side;
use super::talk::{Ear, FrameLimits, Hearer, Said};
use super::wants::Wants;
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
    /// What was read and could not be heard yet.
    unread: Bytes,
    /// There may be more to read, and nobody will say so.
    has_more: bool,
    /// Not read before this.
    pub(super) paused: Option<Duration>,
    /// Since when a message is not whole.
    unfinished: Option<Duration>,
    /// Answers to pings, in their order.
    pub(super) pongs: Vec<u8>,
    /// The client has said its last.
    pub(super) has_ended: bool,
    /// What it says makes no sense any more.
    is_broken: bool,
    /// When it is closed though its client does not close it.
    pub(super) closes: Option<Duration>,
    pub(super) wants: Wants,
    /// The past that is brought now, and what waits behind it.
    pub(super) side: Option<Box<Side>>,
    pub(super) sides: Vec<Side>,
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
    messages: usize,
    bytes: usize,
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
            unread: begun,
            has_more: true,
            paused: None,
            unfinished: None,
            pongs: Vec::new(),
            has_ended: false,
            is_broken: false,
            closes: None,
            wants,
            side: None,
            sides: Vec::new(),
        }
    }

    /// Other limits from the next frame on.
    pub(super) fn limit(&mut self, limits: FrameLimits) {
        self.decoder.limit(limits);
    }

    /// One message is answered.
    pub(super) fn done(&mut self, bytes: usize) {
        self.credit.messages = self.credit.messages.saturating_sub(1);
        self.credit.bytes = self.credit.bytes.saturating_sub(bytes);
    }

    /// The kernel said that there is something to read.
    pub(super) fn has_something(&mut self) {
        self.has_more = true;
    }

    /// Whether listening may bring something.
    pub(super) fn is_unread(&self) -> bool {
        self.has_more || !self.unread.is_empty()
    }

    /// Whether it broke the protocol: what it says makes no sense any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether a receiver's way through the history waits for this socket's past.
    pub(super) fn is_held(&self) -> bool {
        self.side.as_ref().is_some_and(|side| side.holds)
    }

    /// When a message has taken its client too long.
    pub(super) fn late(&self) -> Option<Duration> {
        self.unfinished.map(|since| since + SOCKET_MESSAGE_TIMEOUT)
    }

    /// Whether too much waits to hear more. Notes when that ends by itself.
    fn is_busy(&mut self, now: Duration) -> bool {
        let sides = self.sides.len() + usize::from(self.side.is_some());
        if self.credit.messages + sides >= SOCKET_MESSAGES_WAITING
            || self.credit.bytes >= SOCKET_BYTES_WAITING
        {
            return true;
        }
        self.paused = self.bucket.opens(&self.decoder.limits(), now);
        self.paused.is_some()
    }

    /// Hears as much of these as may be heard now: how many, and why not all.
    fn hear(&mut self, bytes: &[u8], now: Duration, is_over: bool) -> (usize, Option<Heard>) {
        let mut taken = 0;
        loop {
            if self.is_broken {
                return (bytes.len(), None);
            }
            if !is_over && self.is_busy(now) {
                return (taken, Some(Heard::NotNow));
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.decoder.feed(rest) {
                Ok(more) => taken += more,
                Err(fault) => {
                    self.is_broken = true;
                    return (bytes.len(), Some(Heard::Fault(fault)));
                }
            }
            match self.decoder.next() {
                Some(event) => {
                    self.bucket.take(&self.decoder.limits(), now);
                    if let Some(code) = self.on_event(event, is_over) {
                        return (bytes.len(), Some(Heard::Close(code)));
                    }
                }
                None if taken < bytes.len() => {
                    self.paused = Some(now + SOCKET_MEMORY_RETRY);
                    return (taken, Some(Heard::NotNow));
                }
                None => return (taken, None),
            }
        }
    }

    /// Answers with the code when it was the last that the client says.
    fn on_event(&mut self, event: Event, is_over: bool) -> Option<Option<u16>> {
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
            Event::Said(said) if !is_over => self.pass_on(said),
            Event::Ping(payload) if !is_over => {
                self.pongs.extend_from_slice(&frame::pong(&payload));
            }
            Event::Said(_) | Event::Ping(_) | Event::Pong => {}
        }
        None
    }

    fn pass_on(&mut self, said: Said) {
        self.counters.socket_messages.fetch_add(1, Ordering::Relaxed);
        self.credit.messages += 1;
        self.credit.bytes += said.bytes().len();
        self.hearer.heard(said, &self.ear);
    }

    /// Reads on, from where it stopped.
    fn listen(
        &mut self,
        outlet: &mut Outlet,
        scratch: &mut [u8],
        now: Duration,
        is_over: bool,
    ) -> Heard {
        self.paused = None;
        let mut unread = std::mem::take(&mut self.unread);
        let (taken, stopped) = self.hear(&unread, now, is_over);
        if let Some(why) = stopped {
            unread.advance(taken);
            self.unread = if unread.is_empty() { Bytes::new() } else { unread };
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
            let (taken, stopped) = self.hear(bytes, now, is_over);
            if let Some(why) = stopped {
                self.unread = Bytes::copy_from_slice(bytes.get(taken..).unwrap_or_default());
                return why;
            }
        }
        Heard::Some
    }
}

impl Receiver {
    /// Hears what the client says, as much as may be heard now.
    pub(super) fn listen(&mut self, scratch: &mut [u8], now: Duration) -> Heard {
        let (is_over, owes) = (self.phase.is_last(), self.unsent_words() >= SOCKET_ANSWERS_BYTES);
        let Some(socket) = &mut self.socket else { return Heard::All };
        if owes && !is_over {
            // Who takes no answers asks nothing more.
            return Heard::NotNow;
        }
        let heard = socket.listen(&mut self.outlet, scratch, now, is_over);
        let waits = socket.decoder.is_waiting();
        socket.unfinished = waits.then(|| socket.unfinished.unwrap_or(now));
        heard
    }
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
