//! Tokens of every kind against `Auth`, by the lists of RFC 8725 and of both generations.

mod kept;
mod standing;

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_core::{Candidate, Language, Matcher, Namespace};

use super::*;
use crate::limits::{CLAIM_SELECTORS_MAX, TOKEN_BYTES_MAX, TOKEN_DETAILS_MAX, TOKEN_TOPICS_MAX};

const HUB: &str = "https://hub.example/.well-known/mercure";
const ISSUER: &str = "https://issuer.example";
/// In seconds; the times of all tokens here are around it.
const NOW: u64 = 1_800_000_000;
const PUBLISHER: &str = "the publisher's secret, long enough for HS256";
const SUBSCRIBER: &str = "the subscriber's secret, long enough for HS256";

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../tests-data/", $name, ".pem"))
    };
}

fn namespace() -> Namespace {
    Namespace::new(HUB.parse().unwrap())
}

fn auth_of(issuers: &Value) -> Auth {
    let options = serde_json::from_value(json!({ "issuer": issuers })).unwrap();
    Auth::offline(&options, &namespace()).unwrap()
}

fn auth(accept: &[&str]) -> Auth {
    auth_of(&json!([{
        "id": ISSUER,
        "accept": accept,
        "publish": { "key": PUBLISHER },
        "subscribe": { "key": SUBSCRIBER },
    }]))
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// A token of texts that need not be JSON.
fn signed_text(header: &str, payload: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let key = EncodingKey::from_secret(secret);
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    signed_text(&header.to_string(), &claims.to_string(), secret.as_bytes())
}

fn final_header() -> Value {
    json!({ "alg": "HS256", "typ": "at+jwt" })
}

fn detail(actions: &Value, topics: &Value) -> Value {
    json!({ "type": DETAIL_TYPE, "actions": actions, "topics": topics })
}

fn final_claims() -> Value {
    let topics = json!([{ "match": "https://e.com/1" }, { "match": "*" }]);
    json!({
        "iss": ISSUER,
        "aud": HUB,
        "exp": NOW + 60,
        "sub": "alice",
        "jti": "token-1",
        "authorization_details": [detail(&json!(["publish", "subscribe"]), &topics)],
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

fn publish(auth: &Auth, token: &str) -> Result<Arc<Verified>, TokenCause> {
    auth.verify(token, Role::Publish, NOW * 1_000).map_err(|problem| problem.cause)
}

fn publish_claims(claims: &Value) -> Result<Arc<Verified>, TokenCause> {
    publish(&auth(&["1.0"]), &signed(&final_header(), claims, PUBLISHER))
}

fn subscribe_claims(claims: &Value) -> Result<Arc<Verified>, TokenCause> {
    let token = signed(&final_header(), claims, SUBSCRIBER);
    let problem = auth(&["1.0"]).verify(&token, Role::Subscribe, NOW * 1_000);
    problem.map_err(|problem| problem.cause)
}

fn refused(result: Result<Arc<Verified>, TokenCause>) -> TokenCause {
    result.expect_err("the token must be refused")
}

fn legacy_header() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

fn legacy_token(claims: &Value) -> String {
    signed(&legacy_header(), claims, PUBLISHER)
}

fn legacy(claims: &Value) -> Result<Arc<Verified>, TokenCause> {
    publish(&auth(&["0.x"]), &legacy_token(claims))
}

// --- What passes -------------------------------------------------------------------------------

#[test]
fn a_good_token_of_1_0_grants_what_its_role_says_and_nothing_of_the_other() {
    let verified = publish_claims(&final_claims()).unwrap();
    assert_eq!(verified.generation, Generation::Final);
    assert!(verified.may);
    assert_eq!(verified.grant.expires, Some((NOW + 60) * 1_000));
    assert_eq!(verified.grant.publish.len(), 2);
    assert!(matches!(*verified.grant.publish[1], Matcher::Any));
    assert!(verified.grant.subscribe.is_empty() && verified.details.is_empty());
    let token = &verified.grant.token;
    assert_eq!(token.issuer.as_deref(), Some(ISSUER));
    assert_eq!(token.subject.as_deref(), Some("alice"));
    assert_eq!(token.token_id.as_deref(), Some("token-1"));
    assert_eq!(token.key.as_deref(), Some("publish"));
    let verified = subscribe_claims(&final_claims()).unwrap();
    assert!(verified.grant.publish.is_empty());
    assert_eq!((verified.grant.subscribe.len(), verified.details.len()), (2, 1));
    let namespace = namespace();
    let topic = |text| Candidate::new(text, &namespace);
    assert!(verified.grant.covers_reading(&[topic("https://e.com/1")]));
}

#[test]
fn m50_claims_that_only_issuers_owe_are_not_required() {
    let claims = without(without(final_claims(), "sub"), "jti");
    let token = publish_claims(&claims).unwrap().grant.token.clone();
    assert_eq!((token.subject, token.token_id), (None, None));
}

#[test]
fn shlink_symfony_and_api_platform_tokens_are_accepted_as_0_x() {
    let shlink = json!({
        "iss": "Shlink", "iat": NOW, "exp": NOW + 600, "mercure": { "publish": ["*"] },
    });
    let verified = legacy(&shlink).unwrap();
    assert_eq!((verified.generation, verified.may), (Generation::Draft, true));
    assert!(matches!(*verified.grant.publish[0], Matcher::Any));
    assert_eq!(verified.grant.token.issuer.as_deref(), Some(ISSUER));
    // Without `iss`, without `exp`, with an `aud` that means nothing here.
    let symfony = json!({ "aud": 3, "mercure": { "publish": ["a"], "subscribe": [] } });
    assert_eq!(legacy(&symfony).unwrap().grant.expires, None);
    // With the configured issuer.
    assert!(legacy(&with(symfony, "iss", json!(ISSUER))).is_ok());
}

// --- RFC 8725, by name -------------------------------------------------------------------------

#[test]
fn alg_none_is_refused_in_every_spelling() {
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": name, "typ": "at+jwt" }).to_string();
        let signed = format!("{}.{}", encode(header), encode(final_claims().to_string()));
        for token in [format!("{signed}."), signed.clone(), format!("{signed}.{}", encode("x"))] {
            let cause = refused(publish(&auth(&["1.0", "0.x"]), &token));
            let expected = [TokenCause::AlgorithmNotAllowed, TokenCause::BadPayload];
            assert!(expected.contains(&cause) || cause == TokenCause::NotCompact, "{cause:?}");
        }
    }
    let token = signed(&json!({ "typ": "at+jwt" }), &final_claims(), PUBLISHER);
    assert_eq!(refused(publish(&auth(&["1.0"]), &token)), TokenCause::BadHeader);
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let public = pem!("rsa2048.public");
    let auth = auth_of(&json!([{
        "id": ISSUER, "accept": ["1.0", "0.x"],
        "publish": { "key": public, "algorithm": "RS256" },
    }]));
    let der: String =
        public.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().concat();
    let der = STANDARD.decode(der).unwrap();
    for secret in [public.as_bytes(), public.trim().as_bytes(), &der] {
        for (header, claims) in [
            (final_header(), final_claims()),
            (legacy_header(), json!({ "mercure": { "publish": ["*"] } })),
        ] {
            let token = signed_text(&header.to_string(), &claims.to_string(), secret);
            assert_eq!(refused(publish(&auth, &token)), TokenCause::AlgorithmNotAllowed);
        }
    }
}

#[test]
fn keys_and_addresses_in_the_header_are_not_looked_at() {
    let own = "an attacker's own secret, as long as it takes";
    let jwk = json!({ "kty": "oct", "k": encode(own), "alg": "HS256", "kid": "x" });
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/certificate")),
        ("x5c", json!(["AAAA"])),
    ] {
        let header = with(final_header(), name, value);
        let token = signed(&header, &final_claims(), own);
        assert_eq!(refused(publish(&auth(&["1.0"]), &token)), TokenCause::BadSignature, "{name}");
        let token = signed(&header, &final_claims(), PUBLISHER);
        assert!(publish(&auth(&["1.0"]), &token).is_ok(), "{name}");
    }
}

#[test]
fn kid_is_a_hint_and_no_path() {
    for kid in ["../../../../dev/null", "' OR 1=1", "another", ""] {
        let header = with(final_header(), "kid", json!(kid));
        assert!(publish(&auth(&["1.0"]), &signed(&header, &final_claims(), PUBLISHER)).is_ok());
        let cause = refused(publish(&auth(&["1.0"]), &signed(&header, &final_claims(), "")));
        assert_eq!(cause, TokenCause::BadSignature);
    }
    let keyed = |id: &str, kid: &str, key: &str| {
        let key = json!({ "key": key, "kid": kid });
        json!({ "id": id, "accept": ["0.x"], "publish": key })
    };
    let auth = auth_of(&json!([keyed("a", "one", PUBLISHER), keyed("b", "two", SUBSCRIBER)]));
    for (kid, secret, expected) in
        [("one", SUBSCRIBER, "two"), ("two", SUBSCRIBER, "two"), ("two", PUBLISHER, "one")]
    {
        let header = with(legacy_header(), "kid", json!(kid));
        let token = signed(&header, &json!({ "mercure": { "publish": ["*"] } }), secret);
        let verified = publish(&auth, &token).unwrap();
        assert_eq!(verified.grant.token.key.as_deref(), Some(expected));
    }
}

#[test]
fn of_equal_keys_the_one_that_kid_names_is_taken() {
    let keyed = |id: &str, kid: &str| {
        let key = json!({ "key": PUBLISHER, "kid": kid });
        json!({ "id": id, "accept": ["0.x"], "publish": key })
    };
    let auth = auth_of(&json!([keyed("a", "one"), keyed("b", "two")]));
    for (kid, expected) in [("one", "a"), ("two", "b"), ("three", "a")] {
        let header = with(legacy_header(), "kid", json!(kid));
        let token = signed(&header, &json!({ "mercure": { "publish": ["*"] } }), PUBLISHER);
        let verified = publish(&auth, &token).unwrap();
        assert_eq!(verified.grant.token.issuer.as_deref(), Some(expected), "{kid}");
    }
}

#[test]
fn critical_extensions_are_refused() {
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(false)),
    ] {
        let token = signed(&with(final_header(), name, value), &final_claims(), PUBLISHER);
        assert_eq!(refused(publish(&auth(&["1.0"]), &token)), TokenCause::CriticalExtension);
    }
}

