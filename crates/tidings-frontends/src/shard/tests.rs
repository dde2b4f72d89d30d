//! Streams over scripted and real sockets, by a shard that a test drives turn by turn, or by
//! one that runs.

mod behind;
mod handed;
mod moves;
mod partial;
mod running;
mod sockets;
mod talking;
mod times;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Events;
use tidings_core::{
    Clock, Durability, Grant, HistoryOptions, Hub, HubOptions, Keep, Language, Namespace, Scope,
    Selection, Start, Topic, Update,
};
use tokio_util::task::TaskTracker;

use super::arrival::{Arrival, Carrier, Limits, Load, Patience, Stream};
use super::inbox::{Inbox, Message};
use super::outlet::Outlet;
use super::readers::Readers;
use super::receiver::Receiver;
use super::run::{Shard, WAKE};
use crate::http::{HttpCounters, RequestId, Shutdown};
use crate::sse::Framing;
use crate::sse::continuity::Continuity;

/// What a client takes, and what it got. Shared by the outlet and the test.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Scripted>>);

#[derive(Default)]
pub(super) struct Scripted {
    /// How much each write takes; nothing where it is none. Behind these it takes all.
    pub(super) takes: VecDeque<Option<usize>>,
    /// Takes nothing more until this is over.
    pub(super) is_full: bool,
    /// The byte before which the socket is full for so many attempts.
    pub(super) full_at: Option<(usize, usize)>,
    /// So many bytes are left to be taken, if there is a limit.
    pub(super) room: Option<usize>,
    pub(super) is_gone: bool,
    /// The client leaves when it has so many bytes.
    pub(super) leaves_at: Option<usize>,
    pub(super) taken: Vec<u8>,
    /// The thread that wrote last.
    pub(super) writer: String,
    pub(super) is_closed: bool,
    /// What the client says and nobody has heard yet.
    pub(super) says: VecDeque<u8>,
}

