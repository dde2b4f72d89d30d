//! Tokens that were verified before. Remembers a hash of each and forgets by halves, so that its
//! size has a bound; a few that were used last are known by themselves, which saves the hash.
//! Failures are not remembered: they cost memory that a stranger decides about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};

use super::key_set::KeySet;
use super::{Role, Verified};
use crate::limits::{RECENT_TOKENS, TOKEN_BYTES_CACHED, TOKENS_CACHED};

type Name = [u8; SHA256_OUTPUT_LEN];

/// A verified token with the time in which it holds, in milliseconds since 1970.
#[derive(Clone)]
pub(super) struct Remembered {
    pub(super) verified: Arc<Verified>,
    pub(super) not_before: Option<u64>,
    /// The set that its key was in, and in which state of it.
    pub(super) found_in: Option<(Arc<KeySet>, u64)>,
}

impl Remembered {
    /// Whether it holds now. A clock may jump in either direction, so both ends are judged.
    fn holds(&self, now: u64) -> bool {
        self.verified.grant.expires.is_none_or(|expires| now < expires)
            && self.not_before.is_none_or(|start| start <= now)
            && self.found_in.as_ref().is_none_or(|(set, state)| set.generation() == *state)
    }
}

#[derive(Default)]
pub(super) struct Cache {
    /// Each in the place that the last byte but one says: of a signature, and all its bits are.
    recent: [Mutex<Option<Recent>>; RECENT_TOKENS],
    halves: Mutex<Halves>,
}

/// A token that was used just now.
struct Recent {
    token: Box<str>,
    role: Role,
    remembered: Remembered,
}

impl Recent {
    fn is(&self, token: &str, role: Role) -> bool {
        let (own, other) = (self.token.as_bytes(), token.as_bytes());
        // In full: how long it takes says nothing about where they differ.
        let differ = || own.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b)) != 0;
        self.role == role && own.len() == other.len() && !differ()
    }
}

/// Two halves: when the young one is full it becomes the old one, and what was in the old one and
/// not asked for since is forgotten.
#[derive(Default)]
struct Halves {
    young: HashMap<Name, (Remembered, usize)>,
    old: HashMap<Name, (Remembered, usize)>,
    young_bytes: usize,
}

impl Halves {
    fn insert(&mut self, name: Name, remembered: Remembered, bytes: usize) {
        let is_full = self.young.len() >= TOKENS_CACHED;
        if is_full || self.young_bytes + bytes > TOKEN_BYTES_CACHED {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if let Some((_, replaced)) = self.young.insert(name, (remembered, bytes)) {
            self.young_bytes -= replaced;
        }
        self.young_bytes += bytes;
    }

    fn get(&mut self, name: &Name, now: u64) -> Option<Remembered> {
        if let Some((remembered, bytes)) = self.young.get(name) {
            if remembered.holds(now) {
                return Some(remembered.clone());
            }
            self.young_bytes -= bytes;
            self.young.remove(name);
            return None;
        }
        let (remembered, bytes) = self.old.remove(name)?;
        if !remembered.holds(now) {
            return None;
        }
        self.insert(*name, remembered.clone(), bytes);
        Some(remembered)
    }
}

impl Cache {
    /// What `token` was verified as in this role, if that still holds.
    pub(super) fn get(&self, token: &str, role: Role, now: u64) -> Option<Arc<Verified>> {
        let place = self.place(token)?;
        if let Some(known) = lock(place).as_ref().filter(|known| known.is(token, role))
            && known.remembered.holds(now)
        {
            return Some(Arc::clone(&known.remembered.verified));
        }
        let remembered = lock(&self.halves).get(&name(token, role), now)?;
        let verified = Arc::clone(&remembered.verified);
        *lock(place) = Some(Recent { token: token.into(), role, remembered });
        Some(verified)
    }

    pub(super) fn insert(&self, token: &str, role: Role, remembered: Remembered) {
        lock(&self.halves).insert(name(token, role), remembered, token.len());
    }

    fn place(&self, token: &str) -> Option<&Mutex<Option<Recent>>> {
        let byte = token.bytes().nth_back(1).map_or(0, usize::from);
        self.recent.get(byte % RECENT_TOKENS)
    }
}

/// Every change of what is remembered is complete, so a poisoned lock guards a good state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(token: &str, role: Role) -> Name {
    let mut context = digest::Context::new(&SHA256);
    // The role first and of fixed length: one token in two roles has two names.
    context.update(&[role as u8]);
    context.update(token.as_bytes());
    let mut name = Name::default();
    for (to, from) in name.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Generation;
    use tidings_core::Grant;

