//! The sinks that run: started from what they are told, changed, stopped, and asked. Knows no
//! system but by its sink, and no rule of delivery.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tidings_core::{BadPattern, Clock, Grant, Hub, Selection};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::book::{BadBook, Book, Opened};
use crate::connector::Sink;
use crate::delivery::run::{Around, Command, Running, run};
use crate::delivery::{Counts, Now, Rules, Standing, Status};
use crate::limits::{COMMANDS_MAX, DRAIN_LOOK_EVERY, READERS_MAX};
use crate::space::Space;
use crate::specification::SinkSpecification;

mod asking;
mod beginning;
pub mod letters;
mod queue;
pub mod replay;
mod replaying;
pub mod trial;

use self::asking::Asking;
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

/// What is known of a sink that runs, without asking it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it is told. Some of that is secret.
    pub told: SinkSpecification,
    /// Whose it is.
    pub origin: Origin,
    /// What it did.
    pub counts: Arc<Counts>,
}

/// A sink that runs.
struct One {
    known: Known,
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
}

/// All sinks that run.
pub struct Sinks {
    around: Around,
    running: Mutex<BTreeMap<String, One>>,
    tasks: Mutex<JoinSet<()>>,
    keeping: CancellationToken,
}

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
        Sinks { around, running: Mutex::default(), tasks: Mutex::new(tasks), keeping }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, One>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts these sinks, each behind what it has delivered. A new one begins with what is
    /// published from now on, and that is saved when this returns. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`CannotRun`]. None of them runs then.
    pub fn start(&self, wanted: Vec<Wanted>) -> Result<(), CannotRun> {
        let mut selections = Vec::new();
        for one in &wanted {
            selections.push(self.selection(one)?);
        }
        let names: Vec<&str> = wanted.iter().map(|one| one.told.name.as_str()).collect();
        let opened = self.around.book.open(&names)?;
        let mut followed = self.followed(&wanted, &opened);
        for ((one, selection), opened) in wanted.into_iter().zip(selections).zip(opened) {
            let followed = followed.remove(&opened.name).unwrap_or_default();
            self.launch(one, selection, opened, followed);
        }
        Ok(())
    }

    /// Whether these sinks could be started.
    ///
    /// # Errors
    ///
    /// What is wrong with their topics.
    pub fn check(&self, wanted: &[Wanted]) -> Result<(), CannotRun> {
        wanted.iter().try_for_each(|one| self.selection(one).map(drop))
    }

    fn selection(&self, wanted: &Wanted) -> Result<Selection, CannotRun> {
        let name = &wanted.told.name;
        let bad = |reason| CannotRun::Pattern { name: name.clone(), reason };
        let picks = wanted.told.topics.iter().map(|pick| pick.matcher(&self.around.hub));
        let matchers = picks.collect::<Result<Vec<_>, _>>().map_err(bad)?;
        Ok(Selection { matchers, grant: Arc::clone(&wanted.grant), scope: None })
    }

    fn launch(&self, wanted: Wanted, selection: Selection, opened: Opened, followed: HashSet<u64>) {
        let Wanted { told, sink, origin, .. } = wanted;
        let (around, name) = (self.around.clone(), Arc::<str>::from(told.name.as_str()));
        let counts = Arc::new(Counts::default());
        let reads = Arc::new(selection.clone());
        let rules = Rules::new(&told, sink.run_max());
        let then = rules.then.clone();
        let delivery = self.machine(rules, opened, followed, &counts);
        let (commands, heard) = mpsc::channel(COMMANDS_MAX);
        let known = Known { told, origin, counts: Arc::clone(&counts) };
        let hold = around.hub.hold_history(delivery.status(now(&around)).position);
        let running = Running {
            around,
            name,
            sink,
            then,
            selection,
            delivery,
            hold,
            commands: heard,
            counts,
        };
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let (over, ended) = oneshot::channel();
        let tokens = (stop.clone(), cut.clone());
        self.own(async move {
            run_to_its_end(running, tokens).await;
            // Nobody may wait for it.
            let _ = over.send(());
        });
        let name = known.told.name.clone();
        let (letters, replays) = (Arc::new(Semaphore::new(1)), Arc::default());
        let one = One { known, reads, letters, replays, commands, stop, cut, ended };
        self.lock().insert(name.clone(), one);
        self.resume_replays(&name);
    }

    /// Has a task end with the sinks.
    fn own(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended before is let go.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Goes on with another system and other rules, and with what is on its way. Topics and grant
    /// stay. Answers whether it runs.
    pub async fn change(&self, told: SinkSpecification, sink: Arc<dyn Sink>) -> bool {
        let rules = Box::new(Rules::new(&told, sink.run_max()));
        let is_changed = self.command(&told.name, Command::Change(rules, sink)).await;
        if let Some(one) = self.lock().get_mut(&told.name) {
            one.known.told = told;
        }
        is_changed
    }

    /// What is known of a sink, if it runs.
    pub fn known(&self, name: &str) -> Option<Known> {
        self.lock().get(name).map(|one| one.known.clone())
    }

    /// What is known of all that run, by their names in order.
    pub fn all(&self) -> Vec<Known> {
        self.lock().values().map(|one| one.known.clone()).collect()
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

    /// How a sink stands; `None` when it does not run.
    pub async fn status(&self, name: &str) -> Option<Status> {
        let (to, from) = oneshot::channel();
        self.command(name, Command::Tell(to)).await.then_some(())?;
        from.await.ok()
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
            if status.standing == Standing::Running && !is_done {
                return false;
            }
        }
        end == self.around.hub.end()
    }

    /// Ends all sinks, as [`Sinks::stop`].
    pub async fn end(&self, patience: Duration) {
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

/// Runs a sink until it has ended or is cut off. One that fails by a mistake of the hub's own takes
/// nobody with it.
async fn run_to_its_end(running: Running, (stop, cut): (CancellationToken, CancellationToken)) {
    let name = Arc::clone(&running.name);
    let running = AssertUnwindSafe(run(running, stop)).catch_unwind();
    let ended = tokio::select! {
        ended = running => ended,
        () = cut.cancelled() => Ok(()),
    };
    if ended.is_err() {
        tracing::error!(
            sink = &*name,
            "the sink ended by a mistake of the hub: it goes on where \
            it was after a restart"
        );
    }
}

fn now(around: &Around) -> Now {
    Now { monotonic: around.clock.monotonic(), wall: around.clock.wall() }
}

#[cfg(test)]
mod tests;