#[test]
fn duplicate_members_are_refused_in_header_and_claims() {
    let claims = final_claims().to_string();
    let twice = claims.replacen('{', r#"{"exp":9999999999,"#, 1);
    let header = r#"{"alg":"HS256","typ":"at+jwt"}"#;
    for (header, payload) in [
        (header, twice.as_str()),
        (r#"{"alg":"none","alg":"HS256","typ":"at+jwt"}"#, claims.as_str()),
        (header, &claims.replace(r#""type":"#, r#""type":"x","type":"#)),
    ] {
        let token = signed_text(header, payload, PUBLISHER.as_bytes());
        assert_eq!(refused(publish(&auth(&["1.0"]), &token)), TokenCause::DuplicateMember);
    }
}

#[test]
fn a_token_of_a_megabyte_is_refused_before_it_is_read() {
    let long = with(final_claims(), "padding", json!("x".repeat(1024 * 1024)));
    assert_eq!(refused(publish_claims(&long)), TokenCause::TooLong);
    let exact = |bytes: usize| "x".repeat(bytes);
    assert_eq!(refused(publish(&auth(&["1.0"]), &exact(TOKEN_BYTES_MAX))), TokenCause::NotCompact);
    assert_eq!(refused(publish(&auth(&["1.0"]), &exact(TOKEN_BYTES_MAX + 1))), TokenCause::TooLong);
}

#[test]
fn there_is_no_leeway_for_clocks() {
    let auth = auth(&["1.0", "0.x"]);
    let claims = with(with(final_claims(), "nbf", json!(NOW)), "exp", json!(NOW + 1));
    let verify = |token: &str, now: u64| {
        auth.verify(token, Role::Publish, now).map(|_| ()).map_err(|problem| problem.cause)
    };
    let legacy = json!({ "nbf": NOW, "exp": NOW + 1, "mercure": { "publish": ["*"] } });
    for token in [signed(&final_header(), &claims, PUBLISHER), legacy_token(&legacy)] {
        // The second round meets a remembered token.
        for _ in 0..2 {
            assert_eq!(verify(&token, NOW * 1_000 - 1), Err(TokenCause::NotYetValid));
            assert_eq!(verify(&token, NOW * 1_000), Ok(()));
            assert_eq!(verify(&token, NOW * 1_000 + 999), Ok(()));
            assert_eq!(verify(&token, NOW * 1_000 + 1_000), Err(TokenCause::Expired));
            assert_eq!(verify(&token, u64::MAX), Err(TokenCause::Expired));
        }
    }
}

#[test]
fn m44_only_access_tokens_are_taken_in_1_0() {
    for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let header = with(final_header(), "typ", json!(kind));
        assert!(publish(&auth(&["1.0"]), &signed(&header, &final_claims(), PUBLISHER)).is_ok());
    }
    for kind in [json!("JWT"), json!("id+jwt"), json!("at+jwt "), json!(null), json!(["at+jwt"])] {
        let header = with(final_header(), "typ", kind);
        // Also where 0.x, which knows no `typ`, is accepted beside.
        let token = signed(&header, &final_claims(), PUBLISHER);
        for accept in [&["1.0"][..], &["1.0", "0.x"]] {
            assert_eq!(refused(publish(&auth(accept), &token)), TokenCause::WrongType);
        }
    }
}

#[test]
fn keys_of_one_role_do_not_open_the_other() {
    let both = json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } });
    for (header, claims) in [(final_header(), final_claims()), (legacy_header(), both)] {
        for (secret, role) in [(PUBLISHER, Role::Subscribe), (SUBSCRIBER, Role::Publish)] {
            let token = signed(&header, &claims, secret);
            let problem = auth(&["1.0", "0.x"]).verify(&token, role, NOW * 1_000).unwrap_err();
            assert_eq!(problem.cause, TokenCause::BadSignature);
        }
    }
}

