//! NATS as source and as sink, against the real server; what arrives is judged by a raw client and
//! by an HTTP endpoint.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::encrypted::Authority;
use crate::http::PATIENCE;
use crate::hub::TestHub;
use crate::nats_server::{Message, NatsClient, NatsServer, Setup};
use crate::receiver::Receiver;
use crate::sinks::{ADMIN, Publisher, QUICK, history_of, publish, wait_for_dead_letters, webhook};

/// A source of these subjects, with more lines.
fn source(name: &str, url: &str, subjects: &[&str], more: &str) -> String {
    format!(
        "[[source]]\nkind = \"nats\"\nname = \"{name}\"\nurl = \"{url}\"\n\
         subjects = {subjects:?}\n{more}\n"
    )
}

/// A sink for what this NATS filter picks, with more lines.
fn sink(name: &str, url: &str, filter: &str, more: &str) -> String {
    format!(
        "[[sink]]\nkind = \"nats\"\nname = \"{name}\"\nurl = \"{url}\"\n\
         topics = [{{ nats = \"{filter}\" }}]\n{QUICK}{more}\n"
    )
}

#[test]
fn subjects_become_topics_and_back() {
    let server = NatsServer::start();
    let more = "subject = { replace = [\"out\", \"sent\"] }\n";
    let toml = source("in", &server.url(), &["in.>", "also.*"], "")
        + &sink("out", &server.url(), "out.>", more);
    let hub = TestHub::start(&toml);
    let mut client = server.client();
    server.wait_for_subscribers("in.>", 1);
    server.wait_for_subscribers("also.*", 1);
    client.subscribe(">");
    let mut stream = hub.subscribe("match_nats=in.%3E&match_nats=also.%3E");
    for (subject, payload) in
        [("in.a", "1"), ("in.b.c", "2"), ("also.x", "3"), ("also.x.y", "not covered"), ("in.z", "")]
    {
        client.publish(subject, payload);
    }
    assert_eq!(stream.data(4), ["1", "2", "3", ""]);
    publish(&hub, "out.page.1", "to the other side");
    publish(&hub, "other.page.1", "stays here");
    publish(&hub, "out.out.2", "leading only");
    let sent = client.wait_for_text("leading only");
    let sent: Vec<(&str, String)> = sent
        .iter()
        .filter(|message| message.subject.starts_with("sent"))
        .map(|message| (message.subject.as_str(), message.text()))
        .collect();
    assert_eq!(
        sent,
        [
            ("sent.page.1", "to the other side".to_owned()),
            ("sent.out.2", "leading only".to_owned())
        ]
    );
}

#[test]
fn topics_that_are_no_subjects_are_dead_letters() {
    let server = NatsServer::start();
    let toml = format!(
        "{ADMIN}[[sink]]\nkind = \"nats\"\nname = \"all\"\nurl = \"{}\"\ntopics = [\"*\"]\n{QUICK}",
        server.url()
    );
    let hub = TestHub::start(&toml);
    let mut client = server.client();
    client.subscribe(">");
    let impossible = ["a..b", "with blank", "a.*", "a.>", ".a"];
    for topic in impossible {
        publish(&hub, topic, "impossible");
    }
    publish(&hub, "possible", "last");
    assert_eq!(client.wait_for_text("last").len(), 1);
    let letters = wait_for_dead_letters(&hub, "all", impossible.len());
    for (letter, topic) in letters.iter().zip(impossible) {
        assert_eq!((&letter["topic"], &letter["tries"]), (&json!(topic), &json!(1)));
    }
}

