//! Ten thousand clients that join and leave while a hundred watch who is there: what a publisher
//! notices, what is written to the disk for it, and what memory is left behind. Prints figures.
//!
//! `CLIENTS`, `WATCHERS`, `RATE` (joins and leaves a second) and `ROUNDS` in the environment change it.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const PAYLOAD: usize = 256;
const SECRET: &str = "a secret that is only used by this benchmark";
const CONNECTIONS_PER_ADDRESS: usize = 250;
/// What an announcement of a beginning or an end holds, in protocol 0.x.
const ANNOUNCED: &[u8] = br#""active":"#;

fn from_environment(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// The clients' threads give way to everybody else: in the world they run on other machines.
fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            let _priority = rustix::process::setpriority_process(None, 19);
        })
        .build()
        .expect("a runtime");
    let on_runtime = runtime.spawn(run());
    runtime.block_on(on_runtime).expect("it ran to the end");
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
    let hub = Running::start(folder.path(), subscriptions);
    hub.wait().await;
    let heard = Arc::new(AtomicUsize::new(0));
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let stream = hub.watch().await;
        let heard = Arc::clone(&heard);
        watching.spawn(async move { listen(stream, &heard).await });
    }
    // Everybody has heard of everybody.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (start, written) = (hub.resident(), hub.written());
    drop(join(&hub, clients, usize::MAX).await);
    tokio::time::sleep(SETTLED).await;
    println!(
        "  all at once, and all leave: {} bytes written, watchers heard {:.0} announcements each",
        hub.written() - written,
        heard.load(Ordering::Relaxed) as f64 / watchers as f64
    );
    let mut ratios = Vec::new();
    for _ in 0..from_environment("ROUNDS", 3) {
        let publisher = hub.publisher();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (calm, _) = publisher.end();
        let publisher = hub.publisher();
        let streams = join(&hub, clients, rate).await;
        let full = hub.resident();
        leave(streams, rate).await;
        let (busy, updates) = publisher.end();
        tokio::time::sleep(SETTLED).await;
        let ratio = busy.as_secs_f64() / calm.as_secs_f64();
        ratios.push(ratio);
        println!(
            "  {rate} joins, then leaves a second: publish p99 {:.2} ms, calm {:.2} ms, {ratio:.1} x \
             ({updates} updates); memory {start} KiB at the start, {full} KiB with all, {} KiB after",
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
                let mut stream = connect(address, number).await;
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

async fn connect(address: SocketAddr, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(source(number)).expect("bound");
    let mut stream = socket.connect(address).await.expect("connected");
    let topic = format!("https%3A%2F%2Fexample.com%2Fusers%2F{number}");
    let request = format!("GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
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

/// The program.
struct Running {
    child: Child,
    address: SocketAddr,
    token: String,
    watcher: String,
}

fn token(claim: &serde_json::Value) -> String {
    let claims = serde_json::json!({ "mercure": claim });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    token.expect("a token")
}

impl Running {
    fn start(folder: &Path, subscriptions: bool) -> Running {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a free port");
        let configuration = format!(
            "listen = \"{address}\"\npublic_url = \"http://{address}\"\n\
             [history]\npath = {:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [http]\nconnections_max = 19000\nconnections_per_address_max = 19000\n\
             [mercure]\nsubscriptions = {subscriptions}\n\
             [auth]\nanonymous = true\n[[auth.issuer]]\nid = \"bench\"\naccept = [\"0.x\"]\n\
             publish = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n\
             subscribe = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n\
             [log]\nlevel = \"warn\"\n",
            folder.join("data")
        );
        let file = folder.join("tidings.toml");
        std::fs::write(&file, configuration).expect("written");
        let child = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["serve", "--config"])
            .arg(&file)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the hub starts");
        let publish = token(&serde_json::json!({ "publish": ["*"] }));
        let watcher = token(&serde_json::json!({ "subscribe": ["*"] }));
        Running { child, address, token: publish, watcher }
    }

    async fn wait(&self) {
        while head(self.address).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn watch(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let topic = "/.well-known/mercure/subscriptions%7B/topic%7D%7B/subscriber%7D";
        let request = format!(
            "GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {}\r\n\r\n",
            self.watcher
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    fn proc(&self, file: &str, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let text = text.expect("the hub runs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }

    /// Resident memory in KiB.
    fn resident(&self) -> u64 {
        self.proc("status", "VmRSS:")
    }

    /// Bytes that the hub sent to the disk.
    fn written(&self) -> u64 {
        self.proc("io", "write_bytes:")
    }

    /// Publishes one after the other, 200 a second, on a thread of its own until told to stop.
    fn publisher(&self) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, token, told) = (self.address, self.token.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let _priority = rustix::process::setpriority_process(None, 0);
            publish(address, &token, &told)
        });
        Publisher { thread, stop }
    }
}

/// A publisher beside everything else.
struct Publisher {
    thread: std::thread::JoinHandle<Vec<Duration>>,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    /// Stops it; the p99 of the time to the answer, and how many there were.
    fn end(self) -> (Duration, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().expect("published");
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
        (p99, times.len())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

async fn head(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = "HEAD /.well-known/mercure?topic=a HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.ok()?;
    answer.ends_with(b"200").then_some(())
}

fn publish(address: SocketAddr, token: &str, stop: &AtomicBool) -> Vec<Duration> {
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    let body = format!("topic=https%3A%2F%2Fexample.com%2Flive&data={}", "x".repeat(PAYLOAD));
    let request = format!(
        "POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut times = Vec::new();
    let mut answer = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).expect("sent");
        let length = stream.read(&mut answer).expect("answered");
        assert!(answer.get(..length).is_some_and(|answer| answer.starts_with(b"HTTP/1.1 200")));
        times.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    times
}

/// A client's address: many, as in the world.
fn source(number: usize) -> SocketAddr {
    let part = u8::try_from(number / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, part.max(1))), 0)
}
