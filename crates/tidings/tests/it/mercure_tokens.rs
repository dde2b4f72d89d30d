//! Who is believed: sections "Authorization" of the Mercure protocol, 1.0, RFC 9068, and every
//! attack of RFC 8725, against a running hub. Each bad token is tried by a publisher and by a
//! subscriber; after all of them nothing was stored or delivered.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::http::{Connection, PATIENCE, exchange_http2, request};
use crate::hub::{HUB, TestHub};
use crate::mercure::{
    MEMORY, Witness, expect_challenge, expect_unauthorized, refused_get, refused_get_without,
    with_token,
};
use crate::tokens::{
    self, HUB_URL, ISSUER, PUBLISH_KEY, Role, SUBSCRIBE_KEY, bearer, claims_final, detail, mint,
    mint_text, now, token_draft, token_final,
};

const TOPIC: &str = "https://tokens.example/1";
const ROLES: [Role; 2] = [Role::Publish, Role::Subscribe];

const RSA_PRIVATE: &str = include_str!("../../../tidings-frontends/tests-data/rsa2048.private.pem");
const RSA_PUBLIC: &str = include_str!("../../../tidings-frontends/tests-data/rsa2048.public.pem");
const P256_PRIVATE: &str = include_str!("../../../tidings-frontends/tests-data/p256.private.pem");
const P256_PUBLIC: &str = include_str!("../../../tidings-frontends/tests-data/p256.public.pem");
const ED_PRIVATE: &str = include_str!("../../../tidings-frontends/tests-data/ed25519.private.pem");
const ED_PUBLIC: &str = include_str!("../../../tidings-frontends/tests-data/ed25519.public.pem");

fn header() -> Value {
    json!({ "alg": "HS256", "typ": "at+jwt" })
}

/// Makes a token for a role.
type Mint = Box<dyn Fn(Role) -> String>;

/// Claims that grant both roles everything.
fn claims() -> Value {
    claims_final(json!([detail(Role::Publish, &["*"]), detail(Role::Subscribe, &["*"])]))
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// A token with this signature.
fn compact(header: &str, claims: &str, signature: &[u8]) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(signature))
}

/// A token signed with a private key.
fn mint_with(header: &Value, claims: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// Whether the hub takes a token in a role, with its refusal checked.
#[track_caller]
fn check(hub: &TestHub, role: Role, token: &str, good: bool, case: &str) {
    let case = format!("{case}, {}", role.action());
    match (role, good) {
        (Role::Publish, true) => {
            let reply = hub.publish_with(token, &[("topic", TOPIC), ("data", &case)]);
            assert_eq!(reply.status, 200, "{case}: {reply:?}");
        }
        (Role::Publish, false) => {
            let reply = hub.publish_with(token, &[("topic", TOPIC), ("data", &case)]);
            expect_challenge(&reply, 401, Some("invalid_token"), &case);
        }
        (Role::Subscribe, true) => {
            let reply = refused_get(hub, token, "match=*");
            assert_eq!(reply.status, 200, "{case}: {reply:?}");
        }
        (Role::Subscribe, false) => {
            let reply = refused_get(hub, token, "match=*");
            expect_challenge(&reply, 401, Some("invalid_token"), &case);
        }
    }
}

/// Tokens that the hub must not take, made for each role by its own key.
#[track_caller]
fn all_refused(hub: &TestHub, cases: &[(&str, &dyn Fn(Role) -> String)]) {
    let mut witness = Witness::new(hub);
    for (case, token) in cases {
        for role in ROLES {
            check(hub, role, &token(role), false, case);
        }
    }
    witness.expect_nothing(hub);
}

#[test]
fn m44_typ_must_be_that_of_an_access_token() {
    let hub = TestHub::start(MEMORY);
    for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        for role in ROLES {
            let token = mint(&with(header(), "typ", json!(kind)), &claims(), role.key());
            check(&hub, role, &token, true, kind);
        }
    }
    for kind in [
        json!("JWT"),
        json!("jwt"),
        json!(""),
        json!("at+jwt "),
        json!("at+jwt;v=1"),
        json!("application/jwt"),
        json!("text/at+jwt"),
        json!("id_token"),
        json!(["at+jwt"]),
        json!(null),
        json!(1),
    ] {
        let case = kind.to_string();
        let token = |role: Role| mint(&with(header(), "typ", kind.clone()), &claims(), role.key());
        for role in ROLES {
            check(&hub, role, &token(role), false, &case);
        }
    }
    let token = |role: Role| mint(&without(header(), "typ"), &claims(), role.key());
    for role in ROLES {
        check(&hub, role, &token(role), false, "without typ");
    }
}

