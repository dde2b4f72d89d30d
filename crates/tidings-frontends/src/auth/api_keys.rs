//! Keys that applications hold and exchange for tokens of their visitors: what is kept of one, and
//! whether somebody presents it. Knows no storage, no request and no clock.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tidings_core::{Clock, Matcher, Namespace};

use super::claims::language;
use super::kept::KeptPattern;
use super::pace::Paces;
use crate::limits::{
    API_KEY_NAME_BYTES_MAX, API_KEY_TOPICS_BYTES_MAX, API_KEY_TOPICS_MAX, ISSUED_LIFETIME_LIMIT,
};

/// How every key begins, so that people and programs that look for leaked secrets know it.
const PREFIX: &str = "tk_";
/// Characters of an id: eight random bytes in hexadecimal digits.
const ID_CHARS: usize = 16;
/// Characters of the secret part: 32 random bytes in base64url.
const SECRET_CHARS: usize = 43;
/// The form of what is kept.
const VERSION: u8 = 1;

/// What is kept of the secret part. It has 256 random bits, which no slow hash makes safer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SecretHash(String);

impl SecretHash {
    fn of(secret: &str) -> SecretHash {
        SecretHash(URL_SAFE_NO_PAD.encode(digest(&SHA256, secret.as_bytes())))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretHash")
    }
}

/// A key as it is kept: enough to know it again, and nothing to present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    version: u8,
    /// Its public part, the `client_id` of the tokens that it gets.
    pub id: String,
    /// What the operator calls it; no two keys that count have one name.
    pub name: String,
    hash: SecretHash,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// From when on it no longer counts, in seconds since 1970; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What its tokens may read at most.
    pub topics: Vec<KeptPattern>,
    /// How long its tokens hold at most, in seconds.
    pub lifetime_max: u64,
    /// How often it may ask in a minute.
    pub per_minute: u32,
    /// When it was revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct WantedKey {
    /// See [`ApiKey::name`].
    pub name: String,
    /// See [`ApiKey::topics`].
    pub topics: Vec<KeptPattern>,
    /// See [`ApiKey::lifetime_max`].
    pub lifetime_max: u64,
    /// See [`ApiKey::per_minute`].
    pub per_minute: u32,
    /// See [`ApiKey::expires`].
    pub expires: Option<u64>,
}

/// A key that is not made; the operator's fault but for the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadApiKey {
    /// The name.
    #[error(
        "a key's name has 1 to {API_KEY_NAME_BYTES_MAX} letters, digits, dots, dashes and \
         underscores"
    )]
    Name,
    /// No topic.
    #[error("a key without topics is of no use: name one, or `*` for all")]
    NoTopic,
    /// Too many topics, or too long ones.
    #[error(
        "a key has {API_KEY_TOPICS_MAX} topics at most, of {API_KEY_TOPICS_BYTES_MAX} bytes \
         together: all of them stand in its tokens"
    )]
    TooManyTopics,
    /// A pattern language that does not exist.
    #[error("{0:?} is no match type: use exact, urlpattern, uritemplate, mqtt or nats")]
    MatchType(String),
    /// A pattern that is not valid.
    #[error("the topic {pattern:?} cannot be used: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No time at all, or too much of it.
    #[error("a token's lifetime is 1 second at least and {ISSUED_LIFETIME_LIMIT} at most")]
    Lifetime,
    /// It could never ask.
    #[error("a key may ask once a minute at least")]
    Pace,
    /// It has ended already.
    #[error("the end is not in the future")]
    Past,
    /// The text of a key that should be known already.
    #[error("this is not the text of an API key")]
    Text,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl ApiKey {
    /// Makes a key, and the whole text that its holder presents, which is kept nowhere.
    ///
    /// # Errors
    /// What is wrong with what is wanted.
    pub fn make(
        wanted: WantedKey,
        namespace: &Namespace,
        now: u64,
    ) -> Result<(ApiKey, String), BadApiKey> {
        check(&wanted, namespace, now)?;
        let mut id = [0; ID_CHARS / 2];
        let mut secret = [0; 32];
        let filled = rand::fill(&mut id).and_then(|()| rand::fill(&mut secret));
        filled.map_err(|_| BadApiKey::NoRandomness)?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ApiKey::with_secret(wanted, id, &URL_SAFE_NO_PAD.encode(secret), now))
    }

    /// The key with a text that its holder knows already.
    ///
    /// # Errors
    /// What is wrong with what is wanted; [`BadApiKey::Text`] for a text that is none of a key.
    pub fn known(
        wanted: WantedKey,
        text: &str,
        namespace: &Namespace,
        now: u64,
    ) -> Result<ApiKey, BadApiKey> {
        check(&wanted, namespace, now)?;
        let (id, secret) = parts(text).ok_or(BadApiKey::Text)?;
        Ok(ApiKey::with_secret(wanted, id.to_owned(), secret, now).0)
    }

    fn with_secret(wanted: WantedKey, id: String, secret: &str, now: u64) -> (ApiKey, String) {
        let whole = format!("{PREFIX}{id}_{secret}");
        let key = ApiKey {
            version: VERSION,
            id,
            name: wanted.name,
            hash: SecretHash::of(secret),
            made: now / 1_000,
            expires: wanted.expires,
            topics: wanted.topics,
            lifetime_max: wanted.lifetime_max,
            per_minute: wanted.per_minute,
            revoked: None,
        };
        (key, whole)
    }

    /// Whether it counts at `now`, in milliseconds since 1970.
    pub fn stands(&self, now: u64) -> bool {
        let ended = self.expires.is_some_and(|end| end.saturating_mul(1_000) <= now);
        self.revoked.is_none() && !ended
    }

    /// Whether it was kept in the form that this program knows.
    pub fn is_readable(&self) -> bool {
        self.version == VERSION
    }
}

