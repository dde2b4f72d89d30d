//! The hub over WebSockets, heard by a client that knows nothing of ours: everything that a stream
//! has, and subscriptions that change while the socket is open.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::error::Error;
use tungstenite::protocol::WebSocket;
use tungstenite::{Bytes, Message};

use crate::encrypted::{Authority, address, connect};
use crate::http::{self, PATIENCE};
use crate::hub::{HUB, TestHub};
use crate::mercure::MEMORY;
use crate::tokens::{
    PUBLISH_KEY, Role, SUBSCRIBE_KEY, bearer, claims_final, detail, mint, now, token_final,
};

pub(crate) const PATH: &str = "/.well-known/tidings/ws";
const PROTOCOL: &str = "tidings.v1.json";
const REVOCATIONS: &str = "/tidings/admin/revocations";
const TOPIC: &str = "https://sockets.example/1";
const OTHER: &str = "https://sockets.example/2";
const ANONYMOUS: &str = "[history]\ndurability = \"memory\"\n[auth]\nanonymous = true\n";

/// What carries a socket.
pub(crate) trait Carrier: Read + Write {}
impl<C: Read + Write> Carrier for C {}

/// A client.
pub(crate) struct Socket {
    socket: WebSocket<Box<dyn Carrier>>,
    hello: Value,
}

pub(crate) fn plain(hub: &TestHub) -> Box<dyn Carrier> {
    let stream = TcpStream::connect(hub.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Box::new(stream)
}

pub(crate) fn request(target: &str) -> ClientRequestBuilder {
    let uri = format!("ws://hub.example{target}").parse().unwrap();
    ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL)
}