#[test]
fn headers_and_attributes() {
    let server = NatsServer::start();
    let receiver = Receiver::start();
    let toml = source("in", &server.url(), &["in.>"], "")
        + &sink("out", &server.url(), "in.>", "subject = { replace = [\"in\", \"out\"] }\n")
        + &webhook("page", &receiver.url("/"), "{ nats = \"in.>\" }", "body = \"envelope\"\n");
    let hub = TestHub::start(&toml);
    let mut client = server.client();
    client.subscribe("out.>");
    server.wait_for_subscribers("in.>", 1);
    let headers = [
        ("Content-Type", "application/json"),
        ("Trace-Id", "abc"),
        ("Nats-Msg-Id", "message-1"),
        ("Tidings-Hops", "2"),
    ];
    client.publish_with("in.1", &headers, "{\"a\": 1}");
    // The same again is no second update.
    client.publish_with("in.1", &headers, "{\"a\": 1}");
    client.publish("in.2", "last");
    let out = client.wait_for(2);
    assert_eq!(out.len(), 2, "{out:?}");
    assert_eq!(out[0].header("Content-Type"), Some("application/json"));
    assert_eq!(out[0].header("Trace-Id"), Some("abc"));
    assert_eq!(out[0].header("Tidings-Hops"), Some("3"));
    assert_eq!(out[1].header("Tidings-Hops"), Some("1"));
    let id = out[0].header("Nats-Msg-Id").unwrap();
    assert!(id.starts_with("urn:") && id != "message-1", "the hub's own id: {id}");
    let envelope = receiver.wait_for(2)[0].json();
    assert_eq!(envelope["topic"], json!("in.1"));
    assert_eq!(envelope["content_type"], json!("application/json"));
    assert_eq!(envelope["attributes"]["Trace-Id"], json!("abc"));
    assert_eq!(envelope["id"], json!(id));
    assert_eq!(history_of(&hub, "in.>").len(), 2);
}

#[test]
fn metrics_tell_what_connections_to_nats_count() {
    let server = NatsServer::configured(
        "max_payload: 1024\nauthorization { users: [ { user: a, password: a, permissions: { \
         publish: { deny: [\"out.no\"] }, subscribe: \">\" } } ] }",
    );
    let login = "user = \"a\"\npassword = \"a\"\n";
    let toml = ADMIN.to_owned()
        + &source("in", &server.url(), &["in.>"], login)
        + &sink("out", &server.url(), "out.*", login)
            .replace("{ nats = \"out.*\" }", "{ nats = \"out.*\" }, \"a topic\"");
    let hub = TestHub::start(&toml);
    let count = |name: &str, connector: &str| {
        hub.metric(&format!("tidings_nats_{name}{{connector=\"{connector}\"}}"))
    };
    server.wait_for_subscribers("in.>", 1);
    let mut client = server.client_as(&json!({ "user": "a", "pass": "a" }));
    client.subscribe("out.yes");
    let mut stream = hub.subscribe("match_nats=in.%3E");
    client.publish("in.1", "one");
    client.publish_with("in.2", &[("Tidings-Hops", "8")], "two");
    assert_eq!(stream.data(2), ["one", "two"]);
    for (topic, data) in [
        ("out.yes", "good".to_owned()),
        ("out.no", "may not be published".to_owned()),
        ("a topic", "no subject".to_owned()),
        ("out.large", "x".repeat(2_000)),
    ] {
        publish(&hub, topic, &data);
    }
    wait_for_dead_letters(&hub, "out", 3);
    assert_eq!(client.wait_for(1)[0].text(), "good");
    for (name, connector, expected) in [
        ("connected", "in", 1),
        ("connections_total", "in", 1),
        ("messages_received_total", "in", 2),
        ("messages_sent_total", "in", 0),
        ("messages_without_topic_total", "in", 0),
        ("connected", "out", 1),
        ("messages_sent_total", "out", 1),
        // What is refused is tried three times.
        ("messages_refused_total", "out", 3),
        ("messages_without_subject_total", "out", 1),
        ("messages_too_large_total", "out", 1),
        ("messages_looped_total", "out", 0),
        ("server_errors_total", "out", 3),
        ("unwritten_bytes", "out", 0),
        ("floods_total", "out", 0),
        ("cut_off_total", "in", 0),
    ] {
        assert_eq!(count(name, connector), expected, "{name} of {connector}");
    }
    drop(server);
    for connector in ["in", "out"] {
        hub.wait_for_metric(&format!("tidings_nats_connected{{connector=\"{connector}\"}}"), 0);
    }
}

