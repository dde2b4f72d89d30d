//! An API key becomes a token: narrowed, short, for subscribing alone.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::http::{self, Pairs, Reply};
use crate::hub::{HUB, TestHub};
use crate::keys::{ADMIN, EXCHANGE, ask, exchange, key};
use crate::tokens::{HUB_URL, PUBLIC_URL, bearer, now};

const DETAIL: &str = "https://mercure.rocks/authorization-detail";

fn claims(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || parts.next().unwrap();
    let read = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    (read(next()), read(next()))
}

fn access_token(answer: &Value) -> &str {
    answer["access_token"].as_str().unwrap()
}

fn post(hub: &TestHub, headers: Pairs<'_>, kind: &str, body: &str) -> Reply {
    let mut all = vec![("Content-Type", kind)];
    all.extend_from_slice(headers);
    hub.request("POST", EXCHANGE, &all, body.as_bytes())
}

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn a_token_says_whose_it_is_for_what_and_how_long() {
    let hub = TestHub::start(ADMIN);
    let key = key(&hub, "shop", &["https://e.com/1", "https://e.com/2"]);
    let asked = json!({ "topics": ["https://e.com/2"], "lifetime": 120, "subject": "alice" });
    let reply = exchange(&hub, &key, &asked).expect(200);
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
    let answer = reply.json();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(120)));
    let detail = json!({ "type": DETAIL, "actions": ["subscribe"], "topics": [{ "match": "https://e.com/2" }] });
    assert_eq!(answer["authorization_details"], json!([detail]));
    let (header, claims) = claims(access_token(&answer));
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("HS256")));
    assert_eq!(claims["iss"], format!("{PUBLIC_URL}/.well-known/tidings"));
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!(HUB_URL), &json!("alice")));
    assert_eq!(claims["client_id"], &key[3..19]);
    assert_eq!(claims["exp"], answer["expires_at"]);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 120);
    assert!(claims["iat"].as_u64().unwrap().abs_diff(now()) < 30);
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    assert_eq!(claims["authorization_details"], json!([detail]));

    let mut stream = hub.subscribe_with(access_token(&answer), "match=*", &[]);
    for (topic, data) in [("https://e.com/1", "no"), ("https://e.com/2", "yes")] {
        hub.publish(&[("topic", topic), ("data", data), ("private", "on")]);
    }
    assert_eq!(stream.data(1), ["yes"]);
    hub.publish_with(access_token(&answer), &[("topic", "https://e.com/2")]).expect(401);
    let again = exchange(&hub, &key, &asked).expect(200).json();
    assert_ne!(again["access_token"], answer["access_token"]);
}

#[test]
fn everything_has_a_default_and_a_key_has_the_last_word() {
    let hub = TestHub::start(ADMIN);
    let made = json!({ "name": "shop", "topics": [
        "a", { "match": "b/#", "match_type": "mqtt" }], "lifetime_max": 7_200 });
    let made = ask(&hub, "POST", "/tidings/admin/keys", &made).expect(201).json();
    let key = made["key"].as_str().unwrap();
    let (name, value) = bearer(key);
    let bare = hub.request("POST", EXCHANGE, &[(&name, &value)], b"").expect(200).json();
    assert_eq!(bare["expires_in"], 3_600);
    let (_, claims) = claims(access_token(&bare));
    assert_eq!(claims["sub"], "key:shop");
    assert_eq!(
        claims["authorization_details"][0]["topics"],
        json!([{ "match": "a" }, { "match": "b/#", "match_type": "mqtt" }])
    );
    let long = exchange(&hub, key, &json!({ "lifetime": 999_999 })).expect(200).json();
    assert_eq!(long["expires_in"], 7_200);
    let picked = json!({ "topics": ["b/c/d", { "match": "b/#", "match_type": "mqtt" }] });
    exchange(&hub, key, &picked).expect(200);
    for topics in [json!(["b"]), json!(["a"]), json!(["b/c"])] {
        exchange(&hub, key, &json!({ "topics": topics })).expect(200);
    }
    for topics in [
        json!(["c"]),
        json!(["*"]),
        json!(["a", "c"]),
        json!([{ "match": "b/+", "match_type": "mqtt" }]),
        json!([{ "match": "#", "match_type": "mqtt" }]),
        json!([]),
    ] {
        let refused = exchange(&hub, key, &json!({ "topics": topics })).expect(400).json();
        assert_eq!(refused["error"], "invalid_authorization_details", "{topics}");
    }
}

