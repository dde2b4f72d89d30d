//! The floors: servers that do the least that anything can do, so that what a hub costs can be told
//! as a multiple of what the kernel costs. One thread, one epoll, HTTP/1.1 as far as needed. They
//! know no protocol: no token is checked, no history kept, no pattern matched, no input refused
//! politely. That is the point.
//!
//! `Write` writes every update to every subscriber at once and then answers the publisher. `Batch`
//! answers at once, and writes what came together in one turn of the loop with one `write` for each
//! subscriber; those with the same pending bytes share the buffer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::form::field;
use crate::http::Head;
use crate::limits::{EVENTS_MAX, HEAD_BYTES_MAX, LOOKS_MAX, READ_BYTES_MAX};

const LISTENER: Token = Token(usize::MAX);
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n";

/// When updates are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each at once, before its publisher is answered.
    Write,
    /// All of a turn together, after their publishers are answered.
    Batch,
}

/// A floor that listens. `run` serves.
pub(crate) struct Floor {
    mode: Mode,
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    names: HashMap<Vec<u8>, usize>,
    topics: Vec<Topic>,
    /// Topics with something pending.
    touched: Vec<usize>,
    journal: Option<Journal>,
    updates: u64,
    buffer: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    /// What the kernel did not take.
    rest: Vec<u8>,
    /// The topic, and the place among its members.
    member: Option<(usize, usize)>,
    private: bool,
}

/// Who listens, and what waits for those who may read everything and for the others.
#[derive(Default)]
struct Topic {
    members: Vec<usize>,
    all: Vec<u8>,
    public: Vec<u8>,
}

/// Updates that are synced together before anybody is answered.
struct Journal {
    file: File,
    batch: Vec<u8>,
    publishers: Vec<(usize, String)>,
}

impl Floor {
    /// Listens on a loopback port, 0 for a free one. With a file, `Batch` syncs before it answers.
    pub(crate) fn bind(mode: Mode, port: u16, durable: Option<&Path>) -> io::Result<Floor> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let journal = durable.map(File::create).transpose()?;
        Ok(Floor {
            mode,
            poll,
            listener,
            connections: Slab::new(),
            names: HashMap::new(),
            topics: Vec::new(),
            touched: Vec::new(),
            journal: journal.map(|file| Journal { file, batch: Vec::new(), publishers: vec![] }),
            updates: 0,
            buffer: vec![0; READ_BYTES_MAX],
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process ends.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.look(&mut events, None)?;
            // What arrives meanwhile belongs to the same turn: a publisher's request takes a
            // hundredth of the time that writing to everybody takes.
            let mut looks = 1;
            while self.mode == Mode::Batch && !events.is_empty() && looks < LOOKS_MAX {
                self.look(&mut events, Some(Duration::ZERO))?;
                looks += 1;
            }
            self.sync()?;
            self.write_pending();
        }
    }

    fn look(&mut self, events: &mut Events, patience: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &*events {
            let Token(place) = event.token();
            if event.token() == LISTENER {
                self.accept()?;
                continue;
            }
            if event.is_writable()
                && let Some(connection) = self.connections.get_mut(place)
            {
                connection.flush();
            }
            if event.is_readable() && !self.read(place) {
                self.close(place);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(entry.key()), both)?;
            let (input, rest) = (Vec::new(), Vec::new());
            entry.insert(Connection { socket, input, rest, member: None, private: false });
        }
    }

