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
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::form::field;
use crate::http::Request;
use crate::limits::{EVENTS_MAX, HEAD_BYTES_MAX, LOOKS_MAX, READ_BYTES_MAX};

const LISTENER: Token = Token(usize::MAX);
/// The journal begins anew behind so much.
const JOURNAL_BYTES: usize = 32 * 1024 * 1024;
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
    at: usize,
    batch: Vec<u8>,
    publishers: Vec<(usize, String)>,
}

impl Floor {
    /// Listens on a loopback port, 0 for a free one. With a file, `Batch` syncs before it answers.
    pub(crate) fn bind(mode: Mode, port: u16, durable: Option<&Path>) -> io::Result<Floor> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let journal = durable.map(Journal::create).transpose()?;
        Ok(Floor {
            mode,
            poll,
            listener,
            connections: Slab::new(),
            names: HashMap::new(),
            topics: Vec::new(),
            touched: Vec::new(),
            journal,
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
        journal.commit()?;
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

impl Journal {
    /// Space is there in advance, so that a sync has no more to write than the updates.
    fn create(path: &Path) -> io::Result<Journal> {
        let mut file = File::create(path)?;
        file.write_all(&vec![0; JOURNAL_BYTES])?;
        file.sync_all()?;
        Ok(Journal { file, at: JOURNAL_BYTES, batch: Vec::new(), publishers: Vec::new() })
    }

    fn commit(&mut self) -> io::Result<()> {
        if self.at + self.batch.len() > JOURNAL_BYTES {
            self.at = 0;
            self.file.rewind()?;
        }
        self.at += self.batch.len();
        self.file.write_all(&self.batch)?;
        self.batch.clear();
        self.file.sync_data()
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use super::*;

    fn start(mode: Mode, durable: Option<&Path>) -> SocketAddr {
        let floor = Floor::bind(mode, 0, durable).unwrap();
        let address = floor.address().unwrap();
        std::thread::spawn(move || floor.run());
        address
    }

    fn client(address: SocketAddr, request: &str) -> Client {
        let mut client = Client::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client
    }

    fn read_until(client: &mut Client, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        text
    }

    fn subscriber(address: SocketAddr, more: &str) -> Client {
        let target = "/.well-known/mercure?match=https%3A%2F%2Fexample.com%2Fa+b";
        let mut client = client(address, &format!("GET {target} HTTP/1.1\r\n{more}\r\n"));
        assert!(read_until(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
        client
    }

    fn publication(text: &str, more: &str) -> String {
        let body = format!("topic=https%3A%2F%2Fexample.com%2Fa%20b&data={text}{more}");
        let length = body.len();
        format!("POST /.well-known/mercure HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    fn everybody_gets_what_is_theirs(address: SocketAddr) {
        let mut trusted = subscriber(address, "Authorization: Bearer x\r\n");
        let mut stranger = subscriber(address, "");
        let gone = subscriber(address, "");
        drop(gone);
        // Two at once, and the second in two parts.
        let last = publication("three", "");
        let (begin, end) = last.split_at(last.len() - 3);
        let both = publication("one+and", "") + &publication("two", "&private=on") + begin;
        let mut publisher = client(address, &both);
        publisher.write_all(end.as_bytes()).unwrap();
        for number in 1..=3 {
            let id = format!("urn:uuid:00000000-0000-4000-8000-{number:012x}");
            assert!(read_until(&mut publisher, &id).contains("content-length: 45\r\n"));
        }
        let event = |number: u8, text: &str| {
            let event = format!(
                "id: urn:uuid:00000000-0000-4000-8000-00000000000{number}\ndata: {text}\n\n"
            );
            format!("{:x}\r\n{event}\r\n", event.len())
        };
        let all = [event(1, "one and"), event(2, "two"), event(3, "three")];
        assert_eq!(read_until(&mut trusted, &all[2]), all.concat());
        assert_eq!(read_until(&mut stranger, &all[2]), [&*all[0], &*all[2]].concat());
    }

    #[test]
    fn both_floors_deliver_in_order_and_keep_private_what_is_private() {
        everybody_gets_what_is_theirs(start(Mode::Write, None));
        everybody_gets_what_is_theirs(start(Mode::Batch, None));
    }

    #[test]
    fn a_durable_floor_acknowledges_what_is_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("updates");
        let address = start(Mode::Batch, Some(&file));
        let mut publisher = client(address, &publication("kept", ""));
        read_until(&mut publisher, "000000000001");
        assert!(std::fs::read(&file).unwrap().starts_with(b"kept\0"));
    }

    #[test]
    fn a_reader_that_pauses_gets_the_rest_later() {
        let address = start(Mode::Batch, None);
        let mut reader = subscriber(address, "");
        let text = "x".repeat(60_000);
        let mut publisher = client(address, "");
        for _ in 0..200 {
            publisher.write_all(publication(&text, "").as_bytes()).unwrap();
            read_until(&mut publisher, "\r\n\r\n");
        }
        publisher.write_all(publication("last", "").as_bytes()).unwrap();
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while !all.ends_with(b"data: last\n\n\r\n") {
            let length = reader.read(&mut buffer).unwrap();
            assert!(length > 0);
            all.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(memchr::memmem::find_iter(&all, b"data: x").count(), 200);
    }
}
