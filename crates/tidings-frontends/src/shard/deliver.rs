//! How entries reach receivers: all of an audience at once, and who is behind by itself.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidings_core::{Batch, Live, Offset, Start};

use super::audience::{Covered, Source};
use super::catch_up::{Behind, Gap, Turn, read_history};
use super::inbox::Message;
use super::portion::Portion;
use super::receiver::{Phase, Sent};
use super::run::Shard;
use super::words::{self, End};
use crate::limits::{CATCH_UP_TURN, READS_AT_ONCE};
use crate::sse::Framing;

/// What a subscription had.
struct Taken {
    portion: Option<Portion>,
    gap: Option<Gap>,
    /// Up to here everybody behind it has everything then.
    passed: Offset,
}

impl Shard {
    /// Hands out what waits for an audience, as much as one write carries.
    pub(super) fn serve_audience(&mut self, number: u32) {
        let Some(audience) = self.audiences.get_mut(number as usize) else { return };
        audience.in_line = false;
        let Source::Live(subscription) = &mut audience.source else { return };
        let mut batch = Batch::new();
        let taken = subscription.take_live(&mut batch);
        let (portion, passed) = (Portion::new(batch), subscription.offset());
        match taken {
            Live::Everything => {}
            Live::More => self.line_up(number),
            Live::Behind => return self.read_for_all(number),
        }
        self.hand_out(number, Taken { portion, gap: None, passed });
    }

    /// Gives a portion to everybody of an audience who is live, and tells them of a gap behind it.
    fn hand_out(&mut self, number: u32, taken: Taken) {
        let Taken { portion, gap, passed } = taken;
        let lacking = gap.map_or_else(Vec::new, |gap| self.before(number, gap.until()));
        let lagging = match &portion {
            Some(portion) => self.pass(number, portion),
            None => 0,
        };
        let Some(audience) = self.audiences.get_mut(number as usize) else { return };
        audience.behind += lagging;
        match portion {
            Some(portion) if gap.is_none() => audience.remember(portion),
            Some(_) | None => {}
        }
        audience.passed = passed;
        let Some(gap) = gap else { return };
        audience.forget();
        for member in lacking {
            let receiver = self.receivers.get(member as usize);
            if receiver.is_some_and(|receiver| receiver.phase == Phase::Live) {
                self.tell_gap(member, gap, passed);
            }
        }
    }

    /// Who of an audience is before a place. Who joined later is behind it, and lacks nothing.
    fn before(&self, number: u32, place: Offset) -> Vec<u32> {
        let Some(audience) = self.audiences.get(number as usize) else { return Vec::new() };
        let is_before = |member: &u32| {
            let receiver = self.receivers.get(*member as usize);
            receiver.is_some_and(|receiver| receiver.position < place)
        };
        audience.members.iter().copied().filter(is_before).collect()
    }

    /// One pass over an audience. Answers how many could not be given the portion.
    fn pass(&mut self, number: u32, portion: &Portion) -> usize {
        let Some(audience) = self.audiences.get_mut(number as usize) else { return 0 };
        let members = std::mem::take(&mut audience.members);
        let passed = audience.passed;
        self.served += members.len();
        let wall = self.clock.wall();
        let (mut waiting, mut gone, mut over) = (Vec::new(), Vec::new(), Vec::new());
        let mut lagging = 0;
        for member in &members {
            let Some(receiver) = self.receivers.get_mut(*member as usize) else { continue };
            if receiver.phase != Phase::Live || receiver.position >= portion.last() {
                continue;
            }
            if receiver.expires.is_some_and(|expires| wall >= expires) {
                over.push(*member);
                continue;
            }
            if receiver.rest.is_some() {
                receiver.phase = Phase::Lagging;
                receiver.position = receiver.position.max(passed);
                lagging += 1;
                continue;
            }
            match receiver.give(portion, self.hub.namespace(), self.now) {
                Sent::All if receiver.is_watched() => {}
                Sent::All | Sent::Waits => waiting.push(*member),
                Sent::Never => gone.push(*member),
            }
        }
        if let Some(audience) = self.audiences.get_mut(number as usize) {
            audience.members = members;
        }
        for member in waiting {
            self.arm(member);
        }
        for member in gone {
            self.remove(member);
        }
        for member in over {
            self.look(member);
        }
        lagging
    }

    /// What became of one receiver's turn of reading.
    pub(super) fn on_read(&mut self, number: u32, serial: u64, turn: Option<Turn>) {
        self.reads -= 1;
        self.take_turn(number, serial, turn);
        self.give_turns();
    }