#[test]
fn a_loop_of_two_hubs_ends() {
    let server = NatsServer::start();
    // Each takes what the other sends.
    let configuration = |from: &str, to: &str| {
        let back = format!("subject = {{ replace = [\"{from}\", \"{to}\"] }}\n");
        source("in", &server.url(), &[&format!("{from}.>")], "")
            + &sink("out", &server.url(), &format!("{from}.>"), &back)
    };
    let here = TestHub::start(&configuration("a", "b"));
    let _there = TestHub::start(&configuration("b", "a"));
    server.wait_for_subscribers("a.>", 1);
    server.wait_for_subscribers("b.>", 1);
    let mut client = server.client();
    client.subscribe("*.1");
    client.publish("a.1", "x");
    // Every hop is counted, and no more than eight are made.
    let rounds = client.wait_for(9);
    publish(&here, "a.2", "end");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(rounds.len(), client.messages().len(), "{:?}", client.messages());
}

#[test]
fn queue_groups_share() {
    let server = NatsServer::start();
    let toml = source("in", &server.url(), &["in.>"], "queue_group = \"hubs\"\n");
    let (first, second) = (TestHub::start(&toml), TestHub::start(&toml));
    let alone = TestHub::start(&source("in", &server.url(), &["in.>"], ""));
    server.wait_for_subscribers("in.>", 3);
    let mut client = server.client();
    let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for data in &all {
        client.publish(&format!("in.{data}"), data);
    }
    client.flush();
    let mut stream = alone.subscribe("match_nats=in.%3E&last_event_id=earliest");
    assert_eq!(stream.data(100), all, "who has no group gets all of it, in order");
    let deadline = Instant::now() + PATIENCE;
    let mut shared = loop {
        let (one, other) = (history_of(&first, "in.>"), history_of(&second, "in.>"));
        if one.len() + other.len() >= 100 {
            assert!(!one.is_empty() && !other.is_empty(), "{} and {}", one.len(), other.len());
            break [one, other].concat();
        }
        assert!(Instant::now() < deadline, "{} and {}", one.len(), other.len());
        std::thread::sleep(Duration::from_millis(20));
    };
    shared.sort_by_key(|data| data.parse::<u32>().unwrap());
    assert_eq!(shared, all, "each exactly once");
}

#[test]
fn bytes_that_are_no_text_arrive() {
    let server = NatsServer::start();
    let receiver = Receiver::start();
    let toml = source("in", &server.url(), &["in.>"], "")
        + &sink("out", &server.url(), "in.>", "subject = { replace = [\"in\", \"out\"] }\n")
        + &webhook("page", &receiver.url("/"), "{ nats = \"in.>\" }", "");
    let _hub = TestHub::start(&toml);
    let mut client = server.client();
    client.subscribe("out.>");
    server.wait_for_subscribers("in.>", 1);
    let payloads: [Vec<u8>; 4] =
        [vec![0xff, 0xfe, 0], b"\r\n\r\nPUB x 1\r\n".to_vec(), vec![], vec![0x80; 100_000]];
    for payload in &payloads {
        client.publish("in.1", payload);
    }
    let out: Vec<Vec<u8>> = client.wait_for(4).into_iter().map(|one| one.payload).collect();
    assert!(out == payloads, "over NATS");
    let posted: Vec<Vec<u8>> = receiver.wait_for(4).into_iter().map(|one| one.body).collect();
    assert!(posted == payloads, "over HTTP");
}

#[test]
fn a_hub_that_starts_first_waits_and_says_so() {
    let mut server = NatsServer::not_yet(Setup::default());
    let toml =
        source("in", &server.url(), &["in.>"], "") + &sink("out", &server.url(), "out.>", "");
    let hub = TestHub::start(&toml);
    hub.wait_for_log("not reachable");
    // Everything else works meanwhile.
    publish(&hub, "out.1", "published before the server was there");
    server.restart();
    let mut client = server.client();
    client.subscribe("out.>");
    server.wait_for_subscribers("in.>", 1);
    hub.wait_for_log("connected");
    // It may have been sent before the judge listened: the hub says so by its history alone.
    publish(&hub, "out.2", "after it");
    client.wait_for_text("after it");
    client.publish("in.1", "back");
    assert_eq!(hub.subscribe("match_nats=in.%3E&last_event_id=earliest").event().data, "back");
}

