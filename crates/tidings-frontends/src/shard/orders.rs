//! What a hearer wants of its socket, done at its place in the stream. Knows no message.

use std::sync::Arc;

use tidings_core::{Grant, Matcher, Offset, Scope, Start};

use super::run::{RECEIVER_KEY, Shard};
use super::side::Side;
use super::talk::{Answer, Joined, Order};
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
            Order::Join { number: join, matchers, start, around, answer } => {
                let since = self.since(start);
                self.join_more(number, since, Side::new(join, matchers, since, around, answer));
            }
            Order::Leave { number: join, matchers, answer } => {
                self.leave_some(number, join, &matchers, answer);
            }
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

    /// Behind which place the past of a join begins.
    fn since(&self, start: Start) -> Offset {
        match start {
            Start::Now => self.hub.end(),
            Start::Earliest => self.hub.before_first(),
            Start::After(place) | Start::Judged { after: place, .. } => place.min(self.hub.end()),
        }
    }

    /// Adds matchers: at once where nothing of their past lies before the socket's place, else as
    /// soon as that was brought.
    fn join_more(&mut self, number: u32, since: Offset, side: Side) {
        let place = self.place_of(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = &mut receiver.socket else { return };
        if since >= place {
            socket.wants.add(&side.matchers, since, since);
            return self.answer_moved(number, place, Vec::new(), side.answer);
        }
        socket.sides.push(side);
        self.go_on_beside(number);
    }

    /// Takes matchers away, and with them every past that is left without, or is of this join.
    fn leave_some(
        &mut self,
        number: u32,
        join: Option<u32>,
        matchers: &[Arc<Matcher>],
        answer: Answer,
    ) {
        let place = self.place_of(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = &mut receiver.socket else { return };
        let is_over = |side: &mut Side| {
            side.let_go(matchers);
            Some(side.number) == join || side.matchers.is_empty()
        };
        let mut cancelled: Vec<Side> = Vec::new();
        cancelled.extend(socket.side.take_if(|side| is_over(side)).map(|side| *side));
        cancelled.extend(socket.sides.extract_if(is_over));
        let brings_more = socket.side.is_some() || !socket.sides.is_empty();
        socket.wants.remove(matchers, place, brings_more);
        self.answer_moved(number, place, cancelled, answer);
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
        self.answer_moved(number, place, Vec::new(), answer);
        // It may have fallen already.
        self.look(number);
    }

    /// Moves a socket to what it wants from this place on, and says the answers there.
    fn answer_moved(&mut self, number: u32, place: Offset, cancelled: Vec<Side>, answer: Answer) {
        self.move_to_wants(number, place);
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
