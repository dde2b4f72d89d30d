//! Endpoints: sinks that are made, changed and removed over the API while the hub runs. They are
//! kept in the hub's state with what their creators may read, and their secrets sealed. Knows no
//! request and no token.

mod changes;
mod problem;
mod record;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tidings_core::{Clock, Grant, Hub, StateError, Table};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use crate::limits::ENDPOINTS_MAX;
use crate::make::{Author, Workshop};
use crate::secret::Secret;
use crate::sinks::{CannotRun, Origin, Sinks, THEN_HINT, THEN_IS_OWN, Wanted};
use crate::specification::SinkSpecification;
pub use problem::{BadEndpoints, EndpointProblem};
use record::Keys;

/// What a creator may read, from what was kept of it; `None` is the operator.
pub type Grants = Box<dyn Fn(Option<&Value>) -> Arc<Grant> + Send + Sync>;

/// What endpoints need around them.
pub struct Setting {
    /// Where they are kept and whose updates they get.
    pub hub: Hub,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where they run.
    pub sinks: Arc<Sinks>,
    /// What makes their systems.
    pub workshop: Workshop,
    /// The file of the key that seals their secrets. Without one the key is in memory.
    pub key_file: Option<PathBuf>,
    /// See [`Grants`].
    pub grants: Grants,
    /// Names that the configuration uses.
    pub configured: BTreeSet<String>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// What it is told, with its secrets.
    pub told: SinkSpecification,
    /// What was kept of its creator's token; `None` for the operator.
    pub creator: Option<Value>,
    /// When it was made, in milliseconds since 1970-01-01.
    pub made: u64,
    /// When it was changed last.
    pub changed: u64,
    /// Grows with each change, also over the end of one endpoint and the begin of another with its
    /// name.
    pub version: u64,
}

impl Endpoint {
    /// What it is told, without secrets, in the form in which it is written. Of the URL it is the
    /// begin, which stands for the whole where the endpoint is changed.
    pub fn shown(&self) -> Value {
        let (mut written, mut secrets) = record::apart(&self.told);
        let url = secrets.remove(record::URL).as_ref().and_then(record::shown_url);
        if let (Some(written), Some(url)) = (written.as_object_mut(), url) {
            written.insert(record::URL.to_owned(), url);
        }
        written
    }

    /// The options that are set and not shown.
    pub fn secrets(&self) -> Vec<&'static str> {
        let secrets = record::apart(&self.told).1.into_keys();
        secrets.filter(|path| *path != record::URL).collect()
    }
}

/// What came of a change.
#[derive(Debug)]
pub struct Changed {
    /// The endpoint after it.
    pub endpoint: Endpoint,
    /// A signing key that was made for it. This is the only time that it is told.
    pub secret: Option<Secret>,
}

/// All endpoints.
pub struct Endpoints {
    setting: Setting,
    keys: Keys,
    all: Mutex<BTreeMap<String, Endpoint>>,
    configured: Mutex<BTreeSet<String>>,
    /// One change at a time. Closed when the hub ends.
    turn: Semaphore,
    /// A change goes on when whoever asked for it has gone.
    tasks: TaskTracker,
}

impl Endpoints {
    /// Reads those of before. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`BadEndpoints`].
    pub fn open(mut setting: Setting) -> Result<Endpoints, BadEndpoints> {
        let state = setting.hub.state();
        let keys = Keys::open(setting.key_file.clone(), record::has_sealed(state)?)?;
        let mut all = BTreeMap::new();
        for (name, row) in state.rows(Table::Endpoints, ENDPOINTS_MAX)? {
            let endpoint = record::read(state, &name, &row, &keys)?;
            let name = endpoint.told.name.clone();
            if setting.configured.contains(&name) {
                return Err(BadEndpoints::Both { name });
            }
            all.insert(name, endpoint);
        }
        let configured = Mutex::new(std::mem::take(&mut setting.configured));
        let (all, turn, tasks) = (Mutex::new(all), Semaphore::new(1), TaskTracker::new());
        Ok(Endpoints { setting, keys, all, configured, turn, tasks })
    }