#[test]
fn details_are_narrowed_and_carry_their_payload() {
    let hub = TestHub::start(ADMIN);
    let key = key(&hub, "shop", &["*"]);
    let detail = |action: &str| {
        json!({ "type": DETAIL, "actions": [action],
            "topics": [{ "match": "https://e.com/:id", "match_type": "urlpattern" }],
            "payload": { "user": "alice" } })
    };
    let asked = json!({ "authorization_details": [detail("subscribe")] });
    let answer = exchange(&hub, &key, &asked).expect(200).json();
    assert_eq!(answer["authorization_details"], asked["authorization_details"]);
    let (_, claims) = claims(access_token(&answer));
    assert_eq!(claims["authorization_details"], asked["authorization_details"]);
    for details in [
        json!([detail("publish")]),
        json!([{ "type": "other" }]),
        json!([{ "type": DETAIL, "actions": ["subscribe"], "topics": [] }]),
    ] {
        let asked = json!({ "authorization_details": details });
        let refused = exchange(&hub, &key, &asked).expect(400).json();
        assert_eq!(refused["error"], "invalid_authorization_details", "{details}");
    }
}

#[test]
fn libraries_for_oauth_exchange_by_form_and_basic() {
    let hub = TestHub::start(ADMIN);
    let key = key(&hub, "shop", &["*"]);
    let basic =
        |name: &str, key: &str| format!("Basic {}", STANDARD.encode(format!("{name}:{key}")));
    let good = basic(&key[3..19], &key);
    let body = "grant_type=client_credentials&topic=a&topic=b&lifetime=60";
    let of_library = format!("{body}&client_id={}&scope=&resource={HUB_URL}", &key[3..19]);
    let answer = post(&hub, &[("Authorization", &good)], FORM, &of_library).expect(200).json();
    assert_eq!(
        answer["authorization_details"][0]["topics"],
        json!([{ "match": "a" }, { "match": "b" }])
    );
    post(&hub, &[("X-Api-Key", &key)], FORM, "topic=a").expect(200);
    let wrong = basic("someone", &key);
    let refused = post(&hub, &[("Authorization", &wrong)], FORM, body).expect(401);
    assert_eq!(refused.header("www-authenticate").as_deref(), Some("Basic realm=\"tidings\""));
    assert_eq!(refused.json()["error"], "invalid_client");
    let refused = post(&hub, &[("X-Api-Key", &key)], FORM, "grant_type=password").expect(400);
    assert_eq!(refused.json()["error"], "unsupported_grant_type");
    let both = [("X-Api-Key", key.as_str()), ("Authorization", good.as_str())];
    let refused = post(&hub, &both, FORM, "").expect(400);
    assert_eq!(refused.json()["error"], "invalid_request");
    for (kind, body) in [
        (FORM, "lifetime=60&lifetime=60"),
        (FORM, "topics=a"),
        ("application/json", "["),
        ("application/json", "[]"),
        ("application/json", "{\"topic\":[\"a\"]}"),
        ("text/plain", "x"),
    ] {
        let refused = post(&hub, &[("X-Api-Key", &key)], kind, body).expect(400);
        assert_eq!(refused.json()["error"], "invalid_request", "{body}");
    }
    for (body, error, named) in [
        ("Topic=a", "invalid_request", "`Topic`"),
        ("topic=a&t%22%5C%0A=b", "invalid_request", "`t%22%5C%0A`"),
        ("scope=read", "invalid_scope", "`topics`"),
        ("resource=https://other.example/", "invalid_target", "`resource`"),
        ("audience=other", "invalid_target", "`audience`"),
        ("client_id=someone", "invalid_request", "`client_id`"),
        ("client_id=a&client_secret=b", "invalid_request", "header"),
    ] {
        let refused = post(&hub, &[("X-Api-Key", &key)], FORM, body).expect(400).json();
        let described = refused["error_description"].as_str().unwrap();
        assert_eq!(refused["error"], error, "{body}");
        assert!(described.contains(named), "{described}");
    }
    let long = format!("{}=1", "x".repeat(10_000));
    let refused = post(&hub, &[("X-Api-Key", &key)], FORM, &long).expect(400).text();
    assert!(refused.len() < 500, "{refused}");
    let of_library = json!({ "Topics": ["a"], "audience": [HUB_URL] });
    let refused = exchange(&hub, &key, &of_library).expect(400).json();
    assert!(refused["error_description"].as_str().unwrap().contains("`Topics`"), "{refused}");
    exchange(&hub, &key, &json!({ "topics": ["a"], "audience": [HUB_URL] })).expect(200);
    let large = format!("{{\"subject\":\"{}\"}}", "a".repeat(70_000));
    post(&hub, &[("X-Api-Key", &key)], "application/json", &large).expect(413);
}

