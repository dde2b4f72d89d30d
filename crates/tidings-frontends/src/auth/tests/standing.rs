//! What a running hub asks of `Auth` beside single tokens: whether grants still stand, and whether
//! a key may be on its way.

use futures_util::FutureExt;
use tidings_core::Clock;

use super::*;

pub(super) struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> u64 {
        NOW * 1_000
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

#[test]
fn a_grant_stands_while_its_key_is_configured_and_its_token_not_revoked() {
    let auth = auth(&["1.0"]);
    let token = signed(&final_header(), &final_claims(), PUBLISHER);
    let grant = Arc::clone(&publish(&auth, &token).unwrap().grant);
    let stands = |auth: &Auth, grant: &Grant| auth.judgement(Arc::new(Stopped))(grant);
    assert!(stands(&auth, &grant));
    assert!(stands(&tests::auth(&["0.x", "1.0"]), &grant), "the same key");
    assert!(!stands(&tests::auth(&["0.x"]), &grant), "1.0 is no longer accepted");
    let other = auth_of(&json!([{ "id": ISSUER, "publish": { "key": SUBSCRIBER } }]));
    assert!(!stands(&other, &grant), "another key");
    assert!(stands(&other, &Grant::anonymous()), "no key at all");
    let revoked = Revoked::TokenId("token-1".to_owned());
    auth.revocations().replace(&[Revocation { revoked, issuer: None, until: None }]);
    assert!(!stands(&auth, &grant));
    assert_eq!(refused(publish(&auth, &token)), TokenCause::Revoked);
}

#[tokio::test]
async fn a_key_is_waited_for_where_it_may_come_from() {
    let of = |id: &str| json!({ "id": id, "publish": { "jwks": format!("{id}/keys") } });
    let auth = auth_of(&json!([of(ISSUER), of("https://other.example")]));
    let [one, other] = auth.key_sets() else { panic!("two sets") };
    let (issuers, same) = (vec![ISSUER.into()], vec![ISSUER.into()]);
    for cause in [TokenCause::KeysUnread { issuers }, TokenCause::KeyUnknown { issuers: same }] {
        assert_eq!(auth.key_may_come(&cause, 0).now_or_never(), Some(false), "nobody reads");
        one.begin_reading();
        let mut waiting = Box::pin(auth.key_may_come(&cause, 0));
        assert!(waiting.as_mut().now_or_never().is_none());
        one.end_reading();
        assert_eq!(waiting.now_or_never(), Some(true));
        other.begin_reading();
        assert_eq!(auth.key_may_come(&cause, 0).now_or_never(), Some(false), "of another issuer");
        one.begin_reading();
        let bad = TokenCause::BadSignature;
        assert_eq!(auth.key_may_come(&bad, 0).now_or_never(), Some(false), "no key helps");
        one.end_reading();
        other.end_reading();
    }
}

#[tokio::test]
async fn keys_that_came_while_a_token_was_judged_are_worth_another_look() {
    let auth = auth_of(&json!([{ "id": ISSUER, "publish": { "jwks": "https://i.example/keys" } }]));
    let set = &auth.key_sets()[0];
    set.begin_reading();
    let judged_by = auth.keys_generation();
    let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] });
    set.replace(keys.to_string().as_bytes(), 1).unwrap();
    set.end_reading();
    let issuers = vec![ISSUER.into()];
    let cause = TokenCause::KeysUnread { issuers };
    assert_eq!(auth.key_may_come(&cause, judged_by).now_or_never(), Some(true));
    let by_now = auth.keys_generation();
    assert_eq!(auth.key_may_come(&cause, by_now).now_or_never(), Some(false), "nothing newer");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_hangs_takes_nothing_from_another_one() {
    let of = |id: &str| json!({ "id": id, "publish": { "jwks": format!("{id}/keys") } });
    let auth = auth_of(&json!([of(ISSUER), of("https://other.example")]));
    let [hanging, other] = auth.key_sets() else { panic!("two sets") };
    let issuers = vec![ISSUER.into(), "https://other.example".into()];
    let cause = TokenCause::KeyUnknown { issuers };
    hanging.begin_reading();
    other.begin_reading();
    let read = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        other.end_reading();
    };
    assert!(tokio::join!(auth.key_may_come(&cause, 0), read).0);
    other.begin_reading();
    assert!(!auth.key_may_come(&cause, 0).await, "neither came");
}

#[test]
fn who_comes_without_a_token_is_let_in_where_the_operator_says_so() {
    for anonymous in [false, true] {
        let options = serde_json::from_value(json!({ "anonymous": anonymous })).unwrap();
        let auth = Auth::offline(&options, &namespace()).unwrap();
        assert_eq!(auth.anonymous_allowed(), anonymous);
    }
}

#[test]
fn a_forged_token_asks_for_other_keys_only_with_a_name_that_the_set_lacks() {
    let auth = auth_of(&json!([
        { "id": ISSUER, "publish": { "jwks": "https://issuer.example/keys" } },
    ]));
    let cause = |kid: &str| {
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": kid }).to_string();
        let claims = final_claims().to_string();
        let token = format!("{}.{}.{}", encode(header), encode(claims), encode([0; 64]));
        refused(publish(&auth, &token))
    };
    let issuers = || vec![ISSUER.into()];
    assert_eq!(cause("known"), TokenCause::KeysUnread { issuers: issuers() });
    let key = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "known",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let keys = json!({ "keys": [key] }).to_string();
    auth.key_sets()[0].replace(keys.as_bytes(), 1).unwrap();
    assert_eq!(cause("known"), TokenCause::BadSignature);
    assert_eq!(cause("unknown"), TokenCause::KeyUnknown { issuers: issuers() });
    // Where a token may be anybody's, all are named whose set lacks the key or is not there.
    let unread = "https://unread.example";
    let of =
        |id: &str| json!({ "id": id, "accept": ["0.x"], "publish": { "jwks": format!("{id}/k") } });
    let auth = auth_of(&json!([of(unread), of(ISSUER)]));
    auth.key_sets()[1].replace(keys.as_bytes(), 1).unwrap();
    let header = json!({ "alg": "EdDSA", "kid": "unknown" }).to_string();
    let claims = json!({ "mercure": { "publish": ["*"] } }).to_string();
    let token = format!("{}.{}.{}", encode(header), encode(claims), encode([0; 64]));
    let issuers = vec![ISSUER.into(), unread.into()];
    assert_eq!(refused(publish(&auth, &token)), TokenCause::KeyUnknown { issuers });
}
