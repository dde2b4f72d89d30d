//! The checks of a token in their order: readable, from whom, signed by them, in force, meant for
//! this hub, granting what. Which checks apply follows from the issuer's configuration.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tidings_core::{Grant, Namespace, TokenIdentity};

use super::cache::Remembered;
use super::claims::{self, Granted};
use super::issuer::{Issuer, Keys};
use super::jwt::{self, Compact, DETAILS, LEGACY, LEGACY_NAMESPACED};
use super::key_set::KeySet;
use super::keys::Key;
use super::problem::{TokenCause, TokenProblem};
use super::{Auth, Generation, Options, Role, Verified};

/// The issuers whose keys a token is tried against, and by whose rules.
pub(super) struct Route<'a> {
    pub(super) generation: Generation,
    pub(super) issuers: Vec<&'a Issuer>,
}

/// A check of what a believed token says about when and for whom it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// `typ` (RFC 9068 section 4): an ID token of the same issuer is no access token.
    Type,
    /// `exp`.
    Expiry,
    /// `nbf`.
    NotBefore,
    /// `aud`.
    Audience,
    /// `sub`: what is no text could not be revoked, nor told from another one.
    Subject,
    /// `jti`, for the same reason.
    TokenId,
}

impl Check {
    /// The checks of a generation, in order. 0.x has no `typ` and no `aud`.
    pub(super) fn of(generation: Generation) -> &'static [Check] {
        use Check::{Audience, Expiry, NotBefore, Subject, TokenId, Type};
        match generation {
            Generation::Draft => &[Expiry, NotBefore, Subject, TokenId],
            Generation::Final => &[Type, Expiry, NotBefore, Audience, Subject, TokenId],
        }
    }

    /// Whether the token passes; `now` is in milliseconds since 1970.
    pub(super) fn run(
        self,
        token: &Compact<'_>,
        generation: Generation,
        issuer: &Issuer,
        now: u64,
    ) -> Result<(), TokenCause> {
        match self {
            Check::Type if token.is_access_token => Ok(()),
            Check::Type => Err(TokenCause::WrongType),
            Check::Expiry => match claims::expiry(&token.claims)? {
                Some(expires) if now < expires => Ok(()),
                Some(_) => Err(TokenCause::Expired),
                // Publishers of 0.x have tokens that never end.
                None if generation == Generation::Draft => Ok(()),
                None => Err(TokenCause::ExpiryMissing),
            },
            Check::NotBefore => match claims::not_before(&token.claims)? {
                Some(start) if now < start => Err(TokenCause::NotYetValid),
                _ => Ok(()),
            },
            Check::Audience => claims::check_audience(&token.claims, &issuer.audience),
            Check::Subject => claims::text(&token.claims, "sub").map(|_| ()),
            Check::TokenId => claims::text(&token.claims, "jti").map(|_| ()),
        }
    }
}

impl Auth {
    /// Verifies a token that is not remembered, and says what is to be remembered of it.
    pub(super) fn verify_afresh(
        &self,
        token: &str,
        role: Role,
        now: u64,
    ) -> Result<Remembered, TokenProblem> {
        let token = jwt::read(token).map_err(|cause| self.problem(jwt::guess(token), cause))?;
        let route = self.route(&token)?;
        let generation = route.generation;
        let refuse = |cause| TokenProblem { generation, recognized: true, cause };
        let signer = signer(&route, &token, role).map_err(refuse)?;
        let issuer = signer.issuer;
        for check in Check::of(generation) {
            check.run(&token, generation, issuer, now).map_err(refuse)?;
        }
        let granted = self.granted(&token, generation, role).map_err(refuse)?;
        let expires = claims::expiry(&token.claims).map_err(refuse)?;
        // Nothing counts for longer than what signed it.
        let expires = [expires, signer.ends].into_iter().flatten().min();
        if signer.ends.is_some_and(|ends| ends <= now) {
            return Err(refuse(TokenCause::BadSignature));
        }
        let not_before = claims::not_before(&token.claims).map_err(refuse)?;
        let identity = identity(&token, &signer, role, generation).map_err(refuse)?;
        let mut grant = Grant { expires, token: identity, ..Grant::default() };
        match role {
            Role::Publish => grant.publish = granted.matchers,
            Role::Subscribe => grant.subscribe = granted.matchers,
        }
        let (grant, details, may) = (Arc::new(grant), granted.details, granted.may);
        let verified = Arc::new(Verified { generation, grant, details, may });
        Ok(Remembered { verified, not_before, found_in: signer.found_in })
    }

