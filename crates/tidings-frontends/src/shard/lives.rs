//! How a stream begins, is looked at from time to time, and ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mio::Token;
use mio::event::Event;
use tidings_core::{Offset, Selection};

use super::arrival::{Arrival, Carrier, Stream};
use super::audience::{Audience, Likeness, common};
use super::inbox::{Inbox, Message};
use super::outlet::Outlet;
use super::receiver::{Phase, Receiver, Sent};
use super::run::{RECEIVER_KEY, Shard};
use super::talk::Order;
use super::wheel::Wheel;
use crate::http::Closing;
use crate::sse::{COMMENT, continuity, farewell};

/// Woken when the program ends its streams.
struct AtTheEnd(Arc<Inbox>);

impl Wake for AtTheEnd {
    fn wake(self: Arc<AtTheEnd>) {
        self.0.put(Message::Closing);
    }
}

impl Shard {
    /// Begins a stream: behind its audience first, so that nothing is missed, then its first bytes.
    pub(super) fn welcome(&mut self, arrival: Arrival) {
        let Arrival { stream, carrier, counted } = arrival;
        self.watch(&stream.closing);
        let number = u32::try_from(self.receivers.vacant_key()).unwrap_or(u32::MAX);
        let audience = self.audience_of(stream.selection.clone());
        let Some(joined) = self.audiences.get_mut(audience as usize) else { return };
        let seat = joined.join(number);
        let reading = self.hub.reading(Arc::clone(&joined.selection), stream.start);
        let position = reading.offset();
        // What lies behind the audience's place comes to it live.
        let is_behind = position < joined.passed;
        let reading = is_behind.then(|| Box::new(reading));
        joined.behind += usize::from(is_behind);
        self.serial += 1;
        let Stream { request, limits, present, closing, tells, .. } = stream;
        let Carrier { outlet, framing, head, patience, places, open, .. } = carrier;
        let key = u64::from(number) | RECEIVER_KEY;
        let held = self.hub.hold(&stream.selection.grant, Arc::clone(&self.ready), key);
        let entry = self.receivers.insert(Receiver {
            outlet,
            framing,
            audience,
            seat,
            serial: self.serial,
            phase: if is_behind { Phase::Lagging } else { Phase::Live },
            tells: tells.is_some(),
            position,
            told: position,
            rest: None,
            reading,
            written: self.now,
            armed: u64::MAX,
            heartbeat: limits.heartbeat,
            expires: limits.expires,
            ends: limits.lifetime.map(|lifetime| self.now + shortened(lifetime)),
            closes: None,
            patience,
            held,
            open: closing.open(),
            request,
            _present: present,
            _places: places,
            _open: open,
            _counted: counted,
        });
        debug_assert_eq!(entry, number as usize);
        let mut first = BytesMut::from(head);
        first.extend_from_slice(&framing.frame(COMMENT));
        if let Some(continuity) = tells {
            let opening = continuity::opening(&self.hub, &continuity, position);
            first.extend_from_slice(&framing.frame(&opening));
        }
        self.speak_first(number, first.freeze());
    }