#[test]
fn a_remembered_token_does_not_open_the_other_role() {
    let auth = auth(&["1.0"]);
    let token = signed(&final_header(), &final_claims(), PUBLISHER);
    assert!(auth.verify(&token, Role::Publish, NOW * 1_000).is_ok());
    assert!(auth.verify(&token, Role::Subscribe, NOW * 1_000).is_err());
}

#[test]
fn m47_keys_of_one_issuer_do_not_sign_for_another() {
    let issuer = |id: &str, key: &str, accept: &str| {
        let key = json!({ "key": key });
        json!({ "id": id, "accept": [accept], "publish": key })
    };
    let auth = auth_of(&json!([
        issuer(ISSUER, PUBLISHER, "1.0"),
        issuer("https://other.example", SUBSCRIBER, "1.0"),
        issuer("https://old.example", "the old issuer's secret, also long enough", "0.x"),
    ]));
    let token = |issuer: &str, key: &str| {
        signed(&final_header(), &with(final_claims(), "iss", json!(issuer)), key)
    };
    assert!(publish(&auth, &token(ISSUER, PUBLISHER)).is_ok());
    assert!(publish(&auth, &token("https://other.example", SUBSCRIBER)).is_ok());
    for (issuer, key) in [(ISSUER, SUBSCRIBER), ("https://other.example", PUBLISHER)] {
        assert_eq!(refused(publish(&auth, &token(issuer, key))), TokenCause::BadSignature);
    }
    // An issuer that accepts only 1.0 has no 0.x tokens, signed by whomever.
    let old = json!({ "iss": ISSUER, "mercure": { "publish": ["*"] } });
    let key = "the old issuer's secret, also long enough";
    assert_eq!(
        refused(publish(&auth, &signed(&legacy_header(), &old, key))),
        TokenCause::BadSignature
    );
    let own = signed(&legacy_header(), &old, PUBLISHER);
    assert_eq!(refused(publish(&auth, &own)), TokenCause::WrongType);
    // Without a known issuer, keys of issuers that accept only 1.0 are not tried.
    for claims in [without(old.clone(), "iss"), with(old, "iss", json!("unknown"))] {
        let token = signed(&legacy_header(), &claims, PUBLISHER);
        assert_eq!(refused(publish(&auth, &token)), TokenCause::BadSignature);
        assert!(publish(&auth, &signed(&legacy_header(), &claims, key)).is_ok());
    }
}

#[test]
fn m49_iss_is_exact_and_aud_names_this_hub() {
    for issuer in ["https://issuer.example/", "https://ISSUER.example", "", "https://issuer"] {
        let claims = with(final_claims(), "iss", json!(issuer));
        assert_eq!(refused(publish_claims(&claims)), TokenCause::UnknownIssuer);
    }
    let absent = without(final_claims(), "iss");
    assert_eq!(refused(publish_claims(&absent)), TokenCause::IssuerMissing);
    let list = with(final_claims(), "iss", json!([ISSUER]));
    assert_eq!(refused(publish_claims(&list)), TokenCause::BadClaim("iss"));
    for audience in [json!(HUB), json!(["other", HUB]), json!([HUB])] {
        assert!(publish_claims(&with(final_claims(), "aud", audience)).is_ok());
    }
    for audience in [json!("https://other"), json!([]), json!(format!("{HUB}/")), json!(["x"])] {
        let cause = refused(publish_claims(&with(final_claims(), "aud", audience)));
        assert_eq!(cause, TokenCause::WrongAudience);
    }
    let cause = refused(publish_claims(&without(final_claims(), "aud")));
    assert_eq!(cause, TokenCause::WrongAudience);
    for audience in [json!(1), json!({}), json!([HUB, 1]), json!(null)] {
        let cause = refused(publish_claims(&with(final_claims(), "aud", audience)));
        assert_eq!(cause, TokenCause::BadClaim("aud"));
    }
}

#[test]
fn m50_sub_and_jti_are_texts_or_absent_in_both_generations() {
    let draft = json!({ "mercure": { "publish": ["*"] } });
    for name in ["sub", "jti"] {
        let both = |value: Value| {
            let last = publish_claims(&with(final_claims(), name, value.clone()));
            [last, legacy(&with(draft.clone(), name, value))]
        };
        for value in [json!(4242), json!(["a"]), json!({}), json!(true)] {
            assert_eq!(both(value).map(refused), [(); 2].map(|()| TokenCause::BadClaim(name)));
        }
        for value in [json!("a"), json!(null), json!("")] {
            assert!(both(value).iter().all(Result::is_ok));
        }
    }
}

#[test]
fn an_issuer_may_name_more_audiences() {
    let auth = auth_of(&json!([{
        "id": ISSUER, "audience": ["https://localhost/hub"], "publish": { "key": PUBLISHER },
    }]));
    for (audience, expected) in [(HUB, true), ("https://localhost/hub", true), ("x", false)] {
        let claims = with(final_claims(), "aud", json!(audience));
        let token = signed(&final_header(), &claims, PUBLISHER);
        assert_eq!(publish(&auth, &token).is_ok(), expected, "{audience}");
    }
}

