//! The one loop behind every sink: entries from the history and answers of the system into the
//! machine, what it wants done out of it. Knows no rule of delivery and no system.

mod beside;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidings_core::{
    Batch, Clock, Grant, HistoryHold, Hub, Missed, Selection, Start, StateError, Subscription,
    Taken,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Action, Again, Counts, Delivery, Now, RowKey, Status};
use crate::attempts::Attempts;
use crate::book::{Book, Loaded, Noted};
use crate::connector::{Outcome, Run, Sink};
use crate::limits::{LANDED_AT_ONCE_MAX, READ_AGAIN_AFTER, SAVE_QUIET_EVERY};
use crate::specification::Replace;

/// What all sinks share.
#[derive(Clone)]
pub struct Around {
    /// The hub whose updates they deliver.
    pub hub: Hub,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where their positions are saved.
    pub book: Arc<Book>,
    /// Where each attempt is noted.
    pub attempts: Attempts,
    /// So many of them read the history's disk at a time.
    pub readers: Arc<Semaphore>,
}

impl Around {
    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall: self.clock.wall() }
    }
}

/// What somebody asks of a sink that runs.
pub enum Command {
    /// Say how it stands.
    Tell(oneshot::Sender<Status>),
    /// Send nothing until it is resumed.
    Pause,
    /// Go on, at once with what waits for another try.
    Resume,
    /// Deliver these again; the answer is how many there was room for.
    Again(Vec<Again>, oneshot::Sender<usize>),
    /// These dead letters are none any more: number and weight of each.
    Forget(Vec<(u64, usize)>),
    /// Which system it is that it delivers to.
    Lend(oneshot::Sender<Arc<dyn Sink>>),
    /// Go on with this system.
    Replace(Arc<dyn Sink>),
}

/// One sink that is to run.
pub struct Running {
    /// What it shares with all others.
    pub around: Around,
    /// Its name.
    pub name: Arc<str>,
    /// The system.
    pub sink: Arc<dyn Sink>,
    /// What follows a delivery.
    pub then: Option<Replace>,
    /// Which entries are for it.
    pub selection: Selection,
    /// Its machine, which goes on where it ended.
    pub delivery: Delivery,
    /// Keeps in the history what it has not delivered.
    pub hold: HistoryHold,
    /// What somebody asks of it.
    pub commands: mpsc::Receiver<Command>,
    /// What it did.
    pub counts: Arc<Counts>,
}

/// Something of a sink that was under way and is over.
enum Flight {
    Answered {
        lane: u64,
        run: Run,
        outcome: Outcome,
        took: Duration,
    },
    Loaded {
        lane: u64,
        rows: Result<Vec<Loaded>, StateError>,
    },
    Followed {
        lane: u64,
        result: Result<(), String>,
    },
    /// The hub ends: whether the follow-up stands in its history is found out at the next start.
    Unfollowed,
    Taken {
        subscription: Subscription,
        batch: Batch,
        taken: Result<Taken, Missed>,
    },
    /// The history could not be read just now.
    Rested,
}

type Flights = FuturesUnordered<Pin<Box<dyn Future<Output = Flight> + Send>>>;

/// Why a sink is disabled whose grant does not count any more.
const FALLEN: &str = "what its creator may read was taken back";

/// Delivers until `stop`, and then until nothing is on its way any more. Dropping it leaves what is
/// on its way to be delivered again by the next process.
pub async fn run(running: Running, stop: CancellationToken) {
    let Running { around, name, sink, then, selection, delivery, hold, commands, counts } = running;
    let position = delivery.status(around.now()).position;
    let grant = Arc::clone(&selection.grant);
    let most = delivery.pending_bytes_max();
    let start = Start::After(position);
    let subscription = around.hub.subscribe_keeping(selection, start, most);
    let looping = Loop {
        around,
        name,
        sink,
        then,
        grant,
        delivery,
        hold,
        commands,
        counts,
        told_full: None,
        subscription: Some(subscription),
        flights: FuturesUnordered::new(),
    };
    looping.run(stop).await;
}

