//! What stands behind `?token=` in a URL that opens connections: sealed by the hub for a short
//! time, or, as older programs made it, a caller's own token under an old key. Knows no request.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tidings_core::{State, StateError, Table, Write};

use super::token::{BadToken, Bearer, LENIENT, Secret};
use crate::limits::TOKEN_BYTES_MAX;

/// What a token begins with that the hub has sealed. Older ones have no dot.
const PREFIX: &str = "t1.";
/// What the seal covers beside its contents: nothing sealed for another purpose is one of these.
const PURPOSE: &[u8] = b"tidings courier t1";
/// Where the state keeps the key of the seals.
const ROW: &[u8] = b"courier";
/// Bytes of it.
const KEY_BYTES: usize = 32;
/// Bytes of a hash that tell one secret of tokens from another.
const NAME_BYTES: usize = 12;
/// Bytes of an initialization vector (AES-CFB128).
const VECTOR_BYTES: usize = 16;

/// The key of the seals cannot be put to use. The fault of the storage or of the system.
#[derive(Debug, thiserror::Error)]
pub enum NoSeal {
    /// The hub's storage.
    #[error("the key of signed URLs cannot be stored: {0}")]
    Storage(#[from] StateError),
    /// What is stored is no key.
    #[error("the key of signed URLs is damaged: restore the data folder from a copy")]
    Damaged,
    /// The system.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// The operator's mistake: a key of old URLs that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of old URLs has {0} bytes: AES takes 16, 24 or 32")]
pub struct BadKeySecret(pub usize);

/// Why a URL opens nothing. The client's fault. Never shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSignature {
    #[error("there is no token")]
    Missing,
    #[error("the token is longer than any")]
    TooLong,
    #[error("the token is nothing that was signed here")]
    Unreadable,
    #[error("old URLs are not accepted: no key of theirs is configured")]
    NoOldKey,
    #[error("the time of the URL is over")]
    Expired,
    #[error("the secret of tokens is another one since it was signed")]
    OtherSecret,
    #[error("the token in it does not count: {0}")]
    Inner(#[from] BadToken),
}

/// Whose connections a URL opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signed {
    /// Of the audience of this id, until the token ends.
    Sealed { audience: String, email: Option<String>, expires: Option<u64> },
    /// Of whoever the caller's own token says.
    Old(Bearer),
}

/// What is sealed, in as few bytes as can be.
#[derive(Serialize, Deserialize)]
struct Content {
    /// The audience.
    a: String,
    /// When it opens nothing any more, in milliseconds since 1970.
    e: u64,
    /// By tokens of which secret.
    #[serde(default)]
    k: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    /// When connections that it opened end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<u64>,
}

/// Makes and opens what stands in URLs.
pub(super) struct Signer {
    own: RandomizedNonceKey,
    old: Option<OldKey>,
    /// Which secret the tokens have of those who ask.
    asked_by: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

struct OldKey(DecryptingKey);

impl OldKey {
    fn new(secret: &str) -> Result<OldKey, BadKeySecret> {
        let bad = BadKeySecret(secret.len());
        let algorithm = match secret.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            _ => return Err(bad),
        };
        let key = UnboundCipherKey::new(algorithm, secret.as_bytes()).map_err(|_| bad)?;
        DecryptingKey::cfb128(key).map(OldKey).map_err(|_| bad)
    }

