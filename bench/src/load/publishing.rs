//! The publishing side: as many as the window allows, or at a rate, and slices of it. Knows nothing
//! of how subscribers read.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use super::report::{Quantiles, Slice};
use super::visitors::Visitors;
use super::{Load, PUBLISHERS, TURN, own_cpu};
use crate::limits::DRAIN_TIMEOUT;
use crate::options::{Tokens, Topics};
use crate::payload;
use crate::peer::{Answer, answer, subscribe_request};
use crate::socket::Socket;

/// A connection that publishes, one update at a time.
pub(crate) struct Publisher {
    socket: Socket,
    out: Vec<u8>,
    input: Vec<u8>,
    /// The update that has no answer yet.
    waiting: Option<u64>,
}

impl Load {
    /// Connects all publishers.
    pub(super) fn connect_publishers(&mut self) -> io::Result<()> {
        for number in 0..self.options.publishers {
            let publisher = self.publisher(number)?;
            self.publishers.push(publisher);
            self.idle.push_back(number);
        }
        Ok(())
    }

    fn publisher(&self, number: usize) -> io::Result<Publisher> {
        let mut socket = self.publish_to.dial(number, false)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket.source(), Token(PUBLISHERS + number), both)?;
        let out = self.options.kind.greeting();
        Ok(Publisher { socket, out, input: Vec::new(), waiting: None })
    }

    /// Publishes for so long, then waits until everything is delivered.
    pub(crate) fn slice(&mut self, length: Duration) -> io::Result<Slice> {
        self.catch_up()?;
        self.receiving.tally.clear();
        let (began, cpu) = (Instant::now(), own_cpu()?);
        let requests = [0, 1].map(|number| subscribe_request(&self.options, number, 0, None));
        let visitors = self.options.visitors;
        let visitors = Visitors::begin(&self.publish_to, &Arc::new(requests), visitors);
        let changes = self.changers.changes()?;
        let end = began + length;
        let interval = self.options.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let mut due = began;
        while Instant::now() < end {
            self.publish_due(&mut due, interval)?;
            let until =
                if interval.is_some() && !self.idle.is_empty() { due.min(end) } else { end };
            self.turn(until.saturating_duration_since(Instant::now()).min(TURN))?;
        }
        let owed = interval.map_or(0, |interval| {
            let late = end.saturating_duration_since(due);
            u64::try_from(late.as_nanos() / interval.as_nanos().max(1)).unwrap_or(0)
        });
        let visits = visitors.end()? + self.changers.changes()? - changes;
        self.drain(Instant::now() + DRAIN_TIMEOUT)?;
        let tally = &mut self.receiving.tally;
        Ok(Slice {
            deliveries: tally.deliveries,
            publishes: tally.publishes,
            owed,
            seconds: began.elapsed().as_secs_f64(),
            acknowledged: Quantiles::of(&tally.acknowledged),
            delivered: Quantiles::of(&tally.delivered),
            faults: tally.settle(),
            ended: std::mem::take(&mut self.receiving.ended),
            reason: std::mem::take(&mut self.receiving.reason),
            reads: tally.reads,
            own_cpu: own_cpu()? - cpu,
            visits,
        })
    }

    /// Publishes what the window or the rate asks for now.
    fn publish_due(&mut self, due: &mut Instant, interval: Option<Duration>) -> io::Result<()> {
        loop {
            let at = match interval {
                // Time counts from when it was due, so that a late start is not forgiven.
                Some(interval) if *due <= Instant::now() && self.receiving.tally.has_room() => {
                    let since = due.saturating_duration_since(self.began);
                    if !self.idle.is_empty() {
                        *due += interval;
                    }
                    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
                }
                None if self.is_window_open() => self.now(),
                _ => return Ok(()),
            };
            let Some(publisher) = self.idle.pop_front() else { return Ok(()) };
            self.publish(publisher, at)?;
        }
    }

    /// Whether another update may be on its way.
    fn is_window_open(&self) -> bool {
        let tally = &self.receiving.tally;
        tally.unfinished < self.options.window
            && self.options.ahead.is_none_or(|ahead| tally.unseen < ahead)
    }

    /// Publishes one and waits for its answer, or until it is delivered to all.
    pub(super) fn publish_and_wait(&mut self, delivered: bool) -> io::Result<()> {
        self.catch_up()?;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let Some(publisher) = self.idle.pop_front() else {
            return Err(io::Error::other("a publisher is still waiting for an answer"));
        };
        let at = self.now();
        self.publish(publisher, at)?;
        while Instant::now() < deadline
            && (self.idle.len() < self.publishers.len()
                || (delivered && self.receiving.tally.unfinished > 0))
        {
            self.turn(TURN)?;
        }
        Ok(())
    }

    /// Whether an update is private.
    pub(super) fn is_private(&self, number: u64) -> bool {
        number % 2 == 1 && self.options.tokens != Tokens::None && self.options.kind.has_private()
    }

    fn publish(&mut self, publisher: usize, at: u64) -> io::Result<()> {
        let topic = match self.options.topics {
            Topics::One => 0,
            Topics::Own => self.random_topic(),
        };
        let number = self.receiving.tally.next();
        let private = self.is_private(number);
        payload::render(&mut self.payload, number, at, self.options.payload);
        self.receiving.tally.send(publisher, topic, private, at);
        let Some(connection) = self.publishers.get_mut(publisher) else { return Ok(()) };
        connection.waiting = Some(number);
        self.publications.write(&mut connection.out, topic, &self.payload, private);
        connection.flush()
    }

    /// Xorshift: the same topics in every run.
    fn random_topic(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 16).unwrap_or(0) % self.options.topic_count()
    }

    /// Takes answers. A refused publication ends the run.
    pub(super) fn publisher_ready(&mut self, number: usize) -> io::Result<()> {
        let now = self.now();
        let Some(publisher) = self.publishers.get_mut(number) else { return Ok(()) };
        publisher.flush()?;
        while let Some(length) = publisher.socket.take(&mut self.buffer)? {
            if length == 0 && publisher.waiting.is_some() {
                return Err(io::Error::other("the server closed a connection before it answered"));
            }
            if length == 0 {
                // Servers close what was idle for long, while it was others' turn.
                let again = self.publisher(number)?;
                if let Some(publisher) = self.publishers.get_mut(number) {
                    *publisher = again;
                }
                return Ok(());
            }
            publisher.input.extend_from_slice(self.buffer.get(..length).unwrap_or(&[]));
            if length < self.buffer.len() {
                break;
            }
        }
        match answer(self.options.kind, &publisher.input) {
            Answer::Partial => {}
            Answer::Refused(words) => {
                return Err(io::Error::other(format!("a publication was refused: {words}")));
            }
            Answer::Accepted(length, id) => {
                self.last_id.clear();
                self.last_id.push_str(&String::from_utf8_lossy(id));
                publisher.input.drain(..length);
                if let Some(update) = publisher.waiting.take() {
                    self.receiving.tally.acknowledge(update, now);
                    self.idle.push_back(number);
                }
            }
        }
        Ok(())
    }
}

impl Publisher {
    /// Before the connection stands, nothing is taken; epoll tells when it does.
    fn flush(&mut self) -> io::Result<()> {
        match self.socket.flush(&mut self.out) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }
}
