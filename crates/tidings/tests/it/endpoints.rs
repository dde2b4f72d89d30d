//! Endpoints that are made over the admin listener: they live like configured sinks, keep what
//! their creator may read, and give no secret away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{self, PATIENCE};
use crate::hub::TestHub;
use crate::receiver::{Receiver, Reply};
use crate::sinks::{ADMIN, CACHE, QUICK, ask, ask_with, publish, state, wait_for_state, webhook};
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
fn nobody_waits_for_an_endpoint_that_hangs_to_change_or_remove_it() {
    let receiver = Receiver::with(|request| match request.target.as_str() {
        "/hangs" => Reply::status(200).after(Duration::from_secs(60)),
        _ => Reply::status(200),
    });
    let hub = start("");
    for name in ["shop", "other"] {
        let hangs = specification(name, &receiver.url("/hangs"), &json!(["*"]));
        ask(&hub, "POST", "", &hangs).expect(201);
    }
    publish(&hub, "a", "x");
    receiver.wait_within(PATIENCE, |all| all.len() == 2);
    let began = Instant::now();
    ask(&hub, "DELETE", "/other", &Value::Null).expect(204);
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    let began = Instant::now();
    let answers = specification("shop", &receiver.url("/answers"), &json!(["*"]));
    let before = version(&hub, "shop");
    ask_with(&hub, "PUT", "/shop", &[("If-Match", &before)], &answers).expect(200);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // What had not been answered is sent as it is told now.
    receiver.wait_for_body("/answers", "x");
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

/// Validates a document of OpenAPI on its standard input.
const VALIDATOR: &str = "
import json, sys
from openapi_spec_validator import validate
validate(json.load(sys.stdin))
print('valid')
";

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
