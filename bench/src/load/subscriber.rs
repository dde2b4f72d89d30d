//! The receiving side: connections with one stream or many, and what is done with what they bring.
//! Knows nothing of publishers.

use std::ops::Range;

use mio::Registry;

use super::alike::Alike;
use super::tally::Tally;
use super::topic_of;
use crate::decode::{Broken, Dialect, Found, Stream};
use crate::http2::{self, Frames, Part};
use crate::options::LoadOptions;
use crate::peer;
use crate::socket::Socket;

/// A connection of one subscriber, or of many with HTTP/2.
pub(crate) struct Connection {
    socket: Option<Socket>,
    lane: Lane,
    /// What the kernel has not taken yet.
    out: Vec<u8>,
    /// Streams that neither stand nor are refused.
    pending: usize,
    /// Whether it is read by the clock, a little at a time.
    pub(crate) slow: bool,
    /// Whether it is read by the clock, all that there is, in turns with others.
    pub(crate) in_turns: bool,
    /// What is answered to a server that asks whether we are there.
    pong: &'static [u8],
}

/// Whose streams a connection carries.
enum Lane {
    /// One subscriber's, HTTP/1.1 or another protocol of its own.
    One { subscriber: usize, stream: Stream },
    /// The same, and what it gets is what others get.
    Alike { subscriber: usize },
    /// Those of a range of subscribers, by HTTP/2.
    Many { first: usize, frames: Box<Frames>, streams: Vec<Stream> },
    /// Somebody's who must not get anything.
    Stranger { number: usize, stream: Stream },
}

impl Connection {
    /// A subscriber of its own.
    pub(crate) fn single(subscriber: usize, options: &LoadOptions) -> Connection {
        let in_turns = options.is_read_in_turns(subscriber);
        let lane = match in_turns {
            true => Lane::Alike { subscriber },
            false => Lane::One { subscriber, stream: options.kind.stream() },
        };
        let (slow, pong) = (options.is_slow(subscriber), options.kind.pong());
        Connection { slow, in_turns, pong, ..Connection::of(lane) }
    }

    /// These subscribers together.
    pub(crate) fn many(subscribers: Range<usize>) -> Connection {
        let streams = subscribers.clone().map(|_| Stream::bare(Dialect::Events)).collect();
        Connection::of(Lane::Many { first: subscribers.start, frames: Box::default(), streams })
    }

    /// Somebody with patterns that match nothing.
    pub(crate) fn stranger(number: usize) -> Connection {
        Connection::of(Lane::Stranger { number, stream: Stream::behind_head(Dialect::Events) })
    }

    fn of(lane: Lane) -> Connection {
        let (slow, in_turns) = (false, false);
        Connection { socket: None, lane, out: Vec::new(), pending: 0, slow, in_turns, pong: b"" }
    }

    /// How many streams it carries.
    pub(crate) fn stream_count(&self) -> usize {
        match &self.lane {
            Lane::One { .. } | Lane::Alike { .. } | Lane::Stranger { .. } => 1,
            Lane::Many { streams, .. } => streams.len(),
        }
    }

    /// Whether all its streams stand or are refused.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending == 0
    }

    /// Takes a socket that connects and prepares what is to be said first.
    pub(crate) fn begin(&mut self, socket: Socket, options: &LoadOptions, cursor: Option<&str>) {
        self.pending = self.stream_count();
        self.out.clear();
        let encrypted = matches!(socket, Socket::Encrypted(_));
        self.socket = Some(socket);
        match &mut self.lane {
            Lane::One { subscriber, stream } => {
                *stream = options.kind.stream();
                let topic = topic_of(options, *subscriber);
                self.out = peer::subscribe_request(options, *subscriber, topic, cursor);
            }
            Lane::Alike { subscriber } => {
                let topic = topic_of(options, *subscriber);
                self.out = peer::subscribe_request(options, *subscriber, topic, cursor);
            }
            Lane::Stranger { number, stream } => {
                *stream = Stream::behind_head(Dialect::Events);
                self.out = peer::stranger_request(options, *number);
            }
            Lane::Many { first, frames, streams } => {
                **frames = Frames::default();
                http2::preface(&mut self.out);
                for (number, stream) in streams.iter_mut().enumerate() {
                    *stream = Stream::bare(Dialect::Events);
                    let subscriber = *first + number;
                    let topic = topic_of(options, subscriber);
                    let target = peer::subscribe_target(options, subscriber, topic);
                    let token = options
                        .has_token(subscriber)
                        .then(|| peer::subscriber_token(options, subscriber, topic));
                    http2::request(&mut self.out, number, encrypted, &target, token.as_deref());
                }
            }
        }
    }

    /// Writes what waits. What is broken shows when it is read.
    pub(crate) fn flush(&mut self) {
        if let Some(socket) = &mut self.socket
            && !self.out.is_empty()
        {
            let _seen_later = socket.flush(&mut self.out);
            if self.out.is_empty() {
                // A million requests are not kept.
                self.out = Vec::new();
            }
        }
    }

    /// Closes the socket.
    pub(crate) fn hang_up(&mut self) {
        self.socket = None;
        self.out = Vec::new();
    }

    /// No event tells of it any more.
    pub(crate) fn forget(&mut self, registry: &Registry) {
        if let Some(socket) = &mut self.socket {
            // Fails where it was forgotten before.
            let _again = registry.deregister(socket.source());
        }
    }
}

