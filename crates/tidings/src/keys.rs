//! The operator's API keys: kept in the hub's state, put to use in `auth`, and told to the hub so
//! that what was opened with a revoked one ends. Knows no HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::{Clock, Hub, State, StateError, Table, Write};
use tidings_frontends::auth::{
    ApiKey, ApiKeys, BadApiKey, OwnIssuer, OwnSecrets, TooManySecrets, WantedKey,
};
use tidings_frontends::limits::API_KEYS_MAX;

/// The row with the secrets of the hub's own tokens.
const SECRET: &[u8] = b"tokens";

/// A key was not made or revoked. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum KeyringProblem {
    /// The operator's mistake.
    #[error(transparent)]
    Bad(#[from] BadApiKey),
    /// The operator's mistake.
    #[error("a key is called {0:?} already: revoke it first, or take another name")]
    Taken(String),
    /// There are as many as there may be.
    #[error("there are {API_KEYS_MAX} keys already: revoke some")]
    Full,
    /// Too many secrets of the hub's own tokens count.
    #[error(transparent)]
    Rotated(#[from] TooManySecrets),
    /// The hub's storage.
    #[error("the keys cannot be stored: {0}")]
    Storage(#[from] StateError),
    /// The system.
    #[error("the system gives no random numbers: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// The keys from before, or the secret of the hub's tokens, cannot be put to use. The fault of the
/// storage or the system.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableKeys {
    /// The hub's storage.
    #[error("the API keys cannot be read: {0}")]
    Storage(#[from] StateError),
    /// A row is none of this program's.
    #[error(
        "a stored API key is damaged or of a newer version of this program: restore the data \
         folder from a copy, or take the newer program"
    )]
    Damaged,
    /// The system.
    #[error("the system gives no random numbers: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// The secrets of the hub's own tokens: the same as ever, or a new one where there is none.
///
/// # Errors
///
/// When they can neither be read nor made.
pub(crate) fn issuer_secrets(state: &State) -> Result<OwnSecrets, UnreadableKeys> {
    if let Some(kept) = state.get(Table::Issuer, SECRET)? {
        return OwnSecrets::read(&kept).ok_or(UnreadableKeys::Damaged);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let secrets = OwnSecrets::first(secret);
    keep(state, &secrets)?;
    Ok(secrets)
}

fn keep(state: &State, secrets: &OwnSecrets) -> Result<(), StateError> {
    let written = secrets.written();
    state.commit(&[Write { table: Table::Issuer, key: SECRET, value: Some(&written) }])
}

/// The keys.
pub(crate) struct Keyring {
    hub: Hub,
    own: Arc<OwnIssuer>,
    keys: Arc<ApiKeys>,
    clock: Arc<dyn Clock>,
    list: Mutex<Vec<ApiKey>>,
    /// Whether they outlive the process.
    is_durable: bool,
}

impl Keyring {
    /// Reads the keys from before and puts them to use with `own`.
    ///
    /// # Errors
    ///
    /// When the hub's state cannot be read, or a row of it is damaged.
    pub(crate) fn open(
        hub: Hub,
        own: Arc<OwnIssuer>,
        clock: Arc<dyn Clock>,
        is_durable: bool,
    ) -> Result<Keyring, UnreadableKeys> {
        let rows = hub.state().rows(Table::ApiKeys, API_KEYS_MAX)?;
        let mut list = Vec::with_capacity(rows.len());
        for (id, value) in rows {
            let key: ApiKey =
                serde_json::from_slice(&value).map_err(|_| UnreadableKeys::Damaged)?;
            if !key.is_readable() || key.id.as_bytes() != id {
                return Err(UnreadableKeys::Damaged);
            }
            list.push(key);
        }
        let keys = Arc::clone(own.keys());
        keys.replace(list.clone());
        Ok(Keyring { hub, own, keys, clock, list: Mutex::new(list), is_durable })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ApiKey>> {
        // The list is replaced as a whole, so a poisoned lock guards a good one.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether keys outlive the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// All of them, the oldest first; those that were revoked are among them for a while.
    pub(crate) fn list(&self) -> Vec<ApiKey> {
        let mut list = self.lock().clone();
        list.sort_by(|a, b| (a.made, &a.name).cmp(&(b.made, &b.name)));
        list
    }

    /// How many of them count now.
    pub(crate) fn standing(&self) -> u64 {
        let now = self.clock.wall();
        self.lock().iter().filter(|key| key.stands(now)).count() as u64
    }

    /// How many tokens were handed out since the program began.
    pub(crate) fn issued(&self) -> u64 {
        self.keys.issued()
    }

    /// Makes a key, and the text that its holder presents. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`KeyringProblem`].
    pub(crate) fn create(&self, wanted: WantedKey) -> Result<(ApiKey, String), KeyringProblem> {
        let now = self.clock.wall();
        let (key, text) = ApiKey::make(wanted, self.hub.namespace(), now)?;
        let mut list = self.lock();
        if list.iter().any(|other| other.name == key.name && other.stands(now)) {
            return Err(KeyringProblem::Taken(key.name));
        }
        let mut new = list.clone();
        let over = if new.len() < API_KEYS_MAX { None } else { oldest_over(&new, now) };
        if let Some(over) = &over {
            new.retain(|other| other.id != *over);
        }
        if new.len() >= API_KEYS_MAX || new.iter().any(|other| other.id == key.id) {
            return Err(KeyringProblem::Full);
        }
        let value = serde_json::to_vec(&key).unwrap_or_default();
        let row = |id, value| Write { table: Table::ApiKeys, key: id, value };
        let mut writes: Vec<_> = over.iter().map(|id| row(id.as_bytes(), None)).collect();
        writes.push(row(key.id.as_bytes(), Some(&value)));
        self.hub.state().commit(&writes)?;
        new.push(key.clone());
        self.keys.replace(new.clone());
        *list = new;
        Ok((key, text))
    }

    /// Has a key whose text somebody knows already, whatever became of one with its id or name.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`KeyringProblem`].
    pub(crate) fn have(&self, wanted: WantedKey, text: &str) -> Result<(), KeyringProblem> {
        let key = ApiKey::known(wanted, text, self.hub.namespace(), self.clock.wall())?;
        let mut list = self.lock();
        let mut new = list.clone();
        let is_other = |other: &ApiKey| other.id != key.id && other.name != key.name;
        let gone: Vec<_> =
            new.iter().filter(|other| !is_other(other)).map(|other| other.id.clone()).collect();
        new.retain(is_other);
        let value = serde_json::to_vec(&key).unwrap_or_default();
        let row = |id, value| Write { table: Table::ApiKeys, key: id, value };
        let mut writes: Vec<_> = gone.iter().map(|id| row(id.as_bytes(), None)).collect();
        writes.push(row(key.id.as_bytes(), Some(&value)));
        self.hub.state().commit(&writes)?;
        new.push(key.clone());
        self.keys.replace(new.clone());
        *list = new;
        Ok(())
    }

    /// Revokes the key of this id, or else the one of this name that counts. Answers it, and how
    /// many subscriptions ended by that; `None` when there is no such key. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be stored.
    pub(crate) fn revoke(&self, named: &str) -> Result<Option<(ApiKey, usize)>, KeyringProblem> {
        let now = self.clock.wall();
        let mut list = self.lock();
        let mut new = list.clone();
        let place = new.iter().position(|key| key.id == named && key.revoked.is_none());
        // The name of one that is over may be another one's by now.
        let by_name = |key: &ApiKey| key.name == named && key.stands(now);
        let Some(place) = place.or_else(|| new.iter().position(by_name)) else { return Ok(None) };
        let Some(key) = new.get_mut(place) else { return Ok(None) };
        key.revoked = Some(now / 1_000);
        let revoked = key.clone();
        let value = serde_json::to_vec(&revoked).unwrap_or_default();
        let row = revoked.id.as_bytes();
        let write = Write { table: Table::ApiKeys, key: row, value: Some(&value) };
        self.hub.state().commit(&[write])?;
        self.keys.replace(new.clone());
        *list = new;
        drop(list);
        Ok(Some((revoked, self.hub.judge_again())))
    }

    /// Signs the hub's own tokens by a new secret from now on. Tokens of those before go on until
    /// they end, or fall `at_once`. Answers what counts now, and how many subscriptions ended.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`KeyringProblem`].
    pub(crate) fn rotate_issuer(
        &self,
        at_once: bool,
    ) -> Result<(OwnSecrets, usize), KeyringProblem> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        // One at a time, as with the keys.
        let list = self.lock();
        let secrets = self.own.secrets().rotated(secret, self.clock.wall(), at_once)?;
        keep(self.hub.state(), &secrets)?;
        self.own.replace_secrets(secrets.clone());
        drop(list);
        let ended = if at_once { self.hub.judge_again() } else { 0 };
        Ok((secrets, ended))
    }
}

/// The id of the key that has been of no use for longest, if any is.
fn oldest_over(keys: &[ApiKey], now: u64) -> Option<String> {
    let over = keys.iter().filter(|key| !key.stands(now));
    over.min_by_key(|key| key.revoked.or(key.expires)).map(|key| key.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use tidings_core::{Durability, HistoryOptions, HubOptions, Keep, Namespace};
    use tidings_frontends::auth::KeptPattern;

    fn hub() -> Hub {
        let url = "https://hub.example/.well-known/mercure".parse().unwrap();
        let history = HistoryOptions {
            hold_bytes: 0,
            path: None,
            durability: Durability::Memory,
            keep: Keep::default(),
            segment_bytes: 1 << 20,
        };
        let options =
            HubOptions { namespace: Namespace::new(url), update_bytes_max: 1024, history };
        Hub::open(options, Arc::new(SystemClock::new())).unwrap()
    }

    fn own(hub: &Hub) -> Arc<OwnIssuer> {
        let secrets = issuer_secrets(hub.state()).unwrap();
        let public_url = "https://hub.example".parse().unwrap();
        Arc::new(OwnIssuer::new(&public_url, hub.namespace().hub_url(), secrets))
    }

    fn open(hub: &Hub) -> Keyring {
        let clock = Arc::new(SystemClock::new());
        Keyring::open(hub.clone(), own(hub), clock, false).unwrap()
    }

    fn wanted(name: &str) -> WantedKey {
        let any = KeptPattern { pattern: "*".into(), match_type: "exact".into() };
        WantedKey {
            name: name.into(),
            topics: vec![any],
            lifetime_max: 60,
            per_minute: 600,
            expires: None,
        }
    }

    #[test]
    fn keys_are_there_after_opening_again_and_stay_revoked() {
        let hub = hub();
        let ring = open(&hub);
        let (one, text) = ring.create(wanted("one")).unwrap();
        let (two, _) = ring.create(wanted("two")).unwrap();
        let (revoked, ended) = ring.revoke("two").unwrap().unwrap();
        assert_eq!((revoked.id, ended), (two.id, 0));
        assert!(ring.revoke("two").unwrap().is_none(), "only once");
        let again = open(&hub);
        assert_eq!(again.list(), ring.list());
        assert_eq!(again.standing(), 1);
        assert_eq!(again.keys.verify(&text, 0).unwrap().id, one.id);
        assert!(again.revoke(&one.id).unwrap().is_some());
        assert!(again.keys.verify(&text, 0).is_err());
    }

    #[test]
    fn a_name_is_free_again_once_its_key_was_revoked() {
        let ring = open(&hub());
        ring.create(wanted("one")).unwrap();
        let taken = ring.create(wanted("one")).unwrap_err();
        assert!(matches!(taken, KeyringProblem::Taken(_)), "{taken}");
        ring.revoke("one").unwrap().unwrap();
        ring.create(wanted("one")).unwrap();
        assert_eq!(ring.list().len(), 2);
    }

    #[test]
    fn the_key_that_counts_is_revoked_by_its_name() {
        let ring = open(&hub());
        ring.create(wanted("one")).unwrap();
        ring.lock()[0].expires = Some(0);
        let (new, text) = ring.create(wanted("one")).unwrap();
        assert_eq!(ring.revoke("one").unwrap().unwrap().0.id, new.id);
        assert!(ring.keys.verify(&text, 0).is_err());
        assert!(ring.revoke("one").unwrap().is_none());
    }

    #[test]
    fn keys_are_bounded_and_what_counts_no_longer_makes_room() {
        let ring = open(&hub());
        let (first, _) = ring.create(wanted("first")).unwrap();
        let numbered = |number: usize| {
            let mut key = first.clone();
            (key.id, key.name) = (format!("{number:016x}"), number.to_string());
            key
        };
        let full: Vec<_> = (0..API_KEYS_MAX).map(numbered).collect();
        *ring.lock() = full;
        assert!(matches!(ring.create(wanted("more")).unwrap_err(), KeyringProblem::Full));
        ring.lock()[7].revoked = Some(1);
        ring.create(wanted("more")).unwrap();
        assert!(ring.list().iter().all(|key| key.name != "7"));
        assert_eq!(ring.list().len(), API_KEYS_MAX);
    }

    #[test]
    fn a_key_that_is_known_already_is_there_once() {
        let hub = hub();
        let ring = open(&hub);
        let text = format!("tk_0123456789abcdef_{}", "a".repeat(43));
        ring.have(wanted("dev"), &text).unwrap();
        ring.revoke("dev").unwrap().unwrap();
        ring.have(wanted("dev"), &text).unwrap();
        assert!(ring.keys.verify(&text, 0).is_ok());
        let other = format!("tk_1123456789abcdef_{}", "a".repeat(43));
        ring.have(wanted("dev"), &other).unwrap();
        assert!(ring.keys.verify(&text, 0).is_err());
        assert_eq!(open(&hub).list(), ring.list());
        assert_eq!(ring.list().len(), 1);
    }

    #[test]
    fn a_damaged_row_keeps_the_hub_from_starting() {
        let hub = hub();
        let (key, _) = open(&hub).create(wanted("one")).unwrap();
        let row = hub.state().get(Table::ApiKeys, key.id.as_bytes()).unwrap().unwrap();
        let newer = String::from_utf8(row.clone()).unwrap().replacen("1", "2", 1).into_bytes();
        for damaged in [&row[..row.len() - 1], b"{}", &newer] {
            let id = key.id.as_bytes();
            let write = Write { table: Table::ApiKeys, key: id, value: Some(damaged) };
            hub.state().commit(&[write]).unwrap();
            let clock = Arc::new(SystemClock::new());
            let opened = Keyring::open(hub.clone(), own(&hub), clock, false);
            assert!(matches!(opened, Err(UnreadableKeys::Damaged)));
        }
    }

    #[test]
    fn a_new_secret_is_kept_with_those_before_it_unless_they_end_at_once() {
        let hub = hub();
        let ring = open(&hub);
        let kept = || issuer_secrets(hub.state()).unwrap();
        let (secrets, ended) = ring.rotate_issuer(false).unwrap();
        assert_eq!((secrets.kid().as_str(), ended), ("tidings-2", 0));
        assert_eq!(kept().written(), secrets.written());
        assert_eq!(ring.own.secrets().previous().count(), 1);
        let (secrets, _) = ring.rotate_issuer(true).unwrap();
        assert_eq!((secrets.kid().as_str(), secrets.previous().count()), ("tidings-3", 0));
        assert_eq!(kept().written(), secrets.written());
        for _ in 0..7 {
            ring.rotate_issuer(false).unwrap();
        }
        let before = kept().written();
        let refused = ring.rotate_issuer(false).unwrap_err();
        assert!(matches!(refused, KeyringProblem::Rotated(_)), "{refused}");
        assert_eq!(kept().written(), before);
    }

    #[test]
    fn the_secret_of_the_hubs_tokens_is_made_once() {
        let hub = hub();
        let secrets = issuer_secrets(hub.state()).unwrap().written();
        assert_ne!(secrets, OwnSecrets::first([0; 32]).written());
        assert_eq!(issuer_secrets(hub.state()).unwrap().written(), secrets);
        let write = Write { table: Table::Issuer, key: SECRET, value: Some(b"short") };
        hub.state().commit(&[write]).unwrap();
        assert!(matches!(issuer_secrets(hub.state()), Err(UnreadableKeys::Damaged)));
    }
}
