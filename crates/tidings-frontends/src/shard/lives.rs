//! How a stream begins, is looked at from time to time, and ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mio::Token;
use mio::event::Event;
use tidings_core::Offset;

use super::arrival::{Arrival, Carrier, Stream};
use super::inbox::{Inbox, Message};
use super::outlet::Outlet;
use super::receiver::{Phase, Receiver, Sent};
use super::run::{RECEIVER_KEY, Shard};
use super::socket::Socket;
use super::talk::{Ear, Talk};
use super::wants::Wants;
use super::wheel::Wheel;
use super::words::{self, End};
use crate::http::Closing;

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
        let Stream { request, limits, present, closing, tells, talk, .. } = stream;
        let Carrier { outlet, framing, head, begun, patience, places, open } = carrier;
        let mut first = BytesMut::from(head);
        let socket = talk.map(|talk| {
            let Talk { hearer, limits, opening } = *talk;
            first.extend_from_slice(&opening.unwrap_or_default());
            let ear = Ear { inbox: Arc::clone(&self.inbox), number, serial: self.serial };
            let wants = Wants::new(&stream.selection, position);
            let counters = Arc::clone(&patience.counters);
            Box::new(Socket::new(hearer, limits, ear, begun, wants, counters))
        });
        if socket.is_none() {
            first.extend_from_slice(&words::opening(framing, &self.hub, tells.as_ref(), position));
        }
        let key = u64::from(number) | RECEIVER_KEY;
        let held = self.hub.hold(&stream.selection.grant, Arc::clone(&self.ready), key);
        let entry = self.receivers.insert(Receiver {
            outlet,
            framing,
            audience,
            seat,
            serial: self.serial,
            read_serial: self.serial,
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
            present,
            socket,
            _places: places,
            _open: open,
            _counted: counted,
        });
        debug_assert_eq!(entry, number as usize);
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
            && (receiver.socket.is_some()
                || receiver.outlet.ignore_input(&mut self.scratch).is_ok())
            && receiver.send(&[first], self.now) != Sent::Never;
        if !is_there {
            return self.remove(number);
        }
        // Who hears live may have been told to end meanwhile, and who is behind begins to read.
        self.look(number);
        self.arm(number);
        self.catch_up(number);
        self.close_if_over(number);
        self.listen_on(number);
    }

    /// What a socket says.
    pub(super) fn on_socket(&mut self, number: u32, event: &Event) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            if let Some(socket) = &mut receiver.socket {
                socket.has_something();
                self.listen(number);
            } else if let Err(error) = receiver.outlet.ignore_input(&mut self.scratch) {
                tracing::debug!(request = %receiver.request, %error, "a client has left");
                return self.remove(number);
            }
        }
        if event.is_writable() {
            self.write_on(number);
        }
    }

    /// Looks at a receiver that something may have happened to.
    pub(super) fn look(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        match (receiver.phase, receiver.has_no_right(&*self.clock)) {
            // Bytes for which there is no right any more.
            (Phase::Ending, Some(_)) => return self.remove(number),
            (Phase::Leaving | Phase::Closing, _) | (_, None) => {}
            (_, Some(why)) => return self.end(number, why),
        }
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.outlet.socket().is_none() {
            if receiver.socket.is_some() {
                self.listen(number);
            } else if receiver.outlet.ignore_input(&mut self.scratch).is_err() {
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
            Sent::All if receiver.phase.is_last() => self.said_last(number),
            Sent::All => {
                self.arm(number);
                self.catch_up(number);
                self.go_on_beside(number);
                self.listen_on(number);
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
        if self.is_socket_over(number) {
            return;
        }
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if !receiver.phase.is_last() {
            if let Some(why) = receiver.has_no_right(&*self.clock) {
                return self.end(number, why);
            }
            if receiver.ends.is_some_and(|ends| self.now >= ends) {
                return self.end(number, End::LongestTime);
            }
            if let Some(closes) = &receiver.closes
                && self.now >= closes.0
            {
                let pause = closes.1;
                return self.end(number, End::Shutdown(pause));
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
        let framing = receiver.framing;
        let tells = receiver.tells || (framing.is_messages() && passed > receiver.told);
        if tells {
            // Nothing waits for the socket: the client has everything up to here.
            receiver.told = passed;
        }
        let comment = words::heartbeat(framing, &self.hub, tells.then_some(passed));
        match receiver.send(&[comment], self.now) {
            Sent::Never => self.remove(number),
            Sent::All | Sent::Waits => self.arm(number),
        }
    }

    /// Up to where nothing for this client was left out.
    pub(super) fn passed(&self, number: u32) -> Offset {
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
    pub(super) fn end(&mut self, number: u32, why: End) {
        self.end_at(number, why, self.passed(number));
    }

    /// The same for one who was left out nothing up to `passed`.
    pub(super) fn end_at(&mut self, number: u32, why: End, passed: Offset) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.phase.is_last() {
            return;
        }
        tracing::debug!(request = %receiver.request, reason = why.reason(), "a stream ends");
        if receiver.socket.is_some() {
            receiver.patience.counters.socket_closes(why.close());
        }
        // What was not sent is not said to be there.
        let is_news = passed > receiver.told && receiver.rest.is_none();
        let last = words::last(receiver.framing, &self.hub, why, passed, is_news);
        self.say_last(number, last);
    }

    /// Nothing more comes to it.
    pub(super) fn set_phase(&mut self, number: u32, last: Phase) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if matches!(receiver.phase, Phase::Lagging | Phase::Reading)
            && let Some(audience) = self.audiences.get_mut(receiver.audience as usize)
        {
            audience.behind -= 1;
            if audience.behind == 0 {
                // What is handed out from here on is not remembered: nothing may look whole.
                audience.forget();
            }
        }
        receiver.phase = last;
        receiver.reading = None;
    }

    /// Takes a receiver out, and its audience when it was the last.
    pub(super) fn remove(&mut self, number: u32) {
        self.set_phase(number, Phase::Leaving);
        let Some(receiver) = self.receivers.try_remove(number as usize) else { return };
        self.leave_audience(receiver.audience, receiver.seat, false);
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
