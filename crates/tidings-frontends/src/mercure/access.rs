//! Who asks, by which token, and in which generation's words the answer is given. Knows no form
//! body and no hub; whether a token is valid is `auth`'s business.

use std::sync::Arc;

use http::header;
use http::request::Parts;
use tidings_core::{Clock, Grant};

use super::form::{self, Field};
use super::refusal::Refusal;
use super::{Settings, cookie};
use crate::auth::{Auth, Generation, Role, TokenProblem, Verified};
use crate::limits::{DRAFT_HEADER_BYTES_MIN, DRAFT_TOKEN_BYTES_MIN};

/// What is known of whoever asks.
#[derive(Debug)]
pub(super) enum Access {
    /// No token came with the request.
    Anonymous,
    /// A valid one.
    Token(Arc<Verified>),
}

impl Access {
    /// The generation that a token decides.
    pub(super) fn generation(&self) -> Option<Generation> {
        match self {
            Access::Anonymous => None,
            Access::Token(verified) => Some(verified.generation),
        }
    }

    /// The token, if one came.
    pub(super) fn verified(&self) -> Option<&Arc<Verified>> {
        match self {
            Access::Anonymous => None,
            Access::Token(verified) => Some(verified),
        }
    }

    /// What may be read.
    pub(super) fn grant(&self) -> Arc<Grant> {
        match self {
            Access::Anonymous => Arc::new(Grant::anonymous()),
            Access::Token(verified) => Arc::clone(&verified.grant),
        }
    }
}

/// How a token was presented wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Presentation {
    /// Several `Authorization` fields: which one counts would be a guess.
    #[error("more than one Authorization header")]
    Repeated,
    /// Several subprotocols with a token, for the same reason.
    #[error("more than one subprotocol that begins with `bearer.`")]
    RepeatedProtocol,
    /// Not `Bearer` and a token.
    #[error("the Authorization header is not `Bearer` and a token")]
    NotBearer,
    /// A token of protocol 1.0 in the URL, where it ends up in histories and logs (RFC 9700).
    #[error("a token of protocol 1.0 in the URL")]
    InUrl,
    /// An older client's token in a form that hubs of its time refuse.
    #[error("a token of protocol 0.x with a scheme in other case, too short or repeated")]
    Unusual,
    /// The operator has switched tokens in the URL off.
    #[error("a token in the URL, which the configuration does not allow")]
    SwitchedOff,
}

/// A refusal with the generation whose words it is said in.
pub(super) type Worded<T> = Result<T, (Generation, Refusal)>;

/// [`read`], and once more where the key of the token may have come into its issuer's set since the
/// set was read.
pub(super) async fn read_with_fresh_keys(
    head: &Parts,
    query: &[Field],
    role: Role,
    settings: &Settings,
    clock: &dyn Clock,
    by_parameters: Generation,
) -> Worded<Access> {
    let auth = &settings.auth;
    let judged_by = auth.keys_generation();
    let first = read(head, query, role, settings, clock.wall(), by_parameters);
    match &first {
        Err((_, Refusal::BadToken { cause, .. }))
            if Box::pin(auth.key_may_come(cause, judged_by)).await =>
        {
            read(head, query, role, settings, clock.wall(), by_parameters)
        }
        _ => first,
    }
}

/// Reads the token of a request: the `Authorization` header first, then the query parameter that
/// 0.x clients use, then a cookie. What stands behind the first of them is not looked at.
/// `by_parameters` is the generation where the token does not decide it.
fn read(
    head: &Parts,
    query: &[Field],
    role: Role,
    settings: &Settings,
    now: u64,
    by_parameters: Generation,
) -> Worded<Access> {
    let auth = &settings.auth;
    let looked_at = Looked { settings, role, now, by_parameters };
    let misused = |presentation| (by_parameters, Refusal::BadPresentation(presentation));
    let mut headers = head.headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = headers.next() {
        if headers.next().is_some() {
            return Err(misused(Presentation::Repeated));
        }
        let bearer =
            Bearer::parse(value.as_bytes()).ok_or_else(|| misused(Presentation::NotBearer))?;
        // Of what is verified every byte was right; only for the rest it is worth a look.
        let verified = looked_at.verify(bearer.token).map_err(|refused| {
            if bearer.is_token68() { refused } else { misused(Presentation::NotBearer) }
        })?;
        if verified.generation == Generation::Draft && !bearer.is_as_in_draft {
            return Err((Generation::Draft, Refusal::BadPresentation(Presentation::Unusual)));
        }
        return Ok(Access::Token(verified));
    }
    match presented_in_query(query, auth, by_parameters)? {
        None => in_cookie(head, &looked_at),
        Some(token) => {
            let verified = looked_at.verify(token)?;
            if verified.generation == Generation::Final {
                return Err((Generation::Final, Refusal::BadPresentation(Presentation::InUrl)));
            }
            Ok(Access::Token(verified))
        }
    }
}

/// By what a token is looked at.
struct Looked<'s> {
    settings: &'s Settings,
    role: Role,
    now: u64,
    by_parameters: Generation,
}

impl Looked<'_> {
    fn verify(&self, token: &str) -> Worded<Arc<Verified>> {
        let verified = self.settings.auth.verify(token, self.role, self.now);
        verified.map_err(|problem| self.refused(token, problem))
    }

    fn refused(&self, token: &str, problem: TokenProblem) -> (Generation, Refusal) {
        let TokenProblem { generation, recognized, cause } = problem;
        let generation = if recognized { generation } else { self.by_parameters };
        // All checks cost what the first one that failed did not: only for who reads the log.
        let checks = if tracing::enabled!(tracing::Level::INFO) {
            let Settings { auth, log_topics, .. } = self.settings;
            auth.failed_checks(token, self.role, self.now, *log_topics)
        } else {
            String::new()
        };
        (generation, Refusal::BadToken { cause, checks })
    }
}

