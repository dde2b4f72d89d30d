//! What a hearer wants of its socket, done at its place in the stream. Knows no message.

use std::sync::Arc;

use tidings_core::{Grant, Matcher, Offset, Scope, Start};

use super::run::{RECEIVER_KEY, Shard};
use super::side::Side;
use super::talk::{Answer, Around, Joined, Order};
use super::words::End;

impl Shard {
    /// Does one order, unless its socket is gone or about to end.
    pub(super) fn on_order(&mut self, number: u32, serial: u64, order: Order) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.serial != serial || receiver.phase.is_last() {
            return;
        }
        let Some(socket) = &mut receiver.socket else { return };
        match order {
            Order::Say(words) => self.say(number, words),
            Order::Join { matchers, start, around, answer } => {
                self.join_more(number, matchers, start, around, answer);
            }
            Order::Leave { matchers, answer } => self.leave_some(number, &matchers, answer),
            Order::Grant { grant, scope, expires, answer } => {
                self.change_grant(number, grant, scope, expires, answer);
            }
            Order::Limits(limits) => socket.limit(limits),
            Order::Done { bytes } => {
                socket.done(bytes);
                self.listen_on(number);
            }
            Order::End { close, words } => self.end_by(number, &words, close, ""),
            Order::Fail => self.end(number, End::Internal),
        }
    }

    /// Adds matchers: at once where nothing of their past lies before the socket's place, else as
    /// soon as that was brought.
    fn join_more(
        &mut self,
        number: u32,
        matchers: Box<[Arc<Matcher>]>,
        start: Start,
        around: Option<Around>,
        answer: Answer,
    ) {
        let since = match start {
            Start::Now => self.hub.end(),
            Start::Earliest => self.hub.before_first(),
            Start::After(place) | Start::Judged { after: place, .. } => place.min(self.hub.end()),
        };
        let place = self.place_of(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = &mut receiver.socket else { return };
        if since >= place {
            socket.wants.add(&matchers, since, since);
            return self.answer_moved(number, Vec::new(), answer);
        }
        socket.sides.push(Side::new(matchers, since, around, answer));
        self.go_on_beside(number);
    }

    /// Takes matchers away, and with them every past that was to be brought for one of them.
    fn leave_some(&mut self, number: u32, matchers: &[Arc<Matcher>], answer: Answer) {
        let place = self.place_of(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = &mut receiver.socket else { return };
        let mut cancelled: Vec<Side> = Vec::new();
        let side = socket.side.take_if(|side| side.is_for_some(matchers));
        cancelled.extend(side.map(|side| *side));
        cancelled.extend(socket.sides.extract_if(.., |side| side.is_for_some(matchers)));
        socket.wants.remove(matchers, place, socket.side.is_some());
        self.answer_moved(number, cancelled, answer);
    }

    /// From here on another grant decides.
    fn change_grant(
        &mut self,
        number: u32,
        grant: Arc<Grant>,
        scope: Option<Scope>,
        expires: Option<u64>,
        answer: Answer,
    ) {
        let place = self.place_of(number);
        let key = u64::from(number) | RECEIVER_KEY;
        let held = self.hub.hold(&grant, Arc::clone(&self.ready), key);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        (receiver.held, receiver.expires) = (held, expires);
        let Some(socket) = &mut receiver.socket else { return };
        if let Some(side) = &mut socket.side {
            // What is on its way was judged by the grant before.
            side.change_grant();
        }
        socket.wants.set_grant(grant, scope, place);
        self.answer_moved(number, Vec::new(), answer);
        // It may have fallen already.
        self.look(number);
    }

    /// Moves a socket to what it wants now and says the answers there.
    fn answer_moved(&mut self, number: u32, cancelled: Vec<Side>, answer: Answer) {
        let place = self.move_to_wants(number);
        for side in cancelled {
            let missed = side.missed;
            self.say(number, (side.answer)(Joined { place, missed, cancelled: true }));
        }
        self.answer_at(number, place, None, answer);
    }

    /// Says what became of a change, and goes on behind it.
    pub(super) fn answer_at(
        &mut self,
        number: u32,
        place: Offset,
        missed: Option<tidings_core::Missed>,
        answer: Answer,
    ) {
        self.say(number, answer(Joined { place, missed, cancelled: false }));
        self.catch_up(number);
        self.go_on_beside(number);
        self.listen_on(number);
    }
}
