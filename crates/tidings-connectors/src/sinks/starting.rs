//! Starting sinks, each behind what it has delivered. Knows no rule of delivery.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use tidings_core::Selection;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::failed::{Failure, Past};
use super::{CannotRun, Known, One, Sinks, Wanted, now};
use crate::book::Opened;
use crate::delivery::Rules;
use crate::delivery::run::{Running, run};
use crate::limits::COMMANDS_MAX;

impl Sinks {
    /// Starts these sinks, each behind what it has delivered. A new one begins with what is
    /// published from now on, and that is saved when this returns. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`CannotRun`]. None of them runs then.
    pub fn start(&self, wanted: Vec<Wanted>) -> Result<(), CannotRun> {
        self.start_as(wanted, &Past::default)
    }

    /// The same for those that ran before.
    pub(super) fn start_as(
        &self,
        wanted: Vec<Wanted>,
        past: &dyn Fn() -> Past,
    ) -> Result<(), CannotRun> {
        let mut selections = Vec::new();
        for one in &wanted {
            selections.push(self.selection(one)?);
        }
        let names: Vec<&str> = wanted.iter().map(|one| one.told.name.as_str()).collect();
        let opened = self.around.book.open(&names)?;
        let mut followed = self.followed(&wanted, &opened);
        for ((one, selection), opened) in wanted.into_iter().zip(selections).zip(opened) {
            let followed = followed.remove(&opened.name).unwrap_or_default();
            self.launch(one, selection, opened, followed, past());
        }
        Ok(())
    }

    /// Whether these sinks could be started.
    ///
    /// # Errors
    ///
    /// What is wrong with their topics and follow-ups.
    pub fn check(&self, wanted: &[Wanted]) -> Result<(), CannotRun> {
        wanted.iter().try_for_each(|one| self.selection(one).map(drop))
    }

    fn selection(&self, wanted: &Wanted) -> Result<Selection, CannotRun> {
        let name = &wanted.told.name;
        if wanted.told.then.as_ref().is_some_and(|then| self.is_own(&then.publish.to)) {
            return Err(CannotRun::Then { name: name.clone() });
        }
        let bad = |reason| CannotRun::Pattern { name: name.clone(), reason };
        let picks = wanted.told.topics.iter().map(|pick| pick.matcher(&self.around.hub));
        let matchers = picks.collect::<Result<Vec<_>, _>>().map_err(bad)?;
        Ok(Selection { matchers, grant: Arc::clone(&wanted.grant), scope: None })
    }

    /// Whether topics that begin like this are the hub's own, whatever follows.
    fn is_own(&self, begin: &str) -> bool {
        let namespace = self.around.hub.namespace();
        namespace.contains(namespace.resolve(&format!("{begin}x")).as_ref())
    }

    fn launch(
        &self,
        wanted: Wanted,
        selection: Selection,
        opened: Opened,
        followed: HashSet<u64>,
        past: Past,
    ) {
        let Wanted { told, sink, origin, .. } = wanted.clone();
        let (around, name) = (self.around.clone(), Arc::<str>::from(told.name.as_str()));
        let counts = Arc::clone(&past.counts);
        let reads = Arc::new(selection.clone());
        let rules = Rules::new(&told, sink.run_max());
        let then = rules.then.clone();
        let delivery = self.machine(rules, opened, followed, &counts);
        let (commands, heard) = mpsc::channel(COMMANDS_MAX);
        let hold = around.hub.hold_history(delivery.status(now(&around)).position);
        let nats = sink.nats();
        let known = Known { told, origin, counts: Arc::clone(&counts), nats, failure: None };
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
        let failure = Arc::new(OnceLock::new());
        let tokens = (stop.clone(), cut.clone());
        self.own(run_to_its_end(running, tokens, Arc::clone(&failure), past.clone(), over));
        let name = known.told.name.clone();
        let (letters, replays) = (Arc::new(Semaphore::new(1)), Arc::default());
        let wanted = Some(wanted);
        let one = One {
            known,
            wanted,
            reads,
            letters,
            replays,
            commands,
            stop,
            cut,
            ended,
            failure,
            past,
        };
        let before = self.lock().insert(name.clone(), one);
        // What a sink that failed left behind of its replays ends.
        before.iter().for_each(|failed| failed.stop.cancel());
        self.resume_replays(&name);
    }
}

/// Runs a sink until it has ended or is cut off. One that fails by a mistake of the hub's own takes
/// nobody with it.
async fn run_to_its_end(
    running: Running,
    (stop, cut): (CancellationToken, CancellationToken),
    failure: Arc<OnceLock<Failure>>,
    past: Past,
    over: oneshot::Sender<()>,
) {
    let (around, name) = (running.around.clone(), Arc::clone(&running.name));
    let running = AssertUnwindSafe(run(running, stop)).catch_unwind();
    let ended = tokio::select! {
        ended = running => ended,
        () = cut.cancelled() => Ok(()),
    };
    if ended.is_err() {
        let broken = Failure::of(&around, &name, INTERNAL.to_owned(), past.pause());
        let pause = past.pause().as_secs();
        tracing::error!(
            sink = &*name,
            pause,
            "the sink was stopped by a mistake of the hub: it begins again where it was, after \
            so many seconds"
        );
        // It is set nowhere else.
        let _ = failure.set(broken);
    }
    // Nobody may wait for it.
    let _ = over.send(());
}

/// Why a sink does not run that ended by a mistake of the hub.
const INTERNAL: &str = "stopped by an internal error";
