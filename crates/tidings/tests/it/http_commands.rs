//! The commands that speak to a hub: publish, subscribe, healthcheck.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::hub::{HUB, PROGRAM, TestHub, run};
use crate::tokens::{Role, token_draft, token_final};

const TOPIC: &str = "https://commands.example/1";

fn url(hub: &TestHub) -> String {
    format!("http://{}{HUB}", hub.address)
}

/// Runs the program with a token in its environment and this standard input.
fn command(token: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("TIDINGS_TOKEN", token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn published_from_the_command_line_it_is_read_from_the_command_line() {
    let hub = TestHub::start("");
    let url = url(&hub);
    let publisher = token_final(Role::Publish, &["*"]);
    let first = ["publish", &url, "-t", TOPIC, "-d", "a & b", "--id", "urn:test:1", "--private"];
    let published = command(&publisher, &first, "");
    assert!(published.status.success(), "{}", text(&published.stderr));
    assert_eq!(text(&published.stdout), "urn:test:1\n");
    let second = ["publish", &url, "--topic", TOPIC, "--data", "-", "--type", "note"];
    let published = command(&publisher, &second, "two\nlines");
    assert!(published.status.success(), "{}", text(&published.stderr));
    let second_id = text(&published.stdout).trim().to_owned();

    let subscriber = token_final(Role::Subscribe, &["*"]);
    let all = ["subscribe", &url, "--last-event-id", "earliest", "--json", "-n", "2"];
    let read = command(&subscriber, &all, "");
    assert!(read.status.success(), "{}", text(&read.stderr));
    let events: Vec<serde_json::Value> =
        text(&read.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["id"], "urn:test:1");
    assert_eq!((&events[0]["type"], &events[0]["data"]), (&"message".into(), &"a & b".into()));
    assert_eq!(events[1]["id"], second_id.as_str());
    assert_eq!((&events[1]["type"], &events[1]["data"]), (&"note".into(), &"two\nlines".into()));

    let later = ["subscribe", &url, "--match", TOPIC, "--last-event-id", "urn:test:1", "-n", "1"];
    assert_eq!(text(&command(&subscriber, &later, "").stdout), "two\nlines\n");
    let draft = ["subscribe", &url, "--topic", TOPIC, "--last-event-id", "urn:test:1", "-n", "1"];
    let draft = command(&token_draft(Role::Subscribe, &["*"]), &draft, "");
    assert_eq!(text(&draft.stdout), "two\nlines\n");
}

#[test]
fn what_the_hub_refuses_is_said_without_the_token() {
    let hub = TestHub::start("");
    let url = url(&hub);
    let token = token_final(Role::Publish, &["https://other.example/"]);
    let refused = command(&token, &["publish", &url, "-t", TOPIC], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("403"), "{}", text(&refused.stderr));
    let refused = command(&token, &["subscribe", &url], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("401"), "{}", text(&refused.stderr));
    let nobody = format!("http://127.0.0.1:1/?authorization={token}");
    let unreachable = command(&token, &["publish", &nobody, "-t", TOPIC], "");
    assert_eq!(unreachable.status.code(), Some(1));
    for output in [refused, unreachable] {
        assert!(!text(&output.stderr).contains(&token), "{}", text(&output.stderr));
    }
    let misused = command("", &["publish", &url], "");
    assert_eq!(misused.status.code(), Some(2));
}

#[test]
fn a_health_check_tells_by_its_exit_code() {
    let hub = TestHub::start("");
    let toml = format!("[admin]\nlisten = \"{}\"", hub.admin.expect("an admin listener"));
    let check = || run(&["healthcheck"], Some(&toml));
    let healthy = check();
    assert_eq!(healthy.status.code(), Some(0), "{}", text(&healthy.stderr));
    let (code, log) = hub.stop();
    assert_eq!(code, 0, "{log}");
    let gone = check();
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("cannot be reached"), "{}", text(&gone.stderr));
    let off = run(&["healthcheck"], Some("[admin]\nlisten = \"off\""));
    assert_eq!(off.status.code(), Some(1));
    assert!(text(&off.stderr).contains("admin.listen"), "{}", text(&off.stderr));
}
