//! The operator's list of revoked tokens: kept in the hub's state, put to use in `auth`, and told
//! to the hub so that open subscriptions end. Knows no HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::{Clock, Hub, StateError, Table, Write};
use tidings_frontends::auth::{BadRevocation, Revocation, Revocations, Revoked};
use tidings_frontends::limits::REVOCATIONS_MAX;

/// A revocation was not taken, or the list could not be changed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerProblem {
    /// The operator's mistake.
    #[error(transparent)]
    Bad(#[from] BadRevocation),
    /// There are as many as there may be.
    #[error(
        "there are {REVOCATIONS_MAX} revocations already: withdraw some, give them an end, or \
         revoke the key that signed these tokens"
    )]
    Full,
    /// The hub's storage.
    #[error("the list of revocations cannot be stored: {0}")]
    Storage(#[from] StateError),
}

/// The list from before cannot be put to use. The fault of the storage.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableLedger {
    /// The hub's storage.
    #[error("the list of revocations cannot be read: {0}")]
    Storage(#[from] StateError),
    /// A row is not a revocation.
    #[error(
        "a stored revocation is damaged, and without it a revoked token might be let in again: \
         restore the data folder from a copy, or replace the keys that sign tokens and begin with \
         a new folder"
    )]
    Damaged,
}

/// The list.
pub(crate) struct Ledger {
    hub: Hub,
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
    list: Mutex<Vec<Revocation>>,
    /// Whether the list outlives the process.
    is_durable: bool,
}

