//! Signs tokens of both generations. Knows no hub; what it signs is for the hub to judge.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value, json};
use tidings_core::{BadPattern, Language, Matcher, Namespace};
use tidings_frontends::auth::{
    DETAIL_TYPE, Generation, IssuerOptions, KeyFlaw, KeyOptions, Options, Role, language,
    read_key_file,
};
use url::Url;

use crate::config::duration;

/// What `tidings token mint` is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct MintArguments {
    /// Topics that may be published; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(crate) publish: Vec<String>,
    /// Topics whose private updates may be read; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(crate) subscribe: Vec<String>,
    /// How topics match: exact, urlpattern, uritemplate, mqtt or nats [default: exact; 0.x has
    /// templates only]
    #[arg(long, value_name = "TYPE")]
    pub(crate) match_type: Option<String>,
    /// The generation of the token: 1.0 or 0.x [default: 1.0 where the issuer accepts it]
    #[arg(long, value_name = "VERSION", value_parser = generation)]
    pub(crate) generation: Option<Generation>,
    /// The issuer [default: the first in the configuration]
    #[arg(long, value_name = "ID")]
    pub(crate) issuer: Option<String>,
    /// Which hub the token is for; may be repeated [default: the configured public URL]
    #[arg(long, value_name = "URL")]
    pub(crate) audience: Vec<String>,
    /// How long it holds: seconds, or a duration as in 1h30m or 7d; `never` ends only in 0.x
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) lifetime: Lifetime,
    /// Who it is for (the `sub` claim)
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// JSON that subscriptions carry along for watchers; an object in 1.0
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// File with the secret or private key (PEM, PKCS #8) [default: the issuer's configured secret]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The signature algorithm [default: the configured one, else HS256]
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
    /// The name of the key (`kid` in the header)
    #[arg(long, value_name = "NAME")]
    pub(crate) kid: Option<String>,
    /// The secret or private key, when the program has it. Never a command line argument: every
    /// user of the machine can read those.
    #[arg(skip)]
    pub(crate) key: Option<Secret>,
}

/// A key that does not show in debug output.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// How long a token holds, in seconds; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime(pub(crate) Option<u64>);

impl Default for Lifetime {
    fn default() -> Lifetime {
        Lifetime(Some(3_600))
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Lifetime, String> {
        if text == "never" {
            return Ok(Lifetime(None));
        }
        match text.parse() {
            Ok(seconds) => Ok(Lifetime(Some(seconds))),
            Err(_) => duration::parse(text).map(|lifetime| Lifetime(Some(lifetime.as_secs()))),
        }
    }
}

/// Why no token was signed. The fault of whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// No topic in either role.
    #[error("a token that grants nothing is of no use: add --publish or --subscribe")]
    NothingGranted,
    /// Nothing to sign with.
    #[error("no key: give --key-file, or an issuer with a secret in the configuration")]
    NoKey,
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(KeyFlaw),
    /// No such issuer in the configuration.
    #[error("issuer {0:?} is not in the configuration; give --key-file to sign for it anyway")]
    UnknownIssuer(String),
    /// The configuration has only the public half.
    #[error("the configuration has only the public key of {0:?}: give --key-file with the private")]
    PublicKeyOnly(String),
    /// The roles have keys of their own.
    #[error("{0:?} has a key for each role: mint one token to publish and one to subscribe")]
    TwoKeys(String),
    /// No algorithm of this name, or none that can be signed with here.
    #[error("cannot sign with {0:?}: use HS256, RS256, PS256, ES256, their 384 and 512, or EdDSA")]
    Algorithm(String),
    /// The key is not one for the algorithm.
    #[error(
        "the key does not fit {0}: for anything but HS256, HS384 and HS512 it has to be a private \
         key in PKCS #8 (openssl pkcs8 -topk8 -nocrypt -in old.pem -out new.pem)"
    )]
    KeyDoesNotFit(String),
    /// 1.0 requires what is missing.
    #[error("a token of 1.0 needs --{0}")]
    Needed(&'static str),
    /// Not a match type.
    #[error("unknown match type {0:?}: use exact, urlpattern, uritemplate, mqtt or nats")]
    MatchType(String),
    /// 0.x knows templates only.
    #[error("tokens of 0.x have no match types: leave --match-type out")]
    MatchTypeInDraft,
    /// A pattern that the hub would refuse with the whole token.
    #[error("--{role} {pattern:?}: {flaw}")]
    Pattern {
        /// Where it was given.
        role: Role,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        flaw: BadPattern,
    },
    /// The payload is not what its generation allows.
    #[error("the payload has to be JSON, and an object in 1.0")]
    Payload,
}