#[test]
fn a_token_is_not_stretched_by_the_other_generation() {
    // With both claims it is one of 1.0, whose checks it fails, although 0.x would let it pass.
    let both = with(final_claims(), "mercure", json!({ "publish": ["*"] }));
    let auth = auth(&["1.0", "0.x"]);
    let late = with(both.clone(), "aud", json!("https://other"));
    let token = signed(&final_header(), &late, PUBLISHER);
    let problem = auth.verify(&token, Role::Publish, NOW * 1_000).unwrap_err();
    assert_eq!(problem.cause, TokenCause::WrongAudience);
    assert_eq!(problem.generation, Generation::Final);
    // And grants what its details say, nothing of the other claim.
    let none = with(both.clone(), "authorization_details", json!([]));
    let verified = publish(&auth, &signed(&final_header(), &none, PUBLISHER)).unwrap();
    assert!(verified.generation == Generation::Final && !verified.may);
    assert!(verified.grant.publish.is_empty());
    // An issuer of 0.x alone gives no 1.0 tokens.
    let token = signed(&final_header(), &both, PUBLISHER);
    let cause = refused(publish(&tests::auth(&["0.x"]), &token));
    assert_eq!(cause, TokenCause::GenerationNotAccepted);
    // Nor an unknown issuer.
    let unknown = signed(&final_header(), &without(both, "iss"), PUBLISHER);
    assert_eq!(refused(publish(&auth, &unknown)), TokenCause::IssuerMissing);
}

#[test]
fn a_token_without_any_grant_is_valid_and_grants_nothing() {
    let claims = without(final_claims(), "authorization_details");
    for accept in [&["1.0"][..], &["1.0", "0.x"]] {
        let token = signed(&final_header(), &claims, PUBLISHER);
        let verified = publish(&auth(accept), &token).unwrap();
        assert_eq!((verified.generation, verified.may), (Generation::Final, false));
    }
    let verified = legacy(&json!({ "exp": NOW + 1 })).unwrap();
    assert_eq!((verified.generation, verified.may), (Generation::Draft, false));
}

// --- Times ---------------------------------------------------------------------------------------

#[test]
fn m48_exp_is_required_in_1_0_and_numbers_do_not_overflow() {
    let absent = without(final_claims(), "exp");
    assert_eq!(refused(publish_claims(&absent)), TokenCause::ExpiryMissing);
    let null = with(final_claims(), "exp", json!(null));
    assert_eq!(refused(publish_claims(&null)), TokenCause::ExpiryMissing);
    for (name, value) in [("exp", json!("1900000000")), ("nbf", json!([])), ("exp", json!({}))] {
        let cause = refused(publish_claims(&with(final_claims(), name, value)));
        assert_eq!(cause, TokenCause::BadClaim(name));
    }
    for (exp, expected) in [
        (json!(NOW as f64 + 0.5), NOW * 1_000 + 500),
        (json!(u64::MAX), u64::MAX),
        (json!(1e300), u64::MAX),
    ] {
        let verified = publish_claims(&with(final_claims(), "exp", exp)).unwrap();
        assert_eq!(verified.grant.expires, Some(expected));
    }
    for exp in [json!(-1), json!(-1e300), json!(0), json!(i64::MIN), json!(1e-300)] {
        let cause = refused(publish_claims(&with(final_claims(), "exp", exp)));
        assert_eq!(cause, TokenCause::Expired);
    }
    assert!(publish_claims(&with(final_claims(), "nbf", json!(-1.5))).is_ok());
    let never = with(final_claims(), "nbf", json!(1e300));
    assert_eq!(refused(publish_claims(&never)), TokenCause::NotYetValid);
}

// --- Authorization details -----------------------------------------------------------------------

fn details_cause(details: Value) -> Option<TokenCause> {
    let claims = with(final_claims(), "authorization_details", details);
    let publish = publish_claims(&claims).err();
    // A flaw spoils the token in both roles.
    assert_eq!(publish.is_some(), subscribe_claims(&claims).is_err());
    publish
}

#[test]
fn m52_m53_m54_one_bad_detail_spoils_the_token() {
    let topics = json!([{ "match": "a" }]);
    let good = detail(&json!(["publish"]), &topics);
    assert_eq!(details_cause(json!([good])), None);
    let bad = [
        without(good.clone(), "actions"),
        with(good.clone(), "actions", json!([])),
        with(good.clone(), "actions", json!("publish")),
        with(good.clone(), "actions", json!(["publish", 1])),
        with(good.clone(), "actions", json!([null])),
        without(good.clone(), "topics"),
        with(good.clone(), "topics", json!([])),
        with(good.clone(), "topics", json!({ "match": "a" })),
        with(good.clone(), "topics", json!(["a"])),
        with(good.clone(), "topics", json!([null])),
        with(good.clone(), "topics", json!([{}])),
        with(good.clone(), "topics", json!([{ "match": 1 }])),
        with(good.clone(), "topics", json!([{ "match": "a" }, { "match": null }])),
        with(good.clone(), "topics", json!([{ "match": "a", "match_type": null }])),
        with(good.clone(), "topics", json!([{ "match": "*", "match_type": 1 }])),
        with(good.clone(), "payload", json!("text")),
        with(good.clone(), "payload", json!([])),
        with(good.clone(), "payload", json!(null)),
        without(good.clone(), "type"),
        with(good.clone(), "type", json!(1)),
        json!("text"),
        json!(null),
    ];
    for bad in bad {
        let cause = details_cause(json!([good, bad]));
        assert!(matches!(cause, Some(TokenCause::BadDetails(_))), "{bad}: {cause:?}");
    }
    for name in ["Exact", "regex", "", "URLPattern", "matcher"] {
        let topics = json!([{ "match": "a", "match_type": name }]);
        let cause = details_cause(json!([detail(&json!(["publish"]), &topics)]));
        assert_eq!(cause, Some(TokenCause::UnknownMatchType), "{name}");
    }
    for details in [json!({}), json!("x"), json!(null), json!(1)] {
        assert!(matches!(details_cause(details), Some(TokenCause::BadClaim(_))));
    }
    let long = json!([{ "match": "x".repeat(4_097) }]);
    let cause = details_cause(json!([detail(&json!(["publish"]), &long)]));
    assert_eq!(cause, Some(TokenCause::BadPattern("too long")));
    let long = json!([{ "match": "x".repeat(4_096) }]);
    assert_eq!(details_cause(json!([detail(&json!(["publish"]), &long)])), None);
}

#[test]
fn m52_other_types_and_unknown_actions_grant_nothing_and_harm_nothing() {
    let topics = json!([{ "match": "a" }]);
    let with_more = json!({ "match": "b", "y": 1 });
    let claims = with(
        final_claims(),
        "authorization_details",
        json!([
            { "type": "https://other.example", "topics": 7 },
            { "type": format!("{DETAIL_TYPE}/"), "actions": ["publish"], "topics": topics },
            detail(&json!(["delete", "Publish"]), &topics),
            with(detail(&json!(["publish", "x"]), &json!([with_more])), "z", json!(1)),
        ]),
    );
    let verified = publish_claims(&claims).unwrap();
    assert_eq!(verified.grant.publish.len(), 1);
    assert!(matches!(&*verified.grant.publish[0], Matcher::Exact(text) if **text == *"b"));
    let verified = subscribe_claims(&claims).unwrap();
    assert!(!verified.may && verified.grant.subscribe.is_empty());
}

