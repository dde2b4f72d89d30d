//! Streams by the hundred: of every kind at once, that come and go in every way, that stop reading
//! and go on. Whoever stays gets everything, once and in one order.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::encrypted::{Authority, address, connect, handshake};
use crate::http::{Connection, PATIENCE, form, request, stream_http2};
use crate::http2_abuse::{DATA, PING, SETTINGS, WINDOW_UPDATE, begin, frame, get};
use crate::hub::{HUB, TestHub};
use crate::mercure::MEMORY;
use crate::tokens::{Role, bearer, token_final};

const NAME: &str = "hub.example.com";
const TOPIC: &str = "https://streams.example/1";
/// Data of the last update of a test.
const LAST: usize = 999_999;
const SUBSCRIBERS: &str = "tidings_subscribers";
const CONNECTIONS: &str = "tidings_connections_open";
const STALLED: &str = "tidings_connections_stalled_total";

/// A request for a stream, with or without a token.
pub(crate) fn subscription(token: Option<&str>) -> Vec<u8> {
    let pair = token.map(bearer);
    let headers: Vec<(&str, &str)> =
        pair.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    request("GET", &format!("{HUB}?match=*"), &headers, b"")
}

/// Somebody who publishes on one connection.
pub(crate) struct Publisher {
    connection: Connection,
    token: (String, String),
}

impl Publisher {
    pub(crate) fn new(hub: SocketAddr) -> Publisher {
        let token = bearer(&token_final(Role::Publish, &["*"]));
        Publisher { connection: Connection::open(hub), token }
    }

    pub(crate) fn request(&self, number: usize, length: usize, is_private: bool) -> Vec<u8> {
        let (name, value) = (self.token.0.as_str(), self.token.1.as_str());
        let headers = [(name, value), ("Content-Type", "application/x-www-form-urlencoded")];
        let data = format!("{number} {}", "x".repeat(length));
        let mut fields = vec![("topic", TOPIC), ("data", data.as_str())];
        if is_private {
            fields.push(("private", "on"));
        }
        request("POST", HUB, &headers, form(&fields).as_bytes())
    }

    #[track_caller]
    pub(crate) fn publish(&mut self, number: usize, length: usize, is_private: bool) {
        let request = self.request(number, length, is_private);
        assert!(self.connection.send(&request));
        self.connection.reply().expect("an answer").expect(200);
    }
}

/// The numbers of updates in bytes of a stream, chunked or not.
pub(crate) fn numbers(bytes: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(bytes);
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| data.split(' ').next()?.parse().ok()).collect()
}

/// Reads a stream until the last update has come.
#[track_caller]
pub(crate) fn until_last(stream: &mut impl Read) -> Vec<u8> {
    let end = format!("\ndata: {LAST} ");
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let count = stream.read(&mut piece).unwrap_or_else(|error| {
            panic!("{error} behind {:?}", numbers(&all).last());
        });
        assert!(count > 0, "ended behind {:?}", numbers(&all).last());
        let known = all.len().saturating_sub(end.len());
        all.extend_from_slice(&piece[..count]);
        if all[known..].windows(end.len()).any(|window| window == end.as_bytes()) {
            return all;
        }
    }
}

