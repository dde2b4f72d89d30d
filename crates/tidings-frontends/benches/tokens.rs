//! What a token costs that was verified before, and one that was not. Prints figures; judges
//! nothing. Without optimisation (`cargo test --bench tokens`) they are upper bounds.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::time::Instant;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tidings_core::Namespace;
use tidings_frontends::auth::{Auth, Revocation, Revoked, Role};

const SECRET: &str = "a secret for this benchmark, long enough for HS256";
const HUB: &str = "https://hub.example/.well-known/mercure";
const NOW: u64 = 1_800_000_000;
const SLICES: usize = 9;
const REPETITIONS: u32 = 20_000;

fn main() {
    let issuer = json!({ "id": "https://issuer.example", "publish": { "key": SECRET } });
    let options = serde_json::from_value(json!({ "issuer": [issuer] })).expect("options");
    let namespace = Namespace::new(HUB.parse().expect("a URL"));
    let auth = Auth::offline(&options, &namespace).expect("keys");
    let token = token("0");
    report("remembered", median(|_| verify(&auth, &token)));
    let revoked = |number: usize| Revocation {
        revoked: Revoked::Subject(format!("subject {number}")),
        issuer: None,
        until: Some(NOW * 2),
    };
    auth.revocations().replace(&(0..10_000).map(revoked).collect::<Vec<_>>());
    report("remembered, beside 10,000 revocations", median(|_| verify(&auth, &token)));
    let strange: Vec<_> =
        (0..SLICES * 2_000).map(|number| self::token(&number.to_string())).collect();
    let mut fresh = strange.iter();
    let mut slices: Vec<f64> = (0..SLICES)
        .map(|_| {
            let begun = Instant::now();
            fresh.by_ref().take(2_000).for_each(|token| verify(&auth, token));
            begun.elapsed().as_nanos() as f64 / 2_000.0
        })
        .collect();
    slices.sort_by(f64::total_cmp);
    report("for the first time (HS256)", slices.get(SLICES / 2).copied().unwrap_or_default());
}

fn token(id: &str) -> String {
    let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    let claims = json!({
        "iss": "https://issuer.example",
        "aud": HUB,
        "exp": NOW + 60,
        "sub": "https://users.example/alice",
        "jti": id,
        "authorization_details": [{
            "type": "https://mercure.rocks/authorization-detail",
            "actions": ["publish"],
            "topics": [{ "match": "https://example.com/books/1" }],
        }],
    });
    encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

fn verify(auth: &Auth, token: &str) {
    auth.verify(token, Role::Publish, NOW * 1_000).expect("a good token");
}

fn median(mut one: impl FnMut(u32)) -> f64 {
    let mut slices: Vec<f64> = (0..SLICES)
        .map(|_| {
            let begun = Instant::now();
            (0..REPETITIONS).for_each(&mut one);
            begun.elapsed().as_nanos() as f64 / f64::from(REPETITIONS)
        })
        .collect();
    slices.sort_by(f64::total_cmp);
    slices.get(SLICES / 2).copied().unwrap_or_default()
}

fn report(what: &str, nanoseconds: f64) {
    println!("a token {what}: {nanoseconds:.0} ns");
}
