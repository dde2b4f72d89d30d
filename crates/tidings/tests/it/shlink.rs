//! What Shlink's web client asks a Shlink for, asked of the hub.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::hub::{HUB, TestHub};
use crate::keys::{ADMIN, ask, key};
use crate::tokens::{HUB_URL, ISSUER, PUBLISH_KEY, now};

const ON: &str = "[tokens]\nmercure_info = true";
const PATH: &str = "/rest/v3/mercure-info";

fn start() -> TestHub {
    TestHub::start(&format!("{ADMIN}\n{ON}"))
}

#[test]
fn a_web_client_gets_a_hub_and_a_token_and_hears_its_updates() {
    let hub = start();
    let key = key(&hub, "web", &["*"]);
    for version in 1..=3 {
        let path = format!("/rest/v{version}/mercure-info");
        let reply = hub.get(&path, &[("X-Api-Key", &key)]).expect(200);
        assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some("*"));
        let answer = reply.json();
        assert_eq!(answer["mercureHubUrl"], HUB_URL);
        assert_eq!(answer["token"], answer["jwt"]);
        assert_eq!(answer.as_object().unwrap().len(), 4);
        let date = answer["jwtExpiration"].as_str().unwrap();
        assert!(date.len() == 25 && date.ends_with("+00:00"), "{date}");
        let payload = answer["token"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(claims["mercure"], json!({ "subscribe": ["*"] }));
        assert!(claims["exp"].as_u64().unwrap().abs_diff(now() + 86_400) < 30);
        let token = answer["token"].as_str().unwrap();
        let topic = "https://shlink.io/new-visit";
        let target = format!("{HUB}?topic={topic}&authorization={token}");
        let mut stream = hub.stream(&target, &[("Origin", "https://app.shlink.io")]);
        assert_eq!(stream.head.status, 200);
        stream.until_open();
        hub.publish(&[("topic", topic), ("data", "{}"), ("private", "on")]);
        assert_eq!(stream.data(1), ["{}"]);
        hub.publish_with(token, &[("topic", topic)]).expect(401);
    }
    assert!(!hub.log().contains(&key));
}

#[test]
fn its_problems_are_those_that_the_client_knows() {
    let hub = start();
    let reply = hub.get(PATH, &[]).expect(401);
    assert_eq!(reply.header("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some("*"));
    let problem = reply.json();
    assert_eq!(problem["type"], "https://shlink.io/api/error/missing-authentication");
    assert_eq!(problem["title"], "Invalid authorization");
    assert_eq!(problem["expectedHeaders"], json!(["X-Api-Key"]));
    assert_eq!(problem["status"], 401);
    assert!(problem["detail"].is_string());
    let problem = hub.get(PATH, &[("X-Api-Key", "nobody")]).expect(401).json();
    assert_eq!(problem["type"], "https://shlink.io/api/error/invalid-api-key");
    assert_eq!(problem["title"], "Invalid API key");
    let made = json!({ "name": "mqtt", "topics": [{ "match": "a/#", "match_type": "mqtt" }] });
    let made = ask(&hub, "POST", "/tidings/admin/keys", &made).expect(201).json();
    let unsayable = made["key"].as_str().unwrap();
    assert_eq!(hub.get(PATH, &[("X-Api-Key", unsayable)]).expect(403).json()["status"], 403);
    hub.request("POST", PATH, &[("X-Api-Key", unsayable)], b"").expect(405);
    let preflight = [
        ("Origin", "https://app.shlink.io"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "x-api-key"),
    ];
    let answer = hub.request("OPTIONS", PATH, &preflight, b"").expect(204);
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.to_ascii_lowercase().contains("x-api-key"), "{allowed}");
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"));
    hub.get("/rest/v4/mercure-info", &[]).expect(404);
}

#[test]
fn a_hub_that_does_not_know_its_own_address_says_so() {
    let listed = format!(
        "listen = \"127.0.0.1:0\"\n[history]\ndurability = \"memory\"\n[[auth.issuer]]\nid = \
         \"{ISSUER}\"\naccept = [\"0.x\"]\npublish = {{ key = \"{PUBLISH_KEY}\" }}\n{ADMIN}\n{ON}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bare.toml");
    std::fs::write(&file, listed).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let arguments = Some(vec!["serve".to_owned(), "--config".to_owned(), file]);
    let hub = TestHub::launch(crate::hub::Launch { arguments, ..Default::default() });
    let key = key(&hub, "web", &["*"]);
    assert_eq!(hub.get(PATH, &[]).expect(401).json()["status"], 401);
    let problem = hub.get(PATH, &[("X-Api-Key", &key)]).expect(501).json();
    assert_eq!(problem["type"], "https://shlink.io/api/error/mercure-not-configured");
    assert_eq!(problem["title"], "Mercure integration not configured");
    assert_eq!(problem["detail"], "This Shlink instance is not integrated with a mercure hub.");
}

#[test]
fn nothing_is_there_unless_the_operator_wants_it() {
    let hub = TestHub::start(ADMIN);
    let key = key(&hub, "web", &["*"]);
    hub.get(PATH, &[("X-Api-Key", &key)]).expect(404);
}
