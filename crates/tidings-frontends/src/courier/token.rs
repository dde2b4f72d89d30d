//! The tokens of an application whose users Courier serves: JWTs (RFC 7519) under one secret. Knows
//! neither the requests that they come with nor who is known by the names in them.

use std::fmt;

use aws_lc_rs::hmac;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Deserialize;

use crate::limits::TOKEN_BYTES_MAX;

/// Base64 of URLs as old clients write it: with padding or without.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a token is worth nothing. The client's fault, or that of who gave it the token. Never shown
/// to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadToken {
    #[error("there is no token, or not as `Authorization: Bearer`")]
    Missing,
    #[error("it is longer than any token")]
    TooLong,
    #[error("it is no token")]
    Unreadable,
    #[error("it is not signed by HS256")]
    OtherAlgorithm,
    #[error("another secret has signed it")]
    BadSignature,
    #[error("its claims are not as they have to be")]
    BadClaims,
    #[error("it has expired")]
    Expired,
    #[error("its time has not come yet")]
    TooEarly,
    #[error("it was revoked")]
    Fallen,
}

/// The secret of all tokens.
pub(super) struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// What a token says that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The names of audiences, in its order.
    pub(super) audiences: Vec<String>,
    /// Whose it is.
    pub(super) email: Option<String>,
    /// When it ends, in milliseconds since 1970.
    pub(super) expires: Option<u64>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Option<Audiences>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Some(Vec<String>),
}

impl Secret {
    pub(super) fn new(secret: &str) -> Secret {
        Secret(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// What this token says, if it counts at this time, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// See [`BadToken`].
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<Bearer, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Unreadable)?;
        let (header, claims) = signed.split_once('.').ok_or(BadToken::Unreadable)?;
        let decode = |part: &str| LENIENT.decode(part).map_err(|_| BadToken::Unreadable);
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| BadToken::Unreadable)?;
        if header.alg != "HS256" {
            return Err(BadToken::OtherAlgorithm);
        }
        hmac::verify(&self.0, signed.as_bytes(), &decode(signature)?)
            .map_err(|_| BadToken::BadSignature)?;
        let claims = decode(claims)?;
        // An object (RFC 7519 section 4): a list of the same values would be read as well.
        let begin = claims.iter().find(|byte| !byte.is_ascii_whitespace());
        if begin != Some(&b'{') {
            return Err(BadToken::BadClaims);
        }
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| BadToken::BadClaims)?;
        claims.bearer(now)
    }
}

impl Claims {
    fn bearer(self, now: u64) -> Result<Bearer, BadToken> {
        // A zero is as good as nothing: libraries write one where no time is set.
        let time = |seconds: Option<f64>| match seconds.filter(|seconds| *seconds != 0.0) {
            Some(seconds) if !(0.0..=1e15).contains(&seconds) => Err(BadToken::BadClaims),
            Some(seconds) => Ok(Some((seconds * 1e3) as u64)),
            None => Ok(None),
        };
        let expires = time(self.exp)?;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(BadToken::Expired);
        }
        if time(self.nbf)?.max(time(self.iat)?).is_some_and(|begins| begins > now) {
            return Err(BadToken::TooEarly);
        }
        let audiences = match self.aud {
            Some(Audiences::One(name)) => vec![name],
            Some(Audiences::Some(names)) => names,
            None => Vec::new(),
        };
        Ok(Bearer { audiences, email: self.email.filter(|email| !email.is_empty()), expires })
    }
}

/// The token of a request.
///
/// # Errors
///
/// When there is none.
pub(super) fn presented(headers: &HeaderMap) -> Result<&str, BadToken> {
    let field = headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
    field.and_then(|field| field.strip_prefix("Bearer ")).ok_or(BadToken::Missing)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, SECRET, mint};
    use super::*;
    use serde_json::{Value, json};

    fn judged(claims: &Value) -> Result<Bearer, BadToken> {
        Secret::new(SECRET).verify(&mint(SECRET, &json!({"alg": "HS256"}), claims), NOW)
    }

    #[test]
    fn a_token_names_audiences_and_whose_it_is() {
        let claims = json!({"aud": "a.example", "email": "a@b", "app_metadata": {}, "role": 1});
        let bearer = judged(&claims).unwrap();
        let audiences = vec!["a.example".to_owned()];
        assert_eq!(bearer, Bearer { audiences, email: Some("a@b".into()), expires: None });
        let both = judged(&json!({"aud": ["a", "b"], "exp": NOW / 1000 + 1})).unwrap();
        assert_eq!(both.audiences, ["a", "b"]);
        assert_eq!(both.expires, Some(NOW + 1000));
        assert!(judged(&json!({"email": ""})).unwrap().audiences.is_empty());
    }

    #[test]
    fn times_count_where_there_are_any() {
        let seconds = NOW / 1000;
        for good in [
            json!({"exp": seconds + 1, "iat": seconds, "nbf": seconds}),
            json!({"exp": 0, "iat": 0, "nbf": null}),
            json!({"iat": seconds as f64 - 0.5}),
        ] {
            assert!(judged(&good).is_ok(), "{good}");
        }
        for (bad, cause) in [
            (json!({"exp": seconds}), BadToken::Expired),
            (json!({"nbf": seconds + 1}), BadToken::TooEarly),
            (json!({"iat": seconds + 1}), BadToken::TooEarly),
            (json!({"exp": "never"}), BadToken::BadClaims),
            (json!({"exp": -1}), BadToken::BadClaims),
            (json!({"exp": 1e300}), BadToken::BadClaims),
            (json!({"aud": 1}), BadToken::BadClaims),
            (json!({"aud": ["a", 1]}), BadToken::BadClaims),
            (json!(["a"]), BadToken::BadClaims),
        ] {
            assert_eq!(judged(&bad), Err(cause), "{bad}");
        }
    }

    #[test]
    fn only_hs256_under_the_secret_counts() {
        let secret = Secret::new(SECRET);
        let (header, claims) = (json!({"alg": "HS256"}), json!({"aud": "a"}));
        let good = mint(SECRET, &header, &claims);
        assert!(secret.verify(&good, NOW).is_ok());
        let bad = |token: &str, cause| assert_eq!(secret.verify(token, NOW), Err(cause), "{token}");
        bad(&mint("another", &header, &claims), BadToken::BadSignature);
        for algorithm in ["none", "HS512", "hs256", ""] {
            let token = mint(SECRET, &json!({ "alg": algorithm }), &claims);
            bad(&token, BadToken::OtherAlgorithm);
        }
        let (signed, _) = good.rsplit_once('.').unwrap();
        bad(&format!("{signed}."), BadToken::BadSignature);
        for token in ["", ".", "..", "a.b", "a.b.c", "é.é.é", signed, &format!("{good}.x")] {
            bad(token, BadToken::Unreadable);
        }
        bad(&"x".repeat(TOKEN_BYTES_MAX + 1), BadToken::TooLong);
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_token_comes_as_bearer_in_this_spelling() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            presented(&headers).map(str::to_owned)
        };
        assert_eq!(with("Bearer x.y.z"), Ok("x.y.z".to_owned()));
        for value in ["bearer x.y.z", "Basic x", "x.y.z", "Bearer", ""] {
            assert_eq!(with(value), Err(BadToken::Missing), "{value}");
        }
        assert_eq!(presented(&HeaderMap::new()), Err(BadToken::Missing));
    }
}
