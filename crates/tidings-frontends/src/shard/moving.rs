//! How receivers come to an audience, move to another one, and leave. Knows nothing of how entries
//! reach them.

use std::sync::Arc;

use tidings_core::{Offset, Selection};

use super::audience::{Audience, Likeness, common};
use super::receiver::Phase;
use super::run::Shard;

impl Shard {
    /// The audience of those who ask for the same, made when there is none.
    pub(super) fn audience_of(&mut self, selection: Selection) -> u32 {
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

    /// Up to where nothing for this client was left out. It stays so: what is brought or begun
    /// there would else be brought once more.
    pub(super) fn place_of(&mut self, number: u32) -> Offset {
        let place = self.passed(number);
        if let Some(receiver) = self.receivers.get_mut(number as usize) {
            receiver.position = receiver.position.max(place);
        }
        place
    }

    /// Has a socket hear with those who want the same as it does now, from its place on: what lies
    /// before it stays as it was given, and everything behind it is still to come. What the new
    /// audience has been given beyond it, the history brings.
    ///
    /// The place is the one at which its wants were changed. It is not asked for again: others
    /// publish meanwhile, and what the old audience passes over may be for the new one.
    pub(super) fn move_to_wants(&mut self, number: u32, place: Offset) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = &mut receiver.socket else { return };
        if let Some(side) = &mut socket.side {
            side.holds = false;
        }
        let selection = socket.wants.selection();
        let audience = self.audience_of(selection);
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        if receiver.audience == audience {
            return;
        }
        let Some(joined) = self.audiences.get_mut(audience as usize) else { return };
        let (old, seat, was_behind) = (receiver.audience, receiver.seat, receiver.is_behind());
        let is_behind = place < joined.passed;
        joined.behind += usize::from(is_behind);
        self.serial += 1;
        receiver.audience = audience;
        receiver.seat = joined.join(number);
        receiver.read_serial = self.serial;
        receiver.reading = None;
        receiver.position = place;
        receiver.phase = if is_behind { Phase::Lagging } else { Phase::Live };
        self.leave_audience(old, seat, was_behind);
    }

    /// Takes a receiver from its seat, and the audience away when it was the last.
    pub(super) fn leave_audience(&mut self, number: u32, seat: u32, was_behind: bool) {
        let Some(audience) = self.audiences.get_mut(number as usize) else { return };
        audience.behind -= usize::from(was_behind);
        if let Some(moved) = audience.leave(seat)
            && let Some(moved) = self.receivers.get_mut(moved as usize)
        {
            moved.seat = seat;
        }
        if audience.members.is_empty() {
            self.alike.remove(&audience.likeness);
            self.audiences.remove(number as usize);
        } else if audience.behind == 0 {
            audience.forget();
        }
    }
}