#[test]
fn m54_details_and_topics_are_counted() {
    let one = detail(&json!(["publish"]), &json!([{ "match": "a" }]));
    assert_eq!(details_cause(json!(vec![one.clone(); TOKEN_DETAILS_MAX])), None);
    let cause = details_cause(json!(vec![one; TOKEN_DETAILS_MAX + 1]));
    assert_eq!(cause, Some(TokenCause::TooMany("authorization details")));
    let topics = |count: usize| {
        let topics = json!(vec![json!({ "match": "a" }); count]);
        detail(&json!(["subscribe"]), &topics)
    };
    assert_eq!(details_cause(json!([topics(TOKEN_TOPICS_MAX - 1), topics(1)])), None);
    let cause = details_cause(json!([topics(TOKEN_TOPICS_MAX), topics(1)]));
    assert_eq!(cause, Some(TokenCause::TooMany("topics in authorization details")));
}

#[test]
fn m53_match_types_choose_the_language_and_the_wildcard_comes_first() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let options = json!({ "issuer": [{ "id": ISSUER, "publish": { "key": PUBLISHER } }] });
    let options = serde_json::from_value(options).unwrap();
    let auth = Auth::with_matchers(&options, &namespace(), move |language, pattern| {
        record.lock().unwrap().push((language, pattern.to_owned()));
        Ok(Arc::new(Matcher::Any))
    })
    .unwrap();
    let topics = json!([
        { "match": "a" },
        { "match": "b", "match_type": "exact" },
        { "match": "c", "match_type": "urlpattern" },
        { "match": "d", "match_type": "uritemplate" },
        { "match": "e", "match_type": "mqtt" },
        { "match": "f", "match_type": "nats" },
        { "match": "*", "match_type": "nats" },
        { "match": "*", "match_type": "no such type" },
    ]);
    let details = json!([detail(&json!(["publish"]), &topics)]);
    let claims = with(final_claims(), "authorization_details", details);
    publish(&auth, &signed(&final_header(), &claims, PUBLISHER)).unwrap();
    let expected = [
        (Language::Exact, "a"),
        (Language::Exact, "b"),
        (Language::UrlPattern, "c"),
        (Language::UriTemplate, "d"),
        (Language::Mqtt, "e"),
        (Language::Nats, "f"),
        (Language::Exact, "*"),
        (Language::Exact, "*"),
    ];
    let expected = expected.map(|(language, pattern)| (language, pattern.to_owned()));
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn m58_payloads_are_kept_in_the_order_of_the_details() {
    let subscribe = json!(["subscribe"]);
    let topics = json!([{ "match": "a" }]);
    let claims = with(
        final_claims(),
        "authorization_details",
        json!([
            with(detail(&subscribe, &topics), "payload", json!({ "n": 1 })),
            with(detail(&json!(["publish"]), &topics), "payload", json!({ "n": 2 })),
            detail(&subscribe, &topics),
            with(detail(&subscribe, &topics), "payload", json!({})),
        ]),
    );
    let verified = subscribe_claims(&claims).unwrap();
    let payloads: Vec<_> = verified.details.iter().map(|detail| detail.payload.clone()).collect();
    assert_eq!(payloads, [Some(json!({ "n": 1 })), None, Some(json!({}))]);
}

// --- Claims of 0.x -------------------------------------------------------------------------------

#[test]
fn an_absent_list_differs_from_an_empty_one_in_0_x() {
    for (mercure, may, matchers) in [
        (json!({ "publish": ["a", "b"] }), true, 2),
        (json!({ "publish": [] }), true, 0),
        (json!({ "publish": null }), false, 0),
        (json!({ "subscribe": ["*"] }), false, 0),
        (json!({}), false, 0),
        (json!(null), false, 0),
    ] {
        let verified = legacy(&json!({ "mercure": mercure })).unwrap();
        assert_eq!((verified.may, verified.grant.publish.len()), (may, matchers), "{mercure}");
    }
}

#[test]
fn the_namespaced_claim_replaces_the_short_one_as_a_whole() {
    let short = json!({ "publish": ["a", "b"] });
    let token = |long: Value| json!({ "mercure": short, "https://mercure.rocks/": long });
    let verified = legacy(&token(json!({ "publish": ["c"] }))).unwrap();
    assert_eq!(verified.grant.publish.len(), 1);
    let verified = legacy(&token(json!({ "subscribe": ["c"] }))).unwrap();
    assert!(!verified.may && verified.grant.publish.is_empty());
    let verified = legacy(&token(json!(null))).unwrap();
    assert_eq!(verified.grant.publish.len(), 2);
    let alone = json!({ "https://mercure.rocks/": { "publish": ["*"] } });
    assert!(legacy(&alone).unwrap().may);
}

#[test]
fn malformed_claims_of_0_x_are_refused() {
    for mercure in [
        json!("*"),
        json!(["*"]),
        json!({ "publish": "*" }),
        json!({ "publish": ["a", 1] }),
        json!({ "publish": [null] }),
        json!({ "publish": [{ "match": "a" }] }),
        json!({ "publish": ["*"], "subscribe": { } }),
    ] {
        let cause = refused(legacy(&json!({ "mercure": mercure })));
        assert_eq!(cause, TokenCause::BadClaim("mercure"), "{mercure}");
    }
    let list = |count: usize| json!({ "mercure": { "publish": vec!["a"; count] } });
    assert!(legacy(&list(CLAIM_SELECTORS_MAX)).is_ok());
    let cause = refused(legacy(&list(CLAIM_SELECTORS_MAX + 1)));
    assert_eq!(cause, TokenCause::TooMany("selectors"));
}

#[test]
fn selectors_of_0_x_are_templates() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let options = json!({ "issuer": [
        { "id": ISSUER, "accept": ["0.x"], "publish": { "key": PUBLISHER } },
    ] });
    let options = serde_json::from_value(options).unwrap();
    let auth = Auth::with_matchers(&options, &namespace(), move |language, pattern| {
        record.lock().unwrap().push((language, pattern.to_owned()));
        Ok(Arc::new(Matcher::Any))
    })
    .unwrap();
    let selectors = json!({ "publish": ["*", "https://e.com/{id}"] });
    publish(&auth, &legacy_token(&json!({ "mercure": selectors }))).unwrap();
    let expected = ["*", "https://e.com/{id}"].map(|text| (Language::UriTemplate, text.to_owned()));
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn the_payload_of_0_x_belongs_to_every_subscription() {
    let claims = json!({ "mercure": { "subscribe": [], "payload": [1, "x"] } });
    let token = signed(&legacy_header(), &claims, SUBSCRIBER);
    let verified = auth(&["0.x"]).verify(&token, Role::Subscribe, NOW * 1_000).unwrap();
    assert_eq!(verified.details[0].payload, Some(json!([1, "x"])));
    assert!(matches!(*verified.details[0].topics[0], Matcher::Any));
}

