//! Key sets of issuers: rotated, broken, slow, far too large; by address, in a file, found by
//! metadata.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::encrypted::Authority;
use crate::hub::{Launch, TestHub, configuration};
use crate::silent_readers::{flood, silent};
use crate::tokens::{Role, claims_final, detail, mint};

const TOPIC: &str = "https://keys.example/";
const ID: &str = "https://set.example";
/// Longer than the hub rests between two reads that tokens ask for.
const RESTED: Duration = Duration::from_secs(20);

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../../tidings-frontends/tests-data/", $name, ".pem"))
    };
}

/// A key pair of an issuer.
#[derive(Clone, Copy, PartialEq)]
enum Pair {
    Ed,
    Ec,
}

impl Pair {
    fn jwk(self) -> Value {
        let der = |pem: &str| {
            let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
            STANDARD.decode(body).unwrap()
        };
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Pair::Ed => {
                let der = der(pem!("ed25519.public"));
                let x = encode(&der[der.len() - 32..]);
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": x })
            }
            Pair::Ec => {
                let der = der(pem!("p256.public"));
                let (x, y) = der[der.len() - 64..].split_at(32);
                let (x, y) = (encode(x), encode(y));
                json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": x, "y": y })
            }
        }
    }

    fn token_named(self, kid: &str, issuer: &str, role: Role) -> String {
        let mut claims = claims_final(json!([detail(role, &["*"])]));
        claims["iss"] = json!(issuer);
        self.sign(kid, &claims)
    }

    fn sign(self, kid: &str, claims: &Value) -> String {
        let (name, algorithm, key) = match self {
            Pair::Ed => {
                let key = EncodingKey::from_ed_pem(pem!("ed25519.private").as_bytes());
                ("EdDSA", Algorithm::EdDSA, key)
            }
            Pair::Ec => {
                let key = EncodingKey::from_ec_pem(pem!("p256.private").as_bytes());
                ("ES256", Algorithm::ES256, key)
            }
        };
        let header = json!({ "alg": name, "typ": "at+jwt", "kid": kid });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key.unwrap(), algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    fn token(self, role: Role) -> String {
        self.token_named(if self == Pair::Ed { "ed" } else { "ec" }, ID, role)
    }
}

fn set(pairs: &[Pair]) -> String {
    let mut keys: Vec<Value> = pairs.iter().map(|pair| pair.jwk()).collect();
    // What issuers publish beside: for other purposes, of kinds to come, broken.
    keys.push(json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }));
    keys.push(json!({ "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" }));
    keys.push(json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("k".repeat(32)), "kid": "ed" }));
    keys.push(json!("nonsense"));
    json!({ "keys": keys }).to_string()
}

/// What an issuer's server does.
#[derive(Clone)]
enum Mood {
    Answers(u16, String),
    Hangs,
    /// A gigabyte.
    Floods,
    /// By path; anything else is 404.
    Paths(Vec<(String, String)>),
}

struct Issuer {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn start(mood: Mood) -> Issuer {
        Issuer::start_with(mood, None)
    }

    /// Over TLS when there is something to show.
    fn start_with(mood: Mood, shown_certificate: Option<Arc<ServerConfig>>) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicUsize::new(0)));
        let (shown, counted) = (Arc::clone(&mood), Arc::clone(&asked));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (shown, counted) = (Arc::clone(&shown), Arc::clone(&counted));
                let certificate = shown_certificate.clone();
                std::thread::spawn(move || match certificate {
                    None => serve(socket, &shown, &counted),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(connection, socket), &shown, &counted);
                    }
                });
            }
        });
        Issuer { address, mood, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn hub(&self) -> TestHub {
        TestHub::start(&settings(&format!("{}/keys?tenant=hush", self.url())))
    }
}

fn serve(mut socket: impl Read + Write, mood: &Mutex<Mood>, asked: &AtomicUsize) {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(&mut piece) {
            Ok(length) if length > 0 => head.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let mood = mood.lock().unwrap().clone();
    let (status, body) = match mood {
        Mood::Answers(status, body) => (status, body),
        Mood::Paths(paths) => match paths.into_iter().find(|(known, _)| known == path) {
            Some((_, body)) => (200, body),
            None => (404, String::new()),
        },
        Mood::Hangs => {
            // Until the hub gives up.
            let _ = socket.read(&mut piece);
            return;
        }
        Mood::Floods => {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
            let piece = vec![b' '; 64 * 1024];
            while socket.write_all(&piece).is_ok() {}
            return;
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Mood\r\nContent-Length: {length}\r\nLocation: /elsewhere\r\n\
         Connection: close\r\n\r\n"
    );
    let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body.as_bytes()));
    let _ = socket.flush();
}

