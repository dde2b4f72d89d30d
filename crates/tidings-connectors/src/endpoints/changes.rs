//! Changes of endpoints, one at a time: checked, saved, and then put to use. Knows no rows.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tidings_core::Table;

use super::record::{self, SIGNING};
use super::{Changed, Endpoint, EndpointProblem, Endpoints, told};
use crate::book;
use crate::delivery::run::Command;
use crate::delivery::{Standing, Status};
use crate::limits::{CHANGE_PATIENCE, ENDPOINTS_MAX};
use crate::make::Author;
use crate::records::SinkRecord;
use crate::secret::Secret;
use crate::sinks::{Origin, Wanted};
use crate::specification::SinkSpecification;
use crate::webhook::signature::{self, Scheme, SigningSecret};

impl Endpoints {
    /// Makes one: when this returns it is saved, and gets what is published from then on.
    ///
    /// # Errors
    ///
    /// See [`EndpointProblem`].
    pub async fn create(
        self: &Arc<Self>,
        written: Value,
        creator: Option<Value>,
    ) -> Result<Changed, EndpointProblem> {
        let own = Arc::clone(self);
        let task = async move {
            let _turn = own.turn().await?;
            let making = Arc::clone(&own);
            blocking(move || making.make(&written, creator)).await
        };
        self.tasks.spawn(task).await.map_err(|_| EndpointProblem::Interrupted)?
    }

    fn make(&self, written: &Value, creator: Option<Value>) -> Result<Changed, EndpointProblem> {
        let (told, secret) = told::new(written)?;
        self.may_be_called(&told.name)?;
        let now = self.setting.clock.wall();
        let endpoint = Endpoint { told, creator, made: now, changed: now, version: now };
        let wanted = self.wanted_of(&endpoint)?;
        let mut rows = record::rows(&endpoint, None, &*self.keys.get()?)?;
        let hub = &self.setting.hub;
        let place = SinkRecord::new(hub.epoch_now(), hub.end()).to_value();
        rows.push((Table::Sinks, endpoint.told.name.as_bytes().to_vec(), Some(place)));
        book::commit(hub, &rows)?;
        self.lock().insert(endpoint.told.name.clone(), endpoint.clone());
        // It is listed as failed if it cannot run. Its key is told either way, or never.
        let _ = self.run(wanted);
        Ok(Changed { endpoint, secret: secret.map(Secret::new) })
    }

    /// Starts it. One that cannot run is listed as failed, and tried again.
    fn run(&self, wanted: Wanted) -> Result<(), EndpointProblem> {
        let name = wanted.told.name.clone();
        let Some(problem) = self.setting.sinks.start_each(vec![wanted]).pop() else {
            return Ok(());
        };
        tracing::error!(sink = name, %problem, "an endpoint does not run: it is tried again");
        Err(problem.into())
    }

    fn may_be_called(&self, name: &str) -> Result<(), EndpointProblem> {
        let all = self.lock();
        if all.contains_key(name) {
            return Err(EndpointProblem::Taken);
        }
        if all.len() >= ENDPOINTS_MAX {
            return Err(EndpointProblem::Full);
        }
        drop(all);
        let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        if configured.contains(name) {
            return Err(EndpointProblem::Configured);
        }
        match self.setting.hub.state().get(Table::Sinks, name.as_bytes())? {
            Some(_) => Err(EndpointProblem::Left),
            None => Ok(()),
        }
    }

    /// Changes one: all that is not written is as it is by itself, except that secrets stay, and
    /// that without a `creator` it keeps the one that it has.
    ///
    /// # Errors
    ///
    /// See [`EndpointProblem`]; among others when its version is not `version`, if there is one.
    pub async fn change(
        self: &Arc<Self>,
        name: String,
        version: Option<u64>,
        written: Value,
        creator: Option<Value>,
    ) -> Result<Changed, EndpointProblem> {
        let own = Arc::clone(self);
        let task = async move {
            let _turn = own.turn().await?;
            let before = own.at_version(&name, version)?;
            let saving = Arc::clone(&own);
            let endpoint = blocking(move || {
                let told = told::changed(&written, &before.told)?;
                let creator = creator.or_else(|| before.creator.clone());
                saving.save(&before, told, creator)
            });
            let endpoint = endpoint.await?;
            own.start_again(&endpoint).await?;
            Ok(Changed { endpoint, secret: None })
        };
        self.tasks.spawn(task).await.map_err(|_| EndpointProblem::Interrupted)?
    }

    /// Saves what an endpoint is told from now on.
    fn save(
        &self,
        before: &Endpoint,
        told: SinkSpecification,
        creator: Option<Value>,
    ) -> Result<Endpoint, EndpointProblem> {
        let now = self.setting.clock.wall();
        let version = now.max(before.version + 1);
        let endpoint = Endpoint { told, creator, made: before.made, changed: now, version };
        // Nothing is saved that could not run.
        self.wanted_of(&endpoint)?;
        let rows = record::rows(&endpoint, Some(before), &*self.keys.get()?)?;
        book::commit(&self.setting.hub, &rows)?;
        self.lock().insert(endpoint.told.name.clone(), endpoint.clone());
        Ok(endpoint)
    }

    async fn start_again(self: &Arc<Self>, endpoint: &Endpoint) -> Result<(), EndpointProblem> {
        self.setting.sinks.stop(&endpoint.told.name, CHANGE_PATIENCE).await;
        let (own, endpoint) = (Arc::clone(self), endpoint.clone());
        blocking(move || match own.wanted_of(&endpoint) {
            Ok(wanted) => own.run(wanted),
            Err(problem) => {
                let (told, reason) = (endpoint.told, problem.in_words());
                own.setting.sinks.list_unmade(told, Origin::Api, reason);
                Err(problem)
            }
        })
        .await
    }

