//! Sinks that do not run though they should: listed with the reason, and started again after a
//! pause. Knows no rule of delivery.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidings_core::{Grant, HistoryHold, Selection};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{CannotRun, Known, One, Origin, Sinks, Wanted};
use crate::delivery::run::Around;
use crate::delivery::{Counts, Status};
use crate::limits::{START_AGAIN_FIRST, START_AGAIN_LOOK_EVERY, START_AGAIN_MAX};
use crate::specification::SinkSpecification;

/// Why a sink does not run, and how it stood.
pub(super) struct Failure {
    /// The reason is in it.
    pub(super) status: Status,
    /// When it is to be started again.
    due: Instant,
    /// What it has not delivered stays in the history as if it ran.
    _hold: HistoryHold,
}

impl Failure {
    pub(super) fn of(around: &Around, name: &str, reason: String, pause: Duration) -> Failure {
        let status = Status { failure: Some(reason), ..around.book.status(name) };
        let hold = around.hub.hold_history(status.position);
        Failure { status, due: Instant::now() + pause, _hold: hold }
    }
}

/// What a sink did before it was started, which it goes on with.
#[derive(Clone)]
pub(super) struct Past {
    pub(super) counts: Arc<Counts>,
    began: Instant,
    /// How long it waits when it fails soon.
    next: Duration,
}

impl Default for Past {
    fn default() -> Past {
        Past { counts: Arc::default(), began: Instant::now(), next: START_AGAIN_FIRST }
    }
}

impl Past {
    /// How long a sink waits that fails now. One that ran for long begins anew.
    pub(super) fn pause(&self) -> Duration {
        if self.began.elapsed() > START_AGAIN_MAX { START_AGAIN_FIRST } else { self.next }
    }

    /// Of a sink that is started again.
    fn once_more(&self) -> Past {
        let next = self.pause().saturating_mul(2).min(START_AGAIN_MAX);
        Past { counts: Arc::clone(&self.counts), began: Instant::now(), next }
    }
}

impl Sinks {
    /// Starts these sinks as [`Sinks::start`]. Those that cannot run are listed with the reason and
    /// tried again; the answer says which, and why. Blocks on the disk.
    pub fn start_each(&self, wanted: Vec<Wanted>) -> Vec<CannotRun> {
        if self.start(wanted.clone()).is_ok() {
            return Vec::new();
        }
        let failed = wanted.into_iter().filter_map(|one| {
            let error = self.start(vec![one.clone()]).err()?;
            let (told, origin) = (one.told.clone(), one.origin);
            self.list(told, origin, Some(one), &Past::default(), error.to_string());
            Some(error)
        });
        failed.collect()
    }

    /// Lists a sink that cannot be made at all, and why, until it is stopped or started.
    pub fn list_unmade(&self, told: SinkSpecification, origin: Origin, reason: String) {
        self.list(told, origin, None, &Past::default(), reason);
    }

    fn list(
        &self,
        told: SinkSpecification,
        origin: Origin,
        wanted: Option<Wanted>,
        past: &Past,
        reason: String,
    ) {
        let name = told.name.clone();
        let failure = Failure::of(&self.around, &name, reason, past.pause());
        let (commands, _) = mpsc::channel(1);
        let (_, ended) = oneshot::channel();
        let grant = Arc::new(Grant::operator());
        let counts = Arc::clone(&past.counts);
        let one = One {
            known: Known { told, origin, counts, nats: None, failure: None },
            wanted,
            reads: Arc::new(Selection { matchers: Vec::new(), grant, scope: None }),
            letters: Arc::new(Semaphore::new(1)),
            replays: Arc::default(),
            commands,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            ended,
            failure: Arc::new(OnceLock::from(failure)),
            past: past.clone(),
        };
        self.lock().insert(name, one);
    }

    /// Starts sinks again that have failed, each after a pause that grows, for as long as this is
    /// polled.
    pub async fn start_failed_again(self: Arc<Self>) {
        loop {
            tokio::time::sleep(START_AGAIN_LOOK_EVERY).await;
            for name in self.due() {
                self.start_again(&name).await;
            }
        }
    }

    fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let is_due = |one: &One| {
            one.wanted.is_some() && one.failure.get().is_some_and(|failure| failure.due <= now)
        };
        self.lock().iter().filter(|(_, one)| is_due(one)).map(|(name, _)| name.clone()).collect()
    }

    /// Starts a sink that has failed. Answers whether it runs.
    pub async fn start_again(self: &Arc<Self>, name: &str) -> bool {
        // Closed when all of them end.
        let Ok(_turn) = self.turn.acquire().await else { return false };
        // What it noted before it failed is not to be lost.
        if let Err(error) = self.around.book.save().await {
            tracing::error!(sink = name, %error, "the sink still cannot run");
            return false;
        }
        let (sinks, name) = (Arc::clone(self), name.to_owned());
        // The task only fails with the runtime that it runs on.
        tokio::task::spawn_blocking(move || sinks.try_again(&name)).await.unwrap_or(false)
    }

    fn try_again(&self, name: &str) -> bool {
        let failed = {
            let all = self.lock();
            let Some(one) = all.get(name) else { return false };
            if one.failure.get().is_none() {
                return true;
            }
            one.wanted.clone().map(|wanted| (wanted, one.past.once_more()))
        };
        let Some((wanted, past)) = failed else { return false };
        match self.start_as(vec![wanted.clone()], &|| past.clone()) {
            Ok(()) => {
                tracing::info!(sink = name, "the sink runs again");
                true
            }
            Err(error) => {
                tracing::error!(sink = name, %error, "the sink still cannot run");
                let (told, origin) = (wanted.told.clone(), wanted.origin);
                self.list(told, origin, Some(wanted), &past, error.to_string());
                false
            }
        }
    }
}
