//! Replays: a range of the history, or some entries of it, that a sink delivers once more. What is
//! asked for, what is kept of it, and what runs; how one runs is not known here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tidings_core::{Hub, Located, StateError, Table, Write};
use tokio_util::sync::CancellationToken;

use super::replaying::Replaying;
use super::{Asking, Sinks};
use crate::book::Book;
use crate::limits::{REPLAY_IDS_MAX, REPLAYS_KEPT_MAX, REPLAYS_MAX};
use crate::records::{bounds, numbered_key, parts, value};

/// A border of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// A place in the history.
    Place(u64),
    /// The entry with this id, the hub's or the publisher's.
    Id(String),
    /// A time: milliseconds since 1970-01-01.
    Time(u64),
}

/// What somebody wants delivered once more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// These entries; all of the range when there are none.
    pub ids: Vec<String>,
    /// The range's begin, itself included; the earliest that is kept without one.
    pub from: Option<Edge>,
    /// Its end, itself included; without one, what the sink has come to by now.
    pub until: Option<Edge>,
    /// Only what failed and was not delivered since, as far as attempts are recorded.
    pub only_failed: bool,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It reads the history and hands to the sink what it finds, as there is room.
    Running,
    /// The sink has got everything. Some of it may still wait there.
    Done,
    /// It ended before that.
    Stopped,
}

/// A replay, as it is kept and as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its number among those of its sink.
    pub number: u64,
    /// Where it stands.
    pub state: State,
    /// Why it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was made: milliseconds since 1970-01-01.
    pub made: u64,
    /// The history whose places these are.
    pub epoch: String,
    /// The first place.
    pub from: u64,
    /// The last place.
    pub until: u64,
    /// Only what was published then or later, in milliseconds since 1970-01-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Only what was published then or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Only these places, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Vec<u64>>,
    /// Only what failed and was not delivered since.
    pub only_failed: bool,
    /// Everything up to here is done with.
    pub position: u64,
    /// How many entries the sink has got.
    pub taken: u64,
    /// How many places the history no longer had.
    pub missed: u64,
}

/// A replay cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReplayProblem {
    /// The fault of whoever asked.
    #[error("there is no such sink")]
    NoSink,
    /// As well.
    #[error("there is no such replay of this sink")]
    NoReplay,
    /// As well.
    #[error("a replay names at most {REPLAY_IDS_MAX} entries: replay a range, or make several")]
    TooManyIds,
    /// As well.
    #[error("the history has no entry {0:?}")]
    NoEntry(String),
    /// The history has let go of it.
    #[error("the history has let go of the entry {0:?}")]
    Gone(String),
    /// As well.
    #[error("entries are named, or a range is, not both")]
    Both,
    /// Others run.
    #[error("{REPLAYS_MAX} replays of this sink are running: wait for one to end, or stop it")]
    TooMany,
    /// The storage.
    #[error("the replay cannot be saved: {0}")]
    Unsaved(#[from] StateError),
}

/// Those of one sink that run, by number.
pub(super) type Replays = Mutex<BTreeMap<u64, Arc<Live>>>;

/// One that runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sink: Arc<str>,
    book: Arc<Book>,
    /// Which opening of the sink it belongs to.
    opening: Option<u64>,
    row: Mutex<Replay>,
    /// Cancelled when it is to end, also with its sink.
    pub(super) stop: CancellationToken,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Replay> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn replay(&self) -> Replay {
        self.lock().clone()
    }

    /// Saves it as `replay`, and forgets those that are `gone`. Answers whether its sink is there.
    fn put(&self, replay: &Replay, gone: &[u64]) -> Result<bool, StateError> {
        let key = numbered_key(&self.sink, replay.number);
        let row = value(replay, &[]);
        let gone: Vec<Vec<u8>> =
            gone.iter().map(|number| numbered_key(&self.sink, *number)).collect();
        let table = Table::Replays;
        let mut writes = vec![Write { table, key: &key, value: Some(&row) }];
        writes.extend(gone.iter().map(|key| Write { table, key, value: None }));
        self.book.write(&self.sink, self.opening, &writes)
    }

    /// Changes and saves it, unless it has ended before. Blocks on the disk.
    pub(super) fn change(&self, change: impl FnOnce(&mut Replay)) -> Result<(), StateError> {
        let mut row = self.lock();
        if row.state != State::Running {
            return Ok(());
        }
        let mut new = row.clone();
        change(&mut new);
        // Where its sink is not there any more, neither is it.
        if self.put(&new, &[])? {
            *row = new;
        }
        Ok(())
    }
}