impl MintArguments {
    /// Takes what was not given from the configuration: audience, issuer, algorithm, and the secret
    /// unless a key was given.
    ///
    /// # Errors
    /// When the configuration has no secret that could sign this token.
    pub(crate) fn complete_from(
        &mut self,
        options: &Options,
        hub_url: &Url,
    ) -> Result<(), MintError> {
        if self.audience.is_empty() {
            self.audience.push(hub_url.as_str().to_owned());
        }
        let has_key = self.key.is_some() || self.key_file.is_some();
        let issuer = match &self.issuer {
            Some(id) => options.issuer.iter().find(|issuer| issuer.id == *id),
            None => options.issuer.first(),
        };
        let Some(issuer) = issuer else {
            // With a key of one's own, one may sign for whomever.
            return match &self.issuer {
                _ if has_key => Ok(()),
                Some(id) => Err(MintError::UnknownIssuer(id.clone())),
                None => Err(MintError::NoKey),
            };
        };
        let configured = self.configured_key(issuer, has_key)?;
        if !has_key {
            let key = configured.ok_or(MintError::NoKey)?;
            if !key.algorithm.starts_with("HS") {
                return Err(MintError::PublicKeyOnly(issuer.id.clone()));
            }
            self.key = key.key.clone().map(|key| Secret(key.into_bytes()));
            self.key_file = key.key_file.clone();
        }
        if let Some(key) = configured {
            self.algorithm.get_or_insert_with(|| key.algorithm.clone());
            self.kid = self.kid.take().or_else(|| key.kid.clone());
        }
        self.issuer = Some(issuer.id.clone());
        if self.generation.is_none() && !issuer.accept.contains(&Generation::Final) {
            self.generation = Some(Generation::Draft);
        }
        Ok(())
    }