fn check(wanted: &WantedKey, namespace: &Namespace, now: u64) -> Result<(), BadApiKey> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let name = wanted.name.as_bytes();
    if name.is_empty() || name.len() > API_KEY_NAME_BYTES_MAX || !name.iter().copied().all(plain) {
        return Err(BadApiKey::Name);
    }
    if wanted.topics.is_empty() {
        return Err(BadApiKey::NoTopic);
    }
    let bytes: usize = wanted.topics.iter().map(|topic| topic.pattern.len()).sum();
    if wanted.topics.len() > API_KEY_TOPICS_MAX || bytes > API_KEY_TOPICS_BYTES_MAX {
        return Err(BadApiKey::TooManyTopics);
    }
    for KeptPattern { pattern, match_type } in &wanted.topics {
        let known = language(match_type).ok_or_else(|| BadApiKey::MatchType(match_type.clone()))?;
        Matcher::parse(known, pattern, namespace).map_err(|bad| BadApiKey::Pattern {
            pattern: pattern.clone(),
            reason: bad.to_string(),
        })?;
    }
    if !(1..=ISSUED_LIFETIME_LIMIT).contains(&wanted.lifetime_max) {
        return Err(BadApiKey::Lifetime);
    }
    if wanted.per_minute == 0 {
        return Err(BadApiKey::Pace);
    }
    if wanted.expires.is_some_and(|end| end.saturating_mul(1_000) <= now) {
        return Err(BadApiKey::Past);
    }
    Ok(())
}

/// Why what was presented is no key that counts. The client's fault; for the operator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It does not look like a key.
    #[error("it is not the text of an API key")]
    Malformed,
    /// No key has this id.
    #[error("there is no API key of this id")]
    Unknown,
    /// The key of this id has another secret.
    #[error("the secret of the API key is wrong")]
    WrongSecret,
    /// The operator revoked it.
    #[error("the API key was revoked")]
    Revoked,
    /// It has ended.
    #[error("the API key has expired")]
    Expired,
}

/// Why somebody with a key is not let in. The client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The key does not count.
    #[error("{0}")]
    Bad(KeyProblem),
    /// It does not, and this address has presented many such keys.
    #[error("too many wrong API keys from this address ({0})")]
    TooManyBad(KeyProblem, Duration),
    /// The key asks more often than it may.
    #[error("the API key asks too often")]
    TooOften(Duration),
}

/// Keys by their ids.
type Known = HashMap<Box<str>, Arc<ApiKey>>;

/// All keys. Replaced as a whole, so that those who verify tokens never wait.
#[derive(Default)]
pub struct ApiKeys {
    known: RwLock<Arc<Known>>,
    paces: Mutex<Paces>,
    issued: AtomicU64,
}

