//! Endpoints made over the API: their tokens, secrets, versions and keys, and whether the document
//! says what is answered.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http::{self, Reply};
use crate::hub::{Launch, TestHub};
use crate::python::python;
use crate::receiver::{Receiver, Reply as Answer};
use crate::sinks::{ADMIN, QUICK, ask, publish, state, wait_for_state, webhook};
use crate::tokens::{Role, bearer, claims_final, detail, mint};
use crate::webhook_signature::judged;

/// Endpoints may lead to this machine.
const LOCAL: &str = "[webhooks]\nallow = [\"127.0.0.0/8\"]\n";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn configuration(more: &str) -> String {
    format!("{ADMIN}{LOCAL}{more}")
}

fn endpoint(name: &str, url: &str, more: &Value) -> Value {
    let mut written = json!({
        "kind": "webhook", "name": name, "topics": ["*"], "url": url,
        "retry": { "first": "20ms", "max": "200ms" },
    });
    written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    written
}

/// Makes an endpoint for every update, and answers what the hub says of it.
#[track_caller]
fn make(hub: &TestHub, name: &str, url: &str, more: &Value) -> Value {
    ask(hub, "POST", "", &endpoint(name, url, more)).expect(201).json()
}

#[track_caller]
fn show(hub: &TestHub, name: &str) -> Reply {
    ask(hub, "GET", &format!("/{name}"), &Value::Null).expect(200)
}

/// A request with `If-Match`.
#[track_caller]
fn ask_if(hub: &TestHub, method: &str, path: &str, version: &str, body: &Value) -> Reply {
    let (name, value) = bearer("admin-token-of-the-tests");
    let headers = [(name.as_str(), value.as_str()), ("If-Match", version)];
    let target = format!("/tidings/admin/sinks{path}");
    let bytes = http::request(method, &target, &headers, body.to_string().as_bytes());
    http::exchange(hub.admin.unwrap(), &bytes)
}

/// A subscriber's token for these topics.
fn token_of(subject: &str, topics: &[&str]) -> String {
    let mut claims = claims_final(json!([detail(Role::Subscribe, topics)]));
    claims["sub"] = json!(subject);
    claims["jti"] = json!(format!("token of {subject}"));
    mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, Role::Subscribe.key())
}

#[track_caller]
fn publish_private(hub: &TestHub, topic: &str, text: &str) {
    hub.publish(&[("topic", topic), ("data", text), ("private", "on")]);
}

#[track_caller]
fn revoke(hub: &TestHub, what: &Value) -> Reply {
    let (name, value) = bearer("admin-token-of-the-tests");
    let path = "/tidings/admin/revocations";
    let headers = [(name.as_str(), value.as_str())];
    let bytes = http::request("POST", path, &headers, what.to_string().as_bytes());
    http::exchange(hub.admin.unwrap(), &bytes).expect(201)
}

