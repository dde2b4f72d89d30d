//! API keys: made once, kept as a hash, and gone with everything that they opened once revoked.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::http::{self, Reply};
use crate::hub::{HUB, Launch, PROGRAM, TestHub, configuration, run, run_in};
use crate::readme::{blocks, document, placed};
use crate::tokens::{PUBLIC_URL, Role, bearer, now, token_final};

pub(crate) const ADMIN: &str =
    "[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"admin-token-of-the-tests\"";
pub(crate) const EXCHANGE: &str = "/.well-known/tidings/token";
const PATH: &str = "/tidings/admin/keys";
const TOPIC: &str = "https://keys.example/1";

pub(crate) fn ask(hub: &TestHub, method: &str, target: &str, body: &Value) -> Reply {
    let (name, value) = bearer("admin-token-of-the-tests");
    let headers = [(name.as_str(), value.as_str())];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::exchange(hub.admin.unwrap(), &http::request(method, target, &headers, body.as_bytes()))
}

/// A key for these topics, which are exact, or `*`.
pub(crate) fn key(hub: &TestHub, name: &str, topics: &[&str]) -> String {
    let made = ask(hub, "POST", PATH, &json!({ "name": name, "topics": topics })).expect(201);
    made.json()["key"].as_str().unwrap().to_owned()
}

/// Exchanges a key, by JSON.
pub(crate) fn exchange(hub: &TestHub, key: &str, body: &Value) -> Reply {
    let (name, value) = bearer(key);
    let headers = [(name.as_str(), value.as_str()), ("Content-Type", "application/json")];
    hub.request("POST", EXCHANGE, &headers, body.to_string().as_bytes())
}

