//! Courier's clients, unchanged: the calls of its document, its sockets, its refusals, alone and in
//! a hub with other protocols. Heard by a WebSocket client that knows nothing of ours.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::Message;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::error::Error;
use tungstenite::protocol::WebSocket;

use crate::http::{self, PATIENCE, Reply};
use crate::hub::{Launch, TestHub, configuration};
use crate::mercure::MEMORY;
use crate::sinks::resident;
use crate::tokens::{Role, bearer, mint, now, token_final};

const SECRET: &str = "the secret of an application, long enough";
const KEY: &str = "0123456789abcdef0123456789abcdef";
const AUDIENCE: &str = "my-audience.com";
/// Of somebody who says whom it is by a header.
const CHOSEN: (&str, &str) = ("X-Request-ID", "11111111-2222-3333-4444-555555555555");

/// `tidings courier` with these variables beside its secret.
pub(crate) fn launch(more: &[(&str, &str)]) -> Launch {
    let mut all = vec![("COURIER_JWT_SECRET", SECRET), ("COURIER_PORT", "0")];
    all.extend_from_slice(more);
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Launch {
        arguments: Some(vec!["courier".to_owned()]),
        environment: all.into_iter().map(owned).collect(),
        ..Launch::default()
    }
}

fn alone() -> TestHub {
    TestHub::launch(launch(&[]))
}

/// A hub with every protocol.
fn in_a_hub() -> TestHub {
    TestHub::start(&format!("{MEMORY}[courier]\njwt_secret = \"{SECRET}\"\npath = \"/courier\"\n"))
}

