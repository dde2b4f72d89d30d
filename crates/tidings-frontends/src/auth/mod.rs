//! Tokens: who signed one, whether it holds, what it grants. The only place besides the operator's
//! configuration that makes a `Grant`. Knows neither HTTP nor where a token was found; makes no
//! network connection and reads no clock. Key sets that are elsewhere, somebody else reads and
//! hands in.

mod algorithm;
mod api_keys;
mod cache;
mod claims;
mod explain;
mod flaw;
mod issuer;
mod json;
mod jwk;
mod jwt;
mod kept;
mod key_set;
mod keys;
mod marks;
mod options;
mod own;
mod own_secrets;
mod pace;
mod problem;
mod revocation;
mod secret;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings_core::{BadPattern, Clock, Grant, Hub, Judgement, Language, Matcher, Namespace};

pub use algorithm::Algorithm;
pub use api_keys::{ApiKey, ApiKeys, BadApiKey, KeyProblem, NotAdmitted, WantedKey};
pub(crate) use api_keys::{id_of, is_key_like};
pub use claims::{DETAIL_TYPE, language};
pub use explain::Finding;
pub(crate) use explain::shortened;
pub use flaw::{BadKeys, KeyFlaw};
pub use issuer::{check_key, is_trustworthy};
pub use jwk::BadKeySet;
pub use kept::{KeptGrant, KeptPattern};
pub use key_set::{KeySet, KeySetPlace, Replaced};
pub use keys::{WELL_KNOWN_SECRET, is_pathlike, read_bounded, read_key_file, shown_path};
pub use options::{IssuerOptions, KeyOptions, Options};
pub use own::OwnIssuer;
pub(crate) use own::{Granting, NoRandomness, Portion, Wanted};
pub use own_secrets::{OwnSecrets, TooManySecrets};
pub use problem::{TokenCause, TokenProblem};
pub use revocation::{BadRevocation, Revocation, Revocations, Revoked};
pub use secret::Secret;

use crate::limits::{DRAFT_ISSUERS_MAX, KEY_WAIT_MAX};
use cache::Cache;
use claims::Matchers;
use issuer::Issuer;

/// A generation of the Mercure protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Generation {
    /// `0.x`, as hubs and clients spoke it before 1.0.
    #[serde(rename = "0.x")]
    Draft,
    /// `1.0`.
    #[serde(rename = "1.0")]
    Final,
}

/// What somebody wants to do with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Send updates.
    Publish,
    /// Receive updates.
    Subscribe,
}

impl Role {
    /// Its name in authorization details, claims and the configuration.
    pub fn action(self) -> &'static str {
        match self {
            Role::Publish => "publish",
            Role::Subscribe => "subscribe",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.action())
    }
}

/// What a token says about subscriptions beyond which topics may be read.
#[derive(Debug)]
pub struct Detail {
    /// The subscriptions it speaks of: those whose pattern, taken as a topic, one of these matches.
    pub topics: Vec<Arc<Matcher>>,
    /// What such a subscription carries along for watchers: a JSON object in 1.0, anything in 0.x.
    pub payload: Option<Value>,
}

/// A token that holds, in one role.
#[derive(Debug)]
pub struct Verified {
    /// Whose rules apply.
    pub generation: Generation,
    /// What it grants in this role; nothing of the other role. Ends with the token.
    pub grant: Arc<Grant>,
    /// For subscribers: the details in the token's order; the first that matches counts.
    pub details: Vec<Detail>,
    /// Whether the token speaks of this role at all. A 0.x publisher without is refused with 401,
    /// while an empty list is merely a grant of nothing.
    pub may: bool,
}

/// What outlives a reload.
#[derive(Default)]
struct Known {
    sets: Vec<Arc<KeySet>>,
    revocations: Arc<Revocations>,
}

/// Verifies tokens.
pub struct Auth {
    anonymous: bool,
    query_token: bool,
    issuers: Vec<Issuer>,
    /// The last of the issuers, where the hub makes tokens itself.
    own: Option<Arc<OwnIssuer>>,
    sets: Vec<Arc<KeySet>>,
    revocations: Arc<Revocations>,
    matchers: Box<Matchers<'static>>,
    cache: Cache,
}

// By hand: neither keys nor remembered tokens reach a log through `{:?}`.
impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.iter().map(|issuer| &issuer.id).collect();
        formatter.debug_struct("Auth").field("issuers", &issuers).finish_non_exhaustive()
    }
}

impl Auth {
    /// For a running hub, whose matchers grants share.
    ///
    /// # Errors
    /// As [`Auth::with_matchers`].
    pub fn new(options: &Options, hub: &Hub) -> Result<Auth, BadKeys> {
        let shared = hub.clone();
        Auth::with_matchers(options, hub.namespace(), move |language, pattern| {
            shared.matcher(language, pattern)
        })
    }