/// The token in a cookie. A browser sends it whatever page makes the request, so that to publish
/// with it needs a page that may; that is said before anything about the token.
fn in_cookie(head: &Parts, looked_at: &Looked<'_>) -> Worded<Access> {
    let settings = looked_at.settings;
    let Some(token) = settings.cookies.token(&head.headers) else { return Ok(Access::Anonymous) };
    // What is no text is no token either.
    let token = std::str::from_utf8(token).unwrap_or_default();
    let verified = looked_at.verify(token);
    if looked_at.role == Role::Publish {
        let generation = verified.as_ref().map_or_else(|(words, _)| *words, |it| it.generation);
        cookie::check_origin(&head.headers, &settings.publish_origins)
            .map_err(|refusal| (generation, refusal))?;
    }
    verified.map(Access::Token)
}

/// The token in the URL, if one is there and may be.
fn presented_in_query<'q>(
    query: &'q [Field],
    auth: &Auth,
    by_parameters: Generation,
) -> Worded<Option<&'q str>> {
    let mut tokens = form::all(query, "authorization");
    let Some(token) = tokens.next() else { return Ok(None) };
    let misused = |presentation| Err((Generation::Draft, Refusal::BadPresentation(presentation)));
    if !auth.query_token_allowed() {
        return match by_parameters {
            // Serving it like somebody without a token would hide the reason.
            Generation::Draft => misused(Presentation::SwitchedOff),
            // In 1.0 it is a parameter without a meaning.
            Generation::Final => Ok(None),
        };
    }
    match token.utf8().filter(|token| token.len() >= DRAFT_TOKEN_BYTES_MIN) {
        Some(token) if tokens.next().is_none() => Ok(Some(token)),
        _ => misused(Presentation::Unusual),
    }
}

/// An `Authorization` header as one with a bearer token begins (RFC 6750 section 2.1).
pub(super) struct Bearer<'h> {
    pub(super) token: &'h str,
    /// Hubs of 0.x ask for `Bearer` in this case, one space, and a certain length.
    is_as_in_draft: bool,
}

impl Bearer<'_> {
    pub(super) fn parse(header: &[u8]) -> Option<Bearer<'_>> {
        let text = std::str::from_utf8(header).ok()?;
        let (scheme, rest) = text.split_once(' ')?;
        let token = rest.trim_start_matches(' ');
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return None;
        }
        Some(Bearer {
            token,
            is_as_in_draft: scheme == "Bearer"
                && rest.len() == token.len()
                && text.len() >= DRAFT_HEADER_BYTES_MIN,
        })
    }

    /// Whether it is what RFC 9110 section 11.2 calls so: neither spaces nor a list of parameters.
    fn is_token68(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        self.token.bytes().all(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m35_the_scheme_is_read_in_any_case() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
            assert_eq!(Bearer::parse(header.as_bytes()).unwrap().token, "a.b.c", "{header}");
        }
        for header in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearera.b.c", "Bearer a b", "a.b.c"]
        {
            let bearer = Bearer::parse(header.as_bytes());
            assert!(bearer.is_none_or(|bearer| !bearer.is_token68()), "{header}");
        }
        assert!(Bearer::parse(b"Bearer a.\xFF.c").is_none());
    }

    #[test]
    fn a_draft_header_is_recognised_by_its_exact_form() {
        let token = "a".repeat(41);
        let exact = |header: String| Bearer::parse(header.as_bytes()).unwrap().is_as_in_draft;
        assert!(exact(format!("Bearer {token}")));
        assert!(!exact(format!("bearer {token}")));
        assert!(!exact(format!("Bearer  {token}")));
        assert!(!exact("Bearer short".to_owned()));
    }

    /// Whether the token is taken out of this query where tokens in the URL are allowed or not.
    fn in_query(query: &str, allowed: bool) -> Worded<Option<String>> {
        let options = format!(
            r#"{{"query_token":{allowed},"issuer":[{{"id":"i","accept":["0.x"],
                "publish":{{"key":"0123456789abcdef0123456789abcdef"}}}}]}}"#
        );
        let options: crate::auth::Options = serde_json::from_str(&options).unwrap();
        let hub = "https://hub.example/hub".parse().unwrap();
        let auth = Auth::offline(&options, &tidings_core::Namespace::new(hub)).unwrap();
        let query = form::parse(query.as_bytes(), 10).unwrap();
        let found = presented_in_query(&query, &auth, Generation::Final)?;
        Ok(found.map(str::to_owned))
    }

    #[test]
    fn a_token_in_the_url_stands_there_once_and_is_long_enough() {
        let token = "a".repeat(DRAFT_TOKEN_BYTES_MIN);
        let query = format!("topic=t&authorization={token}");
        assert_eq!(in_query(&query, true).unwrap(), Some(token.clone()));
        assert_eq!(in_query(&query, false).unwrap(), None);
        assert_eq!(in_query("topic=t", true).unwrap(), None);
        for bad in [
            format!("{query}&authorization={token}"),
            format!("{query}&authorization="),
            format!("authorization={}", &token[1..]),
            "authorization=".to_owned(),
        ] {
            let refused = in_query(&bad, true).unwrap_err();
            let unusual = Refusal::BadPresentation(Presentation::Unusual);
            assert_eq!(refused.0, Generation::Draft);
            assert_eq!(refused.1.to_string(), unusual.to_string(), "{bad}");
        }
    }
}