struct Loop {
    around: Around,
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    then: Option<Replace>,
    grant: Arc<Grant>,
    delivery: Delivery,
    hold: HistoryHold,
    commands: mpsc::Receiver<Command>,
    counts: Arc<Counts>,
    /// When it was said last that there is no room.
    told_full: Option<Instant>,
    /// Not here while the history is read for it.
    subscription: Option<Subscription>,
    flights: Flights,
}

impl Loop {
    async fn run(mut self, stop: CancellationToken) {
        let mut saves = self.around.book.saves();
        let mut is_ending = false;
        loop {
            self.act();
            self.move_on();
            self.tell_full();
            let changes = self.delivery.changes();
            let Noted { unsaved, saved } = self.around.book.note(&self.name, changes);
            if let Some(saved) = saved {
                self.hold.move_to(saved);
            }
            let is_unsaved = self.delivery.waits_for_save(unsaved);
            if is_ending && self.delivery.is_idle() {
                return;
            }
            let now = self.around.now();
            let wake = self.delivery.wake_at().map(|at| at.saturating_sub(now.monotonic));
            // A sink for which nothing comes moves on as well, or it would fall off the history.
            let wake = wake.unwrap_or(SAVE_QUIET_EVERY).min(SAVE_QUIET_EVERY);
            let wants_more = self.delivery.wants_more(now);
            tokio::select! {
                () = stop.cancelled(), if !is_ending => {
                    is_ending = true;
                    self.delivery.end();
                }
                Some(flight) = self.flights.next() => self.landed_all(flight),
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = ready(&mut self.subscription), if wants_more => self.take(),
                () = tokio::time::sleep(wake) => {}
                _ = saves.changed(), if is_unsaved => {}
            }
        }
    }

    /// Passes what is not for this sink.
    fn move_on(&mut self) {
        if let Some(subscription) = self.subscription.as_ref().filter(|one| one.is_live()) {
            self.delivery.passed(subscription.caught_up());
        }
    }

    fn act(&mut self) {
        // Before anything is sent: what waits was taken when the grant still counted.
        if !self.around.hub.stands(&self.grant) {
            self.delivery.disable(FALLEN.into());
        }
        while let Some(action) = self.delivery.next(self.around.now()) {
            self.flights.push(match action {
                Action::Send { lane, run } => self.send(lane, run),
                Action::Load { lane, keys } => self.load(lane, keys),
                Action::Follow { lane, entry } => self.follow(lane, &entry),
            });
        }
    }

    fn send(&self, lane: u64, run: Run) -> Pin<Box<dyn Future<Output = Flight> + Send>> {
        let delivering = self.sink.deliver(run.clone());
        Box::pin(async move {
            let began = Instant::now();
            let outcome = delivering.await;
            Flight::Answered { lane, run, outcome, took: began.elapsed() }
        })
    }

