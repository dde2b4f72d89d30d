//! The past of what a socket wants anew, brought beside what it hears live. It ends at the socket's
//! place, and only then the socket moves. Live order is never disturbed, and what older wishes have
//! brought is left out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{Hub, Matcher, Missed, Offset, Reading, Start};

use super::catch_up::{Behind, Gap, read_some};
use super::inbox::Message;
use super::portion::{Few, Portion};
use super::receiver::{Phase, Receiver, Sent};
use super::run::Shard;
use super::talk::{Answer, Around};
use super::wants::Wants;
use crate::limits::CATCH_UP_TURN;
use crate::sse::Framing;

/// One past on its way.
pub(super) struct Side {
    /// The join's.
    pub(super) number: u32,
    pub(super) matchers: Box<[Arc<Matcher>]>,
    /// Where it begins.
    since: Offset,
    /// Up to here it was brought.
    place: Offset,
    /// Up to where this turn reads.
    until: Offset,
    /// Its way through the history, while nobody reads.
    reading: Option<Box<Reading>>,
    /// Tells this turn from others; none when no turn is on its way.
    turn: Option<u64>,
    /// The turn stands in line to be read.
    waits: bool,
    /// A turn has read up to where it was to.
    has_reached: bool,
    /// More than one grant decided about it.
    is_of_several: bool,
    /// The socket gets nothing else until this has come to its place: it would else never, where
    /// others publish without end.
    pub(super) holds: bool,
    pub(super) missed: Option<Missed>,
    around: Option<Around>,
    pub(super) answer: Answer,
}

/// What one turn brought.
pub(super) struct SideTurn {
    reading: Box<Reading>,
    pieces: Few,
    gap: Option<Gap>,
}

impl Side {
    pub(super) fn new(
        number: u32,
        matchers: Box<[Arc<Matcher>]>,
        since: Offset,
        around: Option<Around>,
        answer: Answer,
    ) -> Side {
        Side {
            number,
            matchers,
            since,
            place: since,
            until: since,
            reading: None,
            turn: None,
            waits: false,
            has_reached: false,
            is_of_several: false,
            holds: false,
            missed: None,
            around,
            answer,
        }
    }

    /// Whether another one that has not begun either is brought together with this: where nothing
    /// tells them apart, the history is read once.
    pub(super) fn takes(&self, other: &Side) -> bool {
        let is_told = self.around.is_some() || other.around.is_some();
        !is_told && self.since == other.since
    }

    /// Brings what the other is to bring, and answers for both.
    pub(super) fn take(&mut self, other: Side) {
        let (own, others) = (std::mem::take(&mut self.matchers), other.matchers);
        self.matchers = own.into_iter().chain(others).collect();
        let own: Answer = std::mem::replace(&mut self.answer, Box::new(|_| Bytes::new()));
        self.answer = Box::new(move |joined| [own(joined), (other.answer)(joined)].concat().into());
    }

    /// Another grant counts.
    pub(super) fn change_grant(&mut self) {
        self.read_anew();
        self.is_of_several = true;
    }

    /// Brings nothing more for these.
    pub(super) fn let_go(&mut self, matchers: &[Arc<Matcher>]) {
        let goes = |own: &Arc<Matcher>| matchers.iter().any(|other| Arc::ptr_eq(own, other));
        if self.matchers.iter().any(goes) {
            self.matchers = self.matchers.iter().filter(|own| !goes(own)).cloned().collect();
            self.read_anew();
        }
    }

    /// What is on its way does not count.
    fn read_anew(&mut self) {
        (self.turn, self.reading, self.has_reached) = (None, None, false);
    }

    fn note(&mut self, gap: Gap) {
        let (Gap::Missed(missed) | Gap::Forgotten(missed)) = gap;
        let after = self.missed.map_or(missed.after, |before| before.after);
        self.missed = Some(Missed { after, until: missed.until });
    }
}

/// A turn that is to be read.
pub(super) struct SideWork {
    pub(super) serial: u64,
    reading: Box<Reading>,
    wants: Wants,
    framing: Framing,
}

impl Receiver {
    /// The turn for which its socket stands in line, if it does.
    pub(super) fn side_work(&mut self, hub: &Hub) -> Option<SideWork> {
        let socket = self.socket.as_mut()?;
        let side = socket.side.as_mut()?;
        let serial = side.turn.filter(|_| std::mem::take(&mut side.waits))?;
        let reading = match side.reading.take() {
            Some(mut reading) => {
                reading.read_until(side.until);
                reading
            }
            None => {
                let place = side.place;
                let start = match place == side.since {
                    true => Start::After(place),
                    false => Start::Judged { after: place, forgotten: place },
                };
                let selection = Arc::new(socket.wants.aside(side.matchers.to_vec()));
                Box::new(hub.reading_until(selection, start, side.until))
            }
        };
        Some(SideWork { serial, reading, wants: socket.wants.clone(), framing: self.framing })
    }
}

