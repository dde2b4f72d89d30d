//! Sinks and sources: those of the configuration and the endpoints made over the API, started
//! together, changed by a reload, and ended. Knows no kind of system.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidings_connectors::attempts::{Attempts, AttemptsOptions};
use tidings_connectors::endpoints::{BadEndpoints, Endpoints, Setting};
use tidings_connectors::make::{Author, Workshop};
use tidings_connectors::sinks::{CannotRun, Origin, Sinks, Wanted};
use tidings_connectors::specification::{BadOption, SinkSpecification};
use tidings_connectors::webhook;
use tidings_core::{Grant, HistoryHold, Keep, Offset, OpenError};
use tokio::task::JoinSet;

use super::parts::Parts;
use crate::admin::Running;
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
    /// What was made over the API.
    #[error(transparent)]
    Endpoints(#[from] BadEndpoints),
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
    endpoints: Arc<Endpoints>,
    attempts: Attempts,
    workshop: Workshop,
    recorder: JoinSet<()>,
}

impl Connectors {
    /// Whether anything could run: a sink is configured or was made, or somebody may make one.
    pub(super) fn are_wanted(config: &Config, parts: &Parts) -> Result<bool, BadConnector> {
        let may_be_made = config.admin.listen.is_some() && config.admin.token.is_some();
        let are_kept = Endpoints::are_kept(parts.hub()).map_err(BadEndpoints::from)?;
        Ok(!config.sinks.is_empty() || may_be_made || are_kept)
    }

    /// Opens what is kept, and starts the sinks of the configuration and the endpoints, each behind
    /// what it has delivered. Blocks on the disk.
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
        let sinks = Arc::new(Sinks::new(hub.clone(), Arc::clone(&clock), attempts.clone()));
        let endpoints = Endpoints::open(Setting {
            hub: hub.clone(),
            clock,
            sinks: Arc::clone(&sinks),
            workshop: workshop.clone(),
            key_file: config.webhooks.key_file.clone(),
            grants: parts.grants(),
            configured: names(config),
        })?;
        let endpoints = Arc::new(endpoints);
        let connectors = Connectors { sinks, endpoints, attempts, workshop, recorder: tasks };
        connectors.run(config)?;
        drop(everything);
        let Connectors { sinks, endpoints, .. } = &connectors;
        let running = Running { sinks: Arc::clone(sinks), endpoints: Arc::clone(endpoints) };
        // Nobody else starts any.
        let _ = parts.sinks().set(running);
        Ok(connectors)
    }

    /// Starts all of them at once: one look at the history serves all.
    fn run(&self, config: &Config) -> Result<(), BadConnector> {
        let mut wanted = self.wanted(&config.sinks)?;
        wanted.extend(self.endpoints.wanted());
        let told: Vec<_> =
            wanted.iter().map(|one| (one.told.name.clone(), one.told.to.kind.clone())).collect();
        self.sinks.start(wanted)?;
        for (sink, kind) in told {
            tracing::info!(sink, kind, "a sink runs");
        }
        Ok(())
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
    pub(super) async fn reload(&self, config: &Config) -> Result<(), BadConnector> {
        let told = &config.sinks;
        let all = self.sinks.all().into_iter();
        let configured = all.filter(|one| one.origin == Origin::Configuration);
        let running: Vec<_> = configured.map(|one| one.told).collect();
        let is_as_before = |one: &SinkSpecification| running.contains(one);
        let changed: Vec<_> = told.iter().filter(|one| !is_as_before(one)).cloned().collect();
        let wanted = self.wanted(&changed)?;
        self.sinks.check(&wanted)?;
        self.endpoints.reserve(names(config)).await?;
        for old in running.iter().filter(|old| !told.contains(old)) {
            self.sinks.stop(&old.name, RELOAD_PATIENCE).await;
            tracing::info!(sink = old.name, "a sink ended, or begins again as it is told now");
        }
        Ok(self.sinks.start(wanted)?)
    }

    /// Ends the sinks: what is on its way gets as long as `patience`.
    pub(super) async fn end(&self, patience: Duration) {
        self.endpoints.end().await;
        self.sinks.end(patience).await;
    }

    /// Ends what is kept of attempts. Blocks on the disk.
    pub(super) async fn close(&mut self) {
        self.recorder.shutdown().await;
        let attempts = self.attempts.clone();
        let _ = tokio::task::spawn_blocking(move || attempts.shut_down()).await;
    }
}

/// The names that no endpoint may have.
fn names(config: &Config) -> BTreeSet<String> {
    let sinks = config.sinks.iter().map(|sink| sink.name.clone());
    sinks.chain(config.sources.iter().map(|source| source.name.clone())).collect()
}

/// How long a sink that is changed may take to end what is on its way.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);