/// A socket with a small buffer.
pub(crate) fn small(hub: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&hub.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Has the system reset the connection when the socket is dropped.
fn reset(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A hub that speaks TLS as well, and those who trust it.
fn start(toml: &str) -> (TestHub, Authority, TempDir) {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.write(folder.path(), "hub", &[NAME]);
    let path = |ending: &str| folder.path().join(format!("hub.{ending}"));
    let (certificate, key) = (path("pem"), path("key"));
    // Clients of HTTP/2 notice that nobody reads them with the next comment.
    let hub = TestHub::start(&format!(
        "{MEMORY}{toml}\n[mercure]\nheartbeat = \"1s\"\n[tls]\nlisten = \"127.0.0.1:0\"\n\
         certificate = {certificate:?}\nkey = {key:?}\n"
    ));
    (hub, authority, folder)
}

/// Threads that read a stream each, to the last update.
struct Readers(Vec<std::thread::JoinHandle<Vec<usize>>>);

impl Readers {
    /// So many of each kind: plain, TLS and HTTP/2.
    fn join(hub: &TestHub, authority: &Authority, each: usize, token: Option<&str>) -> Readers {
        let mut readers = Vec::new();
        let asked = subscription(token);
        let client = authority.client(&["http/1.1"]);
        let before = hub.metric(SUBSCRIBERS);
        for _ in 0..each {
            let mut plain = TcpStream::connect(hub.address).unwrap();
            plain.set_read_timeout(Some(PATIENCE)).unwrap();
            plain.write_all(&asked).unwrap();
            readers.push(std::thread::spawn(move || numbers(&until_last(&mut plain))));
            let mut encrypted = connect(&client, address(hub), NAME).unwrap();
            encrypted.write_all(&asked).unwrap();
            encrypted.flush().unwrap();
            readers.push(std::thread::spawn(move || numbers(&until_last(&mut encrypted))));
            let pair = token.map(bearer);
            let headers: Vec<(&str, &str)> =
                pair.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let target = format!("{HUB}?match=*");
            let mut shared = stream_http2(hub.address, "GET", &target, &headers, b"");
            assert_eq!(shared.head.status, 200);
            readers.push(std::thread::spawn(move || {
                let mut numbers = Vec::new();
                while numbers.last() != Some(&LAST) {
                    numbers.push(shared.event().data.split(' ').next().unwrap().parse().unwrap());
                }
                numbers
            }));
        }
        hub.wait_for_metric(SUBSCRIBERS, before + 3 * each as u64);
        Readers(readers)
    }

    fn heard(self) -> Vec<Vec<usize>> {
        self.0.into_iter().map(|reader| reader.join().unwrap()).collect()
    }
}

#[test]
fn subscribers_of_every_kind_get_all_that_is_for_them_in_one_order() {
    let (hub, authority, _folder) = start("[auth]\nanonymous = true");
    let wide = token_final(Role::Subscribe, &["*"]);
    let narrow = token_final(Role::Subscribe, &[TOPIC]);
    let all = [Some(wide.as_str()), Some(narrow.as_str()), None]
        .map(|token| Readers::join(&hub, &authority, 4, token));
    let publishing: Vec<_> = (0..3)
        .map(|publisher| {
            let mut by = Publisher::new(hub.address);
            std::thread::spawn(move || {
                for number in 1..=150 {
                    let length = if number % 40 == 0 { 50_000 } else { number };
                    by.publish(publisher * 1_000 + number, length, number % 2 == 0);
                }
            })
        })
        .collect();
    for publishing in publishing {
        publishing.join().unwrap();
    }
    Publisher::new(hub.address).publish(LAST, 0, false);
    let [wide, narrow, nobody] = all.map(Readers::heard);
    let order = &wide[0];
    assert_eq!(order.len(), 451);
    for publisher in 0..3 {
        let own: Vec<usize> =
            order.iter().copied().filter(|number| number / 1_000 == publisher).collect();
        assert_eq!(own, (1..=150).map(|number| publisher * 1_000 + number).collect::<Vec<_>>());
    }
    for heard in wide.iter().chain(&narrow) {
        assert_eq!(heard, order);
    }
    let public: Vec<usize> =
        order.iter().copied().filter(|number| *number == LAST || number % 2 == 1).collect();
    for heard in &nobody {
        assert_eq!(heard, &public);
    }
    hub.wait_for_metric(SUBSCRIBERS, 0);
}

/// The hub's open descriptors.
fn descriptors(hub: &TestHub) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count()
}

/// Comes and goes in one of many ways.
fn disturb(hub: SocketAddr, token: &str, way: usize) {
    let asked = subscription(Some(token));
    let mut socket =
        if way.is_multiple_of(2) { small(hub) } else { TcpStream::connect(hub).unwrap() };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut piece = [0; 700];
    if way.is_multiple_of(3) {
        reset(&socket);
    }
    match way % 8 {
        // Before anything was asked.
        0 => {}
        // In the middle of the request.
        1 => socket.write_all(&asked[..way % asked.len()]).unwrap(),
        // Before the head of the answer.
        2 => socket.write_all(&asked).unwrap(),
        // Behind some bytes of the answer, wherever that is.
        3 | 4 => {
            socket.write_all(&asked).unwrap();
            let _some = socket.read(&mut piece[..1 + way % 699]);
        }
        // In the middle of updates.
        5 => {
            socket.write_all(&asked).unwrap();
            for _ in 0..5 {
                let _some = socket.read(&mut piece);
            }
        }
        // With one half first.
        6 => {
            socket.write_all(&asked).unwrap();
            let _some = socket.read(&mut piece);
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            while socket.read(&mut piece).is_ok_and(|count| count > 0) {}
        }
        // In the middle of something else that nobody will read.
        _ => {
            socket.write_all(&[asked.as_slice(), b"GET / HTTP/1.1\r\nHo"].concat()).unwrap();
            let _some = socket.read(&mut piece);
        }
    }
}

#[test]
fn a_thousand_clients_that_leave_in_every_way_take_nothing_from_those_who_stay() {
    let toml = "[http]\nconnections_per_address_max = 2000";
    let (hub, authority, _folder) = start(toml);
    let token = token_final(Role::Subscribe, &["*"]);
    // What is opened once and kept is opened now.
    let mut publisher = Publisher::new(hub.address);
    publisher.publish(1, 1, false);
    drop(publisher);
    let first = Readers::join(&hub, &authority, 1, Some(&token));
    Publisher::new(hub.address).publish(LAST, 0, false);
    first.heard();
    hub.wait_for_metric(CONNECTIONS, 0);
    let before = descriptors(&hub);
    let staying = Readers::join(&hub, &authority, 3, Some(&token));
    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (is_over, mut publisher) = (Arc::clone(&is_over), Publisher::new(hub.address));
        std::thread::spawn(move || {
            let mut number = 0;
            while !is_over.load(Ordering::SeqCst) {
                number += 1;
                publisher.publish(number, 50 + 997 * (number % 7), number % 2 == 0);
            }
            publisher.publish(LAST, 0, false);
            number
        })
    };
    let disturbing: Vec<_> = (0..4)
        .map(|thread| {
            let (address, token) = (hub.address, token.clone());
            std::thread::spawn(move || {
                for round in 0..250 {
                    let mut random = [0; 8];
                    getrandom::fill(&mut random).unwrap();
                    let way = usize::from_ne_bytes(random) % 100_000;
                    disturb(address, &token, way + round + thread);
                }
            })
        })
        .collect();
    for disturbing in disturbing {
        disturbing.join().unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    let published = publishing.join().unwrap();
    let expected: Vec<usize> = (1..=published).chain([LAST]).collect();
    for heard in staying.heard() {
        assert_eq!(heard, expected);
    }
    hub.wait_for_metric(SUBSCRIBERS, 0);
    hub.wait_for_metric(CONNECTIONS, 0);
    let begun = Instant::now();
    while descriptors(&hub) > before {
        assert!(begun.elapsed() < PATIENCE, "{} descriptors, {before} before", descriptors(&hub));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!hub.log().contains("panicked"), "{}", hub.log());
}

/// Bytes that the system holds for the hub's clients, for that with the most.
fn longest_queue(hub: &TestHub) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!(":{:04X}", hub.address.port());
    let queues = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().filter(|local| local.ends_with(&own))?;
        usize::from_str_radix(columns.nth(2)?.split(':').next()?, 16).ok()
    });
    queues.max().unwrap_or_default()
}