#[test]
fn m44_only_three_parts_of_base64url_are_a_token() {
    let hub = TestHub::start(MEMORY);
    let good = |role: Role| mint(&header(), &claims(), role.key());
    let parts = |role: Role| -> Vec<String> { good(role).split('.').map(str::to_owned).collect() };
    all_refused(
        &hub,
        &[
            ("one part", &|role| parts(role)[0].clone()),
            ("two parts", &|role| parts(role)[..2].join(".")),
            ("four parts", &|role| format!("{}.x", good(role))),
            ("five parts, as a JWE", &|role| format!("{}.x.y", good(role))),
            ("an empty signature", &|role| format!("{}.", parts(role)[..2].join("."))),
            ("an empty header", &|role| format!(".{}", parts(role)[1..].join("."))),
            ("padding", &|role| format!("{}=", good(role))),
            ("a standard alphabet", &|role| good(role).replace(['-', '_'], "+") + "+"),
            ("a letter more", &|role| format!("{}A", good(role))),
            ("a letter less", &|role| good(role)[..good(role).len() - 1].to_owned()),
            ("JSON serialization", &|_| "eyJwYXlsb2FkIjoiIn0".to_owned()),
            ("a header that is no JSON", &|role| {
                mint_text("alg", &claims().to_string(), role.key())
            }),
            ("a header that is a list", &|role| mint_text("[]", &claims().to_string(), role.key())),
            ("claims that are no JSON", &|role| mint_text(&header().to_string(), "{", role.key())),
            ("claims that are a string", &|role| {
                mint_text(&header().to_string(), "\"x\"", role.key())
            }),
            ("claims with a tail", &|role| {
                mint_text(&header().to_string(), &format!("{} {{}}", claims()), role.key())
            }),
            ("claims of another token", &|role| {
                let other = mint(&header(), &with(claims(), "sub", json!("x")), role.key());
                let other: Vec<&str> = other.split('.').collect();
                let parts = parts(role);
                format!("{}.{}.{}", parts[0], other[1], parts[2])
            }),
        ],
    );
}

#[test]
fn m45_rfc_8725_the_algorithm_is_the_keys_and_never_the_tokens() {
    let hub = TestHub::start(MEMORY);
    let unsigned = |name: &'static str| {
        move |_: Role| {
            compact(&with(header(), "alg", json!(name)).to_string(), &claims().to_string(), b"")
        }
    };
    let other = |algorithm: Algorithm, name: &'static str| {
        move |role: Role| {
            let key = EncodingKey::from_secret(role.key().as_bytes());
            mint_with(&with(header(), "alg", json!(name)), &claims(), algorithm, &key)
        }
    };
    all_refused(
        &hub,
        &[
            ("none", &unsigned("none")),
            ("None", &unsigned("None")),
            ("nOnE", &unsigned("nOnE")),
            ("an empty alg", &unsigned("")),
            ("HS256 without a signature", &unsigned("HS256")),
            ("HS384 with the same secret", &other(Algorithm::HS384, "HS384")),
            ("HS512 with the same secret", &other(Algorithm::HS512, "HS512")),
            ("HS384, called HS256", &other(Algorithm::HS384, "HS256")),
            ("HS256, called HS384", &other(Algorithm::HS256, "HS384")),
            ("hs256", &other(Algorithm::HS256, "hs256")),
            ("RS256, called so", &other(Algorithm::HS256, "RS256")),
            ("no alg", &|role| mint(&without(header(), "alg"), &claims(), role.key())),
            ("alg null", &|role| mint(&with(header(), "alg", json!(null)), &claims(), role.key())),
            ("a list of algs", &|role| {
                mint(&with(header(), "alg", json!(["HS256"])), &claims(), role.key())
            }),
        ],
    );
}

/// Issuers with public keys, one per algorithm, beside the usual one.
fn with_public_keys() -> String {
    let mut toml = format!(
        "{MEMORY}[[auth.issuer]]\nid = \"{ISSUER}\"\naccept = [\"1.0\", \"0.x\"]\n\
         publish = {{ key = \"{PUBLISH_KEY}\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}\n"
    );
    for (id, algorithm, key) in [
        ("https://rsa.example", "RS256", RSA_PUBLIC),
        ("https://ec.example", "ES256", P256_PUBLIC),
        ("https://ed.example", "EdDSA", ED_PUBLIC),
    ] {
        toml += &format!(
            "[[auth.issuer]]\nid = \"{id}\"\naccept = [\"1.0\"]\n\
             publish = {{ key = '''{key}''', algorithm = \"{algorithm}\" }}\n\
             subscribe = {{ key = '''{key}''', algorithm = \"{algorithm}\" }}\n"
        );
    }
    toml
}

