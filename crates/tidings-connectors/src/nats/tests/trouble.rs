//! Servers that are away, hang, send more than is taken, or are no NATS servers.

use std::net::TcpListener;

use super::*;
use crate::connector::Fault;
use crate::limits::{INCOMING_BYTES_MAX, NATS_HELD_BACK_MIN};

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn at(port: u16) -> ServerOptions {
    ServerOptions { url: format!("127.0.0.1:{port}"), ..ServerOptions::default() }
}

fn greet(mut stream: &TcpStream) {
    stream.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576}\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("CONNECT "));
    assert_eq!(lines.next().unwrap().unwrap(), "PING");
    stream.write_all(b"PONG\r\n").unwrap();
}

#[tokio::test]
async fn who_starts_before_the_server_waits_for_it() {
    let mut server = TestServer::plain();
    server.kill();
    let mut running = Running::begin(source(&server, &["a"]), 8);
    let link = reaches(&mut running.link, |link| matches!(link, Link::Unreachable(_))).await;
    let Link::Unreachable(reason) = link else { panic!() };
    assert!(reason.contains(&server.url()) && reason.contains("refused"), "{reason}");
    let sink = NatsSink::start("out", sink(&server)).unwrap();
    let (outcome, ()) = tokio::join!(deliver(&sink, vec![update("b", "")]), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.restart();
        let since = Instant::now();
        running.connected().await;
        assert!(since.elapsed() < Duration::from_secs(5));
    });
    assert_eq!((outcome.delivered, outcome.failure), (1, None));
    RawClient::connect(&server).publish("a", b"1");
    assert_eq!(running.next_update().await.data, "1");
    running.end().await;
}

#[tokio::test]
async fn a_sink_gives_up_in_time_when_no_server_is_there() {
    let timeout = Span(Duration::from_millis(200));
    let options = SinkOptions { server: at(free_port()), timeout, ..SinkOptions::default() };
    let sink = NatsSink::start("out", options).unwrap();
    let since = Instant::now();
    let outcome = deliver(&sink, vec![update("a", "")]).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((outcome.delivered, failure.fault), (0, Fault::Unreachable));
    assert!(failure.reason.contains("refused"), "{}", failure.reason);
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn the_next_server_is_tried_when_one_is_away() {
    let server = TestServer::plain();
    let mut options = sink(&server);
    options.server.url = format!("127.0.0.1:{},{}", free_port(), server.url());
    let sink = NatsSink::start("out", options).unwrap();
    assert_eq!(deliver(&sink, vec![update("a", "")]).await.delivered, 1);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        greet(&stream);
        // Takes the message, and is gone before it answers.
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    });
    let options =
        SinkOptions { server: at(port), timeout: Span(PATIENCE), ..SinkOptions::default() };
    let sink = NatsSink::start("out", options).unwrap();
    let outcome = deliver(&sink, vec![update("a", "x")]).await;
    assert_eq!((outcome.delivered, outcome.failure.unwrap().fault), (0, Fault::Unreachable));
    server.join().unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_and_the_run_is_not_delivered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        greet(&first);
        // It says nothing more, and we are to come again.
        let (second, _) = listener.accept().unwrap();
        greet(&second);
        drop(first);
    });
    let timeout = Span(Duration::from_millis(300));
    let options = SinkOptions { server: at(port), timeout, ..SinkOptions::default() };
    let sink = NatsSink::start("out", options).unwrap();
    let outcome = deliver(&sink, vec![update("a", "x")]).await;
    assert_eq!((outcome.delivered, outcome.failure.unwrap().fault), (0, Fault::TimedOut));
    tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_silent_is_gone_after_two_questions() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        greet(&first);
        let (second, _) = listener.accept().unwrap();
        greet(&second);
        drop(first);
    });
    let mut plan = crate::nats::connection::Plan::new("a", &at(port)).unwrap();
    plan.ping_every = Duration::from_millis(50);
    let counters = Arc::clone(&plan.counters);
    let (link, mut linked) = watch::channel(Link::Beginning);
    let (to, _arrivals) = mpsc::channel(1);
    let _connection = crate::nats::connection::Connection::start(plan, to, link);
    reaches(&mut linked, |link| matches!(link, Link::Connected(_))).await;
    let lost = reaches(&mut linked, |link| matches!(link, Link::Unreachable(_))).await;
    let Link::Unreachable(reason) = lost else { panic!() };
    assert!(reason.contains("not answered"), "{reason}");
    reaches(&mut linked, |link| matches!(link, Link::Connected(_))).await;
    assert_eq!(counters.connections.load(std::sync::atomic::Ordering::Relaxed), 2);
    server.join().unwrap();
}

#[tokio::test]
async fn questions_of_the_server_are_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        greet(&stream);
        stream.write_all(b"PING\r\nPI").unwrap();
        stream.write_all(b"NG\r\n").unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "SUB a 1");
        assert_eq!((lines.next().unwrap(), lines.next().unwrap()), ("PONG".into(), "PONG".into()));
    });
    let options =
        SourceOptions { server: at(port), subjects: vec!["a".into()], ..SourceOptions::default() };
    let running = Running::begin(options, 8);
    tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
    running.end().await;
}

