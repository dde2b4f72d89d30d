//! Delivery of one sink's entries: order, retries, patience, rate, what is set aside and what
//! becomes a dead letter. A state machine without a socket, a clock or a storage: entries, answers
//! and the time are put in; what to send, what to read and what to save come out.
//!
//! The history is the queue. A position says up to where nothing is owed. Where order is kept by
//! key, a key that fails is set aside ("parked") as copies, so that the position moves on for the
//! others; where it is kept in the whole sink, the position stands until the entry is delivered or
//! given up.

mod answers;
mod breaker;
mod changes;
mod commands;
mod counts;
mod dice;
mod interface;
mod item;
mod lanes;
mod pace;
mod retry;
mod room;
mod rules;
pub mod run;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Batch, Entry, Missed, Offset};

pub use self::changes::{About, Changes, Copy, DeadLetter, DeadTotal, Held, Row, RowKey, Standing};
pub use self::commands::Again;
pub use self::counts::Counts;
pub use self::interface::{Action, Now, Saved, Status};
pub use self::retry::Retry;
pub use self::room::Lack;
pub use self::rules::Rules;
pub(crate) use self::rules::{followed, seed};

use self::breaker::Breaker;
use self::dice::Dice;
use self::item::{Item, Kept};
use self::lanes::Lanes;
use self::pace::Pace;
use self::room::Full;
use self::rules::AGAIN;
use self::window::Window;
use crate::connector::Run;
use crate::limits::{LOAD_BYTES_MAX, LOAD_ROWS_MAX, RUN_BYTES_MAX, WINDOW_WHILE_OPEN_MAX};
use crate::space::Part;

/// The state of one sink.
#[derive(Debug)]
pub struct Delivery {
    rules: Rules,
    window: Window,
    lanes: Lanes,
    breaker: Breaker,
    pace: Pace,
    dice: Dice,
    standing: Standing,
    /// The system asked to be left alone until then.
    held_until: Duration,
    /// What is on its way.
    busy: usize,
    /// What was sent for again goes next, if there is some.
    is_turn_of_again: bool,
    follows: VecDeque<Action>,
    /// Lanes whose follow-up is on its way, and up to where the history was taken before.
    following: Vec<(u64, Offset)>,
    copies: usize,
    copies_bytes: usize,
    dead: DeadTotal,
    /// What both take of the space of all sinks.
    part: Part,
    followed: HashSet<u64>,
    /// Copies up to this place are from before: their entries may come from the history once more.
    copied_until: u64,
    changes: Changes,
    told: Offset,
    wake: Option<Duration>,
    full: Full,
    is_ending: bool,
    is_unsaved: bool,
    last_failure: Option<String>,
}

impl Delivery {
    /// Goes on where `saved` ends. `seed` is another one for each sink and process.
    pub fn new(rules: Rules, saved: Saved, seed: u64, now: Now) -> Delivery {
        let held = Duration::from_millis(saved.held.until.saturating_sub(now.wall));
        let held = held.min(saved.held.wait);
        let pace = Pace::new(rules.rate, now.monotonic);
        let mut delivery = Delivery {
            rules,
            window: Window::new(saved.position),
            lanes: Lanes::default(),
            breaker: Breaker::NEW,
            pace,
            dice: Dice::new(seed),
            standing: saved.standing,
            held_until: now.monotonic + held,
            busy: 0,
            is_turn_of_again: false,
            follows: VecDeque::new(),
            following: Vec::new(),
            copies: 0,
            copies_bytes: 0,
            dead: saved.dead,
            part: saved.part,
            followed: saved.followed,
            copied_until: 0,
            changes: Changes::default(),
            told: saved.position,
            wake: None,
            full: Full::default(),
            is_ending: false,
            is_unsaved: false,
            last_failure: None,
        };
        let mut rows = saved.rows;
        rows.sort_by_key(|row| row.key);
        for row in rows {
            delivery.know(&row, now);
        }
        delivery
    }

