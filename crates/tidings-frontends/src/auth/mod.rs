//! Tokens: who signed one, whether it holds, what it grants. The only place besides the operator's
//! configuration that makes a `Grant`. Knows neither HTTP nor where a token was found; makes no
//! network connection and reads no clock.

mod algorithm;
mod cache;
mod claims;
mod explain;
mod json;
mod jwt;
mod keys;
mod options;
mod problem;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use tidings_core::{BadPattern, Grant, Hub, Language, Matcher, Namespace};

pub use algorithm::Algorithm;
pub use claims::{DETAIL_TYPE, language};
pub use explain::Finding;
pub use keys::{BadKeys, KeyFlaw, WELL_KNOWN_SECRET, is_pathlike, read_key_file, shown_path};
pub use options::{IssuerOptions, KeyOptions, Options};
pub use problem::{TokenCause, TokenProblem};

use crate::limits::DRAFT_ISSUERS_MAX;
use cache::{Cache, Remembered};
use claims::Matchers;
use keys::{Key, Weakness};

/// A generation of the Mercure protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
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

/// One issuer with its keys.
struct Issuer {
    id: Box<str>,
    accepts_draft: bool,
    accepts_final: bool,
    audience: Vec<String>,
    publish: Option<Key>,
    subscribe: Option<Key>,
}

impl Issuer {
    fn key(&self, role: Role) -> Option<&Key> {
        match role {
            Role::Publish => self.publish.as_ref(),
            Role::Subscribe => self.subscribe.as_ref(),
        }
    }
}

/// Verifies tokens.
pub struct Auth {
    anonymous: bool,
    query_token: bool,
    issuers: Vec<Issuer>,
    matchers: Box<Matchers>,
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
        let mut issuers: Vec<Issuer> = Vec::with_capacity(options.issuer.len());
        for one in &options.issuer {
            let issuer = issuer(one, options.allow_weak_keys, namespace.hub_url().as_str())?;
            if issuers.iter().any(|other| other.id == issuer.id) {
                return Err(BadKeys::DuplicateIssuer { issuer: one.id.clone() });
            }
            issuers.push(issuer);
        }
        if issuers.iter().filter(|issuer| issuer.accepts_draft).count() > DRAFT_ISSUERS_MAX {
            return Err(BadKeys::TooManyDraftIssuers);
        }
        Ok(Auth {
            anonymous: options.anonymous,
            query_token: options.query_token && issuers.iter().any(|issuer| issuer.accepts_draft),
            issuers,
            matchers: Box::new(matchers),
            cache: Cache::default(),
        })
    }

    /// Whether subscribers without a token are let in.
    pub fn anonymous_allowed(&self) -> bool {
        self.anonymous
    }

    /// Whether a token in the query parameter `authorization` is read at all: switched on, and some
    /// issuer accepts 0.x. What [`Auth::verify`] makes of it must still be [`Generation::Draft`].
    pub fn query_token_allowed(&self) -> bool {
        self.query_token
    }

    /// Whether any issuer accepts tokens of this generation.
    pub fn accepts(&self, generation: Generation) -> bool {
        self.issuers.iter().any(|issuer| match generation {
            Generation::Draft => issuer.accepts_draft,
            Generation::Final => issuer.accepts_final,
        })
    }

    /// Servers that issue tokens of 1.0 for this hub (RFC 9728 section 2): issuers that are https
    /// URLs, as such servers are (RFC 8414 section 2).
    pub fn authorization_servers(&self) -> Vec<&str> {
        let finals = self.issuers.iter().filter(|issuer| issuer.accepts_final);
        finals.map(|issuer| &*issuer.id).filter(|id| id.starts_with("https://")).collect()
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
        if let Some(verified) = self.cache.get(token, role, now) {
            return Ok(verified);
        }
        let (verified, not_before) = self.verify_afresh(token, role, now)?;
        let verified = Arc::new(verified);
        let remembered = Remembered { verified: Arc::clone(&verified), not_before };
        self.cache.insert(token, role, remembered);
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

/// What is said about a secret that can be guessed where that is no error.
const SHORT_SECRET: &str = "the secret is shorter than its hash and can be guessed";

/// What is wrong with the key of one role, as [`Auth::new`] judges it; nothing where there is none.
/// What [`Auth::new`] would only warn about is returned.
///
/// # Errors
/// Why the key cannot be used.
pub fn check_key(
    options: &IssuerOptions,
    role: Role,
    allow_weak: bool,
) -> Result<Option<&'static str>, KeyFlaw> {
    let Some(key) = options.key(role) else { return Ok(None) };
    let key = Key::load(key, weakness(options, allow_weak))?;
    Ok(key.is_short.then_some(SHORT_SECRET))
}

fn weakness(options: &IssuerOptions, allow_weak: bool) -> Weakness {
    match (allow_weak, options.accept.contains(&Generation::Draft)) {
        (true, _) => Weakness::Allowed,
        (false, true) => Weakness::Warned,
        (false, false) => Weakness::Refused,
    }
}

fn issuer(options: &IssuerOptions, allow_weak: bool, hub_url: &str) -> Result<Issuer, BadKeys> {
    if options.id.is_empty() {
        return Err(BadKeys::EmptyIssuer);
    }
    if options.accept.is_empty() {
        return Err(BadKeys::NothingAccepted { issuer: options.id.clone() });
    }
    if options.publish.is_none() && options.subscribe.is_none() {
        return Err(BadKeys::NoKey { issuer: options.id.clone() });
    }
    let weakness = weakness(options, allow_weak);
    let load = |role: Role| {
        let Some(key) = options.key(role) else { return Ok(None) };
        let key = Key::load(key, weakness).map_err(|flaw| BadKeys::Key {
            issuer: options.id.clone(),
            role,
            flaw,
        })?;
        if key.is_short {
            let (issuer, key) = (&options.id, role.action());
            tracing::warn!(issuer, key, "{SHORT_SECRET}");
        }
        Ok(Some(key))
    };
    let mut audience = vec![hub_url.to_owned()];
    audience.extend(options.audience.iter().cloned());
    Ok(Issuer {
        id: options.id.as_str().into(),
        accepts_draft: options.accept.contains(&Generation::Draft),
        accepts_final: options.accept.contains(&Generation::Final),
        audience,
        publish: load(Role::Publish)?,
        subscribe: load(Role::Subscribe)?,
    })
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