#[test]
fn an_endpoint_survives_a_restart_with_its_grant_and_secrets() {
    let receiver = Receiver::start();
    let mut hub = TestHub::start(&configuration(""));
    publish(&hub, "before", "before it was made");
    let token = token_of("anna", &["mine"]);
    let more = json!({ "token": token, "bearer": "of-the-shop", "headers": { "x-site": "one" } });
    let answer = ask(&hub, "POST", "", &endpoint("shop", &receiver.url("/hook"), &more));
    let answer = answer.expect(201);
    assert_eq!(answer.header("location").as_deref(), Some("/tidings/admin/sinks/shop"));
    let made = answer.json();
    assert_eq!((&made["origin"], &made["kept"]), (&json!("api"), &json!("disk")));
    assert_eq!(made["creator"]["subject"], "anna");
    let secret = made["secret"].as_str().unwrap().to_owned();
    publish_private(&hub, "mine", "1");
    receiver.wait_for(1);
    hub.kill9();
    let hub = hub.restart();
    let again = show(&hub, "shop").json();
    for member in ["version", "made", "creator", "specification", "secrets"] {
        assert_eq!(again[member], made[member], "{member}");
    }
    assert!(again.get("secret").is_none(), "{again}");
    publish_private(&hub, "theirs", "not for anna");
    publish_private(&hub, "mine", "2");
    publish(&hub, "public", "3");
    let all = receiver.wait_for_body("/hook", "3");
    let mut bodies: Vec<String> = all.iter().map(|one| one.text()).collect();
    // What was delivered a moment before the crash may come twice.
    bodies.dedup();
    assert_eq!(bodies, ["1", "2", "3"]);
    for request in &all {
        assert_eq!(request.header("authorization").as_deref(), Some("Bearer of-the-shop"));
        assert_eq!(request.header("x-site").as_deref(), Some("one"));
    }
    assert_eq!(judged(&all, &secret), vec!["verified"; all.len()]);
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn its_secrets_are_nowhere_in_the_data_folder() {
    let receiver = Receiver::start();
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().join("history");
    let hub =
        TestHub::launch(Launch { data: Some(data.clone()), ..Launch::toml(&configuration("")) });
    let token = token_of("anna", &["*"]);
    let url = receiver.url("/hook?token=secret-of-the-url");
    let more = json!({
        "token": token, "headers": { "x-key": "secret-of-the-header" },
        "basic": { "user": "anna", "password": "secret-of-the-password" }, "secrets": [SECRET],
    });
    let made = make(&hub, "shop", &url, &more);
    assert!(made.get("secret").is_none(), "it brought its own");
    let url = receiver.url("/other");
    make(&hub, "other", &url, &json!({ "bearer": "secret-of-the-bearer" }));
    let turned = ask(&hub, "POST", "/shop/rotate", &json!({})).expect(200).json();
    publish(&hub, "a", "x");
    receiver.wait_for(2);
    // A refusal does not repeat them either.
    let wrong = json!({ "bearer": "secret of the bearer", "secrets": ["secret-of-nothing"] });
    let refused = ask(&hub, "POST", "", &endpoint("wrong", &url, &wrong)).expect(422).text();
    let said = [
        made.to_string(),
        refused,
        show(&hub, "shop").text(),
        show(&hub, "other").text(),
        ask(&hub, "GET", "", &Value::Null).expect(200).text(),
        ask(&hub, "GET", "/shop/attempts", &Value::Null).expect(200).text(),
    ];
    let fresh = turned["secret"].as_str().unwrap().to_owned();
    let (code, log) = hub.stop();
    assert_eq!(code, 0);
    let secrets = [SECRET, &fresh, "secret-of-", "secret of the bearer", &token];
    let files = files(&data);
    assert!(files.len() > 3);
    for secret in secrets.map(|secret| secret.trim_start_matches("whsec_")) {
        for (path, bytes) in &files {
            let is_there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!is_there, "{secret} in {}", path.display());
        }
        assert!(!log.contains(secret), "{log}");
        for said in &said {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn configured_sinks_are_read_only() {
    let receiver = Receiver::start();
    let sink = webhook("cache", &receiver.url("/configured"), "\"*\"", QUICK);
    let hub = TestHub::start(&configuration(&sink));
    let written = endpoint("cache", &receiver.url("/other"), &json!({}));
    let refused = ask(&hub, "POST", "", &written).expect(409);
    assert!(refused.text().contains("configuration"), "{}", refused.text());
    for (method, path) in [
        ("PUT", "/cache"),
        ("DELETE", "/cache"),
        ("POST", "/cache/pause"),
        ("POST", "/cache/rotate"),
    ] {
        ask_if(&hub, method, path, "*", &written).expect(409);
    }
    for (method, path) in [("PUT", "/none"), ("DELETE", "/none"), ("POST", "/none/rotate")] {
        ask_if(&hub, method, path, "*", &written).expect(404);
    }
    assert_eq!(show(&hub, "cache").json()["origin"], "configuration");
    publish(&hub, "a", "1");
    receiver.wait_for_body("/configured", "1");
    assert!(receiver.at("/other").is_empty());
    // The other way round: the configuration takes the name of an endpoint.
    make(&hub, "shop", &receiver.url("/shop"), &json!({}));
    let taken = webhook("shop", &receiver.url("/configured"), "\"*\"", QUICK);
    let log = hub.try_restart_with(Launch::toml(&configuration(&taken))).err().unwrap();
    for word in ["\"shop\"", "configuration", "over the API", "/tidings/admin/sinks/shop"] {
        assert!(log.contains(word), "{log}");
    }
}

#[test]
fn a_revoked_creator_gets_nothing_more() {
    let receiver = Receiver::start();
    let hub = TestHub::start(&configuration(""));
    let url = receiver.url("/anna");
    make(&hub, "anna", &url, &json!({ "token": token_of("anna", &["*"]) }));
    make(&hub, "bert", &receiver.url("/bert"), &json!({ "token": token_of("bert", &["*"]) }));
    publish_private(&hub, "a", "before");
    receiver.wait_for_body("/anna", "before");
    // Something waits for another try when the token falls.
    receiver.behave(|request| match request.target.as_str() {
        "/anna" => Answer::status(503),
        _ => Answer::status(200),
    });
    publish_private(&hub, "a", "waits");
    receiver.wait_within(http::PATIENCE, |all| {
        all.iter().any(|one| one.target == "/anna" && one.body == b"waits")
    });
    revoke(&hub, &json!({ "subject": "anna" }));
    wait_for_state(&hub, "anna", "disabled");
    receiver.behave(|_| Answer::status(200));
    let seen = receiver.at("/anna").len();
    publish(&hub, "a", "after");
    receiver.wait_for_body("/bert", "after");
    let refused = ask(&hub, "POST", "/anna/resume", &Value::Null).expect(409);
    assert!(refused.text().contains("taken back"), "{}", refused.text());
    // A pause between does not make it forget that.
    ask(&hub, "POST", "/anna/pause", &Value::Null).expect(200);
    assert_eq!(state(&hub, "anna"), "disabled");
    ask(&hub, "POST", "/anna/resume", &Value::Null).expect(409);
    let shown = show(&hub, "anna").json();
    assert!(shown["reason"].as_str().unwrap().contains("taken back"), "{shown}");
    let hub = hub.restart();
    publish(&hub, "a", "later");
    receiver.wait_for_body("/bert", "later");
    assert_eq!(state(&hub, "anna"), "disabled");
    assert_eq!(receiver.at("/anna").len(), seen);
    // Another token, and somebody says that it goes on.
    let other = endpoint("anna", &url, &json!({ "token": token_of("carla", &["*"]) }));
    ask_if(&hub, "PUT", "/anna", "*", &other).expect(200);
    assert_eq!(state(&hub, "anna"), "disabled");
    ask(&hub, "POST", "/anna/resume", &Value::Null).expect(200);
    receiver.wait_for_body("/anna", "later");
    let mut got = receiver.bodies_at("/anna")[seen..].to_vec();
    // Its place may not have been saved before the crash.
    got.retain(|body| body != "before");
    assert_eq!(got, ["waits", "after", "later"]);
    // The issuer is not configured any more.
    let other = "[[auth.issuer]]\nid = \"https://other.example\"\naccept = [\"1.0\"]\n\
                 subscribe = { key = \"another-secret-of-the-tests-0123456789\" }\n";
    let hub = hub.restart_with(Launch::toml(&configuration(other)));
    for name in ["anna", "bert"] {
        wait_for_state(&hub, name, "disabled");
    }
}

#[test]
fn a_private_update_reaches_only_endpoints_whose_creator_may_read_it() {
    let receiver = Receiver::start();
    let hub = TestHub::start(&configuration(""));
    make(&hub, "operator", &receiver.url("/operator"), &json!({}));
    for (name, topics) in [("mine", ["cms.mine"]), ("theirs", ["cms.theirs"])] {
        let token = token_of(name, &topics);
        make(&hub, name, &receiver.url(&format!("/{name}")), &json!({ "token": token }));
    }
    publish_private(&hub, "cms.mine", "1");
    publish_private(&hub, "cms.theirs", "2");
    publish_private(&hub, "cms.nobody's", "3");
    publish(&hub, "cms.public", "4");
    for path in ["/operator", "/mine", "/theirs"] {
        receiver.wait_for_body(path, "4");
    }
    assert_eq!(receiver.bodies_at("/operator"), ["1", "2", "3", "4"]);
    assert_eq!(receiver.bodies_at("/mine"), ["1", "4"]);
    assert_eq!(receiver.bodies_at("/theirs"), ["2", "4"]);
    // Tokens that do not hold, and what a token does not allow.
    let url = receiver.url("/refused");
    let mut late = claims_final(json!([detail(Role::Subscribe, &["*"])]));
    late["exp"] = json!(crate::tokens::now() - 1);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let late = mint(&header, &late, Role::Subscribe.key());
    let then = json!({ "publish": { "replace": ["cms", "seen"] } });
    for (more, path) in [
        (json!({ "token": late }), "token"),
        (json!({ "token": "x" }), "token"),
        (json!({ "token": 7 }), "token"),
        (json!({ "token": token_of("a", &["*"]), "then": then }), "then"),
    ] {
        let refused = ask(&hub, "POST", "", &endpoint("refused", &url, &more)).expect(422).json();
        assert_eq!(refused["errors"][0]["path"], path, "{refused}");
    }
}

#[test]
fn what_was_set_aside_for_one_creator_is_not_sent_to_the_next() {
    let receiver = Receiver::with(|_| Answer::status(503));
    let hub = TestHub::start(&configuration(""));
    let url = receiver.url("/hook");
    let retry = json!({ "first": "300ms", "max": "300ms" });
    let anna = json!({ "token": token_of("anna", &["mine"]), "key": "topic", "retry": retry });
    make(&hub, "shop", &url, &anna);
    publish_private(&hub, "mine", "for anna");
    let deadline = std::time::Instant::now() + http::PATIENCE;
    while show(&hub, "shop").json()["parked"] != 1 {
        assert!(std::time::Instant::now() < deadline, "{}", show(&hub, "shop").json());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let bert = json!({ "token": token_of("bert", &["theirs"]), "key": "topic" });
    ask_if(&hub, "PUT", "/shop", "*", &endpoint("shop", &url, &bert)).expect(200);
    let seen = receiver.count();
    receiver.behave(|_| Answer::status(200));
    publish_private(&hub, "mine", "for anna as well");
    publish_private(&hub, "theirs", "for bert");
    receiver.wait_for_body("/hook", "for bert");
    let letters = crate::sinks::wait_for_dead_letters(&hub, "shop", 1);
    assert_eq!(letters[0]["kind"], "unreadable", "{letters:?}");
    assert_eq!(receiver.bodies_at("/hook")[seen..], ["for bert"]);
}

#[test]
fn every_mistake_is_named_and_internal_addresses_stay_out_of_reach() {
    let receiver = Receiver::start();
    let hub = TestHub::start(ADMIN);
    let wrong = json!({
        "kind": "webhook", "name": "A", "topics": [], "url": "ftp://a", "rate": 0, "tpoics": 1,
    });
    let refused = ask(&hub, "POST", "", &wrong).expect(422);
    assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
    let refused = refused.json();
    let paths: Vec<&str> =
        refused["errors"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    for path in ["name", "topics", "url", "rate", "tpoics"] {
        assert!(paths.contains(&path), "{refused}");
    }
    let made = json!({ "allow": ["127.0.0.0/8"] });
    let refused = ask(&hub, "POST", "", &endpoint("a", &receiver.url("/"), &made)).expect(422);
    assert_eq!(refused.json()["errors"][0]["path"], "allow");
    make(&hub, "inside", &receiver.url("/"), &json!({}));
    publish(&hub, "a", "x");
    crate::sinks::wait_for_dead_letters(&hub, "inside", 1);
    assert_eq!(receiver.connections(), 0);
    for body in ["", "[]", "{", "null"] {
        let (name, value) = bearer("admin-token-of-the-tests");
        let headers = [(name.as_str(), value.as_str())];
        let bytes = http::request("POST", "/tidings/admin/sinks", &headers, body.as_bytes());
        let status = http::exchange(hub.admin.unwrap(), &bytes).status;
        assert!([400, 422].contains(&status), "{body}: {status}");
    }
}

#[test]
fn rotation_loses_no_verification() {
    let receiver = Receiver::start();
    let hub = TestHub::start(&configuration(""));
    let made = make(&hub, "shop", &receiver.url("/"), &json!({}));
    let first = made["secret"].as_str().unwrap().to_owned();
    publish(&hub, "a", "by the first");
    receiver.wait_for(1);
    let rotate = |body: &Value| {
        let turned = ask(&hub, "POST", "/shop/rotate", body).expect(200).json();
        turned["secret"].as_str().unwrap().to_owned()
    };
    let second = rotate(&json!({ "overlap": "1h" }));
    publish(&hub, "a", "by both");
    receiver.wait_for(2);
    // The older ones end with the next at once.
    let third = rotate(&json!({ "overlap": "0" }));
    publish(&hub, "a", "by the third");
    let received = receiver.wait_for(3);
    let (good, bad) = ("verified", "WebhookVerificationError");
    assert_eq!(judged(&received, &first), [good, good, bad]);
    assert_eq!(judged(&received, &second), [bad, good, bad]);
    assert_eq!(judged(&received, &third), [bad, bad, good]);
    for body in [json!({ "overlap": "8d" }), json!({ "overlap": "long" })] {
        let refused = ask(&hub, "POST", "/shop/rotate", &body).expect(422).json();
        assert_eq!(refused["errors"][0]["path"], "overlap", "{refused}");
    }
    // Somebody who wants no signatures.
    let bare = make(&hub, "bare", &receiver.url("/bare"), &json!({ "secrets": [] }));
    assert!(bare.get("secret").is_none(), "{bare}");
    publish(&hub, "a", "unsigned");
    let request = receiver.wait_for_body("/bare", "unsigned").remove(0);
    assert_eq!(request.header("webhook-signature"), None);
    // A pair: receivers are given the public half.
    let seed = "whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    make(&hub, "pair", &receiver.url("/pair"), &json!({ "secrets": [seed] }));
    let turned = ask(&hub, "POST", "/pair/rotate", &Value::Null).expect(200).json();
    assert!(turned["public_key"].as_str().unwrap().starts_with("whpk_"), "{turned}");
    assert!(turned.get("secret").is_none(), "{turned}");
}

#[test]
fn two_writers_do_not_overwrite_each_other() {
    let receiver = Receiver::start();
    let hub = TestHub::start(&configuration(""));
    let url = receiver.url("/hook");
    make(&hub, "shop", &url, &json!({ "bearer": "kept" }));
    let read = show(&hub, "shop");
    let tag = read.header("etag").unwrap();
    // What was read is written again, with one thing changed.
    let mut written = read.json()["specification"].clone();
    written["rate"] = json!(1_000);
    ask(&hub, "PUT", "/shop", &written).expect(428);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ask_if(&hub, "PUT", "/shop", &tag, &written).status))
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 3, "{statuses:?}");
    let now = show(&hub, "shop");
    assert_ne!(now.header("etag").unwrap(), tag);
    assert_eq!(now.json()["specification"]["rate"], 1_000);
    ask_if(&hub, "DELETE", "/shop", &tag, &Value::Null).expect(412);
    ask_if(&hub, "PUT", "/shop", "\"soon\"", &written).expect(412);
    publish(&hub, "a", "x");
    let got = receiver.wait_for_body("/hook", "x").remove(0);
    assert_eq!(got.header("authorization").as_deref(), Some("Bearer kept"));
    ask(&hub, "POST", "/shop/pause", &Value::Null).expect(200);
    let hub = hub.restart();
    assert_eq!(state(&hub, "shop"), "paused");
    publish(&hub, "a", "y");
    ask(&hub, "POST", "/shop/resume", &Value::Null).expect(200);
    receiver.wait_for_body("/hook", "y");
    ask_if(&hub, "DELETE", "/shop", &now.header("etag").unwrap(), &Value::Null).expect(204);
    ask(&hub, "DELETE", "/shop", &Value::Null).expect(404);
    // Another one with its name begins anew, and is another one.
    make(&hub, "shop", &receiver.url("/new"), &json!({}));
    ask_if(&hub, "DELETE", "/shop", &now.header("etag").unwrap(), &Value::Null).expect(412);
    publish(&hub, "a", "z");
    receiver.wait_for_body("/new", "z");
    assert_eq!(receiver.bodies_at("/new"), ["z"]);
}

/// Judges the document, from PyPI.
const VALIDATOR: &str = "openapi-spec-validator==0.9.0";
/// Validates the document on its standard input, and each answer by the schema that it has for it.
const JUDGE: &str = "
import json, sys
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
given = json.load(sys.stdin)
document = given['document']
validate(document)
def resolved(part):
    while '$ref' in part:
        found = document
        for name in part['$ref'].removeprefix('#/').split('/'):
            found = found[name]
        part = found
    return part
for one in given['answers']:
    operation = document['paths'][one['path']][one['method'].lower()]
    answer = resolved(operation['responses'][str(one['status'])])
    kind = one['type'].split(';')[0]
    schema = dict(answer['content'][kind]['schema'], components=document['components'])
    Draft202012Validator(schema).validate(one['body'])
    if one.get('sent') is not None:
        schema = operation['requestBody']['content']['application/json']['schema']
        schema = dict(schema, components=document['components'])
        fits = Draft202012Validator(schema).is_valid(one['sent'])
        assert fits == (one['status'] < 400), (one['sent'], fits)
print('valid')
";

#[test]
fn the_document_validates_and_says_what_is_answered() {
    let receiver = Receiver::with(|request| match request.body.as_slice() {
        b"refused" => Answer::status(400).body(b"no"),
        _ => Answer::status(200),
    });
    let sink = webhook("cache", &receiver.url("/configured"), "\"*\"", QUICK);
    let hub = TestHub::start(&configuration(&sink));
    let path = "/tidings/admin/openapi.json";
    let document = http::exchange(hub.admin.unwrap(), &http::request("GET", path, &[], b""));
    let document = document.expect(200).json();
    let mut answers = Vec::new();
    let mut note = |method: &str, pattern: &str, path: &str, body: &Value, status: u16| {
        let reply = match method {
            "PUT" => ask_if(&hub, method, path, "*", body),
            _ => ask(&hub, method, path, body),
        };
        let reply = reply.expect(status);
        let sent = if body.is_null() { Value::Null } else { body.clone() };
        answers.push(json!({
            "path": format!("/tidings/admin/sinks{pattern}"), "method": method, "status": status,
            "type": reply.header("content-type").unwrap(), "body": reply.json(), "sent": sent,
        }));
        reply.json()
    };
    let none = Value::Null;
    let url = receiver.url("/shop");
    let more = json!({
        "token": token_of("anna", &["*"]), "headers": { "x-a": "b" }, "rate": 500,
        "topics": [{ "nats": "cms.>" }, "other"], "key": "topic", "success": [200],
    });
    note("POST", "", "", &endpoint("shop", &url, &more), 201);
    note("POST", "", "", &endpoint("shop", &url, &json!({ "key": "nothing" })), 422);
    note("POST", "", "", &endpoint("wrong", &url, &json!({ "unknown": 1 })), 422);
    note("PUT", "/{name}", "/shop", &endpoint("shop", &url, &json!({ "headers": null })), 200);
    publish(&hub, "cms.a", "refused");
    crate::sinks::wait_for_dead_letters(&hub, "shop", 1);
    note("GET", "", "", &none, 200);
    for name in ["shop", "cache"] {
        note("GET", "/{name}", &format!("/{name}"), &none, 200);
    }
    note("GET", "/{name}", "/none", &none, 404);
    for (act, status) in [("rotate", 200), ("pause", 200), ("resume", 200), ("test", 200)] {
        let pattern = format!("/{{name}}/{act}");
        note("POST", &pattern, &format!("/shop/{act}"), &none, status);
    }
    note("POST", "/{name}/pause", "/cache/pause", &none, 409);
    note("GET", "/{name}/attempts", "/shop/attempts", &none, 200);
    note("GET", "/{name}/dead-letters", "/shop/dead-letters", &none, 200);
    let replays = ("/{name}/replays", "/shop/replays");
    note("POST", replays.0, replays.1, &json!({ "from": 1, "failed": true }), 201);
    note("POST", replays.0, replays.1, &json!({ "from": -1 }), 400);
    note("GET", replays.0, replays.1, &none, 200);
    let redrive = ("/{name}/dead-letters/redrive", "/shop/dead-letters/redrive");
    note("POST", redrive.0, redrive.1, &json!({ "all": true }), 200);
    note("POST", redrive.0, redrive.1, &json!({ "all": true, "numbers": [1] }), 400);
    let mut command =
        Command::new(python("openapi-validator", "openapi_spec_validator", VALIDATOR));
    command.args(["-c", JUDGE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let text = json!({ "document": document, "answers": answers }).to_string();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout == b"valid\n", "{said}");
}

#[test]
fn a_lost_key_file_refuses_the_start() {
    let receiver = Receiver::start();
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().join("history");
    let key = data.join("webhooks.key");
    let launch = Launch { data: Some(data), ..Launch::toml(&configuration("")) };
    let hub = TestHub::launch(launch.clone());
    assert!(!key.exists(), "nothing is sealed yet");
    make(&hub, "shop", &receiver.url("/hook"), &json!({}));
    assert_eq!(hub.stop().0, 0);
    let right = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    for wrong in [None, Some(vec![7; 32]), Some(b"short".to_vec())] {
        if let Some(wrong) = wrong {
            std::fs::write(&key, wrong).unwrap();
        }
        let log = TestHub::try_launch(launch.clone()).err().unwrap();
        assert!(log.contains(key.to_str().unwrap()), "{log}");
    }
    std::fs::write(&key, right).unwrap();
    let hub = TestHub::launch(launch);
    publish(&hub, "a", "x");
    receiver.wait_for_body("/hook", "x");
}
