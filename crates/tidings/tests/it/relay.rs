//! `tidings relay` in place of NATS Webhook Relay: its settings as they are, what it does kept where
//! people rely on it, and its losses mended. Judged by the real NATS server and an HTTP endpoint.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::http::PATIENCE;
use crate::hub::PROGRAM;
use crate::nats_server::{NatsClient, NatsServer, Setup};
use crate::receiver::{Manner, Received, Receiver, Reply};

/// A running relay. Dropping it kills it.
struct Relay {
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Relay {
    /// With these variables and nothing else, in a folder whose `.env` files count.
    fn start(folder: &Path, environment: &[(&str, &str)]) -> Relay {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Relay::spawn(folder, environment.collect())
    }

    fn spawn(folder: &Path, environment: Vec<(String, String)>) -> Relay {
        let mut command = Command::new(PROGRAM);
        command.arg("relay").env_clear().current_dir(folder).env("NO_COLOR", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let (stderr, writer) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                writer.0.lock().unwrap().push_str(&format!("{line}\n"));
                writer.1.notify_all();
            }
        });
        Relay { child, log, folder: folder.to_owned(), environment }
    }

    fn log(&self) -> String {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line with this text.
    #[track_caller]
    fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut log = self.log.0.lock().unwrap();
        while !log.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} in\n{log}");
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }

    fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills it and starts it again with the same settings.
    fn restart(mut self) -> Relay {
        self.kill9();
        Relay::spawn(&self.folder.clone(), self.environment.clone())
    }

    /// Sends a signal by name (`TERM`, `STOP`, `CONT`).
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Its exit code, once it ended by itself.
    #[track_caller]
    fn wait_for_exit(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- log of the relay\n{}---", self.log());
        }
    }
}

/// A NATS server, an endpoint, and a folder to start relays in.
struct Scene {
    server: NatsServer,
    receiver: Receiver,
    folder: TempDir,
}