impl Script {
    pub(super) fn taking(takes: impl IntoIterator<Item = Option<usize>>) -> Script {
        let script = Script::default();
        script.lock().takes = takes.into_iter().collect();
        script
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Scripted> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    pub(super) fn write(&self, bytes: &Bytes) -> io::Result<usize> {
        let mut script = self.lock();
        script.writer = std::thread::current().name().unwrap_or_default().to_owned();
        if script.leaves_at.is_some_and(|at| script.taken.len() >= at) {
            script.is_gone = true;
        }
        if script.is_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let full = || Err(io::ErrorKind::WouldBlock.into());
        if script.is_full || script.room == Some(0) {
            return full();
        }
        let mut room = bytes.len().min(script.room.unwrap_or(usize::MAX));
        if let Some((at, times)) = script.full_at
            && times > 0
        {
            let left = at.saturating_sub(script.taken.len());
            if left == 0 {
                script.full_at = Some((at, times - 1));
                return full();
            }
            room = room.min(left);
        }
        match script.takes.pop_front() {
            Some(None) => return full(),
            Some(Some(takes)) => room = room.min(takes.max(1)),
            None => {}
        }
        if let Some(left) = &mut script.room {
            *left -= room;
        }
        script.taken.extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    pub(super) fn look(&self) -> io::Result<()> {
        if self.lock().is_gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    pub(super) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.look()?;
        let says = &mut self.lock().says;
        let count = says.len().min(room.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        room.iter_mut().zip(says.drain(..count)).for_each(|(place, byte)| *place = byte);
        Ok(count)
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// What the client understood so far.
    pub(super) fn heard(&self, framing: Framing) -> Heard {
        let script = self.lock();
        let bytes = script.taken.strip_prefix(HEAD).unwrap_or_else(|| {
            assert!(HEAD.starts_with(&script.taken), "another head");
            &[]
        });
        heard(bytes, framing)
    }
}

/// What stands for the head of an answer.
pub(super) const HEAD: &[u8] = b"head\r\n\r\n";

/// What a client understood.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Without chunks.
    pub(super) text: String,
    /// The numbers of the updates, in order.
    pub(super) numbers: Vec<usize>,
    /// The last id.
    pub(super) id: Option<String>,
    /// Whether the last chunk has come.
    pub(super) ended: bool,
}

/// Parses what came, which may end anywhere; says no to everything that is not well formed.
pub(super) fn heard(bytes: &[u8], framing: Framing) -> Heard {
    let (plain, ended) = match framing {
        Framing::Bare => (bytes.to_vec(), false),
        Framing::Chunked => unchunked(bytes),
        Framing::Messages | Framing::MessagesBinary | Framing::Raw => panic!("no events"),
    };
    let mut heard = Heard { ended, ..Heard::default() };
    heard.text = String::from_utf8(plain).unwrap();
    let complete = heard.text.rfind("\n\n").map_or(0, |end| end + 2);
    for block in heard.text[..complete].split_terminator("\n\n") {
        let block = block.trim_start_matches(":\n");
        for line in block.lines() {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            match name {
                "id" => heard.id = Some(value.to_owned()),
                "data" if block.starts_with("event: tidings\n") => {}
                // Number 0 only says that the hub has come so far.
                "data" => heard.numbers.extend(Some(number(value)).filter(|number| *number > 0)),
                "event" | "retry" | ":" => {}
                _ => panic!("{line:?} in {block:?}"),
            }
        }
    }
    heard
}

/// The number in an update's data, whose length is right.
fn number(data: &str) -> usize {
    let mut parts = data.splitn(3, ' ');
    let mut next = || parts.next().unwrap().parse::<usize>();
    let (number, length) = (next().unwrap(), next().unwrap());
    let rest = data.splitn(3, ' ').nth(2).unwrap();
    assert!(rest.len() == length && rest.bytes().all(|byte| byte == b'x'), "of {number}");
    number
}

/// Data of an update with a number and so many bytes.
pub(super) fn data(number: usize, length: usize) -> String {
    format!("{number} {length} {}", "x".repeat(length))
}

fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&bytes[..end]).unwrap().strip_suffix('\r').unwrap();
        let size = usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("{line:?}"));
        bytes = &bytes[end + 1..];
        if size == 0 {
            assert!(b"\r\n".starts_with(bytes), "something behind the end: {bytes:?}");
            return (plain, bytes.len() == 2);
        }
        if bytes.len() < size + 2 {
            plain.extend_from_slice(&bytes[..size.min(bytes.len())]);
            return (plain, false);
        }
        plain.extend_from_slice(&bytes[..size]);
        assert_eq!(&bytes[size..size + 2], b"\r\n");
        bytes = &bytes[size + 2..];
    }
    (plain, false)
}

/// A wall clock that a test sets; it panics for a shard where it is to.
#[derive(Default)]
pub(super) struct Wall(pub(super) AtomicU64);

/// The time at which a shard panics.
pub(super) const PANIC: u64 = u64::MAX;