#[test]
fn m45_m46_rfc_8725_public_keys_verify_and_are_never_secrets() {
    let hub = TestHub::start(&with_public_keys());
    let issuers = [
        (
            "https://rsa.example",
            Algorithm::RS256,
            "RS256",
            RSA_PUBLIC,
            EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap(),
        ),
        (
            "https://ec.example",
            Algorithm::ES256,
            "ES256",
            P256_PUBLIC,
            EncodingKey::from_ec_pem(P256_PRIVATE.as_bytes()).unwrap(),
        ),
        (
            "https://ed.example",
            Algorithm::EdDSA,
            "EdDSA",
            ED_PUBLIC,
            EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap(),
        ),
    ];
    let mut bad = Vec::new();
    for (id, algorithm, name, public, private) in &issuers {
        let claims = with(claims(), "iss", json!(id));
        let named = with(header(), "alg", json!(name));
        let good = mint_with(&named, &claims, *algorithm, private);
        for role in ROLES {
            check(&hub, role, &good, true, name);
        }
        // The public key taken for a secret, in the forms in which it may lie around.
        for secret in
            [*public, public.trim_end(), &public.replace('\n', ""), &public.replace('\n', "\r\n")]
        {
            for wanted in ["HS256", name] {
                let header = with(header(), "alg", json!(wanted));
                bad.push((format!("{name} swapped for {wanted}"), mint(&header, &claims, secret)));
            }
        }
        // Another issuer's key, and a signature that was cut or filled up.
        for (other, algorithm, other_name, _, private) in &issuers {
            if other != id {
                let header = with(header(), "alg", json!(other_name));
                let case = format!("{name} signed by {other}");
                bad.push((case, mint_with(&header, &claims, *algorithm, private)));
            }
        }
        let (message, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for (case, signature) in [
            ("cut", signature[..signature.len() - 1].to_vec()),
            ("longer", [signature.as_slice(), &[0]].concat()),
            ("zero", vec![0; signature.len()]),
            ("empty", Vec::new()),
        ] {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            bad.push((format!("{name} with a signature that is {case}"), token));
        }
    }
    let before = hub.history().len();
    for (case, token) in &bad {
        for role in ROLES {
            check(&hub, role, token, false, case);
        }
    }
    assert_eq!(hub.history().len(), before);
}

#[test]
fn m46_rfc_8725_keys_in_the_token_are_never_looked_at() {
    let hub = TestHub::start(MEMORY);
    let stranger = "a-key-that-the-token-brings-along-0123456789";
    let key = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(stranger), "alg": "HS256" });
    // Whoever follows a URL in a token connects here.
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", trap.local_addr().unwrap());
    let extras = [
        ("jwk", json!({ "jwk": key })),
        ("jku", json!({ "jku": url })),
        ("x5u", json!({ "x5u": url })),
        ("x5c", json!({ "x5c": ["MIIB"] })),
        ("kid as a URL", json!({ "kid": url })),
        ("kid as a path", json!({ "kid": "../../../../dev/null" })),
        ("kid as an absolute path", json!({ "kid": "/dev/null" })),
        ("kid as SQL", json!({ "kid": "x' UNION SELECT 'a" })),
        ("kid as a command", json!({ "kid": "x|sleep 10" })),
        ("kid of the other role", json!({ "kid": "subscribe" })),
        ("kid empty", json!({ "kid": "" })),
        ("kid long", json!({ "kid": "k".repeat(5_000) })),
    ];
    let mut witness = Witness::new(&hub);
    for (case, extra) in &extras {
        let mut header = header();
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        for secret in [stranger, " ", "\0", "a", &url] {
            for role in ROLES {
                check(&hub, role, &mint(&header, &claims(), secret), false, case);
            }
        }
        let empty = compact(&header.to_string(), &claims().to_string(), b"");
        check(&hub, Role::Publish, &empty, false, case);
    }
    witness.expect_nothing(&hub);
    // They are no reason to refuse a token that the right key has signed, either.
    for (case, extra) in &extras {
        let mut header = header();
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        for role in ROLES {
            check(&hub, role, &mint(&header, &claims(), role.key()), true, case);
        }
    }
    let nobody = trap.accept().map(|(_, peer)| peer);
    assert_eq!(
        nobody.expect_err("the hub followed a URL in a token").kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn m47_m51_rfc_8725_a_key_verifies_for_its_own_issuer_and_role_only() {
    const OTHER: &str = "https://other.example";
    const OTHER_PUBLISH: &str = "publish-secret-of-another-issuer-0123456789";
    const OTHER_SUBSCRIBE: &str = "subscribe-secret-of-another-issuer-0123456789";
    let hub = TestHub::start(&format!(
        "{MEMORY}[[auth.issuer]]\nid = \"{ISSUER}\"\naccept = [\"1.0\", \"0.x\"]\n\
         publish = {{ key = \"{PUBLISH_KEY}\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}\n\
         [[auth.issuer]]\nid = \"{OTHER}\"\naccept = [\"1.0\"]\n\
         publish = {{ key = \"{OTHER_PUBLISH}\" }}\nsubscribe = {{ key = \"{OTHER_SUBSCRIBE}\" }}\n\
         [[auth.issuer]]\nid = \"https://writer.example\"\naccept = [\"1.0\"]\n\
         publish = {{ key = \"a-secret-of-one-who-only-writes-0123456789\" }}\n"
    ));
    let from =
        |issuer: &str, key: &str| mint(&header(), &with(claims(), "iss", json!(issuer)), key);
    let mut good = 0;
    for issuer in [ISSUER, OTHER, "https://writer.example", "https://unknown.example", ""] {
        for key in [
            PUBLISH_KEY,
            SUBSCRIBE_KEY,
            OTHER_PUBLISH,
            OTHER_SUBSCRIBE,
            "a-secret-of-one-who-only-writes-0123456789",
        ] {
            for role in ROLES {
                let own = match (issuer, role) {
                    (ISSUER, Role::Publish) => PUBLISH_KEY,
                    (ISSUER, Role::Subscribe) => SUBSCRIBE_KEY,
                    (OTHER, Role::Publish) => OTHER_PUBLISH,
                    (OTHER, Role::Subscribe) => OTHER_SUBSCRIBE,
                    ("https://writer.example", Role::Publish) => {
                        "a-secret-of-one-who-only-writes-0123456789"
                    }
                    _ => "none",
                };
                good += usize::from(key == own && role == Role::Publish);
                let case = format!("iss {issuer:?} with the key {key}");
                check(&hub, role, &from(issuer, key), key == own, &case);
            }
        }
    }
    assert_eq!(hub.history().len(), good);
    // An issuer that does not accept 0.x does not become one by its token's words.
    let legacy = json!({ "iss": OTHER, "mercure": { "publish": ["*"], "subscribe": ["*"] } });
    let legacy_header = json!({ "alg": "HS256", "typ": "JWT" });
    for key in [OTHER_PUBLISH, PUBLISH_KEY] {
        let token = mint(&legacy_header, &legacy, key);
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "legacy")]);
        assert_eq!(reply.status, 401, "{reply:?}");
    }
    // Nor does a stranger's, by leaving its name out.
    let token = mint(&legacy_header, &without(legacy, "iss"), OTHER_PUBLISH);
    let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "legacy")]);
    expect_unauthorized(&reply, "signed by one who does not accept 0.x");
    assert_eq!(hub.history().len(), good);
}

