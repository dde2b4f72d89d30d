//! Signatures of Standard Webhooks 1.0, and the keys that make them. Knows no request and keeps no
//! time; how keys are kept is somebody else's business.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use http::HeaderValue;
use serde::Deserialize;

use crate::limits::{
    KEY_OVERLAP_MAX, SHARED_KEY_BYTES_MAX, SHARED_KEY_BYTES_MIN, SIGNING_KEYS_MAX,
};
use crate::secret::Secret;
use crate::span::Span;

const SHARED: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";
/// Bytes of an ed25519 seed and of a public key each (RFC 8032 section 5.1.5).
const SEED_BYTES: usize = 32;
/// Bytes of a new shared key: as many as its hash has.
const NEW_SHARED_BYTES: usize = 32;

/// A key that signs, as it is written. Read from a text alone, or from `{ key, until }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct SigningSecret {
    /// `whsec_…` or `whsk_…`.
    pub key: Secret,
    /// When it signs no more, in milliseconds since 1970-01-01; `None` for the one that is current.
    pub until: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Key(Secret),
    WithEnd(WithEnd),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithEnd {
    key: Secret,
    until: Option<u64>,
}

impl From<Written> for SigningSecret {
    fn from(written: Written) -> SigningSecret {
        match written {
            Written::Key(key) => SigningSecret { key, until: None },
            Written::WithEnd(WithEnd { key, until }) => SigningSecret { key, until },
        }
    }
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HMAC-SHA256 with a key that both sides have (`v1`).
    Shared,
    /// ed25519: the receiver has the public half only (`v1a`).
    KeyPair,
}

/// Why a text is no key. Never says what the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Another begin than keys have.
    #[error("a signing key begins with {SHARED} or {PRIVATE}")]
    Prefix,
    /// The wrong half.
    #[error("{PUBLIC} is the public half, for the receiver; {PRIVATE} is the one that signs")]
    Public,
    /// What stands behind the begin is no base64.
    #[error("a signing key is base64 behind its begin")]
    Base64,
    /// Too short to be safe, or longer than allowed.
    #[error(
        "a key behind {SHARED} has {SHARED_KEY_BYTES_MIN} to {SHARED_KEY_BYTES_MAX} bytes, and \
         this one has {0}"
    )]
    SharedLength(usize),
    /// Neither a seed nor a seed with its public half.
    #[error("a key behind {PRIVATE} has 32 or 64 bytes, and this one has {0}")]
    PrivateLength(usize),
    /// The two halves do not belong together.
    #[error("the second half of the {PRIVATE} key is not the public key of the first")]
    Halves,
    /// The system gave no random numbers.
    #[error("no key could be made of random numbers")]
    Random,
}

/// Why keys could not be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRotation {
    /// The old key would sign for too long.
    #[error("an old key signs beside the new one for at most {}", Span(KEY_OVERLAP_MAX))]
    Overlap,
    /// So many keys are valid that one of them would have to go before its time.
    #[error("{SIGNING_KEYS_MAX} keys are valid already: wait until one has ended")]
    TooMany,
}

enum Key {
    /// Boxed: it holds whole tables, and is twenty times as large as the other.
    Shared(Box<hmac::Key>),
    Pair(Ed25519KeyPair),
}