    /// Whether a hub has endpoints of before.
    ///
    /// # Errors
    ///
    /// When its state cannot be read.
    pub fn are_kept(hub: &Hub) -> Result<bool, StateError> {
        Ok(!hub.state().rows(Table::Endpoints, 1)?.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Endpoint>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them as they are to run, for a start. One that cannot is left out: it is listed as
    /// failed, can be changed and removed, and the log says so.
    pub fn wanted(&self) -> Vec<Wanted> {
        let all: Vec<Endpoint> = self.lock().values().cloned().collect();
        let wanted = all.iter().filter_map(|endpoint| match self.wanted_of(endpoint) {
            Ok(wanted) => Some(wanted),
            Err(problem) => {
                let name = &endpoint.told.name;
                let reason = problem.in_words();
                tracing::error!(sink = name, reason, "an endpoint does not run");
                self.setting.sinks.list_unmade(endpoint.told.clone(), Origin::Api, reason);
                None
            }
        });
        wanted.collect()
    }

    /// Whether a name is that of an endpoint.
    pub fn has(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Endpoint> {
        self.lock().get(name).cloned()
    }

    /// Other names belong to the configuration from now on.
    ///
    /// # Errors
    ///
    /// When one of them is that of an endpoint; nothing has changed then.
    pub async fn reserve(&self, names: BTreeSet<String>) -> Result<(), BadEndpoints> {
        let _turn = self.turn.acquire().await;
        if let Some(name) = names.iter().find(|name| self.has(name)) {
            return Err(BadEndpoints::Both { name: name.clone() });
        }
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }

    /// Nothing is changed any more when this returns.
    pub async fn end(&self) {
        drop(self.turn.acquire().await);
        self.turn.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, EndpointProblem> {
        self.turn.acquire().await.map_err(|_| EndpointProblem::Ending)
    }

    fn at_version(&self, name: &str, version: Option<u64>) -> Result<Endpoint, EndpointProblem> {
        let Some(endpoint) = self.get(name) else {
            let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(match configured.contains(name) {
                true => EndpointProblem::Configured,
                false => EndpointProblem::Unknown,
            });
        };
        if version.is_some_and(|version| version != endpoint.version) {
            return Err(EndpointProblem::Version { now: endpoint.version });
        }
        Ok(endpoint)
    }

    fn grant_of(&self, endpoint: &Endpoint) -> Arc<Grant> {
        (self.setting.grants)(endpoint.creator.as_ref())
    }

    /// The endpoint as it is to run.
    fn wanted_of(&self, endpoint: &Endpoint) -> Result<Wanted, EndpointProblem> {
        let told = endpoint.told.clone();
        if endpoint.creator.is_some() && told.then.is_some() {
            let message = "what follows is published by the hub, which a `token` does not allow";
            let hint = "leave out `then`, or `token`";
            return Err(EndpointProblem::Bad(vec![told::bad("then", message, hint)]));
        }
        let sink = self.setting.workshop.sink(&told, Author::Stranger);
        let sink = sink.map_err(EndpointProblem::Bad)?;
        let origin = Origin::Api;
        let wanted = Wanted { told, sink, grant: self.grant_of(endpoint), origin };
        match self.setting.sinks.check(std::slice::from_ref(&wanted)) {
            Ok(()) => Ok(wanted),
            Err(CannotRun::Pattern { reason, .. }) => {
                let bad = told::bad("topics", &reason.to_string(), "write another pattern");
                Err(EndpointProblem::Bad(vec![bad]))
            }
            Err(CannotRun::Then { .. }) => {
                Err(EndpointProblem::Bad(vec![told::bad("then", THEN_IS_OWN, THEN_HINT)]))
            }
            Err(problem) => Err(problem.into()),
        }
    }
}
