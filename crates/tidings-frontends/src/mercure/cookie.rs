//! Tokens in cookies (RFC 6265), and from where a cookie may publish: a browser sends one along
//! with whatever any page makes it send. Knows no token's content.

use http::header::{self, HeaderMap};
use url::Url;

use super::origins::Origins;
use super::refusal::Refusal;
use crate::limits::ORIGIN_SHOWN_BYTES_MAX;

/// The cookie that hubs of protocol 0.x read.
const DRAFT_NAME: &str = "mercureAuthorization";

/// Which cookies carry tokens.
#[derive(Debug)]
pub(super) struct Cookies {
    /// The cookie of protocol 1.0; `None` when no cookie is read at all.
    name: Option<String>,
    /// Whether that of 0.x is read behind it.
    has_draft: bool,
}

impl Cookies {
    /// The cookie of this name, and that of 0.x where some issuer accepts its tokens.
    pub(super) fn new(name: Option<String>, has_draft: bool) -> Cookies {
        Cookies { name, has_draft }
    }

    /// The token's bytes, if a cookie carries one. The configured name comes before that of 0.x,
    /// whatever the two say: which rules apply is the token's issuer's matter, not the name's.
    pub(super) fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        let name = self.name.as_deref()?;
        let draft = || self.has_draft.then(|| first(headers, DRAFT_NAME)).flatten();
        first(headers, name).or_else(draft)
    }
}

/// The value of the first cookie of this name. Browsers send the one with the longest path first
/// (RFC 6265 section 5.4), so it is the one that was meant for this hub. Fields may be split
/// anywhere (RFC 9113 section 8.2.3), and a head has no more of them than its bytes allow: they
/// are only looked at, never copied.
fn first<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (found, value) = pair.split_at(equals);
            let value = value.strip_prefix(b"=")?.trim_ascii();
            (found.trim_ascii() == name.as_bytes()).then(|| unquoted(value))
        })
}

/// A value may stand in quotes, which are not part of it for whoever reads tokens.
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// Refuses a publication by cookie that a foreign page made: `Origin` says who asks, or else
/// `Referer`; one of them has to. `null` stands for many, so it counts only where it is listed.
pub(super) fn check_origin(headers: &HeaderMap, allowed: &Origins) -> Result<(), Refusal> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (Some(_), Some(_)) => return Err(Refusal::ForeignPage("several origins".to_owned())),
        (Some(origin), None) => origin.to_str().ok().map(str::to_ascii_lowercase),
        (None, _) => {
            let mut pages = headers.get_all(header::REFERER).iter();
            match (pages.next(), pages.next()) {
                (None, _) => return Err(Refusal::NoOrigin),
                (Some(_), Some(_)) => {
                    return Err(Refusal::ForeignPage("several referers".to_owned()));
                }
                (Some(page), None) => page.to_str().ok().and_then(origin_of),
            }
        }
    };
    let origin = origin.unwrap_or_default();
    let everybody = allowed.everybody && origin.contains("://");
    if everybody || allowed.names(&origin) {
        return Ok(());
    }
    Err(Refusal::ForeignPage(shown(&origin)))
}

/// The origin of a page's address as browsers write it: right at its beginning, without a user's
/// name and without anything that a parser would have to put right.
fn origin_of(page: &str) -> Option<String> {
    let origin = Url::parse(page).ok()?.origin();
    let origin = origin.is_tuple().then(|| origin.ascii_serialization())?;
    let rest = page.get(origin.len()..)?;
    let begins = page.get(..origin.len())?.eq_ignore_ascii_case(&origin);
    (begins && (rest.is_empty() || rest.starts_with(['/', '?', '#']))).then_some(origin)
}

/// An origin for the log, if it looks like one.
fn shown(origin: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte);
    if origin.len() <= ORIGIN_SHOWN_BYTES_MAX && !origin.is_empty() && origin.bytes().all(plain) {
        origin.to_owned()
    } else {
        "an origin that cannot be read".to_owned()
    }
}