// --- Signatures ----------------------------------------------------------------------------------

/// Algorithm, private key, public key.
fn key_pairs() -> Vec<(&'static str, &'static str, &'static str)> {
    let rsa = (pem!("rsa2048.private"), pem!("rsa2048.public"));
    let mut pairs: Vec<_> = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        .map(|name| (name, rsa.0, rsa.1))
        .to_vec();
    pairs.push(("ES256", pem!("p256.private"), pem!("p256.public")));
    pairs.push(("ES384", pem!("p384.private"), pem!("p384.public")));
    pairs.push(("ES512", pem!("p521.private"), pem!("p521.public")));
    pairs.push(("EdDSA", pem!("ed25519.private"), pem!("ed25519.public")));
    pairs
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<Vec<_>>().concat()).unwrap()
}

fn signed_by(name: &str, private: &str) -> String {
    let header = json!({ "alg": name, "typ": "at+jwt" }).to_string();
    let signed = format!("{}.{}", encode(header), encode(final_claims().to_string()));
    if name == "ES512" {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, &der(private));
        let signature = pair.unwrap().sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        return format!("{signed}.{}", encode(signature));
    }
    let key = match name.get(..2) {
        Some("ES") => EncodingKey::from_ec_pem(private.as_bytes()),
        Some("Ed") => EncodingKey::from_ed_pem(private.as_bytes()),
        Some("HS") => Ok(EncodingKey::from_secret(private.as_bytes())),
        _ => EncodingKey::from_rsa_pem(private.as_bytes()),
    };
    let algorithm = name.parse().unwrap();
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key.unwrap(), algorithm);
    format!("{signed}.{}", signature.unwrap())
}

fn auth_with(algorithm: &str, key: &str) -> Auth {
    auth_of(&json!([
        { "id": ISSUER, "publish": { "key": key, "algorithm": algorithm } },
    ]))
}

#[test]
fn m45_every_algorithm_verifies_its_own_signatures_only() {
    let pairs = key_pairs();
    for (algorithm, _, public) in &pairs {
        let auth = auth_with(algorithm, public);
        for (other, private, _) in &pairs {
            let result = publish(&auth, &signed_by(other, private)).map(|_| ());
            let expected =
                if algorithm == other { Ok(()) } else { Err(TokenCause::AlgorithmNotAllowed) };
            assert_eq!(result, expected, "{other} token, {algorithm} key");
        }
    }
    let secret = "x".repeat(64);
    for algorithm in ["HS256", "HS384", "HS512"] {
        let token = signed_by(algorithm, &secret);
        assert!(publish(&auth_with(algorithm, &secret), &token).is_ok(), "{algorithm}");
        let other = auth_with(algorithm, &"y".repeat(64));
        assert_eq!(refused(publish(&other, &token)), TokenCause::BadSignature);
    }
    let pkcs1 = auth_with("RS256", pem!("rsa2048.pkcs1"));
    assert!(publish(&pkcs1, &signed_by("RS256", pem!("rsa2048.private"))).is_ok());
    let other = signed_by("RS256", pem!("rsa2048b.private"));
    assert_eq!(refused(publish(&pkcs1, &other)), TokenCause::BadSignature);
}

#[test]
fn ecdsa_signatures_of_zeros_do_not_verify() {
    // r = s = 0 verified everything in some libraries.
    for (algorithm, bytes) in [("ES256", 64), ("ES384", 96), ("ES512", 132)] {
        let pairs = key_pairs();
        let (_, private, public) = pairs.iter().find(|pair| pair.0 == algorithm).unwrap();
        let token = signed_by(algorithm, private);
        let (signed, _) = token.rsplit_once('.').unwrap();
        for signature in [vec![0; bytes], vec![0xff; bytes], vec![0; 8], Vec::new()] {
            let token = format!("{signed}.{}", encode(signature));
            assert_eq!(
                refused(publish(&auth_with(algorithm, public), &token)),
                TokenCause::BadSignature
            );
        }
    }
}

#[test]
fn one_token_has_one_spelling() {
    let auth = auth(&["1.0"]);
    let token = signed(&final_header(), &final_claims(), PUBLISHER);
    assert!(publish(&auth, &token).is_ok());
    for other in [
        format!("{token}="),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{token}"),
        token.replace('.', ".."),
        token.replacen('.', "=.", 1),
        String::new(),
        "..".to_owned(),
        ".".to_owned(),
    ] {
        assert!(publish(&auth, &other).is_err(), "{other}");
    }
    // The last character of a 32-byte signature has two loose bits.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (start, last) = token.split_at(token.len() - 1);
    for character in alphabet.chars().filter(|character| !last.starts_with(*character)) {
        assert!(publish(&auth, &format!("{start}{character}")).is_err());
    }
}

// --- Keys ----------------------------------------------------------------------------------------

fn key_flaw(accept: &str, allow_weak: bool, key: &Value) -> Option<KeyFlaw> {
    let options = json!({
        "allow_weak_keys": allow_weak,
        "issuer": [{ "id": ISSUER, "accept": [accept], "subscribe": key }],
    });
    let result = Auth::offline(&serde_json::from_value(options).unwrap(), &namespace());
    match result {
        Ok(_) => None,
        Err(BadKeys::Key { issuer, role, flaw }) => {
            assert_eq!((issuer.as_str(), role), (ISSUER, Role::Subscribe));
            Some(flaw)
        }
        Err(other) => panic!("{other}"),
    }
}

macro_rules! assert_flaw {
    ($result:expr, $pattern:pat) => {{
        let flaw = $result;
        assert!(matches!(flaw, Some($pattern)), "{flaw:?}");
    }};
}

