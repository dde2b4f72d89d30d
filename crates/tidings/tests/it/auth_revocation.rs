//! Tokens taken back before their end: refused on every request, and their connections end.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::http::{self, Connection, Reply};
use crate::hub::{HUB, Launch, TestHub, configuration, run_in};
use crate::readme::{blocks, document, placed};
use crate::tokens::{ISSUER, Role, bearer, claims_final, detail, mint};

const TOPIC: &str = "https://revoked.example/";
const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"admin-token-of-the-tests\"";
const PATH: &str = "/tidings/admin/revocations";

fn token_of(role: Role, id: &str, subject: &str) -> String {
    let mut claims = claims_final(json!([detail(role, &["*"])]));
    claims["jti"] = json!(id);
    claims["sub"] = json!(subject);
    mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, role.key())
}

fn draft_token_of(role: Role, subject: &str) -> String {
    let claims = json!({ "sub": subject, "mercure": { role.action(): ["*"] } });
    mint(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, role.key())
}

fn ask(hub: &TestHub, method: &str, target: &str, token: &str, body: &Value) -> Reply {
    let (name, value) = bearer(token);
    let headers = [(name.as_str(), value.as_str())];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::exchange(hub.admin.unwrap(), &http::request(method, target, &headers, body.as_bytes()))
}

fn revoke(hub: &TestHub, what: &Value) -> Value {
    ask(hub, "POST", PATH, "admin-token-of-the-tests", what).expect(201).json()
}

