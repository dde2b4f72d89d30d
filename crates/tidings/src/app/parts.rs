//! From settings to parts: the only place that knows both the configuration and what is built from
//! it. Runs nothing.

use std::sync::Arc;

use tidings_core::{Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace};
use tidings_frontends::auth::Auth;
use tidings_frontends::http::{Frontend, HttpOptions};
use tidings_frontends::limits::form_bytes;
use tidings_frontends::mercure::{self, Mercure};
use tidings_frontends::page::{Page, PageSetup};

use super::AppProblem;
use super::healthz::Healthz;
use crate::config::{self, Config};

/// The hub and the protocols in front of it.
pub(super) struct Parts {
    hub: Hub,
    mercure: Arc<Mercure>,
    /// Bytes of an update's data. The hub has this for good, so nothing else may move from it.
    update_bytes_max: usize,
}

impl Parts {
    pub(super) fn build(config: &Config, clock: Arc<dyn Clock>) -> Result<Parts, AppProblem> {
        let options = hub_options(config);
        let update_bytes_max = options.update_bytes_max;
        let hub = Hub::open(options, Arc::clone(&clock))?;
        let auth = Arc::new(Auth::new(&config.auth, &hub)?);
        let options = mercure_options(config, update_bytes_max);
        let mercure = Mercure::new(hub.clone(), auth, clock, &options)?;
        Ok(Parts { hub, mercure: Arc::new(mercure), update_bytes_max })
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Everything that speaks HTTP to clients, in the order in which paths are claimed.
    pub(super) fn frontends(&self, config: &Config) -> Vec<Arc<dyn Frontend>> {
        let mut frontends: Vec<Arc<dyn Frontend>> =
            vec![Arc::<Mercure>::clone(&self.mercure), Arc::new(Healthz)];
        if let Some(dev) = &config.dev {
            frontends.push(Arc::new(Page::new(PageSetup {
                hub_path: config.hub_path.clone(),
                token: dev.token.clone(),
                draft_token: dev.draft_token.clone(),
                host: config.public_url.host_str().map(str::to_owned),
            })));
        }
        frontends
    }

    /// New keys, origins and limits. What listens and where the history is stays as it is.
    pub(super) fn reload(&self, config: &Config) -> Result<(), AppProblem> {
        let auth = Arc::new(Auth::new(&config.auth, &self.hub)?);
        Ok(self.mercure.reload(auth, &mercure_options(config, self.update_bytes_max))?)
    }
}

fn hub_options(config: &Config) -> HubOptions {
    let history = &config.history;
    HubOptions {
        namespace: Namespace::new(config.hub_url()),
        update_bytes_max: usize::try_from(config.mercure.update_size_max).unwrap_or(usize::MAX),
        history: HistoryOptions {
            path: history.path.clone(),
            durability: match history.durability {
                config::Durability::Fsync => Durability::Fsync,
                config::Durability::Written => Durability::Written,
                config::Durability::Memory => Durability::Memory,
            },
            keep: Keep {
                age: history.keep.age,
                bytes: history.keep.size,
                entries: history.keep.entries,
            },
            segment_bytes: history.segment_bytes,
        },
    }
}

fn mercure_options(config: &Config, update_bytes_max: usize) -> mercure::Options {
    let options = &config.mercure;
    mercure::Options {
        cors_origins: options.cors_origins.clone(),
        heartbeat: options.heartbeat,
        connection_age_max: options.connection_age_max,
        body_bytes_max: form_bytes(update_bytes_max),
        anonymous_replay_max: options.anonymous_replay_max,
        subscriptions: options.subscriptions,
    }
}

/// `connections_possible` is what the descriptors of this process allow, whatever is configured.
pub(super) fn http_options(config: &Config, connections_possible: usize) -> HttpOptions {
    let options = &config.http;
    HttpOptions {
        head_timeout: options.header_timeout,
        write_timeout: options.write_timeout,
        connections_max: options.connections_max.min(connections_possible),
        connections_per_address_max: options.connections_per_address_max,
        trusted_proxies: options.trusted_proxies.clone(),
    }
}

/// Settings that differ and that a running program cannot take.
pub(super) fn needs_restart(running: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("listen", running.listen != new.listen),
        ("public_url", running.public_url != new.public_url),
        ("hub_path", running.hub_path != new.hub_path),
        ("mercure.update_size_max", running.mercure.update_size_max != new.mercure.update_size_max),
        ("mercure.subscriptions", running.mercure.subscriptions != new.mercure.subscriptions),
        ("[history]", running.history != new.history),
        ("http.shutdown_budget", running.http.shutdown_budget != new.http.shutdown_budget),
        ("[admin]", running.admin != new.admin),
        ("[log]", running.log != new.log),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
