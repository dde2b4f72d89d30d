//! An HTTP/1.1 endpoint on a port of its own that does what a test says, request by request, and
//! notes what came: whole, slow, cut, silent, endless. Knows nothing of hubs or webhooks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::http::{self, PATIENCE};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// When its last byte was read.
    pub(crate) at: Instant,
    /// The same on the wall clock.
    pub(crate) wall: SystemTime,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case, in the order sent.
    pub(crate) headers: Vec<(String, String)>,
    /// All of it, or what [`Receiver::keep_only`] leaves.
    pub(crate) body: Vec<u8>,
    /// How long the body was.
    pub(crate) length: usize,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    /// How many requests came before it, on all connections.
    pub(crate) number: usize,
    /// How many of them had the same method, target and body.
    pub(crate) seen: usize,
    /// The status that it was answered with, and when that began; nothing while it waits, and for
    /// answers without a status.
    pub(crate) answered: Option<(u16, Instant)>,
}

impl Received {
    /// The value of a header (name in lower case); several are joined by `, `.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }

    /// Whether it was answered with a status of success.
    pub(crate) fn succeeded(&self) -> bool {
        self.answered.is_some_and(|(status, _)| (200..300).contains(&status))
    }
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// At once; the connection stays open for more.
    Whole,
    /// The same, and the connection is closed behind it.
    Last,
    /// So many bytes a second, from the first byte of the head on.
    DribbleHead(usize),
    /// The head at once, then so many bytes of the body a second.
    DribbleBody(usize),
    /// Headers without an end, as fast as they are taken.
    EndlessHead,
    /// Interim answers (1xx) without an end, as fast as they are taken.
    EndlessInterim,
    /// A body without an end, as fast as it is taken.
    EndlessBody,
    /// Half of the head, then the connection is closed.
    CutHead,
    /// Half of the body that was announced, then the connection is closed.
    CutBody,
    /// Something that is no HTTP.
    Garbage,
    /// The connection is closed without a byte.
    Close,
    /// Nothing, until the other side gives up.
    Hang,
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    manner: Manner,
}

impl Reply {
    /// This status and no body, at once.
    pub(crate) fn status(status: u16) -> Reply {
        let (headers, body, delay) = (Vec::new(), Vec::new(), Duration::ZERO);
        Reply { status, headers, body, delay, manner: Manner::Whole }
    }

    /// 200, in this manner, with a body long enough to be cut.
    pub(crate) fn manner(manner: Manner) -> Reply {
        Reply { manner, ..Reply::status(200).body(&[b'x'; 1_000]) }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Reply {
        self.body = body.to_vec();
        self
    }

    /// Not before so long has passed.
    pub(crate) fn after(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }

    /// Head and body as bytes.
    fn bytes(&self) -> (Vec<u8>, &[u8]) {
        let mut head = format!("HTTP/1.1 {} Said\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match (self.manner, self.status) {
            (Manner::EndlessBody, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
            (_, 204 | 304) => {}
            _ => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
        }
        if self.manner == Manner::Last {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        (head.into_bytes(), &self.body)
    }
}

type Behaviour = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// What the threads of a receiver share.
struct Shared {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Noted>,
    changed: Condvar,
    connections: AtomicUsize,
    kept: AtomicUsize,
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Default)]
struct Noted {
    requests: Vec<Received>,
    /// How often each method, target and body came.
    counts: HashMap<(String, String, Vec<u8>), usize>,
}

/// One opening of the port.
struct Open {
    ends: Arc<AtomicBool>,
    sockets: Arc<Mutex<HashMap<usize, TcpStream>>>,
    acceptor: JoinHandle<()>,
}

/// A running endpoint; dropping it closes it.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    open: Option<Open>,
}

impl Receiver {
    /// Answers everything with 200.
    pub(crate) fn start() -> Receiver {
        Receiver::with(|_| Reply::status(200))
    }

    /// Answers as the closure says.
    pub(crate) fn with(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::on(None, Arc::new(behaviour))
    }

    /// The same over TLS.
    pub(crate) fn with_tls(
        tls: Arc<ServerConfig>,
        behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        Receiver::on(Some(tls), Arc::new(behaviour))
    }

    fn on(tls: Option<Arc<ServerConfig>>, behaviour: Behaviour) -> Receiver {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            received: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicUsize::new(0),
            kept: AtomicUsize::new(usize::MAX),
            tls,
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut receiver = Receiver { address, shared, open: None };
        receiver.open();
        receiver
    }

