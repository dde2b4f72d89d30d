//! A connection to NATS servers that is made again for ever. Knows subscriptions and bytes, not
//! what they are for.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::limits::{NATS_AGAIN_MAX, NATS_AGAIN_MIN, NATS_COMMANDS_MAX, NATS_PING_EVERY};
use crate::nats::counters::Counters;
use crate::nats::login::{Greeting, Login};
use crate::nats::opening::{Entrance, NotOpened};
use crate::nats::options::ServerOptions;
use crate::nats::protocol::{Message, subscribe};
use crate::nats::server::{Addresses, Servers};
use crate::nats::session::{Between, Ended, drive, hand_on};
use crate::nats::tls::Tls;
use crate::specification::BadOption;

/// How a connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Nothing was tried yet.
    Beginning,
    /// Logged in.
    Connected(Server),
    /// No server can be reached, in words for the operator. It is tried again.
    Unreachable(String),
    /// A server does not want us, in words for the operator. It is tried again.
    Rejected(String),
}

/// What the server of a connection can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Whether it knows headers.
    pub headers: bool,
    /// The largest message in bytes, headers included.
    pub message_bytes_max: usize,
}

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Arrival {
    /// It stands, and what follows comes by it.
    Connected,
    /// Messages in their order.
    Messages(Vec<Message>),
}

/// The connection broke before the server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// Who waits until the server has read something: told what it refused meanwhile.
pub(super) type Barrier = oneshot::Sender<Result<Vec<String>, Broken>>;

/// What is to be written, whole frames.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) bytes: BytesMut,
    /// Told when the server has read it.
    pub(super) barrier: Option<Barrier>,
}

/// What is subscribed to as long as there is a connection.
#[derive(Debug, Clone)]
pub(super) struct Interest {
    pub(super) subject: String,
    pub(super) queue: Option<String>,
}

/// What a connection is made of.
pub(super) struct Plan {
    /// The connector's name.
    pub(super) name: String,
    pub(super) servers: Servers,
    pub(super) entrance: Arc<Entrance>,
    /// Numbered from 1.
    pub(super) interests: Vec<Interest>,
    pub(super) counters: Arc<Counters>,
    pub(super) ping_every: Duration,
}

impl Plan {
    /// Reads the options. All that is wrong with them otherwise.
    pub(super) fn new(name: &str, options: &ServerOptions) -> Result<Plan, Vec<BadOption>> {
        let addresses = Addresses::parse(&options.url).map_err(|wrong| vec![wrong])?;
        let login = Login::new(options, &addresses)?;
        let tls = Tls::new(options)?;
        let client = format!("tidings {name}");
        Ok(Plan {
            name: name.to_owned(),
            servers: Servers::new(addresses.servers),
            entrance: Arc::new(Entrance { login, tls, client }),
            interests: Vec::new(),
            counters: Arc::default(),
            ping_every: NATS_PING_EVERY,
        })
    }

    fn interests(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        for (number, Interest { subject, queue }) in (1..).zip(&self.interests) {
            subscribe(&mut bytes, subject, queue.as_deref(), number);
        }
        bytes
    }
}

/// A connection that is made again for ever, until this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    commands: mpsc::Sender<Command>,
    given_up: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Connection {
    /// Begins to connect. What arrives goes to `to`; while that is full, nothing is read.
    pub(super) fn start(
        plan: Plan,
        to: mpsc::Sender<Arrival>,
        link: watch::Sender<Link>,
    ) -> Connection {
        let (commands, receiver) = mpsc::channel(NATS_COMMANDS_MAX);
        let mut task = JoinSet::new();
        let given_up = Arc::new(Notify::new());
        let loops = Loop {
            plan,
            given_up: Arc::clone(&given_up),
            to,
            link,
            commands: receiver,
            read: VecDeque::new(),
            told: None,
            again: NATS_AGAIN_MIN,
        };
        task.spawn(loops.run());
        Connection { commands, given_up, _task: task }
    }

    /// Connects again: the server is silent.
    pub(super) fn give_up(&self) {
        self.given_up.notify_waiters();
    }

    /// Writes frames, without an answer. Without a connection they are gone.
    pub(super) async fn write(&self, bytes: BytesMut) {
        // The task ends with this value only.
        let _sent = self.commands.send(Command { bytes, barrier: None }).await;
    }

    /// Writes frames and waits until the server has read them. Answers what it refused.
    pub(super) async fn write_and_wait(&self, bytes: BytesMut) -> Result<Vec<String>, Broken> {
        let (barrier, answer) = oneshot::channel();
        let command = Command { bytes, barrier: Some(barrier) };
        self.commands.send(command).await.map_err(|_| Broken)?;
        answer.await.unwrap_or(Err(Broken))
    }
}

