//! From settings to parts: the only place that knows both the configuration and what is built from
//! it. Runs nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidings_connectors::endpoints::Grants;
use tidings_core::{
    Clock, Durability, Grant, HistoryOptions, Hub, HubOptions, Judgement, Keep, Namespace,
};
use tidings_frontends::Shards;
use tidings_frontends::auth::{Auth, KeptGrant, KeptPattern, OwnIssuer, Secret, WantedKey};
use tidings_frontends::courier::{self, Courier};
use tidings_frontends::http::{Frontend, HttpOptions, Server};
use tidings_frontends::limits::{
    API_KEY_PER_MINUTE_DEFAULT, ISSUED_LIFETIME_MAX_DEFAULT, form_bytes,
};
use tidings_frontends::mercure::{self, Mercure};
use tidings_frontends::page::{Page, PageSetup};
use tidings_frontends::tokens::{self, Tokens};
use tidings_frontends::websocket::{self, WebSocket};

use super::AppProblem;
use super::healthz::Healthz;
use super::key_sets::KeySetReaders;
use crate::admin::{Admin, Current, Ready, RunningSinks};
use crate::config::{self, Config, CourierOptions};
use crate::keys::{Keyring, issuer_secrets};
use crate::ledger::Ledger;

/// The hub and the protocols in front of it.
pub(super) struct Parts {
    hub: Hub,
    clock: Arc<dyn Clock>,
    mercure: Arc<Mercure>,
    websocket: Option<Arc<WebSocket>>,
    courier: Option<Arc<Courier>>,
    auth: Arc<Auth>,
    key_sets: KeySetReaders,
    ledger: Arc<Ledger>,
    /// Who signs the hub's own tokens, and the keys that get them.
    own: Arc<OwnIssuer>,
    keys: Arc<Keyring>,
    tokens: Arc<Tokens>,
    /// What the operator's listener knows of what a reload replaces.
    current: Arc<RwLock<Current>>,
    /// The sinks, once any run.
    sinks: RunningSinks,
    /// Bytes of an update's data. The hub has this for good, so nothing else may move from it.
    update_bytes_max: usize,
}

impl Parts {
    pub(super) fn build(config: &Config, clock: Arc<dyn Clock>) -> Result<Parts, AppProblem> {
        let options = hub_options(config);
        let update_bytes_max = options.update_bytes_max;
        let hub = Hub::open(options, Arc::clone(&clock))?;
        let secrets = issuer_secrets(hub.state())?;
        let own = Arc::new(OwnIssuer::new(&config.public_url, &config.hub_url(), secrets));
        let auth = Auth::new(&config.auth, &hub)?.with_own(&own, config.tokens.mercure_info)?;
        let auth = Arc::new(auth);
        let is_durable = config.history.path.is_some();
        let keys = Keyring::open(hub.clone(), Arc::clone(&own), Arc::clone(&clock), is_durable)?;
        if let Some(dev) = &config.dev {
            keys.have(dev_key(), &dev.api_key)?;
        }
        let revocations = Arc::clone(auth.revocations());
        let ledger = Ledger::open(hub.clone(), revocations, Arc::clone(&clock), is_durable)?;
        let options = mercure_options(config, update_bytes_max);
        let shards = Shards::start(&hub, &clock)?;
        let (of_mercure, time) = (Arc::clone(&auth), Arc::clone(&clock));
        let mercure = Mercure::new(hub.clone(), of_mercure, time, shards, &options)?;
        let mercure = Arc::new(mercure);
        let tokens = Tokens::new(
            Arc::clone(&own),
            Arc::clone(&mercure),
            Arc::clone(&clock),
            config.public_url.path(),
            &tokens_options(config),
        )?;
        let courier = courier(config, &mercure, &clock, update_bytes_max)?;
        hub.judge_by(judgement(&auth, courier.as_ref(), &clock));
        Ok(Parts {
            hub,
            websocket: websocket(config, &mercure),
            courier,
            mercure,
            own,
            keys: Arc::new(keys),
            tokens: Arc::new(tokens),
            key_sets: KeySetReaders::new(Arc::clone(&clock))?,
            ledger: Arc::new(ledger),
            current: Arc::new(RwLock::new(current(config, &auth))),
            sinks: RunningSinks::default(),
            auth,
            clock,
            update_bytes_max,
        })
    }

    /// Begins to read the key sets of issuers, and keeps them fresh.
    pub(super) fn read_key_sets(&mut self) {
        self.key_sets.follow(self.auth.key_sets());
    }

    /// What the operator's listener answers.
    pub(super) fn admin(&self, ready: Ready, public: Arc<Server>) -> Admin {
        let (current, trust) =
            (Arc::clone(&self.current), (Arc::clone(&self.ledger), Arc::clone(&self.keys)));
        let (clock, sinks) = (Arc::clone(&self.clock), Arc::clone(&self.sinks));
        Admin::new(ready, self.hub.clone(), public, current, trust, clock, sinks)
            .with_courier(self.courier.clone())
    }

