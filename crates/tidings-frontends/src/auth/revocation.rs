//! Tokens that the operator took back before their end: by their id, their subject, the application
//! that they were made for, or the key that signed them. Knows no storage and reads no clock.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tidings_core::TokenIdentity;

use crate::limits::REVOKED_BYTES_MAX;

/// What a revocation takes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// The tokens with this `jti`.
    TokenId(String),
    /// The tokens with this `sub`.
    Subject(String),
    /// The tokens with this `client_id`.
    Client(String),
    /// The tokens that this key verified: its `kid`, or `publish` and `subscribe` for a key without
    /// one.
    Key(String),
}

impl Revoked {
    /// The name that is revoked.
    pub fn name(&self) -> &str {
        match self {
            Revoked::TokenId(name)
            | Revoked::Subject(name)
            | Revoked::Client(name)
            | Revoked::Key(name) => name,
        }
    }
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// What it takes back.
    pub revoked: Revoked,
    /// Whose tokens; `None` for those of every issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When it ends, in seconds since 1970, as an `exp`; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// A revocation that is not taken; the operator's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRevocation {
    /// It names nothing.
    #[error("the token id, subject, client, key or issuer is empty")]
    Empty,
    /// A name that is too long.
    #[error("the token id, subject, client, key or issuer has more than {REVOKED_BYTES_MAX} bytes")]
    TooLong,
    /// A whole token, which has no place in lists and logs.
    #[error("this is a whole token: give its `jti`, `sub` or `kid`, which `token explain` shows")]
    Token,
    /// It has ended already.
    #[error("the end is not in the future")]
    Past,
}

/// Whether this looks like a token: three parts, of which the first begins a JSON object.
fn is_token(name: &str) -> bool {
    name.trim_start().starts_with("eyJ") && name.matches('.').count() == 2
}

impl Revocation {
    /// Whether it is one that can hold at `now`, in milliseconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, now: u64) -> Result<(), BadRevocation> {
        let names = [Some(self.revoked.name()), self.issuer.as_deref()];
        if names.iter().flatten().any(|name| name.is_empty()) {
            return Err(BadRevocation::Empty);
        }
        if names.iter().flatten().any(|name| name.len() > REVOKED_BYTES_MAX) {
            return Err(BadRevocation::TooLong);
        }
        if names.iter().flatten().any(|name| is_token(name)) {
            return Err(BadRevocation::Token);
        }
        if self.is_over(now) { Err(BadRevocation::Past) } else { Ok(()) }
    }

    /// Whether it has ended at `now`, in milliseconds since 1970.
    pub fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until.saturating_mul(1_000) <= now)
    }

    /// Whether it concerns the same tokens as another one, whatever their ends.
    pub fn is_about(&self, revoked: &Revoked, issuer: Option<&str>) -> bool {
        self.revoked == *revoked && self.issuer.as_deref() == issuer
    }
}

/// Revocations by what they name.
#[derive(Debug, Default)]
struct Index {
    token_ids: HashMap<Box<str>, Vec<Revocation>>,
    subjects: HashMap<Box<str>, Vec<Revocation>>,
    clients: HashMap<Box<str>, Vec<Revocation>>,
    keys: HashMap<Box<str>, Vec<Revocation>>,
}

/// The revocations in force. Replaced as a whole, so that those who verify tokens never wait.
#[derive(Debug, Default)]
pub struct Revocations(RwLock<Arc<Index>>);