/// Resident memory in bytes.
fn resident(hub: &TestHub) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// Readers that a hub has, none of whom reads.
struct Stopped<'h> {
    hub: &'h TestHub,
    readers: u64,
    updates: usize,
    /// Memory before anything was published.
    idle: u64,
}

impl Stopped<'_> {
    const LENGTH: usize = 10_000;

    fn new(hub: &TestHub, readers: u64, updates: usize) -> Stopped<'_> {
        hub.wait_for_metric(SUBSCRIBERS, readers);
        Stopped { hub, readers, updates, idle: resident(hub) }
    }

    fn expected(&self) -> Vec<usize> {
        (1..=self.updates).chain([LAST]).collect()
    }

    /// Publishes, and says no when those who stopped hold up others or cost much.
    #[track_caller]
    fn publish(&self, token: Option<&str>) {
        let mut quick = small(self.hub.address);
        quick.write_all(&subscription(token)).unwrap();
        self.hub.wait_for_metric(SUBSCRIBERS, self.readers + 1);
        let reading = std::thread::spawn(move || numbers(&until_last(&mut quick)));
        let mut publisher = Publisher::new(self.hub.address);
        for number in 1..=self.updates {
            publisher.publish(number, Self::LENGTH, token.is_some() && number % 2 == 0);
        }
        publisher.publish(LAST, 0, false);
        assert_eq!(reading.join().unwrap(), self.expected(), "who reads is not held up");
        let queue = longest_queue(self.hub);
        let all = self.updates * Self::LENGTH;
        assert!(queue < all * 9 / 10, "all is with the system: the test shows nothing");
        self.hub.wait_for_metric(SUBSCRIBERS, self.readers);
        // The history lies in memory as well.
        let before = self.idle + all as u64;
        let each = resident(self.hub).saturating_sub(before) / self.readers;
        assert!(each <= 2 * 64 * 1_024, "{each} bytes for each reader that has stopped");
    }

    /// Reads on: nobody misses anything.
    #[track_caller]
    fn go_on(&self, streams: Vec<impl Read>) {
        for mut stream in streams {
            assert_eq!(numbers(&until_last(&mut stream)), self.expected());
        }
        self.hub.wait_for_metric(SUBSCRIBERS, 0);
        assert_eq!(self.hub.metric(STALLED), 0);
    }
}

