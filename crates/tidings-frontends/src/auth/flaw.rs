//! What is wrong with the `[auth]` section, for the operator. Says what to do, and never shows a
//! secret. Knows no key material.

use std::path::PathBuf;

use super::Role;
use super::jwk::BadKeySet;
use super::keys::shown_path;
use crate::limits::{DRAFT_ISSUERS_MAX, RSA_BITS_MIN};

/// The operator's fault: the `[auth]` section cannot be used. Says which issuer, which key, and
/// what to do; never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum BadKeys {
    /// One key cannot be used.
    #[error("issuer {issuer:?}, {role} key: {flaw}")]
    Key {
        /// The issuer's id.
        issuer: String,
        /// What the key is for.
        role: Role,
        /// What is wrong with it.
        #[source]
        flaw: KeyFlaw,
    },
    /// An issuer without any key.
    #[error("issuer {issuer:?} has no key: give it `publish`, `subscribe` or both")]
    NoKey {
        /// The issuer's id.
        issuer: String,
    },
    /// An issuer that accepts no generation.
    #[error("issuer {issuer:?} accepts nothing: set `accept` to [\"1.0\"], [\"0.x\"] or both")]
    NothingAccepted {
        /// The issuer's id.
        issuer: String,
    },
    /// An issuer without a name.
    #[error("an issuer has an empty `id`: it is the exact `iss` claim of its tokens")]
    EmptyIssuer,
    /// Two issuers of one name.
    #[error("issuer {issuer:?} is configured twice: merge the two")]
    DuplicateIssuer {
        /// The issuer's id.
        issuer: String,
    },
    /// Too many issuers that accept 0.x.
    #[error(
        "more than {DRAFT_ISSUERS_MAX} issuers accept \"0.x\": such a token need not name its \
         issuer, so all of them are tried; accept only \"1.0\" where that is enough"
    )]
    TooManyDraftIssuers,
}

/// What is wrong with one key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFlaw {
    /// No key and no key set.
    #[error("set `key` or `key_file` to a key, or `jwks` to the address of a key set")]
    Missing,
    /// More than one of them.
    #[error("set one of `key`, `key_file` and `jwks`")]
    Twice,
    /// The address of a key set that is not read.
    #[error("the address {shown:?} {reason}")]
    BadAddress {
        /// The address without what may be secret in it.
        shown: String,
        /// What is wrong with it and what would do.
        reason: &'static str,
    },
    /// An algorithm whose keys are secrets.
    #[error(
        "{name} needs a secret, which no key set holds: take RS256, ES256, EdDSA or another one \
         with public keys"
    )]
    SecretFromSet {
        /// The algorithm in the configuration.
        name: String,
    },
    /// The file of a key set does not hold one.
    #[error("{}: {flaw}", .path.display())]
    BadSet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: BadKeySet,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", shown_path(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is too large for a key.
    #[error("{} is larger than {bytes_max} bytes", shown_path(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is read at most.
        bytes_max: usize,
    },
    /// No algorithm of this name.
    #[error(
        "unknown algorithm {name:?}: use HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, \
         PS512, ES256, ES384, ES512 or EdDSA"
    )]
    UnknownAlgorithm {
        /// The name in the configuration.
        name: String,
    },
    /// Nothing in it.
    #[error("the key is empty")]
    Empty,
    /// A public key would become a secret that everybody knows.
    #[error(
        "the key is PEM text, but {algorithm} needs a secret: set `algorithm` to the key's own, \
         for example RS256, ES256 or EdDSA"
    )]
    PemForSecret {
        /// The algorithm in the configuration.
        algorithm: &'static str,
    },
    /// Not PEM where PEM is needed.
    #[error("{algorithm} needs a public key as PEM text (`-----BEGIN PUBLIC KEY-----`)")]
    NotPem {
        /// The algorithm in the configuration.
        algorithm: &'static str,
    },
    /// A private key: the hub needs none, and what it does not have it cannot lose.
    #[error(
        "this is a private key; the hub only verifies: give it the public one \
         (openssl pkey -in private.pem -pubout)"
    )]
    Private,
    /// A certificate.
    #[error(
        "this is a certificate; give its public key \
         (openssl x509 -in certificate.pem -noout -pubkey)"
    )]
    Certificate,
    /// Another kind of key than the algorithm's.
    #[error("the key does not fit {algorithm}")]
    DoesNotFit {
        /// The algorithm in the configuration.
        algorithm: &'static str,
    },
    /// An RSA key that can be factored.
    #[error("the RSA key has {bits} bits; at least {RSA_BITS_MIN} are needed")]
    RsaTooSmall {
        /// Its size.
        bits: usize,
    },
    /// A secret that can be guessed.
    #[error(
        "the secret is shorter than the {bytes} bytes that {algorithm} needs: make one with \
         `openssl rand -hex 32`, or set `allow_weak_keys` for development"
    )]
    TooShort {
        /// The algorithm in the configuration.
        algorithm: &'static str,
        /// How long it has to be.
        bytes: usize,
    },
    /// The secret of the ecosystem's examples.
    #[error(
        "this is the well-known development key, with which everybody can sign: make one with \
         `openssl rand -hex 32`, or set `allow_weak_keys` for development"
    )]
    WellKnown,
}