#[test]
fn a_server_whose_streams_are_turned_off_is_told_of() {
    let mut server = NatsServer::jetstream();
    server.client().make_stream("IN", &["in.>"]);
    // It goes on without streams: its configuration has none.
    server.reload("max_payload: 1048576\n");
    let more = "jetstream = { stream = \"IN\", consumer = \"hub\" }\n";
    let hub = TestHub::start(&source("in", &server.url(), &["in.>"], more));
    hub.wait_for_log("nothing comes from JetStream");
    server.restart();
    let client = server.client();
    client.publish("in.1", "back");
    let mut stream = hub.subscribe("match_nats=in.%3E&last_event_id=earliest");
    assert_eq!(stream.event().data, "back");
}

#[test]
fn a_subject_that_may_not_be_taken_is_told_and_the_others_come() {
    let server = NatsServer::configured(
        "authorization { users: [ { user: judge, password: j }, { user: hub, password: h, \
         permissions: { subscribe: { deny: [\"no.>\"] } } } ] }",
    );
    let login = "user = \"hub\"\npassword = \"h\"\n";
    let hub = TestHub::start(&source("in", &server.url(), &["no.>", "in.>"], login));
    server.wait_for_subscribers("in.>", 1);
    let said = hub.wait_for_log("refuses a subscription");
    assert!(said.contains("no.>"), "{said}");
    let mut stream = hub.subscribe("match_nats=in.%3E&match_nats=no.%3E");
    let client = server.client_as(&json!({ "user": "judge", "pass": "j" }));
    client.publish("no.1", "not taken");
    client.publish("in.1", "taken");
    assert_eq!(stream.event().data, "taken");
}

#[test]
fn a_slow_hub_takes_no_more_than_it_can_hold() {
    let server = NatsServer::jetstream();
    let mut client = server.client();
    client.make_stream("IN", &["in.>"]);
    let payload = "x".repeat(10_000);
    for number in 0..2_000 {
        client.publish(&format!("in.{number}"), &payload);
    }
    client.flush();
    let more = "jetstream = { stream = \"IN\", consumer = \"hub\" }\n";
    let hub = TestHub::start(&source("in", &server.url(), &["in.>"], more));
    let mut stream = hub.subscribe("match_nats=in.%3E&last_event_id=earliest");
    assert_eq!(stream.data(2_000).len(), 2_000);
    wait_until_acknowledged(&mut client, "IN", "hub");
}