    /// Whose token this may be and by whose rules it is judged. Its own words select among what the
    /// operator configured and cannot relax it: a configured issuer's token never gets another
    /// issuer's keys or another generation's checks.
    pub(super) fn route(&self, token: &Compact<'_>) -> Result<Route<'_>, TokenProblem> {
        let claims = &token.claims;
        let guess = if claims.contains_key(DETAILS) {
            Some(Generation::Final)
        } else if claims.contains_key(LEGACY) || claims.contains_key(LEGACY_NAMESPACED) {
            Some(Generation::Draft)
        } else {
            token.is_access_token.then_some(Generation::Final)
        };
        let refuse = |cause| self.problem(guess, cause);
        let name = match claims.get("iss") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err(refuse(TokenCause::BadClaim("iss"))),
        };
        let named = self.issuers.iter().find(|issuer| Some(&*issuer.id) == name);
        if claims.contains_key(DETAILS) {
            let unknown = match name {
                Some(_) => TokenCause::UnknownIssuer,
                None => TokenCause::IssuerMissing,
            };
            let issuer = named.ok_or_else(|| refuse(unknown))?;
            if !issuer.accepts_final {
                return Err(refuse(TokenCause::GenerationNotAccepted));
            }
            return Ok(Route { generation: Generation::Final, issuers: vec![issuer] });
        }
        if let Some(issuer) = named {
            // Without either claim a token grants nothing in both generations; `typ` then only
            // selects the stricter checks.
            let is_draft =
                issuer.accepts_draft && (!issuer.accepts_final || guess != Some(Generation::Final));
            let generation = if is_draft { Generation::Draft } else { Generation::Final };
            return Ok(Route { generation, issuers: vec![issuer] });
        }
        // The hub's own tokens name it.
        let unnamed = |issuer: &&Issuer| issuer.accepts_draft && !issuer.is_own;
        let issuers: Vec<_> = self.issuers.iter().filter(unnamed).collect();
        if issuers.is_empty() {
            let cause = match name {
                Some(_) => TokenCause::UnknownIssuer,
                None => TokenCause::IssuerMissing,
            };
            return Err(refuse(cause));
        }
        Ok(Route { generation: Generation::Draft, issuers })
    }

    /// What a believed token grants in one role.
    pub(super) fn granted(
        &self,
        token: &Compact<'_>,
        generation: Generation,
        role: Role,
    ) -> Result<Granted, TokenCause> {
        match generation {
            Generation::Draft => claims::legacy(&token.claims, role, &*self.matchers),
            Generation::Final => claims::details(&token.claims, role, &*self.matchers),
        }
    }
}

/// Who signed a token.
pub(super) struct Signer<'a> {
    pub(super) issuer: &'a Issuer,
    /// The name of the key, if it has one.
    kid: Option<Box<str>>,
    /// When the key ends, in milliseconds since 1970, if it does.
    ends: Option<u64>,
    /// The set that the key was in, and in which state of it.
    found_in: Option<(Arc<KeySet>, u64)>,
}

/// The issuer and key that signed the token. The algorithm is the key's, never the token's choice
/// (RFC 8725 section 3.1); `kid` only says which key to try first.
pub(super) fn signer<'a>(
    route: &Route<'a>,
    token: &Compact<'_>,
    role: Role,
) -> Result<Signer<'a>, TokenCause> {
    let issuers = route.issuers.iter().copied();
    let keys: Vec<_> =
        issuers.filter_map(|issuer| issuer.keys(role).map(|keys| (issuer, keys))).collect();
    if keys.is_empty() {
        return Err(TokenCause::NoKey);
    }
    let fits = |keys: &Keys| token.algorithm.is_some_and(|one| keys.algorithms().contains(&one));
    let fitting: Vec<_> = keys.into_iter().filter(|(_, keys)| fits(keys)).collect();
    if fitting.is_empty() {
        return Err(TokenCause::AlgorithmNotAllowed);
    }
    // What the sets hold may change meanwhile: all is decided by what they hold now.
    let read: Vec<_> = fitting
        .iter()
        .filter_map(|(issuer, keys)| keys.snapshot().map(|now| (*issuer, *keys, now)))
        .collect();
    let is_named = |key: &Key| token.kid.is_some() && key.kid == token.kid;
    for named in [true, false] {
        for (issuer, keys, now) in &read {
            let tried = now.keys.iter().filter(|key| Some(key.algorithm) == token.algorithm);
            let mut tried = tried.filter(|key| is_named(key) == named);
            if let Some(key) = tried.find(|key| key.verifies(token.signed, &token.signature)) {
                let found_in = keys.set().map(|set| (Arc::clone(set), now.generation));
                return Ok(Signer { issuer, kid: key.kid.clone(), ends: key.ends, found_in });
            }
        }
    }
    let ids = |issuers: Vec<&Issuer>| issuers.iter().map(|issuer| issuer.id.clone()).collect();
    let unread: Vec<_> =
        fitting.iter().filter(|(_, keys)| keys.snapshot().is_none()).map(|(one, _)| *one).collect();
    let lacking =
        read.iter().filter(|(_, keys, now)| keys.set().is_some() && !now.keys.iter().any(is_named));
    let lacking: Vec<_> = lacking.map(|(issuer, _, _)| *issuer).collect();
    Err(match (lacking.is_empty(), unread.is_empty()) {
        (true, true) => TokenCause::BadSignature,
        (true, false) => TokenCause::KeysUnread { issuers: ids(unread) },
        // One set that cannot be read must not hide that another one has changed.
        (false, _) => TokenCause::KeyUnknown { issuers: ids([lacking, unread].concat()) },
    })
}

