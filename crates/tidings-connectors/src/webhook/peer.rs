//! An endpoint for tests: what it does with a connection is a closure. Knows no client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Listens until it is dropped.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Peer {
    /// On a free port; `serve` gets each connection and its number from 0.
    pub(super) async fn new<F, W>(serve: F) -> Peer
    where
        F: Fn(TcpStream, usize) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Peer::at("127.0.0.1:0".parse().unwrap(), serve).await
    }

    pub(super) async fn at<F, W>(address: SocketAddr, serve: F) -> Peer
    where
        F: Fn(TcpStream, usize) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut accepting = JoinSet::new();
        let count = Arc::clone(&accepted);
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.spawn(serve(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Peer { address, accepted, _accepting: accepting }
    }

    /// Answers each request with these bytes and keeps the connection.
    pub(super) async fn answering(bytes: &'static str) -> Peer {
        Peer::new(move |mut stream, _| async move {
            while request(&mut stream).await.is_some() {
                stream.write_all(bytes.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    /// Answers the first request with these bytes and closes.
    pub(super) async fn answering_once(bytes: &'static str) -> Peer {
        Peer::new(move |mut stream, _| async move {
            request(&mut stream).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
        })
        .await
    }

    /// How many connections there were.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn url(&self) -> Url {
        format!("http://{}/hook", self.address).parse().unwrap()
    }
}

/// The next request as it came, with its body. `None` when the other end has closed.
pub(super) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut all = Vec::new();
    loop {
        if let Some(head) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&all).into_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            if all.len() >= head + 4 + length.unwrap().parse::<usize>().unwrap() {
                return Some(text);
            }
        }
        if stream.read_buf(&mut all).await.ok()? == 0 {
            return None;
        }
    }
}
