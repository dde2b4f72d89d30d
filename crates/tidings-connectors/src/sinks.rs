//! The sinks that run: started from what they are told, changed, stopped, and asked. Knows no
//! system but by its sink, and no rule of delivery.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tidings_core::{BadPattern, Clock, Grant, Hub, Selection};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::book::{BadBook, Book};
use crate::connector::Sink;
use crate::delivery::run::{Around, Command};
use crate::delivery::{Counts, Now, Standing, Status};
use crate::limits::{DRAIN_LOOK_EVERY, READERS_MAX};
use crate::nats;
use crate::space::Space;
use crate::specification::SinkSpecification;

mod asking;
mod beginning;
mod failed;
pub mod letters;
mod queue;
pub mod replay;
mod replaying;
mod starting;
pub mod trial;

use self::asking::Asking;
use self::failed::{Failure, Past};
use self::replay::Replays;

/// Who a sink belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration, which alone says what it is told.
    Configuration,
    /// Whoever made it over the API.
    Api,
}

/// A sink that is to run.
#[derive(Clone)]
pub struct Wanted {
    /// What it is told.
    pub told: SinkSpecification,
    /// The system.
    pub sink: Arc<dyn Sink>,
    /// What it may read.
    pub grant: Arc<Grant>,
    /// Whose it is.
    pub origin: Origin,
}

/// What is known of a sink that runs or should, without asking it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it is told. Some of that is secret.
    pub told: SinkSpecification,
    /// Whose it is.
    pub origin: Origin,
    /// What it did.
    pub counts: Arc<Counts>,
    /// What its connection to NATS counts, if it has one.
    pub nats: Option<Arc<nats::Counters>>,
    /// Why it does not run, if it does not.
    pub failure: Option<String>,
}

/// A sink that runs, or should.
struct One {
    known: Known,
    /// What it is made of; `None` for what could not be made.
    wanted: Option<Wanted>,
    reads: Arc<Selection>,
    /// One at a time does something about its dead letters.
    letters: Arc<Semaphore>,
    replays: Arc<Replays>,
    commands: mpsc::Sender<Command>,
    /// Ends it when nothing is on its way any more.
    stop: CancellationToken,
    /// Ends it at once.
    cut: CancellationToken,
    ended: oneshot::Receiver<()>,
    /// Set when it has failed.
    failure: Arc<OnceLock<Failure>>,
    past: Past,
}

impl One {
    fn known(&self) -> Known {
        let failure = self.failure.get().and_then(|failure| failure.status.failure.clone());
        Known { failure, ..self.known.clone() }
    }
}

/// All sinks that run or should.
pub struct Sinks {
    around: Around,
    running: Mutex<BTreeMap<String, One>>,
    tasks: Mutex<JoinSet<()>>,
    keeping: CancellationToken,
    /// Sinks are started again or taken away, one of both. Closed when all of them end.
    turn: Semaphore,
}

/// What is wrong with follow-ups whose topics are the hub's own.
pub(crate) const THEN_IS_OWN: &str = "publishes under the hub's own path, where only the hub does";
/// What to do about it.
pub(crate) const THEN_HINT: &str = "replace with the begin of other topics";

/// A sink cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CannotRun {
    /// What is saved.
    #[error(transparent)]
    Book(#[from] BadBook),
    /// A pattern of its topics. The fault of whoever wrote it.
    #[error("the topics of the sink {name:?}: {reason}")]
    Pattern {
        /// Which sink.
        name: String,
        /// What is wrong.
        reason: BadPattern,
    },
    /// Its follow-ups, which the hub would refuse one after the other. The fault of whoever wrote
    /// it.
    #[error("`then` of the sink {name:?} {THEN_IS_OWN}: {THEN_HINT}")]
    Then {
        /// Which sink.
        name: String,
    },
}

