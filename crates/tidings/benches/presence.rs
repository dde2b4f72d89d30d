//! Ten thousand clients that join and leave while a hundred watch who is there: what a publisher
//! notices, what is written to the disk for it, and what memory is left behind. Prints figures.
//!
//! `CLIENTS`, `WATCHERS`, `RATE` (joins and leaves a second) and `ROUNDS` in the environment
//! change it.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

mod beside;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use beside::{Running, connect, from_environment, token};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Bytes that the hub sent to the disk.
const WRITTEN: &str = "write_bytes:";
/// What an announcement of a beginning or an end holds, in protocol 0.x.
const ANNOUNCED: &[u8] = br#""active":"#;

fn main() {
    beside::run_clients(run());
}

/// What the joining and leaving alone costs, then with everybody told of it.
async fn run() {
    for subscriptions in [false, true] {
        measure(subscriptions).await;
    }
}

async fn measure(subscriptions: bool) {
    let clients = from_environment("CLIENTS", 10_000);
    let watchers = from_environment("WATCHERS", 100);
    let rate = from_environment("RATE", 500);
    println!("subscriptions = {subscriptions}, {clients} clients, {watchers} watchers");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on this disk");
    let hub =
        Running::start(folder.path(), &format!("[mercure]\nsubscriptions = {subscriptions}\n"));
    hub.wait().await;
    let heard = Arc::new(AtomicUsize::new(0));
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let stream = watch(&hub).await;
        let heard = Arc::clone(&heard);
        watching.spawn(async move { listen(stream, &heard).await });
    }
    // Everybody has heard of everybody.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cold, written) = (hub.resident(), hub.counted(WRITTEN));
    drop(join(&hub, clients, usize::MAX).await);
    tokio::time::sleep(SETTLED).await;
    // What stays from the first time is not paid again: growth shows from here on.
    let start = hub.resident();
    println!(
        "  all at once, and all leave: {} bytes written, watchers heard {:.0} announcements each, \
         memory {cold} KiB before, {start} KiB after",
        hub.counted(WRITTEN) - written,
        heard.load(Ordering::Relaxed) as f64 / watchers as f64
    );
    let mut ratios = Vec::new();
    for _ in 0..from_environment("ROUNDS", 3) {
        let publisher = hub.publisher();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let calm = publisher.end();
        let publisher = hub.publisher();
        let streams = join(&hub, clients, rate).await;
        let full = hub.resident();
        leave(streams, rate).await;
        let busy = publisher.end();
        tokio::time::sleep(SETTLED).await;
        let ratio = busy.as_secs_f64() / calm.as_secs_f64();
        ratios.push(ratio);
        println!(
            "  {rate} joins, then leaves a second: publish p99 {:.2} ms, calm {:.2} ms, \
             {ratio:.1} x; memory {start} KiB at the start, {full} KiB with all, {} KiB after",
            busy.as_secs_f64() * 1e3,
            calm.as_secs_f64() * 1e3,
            hub.resident(),
        );
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    while watching.try_join_next().is_some() {}
    assert_eq!(watching.len(), watchers, "a watcher's stream ended");
    println!("  median {median:.1} x");
}

/// Time after which what was there is forgotten.
const SETTLED: Duration = Duration::from_secs(15);
/// Clients that connect at the same time at most.
const AT_ONCE: usize = 20;

/// The time at which something is due when `rate` of them are due each second.
fn due(begun: Instant, number: usize, rate: usize) -> tokio::time::Instant {
    (begun + Duration::from_secs_f64(number as f64 / rate as f64)).into()
}

/// All clients join, so many a second as far as this machine lets them.
async fn join(hub: &Running, clients: usize, rate: usize) -> Vec<TcpStream> {
    let begun = Instant::now();
    let mut joining = JoinSet::new();
    for part in 0..AT_ONCE {
        let address = hub.address;
        joining.spawn(async move {
            let mut streams = Vec::new();
            let mut buffer = [0; 200];
            for number in (part..clients).step_by(AT_ONCE) {
                tokio::time::sleep_until(due(begun, number, rate)).await;
                let mut stream = connect(address, number, &request(number)).await;
                stream.read_exact(&mut buffer).await.expect("the head");
                streams.push(stream);
            }
            streams
        });
    }
    let streams = joining.join_all().await.into_iter().flatten().collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    streams
}

/// All clients leave, so many a second.
async fn leave(streams: Vec<TcpStream>, rate: usize) {
    let begun = Instant::now();
    for (number, stream) in streams.into_iter().enumerate() {
        tokio::time::sleep_until(due(begun, number, rate)).await;
        drop(stream);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// What a client asks for that others see.
fn request(number: usize) -> String {
    let topic = format!("https%3A%2F%2Fexample.com%2Fusers%2F{number}");
    format!("GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Hears of everybody.
async fn watch(hub: &Running) -> TcpStream {
    let topic = "/.well-known/mercure/subscriptions%7B/topic%7D%7B/subscriber%7D";
    let request = format!(
        "GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {}\r\n\r\n",
        token(&json!({ "subscribe": ["*"] }))
    );
    connect(hub.address, 0, &request).await
}

/// Counts what is announced until the stream ends.
async fn listen(mut stream: TcpStream, heard: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length) = stream.read(&mut buffer).await
        && length > 0
    {
        let bytes = buffer.get(..length).unwrap_or_default();
        let count = bytes.windows(ANNOUNCED.len()).filter(|part| *part == ANNOUNCED).count();
        heard.fetch_add(count, Ordering::Relaxed);
    }
}
