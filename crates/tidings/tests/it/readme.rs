//! What the README and the documents tell people to type does what they say.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::encrypted::Authority;
use crate::hub::{HUB, Launch, PROGRAM, TestHub};
use crate::page::{self, token};
use crate::tokens;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn document(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap()
}

/// The program with these arguments, ended when it does not end by itself.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", PROGRAM]).args(arguments);
    command
}

/// The fenced blocks of a language, without their fences.
pub(crate) fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    let mut wanted = false;
    for line in document.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(name)) => {
                wanted = name == language;
                block = Some(String::new());
            }
            (Some(text), Some(_)) => {
                if wanted {
                    found.push(std::mem::take(text));
                }
                block = None;
            }
            (Some(text), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

fn dev() -> TestHub {
    TestHub::launch(page::dev("127.0.0.1:0"))
}

/// A block of the README, meant for this hub.
fn aimed(block: &str, hub: &TestHub) -> String {
    assert!(block.contains("http://localhost:3000"), "{block}");
    block.replace("http://localhost:3000", &format!("http://{}", hub.address))
}

/// A line that keeps printing. Dropping it ends it.
struct Printing {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Printing {
    fn start(line: &str) -> Printing {
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", &format!("exec {line}")]).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Printing { child, lines }
    }

    /// The rest of the first line to come that starts like this.
    #[track_caller]
    fn line(&mut self, start: &str) -> String {
        let found = self
            .lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(start).map(|rest| rest.trim_start().to_owned()));
        found.unwrap_or_else(|| panic!("ended without a line that starts with {start:?}"))
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cargo_runs_the_program_without_being_told_which() {
    assert!(document("README.md").contains("\ncargo run --release -- dev\n"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let asked = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let said = Command::new(cargo).args(asked).output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let members = said["workspace_default_members"].as_array().unwrap();
    let packages = said["packages"].as_array().unwrap().iter();
    let ours = packages.filter(|package| members.contains(&package["id"]));
    let programs: Vec<_> = ours
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    assert_eq!(programs, ["tidings"]);
}

#[test]
fn the_curl_lines_publish_and_subscribe() {
    let hub = dev();
    let readme = document("README.md");
    let lines: Vec<String> = blocks(&readme, "sh")
        .iter()
        .filter(|block| block.contains("curl"))
        .map(|block| aimed(block, &hub))
        .collect();
    let [publish, subscribe, replay] = lines.as_slice() else { panic!("{lines:?}") };
    let mut live = Printing::start(subscribe);
    // The hub's first comment says that the subscription stands.
    live.line(":");
    let output = Command::new("timeout").args(["20", "sh", "-e", "-c", publish]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout).unwrap();
    assert!(!id.is_empty());
    assert_eq!(live.line("id:"), id);
    assert_eq!(live.line("data:"), r#"{"title": "Tidings", "inStock": true}"#);
    assert_eq!(Printing::start(replay).line("id:"), id);
}

#[test]
fn the_list_of_subscriptions_is_read_as_the_document_says() {
    let hub = dev();
    let token = token(&hub);
    let document = document("docs/presence.md");
    let block = blocks(&document, "sh").concat();
    let _stream = hub.subscribe_with(&token, "match=room%2F7", &[]);
    let mut command = Command::new("timeout");
    command.args(["20", "sh", "-e", "-c", &aimed(&block, &hub)]).env("TOKEN", &token);
    let output = command.output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&blocks(&document, "json")[0]).unwrap();
    assert_eq!(found["id"], shown["id"]);
    let (found, shown) = (&found["subscriptions"][0], &shown["subscriptions"][0]);
    let begin = |one: &serde_json::Value| one["id"].as_str().unwrap()[..55].to_owned();
    assert_eq!(begin(found), begin(shown));
    for name in ["type", "match_type", "match", "active"] {
        assert_eq!(found[name], shown[name], "{name}");
    }
}

#[test]
fn the_script_for_browsers_shows_updates() {
    let hub = dev();
    let token = token(&hub);
    let browser = Browser::open();
    browser.go(&format!("http://{}/", hub.address));
    let readme = document("README.md");
    let script = aimed(&blocks(&readme, "js").concat(), &hub);
    browser.run(&format!(
        "window.seen = []; const console = {{ log: (...words) => window.seen.push(words) }};
        {script}; window.updates = updates;"
    ));
    browser.wait_until("window.updates.readyState === EventSource.OPEN");
    let mut seen = Vec::new();
    for topic in ["books/1", "reviews/7", "other/1", "books/1"] {
        let topic = format!("https://example.com/{topic}");
        let id = hub.publish_with(&token, &[("topic", &topic), ("data", &topic)]).text();
        if !topic.contains("other") {
            seen.push(json!([id, topic]));
        }
    }
    browser.wait_until("window.seen.length === 3");
    assert_eq!(browser.run("return window.seen"), json!(seen));
}

#[test]
fn the_script_for_websockets_shows_updates_of_before_and_now() {
    let hub = dev();
    let token = token(&hub);
    let publish = |topic: &str| {
        let topic = format!("https://example.com/{topic}");
        hub.publish_with(&token, &[("topic", &topic), ("data", &topic)]).expect(200);
    };
    publish("books/1");
    publish("books/2");
    let browser = Browser::open();
    browser.go(&format!("http://{}/", hub.address));
    let script = blocks(&document("docs/websocket.md"), "js").concat();
    assert!(script.contains("ws://localhost:3000/"), "{script}");
    let script = script.replace("localhost:3000", &hub.address.to_string());
    browser.run(&format!(
        "window.seen = []; const show = (topic, data) => window.seen.push(data);
        const console = {{ log: (...words) => window.seen.push(words) }};
        {script}; window.place = () => cursor;"
    ));
    browser.wait_until("window.seen.length === 1");
    publish("other/2");
    publish("reviews/1");
    browser.wait_until("window.seen.length === 2");
    let shown = ["https://example.com/books/1", "https://example.com/reviews/1"];
    assert_eq!(browser.run("return window.seen"), json!(shown));
    let place = browser.run("return window.place()");
    assert!(place.as_str().unwrap().starts_with("urn:uuid:"), "{place}");
}

/// A complete configuration from a document, with its files in a folder of its own.
pub(crate) fn placed(toml: &str, folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder.join("secrets")).unwrap();
    for (name, key) in
        [("publisher.key", tokens::PUBLISH_KEY), ("subscriber.key", tokens::SUBSCRIBE_KEY)]
    {
        std::fs::write(folder.join("secrets").join(name), format!("{key}\n")).unwrap();
    }
    Authority::new().write(&folder.join("secrets"), "fullchain", &["hub.example.com"]);
    let (key, named) = (folder.join("secrets/fullchain.key"), folder.join("secrets/privkey.pem"));
    std::fs::rename(key, named).unwrap();
    let here = folder.to_str().unwrap();
    let toml = toml
        .replace("/var/lib/tidings", &format!("{here}/history"))
        .replace("/run/secrets", &format!("{here}/secrets"))
        .replace("/etc/tidings", &format!("{here}/secrets"));
    let file = folder.join("tidings.toml");
    std::fs::write(&file, toml).unwrap();
    file
}

/// The configurations of the documents, each with the document's name.
fn configurations() -> Vec<(&'static str, String)> {
    let names = ["README.md", "docs/production.md", "docs/tls.md"];
    let all = names.into_iter().flat_map(|name| {
        blocks(&document(name), "toml").into_iter().map(move |block| (name, block))
    });
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 5);
    all
}

#[test]
fn every_configuration_is_checked_and_served() {
    for (name, toml) in configurations() {
        let folder = TempDir::new().unwrap();
        let file = placed(&toml, folder.path());
        let file = file.to_str().unwrap();
        let check = program(&["check", "--config", file]).output().unwrap();
        assert!(check.status.success(), "{name}: {}", String::from_utf8_lossy(&check.stderr));
        let arguments = ["serve", "--config", file].map(str::to_owned).to_vec();
        let mut environment =
            vec![("TIDINGS_LISTEN", "127.0.0.1:0"), ("TIDINGS_ADMIN_LISTEN", "127.0.0.1:0")];
        let encrypted = toml.contains("[tls]");
        if encrypted {
            environment.push(("TIDINGS_TLS_LISTEN", "127.0.0.1:0"));
            // The rest of this test speaks to the plain listener.
            environment.push(("TIDINGS_TLS_REDIRECT", "false"));
        }
        if toml.contains("[tls.acme]") {
            environment.push(("TIDINGS_TLS_ACME_DIRECTORY", "https://localhost:1/nobody"));
        }
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let hub = TestHub::launch(Launch {
            arguments: Some(arguments),
            environment: environment.collect(),
            ..Launch::default()
        });
        if encrypted {
            hub.wait_for_log("listening on https://");
        }
        let shlink = toml.contains("id = \"Shlink\"");
        let (issuer, secret, origin) = if shlink {
            ("Shlink", shlink_secret(), "https://app.shlink.io")
        } else {
            ("https://example.com", tokens::PUBLISH_KEY.to_owned(), "https://app.example.com")
        };
        let claims = json!({
            "iss": issuer, "exp": tokens::now() + 600, "mercure": { "publish": ["*"] },
        });
        let token = tokens::mint(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, &secret);
        let fields = [("topic", "https://shlink.io/new-visit"), ("data", "{}")];
        let reply = hub.publish_with(&token, &fields);
        assert_eq!(reply.status, 200, "{name} {issuer}: {}", hub.log());
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let answer = hub.request("OPTIONS", HUB, &headers, b"");
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some(origin), "{name}");
        assert_eq!(hub.stop().0, 0, "{name}");
    }
}

fn shlink_secret() -> String {
    let readme = document("README.md");
    let shlink = blocks(&readme, "sh").into_iter().find(|block| block.contains("MERCURE_ENABLED"));
    setting(&shlink.unwrap(), "MERCURE_JWT_SECRET")
}

fn setting(block: &str, name: &str) -> String {
    let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {block}")).trim_matches('"').to_owned()
}

#[test]
fn the_settings_of_symfony_work_with_a_hub_in_development_mode() {
    let hub = dev();
    let readme = document("README.md");
    let symfony = blocks(&readme, "sh").into_iter().find(|block| block.contains("MERCURE_URL"));
    let symfony = symfony.unwrap();
    assert_eq!(setting(&symfony, "MERCURE_URL"), format!("http://localhost:3000{HUB}"));
    // As MercureBundle signs: no `exp`, no `iss`.
    let claims = json!({ "mercure": { "publish": ["*"], "subscribe": [] } });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let token = tokens::mint(&header, &claims, &setting(&symfony, "MERCURE_JWT_SECRET"));
    let mut stream = hub.stream(
        &format!("{HUB}?topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D"),
        &[("Accept", "text/event-stream")],
    );
    assert_eq!(stream.head.status, 200);
    stream.until_open();
    let fields = [("topic", "https://example.com/books/1"), ("data", r#"{"@id":"\/books\/1"}"#)];
    let id = hub.publish_with(&token, &fields).expect(200).text();
    let event = stream.event();
    assert_eq!((event.id, event.data.as_str()), (Some(id), r#"{"@id":"\/books\/1"}"#));
}

#[test]
fn the_variables_in_the_documents_are_known() {
    let text = document("docs/configuration.md");
    let folder = TempDir::new().unwrap();
    let (_, toml) = configurations().remove(1);
    let file = placed(&toml, folder.path());
    let mut command = program(&["check", "--config", file.to_str().unwrap()]);
    command.current_dir(folder.path());
    let block = blocks(&text, "sh").concat();
    for line in block.lines() {
        let (name, value) = line.split_once('=').unwrap();
        command.env(name, value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_command_in_the_readme_exists() {
    let output = program(&["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for command in
        ["dev", "serve", "check", "config", "token", "publish", "subscribe", "healthcheck"]
    {
        assert!(help.contains(&format!("  {command} ")), "{command} in\n{help}");
        assert!(document("README.md").contains(command), "{command}");
    }
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let text = document("docs/guarantees.md");
    let mut named = 0;
    // [`name`](../path/of/file.rs)
    for link in text.split("[`").skip(1) {
        let (name, rest) = link.split_once("`](../").expect("a link behind the name of a test");
        let path = rest.split_once(')').unwrap().0;
        let source = document(path);
        assert!(source.contains(&format!("fn {name}(")), "no {name} in {path}");
        named += 1;
    }
    assert!(named >= 20, "{named}");
}
