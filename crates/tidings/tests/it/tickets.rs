//! One-use tickets for streams, for browsers that can send no header.

use serde_json::{Value, json};

use crate::http::Reply;
use crate::hub::{HUB, TestHub};
use crate::keys::{ADMIN, ask, key, token};
use crate::tokens::{HUB_URL, PUBLIC_URL, Role, bearer, token_draft, token_final};

const PATH: &str = "/.well-known/tidings/ticket";
const TOPIC: &str = "https://tickets.example/1";

pub(crate) fn ticket_with(hub: &TestHub, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    hub.request("POST", PATH, &all, body.to_string().as_bytes())
}

fn all_of(topic: &str) -> Value {
    json!({ "matchers": [{ "match": topic }] })
}

/// A ticket by this token.
pub(crate) fn ticket(hub: &TestHub, token: &str, topic: &str) -> String {
    let (name, value) = bearer(token);
    let answer = ticket_with(hub, &[(&name, &value)], &all_of(topic)).expect(201).json();
    answer["ticket"].as_str().unwrap().to_owned()
}

#[test]
fn a_ticket_opens_one_stream_as_its_token_with_its_matchers() {
    let hub = TestHub::start(ADMIN);
    let (name, value) = bearer(&token_final(Role::Subscribe, &[TOPIC]));
    let reply = ticket_with(&hub, &[(&name, &value)], &all_of(TOPIC)).expect(201);
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(reply.header("referrer-policy").as_deref(), Some("no-referrer"));
    let answer = reply.json();
    let ticket = answer["ticket"].as_str().unwrap();
    assert_eq!(answer["url"], format!("{HUB_URL}?ticket={ticket}"));
    assert_eq!(answer["expires_in"], 30);
    let target = format!("{HUB}?ticket={ticket}");
    let mut stream = hub.stream(&target, &[]);
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.head.header("referrer-policy").as_deref(), Some("no-referrer"));
    stream.until_open();
    hub.publish(&[("topic", "https://tickets.example/2"), ("data", "other")]);
    hub.publish(&[("topic", TOPIC), ("data", "secret"), ("private", "on")]);
    assert_eq!(stream.data(1), ["secret"]);
    let refused = hub.get(&target, &[]).expect(401);
    assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"));
    hub.wait_for_log("the ticket is not valid");
    assert!(!hub.log().contains(ticket));
}

#[test]
fn a_ticket_goes_on_where_its_reader_stopped() {
    let hub = TestHub::start(ADMIN);
    let first = hub.publish(&[("topic", TOPIC), ("data", "1")]);
    hub.publish(&[("topic", TOPIC), ("data", "2")]);
    let ticket = ticket(&hub, &token_final(Role::Subscribe, &["*"]), TOPIC);
    let target = format!("{HUB}?ticket={ticket}&last_event_id={first}&continuity=1");
    let mut stream = hub.stream(&target, &[]);
    assert_eq!(stream.head.status, 200);
    let [told, update] = stream.data(2).try_into().unwrap();
    assert!(told.contains("resumed"), "{told}");
    assert_eq!(update, "2");
}

#[test]
fn beside_a_ticket_there_is_nothing_and_it_is_used_up_all_the_same() {
    let hub = TestHub::start(ADMIN);
    let token = token_final(Role::Subscribe, &["*"]);
    let draft = token_draft(Role::Subscribe, &["*"]);
    for beside in [
        "match=*".to_owned(),
        "topic=a".to_owned(),
        format!("authorization={draft}"),
        "ticket=other".to_owned(),
        "matchX=1".to_owned(),
    ] {
        let ticket = ticket(&hub, &token, TOPIC);
        hub.get(&format!("{HUB}?ticket={ticket}&{beside}"), &[]).expect(400);
        hub.get(&format!("{HUB}?ticket={ticket}"), &[]).expect(401);
    }
    let own = ticket(&hub, &token, TOPIC);
    let (name, value) = bearer(&token);
    hub.get(&format!("{HUB}?ticket={own}"), &[(&name, &value)]).expect(400);
    hub.get(&format!("{HUB}?ticket="), &[]).expect(401);
    hub.get(&format!("{HUB}?ticket=%FF"), &[]).expect(401);
}

