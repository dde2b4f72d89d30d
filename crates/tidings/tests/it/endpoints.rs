//! Endpoints that are made over the admin listener: they live like configured sinks, keep what
//! their creator may read, and give no secret away.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::{self, PATIENCE};
use crate::hub::TestHub;
use crate::receiver::{Receiver, Reply};
use crate::sinks::{
    ADMIN, CACHE, QUICK, ask, ask_with, publish, state, wait_for_dead_letters, wait_for_state,
    webhook,
};
use crate::tokens::{Role, bearer, claims_final, detail, mint};

/// Endpoints of the tests are on this machine.
const LOCAL: &str = "[webhooks]\nallow = [\"127.0.0.0/8\"]\n";
const SECRET: &str = "whsec_c2VjcmV0LW9mLWFuLWVuZHBvaW50LTAxMjM0NTY3ODk=";

fn start(more: &str) -> TestHub {
    TestHub::start(&format!("{ADMIN}{LOCAL}{more}"))
}

/// What makes an endpoint for these topics.
fn specification(name: &str, url: &str, topics: &Value) -> Value {
    json!({
        "name": name, "kind": "webhook", "url": url, "topics": topics,
        "retry": { "first": "20ms", "max": "200ms" },
    })
}

/// A subscriber's token for these topics, of this subject.
fn creator(subject: &str, topics: &[&str]) -> String {
    let mut claims = claims_final(json!([detail(Role::Subscribe, topics)]));
    claims["sub"] = json!(subject);
    mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, Role::Subscribe.key())
}

/// What a change of an endpoint has to name.
#[track_caller]
fn version(hub: &TestHub, name: &str) -> String {
    let reply = ask(hub, "GET", &format!("/{name}"), &Value::Null).expect(200);
    reply.header("etag").unwrap_or_else(|| panic!("no version: {:?}", reply.headers))
}

/// A change or a removal that names the version of now.
#[track_caller]
fn change(hub: &TestHub, method: &str, name: &str, body: &Value) -> http::Reply {
    let version = version(hub, name);
    ask_with(hub, method, &format!("/{name}"), &[("If-Match", &version)], body)
}