impl Scene {
    fn new(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Scene {
        let (server, receiver) = (NatsServer::start(), Receiver::with(behaviour));
        Scene { server, receiver, folder: TempDir::new().unwrap() }
    }

    /// The settings that the relay cannot do without.
    fn settings(&self, from: &str, to: &str) -> Vec<(String, String)> {
        [
            ("WEBHOOK_DESTINATION", self.receiver.url("/api/cache/webhook")),
            ("NATS_ADDRESS", self.server.url()),
            ("NATS_USER", String::new()),
            ("NATS_PASS", String::new()),
            ("NATS_SUBJECT_PREFIX", from.to_owned()),
            ("NATS_RELAYED_SUBJECT_PREFIX", to.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// A relay with some settings more, once it listens, and a judge that hears everything.
    fn relay(&self, from: &str, to: &str, more: &[(&str, &str)]) -> (Relay, NatsClient) {
        let mut settings = self.settings(from, to);
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.extend(more);
        let relay = Relay::spawn(self.folder.path(), settings);
        self.server.wait_for_subscribers(&format!("{from}.>"), 1);
        let mut judge = self.server.client();
        judge.subscribe(">");
        (relay, judge)
    }
}

/// What the judge heard below a prefix: subjects and payloads.
fn below(judge: &NatsClient, prefix: &str) -> Vec<(String, String)> {
    let all = judge.messages().into_iter();
    let all = all.filter(|message| message.subject.starts_with(&format!("{prefix}.")));
    all.map(|message| (message.subject.clone(), message.text())).collect()
}

/// Waits until so many messages were republished below a prefix.
#[track_caller]
fn wait_below(judge: &NatsClient, prefix: &str, count: usize) -> Vec<(String, String)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = below(judge, prefix);
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?} and not {count}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pair(subject: &str, payload: &str) -> (String, String) {
    (subject.to_owned(), payload.to_owned())
}

#[test]
fn the_settings_of_the_relay_run_unchanged() {
    let server = NatsServer::configured("authorization { user: user, password: pass }");
    let receiver = Receiver::start();
    let folder = TempDir::new().unwrap();
    let (destination, host) = (receiver.url("/api/cache/webhook"), server.url());
    // The table of its README, row by row.
    let _relay = Relay::start(
        folder.path(),
        &[
            ("WEBHOOK_DESTINATION", &destination),
            ("NATS_HOST", &host),
            ("NATS_USER", "user"),
            ("NATS_PASS", "pass"),
            ("NATS_SUBJECT_PREFIX", "cms.cache"),
            ("NATS_RELAYED_SUBJECT_PREFIX", "relayed.cache"),
            ("RUST_LOG", "info"),
        ],
    );
    server.wait_for_subscribers("cms.cache.>", 1);
    let mut judge = server.client_as(&json!({ "user": "user", "pass": "pass" }));
    judge.subscribe("relayed.>");
    judge.publish("cms.cache", "the bare prefix is not covered");
    judge.publish("cms.other.1", "nor is another");
    judge.publish("cms.cache.my-entity.some-id", "{\"tags\": [\"a\"]}");
    judge.publish_with("cms.cache.with-headers", &[("X-Secret", "1")], "not JSON");
    judge.publish("cms.cache.empty", "");
    let relayed = judge.wait_for(3);
    let shown: Vec<_> = relayed.iter().map(|one| (one.subject.as_str(), one.text())).collect();
    assert_eq!(
        shown,
        [
            ("relayed.cache.my-entity.some-id", "{\"tags\": [\"a\"]}".to_owned()),
            ("relayed.cache.with-headers", "not JSON".to_owned()),
            ("relayed.cache.empty", String::new()),
        ]
    );
    assert!(relayed.iter().all(|one| one.headers.is_empty()), "{relayed:?}");
    let received = receiver.received();
    assert_eq!(receiver.bodies(), ["{\"tags\": [\"a\"]}", "not JSON", ""]);
    for request in &received {
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("POST", "/api/cache/webhook")
        );
        assert_eq!(request.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(request.header("accept").as_deref(), Some("*/*"));
        let unknown: Vec<_> = request
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| {
                let known = ["content-type", "accept", "user-agent", "host", "content-length"];
                !known.contains(name) && !["accept-encoding", "connection"].contains(name)
            })
            .collect();
        assert!(unknown.is_empty(), "neither subject nor signature is sent: {unknown:?}");
    }
    assert_eq!(receiver.connections(), 1, "kept alive");
}

#[test]
fn addresses_without_a_scheme_or_a_port_are_understood() {
    let scene = Scene::new(|_| Reply::status(200));
    let mut settings = scene.settings("a", "b");
    // NATS_ADDRESS counts before NATS_HOST.
    settings[1].1 = scene.server.address.to_string();
    settings.push(("NATS_HOST".to_owned(), "nats://nobody.invalid:1".to_owned()));
    let _relay = Relay::spawn(scene.folder.path(), settings);
    scene.server.wait_for_subscribers("a.>", 1);
}

#[test]
fn the_page_is_told_after_the_cache() {
    let slow = Duration::from_millis(300);
    let scene = Scene::new(move |request| match request.body.as_slice() {
        b"fast" => Reply::status(200),
        _ => Reply::status(200).after(slow),
    });
    let (_relay, judge) = scene.relay("cms.cache", "relayed.cache", &[]);
    let all = ["one", "two", "three", "fast"];
    for payload in all {
        judge.publish("cms.cache.x", payload);
    }
    let relayed = wait_below(&judge, "relayed.cache", 4);
    let payloads: Vec<&str> = relayed.iter().map(|(_, payload)| payload.as_str()).collect();
    assert_eq!(payloads, all, "in the order of arrival");
    let received = scene.receiver.received();
    for (request, next) in received.iter().zip(received.iter().skip(1)) {
        let (_, answered) = request.answered.unwrap();
        assert!(next.at >= answered, "two requests at a time");
    }
    let messages = judge.messages().into_iter();
    let relayed = messages.filter(|message| message.subject.starts_with("relayed."));
    for (message, request) in relayed.zip(&received) {
        let (_, answered) = request.answered.unwrap();
        assert!(message.at >= answered, "{} before its webhook was answered", message.text());
    }
    assert!(received[3].at - received[0].at >= 3 * slow);
}

#[test]
fn success_is_exactly_200_and_nothing_else_is_republished() {
    let scene = Scene::new(|request| {
        let said: u16 = request.text().parse().unwrap_or(200);
        let reply = Reply::status(said);
        // Where a redirect leads nobody may come by another method.
        if (300..400).contains(&said) { reply.header("Location", "/elsewhere") } else { reply }
    });
    let (relay, judge) = scene.relay("in", "out", &[]);
    let statuses = ["201", "202", "204", "301", "302", "303", "400", "404", "410"];
    for status in statuses {
        judge.publish(&format!("in.{status}"), status);
        // None of them ends anything, and an endpoint that fails too often in a row gets a pause.
        judge.publish("in.good", "good");
    }
    judge.publish("in.last", "last");
    let relayed = wait_below(&judge, "out", statuses.len() + 1);
    let (last, good) = relayed.split_last().unwrap();
    assert_eq!(*last, pair("out.last", "last"));
    assert_eq!(good, vec![pair("out.good", "good"); statuses.len()]);
    assert!(scene.receiver.at("/elsewhere").is_empty(), "a redirect was followed");
    for status in ["201", "302", "404"] {
        relay.wait_for_log(status);
    }
}

#[test]
fn redirects_that_keep_the_method_are_followed() {
    let scene = Scene::new(|request| match request.target.as_str() {
        "/api/cache/webhook" => {
            let status = request.text().parse().unwrap();
            Reply::status(status).header("Location", "/moved")
        }
        _ => Reply::status(200),
    });
    let (_relay, judge) = scene.relay("in", "out", &[]);
    for status in ["307", "308"] {
        judge.publish("in.1", status);
    }
    wait_below(&judge, "out", 2);
    let moved = scene.receiver.at("/moved");
    assert_eq!(scene.receiver.bodies_at("/moved"), ["307", "308"]);
    assert!(moved.iter().all(|request| request.method == "POST"));
    assert!(moved.iter().all(|r| r.header("content-type").unwrap() == "application/json"));
}

#[test]
fn a_redirect_leads_to_web_servers_only_and_tells_no_other_the_login() {
    let other = Receiver::start();
    let elsewhere = other.url("/elsewhere");
    let scene = Scene::new(move |request| match request.text().as_str() {
        "away" => Reply::status(307).header("Location", &elsewhere),
        "round" => Reply::status(308).header("Location", "/api/cache/webhook"),
        "file" => Reply::status(307).header("Location", "file:///etc/passwd"),
        _ => Reply::status(200),
    });
    let mut settings = scene.settings("in", "out");
    settings[0].1 = settings[0].1.replace("http://", "http://anna:secret@");
    let relay = Relay::spawn(scene.folder.path(), settings);
    scene.server.wait_for_subscribers("in.>", 1);
    let mut judge = scene.server.client();
    judge.subscribe(">");
    for payload in ["away", "file", "round", "last"] {
        judge.publish("in.1", payload);
    }
    assert_eq!(wait_below(&judge, "out", 2), [pair("out.1", "away"), pair("out.1", "last")]);
    let request = other.received().remove(0);
    assert_eq!((request.text().as_str(), request.header("authorization")), ("away", None));
    let asked = |body: &str| scene.receiver.bodies().iter().filter(|one| *one == body).count();
    // Three tries, and the second of these is sent on five times.
    assert_eq!((asked("file"), asked("round")), (3, 18));
    relay.wait_for_log("followed to http and https URLs only");
}

#[test]
fn the_status_counts_and_not_what_is_behind_it() {
    let server = NatsServer::start();
    let endpoint = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/#fragment", endpoint.local_addr().unwrap());
    // Promises a body, and neither sends it nor ends.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = endpoint.accept() {
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
            kept.push(stream);
        }
    });
    let scene = Scene { server, ..Scene::new(|_| Reply::status(500)) };
    let (_relay, judge) = scene.relay("in", "out", &[("WEBHOOK_DESTINATION", &url)]);
    judge.publish("in.1", "one");
    judge.publish("in.2", "two");
    assert_eq!(wait_below(&judge, "out", 2), [pair("out.1", "one"), pair("out.2", "two")]);
}

