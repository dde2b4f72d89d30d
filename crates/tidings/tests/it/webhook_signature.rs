//! Signatures as Standard Webhooks demands them, judged by a library of others; and the forms of
//! the body.

use std::io::Write;
use std::process::{Command, Stdio};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::hub::{Launch, TestHub, configuration};
use crate::python::python;
use crate::receiver::{Received, Receiver, Reply};
use crate::sinks::{CACHE, QUICK, publish, webhook};
use crate::tokens::{PUBLIC_URL, now};

/// The library that judges, from PyPI.
const LIBRARY: &str = "standardwebhooks==1.1.0";
/// Verifies what comes on its standard input and says of each element what came of it.
const VERIFIER: &str = "
import base64, json, sys
from standardwebhooks.webhooks import Webhook
for one in json.load(sys.stdin):
    try:
        body = base64.b64decode(one['body'])
        Webhook(one['secret']).verify(body, one['headers'], json_parse=False)
        print('verified')
    except Exception as error:
        print(type(error).__name__)
";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLDER: &str = "whsec_b2xkZXItc2VjcmV0LW9mLXRoZS10ZXN0cw==";

/// What the library says of each request with this secret.
pub(crate) fn judged(requests: &[Received], secret: &str) -> Vec<String> {
    let all: Vec<Value> = requests
        .iter()
        .map(|request| {
            let headers: serde_json::Map<String, Value> =
                request.headers.iter().map(|(name, v)| (name.clone(), json!(v))).collect();
            let body = STANDARD.encode(&request.body);
            json!({ "secret": secret, "headers": headers, "body": body })
        })
        .collect();
    let mut command = Command::new(python("standard-webhooks", "standardwebhooks", LIBRARY));
    command.args(["-c", VERIFIER]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let text = Value::from(all).to_string();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_verified(requests: &[Received], secret: &str) {
    let found = judged(requests, secret);
    assert_eq!(found, vec!["verified"; requests.len()]);
}

#[test]
fn the_judge_of_signatures_accepts_what_is_right_and_refuses_the_rest() {
    // The example of the specification, signed here by the hand of its own library of digests.
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let known = aws_lc_rs::hmac::sign(
        &key,
        b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}",
    );
    let known = STANDARD.encode(known.as_ref());
    assert_eq!(known, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let time = now().to_string();
    let good = aws_lc_rs::hmac::sign(&key, format!("id.{time}.body").as_bytes());
    let good = format!("v1a,AAAA v1,{}", STANDARD.encode(good.as_ref()));
    let request = |body: &str, id: &str, signature: &str| {
        let receiver = Receiver::start();
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature),
        ];
        let bytes = crate::http::request("POST", "/", &headers, body.as_bytes());
        let mut connection = crate::http::Connection::open(receiver.address);
        connection.send(&bytes);
        receiver.wait_for(1).remove(0)
    };
    let requests = [
        request("body", "id", &good),
        request("other", "id", &good),
        request("body", "other", &good),
        request("body", "id", "v1,AAAA"),
    ];
    let refused = "WebhookVerificationError";
    assert_eq!(judged(&requests, SECRET), ["verified", refused, refused, refused]);
    assert_eq!(judged(&requests[..1], OLDER), [refused]);
}

#[test]
fn standard_webhooks_accepts_what_we_sign() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let private = [&[7; 32], pair.public_key().as_ref()].concat();
    let private = format!("whsk_{}", STANDARD.encode(private));
    let receiver = Receiver::with(|request| match request.body.as_slice() {
        b"again" if request.seen < 2 => Reply::status(503),
        _ => Reply::status(200),
    });
    let both = format!("secrets = [\"{SECRET}\", \"{private}\"]\n{QUICK}");
    let hub = TestHub::start(&webhook("signed", &receiver.url("/"), CACHE, &both));
    for data in ["{\"test\": 2432232314}", "", "ä\u{1f600}\r\n", "again"] {
        publish(&hub, "cms.cache.1", data);
    }
    let received = receiver.wait_for(6);
    assert_verified(&received, SECRET);
    let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    for request in &received {
        let signatures = request.header("webhook-signature").unwrap();
        let words: Vec<&str> = signatures.split(' ').collect();
        assert_eq!(words.len(), 2, "{signatures}");
        let asymmetric = words.iter().find_map(|word| word.strip_prefix("v1a,")).unwrap();
        let (id, time) =
            (request.header("webhook-id").unwrap(), request.header("webhook-timestamp").unwrap());
        let signed = [format!("{id}.{time}.").as_bytes(), &request.body].concat();
        let signature = STANDARD.decode(asymmetric).unwrap();
        public.verify(&signed, &signature).expect("a signature over id, time and body");
    }
    for secret in [SECRET.trim_start_matches("whsec_"), &private] {
        assert!(!hub.log().contains(secret), "{}", hub.log());
    }
}