    /// Sends a stream's first bytes and begins to listen to its socket.
    fn speak_first(&mut self, number: u32, first: Bytes) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if let Outlet::Shared(feed) = &receiver.outlet {
            feed.0.belongs_to(&self.inbox, number);
        }
        let token = Token(number as usize);
        let listened = receiver.outlet.register(&self.registry, token);
        if let Err(error) = &listened {
            tracing::error!(request = %receiver.request, %error, "a stream could not begin");
        }
        let is_there = listened.is_ok()
            && receiver.outlet.ignore_input(&mut self.scratch).is_ok()
            && receiver.send(&[first], self.now) != Sent::Never;
        if !is_there {
            return self.remove(number);
        }
        // Who hears live may have been told to end meanwhile, and who is behind begins to read.
        self.look(number);
        self.arm(number);
        self.catch_up(number);
        self.close_if_over(number);
    }

    fn audience_of(&mut self, selection: Selection) -> u32 {
        let likeness = Likeness::of(&selection);
        if let Some(number) = self.alike.get(&likeness) {
            return *number;
        }
        let number = u32::try_from(self.audiences.vacant_key()).unwrap_or(u32::MAX);
        let selection = Arc::new(common(selection));
        let (owner, key) = (Arc::clone(&self.ready), u64::from(number));
        let subscription = self.hub.subscribe_for_many(Arc::clone(&selection), owner, key);
        self.serial += 1;
        let audience = Audience::new(self.serial, likeness.clone(), selection, subscription);
        self.audiences.insert(audience);
        self.alike.insert(likeness, number);
        number
    }

    /// What a socket says.
    pub(super) fn on_socket(&mut self, number: u32, event: &Event) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let heard = receiver.outlet.ignore_input(&mut self.scratch);
            if let Err(error) = heard {
                tracing::debug!(request = %receiver.request, %error, "a client has left");
                return self.remove(number);
            }
        }
        if event.is_writable() {
            self.write_on(number);
        }
    }

    /// What a hearer wants of its socket.
    pub(super) fn on_order(&mut self, number: u32, serial: u64, _order: Order) {
        let receiver = self.receivers.get(number as usize);
        debug_assert!(receiver.is_none_or(|receiver| receiver.serial != serial), "no sockets yet");
    }

    /// Looks at a receiver that something may have happened to.
    pub(super) fn look(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        match (receiver.phase, receiver.has_no_right(&*self.clock)) {
            // Bytes for which there is no right any more.
            (Phase::Ending, Some(_)) => return self.remove(number),
            (Phase::Leaving, _) | (_, None) => {}
            (_, Some(reason)) => return self.end(number, reason, None),
        }
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.outlet.socket().is_none() {
            if receiver.outlet.ignore_input(&mut self.scratch).is_err() {
                return self.remove(number);
            }
            self.write_on(number);
        }
    }

    fn write_on(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.rest.is_none() {
            // Nothing of ours, yet TLS may have something to say.
            match receiver.outlet.flush() {
                Ok(_) => self.arm(number),
                Err(_) => self.remove(number),
            }
            return;
        }
        match receiver.go_on(self.now) {
            Sent::Waits => {}
            Sent::Never => self.remove(number),
            Sent::All if receiver.phase.is_last() => {
                receiver.outlet.close();
                self.remove(number);
            }
            Sent::All => {
                self.arm(number);
                self.catch_up(number);
            }
        }
    }

    /// The time has come for which it stands in the wheel.
    pub(super) fn on_time(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        receiver.armed = u64::MAX;
        if receiver.is_late(self.now) {
            receiver.patience.counters.stalled.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(request = %receiver.request, "a client takes nothing");
            return self.remove(number);
        }
        if receiver.phase == Phase::Ending && receiver.has_no_right(&*self.clock).is_some() {
            return self.remove(number);
        }
        if !receiver.phase.is_last() {
            if let Some(reason) = receiver.has_no_right(&*self.clock) {
                return self.end(number, reason, None);
            }
            if receiver.ends.is_some_and(|ends| self.now >= ends) {
                return self.end(number, "its longest time is over", None);
            }
            if let Some(closes) = &receiver.closes
                && self.now >= closes.0
            {
                let pause = closes.1;
                return self.end(number, "the hub is shutting down", Some(pause));
            }
            if receiver.is_silent(self.now) {
                return self.break_silence(number);
            }
        }
        self.arm(number);
    }

    /// A comment; where the client asked for it, one that says how far it has come.
    fn break_silence(&mut self, number: u32) {
        let passed = self.passed(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let comment = if receiver.tells {
            // Nothing waits for the socket: the client has everything up to here.
            receiver.told = passed;
            receiver.framing.frame(&continuity::heartbeat(&self.hub, passed))
        } else {
            receiver.framing.frame(COMMENT)
        };
        match receiver.send(&[comment], self.now) {
            Sent::Never => self.remove(number),
            Sent::All | Sent::Waits => self.arm(number),
        }
    }

    /// Up to where nothing for this client was left out.
    fn passed(&self, number: u32) -> Offset {
        let Some(receiver) = self.receivers.get(number as usize) else { return Offset::ZERO };
        match self.audiences.get(receiver.audience as usize) {
            Some(audience) if receiver.phase == Phase::Live => {
                audience.offset().max(receiver.position)
            }
            _ => receiver.position,
        }
    }

    /// Has it come up in the wheel at the next moment at which something is to be done.
    pub(super) fn arm(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(next) = receiver.next_look(self.now, &*self.clock) else { return };
        if Wheel::tick(next) < receiver.armed {
            receiver.armed = self.wheel.add(number, next);
        }
    }

    /// Ends a stream. What it says last: where the client is, when it has come further than the
    /// last id that it has, and how long it is to wait. Who was sent little would else come back
    /// with an old id, to read the same in vain or to find it gone.
    pub(super) fn end(&mut self, number: u32, reason: &str, pause: Option<Duration>) {
        self.end_at(number, reason, pause, self.passed(number));
    }

    /// The same for one who was left out nothing up to `passed`.
    pub(super) fn end_at(
        &mut self,
        number: u32,
        reason: &str,
        pause: Option<Duration>,
        passed: Offset,
    ) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.phase.is_last() {
            return;
        }
        tracing::debug!(request = %receiver.request, reason, "a stream ends");
        // What waits is not sent any more where there is no right to it.
        let has_right = receiver.has_no_right(&*self.clock).is_none();
        if receiver.is_stuck(self.now) && !has_right {
            return self.remove(number);
        }
        // What was not sent is not said to be there.
        let place = (passed > receiver.told && receiver.rest.is_none()).then_some(passed);
        let words = farewell(&self.hub, place, pause.map(|pause| pause.as_millis()));
        let mut last = BytesMut::new();
        if !words.is_empty() {
            last.extend_from_slice(&receiver.framing.frame(words.as_bytes()));
        }
        last.extend_from_slice(receiver.framing.end());
        let last: &[Bytes] = if last.is_empty() { &[] } else { &[last.freeze()] };
        self.set_phase(number, if has_right { Phase::Ending } else { Phase::Leaving });
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        match receiver.send(last, self.now) {
            Sent::Waits => self.arm(number),
            Sent::All => {
                receiver.outlet.close();
                self.remove(number);
            }
            Sent::Never => self.remove(number),
        }
    }

    /// Nothing more comes to it.
    fn set_phase(&mut self, number: u32, last: Phase) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if matches!(receiver.phase, Phase::Lagging | Phase::Reading)
            && let Some(audience) = self.audiences.get_mut(receiver.audience as usize)
        {
            audience.behind -= 1;
        }
        receiver.phase = last;
        receiver.reading = None;
    }

    /// Takes a receiver out, and its audience when it was the last.
    pub(super) fn remove(&mut self, number: u32) {
        self.set_phase(number, Phase::Leaving);
        let Some(receiver) = self.receivers.try_remove(number as usize) else { return };
        let Some(audience) = self.audiences.get_mut(receiver.audience as usize) else { return };
        if let Some(moved) = audience.leave(receiver.seat)
            && let Some(moved) = self.receivers.get_mut(moved as usize)
        {
            moved.seat = receiver.seat;
        }
        if audience.members.is_empty() {
            self.alike.remove(&audience.likeness);
            self.audiences.remove(receiver.audience as usize);
        } else if audience.behind == 0 {
            audience.forget();
        }
        if self.receivers.is_empty() {
            // What a storm needed is given back when it is over.
            self.receivers.shrink_to_fit();
            self.audiences.shrink_to_fit();
            self.alike.shrink_to_fit();
        }
    }

    /// Listens for the program's end, once.
    fn watch(&mut self, closing: &Closing) {
        if !std::mem::replace(&mut self.watches, true) {
            closing.watch(Waker::from(Arc::new(AtTheEnd(Arc::clone(&self.inbox)))));
        }
    }

    /// Gives every stream its moment to end.
    pub(super) fn close_all(&mut self) {
        let numbers: Vec<usize> = self.receivers.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.close_if_over(u32::try_from(number).unwrap_or(u32::MAX));
        }
    }

    fn close_if_over(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.closes.is_some() {
            return;
        }
        if let Some((after, pause)) = receiver.open.moment() {
            receiver.closes = Some(Box::new((self.now + after, pause)));
            self.arm(number);
        }
    }
}

/// Between 80 and 100 % of a lifetime: streams that began together do not end together.
fn shortened(lifetime: Duration) -> Duration {
    let random = getrandom::u64().unwrap_or(u64::MAX) as f64 / u64::MAX as f64;
    lifetime.mul_f64(0.8 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_shortened_by_a_fifth_at_most() {
        for _ in 0..100 {
            let shortened = shortened(Duration::from_secs(10));
            assert!(shortened >= Duration::from_secs(8) && shortened <= Duration::from_secs(10));
        }
    }
}