#[test]
fn a_payload_is_as_large_as_the_server_lets_it() {
    let server = NatsServer::configured("max_payload: 8000000");
    let scene = Scene { server, ..Scene::new(|_| Reply::status(200)) };
    let (_relay, judge) = scene.relay("in", "out", &[]);
    for size in [1024 * 1024, 8_000_000] {
        judge.publish("in.1", vec![b'x'; size]);
        let found = scene.receiver.wait_for_body("/api/cache/webhook", &"x".repeat(size));
        assert!(found.iter().all(|request| request.succeeded()));
    }
    let sizes: Vec<usize> = wait_below(&judge, "out", 2).iter().map(|(_, x)| x.len()).collect();
    assert_eq!(sizes, [1024 * 1024, 8_000_000]);
}

#[test]
fn levels_of_its_log_never_keep_it_from_starting() {
    let scene = Scene::new(|_| Reply::status(200));
    for (level, told) in [
        ("nats_webhook_relay=debug", "connected to NATS"),
        ("verbose", "RUST_LOG holds more than levels"),
        ("info/Relayed", "connected to NATS"),
    ] {
        let (relay, _judge) = scene.relay(level.get(..4).unwrap(), "out", &[("RUST_LOG", level)]);
        relay.wait_for_log(told);
    }
}