fn settings(address: &str) -> String {
    format!(
        "[[auth.issuer]]\nid = \"{ID}\"\npublish = {{ jwks = \"{address}\" }}\n\
         subscribe = {{ jwks = \"{address}\" }}"
    )
}

fn publish(hub: &TestHub, token: &str) -> u16 {
    hub.publish_with(token, &[("topic", TOPIC), ("data", "x")]).status
}

/// Publishes until it is let in or not, as wanted; a rest of the reader is in between.
#[track_caller]
fn publish_until(hub: &TestHub, token: &str, status: u16) {
    let begun = Instant::now();
    while publish(hub, token) != status {
        assert!(begun.elapsed() < RESTED, "never {status}:\n{}", hub.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn m46_tokens_are_verified_by_the_keys_that_the_issuer_publishes_and_by_no_other() {
    let issuer = Issuer::start(Mood::Answers(200, set(&[Pair::Ed])));
    let hub = issuer.hub();
    // The set may still be on its way: the first request waits for it.
    assert_eq!(publish(&hub, &Pair::Ed.token(Role::Publish)), 200);
    assert_eq!(publish(&hub, &Pair::Ec.token(Role::Publish)), 401);
    // A key of a set is never a secret, whatever it calls itself.
    let mut claims = claims_final(json!([detail(Role::Publish, &["*"])]));
    claims["iss"] = json!(ID);
    let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": "ed" });
    assert_eq!(publish(&hub, &mint(&header, &claims, &"k".repeat(32))), 401);
    // A name is a hint.
    assert_eq!(publish(&hub, &Pair::Ed.token_named("ec", ID, Role::Publish)), 200);
    let log = hub.log();
    assert!(log.contains("a key set is in use") && log.contains("is left out"), "{log}");
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn m46_a_rotation_is_learned_from_a_token_and_drops_no_connection() {
    let issuer = Issuer::start(Mood::Answers(200, set(&[Pair::Ed])));
    let hub = issuer.hub();
    let (old, new) = (Pair::Ed.token(Role::Publish), Pair::Ec.token(Role::Publish));
    assert_eq!(publish(&hub, &old), 200);
    let mut stream = hub.subscribe_with(&Pair::Ed.token(Role::Subscribe), "match=*", &[]);
    issuer.turns(Mood::Answers(200, set(&[Pair::Ec])));
    publish_until(&hub, &new, 200);
    assert_eq!(stream.data(1), ["x"], "the stream goes on");
    assert_eq!(publish(&hub, &old), 401, "also when it was remembered");
    assert_eq!(issuer.asked(), 2);
}

#[test]
fn names_of_keys_that_do_not_exist_cost_the_issuer_one_request_at_a_time() {
    let issuer = Issuer::start(Mood::Answers(200, set(&[Pair::Ed])));
    let hub = issuer.hub();
    assert_eq!(publish(&hub, &Pair::Ed.token(Role::Publish)), 200);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let hub = &hub;
            scope.spawn(move || {
                for number in 0..25 {
                    let kid = format!("{thread}-{number}");
                    let token = Pair::Ec.token_named(&kid, ID, Role::Publish);
                    assert_eq!(publish(hub, &token), 401);
                }
            });
        }
    });
    let rests = begun.elapsed().as_secs() as usize / 5;
    assert!(issuer.asked() <= 2 + rests, "{} in {rests} rests", issuer.asked());
}

#[test]
fn keys_from_before_stay_whatever_comes_instead_of_a_set() {
    let issuer = Issuer::start(Mood::Answers(200, set(&[Pair::Ed])));
    let hub = issuer.hub();
    let token = Pair::Ed.token(Role::Publish);
    assert_eq!(publish(&hub, &token), 200);
    let flawed = [
        (Mood::Answers(500, set(&[Pair::Ec])), "the answer is 500"),
        (Mood::Answers(302, String::new()), "the answer is 302"),
        (Mood::Answers(200, "<html>Sign in</html>".to_owned()), "this is not JSON"),
        (Mood::Answers(200, "{}".to_owned()), "this is no key set"),
        (Mood::Answers(200, set(&[])), "no key in it verifies signatures"),
        (Mood::Floods, "larger than 1048576 bytes"),
        (Mood::Hangs, "not there within 10 s"),
    ];
    for (mood, said) in flawed {
        issuer.turns(mood);
        // The operator asks at once, whatever rests.
        hub.signal("HUP");
        let line = hub.wait_for_log(said);
        assert!(line.contains("the keys from before stay in use") && line.contains(ID), "{line}");
        assert_eq!(publish(&hub, &token), 200);
    }
    issuer.turns(Mood::Answers(200, set(&[Pair::Ec])));
    publish_until(&hub, &Pair::Ec.token(Role::Publish), 200);
    assert_eq!(publish(&hub, &token), 401);
    assert!(hub.metric("tidings_key_sets_read_total{outcome=\"failed\"}") >= 7);
    assert_eq!(hub.metric("tidings_key_sets_missing"), 0);
}

#[test]
fn a_hub_starts_without_its_key_sets_and_takes_them_when_they_come() {
    let issuer = Issuer::start(Mood::Answers(503, String::new()));
    let hub = issuer.hub();
    let token = Pair::Ed.token(Role::Publish);
    assert_eq!(publish(&hub, &token), 401);
    hub.wait_for_log("tokens of this issuer are refused until it can");
    hub.wait_for_log("could not be read yet");
    hub.get("/healthz", &[]).expect(200);
    issuer.turns(Mood::Answers(200, set(&[Pair::Ed])));
    publish_until(&hub, &token, 200);
    hub.wait_for_log("the key set can be read again");
}

#[test]
fn a_set_in_a_file_is_read_again_at_a_reload_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&[Pair::Ed])).unwrap();
    let hub = TestHub::start(&settings(&format!("file://{}", file.display())));
    let (old, new) = (Pair::Ed.token(Role::Publish), Pair::Ec.token(Role::Publish));
    assert_eq!(publish(&hub, &old), 200);
    std::fs::write(&file, "<html>").unwrap();
    hub.signal("HUP");
    hub.wait_for_log("nothing has changed");
    assert_eq!(publish(&hub, &old), 200);
    std::fs::write(&file, set(&[Pair::Ec])).unwrap();
    hub.signal("HUP");
    publish_until(&hub, &new, 200);
    assert_eq!(publish(&hub, &old), 401);
    std::fs::remove_file(&file).unwrap();
    let log = TestHub::try_launch(Launch::toml(&settings(&format!("file://{}", file.display()))));
    let log = log.err().expect("no hub without its file");
    assert!(log.contains("cannot read") && log.contains("keys.json"), "{log}");
}