impl Ledger {
    /// Reads what was revoked before and puts it to use in `revocations`.
    ///
    /// # Errors
    /// When the hub's state cannot be read, or a row of it is damaged: to go on without a
    /// revocation would let somebody in again.
    pub(crate) fn open(
        hub: Hub,
        revocations: Arc<Revocations>,
        clock: Arc<dyn Clock>,
        is_durable: bool,
    ) -> Result<Ledger, UnreadableLedger> {
        let rows = hub.state().rows(Table::Revocations, REVOCATIONS_MAX)?;
        let mut list = Vec::with_capacity(rows.len());
        for (_, value) in rows {
            list.push(serde_json::from_slice(&value).map_err(|_| UnreadableLedger::Damaged)?);
        }
        revocations.replace(&list);
        Ok(Ledger { hub, revocations, clock, list: Mutex::new(list), is_durable })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Revocation>> {
        // The list is replaced as a whole, so a poisoned lock guards a good one.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the list outlives the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// What is revoked now.
    pub(crate) fn list(&self) -> Vec<Revocation> {
        let now = self.clock.wall();
        self.lock().iter().filter(|one| !one.is_over(now)).cloned().collect()
    }

    /// Revokes. One for the same tokens is replaced. Answers how many subscriptions ended by that.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// See [`LedgerProblem`].
    pub(crate) fn revoke(&self, revocation: Revocation) -> Result<usize, LedgerProblem> {
        let now = self.clock.wall();
        revocation.check(now)?;
        let mut list = self.lock();
        let issuer = revocation.issuer.as_deref();
        let is_over = |one: &Revocation| one.is_over(now);
        let (over, mut new): (Vec<_>, Vec<_>) = list.iter().cloned().partition(is_over);
        new.retain(|one| !one.is_about(&revocation.revoked, issuer));
        if new.len() >= REVOCATIONS_MAX {
            return Err(LedgerProblem::Full);
        }
        let key = key(&revocation.revoked, issuer);
        let value = serde_json::to_vec(&revocation).unwrap_or_default();
        let gone: Vec<_> =
            over.iter().map(|one| self::key(&one.revoked, one.issuer.as_deref())).collect();
        let removed = gone.iter().filter(|one| **one != key);
        let mut writes: Vec<_> =
            removed.map(|key| Write { table: Table::Revocations, key, value: None }).collect();
        writes.push(Write { table: Table::Revocations, key: &key, value: Some(&value) });
        self.hub.state().commit(&writes)?;
        new.push(revocation);
        self.revocations.replace(&new);
        *list = new;
        drop(list);
        Ok(self.hub.judge_again())
    }

    /// Takes a revocation back. Answers whether there was one. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub(crate) fn withdraw(
        &self,
        revoked: &Revoked,
        issuer: Option<&str>,
    ) -> Result<bool, LedgerProblem> {
        let mut list = self.lock();
        let mut new = list.clone();
        new.retain(|one| !one.is_about(revoked, issuer));
        if new.len() == list.len() {
            return Ok(false);
        }
        let key = key(revoked, issuer);
        let write = Write { table: Table::Revocations, key: &key, value: None };
        self.hub.state().commit(&[write])?;
        self.revocations.replace(&new);
        *list = new;
        Ok(true)
    }
}

/// The row of the revocations of these tokens.
fn key(revoked: &Revoked, issuer: Option<&str>) -> Vec<u8> {
    let kind = match revoked {
        Revoked::TokenId(_) => "token_id",
        Revoked::Subject(_) => "subject",
        Revoked::Client(_) => "client",
        Revoked::Key(_) => "key",
    };
    // No name holds a null byte that could make two of these one: JSON escapes it.
    serde_json::json!([kind, revoked.name(), issuer]).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use tidings_core::{Durability, HistoryOptions, HubOptions, Keep, Namespace};

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

    fn open(hub: &Hub) -> Ledger {
        let clock = Arc::new(SystemClock::new());
        Ledger::open(hub.clone(), Arc::default(), clock, false).unwrap()
    }

    fn subject(name: &str, until: Option<u64>) -> Revocation {
        Revocation { revoked: Revoked::Subject(name.to_owned()), issuer: None, until }
    }

    #[test]
    fn what_was_revoked_is_there_after_opening_again() {
        let hub = hub();
        let ledger = open(&hub);
        ledger.revoke(subject("a", None)).unwrap();
        ledger.revoke(subject("b", Some(u64::MAX))).unwrap();
        ledger.revoke(subject("b", None)).unwrap();
        assert!(!ledger.withdraw(&Revoked::Subject("c".into()), None).unwrap());
        assert!(!ledger.withdraw(&Revoked::Subject("a".into()), Some("i")).unwrap());
        assert!(ledger.withdraw(&Revoked::Subject("a".into()), None).unwrap());
        assert_eq!(ledger.list(), [subject("b", None)]);
        assert_eq!(open(&hub).list(), [subject("b", None)]);
    }

    #[test]
    fn a_damaged_row_lets_nobody_in_again() {
        let hub = hub();
        open(&hub).revoke(subject("a", None)).unwrap();
        let whole = hub.state().rows(Table::Revocations, REVOCATIONS_MAX).unwrap();
        let (key, value) = whole.first().unwrap();
        for damaged in [&value[..value.len() - 1], b"", b"{}", b"null"] {
            let write = Write { table: Table::Revocations, key, value: Some(damaged) };
            hub.state().commit(&[write]).unwrap();
            let clock = Arc::new(SystemClock::new());
            let opened = Ledger::open(hub.clone(), Arc::default(), clock, false);
            assert!(matches!(opened, Err(UnreadableLedger::Damaged)), "{damaged:?}");
        }
    }

    #[test]
    fn the_list_is_bounded_and_says_what_to_do() {
        let hub = hub();
        let ledger = open(&hub);
        let full: Vec<_> = (0..REVOCATIONS_MAX).map(|n| subject(&n.to_string(), None)).collect();
        *ledger.lock() = full;
        let problem = ledger.revoke(subject("more", None)).unwrap_err().to_string();
        assert!(problem.contains("withdraw some"), "{problem}");
        ledger.revoke(subject("7", None)).unwrap();
        ledger.lock()[0].until = Some(1);
        ledger.revoke(subject("more", None)).unwrap();
        assert!(ledger.revoke(subject("late", Some(1))).is_err());
    }
}