    /// What creators of endpoints may read, by the issuers of each moment.
    pub(super) fn grants(&self) -> Grants {
        let current = Arc::clone(&self.current);
        Box::new(move |kept| {
            let Some(kept) = kept else { return Arc::new(Grant::operator()) };
            let auth = Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner).auth);
            let kept = serde_json::from_value::<KeptGrant>(kept.clone()).ok();
            let grant = kept.and_then(|kept| auth.restore(&kept));
            Arc::new(grant.unwrap_or_else(Auth::fallen))
        })
    }

    /// Where whoever starts the sinks puts them, for the operator's listener.
    pub(super) fn sinks(&self) -> &RunningSinks {
        &self.sinks
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Everything that speaks HTTP to clients, in the order in which paths are claimed.
    pub(super) fn frontends(&self, config: &Config) -> Vec<Arc<dyn Frontend>> {
        let mut frontends: Vec<Arc<dyn Frontend>> = vec![Arc::new(Healthz)];
        if let Some(courier) = &self.courier {
            frontends.push(Arc::<Courier>::clone(courier));
        }
        if config.is_courier {
            return frontends;
        }
        frontends.insert(0, Arc::<Mercure>::clone(&self.mercure));
        if let Some(websocket) = &self.websocket {
            frontends.push(Arc::<WebSocket>::clone(websocket));
        }
        // A relay has no clients of its own.
        if !config.is_relay {
            frontends.push(Arc::<Tokens>::clone(&self.tokens));
        }
        if let Some(dev) = &config.dev {
            frontends.push(Arc::new(Page::new(PageSetup {
                hub_path: config.hub_path.clone(),
                socket_path: self.websocket.as_ref().map(|_| config.websocket_path()),
                token: dev.token.clone(),
                draft_token: dev.draft_token.clone(),
                host: config.public_url.host_str().map(str::to_owned),
            })));
        }
        frontends
    }

    /// New keys, origins and limits. What listens and where the history is stays as it is. Ends the
    /// subscriptions whose issuer or key is not configured any more.
    pub(super) fn reload(&mut self, config: &Config) -> Result<(), AppProblem> {
        let auth = self.auth.renewed(&config.auth, &self.hub)?;
        let auth = Arc::new(auth.with_own(&self.own, config.tokens.mercure_info)?);
        let options = mercure_options(config, self.update_bytes_max);
        let courier = self.courier.as_ref().zip(courier_options(config, self.update_bytes_max));
        let prepared = courier.map(|(courier, options)| courier.prepared(&options)).transpose()?;
        self.mercure.reload(Arc::clone(&auth), &options)?;
        if let Some(websocket) = &self.websocket {
            websocket.reload(websocket_options(config));
        }
        self.tokens.reload(&tokens_options(config))?;
        if let (Some(courier), Some(prepared)) = (&self.courier, prepared) {
            courier.reload(prepared);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current(config, &auth);
        self.auth = auth;
        self.read_key_sets();
        // Last, so that nobody comes in by what is gone already.
        let judged = judgement(&self.auth, self.courier.as_ref(), &self.clock);
        let ended = self.hub.judge_by(judged);
        if ended > 0 {
            tracing::info!(ended, "subscriptions ended: their issuer or key is not configured");
        }
        Ok(())
    }
}

/// Which grants stand, of all who make some.
fn judgement(
    auth: &Arc<Auth>,
    courier: Option<&Arc<Courier>>,
    clock: &Arc<dyn Clock>,
) -> Judgement {
    let beside = courier.map(|courier| courier.marks()).unwrap_or_default();
    auth.judgement_beside(Arc::clone(clock), &beside)
}

fn current(config: &Config, auth: &Arc<Auth>) -> Current {
    Current { auth: Arc::clone(auth), token: config.admin.token.as_deref().map(Secret::new) }
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
            hold_bytes: history.hold_bytes,
            segment_bytes: history.segment_bytes,
        },
    }
}

fn mercure_options(config: &Config, update_bytes_max: usize) -> mercure::Options {
    let options = &config.mercure;
    mercure::Options {
        cors_origins: options.cors_origins.clone(),
        cookie: options.cookie.clone(),
        publish_origins: options.publish_origins.clone(),
        log_topics: config.log.topics,
        heartbeat: options.heartbeat,
        connection_age_max: options.connection_age_max,
        body_bytes_max: form_bytes(update_bytes_max),
        anonymous_replay_max: options.anonymous_replay_max,
        subscriptions: options.subscriptions,
    }
}