#[tokio::test]
async fn what_is_no_nats_server_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let options = SinkOptions { server: at(port), ..SinkOptions::default() };
    let sink = NatsSink::start("out", options).unwrap();
    let mut link = sink.link();
    let link = reaches(&mut link, |link| matches!(link, Link::Unreachable(_))).await;
    let Link::Unreachable(reason) = link else { panic!() };
    assert!(reason.contains("NATS server?"), "{reason}");
    server.join().unwrap();
}

/// A server that sends messages of one size for as long as they are read, up to `count`.
fn flood(count: usize, size: usize) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        greet(&stream);
        let filled = "x".repeat(size);
        for number in 0..count {
            let number = number.to_string();
            let filled = &filled[number.len()..];
            let message = format!("MSG a 1 {size}\r\n{filled}{number}\r\n");
            if stream.write_all(message.as_bytes()).is_err() {
                return;
            }
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let _end = stream.read(&mut [0; 1024]);
    });
    (port, sent)
}

/// Waits until it stops growing.
async fn settled(count: &std::sync::atomic::AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        let now = count.load(std::sync::atomic::Ordering::Relaxed);
        if now == last && now > 0 {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_slow_stops_the_reading_and_loses_nothing() {
    let (count, size) = (40_000, 2_048);
    let (port, sent) = flood(count, size);
    let options =
        SourceOptions { server: at(port), subjects: vec!["a".into()], ..SourceOptions::default() };
    let mut running = Running::begin(options, 16);
    let before = settled(&sent).await;
    assert!(before < count / 2, "{before} messages were read");
    for number in 0..count {
        let update = running.next_update().await;
        assert_eq!(update.data.len(), size);
        assert!(update.data.ends_with(number.to_string().as_bytes()));
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_on_the_way_are_bounded_in_bytes() {
    let (count, size) = (400, 256 * 1024);
    let (port, _sent) = flood(count, size);
    let options =
        SourceOptions { server: at(port), subjects: vec!["a".into()], ..SourceOptions::default() };
    let mut running = Running::begin(options, 1_024);
    let mut kept = Vec::new();
    while let Ok(incoming) =
        tokio::time::timeout(Duration::from_millis(500), running.from.recv()).await
    {
        kept.push(incoming.unwrap());
    }
    let messages: usize = kept.iter().map(|incoming: &Incoming| incoming.updates.len()).sum();
    assert!(messages * size <= INCOMING_BYTES_MAX, "{messages} messages");
    assert!(messages * size > INCOMING_BYTES_MAX / 2, "{messages} messages");
    kept.clear();
    assert_eq!(running.next_update().await.data.len(), size);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_for_reading_too_slowly_is_told_and_comes_again() {
    let server = TestServer::start("max_pending: 1MB\nwrite_deadline: \"1s\"\n", &[]);
    let source = NatsSource::new("upstream", false, source(&server, &["a"])).unwrap();
    let counters = source.counters();
    let mut link = source.link();
    let (to, mut from) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(Box::new(source).run(to, stop.clone()));
    reaches(&mut link, |link| matches!(link, Link::Connected(_))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut client = RawClient::connect(&server);
    for _ in 0..600 {
        client.publish("a", &[b'x'; 64 * 1024]);
    }
    client.barrier();
    tokio::time::sleep(NATS_HELD_BACK_MIN * 3).await;
    let (mut received, until) = (0, Instant::now() + PATIENCE);
    while counters.connections.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        assert!(Instant::now() < until, "no new connection after {received} messages");
        let next = tokio::time::timeout(Duration::from_millis(50), from.recv()).await;
        received += usize::from(next.is_ok());
    }
    assert!(received < 600, "{received} messages came");
    assert_eq!(counters.cut_off.load(std::sync::atomic::Ordering::Relaxed), 1);
    client.publish("a", b"again");
    let again = tokio::time::timeout(PATIENCE, async {
        while from.recv().await.unwrap().updates.iter().all(|update| update.data != "again") {}
    });
    again.await.unwrap();
}

/// A server that sends this over and over to everybody whom it let in.
fn babbler(frame: &'static str) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let logins = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            greet(&stream);
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // What is answered is read: nobody may wait for that.
            let mut answers = stream.try_clone().unwrap();
            std::thread::spawn(
                move || {
                    while answers.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {}
                },
            );
            let many = frame.repeat(1_000);
            while stream.write_all(many.as_bytes()).is_ok() {}
        }
    });
    (port, logins)
}

#[tokio::test]
async fn a_server_that_babbles_is_left_and_asked_again_ever_more_seldom() {
    let load =
        |count: &std::sync::atomic::AtomicUsize| count.load(std::sync::atomic::Ordering::Relaxed);
    for (frame, reason) in [
        ("PONG\r\n", "the last one PONG"),
        ("INFO {\"connect_urls\":[\"a\"]}\r\n", "the last one INFO"),
        ("PING\r\n", "the last one PING"),
        ("+OK\r\n", "the last one +OK"),
        ("-ERR 'Permissions Violation for Subscription to \"a\"'\r\n", "the last one -ERR"),
        ("-ERR 'Permissions Violation for Publish to \"a\"'\r\n", "refuses more"),
        ("MSG a 2 1\r\nx\r\n", "nobody subscribed"),
    ] {
        let (port, logins) = babbler(frame);
        let subjects = vec!["b".into()];
        let options = SourceOptions { server: at(port), subjects, ..SourceOptions::default() };
        let mut running = Running::begin(options, 8);
        let lost = reaches(&mut running.link, |link| matches!(link, Link::Unreachable(_))).await;
        let Link::Unreachable(said) = lost else { panic!() };
        assert!(said.contains(reason), "{frame:?}: {said}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        // After 0.1, 0.2, 0.4, 0.8 seconds, or half of that each.
        assert!((2..=7).contains(&load(&logins)), "{frame:?}: {} logins", load(&logins));
        running.end().await;
    }
}

#[tokio::test]
async fn a_server_that_babbles_instead_of_answering_the_login_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"INFO {\"max_payload\":1024}\r\n").unwrap();
            while stream.write_all(b"+OK\r\n+OK\r\n").is_ok() {}
        }
    });
    let subjects = vec!["b".into()];
    let options = SourceOptions { server: at(port), subjects, ..SourceOptions::default() };
    let mut running = Running::begin(options, 8);
    let lost = reaches(&mut running.link, |link| matches!(link, Link::Unreachable(_))).await;
    let Link::Unreachable(said) = lost else { panic!() };
    assert!(said.contains("no answer to the login"), "{said}");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_is_told_to_take_more_keeps_its_connection() {
    let server = TestServer::start("max_payload: 1024\n", &[]);
    let mut running = Running::start(source(&server, &["a"])).await;
    std::fs::write(server.folder.path().join("server.conf"), "max_payload: 1048576\n").unwrap();
    let told = Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status();
    assert!(told.unwrap().success());
    let large = vec![b'x'; 500_000];
    let until = Instant::now() + PATIENCE;
    // It reads its configuration a moment later, and throws out who sends too much before that.
    while std::panic::catch_unwind(|| {
        let mut client = RawClient::connect(&server);
        client.publish("a", &large);
        client.barrier();
    })
    .is_err()
    {
        assert!(Instant::now() < until, "the server still takes 1024 bytes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.next_update().await.data.len(), large.len());
    assert!(matches!(&*running.link.borrow(), Link::Connected(_)));
    running.end().await;
}

#[tokio::test]
async fn a_server_in_lame_duck_mode_is_left_for_another_when_it_says_so_and_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = TestServer::plain();
    let others_port = other.port;
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        greet(&stream);
        let news = format!("INFO {{\"connect_urls\":[\"127.0.0.1:{others_port}\"],\"ldm\":true}}");
        stream.write_all(format!("{news}\r\n").as_bytes()).unwrap();
        // Both are gone then.
    });
    let subjects = vec!["a".into()];
    let options = SourceOptions { server: at(port), subjects, ..SourceOptions::default() };
    let mut running = Running::begin(options, 8);
    let lost = reaches(&mut running.link, |link| matches!(link, Link::Unreachable(_))).await;
    let Link::Unreachable(said) = lost else { panic!() };
    assert!(said.contains("lame duck"), "{said}");
    server.join().unwrap();
    running.connected().await;
    RawClient::connect(&other).publish("a", b"1");
    assert_eq!(running.next_update().await.data, "1");
    running.end().await;
}

