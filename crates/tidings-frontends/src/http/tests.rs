//! The accept loop over real sockets, with a frontend that does what its path says.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

struct Obedient;

impl Frontend for Obedient {
    fn claims(&self, path: &str) -> bool {
        path != "/nobody"
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            let path = request.head.uri.path().to_owned();
            let response = match path.as_str() {
                "/panic" => panic!("as told"),
                "/flood" => {
                    let piece = Bytes::from(vec![0; 64 * 1024]);
                    let frames = futures_util::stream::repeat(piece).map(frame);
                    Response::new(boxed(StreamBody::new(frames)))
                }
                "/stream" => {
                    let ending = ended(request.closing);
                    let first = futures_util::stream::iter([Bytes::from_static(b"first")]);
                    let last = futures_util::FutureExt::into_stream(Box::pin(ending))
                        .map(|retry| Bytes::from(format!("last {}", retry.as_millis())));
                    let frames = first.chain(last).map(frame);
                    Response::new(boxed(StreamBody::new(frames)))
                }
                _ => Response::new(full(request.client.to_string())),
            };
            response.map(Content::Body)
        })
    }
}

/// Waits for the moment of a stream to end, and for how long its client is to wait then.
async fn ended(closing: Closing) -> Duration {
    let open = closing.open();
    let (after, pause) = std::future::poll_fn(|context| match open.moment() {
        Some(moment) => Poll::Ready(moment),
        None => {
            closing.watch(context.waker().clone());
            Poll::Pending
        }
    })
    .await;
    tokio::time::sleep(after).await;
    pause
}

fn frame(piece: Bytes) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(piece))
}

