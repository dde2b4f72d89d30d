//! Sinks and sources: those of the configuration and the endpoints made over the API, started
//! together, changed by a reload, and ended. Knows no kind of system.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidings_connectors::attempts::{Attempts, AttemptsOptions};
use tidings_connectors::endpoints::{BadEndpoints, Endpoints, Setting};
use tidings_connectors::make::{Author, Workshop};
use tidings_connectors::sinks::{CannotRun, Origin, Sinks, Wanted};
use tidings_connectors::sources::{Sources, WantedSource};
use tidings_connectors::specification::{BadOption, SinkSpecification, SourceSpecification};
use tidings_connectors::webhook;
use tidings_core::{Grant, HistoryHold, Keep, Offset, OpenError};
use tokio::task::JoinSet;

use super::parts::Parts;
use crate::admin::Running;
use crate::config::Config;
use crate::limits::ATTEMPTS_END_TIMEOUT;

/// A sink or a source of the configuration cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BadConnector {
    /// What it is told. The fault of whoever wrote it.
    #[error("{name:?}: {}", in_words(problems))]
    Told {
        /// Which.
        name: String,
        /// What is wrong.
        problems: Vec<BadOption>,
    },
    /// What is saved, or its patterns.
    #[error(transparent)]
    Run(#[from] CannotRun),
    /// Some cannot run; all else was taken.
    #[error("{}", each(.0))]
    Some(Vec<CannotRun>),
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

fn each(problems: &[CannotRun]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What of the program speaks to other systems.
pub(super) struct Connectors {
    sinks: Arc<Sinks>,
    sources: Arc<Sources>,
    endpoints: Arc<Endpoints>,
    attempts: Attempts,
    workshop: Workshop,
    author: Author,
    /// Whether what is not delivered yet outlives the process.
    is_kept: bool,
    /// Writes down attempts, and ends when it has.
    recorder: JoinSet<()>,
    /// Starts sinks again that have failed, as long as there are any.
    tasks: JoinSet<()>,
    /// What sources say of their systems for the first time.
    admissions: JoinSet<Result<(), String>>,
}

impl Connectors {
    /// Whether anything could run: a sink is configured or was made, or somebody may make one.
    pub(super) fn are_wanted(config: &Config, parts: &Parts) -> Result<bool, BadConnector> {
        let may_be_made = config.admin.listen.is_some() && config.admin.token.is_some();
        let are_kept = Endpoints::are_kept(parts.hub()).map_err(BadEndpoints::from)?;
        let are_told = !config.sinks.is_empty() || !config.sources.is_empty();
        Ok(are_told || may_be_made || are_kept)
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
        let (attempts, recording) = Attempts::open(options, Arc::clone(&clock))?;
        let (mut recorder, mut tasks) = (JoinSet::new(), JoinSet::new());
        recorder.spawn(recording.run());
        // What is wrong with sources is found before anything runs.
        sources(&config.sources)?;
        let workshop = Workshop {
            source: config.hub_url().to_string(),
            clock: Arc::clone(&clock),
            tls: webhook::tls()?,
            allow: config.webhooks.allow.clone(),
        };
        let sinks = Arc::new(Sinks::new(hub.clone(), Arc::clone(&clock), attempts.clone()));
        sinks.space().bound(config.webhooks.undelivered_size_max);
        tasks.spawn(Arc::clone(&sinks).start_failed_again());
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
        let author = if config.is_relay { Author::Relay } else { Author::Operator };
        let connectors = Connectors {
            sinks,
            sources: Arc::new(Sources::new(hub.clone())),
            endpoints,
            attempts,
            workshop,
            author,
            is_kept: config.history.path.is_some(),
            recorder,
            tasks,
            admissions: JoinSet::new(),
        };
        connectors.run(config)?;
        drop(everything);
        let running = Running {
            sinks: Arc::clone(&connectors.sinks),
            endpoints: Arc::clone(&connectors.endpoints),
            sources: Arc::clone(&connectors.sources),
        };
        // Nobody else starts any.
        let _ = parts.sinks().set(running);
        Ok(connectors)
    }

    /// Starts the sources of the configuration: when all else is ready for what they bring.
    pub(super) fn take_in(&mut self, told: &[SourceSpecification]) -> Result<(), BadConnector> {
        for wanted in sources(told)? {
            tracing::info!(
                source = wanted.told.name,
                kind = wanted.told.from.kind,
                "a source runs"
            );
            self.admissions.spawn(self.sources.start(wanted));
        }
        Ok(())
    }

    /// Starts all of them at once: one look at the history serves all.
    fn run(&self, config: &Config) -> Result<(), BadConnector> {
        let mut wanted = self.wanted(&config.sinks)?;
        self.sinks.check(&wanted)?;
        wanted.extend(self.endpoints.wanted());
        // One whose rows cannot be read does not keep the others, or the hub, from running.
        let failed = self.sinks.start_each(wanted);
        for problem in &failed {
            tracing::error!(%problem, "a sink does not run: it is tried again");
        }
        for known in self.sinks.all().into_iter().filter(|known| known.failure.is_none()) {
            let (sink, kind) = (known.told.name, known.told.to.kind);
            tracing::info!(sink, kind, "a sink runs");
        }
        Ok(())
    }

    /// Ends when a system has refused a source, with what it said, before it ever let it in.
    pub(super) async fn refused(&mut self) -> String {
        while let Some(admission) = self.admissions.join_next().await {
            if let Ok(Err(reason)) = admission {
                return reason;
            }
        }
        std::future::pending().await
    }

    fn wanted(&self, told: &[SinkSpecification]) -> Result<Vec<Wanted>, BadConnector> {
        let grant = Arc::new(Grant::operator());
        let made = told.iter().map(|told| {
            let sink = self.workshop.sink(told, self.author);
            let bad = |problems| BadConnector::Told { name: told.name.clone(), problems };
            let grant = Arc::clone(&grant);
            let origin = Origin::Configuration;
            Ok(Wanted { told: told.clone(), sink: sink.map_err(bad)?, grant, origin })
        });
        made.collect()
    }

    /// Takes other sinks: those that are not told of any more end, those that are told something
    /// else go on as they are told, new ones begin. A mistake anywhere changes nothing; what the
    /// state refuses to let begin is listed as failed, and tried again.
    pub(super) async fn reload(&self, config: &Config) -> Result<(), BadConnector> {
        let sources = self.changed_sources(&config.sources)?;
        let failed = self.reload_sinks(config).await?;
        self.sinks.space().bound(config.webhooks.undelivered_size_max);
        for old in self.sources.told().iter().filter(|old| !config.sources.contains(old)) {
            self.sources.stop(&old.name, RELOAD_PATIENCE).await;
            tracing::info!(source = old.name, "a source ended, or begins again as it is told now");
        }
        sources.into_iter().for_each(|wanted| drop(self.sources.start(wanted)));
        if failed.is_empty() { Ok(()) } else { Err(BadConnector::Some(failed)) }
    }

    fn changed_sources(
        &self,
        told: &[SourceSpecification],
    ) -> Result<Vec<WantedSource>, BadConnector> {
        let running = self.sources.told();
        let is_as_before = |one: &SourceSpecification| running.contains(one);
        let changed: Vec<_> = told.iter().filter(|one| !is_as_before(one)).cloned().collect();
        sources(&changed)
    }

    /// Answers which sinks cannot run. Those that had failed before are begun again as well.
    async fn reload_sinks(&self, config: &Config) -> Result<Vec<CannotRun>, BadConnector> {
        let told = &config.sinks;
        let all = self.sinks.all().into_iter();
        let configured = all.filter(|one| one.origin == Origin::Configuration);
        let (failed, running): (Vec<_>, Vec<_>) = configured.partition(|one| one.failure.is_some());
        let goes_on = |one: &SinkSpecification| running.iter().any(|old| old.told == *one);
        let changed: Vec<_> = told.iter().filter(|one| !goes_on(one)).cloned().collect();
        let wanted = self.wanted(&changed)?;
        self.sinks.check(&wanted)?;
        self.endpoints.reserve(names(config)).await?;
        let over = running.iter().filter(|old| !told.contains(&old.told));
        let over: Vec<&str> = over.chain(&failed).map(|old| old.told.name.as_str()).collect();
        // Those that nobody else has to make room for do not wait for the others.
        let is_new = |one: &Wanted| over.iter().all(|name| **name != one.told.name);
        let (new, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_new);
        // Reads from a disk, as below.
        let mut cannot = tokio::task::block_in_place(|| self.sinks.start_each(new));
        self.sinks.stop_many(&over, RELOAD_PATIENCE).await;
        for sink in over {
            tracing::info!(sink, "a sink ended, or begins again as it is told now");
        }
        cannot.extend(tokio::task::block_in_place(|| self.sinks.start_each(wanted)));
        Ok(cannot)
    }

    /// Ends the sources, then the sinks: what is on its way gets as long as `patience`, each.
    pub(super) async fn end(&self, patience: Duration) {
        self.sources.end(patience).await;
        self.endpoints.end().await;
        if !self.is_kept {
            self.sinks.drain(patience).await;
        }
        self.sinks.end(patience).await;
    }

    /// Ends what is kept of attempts. Blocks on the disk.
    pub(super) async fn close(&mut self) {
        self.attempts.end_recording();
        // Not for ever: a disk may hang.
        let _ended = tokio::time::timeout(ATTEMPTS_END_TIMEOUT, self.recorder.join_next()).await;
        self.recorder.shutdown().await;
        self.tasks.shutdown().await;
        let attempts = self.attempts.clone();
        let _ = tokio::task::spawn_blocking(move || attempts.shut_down()).await;
    }
}

fn sources(told: &[SourceSpecification]) -> Result<Vec<WantedSource>, BadConnector> {
    let made = told.iter().map(|told| {
        let bad = |problems| BadConnector::Told { name: told.name.clone(), problems };
        Ok(WantedSource { told: told.clone(), source: Workshop::source(told).map_err(bad)? })
    });
    made.collect()
}

/// The names that no endpoint may have.
fn names(config: &Config) -> BTreeSet<String> {
    let sinks = config.sinks.iter().map(|sink| sink.name.clone());
    sinks.chain(config.sources.iter().map(|source| source.name.clone())).collect()
}

/// How long a sink that is changed may take to end what is on its way.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);
