//! A key that is taken back: everything that its tokens opened ends within a second, on every
//! protocol, and nobody else notices.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::client::ClientRequestBuilder;

use crate::encrypted::{Authority, address, connect};
use crate::http::{EventStream, PATIENCE, encode, stream_by};
use crate::hub::{HUB, TestHub};
use crate::keys::{ADMIN, ask, exchange, key, token};
use crate::receiver::Receiver;
use crate::sinks::{self, state};
use crate::tickets::ticket;
use crate::tokens::{Role, bearer, token_final};
use crate::websocket::{PATH, Socket, plain, refused, request};

const NAME: &str = "hub.example";
const TOPIC: &str = "https://revoked.example/1";
const LIST: &str = "/.well-known/mercure/subscriptions";
/// What is promised.
const PROMISED: Duration = Duration::from_secs(1);

/// A hub with every protocol, and who trusts it.
struct Setup {
    hub: TestHub,
    authority: Authority,
    _folder: TempDir,
}

impl Setup {
    fn new() -> Setup {
        let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
        authority.write(folder.path(), "hub", &[NAME]);
        let file = |ending: &str| folder.path().join(format!("hub.{ending}"));
        let (certificate, key) = (file("pem"), file("key"));
        let hub = TestHub::start(&format!(
            "{ADMIN}\n[mercure]\nsubscriptions = true\n[webhooks]\nallow = [\"127.0.0.0/8\"]\n\
             [auth]\nanonymous = true\n\
             [tls]\nlisten = \"127.0.0.1:0\"\ncertificate = {certificate:?}\nkey = {key:?}\n"
        ));
        Setup { hub, authority, _folder: folder }
    }

    /// A stream over HTTP/2 and TLS.
    fn shared_stream(&self, token: &str) -> EventStream {
        let root = reqwest::Certificate::from_pem(self.authority.root().as_bytes()).unwrap();
        let place = address(&self.hub);
        let client = reqwest::Client::builder().tls_certs_only([root]).resolve(NAME, place);
        let url = format!("https://{NAME}:{}{HUB}?match={}", place.port(), encode(TOPIC));
        let (name, value) = bearer(token);
        let client = client.build().unwrap();
        let stream = stream_by(client, "GET", url, &[(name.as_str(), value.as_str())], b"");
        assert_eq!(stream.head.status, 200);
        stream
    }

    fn encrypted_socket(&self, request: ClientRequestBuilder) -> Socket {
        let client = self.authority.client(&["http/1.1"]);
        let stream = connect(&client, address(&self.hub), NAME).unwrap();
        Socket::over(Box::new(stream), request)
    }

    /// Where others see who subscribes: how many there are.
    fn listed(&self) -> usize {
        let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
        let list = self.hub.get(LIST, &[(name.as_str(), value.as_str())]).expect(200).json();
        list["subscriptions"].as_array().unwrap().len()
    }

    /// An endpoint that reads by this token.
    fn endpoint(&self, name: &str, url: &str, token: &str) {
        let endpoint = json!({
            "kind": "webhook", "name": name, "topics": [TOPIC], "url": url, "token": token,
        });
        sinks::ask(&self.hub, "POST", "", &endpoint).expect(201);
    }

    fn publish(&self, data: &str) {
        self.hub.publish(&[("topic", TOPIC), ("data", data), ("private", "on")]);
    }
}

/// Everything that somebody can open with a token.
struct Opened {
    streams: Vec<EventStream>,
    sockets: Vec<Socket>,
}

impl Opened {
    fn by(setup: &Setup, token: &str) -> Opened {
        let hub = &setup.hub;
        let query = format!("match={}", encode(TOPIC));
        let ticket = ticket(hub, token, TOPIC);
        let mut by_ticket = hub.stream(&format!("{HUB}?ticket={ticket}"), &[]);
        by_ticket.until_open();
        let streams =
            vec![hub.subscribe_with(token, &query, &[]), setup.shared_stream(token), by_ticket];
        let (name, value) = bearer(token);
        let mut later = Socket::open(hub);
        later.say(&json!({ "op": "authenticate", "ref": 1, "token": token }));
        later.expect("authenticated");
        let mut sockets = vec![
            Socket::open_with(hub, token),
            Socket::over(plain(hub), request(PATH).with_sub_protocol(format!("bearer.{token}"))),
            setup.encrypted_socket(request(PATH).with_header(name, value)),
            later,
        ];
        for socket in &mut sockets {
            socket.subscribe("x", &[TOPIC], &json!("now"));
        }
        Opened { streams, sockets }
    }

    fn count(&self) -> usize {
        self.streams.len() + self.sockets.len()
    }

    #[track_caller]
    fn hear(&mut self, data: &str) {
        for stream in &mut self.streams {
            assert_eq!(stream.event().data, data);
        }
        for socket in &mut self.sockets {
            socket.expect_data(data);
        }
    }

    /// Each has ended, and brought nothing before.
    #[track_caller]
    fn end(&mut self) {
        for stream in &mut self.streams {
            assert!(stream.until_end().0.is_empty());
        }
        for socket in &mut self.sockets {
            let (said, code) = socket.until_end();
            assert_eq!((code, said.len()), (Some(1008), 1), "{said:?}");
            assert_eq!(said[0]["code"], "revoked", "{said:?}");
        }
    }
}

