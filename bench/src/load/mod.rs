//! The load generator: subscribers and publishers on one thread, one epoll and raw sockets, because
//! it shares the machine with what it measures. Knows what a server of each kind is told, and not
//! which server it is or what its CPU is doing.

mod alike;
mod changers;
mod control;
mod publishing;
mod report;
mod script;
mod subscriber;
mod tally;
mod turns;
mod visitors;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use nix::time::{ClockId, clock_gettime};

use alike::Alike;
use changers::Changers;
pub(crate) use control::run;
use publishing::Publisher;
pub(crate) use report::{Opened, Slice};
use subscriber::{Connection, Receiving};
use tally::Tally;
use turns::Turns;

use crate::limits::{DRAIN_TIMEOUT, EVENTS_MAX, OPEN_TIMEOUT, READ_BYTES_MAX, SLOW_READ_BYTES_MAX};
use crate::options::{LoadOptions, Topics};
use crate::order::Member;
use crate::peer::{Kind, Publications, stranger_count};
use crate::socket::{Dialer, credulous};

/// Tokens of publishers are above those of subscribers.
const PUBLISHERS: usize = 1 << 40;
/// Slow readers take something once in this time.
const SLOW_TURN: Duration = Duration::from_secs(1);
/// The loop looks at the clock at least this often.
const TURN: Duration = Duration::from_millis(50);
/// The same where subscribers are read in turns: as long as the kernel waits at least.
const READING_TURN: Duration = Duration::from_millis(1);

/// A generator with its connections.
pub(crate) struct Load {
    options: LoadOptions,
    poll: Poll,
    events: Option<Events>,
    /// All times are nanoseconds since then.
    began: Instant,
    dialer: Dialer,
    publish_to: Dialer,
    connections: Vec<Connection>,
    publishers: Vec<Publisher>,
    /// Publishers without a request in flight, the longest idle first.
    idle: VecDeque<usize>,
    publications: Publications,
    receiving: Receiving,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    /// The id of the update that was acknowledged last.
    last_id: String,
    random: u64,
    slow_turn: Instant,
    /// Of those who are read in turns.
    turns: Option<Turns>,
    changers: Changers,
}

impl Load {
    /// With publishers connected and no subscriber yet.
    pub(crate) fn new(options: LoadOptions) -> io::Result<Load> {
        check_reading(&options)?;
        let http2 = options.http2_connections.is_some();
        let tls = options.url.starts_with("https:").then(|| credulous(http2)).transpose()?;
        let address = address_of(&options.url)?;
        let publish = options.publish_url.as_ref().unwrap_or(&options.url);
        let publish_to = Dialer { address: address_of(publish)?, tls: None };
        let changers = Changers::begin(&publish_to, options.changers, options.changes);
        let mut load = Load {
            changers,
            poll: Poll::new()?,
            events: Some(Events::with_capacity(EVENTS_MAX)),
            began: Instant::now(),
            dialer: Dialer { address, tls },
            publish_to,
            connections: connections_of(&options),
            publishers: Vec::new(),
            idle: VecDeque::new(),
            publications: Publications::new(&options),
            receiving: Receiving::new(tally_of(&options), alike_of(&options)),
            buffer: vec![0; READ_BYTES_MAX],
            payload: Vec::new(),
            last_id: String::new(),
            random: 0x2545_f491_4f6c_dd1d,
            slow_turn: Instant::now(),
            turns: options
                .read_every
                .map(|every| Turns::new(options.subscribers, every.saturating_mul(1_000_000))),
            options,
        };
        load.connect_publishers()?;
        Ok(load)
    }