impl Sinks {
    /// Begins to deliver something of the history once more. It goes on over restarts until it is
    /// done or stopped. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`ReplayProblem`].
    pub async fn replay(&self, name: &str, wish: Wish) -> Result<Replay, ReplayProblem> {
        let asking = self.asking(name).ok_or(ReplayProblem::NoSink)?;
        let status = asking.status().await.ok_or(ReplayProblem::NoSink)?;
        let replays = self.replays(name).ok_or(ReplayProblem::NoSink)?;
        let (hub, own) = (self.around.hub.clone(), asking.clone());
        let made = self.around.clock.wall();
        let making = tokio::task::spawn_blocking(move || {
            let replay = judged(&hub, wish, status.position.durable, made)?;
            let mut running = replays.lock().unwrap_or_else(PoisonError::into_inner);
            if running.len() >= REPLAYS_MAX {
                return Err(ReplayProblem::TooMany);
            }
            let live = insert(&hub, &own, replay)?.ok_or(ReplayProblem::NoSink)?;
            let live = Arc::new(live);
            running.insert(live.replay().number, Arc::clone(&live));
            Ok(live)
        });
        // The task only fails with the runtime that it runs on.
        let live = making.await.map_err(|_| ReplayProblem::NoSink)??;
        let replay = live.replay();
        self.run_replay(asking, live);
        Ok(replay)
    }

    /// The replays of a sink that are remembered, the newest first; `None` when it does not run.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the state cannot be read.
    pub fn replays_of(&self, name: &str) -> Result<Option<Vec<Replay>>, StateError> {
        if self.known(name).is_none() {
            return Ok(None);
        }
        let mut all = rows(&self.around.hub, name)?;
        all.reverse();
        Ok(Some(all))
    }

    /// Ends a replay. What the sink has got of it is delivered.
    ///
    /// # Errors
    ///
    /// See [`ReplayProblem`].
    pub async fn stop_replay(&self, name: &str, number: u64) -> Result<(), ReplayProblem> {
        let replays = self.replays(name).ok_or(ReplayProblem::NoSink)?;
        // It does not run, and would go on with its sink.
        if self.failed_status(name).is_some() {
            return Err(ReplayProblem::NoSink);
        }
        let live = replays.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let (hub, name) = (self.around.hub.clone(), name.to_owned());
        let stopping = tokio::task::spawn_blocking(move || {
            let Some(live) = live else {
                let known = hub.state().get(Table::Replays, &numbered_key(&name, number))?;
                return known.map(drop).ok_or(ReplayProblem::NoReplay);
            };
            live.stop.cancel();
            let stopped = live.change(|replay| {
                (replay.state, replay.reason) =
                    (State::Stopped, Some("somebody stopped it".into()));
            });
            Ok(stopped?)
        });
        // The task only fails with the runtime that it runs on.
        stopping.await.map_err(|_| ReplayProblem::NoSink)?
    }

    /// Goes on with what ran when the sink ended. Blocks on the disk.
    pub(super) fn resume_replays(&self, name: &str) {
        let (Some(asking), Some(replays)) = (self.asking(name), self.replays(name)) else { return };
        let hub = &self.around.hub;
        let rows = match rows(hub, name) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(sink = name, %error, "replays cannot be read: they do not go on");
                return;
            }
        };
        for replay in rows.into_iter().filter(|replay| replay.state == State::Running) {
            let is_of_before = replay.epoch != hub.epoch();
            let live = Arc::new(Live::new(&asking, replay));
            if is_of_before {
                let reason = "the history is another one than when it was made".to_owned();
                let stopped = live.change(|replay| {
                    (replay.state, replay.reason) = (State::Stopped, Some(reason));
                });
                if let Err(error) = stopped {
                    tracing::error!(sink = name, %error, "a replay is stopped and not saved");
                }
                continue;
            }
            let number = live.replay().number;
            let mut running = replays.lock().unwrap_or_else(PoisonError::into_inner);
            running.insert(number, Arc::clone(&live));
            drop(running);
            self.run_replay(asking.clone(), live);
        }
    }

    fn replays(&self, name: &str) -> Option<Arc<Replays>> {
        self.lock().get(name).map(|one| Arc::clone(&one.replays))
    }

    fn run_replay(&self, asking: Asking, live: Arc<Live>) {
        let all = self.lock();
        let Some(one) = all.get(&*asking.name) else { return };
        let (reads, then) = (Arc::clone(&one.reads), one.known.told.then.clone());
        let replays = Arc::clone(&one.replays);
        drop(all);
        self.own(Replaying { asking, live, reads, then, replays }.run());
    }
}