    fn load(&self, lane: u64, keys: Vec<RowKey>) -> Pin<Box<dyn Future<Output = Flight> + Send>> {
        let (book, name) = (Arc::clone(&self.around.book), Arc::clone(&self.name));
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || book.load(&name, &keys)).await;
            let rows = read.unwrap_or_else(|_| Ok(Vec::new()));
            Flight::Loaded { lane, rows }
        })
    }

    /// Takes what has landed, and what else has by now: one look at what is next serves all.
    fn landed_all(&mut self, first: Flight) {
        self.landed(first);
        for _ in 0..LANDED_AT_ONCE_MAX {
            let Some(Some(flight)) = self.flights.next().now_or_never() else { break };
            self.landed(flight);
        }
    }

    fn landed(&mut self, flight: Flight) {
        let now = self.around.now();
        match flight {
            Flight::Answered { lane, run, outcome, took } => {
                self.tell(&run, &outcome);
                self.around.attempts.record(&self.name, &run, &outcome, took);
                self.counts.answered(&outcome);
                self.delivery.answered(lane, outcome, now);
            }
            Flight::Loaded { lane, rows: Ok(rows) } if rows.is_empty() => {
                self.delivery.not_loaded(lane, now);
            }
            Flight::Loaded { lane, rows: Ok(mut rows) } => {
                rows.iter_mut().for_each(|(_, entry)| self.withhold(entry));
                self.delivery.loaded(lane, rows, now);
            }
            Flight::Loaded { lane, rows: Err(error) } => {
                tracing::error!(sink = &*self.name, %error, "copies cannot be read: tried again");
                self.delivery.not_loaded(lane, now);
            }
            Flight::Followed { lane, result } => {
                if let Err(reason) = &result {
                    tracing::error!(sink = &*self.name, reason, "a dead letter: nothing follows");
                }
                self.delivery.followed(lane, result, now);
            }
            Flight::Unfollowed => self.delivery.end(),
            Flight::Taken { subscription, batch, taken } => {
                self.subscription = Some(subscription);
                self.taken(&batch, taken);
            }
            Flight::Rested => {}
        }
    }

    fn tell(&self, run: &Run, outcome: &Outcome) {
        let Some(failure) = &outcome.failure else { return };
        let entry = run.entries.get(outcome.delivered).map_or("", |entry| entry.id());
        let (tries, fault) = (run.tries + 1, failure.fault.name());
        let reason = &failure.reason;
        tracing::warn!(sink = &*self.name, entry, tries, fault, reason, "not delivered");
    }

    /// Takes what waits for the sink, from the list if it is up with the hub and else from the
    /// history, which may block on a disk.
    fn take(&mut self) {
        let Some(mut subscription) = self.subscription.take() else { return };
        if subscription.is_ended() {
            // Not put back: nothing more may be taken by it.
            self.delivery.disable(FALLEN.into());
            return;
        }
        let mut batch = Batch::new();
        if subscription.is_live() {
            let taken = subscription.take(&mut batch);
            self.subscription = Some(subscription);
            self.taken(&batch, taken);
            return;
        }
        let readers = Arc::clone(&self.around.readers);
        self.flights.push(Box::pin(async move {
            // The semaphore is never closed.
            let _place = readers.acquire_owned().await;
            let read = tokio::task::spawn_blocking(move || {
                let taken = subscription.take(&mut batch);
                Flight::Taken { subscription, batch, taken }
            });
            // The task only fails with the runtime that it runs on.
            read.await.unwrap_or(Flight::Rested)
        }));
    }

    fn taken(&mut self, batch: &Batch, taken: Result<Taken, Missed>) {
        let now = self.around.now();
        match taken {
            Ok(taken) => self.delivery.taken(batch, taken.offset, now),
            // It cannot be read just now.
            Err(missed) if missed.until <= missed.after => self.rest(),
            Err(missed) => {
                let (after, until) = (missed.after.durable, missed.until.durable);
                tracing::error!(
                    sink = &*self.name,
                    after,
                    until,
                    "missed: the history no longer \
                    had these entries; a dead letter says so"
                );
                self.counts.missed();
                self.delivery.missed(missed, "the history no longer had these entries", now);
            }
        }
    }

    /// Leaves the history alone for a moment.
    fn rest(&mut self) {
        let Some(subscription) = self.subscription.take() else { return };
        let (batch, offset) = (Batch::new(), subscription.offset());
        self.flights.push(Box::pin(async move {
            tokio::time::sleep(READ_AGAIN_AFTER).await;
            let taken = Ok(Taken { offset, ephemerals_lost: false });
            Flight::Taken { subscription, batch, taken }
        }));
    }

    fn command(&mut self, command: Command) {
        let now = self.around.now();
        match command {
            Command::Tell(to) => {
                self.move_on();
                drop(to.send(self.delivery.status(now)));
            }
            Command::Pause => self.delivery.pause(),
            // What it reads with ended while it was paused.
            Command::Resume if self.subscription.as_ref().is_some_and(Subscription::is_ended) => {
                self.delivery.disable(FALLEN.into());
            }
            Command::Resume => self.delivery.resume(now),
            Command::Again(entries, to) => drop(to.send(self.delivery.again(&entries, now))),
            Command::Forget(letters) => {
                letters.iter().for_each(|(number, weight)| self.delivery.forget(*number, *weight));
            }
            Command::Lend(to) => drop(to.send(Arc::clone(&self.sink))),
            Command::Replace(sink) => self.sink = sink,
        }
    }
}

/// Waits until there is something to take. For ever while the subscription is away.
async fn ready(subscription: &mut Option<Subscription>) {
    match subscription {
        Some(one) => std::future::poll_fn(|context| one.poll_ready(context)).await,
        None => std::future::pending().await,
    }
}
