//! Subscribers that stop reading: they keep neither a token's rights beyond its end nor the program
//! from ending.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::{Connection, PATIENCE, Part, request};
use crate::hub::{HUB, TestHub};
use crate::mercure::MEMORY;
use crate::tokens::{Role, bearer, claims_final, detail, mint, now, token_final};

const TOPIC: &str = "https://silent.example/1";
/// More than the buffers of both sockets hold.
const FLOOD: usize = 24;

/// A subscriber to everything that has not read anything but the head of the answer.
fn silent(hub: &TestHub, token: &str) -> Connection {
    let (name, value) = bearer(token);
    let mut connection = Connection::open(hub.address);
    let target = format!("{HUB}?match=*");
    connection.send(&request("GET", &target, &[(name.as_str(), value.as_str())], b""));
    connection.head(false).expect("an answer").expect(200);
    connection
}

fn flood(hub: &TestHub) {
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
    let mut claims = claims_final(json!([detail(Role::Subscribe, &["*"])]));
    let end = now() + 3;
    claims["exp"] = json!(end);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let mut connection = silent(&hub, &mint(&header, &claims, Role::Subscribe.key()));
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