#[test]
fn a_ticket_is_too_old_soon() {
    let hub = TestHub::start(ADMIN);
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let body = json!({ "matchers": [{ "match": "*" }], "lifetime": 1 });
    let answer = ticket_with(&hub, &[(&name, &value)], &body).expect(201).json();
    assert_eq!(answer["expires_in"], 1);
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_millis(1_050) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    hub.get(&format!("{HUB}?ticket={}", answer["ticket"].as_str().unwrap()), &[]).expect(401);
    let long = json!({ "matchers": [{ "match": "*" }], "lifetime": 3_600 });
    let answer = ticket_with(&hub, &[(&name, &value)], &long).expect(201).json();
    assert_eq!(answer["expires_in"], 60);
}

#[test]
fn a_ticket_falls_with_its_token() {
    let hub = TestHub::start(ADMIN);
    let shop = key(&hub, "shop", &["*"]);
    let by_token = ticket(&hub, &token(&hub, &shop), TOPIC);
    let by_key = ticket(&hub, &shop, TOPIC);
    let opened = ticket_with(&hub, &[("X-Api-Key", &shop)], &all_of(TOPIC)).expect(201).json();
    let target = format!("{HUB}?ticket={}", opened["ticket"].as_str().unwrap());
    let mut stream = hub.stream(&target, &[]);
    assert_eq!(stream.head.status, 200);
    stream.until_open();
    hub.publish(&[("topic", TOPIC), ("data", "x"), ("private", "on")]);
    assert_eq!(stream.data(1), ["x"]);
    let answer = ask(&hub, "DELETE", "/tidings/admin/keys/shop", &Value::Null).expect(200).json();
    assert_eq!(answer["ended"], 1);
    assert!(stream.until_end().0.is_empty());
    for ticket in [by_token, by_key] {
        hub.get(&format!("{HUB}?ticket={ticket}"), &[]).expect(401);
    }
}

#[test]
fn only_who_may_subscribe_gets_a_ticket() {
    let hub = TestHub::start(&format!("{ADMIN}\n[auth]\nanonymous = true"));
    ticket_with(&hub, &[], &all_of(TOPIC)).expect(401);
    ticket_with(&hub, &[("X-Api-Key", "tk_wrong")], &all_of(TOPIC)).expect(401);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    ticket_with(&hub, &[(&name, &value)], &all_of(TOPIC)).expect(401);
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let good = [(name.as_str(), value.as_str())];
    for body in [
        json!({}),
        json!([]),
        json!({ "matchers": [] }),
        json!({ "matchers": [{ "match": "a/#/b", "match_type": "mqtt" }] }),
        json!({ "matchers": [{ "match": "a", "match_type": "regexp" }] }),
        json!({ "matchers": [{ "match": "a" }], "lifetime": 0 }),
    ] {
        ticket_with(&hub, &good, &body).expect(400);
    }
    let unknown = json!({ "matchers": [{ "match": "a" }], "Lifetime": 5 });
    let refused = ticket_with(&hub, &good, &unknown).expect(400).text();
    assert!(refused.contains("`Lifetime`"), "{refused}");
    let get = hub.get(PATH, &good).expect(405);
    assert_eq!(get.header("allow").as_deref(), Some("POST, OPTIONS"));
    for _ in 0..100 {
        ticket_with(&hub, &good, &all_of(TOPIC)).expect(201);
    }
    let refused = ticket_with(&hub, &good, &all_of(TOPIC)).expect(429);
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn the_tokens_of_a_key_have_no_more_tickets_than_the_key() {
    let hub = TestHub::start(ADMIN);
    let shop = key(&hub, "shop", &["*"]);
    let mut made = 0;
    for _ in 0..11 {
        let (name, value) = bearer(&token(&hub, &shop));
        let of_token = (0..100)
            .take_while(|_| {
                let body = json!({ "matchers": [{ "match": TOPIC }], "lifetime": 60 });
                ticket_with(&hub, &[(&name, &value)], &body).status == 201
            })
            .count();
        made += of_token;
    }
    assert_eq!(made, 1_000);
    let other = key(&hub, "other", &["*"]);
    ticket(&hub, &token(&hub, &other), TOPIC);
}

#[test]
fn a_cookie_gets_a_ticket_for_pages_of_the_hubs_own_origin() {
    let hub = TestHub::start(ADMIN);
    let cookie = format!("__Secure-mercure_access_token={}", token_final(Role::Subscribe, &["*"]));
    let from = |origin| {
        let headers = [("Cookie", cookie.as_str()), ("Origin", origin)];
        ticket_with(&hub, &headers, &all_of(TOPIC)).status
    };
    assert_eq!(from(PUBLIC_URL), 201);
    assert_eq!(from("https://elsewhere.example"), 400);
    ticket_with(&hub, &[("Cookie", &cookie)], &all_of(TOPIC)).expect(400);
}