#[test]
fn a_broken_line_of_a_file_is_named_without_its_words() {
    let scene = Scene::new(|_| Reply::status(200));
    let file = scene.folder.path().join(".env");
    std::fs::write(&file, "A=1\n\nhunter2 is no pair\nNATS_PASS=\n").unwrap();
    let (relay, _judge) = scene.relay("in", "out", &[]);
    relay.wait_for_log(&format!("{}: line 3 is not", file.display()));
    let mut missing = Relay::start(scene.folder.path(), &[("NATS_USER", "")]);
    assert_eq!(missing.wait_for_exit(), 2);
    missing.wait_for_log("line 3 is not");
    missing.wait_for_log("NATS_PASS: is not set");
    for relay in [&relay, &missing] {
        assert!(!relay.log().contains("hunter2"), "{}", relay.log());
    }
}

#[test]
fn a_login_in_the_variables_wins_over_one_in_the_address() {
    let server = NatsServer::configured("authorization { user: user, password: right }");
    let scene = Scene { server, ..Scene::new(|_| Reply::status(200)) };
    let mut settings = scene.settings("in", "out");
    settings[1].1 = settings[1].1.replace("://", "://user:wrong@");
    settings[2].1 = "user".to_owned();
    settings[3].1 = "right".to_owned();
    let relay = Relay::spawn(scene.folder.path(), settings);
    relay.wait_for_log("a source runs");
    scene.server.wait_for_subscribers("in.>", 1);
}

// The losses of what it replaces, one by one.

#[test]
fn bytes_that_are_no_text_are_delivered_and_republished() {
    let scene = Scene::new(|_| Reply::status(200));
    let (_relay, judge) = scene.relay("in", "out", &[]);
    judge.publish("in.1", b"\xff\xfe\x00\x80");
    wait_below(&judge, "out", 1);
    assert_eq!(scene.receiver.received()[0].body, b"\xff\xfe\x00\x80");
    let relayed = judge.messages().into_iter().find(|one| one.subject == "out.1").unwrap();
    assert_eq!(relayed.payload, b"\xff\xfe\x00\x80");
}

#[test]
fn an_endpoint_that_hangs_is_given_up_and_asked_again_in_order() {
    let scene = Scene::new(|request| match (request.text().as_str(), request.seen) {
        ("first", 0) => Reply::manner(Manner::Hang),
        _ => Reply::status(200),
    });
    let (_relay, judge) = scene.relay("in", "out", &[("WEBHOOK_TIMEOUT", "1s")]);
    judge.publish("in.1", "first");
    judge.publish("in.2", "second");
    let relayed = wait_below(&judge, "out", 2);
    assert_eq!(relayed, [pair("out.1", "first"), pair("out.2", "second")]);
    assert_eq!(scene.receiver.bodies(), ["first", "first", "second"]);
}

