//! What people ask of a sink: to pause, to go on, to deliver again, to forget.

use std::sync::Arc;

use tidings_core::Entry;

use super::changes::{Held, Standing};
use super::item::{Item, Kept};
use super::rules::AGAIN;
use super::{Delivery, Now};
use crate::limits::{AGAIN_BYTES_MAX, AGAIN_ROWS_MAX};

/// An entry that is to be delivered again.
#[derive(Debug, Clone)]
pub struct Again {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The dead letter that it comes from, which is none any more then: its number and weight. It
    /// is a replay without one, and nothing follows its delivery.
    pub letter: Option<(u64, usize)>,
}

impl Delivery {
    /// Nothing is sent until [`Delivery::resume`]. What is disabled stays so: why it is must be
    /// looked at before it goes on.
    pub fn pause(&mut self) {
        if !matches!(self.standing, Standing::Disabled(_)) {
            self.stand(Standing::Paused);
        }
    }

    /// Goes on, at once with what waits for another try.
    pub fn resume(&mut self, now: Now) {
        self.stand(Standing::Running);
        self.breaker.succeeded();
        self.held_until = now.monotonic;
        self.changes.held = Some(Held::default());
        self.lanes.hurry(now.monotonic);
    }

    /// Nothing is sent until somebody says so.
    pub fn disable(&mut self, reason: String) {
        self.stand(Standing::Disabled(reason));
    }

    fn stand(&mut self, standing: Standing) {
        if self.standing != standing {
            self.standing = standing;
            self.changes.standing = Some(self.standing.clone());
        }
    }

    /// How many entries and bytes can be delivered again just now. What fails for the first time
    /// keeps some of the space that both have.
    pub fn room_for_again(&self) -> (usize, usize) {
        let rows = AGAIN_ROWS_MAX.saturating_sub(self.copies);
        (rows, AGAIN_BYTES_MAX.saturating_sub(self.copies_bytes))
    }

    /// Delivers again, in the given order for each key and beside what comes the first time, as
    /// much as there is room for. Answers how many were taken. Where dead letters had no room for
    /// more, what waits to become one is tried once more as well.
    pub fn again(&mut self, entries: &[Again], now: Now) -> usize {
        if self.lacks().is_some() && entries.iter().any(|again| again.letter.is_some()) {
            // Somebody thinks that the system works now.
            self.lanes.spare(now.monotonic);
        }
        let mut taken = 0;
        for again in entries {
            let weight = again.entry.update.weight();
            let (rows, bytes) = self.room_for_again();
            // What was a dead letter takes no more than that did.
            let is_room = again.letter.is_some() || self.part.has_room(weight);
            if rows == 0 || weight > bytes || !is_room {
                break;
            }
            taken += 1;
            self.send_again(again, weight, now);
        }
        taken
    }

    fn send_again(&mut self, again: &Again, weight: usize, now: Now) {
        let lane = self.rules.lane(&again.entry) | AGAIN;
        if let Some((number, weight)) = again.letter {
            self.forget(number, weight);
        }
        let number = again.entry.offset.durable;
        let mut items = self.lanes.items(lane).into_iter().flatten();
        if let Some(known) = items.find(|item| item.number == number) {
            // It is on its way as a replay: what follows is published all the same.
            if again.letter.is_some() && known.kept == (Kept::Copy { is_replayed: true }) {
                known.kept = Kept::Copy { is_replayed: false };
                let row = known.row(lane, now);
                self.changes.copies.push((row.key, Some((row, Arc::clone(&again.entry)))));
            }
            return;
        }
        let item = Item {
            number,
            entry: Some(Arc::clone(&again.entry)),
            weight,
            kept: Kept::Copy { is_replayed: again.letter.is_none() },
            tries: 0,
            rejected: 0,
            since: now.wall,
            due: now.monotonic,
            last: None,
            is_given_up: false,
        };
        self.copies += 1;
        self.copies_bytes += weight;
        self.part.take(weight);
        self.write_copy(lane, &item, now);
        // Read when its turn comes: there may be thousands.
        self.lanes.push(lane, Item { entry: None, ..item }, now.monotonic);
    }

    /// A dead letter is none any more.
    pub fn forget(&mut self, number: u64, weight: usize) {
        self.dead.rows = self.dead.rows.saturating_sub(1);
        let freed = weight.min(self.dead.bytes);
        self.dead.bytes -= freed;
        self.part.give(freed);
        self.full.letter = None;
        self.changes.revived.push(number);
        self.changes.dead_total = Some(self.dead);
    }
}
