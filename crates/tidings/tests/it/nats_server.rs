//! Debian's `nats-server` on ports of its own, and a raw client that judges what others say to it:
//! its own protocol code, so that the program under test is not measured by itself. Knows nothing
//! of hubs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{self, PATIENCE};

/// How a server is started; the default has no users, no TLS and no JetStream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Setup {
    pub(crate) jetstream: bool,
    /// Lines of its configuration file.
    pub(crate) config: String,
}

/// A running server; dropping it kills it.
pub(crate) struct NatsServer {
    pub(crate) address: SocketAddr,
    monitoring: SocketAddr,
    folder: TempDir,
    setup: Setup,
    child: Option<Child>,
}

impl NatsServer {
    /// Everybody may connect.
    pub(crate) fn start() -> NatsServer {
        NatsServer::with(Setup::default())
    }

    /// The same, and it keeps streams on the disk.
    pub(crate) fn jetstream() -> NatsServer {
        NatsServer::with(Setup { jetstream: true, config: String::new() })
    }

    /// With these lines in its configuration.
    pub(crate) fn configured(config: &str) -> NatsServer {
        NatsServer::with(Setup { jetstream: false, config: config.to_owned() })
    }

    pub(crate) fn with(setup: Setup) -> NatsServer {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = TempDir::new().unwrap();
        let mut server =
            NatsServer { address: anywhere, monitoring: anywhere, folder, setup, child: None };
        server.restart();
        server
    }