#[tokio::test]
async fn servers_that_only_a_cluster_can_reach_hold_nobody_up() {
    // They take connections and say nothing, as a network that drops everything.
    let silent: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let urls: Vec<_> = silent.iter().map(|one| one.local_addr().unwrap().to_string()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        greet(&stream);
        stream.write_all(format!("INFO {{\"connect_urls\":{urls:?}}}\r\n").as_bytes()).unwrap();
        drop((stream, listener));
        // Away for a moment, until the others are tried.
        std::thread::sleep(Duration::from_millis(500));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let since = Instant::now();
        let (stream, _) = listener.accept().unwrap();
        greet(&stream);
        since.elapsed()
    });
    let subjects = vec!["a".into()];
    let options = SourceOptions { server: at(port), subjects, ..SourceOptions::default() };
    let running = Running::begin(options, 8);
    let waited = tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    running.end().await;
}

#[tokio::test]
async fn a_login_that_expires_is_told_and_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        greet(&first);
        first.write_all(b"-ERR 'User Authentication Expired'\r\n").unwrap();
        drop(first);
        greet(&listener.accept().unwrap().0);
    });
    let subjects = vec!["a".into()];
    let options = SourceOptions { server: at(port), subjects, ..SourceOptions::default() };
    let mut running = Running::begin(options, 8);
    let lost = reaches(&mut running.link, |link| matches!(link, Link::Unreachable(_))).await;
    let Link::Unreachable(said) = lost else { panic!() };
    assert!(said.contains("User Authentication Expired"), "{said}");
    tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
    running.end().await;
}