fn token_of(claims: &Value) -> String {
    mint(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn token(audience: &str) -> String {
    token_of(&json!({"aud": audience, "email": "somebody@example.com"}))
}

/// An application of an audience, at a base.
pub(crate) struct Application<'h> {
    hub: &'h TestHub,
    base: &'static str,
    token: String,
}

impl<'h> Application<'h> {
    pub(crate) fn new(hub: &'h TestHub, audience: &str) -> Application<'h> {
        let application = Application { hub, base: "", token: token(audience) };
        application.post("/v1/audience", "").expect(200);
        application
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &str) -> Reply {
        let (name, value) = bearer(&self.token);
        let mut headers = vec![(name.as_str(), value.as_str()), CHOSEN];
        if !kind.is_empty() {
            headers.push(("Content-Type", kind));
        }
        self.hub.request(method, &format!("{}{path}", self.base), &headers, body.as_bytes())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.request("POST", path, "application/json", body)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request("GET", path, "", "")
    }

    pub(crate) fn hook(&self, topic: &str, message: &str) {
        let body = format!(r#"{{"topic":"{topic}","action":"publish","message":{message}}}"#);
        assert_eq!(
            self.post("/v1/hook", &body).expect(200).text(),
            format!(r#"{{"data":{body}}}"#)
        );
    }

    /// Says something to all of the audience.
    pub(crate) fn broadcast(&self, message: &str) {
        let body = format!(r#"{{"topic":"x","action":"broadcast","message":{message}}}"#);
        self.post("/v1/hook", &body).expect(200);
    }

    fn sign(&self) -> Value {
        self.get("/v1/sign").expect(200).json()["data"].take()
    }

    /// A connection by a signed URL, with these parameters behind it.
    #[track_caller]
    pub(crate) fn connect(&self, more: &str) -> Client {
        let sign = self.sign();
        let (_, query) = sign["url"].as_str().unwrap().split_once("/ws?").unwrap();
        assert_eq!(query, format!("token={}", sign["key"].as_str().unwrap()));
        Client::open(self.hub, &format!("{}/ws?{query}{more}", self.base)).unwrap()
    }
}

pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    /// The status instead, where it is refused.
    fn open(hub: &TestHub, target: &str) -> Result<Client, u16> {
        Client::open_with(hub, target, CHOSEN)
    }

    /// The same with this header.
    fn open_with(hub: &TestHub, target: &str, header: (&str, &str)) -> Result<Client, u16> {
        let stream = TcpStream::connect(hub.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let uri = format!("ws://courier.example{target}").parse().unwrap();
        let request = ClientRequestBuilder::new(uri).with_header(header.0, header.1);
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => {
                let mut client = Client { socket };
                let first = client.next();
                assert_eq!(first.len(), 36, "a UUID first: {first}");
                assert_ne!(first, CHOSEN.1, "nobody chooses it");
                Ok(client)
            }
            Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[track_caller]
    fn read(&mut self) -> Result<Message, Error> {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "nothing but heartbeats");
            match self.socket.read() {
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Message::Ping(_)) => {}
                other => return other,
            }
        }
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        match self.read().unwrap() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        assert_eq!(self.next(), text);
    }

    fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    pub(crate) fn subscribe(&mut self, topic: &str) {
        self.say(&format!(r#"{{"action":"subscribe","topic":"{topic}"}}"#));
    }

    pub(crate) fn publish(&mut self, topic: &str, message: &str) {
        self.say(&format!(r#"{{"action":"publish","topic":"{topic}","message":{message}}}"#));
    }

    /// Subscribes, until that is certain: nothing is answered, but what it says itself comes back.
    #[track_caller]
    fn subscribed(&mut self, topic: &str) {
        self.subscribe(topic);
        self.publish(topic, "\"mine\"");
        self.expect("\"mine\"");
    }

    /// The code by which the other side ends it.
    #[track_caller]
    pub(crate) fn closes(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.read() {
                Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return code,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[track_caller]
fn refused(reply: Reply, status: u16, code: &str) {
    let reply = reply.expect(status);
    let body = reply.json();
    assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)), "{body}");
    assert!(!body["error"].as_str().unwrap().is_empty());
    assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
    assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some("*"));
}

/// The names of an object's members.
fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_five_calls_of_the_document_are_answered() {
    let hub = alone();
    let application = Application { hub: &hub, base: "", token: token(AUDIENCE) };
    let audience = application.request("POST", "/v1/audience", "", "").expect(200).json();
    assert_eq!(names(&audience), ["data"]);
    let audience = &audience["data"];
    assert_eq!(names(audience), ["createdAt", "deletedAt", "id", "name", "updatedAt"]);
    assert_eq!(audience["name"], AUDIENCE);
    assert_eq!(
        (audience["id"].as_str().unwrap().len(), &audience["deletedAt"]),
        (36, &Value::Null)
    );

    let topic = application.post("/v1/topic", "{\n\"topic\": \"system/events\"\n}").expect(200);
    let topic = topic.json();
    let expected = ["audience", "audienceId", "createdAt", "deletedAt", "id", "topic", "updatedAt"];
    assert_eq!(names(&topic["data"]), expected);
    assert_eq!(topic["data"]["topic"], "system/events");
    assert_eq!(
        (&topic["data"]["audience"], &topic["data"]["audienceId"]),
        (audience, &audience["id"])
    );

    let listed = application.get("/v1/topic").expect(200).json();
    assert_eq!(listed["data"], json!([topic["data"]]));

    let mut client = application.connect("");
    client.subscribed("system/events");
    let hook = "{\n\"topic\": \"system/events\",\n\"action\": \"publish\",\n\
                \"message\": {\n\"type\": \"database\"\n}\n}";
    let echo = application.post("/v1/hook", hook).expect(200).text();
    assert_eq!(echo, format!("{{\"data\":{hook}}}"));
    client.expect("{\n\"type\": \"database\"\n}");

    let sign = application.sign();
    assert_eq!(names(&sign), ["cursor", "key", "url"]);
    let begin = "ws://localhost:0/ws?token=";
    assert_eq!(sign["url"], format!("{begin}{}", sign["key"].as_str().unwrap()));
}

#[test]
fn everybody_of_a_topic_gets_what_is_published_and_so_does_who_published() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    let [mut one, mut other, mut silent] = [(); 3].map(|()| application.connect(""));
    one.subscribed("a");
    other.subscribe("b");
    other.subscribed("a");
    one.expect("\"mine\"");
    // Twice is as good as once.
    one.subscribe("a");
    one.publish("a", r#"{"b": [1, 2.50]}"#);
    one.expect(r#"{"b": [1, 2.50]}"#);
    other.expect(r#"{"b": [1, 2.50]}"#);
    other.publish("b", "null");
    other.expect("null");
    other.say(r#"{"action":"publish","topic":"b"}"#);
    other.expect("null");

    // Once for a connection, however many subscriptions; nothing without one.
    other.subscribed("c");
    one.say(r#"{"action":"broadcast","message":{"all":1}}"#);
    one.expect(r#"{"all":1}"#);
    other.expect(r#"{"all":1}"#);
    silent.subscribed("x");
    one.say(r#"{"action":"dance","topic":"a","message":1}"#);
    for topic in ["a", "b", "c"] {
        other.say(&format!(r#"{{"action":"unsubscribe","topic":"{topic}"}}"#));
    }
    other.subscribed("d");
    one.publish("a", "\"last\"");
    one.expect("\"last\"");
    application.hook("d", "\"d\"");
    other.expect("\"d\"");
    silent.publish("x", "\"end\"");
    silent.expect("\"end\"");
}

#[test]
fn who_publishes_right_behind_a_subscription_hears_itself_every_time() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    // As much as a client may say at once; over and over, since it is about a moment.
    for _ in 0..60 {
        let mut client = application.connect("");
        for topic in 0..95 {
            client.subscribed(&topic.to_string());
        }
    }
}

#[test]
fn topics_are_any_text_and_belong_to_their_audience() {
    let hub = alone();
    let [one, other] = ["one", "other"].map(|name| Application::new(&hub, name));
    let odd = ["", "/../x", "*", "{topic}", "a:b", "\\u0000\\n", "%2F", "\u{e9}", "#", ">", "+"];
    let (mut here, mut there) = (one.connect(""), other.connect(""));
    for topic in odd {
        here.subscribed(topic);
        there.subscribe(topic);
    }
    there.subscribed("marker");
    for topic in odd {
        here.publish(topic, &format!("\"of {topic}\""));
        here.expect(&format!("\"of {topic}\""));
    }
    one.hook("/../x", "1");
    here.expect("1");
    here.say(r#"{"action":"broadcast","message":2}"#);
    here.expect("2");
    there.publish("marker", "\"nothing before\"");
    there.expect("\"nothing before\"");
}

#[test]
fn what_cannot_be_understood_ends_the_connection() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    for (message, code) in [
        (Message::text("{"), 1007),
        (Message::text("[\"subscribe\"]"), 1007),
        (Message::text("{\"action\":1}"), 1007),
        (Message::binary(&b"{}"[..]), 1003),
        (Message::text("x".repeat(3 << 20)), 1009),
    ] {
        let mut client = application.connect("");
        let _sent = client.socket.send(message);
        assert_eq!(client.closes(), Some(code));
    }
}

#[test]
fn refusals_have_their_codes_in_their_order() {
    let hub = alone();
    let nobody = |method: &str, path: &str, headers: &[(&str, &str)]| {
        hub.request(method, path, headers, b"")
    };
    let forbidden = "ESTATUS_FORBIDDEN";
    for (method, path) in [
        ("POST", "/v1/audience"),
        ("GET", "/v1/sign"),
        ("GET", "/v1/nothing"),
        ("DELETE", "/v1/topic"),
        ("GET", "/v1"),
    ] {
        refused(nobody(method, path, &[]), 403, forbidden);
    }
    let small = format!("bearer {}", token(AUDIENCE));
    refused(nobody("GET", "/v1/sign", &[("Authorization", &small)]), 403, forbidden);
    for claims in [json!({"aud": "a", "exp": now() - 1}), json!({"aud": "a", "nbf": now() + 60})] {
        let application = Application { hub: &hub, base: "", token: token_of(&claims) };
        refused(application.get("/v1/sign"), 403, forbidden);
    }
    let other = mint(&json!({"alg": "HS256"}), &json!({"aud": "a"}), "another secret");
    let application = Application { hub: &hub, base: "", token: other };
    refused(application.post("/v1/audience", ""), 403, forbidden);

    let application = Application { hub: &hub, base: "", token: token("nobody.example") };
    refused(application.get("/v1/nothing"), 404, "ESERVER_UNKNOWN");
    refused(application.get("/v1/hook"), 405, "ESERVER_UNKNOWN");
    for path in ["/v1/topic", "/v1/hook"] {
        refused(application.post(path, "{"), 400, "EAUD_NOTFOUND");
    }
    refused(application.get("/v1/topic"), 400, "EAUD_NOTFOUND");
    refused(application.get("/v1/sign"), 400, "EAUD_NOTFOUND");
    for name in [json!(null), json!(""), json!("x".repeat(256)), json!([])] {
        let token = token_of(&json!({ "aud": name }));
        let application = Application { hub: &hub, base: "", token };
        refused(application.post("/v1/audience", ""), 400, "EAUD_CREATEFAILURE");
    }

    let application = Application::new(&hub, AUDIENCE);
    for (kind, body) in
        [("application/json", "{"), ("text/plain", "{\"topic\":\"a\"}"), ("", "{\"topic\":\"a\"}")]
    {
        refused(application.request("POST", "/v1/topic", kind, body), 412, "ETOPICS_INVALID");
        refused(application.request("POST", "/v1/hook", kind, body), 412, "EHOOK_INVALID");
    }
    let long = format!("{{\"topic\":\"{}\"}}", "x".repeat(256));
    refused(application.post("/v1/topic", &long), 400, "ETOPICS_CREATE");
    for body in [
        "{}",
        "{\"topic\":\"a\"}",
        "{\"action\":\"publish\",\"message\":1}",
        "{\"action\":\"\",\"topic\":\"a\"}",
    ] {
        refused(application.post("/v1/hook", body), 422, "EHOOK_INVALID");
    }
    let large = format!("{{\"message\":\"{}\"}}", "x".repeat(2 << 20));
    refused(application.post("/v1/hook", &large), 413, "ESERVER_UNKNOWN");
    let large = format!(
        "{{\"topic\":\"a\",\"action\":\"publish\",\"message\":\"{}\"}}",
        "x".repeat((1 << 20) + 1_000)
    );
    refused(application.post("/v1/hook", &large), 413, "ESERVER_UNKNOWN");
    let form = application.request(
        "POST",
        "/v1/topic",
        "application/x-www-form-urlencoded; charset=utf-8",
        "topic=a%2Fb&id=chosen",
    );
    assert_eq!(form.expect(200).json()["data"]["topic"], "a/b");
}

#[test]
fn a_name_is_one_audience_and_a_list_of_names_the_first_that_is_there() {
    let hub = alone();
    let make = |aud: Value| {
        let application =
            Application { hub: &hub, base: "", token: token_of(&json!({ "aud": aud })) };
        application.post("/v1/audience", "").expect(200).json()["data"].take()
    };
    let first = make(json!("b"));
    assert_eq!(make(json!("b")), first, "the same again");
    assert_eq!(make(json!(["a", "b"])), first);
    assert_eq!(make(json!(["c", "d"]))["name"], "c");
    let application = Application::new(&hub, "b");
    let topic = application.post("/v1/topic", r#"{"topic":"x","id":"chosen","createdAt":"1"}"#);
    let topic = topic.expect(200).json();
    assert_ne!(topic["data"]["id"], "chosen");
    assert_eq!(application.post("/v1/topic", r#"{"topic":"x"}"#).expect(200).json(), topic);
    assert_eq!(
        Application::new(&hub, "c").get("/v1/topic").expect(200).json(),
        json!({"data": []})
    );
}

#[test]
fn head_is_answered_as_get_without_a_body() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    application.post("/v1/topic", r#"{"topic":"x"}"#).expect(200);
    let whole = application.get("/v1/topic").expect(200);
    let head = application.request("HEAD", "/v1/topic", "", "").expect(200);
    assert_eq!(head.text(), "");
    for name in ["content-type", "content-length"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    assert_eq!(application.request("HEAD", "/v1/sign", "", "").expect(200).text(), "");
    assert_eq!(application.request("HEAD", "/v1/hook", "", "").status, 405);
    assert_eq!(application.request("HEAD", "/v1/nothing", "", "").status, 404);
}

#[test]
fn names_in_json_are_read_in_any_case() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    let topic = application.post("/v1/topic", r#"{"Topic":"x"}"#).expect(200).json();
    assert_eq!(topic["data"]["topic"], "x");
    let mut client = application.connect("");
    client.say(r#"{"ACTION":"subscribe","Topic":"x"}"#);
    client.say(r#"{"Action":"publish","TOPIC":"x","Message":{"Any":1}}"#);
    client.expect(r#"{"Any":1}"#);
    let body = r#"{"Action":"publish","Topic":"y","topic":"x","message":2,"Message":3}"#;
    let echo = application.post("/v1/hook", body).expect(200).text();
    assert_eq!(echo, format!("{{\"data\":{body}}}"));
    client.expect("2");
}

#[test]
fn connections_are_counted() {
    let more = [("TIDINGS_ADMIN_LISTEN", "127.0.0.1:0")];
    let hub = TestHub::launch(launch(&more));
    assert_eq!(hub.metric("tidings_courier_connections"), 0);
    let application = Application::new(&hub, AUDIENCE);
    let (mut one, other) = (application.connect(""), application.connect(""));
    assert_eq!(hub.metric("tidings_courier_connections"), 2);
    one.socket.close(None).unwrap();
    one.closes();
    drop(other);
    hub.wait_for_metric("tidings_courier_connections", 0);
}

#[test]
fn a_reload_takes_other_secrets_and_ends_what_the_old_ones_opened() {
    const OTHER: &str = "another secret of the application, as long";
    let settings = |secret: &str, key: &str| {
        format!(
            "{MEMORY}[courier]\njwt_secret = \"{secret}\"\nkey_secret = \"{key}\"\n\
             path = \"/courier\"\n"
        )
    };
    let hub = TestHub::start(&settings(SECRET, KEY));
    let reload = |secret: &str, key: &str, times: usize| {
        let folder = hub.config().parent().unwrap().to_owned();
        let launch = Launch::toml(&settings(secret, key));
        std::fs::write(hub.config(), configuration(&folder, &launch)).unwrap();
        hub.signal("HUP");
        let begun = Instant::now();
        while hub.log().matches("configuration reloaded").count() < times {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let application = Application { hub: &hub, base: "/courier", token: token(AUDIENCE) };
    application.post("/v1/audience", "").expect(200);
    let old = |key: &str| format!("/courier{}", old_url(key, &token(AUDIENCE)));
    let mut of_url = Client::open(&hub, &old(KEY)).unwrap();
    let mut sealed = application.connect("");
    for client in [&mut of_url, &mut sealed] {
        client.subscribed("a");
    }
    // Another key of old URLs concerns what they opened.
    let key = "fedcba9876543210";
    reload(SECRET, key, 1);
    assert_eq!(of_url.closes(), Some(1008));
    assert_eq!(Client::open(&hub, &old(KEY)).err(), Some(403));
    let mut of_url = Client::open(&hub, &old(key)).unwrap();
    application.hook("a", "1");
    sealed.expect("1");

    // Another secret of tokens concerns all.
    let signed = application.sign();
    let (_, query) = signed["url"].as_str().unwrap().split_once('?').unwrap();
    reload(OTHER, key, 2);
    for client in [&mut of_url, &mut sealed] {
        assert_eq!(client.closes(), Some(1008));
    }
    refused(application.get("/v1/sign"), 403, "ESTATUS_FORBIDDEN");
    assert_eq!(Client::open(&hub, &format!("/courier/ws?{query}")).err(), Some(403));
    assert_eq!(Client::open(&hub, &old(key)).err(), Some(403));
    let claims = json!({"aud": AUDIENCE, "email": "somebody@example.com"});
    let token = mint(&json!({"alg": "HS256", "typ": "JWT"}), &claims, OTHER);
    let later = Application { hub: &hub, base: "/courier", token };
    later.connect("").subscribed("a");
    assert!(!hub.log().contains("needs a restart"), "{}", hub.log());
    assert!(!hub.log().contains(OTHER));
}

#[test]
fn pages_of_every_origin_may_call() {
    let hub = alone();
    let reply = hub.request(
        "OPTIONS",
        "/v1/hook",
        &[("Origin", "https://a.example"), ("Access-Control-Request-Method", "POST")],
        b"",
    );
    let reply = reply.expect(204);
    let header = |name| reply.header(name).unwrap_or_default();
    assert_eq!(header("access-control-allow-origin"), "*");
    assert_eq!(header("access-control-allow-methods"), "GET,POST");
    let fields = "Origin, Content-Type, Accept, Authorization";
    assert_eq!(header("access-control-allow-headers"), fields);
    assert!(reply.header("access-control-allow-credentials").is_none());
    assert_eq!(hub.get("/debug/pprof", &[]).status, 404);
}

/// What `openssl` makes of a token under a key, as an old URL has it.
fn old_url(key: &str, token: &str) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let vector: Vec<u8> = (100..116).collect();
    let mut child = Command::new("openssl")
        .args(["enc", &format!("-aes-{}-cfb", key.len() * 8), "-K", &hex(key.as_bytes())])
        .args(["-iv", &hex(&vector)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let sealed = child.wait_with_output().unwrap().stdout;
    format!("/ws?token={}", URL_SAFE.encode([vector, sealed].concat()))
}

#[test]
fn old_urls_open_connections_where_their_key_is_known() {
    let hub = TestHub::launch(launch(&[("COURIER_KEY_SECRET", KEY)]));
    let application = Application::new(&hub, AUDIENCE);
    let old = old_url(KEY, &token(AUDIENCE));
    let mut client = Client::open(&hub, &old).unwrap();
    client.subscribed("a");
    application.hook("a", "1");
    client.expect("1");
    // Where old settings say so.
    assert!(Client::open(&hub, &format!("/v1{old}")).is_ok());
    assert!(Client::open(&hub, old.trim_end_matches('=')).is_ok());

    let is_refused =
        |target: &str| assert_eq!(Client::open(&hub, target).err(), Some(403), "{target}");
    is_refused(&old_url("another key 16 b", &token(AUDIENCE)));
    is_refused(&old_url(KEY, &token_of(&json!({"aud": AUDIENCE, "exp": now() - 1}))));
    is_refused(&old_url(KEY, &mint(&json!({"alg": "none"}), &json!({"aud": AUDIENCE}), SECRET)));
    for token in ["", "A", "AAAA", &"A".repeat(22), &"A".repeat(24), "t1.", "t1.AAAA", "%00", "é"]
    {
        is_refused(&format!("/ws?token={token}"));
    }
    is_refused("/ws");
    assert_eq!(Client::open(&hub, &old_url(KEY, &token("nobody"))).err(), Some(400));
    refused(hub.get(&old, &[]), 426, "ESERVER_UNKNOWN");
    refused(hub.get("/ws", &[]), 403, "ETOKEN_INVALID");
    refused(hub.get("/ws?token=x", &[]), 403, "ETOKEN_INVALID");

    let without = alone();
    Application::new(&without, AUDIENCE);
    assert_eq!(Client::open(&without, &old).err(), Some(403));
    for secret in [SECRET, KEY] {
        assert!(!hub.log().contains(secret));
    }
    let (_, shown) = old.split_once('=').unwrap();
    assert!(!hub.log().contains(shown), "{}", hub.log());
}

#[test]
fn a_connection_ends_with_its_token() {
    let hub = alone();
    let mut application = Application::new(&hub, AUDIENCE);
    // Long enough to get there on a busy machine.
    application.token = token_of(&json!({"aud": AUDIENCE, "exp": now() + 5}));
    let mut client = application.connect("");
    client.subscribed("a");
    assert_eq!(client.closes(), Some(1008));
}

const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

fn with_operator() -> TestHub {
    TestHub::launch(launch(&[
        ("TIDINGS_ADMIN_LISTEN", "127.0.0.1:0"),
        ("TIDINGS_ADMIN_TOKEN", ADMIN_TOKEN),
    ]))
}

/// Takes something back, and says when that was answered.
fn revoke(hub: &TestHub, what: &Value) -> Instant {
    let (name, value) = bearer(ADMIN_TOKEN);
    let headers = [(name.as_str(), value.as_str())];
    let path = "/tidings/admin/revocations";
    let asked = http::request("POST", path, &headers, what.to_string().as_bytes());
    http::exchange(hub.admin.unwrap(), &asked).expect(201);
    Instant::now()
}

/// Within a second of this moment each of them is told that it has no right any more.
#[track_caller]
fn are_ended(clients: &mut [Client], revoked: Instant) {
    for client in clients {
        assert_eq!(client.closes(), Some(1008));
    }
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
}

/// Whatever it does now comes to nothing, also by URLs that were signed before.
#[track_caller]
fn stays_out(application: &Application<'_>, signed: &str, topic: &str) {
    let hook = format!(r#"{{"topic":"{topic}","action":"publish","message":1}}"#);
    refused(application.post("/v1/hook", &hook), 403, "ESTATUS_FORBIDDEN");
    for path in ["/v1/sign", "/v1/topic"] {
        refused(application.get(path), 403, "ESTATUS_FORBIDDEN");
    }
    refused(application.post("/v1/audience", ""), 403, "ESTATUS_FORBIDDEN");
    assert_eq!(Client::open(application.hub, signed).err(), Some(403));
}

#[test]
fn a_person_whom_the_operator_puts_out_is_out_within_a_second_and_stays_out() {
    for issuer in [json!("urn:tidings:courier"), Value::Null] {
        let hub = with_operator();
        let application = Application::new(&hub, AUDIENCE);
        let mut other = Application::new(&hub, AUDIENCE);
        other.token = token_of(&json!({"aud": AUDIENCE, "email": "other@example.com"}));
        let signed = format!("/ws?token={}", application.sign()["key"].as_str().unwrap());
        let (mut here, mut there) = (application.connect(""), other.connect(""));
        here.subscribed("a");
        there.subscribed("b");
        let mut what = json!({"subject": "somebody@example.com"});
        if !issuer.is_null() {
            what["issuer"] = issuer;
        }
        let revoked = revoke(&hub, &what);
        are_ended(&mut [here], revoked);
        stays_out(&application, &signed, "b");
        other.hook("b", "2");
        there.expect("2");
    }
}

#[test]
fn everybody_of_every_audience_is_out_within_a_second_when_the_operator_says_so() {
    let hub = with_operator();
    let [one, two] = ["one", "two"].map(|name| Application::new(&hub, name));
    let signed = format!("/ws?token={}", one.sign()["key"].as_str().unwrap());
    let mut clients = [one.connect(""), two.connect(""), two.connect("")];
    for (client, topic) in clients.iter_mut().zip(["a", "a", "b"]) {
        client.subscribed(topic);
    }
    let revoked = revoke(&hub, &json!({"issuer": "urn:tidings:courier", "key": "courier"}));
    are_ended(&mut clients, revoked);
    stays_out(&one, &signed, "a");
}

#[test]
fn another_secret_voids_what_was_signed_under_the_one_before() {
    let data = TempDir::new().unwrap();
    let path = data.path().to_str().unwrap().to_owned();
    let hub = TestHub::launch(launch(&[("TIDINGS_DATA", &path)]));
    let signed = {
        let application = Application::new(&hub, AUDIENCE);
        format!("/ws?token={}", application.sign()["key"].as_str().unwrap())
    };
    assert!(Client::open(&hub, &signed).is_ok());
    let other = "another secret of the application, long enough";
    let hub = hub.restart_with(launch(&[("TIDINGS_DATA", &path), ("COURIER_JWT_SECRET", other)]));
    let application = Application { hub: &hub, base: "", token: token(AUDIENCE) };
    refused(application.get("/v1/sign"), 403, "ESTATUS_FORBIDDEN");
    assert_eq!(Client::open(&hub, &signed).err(), Some(403));
}

#[test]
fn what_was_missed_comes_behind_a_place() {
    let hub = alone();
    let bare = |cursor: &str| cursor.trim_start_matches("urn:uuid:").to_owned();
    type Named<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(Named<'_>, bool); 4] = [
        (&str::to_owned, false),
        (&bare, false),
        (&|_| "earliest".to_owned(), true),
        (&|_| "11111111-2222-3333-4444-555555555555".to_owned(), true),
    ];
    for (number, (after, has_all)) in cases.into_iter().enumerate() {
        let application = Application::new(&hub, &format!("audience {number}"));
        application.hook("a", "1");
        let cursor = application.sign()["cursor"].as_str().unwrap().to_owned();
        application.hook("a", "2");
        application.hook("b", "3");
        application.hook("a", "4");
        let mut client = application.connect(&format!("&after={}", after(&cursor)));
        client.subscribe("a");
        if has_all {
            client.expect("1");
        }
        client.expect("2");
        client.expect("4");
        client.publish("a", "\"live\"");
        client.expect("\"live\"");
        client.subscribe("b");
        client.expect("3");
        application.hook("b", "\"end\"");
        client.expect("\"end\"");
        break_off(client);
    }
}

#[test]
fn broadcasts_of_the_past_come_once_and_in_order_whatever_is_subscribed_when() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    let broadcast = |message: &str| {
        let body = format!(r#"{{"topic":"-","action":"broadcast","message":{message}}}"#);
        application.post("/v1/hook", &body).expect(200);
    };
    application.hook("x", "1");
    broadcast("2");
    application.hook("x", "3");
    broadcast("4");
    let mut client = application.connect("&after=earliest");
    client.subscribe("x");
    ["1", "2", "3", "4"].into_iter().for_each(|text| client.expect(text));
    client.say(r#"{"action":"unsubscribe","topic":"x"}"#);
    client.subscribe("y");
    client.publish("y", "\"mine\"");
    client.expect("\"mine\"");
    broadcast("5");
    client.expect("5");
    // Who takes back what came first is still told what is for all.
    for round in 0..20 {
        let mut client = application.connect("&after=earliest");
        client.subscribe("x");
        if round % 2 == 0 {
            client.subscribe("y");
        }
        client.say(r#"{"action":"unsubscribe","topic":"x"}"#);
        if round % 2 == 1 {
            client.subscribe("y");
        }
        client.publish("y", "\"end\"");
        let mut broadcasts = Vec::new();
        loop {
            match client.next().as_str() {
                "\"end\"" if broadcasts.len() >= 3 => break,
                "\"end\"" | "\"mine\"" | "1" | "3" => {}
                text => broadcasts.push(text.to_owned()),
            }
        }
        // What had come in part comes once more.
        broadcasts.sort();
        broadcasts.dedup();
        assert_eq!(broadcasts, ["2", "4", "5"]);
    }
}

#[test]
fn lists_that_nobody_reads_take_so_much_memory_and_no_more() {
    let hub = alone();
    let application = Application::new(&hub, AUDIENCE);
    let long = "\\u0001".repeat(250);
    for number in 0..400 {
        let body = format!(r#"{{"topic":"{long}{number}"}}"#);
        application.post("/v1/topic", &body).expect(200);
    }
    let length = application.get("/v1/topic").expect(200).body.len();
    assert!(length > 600_000, "{length}");
    let before = resident(hub.pid());
    let (name, value) = bearer(&application.token);
    let asked = http::request("GET", "/v1/topic", &[(name.as_str(), value.as_str())], b"");
    // Pipelined, so that as many answers as possible are asked for at once.
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(hub.address).unwrap();
            stream.write_all(&asked).unwrap();
            stream
        })
        .collect();
    let refused = application.get("/v1/topic").status;
    assert!(refused == 200 || refused == 503, "{refused}");
    let after = resident(hub.pid());
    assert!(after - before < 110 * 1024, "{before} {after}");
    drop(silent);
    let begun = Instant::now();
    while application.get("/v1/topic").status != 200 {
        assert!(begun.elapsed() < PATIENCE, "what they held is given back");
    }
}

fn break_off(mut client: Client) {
    client.socket.close(None).unwrap();
    assert_eq!(client.closes(), None);
}

#[test]
fn everything_is_kept_in_a_folder() {
    let data = TempDir::new().unwrap();
    let path = data.path().to_str().unwrap().to_owned();
    let hub = TestHub::launch(launch(&[("TIDINGS_DATA", &path)]));
    let application = Application::new(&hub, AUDIENCE);
    application.post("/v1/topic", r#"{"topic":"a"}"#).expect(200);
    let topics = application.get("/v1/topic").expect(200).json();
    application.hook("a", "1");
    let sign = application.sign();
    let hub = hub.restart();
    let application = Application { hub: &hub, base: "", token: token(AUDIENCE) };
    assert_eq!(application.get("/v1/topic").expect(200).json(), topics);
    // A signed URL outlives a restart.
    let target = format!("/ws?token={}&after=earliest", sign["key"].as_str().unwrap());
    let mut client = Client::open(&hub, &target).unwrap();
    client.subscribe("a");
    client.expect("1");
}

#[test]
fn a_folder_with_an_environment_is_enough() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(".env", &format!("COURIER_JWT_SECRET={SECRET:?}\nCOURIER_PORT=x\nTIDINGS_DATA=here\n"));
    write(".env.local", "COURIER_PORT=0\n");
    let launch = || Launch {
        arguments: Some(vec!["courier".to_owned()]),
        under: ["env", "-C", folder.path().to_str().unwrap()].map(str::to_owned).to_vec(),
        ..Launch::default()
    };
    let hub = TestHub::launch(launch());
    let application = Application::new(&hub, AUDIENCE);
    application.hook("a", "1");
    let mut client = application.connect("&after=earliest");
    client.subscribe("a");
    client.expect("1");
    drop(client);
    drop(hub);
    assert!(folder.path().join("here").is_dir(), "it keeps what it has there");

    write(".env.local", "COURIER_PORT=0\nCOURIER_KEY_SECRET=short\n");
    let said = TestHub::try_launch(launch()).err().unwrap();
    assert!(
        said.contains("COURIER_KEY_SECRET") && said.contains("AES takes 16, 24 or 32"),
        "{said}"
    );
    assert!(!said.contains(SECRET));
}

#[test]
fn clients_behind_a_proxy_are_bounded_each_for_itself() {
    let hub = TestHub::launch(launch(&[
        ("TIDINGS_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
        ("TIDINGS_HTTP_CONNECTIONS_PER_ADDRESS_MAX", "2"),
    ]));
    let application = Application::new(&hub, AUDIENCE);
    let key = application.sign()["key"].as_str().unwrap().to_owned();
    let target = format!("/ws?token={key}");
    let of = |client: &str| Client::open_with(&hub, &target, ("X-Forwarded-For", client));
    let open: Vec<_> = ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|client| of(client).ok()).into();
    assert!(open.iter().all(Option::is_some));
    assert_eq!(of("192.0.2.1").err(), Some(429), "a third one of the same");
    assert!(of("192.0.2.2").is_ok());
}

#[test]
fn other_protocols_of_the_hub_see_nothing_of_an_audience() {
    let hub = in_a_hub();
    let mut application = Application { hub: &hub, base: "/courier", token: token(AUDIENCE) };
    application.post("/v1/audience", "").expect(200);
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let everything = format!("{}?match=*", crate::hub::HUB);
    let request = http::request("GET", &everything, &[(name.as_str(), value.as_str())], b"");
    let mut stream = http::stream(hub.address, &request);
    stream.until_open();
    let mut client = application.connect("");
    client.subscribed("https://books.example/1");
    client.say(r#"{"action":"broadcast","message":1}"#);
    client.expect("1");
    hub.publish(&[("topic", "https://books.example/1"), ("data", "public")]);
    assert_eq!(stream.event().data, "public", "and nothing before");
    client.publish("https://books.example/1", "2");
    client.expect("2");
    application.base = "";
    assert_eq!(application.get("/v1/sign").status, 404, "only below its path");
}