/// A relay has no clients of its own.
fn websocket(config: &Config, mercure: &Arc<Mercure>) -> Option<Arc<WebSocket>> {
    if !config.websocket.enabled || config.is_relay || config.is_courier {
        return None;
    }
    let (mercure, path) = (Arc::clone(mercure), config.websocket_path());
    Some(Arc::new(WebSocket::new(mercure, path, websocket_options(config))))
}

fn websocket_options(config: &Config) -> websocket::Options {
    let options = &config.websocket;
    websocket::Options {
        subscriptions_max: options.subscriptions_max,
        message_bytes_max: usize::try_from(options.message_size_max).unwrap_or(usize::MAX),
        per_second: options.commands_per_second,
        burst: options.burst,
    }
}

fn courier(
    config: &Config,
    mercure: &Arc<Mercure>,
    clock: &Arc<dyn Clock>,
    update_bytes_max: usize,
) -> Result<Option<Arc<Courier>>, AppProblem> {
    let Some(options) = courier_options(config, update_bytes_max) else { return Ok(None) };
    Ok(Some(Arc::new(Courier::new(Arc::clone(mercure), Arc::clone(clock), &options)?)))
}

fn courier_options(config: &Config, update_bytes_max: usize) -> Option<courier::Options> {
    let options = config.courier.as_ref()?;
    Some(courier::Options {
        jwt_secret: options.jwt_secret.clone(),
        key_secret: options.key_secret.clone(),
        ws_url: options.ws_url.clone(),
        path: options.path.clone(),
        sign_lifetime: options.sign_lifetime,
        update_bytes_max,
    })
}

/// The API key of a development hub, which reads everything.
fn dev_key() -> WantedKey {
    let any = KeptPattern { pattern: "*".to_owned(), match_type: "exact".to_owned() };
    WantedKey {
        name: "dev".to_owned(),
        topics: vec![any],
        lifetime_max: ISSUED_LIFETIME_MAX_DEFAULT,
        per_minute: API_KEY_PER_MINUTE_DEFAULT,
        expires: None,
    }
}

fn tokens_options(config: &Config) -> tokens::Options {
    tokens::Options {
        mercure_info: config.tokens.mercure_info,
        cors_origins: config.tokens.cors_origins.clone(),
        has_public_url: config.has_public_url,
    }
}

/// `connections_possible` is what the descriptors of this process allow, whatever is configured.
pub(super) fn http_options(config: &Config, connections_possible: usize) -> HttpOptions {
    let options = &config.http;
    // Whoever has not acknowledged a heartbeat when the next one is due is gone.
    let heartbeat = config.mercure.heartbeat;
    HttpOptions {
        head_timeout: options.header_timeout,
        write_timeout: options.write_timeout,
        acknowledge_timeout: heartbeat.unwrap_or(options.write_timeout).min(options.write_timeout),
        connections_max: options.connections_max.min(connections_possible),
        connections_per_address_max: options.connections_per_address_max,
        trusted_proxies: options.trusted_proxies.clone(),
        proxy_protocol: options.proxy_protocol.clone(),
        public_url: Some(config.public_url.clone()),
        redirect: config.tls.redirect,
        hsts: config.tls.hsts,
        log_topics: config.log.topics,
    }
}

/// The settings of Courier that a running program cannot take.
fn fixed_of_courier(config: &Config) -> Option<CourierOptions> {
    config.courier.clone().map(|options| CourierOptions {
        sign_lifetime: Duration::ZERO,
        jwt_secret: String::new(),
        key_secret: None,
        ..options
    })
}

/// Settings that differ and that a running program cannot take.
pub(super) fn needs_restart(running: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("listen", running.listen != new.listen),
        ("tls.listen", running.tls.listen != new.tls.listen),
        ("[tls.acme]", running.tls.acme != new.tls.acme),
        ("public_url", running.public_url != new.public_url),
        ("hub_path", running.hub_path != new.hub_path),
        ("mercure.update_size_max", running.mercure.update_size_max != new.mercure.update_size_max),
        ("mercure.subscriptions", running.mercure.subscriptions != new.mercure.subscriptions),
        ("websocket.enabled", running.websocket.enabled != new.websocket.enabled),
        ("websocket.path", running.websocket.path != new.websocket.path),
        ("[courier]", fixed_of_courier(running) != fixed_of_courier(new)),
        ("webhooks.allow", running.webhooks.allow != new.webhooks.allow),
        ("webhooks.key_file", running.webhooks.key_file != new.webhooks.key_file),
        ("[history]", running.history != new.history),
        ("http.shutdown_budget", running.http.shutdown_budget != new.http.shutdown_budget),
        ("admin.listen", running.admin.listen != new.admin.listen),
        ("log.level", running.log.level != new.log.level),
        ("log.format", running.log.format != new.log.format),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