#[test]
fn who_has_no_key_gets_nothing_and_is_slowed_down() {
    let hub = TestHub::start(ADMIN);
    let good = key(&hub, "shop", &["*"]);
    let refused = hub.request("POST", EXCHANGE, &[], b"").expect(401);
    assert_eq!(refused.header("www-authenticate").as_deref(), Some("Bearer"));
    assert_eq!(refused.json()["error"], "invalid_client");
    let get = hub.get(EXCHANGE, &[]).expect(405);
    assert_eq!(get.header("allow").as_deref(), Some("POST, OPTIONS"));
    let wrong = format!("{}{}", &good[..62], if good.ends_with('A') { 'B' } else { 'A' });
    let mut slowed = 0;
    for _ in 0..70 {
        let reply = exchange(&hub, &wrong, &json!({}));
        match reply.status {
            401 => assert!(!reply.text().contains("secret"), "{}", reply.text()),
            429 => {
                slowed += 1;
                assert_eq!(reply.json()["error"], "slow_down");
                assert!(reply.header("retry-after").is_some());
            }
            other => panic!("{other}"),
        }
    }
    assert!(slowed > 0);
    exchange(&hub, &good, &json!({})).expect(200);
    hub.wait_for_log("the secret of the API key is wrong");
    assert!(!hub.log().contains(&wrong[20..]) && !hub.log().contains(&good[20..]));
}

#[test]
fn a_key_asks_as_often_as_it_may() {
    let hub = TestHub::start(ADMIN);
    let made = json!({ "name": "slow", "topics": ["*"], "per_minute": 2 });
    let made = ask(&hub, "POST", "/tidings/admin/keys", &made).expect(201).json();
    let key = made["key"].as_str().unwrap();
    exchange(&hub, key, &json!({})).expect(200);
    exchange(&hub, key, &json!({})).expect(200);
    let refused = exchange(&hub, key, &json!({})).expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(refused.json()["error"], "slow_down");
}

#[test]
fn pages_exchange_keys_only_where_the_operator_says_so() {
    let preflight = [
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-api-key"),
    ];
    let hub = TestHub::start(ADMIN);
    let answer = hub.request("OPTIONS", EXCHANGE, &preflight, b"").expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let listed = "[tokens]\ncors_origins = [\"https://app.example\"]";
    let hub = TestHub::start(&format!("{ADMIN}\n{listed}"));
    let answer = hub.request("OPTIONS", EXCHANGE, &preflight, b"").expect(204);
    assert_eq!(
        answer.header("access-control-allow-origin").as_deref(),
        Some("https://app.example")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let headers = [("Origin", "https://app.example")];
    let refused = hub.request("POST", EXCHANGE, &headers, b"").expect(401);
    assert!(refused.header("access-control-allow-origin").is_some());
}

#[test]
fn a_hub_of_older_clients_takes_both_kinds_of_its_own_tokens() {
    let hub = TestHub::start(&format!("{ADMIN}\n[tokens]\nmercure_info = true"));
    let key = key(&hub, "shop", &["https://e.com/1"]);
    let answer = exchange(&hub, &key, &json!({ "generation": "0.x" })).expect(200).json();
    let (header, claims) = claims(access_token(&answer));
    assert_eq!(header["typ"], "JWT");
    assert_eq!(claims["mercure"], json!({ "subscribe": ["https://e.com/1"] }));
    let target = format!("{HUB}?topic=https://e.com/1&authorization={}", access_token(&answer));
    let mut stream = hub.stream(&target, &[]);
    assert_eq!(stream.head.status, 200);
    stream.until_open();
    hub.publish(&[("topic", "https://e.com/1"), ("data", "x"), ("private", "on")]);
    assert_eq!(stream.data(1), ["x"]);
    let asked = json!({ "generation": "0.x", "topics": [{ "match": "https://e.com/1" }] });
    exchange(&hub, &key, &asked).expect(200);
}

#[test]
fn tokens_of_older_clients_are_not_made_where_nobody_takes_them() {
    let hub = TestHub::start(ADMIN);
    let key = key(&hub, "shop", &["*"]);
    let refused = exchange(&hub, &key, &json!({ "generation": "0.x" })).expect(400).json();
    assert_eq!(refused["error"], "invalid_request", "{refused}");
    let bytes = http::request("POST", EXCHANGE, &[("X-Api-Key", &key)], b"");
    hub.exchange(&bytes).expect(200);
}