    /// Nanoseconds since it began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Opens all streams, `at_once` connections at the same time, behind a cursor if there is one.
    pub(crate) fn open(&mut self, at_once: usize, cursor: Option<&str>) -> io::Result<Opened> {
        let (began, cpu) = (Instant::now(), own_cpu()?);
        self.receiving.begin_opening();
        let mut dialed = 0;
        while self.receiving.settled < self.connections.len() {
            while dialed < self.connections.len() && dialed - self.receiving.settled < at_once {
                self.dial(dialed, cursor)?;
                dialed += 1;
            }
            self.turn(TURN)?;
            if began.elapsed() > OPEN_TIMEOUT {
                break;
            }
        }
        let expected: usize = self.connections.iter().map(Connection::stream_count).sum();
        let streams = self.receiving.open;
        Ok(Opened {
            streams,
            refused: expected - streams.min(expected),
            reason: std::mem::take(&mut self.receiving.reason),
            seconds: began.elapsed().as_secs_f64(),
            own_cpu: own_cpu()? - cpu,
            ..Opened::default()
        })
    }

    fn dial(&mut self, number: usize, cursor: Option<&str>) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(number) else { return Ok(()) };
        let mut socket = self.dialer.dial(number, connection.slow)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket.source(), Token(number), both)?;
        connection.begin(socket, &self.options, cursor);
        self.receiving.begin(connection);
        Ok(())
    }

    /// Ends all streams.
    pub(crate) fn close(&mut self) {
        self.connections.iter_mut().for_each(Connection::hang_up);
    }

    /// Ends all streams, publishes `missed` updates, and lets everybody come back at once behind
    /// the last update that it got.
    pub(crate) fn storm(&mut self, missed: u64) -> io::Result<Opened> {
        // The last one must be public, so that everybody got it.
        loop {
            self.publish_and_wait(true)?;
            if !self.is_private(self.receiving.tally.next() - 1) {
                break;
            }
        }
        let cursor = self.last_id.clone();
        self.close();
        self.receiving.tally.clear();
        for _ in 0..missed {
            self.publish_and_wait(false)?;
        }
        let (began, at_once) = (Instant::now(), self.connections.len());
        let mut opened = self.open(at_once, Some(&cursor))?;
        self.drain(Instant::now() + DRAIN_TIMEOUT)?;
        opened.seconds = began.elapsed().as_secs_f64();
        opened.deliveries = self.receiving.tally.deliveries;
        opened.faults = self.receiving.tally.settle();
        Ok(opened)
    }

    /// Takes what came while nobody looked: heartbeats, and the end of idle connections.
    fn catch_up(&mut self) -> io::Result<()> {
        while self.turn(Duration::ZERO)? {}
        if self.turns.is_some() {
            (0..self.options.subscribers).for_each(|subscriber| self.read_whole(subscriber));
        }
        Ok(())
    }

    /// One look at the sockets, waiting no longer than this. Whether there was anything.
    fn turn(&mut self, patience: Duration) -> io::Result<bool> {
        let Some(mut events) = self.events.take() else { return Ok(false) };
        let patience = if self.turns.is_some() { patience.min(READING_TURN) } else { patience };
        match self.poll.poll(&mut events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            let Token(number) = event.token();
            match number.checked_sub(PUBLISHERS) {
                Some(publisher) => self.publisher_ready(publisher)?,
                None => self.subscriber_ready(number, event.is_readable()),
            }
        }
        let any = !events.is_empty();
        self.events = Some(events);
        let now = self.now();
        if let Some(turns) = &mut self.turns {
            turns.due(now).for_each(|subscriber| self.read_whole(subscriber));
        }
        if self.options.slow > 0 && self.slow_turn.elapsed() > SLOW_TURN {
            self.slow_turn = Instant::now();
            self.read_slowly();
        }
        Ok(any)
    }

    fn subscriber_ready(&mut self, number: usize, readable: bool) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(number) else { return };
        connection.flush();
        if readable {
            self.receiving.read(connection, &mut self.buffer, now);
            if (connection.slow || connection.in_turns) && connection.is_settled() {
                // From now on it is read by the clock.
                connection.forget(self.poll.registry());
            }
        }
    }

    /// Takes all that came for somebody who is read in turns, by one read.
    fn read_whole(&mut self, subscriber: usize) {
        let now = self.now();
        let connection = self.connections.get_mut(subscriber);
        // Before the stream stands, events tell of it.
        let stands = |connection: &&mut Connection| connection.in_turns && connection.is_settled();
        if let Some(connection) = connection.filter(stands) {
            self.receiving.read_once(connection, &mut self.buffer, now);
        }
    }

    fn read_slowly(&mut self) {
        let now = self.now();
        let mut buffer = [0; SLOW_READ_BYTES_MAX];
        for connection in self.connections.iter_mut().filter(|connection| connection.slow) {
            self.receiving.read_once(connection, &mut buffer, now);
        }
    }

    /// Until everything that was published is delivered and acknowledged, or the time is over.
    fn drain(&mut self, deadline: Instant) -> io::Result<()> {
        while self.receiving.tally.unfinished > 0 && Instant::now() < deadline {
            self.turn(TURN)?;
        }
        Ok(())
    }
}

