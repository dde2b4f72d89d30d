//! A hub as a process of its own, with clients from many addresses and a publisher beside it: what
//! benchmarks of storms have in common.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of data of each update.
pub(crate) const PAYLOAD: usize = 256;
const SECRET: &str = "a secret that is only used by this benchmark";
const CONNECTIONS_PER_ADDRESS: usize = 250;

/// A number from the environment.
pub(crate) fn from_environment(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Runs clients on threads that give way to everybody else: in the world they run elsewhere.
pub(crate) fn run_clients(run: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            let _priority = rustix::process::setpriority_process(None, 19);
        })
        .build()
        .expect("a runtime");
    let on_runtime = runtime.spawn(run);
    runtime.block_on(on_runtime).expect("it ran to the end");
}

/// A token of 0.x.
pub(crate) fn token(claim: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({ "mercure": claim });
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    token.expect("a token")
}

/// The program.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// With its history in `folder/data`; `more` is configuration.
    pub(crate) fn start(folder: &Path, more: &str) -> Running {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a free port");
        let configuration = format!(
            "listen = \"{address}\"\npublic_url = \"http://{address}\"\n\
             [history]\npath = {:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [http]\nconnections_max = 19000\nconnections_per_address_max = 19000\n\
             [auth]\nanonymous = true\n[[auth.issuer]]\nid = \"bench\"\naccept = [\"0.x\"]\n\
             publish = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n\
             subscribe = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n\
             [log]\nlevel = \"warn\"\n{more}",
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
        Running { child, address }
    }

    /// Until it answers.
    pub(crate) async fn wait(&self) {
        while head(self.address).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn proc(&self, file: &str, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let text = text.expect("the hub runs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.proc("status", "VmRSS:")
    }

    /// What `/proc/PID/io` counts under this name, in bytes.
    pub(crate) fn counted(&self, field: &str) -> u64 {
        self.proc("io", field)
    }

    /// Publishes one after the other, 200 a second, on a thread of its own until told to stop.
    pub(crate) fn publisher(&self) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, told) = (self.address, Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let _priority = rustix::process::setpriority_process(None, 0);
            publish(address, &token(&json!({ "publish": ["*"] })), &told)
        });
        Publisher { thread, stop }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A publisher beside everything else.
pub(crate) struct Publisher {
    thread: std::thread::JoinHandle<Vec<Duration>>,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    /// Stops it; the p99 of the time to the answer.
    pub(crate) fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().expect("published");
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// A client of its own address sends `request`: many, as in the world.
pub(crate) async fn connect(address: SocketAddr, number: usize, request: &str) -> TcpStream {
    let part = u8::try_from(number / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, part.max(1))), 0);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(source).expect("bound");
    let mut stream = socket.connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
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