impl SideWork {
    /// Reads; `None` when that panicked.
    pub(super) fn read(self, hub: &Hub) -> Option<SideTurn> {
        let SideWork { reading, wants, framing, .. } = self;
        let turn = AssertUnwindSafe(|| {
            let mut behind = Behind::One(reading);
            let (batch, gap) = read_some(&mut behind, CATCH_UP_TURN);
            let Behind::One(reading) = behind else { return None };
            let is_new = |entry: &_| !wants.has_brought(entry, hub.namespace());
            let portion = Portion::new(batch);
            let pieces = portion.map(|portion| portion.picked(framing, is_new));
            Some(SideTurn { reading, pieces: pieces.unwrap_or_default(), gap })
        });
        let turn = catch_unwind(turn);
        if turn.is_err() {
            tracing::error!("reading the history panicked");
        }
        turn.ok().flatten()
    }
}

impl Shard {
    /// Leads a past on, where its socket has room and is not behind itself.
    pub(super) fn go_on_beside(&mut self, number: u32) {
        let place = self.place_of(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let is_live = receiver.phase == Phase::Live;
        let has_room = receiver.rest.is_none() && !receiver.phase.is_last();
        let Some(socket) = &mut receiver.socket else { return };
        if socket.side.is_none() {
            socket.side = socket.sides.pop().map(Box::new);
            if socket.side.is_none() {
                socket.wants.forget_left();
            }
        }
        let Some(side) = &mut socket.side else { return };
        if !has_room || side.turn.is_some() || !(is_live || side.holds) {
            return;
        }
        if side.place >= place {
            return self.end_side(number, place);
        }
        if side.has_reached && is_live {
            side.holds = true;
            receiver.phase = Phase::Lagging;
            receiver.position = place;
            if let Some(audience) = self.audiences.get_mut(receiver.audience as usize) {
                audience.behind += 1;
            }
        }
        self.serial += 1;
        (side.turn, side.waits) = (Some(self.serial), true);
        (side.until, side.has_reached) = (place, false);
        self.readers_line.push_back(number);
        self.give_turns();
    }

    /// A past has come to its socket's place.
    fn end_side(&mut self, number: u32, place: Offset) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = &mut receiver.socket else { return };
        let Some(side) = socket.side.take() else { return };
        match side.is_of_several {
            false => socket.wants.add(&side.matchers, side.since, place),
            true => socket.wants.add_in_part(&side.matchers, side.since, place),
        }
        self.move_to_wants(number, place);
        self.answer_at(number, place, side.missed, side.answer);
    }

    /// What became of one turn of a past.
    pub(super) fn on_side_read(&mut self, number: u32, serial: u64, turn: Option<SideTurn>) {
        self.reads -= 1;
        self.take_side_turn(number, serial, turn);
        self.give_turns();
    }

    fn take_side_turn(&mut self, number: u32, serial: u64, turn: Option<SideTurn>) {
        let place = self.place_of(number);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let has_no_right = receiver.has_no_right(&*self.clock).is_some();
        let is_last = receiver.phase.is_last();
        let Some(socket) = &mut receiver.socket else { return };
        let Some(side) = socket.side.as_mut().filter(|side| side.turn == Some(serial)) else {
            return;
        };
        if is_last {
            return;
        }
        let Some(SideTurn { reading, pieces, gap }) = turn else { return self.remove(number) };
        if has_no_right {
            return self.look(number);
        }
        (side.turn, side.place) = (None, reading.offset());
        side.has_reached = reading.is_done();
        side.reading = Some(reading);
        if let Some(gap) = gap {
            side.note(gap);
        }
        let mut said = Vec::with_capacity(pieces.len() + 2);
        if !pieces.is_empty() {
            let around = side.around.as_ref().map(|around| around(place));
            let [before, behind] = around.map_or([None, None], |around| around.map(Some));
            said.extend(before);
            said.extend(pieces);
            said.extend(behind);
        }
        if !said.is_empty() && receiver.send(&said, self.now) == Sent::Never {
            return self.remove(number);
        }
        self.arm(number);
        self.go_on_beside(number);
    }

    /// Has a turn of a past read. Answers whether one was to be.
    pub(super) fn give_side_turn(&mut self, number: u32) -> bool {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return false };
        let Some(work) = receiver.side_work(&self.hub) else { return false };
        let (inbox, hub, serial) = (Arc::clone(&self.inbox), self.hub.clone(), work.serial);
        self.readers.give(move || {
            let turn = work.read(&hub);
            inbox.put(Message::SideRead { number, serial, turn: turn.map(Box::new) });
        });
        true
    }
}
