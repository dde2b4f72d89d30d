//! What of a subscriber's grant outlives its token and the process, for who may go on reading by
//! it. Knows no storage and not who that is.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{hmac, rand};
use serde::{Deserialize, Serialize};
use tidings_core::{Grant, Language, Matcher, TokenIdentity};

use super::claims::{self, language, match_type};
use super::issuer::Issuer;
use super::marks::mark;
use super::problem::{TokenCause, TokenProblem};
use super::verify::signer;
use super::{Auth, Generation, Role, jwt};

/// A subscriber's grant as it is kept: neither the token nor its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptGrant {
    /// The issuer as named in the configuration.
    pub issuer: String,
    /// The `sub` claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The `jti` claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The `client_id` claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The key that verified it, as in [`TokenIdentity::key`].
    pub key: String,
    /// Which private updates may be read.
    pub topics: Vec<KeptPattern>,
    generation: Generation,
    /// Which of the operator's keys that was, as far as it can be told without saying anything
    /// about it.
    print: SaltedPrint,
}

/// One pattern of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptPattern {
    /// The pattern.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Its language, in the words of authorization details.
    #[serde(default = "exact")]
    pub match_type: String,
}

fn exact() -> String {
    match_type(Language::Exact).to_owned()
}

/// Part of a hash under a salt: enough to see that a key is another one, and too little to find out
/// a secret by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SaltedPrint {
    salt: u64,
    part: u32,
}

impl SaltedPrint {
    fn new(print: &[u8], salt: u64) -> SaltedPrint {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salt.to_be_bytes());
        let hash = hmac::sign(&key, print);
        let part = hash.as_ref().first_chunk().map_or(0, |part| u32::from_be_bytes(*part));
        SaltedPrint { salt, part }
    }
}

/// A pattern that was asked for, and what it became.
type Asked = (Arc<Matcher>, KeptPattern);

impl Auth {
    /// What is kept of a subscriber's token that holds at the time `now` (milliseconds since 1970).
    ///
    /// # Errors
    /// Why the token is refused, as [`Auth::verify`].
    pub fn keep(&self, token: &str, now: u64) -> Result<KeptGrant, TokenProblem> {
        let verified = self.verify(token, Role::Subscribe, now)?;
        let generation = verified.generation;
        let refuse = |cause| TokenProblem { generation, recognized: true, cause };
        let read = jwt::read(token).map_err(refuse)?;
        let route = self.route(&read)?;
        let issuer = signer(&route, &read, Role::Subscribe).map_err(refuse)?.issuer;
        let print = issuer.print(Role::Subscribe, generation).ok_or(refuse(TokenCause::NoKey))?;
        let asked = Arc::new(Mutex::new(Vec::<Asked>::new()));
        let noting = |language: Language, pattern: &str| {
            let made = (self.matchers)(language, pattern)?;
            let match_type = match_type(language).to_owned();
            let kept = KeptPattern { pattern: pattern.to_owned(), match_type };
            let asked = &mut asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push((Arc::clone(&made), kept));
            Ok(made)
        };
        let granted = match generation {
            Generation::Draft => claims::legacy(&read.claims, Role::Subscribe, &noting),
            Generation::Final => claims::details(&read.claims, Role::Subscribe, &noting),
        };
        let granted = granted.map_err(refuse)?.matchers;
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |made: &Arc<Matcher>| {
            let found = asked.iter().find(|(asked, _)| Arc::ptr_eq(asked, made));
            found.map(|(_, kept)| kept.clone())
        };
        let mut salt = [0; 8];
        // Without random numbers every salt is the same, and the part still says too little.
        let _ = rand::fill(&mut salt);
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let identity = &verified.grant.token;
        Ok(KeptGrant {
            issuer: issuer.id.to_string(),
            subject: text(&identity.subject),
            token_id: text(&identity.token_id),
            client: text(&identity.client),
            key: text(&identity.key).unwrap_or_default(),
            topics: granted.iter().filter_map(of).collect(),
            generation,
            print: SaltedPrint::new(&print, u64::from_be_bytes(salt)),
        })
    }

    /// A grant that counts nowhere, for who had one that [`Auth::restore`] does not give back.
    pub fn fallen() -> Grant {
        // The mark of no key: those are of other things than of this text.
        let token = TokenIdentity { key_mark: Some(mark(&"fallen")), ..TokenIdentity::default() };
        Grant { token, ..Grant::default() }
    }

    /// The grant that was kept, without an end. `None` when its issuer is not configured any more,
    /// or with another key, or does not accept such tokens. Whether it is revoked, the
    /// [`Auth::judgement`] says.
    pub fn restore(&self, kept: &KeptGrant) -> Option<Grant> {
        let issuer = self.issuers.iter().find(|issuer| *issuer.id == *kept.issuer)?;
        let is_same = |issuer: &Issuer| {
            let print = issuer.print(Role::Subscribe, kept.generation)?;
            Some(SaltedPrint::new(&print, kept.print.salt) == kept.print)
        };
        if is_same(issuer) != Some(true) {
            return None;
        }
        let made =
            |kept: &KeptPattern| (self.matchers)(language(&kept.match_type)?, &kept.pattern).ok();
        let subscribe = kept.topics.iter().map(made).collect::<Option<Vec<_>>>()?;
        let text = |text: &Option<String>| text.as_deref().map(Into::into);
        let token = TokenIdentity {
            issuer: Some(issuer.id.clone()),
            subject: text(&kept.subject),
            token_id: text(&kept.token_id),
            client: text(&kept.client),
            key: Some(kept.key.as_str().into()),
            key_mark: issuer.mark(Role::Subscribe, kept.generation),
        };
        Some(Grant { subscribe, token, ..Grant::default() })
    }
}