const PATIENT: &str = "[http]\nconnections_per_address_max = 2000\nwrite_timeout = \"10m\"";

#[test]
fn readers_that_stop_cost_little_and_get_everything_when_they_go_on() {
    let hub = TestHub::start(&format!("{MEMORY}{PATIENT}"));
    let token = token_final(Role::Subscribe, &["*"]);
    let mut sockets = Vec::new();
    for _ in 0..100 {
        let mut socket = small(hub.address);
        socket.write_all(&subscription(Some(&token))).unwrap();
        sockets.push(socket);
    }
    // More than the system holds for each: 4 MiB where it is not told otherwise.
    let stopped = Stopped::new(&hub, 100, 550);
    stopped.publish(Some(&token));
    stopped.go_on(sockets);
}

#[test]
fn readers_that_stop_behind_tls_cost_little_and_get_everything_when_they_go_on() {
    let (hub, authority, _folder) = start(PATIENT);
    let token = token_final(Role::Subscribe, &["*"]);
    let client = authority.client(&["http/1.1"]);
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = handshake(&client, small(address(&hub)), NAME).unwrap();
        stream.write_all(&subscription(Some(&token))).unwrap();
        stream.flush().unwrap();
        streams.push(stream);
    }
    let stopped = Stopped::new(&hub, 100, 150);
    stopped.publish(Some(&token));
    stopped.go_on(streams);
}

