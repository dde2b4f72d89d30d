//! Sinks and sources of the configuration: made, started, changed by a reload, and ended. Knows no
//! kind of system.

use std::sync::Arc;
use std::time::Duration;

use tidings_connectors::attempts::{Attempts, AttemptsOptions};
use tidings_connectors::make::{Author, Workshop};
use tidings_connectors::sinks::{CannotRun, Origin, Sinks, Wanted};
use tidings_connectors::specification::{BadOption, SinkSpecification};
use tidings_connectors::webhook;
use tidings_core::{Grant, HistoryHold, Keep, Offset, OpenError};
use tokio::task::JoinSet;

use super::parts::Parts;
use crate::config::Config;

/// A sink of the configuration cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BadConnector {
    /// What it is told. The fault of whoever wrote it.
    #[error("the sink {name:?}: {}", in_words(problems))]
    Told {
        /// Which.
        name: String,
        /// What is wrong.
        problems: Vec<BadOption>,
    },
    /// What is saved, or its patterns.
    #[error(transparent)]
    Run(#[from] CannotRun),
    /// The history of attempts.
    #[error("the history of attempts cannot be opened: {0}")]
    Attempts(#[from] OpenError),
    /// The certificates that this machine trusts.
    #[error("TLS cannot be used for webhooks: {0}")]
    Tls(#[from] rustls::Error),
}

fn in_words(problems: &[BadOption]) -> String {
    let words = problems.iter().map(|problem| match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("`{path}` {}", problem.message),
    });
    words.collect::<Vec<_>>().join("; ")
}

/// What of the program speaks to other systems.
pub(super) struct Connectors {
    sinks: Arc<Sinks>,
    attempts: Attempts,
    workshop: Workshop,
    recorder: JoinSet<()>,
}

impl Connectors {
    /// Opens what is kept, and starts the sinks of the configuration, each behind what it has
    /// delivered. Blocks on the disk.
    pub(super) fn start(config: &Config, parts: &Parts) -> Result<Connectors, BadConnector> {
        let (hub, clock) = (parts.hub(), parts.clock());
        // Until each sink holds what it needs.
        let everything: HistoryHold = hub.hold_history(Offset::ZERO);
        let keep = &config.webhooks.keep_attempts;
        let options = AttemptsOptions {
            path: config.history.path.as_ref().map(|path| path.join("attempts")),
            keep: Keep { age: keep.age, bytes: keep.size, entries: None },
        };
        let (attempts, recorder) = Attempts::open(options, Arc::clone(&clock))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(recorder.run());
        let workshop = Workshop {
            source: config.hub_url().to_string(),
            clock: Arc::clone(&clock),
            tls: webhook::tls()?,
            allow: config.webhooks.allow.clone(),
        };
        let sinks = Arc::new(Sinks::new(hub.clone(), clock, attempts.clone()));
        let connectors = Connectors { sinks, attempts, workshop, recorder: tasks };
        connectors.sinks.start(connectors.wanted(&config.sinks)?)?;
        drop(everything);
        // Nobody else starts any.
        let _ = parts.sinks().set(Arc::clone(&connectors.sinks));
        for sink in &config.sinks {
            tracing::info!(sink = sink.name, kind = sink.to.kind, "a sink runs");
        }
        Ok(connectors)
    }

    fn wanted(&self, told: &[SinkSpecification]) -> Result<Vec<Wanted>, BadConnector> {
        let grant = Arc::new(Grant::operator());
        let made = told.iter().map(|told| {
            let sink = self.workshop.sink(&told.to, Author::Operator);
            let bad = |problems| BadConnector::Told { name: told.name.clone(), problems };
            let grant = Arc::clone(&grant);
            let origin = Origin::Configuration;
            Ok(Wanted { told: told.clone(), sink: sink.map_err(bad)?, grant, origin })
        });
        made.collect()
    }

    /// Takes other sinks: those that are not told of any more end, those that are told something
    /// else go on as they are told, new ones begin. A mistake anywhere changes nothing.
    pub(super) async fn reload(&self, told: &[SinkSpecification]) -> Result<(), BadConnector> {
        let running = self.sinks.told();
        let is_as_before = |one: &SinkSpecification| running.contains(one);
        let changed: Vec<_> = told.iter().filter(|one| !is_as_before(one)).cloned().collect();
        let wanted = self.wanted(&changed)?;
        self.sinks.check(&wanted)?;
        for old in running.iter().filter(|old| !told.contains(old)) {
            self.sinks.stop(&old.name, RELOAD_PATIENCE).await;
            tracing::info!(sink = old.name, "a sink ended, or begins again as it is told now");
        }
        Ok(self.sinks.start(wanted)?)
    }

    /// Ends the sinks: what is on its way gets as long as `patience`.
    pub(super) async fn end(&self, patience: Duration) {
        self.sinks.end(patience).await;
    }

    /// Ends what is kept of attempts. Blocks on the disk.
    pub(super) async fn close(&mut self) {
        self.recorder.shutdown().await;
        let attempts = self.attempts.clone();
        let _ = tokio::task::spawn_blocking(move || attempts.shut_down()).await;
    }
}

/// How long a sink that is changed may take to end what is on its way.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);
