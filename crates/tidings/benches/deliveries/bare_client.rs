//! The role of the floor: a client of hyper that signs and sends, and does nothing else. No
//! history, no order, no retries, no record of what was answered.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Arguments;
use crate::endpoint::this_program;
use crate::hub::command;
use crate::publisher::now;
use crate::webhooks::KEY;

/// What all connections share.
struct Work {
    address: SocketAddr,
    key: hmac::Key,
    body: Bytes,
    count: usize,
    next: AtomicUsize,
}

/// Starts it in a process of its own and waits for its end: what it had of the cores.
pub(crate) fn send(address: &str, cpu: Option<u8>, with: &[String]) -> Duration {
    let mut command = command(&this_program(), cpu);
    command.args(["bare-client", &format!("address={address}")]).args(with);
    let output = command.stderr(Stdio::inherit()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    Duration::from_nanos(text.trim().parse().expect("what it cost"))
}

/// Sends all, and prints what it had of the cores in nanoseconds.
pub(crate) fn run(arguments: &Arguments) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    match arguments.get("threads", 0) {
        0 => &mut builder,
        threads => builder.worker_threads(threads),
    };
    let work = Arc::new(Work {
        address: arguments.get("address", SocketAddr::from(([127, 0, 0, 1], 0))),
        key: hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY).expect("base64")),
        body: vec![b'x'; arguments.get("bytes", 1_024)].into(),
        count: arguments.get("entries", 1),
        next: AtomicUsize::new(0),
    });
    let connections = arguments.get("concurrency", 32);
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(connection(Arc::clone(&work)));
        }
        tasks.join_all().await;
    });
    let cost = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    println!("{}", Duration::from(cost).as_nanos());
}

async fn connection(work: Arc<Work>) {
    let stream = TcpStream::connect(work.address).await.expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.count {
            return;
        }
        sender.ready().await.expect("a connection that stays");
        let answer = sender.send_request(request(&work, number)).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.expect("all of it");
    }
}

/// The same headers as the hub sends, of the same length.
fn request(work: &Work, number: usize) -> Request<Full<Bytes>> {
    let id = format!("tidings:bench:{number:024}");
    let seconds = now() / 1_000_000_000;
    let mut hash = hmac::Context::with_key(&work.key);
    hash.update(format!("{id}.{seconds}.").as_bytes());
    hash.update(&work.body);
    let signature = format!("v1,{}", STANDARD.encode(hash.sign()));
    Request::builder()
        .method(Method::POST)
        .uri("/good")
        .header("host", work.address.to_string())
        .header("accept", "*/*")
        .header("user-agent", concat!("tidings/", env!("CARGO_PKG_VERSION")))
        .header("content-type", "application/octet-stream")
        .header("tidings-topic", format!("bench.{}", number % 1_000))
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(Full::new(work.body.clone()))
        .expect("a request")
}