    /// Whether the connection lives on.
    fn read(&mut self, place: usize) -> bool {
        loop {
            let Some(connection) = self.connections.get_mut(place) else { return true };
            match connection.socket.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    connection.input.extend_from_slice(self.buffer.get(..length).unwrap_or(&[]));
                    // Less than was asked for: nothing is left, and epoll says when there is more.
                    let drained = length < self.buffer.len();
                    if !self.serve(place) {
                        return false;
                    }
                    if drained {
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    /// Answers every request that is complete. Whether the connection lives on.
    fn serve(&mut self, place: usize) -> bool {
        let Some(connection) = self.connections.get_mut(place) else { return false };
        let mut input = std::mem::take(&mut connection.input);
        let mut used = 0;
        while let Some(request) = Request::parse(input.get(used..).unwrap_or(&[])) {
            used += request.length;
            if request.publishes {
                self.publish(place, request.form);
            } else {
                self.subscribe(place, &request);
            }
        }
        input.drain(..used);
        let sane = input.len() <= HEAD_BYTES_MAX;
        if let Some(connection) = self.connections.get_mut(place) {
            connection.input = input;
        }
        sane
    }

    fn topic(&mut self, name: Vec<u8>) -> usize {
        let topics = &mut self.topics;
        *self.names.entry(name).or_insert_with(|| {
            topics.push(Topic::default());
            topics.len() - 1
        })
    }

    fn subscribe(&mut self, place: usize, request: &Request<'_>) {
        let name = field(request.form, &[b"match", b"topic"]).unwrap_or_default();
        let number = self.topic(name);
        let Some(topic) = self.topics.get_mut(number) else { return };
        let Some(connection) = self.connections.get_mut(place) else { return };
        connection.member = Some((number, topic.members.len()));
        connection.private = request.authorized;
        topic.members.push(place);
        connection.send(STREAM_HEAD);
    }

    fn publish(&mut self, place: usize, form: &[u8]) {
        let (Some(name), Some(text)) = (field(form, &[b"topic"]), field(form, &[b"data"])) else {
            return;
        };
        let private = field(form, &[b"private"]).is_some();
        self.updates += 1;
        let id = format!("urn:uuid:00000000-0000-4000-8000-{:012x}", self.updates);
        let number = self.topic(name);
        let Some(topic) = self.topics.get_mut(number) else { return };
        if topic.all.is_empty() {
            self.touched.push(number);
        }
        topic.append(&id, &text, private);
        match &mut self.journal {
            Some(journal) => {
                journal.batch.extend_from_slice(&text);
                journal.publishers.push((place, id));
            }
            None if self.mode == Mode::Batch => self.acknowledge(place, &id),
            None => {
                self.write_pending();
                self.acknowledge(place, &id);
            }
        }
    }

    fn acknowledge(&mut self, place: usize, id: &str) {
        if let Some(connection) = self.connections.get_mut(place) {
            let length = id.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{id}");
            connection.send(answer.as_bytes());
        }
    }

    /// One sync for all updates of the turn, then their answers.
    fn sync(&mut self) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if journal.publishers.is_empty() {
            return Ok(());
        }
        journal.file.write_all(&journal.batch)?;
        journal.file.sync_data()?;
        journal.batch.clear();
        for (place, id) in std::mem::take(&mut journal.publishers) {
            self.acknowledge(place, &id);
        }
        Ok(())
    }

    /// One write for each subscriber of a touched topic.
    fn write_pending(&mut self) {
        for number in self.touched.drain(..) {
            let Some(topic) = self.topics.get_mut(number) else { continue };
            for &place in &topic.members {
                let Some(connection) = self.connections.get_mut(place) else { continue };
                connection.send(if connection.private { &topic.all } else { &topic.public });
            }
            topic.all.clear();
            topic.public.clear();
        }
    }

    fn close(&mut self, place: usize) {
        let closed = self.connections.try_remove(place).and_then(|closed| closed.member);
        let Some((number, member)) = closed else { return };
        let Some(topic) = self.topics.get_mut(number) else { return };
        topic.members.swap_remove(member);
        if let Some(&moved) = topic.members.get(member)
            && let Some(connection) = self.connections.get_mut(moved)
        {
            connection.member = Some((number, member));
        }
    }
}

impl Topic {
    /// One chunk with one event, as a hub's frames look.
    fn append(&mut self, id: &str, text: &[u8], private: bool) {
        let begin = self.all.len();
        let length = "id: \ndata: \n\n".len() + id.len() + text.len();
        // Writing to a vector does not fail.
        let _ok = write!(self.all, "{length:x}\r\nid: {id}\ndata: ");
        self.all.extend_from_slice(text);
        self.all.extend_from_slice(b"\n\n\r\n");
        if !private {
            self.public.extend_from_slice(self.all.get(begin..).unwrap_or(&[]));
        }
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) {
        let sent = if self.rest.is_empty() && !bytes.is_empty() {
            // A broken socket is noticed where it is read.
            self.socket.write(bytes).unwrap_or(0)
        } else {
            0
        };
        self.rest.extend_from_slice(bytes.get(sent..).unwrap_or(&[]));
    }

    fn flush(&mut self) {
        while !self.rest.is_empty() {
            match self.socket.write(&self.rest) {
                Ok(sent) => self.rest.drain(..sent),
                Err(_) => return,
            };
        }
    }
}

/// What of a request a floor looks at.
struct Request<'a> {
    publishes: bool,
    authorized: bool,
    /// The query or the body.
    form: &'a [u8],
    length: usize,
}

impl<'a> Request<'a> {
    /// The first request, when it is complete.
    fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let head = Head::parse(bytes)?;
        let length = head.length + head.content_length().unwrap_or(0);
        let publishes = head.first.starts_with(b"POST");
        let query = || head.first.split(|byte| b" ?".contains(byte)).nth(2);
        let form = if publishes { bytes.get(head.length..length)? } else { query()? };
        Some(Request { publishes, authorized: head.has(b"authorization"), form, length })
    }
}
