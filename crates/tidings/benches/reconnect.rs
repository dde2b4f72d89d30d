//! Ten thousand clients that come back at once, each a thousand entries behind in a history of one
//! GiB: how long until all are live, what it costs the hub, and what a publisher notices. Also how
//! soon a hub with that history answers, and what an idle connection weighs. Prints figures.
//!
//! `CLIENTS` and `BYTES` in the environment make it smaller.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

mod beside;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use beside::{PAYLOAD, Publisher, Running, connect, from_environment};
use tidings_core::{
    Clock, Durability, Grant, HistoryOptions, Hub, HubOptions, Keep, Namespace, Topic, Update,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const BEHIND: usize = 1_000;
/// Bytes that the hub read from files; reads from sockets are not counted there.
const READ: &str = "rchar:";

struct Now(Instant);

impl Clock for Now {
    fn wall(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap_or(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn main() {
    beside::run_clients(run());
}

async fn run() {
    let clients = from_environment("CLIENTS", 10_000);
    let bytes = from_environment("BYTES", 1 << 30);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on this disk");
    let data = folder.path().join("data");
    let begin = Instant::now();
    let cursor = fill(&data, bytes).await;
    println!("filled {} MiB in {:.1} s", bytes >> 20, begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    let hub = Running::start(folder.path(), "");
    hub.wait().await;
    let first = begin.elapsed().as_millis();
    println!("start: first request answered after {first} ms");

    let before = hub.resident();
    let idle = idle_clients(hub.address, clients).await;
    let per_client = (hub.resident().saturating_sub(before)) as f64 / clients as f64;
    println!("idle: {per_client:.1} KiB for each of {clients} connections");
    drop(idle);
    tokio::time::sleep(Duration::from_secs(2)).await;

    let publisher = hub.publisher();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let calm = publisher.end();
    let (before, read_before) = (hub.resident(), hub.counted(READ));
    let storm = Storm::begin(&hub, clients, &cursor);
    let (live, busy, peak) = storm.end(&hub).await;
    let range = (BEHIND * (PAYLOAD + 136)) as f64;
    println!(
        "reconnect: {clients} clients, each {BEHIND} behind: all live after {:.1} s; memory \
         {} -> {} MiB (+{}); read {:.1} MiB = {:.1} x the range of each client together, {:.1} x \
         the range once; publish p99 {:.1} ms idle, {:.1} ms meanwhile ({:.1} x)",
        live.as_secs_f64(),
        before >> 10,
        peak >> 10,
        peak.saturating_sub(before) >> 10,
        (hub.counted(READ) - read_before) as f64 / 1_048_576.0,
        (hub.counted(READ) - read_before) as f64 / (range * clients as f64),
        (hub.counted(READ) - read_before) as f64 / range,
        calm.as_secs_f64() * 1e3,
        busy.as_secs_f64() * 1e3,
        busy.as_secs_f64() / calm.as_secs_f64(),
    );
}

/// Fills a history; answers the cursor of the entry that is `BEHIND` from the end.
async fn fill(data: &Path, bytes: usize) -> String {
    let url = "http://127.0.0.1/.well-known/mercure".parse().expect("a URL");
    let history = HistoryOptions {
        hold_bytes: 0,
        path: Some(data.to_owned()),
        durability: Durability::Written,
        keep: Keep::default(),
        segment_bytes: 64 << 20,
    };
    let options = HubOptions { namespace: Namespace::new(url), update_bytes_max: 1 << 20, history };
    let hub = Hub::open(options, Arc::new(Now(Instant::now()))).expect("it opens");
    let count = bytes / (PAYLOAD + 136);
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let hub = hub.clone();
        tasks.spawn(async move {
            for number in 0..(count - BEHIND) / 64 {
                let topic = format!("https://example.com/books/{}", number % 1_000);
                let update = Update::new(Topic::parse(&topic).expect("ok"), vec![b'x'; PAYLOAD]);
                hub.publish(&Grant::operator(), update).await.expect("published");
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let mut cursor = String::new();
    for number in 0..=BEHIND {
        let topic = Topic::parse(&format!("https://example.com/last/{number}")).expect("ok");
        let update = Update::new(topic, vec![b'x'; PAYLOAD]);
        let receipt = hub.publish(&Grant::operator(), update).await.expect("published");
        if number == 0 {
            cursor = receipt.cursor.to_string();
        }
    }
    hub.shut_down();
    cursor
}

/// What a client asks for that has this cursor, or none.
fn request(cursor: &str) -> String {
    let cursor = match cursor {
        "" => String::new(),
        cursor => format!("Last-Event-ID: {cursor}\r\n"),
    };
    // What they missed, and not what the publisher beside them goes on to publish: that would
    // measure ten thousand live deliveries for each of its updates.
    let topics = "https%3A%2F%2Fexample.com%2Flast%2F%7Bnumber%7D";
    format!("GET /.well-known/mercure?topic={topics} HTTP/1.1\r\nHost: x\r\n{cursor}\r\n")
}

async fn idle_clients(address: SocketAddr, clients: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    let mut buffer = [0; 4096];
    for number in 0..clients {
        let mut stream = connect(address, number, &request("")).await;
        stream.read_exact(&mut buffer[..200]).await.expect("the head");
        streams.push(stream);
    }
    streams
}

/// The reconnecting clients and a publisher beside them.
struct Storm {
    begin: Instant,
    clients: usize,
    live: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
    publisher: Publisher,
}

impl Storm {
    fn begin(hub: &Running, clients: usize, cursor: &str) -> Storm {
        let publisher = hub.publisher();
        let live = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for number in 0..clients {
            let (address, cursor) = (hub.address, cursor.to_owned());
            let live = Arc::clone(&live);
            tasks.spawn(async move {
                let stream = connect(address, number, &request(&cursor)).await;
                read_behind(stream, &live).await;
            });
        }
        Storm { begin, clients, live, tasks, publisher }
    }

    /// Waits until all are live: how long it took, the publisher's p99, the peak of memory in KiB.
    async fn end(mut self, hub: &Running) -> (Duration, Duration, u64) {
        let mut peak = 0;
        while self.live.load(Ordering::Relaxed) < self.clients {
            peak = peak.max(hub.resident());
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(self.begin.elapsed() < Duration::from_secs(300), "they never became live");
        }
        let took = self.begin.elapsed();
        let busy = self.publisher.end();
        self.tasks.abort_all();
        (took, busy, peak)
    }
}

/// Reads what was missed, says so, and goes on reading.
async fn read_behind(mut stream: TcpStream, live: &AtomicUsize) {
    let mut buffer = vec![0; 16 * 1024];
    let (mut events, mut last) = (0, 0);
    loop {
        let length = stream.read(&mut buffer).await.expect("read");
        assert!(length > 0, "the hub closed a stream after {events} events");
        for byte in buffer.iter().take(length) {
            // An event ends with an empty line.
            if *byte == b'\n' && last == b'\n' {
                events += 1;
            }
            if *byte != b'\r' {
                last = *byte;
            }
        }
        if events > BEHIND {
            live.fetch_add(1, Ordering::Relaxed);
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
            return;
        }
    }
}
