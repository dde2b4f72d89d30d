//! One replay at work: reads the history for its sink, and hands on what it finds as there is room.
//! Knows no rule of delivery, and not who asked for it.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use tidings_core::{Batch, Entry, Hub, Located, Offset, Selection, Start, StateError};

use super::Asking;
use super::replay::{Live, Replay, Replays, State};
use crate::attempts::Attempts;
use crate::delivery::{Again, Standing};
use crate::limits::{
    AGAIN_WAIT, READ_AGAIN_AFTER, REPLAY_DISABLED_WAIT, REPLAY_FAILED_MAX, SAVE_AGAIN_AFTER,
};
use crate::specification::Then;

/// What a replay works with.
pub(super) struct Replaying {
    pub(super) asking: Asking,
    pub(super) live: Arc<Live>,
    /// What is for the sink.
    pub(super) reads: Arc<Selection>,
    /// What the sink publishes itself is not sent by it.
    pub(super) then: Option<Then>,
    /// Where it stands while it runs.
    pub(super) replays: Arc<Replays>,
}

/// One look at the history.
enum Looked {
    /// These are to be delivered again, and everything up to the place was looked at.
    Found(Vec<Again>, u64),
    /// The history has nothing up to the place; so many of the places would have counted.
    Missed(u64, u64),
    /// It cannot be read just now.
    Unreadable,
    /// There is nothing more.
    Over,
}

impl Replaying {
    /// Works until it is done, is stopped, or its sink ends.
    pub(super) async fn run(self) {
        let stop = self.live.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
        let mut running = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.live.replay().number);
    }

    async fn work(&self) {
        let failed = match self.failed().await {
            Ok(failed) => failed,
            Err(reason) => return self.end(State::Stopped, Some(reason)).await,
        };
        loop {
            match self.look(failed.clone()).await {
                Looked::Found(entries, place) => {
                    let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
                    if self.hand(entries).await.is_none() {
                        return;
                    }
                    let taken = move |replay: &mut Replay| {
                        (replay.position, replay.taken) = (place, replay.taken + count);
                    };
                    self.change(taken).await;
                }
                Looked::Missed(place, count) => {
                    let missed = move |replay: &mut Replay| {
                        (replay.position, replay.missed) = (place, replay.missed + count);
                    };
                    self.change(missed).await;
                }
                Looked::Unreadable => tokio::time::sleep(READ_AGAIN_AFTER).await,
                Looked::Over => return self.end(State::Done, None).await,
            }
        }
    }

    /// The places that failed, where only those are wanted.
    async fn failed(&self) -> Result<Option<Arc<HashSet<u64>>>, String> {
        if !self.live.replay().only_failed {
            return Ok(None);
        }
        let around = &self.asking.around;
        let (attempts, hub) = (around.attempts.clone(), around.hub.clone());
        let name = Arc::clone(&self.asking.name);
        let reading = tokio::task::spawn_blocking(move || failed(&attempts, &hub, &name));
        // The task only fails with the runtime that it runs on.
        let found = reading.await.unwrap_or(None);
        let too_many = || {
            format!("more than {REPLAY_FAILED_MAX} entries failed: replay a range without `failed`")
        };
        found.map(|found| Some(Arc::new(found))).ok_or_else(too_many)
    }

    async fn look(&self, failed: Option<Arc<HashSet<u64>>>) -> Looked {
        let looking = Looking {
            hub: self.asking.around.hub.clone(),
            reads: Arc::clone(&self.reads),
            then: self.then.clone(),
            name: Arc::clone(&self.asking.name),
            replay: self.live.replay(),
            failed,
        };
        // The semaphore is never closed.
        let _place = Arc::clone(&self.asking.around.readers).acquire_owned().await;
        let looked = tokio::task::spawn_blocking(move || looking.look()).await;
        // The task only fails with the runtime that it runs on.
        looked.unwrap_or(Looked::Unreadable)
    }

    /// Hands entries to the sink, and waits until they are saved there. `None` when it has ended.
    async fn hand(&self, mut entries: Vec<Again>) -> Option<()> {
        while !entries.is_empty() {
            if let Standing::Disabled(_) = self.asking.status().await?.standing {
                tokio::time::sleep(REPLAY_DISABLED_WAIT).await;
                continue;
            }
            let taken = self.asking.again(entries.clone()).await?;
            entries.drain(..taken.min(entries.len()));
            if !entries.is_empty() {
                tokio::time::sleep(AGAIN_WAIT).await;
            }
        }
        while let Err(error) = self.asking.settle().await? {
            self.not_saved(&error).await;
        }
        Some(())
    }

    /// Changes and saves it, however often that has to be tried.
    async fn change(&self, change: impl FnOnce(&mut Replay) + Clone + Send + 'static) {
        loop {
            let (live, change) = (Arc::clone(&self.live), change.clone());
            let saved = tokio::task::spawn_blocking(move || live.change(change)).await;
            match saved {
                Ok(Err(error)) => self.not_saved(&error).await,
                // The task only fails with the runtime that it runs on.
                Ok(Ok(())) | Err(_) => return,
            }
        }
    }

    async fn not_saved(&self, error: &StateError) {
        tracing::error!(sink = &*self.live.sink, %error, "a replay waits: it cannot be saved");
        tokio::time::sleep(SAVE_AGAIN_AFTER).await;
    }

    async fn end(&self, state: State, reason: Option<String>) {
        self.change(move |replay| (replay.state, replay.reason) = (state, reason)).await;
    }
}

