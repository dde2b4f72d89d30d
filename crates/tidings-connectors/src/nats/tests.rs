//! The NATS connector against Debian's `nats-server`, and against servers that do what a real one
//! does only when it is in trouble. Needs the package `nats-server`.

mod logins;
mod publishing;
mod streams;
mod trouble;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings_core::{Batch, Entry, Grant, Hub, Matcher, Selection, Start, Topic, Update};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connector::{Outcome, Run, Sink};
use crate::in_memory::{self, Still};
use crate::ingest::{Incoming, Source};
use crate::nats::{Link, NatsSink, NatsSource, ServerOptions, SinkOptions, SourceOptions};
use crate::specification::Span;

const PATIENCE: Duration = Duration::from_secs(20);

/// A real server on a port of its own. Ends with this value.
struct TestServer {
    folder: TempDir,
    arguments: Vec<String>,
    port: u16,
    child: Child,
}

impl TestServer {
    fn plain() -> TestServer {
        TestServer::start("", &[])
    }

    fn with_streams() -> TestServer {
        TestServer::start("", &["-js"])
    }

    fn start(config: &str, arguments: &[&str]) -> TestServer {
        let folder = tempfile::tempdir().unwrap();
        TestServer::start_in(folder, config, arguments)
    }

    fn start_in(folder: TempDir, config: &str, arguments: &[&str]) -> TestServer {
        let path = folder.path().join("server.conf");
        std::fs::write(&path, config).unwrap();
        let store = folder.path().join("store");
        let mut all: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        all.extend(["-c".into(), path.display().to_string()]);
        all.extend(["-sd".into(), store.display().to_string()]);
        let (child, port) = spawn(&folder, &all, "-1");
        TestServer { folder, arguments: all, port, child }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn options(&self) -> ServerOptions {
        ServerOptions { url: self.url(), ..ServerOptions::default() }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Begins again where it was.
    fn restart(&mut self) {
        let port = self.port.to_string();
        (self.child, self.port) = spawn(&self.folder, &self.arguments, &port);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn spawn(folder: &TempDir, arguments: &[String], port: &str) -> (Child, u16) {
    let ports = folder.path().display().to_string();
    let mut child = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir", &ports])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs `nats-server`, of the Debian package of that name");
    let Some(port) = port_of(folder, child.id()) else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("nats-server does not start: {arguments:?}");
    };
    (child, port)
}

fn port_of(folder: &TempDir, process: u32) -> Option<u16> {
    let file = folder.path().join(format!("nats-server_{process}.ports"));
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let found: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        if let Some(url) = found.as_ref().and_then(|found| found["nats"][0].as_str()) {
            return url.rsplit_once(':')?.1.parse().ok();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A client that shares nothing with ours.
struct RawClient {
    stream: BufReader<TcpStream>,
}

/// What it received.
#[derive(Debug, PartialEq, Eq)]
struct RawMessage {
    subject: String,
    headers: String,
    payload: Vec<u8>,
}

impl RawClient {
    fn connect(server: &TestServer) -> RawClient {
        RawClient::connect_as(server, "")
    }

    /// `login` are more fields of the JSON object, each behind a comma.
    fn connect_as(server: &TestServer, login: &str) -> RawClient {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = RawClient { stream: BufReader::new(stream) };
        assert!(client.line().starts_with("INFO "));
        client.send(&format!("CONNECT {{\"verbose\":false,\"headers\":true{login}}}\r\n"));
        client.barrier();
        client
    }

    fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; questions of the server are answered.
    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "the server closed the connection");
            match line.trim_end() {
                "PING" => self.send("PONG\r\n"),
                line => return line.to_owned(),
            }
        }
    }

    fn barrier(&mut self) {
        self.send("PING\r\n");
        assert_eq!(self.line(), "PONG");
    }

    fn publish(&mut self, subject: &str, payload: &[u8]) {
        self.send(&format!("PUB {subject} {}\r\n", payload.len()));
        self.stream.get_mut().write_all(payload).unwrap();
        self.send("\r\n");
    }

    fn publish_with(&mut self, subject: &str, headers: &str, payload: &[u8]) {
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        let total = block.len() + payload.len();
        self.send(&format!("HPUB {subject} {} {total}\r\n{block}", block.len()));
        self.stream.get_mut().write_all(payload).unwrap();
        self.send("\r\n");
    }

    fn subscribe(&mut self, subject: &str) {
        self.send(&format!("SUB {subject} 1\r\n"));
        self.barrier();
    }

    fn message(&mut self) -> RawMessage {
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        let size = |word: &str| word.parse::<usize>().unwrap();
        let (headers, total) = match words.as_slice() {
            ["MSG", _, _, total] | ["MSG", _, _, _, total] => (0, size(total)),
            ["HMSG", .., headers, total] => (size(headers), size(total)),
            _ => panic!("no message: {line}"),
        };
        let mut bytes = vec![0; total + 2];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes.truncate(total);
        let payload = bytes.split_off(headers);
        let headers = String::from_utf8(bytes).unwrap();
        RawMessage { subject: words[1].to_owned(), headers, payload }
    }

    /// Asks a `JetStream` server something.
    fn request(&mut self, subject: &str, body: &str) -> serde_json::Value {
        self.send(&format!(
            "SUB _INBOX.raw 9\r\nPUB {subject} _INBOX.raw {}\r\n{body}\r\n",
            body.len()
        ));
        let answer = self.message();
        self.send("UNSUB 9\r\n");
        self.barrier();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer.get("error"), None, "{answer}");
        answer
    }