#[test]
fn weak_secrets_are_refused_unless_allowed() {
    for known in [WELL_KNOWN_SECRET.to_owned(), format!("{WELL_KNOWN_SECRET}\n")] {
        for accept in ["0.x", "1.0"] {
            assert_flaw!(key_flaw(accept, false, &json!({ "key": known })), KeyFlaw::WellKnown);
            assert!(key_flaw(accept, true, &json!({ "key": known })).is_none());
        }
    }
    // Short secrets are usual in 0.x.
    let short = json!({ "key": "!ChangeMe!" });
    assert!(key_flaw("0.x", false, &short).is_none());
    assert_flaw!(key_flaw("1.0", false, &short), KeyFlaw::TooShort { bytes: 32, .. });
    assert!(key_flaw("1.0", true, &short).is_none());
    let key = |algorithm: &str| json!({ "key": "x".repeat(48), "algorithm": algorithm });
    assert!(key_flaw("1.0", false, &key("HS384")).is_none());
    assert_flaw!(key_flaw("1.0", false, &key("HS512")), KeyFlaw::TooShort { bytes: 64, .. });
    assert_flaw!(key_flaw("1.0", true, &json!({ "key": "" })), KeyFlaw::Empty);
}

#[test]
fn m45_a_key_must_fit_its_algorithm() {
    let key = |key: &str, algorithm: &str| {
        key_flaw("1.0", true, &json!({ "key": key, "algorithm": algorithm }))
    };
    let rsa = pem!("rsa2048.public");
    let p256 = pem!("p256.public");
    for algorithm in ["HS256", "HS384", "HS512"] {
        assert_flaw!(key(rsa, algorithm), KeyFlaw::PemForSecret { .. });
        assert_flaw!(key(&format!("\n {rsa}"), algorithm), KeyFlaw::PemForSecret { .. });
    }
    assert_flaw!(key_flaw("1.0", true, &json!({ "key": rsa })), KeyFlaw::PemForSecret { .. });
    assert_flaw!(key(p256, "RS256"), KeyFlaw::DoesNotFit { .. });
    assert_flaw!(key(p256, "ES384"), KeyFlaw::DoesNotFit { .. });
    assert_flaw!(key(p256, "EdDSA"), KeyFlaw::DoesNotFit { .. });
    assert_flaw!(key(rsa, "ES256"), KeyFlaw::DoesNotFit { .. });
    assert_flaw!(key(pem!("ed25519.public"), "PS256"), KeyFlaw::DoesNotFit { .. });
    assert_flaw!(key(pem!("rsa2048.pkcs1"), "ES256"), KeyFlaw::NotPem { .. });
    assert_flaw!(key("a secret", "RS256"), KeyFlaw::NotPem { .. });
    assert_flaw!(
        key("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----", "RS256"),
        KeyFlaw::NotPem { .. }
    );
    assert_flaw!(key(pem!("rsa1024.public"), "RS256"), KeyFlaw::RsaTooSmall { bits: 1024 });
    assert_flaw!(key(pem!("rsa1024.public"), "PS512"), KeyFlaw::RsaTooSmall { bits: 1024 });
    for (private, algorithm) in
        [(pem!("rsa2048.private"), "RS256"), (pem!("p256.private"), "ES256")]
    {
        assert_flaw!(key(private, algorithm), KeyFlaw::Private);
    }
    assert_flaw!(key(pem!("certificate"), "EdDSA"), KeyFlaw::Certificate);
    for name in ["none", "hs256", "RSA-OAEP", ""] {
        assert_flaw!(key("x", name), KeyFlaw::UnknownAlgorithm { .. });
    }
    assert!(key(pem!("ed25519.public"), "Ed25519").is_none());
}

#[test]
fn key_files_lose_one_line_ending() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for (text, accepted) in [
        (PUBLISHER.to_owned(), true),
        (format!("{PUBLISHER}\n"), true),
        (format!("{PUBLISHER}\r\n"), true),
        (format!("{PUBLISHER}\n\n"), false),
        (format!("{PUBLISHER}\r"), false),
    ] {
        std::fs::write(&path, &text).unwrap();
        let auth = auth_of(&json!([{ "id": ISSUER, "publish": { "key_file": path } }]));
        let token = signed(&final_header(), &final_claims(), PUBLISHER);
        assert_eq!(publish(&auth, &token).is_ok(), accepted, "{text:?}");
    }
    std::fs::write(&path, "\n").unwrap();
    assert_flaw!(key_flaw("1.0", true, &json!({ "key_file": path })), KeyFlaw::Empty);
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    assert_flaw!(key_flaw("1.0", true, &json!({ "key_file": path })), KeyFlaw::TooLarge { .. });
    let absent = json!({ "key_file": folder.path().join("absent") });
    assert_flaw!(key_flaw("1.0", true, &absent), KeyFlaw::Unreadable { .. });
    let both = json!({ "key": "x", "key_file": path });
    assert_flaw!(key_flaw("1.0", true, &both), KeyFlaw::Twice);
    assert_flaw!(key_flaw("1.0", true, &json!({})), KeyFlaw::Missing);
}

#[test]
fn issuers_without_sense_are_refused() {
    let new = |issuers: Value| {
        let options = serde_json::from_value(json!({ "issuer": issuers })).unwrap();
        Auth::offline(&options, &namespace()).map(|_| ()).unwrap_err()
    };
    let key = json!({ "key": PUBLISHER });
    let one = |id: &str, accept: Value| json!({ "id": id, "accept": accept, "publish": key });
    assert!(matches!(new(json!([{ "id": "a" }])), BadKeys::NoKey { .. }));
    assert!(matches!(new(json!([one("", json!(["1.0"]))])), BadKeys::EmptyIssuer));
    assert!(matches!(new(json!([one("a", json!([]))])), BadKeys::NothingAccepted { .. }));
    let twice = json!([one("a", json!(["1.0"])), one("a", json!(["0.x"]))]);
    assert!(matches!(new(twice), BadKeys::DuplicateIssuer { .. }));
    let drafts = |count: usize| -> Vec<_> {
        (0..count).map(|id| one(&id.to_string(), json!(["0.x"]))).collect()
    };
    assert!(matches!(new(json!(drafts(DRAFT_ISSUERS_MAX + 1))), BadKeys::TooManyDraftIssuers));
    auth_of(&json!(drafts(DRAFT_ISSUERS_MAX)));
}

#[test]
fn an_issuer_without_a_key_for_the_role_refuses() {
    let auth = auth_of(&json!([{ "id": ISSUER, "subscribe": { "key": SUBSCRIBER } }]));
    let token = signed(&final_header(), &final_claims(), SUBSCRIBER);
    assert_eq!(refused(publish(&auth, &token)), TokenCause::NoKey);
}

// --- In which words a token is refused -----------------------------------------------------------

