//! The secrets that sign the hub's own tokens: one that signs, and those before it whose tokens go
//! on. Knows no storage and no token.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::key_set::Snapshot;
use super::keys::Key;
use crate::limits::{ISSUED_LIFETIME_LIMIT, OWN_SECRETS_MAX};

/// What the name of each key begins with; its number follows.
const KID: &str = "tidings-";
/// The form in which they are kept.
const VERSION: u32 = 1;

/// The secrets of one moment.
#[derive(Clone)]
pub struct OwnSecrets {
    /// Numbers below are those of secrets that were ended at once: what was opened by them is over.
    floor: u64,
    /// The last one signs.
    secrets: Vec<OwnSecret>,
}

#[derive(Clone)]
struct OwnSecret {
    /// Never that of another one.
    number: u64,
    secret: [u8; 32],
    /// From when on its tokens do not count, in seconds since 1970; `None` while it signs.
    ends: Option<u64>,
}

// By hand: secrets never reach a log through `{:?}`.
impl fmt::Debug for OwnSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OwnSecrets").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

/// The operator changes them faster than tokens end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{OWN_SECRETS_MAX} secrets count already: wait until one has ended, or end all at once")]
pub struct TooManySecrets;

/// The form in which they are kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    floor: u64,
    secrets: Vec<SecretDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretDocument {
    number: u64,
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<u64>,
}

impl OwnSecrets {
    /// The first one of a hub.
    pub fn first(secret: [u8; 32]) -> OwnSecrets {
        OwnSecrets { floor: 1, secrets: vec![OwnSecret { number: 1, secret, ends: None }] }
    }

    /// As they are kept, or as the first one was kept alone. `None` for anything else.
    pub fn read(kept: &[u8]) -> Option<OwnSecrets> {
        if let Ok(secret) = kept.try_into() {
            return Some(OwnSecrets::first(secret));
        }
        let document: Document = serde_json::from_slice(kept).ok()?;
        let secret = |one: SecretDocument| {
            let secret = URL_SAFE_NO_PAD.decode(one.secret).ok()?.try_into().ok()?;
            Some(OwnSecret { number: one.number, secret, ends: one.ends })
        };
        let secrets = document.secrets.into_iter().map(secret).collect::<Option<Vec<_>>>()?;
        let is_readable = document.version == VERSION && !secrets.is_empty();
        is_readable.then_some(OwnSecrets { floor: document.floor, secrets })
    }

    /// In the form in which they are kept.
    pub fn written(&self) -> Vec<u8> {
        let document = |one: &OwnSecret| SecretDocument {
            number: one.number,
            secret: URL_SAFE_NO_PAD.encode(one.secret),
            ends: one.ends,
        };
        let secrets = self.secrets.iter().map(document).collect();
        let document = Document { version: VERSION, floor: self.floor, secrets };
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// With a new one that signs from `now` on, in milliseconds since 1970. Tokens of those before
    /// go on until the longest of them has ended, or count no longer where that is to be `at_once`.
    ///
    /// # Errors
    /// When too many would count.
    pub fn rotated(
        &self,
        secret: [u8; 32],
        now: u64,
        at_once: bool,
    ) -> Result<OwnSecrets, TooManySecrets> {
        let now = now / 1_000;
        let number = self.number().saturating_add(1);
        let new = OwnSecret { number, secret, ends: None };
        if at_once {
            return Ok(OwnSecrets { floor: number, secrets: vec![new] });
        }
        let end = now.saturating_add(ISSUED_LIFETIME_LIMIT);
        let mut secrets = self.secrets.clone();
        secrets.retain(|one| one.ends.is_none_or(|ends| now < ends));
        for one in &mut secrets {
            one.ends.get_or_insert(end);
        }
        secrets.push(new);
        if secrets.len() > OWN_SECRETS_MAX {
            return Err(TooManySecrets);
        }
        Ok(OwnSecrets { floor: self.floor, secrets })
    }

    fn number(&self) -> u64 {
        self.secrets.last().map_or(0, |one| one.number)
    }

    /// The name of the key that signs.
    pub fn kid(&self) -> String {
        format!("{KID}{}", self.number())
    }

    /// The names of those before it, and until when their tokens count, in seconds since 1970.
    pub fn previous(&self) -> impl Iterator<Item = (String, u64)> {
        self.secrets.iter().filter_map(|one| Some((format!("{KID}{}", one.number), one.ends?)))
    }

    fn key(one: &OwnSecret) -> Key {
        let ends = one.ends.map(|seconds| seconds.saturating_mul(1_000));
        Key::own(&format!("{KID}{}", one.number), &one.secret, ends)
    }
}

/// What follows from the secrets of one moment.
pub(super) struct Standing {
    pub(super) secrets: OwnSecrets,
    pub(super) kid: String,
    /// Signs.
    pub(super) signs: hmac::Key,
    /// Verify.
    pub(super) verify: Arc<Snapshot>,
}

impl Standing {
    fn new(secrets: OwnSecrets) -> Standing {
        let secret = secrets.secrets.last().map(|one| one.secret).unwrap_or_default();
        let keys = secrets.secrets.iter().map(OwnSecrets::key).collect();
        Standing {
            kid: secrets.kid(),
            signs: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            verify: Arc::new(Snapshot::fixed(keys)),
            secrets,
        }
    }