    fn remembered(not_before: Option<u64>, expires: Option<u64>) -> Remembered {
        let verified = Arc::new(Verified {
            generation: Generation::Final,
            grant: Arc::new(Grant { expires, ..Grant::default() }),
            details: Vec::new(),
            may: true,
        });
        Remembered { verified, not_before, found_in: None }
    }

    #[test]
    fn a_token_is_forgotten_at_its_end() {
        let cache = Cache::default();
        cache.insert("a", Role::Publish, remembered(Some(50), Some(100)));
        assert!(cache.get("a", Role::Publish, 99).is_some());
        assert!(cache.get("a", Role::Subscribe, 99).is_none());
        assert!(cache.get("a", Role::Publish, 100).is_none());
        assert!(cache.halves.lock().unwrap().young.is_empty());
        assert_eq!(cache.halves.lock().unwrap().young_bytes, 0);
        cache.insert("a", Role::Publish, remembered(Some(50), Some(100)));
        assert!(cache.get("a", Role::Publish, 49).is_none());
    }

    #[test]
    fn the_cache_is_bounded_in_number_and_keeps_what_is_used() {
        let cache = Cache::default();
        for number in 0..5 * TOKENS_CACHED {
            cache.insert(&number.to_string(), Role::Publish, remembered(None, None));
            let name = name("0", Role::Publish);
            assert!(cache.halves.lock().unwrap().get(&name, 0).is_some());
        }
        let halves = cache.halves.lock().unwrap();
        assert!(halves.young.len() <= TOKENS_CACHED && halves.old.len() <= TOKENS_CACHED);
        drop(halves);
        assert!(cache.get("1", Role::Publish, 0).is_none());
    }

    #[test]
    fn the_cache_is_bounded_in_bytes() {
        let cache = Cache::default();
        let large = "x".repeat(TOKEN_BYTES_CACHED / 8);
        for number in 0..40 {
            cache.insert(&format!("{large}{number}"), Role::Publish, remembered(None, None));
            let halves = cache.halves.lock().unwrap();
            assert!(halves.young_bytes <= TOKEN_BYTES_CACHED);
            let kept = halves.young.values().chain(halves.old.values());
            assert!(kept.map(|(_, bytes)| bytes).sum::<usize>() <= 2 * TOKEN_BYTES_CACHED);
        }
    }

    /// A cache with these tokens in it, in this order.
    fn halves(tokens: &[&str]) -> Halves {
        let cache = Cache::default();
        for token in tokens {
            cache.insert(token, Role::Publish, remembered(None, None));
        }
        cache.halves.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_forgotten_before_the_cache_is_full() {
        // Few and small, though their lengths multiplied are more than all bytes.
        let large = "x".repeat(3_000);
        let few = halves(&["a", "b", &large, &format!("{large}y")]);
        assert_eq!((few.young.len(), few.old.len()), (4, 0));
        let half = TOKEN_BYTES_CACHED / 2;
        let (one, other) = ("x".repeat(half), "y".repeat(half));
        let full = halves(&[&one, &other]);
        assert_eq!((full.young.len(), full.young_bytes), (2, TOKEN_BYTES_CACHED));
        let more = halves(&[&one, &other, "z"]);
        assert_eq!((more.young.len(), more.old.len(), more.young_bytes), (1, 2, 1));
    }

    #[test]
    fn a_token_that_is_remembered_twice_counts_once() {
        assert_eq!(halves(&["abcd", "abcd", "abcd"]).young_bytes, 4);
    }

    #[test]
    fn a_token_is_forgotten_when_the_set_of_its_key_changes() {
        let url = "https://issuer.example/keys".parse().unwrap();
        let set = Arc::new(KeySet::new("i", crate::auth::KeySetPlace::Url(url)));
        let cache = Cache::default();
        let found_in = Some((Arc::clone(&set), set.generation()));
        cache.insert("a", Role::Publish, Remembered { found_in, ..remembered(None, None) });
        assert!(cache.get("a", Role::Publish, 0).is_some());
        let keys = br#"{"keys":[{"kty":"OKP","crv":"Ed25519",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        set.replace(keys, 1).unwrap();
        assert!(cache.get("a", Role::Publish, 0).is_none());
    }
}
