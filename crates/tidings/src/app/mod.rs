//! The running program: builds the parts, keeps them running, and ends them in the decided order.
//!
//! Knows what exists and in which order it starts and ends; not what any part does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidings_core::{Clock, Hub};
use tidings_frontends::http::{Entrance, HttpOptions, Listener, Loaded, Server, Shutdown, bind};
use tidings_frontends::limits::SHUTDOWN_GRACE;
use tokio::task::JoinSet;

mod connectors;
mod descriptors;
mod encryption;
mod healthz;
mod internal;
mod key_sets;
mod parts;
mod problem;
mod signals;

#[doc(hidden)]
pub use key_sets::fuzz_metadata;
pub(crate) use key_sets::read_key_sets;

use crate::admin::Ready;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::limits::{ADMIN_CONNECTIONS_MAX, BLOCKING_END_TIMEOUT, POLLS_BEFORE_SOCKETS};
use crate::telemetry;
pub use connectors::BadConnector;
pub use problem::AppProblem;

use connectors::Connectors;
use encryption::Encryption;
use parts::Parts;
use signals::{Signals, Wish};

/// Reads the configuration again, for SIGHUP. The error is a report for the log.
pub type Reload = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Told once where the hub listens.
pub type Listening = Box<dyn FnOnce(&[SocketAddr]) + Send>;

/// What is to run.
pub struct Launch {
    /// Checked settings.
    pub config: Config,
    /// Where they come from.
    pub reload: Reload,
    /// See [`Listening`].
    pub listening: Listening,
}

/// Runs until a signal ends it.
///
/// # Errors
///
/// What kept it from starting, or that it did not end in order.
pub fn run(launch: Launch) -> Result<(), AppProblem> {
    telemetry::start(&launch.config.log, !launch.config.is_relay)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(POLLS_BEFORE_SOCKETS)
        .global_queue_interval(POLLS_BEFORE_SOCKETS)
        .build()
        .map_err(AppProblem::Start)?;
    let ended = runtime.block_on(serve(launch));
    // A read of the history that hangs must not keep the program.
    runtime.shutdown_timeout(BLOCKING_END_TIMEOUT);
    ended
}

async fn serve(launch: Launch) -> Result<(), AppProblem> {
    let mut signals = Signals::new()?;
    let Launch { config, reload, listening } = launch;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let connections_possible = descriptors::connections_possible(descriptors::raise_limit());
    if config.http.connections_max > connections_possible {
        tracing::warn!(
            "http.connections_max is {connections_possible} instead of {}: the limit of open \
             files leaves no more",
            config.http.connections_max
        );
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let parts = Parts::build(&config, clock)?;
    let mut app = App::start(config, parts, connections_possible)?;
    listening(&app.addresses);
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Reload => app.reload(&reload).await,
                Wish::End(name) => {
                    tracing::info!("{name}: shutting down");
                    break;
                }
            },
            reason = app.refused(), if app.config.is_relay => {
                app.end().await;
                return Err(AppProblem::Refused(reason));
            }
        }
    }
    tokio::select! {
        () = app.end() => Ok(()),
        () = signals.end() => Err(AppProblem::Interrupted),
    }
}

/// Everything that runs.
struct App {
    parts: Parts,
    ready: Ready,
    public: Arc<Server>,
    /// What listeners with TLS share.
    encryption: Option<Encryption>,
    /// Sinks and sources; there are none as long as nobody asks for any.
    connectors: Option<Connectors>,
    shutdown: Shutdown,
    /// What it was started with.
    config: Config,
    /// What the descriptors of this process allow.
    connections_possible: usize,
    /// The hub's addresses, with the ports that the system chose.
    addresses: Vec<SocketAddr>,
    /// The accept loops of clients; they own every connection.
    clients: JoinSet<()>,
    /// The operator's listener, and who tells publishers what the disk has.
    until_the_end: JoinSet<()>,
}

impl App {
    fn start(config: Config, parts: Parts, connections_possible: usize) -> Result<App, AppProblem> {
        let shutdown = Shutdown::new(streams_budget(config.http.shutdown_budget));
        let frontends = parts.frontends(&config);
        let options = parts::http_options(&config, connections_possible);
        let public = Server::new(frontends, options, shutdown.clone());
        let (mut listeners, addresses) = listen(&config.listen, &Entrance::Plain)?;
        let encryption = Encryption::build(&config.tls)?;
        let mut encrypted = Vec::new();
        if let Some(encryption) = &encryption {
            let (more, addresses) = listen(&config.tls.listen, &encryption.entrance())?;
            listeners.extend(more);
            encrypted = addresses;
        }
        // Before clients come: a new sink begins with what is published from now on.
        let connectors = match Connectors::are_wanted(&config, &parts)? {
            false => None,
            true => Some(Connectors::start(&config, &parts)?),
        };
        let mut app = App {
            parts,
            connectors,
            ready: Arc::new(AtomicBool::new(false)),
            public,
            encryption,
            shutdown,
            config,
            connections_possible,
            addresses,
            clients: JoinSet::new(),
            until_the_end: JoinSet::new(),
        };
        app.parts.read_key_sets();
        app.until_the_end.spawn(app.parts.hub().telling());
        app.open_admin()?;
        app.clients.spawn(Arc::clone(&app.public).serve(listeners));
        if let Some(encryption) = &app.encryption {
            encryption.keep(&mut app.clients, &app.shutdown);
        }
        if let Some(connectors) = &mut app.connectors {
            connectors.take_in(&app.config.sources)?;
        }
        app.ready.store(true, Ordering::Release);
        for address in &app.addresses {
            tracing::info!("listening on http://{address}");
        }
        for address in encrypted {
            tracing::info!("listening on https://{address}");
        }
        Ok(app)
    }

