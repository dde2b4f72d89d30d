//! Runs the real program: start it on port 0, learn its address from its log, kill it, restart it
//! on the same data. Knows the program by its command line, its log and its sockets only.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::{self, EventStream, PATIENCE, Pairs, Reply};
use crate::tokens::{self, Role, bearer, token_draft, token_final};

/// The hub's path in the test configuration.
pub(crate) const HUB: &str = "/.well-known/mercure";

/// How the data of updates begins that only mark how far a reader has come.
pub(crate) const END_OF_HISTORY: &str = "end-of-history-";

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tidings");

/// How a hub is started; all defaults suit most tests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Launch {
    /// Laid over the test configuration, table by table; lists replace lists.
    pub(crate) toml: String,
    /// Variables for the program; it inherits none but `PATH`.
    pub(crate) environment: Vec<(String, String)>,
    /// A program and its arguments that run the hub, as `strace -D -o file`.
    pub(crate) under: Vec<String>,
    /// Where the history lives, instead of a folder of its own.
    pub(crate) data: Option<PathBuf>,
    /// Instead of `serve --config FILE`; no configuration file is written then.
    pub(crate) arguments: Option<Vec<String>>,
}

impl Launch {
    /// The test configuration with this TOML laid over it.
    pub(crate) fn toml(toml: &str) -> Launch {
        Launch { toml: toml.to_owned(), ..Launch::default() }
    }
}

/// A running hub. Dropping it kills it.
pub(crate) struct TestHub {
    pub(crate) address: SocketAddr,
    /// The admin listener, when the program has opened one.
    pub(crate) admin: Option<SocketAddr>,
    folder: Arc<TempDir>,
    launch: Launch,
    child: Child,
    log: Arc<Log>,
}

/// What the program wrote to stderr so far.
#[derive(Default)]
struct Log {
    lines: Mutex<LogLines>,
    changed: Condvar,
}

#[derive(Default)]
struct LogLines {
    text: String,
    ended: bool,
}

impl TestHub {
    /// The test configuration with this TOML laid over it.
    #[track_caller]
    pub(crate) fn start(toml: &str) -> TestHub {
        TestHub::launch(Launch::toml(toml))
    }

    #[track_caller]
    pub(crate) fn launch(launch: Launch) -> TestHub {
        TestHub::try_launch(launch).unwrap_or_else(|log| panic!("the hub did not start:\n{log}"))
    }

    /// A running hub, or the log of a program that ended instead.
    pub(crate) fn try_launch(launch: Launch) -> Result<TestHub, String> {
        TestHub::start_in(Arc::new(TempDir::new().unwrap()), launch)
    }

