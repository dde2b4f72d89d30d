//! The hub's own tokens: made for who presents an API key, to subscribe and never to publish. They
//! are tokens like all others, of one more issuer. Knows no request and no storage.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tidings_core::{Grant, TokenIdentity};
use url::Url;

use super::api_keys::{ApiKey, ApiKeys};
use super::claims::DETAIL_TYPE;
use super::flaw::BadKeys;
use super::issuer::Issuer;
use super::jwt::{DETAILS, LEGACY};
use super::kept::KeptPattern;
use super::own_secrets::{OwnKeys, OwnSecrets};
use super::{Auth, Role, Verified};

/// What the issuer's name has behind the public URL.
const PATH: &str = "/.well-known/tidings";

/// The issuer of the hub's own tokens.
pub struct OwnIssuer {
    id: Box<str>,
    hub_url: Box<str>,
    secrets: Arc<OwnKeys>,
    keys: Arc<ApiKeys>,
}

// By hand: the secret never reaches a log through `{:?}`.
impl fmt::Debug for OwnIssuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OwnIssuer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Topics that are granted together, as in one authorization detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Portion {
    pub(crate) topics: Vec<KeptPattern>,
    /// What subscriptions to them carry along for watchers: a JSON object.
    pub(crate) payload: Option<Map<String, Value>>,
}

impl Portion {
    /// As an authorization detail (RFC 9396) of Mercure's type.
    pub(crate) fn detail(&self) -> Value {
        let topics = self.topics.iter().map(|topic| match topic.match_type.as_str() {
            "exact" => json!({ "match": topic.pattern }),
            kind => json!({ "match": topic.pattern, "match_type": kind }),
        });
        let mut detail = json!({
            "type": DETAIL_TYPE,
            "actions": [Role::Subscribe.action()],
            "topics": topics.collect::<Vec<_>>(),
        });
        if let (Some(payload), Some(detail)) = (&self.payload, detail.as_object_mut()) {
            detail.insert("payload".to_owned(), Value::Object(payload.clone()));
        }
        detail
    }
}

/// What a token is to grant.
#[derive(Debug)]
pub(crate) enum Granting {
    /// Authorization details of 1.0.
    Final(Vec<Portion>),
    /// Selectors of 0.x: topics and URI Templates.
    Draft(Vec<String>),
}

/// A token that is wanted.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    /// By whom.
    pub(crate) key: &'w ApiKey,
    /// Its `sub`.
    pub(crate) subject: Option<&'w str>,
    /// What it grants.
    pub(crate) granting: Granting,
    /// How long, in seconds; cut to what the key allows.
    pub(crate) lifetime: u64,
}

/// A token that was made.
pub(crate) struct Issued {
    /// It itself.
    pub(crate) token: String,
    /// Its `exp`, in seconds since 1970.
    pub(crate) expires: u64,
    /// Seconds until then.
    pub(crate) lifetime: u64,
}

/// The system has no random numbers for a token's name.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandomness;

impl OwnIssuer {
    /// The issuer of the hub at `hub_url`, which clients reach under `public_url`. The secrets are
    /// the same in every run, or tokens of an earlier one would not count.
    pub fn new(public_url: &Url, hub_url: &Url, secrets: OwnSecrets) -> OwnIssuer {
        OwnIssuer {
            id: OwnIssuer::id_of(public_url).into(),
            hub_url: hub_url.as_str().into(),
            secrets: Arc::new(OwnKeys::new(secrets)),
            keys: Arc::default(),
        }
    }

    /// The secrets of this moment.
    pub fn secrets(&self) -> OwnSecrets {
        self.secrets.now().secrets.clone()
    }

    /// Signs and verifies by other secrets from now on. What was opened by one that was ended falls
    /// the next time that the hub judges.
    pub fn replace_secrets(&self, secrets: OwnSecrets) {
        self.secrets.replace(secrets);
    }

    /// The `iss` of the tokens of a hub with this public URL.
    pub fn id_of(public_url: &Url) -> String {
        format!("{}{PATH}", public_url.as_str().trim_end_matches('/'))
    }

    /// The API keys that get such tokens.
    pub fn keys(&self) -> &Arc<ApiKeys> {
        &self.keys
    }