#[test]
fn an_endpoint_survives_a_restart_with_its_grant_and_secrets() {
    let receiver = Receiver::start();
    let hub = start("");
    publish(&hub, "mine", "before it was there");
    let mut made = specification("shop", &receiver.url("/shop"), &json!(["*"]));
    made["token"] = json!(creator("anna", &["mine"]));
    made["secrets"] = json!([SECRET]);
    ask(&hub, "POST", "", &made).expect(201);
    let publish_private = |hub: &TestHub, topic: &str, data: &str| {
        hub.publish(&[("topic", topic), ("data", data), ("private", "on")]);
    };
    publish_private(&hub, "mine", "first");
    publish_private(&hub, "of-others", "not for it");
    publish(&hub, "of-others", "public");
    receiver.wait_for_body("/shop", "public");
    // In time for the place to be saved.
    std::thread::sleep(Duration::from_millis(500));
    let hub = hub.restart();
    publish_private(&hub, "of-others", "still not");
    publish_private(&hub, "mine", "second");
    receiver.wait_for_body("/shop", "second");
    assert_eq!(receiver.bodies(), ["first", "public", "second"]);
    for request in receiver.received() {
        let signature = request.header("webhook-signature").expect("signed after a restart, too");
        assert!(signature.starts_with("v1,"), "{signature}");
    }
    change(&hub, "DELETE", "shop", &Value::Null);
    ask(&hub, "GET", "/shop", &Value::Null).expect(404);
    publish(&hub, "mine", "after it was there");
    let hub = hub.restart();
    ask(&hub, "GET", "/shop", &Value::Null).expect(404);
    assert_eq!(receiver.count(), 3);
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        let path = file.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn its_secrets_are_nowhere_in_the_data_folder() {
    let receiver = Receiver::start();
    let mut hub = start("");
    let mut made = specification("shop", &receiver.url("/"), &json!(["*"]));
    made["secrets"] = json!([SECRET]);
    made["headers"] = json!({ "x-api-key": "header-that-nobody-may-see" });
    made["basic"] = json!({ "user": "anna", "password": "password-that-nobody-may-see" });
    ask(&hub, "POST", "", &made).expect(201);
    publish(&hub, "a", "x");
    receiver.wait_for_body("/", "x");
    let shown = ask(&hub, "GET", "/shop", &Value::Null).expect(200).text()
        + &ask(&hub, "GET", "", &Value::Null).expect(200).text()
        + &ask(&hub, "GET", "/shop/attempts", &Value::Null).expect(200).text();
    let log = hub.log();
    hub.kill9();
    let bytes = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let secrets: [&[u8]; 4] = [
        SECRET.trim_start_matches("whsec_").as_bytes(),
        &bytes,
        b"header-that-nobody-may-see",
        b"password-that-nobody-may-see",
    ];
    let mut looked_at = files(&hub.data());
    assert!(looked_at.len() >= 2, "{looked_at:?}");
    looked_at.retain(|path| path.metadata().is_ok_and(|about| about.is_file()));
    for secret in secrets {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        for path in &looked_at {
            assert!(!holds(&std::fs::read(path).unwrap()), "a secret in {}", path.display());
        }
        assert!(!holds(shown.as_bytes()) && !holds(log.as_bytes()), "a secret is shown");
    }
    // And the search finds what is there: the update itself.
    let name = b"shop";
    let found = looked_at
        .iter()
        .any(|path| std::fs::read(path).unwrap().windows(name.len()).any(|window| window == name));
    assert!(found, "nothing was found at all");
}

#[test]
fn configured_sinks_are_read_only() {
    let receiver = Receiver::start();
    let hub = start(&webhook("fixed", &receiver.url("/"), CACHE, QUICK));
    let listed = ask(&hub, "GET", "", &Value::Null).expect(200).text();
    assert!(listed.contains("\"fixed\""), "{listed}");
    let other = specification("fixed", &receiver.url("/other"), &json!(["*"]));
    ask(&hub, "POST", "", &other).expect(409);
    ask_with(&hub, "PUT", "/fixed", &[("If-Match", "*")], &other).expect(409);
    ask_with(&hub, "DELETE", "/fixed", &[("If-Match", "*")], &Value::Null).expect(409);
    for path in ["/fixed/pause", "/fixed/rotate"] {
        ask(&hub, "POST", path, &json!({})).expect(409);
    }
    // Looking and asking are allowed.
    ask(&hub, "POST", "/fixed/test", &json!({})).expect(200);
    receiver.wait_for(1);
    publish(&hub, "cms.cache.1", "goes on");
    receiver.wait_for_body("/", "goes on");
    assert!(receiver.at("/other").is_empty());
}

#[test]
fn endpoints_are_for_who_has_the_admin_token() {
    let hub = start("");
    let admin = hub.admin.unwrap();
    for (headers, status) in [
        (vec![], 401),
        (vec![("Authorization", "Bearer wrong")], 401),
        (vec![("Authorization", "Bearer admin-token-of-the-tests")], 200),
    ] {
        let request = http::request("GET", "/tidings/admin/sinks", &headers, b"");
        http::exchange(admin, &request).expect(status);
    }
    // Not where clients are.
    let (name, value) = bearer("admin-token-of-the-tests");
    hub.get("/tidings/admin/sinks", &[(&name, &value)]).expect(404);
}

#[test]
fn what_cannot_be_is_refused_with_all_mistakes() {
    let hub = start("");
    let bad = json!({
        "name": "Not A Name", "kind": "webhook", "url": "ftp://a/", "topics": [],
        "retry": { "first": "soon" }, "colour": "red",
    });
    let said = ask(&hub, "POST", "", &bad).expect(422).text();
    for word in ["name", "url", "topics", "retry.first", "colour"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    // Which internal networks are fine is not for endpoints to say.
    let mut own = specification("own", "https://example.com/", &json!(["*"]));
    own["allow"] = json!(["10.0.0.0/8"]);
    ask(&hub, "POST", "", &own).expect(422);
}

#[test]
fn a_change_names_the_version_that_it_changes() {
    let receiver = Receiver::start();
    let hub = start("");
    let first = specification("shop", &receiver.url("/first"), &json!(["*"]));
    let second = specification("shop", &receiver.url("/second"), &json!(["*"]));
    ask(&hub, "POST", "", &first).expect(201);
    let before = version(&hub, "shop");
    assert!(change(&hub, "PUT", "shop", &second).status < 300);
    assert_ne!(version(&hub, "shop"), before);
    ask_with(&hub, "PUT", "/shop", &[("If-Match", &before)], &first).expect(412);
    publish(&hub, "a", "x");
    receiver.wait_for_body("/second", "x");
    assert!(receiver.at("/first").is_empty());
}

#[test]
fn a_pause_loses_nothing() {
    let receiver = Receiver::start();
    let hub = start("");
    let (paused, other) = (
        specification("paused", &receiver.url("/paused"), &json!(["*"])),
        specification("other", &receiver.url("/other"), &json!(["*"])),
    );
    ask(&hub, "POST", "", &paused).expect(201);
    ask(&hub, "POST", "", &other).expect(201);
    assert!(ask(&hub, "POST", "/paused/pause", &json!({})).status < 300);
    wait_for_state(&hub, "paused", "paused");
    publish(&hub, "a", "meanwhile");
    receiver.wait_for_body("/other", "meanwhile");
    let hub = hub.restart();
    assert_eq!(state(&hub, "paused"), "paused");
    publish(&hub, "a", "and later");
    receiver.wait_for_body("/other", "and later");
    assert!(receiver.at("/paused").is_empty());
    assert!(ask(&hub, "POST", "/paused/resume", &json!({})).status < 300);
    receiver.wait_for_body("/paused", "and later");
    assert_eq!(receiver.bodies_at("/paused"), ["meanwhile", "and later"]);
}

#[test]
fn a_revoked_creator_gets_nothing_more() {
    let receiver = Receiver::start();
    let hub = start("");
    for (name, subject) in [("of-anna", "anna"), ("of-bob", "bob")] {
        let url = receiver.url(&format!("/{name}"));
        let mut made = specification(name, &url, &json!(["*"]));
        made["token"] = json!(creator(subject, &["*"]));
        ask(&hub, "POST", "", &made).expect(201);
    }
    publish(&hub, "a", "for both");
    receiver.wait_for_body("/of-anna", "for both");
    let (name, value) = bearer("admin-token-of-the-tests");
    let body = json!({ "subject": "anna" }).to_string();
    let headers = [(name.as_str(), value.as_str())];
    let path = "/tidings/admin/revocations";
    let request = http::request("POST", path, &headers, body.as_bytes());
    http::exchange(hub.admin.unwrap(), &request).expect(201);
    wait_for_state(&hub, "of-anna", "disabled");
    publish(&hub, "a", "for one");
    receiver.wait_for_body("/of-bob", "for one");
    let hub = hub.restart();
    publish(&hub, "a", "for one again");
    receiver.wait_for_body("/of-bob", "for one again");
    assert_eq!(receiver.bodies_at("/of-anna"), ["for both"]);
    // Nor may a token make one that is revoked already, or is none.
    for token in [creator("anna", &["*"]), "nonsense".to_owned()] {
        let mut made = specification("late", &receiver.url("/late"), &json!(["*"]));
        made["token"] = json!(token);
        let status = ask(&hub, "POST", "", &made).status;
        assert!([401, 403, 422].contains(&status), "{status}");
    }
}

#[test]
fn replay_by_id_by_range_and_only_failures() {
    let receiver = Receiver::with(|request| {
        Reply::status(if request.body.starts_with(b"bad") { 400 } else { 200 })
    });
    let more =
        format!("{QUICK}then = {{ publish = {{ replace = [\"cms.cache\", \"again\"] }} }}\n");
    let hub = start(&webhook("shop", &receiver.url("/"), CACHE, &more));
    for data in ["one", "bad two", "three", "bad four", "five"] {
        publish(&hub, "cms.cache.1", data);
    }
    let received = receiver.wait_for_body("/", "five");
    wait_for_dead_letters(&hub, "shop", 2);
    let id = |data: &str| {
        let found = received.iter().find(|request| request.text() == data).unwrap();
        found.header("webhook-id").unwrap()
    };
    receiver.behave(|_| Reply::status(200));
    let mut count = receiver.count();
    let mut replayed = |what: &Value, wanted: &[&str]| {
        let status = ask(&hub, "POST", "/shop/replays", what).status;
        assert!((200..300).contains(&status), "{what}: {status}");
        let all = receiver.wait_for(count + wanted.len());
        let new: Vec<String> = all[count..].iter().map(|request| request.text()).collect();
        assert_eq!(new, wanted, "{what}");
        count = all.len();
    };
    replayed(&json!({ "ids": [id("three")] }), &["three"]);
    let range = json!({ "from": id("one"), "until": id("three") });
    replayed(&range, &["one", "bad two", "three"]);
    let failures = json!({ "from": id("one"), "until": id("five"), "failed": true });
    replayed(&failures, &["bad four"]);
    let last = receiver.received().pop().unwrap();
    assert_eq!(last.header("webhook-id").unwrap(), id("bad four"), "the same id as before");
    // Replays make no follow-ups.
    assert_eq!(crate::sinks::history_of(&hub, "again.>"), ["one", "three", "five"]);
}

/// Validates a document of OpenAPI on its standard input.
const VALIDATOR: &str = "
import json, sys
from openapi_spec_validator import validate
validate(json.load(sys.stdin))
print('valid')
";

#[test]
fn the_document_validates_and_names_every_path() {
    let hub = start("");
    let admin = hub.admin.unwrap();
    let path = "/tidings/admin/openapi.json";
    let (name, value) = bearer("admin-token-of-the-tests");
    let request = http::request("GET", path, &[(&name, &value)], b"");
    let document = http::exchange(admin, &request).expect(200).json();
    for path in ["/tidings/admin/sinks", "/tidings/admin/sinks/{name}/dead-letters"] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("openapi");
    let python = folder.join("bin/python");
    let check = |text: &str| {
        use std::io::Write;
        let mut command = Command::new(&python);
        command.args(["-c", VALIDATOR]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.stderr(Stdio::null()).spawn() else { return false };
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        child.wait_with_output().unwrap().stdout.starts_with(b"valid")
    };
    let smallest =
        json!({ "openapi": "3.1.0", "info": { "title": "a", "version": "1" }, "paths": {} });
    if !check(&smallest.to_string()) {
        let run = |command: &mut Command| {
            let output = command.output().expect("python3, of the package python3-venv");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let library = "openapi-spec-validator==0.9.0";
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", library]));
        assert!(check(&smallest.to_string()), "{library} does not work");
    }
    assert!(!check("{\"openapi\": \"3.1.0\"}"), "the validator accepts anything");
    assert!(check(&document.to_string()), "{document:#}");
}

#[test]
fn attempts_say_what_happened() {
    let receiver = Receiver::with(|request| match request.seen {
        0 => Reply::status(503).body(b"come back later"),
        _ => Reply::status(200),
    });
    let hub = start(&webhook("shop", &receiver.url("/"), CACHE, QUICK));
    publish(&hub, "cms.cache.1", "x");
    receiver.wait_for_body("/", "x");
    let deadline = Instant::now() + PATIENCE;
    // Newest first.
    let attempts: Vec<Value> = loop {
        let found = ask(&hub, "GET", "/shop/attempts", &Value::Null).expect(200).json();
        let list = found["attempts"].as_array().unwrap_or_else(|| panic!("{found}")).clone();
        if list.len() == 2 {
            break list;
        }
        assert!(Instant::now() < deadline, "{found}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((&attempts[0]["status"], &attempts[1]["status"]), (&json!(200), &json!(503)));
    assert!(attempts[1].to_string().contains("come back later"), "{}", attempts[1]);
    let failed = ask(&hub, "GET", "/shop/attempts?failed=true", &Value::Null).expect(200).json();
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 1);
}