/// The next frame: kind, flags, stream and payload.
fn next_frame(socket: &mut TcpStream) -> (u8, u8, usize, Vec<u8>) {
    let mut start = [0; 9];
    socket.read_exact(&mut start).unwrap();
    let length = u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize;
    let stream = u32::from_be_bytes([start[5], start[6], start[7], start[8]]) as usize;
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).unwrap();
    (start[3], start[4], stream, payload)
}

#[test]
fn streams_of_one_connection_that_get_no_room_cost_little_and_go_on_when_they_get_it() {
    let hub = TestHub::start(&format!("{MEMORY}{PATIENT}\n[auth]\nanonymous = true"));
    let mut socket = TcpStream::connect(hub.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // A window of a thousand bytes for each stream.
    let mut asked = begin(&[0, 4, 0, 0, 3, 0xe8]);
    let streams: Vec<usize> = (0..100).map(|at| 2 * at + 1).collect();
    for stream in &streams {
        let number = u32::try_from(*stream).unwrap();
        asked.extend(get(number, &format!("{HUB}?match=*")));
    }
    socket.write_all(&asked).unwrap();
    let stopped = Stopped::new(&hub, 100, 60);
    stopped.publish(None);
    let room = (1_u32 << 30).to_be_bytes();
    let mut grants = frame(WINDOW_UPDATE, 0, 0, &room);
    for stream in &streams {
        grants.extend(frame(WINDOW_UPDATE, 0, u32::try_from(*stream).unwrap(), &room));
    }
    socket.write_all(&grants).unwrap();
    let mut heard: HashMap<usize, Vec<u8>> = HashMap::new();
    let end = format!("\ndata: {LAST} \n\n");
    let mut waiting = streams.len();
    while waiting > 0 {
        match next_frame(&mut socket) {
            (DATA, _, stream, payload) => {
                let all = heard.entry(stream).or_default();
                all.extend_from_slice(&payload);
                waiting -= usize::from(all.ends_with(end.as_bytes()));
            }
            (PING, 0, _, payload) => socket.write_all(&frame(PING, 1, 0, &payload)).unwrap(),
            (SETTINGS, 0, ..) => socket.write_all(&frame(SETTINGS, 1, 0, &[])).unwrap(),
            _ => {}
        }
    }
    for stream in &streams {
        assert_eq!(numbers(&heard[stream]), stopped.expected(), "of stream {stream}");
    }
    assert_eq!(hub.metric(SUBSCRIBERS), 100);
    drop(socket);
    hub.wait_for_metric(SUBSCRIBERS, 0);
    assert_eq!(hub.metric(STALLED), 0);
}

#[test]
fn a_reader_that_takes_next_to_nothing_is_cut_off_and_others_go_on() {
    let toml = "[http]\nwrite_timeout = \"2s\"";
    let (hub, authority, _folder) = start(toml);
    let token = token_final(Role::Subscribe, &["*"]);
    let mut plain = small(hub.address);
    plain.write_all(&subscription(Some(&token))).unwrap();
    let socket = small(address(&hub));
    let client = authority.client(&["http/1.1"]);
    let mut encrypted = handshake(&client, socket, NAME).unwrap();
    encrypted.write_all(&subscription(Some(&token))).unwrap();
    encrypted.flush().unwrap();
    hub.wait_for_metric(SUBSCRIBERS, 2);
    let staying = Readers::join(&hub, &authority, 1, Some(&token));
    let mut publisher = Publisher::new(hub.address);
    for number in 1..=20 {
        publisher.publish(number, 300_000, false);
    }
    let begun = Instant::now();
    let mut byte = [0];
    while hub.metric(STALLED) < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", hub.log());
        let _some = plain.read(&mut byte);
        let _some = encrypted.sock.read(&mut byte);
        std::thread::sleep(Duration::from_millis(100));
    }
    publisher.publish(LAST, 0, false);
    for heard in staying.heard() {
        assert_eq!(heard, (1..=20).chain([LAST]).collect::<Vec<_>>());
    }
    hub.wait_for_metric(SUBSCRIBERS, 0);
}