    /// As `Auth` trusts it.
    pub(super) fn issuer(&self, accepts_draft: bool) -> Issuer {
        Issuer::own(&self.id, &self.secrets, &self.hub_url, accepts_draft)
    }

    fn made(&self, token: &TokenIdentity) -> bool {
        token.issuer.as_deref() == Some(&*self.id)
    }

    /// The API key that this token was made for, if it is one of the hub's own.
    pub(crate) fn client_of<'t>(&self, token: &'t TokenIdentity) -> Option<&'t str> {
        token.client.as_deref().filter(|_| self.made(token))
    }

    /// Whether this is a token of an API key that counts no longer, or of a secret that was ended.
    pub(super) fn has_fallen(&self, token: &TokenIdentity, now: impl Fn() -> u64) -> bool {
        let stands = |client: &str| self.keys.stands(client, now());
        self.made(token)
            && (!token.client.as_deref().is_some_and(stands)
                || self.secrets.now().has_ended(token.key.as_deref()))
    }

    /// Makes a token at `now`, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn issue(&self, wanted: &Wanted<'_>, now: u64) -> Result<Issued, NoRandomness> {
        let mut name = [0; 16];
        rand::fill(&mut name).map_err(|_| NoRandomness)?;
        let begin = now / 1_000;
        let end = begin.saturating_add(wanted.lifetime.min(wanted.key.lifetime_max));
        let end = wanted.key.expires.map_or(end, |last| end.min(last));
        let mut claims = json!({
            "iss": self.id,
            "client_id": wanted.key.id,
            "jti": URL_SAFE_NO_PAD.encode(name),
            "iat": begin,
            "exp": end,
        });
        let (kind, name, granted) = match &wanted.granting {
            Granting::Final(portions) => {
                let details = portions.iter().map(Portion::detail).collect();
                ("at+jwt", DETAILS, Value::Array(details))
            }
            Granting::Draft(selectors) => ("JWT", LEGACY, json!({ "subscribe": selectors })),
        };
        if let Some(claims) = claims.as_object_mut() {
            if let Some(subject) = wanted.subject {
                claims.insert("sub".to_owned(), json!(subject));
            }
            if matches!(wanted.granting, Granting::Final(_)) {
                claims.insert("aud".to_owned(), json!(self.hub_url));
            }
            claims.insert(name.to_owned(), granted);
        }
        let standing = self.secrets.now();
        let header = json!({ "alg": "HS256", "typ": kind, "kid": standing.kid }).to_string();
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let mut token = format!("{}.{}", encoded(&header), encoded(&claims.to_string()));
        let signature = hmac::sign(&standing.signs, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Issued { token, expires: end, lifetime: end.saturating_sub(begin) })
    }
}

impl Auth {
    /// With the hub itself as one more issuer. `accepts_draft` says whether it makes tokens of 0.x,
    /// too. It changes nothing for the tokens of others.
    ///
    /// # Errors
    /// When an issuer of the configuration has its name.
    pub fn with_own(mut self, own: &Arc<OwnIssuer>, accepts_draft: bool) -> Result<Auth, BadKeys> {
        let issuer = own.issuer(accepts_draft);
        if self.issuers.iter().any(|other| other.id == issuer.id) {
            return Err(BadKeys::DuplicateIssuer { issuer: issuer.id.into() });
        }
        self.issuers.push(issuer);
        self.own = Some(Arc::clone(own));
        Ok(self)
    }

    /// The hub's own issuer, if it makes tokens.
    pub(crate) fn own(&self) -> Option<&Arc<OwnIssuer>> {
        self.own.as_ref()
    }

    /// Whether the operator took this token back, or the API key that it was made for.
    pub(super) fn is_revoked(&self, token: &TokenIdentity, now: u64) -> bool {
        let has_fallen = |own: &Arc<OwnIssuer>| own.has_fallen(token, || now);
        self.revocations.concern(token, || now) || self.own.as_ref().is_some_and(has_fallen)
    }