    /// Whether what was opened by the key of this name was ended at once.
    pub(super) fn has_ended(&self, kid: Option<&str>) -> bool {
        let number = kid.and_then(|kid| kid.strip_prefix(KID)?.parse::<u64>().ok());
        number.is_none_or(|number| number < self.secrets.floor)
    }
}

/// The secrets that count now.
pub(super) struct OwnKeys(RwLock<Arc<Standing>>);

impl OwnKeys {
    pub(super) fn new(secrets: OwnSecrets) -> OwnKeys {
        OwnKeys(RwLock::new(Arc::new(Standing::new(secrets))))
    }

    pub(super) fn now(&self) -> Arc<Standing> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, secrets: OwnSecrets) {
        let new = Arc::new(Standing::new(secrets));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    #[test]
    fn secrets_are_read_as_they_were_written_also_the_first_one_alone() {
        let first = OwnSecrets::read(&[7; 32]).unwrap();
        assert_eq!(first.kid(), "tidings-1");
        let second = first.rotated([8; 32], 5_000, false).unwrap();
        assert_eq!(second.kid(), "tidings-2");
        let again = OwnSecrets::read(&second.written()).unwrap();
        assert_eq!(again.written(), second.written());
        assert_eq!(again.previous().collect::<Vec<_>>(), [("tidings-1".to_owned(), 5 + 30 * DAY)]);
        for bad in [&b""[..], &[7; 31], b"{}", br#"{"version":1,"floor":1,"secrets":[]}"#] {
            assert!(OwnSecrets::read(bad).is_none());
        }
        let newer = String::from_utf8(second.written()).unwrap();
        assert!(OwnSecrets::read(newer.replace(":1,\"f", ":2,\"f").as_bytes()).is_none());
        assert!(!format!("{second:?}").contains('8'));
    }

    #[test]
    fn numbers_are_never_used_twice_and_those_that_ended_are_forgotten() {
        let mut secrets = OwnSecrets::first([1; 32]);
        for round in 1..OWN_SECRETS_MAX as u64 {
            secrets = secrets.rotated([2; 32], round * 1_000, false).unwrap();
        }
        assert_eq!(secrets.rotated([3; 32], 9_000, false).unwrap_err(), TooManySecrets);
        let later = secrets.rotated([3; 32], (30 * DAY + 1) * 1_000, false).unwrap();
        assert_eq!(later.kid(), format!("tidings-{}", OWN_SECRETS_MAX + 1));
        assert!(!later.previous().any(|(kid, _)| kid == "tidings-1"));
        let alone = secrets.rotated([3; 32], 9_000, true).unwrap();
        assert_eq!(alone.kid(), format!("tidings-{}", OWN_SECRETS_MAX + 1));
        assert_eq!(alone.previous().count(), 0);
        let standing = Standing::new(alone);
        assert!(standing.has_ended(Some("tidings-1")) && standing.has_ended(None));
        assert!(!standing.has_ended(Some(&standing.kid)));
        assert!(!Standing::new(later).has_ended(Some("tidings-1")), "it went by itself");
    }
}
