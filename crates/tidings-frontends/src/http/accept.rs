//! Listeners and who is let in. Knows no request: what a connection says is `connection.rs`.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::TaskTracker;
use url::Url;

use super::counters::HttpCounters;
use super::entrance::Entrance;
use super::forwarded::is_trusted;
use super::hints::Hints;
use super::places::{Full, Places};
use super::tls::Tls;
use super::{Frontend, Shutdown, connection, refusal};
use crate::limits::{
    ACCEPT_BURST, ACCEPT_PAUSE, ACCEPT_REST, ACCEPT_REST_MAX, ACCEPT_TURN_LATE, ACCEPT_WORK_RECENT,
    CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_DEFAULT, HEAD_TIMEOUT_DEFAULT, LISTEN_BACKLOG,
    REFUSALS_MAX, WRITE_TIMEOUT_DEFAULT,
};
use crate::shard::Patience;

/// What the operator decides about connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Time for a request's head, and for the next request on an idle HTTP/1.1 connection.
    pub head_timeout: Duration,
    /// Time that a client may leave its socket full while there is something for it.
    pub write_timeout: Duration,
    /// Time that a client's machine may leave bytes unacknowledged that it was sent. One that has
    /// vanished without a word is noticed when something is written to it that long after.
    pub acknowledge_timeout: Duration,
    /// Connections in total.
    pub connections_max: usize,
    /// Connections of one client address, by /64 in IPv6, and its requests at the same time over
    /// HTTP/2 or behind a trusted proxy.
    pub connections_per_address_max: usize,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Balancers whose connections begin with a PROXY header, which names the client. Nobody
    /// else's header is read.
    pub proxy_protocol: Vec<IpNet>,
    /// How clients reach the hub, as far as it is known.
    pub public_url: Option<Url>,
    /// Whether requests without TLS are sent to the public URL.
    pub redirect: bool,
    /// How long browsers shall insist on TLS (RFC 6797), told over TLS only.
    pub hsts: Option<Duration>,
    /// Whether log lines show topics, patterns and cursors of requests. Tokens are never shown.
    pub log_topics: bool,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            head_timeout: HEAD_TIMEOUT_DEFAULT,
            write_timeout: WRITE_TIMEOUT_DEFAULT,
            acknowledge_timeout: WRITE_TIMEOUT_DEFAULT,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_DEFAULT,
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            public_url: None,
            redirect: false,
            hsts: None,
            log_topics: false,
        }
    }
}

/// The frontends behind a set of listeners, with the limits that they share.
pub struct Server {
    pub(super) frontends: Vec<Arc<dyn Frontend>>,
    pub(super) places: Arc<Places>,
    pub(super) counters: Arc<HttpCounters>,
    /// Connections that were given to their answers.
    pub(super) given: TaskTracker,
    pub(super) shutdown: Shutdown,
    pub(super) hints: Hints,
    begun: Instant,
    /// When somebody was answered last who had asked for more than a stream, in milliseconds since
    /// then.
    worked_at: AtomicU64,
    /// Of its listeners, as soon as they serve.
    tls: OnceLock<Arc<Tls>>,
    options: RwLock<Arc<HttpOptions>>,
    /// With streams, by those options.
    patience: RwLock<Arc<Patience>>,
}

/// A socket that accepts, and what its connections begin with.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What its connections begin with.
    pub entrance: Entrance,
}

/// A listener on `address` whose queue holds a storm of reconnects.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the kernel has forgotten the last connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

impl Server {
    /// A server that asks `frontends` in this order who claims a path.
    pub fn new(
        frontends: Vec<Arc<dyn Frontend>>,
        options: HttpOptions,
        shutdown: Shutdown,
    ) -> Arc<Server> {
        let counters = Arc::default();
        let patience = RwLock::new(patience(&options, &counters));
        Arc::new(Server {
            frontends,
            places: Arc::new(Places::default()),
            counters,
            given: TaskTracker::new(),
            shutdown,
            hints: Hints::default(),
            begun: Instant::now(),
            worked_at: AtomicU64::new(0),
            tls: OnceLock::new(),
            options: RwLock::new(Arc::new(options)),
            patience,
        })
    }

    /// New limits for connections and requests from now on; open ones keep their places.
    pub fn replace_options(&self, options: HttpOptions) {
        let patience = patience(&options, &self.counters);
        *self.patience.write().unwrap_or_else(PoisonError::into_inner) = patience;
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
    }

    /// What has happened so far.
    pub fn counters(&self) -> &HttpCounters {
        &self.counters
    }

    /// Connections that are open now.
    pub fn connections_open(&self) -> usize {
        self.places.taken()
    }

    /// Seconds until the first certificate expires, when there is one.
    pub fn certificate_seconds_left(&self) -> Option<u64> {
        self.tls.get()?.seconds_left()
    }