#[test]
fn m46_metadata_says_where_the_keys_are_and_is_believed_for_its_own_issuer_only() {
    let issuer = Issuer::start(Mood::Paths(Vec::new()));
    let id = issuer.url();
    let document =
        |names: &str| json!({ "issuer": names, "jwks_uri": format!("{id}/the-keys") }).to_string();
    let paths = |place: &str, names: &str| {
        Mood::Paths(vec![
            (format!("/.well-known/{place}"), document(names)),
            ("/the-keys".to_owned(), set(&[Pair::Ed])),
        ])
    };
    let toml = format!("[[auth.issuer]]\nid = \"{id}\"\ndiscover = true");
    for place in ["oauth-authorization-server", "openid-configuration"] {
        issuer.turns(paths(place, &id));
        let hub = TestHub::start(&toml);
        assert_eq!(publish(&hub, &Pair::Ed.token_named("ed", &id, Role::Publish)), 200);
    }
    issuer.turns(paths("oauth-authorization-server", "https://other.example"));
    let hub = TestHub::start(&toml);
    hub.wait_for_log("the issuer's metadata is another issuer's");
    assert_eq!(publish(&hub, &Pair::Ed.token_named("ed", &id, Role::Publish)), 401);
}

#[test]
fn a_set_that_cannot_be_read_hides_no_rotation_of_another_one() {
    let (hanging, issuer) = (Issuer::start(Mood::Hangs), Issuer::start(Mood::Hangs));
    issuer.turns(Mood::Answers(200, set(&[Pair::Ed])));
    let of = |id: &str, issuer: &Issuer| {
        let keys = format!("publish = {{ jwks = \"{}/keys\" }}", issuer.url());
        format!("[[auth.issuer]]\nid = \"https://{id}\"\naccept = [\"0.x\"]\n{keys}\n")
    };
    let hub = TestHub::start(&(of("a.example", &hanging) + &of("b.example", &issuer)));
    // A token of 0.x need not say whose it is.
    let claims = json!({ "mercure": { "publish": ["*"] } });
    publish_until(&hub, &Pair::Ed.sign("ed", &claims), 200);
    issuer.turns(Mood::Answers(200, set(&[Pair::Ec])));
    publish_until(&hub, &Pair::Ec.sign("ec", &claims), 200);
    assert!(hanging.asked() >= 1);
}

