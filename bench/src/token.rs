//! Tokens as an issuer mints them (RFC 9068, HS256), for the one key that the hubs under test know.
//! Knows no hub.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// The issuer that hubs under test are configured with.
pub(crate) const ISSUER: &str = "https://issuer.example";
/// Its secret, for publishing and subscribing.
pub(crate) const SECRET: &str = "a secret that is only used by this benchmark";
/// Longer than any run takes.
const LIFE_SECONDS: u64 = 12 * 3600;

/// A token that lets `subject` do this (`publish` or `subscribe`) with one topic, `*` for all.
pub(crate) fn mint(audience: &str, subject: &str, action: &str, topic: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": ISSUER,
        "aud": audience,
        "sub": subject,
        "exp": since.as_secs() + LIFE_SECONDS,
        "authorization_details": [{
            "type": "https://mercure.rocks/authorization-detail",
            "actions": [action],
            "topics": [{ "match": topic }],
        }],
    });
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"at+jwt"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