fn identity(
    token: &Compact<'_>,
    signer: &Signer<'_>,
    role: Role,
    generation: Generation,
) -> Result<TokenIdentity, TokenCause> {
    Ok(TokenIdentity {
        issuer: Some(signer.issuer.id.clone()),
        subject: claims::text(&token.claims, "sub")?.map(Into::into),
        token_id: claims::text(&token.claims, "jti")?.map(Into::into),
        // What is no text names nobody, as nothing does.
        client: token.claims.get("client_id").and_then(Value::as_str).map(Into::into),
        key: Some(signer.kid.clone().unwrap_or_else(|| role.action().into())),
        key_mark: signer.issuer.mark(role, generation),
    })
}

/// See [`super::fuzz_token`].
pub(super) fn fuzz(bytes: &[u8]) {
    const SECRET: &str = "a secret that only this function knows, for signing what it is fed";
    static AUTH: LazyLock<Option<Auth>> = LazyLock::new(|| {
        let key = format!(r#"{{"key":"{SECRET}"}}"#);
        let accept = r#"["0.x","1.0"]"#;
        let options = format!(
            r#"{{"issuer":[{{"id":"i","accept":{accept},"publish":{key},"subscribe":{key}}}]}}"#
        );
        let options: Options = serde_json::from_str(&options).ok()?;
        let hub_url = "https://hub.example/.well-known/mercure".parse().ok()?;
        Auth::offline(&options, &Namespace::new(hub_url)).ok()
    });
    let Some(auth) = AUTH.as_ref() else { return };
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let header = URL_SAFE_NO_PAD.encode(parts.next().unwrap_or_default());
    let payload = URL_SAFE_NO_PAD.encode(parts.next().unwrap_or_default());
    let mut signed = format!("{header}.{payload}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    signed.push('.');
    signed.push_str(&signature);
    for token in [signed.as_str(), &String::from_utf8_lossy(bytes)] {
        for role in [Role::Publish, Role::Subscribe] {
            let first = auth.verify(token, role, 1_000).map(|verified| verified.generation);
            let again = auth.verify(token, role, 1_000).map(|verified| verified.generation);
            assert_eq!(first, again, "a remembered token is judged as before");
            auth.explain(token, role, 1_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The generation by whose rules a token of the issuer `i`, which nobody signed, is judged.
    fn judged(accept: &Value, kind: &str, claim: &str) -> Result<Generation, TokenCause> {
        let key = json!({ "key": "0123456789abcdef0123456789abcdef" });
        let options = json!({ "issuer": [{ "id": "i", "accept": accept, "publish": key }] });
        let options: Options = serde_json::from_value(options).unwrap();
        let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
        let auth = Auth::offline(&options, &namespace).unwrap();
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(json!({ "alg": "HS256", "typ": kind }));
        let token = format!("{header}.{}.", encode(json!({ "iss": "i", claim: {} })));
        let route = auth.route(&jwt::read(&token).unwrap());
        route.map(|route| route.generation).map_err(|problem| problem.cause)
    }

    #[test]
    fn claims_tell_the_generation_and_only_without_them_the_type_does() {
        let both = json!(["0.x", "1.0"]);
        for kind in ["at+jwt", "JWT"] {
            assert_eq!(judged(&both, kind, DETAILS), Ok(Generation::Final), "{kind}");
            assert_eq!(judged(&both, kind, LEGACY), Ok(Generation::Draft), "{kind}");
            assert_eq!(judged(&both, kind, LEGACY_NAMESPACED), Ok(Generation::Draft), "{kind}");
        }
        assert_eq!(judged(&both, "at+jwt", "neither"), Ok(Generation::Final));
        assert_eq!(judged(&both, "JWT", "neither"), Ok(Generation::Draft));
        // Where only one is accepted, its checks are those of every token that it may have.
        for kind in ["at+jwt", "JWT"] {
            let draft = judged(&json!(["0.x"]), kind, "neither");
            assert_eq!(draft, Ok(Generation::Draft), "{kind}");
            let last = judged(&json!(["1.0"]), kind, LEGACY);
            assert_eq!(last, Ok(Generation::Final), "{kind}");
            let foreign = judged(&json!(["0.x"]), kind, DETAILS);
            assert_eq!(foreign, Err(TokenCause::GenerationNotAccepted), "{kind}");
        }
    }
}
