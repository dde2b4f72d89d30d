//! Subscribers that stop reading: they keep neither a token's rights nor their place beyond its end,
//! and do not keep the program from ending.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Connection, PATIENCE, Part, exchange, request, stream_http2};
use crate::hub::{HUB, TestHub};
use crate::mercure::MEMORY;
use crate::tokens::{Role, bearer, claims_final, detail, mint, now, token_final};

const TOPIC: &str = "https://silent.example/1";
/// More than the buffers of both sockets hold.
const FLOOD: usize = 24;

/// A subscriber to everything that has not read anything but the head of the answer.
pub(crate) fn silent(hub: &TestHub, token: &str) -> Connection {
    let (name, value) = bearer(token);
    let mut connection = Connection::open(hub.address);
    let target = format!("{HUB}?match=*");
    connection.send(&request("GET", &target, &[(name.as_str(), value.as_str())], b""));
    connection.head(false).expect("an answer").expect(200);
    connection
}

/// Publishes more than a silent reader's sockets hold.
pub(crate) fn flood(hub: &TestHub) {
    let large = "x".repeat(1_000_000);
    for _ in 0..FLOOD {
        hub.publish(&[("topic", TOPIC), ("data", &large)]);
    }
}

/// Everything that still comes, up to the end of the connection.
fn rest(connection: &mut Connection) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    loop {
        match connection.part(deadline) {
            Part::Bytes(bytes) => text.extend(bytes),
            Part::End | Part::Cut => return String::from_utf8(text).unwrap(),
            Part::Nothing => panic!("the stream is still open"),
        }
    }
}

#[test]
fn m57_who_reads_on_after_the_end_of_its_token_gets_nothing_from_after_it() {
    let hub = TestHub::start(MEMORY);
    let mut claims = claims();
    let end = now() + 3;
    claims["exp"] = json!(end);
    let mut connection = silent(&hub, &mint_final(&claims));
    flood(&hub);
    while now() <= end {
        std::thread::sleep(Duration::from_millis(50));
    }
    hub.publish(&[("topic", TOPIC), ("data", "from after the end"), ("private", "on")]);
    let rest = rest(&mut connection);
    assert!(rest.contains("xxx"), "what was sent before comes");
    assert!(rest.matches("data: ").count() < FLOOD, "the buffers held all: the test shows nothing");
    assert!(!rest.contains("from after the end"));
}

fn claims() -> Value {
    claims_final(json!([detail(Role::Subscribe, &["*"])]))
}

fn mint_final(claims: &Value) -> String {
    mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), claims, Role::Subscribe.key())
}

const SUBSCRIBERS: &str = "tidings_subscribers";

#[test]
fn the_place_of_who_never_reads_ends_with_its_token() {
    let hub = TestHub::start(&format!("{MEMORY}\n[mercure]\nsubscriptions = true"));
    let mut claims = claims();
    let end = now() + 8;
    claims["exp"] = json!(end);
    let token = mint_final(&claims);
    let (name, value) = bearer(&token);
    let silent = silent(&hub, &token);
    let silent_http2 =
        stream_http2(hub.address, "GET", &format!("{HUB}?match=*"), &[(&name, &value)], b"");
    hub.wait_for_metric(SUBSCRIBERS, 2);
    flood(&hub);
    hub.wait_for_metric(SUBSCRIBERS, 0);
    assert!((end..=end + 2).contains(&now()), "{} s late", now() - end);
    drop((silent, silent_http2));
}

#[test]
fn the_place_of_who_never_reads_ends_when_its_token_is_revoked() {
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"admin-token-of-the-tests\"";
    let hub = TestHub::start(admin);
    let mut claims = claims();
    claims["jti"] = json!("taken back");
    let token = mint_final(&claims);
    let silent: Vec<_> = (0..3).map(|_| silent(&hub, &token)).collect();
    flood(&hub);
    assert_eq!(hub.metric(SUBSCRIBERS), 3);
    let (name, value) = bearer("admin-token-of-the-tests");
    let headers = [(name.as_str(), value.as_str())];
    let path = "/tidings/admin/revocations";
    let ask = request("POST", path, &headers, b"{\"token_id\":\"taken back\"}");
    exchange(hub.admin.unwrap(), &ask).expect(201);
    let waited = hub.wait_for_metric(SUBSCRIBERS, 0);
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    drop(silent);
}

#[test]
fn who_pauses_for_longer_than_a_heartbeat_reads_on_where_it_stopped() {
    let hub = TestHub::start(&format!("{MEMORY}\n[mercure]\nheartbeat = \"1s\""));
    let mut connection = silent(&hub, &token_final(Role::Subscribe, &["*"]));
    flood(&hub);
    // Its machine acknowledges that it takes no more.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(hub.metric(SUBSCRIBERS), 1, "{}", hub.log());
    let deadline = Instant::now() + PATIENCE;
    let mut read = 0;
    while read < FLOOD * 1_000_000 {
        match connection.part(deadline) {
            Part::Bytes(bytes) => read += bytes.len(),
            other => panic!("{other:?} after {read} bytes"),
        }
    }
}

#[test]
fn readers_that_never_read_do_not_keep_the_program_from_ending() {
    let mut hub = TestHub::start("[http]\nshutdown_budget = \"2s\"");
    let token = token_final(Role::Subscribe, &["*"]);
    let silent: Vec<_> = (0..20).map(|_| silent(&hub, &token)).collect();
    flood(&hub);
    hub.signal("TERM");
    assert_eq!(hub.wait_for_exit(PATIENCE), 0, "{}", hub.log());
    assert!(hub.log().contains("connections were cut off"), "{}", hub.log());
    drop(silent);
}