    /// Listens again on the port it had.
    pub(crate) fn open(&mut self) {
        self.close();
        // Connections of before may still hold the port for a moment.
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(e) => assert!(Instant::now() < deadline, "{}: {e}", self.address),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        self.address = listener.local_addr().unwrap();
        let (ends, sockets) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let accepting = Accepting {
            shared: Arc::clone(&self.shared),
            ends: Arc::clone(&ends),
            sockets: Arc::clone(&sockets),
        };
        let acceptor = std::thread::spawn(move || accepting.run(&listener));
        self.open = Some(Open { ends, sockets, acceptor });
    }

    /// Refuses connections from now on and cuts those that are open.
    pub(crate) fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.ends.store(true, Ordering::SeqCst);
        // Wakes up who waits for a connection.
        let _ = TcpStream::connect(self.address);
        let _ = open.acceptor.join();
        for socket in open.sockets.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Answers as this closure says from now on.
    pub(crate) fn behave(&self, behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    /// Keeps no more than so many bytes of each body, where there are too many large ones.
    pub(crate) fn keep_only(&self, bytes: usize) {
        self.shared.kept.store(bytes, Ordering::SeqCst);
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Everything that came, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().requests.clone()
    }

    /// How much came.
    pub(crate) fn count(&self) -> usize {
        self.shared.received.lock().unwrap().requests.len()
    }

    /// What came for a path, in order.
    pub(crate) fn at(&self, path: &str) -> Vec<Received> {
        let noted = self.shared.received.lock().unwrap();
        noted.requests.iter().filter(|request| request.target == path).cloned().collect()
    }

    /// The bodies of what came for a path, in order.
    pub(crate) fn bodies_at(&self, path: &str) -> Vec<String> {
        self.at(path).iter().map(Received::text).collect()
    }

    /// All bodies, in order.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.received().iter().map(Received::text).collect()
    }

    /// Waits until so many requests have come, and gives all that came.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_within(PATIENCE, |requests| requests.len() >= count)
    }

    /// Waits until this body was answered with success for a path, and gives what came there.
    #[track_caller]
    pub(crate) fn wait_for_body(&self, path: &str, body: &str) -> Vec<Received> {
        self.wait_within(PATIENCE, |requests| {
            requests
                .iter()
                .any(|one| one.target == path && one.succeeded() && one.body == body.as_bytes())
        });
        self.at(path)
    }

    /// Waits until what came is enough, and gives all of it.
    #[track_caller]
    pub(crate) fn wait_within(
        &self,
        patience: Duration,
        enough: impl Fn(&[Received]) -> bool,
    ) -> Vec<Received> {
        let deadline = Instant::now() + patience;
        let mut noted = self.shared.received.lock().unwrap();
        while !enough(&noted.requests) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let last: Vec<_> = noted.requests.iter().rev().take(10).map(line).collect();
                panic!("not enough after {} requests; the last: {last:#?}", noted.requests.len());
            };
            noted = self.shared.changed.wait_timeout(noted, left).unwrap().0;
        }
        noted.requests.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request in a line, for the message of a failing test.
fn line(request: &Received) -> String {
    let body: String = request.text().chars().take(60).collect();
    let status = request.answered.map(|(status, _)| status);
    format!("{} {} {body:?} -> {status:?}", request.method, request.target)
}

/// Who takes connections, until the port is closed.
struct Accepting {
    shared: Arc<Shared>,
    ends: Arc<AtomicBool>,
    sockets: Arc<Mutex<HashMap<usize, TcpStream>>>,
}

impl Accepting {
    fn run(self, listener: &TcpListener) {
        for socket in listener.incoming() {
            if self.ends.load(Ordering::SeqCst) {
                return;
            }
            let Ok(socket) = socket else { continue };
            let _ = socket.set_nodelay(true);
            let connection = self.shared.connections.fetch_add(1, Ordering::SeqCst);
            let Ok(kept) = socket.try_clone() else { continue };
            self.sockets.lock().unwrap().insert(connection, kept);
            let (shared, ends) = (Arc::clone(&self.shared), Arc::clone(&self.ends));
            let sockets = Arc::clone(&self.sockets);
            std::thread::spawn(move || {
                let stream: Box<dyn ReadAndWrite> = match &shared.tls {
                    None => Box::new(socket),
                    Some(tls) => {
                        let session = ServerConnection::new(Arc::clone(tls)).unwrap();
                        Box::new(StreamOwned::new(session, socket))
                    }
                };
                let mut wire = Wire { stream, buffer: Vec::new(), ends };
                // Whatever ends a connection is the business of who opened it.
                let _ = shared.serve(&mut wire, connection);
                if let Some(socket) = sockets.lock().unwrap().remove(&connection) {
                    let _ = socket.shutdown(Shutdown::Both);
                }
            });
        }
    }
}