    /// The configured key for the roles that are asked for.
    fn configured_key<'o>(
        &self,
        issuer: &'o IssuerOptions,
        has_key: bool,
    ) -> Result<Option<&'o KeyOptions>, MintError> {
        let publish = issuer.key(Role::Publish).filter(|_| !self.publish.is_empty());
        let subscribe = issuer.key(Role::Subscribe).filter(|_| !self.subscribe.is_empty());
        match (publish, subscribe) {
            (Some(one), Some(other))
                if !has_key && (&one.key, &one.key_file) != (&other.key, &other.key_file) =>
            {
                Err(MintError::TwoKeys(issuer.id.clone()))
            }
            (None, None) if self.publish.is_empty() && self.subscribe.is_empty() => {
                Err(MintError::NothingGranted)
            }
            (publish, subscribe) => Ok(publish.or(subscribe)),
        }
    }

    fn claims(&self, generation: Generation, now: u64) -> Result<Value, MintError> {
        if self.publish.is_empty() && self.subscribe.is_empty() {
            return Err(MintError::NothingGranted);
        }
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), json!(now));
        if let Some(seconds) = self.lifetime.0 {
            claims.insert("exp".to_owned(), json!(now.saturating_add(seconds)));
        } else if generation == Generation::Final {
            return Err(MintError::Needed("lifetime"));
        }
        match &self.issuer {
            Some(issuer) => drop(claims.insert("iss".to_owned(), json!(issuer))),
            None if generation == Generation::Final => return Err(MintError::Needed("issuer")),
            None => {}
        }
        if let Some(subject) = &self.subject {
            claims.insert("sub".to_owned(), json!(subject));
        }
        match generation {
            Generation::Draft => drop(claims.insert("mercure".to_owned(), self.legacy()?)),
            Generation::Final => {
                if self.audience.is_empty() {
                    return Err(MintError::Needed("audience"));
                }
                claims.insert("aud".to_owned(), json!(self.audience));
                claims.insert("authorization_details".to_owned(), self.details()?);
            }
        }
        Ok(Value::Object(claims))
    }

    fn legacy(&self) -> Result<Value, MintError> {
        if self.match_type.is_some() {
            return Err(MintError::MatchTypeInDraft);
        }
        let mut claim = Map::new();
        // An absent list differs from an empty one.
        for (name, list) in [("publish", &self.publish), ("subscribe", &self.subscribe)] {
            if !list.is_empty() {
                claim.insert(name.to_owned(), json!(list));
            }
        }
        if let Some(payload) = self.payload()? {
            claim.insert("payload".to_owned(), payload);
        }
        Ok(Value::Object(claim))
    }

    fn details(&self) -> Result<Value, MintError> {
        if let Some(name) = self.match_type.as_deref().filter(|name| language(name).is_none()) {
            return Err(MintError::MatchType(name.to_owned()));
        }
        let payload = self.payload()?;
        if payload.as_ref().is_some_and(|payload| !payload.is_object()) {
            return Err(MintError::Payload);
        }
        let mut details = Vec::new();
        for (role, list) in [(Role::Publish, &self.publish), (Role::Subscribe, &self.subscribe)] {
            if list.is_empty() {
                continue;
            }
            let topics: Vec<_> = list.iter().map(|topic| self.topic(topic)).collect();
            let mut detail =
                json!({ "type": DETAIL_TYPE, "actions": [role.action()], "topics": topics });
            if let (Role::Subscribe, Some(payload), Some(detail)) =
                (role, &payload, detail.as_object_mut())
            {
                detail.insert("payload".to_owned(), payload.clone());
            }
            details.push(detail);
        }
        Ok(Value::Array(details))
    }

    /// Whether the hub that the token is for would take every pattern; otherwise it would refuse
    /// the token.
    fn check_patterns(&self, generation: Generation) -> Result<(), MintError> {
        let written = match (generation, self.match_type.as_deref()) {
            (Generation::Draft, _) => Language::UriTemplate,
            (Generation::Final, name) => {
                let name = name.unwrap_or("exact");
                language(name).ok_or_else(|| MintError::MatchType(name.to_owned()))?
            }
        };
        // Relative patterns need a base, whichever.
        let hub = self.audience.first().and_then(|audience| audience.parse().ok());
        let hub = hub.filter(|url: &Url| !url.cannot_be_a_base());
        let anywhere = || Url::parse("http://localhost/.well-known/mercure").expect("a constant");
        let namespace = Namespace::new(hub.unwrap_or_else(anywhere));
        for (role, list) in [(Role::Publish, &self.publish), (Role::Subscribe, &self.subscribe)] {
            for pattern in list {
                // The wildcard is no pattern of any language.
                let language = if pattern == "*" { Language::Exact } else { written };
                Matcher::parse(language, pattern, &namespace)
                    .map_err(|flaw| MintError::Pattern { role, pattern: pattern.clone(), flaw })?;
            }
        }
        Ok(())
    }

    fn topic(&self, topic: &str) -> Value {
        match &self.match_type {
            Some(name) => json!({ "match": topic, "match_type": name }),
            None => json!({ "match": topic }),
        }
    }

    fn payload(&self) -> Result<Option<Value>, MintError> {
        let payload = self.payload.as_deref().map(serde_json::from_str);
        payload.transpose().map_err(|_| MintError::Payload)
    }

    fn signing_key(&self, algorithm: Algorithm) -> Result<EncodingKey, MintError> {
        let bytes = match (&self.key, &self.key_file) {
            (Some(key), _) => key.0.clone(),
            (None, Some(path)) => read_key_file(path).map_err(MintError::Unreadable)?,
            (None, None) => return Err(MintError::NoKey),
        };
        let family = [AlgorithmFamily::Hmac, AlgorithmFamily::Rsa, AlgorithmFamily::Ec]
            .into_iter()
            .find(|family| family.algorithms().contains(&algorithm));
        let key = match family {
            Some(AlgorithmFamily::Hmac) if bytes.starts_with(b"-----BEGIN ") => None,
            Some(AlgorithmFamily::Hmac) => Some(EncodingKey::from_secret(&bytes)),
            Some(AlgorithmFamily::Rsa) => EncodingKey::from_rsa_pem(&bytes).ok(),
            Some(AlgorithmFamily::Ec) => EncodingKey::from_ec_pem(&bytes).ok(),
            _ => EncodingKey::from_ed_pem(&bytes).ok(),
        };
        key.ok_or_else(|| MintError::KeyDoesNotFit(format!("{algorithm:?}")))
    }
}

/// Signs a token that begins now.
///
/// # Errors
/// What is missing or does not fit.
pub(crate) fn mint(arguments: &MintArguments) -> Result<String, MintError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    mint_at(arguments, now)
}

/// Signs a token that begins at `now`, in seconds since 1970.
pub(super) fn mint_at(arguments: &MintArguments, now: u64) -> Result<String, MintError> {
    let generation = arguments.generation.unwrap_or(Generation::Final);
    let name = arguments.algorithm.as_deref().unwrap_or("HS256");
    let unknown = || MintError::Algorithm(name.to_owned());
    let algorithm = Algorithm::from_str(name).map_err(|_| unknown())?;
    let claims = arguments.claims(generation, now)?;
    arguments.check_patterns(generation)?;
    let key = arguments.signing_key(algorithm)?;
    let mut header = Header::new(algorithm);
    if generation == Generation::Final {
        header.typ = Some("at+jwt".to_owned());
    }
    header.kid = arguments.kid.clone();
    jsonwebtoken::encode(&header, &claims, &key)
        .map_err(|_| MintError::KeyDoesNotFit(name.to_owned()))
}

fn generation(text: &str) -> Result<Generation, &'static str> {
    match text {
        "1.0" => Ok(Generation::Final),
        "0.x" => Ok(Generation::Draft),
        _ => Err("use 1.0 or 0.x"),
    }
}