    fn take_turn(&mut self, number: u32, serial: u64, turn: Option<Turn>) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.read_serial != serial || receiver.phase != Phase::Reading {
            return;
        }
        let Some(Turn { behind: Behind::One(reading), portion, gap }) = turn else {
            return self.remove(number);
        };
        receiver.phase = Phase::Lagging;
        if receiver.has_no_right(&*self.clock).is_some() {
            // It fell while somebody read: nothing of that is for it any more.
            return self.look(number);
        }
        if let Some(portion) = &portion
            && receiver.give(portion, self.hub.namespace(), self.now) == Sent::Never
        {
            return self.remove(number);
        }
        let place = reading.offset();
        if !reading.is_done() {
            receiver.reading = Some(reading);
        }
        match gap {
            Some(gap) => self.tell_gap(number, gap, place),
            None => receiver.position = place.max(receiver.position),
        }
        self.catch_up(number);
    }

    /// What became of an audience's turn of reading.
    pub(super) fn on_read_for_all(&mut self, number: u32, serial: u64, turn: Option<Turn>) {
        let Some(audience) = self.audiences.get_mut(number as usize) else { return };
        if audience.serial != serial {
            return;
        }
        let Some(Turn { behind: Behind::All(subscription), portion, gap }) = turn else {
            for member in audience.members.clone() {
                self.remove(member);
            }
            return;
        };
        let passed = subscription.offset();
        audience.source = Source::Live(subscription);
        self.hand_out(number, Taken { portion, gap, passed });
        self.line_up(number);
    }

    /// Has the history read for a whole audience that was too slow.
    fn read_for_all(&mut self, number: u32) {
        let Some(audience) = self.audiences.get_mut(number as usize) else { return };
        let source = std::mem::replace(&mut audience.source, Source::Away);
        let Source::Live(subscription) = source else { return };
        let (serial, inbox) = (audience.serial, Arc::clone(&self.inbox));
        let first = audience.members.first().and_then(|first| self.receivers.get(*first as usize));
        let framing = first.map_or(Framing::Bare, |first| first.framing);
        let behind = Behind::All(subscription);
        self.readers.give(move || {
            let turn = read(behind, framing);
            inbox.put(Message::ReadForAll { number, serial, turn });
        });
    }

    /// Has the history read for those who stand in line, for so many at a time: what was read and
    /// not written yet is memory.
    pub(super) fn give_turns(&mut self) {
        while self.reads < READS_AT_ONCE
            && let Some(number) = self.readers_line.pop_front()
        {
            // It may have left, and another one may have its number.
            let Some(receiver) = self.receivers.get_mut(number as usize) else { continue };
            let Some(reading) = receiver.reading.take_if(|_| receiver.phase == Phase::Reading)
            else {
                self.reads += usize::from(self.give_side_turn(number));
                continue;
            };
            let (serial, inbox) = (receiver.read_serial, Arc::clone(&self.inbox));
            let (behind, framing) = (Behind::One(reading), receiver.framing);
            self.reads += 1;
            self.readers.give(move || {
                let turn = read(behind, framing);
                inbox.put(Message::Read { number, serial, turn });
            });
        }
        if self.readers_line.is_empty() {
            // What a storm needed is given back when it is over.
            self.readers_line = VecDeque::new();
        }
    }

    /// Leads a receiver on that is behind and whose socket has room: with what its audience was
    /// handed out meanwhile, or by the history.
    pub(super) fn catch_up(&mut self, number: u32) {
        loop {
            let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
            if receiver.phase != Phase::Lagging || receiver.is_held() {
                return;
            }
            if receiver.rest.is_some() {
                return self.arm(number);
            }
            let Some(audience) = self.audiences.get_mut(receiver.audience as usize) else { return };
            if receiver.reading.is_some() {
                receiver.phase = Phase::Reading;
                self.readers_line.push_back(number);
                return self.give_turns();
            }
            match audience.covers(receiver.position) {
                Covered::Entirely => {
                    receiver.phase = Phase::Live;
                    audience.behind -= 1;
                    if audience.behind == 0 {
                        audience.forget();
                    }
                    self.arm(number);
                    return self.go_on_beside(number);
                }
                Covered::By(_) if receiver.has_no_right(&*self.clock).is_some() => {
                    return self.look(number);
                }
                Covered::By(portion) => {
                    if receiver.give(&portion, self.hub.namespace(), self.now) == Sent::Never {
                        return self.remove(number);
                    }
                }
                Covered::Not => {
                    let place = receiver.position;
                    let start = Start::Judged { after: place, forgotten: place };
                    let reading = self.hub.reading(Arc::clone(&audience.selection), start);
                    receiver.reading = Some(Box::new(reading));
                }
            }
        }
    }

    /// Goes on behind a gap where the client asked to be told in band. Others are ended, and learn
    /// the truth when they come back with the last id that they have: the place before the gap.
    fn tell_gap(&mut self, number: u32, gap: Gap, place: Offset) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let (Gap::Missed(missed) | Gap::Forgotten(missed)) = gap;
        let request = receiver.request;
        let framing = receiver.framing;
        let tells = receiver.tells || framing.is_messages();
        if let Some(event) = words::gap(framing, &self.hub, &missed, place).filter(|_| tells) {
            tracing::info!(%request, %missed, "a stream goes on behind a gap");
            receiver.position = receiver.position.max(place);
            receiver.told = receiver.position;
            match receiver.send(&[event], self.now) {
                Sent::Never => self.remove(number),
                Sent::All | Sent::Waits => self.arm(number),
            }
            return;
        }
        let place = match gap {
            Gap::Missed(missed) => {
                tracing::info!(%request, %missed, "a stream ends");
                missed.after.max(receiver.position)
            }
            Gap::Forgotten(_) => place,
        };
        self.end_at(number, End::Missing, place);
    }
}

/// One turn of reading; `None` when it panicked.
fn read(behind: Behind, framing: Framing) -> Option<Turn> {
    let turn = AssertUnwindSafe(|| read_history(behind, framing, CATCH_UP_TURN));
    let turn = catch_unwind(turn).ok();
    if turn.is_none() {
        tracing::error!("reading the history panicked");
    }
    turn
}