#[test]
fn rotation_loses_no_verification() {
    let receiver = Receiver::start();
    let toml = |secrets: &[&str]| {
        let more = format!("secrets = {secrets:?}\n{QUICK}");
        webhook("rotated", &receiver.url("/"), CACHE, &more)
    };
    let hub = TestHub::start(&toml(&[OLDER]));
    let reload = |secrets: &[&str], times: usize| {
        let folder = hub.config().parent().unwrap().to_owned();
        let text = configuration(&folder, &Launch::toml(&toml(secrets)));
        std::fs::write(hub.config(), text).unwrap();
        hub.signal("HUP");
        let deadline = std::time::Instant::now() + crate::http::PATIENCE;
        while hub.log().matches("configuration reloaded").count() < times {
            assert!(std::time::Instant::now() < deadline, "{}", hub.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    publish(&hub, "cms.cache.1", "by the older one");
    receiver.wait_for(1);
    reload(&[SECRET, OLDER], 1);
    publish(&hub, "cms.cache.1", "by both");
    receiver.wait_for(2);
    reload(&[SECRET], 2);
    publish(&hub, "cms.cache.1", "by the newer one");
    let received = receiver.wait_for(3);
    let refused = "WebhookVerificationError";
    assert_eq!(judged(&received, OLDER), ["verified", "verified", refused]);
    assert_eq!(judged(&received, SECRET), [refused, "verified", "verified"]);
    assert_eq!(receiver.bodies(), ["by the older one", "by both", "by the newer one"]);
}

#[test]
fn an_envelope_says_what_the_update_is() {
    let receiver = Receiver::start();
    let more = format!("body = \"envelope\"\nsecrets = [\"{SECRET}\"]\n{QUICK}");
    let hub = TestHub::start(&webhook("envelope", &receiver.url("/"), CACHE, &more));
    hub.publish(&[("topic", "cms.cache.ä"), ("data", "{\"a\": \"ä\"}"), ("type", "changed")]);
    let received = receiver.wait_for(1);
    assert_verified(&received, SECRET);
    let (request, found) = (&received[0], received[0].json());
    assert_eq!(request.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(found["id"], json!(request.header("webhook-id").unwrap()));
    assert_eq!(found["topic"], json!("cms.cache.ä"));
    assert_eq!(found["type"], json!("changed"));
    assert_eq!(found["data"], json!("{\"a\": \"ä\"}"));
    assert!(found["time"].as_str().unwrap().ends_with('Z'), "{found}");
}

#[test]
fn cloud_events_are_as_specified() {
    let receiver = Receiver::start();
    let form = |name: &str, body: &str| {
        let more = format!("body = \"{body}\"\n{QUICK}");
        webhook(name, &receiver.url(&format!("/{name}")), CACHE, &more)
    };
    let toml = form("binary", "cloudevents") + &form("structured", "cloudevents-structured");
    let hub = TestHub::start(&toml);
    hub.publish(&[("topic", "cms.cache.ä\"1\""), ("data", "{\"a\": 1}"), ("type", "changed")]);
    publish(&hub, "cms.cache.2", "text");
    for data in ["{\"a\": 1}", "text"] {
        receiver.wait_for_body("/binary", data);
    }
    let binary = receiver.at("/binary");
    let of = |number: usize, name: &str| binary[number].header(name);
    assert_eq!(of(0, "ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(of(0, "ce-id"), of(0, "webhook-id"));
    assert!(of(0, "ce-source").unwrap().starts_with(PUBLIC_URL));
    assert_eq!(of(0, "ce-type").as_deref(), Some("changed"));
    assert_eq!(of(1, "ce-type").as_deref(), Some("tidings.update"));
    // Quotes and everything beyond ASCII are percent-encoded in headers.
    assert_eq!(of(0, "ce-subject").as_deref(), Some("cms.cache.%C3%A4%221%22"));
    let time = of(0, "ce-time").unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");

    let all = receiver.wait_within(crate::http::PATIENCE, |all| {
        all.iter().filter(|one| one.target == "/structured").count() == 2
    });
    let structured: Vec<&Received> = all.iter().filter(|r| r.target == "/structured").collect();
    let kind = structured[0].header("content-type").unwrap();
    assert!(kind.starts_with("application/cloudevents+json"), "{kind}");
    let event = structured[0].json();
    assert_eq!(event["specversion"], json!("1.0"));
    assert_eq!(event["id"], json!(structured[0].header("webhook-id").unwrap()));
    assert_eq!(event["type"], json!("changed"));
    assert_eq!(event["subject"], json!("cms.cache.ä\"1\""));
    assert!(event["source"].as_str().unwrap().starts_with(PUBLIC_URL));
    for attribute in event.as_object().unwrap().keys() {
        let is_name = attribute.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(is_name || attribute == "data_base64", "{attribute}");
    }
    assert_eq!(structured[1].json()["data"], json!("text"));
}
