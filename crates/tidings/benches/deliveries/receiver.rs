//! The role of the endpoints: an HTTP/1.1 server with connections that stay open, in a process of
//! its own, as cheap as it can be. What a path answers: `/good` 200, `/fail` 500, `/hang` nothing,
//! `/dribble` a byte a second, `/endless` a body without an end. Told by lines on standard input.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::figures::quantile;
use crate::publisher::now;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
const LONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
/// Bytes of a piece of a body without an end.
const PIECE: usize = 16 * 1024;
const SECOND: u64 = 1_000_000_000;

/// What has come to good endpoints, and how long bad ones were put up with. Nanoseconds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) count: usize,
    /// Arrivals since 1970.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The most that arrived in any second.
    pub(crate) busiest: usize,
    /// From the publisher's request to here: p50, p99, p99.9.
    pub(crate) delays: [u64; 3],
    /// Exchanges with bad endpoints that the other side ended.
    pub(crate) ended: usize,
    /// The longest of them.
    pub(crate) longest: u64,
}

impl Report {
    /// From the first to the last arrival.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_nanos(self.last.saturating_sub(self.first))
    }
}

#[derive(Default)]
struct Seen {
    arrivals: Vec<u64>,
    delays: Vec<u64>,
    ended: usize,
    longest: u64,
}

impl Seen {
    fn report(&self) -> Report {
        let (mut arrivals, mut delays) = (self.arrivals.clone(), self.delays.clone());
        arrivals.sort_unstable();
        delays.sort_unstable();
        let mut begin = arrivals.iter().zip(0..).peekable();
        let mut busiest = 0;
        for (end, at) in (1..).zip(&arrivals) {
            while begin.next_if(|(first, _)| **first + SECOND <= *at).is_some() {}
            busiest = busiest.max(end - begin.peek().map_or(end, |(_, place)| *place));
        }
        Report {
            count: arrivals.len(),
            first: arrivals.first().copied().unwrap_or_default(),
            last: arrivals.last().copied().unwrap_or_default(),
            busiest,
            delays: [500, 990, 999].map(|part| quantile(&delays, part)),
            ended: self.ended,
            longest: self.longest,
        }
    }
}

type Shared = Arc<Mutex<Seen>>;

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until standard input ends. Prints its address first.
pub(crate) fn run() {
    let limit = getrlimit(Resource::Nofile);
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Shared::default();
        let told = Arc::clone(&seen);
        std::thread::spawn(move || obey(address, &told));
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            connections.spawn(serve(stream, Arc::clone(&seen)));
            while connections.try_join_next().is_some() {}
        }
    });
}

fn obey(address: SocketAddr, seen: &Shared) {
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").and_then(|()| out.flush());
    let mut told = say(address.to_string());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        told = told.and_then(|()| match line.as_str() {
            "count" => say(lock(seen).arrivals.len().to_string()),
            "report" => say(serde_json::to_string(&lock(seen).report()).unwrap_or_default()),
            _ => {
                *lock(seen) = Seen::default();
                say(String::new())
            }
        });
    }
    std::process::exit(i32::from(told.is_err()));
}

async fn serve(mut stream: TcpStream, seen: Shared) {
    let _direct = stream.set_nodelay(true);
    let mut bytes = Vec::with_capacity(PIECE);
    while let Some((head, whole)) = request(&mut stream, &mut bytes).await {
        let came = Instant::now();
        let sent = match kind(bytes.get(..head).unwrap_or_default()) {
            b'g' => {
                note(&seen, bytes.get(head..whole).unwrap_or_default());
                stream.write_all(GOOD).await
            }
            b'f' => stream.write_all(FAILED).await,
            kind => {
                torment(&mut stream, kind).await;
                let mut seen = lock(&seen);
                seen.ended += 1;
                let lasted = u64::try_from(came.elapsed().as_nanos()).unwrap_or(u64::MAX);
                seen.longest = seen.longest.max(lasted);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
        bytes.drain(..whole);
    }
}

/// Reads until a request is whole: where its head ends, and where its body. `None` at the end.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(usize, usize)> {
    loop {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(head) = end.map(|end| end + 4) {
            let whole = head + length(bytes.get(..head)?);
            while bytes.len() < whole {
                stream.read_buf(bytes).await.ok().filter(|read| *read > 0)?;
            }
            return Some((head, whole));
        }
        stream.read_buf(bytes).await.ok().filter(|read| *read > 0)?;
    }
}

/// What a head says of its body's length.
fn length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|byte| *byte == b'\n');
    let values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
    texts.filter_map(|text| text.trim().parse().ok()).next().unwrap_or(0)
}

/// The first letter of the path in `POST /path HTTP/1.1`.
fn kind(head: &[u8]) -> u8 {
    let path = head.iter().position(|byte| *byte == b'/');
    path.and_then(|slash| head.get(slash + 1)).copied().unwrap_or(b'g')
}

fn note(seen: &Shared, body: &[u8]) {
    let at = now();
    let digits = body.split(|byte| *byte == b'.').next().unwrap_or_default();
    let sent: Option<u64> = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    let mut seen = lock(seen);
    seen.arrivals.push(at);
    seen.delays.extend(sent.map(|sent| at.saturating_sub(sent)));
}

/// Answers badly until the other side has had enough.
async fn torment(stream: &mut TcpStream, kind: u8) {
    let (mut reading, mut writing) = stream.split();
    let mut rest = [0; 64];
    let answer = async {
        let piece = match kind {
            b'd' => vec![b'x'; 1],
            b'e' => vec![b'x'; PIECE],
            _ => return std::future::pending().await,
        };
        let mut sent = writing.write_all(LONG).await;
        while sent.is_ok() {
            if kind == b'd' {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            sent = writing.write_all(&piece).await;
        }
    };
    tokio::select! {
        () = answer => {}
        _ = reading.read(&mut rest) => {}
    }
}