    fn open_admin(&mut self) -> Result<(), AppProblem> {
        let Some(address) = self.config.admin.listen else { return Ok(()) };
        let (listeners, addresses) = listen(&[address], &Entrance::Plain)?;
        let admin = self.parts.admin(Arc::clone(&self.ready), Arc::clone(&self.public));
        let options = HttpOptions {
            connections_max: ADMIN_CONNECTIONS_MAX,
            connections_per_address_max: ADMIN_CONNECTIONS_MAX,
            ..HttpOptions::default()
        };
        // A shutdown that never begins: operators watch the real one to its end.
        let server = Server::new(vec![Arc::new(admin)], options, Shutdown::new(Duration::ZERO));
        self.until_the_end.spawn(server.serve(listeners));
        for address in addresses {
            tracing::info!("admin on http://{address}");
        }
        Ok(())
    }

    /// See [`Connectors::refused`].
    async fn refused(&mut self) -> String {
        match &mut self.connectors {
            Some(connectors) => connectors.refused().await,
            None => std::future::pending().await,
        }
    }

    fn hub(&self) -> &Hub {
        self.parts.hub()
    }

    /// Takes what can change while the program runs. A mistake anywhere changes nothing.
    async fn reload(&mut self, reload: &Reload) {
        let config = match reload() {
            Ok(config) => config,
            Err(report) => {
                tracing::error!(
                    "the configuration was not reloaded, nothing has changed:\n{report}"
                );
                return;
            }
        };
        // Read before anything is taken, served after all has been.
        let loaded = match Loaded::read(config.tls.certificates.clone()) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "the configuration was not reloaded, nothing has changed");
                return;
            }
        };
        if let Err(error) = self.parts.reload(&config) {
            tracing::error!(%error, "the configuration was not reloaded, nothing has changed");
            return;
        }
        match self.reload_connectors(&config).await {
            Ok(()) => {}
            Err(error @ BadConnector::Some(_)) => tracing::error!(
                %error,
                "some sinks cannot run: they are listed as failed and tried again, the others and \
                the sources are as they are told now"
            ),
            Err(error) => {
                tracing::error!(%error, "sinks were not reloaded, they are as they were");
            }
        }
        if let Some(encryption) = &self.encryption {
            encryption.reload(loaded);
        }
        self.public.replace_options(parts::http_options(&config, self.connections_possible));
        tracing::info!("configuration reloaded: keys, origins, certificates and limits");
        for setting in parts::needs_restart(&self.config, &config) {
            tracing::warn!("{setting} has changed, which needs a restart");
        }
    }

    async fn reload_connectors(&mut self, config: &Config) -> Result<(), BadConnector> {
        match &self.connectors {
            Some(connectors) => connectors.reload(config).await,
            None if !Connectors::are_wanted(config, &self.parts)? => Ok(()),
            None => {
                let mut started = Connectors::start(config, &self.parts)?;
                started.take_in(&config.sources)?;
                self.connectors = Some(started);
                Ok(())
            }
        }
    }

    /// Ends everything in order: not ready and no new connections, then the sinks, whose follow-ups
    /// still have a place in the queue, then the queue on the disk, then the streams one after the
    /// other. What is left when the budget is used up is cut off.
    async fn end(&mut self) {
        let deadline = tokio::time::Instant::now() + self.config.http.shutdown_budget;
        self.ready.store(false, Ordering::Release);
        self.shutdown.stop_accepting();
        if let Some(connectors) = &self.connectors {
            connectors.end(self.config.http.shutdown_budget / SINKS_PART).await;
        }
        let hub = self.hub().clone();
        let mut drain = JoinSet::new();
        drain.spawn_blocking(move || hub.shut_down());
        match tokio::time::timeout_at(deadline, drain.join_next()).await {
            Ok(Some(Ok(()))) => tracing::info!("the history is complete on its storage"),
            Ok(_) => tracing::error!("the queue could not be drained"),
            Err(_) => tracing::error!("the queue was not drained in time"),
        }
        if let Some(connectors) = &mut self.connectors {
            connectors.close().await;
        }
        self.shutdown.close_streams();
        let all_ended = async { while self.clients.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all_ended).await.is_err() {
            let connections = self.public.connections_open();
            tracing::warn!(connections, "connections were cut off");
        }
        self.clients.shutdown().await;
        self.until_the_end.shutdown().await;
        tracing::info!("ended");
    }
}

/// Sinks have this part of a shutdown's budget for what is on its way: one in so many.
const SINKS_PART: u32 = 3;

/// The part of a shutdown's budget over which streams end: the rest is for the queue before and
/// for answers after.
fn streams_budget(budget: Duration) -> Duration {
    budget.saturating_sub(SHUTDOWN_GRACE).max(budget / 2)
}

fn listen(
    addresses: &[SocketAddr],
    entrance: &Entrance,
) -> Result<(Vec<Listener>, Vec<SocketAddr>), AppProblem> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for address in addresses {
        let problem = |source| AppProblem::Listen { address: *address, source };
        let socket = bind(*address).map_err(problem)?;
        bound.push(socket.local_addr().map_err(problem)?);
        listeners.push(Listener { socket, entrance: entrance.clone() });
    }
    Ok((listeners, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_most_of_a_long_budget_and_half_of_a_short_one() {
        assert_eq!(streams_budget(Duration::from_secs(30)), Duration::from_secs(27));
        assert_eq!(streams_budget(Duration::from_secs(4)), Duration::from_secs(2));
        assert_eq!(streams_budget(Duration::ZERO), Duration::ZERO);
    }
}
