//! Two stages make the hub's order, each with a thread. The first, `stage`, appends what is queued;
//! the second, `fan_out`, hands the committed batches to the receivers in the same order, so that
//! syncing the next batch overlaps delivering this one. Between the two is the `outbox`, out of
//! which publishers are answered.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::announce::Announcement;
use crate::answers::Answer;
use crate::clock::Clock;
use crate::error::Refused;
use crate::fan_out::FanOut;
use crate::hub::Shared;
use crate::intake::{Duty, Found, Intake};
use crate::limits::TELLING_LATE_MAX;
use crate::options::Durability;
use crate::outbox::Outbox;
use crate::repeats::Repeats;
use crate::stage::Stage;
use crate::turns::after_others;
use crate::update::{Offset, Update};

/// How often an idle writer lets the history go of what is old.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

/// An update on its way to the history.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) update: Update,
    /// Whose idempotency key it carries, if it does.
    pub(crate) publisher: Option<Box<str>>,
    pub(crate) answer: Answer,
    /// Held until the update is committed: bounds what waits. Of several that are published
    /// together, the first has it for all.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// What the first stage is given.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the largest: a box for each would cost more than it saves"
)]
pub(crate) enum Queued {
    /// By somebody.
    Published(Commit),
    /// By somebody, many at once.
    Together(Vec<Commit>),
    /// By the hub itself.
    Announced(Announcement),
}

/// The two stages and their threads.
pub(crate) struct Writer {
    stage: Arc<Mutex<Stage>>,
    intake: Arc<Intake<Queued>>,
    outbox: Arc<Outbox>,
    /// Nothing here waits for a disk: whoever publishes may do the first stage's work.
    is_quick: bool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Writer")
    }
}

impl Writer {
    pub(crate) fn start(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        start: Offset,
        repeats: Repeats,
    ) -> std::io::Result<Writer> {
        let is_quick = shared.durability == Durability::Memory;
        let (fan_out, fanning_out) = FanOut::start(Arc::clone(&shared))?;
        let outbox = Outbox::new(Arc::clone(&shared), fan_out);
        let stage = Stage::new(shared, clock, start, repeats, Arc::clone(&outbox));
        let stage = Arc::new(Mutex::new(stage));
        // Bounded: who publishes holds a permit, and one announces at a time.
        let intake = Arc::new(Intake::default());
        let (own, queued, told) = (Arc::clone(&stage), Arc::clone(&intake), Arc::clone(&outbox));
        let writing = std::thread::Builder::new()
            .name("tidings-writer".into())
            .spawn(move || run(&own, &queued, &told))?;
        let threads = Mutex::new(vec![writing, fanning_out]);
        Ok(Writer { stage, intake, outbox, is_quick, threads })
    }

    /// Gives something to the first stage. Somebody may have to see to it.
    pub(crate) fn put(&self, queued: Queued) -> Result<Option<Duty<Queued>>, Refused> {
        self.intake.put(queued).map_err(|_| Refused::ShuttingDown)
    }

    /// Sees to what waits, a moment later, with what comes until then: here, or on the thread.
    pub(crate) async fn see_to(&self, duty: Duty<Queued>) {
        after_others().await;
        if self.is_quick {
            duty.see_to(|| {
                let found = lock(&self.stage).work(&self.intake);
                self.outbox.tell();
                found == Found::Some
            });
        }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether anything is accepted.
    pub(crate) fn is_open(&self) -> bool {
        !self.intake.is_closed()
    }

    /// Accepts nothing any more, and waits until everything queued is committed and delivered.
    /// Answers whether it did so, which it does once.
    pub(crate) fn end(&self) -> bool {
        self.intake.close();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let is_first = !threads.is_empty();
        for thread in threads {
            // A panic of a stage was reported by the panic hook; there is nothing to end here.
            let _ended = thread.join();
        }
        is_first
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first stage's thread: does what nobody else does, until nothing will come.
fn run(stage: &Mutex<Stage>, intake: &Intake<Queued>, outbox: &Arc<Outbox>) {
    loop {
        let patience = if outbox.is_waiting() { TELLING_LATE_MAX } else { MAINTAIN_EVERY };
        if intake.is_called(patience) {
            // Whoever is about to publish on this processor does so first, and one sync serves all.
            std::thread::yield_now();
            if lock(stage).work(intake) == Found::End {
                return outbox.end();
            }
            outbox.have_told();
        } else {
            outbox.tell();
        }
        lock(stage).maintain();
    }
}