#[test]
fn a_token_with_both_claims_is_judged_as_1_0() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let both = with(
        claims_final(json!([detail(Role::Publish, &["https://tokens.example/granted"])])),
        "mercure",
        json!({ "publish": ["*"], "subscribe": ["*"] }),
    );
    let token = mint(&header(), &both, PUBLISH_KEY);
    let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "x")]);
    expect_challenge(&reply, 403, Some("insufficient_scope"), "the other claim grants nothing");
    for (case, claims) in [
        ("without exp", without(both.clone(), "exp")),
        ("for somebody else", with(both.clone(), "aud", json!("https://e.com"))),
        ("without an issuer", without(both, "iss")),
    ] {
        let token = mint(&header(), &claims, PUBLISH_KEY);
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "x")]);
        expect_challenge(&reply, 401, Some("invalid_token"), case);
    }
    witness.expect_nothing(&hub);
}

#[test]
fn m48_exp_is_required_and_enforced_and_nbf_where_it_is_there() {
    let hub = TestHub::start(MEMORY);
    for (case, claims) in [
        ("exp far away", with(claims(), "exp", json!(1_u64 << 52))),
        ("exp absurdly far", with(claims(), "exp", json!(u64::MAX))),
        ("exp beyond all numbers", with(claims(), "exp", json!(1e300))),
        ("exp with a fraction", with(claims(), "exp", json!(now() as f64 + 60.5))),
        ("nbf in the past", with(claims(), "nbf", json!(now() - 60))),
        ("nbf now", with(claims(), "nbf", json!(now()))),
        ("iat in the future", with(claims(), "iat", json!(now() + 600))),
    ] {
        for role in ROLES {
            check(&hub, role, &mint(&header(), &claims, role.key()), true, case);
        }
    }
    let set = |name: &'static str, value: Value| {
        move |role: Role| mint(&header(), &with(claims(), name, value.clone()), role.key())
    };
    let cases: Vec<(&str, Mint)> = vec![
        ("no exp", Box::new(|role| mint(&header(), &without(claims(), "exp"), role.key()))),
        ("expired", Box::new(set("exp", json!(now() - 3_600)))),
        // There is no leeway.
        ("expired a second ago", Box::new(set("exp", json!(now() - 1)))),
        ("expired this second", Box::new(set("exp", json!(now())))),
        ("exp 0", Box::new(set("exp", json!(0)))),
        ("exp negative", Box::new(set("exp", json!(-1)))),
        ("exp null", Box::new(set("exp", json!(null)))),
        ("exp a string", Box::new(set("exp", json!((now() + 3_600).to_string())))),
        ("exp a list", Box::new(set("exp", json!([now() + 3_600])))),
        ("exp true", Box::new(set("exp", json!(true)))),
        ("nbf ahead", Box::new(set("nbf", json!(now() + 3_600)))),
        ("nbf a minute ahead", Box::new(set("nbf", json!(now() + 60)))),
        ("nbf a string", Box::new(set("nbf", json!("0")))),
        ("nbf absurd", Box::new(set("nbf", json!(1e300)))),
    ];
    let before = hub.history().len();
    for (case, token) in &cases {
        for role in ROLES {
            check(&hub, role, &token(role), false, case);
        }
    }
    assert_eq!(hub.history().len(), before);
}

