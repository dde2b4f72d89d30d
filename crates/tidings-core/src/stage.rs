//! The first stage behind the hub's order: appends what is queued and syncs once for the batch, of
//! which publishers and the second stage can be told then. Knows no thread: whoever is to do its
//! work calls it.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::announce::Announcement;
use crate::answers::{Answer, Outcome, receipt};
use crate::clock::Clock;
use crate::error::Refused;
use crate::history::AppendError;
use crate::hub::Shared;
use crate::intake::{Found, Intake};
use crate::limits::{BATCH_BYTES_MAX, BATCH_UPDATES_MAX, SUB_MAX};
use crate::metrics::count;
use crate::outbox::{Committed, Outbox};
use crate::repeats::{First, Repeats, repeat_key};
use crate::update::{Entry, Offset, Update};
use crate::writer::{Commit, Queued};

/// The first stage.
pub(crate) struct Stage {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    last: Offset,
    repeats: Repeats,
    outbox: Arc<Outbox>,
}

impl Stage {
    /// Goes on behind `start`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        start: Offset,
        repeats: Repeats,
        outbox: Arc<Outbox>,
    ) -> Stage {
        Stage { shared, clock, last: start, repeats, outbox }
    }

    /// Commits what waits, as much as one sync covers.
    pub(crate) fn work(&mut self, intake: &Intake<Queued>) -> Found {
        let mut batch = Vec::new();
        let mut announced = Vec::new();
        let found = collect(intake, &mut batch, &mut announced);
        let working = AssertUnwindSafe(|| {
            if !batch.is_empty() {
                self.commit(&mut batch);
            }
            for announcement in announced.drain(..) {
                self.announce(announcement);
            }
        });
        if catch_unwind(working).is_err() {
            // Whoever waits for an answer is told; nothing half-done is gone on with.
            self.shared.failed.store(true, Ordering::Release);
            self.last = self.shared.subscribers.committed();
            tracing::error!("the writer failed: publishing has stopped until a restart");
        }
        found
    }

    /// Lets go of what is old.
    pub(crate) fn maintain(&mut self) {
        self.shared.tail.forget(self.clock.monotonic());
        if let Err(AppendError::Failed(reason)) = self.shared.history.maintain() {
            self.fail(&reason);
        }
    }

    fn commit(&mut self, batch: &mut Vec<Commit>) {
        if self.shared.failed.load(Ordering::Acquire) {
            let refused = Refused::StorageFailed("an earlier write failed".into());
            return refuse(batch.drain(..).map(|commit| commit.answer), &refused);
        }
        let before = self.last;
        let mut entries = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        // Given back together.
        let mut rooms: Option<OwnedSemaphorePermit> = None;
        let (now, time) = (self.clock.monotonic(), self.clock.wall());
        for commit in batch.drain(..) {
            match (&mut rooms, commit.room) {
                (Some(rooms), Some(room)) => rooms.merge(room),
                (none @ None, room) => *none = room,
                (Some(_), None) => {}
            }
            let publisher = commit.publisher.as_deref().unwrap_or_default();
            let outcome = self.place(commit.update, publisher, now, time);
            if let Outcome::New(entry) = &outcome {
                entries.push(Arc::clone(entry));
            }
            answers.push((commit.answer, outcome));
        }
        let is_durable = |entry: &&Arc<Entry>| !entry.update.ephemeral;
        let durable: Cow<'_, [_]> = match entries.iter().all(|entry| is_durable(&entry)) {
            true => Cow::Borrowed(&entries),
            false => entries.iter().filter(is_durable).map(Arc::clone).collect(),
        };
        let appended = match durable.is_empty() {
            true => Ok(()),
            false => self.shared.history.append(&durable),
        };
        drop(durable);
        match appended {
            Ok(()) => {
                count(&self.shared.counters.batches);
                self.commit_to(entries, answers);
            }
            // Ephemeral updates of the batch go with it: they follow entries that do not exist.
            Err(AppendError::NoSpace) => self.undo(before, &entries, answers, &Refused::NoSpace),
            Err(AppendError::NotNow(reason)) => {
                tracing::error!(error = reason, "the history cannot be written just now");
                self.undo(before, &entries, answers, &Refused::StorageFailed(reason));
            }
            Err(AppendError::Failed(reason)) => {
                self.fail(&reason);
                // What the hub itself announces goes on behind what was acknowledged.
                self.last = before;
                let lost = |answer: (Answer, Outcome)| answer.0;
                refuse(answers.into_iter().map(lost), &Refused::StorageFailed(reason));
            }
        }
    }

    /// Accepts nothing any more: what the disk holds cannot be known.
    fn fail(&self, reason: &str) {
        if !self.shared.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(
                error = reason,
                "the history cannot be written: publishing has stopped until a restart"
            );
        }
    }

    /// Takes back what was placed and not committed.
    fn undo(
        &mut self,
        before: Offset,
        entries: &[Arc<Entry>],
        answers: Vec<(Answer, Outcome)>,
        refused: &Refused,
    ) {
        self.last = before;
        self.repeats.forget(entries);
        refuse(answers.into_iter().map(|(answer, _)| answer), refused);
    }

    /// Gives an update its place, or finds the one it has already; `now` by the monotonic clock,
    /// `time` by the wall clock.
    fn place(&mut self, update: Update, publisher: &str, now: Duration, time: u64) -> Outcome {
        let key = repeat_key(&update, publisher);
        if let Some(key) = &key
            && let Some(first) = self.repeats.find(key, now)
        {
            return match first.is_of(&update) {
                true => Outcome::Repeated(first.receipt),
                false => Outcome::Refused(Refused::KeyReused),
            };
        }
        if update.ephemeral
            && let Err(refused) = self.make_room(1)
        {
            return Outcome::Refused(refused);
        }
        let entry = Arc::new(self.entry(update, time).published_by(publisher));
        if let Some(key) = key {
            let receipt = receipt(&entry, self.shared.durability_of(&entry));
            let first = First::new(&entry.update, receipt);
            self.repeats.remember(key, first, now);
        }
        Outcome::New(entry)
    }

    /// Sees to it that so many ephemeral updates fit behind the last number. Where they do not,
    /// they get a number of their own, which a crash must not give to another entry.
    fn make_room(&mut self, count: u32) -> Result<(), Refused> {
        if self.last.sub.saturating_add(count) <= SUB_MAX {
            return Ok(());
        }
        let next = self.last.durable + 1;
        match self.shared.history.skip_to(next) {
            Ok(()) => self.last = Offset::durable(next),
            Err(AppendError::NoSpace) => return Err(Refused::NoSpace),
            Err(AppendError::NotNow(reason) | AppendError::Failed(reason)) => {
                return Err(Refused::StorageFailed(reason));
            }
        }
        Ok(())
    }

    /// The update at the next place.
    fn entry(&mut self, update: Update, time: u64) -> Entry {
        self.last = match update.ephemeral {
            true => Offset { durable: self.last.durable, sub: self.last.sub + 1 },
            false => Offset::durable(self.last.durable + 1),
        };
        let epoch = self.shared.epoch;
        Entry::new(self.last, epoch, time, update, Arc::clone(&self.shared.ids))
    }

    /// Nothing of this is stored, so it goes on also where the storage failed.
    fn announce(&mut self, announcement: Announcement) {
        let Announcement { scope, updates, answer } = announcement;
        let time = self.clock.wall();
        let announced = match self.make_room(u32::try_from(updates.len()).unwrap_or(u32::MAX)) {
            Ok(()) => {
                let entries: Vec<_> = updates
                    .into_iter()
                    .map(|update| Arc::new(self.entry(update, time).inside(scope)))
                    .collect();
                self.commit_to(entries, Vec::new());
                Ok(())
            }
            Err(refused) => Err(refused),
        };
        // Who no longer waits for the answer has announced all the same.
        let _gone = answer.send(announced);
    }

    /// From here on whoever subscribes stands behind these entries, and everybody may know of them.
    fn commit_to(&self, entries: Vec<Arc<Entry>>, answers: Vec<(Answer, Outcome)>) {
        self.shared.tail.remember(&entries, self.clock.monotonic());
        if let Some(last) = entries.last() {
            self.shared.subscribers.commit(last.offset);
        }
        self.outbox.put(Committed { entries, answers });
    }
}

/// Takes what one sync is to cover.
fn collect(
    intake: &Intake<Queued>,
    batch: &mut Vec<Commit>,
    announced: &mut Vec<Announcement>,
) -> Found {
    let mut bytes = 0;
    intake.take(|queued| {
        match queued {
            Queued::Published(commit) => {
                bytes += commit.update.weight();
                batch.push(commit);
            }
            Queued::Together(commits) => {
                bytes += commits.iter().map(|commit| commit.update.weight()).sum::<usize>();
                // Not moved one by one where nothing else waits.
                match batch.is_empty() {
                    true => *batch = commits,
                    false => batch.extend(commits),
                }
            }
            Queued::Announced(announcement) => announced.push(announcement),
        }
        batch.len() < BATCH_UPDATES_MAX && bytes < BATCH_BYTES_MAX
    })
}

fn refuse(answers: impl Iterator<Item = Answer>, refused: &Refused) {
    for answer in answers {
        answer.refuse(refused.clone());
    }
}
