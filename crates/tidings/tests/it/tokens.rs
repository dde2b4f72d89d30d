//! Mints tokens as issuers do. Knows nothing of the program but the keys in the test
//! configuration.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// The issuer in the test configuration; it accepts both generations.
pub(crate) const ISSUER: &str = "https://issuer.example";
/// Verifies tokens of publishers.
pub(crate) const PUBLISH_KEY: &str = "publish-secret-of-the-tests-0123456789abcdef";
/// Verifies tokens of subscribers.
pub(crate) const SUBSCRIBE_KEY: &str = "subscribe-secret-of-the-tests-0123456789abcdef";
/// The hub's public address in the test configuration, and so the audience of its tokens.
pub(crate) const PUBLIC_URL: &str = "https://hub.example";
/// See [`PUBLIC_URL`].
pub(crate) const HUB_URL: &str = "https://hub.example/.well-known/mercure";

/// What a token is for; each role has its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Publish,
    Subscribe,
}

impl Role {
    /// The name of the action and of the claim.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Role::Publish => "publish",
            Role::Subscribe => "subscribe",
        }
    }

    /// The secret that tokens of this role are signed with.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Role::Publish => PUBLISH_KEY,
            Role::Subscribe => SUBSCRIBE_KEY,
        }
    }
}

/// Seconds since 1970, as in `exp`.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims of a 1.0 token with these details, valid for an hour.
pub(crate) fn claims_final(details: Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": HUB_URL, "exp": now() + 3600 });
    claims["authorization_details"] = details;
    claims
}

/// One entry of `authorization_details`; topics are exact matches, or `*` for all.
pub(crate) fn detail(role: Role, topics: &[&str]) -> Value {
    let topics: Vec<Value> = topics.iter().map(|topic| json!({ "match": topic })).collect();
    json!({
        "type": "https://mercure.rocks/authorization-detail",
        "actions": [role.action()],
        "topics": topics,
    })
}

/// A 1.0 token for one role: exact topics, or `*` for all.
pub(crate) fn token_final(role: Role, topics: &[&str]) -> String {
    let claims = claims_final(json!([detail(role, topics)]));
    mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, role.key())
}

/// A 0.x token for one role: selectors (topics, URI templates), or `*` for all.
pub(crate) fn token_draft(role: Role, selectors: &[&str]) -> String {
    let claims = json!({ "mercure": { role.action(): selectors } });
    mint(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, role.key())
}

/// Any header and any claims, truly signed with HS256.
pub(crate) fn mint(header: &Value, claims: &Value, secret: &str) -> String {
    mint_text(&header.to_string(), &claims.to_string(), secret)
}

/// The same from text, for what no JSON library writes (members twice, broken JSON).
pub(crate) fn mint_text(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// The header pair that carries a token.
pub(crate) fn bearer(token: &str) -> (String, String) {
    ("Authorization".to_owned(), format!("Bearer {token}"))
}