    /// With other options, after a reload. Key sets that are still named keep their keys, and the
    /// same revocations hold.
    ///
    /// # Errors
    /// As [`Auth::with_matchers`].
    pub fn renewed(&self, options: &Options, hub: &Hub) -> Result<Auth, BadKeys> {
        let (shared, revocations) = (hub.clone(), Arc::clone(&self.revocations));
        let known = Known { sets: self.sets.clone(), revocations };
        let matchers = move |language, pattern: &str| shared.matcher(language, pattern);
        Auth::build(options, hub.namespace(), Box::new(matchers), known)
    }

    /// For the hub of this namespace, with matchers of its own: for programs that only look at
    /// tokens.
    ///
    /// # Errors
    /// As [`Auth::with_matchers`].
    pub fn offline(options: &Options, namespace: &Namespace) -> Result<Auth, BadKeys> {
        let own = namespace.clone();
        Auth::with_matchers(options, namespace, move |language, pattern| {
            Matcher::parse(language, pattern, &own).map(Arc::new)
        })
    }

    /// Reads and checks the keys. Tokens of 1.0 have to be for the namespace's hub URL, or for an
    /// audience that their issuer's options name. `matchers` turns patterns into matchers.
    ///
    /// # Errors
    /// Which key of which issuer cannot be used, and what to do about it.
    pub fn with_matchers<M>(
        options: &Options,
        namespace: &Namespace,
        matchers: M,
    ) -> Result<Auth, BadKeys>
    where
        M: Fn(Language, &str) -> Result<Arc<Matcher>, BadPattern> + Send + Sync + 'static,
    {
        Auth::build(options, namespace, Box::new(matchers), Known::default())
    }

    fn build(
        options: &Options,
        namespace: &Namespace,
        matchers: Box<Matchers<'static>>,
        known: Known,
    ) -> Result<Auth, BadKeys> {
        let hub_url = namespace.hub_url().as_str();
        let Known { mut sets, revocations } = known;
        let mut issuers: Vec<Issuer> = Vec::with_capacity(options.issuer.len());
        for one in &options.issuer {
            let issuer = Issuer::new(one, options.allow_weak_keys, hub_url, &mut sets)?;
            if issuers.iter().any(|other| other.id == issuer.id) {
                return Err(BadKeys::DuplicateIssuer { issuer: one.id.clone() });
            }
            issuers.push(issuer);
        }
        if issuers.iter().filter(|issuer| issuer.accepts_draft).count() > DRAFT_ISSUERS_MAX {
            return Err(BadKeys::TooManyDraftIssuers);
        }
        let roles = || {
            issuers
                .iter()
                .flat_map(|one| [Role::Publish, Role::Subscribe].map(|role| one.keys(role)))
        };
        sets.retain(|set| {
            roles().flatten().filter_map(issuer::Keys::set).any(|used| Arc::ptr_eq(used, set))
        });
        Ok(Auth {
            anonymous: options.anonymous,
            query_token: options.query_token,
            issuers,
            own: None,
            sets,
            revocations,
            matchers,
            cache: Cache::default(),
        })
    }

    /// The key sets that somebody has to read, for as long as this is in use.
    pub fn key_sets(&self) -> &[Arc<KeySet>] {
        &self.sets
    }

    /// The tokens that no longer count.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The issuers whose metadata tells where tokens come from (RFC 9728 section 2,
    /// `authorization_servers`).
    pub fn authorization_servers(&self) -> Vec<&str> {
        let discovering = self.issuers.iter().filter(|issuer| issuer.discovers);
        discovering.map(|issuer| &*issuer.id).collect()
    }

    /// Whether a grant that was made before still counts: its token is not revoked, its issuer
    /// accepts such tokens, and its key, or the set that this was in, is configured. A key that
    /// left its set ends nothing here: who has a token of it is refused the next time.
    pub fn judgement(&self, clock: Arc<dyn Clock>) -> Judgement {
        self.judgement_beside(clock, &[])
    }

    /// The same where grants of other makers stand as well, on what has one of these marks.
    pub fn judgement_beside(&self, clock: Arc<dyn Clock>, beside: &[u64]) -> Judgement {
        let own = self.issuers.iter().flat_map(Issuer::marks);
        let marks: HashSet<u64> = own.chain(beside.iter().copied()).collect();
        let revocations = Arc::clone(&self.revocations);
        let own = self.own.clone();
        Arc::new(move |grant| {
            // Seldom needed, and asked for with each publication.
            let (token, now) = (&grant.token, || clock.wall());
            let stands = token.key_mark.is_none_or(|mark| marks.contains(&mark));
            let has_fallen = || own.as_ref().is_some_and(|own| own.has_fallen(token, now));
            stands && !revocations.concern(token, now) && !has_fallen()
        })
    }

