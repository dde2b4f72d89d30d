//! How an API key is presented: as a bearer token, in a header of its own, or by HTTP Basic, as
//! OAuth libraries do it (RFC 6749 section 2.3.1). Knows no key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header;

use crate::auth::id_of;

/// The header of its own.
pub(super) const API_KEY: &str = "x-api-key";

/// Why a request presents no key that could be looked at. The client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Presentation {
    /// None at all.
    #[error("no API key was sent in the header Authorization or X-Api-Key")]
    Missing,
    /// More than one: which one counts would be a guess.
    #[error("more than one API key was sent")]
    Repeated,
    /// Something else.
    #[error("the Authorization header has no API key")]
    Unreadable,
    /// By HTTP Basic, with the wrong name.
    #[error("the user name beside the API key is not its id")]
    WrongName,
}

/// A key's text, as a request presents it. Not for a log, so it has no debug output.
pub(super) struct Presented {
    pub(super) text: String,
}

/// The key of a request to exchange it.
pub(super) fn key(headers: &HeaderMap) -> Result<Presented, Presentation> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    match (fields.next(), fields.next(), of_its_own(headers)) {
        (None, _, own) => own,
        (Some(field), None, Err(Presentation::Missing)) => {
            let text = field.to_str().map_err(|_| Presentation::Unreadable)?;
            authorization(text)
        }
        _ => Err(Presentation::Repeated),
    }
}

/// The key in the header of its own.
pub(super) fn of_its_own(headers: &HeaderMap) -> Result<Presented, Presentation> {
    let mut fields = headers.get_all(API_KEY).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Err(Presentation::Missing),
        (Some(_), Some(_)) => Err(Presentation::Repeated),
        // What is no text is no key either.
        (Some(field), None) => {
            Ok(Presented { text: field.to_str().unwrap_or_default().trim().to_owned() })
        }
    }
}

fn authorization(text: &str) -> Result<Presented, Presentation> {
    let (scheme, rest) = text.split_once(' ').ok_or(Presentation::Unreadable)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Presented { text: rest.to_owned() });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Presentation::Unreadable);
    }
    let decoded = STANDARD.decode(rest).map_err(|_| Presentation::Unreadable)?;
    let decoded = String::from_utf8(decoded).map_err(|_| Presentation::Unreadable)?;
    let (name, key) = decoded.split_once(':').ok_or(Presentation::Unreadable)?;
    match id_of(key) {
        Some(id) if id != name => Err(Presentation::WrongName),
        _ => Ok(Presented { text: key.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn presented(pairs: &[(&'static str, &str)]) -> Result<String, Presentation> {
        key(&headers(pairs)).map(|presented| presented.text)
    }

    #[test]
    fn a_key_is_presented_once_in_one_of_three_ways() {
        let id = "0123456789abcdef";
        let whole = format!("tk_{id}_{}", "a".repeat(43));
        let basic = |name: &str| format!("Basic {}", STANDARD.encode(format!("{name}:{whole}")));
        assert_eq!(presented(&[("authorization", &format!("bearer {whole}"))]), Ok(whole.clone()));
        assert_eq!(presented(&[("x-api-key", &whole)]), Ok(whole.clone()));
        assert_eq!(presented(&[("authorization", &basic(id))]), Ok(whole.clone()));
        assert_eq!(
            presented(&[("authorization", &basic("someone"))]),
            Err(Presentation::WrongName)
        );
        assert_eq!(presented(&[]), Err(Presentation::Missing));
        for bad in ["Basic !!!!", "Basic YQ==", "Digest a", "x"] {
            assert_eq!(
                presented(&[("authorization", bad)]),
                Err(Presentation::Unreadable),
                "{bad}"
            );
        }
        for twice in [
            [("authorization", "Bearer a"), ("authorization", "Bearer a")],
            [("authorization", "Bearer a"), ("x-api-key", "a")],
            [("x-api-key", "a"), ("x-api-key", "a")],
        ] {
            assert_eq!(presented(&twice), Err(Presentation::Repeated), "{twice:?}");
        }
    }
}