/// The task of a connection.
struct Loop {
    plan: Plan,
    given_up: Arc<Notify>,
    to: mpsc::Sender<Arrival>,
    link: watch::Sender<Link>,
    commands: mpsc::Receiver<Command>,
    read: VecDeque<Arrival>,
    /// What the log says last about why there is no connection.
    told: Option<String>,
    /// The next wait.
    again: Duration,
}

impl Loop {
    async fn run(mut self) {
        loop {
            if self.round().await.is_none() {
                return;
            }
            let wait = jittered(self.again);
            self.again = (self.again * 2).min(NATS_AGAIN_MAX);
            if self.meanwhile(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Tries each server once, and stays with the first that lets us in while it lasts. `None` when
    /// nobody needs it any more.
    async fn round(&mut self) -> Option<()> {
        let mut reasons = Vec::new();
        let mut rejected = false;
        for _ in 0..self.plan.servers.count() {
            let server = self.plan.servers.next()?;
            let shown = server.shown();
            let entrance = Arc::clone(&self.plan.entrance);
            match self.meanwhile(Box::pin(entrance.open(server))).await? {
                Ok(opened) => return self.stay(opened, &shown).await,
                Err(failed) => {
                    rejected |= matches!(failed, NotOpened::Rejected(_));
                    reasons.push(format!("{shown}: {}", failed.reason()));
                }
            }
        }
        self.failed(reasons.join("; "), rejected);
        Some(())
    }

    async fn stay(&mut self, opened: crate::nats::opening::Opened, shown: &str) -> Option<()> {
        self.plan.servers.stay();
        self.connected(&opened.greeting, shown);
        let since = Instant::now();
        let first = self.plan.interests();
        let between = Between {
            name: &self.plan.name,
            read: &mut self.read,
            to: &self.to,
            commands: &mut self.commands,
            counters: &self.plan.counters,
            given_up: &self.given_up,
            ping_every: self.plan.ping_every,
            interests: self.plan.interests.len(),
        };
        let (ended, servers) = Box::pin(drive(opened, first, between)).await;
        self.plan.counters.connected.store(0, Ordering::Relaxed);
        if let Some(servers) = servers {
            self.plan.servers.learn(&servers);
        }
        let Ended::Lost(reason) = ended else { return None };
        // Who lets us in and throws us out at once is not asked more often than one who is away.
        if since.elapsed() > NATS_AGAIN_MAX {
            self.again = NATS_AGAIN_MIN;
        }
        let reason = format!("{shown}: {reason}");
        tracing::warn!(
            connector = self.plan.name,
            reason,
            "NATS connection lost, connecting again"
        );
        self.link.send_replace(Link::Unreachable(reason));
        Some(())
    }

    fn connected(&mut self, greeting: &Greeting, shown: &str) {
        let Greeting { version, headers, max_payload, connect_urls, .. } = greeting;
        if let Some(urls) = connect_urls {
            self.plan.servers.learn(urls);
        }
        tracing::info!(connector = self.plan.name, server = shown, version, "connected to NATS");
        self.told = None;
        self.plan.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.plan.counters.connected.store(1, Ordering::Relaxed);
        let server = Server { headers: *headers, message_bytes_max: *max_payload };
        self.link.send_replace(Link::Connected(server));
        // One is enough, however often connections were made since somebody looked.
        if !matches!(self.read.back(), Some(Arrival::Connected)) {
            self.read.push_back(Arrival::Connected);
        }
    }

    /// Says it once, and again when the reason changes.
    fn failed(&mut self, reason: String, is_rejected: bool) {
        if self.told.as_ref() != Some(&reason) {
            let name = &self.plan.name;
            if is_rejected {
                tracing::error!(connector = name, reason, "NATS server refuses the login, waiting");
            } else {
                tracing::warn!(connector = name, reason, "NATS server not reachable, waiting");
            }
            self.told = Some(reason.clone());
        }
        let link = if is_rejected { Link::Rejected(reason) } else { Link::Unreachable(reason) };
        self.link.send_replace(link);
    }

    /// Waits for something while there is no connection: hands on what was read, and tells those
    /// who want to write. `None` when nobody needs it any more.
    async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(awaited);
        loop {
            tokio::select! {
                done = &mut awaited => return Some(done),
                command = self.commands.recv() => {
                    if let Some(barrier) = command?.barrier {
                        // Whoever asked may have stopped waiting.
                        let _told = barrier.send(Err(Broken));
                    }
                }
                place = self.to.reserve(), if !self.read.is_empty() => {
                    hand_on(&mut self.read, place.ok());
                }
            }
        }
    }
}

/// Between half of it and all of it, so that many do not come at the same moment.
fn jittered(wait: Duration) -> Duration {
    let dice = getrandom::u32().unwrap_or(0);
    wait / 2 + (wait / 2).mul_f64(f64::from(dice) / f64::from(u32::MAX))
}