/// A token for a key, by its defaults.
pub(crate) fn token(hub: &TestHub, key: &str) -> String {
    let answer = exchange(hub, key, &json!({})).expect(200).json();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Runs `tidings key` on the hub's own configuration.
fn command(hub: &TestHub, arguments: &[&str]) -> (Option<i32>, String, String) {
    run_on(hub, &[&["key"], arguments].concat())
}

/// Runs a command on the hub's own configuration.
fn run_on(hub: &TestHub, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = hub.config().parent().unwrap().to_owned();
    let (admin, config) = (hub.admin.unwrap().to_string(), hub.config());
    let mut all = arguments.to_vec();
    all.extend_from_slice(&["--admin", &admin, "--config", config.to_str().unwrap()]);
    let output = run_in(&folder, &all, None);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Whether any file below a folder holds these bytes.
fn stands_in(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| {
        if path.is_dir() {
            return stands_in(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_key_is_shown_once_and_stands_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let toml = format!("{ADMIN}\n[log]\nlevel = \"trace\"");
    let hub = TestHub::launch(Launch { data: Some(data.clone()), ..Launch::toml(&toml) });
    let (code, key, said) = command(&hub, &["create", "shop", "--topic", TOPIC]);
    assert_eq!(code, Some(0), "{said}");
    let key = key.trim_end().to_owned();
    assert!(key.starts_with("tk_") && key.len() == 63 && !key.contains(' '), "{key}");
    assert!(said.contains("only time") && !said.contains(&key), "{said}");
    let token = token(&hub, &key);
    let mut stream = hub.subscribe_with(&token, "match=*", &[]);
    hub.publish(&[("topic", TOPIC), ("data", "x"), ("private", "on")]);
    assert_eq!(stream.data(1), ["x"]);
    let (id, secret) = key[3..].split_at(16);
    let (_, list, _) = command(&hub, &["list"]);
    assert!(list.contains(id) && list.contains("shop") && !list.contains(&secret[1..]), "{list}");
    let answer = ask(&hub, "GET", PATH, &Value::Null).expect(200).text();
    let log = hub.log();
    for (place, text) in [("list", &answer), ("log", &log)] {
        assert!(!text.contains(&secret[1..]), "{place}");
        assert!(!text.contains(&token), "{place}");
    }
    let metric = hub.metric("tidings_tokens_issued_total");
    assert_eq!((metric, hub.metric("tidings_api_keys")), (1, 1));
    let (code, log) = hub.stop();
    assert_eq!(code, 0, "{log}");
    assert!(stands_in(&data, id), "the state is where this looks");
    assert!(!stands_in(&data, &secret[1..]));
}

#[test]
fn a_revoked_key_ends_its_streams_within_a_second_and_no_others() {
    let hub = TestHub::start(ADMIN);
    let [shop, other] = ["shop", "other"].map(|name| key(&hub, name, &["*"]));
    let (old, kept) = (token(&hub, &shop), token(&hub, &other));
    let mut streams: Vec<_> = (0..3).map(|_| hub.subscribe_with(&old, "match=*", &[])).collect();
    let mut stays = hub.subscribe_with(&kept, "match=*", &[]);
    let begun = Instant::now();
    let answer = ask(&hub, "DELETE", &format!("{PATH}/shop"), &Value::Null).expect(200).json();
    assert_eq!((&answer["name"], &answer["ended"]), (&json!("shop"), &json!(3)));
    for stream in &mut streams {
        assert!(stream.until_end().0.is_empty());
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    hub.publish(&[("topic", TOPIC), ("data", "on")]);
    assert_eq!(stays.data(1), ["on"]);
    let (name, value) = bearer(&old);
    hub.get(&format!("{HUB}?match=*"), &[(&name, &value)]).expect(401);
    exchange(&hub, &shop, &json!({})).expect(401);
    ask(&hub, "DELETE", &format!("{PATH}/shop"), &Value::Null).expect(404);
    let list = ask(&hub, "GET", PATH, &Value::Null).json();
    assert!(list["keys"][0]["revoked"].is_u64() || list["keys"][1]["revoked"].is_u64(), "{list}");
}

#[test]
fn keys_and_their_tokens_outlive_the_process_and_so_does_their_revocation() {
    let mut hub = TestHub::start(ADMIN);
    let [shop, gone] = ["shop", "gone"].map(|name| key(&hub, name, &["*"]));
    let [token, fallen] = [&shop, &gone].map(|key| token(&hub, key));
    let (code, said, _) = command(&hub, &["revoke", "gone"]);
    assert_eq!(code, Some(0));
    assert!(said.starts_with("revoked: gone (") && said.contains("ended: 0"), "{said}");
    hub.kill9();
    let hub = hub.restart();
    hub.subscribe_with(&token, "match=*", &[]);
    exchange(&hub, &shop, &json!({})).expect(200);
    exchange(&hub, &gone, &json!({})).expect(401);
    let (name, value) = bearer(&fallen);
    hub.get(&format!("{HUB}?match=*"), &[(&name, &value)]).expect(401);
}

/// The name of the key that signed a token.
fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_secret_signs_and_tokens_from_before_go_on() {
    let mut hub = TestHub::start(ADMIN);
    let shop = key(&hub, "shop", &["*"]);
    let old = token(&hub, &shop);
    let mut stream = hub.subscribe_with(&old, "match=*", &[]);
    let (code, said, _) = command(&hub, &["rotate-issuer"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("tokens are signed by tidings-2 from now on\n"), "{said}");
    assert!(said.contains("tidings-1 counts until ") && !said.contains("ended"), "{said}");
    let new = token(&hub, &shop);
    assert_eq!((kid(&old).as_str(), kid(&new).as_str()), ("tidings-1", "tidings-2"));
    hub.publish(&[("topic", TOPIC), ("data", "x"), ("private", "on")]);
    assert_eq!(stream.data(1), ["x"]);
    hub.kill9();
    let hub = hub.restart();
    for token in [&old, &new] {
        let mut stream = hub.subscribe_with(token, "match=*", &[]);
        hub.publish(&[("topic", TOPIC), ("data", "y"), ("private", "on")]);
        assert_eq!(stream.data(1), ["y"]);
    }
    assert_eq!(kid(&token(&hub, &shop)), "tidings-2");
}

#[test]
fn a_secret_that_is_ended_at_once_takes_its_tokens_along() {
    let mut hub = TestHub::start(ADMIN);
    let shop = key(&hub, "shop", &["*"]);
    let old = token(&hub, &shop);
    let mut stream = hub.subscribe_with(&old, "match=*", &[]);
    let mut others = hub.subscribe_with(&token_final(Role::Subscribe, &["*"]), "match=*", &[]);
    let begun = Instant::now();
    let (code, said, _) = command(&hub, &["rotate-issuer", "--now"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("open subscriptions ended: 1\n"), "{said}");
    assert!(stream.until_end().0.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    hub.publish(&[("topic", TOPIC), ("data", "x"), ("private", "on")]);
    assert_eq!(others.data(1), ["x"]);
    let (name, value) = bearer(&old);
    let target = format!("{HUB}?match=*");
    hub.get(&target, &[(&name, &value)]).expect(401);
    let new = token(&hub, &shop);
    hub.subscribe_with(&new, "match=*", &[]);
    hub.kill9();
    let hub = hub.restart();
    hub.get(&target, &[(&name, &value)]).expect(401);
    hub.subscribe_with(&new, "match=*", &[]);
}

#[test]
fn a_new_secret_is_asked_for_by_nothing_or_by_a_word() {
    let hub = TestHub::start(ADMIN);
    let path = "/tidings/admin/issuer/rotate";
    let answer = ask(&hub, "POST", path, &Value::Null).expect(200).json();
    assert_eq!((&answer["kid"], &answer["ended"]), (&json!("tidings-2"), &json!(0)));
    let previous = &answer["previous"][0];
    assert_eq!(previous["kid"], "tidings-1");
    let left = previous["until"].as_u64().unwrap() - now();
    assert!((30 * 86_400 - 60..=30 * 86_400).contains(&left), "{left}");
    for bad in [json!({ "Now": true }), json!({ "now": 1 }), json!([])] {
        ask(&hub, "POST", path, &bad).expect(400);
    }
    ask(&hub, "GET", path, &Value::Null).expect(405);
    hub.request("POST", path, &[], b"").expect(404);
    for _ in 0..6 {
        ask(&hub, "POST", path, &json!({ "now": false })).expect(200);
    }
    ask(&hub, "POST", path, &Value::Null).expect(409);
    let answer = ask(&hub, "POST", path, &json!({ "now": true })).expect(200).json();
    assert_eq!(answer["previous"], json!([]));
}

#[test]
fn a_token_of_the_hub_is_explained_without_its_secret() {
    let hub = TestHub::start(&format!("{ADMIN}\n[tokens]\nmercure_info = true"));
    let shop = key(&hub, "shop", &[TOPIC]);
    let own = token(&hub, &shop);
    let explained = |token: &str| {
        let (code, said, beside) =
            run_on(&hub, &["token", "explain", token, "--subscribe", TOPIC, "--publish", TOPIC]);
        assert_eq!(code, Some(1), "nobody judged it: {said}{beside}");
        assert!(beside.contains("nobody judged the signature"), "{beside}");
        assert!(!said.contains(token.rsplit('.').next().unwrap()), "{said}");
        said
    };
    let said = explained(&own);
    for words in [
        &format!("  iss: \"{PUBLIC_URL}/.well-known/tidings\""),
        "  kid: \"tidings-1\"",
        &format!("  API key: counts: {} shop for ", &shop[3..19]),
        "  sub: \"key:shop\"",
        &format!("  would grant, where its signature holds: exact {TOPIC:?}"),
        &format!("  might read private updates of {TOPIC:?}"),
        &format!("  may NOT publish to {TOPIC:?}"),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("FAIL"), "{said}");
    let of_shlink = hub.get("/rest/v3/mercure-info", &[("X-Api-Key", &shop)]).expect(200).json();
    let said = explained(of_shlink["token"].as_str().unwrap());
    assert!(said.contains("  API key: counts: "), "{said}");
    assert_eq!(command(&hub, &["revoke", "shop"]).0, Some(0));
    let said = explained(&own);
    assert!(said.contains("  API key: counts NO longer: ") && said.contains("revoked"), "{said}");
    let without_admin = "[history]\ndurability = \"memory\"";
    let output = run(&["token", "explain", &own], Some(without_admin));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("  API key: not asked for, there is no admin token"), "{said}");
}

#[test]
fn tokens_of_a_client_are_revoked_like_those_of_a_subject() {
    let hub = TestHub::start(ADMIN);
    let shop = key(&hub, "shop", &["*"]);
    let mut stream = hub.subscribe_with(&token(&hub, &shop), "match=*", &[]);
    let path = "/tidings/admin/revocations";
    let answer = ask(&hub, "POST", path, &json!({ "client": &shop[3..19] })).expect(201).json();
    assert_eq!(answer["ended"], 1);
    assert!(stream.until_end().0.is_empty());
    let target = format!("{path}?client={}", &shop[3..19]);
    ask(&hub, "DELETE", &target, &Value::Null).expect(204);
    hub.subscribe_with(&token(&hub, &shop), "match=*", &[]);
}

#[test]
fn what_is_no_key_is_not_made() {
    let hub = TestHub::start(ADMIN);
    for what in [
        json!({}),
        json!({ "name": "a" }),
        json!({ "name": "a", "topics": [] }),
        json!({ "name": "", "topics": ["*"] }),
        json!({ "name": "a/b", "topics": ["*"] }),
        json!({ "name": "a", "topics": ["*"], "lifetime": 1 }),
        json!({ "name": "a", "topics": ["*"], "lifetime_max": 0 }),
        json!({ "name": "a", "topics": ["*"], "per_minute": 0 }),
        json!({ "name": "a", "topics": ["*"], "expires": 1 }),
        json!({ "name": "a", "topics": [{ "match": "a/#/b", "match_type": "mqtt" }] }),
        json!({ "name": "a", "topics": [{ "match": "a", "match_type": "regexp" }] }),
    ] {
        ask(&hub, "POST", PATH, &what).expect(400);
    }
    key(&hub, "a", &["*"]);
    ask(&hub, "POST", PATH, &json!({ "name": "a", "topics": ["*"] })).expect(409);
    ask(&hub, "PUT", PATH, &Value::Null).expect(405);
    let bare = http::request("GET", PATH, &[], b"");
    http::exchange(hub.admin.unwrap(), &bare).expect(401);
    hub.get(PATH, &[]).expect(404);
    let (code, _, said) = command(&hub, &["create", "b", "--topic", "a", "--match-type", "regexp"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no match type"), "{said}");
}

#[test]
fn a_key_ends_by_itself_and_its_tokens_with_it() {
    let hub = TestHub::start(ADMIN);
    let end = now() + 2;
    let made = json!({ "name": "short", "topics": ["*"], "expires": end });
    let made = ask(&hub, "POST", PATH, &made).expect(201).json();
    let key = made["key"].as_str().unwrap();
    let answer = exchange(&hub, key, &json!({ "lifetime": 3_600 })).expect(200).json();
    assert_eq!(answer["expires_at"], end);
    let mut stream = hub.subscribe_with(answer["access_token"].as_str().unwrap(), "match=*", &[]);
    assert!(stream.until_end().0.is_empty());
    assert!(now() >= end);
    exchange(&hub, key, &json!({})).expect(401);
}

#[test]
fn no_issuer_of_the_configuration_has_the_hubs_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!(
        "[[auth.issuer]]\nid = \"{PUBLIC_URL}/.well-known/tidings\"\npublish = {{ key = \
         \"0123456789abcdef0123456789abcdef\" }}"
    );
    let launch = Launch::toml(&own);
    let checked = run_in(folder.path(), &["check"], Some(&launch));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2), "{}", configuration(folder.path(), &launch));
    assert!(said.contains("the hub's own issuer"), "{said}");
}

#[test]
fn the_examples_of_the_page_about_keys_work() {
    let page = document("docs/tokens.md");
    let folder = tempfile::tempdir().unwrap();
    let file = placed(&blocks(&page, "toml").concat(), folder.path());
    std::fs::write(folder.path().join("secrets/admin.token"), "admin-token-of-the-page\n").unwrap();
    let checked = run_in(folder.path(), &["check", "--config", file.to_str().unwrap()], None);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let hub = TestHub::start(ADMIN);
    let (admin, config) = (hub.admin.unwrap(), hub.config());
    let script = blocks(&page, "sh")
        .concat()
        .replace("tidings key", &format!("{PROGRAM} key"))
        .replace("--config tidings.toml", &format!("--admin {admin} --config {}", config.display()))
        .replace("https://hub.example.com", &format!("http://{}", hub.address))
        .replace("curl -s", "curl -sf -w '\\n'");
    let mut shell = std::process::Command::new("timeout");
    let output = shell.args(["30", "sh", "-e", "-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let [list, token, ticket] = said.lines().collect::<Vec<_>>().try_into().unwrap();
    assert!(list.contains("shop for uritemplate"), "{list}");
    let token: Value = serde_json::from_str(token).unwrap();
    assert_eq!(token["expires_in"], 900);
    let ticket: Value = serde_json::from_str(ticket).unwrap();
    assert!(ticket["url"].as_str().unwrap().contains("?ticket="), "{ticket}");
}

#[test]
fn a_development_hub_tells_a_key_that_works_in_every_run() {
    let hub = TestHub::launch(crate::page::dev("127.0.0.1:0"));
    hub.wait_for_log("Publish:");
    let told = hub.log();
    let line = told.lines().find_map(|line| line.trim().strip_prefix("API key")).unwrap();
    let key = line.trim().to_owned();
    exchange(&hub, &key, &json!({})).expect(200);
    let hub = hub.restart();
    exchange(&hub, &key, &json!({})).expect(200);
    hub.get("/rest/v3/mercure-info", &[("X-Api-Key", &key)]).expect(200);
}
