//! The options of token verification in the shape of `tidings_frontends::auth::Options`, which
//! takes their place.

use std::path::PathBuf;

use serde::Deserialize;

/// `[auth]`: who may publish and subscribe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Whether a subscriber without a token is served (public updates only).
    pub anonymous: bool,
    /// Whether keys that everybody knows or can guess are accepted.
    pub allow_weak_keys: bool,
    /// Whether `authorization=` in the URL is read, for issuers that accept 0.x.
    pub query_token: bool,
    /// Who signs tokens.
    pub issuer: Vec<IssuerOptions>,
}

/// `[[auth.issuer]]`: one signer of tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerOptions {
    /// The `iss` of its tokens, exactly.
    pub id: String,
    /// The generations of the protocol it may speak.
    #[serde(default = "final_only")]
    pub accept: Vec<Generation>,
    /// Accepted `aud` beside the hub's own URL.
    #[serde(default)]
    pub audience: Vec<String>,
    /// The key of publishers' tokens.
    #[serde(default)]
    pub publish: Option<KeyOptions>,
    /// The key of subscribers' tokens.
    #[serde(default)]
    pub subscribe: Option<KeyOptions>,
}

fn final_only() -> Vec<Generation> {
    vec![Generation::Final]
}

/// A generation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Generation {
    /// What hubs before 1.0 speak.
    #[serde(rename = "0.x")]
    Draft,
    /// Mercure 1.0.
    #[serde(rename = "1.0")]
    Final,
}

/// One verification key.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOptions {
    /// The secret or PEM text.
    #[serde(default)]
    pub key: Option<String>,
    /// The file with the secret or PEM text.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The JWS algorithm (RFC 7518).
    #[serde(default = "hs256")]
    pub algorithm: String,
    /// The key's id in token headers: a hint, never a proof.
    #[serde(default)]
    pub kid: Option<String>,
}

impl std::fmt::Debug for KeyOptions {
    /// Without the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KeyOptions")
            .field("key_file", &self.key_file)
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

fn hs256() -> String {
    "HS256".to_owned()
}