impl Socket {
    #[track_caller]
    pub(crate) fn over(carrier: Box<dyn Carrier>, request: ClientRequestBuilder) -> Socket {
        let (socket, answer) = tungstenite::client(request, carrier).unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], PROTOCOL);
        let mut socket = Socket { socket, hello: Value::Null };
        socket.hello = socket.expect("hello");
        socket
    }

    #[track_caller]
    pub(crate) fn open(hub: &TestHub) -> Socket {
        Socket::over(plain(hub), request(PATH))
    }

    /// With a token in the header.
    #[track_caller]
    pub(crate) fn open_with(hub: &TestHub, token: &str) -> Socket {
        let (name, value) = bearer(token);
        Socket::over(plain(hub), request(PATH).with_header(name, value))
    }

    #[track_caller]
    pub(crate) fn say(&mut self, command: &Value) {
        self.socket.send(Message::text(command.to_string())).unwrap();
    }

    /// Whatever comes next. A machine that was stopped for a moment interrupts who waits.
    fn read(&mut self) -> Result<Message, Error> {
        loop {
            match self.socket.read() {
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// The next message that is not a ping.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, op: &str) -> Value {
        let message = self.next();
        assert_eq!(message["op"], op, "{message}");
        message
    }

    #[track_caller]
    pub(crate) fn expect_error(&mut self, code: &str) -> Value {
        let message = self.expect("error");
        assert_eq!(message["code"], code, "{message}");
        message
    }

    /// Subscribes to exact topics, until it is done; what came before that, in a word each.
    #[track_caller]
    pub(crate) fn subscribe(
        &mut self,
        name: &str,
        topics: &[&str],
        start: &Value,
    ) -> (Vec<String>, Value) {
        let matchers: Vec<_> = topics.iter().map(|topic| json!({"match": topic})).collect();
        self.say(&json!({
            "op": "subscribe", "ref": name, "matchers": matchers, "start": start,
        }));
        let mut before = Vec::new();
        loop {
            let message = self.next();
            match message["op"].as_str().unwrap() {
                "subscribed" => return (before, message),
                "update" => before.push(message["data"].as_str().unwrap().to_owned()),
                other => before.push(other.to_owned()),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect_data(&mut self, data: &str) -> Value {
        let update = self.expect("update");
        assert_eq!(update["data"], data, "{update}");
        update
    }

    /// Reads to the end: what was said before, and the code of the close frame.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> (Vec<Value>, Option<u16>) {
        let (mut said, mut code) = (Vec::new(), None);
        loop {
            match self.read() {
                Ok(Message::Text(text)) => said.push(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return (said, code),
                Err(other) => panic!("{other}: {said:?} {code:?}"),
            }
        }
    }
}

/// What a handshake is answered that is refused.
#[track_caller]
pub(crate) fn refused(hub: &TestHub, request: ClientRequestBuilder) -> u16 {
    match tungstenite::client(request, plain(hub)) {
        Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => answer.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a socket opens"),
    }
}

fn publish(hub: &TestHub, topic: &str, data: &str) -> String {
    hub.publish(&[("topic", topic), ("data", data)])
}

/// A token for both roles is signed by one key; the configuration makes both the same.
fn both(topics: &[&str]) -> String {
    let details = json!([detail(Role::Publish, topics), detail(Role::Subscribe, topics)]);
    mint(&json!({"alg": "HS256", "typ": "at+jwt"}), &claims_final(details), PUBLISH_KEY)
}

fn one_key(more: &str) -> String {
    let issuer = crate::tokens::ISSUER;
    format!(
        "{MEMORY}{more}[[auth.issuer]]\nid = \"{issuer}\"\naccept = [\"1.0\"]\n\
         publish = {{ key = \"{PUBLISH_KEY}\", algorithm = \"HS256\" }}\n\
         subscribe = {{ key = \"{PUBLISH_KEY}\", algorithm = \"HS256\" }}\n"
    )
}

fn follow(mut socket: Socket, hub: &TestHub) {
    assert_eq!(socket.hello["limits"], json!({"message": 65_536, "subscriptions": 100}));
    let (before, subscribed) = socket.subscribe("books", &[TOPIC], &json!("now"));
    assert!(before.is_empty());
    assert_eq!((&subscribed["name"], &subscribed["continuity"]), (&json!("books"), &json!("live")));
    publish(hub, OTHER, "not asked for");
    let id = publish(hub, TOPIC, "\u{1F600} \"1\"\n");
    let update = socket.expect("update");
    let expected = json!({
        "op": "update", "id": id, "topic": TOPIC, "cursor": id, "data": "\u{1F600} \"1\"\n",
    });
    assert_eq!(update, expected);
    socket.say(&json!({"op": "ping", "ref": 9}));
    assert_eq!(socket.next(), json!({"op": "pong", "ref": 9}));
    socket.socket.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
    socket.socket.close(None).unwrap();
    assert_eq!(socket.until_end(), (Vec::new(), None));
}

#[test]
fn a_socket_brings_what_it_subscribes_to() {
    let hub = TestHub::start(ANONYMOUS);
    follow(Socket::open(&hub), &hub);
}

#[test]
fn a_socket_over_tls_brings_the_same() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.write(folder.path(), "hub", &["hub.example"]);
    let file = |ending: &str| folder.path().join(format!("hub.{ending}"));
    let (certificate, key) = (file("pem"), file("key"));
    let hub = TestHub::start(&format!(
        "{ANONYMOUS}[tls]\nlisten = \"127.0.0.1:0\"\ncertificate = {certificate:?}\nkey = {key:?}"
    ));
    let client = authority.client(&["http/1.1"]);
    let stream = connect(&client, address(&hub), "hub.example").unwrap();
    let request = request(PATH);
    follow(Socket::over(Box::new(stream), request), &hub);
}

/// A client's frame, masked by nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What a raw client hears that says these frames in one piece with its request.
#[track_caller]
fn answered(hub: &TestHub, frames: &[u8], until: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(hub.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = format!(
        "GET {PATH} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(frames);
    stream.write_all(&bytes).unwrap();
    let (mut heard, mut piece) = (Vec::new(), [0; 4_096]);
    while !heard.windows(until.len()).any(|window| window == until) {
        let read = stream.read(&mut piece).unwrap_or(0);
        assert!(read > 0, "ended: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..read]);
    }
    heard
}

#[test]
fn what_is_said_in_one_piece_with_the_request_is_heard() {
    let hub = TestHub::start(ANONYMOUS);
    let ping = json!({"op": "ping", "ref": "early"}).to_string();
    let heard = answered(&hub, &frame(0x81, ping.as_bytes()), br#"{"op":"pong","ref":"early"}"#);
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    assert!(heard.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
    assert!(!heard.to_lowercase().contains("transfer-encoding"), "{heard}");
}

#[test]
fn who_breaks_the_protocol_is_told_the_code_of_it() {
    let hub = TestHub::start(ANONYMOUS);
    let long = vec![b'x'; 65_000];
    let too_long = [frame(0x01, &long), frame(0x80, &long)].concat();
    for (frames, code) in [
        (vec![0x81, 0x01, b'x'], 1002_u16),
        (frame(0xC1, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x80, b"x"), 1002),
        ([frame(0x01, b"x"), frame(0x81, b"x")].concat(), 1002),
        (frame(0x88, b"x"), 1002),
        (frame(0x82, b"x"), 1003),
        (frame(0x81, b"\xFF"), 1007),
        (too_long, 1009),
        (frame(0x88, &1000_u16.to_be_bytes()), 1000),
        (frame(0x88, &4321_u16.to_be_bytes()), 4321),
    ] {
        answered(&hub, &frames, &code.to_be_bytes());
    }
}

#[test]
fn the_past_of_a_new_subscription_comes_before_it_is_subscribed_and_without_repeats() {
    let hub = TestHub::start(ANONYMOUS);
    let first = publish(&hub, TOPIC, "1");
    for (topic, data) in [(OTHER, "2"), (TOPIC, "3")] {
        publish(&hub, topic, data);
    }
    let mut socket = Socket::open(&hub);
    let (before, subscribed) = socket.subscribe("one", &[TOPIC], &json!({"after": first}));
    assert_eq!(before, ["replaying", "3", "live"]);
    assert_eq!(subscribed["continuity"], "resumed");
    publish(&hub, TOPIC, "4");
    let fourth = socket.expect_data("4");
    let (before, _) = socket.subscribe("both", &[TOPIC, OTHER], &json!("earliest"));
    let brought: Vec<_> = before.iter().filter(|word| word.len() == 1).collect();
    assert_eq!(brought, ["1", "2"], "{before:?}");
    publish(&hub, OTHER, "5");
    socket.expect_data("5");
    socket.say(&json!({"op": "unsubscribe", "ref": 1, "name": "both"}));
    assert_eq!(socket.expect("unsubscribed")["name"], "both");
    publish(&hub, OTHER, "6");
    publish(&hub, TOPIC, "7");
    socket.expect_data("7");
    drop(socket);
    let mut again = Socket::open(&hub);
    let (before, _) = again.subscribe("x", &["*"], &json!({"after": fourth["cursor"]}));
    assert_eq!(before.concat(), "replaying567live");
}

#[test]
fn a_cursor_of_nowhere_is_a_reset_and_nothing_is_lost_behind_it() {
    let hub = TestHub::start(ANONYMOUS);
    publish(&hub, TOPIC, "1");
    let mut socket = Socket::open(&hub);
    let (before, subscribed) = socket.subscribe("x", &[TOPIC], &json!({"after": "urn:nowhere"}));
    assert_eq!(before, ["replaying", "1", "live"]);
    assert_eq!(subscribed["continuity"], "reset");
}

#[test]
fn patterns_of_every_kind_are_matched() {
    let hub = TestHub::start(ANONYMOUS);
    let mut socket = Socket::open(&hub);
    for (kind, pattern, topic) in [
        ("exact", "plain", "plain"),
        ("urlpattern", "https://e.com/:kind/1", "https://e.com/books/1"),
        ("uritemplate", "https://t.com/{id}", "https://t.com/7"),
        ("mqtt", "a/+/c", "a/b/c"),
        ("nats", "x.>", "x.y.z"),
    ] {
        let matchers = json!([{"match": pattern, "match_type": kind}]);
        socket.say(&json!({"op": "subscribe", "ref": kind, "matchers": matchers}));
        socket.expect("subscribed");
        publish(&hub, topic, kind);
        socket.expect_data(kind);
    }
}

#[test]
fn a_publisher_gets_receipts_and_hears_itself_like_everybody() {
    let hub = TestHub::start(&one_key(""));
    let mut socket = Socket::open_with(&hub, &both(&[TOPIC]));
    assert_eq!(socket.hello["limits"]["message"], 2 * 1024 * 1024);
    socket.subscribe("x", &[TOPIC], &json!("now"));
    let command = json!({
        "op": "publish", "ref": 5, "topics": [TOPIC], "data": "text", "private": true,
        "type": "changed", "key": "k",
    });
    socket.say(&command);
    let mut answers = [socket.next(), socket.next()];
    answers.sort_by_key(|answer| answer["op"].as_str().unwrap().to_owned());
    let [published, update] = answers;
    assert_eq!((&published["op"], &published["ref"]), (&json!("published"), &json!(5)));
    assert_eq!(published["durability"], "memory");
    assert_eq!((&update["data"], &update["type"]), (&json!("text"), &json!("changed")));
    assert_eq!(update["id"], published["id"]);
    socket.say(&command);
    let again = socket.expect("published");
    assert_eq!((&again["repeated"], &again["id"]), (&json!(true), &published["id"]));
    socket.say(&json!({"op": "publish", "ref": 6, "topics": [OTHER], "data": "x"}));
    assert_eq!(socket.expect_error("forbidden")["ref"], 6);
    socket.say(&json!({"op": "publish", "ref": 7, "topics": [TOPIC, "/.well-known/mercure"]}));
    socket.expect_error("reserved_topic");
}

#[test]
fn bytes_that_are_no_text_come_as_base64_or_in_binary_messages() {
    let hub = TestHub::start(&one_key(""));
    let token = both(&["*"]);
    let mut text = Socket::open_with(&hub, &token);
    let (name, value) = bearer(&token);
    let asked = request(&format!("{PATH}?binary=1")).with_header(name, value);
    let mut binary = Socket::over(plain(&hub), asked);
    for socket in [&mut text, &mut binary] {
        socket.subscribe("x", &[TOPIC], &json!("now"));
    }
    let head = json!({
        "op": "publish", "ref": 1, "topics": [TOPIC], "content_type": "application/cbor",
    });
    let head = head.to_string().into_bytes();
    let length = u32::try_from(head.len()).unwrap().to_be_bytes();
    let message = [&length[..], &head, b"\0\x01\xFF"].concat();
    binary.socket.send(Message::binary(message)).unwrap();
    let update = text.expect("update");
    assert_eq!(update["data_base64"], STANDARD.encode(b"\0\x01\xFF"));
    assert_eq!(update["content_type"], "application/cbor");
    let mut seen = 0;
    while seen < 2 {
        match binary.read().unwrap() {
            Message::Text(text) => {
                let published: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(published["op"], "published", "{published}");
            }
            Message::Binary(bytes) => {
                let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                let (head, data) = bytes[4..].split_at(usize::try_from(length).unwrap());
                let head: Value = serde_json::from_slice(head).unwrap();
                assert_eq!(head["content_type"], "application/cbor");
                assert_eq!(data, b"\0\x01\xFF");
            }
            other => panic!("{other:?}"),
        }
        seen += 1;
    }
}

#[test]
fn private_updates_come_to_those_whose_token_covers_them_from_then_on() {
    let hub = TestHub::start(ANONYMOUS);
    let mut socket = Socket::open(&hub);
    socket.subscribe("x", &[TOPIC], &json!("now"));
    let private = |data: &str| hub.publish(&[("topic", TOPIC), ("data", data), ("private", "on")]);
    private("before");
    publish(&hub, TOPIC, "public");
    socket.expect_data("public");
    let token = token_final(Role::Subscribe, &[TOPIC]);
    socket.say(&json!({"op": "authenticate", "ref": 1, "token": token}));
    let authenticated = socket.expect("authenticated");
    assert_eq!(authenticated["publish"], false);
    assert!(authenticated["expires"].as_u64().unwrap() > now());
    private("behind");
    socket.expect_data("behind");
    let other = token_final(Role::Subscribe, &[OTHER]);
    socket.say(&json!({"op": "authenticate", "ref": 2, "token": other}));
    socket.expect("authenticated");
    private("not any more");
    publish(&hub, TOPIC, "end");
    socket.expect_data("end");
}

#[test]
fn a_token_is_found_wherever_it_may_stand() {
    let hub = TestHub::start(&format!(
        "{MEMORY}[mercure]\ncookie = \"token\"\ncors_origins = [\"https://app.example\"]"
    ));
    let token = token_final(Role::Subscribe, &["*"]);
    let (name, value) = bearer(&token);
    let cookie = format!("token={token}");
    let page = |origin: &str| {
        request(PATH).with_header("Cookie", &cookie).with_header("Origin", origin.to_owned())
    };
    for request in [
        request(PATH).with_header(&name, &value),
        request(PATH).with_sub_protocol(format!("bearer.{token}")),
        page("https://app.example"),
        page("https://hub.example"),
    ] {
        let mut socket = Socket::over(plain(&hub), request);
        socket.subscribe("x", &[TOPIC], &json!("now"));
    }
    assert_eq!(refused(&hub, page("https://evil.example")), 403);
    assert_eq!(refused(&hub, request(PATH).with_header("Cookie", &cookie)), 403);
    let bad = format!("{value}x");
    assert_eq!(refused(&hub, request(PATH).with_header(&name, &bad)), 401);
    assert_eq!(refused(&hub, request(PATH).with_sub_protocol("bearer.x.y.z")), 401);
    let mut socket = Socket::open(&hub);
    let subscribe = json!({"op": "subscribe", "ref": 1, "matchers": [{"match": TOPIC}]});
    socket.say(&subscribe);
    socket.expect_error("unauthenticated");
    socket.say(&json!({"op": "authenticate", "ref": 2, "token": "x.y.z"}));
    socket.expect_error("bad_token");
    socket.say(&json!({"op": "authenticate", "ref": 3, "token": token}));
    socket.expect("authenticated");
    socket.say(&subscribe);
    socket.expect("subscribed");
    assert!(!hub.log().contains(&token), "a token in the log");
}

#[test]
fn a_publishers_cookie_opens_nothing_for_a_page_that_may_not_publish() {
    let listed = "cookie = \"token\"\ncors_origins = [\"https://app.example\"]";
    let publishes = "publish_origins = [\"https://editor.example\"]";
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\n{listed}\n{publishes}"));
    let page = |role: Role, origin: &str| {
        let cookie = format!("token={}", token_final(role, &["*"]));
        request(PATH).with_header("Cookie", cookie).with_header("Origin", origin.to_owned())
    };
    assert_eq!(refused(&hub, page(Role::Publish, "https://app.example")), 401);
    let cookie = format!("token={}", token_final(Role::Publish, &["*"]));
    let stream = hub.get(&format!("{HUB}?match=*"), &[("Cookie", &cookie)]);
    assert_eq!(stream.status, 401, "as for a stream");
    Socket::over(plain(&hub), page(Role::Subscribe, "https://app.example"));
    let mut own = Socket::over(plain(&hub), page(Role::Publish, "https://hub.example"));
    own.say(&json!({"op": "publish", "ref": 1, "topics": [TOPIC], "data": "x"}));
    own.expect("published");
}

#[test]
fn two_tokens_as_subprotocols_are_none() {
    let hub = TestHub::start(MEMORY);
    let token = format!("bearer.{}", token_final(Role::Subscribe, &["*"]));
    let twice = request(PATH).with_sub_protocol(&token).with_sub_protocol(&token);
    assert_eq!(refused(&hub, twice), 400);
    Socket::over(plain(&hub), request(PATH).with_sub_protocol(&token));
}

#[test]
fn a_request_with_a_body_begins_no_socket() {
    let hub = TestHub::start(ANONYMOUS);
    let upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let reply = hub.request("GET", PATH, &upgrade, b"x").expect(400);
    assert!(reply.text().contains("a request for a WebSocket has no body"), "{}", reply.text());
    let chunked = [&upgrade[..], &[("Transfer-Encoding", "chunked")]].concat();
    let head = http::request("GET", PATH, &chunked, b"");
    hub.exchange(&[&head[..], b"0\r\n\r\n"].concat()).expect(400);
}

#[test]
fn a_page_of_another_origin_opens_no_socket() {
    let hub = TestHub::start(ANONYMOUS);
    let page = |origin: &str| request(PATH).with_header("Origin", origin.to_owned());
    assert_eq!(refused(&hub, page("https://evil.example")), 403);
    assert_eq!(refused(&hub, page("null")), 403);
    Socket::over(plain(&hub), page("https://hub.example"));
    let open = TestHub::start(&format!("{ANONYMOUS}[mercure]\ncors_origins = [\"*\"]"));
    Socket::over(plain(&open), page("https://evil.example"));
    let with_cookie = page("https://evil.example").with_header("Cookie", "mercureAuthorization=x");
    assert_eq!(refused(&open, with_cookie), 403, "a wildcard gets no credentials");
}

#[test]
fn a_mistake_is_answered_and_the_socket_stays() {
    let hub = TestHub::start(ANONYMOUS);
    let mut socket = Socket::open(&hub);
    for (said, code) in [
        ("{", "bad_json"),
        ("{\"op\":\"fly\",\"ref\":1}", "bad_command"),
        ("{\"op\":\"subscribe\",\"ref\":1,\"matchers\":[]}", "bad_command"),
        ("{\"op\":\"unsubscribe\",\"ref\":1,\"name\":\"x\"}", "unknown_name"),
        ("{\"op\":\"publish\",\"ref\":1,\"topics\":[\"a\"]}", "unauthenticated"),
        (
            "{\"op\":\"subscribe\",\"ref\":1,\
              \"matchers\":[{\"match\":\"http://(\",\"match_type\":\"urlpattern\"}]}",
            "bad_pattern",
        ),
    ] {
        socket.socket.send(Message::text(said)).unwrap();
        socket.expect_error(code);
    }
    socket.subscribe("x", &[TOPIC], &json!("now"));
}

#[test]
fn a_socket_has_so_many_subscriptions_and_not_one_more() {
    let hub = TestHub::start(&format!(
        "{ANONYMOUS}[websocket]\nsubscriptions_max = 5\ncommands_per_second = 100000\n\
         burst = 100000"
    ));
    let mut socket = Socket::open(&hub);
    for number in 0..1_000 {
        let matchers = json!([{"match": format!("{TOPIC}/{number}")}]);
        socket.say(&json!({"op": "subscribe", "ref": number, "matchers": matchers}));
        let op = if number < 5 { "subscribed" } else { "error" };
        assert_eq!(socket.expect(op)["ref"], number);
    }
    publish(&hub, &format!("{TOPIC}/7"), "no");
    publish(&hub, &format!("{TOPIC}/4"), "yes");
    socket.expect_data("yes");
}

#[test]
fn who_says_more_than_it_may_is_heard_later() {
    let hub =
        TestHub::start(&format!("{ANONYMOUS}[websocket]\ncommands_per_second = 100\nburst = 10"));
    let mut socket = Socket::open(&hub);
    let begin = Instant::now();
    for number in 0..60 {
        socket.say(&json!({"op": "ping", "ref": number}));
    }
    for number in 0..60 {
        assert_eq!(socket.expect("pong")["ref"], number);
    }
    assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
}

/// The beginning of a message of so many bytes, as much as this.
fn half(length: u64, bytes: usize) -> Vec<u8> {
    let mut begun = vec![0x81];
    match u16::try_from(length) {
        Ok(short) => {
            begun.push(0xFE);
            begun.extend_from_slice(&short.to_be_bytes());
        }
        Err(_) => {
            begun.push(0xFF);
            begun.extend_from_slice(&length.to_be_bytes());
        }
    }
    begun.extend_from_slice(&[0; 4]);
    begun.resize(begun.len() + bytes, b' ');
    begun
}

#[test]
fn who_leaves_large_messages_half_said_keeps_nobody_from_publishing_for_long() {
    let hub = TestHub::start(&one_key(""));
    let publisher = both(&["*"]);
    let mut hoarders: Vec<Socket> = (0..40)
        .map(|_| {
            let mut socket = Socket::open_with(&hub, &publisher);
            let carrier = socket.socket.get_mut();
            carrier.write_all(&half(1_900_000, 70_000)).unwrap();
            socket
        })
        .collect();
    let publish = |socket: &mut Socket, bytes: usize| {
        let data = "x".repeat(bytes);
        let command = json!({"op": "publish", "ref": 1, "topics": [TOPIC], "data": data});
        let (begun, command) = (Instant::now(), command.to_string());
        let carrier = socket.socket.get_mut();
        let mut frame = half(command.len() as u64, 0);
        frame.extend_from_slice(command.as_bytes());
        for piece in frame.chunks(20_000) {
            // In pieces, so that it has to be put together.
            carrier.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        socket.expect("published");
        begun.elapsed()
    };
    let mut other = Socket::open_with(&hub, &publisher);
    assert!(publish(&mut other, 60_000) < Duration::from_secs(3), "small ones do not wait");
    assert!(publish(&mut other, 900_000) < Duration::from_secs(15), "large ones do not for long");
    let (_, code) = hoarders.remove(0).until_end();
    assert_eq!(code, Some(1013));
}

#[test]
fn strangers_who_fill_the_place_for_costly_patterns_leave_that_of_others() {
    let hub = TestHub::start(ANONYMOUS);
    let subscribe = |socket: &mut Socket, text: &str| {
        let matchers = json!([{"match": text, "match_type": "uritemplate"}]);
        socket.say(&json!({"op": "subscribe", "ref": text, "matchers": matchers}));
        socket.next()
    };
    let mut strangers: Vec<Socket> = (0..50).map(|_| Socket::open(&hub)).collect();
    for (number, socket) in strangers.iter_mut().enumerate() {
        for one in 0..10 {
            let told = subscribe(socket, &format!("{{x{number}_{one}}}"));
            assert_eq!(told["op"], "subscribed", "{told}");
        }
        if number == 0 {
            let told = subscribe(socket, "{one_more}");
            assert_eq!(told["code"], "too_many_subscriptions", "{told}");
        }
    }
    let mut late = Socket::open(&hub);
    assert_eq!(subscribe(&mut late, "{id}")["code"], "busy");
    assert_eq!(subscribe(&mut late, "{x0_0}")["op"], "subscribed", "what is there costs nothing");
    let streamed = |headers: &[(&str, &str)]| {
        hub.get("/.well-known/mercure?match_uritemplate=%7Bid%7D", headers).status
    };
    assert_eq!(streamed(&[]), 503);
    let mut known = Socket::open_with(&hub, &token_final(Role::Subscribe, &["*"]));
    assert_eq!(subscribe(&mut known, "{id}")["op"], "subscribed");
}

#[test]
fn who_publishes_in_one_breath_with_its_subscription_hears_itself_every_time() {
    let hub = TestHub::start(&one_key(""));
    let token = both(&["*"]);
    std::thread::scope(|threads| {
        for client in 0..8 {
            let (hub, token) = (&hub, &token);
            threads.spawn(move || {
                for round in 0..20 {
                    let mut socket = Socket::open_with(hub, token);
                    let topic = format!("https://sockets.example/{client}/{round}");
                    let subscribe =
                        json!({"op": "subscribe", "ref": 1, "matchers": [{"match": topic}]});
                    let publish =
                        json!({"op": "publish", "ref": 2, "topics": [topic], "data": "mine"});
                    let said = [subscribe, publish].map(|command| {
                        let text = command.to_string();
                        frame(0x81, text.as_bytes())
                    });
                    socket.socket.get_mut().write_all(&said.concat()).unwrap();
                    socket.expect("subscribed");
                    let (one, other) = (socket.next(), socket.next());
                    let ops = [&one["op"], &other["op"]];
                    assert!(ops.contains(&&json!("update")), "{one} {other}");
                    assert!(ops.contains(&&json!("published")), "{one} {other}");
                }
            });
        }
    });
}

#[test]
fn strangers_who_are_not_let_in_any_more_ask_for_nothing_new() {
    let hub = TestHub::start(ANONYMOUS);
    let mut socket = Socket::open(&hub);
    socket.subscribe("one", &[TOPIC], &json!("now"));
    let config = std::fs::read_to_string(hub.config()).unwrap();
    std::fs::write(hub.config(), config.replace("anonymous = true", "anonymous = false")).unwrap();
    hub.signal("HUP");
    hub.wait_for_log("configuration reloaded");
    let matchers = json!([{"match": OTHER}]);
    socket.say(&json!({"op": "subscribe", "ref": 2, "matchers": matchers}));
    socket.expect_error("unauthenticated");
    let token = token_final(Role::Subscribe, &["*"]);
    socket.say(&json!({"op": "authenticate", "ref": 3, "token": token}));
    socket.expect("authenticated");
    socket.subscribe("two", &[OTHER], &json!("now"));
}

#[test]
fn others_see_a_subscription_as_of_whoever_holds_the_token_now() {
    let hub = TestHub::start("[mercure]\nsubscriptions = true\n[auth]\nanonymous = true\n");
    let mut socket = Socket::open(&hub);
    socket.subscribe("one", &[TOPIC], &json!("now"));
    let watcher = token_final(Role::Subscribe, &["*"]);
    let list = || {
        let (name, value) = bearer(&watcher);
        let list = hub.get("/.well-known/mercure/subscriptions", &[(&name, &value)]);
        list.expect(200).json()["subscriptions"].as_array().unwrap().clone()
    };
    let subscriber = |list: &[Value]| list[0]["subscriber"].as_str().unwrap().to_owned();
    let before = list();
    assert_eq!(before.len(), 1);
    let mut show = |subject: &str| {
        let mut claims = claims_final(json!([detail(Role::Subscribe, &["*"])]));
        claims["sub"] = json!(subject);
        let token = mint(&json!({"alg": "HS256", "typ": "at+jwt"}), &claims, SUBSCRIBE_KEY);
        socket.say(&json!({"op": "authenticate", "ref": 1, "token": token}));
        socket.expect("authenticated");
    };
    show("urn:alice");
    let alice = list();
    assert_eq!(alice.len(), 1, "{alice:?}");
    show("urn:alice");
    assert_eq!(list(), alice, "a renewed token changes nothing");
    show("urn:bob");
    let bob = list();
    assert_eq!(bob.len(), 1, "{bob:?}");
    assert_ne!(bob[0], alice[0]);
    assert_ne!(subscriber(&before), subscriber(&bob));
}

/// A subscriber's token with this many seconds left.
fn ending(seconds: u64) -> String {
    let mut claims = claims_final(json!([detail(Role::Subscribe, &["*"])]));
    claims["exp"] = json!(now() + seconds);
    mint(&json!({"alg": "HS256", "typ": "at+jwt"}), &claims, SUBSCRIBE_KEY)
}

#[test]
fn a_socket_ends_with_its_token_unless_it_shows_another_one() {
    let hub = TestHub::start(MEMORY);
    let (mut ends, mut stays) =
        (Socket::open_with(&hub, &ending(2)), Socket::open_with(&hub, &ending(2)));
    for socket in [&mut ends, &mut stays] {
        socket.subscribe("x", &[TOPIC], &json!("now"));
    }
    let longer = token_final(Role::Subscribe, &["*"]);
    stays.say(&json!({"op": "authenticate", "ref": 1, "token": longer}));
    stays.expect("authenticated");
    let (said, code) = ends.until_end();
    assert_eq!(code, Some(1008));
    assert_eq!(said.last().unwrap()["code"], "expired", "{said:?}");
    publish(&hub, TOPIC, "later");
    stays.expect_data("later");
}

#[test]
fn a_revoked_token_ends_its_socket_within_a_second() {
    let hub = TestHub::start(&format!("{MEMORY}[admin]\ntoken = \"admin-token-of-the-tests\""));
    let mut claims = claims_final(json!([detail(Role::Subscribe, &["*"])]));
    claims["jti"] = json!("lost");
    let token = mint(&json!({"alg": "HS256", "typ": "at+jwt"}), &claims, SUBSCRIBE_KEY);
    let (mut shown, mut said) = (Socket::open_with(&hub, &token), Socket::open(&hub));
    let mut other = Socket::open_with(&hub, &token_final(Role::Subscribe, &["*"]));
    said.say(&json!({"op": "authenticate", "ref": 1, "token": token}));
    said.expect("authenticated");
    for socket in [&mut shown, &mut said, &mut other] {
        socket.subscribe("x", &[TOPIC], &json!("now"));
    }
    assert_eq!(hub.metric("tidings_sockets"), 3);
    assert_eq!(hub.metric("tidings_socket_messages_total"), 4);
    let begun = Instant::now();
    let (name, value) = bearer("admin-token-of-the-tests");
    let what = json!({"token_id": "lost", "issuer": crate::tokens::ISSUER}).to_string();
    let asked = http::request("POST", REVOCATIONS, &[(&name, &value)], what.as_bytes());
    http::exchange(hub.admin.unwrap(), &asked).expect(201);
    for socket in [&mut shown, &mut said] {
        let (said, code) = socket.until_end();
        assert_eq!((code, &said[0]["code"]), (Some(1008), &json!("revoked")), "{said:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    publish(&hub, TOPIC, "on");
    other.expect_data("on");
    assert_eq!(hub.metric("tidings_socket_closes_total{code=\"1008\"}"), 2);
    hub.wait_for_metric("tidings_sockets", 1);
}

#[test]
fn who_shows_no_token_where_one_is_needed_does_not_stay() {
    let hub = TestHub::start(MEMORY);
    let (mut silent, begun) = (Socket::open(&hub), Instant::now());
    let (said, code) = silent.until_end();
    assert_eq!((code, &said[0]["op"]), (Some(1008), &json!("end")), "{said:?}");
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[test]
fn who_does_not_read_for_a_while_gets_everything_once_and_in_order() {
    let hub = TestHub::start(ANONYMOUS);
    let mut socket = Socket::open(&hub);
    socket.subscribe("x", &[TOPIC], &json!("now"));
    let long = "x".repeat(20_000);
    for number in 0..1_000 {
        publish(&hub, TOPIC, &format!("{number} {long}"));
    }
    let mut cursors = HashSet::new();
    for number in 0..1_000 {
        let update = socket.expect("update");
        let data = update["data"].as_str().unwrap();
        assert_eq!(data.split_once(' ').unwrap().0, number.to_string());
        assert!(cursors.insert(update["cursor"].as_str().unwrap().to_owned()));
    }
    let (before, _) = socket.subscribe("y", &[OTHER], &json!("earliest"));
    assert!(before.is_empty(), "{before:?}");
}

#[test]
fn a_shutdown_says_where_to_go_on() {
    let hub = TestHub::start(ANONYMOUS);
    let mut socket = Socket::open(&hub);
    socket.subscribe("x", &[TOPIC], &json!("now"));
    let id = publish(&hub, TOPIC, "1");
    socket.expect_data("1");
    hub.signal("TERM");
    let (said, code) = socket.until_end();
    assert_eq!(code, Some(1001));
    let end = said.last().unwrap();
    assert_eq!((&end["op"], &end["code"]), (&json!("end"), &json!("shutdown")), "{said:?}");
    assert_eq!(end["cursor"], id);
    assert!(end["retry"].as_u64().is_some(), "{end}");
}

#[test]
fn a_socket_that_is_as_old_as_sockets_become_says_where_to_go_on() {
    let hub = TestHub::start(&format!("{ANONYMOUS}[mercure]\nconnection_age_max = \"1s\""));
    let id = publish(&hub, TOPIC, "1");
    let (said, code) = Socket::open(&hub).until_end();
    let end = said.last().unwrap();
    let expected = json!({"op": "end", "code": "longest_time", "cursor": id, "retry": 1_000});
    assert_eq!((code, end), (Some(1001), &expected), "{said:?}");
}

#[test]
fn what_asks_for_no_socket_gets_none() {
    let hub = TestHub::start(ANONYMOUS);
    let reply = hub.get(PATH, &[]);
    assert_eq!(reply.status, 426);
    assert_eq!(reply.header("upgrade").as_deref(), Some("websocket"));
    hub.request("POST", PATH, &[], b"").expect(405);
    let off = TestHub::start(&format!("{MEMORY}[websocket]\nenabled = false"));
    off.get(PATH, &[]).expect(404);
}