    /// A copy from before. It waits no longer than was planned, whatever the wall clock says now.
    fn know(&mut self, row: &Row, now: Now) {
        if !row.is_replayed && self.followed.contains(&row.key.number) {
            self.changes.copies.push((row.key, None));
            self.changes.acknowledged += 1;
            self.part.give(row.weight);
            return;
        }
        self.copied_until = self.copied_until.max(row.key.number);
        let wait = Duration::from_millis(row.due.saturating_sub(now.wall)).min(row.wait);
        let item = Item {
            number: row.key.number,
            entry: None,
            weight: row.weight,
            kept: Kept::Copy { is_replayed: row.is_replayed },
            tries: row.tries,
            rejected: row.rejected,
            since: row.since,
            due: now.monotonic + wait,
            last: None,
            is_given_up: false,
        };
        self.copies += 1;
        self.copies_bytes += row.weight;
        self.lanes.push(row.key.lane, item, now.monotonic);
    }

    /// Whether more of the history is to be taken.
    pub fn wants_more(&self, now: Now) -> bool {
        let (entries, bytes) = self.window.size();
        let (entries_max, bytes_max) = self.rules.window();
        let most = match self.breaker.is_closed() && self.held_until <= now.monotonic {
            true => entries_max / 2,
            // Nothing is read for who cannot take it.
            false => WINDOW_WHILE_OPEN_MAX,
        };
        self.standing == Standing::Running && !self.is_ending && entries < most && bytes < bytes_max
    }

    /// Bytes of live entries that the hub may keep for it before they are read again.
    pub fn pending_bytes_max(&self) -> usize {
        self.rules.pending_bytes_max()
    }

    /// What was taken from the history, and up to where.
    pub fn taken(&mut self, batch: &Batch, until: Offset, now: Now) {
        for entry in batch.iter() {
            // What is ephemeral has no place to come back to.
            if !entry.update.ephemeral && entry.offset.sub == 0 {
                self.take_in(entry, now);
            }
        }
        self.window.taken(until);
    }

    fn take_in(&mut self, entry: &Arc<Entry>, now: Now) {
        let number = entry.offset.durable;
        if self.rules.is_own(entry) {
            return;
        }
        let weight = entry.update.weight();
        self.window.push(number, weight);
        if self.followed.remove(&number) {
            self.window.done(number);
            self.changes.acknowledged += 1;
            return;
        }
        let lane = self.rules.lane(entry);
        if number <= self.copied_until && self.is_copied(lane, number) {
            self.window.done(number);
            return;
        }
        let mut item = Item {
            number,
            entry: Some(Arc::clone(entry)),
            weight,
            kept: Kept::History,
            tries: 0,
            rejected: 0,
            since: entry.time,
            due: now.monotonic,
            last: None,
            is_given_up: false,
        };
        if self.lanes.get(lane).is_some_and(lanes::Lane::is_parked) {
            self.park(lane, &mut item, now);
        }
        self.lanes.push(lane, item, now.monotonic);
    }

    fn is_copied(&self, lane: u64, number: u64) -> bool {
        let is_it = |item: &Item| item.is_copy() && item.number == number;
        self.lanes.get(lane).is_some_and(|lane| lane.items.iter().any(is_it))
    }

    /// The history no longer had what comes next, and why. It is recorded as a dead letter of its
    /// own.
    pub fn missed(&mut self, missed: Missed, reason: &str, now: Now) {
        self.record(0, reason.to_owned(), About::Gap(missed), now);
        self.window.taken(missed.until);
    }

    /// Its place is saved anew, though it may not have moved: it means another place than before.
    pub fn save_place(&mut self) {
        self.told = Offset::ZERO;
    }

    /// Nothing up to here is for the sink but what it has taken.
    pub fn passed(&mut self, until: Offset) {
        self.window.taken(until);
    }

    /// What to do next, if anything; to be asked until there is nothing.
    pub fn next(&mut self, now: Now) -> Option<Action> {
        self.wake = None;
        if let Some(follow) = self.follows.pop_front() {
            return Some(follow);
        }
        if self.standing != Standing::Running || self.is_ending || self.is_unsaved {
            return None;
        }
        self.lanes.wake(now.monotonic);
        while let Some(lane) = self.pick(now) {
            let first = self.lanes.get(lane).and_then(|lane| lane.items.front());
            if first.is_some_and(|item| item.is_given_up) {
                self.bury(lane, now);
                continue;
            }
            return Some(match first.is_some_and(|item| item.entry.is_none()) {
                true => self.load(lane),
                false => self.send(lane, now),
            });
        }
        self.wake = [self.wake, self.lanes.next_due()].into_iter().flatten().min();
        None
    }