trait ReadAndWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadAndWrite for T {}

/// A connection and what was read ahead of it.
struct Wire {
    stream: Box<dyn ReadAndWrite>,
    buffer: Vec<u8>,
    ends: Arc<AtomicBool>,
}

impl Wire {
    fn fill(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    fn take_until(&mut self, end: &[u8]) -> std::io::Result<Vec<u8>> {
        loop {
            let found = self.buffer.windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                let taken = self.buffer.drain(..at + end.len()).collect::<Vec<u8>>();
                return Ok(taken[..at].to_vec());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// So many bytes a second, in pieces of a tenth of a second or of one byte.
    fn dribble(&mut self, bytes: &[u8], per_second: usize) -> std::io::Result<()> {
        let piece = (per_second / 10).max(1);
        for bytes in bytes.chunks(piece) {
            self.send(bytes)?;
            self.pause(Duration::from_secs(1) * u32::try_from(piece).unwrap() / per_second as u32);
        }
        Ok(())
    }

    /// Waits, but not longer than the port is open.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.ends.load(Ordering::SeqCst) || left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// A request, not yet counted.
    fn request(&mut self, connection: usize) -> std::io::Result<Received> {
        let head = self.take_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut request = Received {
            at: Instant::now(),
            wall: SystemTime::now(),
            method,
            target,
            headers,
            body: Vec::new(),
            length: 0,
            connection,
            number: 0,
            seen: 0,
            answered: None,
        };
        if request.header("expect").is_some_and(|value| value.contains("100-continue")) {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Some(length) = request.header("content-length") {
            request.body = self.take(length.parse().expect("a length in digits"))?;
        } else if request.header("transfer-encoding").is_some() {
            request.body = self.chunks()?;
        }
        request.length = request.body.len();
        (request.at, request.wall) = (Instant::now(), SystemTime::now());
        Ok(request)
    }

    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8_lossy(&self.take_until(b"\r\n")?).into_owned();
            let size = usize::from_str_radix(size.trim(), 16).expect("a size of a chunk");
            body.extend(self.take(size)?);
            self.take_until(b"\r\n")?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

impl Shared {
    /// Answers one request after the other; an error is the end of the connection.
    fn serve(&self, wire: &mut Wire, connection: usize) -> std::io::Result<()> {
        loop {
            let request = self.note(wire.request(connection)?);
            let behaviour = Arc::clone(&self.behaviour.lock().unwrap());
            let reply = behaviour(&request);
            wire.pause(reply.delay);
            if wire.ends.load(Ordering::SeqCst) {
                return Ok(());
            }
            self.note_answer(&request, &reply);
            answer(wire, &reply)?;
            let asked_to_close = request.header("connection").is_some_and(|v| v == "close");
            if asked_to_close || reply.manner != Manner::Whole {
                return Ok(());
            }
        }
    }

    fn note(&self, mut request: Received) -> Received {
        request.body.truncate(self.kept.load(Ordering::SeqCst));
        request.body.shrink_to_fit();
        let mut noted = self.received.lock().unwrap();
        request.number = noted.requests.len();
        let same = (request.method.clone(), request.target.clone(), request.body.clone());
        let seen = noted.counts.entry(same).or_default();
        request.seen = *seen;
        *seen += 1;
        noted.requests.push(request.clone());
        self.changed.notify_all();
        request
    }

    fn note_answer(&self, request: &Received, reply: &Reply) {
        let whole = matches!(reply.manner, Manner::Whole | Manner::Last);
        if whole {
            let mut noted = self.received.lock().unwrap();
            noted.requests[request.number].answered = Some((reply.status, Instant::now()));
            self.changed.notify_all();
        }
    }
}

fn answer(wire: &mut Wire, reply: &Reply) -> std::io::Result<()> {
    let (head, body) = reply.bytes();
    match reply.manner {
        Manner::Whole | Manner::Last => wire.send(&[head.as_slice(), body].concat()),
        Manner::DribbleHead(speed) => wire.dribble(&[head.as_slice(), body].concat(), speed),
        Manner::DribbleBody(speed) => {
            wire.send(&head)?;
            wire.dribble(body, speed)
        }
        Manner::EndlessHead => {
            wire.send(format!("HTTP/1.1 {} Said\r\n", reply.status).as_bytes())?;
            loop {
                wire.send(format!("X-Filler: {}\r\n", "x".repeat(1_000)).as_bytes())?;
            }
        }
        Manner::EndlessInterim => loop {
            wire.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100).as_bytes())?;
        },
        Manner::EndlessBody => {
            wire.send(&head)?;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            loop {
                wire.send(chunk.as_bytes())?;
            }
        }
        Manner::CutHead => wire.send(&head[..head.len() / 2]),
        Manner::CutBody => wire.send(&[head.as_slice(), &body[..body.len() / 2]].concat()),
        Manner::Garbage => wire.send(b"\x16\x03\x01 what is that?\r\n\r\n"),
        Manner::Close => Ok(()),
        Manner::Hang => {
            // The end of the connection is what is waited for.
            loop {
                wire.fill()?;
            }
        }
    }
}

#[test]
fn a_receiver_does_what_it_is_told() {
    let mut receiver = Receiver::with(|request| match request.target.as_str() {
        "/busy" => Reply::status(503).header("Retry-After", "2").body(b"later"),
        "/garbage" => Reply::manner(Manner::Garbage),
        "/cut" => Reply::manner(Manner::CutBody),
        "/close" => Reply::manner(Manner::Close),
        _ => Reply::status(204),
    });
    let post = |address, path: &str, body: &str| {
        let mut connection = http::Connection::open(address);
        connection.send(&http::request("POST", path, &[("Webhook-Id", "1")], body.as_bytes()));
        connection.reply()
    };
    let busy = post(receiver.address, "/busy", "a").unwrap();
    assert_eq!((busy.status, busy.text().as_str()), (503, "later"));
    assert_eq!(busy.header("retry-after").as_deref(), Some("2"));
    assert!(post(receiver.address, "/cut", "b").is_none());
    assert!(post(receiver.address, "/close", "c").is_none());
    assert!(post(receiver.address, "/garbage", "d").is_none());
    let mut connection = http::Connection::open(receiver.address);
    for _ in 0..2 {
        connection.send(&http::request("POST", "/", &[], b"again"));
        assert_eq!(connection.reply().unwrap().status, 204);
    }
    let received = receiver.wait_for(6);
    assert_eq!(receiver.bodies(), ["a", "b", "c", "d", "again", "again"]);
    assert_eq!((received[5].seen, received[5].connection), (1, received[4].connection));
    assert_eq!(receiver.connections(), 5);
    assert_eq!(received[0].header("webhook-id").as_deref(), Some("1"));
    assert_eq!(received[0].answered.map(|(status, _)| status), Some(503));
    assert!(received[1].answered.is_none(), "an answer that was cut is none");

    receiver.close();
    assert!(TcpStream::connect(receiver.address).is_err(), "closed");
    assert!(!connection.send(b"x") || connection.reply().is_none(), "its connections are cut");
    receiver.behave(|_| Reply::status(201).after(Duration::from_millis(30)));
    receiver.open();
    let begun = Instant::now();
    assert_eq!(post(receiver.address, "/", "e").unwrap().status, 201);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(receiver.wait_for_body("/", "e").len(), 3);
}

#[test]
fn a_receiver_that_hangs_dribbles_or_never_ends_is_left_by_its_client() {
    let receiver = Receiver::with(|request| {
        Reply::manner(match request.target.as_str() {
            "/hang" => Manner::Hang,
            "/head" => Manner::DribbleHead(20),
            "/endless" => Manner::EndlessBody,
            _ => Manner::DribbleBody(20),
        })
    });
    for (path, least) in [("/hang", 0), ("/head", 2), ("/body", 50), ("/endless", 100_000)] {
        let mut socket = TcpStream::connect(receiver.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.write_all(&http::request("POST", path, &[], b"x")).unwrap();
        let (mut seen, mut bytes) = (0, [0; 4096]);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            seen += socket.read(&mut bytes).unwrap_or(0);
        }
        let most = if path == "/endless" { usize::MAX } else { 1_000 };
        assert!((least..most).contains(&seen), "{path}: {seen} bytes");
    }
}

#[test]
fn a_receiver_speaks_tls() {
    let authority = crate::encrypted::Authority::new();
    let receiver = Receiver::with_tls(authority.server(&["localhost"]), |_| Reply::status(200));
    let client = authority.client(&["http/1.1"]);
    let mut stream = crate::encrypted::connect(&client, receiver.address, "localhost").unwrap();
    let reply = crate::encrypted::exchange(&mut stream, "GET", "/secure", &[]);
    assert_eq!(reply.status, 200);
    assert_eq!(receiver.wait_for(1)[0].target, "/secure");
    assert!(receiver.url("/x").starts_with("https://127.0.0.1:"));
}