#[test]
fn errors_are_tried_again_in_order_and_logged() {
    let mut scene = Scene::new(|request| match (request.text().as_str(), request.seen) {
        ("first", 0..3) => Reply::status(503),
        _ => Reply::status(200),
    });
    let (relay, judge) = scene.relay("in", "out", &[]);
    judge.publish("in.1", "first");
    judge.publish("in.2", "second");
    wait_below(&judge, "out", 2);
    assert_eq!(scene.receiver.bodies(), ["first", "first", "first", "first", "second"]);
    relay.wait_for_log("503");
    // Also when nobody listens there, for a while.
    scene.receiver.close();
    judge.publish("in.3", "third");
    relay.wait_for_log("refused");
    scene.receiver.open();
    let relayed = wait_below(&judge, "out", 3);
    assert_eq!(relayed[2], pair("out.3", "third"));
}

#[test]
fn only_the_leading_prefix_is_replaced() {
    let scene = Scene::new(|_| Reply::status(200));
    let (_relay, judge) = scene.relay("a", "z", &[]);
    judge.publish("a.data.x", "1");
    judge.publish("a.a.a", "2");
    let relayed = wait_below(&judge, "z", 2);
    assert_eq!(relayed, [pair("z.data.x", "1"), pair("z.a.a", "2")]);
    let (_relay, judge) = scene.relay("cms.cache", "r", &[]);
    judge.publish("cms.cache.cms.cache.1", "3");
    assert_eq!(wait_below(&judge, "r", 1), [pair("r.cms.cache.1", "3")]);
}

#[test]
fn relayed_subjects_below_the_prefix_make_no_loop() {
    let scene = Scene::new(|_| Reply::status(200));
    let (_relay, judge) = scene.relay("a", "a.r", &[]);
    judge.publish("a.1", "one");
    judge.publish("a.2", "two");
    wait_below(&judge, "a.r", 2);
    judge.publish("a.3", "three");
    wait_below(&judge, "a.r", 3);
    let all: Vec<String> = scene.receiver.bodies();
    assert_eq!(all, ["one", "two", "three"]);
    assert_eq!(below(&judge, "a.r").len(), 3);
}

#[test]
fn a_relayed_prefix_above_the_prefix_makes_no_loop() {
    let scene = Scene::new(|_| Reply::status(200));
    let (_relay, judge) = scene.relay("a.b", "a", &[]);
    for (number, data) in ["one", "two", "three"].into_iter().enumerate() {
        judge.publish(&format!("a.b.{number}"), data);
        scene.receiver.wait_for(number + 1);
    }
    assert_eq!(scene.receiver.bodies(), ["one", "two", "three"]);
}

#[test]
fn replicas_share_and_others_hear_everything() {
    let scene = Scene::new(|_| Reply::status(200));
    let (_first, judge) = scene.relay("in", "out", &[]);
    let _second = Relay::spawn(scene.folder.path(), scene.settings("in", "out"));
    let elsewhere = scene.receiver.url("/other");
    let mut settings = scene.settings("in", "other");
    settings[0].1 = elsewhere;
    let _third = Relay::spawn(scene.folder.path(), settings);
    scene.server.wait_for_subscribers("in.>", 3);
    for number in 0..50 {
        judge.publish("in.1", number.to_string());
    }
    let mut shared: Vec<u32> =
        wait_below(&judge, "out", 50).iter().map(|(_, data)| data.parse().unwrap()).collect();
    shared.sort_unstable();
    assert_eq!(shared, (0..50).collect::<Vec<_>>(), "each exactly once");
    let other = wait_below(&judge, "other", 50);
    let other: Vec<u32> = other.iter().map(|(_, data)| data.parse().unwrap()).collect();
    assert_eq!(other, (0..50).collect::<Vec<_>>(), "all of it, in order");
    assert_eq!(scene.receiver.bodies_at("/other").len(), 50);
    assert_eq!(scene.receiver.bodies_at("/api/cache/webhook").len(), 50);
}

