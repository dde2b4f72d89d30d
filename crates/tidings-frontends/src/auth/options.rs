//! What the operator writes under `[auth]`. Knows no key material and no token.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Generation, Role};

/// The `[auth]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Whether subscribers without a token are let in; they read public updates only.
    pub anonymous: bool,
    /// Whether keys are accepted that everybody knows or that are too short. Development only.
    pub allow_weak_keys: bool,
    /// Whether a token in the query parameter `authorization` is read. Only tokens of issuers that
    /// accept 0.x are ever taken from there.
    pub query_token: bool,
    /// Who signs tokens.
    pub issuer: Vec<IssuerOptions>,
}

impl Default for Options {
    fn default() -> Options {
        Options { anonymous: false, allow_weak_keys: false, query_token: true, issuer: Vec::new() }
    }
}

/// One `[[auth.issuer]]`: who signs, for which generations, with which keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerOptions {
    /// The exact value of the `iss` claim.
    pub id: String,
    /// Which generations of tokens are accepted.
    #[serde(default = "only_final")]
    pub accept: Vec<Generation>,
    /// Values of the `aud` claim that are accepted beside the hub's public URL.
    #[serde(default)]
    pub audience: Vec<String>,
    /// Whether a role without a key of its own takes the key set that the issuer's metadata
    /// names (RFC 8414, else OpenID Connect Discovery).
    #[serde(default)]
    pub discover: bool,
    /// The key for tokens of publishers; without it this issuer lets nobody publish.
    pub publish: Option<KeyOptions>,
    /// The key for tokens of subscribers; without it this issuer's tokens open no subscription.
    pub subscribe: Option<KeyOptions>,
}

impl IssuerOptions {
    /// The key for one role, if there is one.
    pub fn key(&self, role: Role) -> Option<&KeyOptions> {
        match role {
            Role::Publish => self.publish.as_ref(),
            Role::Subscribe => self.subscribe.as_ref(),
        }
    }
}

/// A secret (for HS256, HS384, HS512), a public key as PEM text (for everything else), or where a
/// set of public keys is.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyOptions {
    /// The key itself.
    pub key: Option<String>,
    /// The file that holds it. One line ending at the end of the file is not part of the key.
    pub key_file: Option<PathBuf>,
    /// The only signature algorithm for this key, by its JOSE name. A PEM key needs it spelled out.
    pub algorithm: String,
    /// The key's name, a hint when there are several. A token that names another key is still
    /// tried.
    pub kid: Option<String>,
    /// The address of a key set (RFC 7517): `https://…`, `file:///…`, or `http://` on this machine.
    pub jwks: Option<String>,
    /// The algorithms that keys of a set are used with; empty for all with public keys.
    pub algorithms: Vec<String>,
}

impl Default for KeyOptions {
    fn default() -> KeyOptions {
        KeyOptions {
            key: None,
            key_file: None,
            algorithm: "HS256".to_owned(),
            kid: None,
            jwks: None,
            algorithms: Vec::new(),
        }
    }
}

// By hand: a secret never reaches a log through `{:?}`.
impl fmt::Debug for KeyOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyOptions")
            .field("key", &self.key.as_ref().map(|_| "…"))
            .field("key_file", &self.key_file)
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish()
    }
}

fn only_final() -> Vec<Generation> {
    vec![Generation::Final]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_accept_only_final_tokens_unless_told() {
        let issuer: IssuerOptions =
            serde_json::from_str(r#"{"id":"https://a","publish":{"key":"k"}}"#).unwrap();
        assert_eq!(issuer.accept, [Generation::Final]);
        assert_eq!(issuer.key(Role::Publish).unwrap().algorithm, "HS256");
        assert!(issuer.key(Role::Subscribe).is_none());
        let issuer: IssuerOptions =
            serde_json::from_str(r#"{"id":"https://a","accept":["0.x","1.0"]}"#).unwrap();
        assert_eq!(issuer.accept, [Generation::Draft, Generation::Final]);
    }

    #[test]
    fn unknown_fields_are_refused() {
        for text in [
            r#"{"anonymus":true}"#,
            r#"{"issuer":[{"id":"a","publish":{"jwk":"https://a/keys"}}]}"#,
            r#"{"issuer":[{"id":"a","accept":["2.0"]}]}"#,
        ] {
            assert!(serde_json::from_str::<Options>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Options>("{}").unwrap().query_token);
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let options: KeyOptions = serde_json::from_str(r#"{"key":"hush-hush"}"#).unwrap();
        assert!(!format!("{options:?}").contains("hush"));
    }
}