/// Seconds of CPU that this process used.
fn own_cpu() -> io::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(Duration::from(time).as_secs_f64())
}

fn address_of(url: &str) -> io::Result<SocketAddr> {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    address.trim_end_matches('/').parse().map_err(|_| {
        io::Error::other(format!("{url}: give an address and a port, as http://127.0.0.1:3000"))
    })
}

/// Only where the same bytes come to many may they be compared.
fn check_reading(options: &LoadOptions) -> io::Result<()> {
    let events = matches!(options.kind, Kind::Mercure | Kind::Nchan);
    let plain = !options.url.starts_with("https:") && options.http2_connections.is_none();
    if options.read_every.is_none() || (events && plain) {
        return Ok(());
    }
    Err(io::Error::other(
        "--read-every is for Server-Sent Events over plain HTTP/1.1: \
         no other --kind, no https:// and no --http2-connections",
    ))
}

/// One connection for each subscriber, or some with many streams, and then the strangers.
fn connections_of(options: &LoadOptions) -> Vec<Connection> {
    let strangers = (0..stranger_count(options)).map(Connection::stranger);
    let subscribers: Vec<Connection> = match options.http2_connections {
        None => (0..options.subscribers)
            .map(|subscriber| Connection::single(subscriber, options))
            .collect(),
        Some(count) => {
            let each = options.subscribers.div_ceil(count.max(1)).max(1);
            (0..options.subscribers)
                .step_by(each)
                .map(|first| Connection::many(first..options.subscribers.min(first + each)))
                .collect()
        }
    };
    subscribers.into_iter().chain(strangers).collect()
}

fn tally_of(options: &LoadOptions) -> Tally {
    let member = |subscriber| Member {
        topic: topic_of(options, subscriber),
        token: options.has_token(subscriber) || !options.kind.has_private(),
        complete: !options.is_slow(subscriber),
    };
    let members = (0..options.subscribers).map(member).collect();
    Tally::new(options.publishers.max(1), options.topic_count(), members, options.payload)
        .watch(|subscriber| options.is_watcher(subscriber))
}

/// Who gets the same: subscribers of one topic, with a token or without.
fn alike_of(options: &LoadOptions) -> Alike {
    let in_turns = options.read_every.map_or(0, |_| options.subscribers);
    Alike::new((0..in_turns).map(|subscriber| {
        topic_of(options, subscriber) * 2 + usize::from(options.has_token(subscriber))
    }))
}

