//! What is kept of a grant is the same grant in another process, and falls with its key.

use super::*;

const SECOND: u64 = NOW * 1_000;

fn subscriber_of(topics: &Value) -> String {
    let mut claims = final_claims();
    claims["authorization_details"] = json!([
        detail(&json!(["subscribe"]), topics),
        detail(&json!(["publish"]), &json!([{ "match": "https://e.com/published" }])),
    ]);
    claims["sub"] = json!("anna");
    claims["jti"] = json!("token-1");
    signed(&final_header(), &claims, SUBSCRIBER)
}

fn kept(auth: &Auth, token: &str) -> KeptGrant {
    let kept = auth.keep(token, SECOND).unwrap();
    let text = serde_json::to_string(&kept).unwrap();
    assert!(!text.contains(token) && !text.contains(SUBSCRIBER));
    assert_eq!(serde_json::from_str::<KeptGrant>(&text).unwrap(), kept);
    kept
}

#[test]
fn a_kept_grant_is_restored_with_its_topics_and_without_its_end() {
    let topics = json!([
        { "match": "https://e.com/1" },
        { "match": "https://e.com/books/:id", "match_type": "urlpattern" },
        { "match": "cms.>", "match_type": "nats" },
        { "match": "a/+/b", "match_type": "mqtt" },
        { "match": "https://e.com/{id}", "match_type": "uritemplate" },
    ]);
    let kept = kept(&auth(&["1.0"]), &subscriber_of(&topics));
    assert_eq!(kept.topics.len(), 5, "what may be published is not kept: {kept:?}");
    // Another process, in which the issuer accepts more.
    let auth = auth(&["1.0", "0.x"]);
    let grant = auth.restore(&kept).unwrap();
    assert_eq!((grant.expires, grant.publish.len()), (None, 0));
    assert_eq!(grant.token.subject.as_deref(), Some("anna"));
    assert_eq!(grant.token.token_id.as_deref(), Some("token-1"));
    assert_eq!(grant.token.key.as_deref(), Some("subscribe"));
    let namespace = namespace();
    let reads = |topic| grant.covers_reading(&[Candidate::new(topic, &namespace)]);
    for topic in ["https://e.com/1", "https://e.com/books/7", "cms.a.b", "a/x/b", "https://e.com/x"]
    {
        assert!(reads(topic), "{topic}");
    }
    assert!(!reads("other") && !reads("https://e.com/published/1"));
    assert!(auth.judgement(Arc::new(standing::Stopped))(&grant));
    let revoked = Revoked::Subject("anna".to_owned());
    auth.revocations().replace(&[Revocation { revoked, issuer: None, until: None }]);
    assert!(!auth.judgement(Arc::new(standing::Stopped))(&grant));
}

#[test]
fn tokens_of_the_older_generation_are_kept_as_well() {
    let claims = json!({ "mercure": { "subscribe": ["https://e.com/{id}", "*"] } });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let kept = kept(&auth(&["0.x"]), &signed(&header, &claims, SUBSCRIBER));
    assert_eq!(kept.topics.len(), 2);
    assert!(auth(&["0.x"]).restore(&kept).is_some());
    assert!(auth(&["1.0"]).restore(&kept).is_none(), "0.x is not accepted any more");
}

#[test]
fn a_kept_grant_falls_with_its_issuer_and_its_key() {
    let kept = kept(&auth(&["1.0"]), &subscriber_of(&json!([{ "match": "*" }])));
    let with = |id: &str, key: &str| {
        auth_of(&json!([{ "id": id, "accept": ["1.0"], "subscribe": { "key": key } }]))
    };
    assert!(with(ISSUER, SUBSCRIBER).restore(&kept).is_some());
    assert!(with(ISSUER, PUBLISHER).restore(&kept).is_none(), "another key");
    assert!(with("https://other.example", SUBSCRIBER).restore(&kept).is_none());
    let other = auth_of(&json!([{ "id": ISSUER, "publish": { "key": SUBSCRIBER } }]));
    assert!(other.restore(&kept).is_none(), "no subscribers any more");
    let nobody = auth_of(&json!([]));
    assert!(!nobody.judgement(Arc::new(standing::Stopped))(&Auth::fallen()));
}

#[test]
fn a_token_that_does_not_hold_is_not_kept() {
    let auth = auth(&["1.0"]);
    let token = subscriber_of(&json!([{ "match": "*" }]));
    let cause = |token: &str, now| auth.keep(token, now).unwrap_err().cause;
    assert_eq!(cause(&token, SECOND + 60_000), TokenCause::Expired);
    assert_eq!(cause("x", SECOND), TokenCause::NotCompact);
    let publisher = signed(&final_header(), &final_claims(), PUBLISHER);
    assert_eq!(cause(&publisher, SECOND), TokenCause::BadSignature);
}