#[test]
fn m48_a_token_that_was_good_is_refused_from_its_exp_on() {
    let hub = TestHub::start(MEMORY);
    let expires = now() + 2;
    let token = mint(&header(), &with(claims(), "exp", json!(expires)), PUBLISH_KEY);
    let deadline = Instant::now() + PATIENCE;
    let mut taken = 0;
    loop {
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "x")]);
        if reply.status != 200 {
            expect_challenge(&reply, 401, Some("invalid_token"), "expired");
            break;
        }
        taken += 1;
        assert!(now() <= expires, "taken after its exp");
        assert!(Instant::now() < deadline);
    }
    assert!(now() >= expires && taken > 0, "{taken}");
    assert_eq!(hub.history().len(), taken);
}

#[test]
fn m49_iss_and_aud_must_be_this_hubs_exactly() {
    let hub = TestHub::start(MEMORY);
    for (case, aud) in [
        ("a string", json!(HUB_URL)),
        ("a list", json!([HUB_URL])),
        ("one of several", json!(["https://e.com", HUB_URL, "x"])),
    ] {
        for role in ROLES {
            let token = mint(&header(), &with(claims(), "aud", aud.clone()), role.key());
            check(&hub, role, &token, true, case);
        }
    }
    let before = hub.history().len();
    let cases = [
        ("aud", json!("https://other.example/.well-known/mercure")),
        ("aud", json!("")),
        ("aud", json!([])),
        ("aud", json!(null)),
        ("aud", json!({ "x": HUB_URL })),
        ("aud", json!([[HUB_URL]])),
        ("aud", json!([HUB_URL, 1])),
        ("aud", json!(format!("{HUB_URL}/"))),
        ("aud", json!(HUB_URL.to_uppercase())),
        ("aud", json!(tokens::PUBLIC_URL)),
        ("aud", json!("https://hub.example:443/.well-known/mercure")),
        ("aud", json!("http://hub.example/.well-known/mercure")),
        ("aud", json!(format!("{HUB_URL}?x"))),
        ("aud", json!("http://127.0.0.1/.well-known/mercure")),
        ("iss", json!("https://other.example")),
        ("iss", json!(format!("{ISSUER}/"))),
        ("iss", json!(ISSUER.to_uppercase())),
        ("iss", json!("")),
        ("iss", json!(null)),
        ("iss", json!([ISSUER])),
        ("iss", json!({ "id": ISSUER })),
    ];
    for (name, value) in cases {
        let case = format!("{name} {value}");
        for role in ROLES {
            let token = mint(&header(), &with(claims(), name, value.clone()), role.key());
            check(&hub, role, &token, false, &case);
        }
    }
    for name in ["aud", "iss"] {
        for role in ROLES {
            let token = mint(&header(), &without(claims(), name), role.key());
            check(&hub, role, &token, false, &format!("no {name}"));
        }
    }
    assert_eq!(hub.history().len(), before);
    // What the client says the hub is called does not matter.
    let elsewhere = with(claims(), "aud", json!("https://evil.example/.well-known/mercure"));
    let authorization = bearer(&mint(&header(), &elsewhere, SUBSCRIBE_KEY));
    let bytes = format!(
        "GET {HUB}?match=* HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\
         X-Forwarded-Proto: https\r\nForwarded: host=evil.example;proto=https\r\n{}: {}\r\n\r\n",
        authorization.0, authorization.1
    );
    expect_challenge(&hub.exchange(bytes.as_bytes()), 401, Some("invalid_token"), "Host");
}

#[test]
fn m49_an_issuer_may_have_further_audiences() {
    let hub = TestHub::start(&format!(
        "{MEMORY}[[auth.issuer]]\nid = \"{ISSUER}\"\naudience = [\"urn:our:hub\"]\n\
         publish = {{ key = \"{PUBLISH_KEY}\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}\n"
    ));
    for role in ROLES {
        let token = mint(&header(), &with(claims(), "aud", json!("urn:our:hub")), role.key());
        check(&hub, role, &token, true, "a further audience");
        let token = mint(&header(), &with(claims(), "aud", json!("urn:our:hub2")), role.key());
        check(&hub, role, &token, false, "another audience");
    }
}

