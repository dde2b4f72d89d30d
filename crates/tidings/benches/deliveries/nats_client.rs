//! As little of a NATS client as carries messages: one that publishes, one that counts what comes
//! back. Its own protocol code, so that the hub's is not measured by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::hub::free_address;

/// Messages in one write.
pub(crate) const AT_ONCE: usize = 64;
/// How long nothing may come before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// `nats-server` on a port of its own; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Server {
        let address = free_address();
        // Where the package puts it is not on everybody's path.
        let known = "/usr/sbin/nats-server";
        let program = if std::path::Path::new(known).exists() { known } else { "nats-server" };
        let child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server, of the Debian package nats-server");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nats-server never listened");
            std::thread::sleep(Duration::from_millis(5));
        }
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Publishes on one subject and counts what comes on another.
pub(crate) struct Client {
    out: TcpStream,
    came: Arc<AtomicUsize>,
    /// Only to end the thread that counts.
    counting: TcpStream,
    counter: Option<JoinHandle<()>>,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr, counted: &str) -> Client {
        let (out, counting) = (open(server, ""), open(server, &format!("SUB {counted} 1\r\n")));
        let reading = counting.try_clone().expect("a socket");
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        let counter = Some(std::thread::spawn(move || read(&reading, &count)));
        Client { out, came, counting, counter }
    }

    /// Waits until what is published on `subject` comes through.
    pub(crate) fn wait(&mut self, subject: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.came.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "nothing comes through");
            self.write(&message(subject, 1));
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
    }

    /// Publishes `count` messages, a multiple of [`AT_ONCE`], with at most `window` of them on
    /// their way: how long until the last has come.
    pub(crate) fn carry(
        &mut self,
        subject: &str,
        count: usize,
        bytes: usize,
        window: usize,
    ) -> Duration {
        let before = self.came.load(Ordering::Relaxed);
        let came = Arc::clone(&self.came);
        let came = move || came.load(Ordering::Relaxed) - before;
        let piece = message(subject, bytes).repeat(AT_ONCE);
        let begin = Instant::now();
        let (mut sent, mut last, mut changed) = (0, 0, begin);
        while came() < count {
            if sent < count && sent + AT_ONCE <= came() + window {
                self.write(&piece);
                sent += AT_ONCE;
                continue;
            }
            std::thread::sleep(Duration::from_micros(100));
            if came() > last {
                (last, changed) = (came(), Instant::now());
            }
            assert!(changed.elapsed() < PATIENCE, "only {} of {sent} came", came());
        }
        let took = begin.elapsed();
        assert_eq!(came(), count, "more came than were sent");
        took
    }

    fn write(&mut self, bytes: &[u8]) {
        self.out.write_all(bytes).expect("nats-server takes it");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.counting.shutdown(std::net::Shutdown::Both);
        let _ended = self.counter.take().map(JoinHandle::join);
    }
}

fn message(subject: &str, bytes: usize) -> Vec<u8> {
    format!("PUB {subject} {bytes}\r\n{}\r\n", "x".repeat(bytes)).into_bytes()
}

/// A connection on which the server has taken `request`.
fn open(server: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("connected");
    let login = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":false}\r\n";
    stream.write_all(format!("{login}{request}PING\r\n").as_bytes()).expect("sent");
    let mut byte = [0];
    let mut line = Vec::new();
    while !line.ends_with(b"PONG\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        line.extend_from_slice(&byte);
    }
    stream
}

/// Counts messages until the connection ends.
fn read(mut stream: &TcpStream, came: &AtomicUsize) {
    let copy = stream.try_clone().expect("a socket");
    let mut reader = BufReader::with_capacity(256 * 1024, copy);
    let mut line = Vec::new();
    loop {
        line.clear();
        if !reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            return;
        }
        if line.starts_with(b"PING") {
            let _gone = stream.write_all(b"PONG\r\n");
        }
        if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
            let size = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next();
            let size = size.and_then(|text| std::str::from_utf8(text).ok());
            let size: usize = size.and_then(|text| text.parse().ok()).expect("a size");
            if !skip(&mut reader, size + 2) {
                return;
            }
            came.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn skip(reader: &mut impl BufRead, mut bytes: usize) -> bool {
    while bytes > 0 {
        let there = reader.fill_buf().map_or(0, <[u8]>::len).min(bytes);
        if there == 0 {
            return false;
        }
        reader.consume(there);
        bytes -= there;
    }
    true
}