    /// The token that was put into a URL. Nothing says whether it is what was put there: that is
    /// for its own signature.
    fn open(&self, token: &str) -> Result<String, BadSignature> {
        let mut bytes = LENIENT.decode(token).map_err(|_| BadSignature::Unreadable)?;
        let (vector, sealed) =
            bytes.split_at_mut_checked(VECTOR_BYTES).ok_or(BadSignature::Unreadable)?;
        let vector: [u8; VECTOR_BYTES] =
            (&*vector).try_into().map_err(|_| BadSignature::Unreadable)?;
        if sealed.is_empty() {
            return Err(BadSignature::Unreadable);
        }
        let context = DecryptionContext::Iv128(vector.into());
        let opened = self.0.decrypt(sealed, context).map_err(|_| BadSignature::Unreadable)?;
        String::from_utf8(opened.to_vec()).map_err(|_| BadSignature::Unreadable)
    }
}

/// Whether a text can be the key of old URLs.
///
/// # Errors
///
/// See [`BadKeySecret`].
pub fn check_key_secret(secret: &str) -> Result<(), BadKeySecret> {
    OldKey::new(secret).map(drop)
}

/// The key of the seals: the same as ever, or a new one where there is none.
///
/// # Errors
///
/// See [`NoSeal`].
pub(super) fn kept_key(state: &State) -> Result<[u8; KEY_BYTES], NoSeal> {
    if let Some(kept) = state.get(Table::Issuer, ROW)? {
        return kept.as_slice().try_into().map_err(|_| NoSeal::Damaged);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|_| NoSeal::NoRandomness)?;
    state.commit(&[Write { table: Table::Issuer, key: ROW, value: Some(&key) }])?;
    Ok(key)
}

impl Signer {
    /// Seals with this key for tokens of the secret `asked_by`, and opens what was put under the
    /// old one, where there is one.
    ///
    /// # Errors
    ///
    /// See [`BadKeySecret`].
    pub(super) fn new(
        own: &[u8; KEY_BYTES],
        old: Option<&str>,
        asked_by: &str,
    ) -> Result<Option<Signer>, BadKeySecret> {
        let old = old.map(OldKey::new).transpose()?;
        // A key of the right length is one.
        let own = RandomizedNonceKey::new(&AES_256_GCM, own).ok();
        let hashed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, PURPOSE), asked_by.as_bytes());
        let asked_by = hashed.as_ref().get(..NAME_BYTES).unwrap_or_default();
        let asked_by = URL_SAFE_NO_PAD.encode(asked_by);
        Ok(own.map(|own| Signer { own, old, asked_by }))
    }

    /// What opens connections of an audience for so long, at most as long as who asks may.
    /// `None` when the system gives no random numbers.
    pub(super) fn seal(
        &self,
        audience: &str,
        bearer: &Bearer,
        now: u64,
        lifetime: Duration,
    ) -> Option<String> {
        let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let ends = now.saturating_add(lifetime).min(bearer.expires.unwrap_or(u64::MAX));
        let content = Content {
            a: audience.to_owned(),
            e: ends,
            k: self.asked_by.clone(),
            s: bearer.email.clone(),
            x: bearer.expires,
        };
        let mut sealed = serde_json::to_vec(&content).ok()?;
        let nonce = self.own.seal_in_place_append_tag(Aad::from(PURPOSE), &mut sealed).ok()?;
        let whole = [&nonce.as_ref()[..], &sealed].concat();
        Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(whole)))
    }

    /// What a URL opens, at this time in milliseconds since 1970. `secret` is that of the tokens in
    /// old ones.
    ///
    /// # Errors
    ///
    /// See [`BadSignature`].
    pub(super) fn open(
        &self,
        token: &str,
        secret: &Secret,
        now: u64,
    ) -> Result<Signed, BadSignature> {
        // The longest that an old one can be: a token, its vector, in base64.
        if token.len() > TOKEN_BYTES_MAX / 3 * 4 + 2 * VECTOR_BYTES {
            return Err(BadSignature::TooLong);
        }
        let Some(sealed) = token.strip_prefix(PREFIX) else {
            let old = self.old.as_ref().ok_or(BadSignature::NoOldKey)?;
            return Ok(Signed::Old(secret.verify(&old.open(token)?, now)?));
        };
        let content = self.unsealed(sealed).ok_or(BadSignature::Unreadable)?;
        if content.e <= now {
            return Err(BadSignature::Expired);
        }
        if content.k != self.asked_by {
            return Err(BadSignature::OtherSecret);
        }
        Ok(Signed::Sealed { audience: content.a, email: content.s, expires: content.x })
    }

    fn unsealed(&self, sealed: &str) -> Option<Content> {
        let mut whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = whole.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.own.open_in_place(nonce, Aad::from(PURPOSE), sealed).ok()?;
        serde_json::from_slice(opened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SECRET, mint};
    use super::*;
    use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
    use serde_json::json;

    const VECTORS: [&str; 3] = [
        "AAECAwQFBgcICQoLDA0OD8UA05iA-N1_tvzZoNHeAIZkAew9La43TsSG87WG",
        "AAECAwQFBgcICQoLDA0OD5SjaptJPjnSQv7aZoofe7GNWJuRFYrhpQAMmjHA",
        "AAECAwQFBgcICQoLDA0ODzYklp30iFUNTlXNBNDz8hARK4yqm0JtLw75zS7E",
    ];
    const MINUTE: Duration = Duration::from_secs(60);

    fn signer(old: Option<&str>) -> Signer {
        Signer::new(&[7; 32], old, SECRET).unwrap().unwrap()
    }

    fn bearer(expires: Option<u64>) -> Bearer {
        Bearer { audiences: Vec::new(), email: Some("a@b".into()), expires }
    }

    /// A URL's token as older programs made it.
    fn old(secret: &str, token: &str) -> String {
        let algorithm = match secret.len() {
            16 => &AES_128,
            24 => &AES_192,
            _ => &AES_256,
        };
        let key = UnboundCipherKey::new(algorithm, secret.as_bytes()).unwrap();
        let key = EncryptingKey::cfb128(key).unwrap();
        let mut bytes = token.as_bytes().to_vec();
        let vector = [9; VECTOR_BYTES];
        key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(vector.into())).unwrap();
        LENIENT.encode([&vector[..], &bytes].concat())
    }

    #[test]
    fn a_sealed_url_opens_until_its_time_is_over() {
        let (signer, secret) = (signer(None), Secret::new(SECRET));
        let token = signer.seal("a-1", &bearer(Some(NOW + 90_000)), NOW, MINUTE).unwrap();
        let sealed =
            |expires| Signed::Sealed { audience: "a-1".into(), email: Some("a@b".into()), expires };
        assert_eq!(signer.open(&token, &secret, NOW), Ok(sealed(Some(NOW + 90_000))));
        assert!(signer.open(&token, &secret, NOW + 59_999).is_ok());
        assert_eq!(signer.open(&token, &secret, NOW + 60_000), Err(BadSignature::Expired));
        let short = signer.seal("a-1", &bearer(Some(NOW + 1)), NOW, MINUTE).unwrap();
        assert_eq!(signer.open(&short, &secret, NOW + 1), Err(BadSignature::Expired));
        let ever = signer.seal("a-1", &bearer(None), NOW, MINUTE).unwrap();
        assert_eq!(signer.open(&ever, &secret, NOW), Ok(sealed(None)));
        assert_ne!(signer.seal("a-1", &bearer(None), NOW, MINUTE).unwrap(), ever);
    }

    #[test]
    fn nothing_that_was_changed_opens() {
        let (signer, secret) = (signer(None), Secret::new(SECRET));
        let token = signer.seal("a-1", &bearer(None), NOW, MINUTE).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(signer.open(&changed, &secret, NOW).is_err(), "{changed}");
            assert!(signer.open(&token[..at], &secret, NOW).is_err());
        }
        let other = Signer::new(&[8; 32], None, SECRET).unwrap().unwrap();
        assert_eq!(other.open(&token, &secret, NOW), Err(BadSignature::Unreadable));
        let later = Signer::new(&[7; 32], None, "another secret").unwrap().unwrap();
        assert_eq!(later.open(&token, &secret, NOW), Err(BadSignature::OtherSecret));
        assert_eq!(signer.open(&"x".repeat(50_000), &secret, NOW), Err(BadSignature::TooLong));
    }

    #[test]
    fn old_urls_open_with_the_old_key_of_every_size() {
        let secret = Secret::new(SECRET);
        let token = mint(SECRET, &json!({"alg": "HS256"}), &json!({"aud": "a"}));
        for size in [16, 24, 32] {
            let key = "k".repeat(size);
            let signer = signer(Some(&key));
            let signed = old(&key, &token);
            let open = |signed: &str| signer.open(signed, &secret, NOW);
            let bearer = Bearer { audiences: vec!["a".into()], ..Bearer::default() };
            assert_eq!(open(&signed), Ok(Signed::Old(bearer.clone())));
            assert_eq!(open(signed.trim_end_matches('=')), Ok(Signed::Old(bearer)));
            assert!(open(&old(&"x".repeat(size), &token)).is_err(), "of another key");
            let forged = mint("another", &json!({"alg": "HS256"}), &json!({"aud": "a"}));
            assert_eq!(open(&old(&key, &forged)), Err(BadToken::BadSignature.into()));
        }
        let none = signer(None).open(&old(&"k".repeat(32), &token), &secret, NOW);
        assert_eq!(none, Err(BadSignature::NoOldKey));
    }

    #[test]
    fn what_another_program_made_opens() {
        // openssl enc -aes-*-cfb -K <the key in hexadecimal> -iv 000102…0f, of this text.
        let text = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln";
        for (key, made) in [
            ("0123456789abcdef", VECTORS[0]),
            ("0123456789abcdef01234567", VECTORS[1]),
            ("0123456789abcdef0123456789abcdef", VECTORS[2]),
        ] {
            assert_eq!(OldKey::new(key).unwrap().open(made).as_deref(), Ok(text));
        }
    }

    #[test]
    fn tokens_of_wrong_length_are_refused() {
        let (signer, secret) = (signer(Some("0123456789abcdef")), Secret::new(SECRET));
        for length in 0..=VECTOR_BYTES {
            let short = LENIENT.encode(vec![1; length]);
            assert_eq!(signer.open(&short, &secret, NOW), Err(BadSignature::Unreadable));
        }
        for bad in ["", "t1.", "t1.AAAA", "*", "é", "t2.AAAA"] {
            assert_eq!(signer.open(bad, &secret, NOW), Err(BadSignature::Unreadable), "{bad}");
        }
        let longer = LENIENT.encode([1; VECTOR_BYTES + 1]);
        assert!(signer.open(&longer, &secret, NOW).is_err());
        for length in [0, 15, 17, 31, 33, 42] {
            assert_eq!(check_key_secret(&"k".repeat(length)), Err(BadKeySecret(length)));
        }
        assert!(!format!("{signer:?}").contains("0123"));
    }

    #[test]
    fn the_key_of_the_seals_is_made_once() {
        let state = State::open(None).unwrap();
        let key = kept_key(&state).unwrap();
        assert_ne!(key, [0; 32]);
        assert_eq!(kept_key(&state).unwrap(), key);
        let write = Write { table: Table::Issuer, key: ROW, value: Some(b"short") };
        state.commit(&[write]).unwrap();
        assert!(matches!(kept_key(&state), Err(NoSeal::Damaged)));
    }
}