    /// How long clients of streams are waited for.
    pub(super) fn patience(&self) -> Arc<Patience> {
        Arc::clone(&self.patience.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn options(&self) -> Arc<HttpOptions> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that somebody who is connected waits for more than a stream.
    pub(super) fn note_work(&self, now: Instant) {
        let since = now.saturating_duration_since(self.begun).as_millis();
        self.worked_at.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Lets everybody else have their turn, and where that takes long while somebody works, rests
    /// for longer still: who is connected comes before who wants to be.
    async fn give_way(&self) {
        let begun = Instant::now();
        tokio::task::yield_now().await;
        let waited = begun.elapsed();
        let worked_at = Duration::from_millis(self.worked_at.load(Ordering::Relaxed));
        let works = self.begun.elapsed().saturating_sub(worked_at) < ACCEPT_WORK_RECENT;
        if works && waited > ACCEPT_TURN_LATE {
            tokio::time::sleep((waited * ACCEPT_REST).min(ACCEPT_REST_MAX)).await;
        }
    }

    /// Serves `listeners` until the shutdown has begun and the last connection has ended. Dropping
    /// the future ends every connection at once.
    pub async fn serve(self: Arc<Server>, listeners: Vec<Listener>) {
        let mut loops = JoinSet::new();
        for Listener { socket, entrance } in listeners {
            if let Entrance::Tls(tls) = &entrance {
                self.tls.get_or_init(|| Arc::clone(tls));
            }
            loops.spawn(Listening::new(Arc::clone(&self), entrance).run(socket));
        }
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "an accept loop ended");
            }
        }
        self.given.close();
        self.given.wait().await;
    }
}

fn patience(options: &HttpOptions, counters: &Arc<HttpCounters>) -> Arc<Patience> {
    Arc::new(Patience {
        write_timeout: options.write_timeout,
        acknowledge_timeout: options.acknowledge_timeout,
        counters: Arc::clone(counters),
    })
}

/// One listener's loop and the connections that it owns.
struct Listening {
    server: Arc<Server>,
    entrance: Entrance,
    connections: JoinSet<()>,
    refusals: JoinSet<()>,
    /// Whether descriptors have run out, so that the log says it once.
    exhausted: bool,
}

impl Listening {
    fn new(server: Arc<Server>, entrance: Entrance) -> Listening {
        Listening {
            server,
            entrance,
            connections: JoinSet::new(),
            refusals: JoinSet::new(),
            exhausted: false,
        }
    }

    async fn run(mut self, listener: TcpListener) {
        let mut in_a_row = 0;
        loop {
            if in_a_row == ACCEPT_BURST {
                in_a_row = 0;
                self.server.give_way().await;
            }
            tokio::select! {
                () = self.server.shutdown.accepting_ended() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        in_a_row += 1;
                        self.accept(stream, peer);
                    }
                    Err(error) => self.pause(&error).await,
                },
                Some(ended) = self.connections.join_next() => note_panic(ended),
                Some(_) = self.refusals.join_next() => {}
            }
        }
        // Closed first: who comes now is to find another node.
        drop(listener);
        while let Some(ended) = self.connections.join_next().await {
            note_panic(ended);
        }
    }

    fn accept(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.exhausted {
            self.exhausted = false;
            tracing::info!("connections are accepted again");
        }
        let server = Arc::clone(&self.server);
        let options = server.options();
        let address = peer.ip().to_canonical();
        // A proxy's address says nothing about its clients: those are counted for each request, or
        // when the balancer has named them.
        let others = [&options.trusted_proxies, &options.proxy_protocol];
        let speaks_for_others = others.iter().any(|networks| is_trusted(address, networks));
        let counted = (!speaks_for_others).then_some(address);
        let place = server.places.connection(
            counted,
            options.connections_max,
            options.connections_per_address_max,
        );
        match place {
            Ok(place) => {
                server.counters.connections.fetch_add(1, Ordering::Relaxed);
                let entrance = self.entrance.clone();
                self.connections.spawn(connection::run(server, stream, address, place, entrance));
            }
            Err(full) => self.refuse(stream, full),
        }
    }

    fn refuse(&mut self, stream: TcpStream, full: Full) {
        self.server.counters.refused(full).fetch_add(1, Ordering::Relaxed);
        // A handshake would be most of the work that there is no place for.
        if self.refusals.len() < REFUSALS_MAX && !self.entrance.is_secure() {
            self.refusals.spawn(refusal::tell(stream, full));
        }
    }

    async fn pause(&mut self, error: &io::Error) {
        // The peer is gone already, or the network said something about it: nobody's fault here.
        let of_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::Interrupted
        );
        if of_one_connection {
            return;
        }
        self.server.counters.accept_pauses.fetch_add(1, Ordering::Relaxed);
        if !self.exhausted {
            self.exhausted = true;
            tracing::error!(
                %error,
                "no connection can be accepted, open ones go on: is the limit of open files low?"
            );
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended by a panic");
    }
}