    /// The lane whose turn it is, if one may go now. Notes when one may otherwise.
    fn pick(&mut self, now: Now) -> Option<u64> {
        if self.busy >= self.rules.concurrency {
            return None;
        }
        let lane = match self.breaker {
            Breaker::Closed { .. } => self.lanes.oldest(self.is_turn_of_again),
            Breaker::Open { .. } | Breaker::Probing { .. } => self.lanes.least_tried(),
        }?;
        let allowed = match self.breaker.allows(now.monotonic) {
            _ if self.held_until > now.monotonic => Err(Some(self.held_until)),
            Ok(()) => self.pace.allows(now.monotonic).map_err(Some),
            Err(until) => Err(until),
        };
        match allowed {
            Ok(()) => Some(lane),
            Err(until) => {
                self.wake = until;
                None
            }
        }
    }

    fn load(&mut self, lane: u64) -> Action {
        let mut keys = Vec::new();
        let mut bytes = 0;
        let items = self.lanes.get(lane).into_iter().flat_map(|lane| &lane.items);
        for item in items.take_while(|item| item.entry.is_none()).take(LOAD_ROWS_MAX) {
            if bytes > LOAD_BYTES_MAX {
                break;
            }
            bytes += item.weight;
            keys.push(item.key(lane));
        }
        self.begin(lane);
        Action::Load { lane, keys }
    }

    fn send(&mut self, lane: u64, now: Now) -> Action {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let items = self.lanes.get(lane).into_iter().flat_map(|lane| &lane.items);
        let tries = items.clone().next().map_or(0, |item| item.tries);
        for item in items.take(self.rules.run_max()) {
            let Some(entry) = item.entry.as_ref().filter(|_| bytes <= RUN_BYTES_MAX) else { break };
            bytes += item.weight;
            entries.push(Arc::clone(entry));
        }
        self.begin(lane);
        // By turns, so that neither holds up the other.
        self.is_turn_of_again = lane & AGAIN == 0;
        self.breaker.sent();
        self.pace.sent(now.monotonic);
        Action::Send { lane, run: Run { entries, tries } }
    }

    fn begin(&mut self, lane: u64) {
        self.lanes.busy(lane);
        self.busy += 1;
    }

    /// What was on its way is over.
    fn finish(&mut self, lane: u64, now: Now) {
        self.busy -= 1;
        self.lanes.settle(lane, now.monotonic);
    }

    /// When to ask again, if nothing else happens: a moment on the monotonic clock.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake
    }

    /// What changed since this was asked last, to be saved as one.
    pub fn changes(&mut self) -> Changes {
        let position = self.window.position();
        if position > self.told {
            self.told = position;
            self.changes.position = Some(position);
        }
        if !self.changes.is_empty() {
            let begun = self.following.iter().map(|(_, taken)| *taken).min();
            self.changes.unfollowed = Some(begun.map_or(position, |taken| taken.min(position)));
        }
        std::mem::take(&mut self.changes)
    }

    /// Whether so much of what was acknowledged is not saved that nothing more may be begun: the
    /// answer, which counts from now on.
    pub fn waits_for_save(&mut self, unsaved: usize) -> bool {
        self.is_unsaved = unsaved > self.rules.unsaved_max();
        self.is_unsaved
    }

    /// Nothing more is begun; what is on its way comes to its end.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.busy == 0
    }

    /// See [`Status`].
    pub fn status(&self, now: Now) -> Status {
        Status {
            position: self.window.position(),
            standing: self.standing.clone(),
            waiting: self.window.size().0,
            sending: self.busy,
            parked: self.copies,
            dead: self.dead.rows,
            is_resting: !self.breaker.is_closed() || self.held_until > now.monotonic,
            is_full: self.lacks().is_some(),
            failure: None,
            last_failure: self.last_failure.clone(),
        }
    }
}