impl Key {
    fn parse(text: &str) -> Result<Key, BadKey> {
        if let Some(encoded) = text.strip_prefix(SHARED) {
            let bytes = decoded(encoded)?;
            if !(SHARED_KEY_BYTES_MIN..=SHARED_KEY_BYTES_MAX).contains(&bytes.len()) {
                return Err(BadKey::SharedLength(bytes.len()));
            }
            return Ok(Key::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes))));
        }
        if let Some(encoded) = text.strip_prefix(PRIVATE) {
            let bytes = decoded(encoded)?;
            let pair = match bytes.split_at_checked(SEED_BYTES) {
                Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
                Some((seed, public)) if public.len() == SEED_BYTES => {
                    Ed25519KeyPair::from_seed_and_public_key(seed, public)
                }
                _ => return Err(BadKey::PrivateLength(bytes.len())),
            };
            return pair.map(Key::Pair).map_err(|_| BadKey::Halves);
        }
        Err(if text.starts_with(PUBLIC) { BadKey::Public } else { BadKey::Prefix })
    }

    /// Adds a signature over `id.timestamp.body` to `header`.
    fn sign(&self, before: &str, body: &[u8], header: &mut String) -> Option<()> {
        match self {
            Key::Shared(key) => {
                let mut hash = hmac::Context::with_key(key);
                hash.update(before.as_bytes());
                hash.update(body);
                header.push_str("v1,");
                STANDARD.encode_string(hash.sign(), header);
            }
            Key::Pair(pair) => {
                // Unlike a hash, this cannot be made of parts.
                let whole = [before.as_bytes(), body].concat();
                header.push_str("v1a,");
                STANDARD.encode_string(pair.try_sign(&whole).ok()?, header);
            }
        }
        Some(())
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, BadKey> {
    STANDARD_PAD_INDIFFERENT.decode(text).map_err(|_| BadKey::Base64)
}

/// What signs the requests to one endpoint: its keys, each until its end.
pub struct Signer {
    keys: Vec<(Key, Option<u64>)>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

impl Signer {
    /// Signs with these, newest first.
    ///
    /// # Errors
    ///
    /// What is wrong with the first one that is no key.
    pub fn new(secrets: &[SigningSecret]) -> Result<Signer, BadKey> {
        let key = |secret: &SigningSecret| Ok((Key::parse(secret.key.expose())?, secret.until));
        Ok(Signer { keys: secrets.iter().map(key).collect::<Result<_, _>>()? })
    }

    /// The value of `webhook-signature`: a signature over `id.timestamp.body` by each key that is
    /// valid at `now` (milliseconds since 1970-01-01), divided by blanks. `None` when none is.
    pub fn sign(
        &self,
        id: &str,
        timestamp_seconds: u64,
        body: &[u8],
        now: u64,
    ) -> Option<HeaderValue> {
        let before = format!("{id}.{timestamp_seconds}.");
        let mut header = String::new();
        for (key, _) in self.keys.iter().filter(|(_, until)| is_valid(*until, now)) {
            if !header.is_empty() {
                header.push(' ');
            }
            key.sign(&before, body, &mut header)?;
        }
        if header.is_empty() { None } else { HeaderValue::try_from(header).ok() }
    }
}

fn is_valid(until: Option<u64>, now: u64) -> bool {
    until.is_none_or(|until| now < until)
}

/// Whether a text is a signing key.
///
/// # Errors
///
/// Why it is none.
pub fn check(key: &Secret) -> Result<(), BadKey> {
    Key::parse(key.expose()).map(|_| ())
}

/// What the receiver is given of a key pair, as `whpk_…`. `None` for a shared key, of which the
/// receiver needs the whole, and for what is no key.
pub fn public_half(key: &Secret) -> Option<String> {
    match Key::parse(key.expose()).ok()? {
        Key::Shared(_) => None,
        Key::Pair(pair) => Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key()))),
    }
}

/// A new key: `whsec_` and 32 random bytes, or `whsk_` and an ed25519 seed with its public half.
///
/// # Errors
///
/// When the system gives no random numbers.
pub fn generate(scheme: Scheme) -> Result<Secret, BadKey> {
    match scheme {
        Scheme::Shared => {
            let mut bytes = [0; NEW_SHARED_BYTES];
            rand::fill(&mut bytes).map_err(|_| BadKey::Random)?;
            Ok(Secret::new(format!("{SHARED}{}", STANDARD.encode(bytes))))
        }
        Scheme::KeyPair => {
            let mut seed = [0; SEED_BYTES];
            rand::fill(&mut seed).map_err(|_| BadKey::Random)?;
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| BadKey::Random)?;
            let both = [seed.as_slice(), pair.public_key().as_ref()].concat();
            Ok(Secret::new(format!("{PRIVATE}{}", STANDARD.encode(both))))
        }
    }
}

