//! `[auth]`: its settings. Knows no key and no token.

use super::schema::{Default, Key, Kind, unset, value};

/// Algorithms that can verify a token (RFC 7518, RFC 8037).
pub(super) const ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA", "Ed25519",
];

/// Algorithms of keys in sets, which are public.
const SET_ALGORITHMS: [&str; 11] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
];
/// Settings of `[auth]`.
pub(super) const KEYS: &[Key] = &[
    value(
        "auth.anonymous",
        Kind::Boolean,
        "false",
        "Whether subscribers without a token are served. They get public updates only.",
    ),
    value(
        "auth.allow_weak_keys",
        Kind::Boolean,
        "false",
        "Whether keys that everybody knows are accepted, such as the one in the examples of the
Mercure documentation. For development only.",
    ),
    value(
        "auth.query_token",
        Kind::Boolean,
        "true",
        "Whether a token in the URL (`authorization=`) is read. Only for issuers that accept
\"0.x\"; URLs end up in logs of proxies and in browser histories.",
    ),
    Key {
        path: "auth.issuer[].id",
        kind: Kind::Text,
        default: Default::Required(r#""https://example.com""#),
        about: "Who signs: the `iss` of its tokens, exactly. Tokens of 0.x need not have one.",
    },
    value(
        "auth.issuer[].accept",
        Kind::Choices(&["1.0", "0.x"]),
        r#"["1.0"]"#,
        "The generations of the Mercure protocol whose tokens are accepted. \"0.x\" only where
today's Symfony, API Platform or Shlink signs.",
    ),
    value(
        "auth.issuer[].audience",
        Kind::Texts,
        "[]",
        "Accepted `aud` of its tokens beside the hub's own URL.",
    ),
    value(
        "auth.issuer[].discover",
        Kind::Boolean,
        "false",
        "Whether a role without a key below takes the key set that the issuer's metadata names
(RFC 8414, else OpenID Connect). The `id` must be an https:// URL then.",
    ),
    unset(
        "auth.issuer[].publish.key",
        Kind::Secret,
        r#""at least 32 random bytes, or PEM""#,
        "The key that verifies publishers' tokens: a secret, or a public key as PEM.",
    ),
    unset(
        "auth.issuer[].publish.key_file",
        Kind::File,
        r#""/run/secrets/publisher.key""#,
        "The file with that key. One newline at its end does not belong to the key.",
    ),
    value(
        "auth.issuer[].publish.algorithm",
        Kind::Choice(&ALGORITHMS),
        r#""HS256""#,
        "The only algorithm that key is used with. To be set for PEM keys.",
    ),
    unset(
        "auth.issuer[].publish.kid",
        Kind::Text,
        r#""2026-01""#,
        "The key's id in token headers. A hint, never a proof.",
    ),
    unset(
        "auth.issuer[].publish.jwks",
        Kind::Text,
        r#""https://example.com/jwks.json""#,
        "Instead of a key: the address of the issuer's key set, https:// or file:///. It is read
again from time to time, and when a token names a key that is not in it.",
    ),
    unset(
        "auth.issuer[].publish.algorithms",
        Kind::Choices(&SET_ALGORITHMS),
        r#"["ES256", "RS256"]"#,
        "The algorithms that keys of a set are used with. Unset: all with public keys.",
    ),
    unset(
        "auth.issuer[].subscribe.key",
        Kind::Secret,
        r#""at least 32 random bytes, or PEM""#,
        "The key that verifies subscribers' tokens.",
    ),
    unset(
        "auth.issuer[].subscribe.key_file",
        Kind::File,
        r#""/run/secrets/subscriber.key""#,
        "The file with that key.",
    ),
    value(
        "auth.issuer[].subscribe.algorithm",
        Kind::Choice(&ALGORITHMS),
        r#""HS256""#,
        "The only algorithm that key is used with.",
    ),
    unset(
        "auth.issuer[].subscribe.kid",
        Kind::Text,
        r#""2026-01""#,
        "The key's id in token headers.",
    ),
    unset(
        "auth.issuer[].subscribe.jwks",
        Kind::Text,
        r#""https://example.com/jwks.json""#,
        "Instead of a key: the address of the issuer's key set.",
    ),
    unset(
        "auth.issuer[].subscribe.algorithms",
        Kind::Choices(&SET_ALGORITHMS),
        r#"["ES256", "RS256"]"#,
        "The algorithms that keys of that set are used with.",
    ),
];