#[test]
fn an_orderly_end_finishes_what_is_on_its_way() {
    let scene = Scene::new(|_| Reply::status(200).after(Duration::from_millis(500)));
    let (mut relay, judge) = scene.relay("in", "out", &[]);
    judge.publish("in.1", "on its way");
    scene.receiver.wait_for(1);
    relay.signal("TERM");
    assert_eq!(relay.wait_for_exit(), 0, "{}", relay.log());
    assert_eq!(wait_below(&judge, "out", 1), [pair("out.1", "on its way")]);
}

#[test]
fn a_message_once_taken_survives_a_kill() {
    let scene = Scene::new(|_| Reply::status(503));
    let data = scene.folder.path().join("data");
    let (relay, judge) = scene.relay("in", "out", &[("TIDINGS_DATA", data.to_str().unwrap())]);
    judge.publish("in.1", "first");
    judge.publish("in.2", "second");
    scene.receiver.wait_for(1);
    // The second is taken as well: it waits in the history behind the first.
    let deadline = Instant::now() + PATIENCE;
    let written = |folder: &Path| {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files
            .map(|file| std::fs::read(file.path()).unwrap_or_default())
            .any(|bytes| bytes.windows(6).any(|six| six == b"second"))
    };
    while !written(&data) {
        assert!(Instant::now() < deadline, "not in {}", data.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    let relay = relay.restart();
    scene.receiver.behave(|_| Reply::status(200));
    let relayed = wait_below(&judge, "out", 2);
    assert_eq!(relayed, [pair("out.1", "first"), pair("out.2", "second")]);
    drop(relay);
}

#[test]
fn what_is_relayed_while_nats_is_away_waits() {
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    let mut scene = Scene::new(move |_| {
        let deadline = Instant::now() + PATIENCE;
        while !gate.load(Ordering::SeqCst) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        Reply::status(200)
    });
    let (relay, judge) = scene.relay("in", "out", &[]);
    judge.publish("in.1", "kept");
    scene.receiver.wait_for(1);
    scene.server.kill();
    is_open.store(true, Ordering::SeqCst);
    relay.wait_for_log("not reachable");
    // The judge has to be back before the relay is.
    relay.signal("STOP");
    scene.server.restart();
    let mut judge = scene.server.client();
    judge.subscribe("out.>");
    relay.signal("CONT");
    scene.server.wait_for_subscribers("in.>", 1);
    judge.publish("in.2", "after");
    let relayed = judge.wait_for_text("after");
    let payloads: Vec<String> = relayed.iter().map(|message| message.text()).collect();
    assert_eq!(payloads, ["kept", "after"]);
}

#[test]
fn a_relay_that_starts_first_waits_and_says_so() {
    let mut server = NatsServer::not_yet(Setup::default());
    let receiver = Receiver::start();
    let folder = TempDir::new().unwrap();
    let (url, destination) = (server.url(), receiver.url("/"));
    let relay = Relay::start(
        folder.path(),
        &[
            ("WEBHOOK_DESTINATION", &destination),
            ("NATS_ADDRESS", &url),
            ("NATS_USER", ""),
            ("NATS_PASS", ""),
            ("NATS_SUBJECT_PREFIX", "in"),
            ("NATS_RELAYED_SUBJECT_PREFIX", "out"),
        ],
    );
    relay.wait_for_log("not reachable");
    server.restart();
    server.wait_for_subscribers("in.>", 1);
    server.client().publish("in.1", "x");
    receiver.wait_for(1);
}

#[test]
fn a_login_that_is_refused_at_first_ends_it() {
    let server = NatsServer::configured("authorization { user: user, password: right }");
    let folder = TempDir::new().unwrap();
    let url = server.url();
    let mut relay = Relay::start(
        folder.path(),
        &[
            ("WEBHOOK_DESTINATION", "http://127.0.0.1:1/"),
            ("NATS_ADDRESS", &url),
            ("NATS_USER", "user"),
            ("NATS_PASS", "wrong-password"),
            ("NATS_SUBJECT_PREFIX", "in"),
            ("NATS_RELAYED_SUBJECT_PREFIX", "out"),
        ],
    );
    assert_eq!(relay.wait_for_exit(), 1, "{}", relay.log());
    relay.wait_for_log("uthorization");
    assert!(!relay.log().contains("wrong-password"), "{}", relay.log());
}

#[test]
fn missing_settings_are_named_at_once() {
    let folder = TempDir::new().unwrap();
    let mut relay = Relay::start(folder.path(), &[("NATS_USER", "")]);
    assert_eq!(relay.wait_for_exit(), 2, "{}", relay.log());
    for name in [
        "WEBHOOK_DESTINATION",
        "NATS_ADDRESS",
        "NATS_PASS",
        "NATS_SUBJECT_PREFIX",
        "NATS_RELAYED_SUBJECT_PREFIX",
    ] {
        relay.wait_for_log(name);
    }
    // One that is empty is set.
    assert!(!relay.log().contains("NATS_USER"), "{}", relay.log());
}

#[test]
fn a_name_in_the_destination_becomes_a_login() {
    let scene = Scene::new(|_| Reply::status(200));
    let mut settings = scene.settings("in", "out");
    settings[0].1 = settings[0].1.replace("http://", "http://anna:pass%20word@");
    let relay = Relay::spawn(scene.folder.path(), settings);
    scene.server.wait_for_subscribers("in.>", 1);
    scene.server.client().publish("in.1", "x");
    let request = scene.receiver.wait_for(1).remove(0);
    assert_eq!(request.header("authorization").as_deref(), Some("Basic YW5uYTpwYXNzIHdvcmQ="));
    for secret in ["pass%20word", "pass word"] {
        assert!(!relay.log().contains(secret), "{}", relay.log());
    }
}

#[test]
fn files_and_environment_have_their_precedence() {
    let scene = Scene::new(|_| Reply::status(200));
    let above = scene.folder.path();
    let here = above.join("app/here");
    std::fs::create_dir_all(&here).unwrap();
    // `.env` is found above, `.env.local` counts before it, the process before both.
    std::fs::write(
        above.join(".env"),
        format!(
            "# settings\nexport WEBHOOK_DESTINATION=\"{}\"\nNATS_ADDRESS={} # where it is\n\
             NATS_USER=''\nNATS_PASS=\nNATS_SUBJECT_PREFIX=of-env\n\
             NATS_RELAYED_SUBJECT_PREFIX=of-env-relayed\n",
            scene.receiver.url("/of-env"),
            scene.server.url()
        ),
    )
    .unwrap();
    std::fs::write(
        above.join("app/.env.local"),
        "NATS_SUBJECT_PREFIX=of-local\nNATS_RELAYED_SUBJECT_PREFIX=of-local-relayed\n",
    )
    .unwrap();
    let _relay = Relay::start(&here, &[("NATS_RELAYED_SUBJECT_PREFIX", "of-process")]);
    scene.server.wait_for_subscribers("of-local.>", 1);
    let mut judge = scene.server.client();
    judge.subscribe(">");
    judge.publish("of-local.1", "x");
    assert_eq!(wait_below(&judge, "of-process", 1), [pair("of-process.1", "x")]);
    assert_eq!(scene.receiver.bodies_at("/of-env"), ["x"]);
}

#[test]
fn a_relay_opens_no_port_unless_it_is_asked_to() {
    let scene = Scene::new(|_| Reply::status(200));
    let (relay, _judge) = scene.relay("in", "out", &[]);
    let listening = |pid: u32| -> usize {
        // Sockets that listen (state 0A) and belong to the process.
        let mut own = Vec::new();
        for file in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            if let Ok(target) = std::fs::read_link(file.path()) {
                own.push(target.to_string_lossy().into_owned());
            }
        }
        let mut table = String::new();
        for name in ["tcp", "tcp6"] {
            let file = std::fs::File::open(format!("/proc/{pid}/net/{name}"));
            let _ = file.and_then(|mut file| file.read_to_string(&mut table));
        }
        let listens = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", words[9]))
        });
        listens.filter(|socket| own.contains(socket)).count()
    };
    assert_eq!(listening(relay.child.id()), 0, "{}", relay.log());
    let mut settings = scene.settings("more", "out");
    settings.push(("TIDINGS_ADMIN_LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
    let asked = Relay::spawn(scene.folder.path(), settings);
    asked.wait_for_log("admin on http://127.0.0.1:");
    assert_eq!(listening(asked.child.id()), 1);
}