    fn start_in(folder: Arc<TempDir>, launch: Launch) -> Result<TestHub, String> {
        let mut child = command(folder.path(), &launch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                writer.push(&String::from_utf8_lossy(&line));
            }
            writer.end();
        });
        let Some(line) = log.wait("listening on http://", PATIENCE) else {
            let _ = child.kill();
            let status = child.wait().unwrap();
            log.wait_for_end();
            return Err(format!("{}({status})", log.text()));
        };
        let address = address_in(&line, "listening on http://").expect("an address in the log");
        // The contract: the admin listener's line stands before the one that says "listening".
        let text = log.text();
        let admin = text.lines().find_map(|line| address_in(&plain(line), "admin on http://"));
        Ok(TestHub { address, admin, folder, launch, child, log })
    }

    /// The folder with the history.
    pub(crate) fn data(&self) -> PathBuf {
        data_path(self.folder.path(), &self.launch)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("tidings.toml")
    }

    /// The process id of the hub itself.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far, without colours.
    pub(crate) fn log(&self) -> String {
        plain(&self.log.text())
    }

    /// Waits for a line of the log that contains this text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        match self.log.wait(text, PATIENCE) {
            Some(line) => line,
            None => panic!("no line with {text:?} in\n{}", self.log()),
        }
    }

    /// Ends the program without warning.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.wait_for_end();
    }

    /// Starts it again on the same data, on another port.
    #[track_caller]
    pub(crate) fn restart(self) -> TestHub {
        let launch = self.launch.clone();
        self.restart_with(launch)
    }

    /// Starts it again on the same data with another configuration.
    #[track_caller]
    pub(crate) fn restart_with(self, launch: Launch) -> TestHub {
        self.try_restart_with(launch).unwrap_or_else(|log| panic!("did not start again:\n{log}"))
    }

    /// The same, or the log of a program that ended instead.
    pub(crate) fn try_restart_with(mut self, launch: Launch) -> Result<TestHub, String> {
        self.kill9();
        TestHub::start_in(Arc::clone(&self.folder), launch)
    }

    /// Sends a signal by name (`TERM`, `INT`, `HUP`, `STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status();
        assert!(status.unwrap().success());
    }

    /// SIGTERM, and the exit code with the log once it ended.
    #[track_caller]
    pub(crate) fn stop(mut self) -> (i32, String) {
        self.signal("TERM");
        let code = self.wait_for_exit(Duration::from_secs(60));
        (code, self.log())
    }

    /// Waits for the program to end by itself; the negative signal number when it was killed.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self, patience: Duration) -> i32 {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.wait_for_end();
                return status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Exactly these bytes on a new connection, and the complete answer.
    #[track_caller]
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Reply {
        http::exchange(self.address, bytes)
    }

    /// Any request on a new connection.
    #[track_caller]
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        headers: Pairs<'_>,
        body: &[u8],
    ) -> Reply {
        self.exchange(&http::request(method, target, headers, body))
    }

    /// GET that ends: refusals, or paths that are no streams.
    #[track_caller]
    pub(crate) fn get(&self, target: &str, headers: Pairs<'_>) -> Reply {
        self.request("GET", target, headers, b"")
    }

    /// What the admin listener says of one of its numbers, whose name has its labels.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let admin = self.admin.expect("the admin listener's address in the log");
        let text =
            http::exchange(admin, &http::request("GET", "/metrics", &[], b"")).expect(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().unwrap()
    }

    /// Waits until one of its numbers is this, and answers how long that took.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, value: u64) -> Duration {
        let begun = Instant::now();
        while self.metric(name) != value {
            assert!(begun.elapsed() < PATIENCE, "{name} is {}, not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// POST of a form to the hub.
    #[track_caller]
    pub(crate) fn post(&self, headers: Pairs<'_>, fields: Pairs<'_>) -> Reply {
        self.post_body(headers, http::form(fields).as_bytes())
    }

    /// POST of any bytes with a form's content type to the hub.
    #[track_caller]
    pub(crate) fn post_body(&self, headers: Pairs<'_>, body: &[u8]) -> Reply {
        let mut all = vec![("Content-Type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.request("POST", HUB, &all, body)
    }

    /// Publishes with a 1.0 token for everything; gives the id.
    #[track_caller]
    pub(crate) fn publish(&self, fields: Pairs<'_>) -> String {
        self.publish_with(&token_final(Role::Publish, &["*"]), fields).expect(200).text()
    }

    /// Publishes with this token.
    #[track_caller]
    pub(crate) fn publish_with(&self, token: &str, fields: Pairs<'_>) -> Reply {
        let (name, value) = bearer(token);
        self.post(&[(name.as_str(), value.as_str())], fields)
    }

    /// Publishes with a 0.x token for everything; gives the id.
    #[track_caller]
    pub(crate) fn publish_draft(&self, fields: Pairs<'_>) -> String {
        self.publish_with(&token_draft(Role::Publish, &["*"]), fields).expect(200).text()
    }

    /// Subscribes with a 1.0 token for everything and this query (`match=*`, without `?`), over
    /// HTTP/1.1; returns once the subscriber is registered.
    #[track_caller]
    pub(crate) fn subscribe(&self, query: &str) -> EventStream {
        self.subscribe_with(&token_final(Role::Subscribe, &["*"]), query, &[])
    }

    /// The same with a 0.x token.
    #[track_caller]
    pub(crate) fn subscribe_draft(&self, query: &str) -> EventStream {
        self.subscribe_with(&token_draft(Role::Subscribe, &["*"]), query, &[])
    }

    /// Subscribes with this token and these headers; the answer must be 200.
    #[track_caller]
    pub(crate) fn subscribe_with(
        &self,
        token: &str,
        query: &str,
        headers: Pairs<'_>,
    ) -> EventStream {
        let (name, value) = bearer(token);
        let mut all = vec![(name.as_str(), value.as_str()), ("Accept", "text/event-stream")];
        all.extend_from_slice(headers);
        let mut stream = self.stream(&format!("{HUB}?{query}"), &all);
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        stream.until_open();
        stream
    }

    /// GET whose answer is read as a stream, whatever its status.
    #[track_caller]
    pub(crate) fn stream(&self, target: &str, headers: Pairs<'_>) -> EventStream {
        http::stream(self.address, &http::request("GET", target, headers, b""))
    }

    /// Everything the history holds, oldest first: a 1.0 subscriber from `earliest`, up to a
    /// last update that this publishes to find the end.
    #[track_caller]
    pub(crate) fn history(&self) -> Vec<http::Event> {
        static ENDS: AtomicU64 = AtomicU64::new(0);
        let end = format!("{END_OF_HISTORY}{}", ENDS.fetch_add(1, Ordering::Relaxed));
        self.publish(&[("topic", "https://tests.example/end"), ("data", &end)]);
        let mut stream = self.subscribe("match=*&last_event_id=earliest");
        let mut events = Vec::new();
        loop {
            let event = stream.event();
            if event.data == end {
                return events;
            }
            if !event.data.starts_with(END_OF_HISTORY) {
                events.push(event);
            }
        }
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the hub at {}\n{}---", self.address, self.log());
        }
    }
}

/// Runs the program to its end in a folder of its own: `check`, `config`, mistakes. The TOML is
/// laid over the test configuration and passed by `--config` when it is given.
pub(crate) fn run(arguments: &[&str], toml: Option<&str>) -> Output {
    let folder = TempDir::new().unwrap();
    let launch = Launch::toml(toml.unwrap_or_default());
    run_in(folder.path(), arguments, toml.is_some().then_some(&launch))
}

/// The same in a given folder.
pub(crate) fn run_in(folder: &Path, arguments: &[&str], launch: Option<&Launch>) -> Output {
    let mut arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    if let Some(launch) = launch {
        std::fs::write(folder.join("tidings.toml"), configuration(folder, launch)).unwrap();
        arguments.extend(["--config".into(), folder.join("tidings.toml").into()]);
    }
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let mut command = Command::new(PROGRAM);
    let mut child = clean(&mut command, folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&stdout).unwrap())
        .stderr(std::fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let (stdout, stderr) = (std::fs::read(stdout).unwrap(), std::fs::read(stderr).unwrap());
    Output { status, stdout, stderr }
}

/// The complete configuration of a launch, as TOML.
pub(crate) fn configuration(folder: &Path, launch: &Launch) -> String {
    let mut all: toml::Table = base(&data_path(folder, launch)).parse().unwrap();
    let over: toml::Table =
        launch.toml.parse().unwrap_or_else(|e| panic!("{e} in a test's TOML:\n{}", launch.toml));
    lay_over(&mut all, over);
    if all.get("history").and_then(|h| h.get("durability")?.as_str()) == Some("memory")
        && let Some(history) = all.get_mut("history").and_then(toml::Value::as_table_mut)
    {
        history.remove("path");
    }
    all.to_string()
}

fn base(data: &Path) -> String {
    let mut text = String::new();
    let (url, issuer) = (tokens::PUBLIC_URL, tokens::ISSUER);
    let (publish, subscribe) = (tokens::PUBLISH_KEY, tokens::SUBSCRIBE_KEY);
    write!(
        text,
        r#"
listen = "127.0.0.1:0"
public_url = "{url}"
[admin]
listen = "127.0.0.1:0"
[history]
path = {data:?}
[[auth.issuer]]
id = "{issuer}"
accept = ["1.0", "0.x"]
publish = {{ key = "{publish}", algorithm = "HS256" }}
subscribe = {{ key = "{subscribe}", algorithm = "HS256" }}
"#
    )
    .unwrap();
    text
}

fn lay_over(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn data_path(folder: &Path, launch: &Launch) -> PathBuf {
    launch.data.clone().unwrap_or_else(|| folder.join("history"))
}

fn command(folder: &Path, launch: &Launch) -> Command {
    let arguments: Vec<OsString> = match &launch.arguments {
        Some(arguments) => arguments.iter().map(OsString::from).collect(),
        None => {
            let file = folder.join("tidings.toml");
            std::fs::write(&file, configuration(folder, launch)).unwrap();
            vec!["serve".into(), "--config".into(), file.into()]
        }
    };
    let mut command = match launch.under.split_first() {
        None => Command::new(PROGRAM),
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest).arg(PROGRAM);
            command
        }
    };
    clean(&mut command, folder).args(arguments);
    command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Nothing of the developer's environment or folder reaches the program.
fn clean<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command.env_clear().current_dir(folder).env("HOME", folder).env("NO_COLOR", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(filter) = std::env::var_os("RUST_LOG") {
        command.env("RUST_LOG", filter);
    }
    command
}

impl Log {
    fn push(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap();
        lines.text.push_str(line);
        lines.text.push('\n');
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().ended = true;
        self.changed.notify_all();
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().text.clone()
    }

    /// The first line that contains the text, or nothing at the deadline or the end of the log.
    fn wait(&self, text: &str, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.text.lines().map(plain).find(|line| line.contains(text)) {
                return Some(line);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if lines.ended {
                return None;
            }
            lines = self.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn wait_for_end(&self) {
        let lines = self.lines.lock().unwrap();
        // A tracer that outlives the program may hold its stderr: do not wait for ever.
        let _ = self.changed.wait_timeout_while(lines, Duration::from_secs(2), |l| !l.ended);
    }
}

/// The socket address behind a marker.
fn address_in(line: &str, marker: &str) -> Option<SocketAddr> {
    let rest = line.split_once(marker)?.1;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

/// Without the colours of a terminal.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(character);
        }
    }
    out
}