/// Reads `bytes` as the head of a publication: each line is a `Cookie` field. For fuzzing.
pub(super) fn fuzz(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(crate::limits::HEADERS_MAX) {
        if let Ok(value) = http::HeaderValue::from_bytes(line) {
            headers.append(header::COOKIE, value.clone());
            headers.insert(header::REFERER, value);
        }
    }
    for has_draft in [true, false] {
        let cookies = Cookies::new(Some("name".to_owned()), has_draft);
        let token = cookies.token(&headers).unwrap_or_default();
        assert!(!token.contains(&b';'), "a value ends with its cookie");
    }
    assert!(check_origin(&headers, &Origins::default()).is_err(), "nothing is listed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: &header::HeaderName, fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(name, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        headers
    }

    fn check(fields: &[&str], expected: Option<&str>) {
        let cookies = Cookies::new(Some("__Secure-t".to_owned()), true);
        let headers = headers(&header::COOKIE, fields);
        let found = cookies.token(&headers).map(|token| std::str::from_utf8(token).unwrap());
        assert_eq!(found, expected, "{fields:?}");
    }

    #[test]
    fn m36_the_first_cookie_of_the_configured_name_carries_the_token() {
        check(&["__Secure-t=a"], Some("a"));
        check(&["x=1; __Secure-t=a; y=2"], Some("a"));
        check(&["x=1;__Secure-t=a;__Secure-t=b"], Some("a"));
        check(&["x=1", "__Secure-t=a", "__Secure-t=b"], Some("a"));
        check(&[" __Secure-t = a "], Some("a"));
        check(&["__Secure-t=\"a\""], Some("a"));
        check(&["__Secure-t=\"a"], Some("\"a"));
        check(&["__Secure-t=a=b"], Some("a=b"));
        check(&["__Secure-t="], Some(""));
        for none in ["", ";;;", "__Secure-t", "__secure-t=a", "x__Secure-t=a", "x=__Secure-t=a"] {
            check(&[none], None);
        }
    }

    #[test]
    fn the_configured_name_comes_before_that_of_0_x_in_whatever_order_they_are_sent() {
        check(&["mercureAuthorization=a"], Some("a"));
        check(&["mercureAuthorization=a; __Secure-t=b"], Some("b"));
        check(&["mercureAuthorization=a", "__Secure-t=b"], Some("b"));
        let headers = headers(&header::COOKIE, &["mercureAuthorization=a"]);
        let final_only = Cookies::new(Some("__Secure-t".to_owned()), false);
        assert_eq!(final_only.token(&headers), None, "no issuer accepts 0.x");
        assert_eq!(Cookies::new(None, true).token(&headers), None, "switched off");
    }

    #[test]
    fn a_token_is_found_behind_a_thousand_cookies() {
        let mut many: String = (0..1_000).map(|number| format!("c{number}=v; ")).collect();
        many.push_str("__Secure-t=a");
        check(&[&many], Some("a"));
        let split: Vec<&str> = many.split("; ").collect();
        check(&split, Some("a"));
    }

    fn allowed(list: &[&str]) -> Origins {
        let list: Vec<String> = list.iter().map(|origin| (*origin).to_owned()).collect();
        let hub = Url::parse("https://hub.example/.well-known/mercure").unwrap();
        Origins::new(&list).unwrap().and_of(&hub)
    }

    #[test]
    fn m38_only_pages_of_allowed_origins_publish_with_a_cookie() {
        let list = allowed(&["https://app.example", "https://*.e.com"]);
        for good in ["https://hub.example", "https://app.example", "https://a.e.com"] {
            let origin = headers(&header::ORIGIN, &[good]);
            assert!(check_origin(&origin, &list).is_ok(), "{good}");
            let referer = headers(&header::REFERER, &[&format!("{good}/page?x#y")]);
            assert!(check_origin(&referer, &list).is_ok(), "{good}");
        }
        for bad in [
            "https://evil.example",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://e.com",
            "null",
            "*",
            "é",
        ] {
            let origin = headers(&header::ORIGIN, &[bad]);
            assert!(check_origin(&origin, &list).is_err(), "{bad}");
            let mut both = origin.clone();
            both.insert(header::REFERER, HeaderValue::from_static("https://app.example/"));
            assert!(check_origin(&both, &list).is_err(), "{bad}: the referer heals nothing");
            let referer = headers(&header::REFERER, &[&format!("{bad}/")]);
            assert!(check_origin(&referer, &list).is_err(), "{bad}");
        }
        assert!(matches!(check_origin(&HeaderMap::new(), &list), Err(Refusal::NoOrigin)));
        let twice = headers(&header::ORIGIN, &["https://app.example", "https://app.example"]);
        assert!(check_origin(&twice, &list).is_err());
        for bad in [
            "data:text/html,x",
            "https://user@app.example/",
            "https://app.example\\@evil.example/",
            "https:\tapp.example/",
            "https:app.example/",
            "https://app.example:443/",
        ] {
            let referer = headers(&header::REFERER, &[bad]);
            assert!(check_origin(&referer, &list).is_err(), "{bad}");
        }
        let twice = headers(&header::REFERER, &["https://app.example/", "https://app.example/"]);
        assert!(check_origin(&twice, &list).is_err());
        let mut empty = headers(&header::REFERER, &["https://app.example/"]);
        empty.insert(header::ORIGIN, HeaderValue::from_static(""));
        assert!(check_origin(&empty, &list).is_err(), "the referer heals nothing");
    }

    #[test]
    fn m38_the_origin_null_publishes_only_where_it_is_listed() {
        let null = headers(&header::ORIGIN, &["null"]);
        assert!(check_origin(&null, &allowed(&["*"])).is_err());
        assert!(check_origin(&null, &allowed(&["null"])).is_ok());
        let any = headers(&header::ORIGIN, &["https://any.example"]);
        assert!(check_origin(&any, &allowed(&["*"])).is_ok());
        assert!(check_origin(&HeaderMap::new(), &allowed(&["*"])).is_err());
    }

    /// Why a publication with these fields is refused.
    fn reason(fields: &[(header::HeaderName, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match check_origin(&headers, &allowed(&["https://app.example"])) {
            Ok(()) => "none".to_owned(),
            Err(Refusal::ForeignPage(page)) => page,
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn m38_the_log_names_the_page_if_it_can_be_read() {
        let (origin, referer) = (header::ORIGIN, header::REFERER);
        let of = |text: &str| reason(&[(header::ORIGIN, text)]);
        let unread = "an origin that cannot be read";
        assert_eq!(of("https://evil.example:81"), "https://evil.example:81");
        for odd in ["https://é.example", "a b", "<script>"] {
            assert_eq!(of(odd), unread, "{odd}");
        }
        let long = |bytes: usize| "x".repeat(bytes);
        assert_eq!(of(&long(ORIGIN_SHOWN_BYTES_MAX)), long(ORIGIN_SHOWN_BYTES_MAX));
        assert_eq!(of(&long(ORIGIN_SHOWN_BYTES_MAX + 1)), unread);
        assert_eq!(reason(&[(referer.clone(), "data:text/html,x")]), unread);
        let good = "https://app.example";
        let several = reason(&[(origin.clone(), good), (origin.clone(), good)]);
        assert_eq!(several, "several origins");
        let several = reason(&[(referer.clone(), good), (referer.clone(), good)]);
        assert_eq!(several, "several referers");
        // No browser sends an empty one: whoever does is asked nothing else.
        assert_eq!(reason(&[(origin, ""), (referer, good)]), unread);
        assert_eq!(reason(&[]), Refusal::NoOrigin.to_string());
    }
}