/// The keys after `fresh` came in front of them at `now` (milliseconds since 1970-01-01): those
/// that sign still do for `overlap`, which may be zero, but none longer than it would have.
///
/// # Errors
///
/// When the overlap is longer than [`KEY_OVERLAP_MAX`], or too many keys would sign at a time.
pub fn rotated(
    secrets: &[SigningSecret],
    fresh: Secret,
    overlap: Duration,
    now: u64,
) -> Result<Vec<SigningSecret>, BadRotation> {
    if overlap > KEY_OVERLAP_MAX {
        return Err(BadRotation::Overlap);
    }
    let milliseconds = u64::try_from(overlap.as_millis()).map_err(|_| BadRotation::Overlap)?;
    let end = now.saturating_add(milliseconds);
    let mut keys = vec![SigningSecret { key: fresh, until: None }];
    keys.extend(secrets.iter().filter_map(|secret| {
        let until = secret.until.map_or(end, |until| until.min(end));
        let key = secret.key.clone();
        is_valid(Some(until), now).then_some(SigningSecret { key, until: Some(until) })
    }));
    if keys.len() > SIGNING_KEYS_MAX { Err(BadRotation::TooMany) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::limits::KEY_OVERLAP_DEFAULT;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const TIME: u64 = 1_614_265_330;
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn current(key: &str) -> SigningSecret {
        SigningSecret { key: Secret::new(key), until: None }
    }

    fn signatures(keys: &[SigningSecret], now: u64) -> Vec<String> {
        let signer = Signer::new(keys).unwrap();
        let header = signer.sign(ID, TIME, BODY, now);
        header.map_or(Vec::new(), |header| {
            header.to_str().unwrap().split(' ').map(str::to_owned).collect()
        })
    }

    #[test]
    fn the_signature_is_that_of_the_reference() {
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures(&[current(KEY)], 0), [expected]);
        let unpadded = format!("whsec_{}", STANDARD.encode([7; 32]));
        let unpadded = unpadded.trim_end_matches('=');
        assert_eq!(signatures(&[current(unpadded)], 0).len(), 1);
    }

    fn verify(public: &[u8], signature: &str) {
        let signature = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let signed = [format!("{ID}.{TIME}.").as_bytes(), BODY].concat();
        UnparsedPublicKey::new(&ED25519, public).verify(&signed, &signature).unwrap();
    }

    #[test]
    fn a_key_pair_signs_what_its_public_half_verifies() {
        let key = generate(Scheme::KeyPair).unwrap();
        let half = public_half(&key).unwrap();
        let public = STANDARD.decode(half.strip_prefix("whpk_").unwrap()).unwrap();
        let made = signatures(&[SigningSecret { key: key.clone(), until: None }], 0);
        verify(&public, &made[0]);
        let whole = STANDARD.decode(key.expose().strip_prefix("whsk_").unwrap()).unwrap();
        assert_eq!(whole.len(), 64);
        let seed = format!("whsk_{}", STANDARD.encode(&whole[..32]));
        assert_eq!(signatures(&[current(&seed)], 0), made, "the seed alone is the same key");
    }

    #[test]
    fn a_public_half_is_that_of_the_standard() {
        // The first test of RFC 8032 section 7.1.
        let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
        let half = public_half(&Secret::new(format!("whsk_{seed}"))).unwrap();
        assert_eq!(half, "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        assert_eq!(public_half(&Secret::new(KEY)), None);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let of = |bytes: usize| STANDARD.encode(vec![7; bytes]);
        for (text, expected) in [
            (String::new(), BadKey::Prefix),
            (of(32), BadKey::Prefix),
            (format!("WHSEC_{}", of(32)), BadKey::Prefix),
            (format!("whpk_{}", of(32)), BadKey::Public),
            ("whsec_".to_owned(), BadKey::SharedLength(0)),
            (format!("whsec_{}", of(23)), BadKey::SharedLength(23)),
            (format!("whsec_{}", of(65)), BadKey::SharedLength(65)),
            ("whsec_not base64!".to_owned(), BadKey::Base64),
            (format!("whsk_{}", of(31)), BadKey::PrivateLength(31)),
            (format!("whsk_{}", of(33)), BadKey::PrivateLength(33)),
            (format!("whsk_{}", of(64)), BadKey::Halves),
        ] {
            assert_eq!(check(&Secret::new(text.clone())), Err(expected), "{text}");
            assert!(text.len() < 10 || !expected.to_string().contains(&text));
        }
        for bytes in [24, 32, 64] {
            assert_eq!(check(&Secret::new(format!("whsec_{}", of(bytes)))), Ok(()));
        }
    }

    #[test]
    fn a_signer_shows_nothing() {
        let secret = current(KEY);
        let signer = Signer::new(std::slice::from_ref(&secret)).unwrap();
        let shown = format!("{signer:?} {secret:?}");
        assert!(!shown.contains("MfKQ"), "{shown}");
    }

    #[test]
    fn an_old_key_signs_behind_the_new_one_until_its_end() {
        let now = 1_000_000;
        let hour = 60 * 60 * 1000;
        let before = [current(KEY)];
        let new = generate(Scheme::KeyPair).unwrap();
        let both = rotated(&before, new.clone(), KEY_OVERLAP_DEFAULT, now).unwrap();
        let old = signatures(&before, now);
        for (at, count) in [(now, 2), (now + 24 * hour - 1, 2), (now + 24 * hour, 1)] {
            let made = signatures(&both, at);
            assert_eq!(made.len(), count, "at {at}");
            assert!(made[0].starts_with("v1a,"), "newest first");
            assert_eq!(made.get(1), old.first().filter(|_| count == 2));
        }
    }

    #[test]
    fn a_rotation_lengthens_no_key_and_forgets_those_that_ended() {
        let now = 1_000_000;
        let second = Duration::from_secs(1);
        let fresh = || generate(Scheme::Shared).unwrap();
        let once = rotated(&[current(KEY)], fresh(), second, now).unwrap();
        let twice = rotated(&once, fresh(), 7 * KEY_OVERLAP_DEFAULT, now + 500).unwrap();
        let ends: Vec<_> = twice.iter().map(|secret| secret.until).collect();
        let week = 7 * 24 * 60 * 60 * 1000;
        assert_eq!(ends, [None, Some(now + 500 + week), Some(now + 1_000)]);
        let later = rotated(&twice, fresh(), second, now + 1_000).unwrap();
        assert_eq!(later.len(), 3, "the first has ended");
        let at_once = rotated(&later, fresh(), Duration::ZERO, now + 2_000).unwrap();
        assert_eq!(at_once.len(), 1, "a key that leaked signs no more");
    }

    #[test]
    fn rotations_are_bounded() {
        let fresh = || generate(Scheme::Shared).unwrap();
        let mut keys = vec![current(KEY)];
        for _ in 1..SIGNING_KEYS_MAX {
            keys = rotated(&keys, fresh(), KEY_OVERLAP_MAX, 0).unwrap();
        }
        assert_eq!(signatures(&keys, 0).len(), SIGNING_KEYS_MAX);
        assert_eq!(rotated(&keys, fresh(), KEY_OVERLAP_MAX, 0), Err(BadRotation::TooMany));
        let longer = KEY_OVERLAP_MAX + Duration::from_millis(1);
        assert_eq!(rotated(&[], fresh(), longer, 0), Err(BadRotation::Overlap));
    }

    #[test]
    fn no_valid_key_is_no_signature() {
        let ended = SigningSecret { until: Some(5), ..current(KEY) };
        assert!(Signer::new(std::slice::from_ref(&ended)).unwrap().sign(ID, 0, b"", 5).is_none());
        assert!(Signer::new(&[]).unwrap().sign(ID, 0, b"", 0).is_none());
    }

    #[test]
    fn a_key_is_written_with_and_without_its_end() {
        let written = format!("[\"{KEY}\", {{ \"key\": \"{KEY}\", \"until\": 7 }}]");
        let read: Vec<SigningSecret> = serde_json::from_str(&written).unwrap();
        assert_eq!(read, [current(KEY), SigningSecret { until: Some(7), ..current(KEY) }]);
    }
}