    /// A port that nobody listens on, for a server that comes later by [`NatsServer::restart`].
    pub(crate) fn not_yet(setup: Setup) -> NatsServer {
        let mut server = NatsServer::with(setup);
        server.kill();
        server
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it, again on the port that it had and with the streams it had. Kills it before.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill();
        let (folder, ports) = (self.folder.path(), self.folder.path().join("ports"));
        let _ = std::fs::remove_dir_all(&ports);
        std::fs::create_dir_all(&ports).unwrap();
        let config = folder.join("nats.conf");
        std::fs::write(&config, &self.setup.config).unwrap();
        let port = |address: SocketAddr| match address.port() {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log"));
        // Where the package puts it is not on everybody's path.
        let known = Path::new("/usr/sbin/nats-server");
        let program = if known.exists() { known } else { Path::new("nats-server") };
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port(self.address)]);
        command.args(["-m", &port(self.monitoring), "-c"]).arg(&config);
        command.arg("--ports_file_dir").arg(&ports);
        if self.setup.jetstream {
            command.arg("-js").arg("-sd").arg(folder.join("streams"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        let child = command.spawn().expect("nats-server, of the Debian package nats-server");
        self.child = Some(child);
        let ports = self.wait_for_ports(&ports);
        let address = |name: &str| -> SocketAddr {
            let url = ports[name][0].as_str().unwrap();
            url.rsplit('/').next().unwrap().parse().unwrap()
        };
        (self.address, self.monitoring) = (address("nats"), address("monitoring"));
        // The file may be there before somebody listens.
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again with other lines in its configuration.
    #[track_caller]
    pub(crate) fn reconfigure(&mut self, config: &str) {
        self.setup.config = config.to_owned();
        self.restart();
    }

    /// Has it take other lines in its configuration, without an end of its connections.
    #[track_caller]
    pub(crate) fn reload(&mut self, config: &str) {
        self.setup.config = config.to_owned();
        std::fs::write(self.folder.path().join("nats.conf"), config).unwrap();
        let (done, before) = ("Reloaded server configuration", self.log());
        let process = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &process]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        while self.log().matches(done).count() == before.matches(done).count() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn wait_for_ports(&mut self, folder: &Path) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let files = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
            let texts = files.filter_map(|file| std::fs::read(file.path()).ok());
            if let Some(ports) = texts.filter_map(|text| serde_json::from_slice(&text).ok()).next()
            {
                return ports;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "nats-server ended with {ended:?}:\n{}", self.log());
            assert!(Instant::now() < deadline, "no ports:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `nats://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// A client without a name or password.
    #[track_caller]
    pub(crate) fn client(&self) -> NatsClient {
        self.client_as(&json!({}))
    }

    /// A client that says this of itself, such as `{"user": "a", "pass": "b"}`.
    #[track_caller]
    pub(crate) fn client_as(&self, login: &Value) -> NatsClient {
        NatsClient::connect(self.address, |_| login.clone())
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// What the monitoring port says at a path, such as `/connz`.
    #[track_caller]
    pub(crate) fn monitored(&self, target: &str) -> Value {
        let request = http::request("GET", target, &[("Connection", "close")], b"");
        http::exchange(self.monitoring, &request).expect(200).json()
    }

    /// The connections of now, as `/connz` lists them.
    #[track_caller]
    pub(crate) fn connections(&self) -> Vec<Value> {
        let list = self.monitored("/connz?auth=1&subs=1");
        list["connections"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until so many connections subscribe to this subject.
    #[track_caller]
    pub(crate) fn wait_for_subscribers(&self, subject: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let connections = self.connections();
            let subscribed = connections.iter().filter(|one| {
                let list = one["subscriptions_list"].as_array();
                list.is_some_and(|list| list.iter().any(|one| one == subject))
            });
            if subscribed.count() == count {
                return;
            }
            assert!(Instant::now() < deadline, "not {count} for {subject}: {connections:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of nats-server at {}\n{}---", self.address, self.log());
        }
    }
}

/// A message as the server delivered it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// When it was read.
    pub(crate) at: Instant,
    pub(crate) subject: String,
    pub(crate) reply_to: Option<String>,
    /// Names as sent.
    pub(crate) headers: Vec<(String, String)>,
    /// What stands behind `NATS/1.0` in the first line of the headers; empty mostly.
    pub(crate) status: String,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The first header of this name, letter by letter.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Heard {
    messages: Vec<Message>,
    pongs: usize,
    /// Errors that the server told.
    errors: Vec<String>,
    ended: bool,
}

#[derive(Default)]
struct Ears {
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// A connection to a server. It answers pings, never connects again, and never gives up quietly.
pub(crate) struct NatsClient {
    writer: Arc<Mutex<TcpStream>>,
    ears: Arc<Ears>,
    pings: usize,
    subscriptions: usize,
}

impl NatsClient {
    /// Connects; `login` is told what the server said of itself (its nonce, for one) and gives what
    /// the client says. The error is what the server refused it with.
    pub(crate) fn connect(
        address: SocketAddr,
        login: impl FnOnce(&Value) -> Value,
    ) -> Result<NatsClient, String> {
        let socket = TcpStream::connect(address).map_err(|e| e.to_string())?;
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).map_err(|e| e.to_string())?;
        let info = line.strip_prefix("INFO ").ok_or(format!("no greeting: {line:?}"))?;
        let info: Value = serde_json::from_str(info).map_err(|e| e.to_string())?;
        let mut said = json!({
            "verbose": false, "pedantic": false, "lang": "test", "version": "0",
            "protocol": 1, "headers": true, "no_responders": true,
        });
        let login = login(&info);
        said.as_object_mut().unwrap().extend(login.as_object().unwrap().clone());
        socket.set_read_timeout(None).unwrap();
        let writer = Arc::new(Mutex::new(socket));
        let ears = Arc::new(Ears::default());
        let (heard, answers) = (Arc::clone(&ears), Arc::clone(&writer));
        std::thread::spawn(move || {
            let _ = heard.listen(reader, &answers);
            heard.heard.lock().unwrap().ended = true;
            heard.changed.notify_all();
        });
        let mut client = NatsClient { writer, ears, pings: 0, subscriptions: 0 };
        client.send(format!("CONNECT {said}\r\n").as_bytes());
        if client.try_flush() {
            return Ok(client);
        }
        let heard = client.ears.heard.lock().unwrap();
        Err(heard.errors.first().cloned().unwrap_or("the server closed".to_owned()))
    }

    fn send(&self, bytes: &[u8]) -> bool {
        self.writer.lock().unwrap().write_all(bytes).is_ok()
    }

    /// Publishes; the server has it once [`NatsClient::flush`] returned.
    pub(crate) fn publish(&self, subject: &str, payload: impl AsRef<[u8]>) -> bool {
        let payload = payload.as_ref();
        let head = format!("PUB {subject} {}\r\n", payload.len());
        self.send(&[head.as_bytes(), payload, b"\r\n"].concat())
    }

    /// The same with headers.
    pub(crate) fn publish_with(
        &self,
        subject: &str,
        headers: http::Pairs<'_>,
        payload: impl AsRef<[u8]>,
    ) -> bool {
        let mut block = "NATS/1.0\r\n".to_owned();
        for (name, value) in headers {
            block.push_str(&format!("{name}: {value}\r\n"));
        }
        block.push_str("\r\n");
        let payload = payload.as_ref();
        let total = block.len() + payload.len();
        let head = format!("HPUB {subject} {} {total}\r\n", block.len());
        self.send(&[head.as_bytes(), block.as_bytes(), payload, b"\r\n"].concat())
    }

    /// Subscribes; the server knows it when this returns.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, subject: &str) {
        self.subscriptions += 1;
        self.send(format!("SUB {subject} {}\r\n", self.subscriptions).as_bytes());
        self.flush();
    }

    /// A ping, and its answer: all that was sent before is with the server.
    #[track_caller]
    pub(crate) fn flush(&mut self) {
        assert!(self.try_flush(), "{:?}", self.ears.heard.lock().unwrap().errors);
    }

    /// The same; false when the server is gone or did not answer in time.
    pub(crate) fn try_flush(&mut self) -> bool {
        self.pings += 1;
        let pings = self.pings;
        self.send(b"PING\r\n") && self.ears.wait(PATIENCE, |heard| heard.pongs >= pings)
    }

    /// Sends a request and waits for the first answer.
    #[track_caller]
    pub(crate) fn request(&mut self, subject: &str, payload: &[u8]) -> Message {
        self.subscriptions += 1;
        let inbox = format!("_INBOX.test.{}", self.subscriptions);
        self.send(format!("SUB {inbox} {}\r\n", self.subscriptions).as_bytes());
        let head = format!("PUB {subject} {inbox} {}\r\n", payload.len());
        self.send(&[head.as_bytes(), payload, b"\r\n"].concat());
        let found =
            |heard: &Heard| heard.messages.iter().find(|message| message.subject == inbox).cloned();
        self.ears.wait(PATIENCE, |heard| found(heard).is_some());
        let heard = self.ears.heard.lock().unwrap();
        found(&heard).unwrap_or_else(|| panic!("no answer to {subject}: {:?}", heard.errors))
    }

    /// A request to JetStream whose answer is JSON without an error.
    #[track_caller]
    pub(crate) fn jetstream(&mut self, call: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.request(&format!("$JS.API.{call}"), body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer.get("error").is_none(), "{call}: {answer}");
        answer
    }

    /// Makes a stream on the disk that keeps what is published to these subjects.
    #[track_caller]
    pub(crate) fn make_stream(&mut self, name: &str, subjects: &[&str]) {
        let stream = json!({
            "name": name, "subjects": subjects, "storage": "file", "retention": "limits",
            "num_replicas": 1, "duplicate_window": 120_000_000_000_u64,
        });
        self.jetstream(&format!("STREAM.CREATE.{name}"), &stream);
    }

    /// Everything in a stream, in its order.
    #[track_caller]
    pub(crate) fn stream(&mut self, name: &str) -> Vec<Message> {
        let state = self.jetstream(&format!("STREAM.INFO.{name}"), &Value::Null);
        let last = state["state"]["last_seq"].as_u64().unwrap();
        let first = state["state"]["first_seq"].as_u64().unwrap();
        (first..=last).map(|sequence| self.stored(name, sequence)).collect()
    }

    fn stored(&mut self, stream: &str, sequence: u64) -> Message {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let call = format!("STREAM.MSG.GET.{stream}");
        let answer = self.jetstream(&call, &json!({ "seq": sequence }));
        let bytes = |name: &str| {
            let text = answer["message"][name].as_str().unwrap_or_default();
            STANDARD.decode(text).unwrap()
        };
        let (status, headers) = header_block(&bytes("hdrs"));
        Message {
            at: Instant::now(),
            subject: answer["message"]["subject"].as_str().unwrap().to_owned(),
            reply_to: None,
            headers,
            status,
            payload: bytes("data"),
        }
    }

    /// All messages so far, but those that answered requests.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let heard = self.ears.heard.lock().unwrap();
        let real = heard.messages.iter().filter(|one| !one.subject.starts_with("_INBOX."));
        real.cloned().collect()
    }

    /// Waits until so many messages have come, and gives all that came.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Message> {
        let enough = |heard: &Heard| {
            heard.messages.iter().filter(|one| !one.subject.starts_with("_INBOX.")).count() >= count
        };
        let came = self.ears.wait(PATIENCE, enough);
        let messages = self.messages();
        let seen: Vec<_> = messages.iter().map(|one| (&one.subject, one.text())).collect();
        assert!(came, "{} messages of {count}: {seen:?}", seen.len());
        messages
    }

    /// Waits for a message with this payload, and gives all that came up to it.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, payload: &str) -> Vec<Message> {
        let is_it = |one: &Message| one.payload == payload.as_bytes();
        let came = self.ears.wait(PATIENCE, |heard| heard.messages.iter().any(is_it));
        let messages = self.messages();
        let seen: Vec<_> = messages.iter().map(|one| (&one.subject, one.text())).collect();
        assert!(came, "no {payload:?} among {seen:?}");
        let end = messages.iter().position(is_it).unwrap();
        messages[..=end].to_vec()
    }
}

impl Drop for NatsClient {
    fn drop(&mut self) {
        let _ = self.writer.lock().unwrap().shutdown(std::net::Shutdown::Both);
    }
}

impl Ears {
    /// Waits until what was heard is enough; false when it never came.
    fn wait(&self, patience: Duration, enough: impl Fn(&Heard) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut heard = self.heard.lock().unwrap();
        loop {
            if enough(&heard) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.ended || left.is_zero() {
                return false;
            }
            heard = self.changed.wait_timeout(heard, left).unwrap().0;
        }
    }

    fn listen(&self, mut reader: BufReader<TcpStream>, answers: &Mutex<TcpStream>) -> Option<()> {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.first().copied()? {
                "PING" => answers.lock().unwrap().write_all(b"PONG\r\n").ok()?,
                "PONG" => self.heard.lock().unwrap().pongs += 1,
                "-ERR" => self.heard.lock().unwrap().errors.push(line[4..].trim().to_owned()),
                name @ ("MSG" | "HMSG") => {
                    let message = message(name == "HMSG", &words, &mut reader)?;
                    self.heard.lock().unwrap().messages.push(message);
                }
                _ => {}
            }
            self.changed.notify_all();
        }
    }
}

/// The rest of a message whose first line is these words.
fn message(
    with_headers: bool,
    words: &[&str],
    reader: &mut BufReader<TcpStream>,
) -> Option<Message> {
    let sizes = if with_headers { 2 } else { 1 };
    let named = words.len() - sizes;
    let total: usize = words.last()?.parse().ok()?;
    let headers = if with_headers { words[named].parse().ok()? } else { 0 };
    let mut bytes = vec![0; total + 2];
    reader.read_exact(&mut bytes).ok()?;
    let (status, pairs) = header_block(&bytes[..headers]);
    Some(Message {
        at: Instant::now(),
        subject: words[1].to_owned(),
        reply_to: (named == 4).then(|| words[3].to_owned()),
        headers: pairs,
        status,
        payload: bytes[headers..total].to_vec(),
    })
}

/// What stands in the first line of a block of headers, and its pairs.
fn header_block(bytes: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).unwrap_or_default();
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    (status.trim().to_owned(), pairs)
}