/// The topic of a subscriber.
fn topic_of(options: &LoadOptions, subscriber: usize) -> usize {
    if options.topics == Topics::Own { subscriber } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{Floor, Mode};

    fn load(mode: Mode, flags: &str) -> Load {
        let floor = Floor::bind(mode, 0, None).unwrap();
        let url = format!("http://{}", floor.address().unwrap());
        std::thread::spawn(move || floor.run());
        load_of(&url, flags)
    }

    fn load_of(url: &str, flags: &str) -> Load {
        Load::new(options_of(url, flags)).unwrap()
    }

    fn options_of(url: &str, flags: &str) -> LoadOptions {
        use clap::Parser;
        #[derive(Parser)]
        #[command(args_override_self = true)]
        struct Flags {
            #[command(flatten)]
            options: LoadOptions,
        }
        let words = ["load", "--url", url].into_iter().chain(flags.split_whitespace());
        Flags::parse_from(words).options
    }

    #[test]
    fn everything_that_a_floor_delivers_is_counted_and_nothing_is_wrong() {
        for (mode, reading) in
            [(Mode::Write, ""), (Mode::Batch, ""), (Mode::Batch, "--read-every 3 --ahead 2")]
        {
            let flags = format!("--subscribers 20 --publishers 4 --window 4 {reading}");
            let mut load = load(mode, &flags);
            assert_eq!(load.open(5, None).unwrap().streams, 20);
            let slice = load.slice(Duration::from_millis(50)).unwrap();
            assert!(!slice.faults.any() && slice.ended == 0, "{slice:?}");
            // Ten have a token and get all; ten get every other one.
            let (publishes, deliveries) = (slice.publishes, slice.deliveries);
            assert_eq!(deliveries, publishes * 10 + publishes.div_ceil(2) * 10);
            assert!(slice.delivered.p50 > 0.0 && slice.acknowledged.p999 > 0.0);
        }
    }

    #[test]
    fn topics_of_their_own_and_a_rate_are_kept() {
        let flags = "--subscribers 50 --topics own --publishers 2 --rate 400";
        let mut load = load(Mode::Batch, flags);
        load.open(50, None).unwrap();
        let slice = load.slice(Duration::from_millis(100)).unwrap();
        assert!(!slice.faults.any(), "{slice:?}");
        assert!((35..=40).contains(&(slice.publishes + slice.owed)), "{slice:?}");
    }

    #[test]
    fn visitors_come_and_go_and_are_counted_apart() {
        let mut load = load(Mode::Write, "--subscribers 4 --rate 100 --visitors 200");
        load.open(4, None).unwrap();
        let slice = load.slice(Duration::from_millis(300)).unwrap();
        assert!(!slice.faults.any() && slice.ended == 0, "{slice:?}");
        assert!((20..=90).contains(&slice.visits), "{slice:?}");
        let mut unheard = load_of("http://127.0.0.1:9", "--subscribers 0 --publishers 0");
        unheard.options.visitors = 100;
        assert!(unheard.slice(Duration::from_millis(50)).is_err(), "nobody is there");
    }

    #[test]
    fn who_left_and_missed_something_is_noticed() {
        for flags in ["--subscribers 4", "--subscribers 4 --read-every 2"] {
            miss_something(load(Mode::Write, flags));
        }
    }

    fn miss_something(mut load: Load) {
        load.open(4, None).unwrap();
        load.publish_and_wait(true).unwrap();
        load.close();
        load.publish_and_wait(false).unwrap();
        // A floor has no history: what was published meanwhile is lost, and must be told.
        load.open(4, None).unwrap();
        load.publish_and_wait(false).unwrap();
        load.drain(Instant::now() + Duration::from_millis(50)).unwrap();
        assert!(load.receiving.tally.settle().lost > 0);
    }

    #[test]
    fn only_plain_events_are_read_in_turns() {
        for flags in ["--kind redis", "--http2-connections 2", "--url https://127.0.0.1:9"] {
            let flags = format!("--subscribers 2 --publishers 0 --read-every 5 {flags}");
            let mut options = options_of("http://127.0.0.1:9", &flags);
            let error = Load::new(options.clone()).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains("--read-every")), "{flags}");
            options.read_every = None;
            assert!(Load::new(options).is_ok(), "{flags}");
        }
    }

    #[test]
    fn a_publisher_whose_idle_connection_was_closed_comes_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (closed, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            drop(listener.accept().unwrap());
            closed.send(()).unwrap();
            let (mut socket, _) = listener.accept().unwrap();
            assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nid").unwrap();
            closed.send(()).unwrap();
        });
        let mut load = load_of(&url, "--subscribers 0");
        wait.recv().unwrap();
        load.publish_and_wait(true).unwrap();
        assert_eq!(load.receiving.tally.unfinished, 0);
        wait.recv().unwrap();
    }
}