/// Runs a command on the hub's own configuration.
fn command(hub: &TestHub, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = hub.config().parent().unwrap().to_owned();
    let admin = hub.admin.unwrap().to_string();
    let mut all = vec!["token"];
    all.extend_from_slice(arguments);
    let config = hub.config();
    all.extend_from_slice(&["--admin", &admin, "--config", config.to_str().unwrap()]);
    let output = run_in(&folder, &all, None);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn fields(data: &str) -> [(&str, &str); 2] {
    [("topic", TOPIC), ("data", data)]
}

#[test]
fn a_revoked_token_is_refused_at_once_and_its_connections_end_within_a_second() {
    let hub = TestHub::start(ADMIN);
    let token = token_of(Role::Subscribe, "one", "mallory");
    let mut streams: Vec<_> = (0..3).map(|_| hub.subscribe_with(&token, "match=*", &[])).collect();
    let mut other = hub.subscribe_with(&token_of(Role::Subscribe, "two", "a"), "match=*", &[]);
    let begun = Instant::now();
    let answer = revoke(&hub, &json!({ "token_id": "one", "issuer": ISSUER }));
    assert_eq!((&answer["ended"], &answer["kept"]), (&json!(3), &json!("disk")));
    for stream in &mut streams {
        assert!(stream.until_end().0.is_empty());
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    hub.publish(&fields("on"));
    assert_eq!(other.data(1), ["on"]);
    let (name, value) = bearer(&token);
    let target = format!("{HUB}?match=*");
    let refused = hub.get(&target, &[(&name, &value)]).expect(401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    hub.wait_for_log("the token was revoked");
    assert!(!hub.log().contains(&token) && !hub.log().contains("admin-token-of-the-tests"));
}

#[test]
fn a_revoked_publisher_stores_and_delivers_nothing_in_both_generations() {
    let hub = TestHub::start(ADMIN);
    let mut stream = hub.subscribe("match=*");
    let tokens =
        [token_of(Role::Publish, "p", "mallory"), draft_token_of(Role::Publish, "mallory")];
    for token in &tokens {
        hub.publish_with(token, &fields("before")).expect(200);
    }
    revoke(&hub, &json!({ "subject": "mallory" }));
    for token in &tokens {
        hub.publish_with(token, &fields("after")).expect(401);
    }
    hub.publish(&fields("end"));
    assert_eq!(stream.data(3), ["before", "before", "end"]);
}

#[test]
fn what_a_publisher_said_before_on_its_connection_is_judged_again_each_time() {
    let hub = TestHub::start(ADMIN);
    let mut stream = hub.subscribe("match=*");
    let mut expiring = claims_final(json!([detail(Role::Publish, &["*"])]));
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3;
    expiring["exp"] = json!(end);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let tokens = [
        token_of(Role::Publish, "p", "mallory"),
        mint(&header, &expiring, Role::Publish.key()),
        token_of(Role::Publish, "q", "alice"),
    ];
    let body = http::form(&fields("x"));
    let mut publishers = tokens.map(|token| {
        let (name, value) = bearer(&token);
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let request = http::request("POST", HUB, &[(&name, &value), kind], body.as_bytes());
        (Connection::open(hub.address), request)
    });
    let mut say = |status: [u16; 3]| {
        for ((connection, request), status) in publishers.iter_mut().zip(status) {
            assert!(connection.send(request));
            connection.reply().expect("an answer").expect(status);
        }
    };
    say([200; 3]);
    say([200; 3]);
    revoke(&hub, &json!({ "subject": "mallory" }));
    std::thread::sleep(Duration::from_secs(3));
    say([401, 401, 200]);
    say([401, 401, 200]);
    hub.publish(&fields("end"));
    assert_eq!(stream.data(9), [["x"; 8].as_slice(), &["end"]].concat());
}

#[test]
fn streams_of_older_clients_end_as_well() {
    let hub = TestHub::start(ADMIN);
    let token = draft_token_of(Role::Subscribe, "mallory");
    let mut stream = hub.subscribe_with(&token, "topic=*", &[]);
    revoke(&hub, &json!({ "subject": "mallory" }));
    assert!(stream.until_end().0.is_empty());
    let (name, value) = bearer(&token);
    hub.get(&format!("{HUB}?topic=*"), &[(&name, &value)]).expect(401);
}

#[test]
fn revocations_outlive_the_process_and_end_when_they_are_withdrawn() {
    let mut hub = TestHub::start(ADMIN);
    let token = token_of(Role::Publish, "p", "mallory");
    revoke(&hub, &json!({ "key": "publish", "issuer": ISSUER }));
    hub.publish_with(&token, &fields("x")).expect(401);
    hub.kill9();
    let hub = hub.restart();
    hub.publish_with(&token, &fields("x")).expect(401);
    let target = format!("{PATH}?key=publish&issuer={}", http::encode(ISSUER));
    let withdraw = || ask(&hub, "DELETE", &target, "admin-token-of-the-tests", &Value::Null);
    withdraw().expect(204);
    withdraw().expect(404);
    hub.publish_with(&token, &fields("x")).expect(200);
}

#[test]
fn a_revocation_ends_at_its_end() {
    let hub = TestHub::start(ADMIN);
    let token = token_of(Role::Publish, "p", "mallory");
    let until = crate::tokens::now() + 2;
    revoke(&hub, &json!({ "token_id": "p", "until": until }));
    hub.publish_with(&token, &fields("x")).expect(401);
    let begun = Instant::now();
    while hub.publish_with(&token, &fields("x")).status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    let list = ask(&hub, "GET", PATH, "admin-token-of-the-tests", &Value::Null).json();
    assert_eq!(list["revocations"], json!([]));
}

#[test]
fn only_who_has_the_admin_token_revokes() {
    let hub = TestHub::start("");
    let refused = ask(&hub, "POST", PATH, "x", &json!({ "subject": "a" })).expect(403);
    assert!(refused.text().contains("admin.token"), "{}", refused.text());
    let hub = TestHub::start(ADMIN);
    let what = json!({ "subject": "mallory" });
    for token in ["admin-token-of-the-test", "admin-token-of-the-tests2", "x"] {
        ask(&hub, "POST", PATH, token, &what).expect(401);
        ask(&hub, "GET", PATH, token, &Value::Null).expect(401);
    }
    let bare = http::request("GET", PATH, &[], b"");
    let refused = http::exchange(hub.admin.unwrap(), &bare).expect(401);
    assert_eq!(refused.header("www-authenticate").as_deref(), Some("Bearer"));
    hub.get(PATH, &[]).expect(404);
    hub.publish_with(&token_of(Role::Publish, "p", "mallory"), &fields("x")).expect(200);
    let good = "admin-token-of-the-tests";
    for what in [
        json!({}),
        json!([]),
        json!({ "subject": "a", "key": "b" }),
        json!({ "subject": "" }),
        json!({ "subject": "a", "until": 1 }),
        json!({ "subject": "a", "untill": 1 }),
        json!({ "subject": "a".repeat(2_000) }),
    ] {
        ask(&hub, "POST", PATH, good, &what).expect(400);
    }
    ask(&hub, "PUT", PATH, good, &Value::Null).expect(405);
    ask(&hub, "DELETE", PATH, good, &Value::Null).expect(400);
    let list = ask(&hub, "GET", PATH, good, &Value::Null).expect(200).json();
    assert_eq!(list["revocations"], json!([]));
}

#[test]
fn the_commands_revoke_list_and_withdraw() {
    let hub = TestHub::start(ADMIN);
    let mut stream =
        hub.subscribe_with(&token_of(Role::Subscribe, "one", "mallory"), "match=*", &[]);
    let (code, said) = command(&hub, &["revoke", "--subject", "mallory", "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("open subscriptions ended: 1"), "{said}");
    assert!(stream.until_end().0.is_empty());
    let (code, said) = command(&hub, &["revocations"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("subject \"mallory\" until 20"), "{said}");
    let (code, said) = command(&hub, &["unrevoke", "--subject", "mallory"]);
    assert_eq!((code, said.as_str()), (Some(0), "no longer revoked: subject \"mallory\"\n"));
    let (code, said) = command(&hub, &["unrevoke", "--subject", "mallory"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no such revocation"), "{said}");
    assert_eq!(command(&hub, &["revocations"]).1, "nothing is revoked\n");
}

#[test]
fn a_hub_in_memory_says_that_it_forgets() {
    let hub = TestHub::start(&format!("{ADMIN}\n[history]\ndurability = \"memory\""));
    assert_eq!(revoke(&hub, &json!({ "subject": "a" }))["kept"], json!("memory"));
    let (_, said) = command(&hub, &["revoke", "--id", "1"]);
    assert!(said.contains("forgets this when it ends"), "{said}");
}

#[test]
fn the_admin_token_is_replaced_by_a_reload() {
    let hub = TestHub::start(ADMIN);
    let folder = hub.config().parent().unwrap().to_owned();
    let new = "[admin]\ntoken = \"another-admin-token-12\"";
    std::fs::write(hub.config(), configuration(&folder, &Launch::toml(new))).unwrap();
    hub.signal("HUP");
    hub.wait_for_log("configuration reloaded");
    ask(&hub, "GET", PATH, "admin-token-of-the-tests", &Value::Null).expect(401);
    ask(&hub, "GET", PATH, "another-admin-token-12", &Value::Null).expect(200);
}

#[test]
fn the_examples_of_the_page_about_tokens_work() {
    let page = document("docs/auth.md");
    let folder = tempfile::tempdir().unwrap();
    let file = placed(&blocks(&page, "toml").concat(), folder.path());
    std::fs::write(folder.path().join("secrets/admin.token"), "admin-token-of-the-page\n").unwrap();
    let checked = run_in(folder.path(), &["check", "--config", file.to_str().unwrap()], None);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let hub = TestHub::start(ADMIN);
    let lines = blocks(&page, "sh").concat();
    let lines: Vec<_> =
        lines.lines().filter_map(|line| line.strip_prefix("tidings token ")).collect();
    assert_eq!(lines.len(), 5);
    for line in lines {
        let words: Vec<_> = line.trim_end_matches(" --config tidings.toml").split(' ').collect();
        let (code, said) = command(&hub, &words);
        assert_eq!(code, Some(0), "{line}: {said}");
    }
}