#[test]
fn m46_sets_and_metadata_come_over_tls_from_who_has_a_certificate_for_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, authority.root()).unwrap();
    let trusting = |toml: &str| {
        let trusted = ("SSL_CERT_FILE".to_owned(), root.display().to_string());
        TestHub::launch(Launch { environment: vec![trusted], ..Launch::toml(toml) })
    };
    let start = |names: &[&str]| {
        let issuer = Issuer::start_with(Mood::Hangs, Some(authority.server(names)));
        let id = format!("https://localhost:{}", issuer.address.port());
        let found = json!({ "issuer": id, "jwks_uri": format!("{id}/the-keys") });
        issuer.turns(Mood::Paths(vec![
            ("/.well-known/oauth-authorization-server".to_owned(), found.to_string()),
            ("/the-keys".to_owned(), set(&[Pair::Ed])),
        ]));
        (issuer, id)
    };
    let (_issuer, id) = start(&["localhost"]);
    let token = Pair::Ed.token_named("ed", &id, Role::Publish);
    let found = format!("[[auth.issuer]]\nid = \"{id}\"\ndiscover = true");
    assert_eq!(publish(&trusting(&found), &token), 200);
    let told = settings(&format!("{id}/the-keys"));
    assert_eq!(publish(&trusting(&told), &Pair::Ed.token(Role::Publish)), 200);

    // Nobody vouches for it, or it is somebody else.
    let (_other, other) = start(&["elsewhere.example"]);
    for hub in [TestHub::start(&told), trusting(&settings(&format!("{other}/the-keys")))] {
        hub.wait_for_log("tokens of this issuer are refused until it can");
        assert!(hub.log().contains("certificate"), "{}", hub.log());
        assert_eq!(publish(&hub, &Pair::Ed.token(Role::Publish)), 401);
    }
}

#[test]
fn an_issuer_that_leaves_the_configuration_takes_its_connections_with_it() {
    let issuer = Issuer::start(Mood::Answers(200, set(&[Pair::Ed])));
    let own = "id = \"https://issuer.example\"\npublish.key = \
               \"publish-secret-of-the-tests-0123456789abcdef\"\nsubscribe.key = \
               \"subscribe-secret-of-the-tests-0123456789abcdef\"\n";
    let both = format!("{}\n[[auth.issuer]]\n{own}", settings(&format!("{}/keys", issuer.url())));
    let hub = TestHub::start(&both);
    let mut leaving = hub.subscribe_with(&Pair::Ed.token(Role::Subscribe), "match=*", &[]);
    let mut staying = hub.subscribe("match=staying");
    let silent = silent(&hub, &Pair::Ed.token(Role::Subscribe));
    flood(&hub);
    let folder = hub.config().parent().unwrap().to_owned();
    let launch = Launch::toml(&format!("[[auth.issuer]]\n{own}"));
    std::fs::write(hub.config(), configuration(&folder, &launch)).unwrap();
    hub.signal("HUP");
    hub.wait_for_log("subscriptions ended: their issuer or key is not configured");
    let reloaded = Instant::now();
    let (events, _) = leaving.until_end();
    hub.wait_for_metric("tidings_subscribers", 1);
    let took = reloaded.elapsed();
    assert!(!events.is_empty() && took < Duration::from_secs(2), "{} {took:?}", events.len());
    drop(silent);
    hub.publish(&[("topic", "staying"), ("data", "on")]);
    assert_eq!(staying.data(1), ["on"]);
    assert_eq!(publish(&hub, &Pair::Ed.token(Role::Publish)), 401);
}