impl Sinks {
    /// None yet; from now on what they deliver is saved.
    pub fn new(hub: Hub, clock: Arc<dyn Clock>, attempts: Attempts) -> Sinks {
        let book = Arc::new(Book::new(hub.clone()));
        let keeping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&book).keep(keeping.clone()));
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let around = Around { hub, clock, book, attempts, readers };
        let (running, turn) = (Mutex::default(), Semaphore::new(1));
        Sinks { around, running, tasks: Mutex::new(tasks), keeping, turn }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, One>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a task end with the sinks.
    fn own(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended before is let go.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Goes on with another system, told to deliver by the same rules, and with what is on its way.
    /// Answers whether it runs.
    pub async fn replace(&self, told: SinkSpecification, sink: Arc<dyn Sink>) -> bool {
        let is_replaced = self.command(&told.name, Command::Replace(Arc::clone(&sink))).await;
        if let Some(one) = self.lock().get_mut(&told.name) {
            if let Some(wanted) = &mut one.wanted {
                (wanted.told, wanted.sink) = (told.clone(), sink);
            }
            one.known.told = told;
        }
        is_replaced
    }

    /// What is known of a sink, if it runs or should.
    pub fn known(&self, name: &str) -> Option<Known> {
        self.lock().get(name).map(One::known)
    }

    /// What is known of all that run or should, by their names in order.
    pub fn all(&self) -> Vec<Known> {
        self.lock().values().map(One::known).collect()
    }

    fn asking(&self, name: &str) -> Option<Asking> {
        let all = self.lock();
        let one = all.get(name)?;
        Some(Asking {
            around: self.around.clone(),
            name: name.into(),
            commands: one.commands.downgrade(),
            stop: one.stop.clone(),
        })
    }

    /// How a sink stands; `None` when there is none of this name.
    pub async fn status(&self, name: &str) -> Option<Status> {
        let (to, from) = oneshot::channel();
        let told = match self.command(name, Command::Tell(to)).await {
            true => from.await.ok(),
            false => None,
        };
        told.or_else(|| self.failed_status(name))
    }

    fn failed_status(&self, name: &str) -> Option<Status> {
        Some(self.lock().get(name)?.failure.get()?.status.clone())
    }

    /// Asks something of a sink. Answers whether it runs.
    pub async fn command(&self, name: &str, command: Command) -> bool {
        let commands = self.lock().get(name).map(|one| one.commands.clone());
        match commands {
            Some(commands) => commands.send(command).await.is_ok(),
            None => false,
        }
    }

    /// Ends one sink: what is on its way gets as long as `patience`, and what is left is delivered
    /// again when the sink is started the next time. What it delivered is saved.
    pub async fn stop(&self, name: &str, patience: Duration) {
        self.stop_many(&[name], patience).await;
    }

    /// [`Sinks::stop`] for several at the same time.
    pub async fn stop_many(&self, names: &[&str], patience: Duration) {
        let stopped: Vec<One> = {
            // It must not be started again meanwhile.
            let _turn = self.turn.acquire().await;
            let mut running = self.lock();
            names.iter().filter_map(|name| running.remove(*name)).collect()
        };
        stopped.iter().for_each(|one| one.stop.cancel());
        let until = Instant::now() + patience;
        for mut one in stopped {
            if timeout_at(until, &mut one.ended).await.is_err() {
                one.cut.cancel();
                // The next one of this name must not begin beside it.
                let _ = one.ended.await;
            }
        }
        if let Err(error) = self.around.book.save().await {
            tracing::error!(%error, "what was delivered last is not saved");
        }
        names.iter().for_each(|name| self.around.book.close(name));
    }

    /// Waits until everything that stands in the history is delivered, and what follows it, or for
    /// as long as `patience`: where nothing outlives the process.
    pub async fn drain(&self, patience: Duration) {
        let drained = async {
            while !self.is_drained().await {
                tokio::time::sleep(DRAIN_LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::warn!("not everything was delivered, and it is not kept anywhere");
        }
    }

    async fn is_drained(&self) -> bool {
        let end = self.around.hub.end();
        let names: Vec<String> = self.lock().keys().cloned().collect();
        for name in names {
            let status = self.status(&name).await.unwrap_or_default();
            let is_done = status.position >= end && status.parked == 0 && status.sending == 0;
            let may_go_on = status.standing == Standing::Running && status.failure.is_none();
            if may_go_on && !is_done {
                return false;
            }
        }
        end == self.around.hub.end()
    }

    /// Ends all sinks, as [`Sinks::stop`].
    pub async fn end(&self, patience: Duration) {
        let turn = self.turn.acquire().await;
        self.turn.close();
        drop(turn);
        let all = std::mem::take(&mut *self.lock());
        all.values().for_each(|one| one.stop.cancel());
        let ended = async {
            for one in all.into_values() {
                drop(one.ended.await);
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("deliveries were cut off: they are made again after the next start");
        }
        if let Err(error) = self.around.book.save().await {
            tracing::error!(%error, "what was delivered last is not saved");
        }
        self.keeping.cancel();
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    /// What copies and dead letters of all sinks take together.
    pub fn space(&self) -> &Arc<Space> {
        self.around.book.space()
    }

    /// Where positions are saved.
    pub fn book(&self) -> &Arc<Book> {
        &self.around.book
    }

    /// What was tried.
    pub fn attempts(&self) -> &Attempts {
        &self.around.attempts
    }
}

fn now(around: &Around) -> Now {
    Now { monotonic: around.clock.monotonic(), wall: around.clock.wall() }
}

#[cfg(test)]
mod tests;