impl Live {
    fn new(asking: &Asking, replay: Replay) -> Live {
        let book = Arc::clone(&asking.around.book);
        Live {
            sink: Arc::clone(&asking.name),
            opening: book.opening(&asking.name),
            book,
            row: Mutex::new(replay),
            stop: asking.stop.child_token(),
        }
    }
}

/// The places that a wish is about. `reached` is how far its sink has come.
fn judged(hub: &Hub, wish: Wish, reached: u64, made: u64) -> Result<Replay, ReplayProblem> {
    let (first, last) = (hub.before_first().durable + 1, hub.end().durable);
    let is_open = wish.until.is_none() && wish.ids.is_empty();
    let mut replay = Replay {
        number: 0,
        state: State::Running,
        reason: None,
        made,
        epoch: hub.epoch(),
        from: first,
        // What the sink still has before it is not delivered twice.
        until: if is_open || wish.only_failed { reached.min(last) } else { last },
        since: None,
        before: None,
        places: None,
        only_failed: wish.only_failed,
        position: 0,
        taken: 0,
        missed: 0,
    };
    if !wish.ids.is_empty() {
        if wish.from.is_some() || wish.until.is_some() {
            return Err(ReplayProblem::Both);
        }
        if wish.ids.len() > REPLAY_IDS_MAX {
            return Err(ReplayProblem::TooManyIds);
        }
        let places = wish.ids.into_iter().map(|id| located(hub, id));
        let mut places = places.collect::<Result<Vec<u64>, _>>()?;
        places.sort_unstable();
        places.dedup();
        replay.from = places.first().copied().unwrap_or(first);
        replay.until = places.last().copied().unwrap_or(0);
        replay.places = Some(places);
    }
    match wish.from {
        None => {}
        Some(Edge::Place(place)) => replay.from = place.max(1),
        Some(Edge::Id(id)) => replay.from = located(hub, id)?,
        Some(Edge::Time(time)) => replay.since = Some(time),
    }
    match wish.until {
        None => {}
        Some(Edge::Place(place)) => replay.until = place.min(replay.until),
        Some(Edge::Id(id)) => replay.until = located(hub, id)?.min(replay.until),
        Some(Edge::Time(time)) => replay.before = Some(time),
    }
    replay.position = replay.from.saturating_sub(1);
    Ok(replay)
}

fn located(hub: &Hub, id: String) -> Result<u64, ReplayProblem> {
    match hub.locate(&id) {
        Located::Entry(offset) if offset.sub == 0 => Ok(offset.durable),
        Located::Trimmed => Err(ReplayProblem::Gone(id)),
        Located::Entry(_) | Located::OtherEpoch | Located::Unknown => {
            Err(ReplayProblem::NoEntry(id))
        }
    }
}

/// All that are remembered of a sink, the oldest first. What makes no sense is left out.
fn rows(hub: &Hub, name: &str) -> Result<Vec<Replay>, StateError> {
    let (from, until) = bounds(name);
    let rows = hub.state().range(Table::Replays, &from, Some(&until), 2 * REPLAYS_KEPT_MAX)?;
    let read = rows.iter().filter_map(|(_, bytes)| parts::<Replay>(bytes));
    Ok(read.map(|(replay, _)| replay).collect())
}

/// Gives a replay its number and saves it, unless its sink is gone; those that ended long ago are
/// forgotten.
fn insert(hub: &Hub, asking: &Asking, replay: Replay) -> Result<Option<Live>, StateError> {
    // Before anything is read: a sink that begins meanwhile under the same name is another one.
    let live = Live::new(asking, replay);
    let known = rows(hub, &asking.name)?;
    let number = known.last().map_or(0, |newest| newest.number) + 1;
    let too_many = (known.len() + 1).saturating_sub(REPLAYS_KEPT_MAX);
    let ended = known.iter().filter(|old| old.state != State::Running).take(too_many);
    let gone: Vec<u64> = ended.map(|old| old.number).collect();
    let numbered = Replay { number, ..live.replay() };
    let is_saved = live.put(&numbered, &gone)?;
    *live.lock() = numbered;
    Ok(is_saved.then_some(live))
}