impl ApiKeys {
    /// Holds these from now on and no others.
    pub fn replace(&self, keys: Vec<ApiKey>) {
        let known: Known =
            keys.into_iter().map(|key| (key.id.as_str().into(), Arc::new(key))).collect();
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.forget_others(|id| known.contains_key(id));
        drop(paces);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    fn find(&self, id: &str) -> Option<Arc<ApiKey>> {
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        known.get(id).cloned()
    }

    /// Whether the key of this id counts at `now`, in milliseconds since 1970.
    pub fn stands(&self, id: &str, now: u64) -> bool {
        self.find(id).is_some_and(|key| key.stands(now))
    }

    /// The key that somebody presents, at `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// Why it is none that counts.
    pub fn verify(&self, presented: &str, now: u64) -> Result<Arc<ApiKey>, KeyProblem> {
        let (id, secret) = parts(presented).ok_or(KeyProblem::Malformed)?;
        let given = SecretHash::of(secret);
        let key = self.find(id).ok_or(KeyProblem::Unknown)?;
        let is_same = verify_slices_are_equal(key.hash.0.as_bytes(), given.0.as_bytes()).is_ok();
        if !is_same {
            return Err(KeyProblem::WrongSecret);
        }
        if key.revoked.is_some() {
            return Err(KeyProblem::Revoked);
        }
        if key.stands(now) { Ok(key) } else { Err(KeyProblem::Expired) }
    }

    /// [`ApiKeys::verify`] for a request of `client`, which counts: a good key has its own pace,
    /// and who presents wrong ones again and again is told to wait.
    ///
    /// # Errors
    /// See [`NotAdmitted`].
    pub fn admit(
        &self,
        presented: &str,
        client: IpAddr,
        clock: &dyn Clock,
    ) -> Result<Arc<ApiKey>, NotAdmitted> {
        let (verified, now) = (self.verify(presented, clock.wall()), clock.monotonic());
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        match verified {
            Ok(key) => {
                paces.of_key(&key.id, key.per_minute, now).map_err(NotAdmitted::TooOften)?;
                Ok(key)
            }
            Err(problem) => Err(match paces.fail(client, now) {
                Ok(()) => NotAdmitted::Bad(problem),
                Err(wait) => NotAdmitted::TooManyBad(problem, wait),
            }),
        }
    }

    /// Counts a token that was handed out.
    pub(crate) fn count_issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tokens were handed out since the program began.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

/// The id and the secret part of a key's text.
pub(super) fn parts(text: &str) -> Option<(&str, &str)> {
    let (id, rest) = text.strip_prefix(PREFIX)?.split_at_checked(ID_CHARS)?;
    let secret = rest.strip_prefix('_')?;
    let of_secret = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_key = id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && secret.len() == SECRET_CHARS
        && secret.bytes().all(of_secret);
    is_key.then_some((id, secret))
}

/// Whether a text is meant to be a key, and not a token.
pub(crate) fn is_key_like(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The id of the key that this text is, if it is one.
pub(crate) fn id_of(text: &str) -> Option<&str> {
    parts(text).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FAILED_KEYS_PER_MINUTE;

    fn namespace() -> Namespace {
        Namespace::new("https://hub.example/.well-known/mercure".parse().unwrap())
    }

    fn topic(pattern: &str, match_type: &str) -> KeptPattern {
        KeptPattern { pattern: pattern.into(), match_type: match_type.into() }
    }

    fn wanted() -> WantedKey {
        WantedKey {
            name: "shop".into(),
            topics: vec![topic("https://e.com/{id}", "uritemplate")],
            lifetime_max: 60,
            per_minute: 3,
            expires: None,
        }
    }

    struct At(u64);

    impl Clock for At {
        fn wall(&self) -> u64 {
            self.0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0)
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_key_is_known_again_by_its_whole_text_alone() {
        let (key, text) = ApiKey::make(wanted(), &namespace(), 5_000).unwrap();
        let (other, other_text) = ApiKey::make(wanted(), &namespace(), 5_000).unwrap();
        assert_eq!(text.len(), 63);
        assert_ne!(key.id, other.id);
        let keys = ApiKeys::default();
        assert_eq!(keys.verify(&text, 0), Err(KeyProblem::Unknown));
        keys.replace(vec![key.clone(), other]);
        assert_eq!(*keys.verify(&text, 0).unwrap(), key);
        assert_eq!(ApiKey::known(wanted(), &text, &namespace(), 5_000), Ok(key.clone()));
        assert_eq!(ApiKey::known(wanted(), "tk_", &namespace(), 0), Err(BadApiKey::Text));
        let (_, secret) = parts(&other_text).unwrap();
        let mixed = format!("tk_{}_{secret}", key.id);
        assert_eq!(keys.verify(&mixed, 0), Err(KeyProblem::WrongSecret));
        for bad in
            ["", "tk_", &text[1..], &text[..62], &format!("{text}a"), &text.replace('_', "é")]
        {
            assert_eq!(keys.verify(bad, 0), Err(KeyProblem::Malformed), "{bad}");
        }
    }

    #[test]
    fn nothing_that_is_kept_or_shown_holds_the_secret() {
        let (key, text) = ApiKey::make(wanted(), &namespace(), 5_000).unwrap();
        let (_, secret) = parts(&text).unwrap();
        let row = serde_json::to_string(&key).unwrap();
        for shown in [row.clone(), format!("{key:?}")] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let read: ApiKey = serde_json::from_str(&row).unwrap();
        assert!(read.is_readable());
        assert_eq!(read, key);
        assert!(!format!("{key:?}").contains(&key.hash.0));
    }

    #[test]
    fn a_key_ends_when_it_is_revoked_and_at_its_end() {
        let ends = WantedKey { expires: Some(7), ..wanted() };
        let (key, text) = ApiKey::make(ends, &namespace(), 5_000).unwrap();
        let keys = ApiKeys::default();
        keys.replace(vec![key.clone()]);
        assert!(keys.stands(&key.id, 6_999) && keys.verify(&text, 6_999).is_ok());
        assert!(!keys.stands(&key.id, 7_000));
        assert_eq!(keys.verify(&text, 7_000), Err(KeyProblem::Expired));
        keys.replace(vec![ApiKey { revoked: Some(6), ..key.clone() }]);
        assert!(!keys.stands(&key.id, 6_000));
        assert_eq!(keys.verify(&text, 6_000), Err(KeyProblem::Revoked));
        keys.replace(Vec::new());
        assert!(!keys.stands(&key.id, 6_000));
    }

    #[test]
    fn what_a_key_cannot_be_is_said() {
        let bad = |change: fn(&mut WantedKey)| {
            let mut wanted = wanted();
            change(&mut wanted);
            ApiKey::make(wanted, &namespace(), 5_000).unwrap_err()
        };
        for name in ["", "a b", "a/b", "é", &"a".repeat(65)] {
            let named = WantedKey { name: name.into(), ..wanted() };
            let made = ApiKey::make(named, &namespace(), 0);
            assert_eq!(made.unwrap_err(), BadApiKey::Name, "{name}");
        }
        assert_eq!(bad(|one| one.topics.clear()), BadApiKey::NoTopic);
        assert_eq!(
            bad(|one| one.topics = vec![topic("a", "exact"); 101]),
            BadApiKey::TooManyTopics
        );
        assert_eq!(
            bad(|one| one.topics = vec![topic(&"a".repeat(4_000), "exact"); 5]),
            BadApiKey::TooManyTopics
        );
        assert!(matches!(
            bad(|one| one.topics.push(topic("a", "regexp"))),
            BadApiKey::MatchType(_)
        ));
        assert!(matches!(
            bad(|one| one.topics.push(topic("a/#/b", "mqtt"))),
            BadApiKey::Pattern { .. }
        ));
        assert_eq!(bad(|one| one.lifetime_max = 0), BadApiKey::Lifetime);
        assert_eq!(bad(|one| one.lifetime_max = u64::MAX), BadApiKey::Lifetime);
        assert_eq!(bad(|one| one.per_minute = 0), BadApiKey::Pace);
        assert_eq!(bad(|one| one.expires = Some(5)), BadApiKey::Past);
    }

    #[test]
    fn a_key_asks_as_often_as_it_may_and_wrong_ones_slow_nobody_else() {
        let (key, text) = ApiKey::make(wanted(), &namespace(), 0).unwrap();
        let keys = ApiKeys::default();
        keys.replace(vec![key]);
        let here = address("192.0.2.1");
        for _ in 0..3 {
            keys.admit(&text, here, &At(0)).unwrap();
        }
        let refused = keys.admit(&text, here, &At(0)).unwrap_err();
        assert!(matches!(refused, NotAdmitted::TooOften(_)), "{refused:?}");
        keys.admit(&text, here, &At(20_000)).unwrap();
        for _ in 0..FAILED_KEYS_PER_MINUTE {
            let refused = keys.admit("tk_x", address("2001:db8::1"), &At(30_000)).unwrap_err();
            assert_eq!(refused, NotAdmitted::Bad(KeyProblem::Malformed));
        }
        let refused = keys.admit("tk_x", address("2001:db8::2"), &At(30_000)).unwrap_err();
        assert!(matches!(refused, NotAdmitted::TooManyBad(..)), "{refused:?}");
        let other = keys.admit("tk_x", address("2001:db8:0:1::2"), &At(30_000)).unwrap_err();
        assert_eq!(other, NotAdmitted::Bad(KeyProblem::Malformed));
        keys.admit(&text, address("2001:db8::1"), &At(60_000)).unwrap();
    }
}