    /// Removes one, and all that is kept of it.
    ///
    /// # Errors
    ///
    /// See [`EndpointProblem`].
    pub async fn remove(
        self: &Arc<Self>,
        name: String,
        version: Option<u64>,
    ) -> Result<(), EndpointProblem> {
        let own = Arc::clone(self);
        let task = async move {
            let _turn = own.turn().await?;
            let endpoint = own.at_version(&name, version)?;
            // What becomes of what is on its way does not matter any more.
            own.setting.sinks.stop(&name, Duration::ZERO).await;
            let (removing, gone) = (Arc::clone(&own), record::gone(&endpoint));
            let is_gone = blocking(move || {
                removing.setting.sinks.book().remove(&name, gone)?;
                removing.lock().remove(&name);
                Ok(())
            });
            if let Err(problem) = is_gone.await {
                own.start_again(&endpoint).await?;
                return Err(problem);
            }
            Ok(())
        };
        self.tasks.spawn(task).await.map_err(|_| EndpointProblem::Interrupted)?
    }

    /// Nothing is sent to it until it is resumed, also after a restart. Answers how it stands.
    ///
    /// # Errors
    ///
    /// See [`EndpointProblem`].
    pub async fn pause(&self, name: &str) -> Result<Status, EndpointProblem> {
        let _turn = self.turn().await?;
        self.at_version(name, None)?;
        if !self.setting.sinks.command(name, Command::Pause).await {
            let failure = self.setting.sinks.known(name).and_then(|known| known.failure);
            return Err(failure.map_or(EndpointProblem::Ending, EndpointProblem::Failed));
        }
        self.settled(name).await
    }

    /// It goes on, at once with what waits for another try. Answers how it stands.
    ///
    /// # Errors
    ///
    /// See [`EndpointProblem`].
    pub async fn resume(self: &Arc<Self>, name: String) -> Result<Status, EndpointProblem> {
        let own = Arc::clone(self);
        let task = async move {
            let _turn = own.turn().await?;
            let endpoint = own.at_version(&name, None)?;
            if !own.setting.hub.stands(&own.grant_of(&endpoint)) {
                return Err(EndpointProblem::Fallen);
            }
            let status = own.setting.sinks.status(&name).await;
            if status.as_ref().is_none_or(is_over) {
                own.start_again(&endpoint).await?;
            }
            own.setting.sinks.command(&name, Command::Resume).await;
            let status = own.settled(&name).await?;
            if !is_over(&status) {
                return Ok(status);
            }
            // What it read with had ended while it was paused, and its grant counts again.
            own.start_again(&endpoint).await?;
            own.setting.sinks.command(&name, Command::Resume).await;
            own.settled(&name).await
        };
        self.tasks.spawn(task).await.map_err(|_| EndpointProblem::Interrupted)?
    }

    /// How it stands once it has done what it was asked for, and that is saved.
    async fn settled(&self, name: &str) -> Result<Status, EndpointProblem> {
        let status = self.setting.sinks.status(name).await.ok_or(EndpointProblem::Ending)?;
        self.setting.sinks.book().save().await?;
        Ok(status)
    }

    /// Puts a new signing key in front of those that it has, which sign for `overlap` more. The new
    /// one is of the same kind as the newest.
    ///
    /// # Errors
    ///
    /// See [`EndpointProblem`].
    pub async fn rotate(
        self: &Arc<Self>,
        name: String,
        version: Option<u64>,
        overlap: Duration,
    ) -> Result<Changed, EndpointProblem> {
        let own = Arc::clone(self);
        let task = async move {
            let _turn = own.turn().await?;
            let before = own.at_version(&name, version)?;
            let saving = Arc::clone(&own);
            let changed = blocking(move || saving.turn_keys(&before, overlap)).await?;
            let endpoint = &changed.endpoint;
            let sink = own.setting.workshop.sink(&endpoint.told, Author::Stranger);
            let sink = sink.map_err(EndpointProblem::Bad)?;
            if !own.setting.sinks.replace(endpoint.told.clone(), sink).await {
                // It is listed as failed if it cannot run. Its key is told either way, or never.
                let _ = own.start_again(endpoint).await;
            }
            Ok(changed)
        };
        self.tasks.spawn(task).await.map_err(|_| EndpointProblem::Interrupted)?
    }

    fn turn_keys(&self, before: &Endpoint, overlap: Duration) -> Result<Changed, EndpointProblem> {
        let mut told = before.told.clone();
        let old: Vec<SigningSecret> = told
            .to
            .get(SIGNING)
            .and_then(|keys| serde_json::from_value(keys.clone()).ok())
            .unwrap_or_default();
        let is_pair = old.first().is_some_and(|key| signature::public_half(&key.key).is_some());
        let scheme = if is_pair { Scheme::KeyPair } else { Scheme::Shared };
        let fresh = signature::generate(scheme).map_err(|_| EndpointProblem::Random)?;
        let now = self.setting.clock.wall();
        let keys = signature::rotated(&old, fresh.clone(), overlap, now)?;
        let written = |key: &SigningSecret| json!({ "key": key.key.expose(), "until": key.until });
        told.to.put_secret(SIGNING, keys.iter().map(written).collect());
        let endpoint = self.save(before, told, before.creator.clone())?;
        Ok(Changed { endpoint, secret: Some(fresh) })
    }
}

/// Does what blocks on the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EndpointProblem> + Send + 'static,
) -> Result<T, EndpointProblem> {
    // The task only fails with the runtime that it runs on.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(EndpointProblem::Interrupted))
}

/// Whether a sink has to be started again to go on: who reads for it may have ended.
fn is_over(status: &Status) -> bool {
    status.failure.is_some() || matches!(status.standing, Standing::Disabled(_))
}