/// What one look at the history needs.
struct Looking {
    hub: Hub,
    reads: Arc<Selection>,
    then: Option<Then>,
    name: Arc<str>,
    replay: Replay,
    failed: Option<Arc<HashSet<u64>>>,
}

impl Looking {
    /// Looks at some of the history behind the position. Blocks on the disk.
    fn look(&self) -> Looked {
        let Replay { position, until, places, .. } = &self.replay;
        let start = match places {
            None => *position,
            Some(places) => match places.iter().find(|place| *place > position) {
                Some(next) => next - 1,
                None => return Looked::Over,
            },
        };
        let after = Start::After(Offset::durable(start));
        let mut reading = self.hub.reading(Arc::clone(&self.reads), after);
        if start >= *until || reading.is_done() {
            return Looked::Over;
        }
        let mut batch = Batch::new();
        match reading.take(&mut batch) {
            Ok(taken) => {
                let again = |entry: &Arc<Entry>| Again { entry: Arc::clone(entry), letter: None };
                let found = batch.iter().filter(|entry| self.is_wanted(entry)).map(again);
                Looked::Found(found.collect(), taken.offset.durable.min(*until))
            }
            Err(missed) if missed.until <= missed.after => Looked::Unreadable,
            Err(missed) => {
                let end = missed.until.durable.min(*until);
                let gone = |place: &&u64| (start + 1..=end).contains(*place);
                let count = match places {
                    None => end.saturating_sub(start),
                    Some(places) => u64::try_from(places.iter().filter(gone).count()).unwrap_or(0),
                };
                Looked::Missed(end, count)
            }
        }
    }

    fn is_wanted(&self, entry: &Entry) -> bool {
        let (replay, number) = (&self.replay, entry.offset.durable);
        let is_own = self.then.as_ref().is_some_and(|then| then.publish.is_own(entry, &self.name));
        let is_in = |places: &Vec<u64>| places.binary_search(&number).is_ok();
        entry.offset.sub == 0
            && !entry.update.ephemeral
            && !is_own
            && (replay.from..=replay.until).contains(&number)
            && replay.since.is_none_or(|since| entry.time >= since)
            && replay.before.is_none_or(|before| entry.time <= before)
            && replay.places.as_ref().is_none_or(is_in)
            && self.failed.as_ref().is_none_or(|failed| failed.contains(&number))
    }
}

/// Places whose delivery failed and did not succeed since, as far as attempts say; `None` when
/// there are too many. An entry that failed is the first of its run when it is tried again, so
/// that the first one of a run says enough. Blocks on the disk.
fn failed(attempts: &Attempts, hub: &Hub, sink: &str) -> Option<HashSet<u64>> {
    let mut failed = HashSet::new();
    attempts.visit(sink, 0, attempts.end(), &mut |attempt| {
        // Of another history, these are other places.
        if !matches!(hub.locate(&attempt.entry), Located::Entry(_) | Located::Trimmed) {
            return true;
        }
        if attempt.delivered > 0 {
            failed.remove(&attempt.places.0);
        }
        failed.extend(attempt.failed);
        failed.len() <= REPLAY_FAILED_MAX
    });
    (failed.len() <= REPLAY_FAILED_MAX).then_some(failed)
}