/// What connections bring.
pub(crate) struct Receiving {
    pub(crate) tally: Tally,
    /// How far those are who are read in turns.
    alike: Alike,
    /// Streams that stand.
    pub(crate) open: usize,
    /// Connections all of whose streams stand or are refused.
    pub(crate) settled: usize,
    /// Streams that the server ended after they stood.
    pub(crate) ended: u64,
    /// Why the last stream broke.
    pub(crate) reason: String,
}

impl Receiving {
    /// Nobody is connected.
    pub(crate) fn new(tally: Tally, alike: Alike) -> Receiving {
        Receiving { tally, alike, open: 0, settled: 0, ended: 0, reason: String::new() }
    }

    /// The stream of a connection begins, or has ended.
    pub(crate) fn begin(&mut self, connection: &Connection) {
        if let Lane::Alike { subscriber } = connection.lane {
            self.alike.begin(subscriber);
        }
    }

    /// Counts connections anew.
    pub(crate) fn begin_opening(&mut self) {
        (self.open, self.settled) = (0, 0);
    }

    /// Takes all that a connection has.
    pub(crate) fn read(&mut self, connection: &mut Connection, buffer: &mut [u8], now: u64) {
        while self.read_once(connection, buffer, now) {}
    }

    /// Takes what one read brings. Whether there may be more.
    pub(crate) fn read_once(
        &mut self,
        connection: &mut Connection,
        buffer: &mut [u8],
        now: u64,
    ) -> bool {
        let Some(socket) = &mut connection.socket else { return false };
        let read = socket.take(buffer);
        let drains = socket.short_read_drains();
        let result = match read {
            Ok(None) => {
                // A handshake may have come so far that the request can go out.
                connection.flush();
                return false;
            }
            Ok(Some(0)) => Err(Broken::Ended),
            Err(error) => {
                self.reason = error.to_string();
                self.lose(connection);
                return false;
            }
            Ok(Some(length)) => {
                self.tally.reads += 1;
                let bytes = buffer.get(..length).unwrap_or(&[]);
                self.take(connection, bytes, now).map(|()| !drains || length == buffer.len())
            }
        };
        connection.flush();
        result.unwrap_or_else(|broken| {
            self.reason = format!("{broken:?}");
            self.lose(connection);
            false
        })
    }

    fn take(&mut self, connection: &mut Connection, bytes: &[u8], now: u64) -> Result<(), Broken> {
        let Connection { lane, out, pending, pong, .. } = connection;
        let before = *pending;
        let (tally, open) = (&mut self.tally, &mut self.open);
        let mut stand = || {
            *open += 1;
            *pending = pending.saturating_sub(1);
        };
        let result = match lane {
            Lane::One { subscriber, stream } => stream.feed(bytes, &mut |found| match found {
                Found::Open => stand(),
                Found::Update(number, length) => tally.deliver(*subscriber, number, length, now),
                Found::Ping => out.extend_from_slice(pong),
            }),
            Lane::Alike { subscriber } => {
                let subscriber = *subscriber;
                self.alike.take(subscriber, bytes, &mut |found| match found {
                    Found::Open => stand(),
                    Found::Update(number, length) => tally.deliver(subscriber, number, length, now),
                    Found::Ping => {}
                })
            }
            Lane::Stranger { stream, .. } => stream.feed(bytes, &mut |found| match found {
                Found::Open => stand(),
                Found::Update(..) => tally.unknown += 1,
                Found::Ping => {}
            }),
            Lane::Many { first, frames, streams } => {
                let mut ended = 0;
                let fed = frames.feed(bytes, out, &mut |part| {
                    match part {
                        Part::Open(_) => stand(),
                        Part::Closed(_) => ended += 1,
                        Part::Body(number, body) => {
                            let stream = streams.get_mut(number).ok_or(Broken::Chunk)?;
                            stream.feed(body, &mut |found| {
                                if let Found::Update(update, length) = found {
                                    tally.deliver(*first + number, update, length, now);
                                }
                            })?;
                        }
                    }
                    Ok(())
                });
                // Before all stand, an end is a refusal.
                let refused = ended.min(*pending);
                *pending -= refused;
                self.ended += (ended - refused) as u64;
                fed
            }
        };
        self.settled += usize::from(before > 0 && *pending == 0);
        result
    }

    /// A connection broke.
    fn lose(&mut self, connection: &mut Connection) {
        connection.hang_up();
        self.begin(connection);
        let refused = std::mem::take(&mut connection.pending);
        self.settled += usize::from(refused > 0);
        // A hub may cut off who reads too slowly; it comes back with its cursor.
        if !connection.slow {
            self.ended += (connection.stream_count() - refused) as u64;
        }
    }
}