/// Waits until it is so.
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Takes the key `shop` back, or the tokens that were made by it. Answers how many ended.
fn by_key(hub: &TestHub, _: &str) -> u64 {
    let answer = ask(hub, "DELETE", "/tidings/admin/keys/shop", &Value::Null).expect(200);
    answer.json()["ended"].as_u64().unwrap()
}

fn by_client(hub: &TestHub, key: &str) -> u64 {
    let what = json!({ "client": &key[3..19] });
    let answer = ask(hub, "POST", "/tidings/admin/revocations", &what).expect(201);
    answer.json()["ended"].as_u64().unwrap()
}

#[track_caller]
fn all_ends_within_a_second(revoke: fn(&TestHub, &str) -> u64) {
    let setup = Setup::new();
    let hub = &setup.hub;
    let [shop, other] = ["shop", "other"].map(|name| key(hub, name, &["*"]));
    let (fallen, kept) = (token(hub, &shop), token(hub, &other));
    let (mut ends, mut stays) = (Opened::by(&setup, &fallen), Opened::by(&setup, &kept));
    let receiver = Receiver::start();
    setup.endpoint("ends", &receiver.url("/ends"), &fallen);
    setup.endpoint("stays", &receiver.url("/stays"), &kept);
    let unused = ticket(hub, &fallen, TOPIC);
    setup.publish("before");
    ends.hear("before");
    stays.hear("before");
    receiver.wait_for_body("/ends", "before");
    assert_eq!(setup.listed(), ends.count() + stays.count());

    let ended = revoke(hub, &shop);
    let begun = Instant::now();
    ends.end();
    wait_until(|| setup.listed() == stays.count());
    wait_until(|| state(hub, "ends") == "disabled");
    assert!(begun.elapsed() < PROMISED, "{:?}", begun.elapsed());
    // The endpoint counts as well.
    assert_eq!(ended, ends.count() as u64 + 1);

    setup.publish("behind");
    stays.hear("behind");
    receiver.wait_for_body("/stays", "behind");
    assert_eq!(receiver.bodies_at("/ends"), ["before"]);
    hub.get(&format!("{HUB}?ticket={unused}"), &[]).expect(401);
    let (name, value) = bearer(&fallen);
    hub.get(&format!("{HUB}?match=*"), &[(&name, &value)]).expect(401);
    assert_eq!(refused(hub, request(PATH).with_header(name, value)), 401);
    let mut socket = Socket::open(hub);
    socket.say(&json!({ "op": "authenticate", "ref": 1, "token": fallen }));
    socket.expect_error("bad_token");
    assert_eq!(state(hub, "stays"), "running");
    exchange(hub, &other, &json!({})).expect(200);
}

#[test]
fn everything_that_a_revoked_key_has_opened_ends_within_a_second_on_every_protocol() {
    all_ends_within_a_second(by_key);
}

#[test]
fn everything_that_tokens_of_a_revoked_client_have_opened_ends_within_a_second_as_well() {
    all_ends_within_a_second(by_client);
}

#[test]
fn who_does_not_read_is_ended_by_a_revoked_key_as_well() {
    let setup = Setup::new();
    let hub = &setup.hub;
    let shop = key(hub, "shop", &["*"]);
    let token = token(hub, &shop);
    let mut stream = hub.subscribe_with(&token, &format!("match={}", encode(TOPIC)), &[]);
    let mut socket = Socket::open_with(hub, &token);
    socket.subscribe("x", &[TOPIC], &json!("now"));
    // More than systems hold for them.
    let long = "x".repeat(500_000);
    for number in 0..30 {
        setup.publish(&format!("{number} {long}"));
    }
    by_key(hub, &shop);
    let begun = Instant::now();
    for metric in ["tidings_subscribers", "tidings_sockets"] {
        wait_until(|| hub.metric(metric) == 0);
    }
    assert!(begun.elapsed() < PROMISED, "{:?}", begun.elapsed());
    // What had left before is all that comes.
    let mut heard = 0;
    while stream.next_within(PATIENCE).is_some() {
        heard += 1;
    }
    assert!(heard < 30, "{heard}");
}

/// A key's topics may be those of one audience: a bridge, which ends like everything else.
#[test]
fn a_revoked_key_that_reads_an_audience_reads_no_more_of_it() {
    let secret = "the secret of an application, long enough";
    let hub = TestHub::start(&format!("{ADMIN}\n[courier]\njwt_secret = \"{secret}\"\n"));
    let application = crate::courier::Application::new(&hub, "one");
    let made = application.post("/v1/audience", "").expect(200).json();
    let topic = format!("urn:tidings:audience:{}:a", made["data"]["id"].as_str().unwrap());
    let shop = key(&hub, "shop", &[&topic]);
    let token = token(&hub, &shop);
    let mut stream = hub.subscribe_with(&token, &format!("match={}", encode(&topic)), &[]);
    let mut socket = Socket::open_with(&hub, &token);
    socket.subscribe("x", &[&topic], &json!("now"));
    let mut client = application.connect("");
    client.subscribe("a");
    client.publish("a", "1");
    client.expect("1");
    assert_eq!(stream.event().data, "1");
    socket.expect_data("1");
    by_key(&hub, &shop);
    let begun = Instant::now();
    assert!(stream.until_end().0.is_empty());
    assert_eq!(socket.until_end().1, Some(1008));
    assert!(begun.elapsed() < PROMISED, "{:?}", begun.elapsed());
    // Those of the audience itself hold no key.
    client.publish("a", "2");
    client.expect("2");
}