    fn make_stream(&mut self, name: &str, subject: &str) {
        let body =
            format!("{{\"name\":\"{name}\",\"subjects\":[\"{subject}\"],\"storage\":\"file\"}}");
        self.request(&format!("$JS.API.STREAM.CREATE.{name}"), &body);
    }

    fn stream_length(&mut self, name: &str) -> u64 {
        let answer = self.request(&format!("$JS.API.STREAM.INFO.{name}"), "");
        answer["state"]["messages"].as_u64().unwrap()
    }
}

fn hub() -> Hub {
    in_memory::hub(Arc::new(Still(1_700_000_000_000)), 4 * 1024 * 1024)
}

/// The entries of a hub in which these updates were published.
async fn entries(updates: Vec<Update>) -> Vec<Arc<Entry>> {
    let hub = hub();
    let count = updates.len();
    let grant = Arc::new(Grant::operator());
    for answer in hub.publish_all(&grant, updates).await {
        answer.unwrap();
    }
    let selection = Selection { matchers: vec![Arc::new(Matcher::Any)], grant, scope: None };
    let mut subscription = hub.subscribe(selection, Start::Earliest);
    let mut found = Vec::new();
    while found.len() < count {
        let mut batch = Batch::new();
        subscription.take(&mut batch).unwrap();
        found.extend(batch.iter().cloned());
    }
    found
}

fn update(topic: &str, data: impl Into<Vec<u8>>) -> Update {
    Update::new(Topic::parse(topic).unwrap(), data.into())
}

fn sink(server: &TestServer) -> SinkOptions {
    SinkOptions { server: server.options(), timeout: Span(PATIENCE), ..SinkOptions::default() }
}

async fn deliver(sink: &NatsSink, updates: Vec<Update>) -> Outcome {
    sink.deliver(Run { entries: entries(updates).await, tries: 0 }).await
}

fn source(server: &TestServer, subjects: &[&str]) -> SourceOptions {
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    SourceOptions { server: server.options(), subjects, ..SourceOptions::default() }
}

/// A source that runs.
struct Running {
    from: mpsc::Receiver<Incoming>,
    /// What came together and was not looked at yet.
    came: VecDeque<Update>,
    link: watch::Receiver<Link>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Running {
    /// Waits until it listens.
    async fn start(options: SourceOptions) -> Running {
        let mut running = Running::begin(options, 1_024);
        running.connected().await;
        running
    }

    fn begin(options: SourceOptions, places: usize) -> Running {
        let source = NatsSource::new("upstream", false, options).unwrap();
        let link = source.link();
        let (to, from) = mpsc::channel(places);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(Box::new(source).run(to, stop.clone()));
        Running { from, came: VecDeque::new(), link, stop, task }
    }

    async fn connected(&mut self) {
        reaches(&mut self.link, |link| matches!(link, Link::Connected(_))).await;
        // Subscriptions go out with the first write behind the login.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn next(&mut self) -> Incoming {
        tokio::time::timeout(PATIENCE, self.from.recv()).await.expect("nothing comes").unwrap()
    }

    async fn next_update(&mut self) -> Update {
        while self.came.is_empty() {
            let mut incoming = self.next().await;
            let published = |update| {
                incoming.acknowledge.next(crate::ingest::Taken::Published);
                update
            };
            self.came = incoming.updates.into_iter().map(published).collect();
        }
        self.came.pop_front().unwrap()
    }

    async fn end(mut self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task.join_next()).await.unwrap();
    }
}

async fn reaches(link: &mut watch::Receiver<Link>, wanted: impl Fn(&Link) -> bool) -> Link {
    let reached = tokio::time::timeout(PATIENCE, link.wait_for(|link| wanted(link))).await;
    reached.expect("the connection does not come to it").unwrap().clone()
}

fn topic(update: &Update) -> &str {
    update.topics[0].as_str()
}