    /// Whether what was verified a while ago still counts at `now`, in milliseconds since 1970.
    pub(crate) fn still_holds(&self, verified: &Verified, now: u64) -> bool {
        let Grant { token, expires, .. } = &*verified.grant;
        let mut marks = self.issuers.iter().flat_map(Issuer::marks);
        let stands = token.key_mark.is_none_or(|mark| marks.any(|other| other == mark));
        stands && expires.is_none_or(|end| now < end) && !self.is_revoked(token, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Generation, Options, TokenCause, WantedKey};
    use tidings_core::{Clock, Namespace};

    const HUB: &str = "https://hub.example/.well-known/mercure";

    fn own() -> Arc<OwnIssuer> {
        let public_url = "https://hub.example".parse().unwrap();
        let secrets = OwnSecrets::first([7; 32]);
        Arc::new(OwnIssuer::new(&public_url, &HUB.parse().unwrap(), secrets))
    }

    fn namespace() -> Namespace {
        Namespace::new(HUB.parse().unwrap())
    }

    fn auth(own: &Arc<OwnIssuer>, accepts_draft: bool) -> Auth {
        let key = "0123456789abcdef0123456789abcdef";
        let options = format!(r#"{{"issuer":[{{"id":"i","publish":{{"key":"{key}"}}}}]}}"#);
        let options: Options = serde_json::from_str(&options).unwrap();
        Auth::offline(&options, &namespace()).unwrap().with_own(own, accepts_draft).unwrap()
    }

    fn topic(pattern: &str) -> KeptPattern {
        KeptPattern { pattern: pattern.into(), match_type: "exact".into() }
    }

    fn key(own: &OwnIssuer, expires: Option<u64>) -> ApiKey {
        let wanted = WantedKey {
            name: "shop".into(),
            topics: vec![topic("*")],
            lifetime_max: 100,
            per_minute: 600,
            expires,
        };
        let (key, _) = ApiKey::make(wanted, &namespace(), 0).unwrap();
        own.keys().replace(vec![key.clone()]);
        key
    }

    fn issued(own: &OwnIssuer, key: &ApiKey, granting: Granting) -> Issued {
        let wanted = Wanted { key, subject: Some("alice"), granting, lifetime: 1_000 };
        own.issue(&wanted, 5_500).unwrap()
    }

    fn portions() -> Granting {
        Granting::Final(vec![Portion { topics: vec![topic("a")], payload: None }])
    }

    #[test]
    fn an_own_token_subscribes_as_long_as_its_key_counts_and_never_publishes() {
        let own = own();
        let auth = auth(&own, false);
        let key = key(&own, None);
        let issued = issued(&own, &key, portions());
        assert_eq!((issued.expires, issued.lifetime), (105, 100), "cut to what the key allows");
        let verified = auth.verify(&issued.token, Role::Subscribe, 6_000).unwrap();
        assert_eq!(verified.generation, Generation::Final);
        let token = &verified.grant.token;
        assert_eq!(token.client.as_deref(), Some(&*key.id));
        assert_eq!(token.issuer.as_deref(), Some("https://hub.example/.well-known/tidings"));
        let cause = |role, now| auth.verify(&issued.token, role, now).unwrap_err().cause;
        assert_eq!(cause(Role::Publish, 6_000), TokenCause::NoKey);
        assert_eq!(cause(Role::Subscribe, 105_000), TokenCause::Expired);
        own.keys().replace(Vec::new());
        assert_eq!(cause(Role::Subscribe, 6_000), TokenCause::Revoked);
    }

    #[test]
    fn tokens_of_a_secret_before_count_until_the_longest_of_them_has_ended() {
        let own = own();
        let auth = auth(&own, false);
        let key = key(&own, None);
        let old = issued(&own, &key, portions()).token;
        own.replace_secrets(own.secrets().rotated([8; 32], 6_000, false).unwrap());
        let new = issued(&own, &key, portions()).token;
        let verified = |token: &str, now| auth.verify(token, Role::Subscribe, now);
        assert_eq!(verified(&old, 7_000).unwrap().grant.token.key.as_deref(), Some("tidings-1"));
        assert_eq!(verified(&new, 7_000).unwrap().grant.token.key.as_deref(), Some("tidings-2"));

        // Who knows the secret from before makes no token that outlives it.
        let forging = OwnIssuer::new(
            &"https://hub.example".parse().unwrap(),
            &HUB.parse().unwrap(),
            OwnSecrets::first([7; 32]),
        );
        let mut long = key.clone();
        long.lifetime_max = u64::MAX;
        let wanted = Wanted {
            key: &long,
            subject: None,
            granting: portions(),
            lifetime: 100 * 24 * 60 * 60,
        };
        let forged = forging.issue(&wanted, 6_000).unwrap().token;
        let end = 6_000 + crate::limits::ISSUED_LIFETIME_LIMIT * 1_000;
        assert_eq!(verified(&forged, 7_000).unwrap().grant.expires, Some(end));
        assert_eq!(verified(&forged, end).unwrap_err().cause, TokenCause::BadSignature);
    }

    #[test]
    fn a_secret_that_is_ended_at_once_takes_its_tokens_along() {
        struct Begun;
        impl Clock for Begun {
            fn wall(&self) -> u64 {
                6_000
            }

            fn monotonic(&self) -> std::time::Duration {
                std::time::Duration::ZERO
            }
        }
        let own = own();
        let auth = auth(&own, false);
        let key = key(&own, None);
        let old = issued(&own, &key, portions()).token;
        let opened = Arc::clone(&auth.verify(&old, Role::Subscribe, 6_000).unwrap().grant);
        let kept = auth.keep(&old, 6_000).unwrap();
        let stands = auth.judgement(Arc::new(Begun));
        own.replace_secrets(own.secrets().rotated([8; 32], 6_000, false).unwrap());
        assert!(stands(&opened) && stands(&auth.restore(&kept).unwrap()));
        own.replace_secrets(own.secrets().rotated([9; 32], 6_000, true).unwrap());
        assert!(!stands(&opened) && !stands(&auth.restore(&kept).unwrap()));
        let cause = auth.verify(&old, Role::Subscribe, 6_000).unwrap_err().cause;
        assert_eq!(cause, TokenCause::Revoked, "also where it was remembered");
        let fresh = self::auth(&own, false);
        let cause = fresh.verify(&old, Role::Subscribe, 6_000).unwrap_err().cause;
        assert_eq!(cause, TokenCause::BadSignature);
        let new = issued(&own, &key, portions()).token;
        assert!(auth.verify(&new, Role::Subscribe, 6_000).is_ok());
    }

    #[test]
    fn a_token_ends_with_its_key() {
        let own = own();
        let key = key(&own, Some(20));
        assert_eq!(issued(&own, &key, portions()).expires, 20);
    }

    #[test]
    fn tokens_for_older_clients_count_where_they_are_wanted() {
        let own = own();
        let key = key(&own, None);
        let token = issued(&own, &key, Granting::Draft(vec!["*".into()])).token;
        let verified = auth(&own, true).verify(&token, Role::Subscribe, 6_000).unwrap();
        assert_eq!(verified.generation, Generation::Draft);
        // Judged as 1.0 it lacks nearly everything.
        assert!(auth(&own, false).verify(&token, Role::Subscribe, 6_000).is_err());
    }

    #[test]
    fn the_hubs_own_issuer_changes_nothing_for_the_tokens_of_others() {
        let own = own();
        let auth = auth(&own, true);
        assert!(!auth.accepts(Generation::Draft), "only its own");
        assert!(auth.query_token_allowed());
        let claims = r#"{"mercure":{"subscribe":["*"]}}"#;
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encoded(r#"{"alg":"HS256"}"#), encoded(claims));
        let signature = hmac::sign(&own.secrets.now().signs, signed.as_bytes());
        let token = format!("{signed}.{}", encoded_bytes(signature.as_ref()));
        let refused = auth.verify(&token, Role::Subscribe, 0).unwrap_err();
        assert_eq!(refused.cause, TokenCause::IssuerMissing, "a nameless token is not its own");
    }

    #[test]
    fn what_was_kept_of_an_own_token_falls_with_its_key() {
        struct Begun;
        impl Clock for Begun {
            fn wall(&self) -> u64 {
                6_000
            }

            fn monotonic(&self) -> std::time::Duration {
                std::time::Duration::ZERO
            }
        }
        let own = own();
        let auth = auth(&own, false);
        let token = issued(&own, &key(&own, None), portions()).token;
        let kept = serde_json::to_string(&auth.keep(&token, 6_000).unwrap()).unwrap();
        let grant = auth.restore(&serde_json::from_str(&kept).unwrap()).unwrap();
        let stands = auth.judgement(Arc::new(Begun));
        assert!(stands(&grant));
        own.keys().replace(Vec::new());
        assert!(!stands(&grant));
    }

    fn encoded_bytes(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn neither_secret_is_shown() {
        assert!(!format!("{:?}", own()).contains('7'));
    }
}
