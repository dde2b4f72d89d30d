//! Lists of origins (RFC 6454) that the operator writes: who may read answers, and from which pages
//! a cookie may publish. Knows neither CORS nor cookies.

use http::header::HeaderValue;
use url::Url;

/// An entry of the list of origins that cannot be an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{origin:?} is no origin: expected scheme://host[:port] with at most one `*` as a host label \
     or port, `null`, or `*`"
)]
pub struct BadOrigin {
    /// The entry.
    pub origin: String,
}

/// A list of origins.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    listed: Vec<Pattern>,
    /// `*`: everybody who is not in the list.
    pub(crate) everybody: bool,
}

#[derive(Debug)]
enum Pattern {
    Exact(String),
    /// What stands before and behind the `*`.
    Wildcard(String, String),
}

impl Pattern {
    fn parse(text: &str) -> Option<Pattern> {
        let origin = text.to_ascii_lowercase();
        if origin == "null" {
            return Some(Pattern::Exact(origin));
        }
        let (_, authority) = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty())?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]*".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(plain) {
            return None;
        }
        match origin.split_once('*') {
            None => Some(Pattern::Exact(origin)),
            Some((before, after)) => {
                let label = before.ends_with("://") && after.starts_with('.') && after.len() > 1;
                let port = before.ends_with(':') && after.is_empty();
                ((label || port) && !after.contains('*'))
                    .then(|| Pattern::Wildcard(before.to_owned(), after.to_owned()))
            }
        }
    }

    /// Origins in a header are lower case and never end in a slash (RFC 6454 section 6).
    fn covers(&self, origin: &str) -> bool {
        match self {
            Pattern::Exact(listed) => listed == origin,
            Pattern::Wildcard(before, after) => origin
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(after.as_str()))
                .is_some_and(|rest| {
                    // Without `:`, `/` and `@`: the wildcard stays inside host or port.
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                    !rest.is_empty() && rest.bytes().all(plain)
                }),
        }
    }
}

impl Origins {
    /// Reads a list: `scheme://host[:port]` with at most one `*` as the first label or the port,
    /// `null`, or `*`.
    ///
    /// # Errors
    ///
    /// Which entry is none of these.
    pub(crate) fn new(origins: &[String]) -> Result<Origins, BadOrigin> {
        let mut list = Origins::default();
        for origin in origins {
            if origin == "*" {
                list.everybody = true;
            } else {
                let pattern = Pattern::parse(origin);
                list.listed.push(pattern.ok_or_else(|| BadOrigin { origin: origin.clone() })?);
            }
        }
        Ok(list)
    }

    /// The same list and the origin of this URL.
    pub(super) fn and_of(mut self, url: &Url) -> Origins {
        self.listed.push(Pattern::Exact(url.origin().ascii_serialization()));
        self
    }

    /// Whether nothing at all is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty() && !self.everybody
    }

    /// Whether an entry other than `*` covers this origin.
    pub(crate) fn lists(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.names(origin))
    }

    /// The same for text.
    pub(super) fn names(&self, origin: &str) -> bool {
        self.listed.iter().any(|pattern| pattern.covers(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_no_origins_are_refused() {
        for bad in [
            "",
            "example.com",
            "https://",
            "://x",
            "https://e.com/",
            "https://e.com/path",
            "https://*",
            "https://a*.e.com",
            "https://*.*.e.com",
            "https://*.",
            "https://user@e.com",
            "https://e.com?x",
        ] {
            let listed = Origins::new(&[bad.to_owned()]);
            assert_eq!(listed.unwrap_err().origin, bad);
        }
    }
}