impl Revocations {
    /// Holds these from now on and no others.
    pub fn replace(&self, list: &[Revocation]) {
        let mut index = Index::default();
        for one in list {
            let of_kind = match &one.revoked {
                Revoked::TokenId(_) => &mut index.token_ids,
                Revoked::Subject(_) => &mut index.subjects,
                Revoked::Client(_) => &mut index.clients,
                Revoked::Key(_) => &mut index.keys,
            };
            of_kind.entry(one.revoked.name().into()).or_default().push(one.clone());
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
    }

    /// Whether a token is revoked at `now`, in milliseconds since 1970.
    pub fn concern(&self, token: &TokenIdentity, now: impl Fn() -> u64) -> bool {
        let index = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let named = [
            (&index.token_ids, &token.token_id),
            (&index.subjects, &token.subject),
            (&index.clients, &token.client),
            (&index.keys, &token.key),
        ];
        named.into_iter().any(|(of_kind, name)| {
            let found = name.as_ref().and_then(|name| of_kind.get(name));
            found.into_iter().flatten().any(|one| {
                let issuer = one.issuer.as_deref();
                !one.is_over(now()) && (issuer.is_none() || issuer == token.issuer.as_deref())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenIdentity {
        TokenIdentity {
            issuer: Some("https://a".into()),
            subject: Some("alice".into()),
            token_id: Some("1".into()),
            client: Some("app".into()),
            key: Some("k".into()),
            key_mark: None,
        }
    }

    fn one(revoked: Revoked, issuer: Option<&str>, until: Option<u64>) -> Revocation {
        Revocation { revoked, issuer: issuer.map(str::to_owned), until }
    }

    #[test]
    fn a_token_is_revoked_by_what_it_names_and_only_of_that_issuer() {
        let revoked = |one: Revocation| {
            let all = Revocations::default();
            assert!(!all.concern(&token(), || 0));
            all.replace(&[one]);
            all.concern(&token(), || 5_000)
        };
        assert!(revoked(one(Revoked::TokenId("1".into()), None, None)));
        assert!(revoked(one(Revoked::Subject("alice".into()), Some("https://a"), None)));
        assert!(revoked(one(Revoked::Key("k".into()), None, Some(6))));
        assert!(revoked(one(Revoked::Client("app".into()), Some("https://a"), None)));
        assert!(!revoked(one(Revoked::Client("alice".into()), None, None)));
        assert!(!revoked(one(Revoked::Key("k".into()), None, Some(5))), "it has ended");
        assert!(!revoked(one(Revoked::Subject("alice".into()), Some("https://b"), None)));
        assert!(!revoked(one(Revoked::TokenId("alice".into()), None, None)));
        assert!(!revoked(one(Revoked::Subject("1".into()), None, None)));
    }

    #[test]
    fn nobody_without_a_token_is_revoked() {
        let all = Revocations::default();
        all.replace(&[one(Revoked::Subject(String::new()), None, None)]);
        assert!(!all.concern(&TokenIdentity::default(), || 0));
    }

    #[test]
    fn names_are_bounded_and_the_end_is_in_the_future() {
        let check = |name: &str, until| one(Revoked::Key(name.into()), None, until).check(1_000);
        assert_eq!(check("k", Some(2)), Ok(()));
        assert_eq!(check("k", Some(1)), Err(BadRevocation::Past));
        assert_eq!(check("", None), Err(BadRevocation::Empty));
        assert_eq!(check(&"k".repeat(1_024), None), Ok(()));
        assert_eq!(check(&"k".repeat(1_025), None), Err(BadRevocation::TooLong));
        assert_eq!(
            check(" eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA", None),
            Err(BadRevocation::Token)
        );
        assert_eq!(check("eyJhbGciOiJIUzI1NiJ9", None), Ok(()));
        assert_eq!(check("a.b.c", None), Ok(()));
        let of = |issuer| one(Revoked::Key("k".into()), Some(issuer), None).check(0);
        assert_eq!((of("i"), of("")), (Ok(()), Err(BadRevocation::Empty)));
    }

    #[test]
    fn a_revocation_is_known_by_what_it_names_and_not_by_its_end() {
        let key = || Revoked::Key("k".into());
        let known = one(key(), Some("https://a"), Some(7));
        assert!(known.is_about(&key(), Some("https://a")));
        assert!(!known.is_about(&key(), Some("https://b")));
        assert!(!known.is_about(&key(), None));
        assert!(!known.is_about(&Revoked::Key("l".into()), Some("https://a")));
        assert!(!known.is_about(&Revoked::Subject("k".into()), Some("https://a")));
    }
}