#[test]
fn the_server_of_the_tests_carries_messages_and_comes_back_on_its_port() {
    let mut server = NatsServer::start();
    let (mut here, mut there) = (server.client(), server.client());
    there.subscribe("a.>");
    server.wait_for_subscribers("a.>", 1);
    here.publish("a", "not below it");
    here.publish("a.1", b"\xff\x00");
    here.publish_with("a.2", &[("X-One", "1"), ("X-One", "2")], "");
    let messages = there.wait_for(2);
    assert_eq!((messages[0].subject.as_str(), &messages[0].payload[..]), ("a.1", &b"\xff\x00"[..]));
    assert_eq!(messages[1].headers.len(), 2);
    assert_eq!(messages[1].header("X-One"), Some("1"));
    let address = server.address;
    server.restart();
    assert_eq!(server.address, address);
    assert!(!here.try_flush(), "a killed server answers no ping");
    assert!(server.client().try_flush());
}

#[test]
fn the_server_of_the_tests_asks_for_passwords_where_it_was_told_to() {
    let server = NatsServer::configured("authorization { user: anna, password: secret }");
    assert!(server.client_as(&json!({ "user": "anna", "pass": "secret" })).try_flush());
    let refused = NatsClient::connect(server.address, |_| json!({ "user": "anna", "pass": "no" }));
    let refused = refused.err().unwrap();
    assert!(refused.contains("Authorization Violation"), "{refused}");
}

#[test]
fn streams_of_the_server_of_the_tests_survive_its_death() {
    let mut server = NatsServer::jetstream();
    let mut client = server.client();
    client.make_stream("KEPT", &["kept.>"]);
    let receipt = client.request("kept.1", b"one");
    assert!(receipt.text().contains("\"seq\":1"), "{}", receipt.text());
    server.restart();
    let mut client = server.client();
    client.request("kept.2", b"two");
    let kept: Vec<String> = client.stream("KEPT").iter().map(Message::text).collect();
    assert_eq!(kept, ["one", "two"]);
}