/// Waits until a consumer owes and is owed nothing.
fn wait_until_acknowledged(client: &mut NatsClient, stream: &str, consumer: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let call = format!("CONSUMER.INFO.{stream}.{consumer}");
        let found = client.jetstream(&call, &Value::Null);
        if found["num_ack_pending"] == 0 && found["num_pending"] == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stream_is_taken_once_over_kills_of_the_hub() {
    let server = NatsServer::jetstream();
    let mut client = server.client();
    client.make_stream("IN", &["in.>"]);
    // What a hub had taken when it was killed comes again after this, behind what came meanwhile.
    let more = "jetstream = { stream = \"IN\", consumer = \"hub\", ack_wait = \"2s\" }\n";
    let mut hub = TestHub::start(&source("in", &server.url(), &["in.>"], more));
    let mut all = Vec::new();
    for round in 0..5 {
        for number in 0..200 {
            let data = format!("{round} {number}");
            client.publish("in.1", &data);
            all.push(data);
        }
        client.flush();
        std::thread::sleep(Duration::from_millis(30 * round));
        hub.kill9();
        hub = hub.restart();
    }
    let mut stream = hub.subscribe("match_nats=in.%3E&last_event_id=earliest");
    let mut found = stream.data(all.len());
    found.sort();
    all.sort();
    assert_eq!(found, all);
    wait_until_acknowledged(&mut client, "IN", "hub");
    assert_eq!(history_of(&hub, "in.>").len(), all.len(), "redelivered and stored twice");
}

#[test]
fn what_comes_again_behind_very_many_others_is_not_published_again() {
    // More than there are keys of publications in memory.
    let (first, others) = (100, 66_000);
    let folder = TempDir::new().unwrap();
    let users = |deny: &str| {
        format!(
            "jetstream {{ store_dir: {:?} }}\nauthorization {{ users: [ {{ user: judge, password: j }}, {{ user: hub, password: h, \
             permissions: {{ publish: {{ deny: [{deny}] }} }} }} ] }}",
            folder.path()
        )
    };
    // The hub publishes, and the server never hears of it.
    let mut server = NatsServer::configured(&users("\"$JS.ACK.>\""));
    let judge = json!({ "user": "judge", "pass": "j" });
    let mut client = server.client_as(&judge);
    client.make_stream("IN", &["in.>"]);
    let more = "user = \"hub\"\npassword = \"h\"\n\
                jetstream = { stream = \"IN\", consumer = \"hub\", ack_wait = \"15s\" }\n";
    let toml = ADMIN.to_owned() + &source("in", &server.url(), &["in.>"], more);
    let mut hub = TestHub::start(&toml);
    let call = "CONSUMER.INFO.IN.hub";
    for number in 0..first {
        client.publish("in.1", number.to_string());
    }
    hub.wait_for_metric("tidings_nats_messages_refused_total{connector=\"in\"}", first);
    hub.kill9();
    // A server that is started again would give them at once.
    server.reload(&users(""));
    let mut client = server.client_as(&judge);
    for number in 0..others {
        client.publish("in.2", number.to_string());
    }
    client.flush();
    let hub = hub.restart();
    hub.wait_for_metric("tidings_updates_published_total", others);
    let owed = client.jetstream(call, &Value::Null)["num_ack_pending"].as_u64().unwrap();
    assert!(owed >= first, "they came again before the others: {owed}");
    wait_until_acknowledged(&mut client, "IN", "hub");
    assert_eq!(hub.metric("tidings_updates_published_total"), others);
    assert_eq!(hub.metric("tidings_updates_repeated_total"), 0);
    assert_eq!(hub.metric("tidings_nats_messages_repeated_total{connector=\"in\"}"), first);
}

#[test]
fn twenty_kills_of_the_server_lose_nothing_acknowledged() {
    let kills = crate::sinks::rounds("TIDINGS_NATS_KILLS", 20);
    // Core NATS itself may lose what it took: the far side keeps a stream.
    let mut server = NatsServer::jetstream();
    server.client().make_stream("OUT", &["out.>"]);
    let hub = TestHub::start(&sink("out", &server.url(), "out.>", "jetstream = true\n"));
    let mut publisher = Publisher::new(hub.address);
    let mut all = Vec::new();
    let mut more = |count: usize| {
        for _ in 0..count {
            let data = format!("update {}", all.len());
            assert!(publisher.publish("out.1", &data));
            all.push(data);
        }
        all.clone()
    };
    for round in 0..kills {
        more(20);
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
        server.kill();
        more(20);
        server.restart();
        let back = Instant::now();
        let last = more(1).pop().unwrap();
        let mut client = server.client();
        loop {
            let state = client.jetstream("STREAM.INFO.OUT", &Value::Null);
            let count = state["state"]["last_seq"].as_u64().unwrap();
            // Looked at whole only where it may be there.
            if count >= 41 * (round as u64 + 1) && last_of(&mut client).is_some_and(|d| d == last) {
                break;
            }
            assert!(back.elapsed() < Duration::from_secs(5), "{last:?} is not there after 5 s");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let mut client = server.client();
    let stored: Vec<String> = client.stream("OUT").iter().map(Message::text).collect();
    let mut seen = std::collections::HashSet::new();
    let first: Vec<String> = stored.iter().filter(|data| seen.insert(*data)).cloned().collect();
    let all = more(0);
    assert!(first == all, "{} of {} in the stream, in order", first.len(), all.len());
    eprintln!("{kills} kills: {} published, {} repeated", all.len(), stored.len() - first.len());
}

fn last_of(client: &mut NatsClient) -> Option<String> {
    use base64::engine::general_purpose::STANDARD;
    let call = json!({ "last_by_subj": "out.1" });
    let found = client.jetstream("STREAM.MSG.GET.OUT", &call);
    let data = STANDARD.decode(found["message"]["data"].as_str()?).ok()?;
    String::from_utf8(data).ok()
}

// Logins.

/// A key of NATS: a seed and its public name, as the tools of NATS print them.
struct NatsKey {
    pair: Ed25519KeyPair,
    seed: String,
    public: String,
}

/// The first byte of names of operators, accounts and users.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
const SEED: u8 = 18 << 3;

impl NatsKey {
    fn new(kind: u8) -> NatsKey {
        let mut seed = [0; 32];
        aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut seed).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = named(&[kind], pair.public_key().as_ref());
        let seed = named(&[SEED | (kind >> 5), (kind & 31) << 3], &seed);
        NatsKey { pair, seed, public }
    }

    /// A token of NATS, signed by this key.
    fn sign(&self, subject: &str, name: &str, about: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let claims = json!({
            "jti": name, "iat": crate::tokens::now(), "iss": self.public, "name": name,
            "sub": subject, "nats": about,
        });
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self.pair.sign(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Prefix and key with their checksum, in base 32.
fn named(prefix: &[u8], key: &[u8]) -> String {
    let mut bytes = [prefix, key].concat();
    bytes.extend(checksum(&bytes).to_le_bytes());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::new();
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(alphabet[((held >> bits) & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(alphabet[((held << (5 - bits)) & 31) as usize]));
    }
    out
}

/// CRC-16 with the polynomial 0x1021 from zero.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |checksum, byte| {
        (0..8).fold(checksum ^ (u16::from(*byte) << 8), |value, _| {
            if value & 0x8000 == 0 { value << 1 } else { (value << 1) ^ 0x1021 }
        })
    })
}

/// A login as the server knows it and as a hub is told of it.
struct Login {
    name: &'static str,
    server: String,
    /// Lines of source and sink.
    hub: String,
    /// What the monitoring port says of a connection with this login.
    shown: (&'static str, Value),
}

fn logins(folder: &TempDir) -> Vec<Login> {
    let (key, path) = (NatsKey::new(USER), folder.path());
    let file = |name: &str, text: &str| {
        std::fs::write(path.join(name), text).unwrap();
        path.join(name).display().to_string()
    };
    let authority = Authority::new();
    authority.write(path, "server", &["127.0.0.1", "localhost"]);
    let root = file("root.pem", &authority.root());
    let (operator, account, user) =
        (NatsKey::new(OPERATOR), NatsKey::new(ACCOUNT), NatsKey::new(USER));
    let limits = json!({ "subs": -1, "data": -1, "payload": -1 });
    let no_limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let own = json!({ "type": "operator", "version": 2 });
    let operator_token = operator.sign(&operator.public, "operator", &own);
    let about = json!({ "type": "account", "version": 2, "limits": no_limits });
    let account_token = operator.sign(&account.public, "account", &about);
    let mut about = limits;
    about["type"] = json!("user");
    about["version"] = json!(2);
    let user_token = account.sign(&user.public, "user", &about);
    let creds = file(
        "user.creds",
        &format!(
            "-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed
        ),
    );
    let (server_pem, server_key) = (path.join("server.pem"), path.join("server.key"));
    let tls = format!("tls {{ cert_file: {server_pem:?}, key_file: {server_key:?} }}");
    vec![
        Login {
            name: "password",
            server: "authorization { user: anna, password: \"pass word\" }".to_owned(),
            hub: "user = \"anna\"\npassword = \"pass word\"\n".to_owned(),
            shown: ("authorized_user", json!("anna")),
        },
        Login {
            name: "token",
            server: "authorization { token: \"a-token-for-all\" }".to_owned(),
            hub: "token = \"a-token-for-all\"\n".to_owned(),
            shown: ("lang", Value::Null),
        },
        Login {
            name: "nkey",
            server: format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public),
            hub: format!("nkey_seed = \"{}\"\n", key.seed),
            shown: ("authorized_user", json!(key.public)),
        },
        Login {
            name: "creds",
            server: format!(
                "operator: {operator_token}\nresolver: MEMORY\n\
                 resolver_preload: {{ {}: {account_token} }}",
                account.public
            ),
            hub: format!("creds_file = \"{creds}\"\n"),
            shown: ("account", json!(account.public)),
        },
        Login {
            name: "tls",
            server: tls,
            hub: format!("ca_file = \"{root}\"\n"),
            shown: ("tls_version", json!("1.3")),
        },
    ]
}

#[test]
fn every_login_works() {
    let folder = TempDir::new().unwrap();
    for login in logins(&folder) {
        let name = login.name;
        let server = NatsServer::configured(&login.server);
        let url = match name {
            "tls" => server.url().replace("nats://", "tls://"),
            _ => server.url(),
        };
        // The judge has no login of its own here: what the sink sends comes back by the source.
        let toml = source("in", &url, &["in.>"], &login.hub)
            + &sink(
                "out",
                &url,
                "out.>",
                &format!("subject = {{ replace = [\"out\", \"in\"] }}\n{}", login.hub),
            );
        let hub = TestHub::start(&toml);
        server.wait_for_subscribers("in.>", 1);
        let mut stream = hub.subscribe("match_nats=in.%3E");
        publish(&hub, "out.1", name);
        assert_eq!(stream.event().data, name, "{}", hub.log());
        let (field, value) = login.shown;
        for connection in server.connections() {
            if !value.is_null() {
                assert_eq!(connection[field], value, "{name}: {connection}");
            }
        }
        for secret in ["pass word", "a-token-for-all", "SU"] {
            let shown = hub
                .log()
                .split_whitespace()
                .any(|word| word.contains(secret) && (secret != "SU" || word.len() > 50));
            assert!(!shown, "{name}: a secret in the log\n{}", hub.log());
        }
    }
}

#[test]
fn a_login_that_is_refused_is_told_and_tried_again() {
    let mut server = NatsServer::configured("authorization { user: anna, password: right }");
    let wrong = "user = \"anna\"\npassword = \"wrong-password\"\n";
    let toml = source("in", &server.url(), &["in.>"], wrong);
    let hub = TestHub::start(&toml);
    let said = hub.wait_for_log("uthorization");
    assert!(!said.contains("wrong-password"), "{said}");
    server.reconfigure("authorization { user: anna, password: wrong-password }");
    server.wait_for_subscribers("in.>", 1);
}

#[test]
fn keys_and_tokens_of_the_tests_are_those_of_nats() {
    let folder = TempDir::new().unwrap();
    for login in logins(&folder) {
        // A server reads what it is configured with, or does not start.
        let server = NatsServer::configured(&login.server);
        let refused = NatsClient::connect(server.address, |_| json!({}));
        assert!(refused.is_err(), "{}: everybody may connect", login.name);
    }
    let key = NatsKey::new(USER);
    let server = NatsServer::configured(&format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        key.public
    ));
    let mut client = NatsClient::connect(server.address, |info| {
        let signature = key.pair.sign(info["nonce"].as_str().unwrap().as_bytes());
        json!({ "nkey": key.public, "sig": URL_SAFE_NO_PAD.encode(signature.as_ref()) })
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert!(client.try_flush());
    // What begins with SU is the seed of a user.
    assert!(key.seed.starts_with("SU") && key.public.starts_with('U'), "{}", key.seed);
}