impl Clock for Wall {
    fn wall(&self) -> u64 {
        let now = self.0.load(Ordering::SeqCst);
        let is_shard = std::thread::current().name().is_some_and(|name| name.starts_with("shard"));
        assert!(now != PANIC || !is_shard, "as the test wants it");
        now
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(super) const FOREVER: Limits = Limits { expires: None, heartbeat: None, lifetime: None };

pub(super) fn hub(keep: Keep) -> (Hub, Arc<Wall>) {
    let clock = Arc::new(Wall::default());
    let url = url::Url::parse("https://hub.example/.well-known/mercure").unwrap();
    let history = HistoryOptions {
        hold_bytes: 0,
        path: None,
        durability: Durability::Memory,
        keep,
        segment_bytes: 1024 * 1024,
    };
    let options = HubOptions { namespace: Namespace::new(url), update_bytes_max: 1 << 20, history };
    let shared: Arc<dyn Clock> = Arc::<Wall>::clone(&clock);
    (Hub::open(options, shared).unwrap(), clock)
}

pub(super) async fn publish(hub: &Hub, topic: &str, is_private: bool, data: String) {
    let mut update = Update::new(Topic::parse(topic).unwrap(), data);
    update.private = is_private;
    hub.publish(&Grant::operator(), update).await.unwrap();
}

/// What a client asks for, and how it is served.
#[derive(Clone)]
pub(super) struct Asks {
    pub(super) topic: &'static str,
    /// May read what is private, with a token of this subject.
    pub(super) token: Option<&'static str>,
    pub(super) scope: Option<Scope>,
    pub(super) start: Start,
    pub(super) limits: Limits,
    pub(super) tells: Option<Continuity>,
    pub(super) framing: Framing,
    pub(super) write_timeout: Duration,
}

impl Default for Asks {
    fn default() -> Asks {
        Asks {
            topic: "*",
            token: None,
            scope: None,
            start: Start::Now,
            limits: FOREVER,
            tells: None,
            framing: Framing::Chunked,
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// What streams of one server share.
pub(super) struct Served {
    pub(super) hub: Hub,
    pub(super) wall: Arc<Wall>,
    pub(super) counters: Arc<HttpCounters>,
    pub(super) shutdown: Shutdown,
    pub(super) open: TaskTracker,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    pub(super) fn new(keep: Keep) -> Served {
        let (hub, wall) = hub(keep);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shutdown = Shutdown::new(Duration::from_millis(200));
        let (counters, open) = (Arc::default(), TaskTracker::new());
        Served { hub, wall, counters, shutdown, open, runtime }
    }

    pub(super) fn publish(&self, topic: &str, number: usize, length: usize) {
        self.runtime.block_on(publish(&self.hub, topic, false, data(number, length)));
    }

    pub(super) fn publish_private(&self, topic: &str, number: usize, length: usize) {
        self.runtime.block_on(publish(&self.hub, topic, true, data(number, length)));
    }

    pub(super) fn selection(&self, asks: &Asks) -> Selection {
        let matchers = vec![self.hub.matcher(Language::Exact, asks.topic).unwrap()];
        let grant = match asks.token {
            None => Grant::anonymous(),
            Some(subject) => {
                let all = vec![self.hub.matcher(Language::Exact, "*").unwrap()];
                let mut grant = Grant { subscribe: all, ..Grant::default() };
                grant.token.subject = Some(subject.into());
                grant
            }
        };
        Selection { matchers, grant: Arc::new(grant), scope: asks.scope }
    }

    pub(super) fn stream(&self, asks: &Asks, outlet: Outlet) -> (Stream, Carrier) {
        let patience = Patience {
            write_timeout: asks.write_timeout,
            acknowledge_timeout: Duration::from_secs(60),
            counters: Arc::clone(&self.counters),
        };
        let head = if matches!(outlet, Outlet::Shared(_)) { &b""[..] } else { HEAD };
        let carrier = Carrier {
            outlet,
            framing: asks.framing,
            head: Bytes::from_static(head),
            begun: Bytes::new(),
            patience: Arc::new(patience),
            places: [None, None],
            open: self.open.token(),
        };
        let stream = Stream {
            request: RequestId::next(),
            selection: self.selection(asks),
            start: asks.start,
            limits: asks.limits,
            tells: asks.tells.clone(),
            present: None,
            talk: None,
            closing: self.shutdown.closing(),
        };
        (stream, carrier)
    }

    pub(super) fn stalled(&self) -> u64 {
        self.counters.stalled.load(Ordering::SeqCst)
    }

    pub(super) fn subscribers(&self) -> u64 {
        self.hub.counters().subscribers.load(Ordering::SeqCst)
    }
}

/// How long a test waits for what must come; only failing tests wait this long.
pub(super) const WAIT: Duration = Duration::from_secs(20);

/// A shard in the test's own thread.
pub(super) struct Driven {
    pub(super) served: Served,
    pub(super) shard: Shard,
    pub(super) inbox: Arc<Inbox>,
    pub(super) readers: Arc<Readers>,
    load: Load,
    poll: mio::Poll,
    events: Events,
    waker: Waker,
}

impl std::ops::Deref for Driven {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Driven {
    /// With one thread that reads the history.
    pub(super) fn new() -> Driven {
        Driven::with(Keep::default(), 1)
    }

    pub(super) fn with(keep: Keep, readers: usize) -> Driven {
        let served = Served::new(keep);
        let poll = mio::Poll::new().unwrap();
        let inbox = Inbox::new(mio::Waker::new(poll.registry(), WAKE).unwrap());
        let readers = Arc::new(Readers::start("history", readers));
        let load = Load::default();
        let clock: Arc<dyn Clock> = Arc::<Wall>::clone(&served.wall);
        let (hub, given) = (served.hub.clone(), Arc::clone(&inbox));
        let registry = poll.registry().try_clone().unwrap();
        let shard = Shard::new(hub, clock, Arc::clone(&readers), registry, given);
        let waker = Waker::from(Arc::clone(&inbox));
        let events = Events::with_capacity(64);
        Driven { served, shard, inbox, readers, load, poll, events, waker }
    }

    /// One turn, in which every scripted socket says that it can be written to.
    pub(super) fn turn(&mut self) {
        for (number, _) in &self.shard.receivers {
            self.inbox.put(Message::Look(u32::try_from(number).unwrap()));
        }
        self.turn_alone();
    }

    /// One turn in which no socket says anything.
    pub(super) fn turn_alone(&mut self) {
        self.inbox.put(Message::Look(u32::MAX));
        let wait = self.shard.plan(&self.waker);
        self.poll.poll(&mut self.events, wait).unwrap();
        assert!(self.shard.turn(&self.events, &self.waker));
    }

    /// Turns until something is so.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut is_so: impl FnMut(&Driven) -> bool) {
        let begun = Instant::now();
        loop {
            self.turn();
            if is_so(self) {
                return;
            }
            assert!(begun.elapsed() < WAIT, "{what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Turns for a while in which nothing more should come.
    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            self.turn();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Until what was published has gone through the hub's fan-out, without a turn of the shard.
    #[track_caller]
    pub(super) fn until_fanned_out(&self) {
        // A witness in the same registry that is found last and first alike hears of it last.
        let begun = Instant::now();
        let selection = self.selection(&Asks { topic: "witness", ..Asks::default() });
        let mut witness = self.hub.subscribe(selection, Start::Now);
        self.served.publish("witness", 0, 0);
        let mut context = std::task::Context::from_waker(Waker::noop());
        while witness.poll_ready(&mut context).is_pending() {
            assert!(begun.elapsed() < WAIT);
            std::thread::yield_now();
        }
    }

    /// A client that takes what its script says.
    pub(super) fn join(&mut self, asks: &Asks, script: &Script) -> u32 {
        self.join_by(asks, Outlet::Scripted(script.clone()))
    }

    pub(super) fn join_by(&mut self, asks: &Asks, outlet: Outlet) -> u32 {
        let (stream, carrier) = self.served.stream(asks, outlet);
        let number = u32::try_from(self.shard.receivers.vacant_key()).unwrap();
        let counted = self.load.one_more();
        self.shard.look_at_clock();
        self.shard.welcome(Arrival { stream, carrier, counted });
        number
    }

    pub(super) fn receiver(&self, number: u32) -> Option<&Receiver> {
        self.shard.receivers.get(number as usize)
    }

    /// Nothing is kept for anybody: all have everything.
    #[track_caller]
    pub(super) fn assert_idle(&self) {
        for (number, receiver) in &self.shard.receivers {
            assert!(receiver.rest.is_none() && receiver.reading.is_none(), "{number}");
        }
        for (number, audience) in &self.shard.audiences {
            assert_eq!((audience.behind, audience.remembered()), (0, 0), "of audience {number}");
        }
    }

    /// Nothing is kept at all: all have left.
    #[track_caller]
    pub(super) fn assert_empty(&self) {
        let shard = &self.shard;
        assert_eq!((shard.receivers.len(), shard.audiences.len(), shard.alike.len()), (0, 0, 0));
        assert_eq!((shard.receivers.capacity(), shard.audiences.capacity()), (0, 0));
        assert_eq!(shard.alike.capacity(), 0);
        assert_eq!(self.load.streams(), 0);
        assert_eq!(self.subscribers(), 0);
        assert_eq!(self.shutdown.streams_open(), 0);
        assert!(self.open.is_empty(), "the server waits for a stream that has ended");
    }

    /// Keeps the thread that reads the history busy until what is answered is dropped.
    pub(super) fn hold_readers(&self) -> std::sync::mpsc::Sender<()> {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        self.readers.give(move || assert!(held.recv().is_err()));
        hold
    }
}
