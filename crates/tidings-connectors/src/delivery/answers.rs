//! What becomes of entries: delivered, tried again later, set aside, or given up.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::Entry;

use super::changes::{About, DeadLetter, Held, RowKey, Standing};
use super::item::{Item, Kept};
use super::retry::Next;
use super::room::Growth;
use super::{Action, Delivery, Now};
use crate::connector::{Answer, Failure, Fault, Outcome};
use crate::limits::{FULL_WAIT, PARK_AFTER};

impl Delivery {
    /// What became of the run of a lane.
    pub fn answered(&mut self, lane: u64, outcome: Outcome, now: Now) {
        let Outcome { delivered, failure, answer } = outcome;
        // Who says when to come back is there.
        let is_system = |failure: &Failure| {
            failure.retry_after.is_none()
                && matches!(failure.fault, Fault::Unreachable | Fault::TimedOut | Fault::Busy)
        };
        match &failure {
            Some(failure) if delivered == 0 && is_system(failure) => {
                self.breaker.failed(now.monotonic, &mut self.dice);
            }
            _ => self.breaker.succeeded(),
        }
        if delivered > 0 {
            self.last_failure = None;
        }
        for _ in 0..delivered {
            if self.follow(lane) {
                return;
            }
            self.done(lane);
        }
        if let Some(failure) = failure {
            self.failed(lane, failure, answer, now);
        }
        self.finish(lane, now);
    }

    /// Has published what follows the first entry of a lane, if something does.
    fn follow(&mut self, lane: u64) -> bool {
        if self.rules.then.is_none() {
            return false;
        }
        let Some(first) = self.lanes.get(lane).and_then(|lane| lane.items.front()) else {
            return false;
        };
        let is_wanted = first.kept != Kept::Copy { is_replayed: true };
        let Some(entry) = first.entry.as_ref().filter(|_| is_wanted) else { return false };
        let entry = Arc::clone(entry);
        self.following.push((lane, self.window.taken_until()));
        self.follows.push_back(Action::Follow { lane, entry });
        true
    }

    /// The follow-up of a lane's first entry stands in the history, or there is none for it; or the
    /// hub will never take it, and why.
    pub fn followed(&mut self, lane: u64, result: Result<(), String>, now: Now) {
        self.following.retain(|(following, _)| *following != lane);
        let front = self.lanes.get(lane).and_then(|lane| lane.items.front());
        if let (Err(reason), Some(first)) = (result, front)
            && let Some(entry) = first.entry.clone()
        {
            let tries = first.tries + 1;
            self.record(tries, reason, About::FollowUp { entry }, now);
        }
        self.done(lane);
        self.finish(lane, now);
    }

    /// Copies that were read; one that could not be is `None`.
    pub fn loaded(&mut self, lane: u64, rows: Vec<(RowKey, Option<Arc<Entry>>)>, now: Now) {
        let mut unreadable = Vec::new();
        for (key, entry) in rows {
            let items = self.lanes.items(lane).into_iter().flatten();
            match items.into_iter().find(|item| item.number == key.number) {
                Some(item) if entry.is_some() => item.entry = entry,
                Some(_) => unreadable.push(key.number),
                None => {}
            }
        }
        for number in unreadable {
            if let Some(items) = self.lanes.items(lane)
                && let Some(at) = items.iter().position(|item| item.number == number)
                && let Some(item) = items.remove(at)
            {
                let reason = "its copy cannot be read any more, or no longer by this sink".into();
                self.record(item.tries, reason, About::Unreadable { number }, now);
                self.let_go(lane, &item);
            }
        }
        self.finish(lane, now);
    }

    /// The storage could not be read: the lane comes up again a little later.
    pub fn not_loaded(&mut self, lane: u64, now: Now) {
        self.delay(lane, now.monotonic + FULL_WAIT);
        self.finish(lane, now);
    }

    fn delay(&mut self, lane: u64, due: Duration) {
        if let Some(first) = self.lanes.items(lane).and_then(|items| items.front_mut()) {
            first.due = due;
        }
    }

    /// The first entry of a lane is delivered.
    fn done(&mut self, lane: u64) {
        if let Some(item) = self.lanes.items(lane).and_then(|items| items.pop_front()) {
            self.changes.acknowledged += 1;
            self.full.copy = None;
            self.let_go(lane, &item);
        }
    }

    /// Nothing is owed for an item any more.
    fn let_go(&mut self, lane: u64, item: &Item) {
        match item.kept {
            Kept::History => {
                self.window.done(item.number);
            }
            Kept::Copy { .. } => {
                self.copies -= 1;
                self.copies_bytes -= item.weight;
                self.part.give(item.weight);
                self.full.copy = None;
                self.changes.copies.push((item.key(lane), None));
            }
        }
    }