#[test]
fn m50_claims_that_the_hub_does_not_need_may_be_missing_or_odd() {
    let hub = TestHub::start(MEMORY);
    for claims in [
        claims(),
        with(claims(), "sub", json!("alice")),
        with(claims(), "jti", json!("1")),
        with(claims(), "client_id", json!(["x"])),
        with(claims(), "scope", json!("openid")),
        with(claims(), "cnf", json!(null)),
    ] {
        for role in ROLES {
            check(&hub, role, &mint(&header(), &claims, role.key()), true, &claims.to_string());
        }
    }
    // What cannot be compared with a text could not be revoked (RFC 7519 sections 4.1.2, 4.1.7).
    for claims in [with(claims(), "sub", json!(5)), with(claims(), "jti", json!({}))] {
        for role in ROLES {
            check(&hub, role, &mint(&header(), &claims, role.key()), false, &claims.to_string());
        }
    }
}

#[test]
fn rfc_8725_extensions_that_are_not_understood_are_refused() {
    let hub = TestHub::start(MEMORY);
    let header_with = |name: &'static str, value: Value| {
        move |role: Role| mint(&with(header(), name, value.clone()), &claims(), role.key())
    };
    let unencoded = |role: Role| {
        let mut header = with(header(), "b64", json!(false));
        header["crit"] = json!(["b64"]);
        mint(&header, &claims(), role.key())
    };
    all_refused(
        &hub,
        &[
            ("crit unknown", &header_with("crit", json!(["x-unknown"]))),
            ("crit known as a claim", &header_with("crit", json!(["exp"]))),
            ("crit empty", &header_with("crit", json!([]))),
            ("crit no list", &header_with("crit", json!("exp"))),
            ("crit null", &header_with("crit", json!(null))),
            ("b64 false", &header_with("b64", json!(false))),
            ("b64 critical", &unencoded),
        ],
    );
}

#[test]
fn rfc_8725_members_that_stand_twice_are_refused() {
    let hub = TestHub::start(MEMORY);
    let text = |value: &Value| value.to_string();
    let twice_in_claims = |member: &'static str| {
        move |role: Role| {
            let claims = claims().to_string();
            let claims = format!("{{{member},{}", &claims[1..]);
            mint_text(&header().to_string(), &claims, role.key())
        }
    };
    let nested = |role: Role| {
        let claims = text(&claims()).replace("\"actions\":", "\"actions\":[\"read\"],\"actions\":");
        mint_text(&text(&header()), &claims, role.key())
    };
    all_refused(
        &hub,
        &[
            ("exp", &twice_in_claims("\"exp\":1")),
            ("aud", &twice_in_claims("\"aud\":\"x\"")),
            ("iss", &twice_in_claims("\"iss\":\"https://issuer.example\"")),
            ("details", &twice_in_claims("\"authorization_details\":[]")),
            ("an escaped name", &twice_in_claims("\"e\\u0078p\":1")),
            ("a claim of no meaning", &twice_in_claims("\"x\":1,\"x\":1")),
            ("actions in a detail", &nested),
            ("alg", &|role| {
                mint_text(
                    "{\"alg\":\"none\",\"typ\":\"at+jwt\",\"alg\":\"HS256\"}",
                    &claims().to_string(),
                    role.key(),
                )
            }),
            ("typ", &|role| {
                mint_text(
                    "{\"typ\":\"JWT\",\"alg\":\"HS256\",\"typ\":\"at+jwt\"}",
                    &claims().to_string(),
                    role.key(),
                )
            }),
        ],
    );
}

#[test]
fn rfc_8725_oversized_tokens_are_refused_and_cost_nothing() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    // Fits into a head, and is more than a token may be.
    for role in ROLES {
        let large = with(claims(), "x", json!("x".repeat(30_000)));
        check(&hub, role, &mint(&header(), &large, role.key()), false, "40 KB");
        let usual = with(claims(), "x", json!("x".repeat(4_000)));
        let good = mint(&header(), &usual, role.key());
        if role == Role::Subscribe {
            check(&hub, role, &good, true, "6 KB");
        }
    }
    // A megabyte does not even fit into a head, or a URL.
    let huge = with(claims(), "x", json!("x".repeat(750_000)));
    let token = mint(&header(), &huge, SUBSCRIBE_KEY);
    assert!(token.len() > 1_000_000);
    for bytes in [
        request("GET", &format!("{HUB}?match=*"), &[with_token(&bearer(&token))], b""),
        request("GET", &format!("{HUB}?topic=*&authorization={token}"), &[], b""),
    ] {
        let mut connection = Connection::open(hub.address);
        connection.send(&bytes);
        // The hub may close before it has read it all, and then the answer may get lost.
        if let Some(reply) = connection.head(false) {
            assert!(matches!(reply.status, 400 | 401 | 414 | 431), "{reply:?}");
        }
    }
    // In a body it is a field without a meaning.
    let body = format!("match=*&authorization={token}");
    let reply = hub.request(
        "QUERY",
        HUB,
        &[("Content-Type", "application/x-www-form-urlencoded")],
        body.as_bytes(),
    );
    expect_challenge(&reply, 401, None, "in a body");
    let nested = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let claims = claims_text_with("x", &nested);
    check(
        &hub,
        Role::Publish,
        &mint_text(&header().to_string(), &claims, PUBLISH_KEY),
        false,
        "deep",
    );
    witness.expect_nothing(&hub);
}

