//! Which entry may go next: entries of one lane one after the other, lanes beside each other, the
//! oldest first. Knows no system and no rule about failures.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::item::Item;
use super::rules::AGAIN;

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Its first entry may go.
    Ready,
    /// Its first entry may go then.
    Waiting(Duration),
    /// Something of it is on its way.
    Busy,
}

/// Entries of one key, in order.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) items: VecDeque<Item>,
    standing: Standing,
}

impl Lane {
    /// Whether the last of it is a copy: what comes behind it has to be one, too.
    pub(super) fn is_parked(&self) -> bool {
        self.items.back().is_some_and(Item::is_copy)
    }
}

/// All lanes of a sink that have something in them.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<u64, Lane>,
    /// By the place of the first entry, those that were sent for again behind all others.
    ready: BTreeSet<(u64, u64)>,
    /// By the moment.
    waiting: BTreeSet<(Duration, u64)>,
}

impl Lanes {
    pub(super) fn get(&self, lane: u64) -> Option<&Lane> {
        self.lanes.get(&lane)
    }

    /// The entries of a lane, to look at and to change; afterwards it has to be settled.
    pub(super) fn items(&mut self, lane: u64) -> Option<&mut VecDeque<Item>> {
        self.lanes.get_mut(&lane).map(|lane| &mut lane.items)
    }

    /// Another entry, behind those of its lane.
    pub(super) fn push(&mut self, lane: u64, item: Item, now: Duration) {
        let known = self.lanes.entry(lane);
        let is_new = matches!(known, std::collections::hash_map::Entry::Vacant(_));
        let busy = Lane { items: VecDeque::new(), standing: Standing::Busy };
        known.or_insert(busy).items.push_back(item);
        if is_new {
            self.settle(lane, now);
        }
    }

    /// What was done with a lane is over: it waits for its turn again, or is gone.
    pub(super) fn settle(&mut self, lane: u64, now: Duration) {
        self.leave(lane);
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        let Some(first) = known.items.front() else {
            self.lanes.remove(&lane);
            return;
        };
        if first.due <= now {
            known.standing = Standing::Ready;
            self.ready.insert((rank(first.number, lane), lane));
        } else {
            known.standing = Standing::Waiting(first.due);
            self.waiting.insert((first.due, lane));
        }
    }

    /// [`Lanes::settle`], but what is on its way stays so.
    pub(super) fn settle_unless_busy(&mut self, lane: u64, now: Duration) {
        if self.get(lane).is_some_and(|lane| lane.standing != Standing::Busy) {
            self.settle(lane, now);
        }
    }

    /// Something of the lane is on its way: it does not come up until it is settled.
    pub(super) fn busy(&mut self, lane: u64) {
        self.leave(lane);
    }

    fn leave(&mut self, lane: u64) {
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        match std::mem::replace(&mut known.standing, Standing::Busy) {
            Standing::Ready => {
                let first = known.items.front().map_or(0, |item| item.number);
                if !self.ready.remove(&(rank(first, lane), lane)) {
                    self.ready.retain(|(_, ready)| *ready != lane);
                }
            }
            Standing::Waiting(due) => {
                self.waiting.remove(&(due, lane));
            }
            Standing::Busy => {}
        }
    }

    /// Lanes whose moment has come may go.
    pub(super) fn wake(&mut self, now: Duration) {
        while let Some((due, lane)) = self.waiting.first().copied()
            && due <= now
        {
            self.settle(lane, now);
        }
    }

    /// The lane whose first entry is the oldest of those that may go: of what comes the first time,
    /// or of what was sent for again where it is its turn.
    pub(super) fn oldest(&self, again: bool) -> Option<u64> {
        let oldest = self.ready.first();
        let first = if again { self.ready.range((AGAIN, 0)..).next().or(oldest) } else { oldest };
        first.map(|(_, lane)| *lane)
    }

    /// Of those that may go, the one whose first entry has failed least: a system is asked by it
    /// whether it works again.
    pub(super) fn least_tried(&self) -> Option<u64> {
        let tries = |lane: &u64| self.get(*lane)?.items.front().map(|item| item.tries);
        let lanes = self.ready.iter().map(|(_, lane)| *lane);
        lanes.min_by_key(|lane| tries(lane).unwrap_or(u32::MAX))
    }

    /// When the next lane may go that may not yet.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// What is given up, and waits for room for a dead letter, is tried once more.
    pub(super) fn spare(&mut self, now: Duration) {
        let is_given_up = |lane: &Lane| lane.items.front().is_some_and(|item| item.is_given_up);
        let lanes = self.lanes.iter().filter(|(_, lane)| is_given_up(lane));
        let given_up: Vec<u64> = lanes.map(|(number, _)| *number).collect();
        for lane in given_up {
            if let Some(first) = self.items(lane).and_then(|items| items.front_mut()) {
                (first.is_given_up, first.due) = (false, now);
            }
            self.settle_unless_busy(lane, now);
        }
    }

    /// What waits for its moment need not any longer.
    pub(super) fn hurry(&mut self, now: Duration) {
        let waiting: Vec<u64> = self.waiting.iter().map(|(_, lane)| *lane).collect();
        for lane in waiting {
            if let Some(first) = self.items(lane).and_then(|items| items.front_mut()) {
                first.due = now;
            }
            self.settle(lane, now);
        }
    }
}

/// Where an entry stands among those that may go.
fn rank(number: u64, lane: u64) -> u64 {
    (number & !AGAIN) | (lane & AGAIN)
}