    fn failed(&mut self, lane: u64, failure: Failure, answer: Answer, now: Now) {
        self.last_failure = Some(failure.reason.clone());
        if let Some(asked) = failure.retry_after.filter(|asked| asked.is_for_all) {
            self.held_until = self.held_until.max(now.monotonic + asked.wait);
            let until = now.wall.saturating_add(milliseconds(asked.wait));
            self.changes.held = Some(Held { until, wait: asked.wait });
        }
        if failure.fault == Fault::Gone {
            self.standing = Standing::Disabled(failure.reason);
            self.changes.standing = Some(self.standing.clone());
            return;
        }
        let Some(item) = self.lanes.items(lane).and_then(|items| items.front_mut()) else { return };
        item.tries = item.tries.saturating_add(1);
        item.rejected += u32::from(failure.fault == Fault::Rejected);
        let age = Duration::from_millis(now.wall.saturating_sub(item.since));
        let retry = self.rules.retry;
        let next = retry.next(&failure, item.tries, item.rejected, age, &mut self.dice);
        let was_asked = failure.retry_after.is_some();
        item.last = Some(Box::new((failure, answer)));
        match next {
            Next::GiveUp => {
                item.is_given_up = true;
                self.bury(lane, now);
            }
            Next::After(wait) => {
                let due = now.monotonic.saturating_add(wait);
                // The system is down, not this entry bad: it is asked again as soon as anybody is.
                item.due = match self.breaker.until() {
                    Some(until) if !was_asked && !item.is_copy() => due.min(until),
                    _ => due,
                };
                let wait = item.due.saturating_sub(now.monotonic);
                self.set_aside(lane, wait, now);
            }
        }
    }

    /// Keeps a lane whose first entry waits from holding up others.
    fn set_aside(&mut self, lane: u64, wait: Duration, now: Now) {
        let is_copy =
            self.lanes.get(lane).and_then(|lane| lane.items.front()).is_some_and(Item::is_copy);
        let others_go_on = self.breaker.is_closed() && self.held_until <= now.monotonic;
        let is_far = self.rules.key.is_some() && wait > PARK_AFTER && others_go_on;
        let Some(items) = self.lanes.items(lane) else { return };
        let mut items = std::mem::take(items);
        if is_copy {
            if let Some(first) = items.front_mut() {
                self.write_copy(lane, first, now);
            }
            // Their time is far: they are read again when it comes.
            items.iter_mut().filter(|item| item.is_copy()).for_each(|item| item.entry = None);
        } else if is_far {
            for item in &mut items {
                if !self.park(lane, item, now) {
                    break;
                }
            }
        }
        if let Some(known) = self.lanes.items(lane) {
            *known = items;
        }
    }

    /// Makes a copy of an entry, so that the position may pass it. Answers whether there was room.
    pub(super) fn park(&mut self, lane: u64, item: &mut Item, now: Now) -> bool {
        if item.is_copy() {
            return true;
        }
        self.full.copy = self.lacks_for_copy(item.weight).map(|_| item.weight);
        if self.full.copy.is_some() {
            return false;
        }
        item.kept = Kept::Copy { is_replayed: false };
        self.copies += 1;
        self.copies_bytes += item.weight;
        self.part.take(item.weight);
        self.write_copy(lane, item, now);
        item.entry = None;
        self.window.done(item.number);
        true
    }

    /// Writes down how a copy stands now.
    pub(super) fn write_copy(&mut self, lane: u64, item: &Item, now: Now) {
        let Some(entry) = &item.entry else { return };
        let row = item.row(lane, now);
        self.changes.copies.push((row.key, Some((row, Arc::clone(entry)))));
    }

    /// Makes a dead letter of a lane's first entry, which was given up, if there is room for one.
    pub(super) fn bury(&mut self, lane: u64, now: Now) {
        let front = self.lanes.get(lane).and_then(|lane| lane.items.front());
        let Some(first) = front else { return };
        let (Some(entry), Some(last)) = (first.entry.clone(), first.last.clone()) else {
            // A copy that was given up in another process is tried once more.
            if let Some(first) = self.lanes.items(lane).and_then(|items| items.front_mut()) {
                first.is_given_up = false;
            }
            return;
        };
        let (Failure { fault, reason, .. }, answer) = *last;
        let (tries, takes) = (first.tries, entry.update.weight() + answer.body.len());
        let growth = Growth { takes, frees: if first.is_copy() { first.weight } else { 0 } };
        self.full.letter = self.lacks_for_letter(growth).map(|_| growth);
        if self.full.letter.is_some() {
            self.delay(lane, now.monotonic + FULL_WAIT);
            self.lanes.settle_unless_busy(lane, now.monotonic);
            return;
        }
        self.record(tries, reason, About::Entry { entry, fault, answer }, now);
        if let Some(item) = self.lanes.items(lane).and_then(|items| items.pop_front()) {
            self.let_go(lane, &item);
        }
        self.lanes.settle_unless_busy(lane, now.monotonic);
    }

    /// Another dead letter, whether there is room or not: of what cannot wait.
    pub(super) fn record(&mut self, tries: u32, reason: String, about: About, now: Now) {
        self.dead.last += 1;
        let number = self.dead.last;
        let letter = DeadLetter { number, time: now.wall, tries, reason, about };
        self.dead.rows += 1;
        self.dead.bytes += letter.weight();
        self.part.take(letter.weight());
        self.changes.dead.push(letter);
        self.changes.dead_total = Some(self.dead);
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