#[test]
fn refusals_use_the_words_of_the_token_or_of_the_only_generation() {
    let words = |accept: &[&str], token: &str| {
        let problem = auth(accept).verify(token, Role::Publish, NOW * 1_000).unwrap_err();
        (problem.generation, problem.recognized)
    };
    let both = ["1.0", "0.x"];
    let forged = signed(&final_header(), &final_claims(), "forged");
    assert_eq!(words(&both, &forged), (Generation::Final, true));
    let forged = signed(&legacy_header(), &json!({ "mercure": {} }), "forged");
    assert_eq!(words(&both, &forged), (Generation::Draft, true));
    let critical = with(legacy_header(), "crit", json!(["x"]));
    let critical = signed(&critical, &json!({ "mercure": {} }), PUBLISHER);
    assert_eq!(words(&both, &critical), (Generation::Draft, true));
    assert_eq!(words(&both, "garbage"), (Generation::Final, false));
    assert_eq!(words(&["1.0"], "garbage"), (Generation::Final, false));
    assert_eq!(words(&["0.x"], "garbage"), (Generation::Draft, false));
    assert_eq!(words(&["1.0"], &forged).0, Generation::Final);
}

#[test]
fn neither_token_nor_key_shows_in_errors_or_debug_output() {
    let secret_topic = "https://e.com/very-secret-topic";
    let mut texts = Vec::new();
    for topics in [
        json!([{ "match": secret_topic, "match_type": "very-secret-topic" }]),
        json!([{ "match": secret_topic }, secret_topic]),
        json!([{ "match": secret_topic.repeat(1_000) }]),
        json!([{ "match": "#/very-secret-topic", "match_type": "mqtt" }]),
        json!([{ "match": "https://[very-secret-topic", "match_type": "urlpattern" }]),
    ] {
        let details = json!([detail(&json!(["publish"]), &topics)]);
        let claims = with(final_claims(), "authorization_details", details);
        let token = signed(&final_header(), &claims, PUBLISHER);
        let auth = auth(&["1.0"]);
        if let Err(problem) = auth.verify(&token, Role::Publish, NOW * 1_000) {
            texts.push(format!("{problem} {problem:?}"));
        }
        texts.push(format!("{auth:?}"));
    }
    let bad = Auth::offline(
        &serde_json::from_value(json!({ "issuer": [
            { "id": "a", "publish": { "key": "very-secret-key", "algorithm": "RS256" } },
        ] }))
        .unwrap(),
        &namespace(),
    );
    let bad = bad.unwrap_err();
    texts.push(format!("{bad} {bad:?}"));
    for text in texts {
        assert!(!text.contains("very-secret") && !text.contains(PUBLISHER), "{text}");
    }
}

#[test]
fn the_query_token_needs_an_issuer_of_0_x() {
    assert!(auth(&["0.x"]).query_token_allowed());
    assert!(!auth(&["1.0"]).query_token_allowed());
    let options = json!({ "query_token": false, "issuer": [
        { "id": ISSUER, "accept": ["0.x"], "publish": { "key": PUBLISHER } },
    ] });
    let auth = Auth::offline(&serde_json::from_value(options).unwrap(), &namespace()).unwrap();
    assert!(!auth.query_token_allowed() && !auth.anonymous_allowed());
}

// --- Explanations --------------------------------------------------------------------------------

#[test]
fn explanations_agree_with_verification() {
    let auth = auth(&["1.0", "0.x"]);
    let now = NOW * 1_000;
    let expired = with(with(final_claims(), "exp", json!(1)), "aud", json!("x"));
    for (token, problems) in [
        (signed(&final_header(), &final_claims(), PUBLISHER), &[][..]),
        (legacy_token(&json!({ "mercure": { "publish": [] } })), &[]),
        (signed(&legacy_header(), &expired, "forged"), &["signature", "typ", "exp", "aud"]),
        (signed(&json!({ "alg": "none" }), &json!({}), ""), &["alg", "signature"]),
        (signed(&final_header(), &without(final_claims(), "iss"), PUBLISHER), &["iss"]),
        ("garbage".to_owned(), &["form"]),
    ] {
        let findings = auth.explain(&token, Role::Publish, now);
        let found: Vec<_> = findings
            .iter()
            .filter(|finding| finding.problem.is_some())
            .map(|finding| finding.check)
            .collect();
        assert_eq!(found, problems, "{findings:#?}");
        assert_eq!(auth.verify(&token, Role::Publish, now).is_ok(), problems.is_empty());
    }
}

// --- Anything at all -----------------------------------------------------------------------------

/// JSON that looks like claims more often than chance would have it.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("iss"),
        Just("aud"),
        Just("exp"),
        Just("nbf"),
        Just("mercure"),
        Just("publish"),
        Just("subscribe"),
        Just("payload"),
        Just("authorization_details"),
        Just("type"),
        Just("actions"),
        Just("topics"),
        Just("match"),
        Just("match_type"),
        Just("alg"),
        Just("typ"),
        Just("kid"),
        Just("crit"),
        Just("https://mercure.rocks/"),
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!(DETAIL_TYPE)),
        Just(json!("publish")),
        Just(json!("*")),
        Just(json!("i")),
        Just(json!("HS256")),
        Just(json!("at+jwt")),
        Just(json!("urlpattern")),
        Just(json!(HUB)),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|entries| {
                entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_bring_verification_down(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        fuzz_token(&bytes);
    }

    #[test]
    fn no_claims_bring_verification_down(header in any_json(), claims in any_json()) {
        for header in [header, json!({ "alg": "HS256", "typ": "at+jwt" })] {
            fuzz_token(format!("{header}\0{claims}").as_bytes());
        }
    }

    #[test]
    fn a_token_changed_anywhere_is_refused(
        place in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]",
    ) {
        let token = signed(&final_header(), &final_claims(), PUBLISHER);
        let place = place.index(token.len());
        let changed = format!("{}{to}{}", &token[..place], &token[place + 1..]);
        prop_assume!(changed != token);
        prop_assert!(publish(&auth(&["1.0", "0.x"]), &changed).is_err());
    }

    #[test]
    fn a_token_holds_from_nbf_until_exp(
        nbf in 0_u64..1 << 40, length in 0_u64..1 << 20, now in 0_u64..1 << 50,
    ) {
        let claims = with(with(final_claims(), "nbf", json!(nbf)), "exp", json!(nbf + length));
        let token = signed(&final_header(), &claims, PUBLISHER);
        let auth = auth(&["1.0"]);
        let end = (nbf + length) * 1_000;
        let near = [now, nbf * 1_000, end, end.saturating_sub(1)];
        for now in near {
            let holds = nbf * 1_000 <= now && now < end;
            prop_assert_eq!(auth.verify(&token, Role::Publish, now).is_ok(), holds);
        }
    }
}