/// Claims with one more member as text.
fn claims_text_with(name: &str, value: &str) -> String {
    format!("{{\"{name}\":{value},{}", &claims().to_string()[1..])
}

#[test]
fn m52_m53_m54_one_bad_detail_spoils_the_token() {
    let hub = TestHub::start(MEMORY);
    let good = || detail(Role::Publish, &["*"]);
    let topic = |value: Value| with(good(), "topics", json!([value]));
    let bad = [
        ("no array", None, json!({})),
        ("a string", None, json!("x")),
        ("null", None, json!(null)),
        ("an entry that is no object", Some(json!("x")), json!(null)),
        ("an entry that is null", Some(json!(null)), json!(null)),
        ("no actions", Some(without(good(), "actions")), json!(null)),
        ("empty actions", Some(with(good(), "actions", json!([]))), json!(null)),
        ("actions as a string", Some(with(good(), "actions", json!("publish"))), json!(null)),
        (
            "an action that is no string",
            Some(with(good(), "actions", json!(["publish", 1]))),
            json!(null),
        ),
        ("actions null", Some(with(good(), "actions", json!(null))), json!(null)),
        ("no topics", Some(without(good(), "topics")), json!(null)),
        ("empty topics", Some(with(good(), "topics", json!([]))), json!(null)),
        ("topics as a string", Some(with(good(), "topics", json!("*"))), json!(null)),
        ("a bare string as topic", Some(topic(json!("*"))), json!(null)),
        ("a topic that is null", Some(topic(json!(null))), json!(null)),
        ("a topic without match", Some(topic(json!({ "match_type": "exact" }))), json!(null)),
        ("a match that is no string", Some(topic(json!({ "match": 1 }))), json!(null)),
        ("a match that is null", Some(topic(json!({ "match": null }))), json!(null)),
        (
            "an unknown match_type",
            Some(topic(json!({ "match": "a", "match_type": "regexp" }))),
            json!(null),
        ),
        (
            "a match_type in other case",
            Some(topic(json!({ "match": "a", "match_type": "Exact" }))),
            json!(null),
        ),
        (
            "a match_type that is null",
            Some(topic(json!({ "match": "a", "match_type": null }))),
            json!(null),
        ),
        (
            "a match_type that is no string",
            Some(topic(json!({ "match": "a", "match_type": 1 }))),
            json!(null),
        ),
        (
            "a broken pattern",
            Some(topic(json!({ "match": "https://e.com/(", "match_type": "urlpattern" }))),
            json!(null),
        ),
        (
            "a pattern that is too long",
            Some(topic(json!({ "match": "a".repeat(4_097) }))),
            json!(null),
        ),
        ("a payload that is no object", Some(with(good(), "payload", json!("x"))), json!(null)),
        ("a payload that is a list", Some(with(good(), "payload", json!([]))), json!(null)),
    ];
    let mut witness = Witness::new(&hub);
    for (case, entry, whole) in bad {
        let lists = match entry {
            None => vec![whole],
            // Before and behind good ones, of whichever role.
            Some(entry) => vec![
                json!([entry, good(), detail(Role::Subscribe, &["*"])]),
                json!([good(), detail(Role::Subscribe, &["*"]), entry]),
            ],
        };
        for list in lists {
            for role in ROLES {
                let token = mint(&header(), &claims_final(list.clone()), role.key());
                check(&hub, role, &token, false, case);
            }
        }
    }
    witness.expect_nothing(&hub);
}

#[test]
fn m52_m53_what_details_may_hold_beside() {
    let hub = TestHub::start(MEMORY);
    let good = || [detail(Role::Publish, &["*"]), detail(Role::Subscribe, &["*"])];
    let subscribe = || detail(Role::Subscribe, &["*"]);
    for (case, extra) in [
        ("another type", json!({ "type": "https://other.example/x", "actions": 5 })),
        ("almost the type", json!({ "type": "https://mercure.rocks/authorization-detail/" })),
        ("the type in other case", json!({ "type": "HTTPS://mercure.rocks/authorization-detail" })),
        ("an unknown action", with(subscribe(), "actions", json!(["delete"]))),
        ("an unknown action beside", with(subscribe(), "actions", json!(["delete", "subscribe"]))),
        (
            "the wildcard with any type",
            with(subscribe(), "topics", json!([{ "match": "*", "match_type": "urlpattern" }])),
        ),
        ("members of no meaning", with(subscribe(), "locations", json!(["x"]))),
        ("a payload", with(subscribe(), "payload", json!({ "user": 1 }))),
        ("a topic with more", with(subscribe(), "topics", json!([{ "match": "a", "x": 1 }]))),
    ] {
        let [publish, subscribe] = good();
        for role in ROLES {
            let list = json!([extra, publish, subscribe]);
            check(&hub, role, &mint(&header(), &claims_final(list), role.key()), true, case);
        }
    }
    // An unknown action, or the type not quite, grants nothing and yet is no invalid token.
    for extra in [
        with(detail(Role::Publish, &["*"]), "actions", json!(["Publish"])),
        with(
            detail(Role::Publish, &["*"]),
            "type",
            json!("https://mercure.rocks/Authorization-Detail"),
        ),
    ] {
        let token = mint(&header(), &claims_final(json!([extra])), PUBLISH_KEY);
        let reply = hub.publish_with(&token, &[("topic", "no"), ("data", "no")]);
        expect_challenge(&reply, 403, Some("insufficient_scope"), &extra.to_string());
    }
    assert!(hub.history().iter().all(|event| event.data != "no"));
}