struct Running {
    server: Arc<Server>,
    shutdown: Shutdown,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

fn start(options: HttpOptions) -> Running {
    let shutdown = Shutdown::new(Duration::from_millis(100));
    let server = Server::new(vec![Arc::new(Obedient)], options, shutdown.clone());
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let listener = Listener { socket: listener, entrance: Entrance::Plain };
    tasks.spawn(Arc::clone(&server).serve(vec![listener]));
    Running { server, shutdown, address, tasks }
}

async fn connect(running: &Running, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    text
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n")
}

const CLOSE: &str = "connection: close\r\n";

#[tokio::test]
async fn a_panic_is_answered_and_ends_nothing_else() {
    let running = start(HttpOptions::default());
    let both = get("/panic", "") + &get("/next", CLOSE);
    let answers = rest(connect(&running, &both).await).await;
    assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
    assert!(answers.contains("HTTP/1.1 200 "), "{answers}");
    assert_eq!(running.server.counters().panics.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn every_answer_has_a_request_id_of_our_own() {
    let running = start(HttpOptions::default());
    let asked = get("/nobody", "x-request-id: theirs\r\nconnection: close\r\n");
    let answer = rest(connect(&running, &asked).await).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("x-request-id: ") && !answer.contains("theirs"), "{answer}");
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let running = start(HttpOptions::default());
    let asked = "GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = rest(connect(&running, asked).await).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    assert!(answer.contains("about:blank"), "{answer}");
}

#[tokio::test]
async fn a_request_whose_host_or_coding_is_not_clear_is_refused() {
    let running = start(HttpOptions::default());
    let chunked = "0\r\n\r\n";
    for (status, head, body) in [
        (400, "host: a\r\nhost: b\r\n", ""),
        (400, "host: a\r\nhost: a\r\n", ""),
        (400, "host: a b\r\n", ""),
        (400, "host: user@a\r\n", ""),
        (400, "host: a:b\r\n", ""),
        (400, "host: \u{e9}\r\n", ""),
        (200, "host: [::1]:80\r\n", ""),
        (200, "host:\r\n", ""),
        (501, "host: a\r\ntransfer-encoding: gzip, chunked\r\n", chunked),
        (501, "host: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", chunked),
        (200, "host: a\r\ntransfer-encoding: Chunked\r\n", chunked),
    ] {
        let asked = format!("POST / HTTP/1.1\r\n{head}{CLOSE}\r\n{body}");
        let answer = rest(connect(&running, &asked).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    }
}

#[tokio::test]
async fn connections_over_the_limit_of_an_address_are_told() {
    let options = HttpOptions { connections_per_address_max: 1, ..HttpOptions::default() };
    let running = start(options);
    let mut first = connect(&running, &get("/", "")).await;
    let mut byte = [0; 1];
    first.read_exact(&mut byte).await.unwrap();
    let refused = rest(connect(&running, &get("/", "")).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("retry-after: 5\r\n"), "{refused}");
    assert!(refused.ends_with('}'), "{refused}");
    running.server.replace_options(HttpOptions::default());
    let served = rest(connect(&running, &get("/", CLOSE)).await).await;
    assert!(served.starts_with("HTTP/1.1 200 "), "{served}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_its_clients_are_counted() {
    let options = HttpOptions {
        connections_per_address_max: 1,
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..HttpOptions::default()
    };
    let running = start(options);
    let from = |path: &str, client: &str| {
        get(path, &format!("x-forwarded-for: {client}\r\nconnection: close\r\n"))
    };
    let mut stream = connect(&running, &from("/stream", "203.0.113.1")).await;
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).await.unwrap();
    let same = rest(connect(&running, &from("/", "203.0.113.1")).await).await;
    assert!(same.starts_with("HTTP/1.1 429 "), "{same}");
    let other = rest(connect(&running, &from("/", "9.9.9.9, 203.0.113.2")).await).await;
    assert!(other.ends_with("203.0.113.2"), "{other}");
    drop(stream);
    // The place is free as soon as the server has seen the end of the stream.
    loop {
        let again = rest(connect(&running, &from("/", "203.0.113.1")).await).await;
        if again.starts_with("HTTP/1.1 200 ") {
            break;
        }
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let options = HttpOptions { head_timeout: Duration::from_millis(50), ..HttpOptions::default() };
    let running = start(options);
    // The beginning of HTTP/2's preface: the version is still unknown.
    assert_eq!(rest(connect(&running, "PRI * HT").await).await, "");
    assert_eq!(rest(connect(&running, "").await).await, "");
    assert_eq!(running.server.counters().silent.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_client_that_leaves_its_socket_full_is_cut_off_and_a_slow_one_is_not() {
    let options =
        HttpOptions { write_timeout: Duration::from_millis(500), ..HttpOptions::default() };
    let running = start(options);
    let stalled = connect(&running, &get("/flood", "")).await;
    let mut slow = connect(&running, &get("/flood", "")).await;
    // It takes more than the least that is asked of it, and far less than there is.
    let mut taken = vec![0; 8 * 1024 * 1024];
    let begun = tokio::time::Instant::now();
    while running.server.counters().stalled.load(Ordering::Relaxed) == 0
        || begun.elapsed() < Duration::from_secs(2)
    {
        slow.read_exact(&mut taken).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.server.counters().stalled.load(Ordering::Relaxed), 1);
    assert_eq!(running.server.connections_open(), 1);
    drop(stalled);
}

/// A connection of HTTP/2 whose streams have room for little.
async fn http2(running: &Running) -> (hyper::client::conn::http2::SendRequest<Body>, JoinSet<()>) {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let mut builder = hyper::client::conn::http2::Builder::new(executor);
    let (client, connection) =
        builder.initial_stream_window_size(1_024).handshake(io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    (client, tasks)
}

#[tokio::test]
async fn a_stream_without_room_is_reset_and_its_connection_goes_on() {
    let options =
        HttpOptions { write_timeout: Duration::from_millis(300), ..HttpOptions::default() };
    let running = start(options);
    let (mut client, _connection) = http2(&running).await;
    let mut get = async |path: &str| {
        let request = http::Request::get(format!("http://x{path}")).body(empty()).unwrap();
        client.send_request(request).await.unwrap()
    };
    // It waits for its end, not for its client.
    let mut quiet = get("/stream").await.into_body();
    let first = quiet.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first");
    let stalled = get("/flood").await;
    tokio::time::timeout(Duration::from_secs(10), async {
        while running.server.counters().stalled.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let mut body = stalled.into_body();
    let ended = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert_eq!(get("/").await.status(), 200);
    tokio::time::sleep(Duration::from_millis(600)).await;
    running.shutdown.close_streams();
    let last = quiet.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(last.starts_with(b"last "), "{last:?}");
    assert_eq!(running.server.counters().stalled.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn requests_of_one_address_are_counted_over_http2() {
    let options = HttpOptions { connections_per_address_max: 2, ..HttpOptions::default() };
    let running = start(options);
    let (mut client, _connection) = http2(&running).await;
    let mut open = Vec::new();
    for expected in [200, 200, 429] {
        let request = http::Request::get("http://x/stream").body(empty()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), expected);
        open.push(answer);
    }
    drop(open);
    loop {
        let request = http::Request::get("http://x/").body(empty()).unwrap();
        if client.send_request(request).await.unwrap().status() == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let running = start(HttpOptions::default());
    let asked = get("/", &format!("x-long: {}\r\n", "x".repeat(100_000)));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The server may close before everything is written.
    let _ = stream.write_all(asked.as_bytes()).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let answer = rest(connect(&running, &get("/", &many)).await).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_shutdown_closes_listeners_then_streams_and_ends() {
    let Running { shutdown, address, mut tasks, server } = start(HttpOptions::default());
    let running = Running { server, shutdown: shutdown.clone(), address, tasks: JoinSet::new() };
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&running, &get("/stream", "")).await;
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await.unwrap();
        streams.push(stream);
    }
    let mut idle = connect(&running, &get("/", "")).await;
    idle.read_exact(&mut [0; 1]).await.unwrap();
    shutdown.stop_accepting();
    assert!(rest(idle).await.ends_with("127.0.0.1"), "an idle connection ends after its answer");
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(tasks.try_join_next().is_none(), "streams are still open");
    shutdown.close_streams();
    for stream in streams {
        let text = rest(stream).await;
        assert!(text.contains("last ") && text.ends_with("0\r\n\r\n"), "{text}");
    }
    tasks.join_next().await.unwrap().unwrap();
}