    /// Grows whenever a key set gets other keys.
    pub fn keys_generation(&self) -> u64 {
        self.sets.iter().map(|set| set.generation()).sum()
    }

    /// Waits, after a refusal for this reason, until the key sets in which the token's key may be
    /// were read once more. Answers whether that is worth another look. Waits for nothing when they
    /// have just been read; what came of it while the token was being judged, whose
    /// [`Auth::keys_generation`] was `judged_by`, is worth one too.
    pub async fn key_may_come(&self, cause: &TokenCause, judged_by: u64) -> bool {
        let (TokenCause::KeyUnknown { issuers } | TokenCause::KeysUnread { issuers }) = cause
        else {
            return false;
        };
        if self.keys_generation() != judged_by {
            return true;
        }
        let lacking = |set: &&Arc<KeySet>| issuers.iter().any(|id| **id == *set.issuer());
        // Each for itself: one that hangs takes nothing from the others.
        let reads = self.sets.iter().filter(lacking).map(async |set| {
            let read = tokio::time::timeout(KEY_WAIT_MAX, set.read_again());
            read.await.unwrap_or(false)
        });
        let was_read = futures_util::future::join_all(reads).await.contains(&true);
        was_read || self.keys_generation() != judged_by
    }

    /// Whether subscribers without a token are let in.
    pub fn anonymous_allowed(&self) -> bool {
        self.anonymous
    }

    /// Whether a token in the query parameter `authorization` is read at all: switched on, and some
    /// issuer accepts 0.x. What [`Auth::verify`] makes of it must still be [`Generation::Draft`].
    pub fn query_token_allowed(&self) -> bool {
        self.query_token && self.issuers.iter().any(|issuer| issuer.accepts_draft)
    }

    /// Whether any issuer of the configuration accepts tokens of this generation.
    pub fn accepts(&self, generation: Generation) -> bool {
        self.issuers.iter().any(|issuer| issuer.accepts(generation) && !issuer.is_own)
    }

    /// Verifies a token for one role at the time `now`, in milliseconds since 1970 by the wall
    /// clock. There is no leeway: a token ends at its `exp` and begins at its `nbf`. What was
    /// verified is remembered until then.
    ///
    /// # Errors
    /// Why the token is refused, for the operator's log, and in which generation's words.
    pub fn verify(&self, token: &str, role: Role, now: u64) -> Result<Arc<Verified>, TokenProblem> {
        // Long ones are not worth a hash either.
        if token.len() > crate::limits::TOKEN_BYTES_MAX {
            return Err(self.problem(None, TokenCause::TooLong));
        }
        let verified = match self.cache.get(token, role, now) {
            Some(verified) => verified,
            None => {
                let remembered = self.verify_afresh(token, role, now)?;
                let verified = Arc::clone(&remembered.verified);
                self.cache.insert(token, role, remembered);
                verified
            }
        };
        // Each time: a revocation is not to wait for the cache to forget.
        if self.is_revoked(&verified.grant.token, now) {
            let generation = verified.generation;
            return Err(TokenProblem { generation, recognized: true, cause: TokenCause::Revoked });
        }
        Ok(verified)
    }

    /// A refusal in the words of the generation that the token was recognized as, or else of the
    /// one that this hub's issuers speak; 1.0 when they speak both, because its answer says more.
    fn problem(&self, recognized: Option<Generation>, cause: TokenCause) -> TokenProblem {
        let generation = match (self.accepts(Generation::Draft), self.accepts(Generation::Final)) {
            (true, false) => Generation::Draft,
            (false, _) => Generation::Final,
            (true, true) => recognized.unwrap_or(Generation::Final),
        };
        TokenProblem { generation, recognized: recognized.is_some(), cause }
    }
}

/// What grants stand on that others make, as a mark for [`Auth::judgement_beside`].
pub(crate) fn mark_of(parts: &[&[u8]]) -> u64 {
    marks::mark(&("beside", parts))
}

/// Feeds outside bytes to everything that reads tokens: as they are, and as header and payload
/// (split at the first null byte) of a token whose signature is good.
#[doc(hidden)]
pub fn fuzz_token(bytes: &[u8]) {
    verify::fuzz(bytes);
}

/// Feeds outside bytes to everything that reads keys.
#[doc(hidden)]
pub fn fuzz_key(bytes: &[u8]) {
    keys::fuzz(bytes);
}