#[test]
fn m54_too_many_details_or_topics_spoil_the_token() {
    let hub = TestHub::start(MEMORY);
    let topic = |number: usize| json!({ "match": format!("t{number}") });
    let details = |count: usize| -> Value {
        (0..count)
            .map(|number| with(detail(Role::Subscribe, &["x"]), "topics", json!([topic(number)])))
            .collect()
    };
    let topics = |count: usize| -> Value {
        let list: Value = (0..count).map(topic).collect();
        json!([with(detail(Role::Subscribe, &["x"]), "topics", list)])
    };
    for (case, list, good) in [
        ("100 details", details(100), true),
        ("101 details", details(101), false),
        ("100 topics", topics(100), true),
        ("101 topics", topics(101), false),
    ] {
        let token = mint(&header(), &claims_final(list), SUBSCRIBE_KEY);
        check(&hub, Role::Subscribe, &token, good, case);
    }
}

#[test]
fn m35_the_scheme_is_read_in_any_case() {
    let hub = TestHub::start(MEMORY);
    let token = token_final(Role::Subscribe, &["*"]);
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let value = format!("{scheme} {token}");
        let stream = hub.stream(&format!("{HUB}?match=*"), &[("Authorization", &value)]);
        assert_eq!(stream.head.status, 200, "{scheme}");
        let stream = hub.stream(&format!("{HUB}?match=*"), &[("authorization", &value)]);
        assert_eq!(stream.head.status, 200, "{scheme}");
    }
}

#[test]
fn tokens_never_reach_the_log_or_the_metrics() {
    let toml = format!("{MEMORY}[log]\nlevel = \"debug\"");
    let hub = TestHub::start(&toml);
    let mut secrets = vec![PUBLISH_KEY.to_owned(), SUBSCRIBE_KEY.to_owned()];
    let mut used = |token: String| {
        secrets.push(token.rsplit('.').next().unwrap().to_owned());
        secrets.push(token.split('.').nth(1).unwrap().to_owned());
        token
    };
    for token in [
        used(token_final(Role::Publish, &["*"])),
        used(token_draft(Role::Publish, &[TOPIC])),
        used(mint(&header(), &claims(), "a-forged-secret-0123456789abcdef0123456789")),
        used(mint(&header(), &with(claims(), "exp", json!(5)), PUBLISH_KEY)),
    ] {
        hub.publish_with(&token, &[("topic", TOPIC), ("data", "x")]);
        let form_type = ("Content-Type", "application/x-www-form-urlencoded");
        exchange_http2(
            hub.address,
            "POST",
            HUB,
            &[with_token(&bearer(&token)), form_type],
            b"topic=a",
        );
    }
    for (token, query) in [
        (used(token_final(Role::Subscribe, &["*"])), "match=*"),
        (used(token_draft(Role::Subscribe, &["*"])), "topic=*"),
        (
            used(mint(&header(), &claims(), "another-forged-secret-0123456789abcdef01234")),
            "match=*",
        ),
    ] {
        refused_get(&hub, &token, query);
        refused_get_without(&hub, &format!("{query}&authorization={token}"));
        refused_get_without(&hub, &format!("{query}&%61uthorization={token}"));
        refused_get_without(&hub, &format!("{query}&access_token={token}"));
        hub.request("DELETE", &format!("{HUB}?authorization={token}"), &[], b"");
        hub.get(&format!("/elsewhere?authorization={token}"), &[]);
    }
    // Everything before it is in the log by the time this is.
    let reply = refused_get_without(&hub, "match=*");
    hub.wait_for_log(&reply.header("x-request-id").unwrap());
    let log = hub.log();
    let admin = hub.admin.expect("an admin listener");
    let metrics = crate::http::exchange(admin, &request("GET", "/metrics", &[], b"")).text();
    for secret in &secrets {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        assert!(!metrics.contains(secret), "{secret} is in the metrics");
    }
}
