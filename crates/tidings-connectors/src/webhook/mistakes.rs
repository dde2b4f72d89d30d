//! What is wrong with what a webhook is told, beyond the form that each option has. Knows no file:
//! whoever read one knows where each option stands in it.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::options::Options;
use super::signature::{self, SigningSecret};
use crate::limits::{
    ALLOWED_NETWORKS_MAX, EXCHANGE_TIMEOUT_MAX, HEADER_NAME_BYTES_MAX, HEADER_VALUE_BYTES_MAX,
    HEADERS_MAX, REQUEST_BYTES_MAX, SIGNING_KEYS_MAX, SUCCESS_STATUSES_MAX, URL_BYTES_MAX,
};
use crate::specification::{BadOption, Span};

/// Headers that the hub or the connection sets.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Begins of headers that the hub sets.
const RESERVED_BEGINS: [&str; 3] = ["webhook-", "ce-", "tidings-"];

/// A mistake without a hint.
pub(super) fn bad(path: &str, message: impl Into<String>) -> BadOption {
    BadOption { path: path.to_owned(), message: message.into(), hint: None, is_unknown: false }
}

/// A mistake, and what to do about it.
pub(super) fn hinted(path: &str, message: impl Into<String>, hint: &str) -> BadOption {
    BadOption { hint: Some(hint.to_owned()), ..bad(path, message) }
}

/// All that is wrong with `options`.
pub(super) fn of(options: &Options) -> Vec<BadOption> {
    let mut found = Vec::new();
    found.extend(url(&options.url));
    found.extend(options.content_type.as_deref().and_then(content_type));
    headers(options, &mut found);
    credentials(options, &mut found);
    keys(&options.secrets, &mut found);
    if options.success.len() > SUCCESS_STATUSES_MAX {
        found.push(bad("success", format!("more than {SUCCESS_STATUSES_MAX} statuses")));
    }
    if let Some(status) = options.success.iter().find(|status| !(200..600).contains(*status)) {
        found.push(bad("success", format!("{status} is no final status: they are 200 to 599")));
    }
    found.extend(span("timeout", options.timeout));
    found.extend(span("connect_timeout", options.connect_timeout));
    if options.allow.len() > ALLOWED_NETWORKS_MAX {
        found.push(bad("allow", format!("more than {ALLOWED_NETWORKS_MAX} networks")));
    }
    if !(1..=REQUEST_BYTES_MAX).contains(&options.body_size_max) {
        found.push(bad("body_size_max", format!("must be 1 to {REQUEST_BYTES_MAX} bytes")));
    }
    found
}

/// What only the operator may say.
pub(super) fn of_a_stranger(options: &Options) -> Vec<BadOption> {
    let mut found = Vec::new();
    if !options.allow.is_empty() {
        let message = "which internal networks endpoints may reach is the operator's to say";
        found.push(hinted("allow", message, "the operator sets `allow` of `[webhooks]`"));
    }
    if options.ca_file.is_some() {
        let message = "an endpoint cannot name a file of the hub's machine";
        found.push(hinted("ca_file", message, "sinks in the hub's configuration can"));
    }
    found
}

fn url(text: &str) -> Option<BadOption> {
    if text.len() > URL_BYTES_MAX {
        return Some(bad("url", format!("longer than {URL_BYTES_MAX} bytes")));
    }
    let example = "url = \"https://shop.example.com/webhook\"";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return Some(hinted("url", format!("is no URL: {error}"), example)),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Some(hinted("url", "must begin with https:// or http://", example));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "basic = { user = \"…\", password = \"…\" }";
        return Some(hinted("url", "a user name does not belong into a URL", hint));
    }
    None
}

fn content_type(text: &str) -> Option<BadOption> {
    let is_type = text.contains('/') && is_value(text);
    (!is_type)
        .then(|| hinted("content_type", "is no media type", "content_type = \"application/json\""))
}

fn span(path: &str, span: Span) -> Option<BadOption> {
    let most = Span(EXCHANGE_TIMEOUT_MAX);
    (span.0 == Duration::ZERO || span > most)
        .then(|| bad(path, format!("must be longer than 0 and no longer than {most}")))
}

fn headers(options: &Options, found: &mut Vec<BadOption>) {
    if options.headers.len() > HEADERS_MAX {
        found.push(bad("headers", format!("more than {HEADERS_MAX} headers")));
        return;
    }
    let mut names = BTreeSet::new();
    for (name, value) in &options.headers {
        let path = format!("headers.{}", shown(name));
        match header_name(name) {
            Err(wrong) => found.push(wrong),
            Ok(name) if is_reserved(name.as_str()) => {
                let hint = (name == "content-type").then(|| "set `content_type`".to_owned());
                let message = "the hub sets this header itself";
                found.push(BadOption { hint, ..bad(&path, message) });
            }
            Ok(name) if !names.insert(name.as_str().to_owned()) => {
                found.push(bad(&path, "stands there twice: names are the same in any case"));
            }
            Ok(_) if !is_value(value.expose()) => {
                let most = HEADER_VALUE_BYTES_MAX;
                let message = format!("its value must be printable ASCII, at most {most} bytes");
                found.push(bad(&path, message));
            }
            Ok(_) => {}
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, BadOption> {
    if name.len() > HEADER_NAME_BYTES_MAX {
        return Err(bad("headers", format!("a name longer than {HEADER_NAME_BYTES_MAX} bytes")));
    }
    let message = || format!("{name:?} cannot be the name of a header");
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("headers", message()))
}

/// A name in a path: never more than one line, and not long.
fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(HEADER_NAME_BYTES_MAX).collect()
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_BEGINS.iter().any(|begin| name.starts_with(begin))
}

/// Whether it can stand in a header that everybody reads alike: printable ASCII, blanks and tabs.
/// No line break above all, which would begin another header.
pub(super) fn is_value(text: &str) -> bool {
    text.is_ascii() && text.len() <= HEADER_VALUE_BYTES_MAX && HeaderValue::from_str(text).is_ok()
}

fn credentials(options: &Options, found: &mut Vec<BadOption>) {
    let own = options.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
    let ways = [options.basic.is_some(), options.bearer.is_some(), own];
    if ways.iter().filter(|is_set| **is_set).count() > 1 {
        let message = "basic, bearer and a header `authorization` exclude each other";
        let path = if options.bearer.is_some() { "bearer" } else { "basic" };
        found.push(bad(path, message));
    }
    let is_long = |text: &str| text.len() > HEADER_VALUE_BYTES_MAX / 2;
    if let Some(basic) = &options.basic {
        let user = &basic.user;
        if user.contains(|character: char| character == ':' || character.is_control()) {
            let message = "a user's name has neither colons nor control characters";
            found.push(bad("basic.user", message));
        }
        match &basic.password {
            None => {
                let hint = "it may be empty: password = \"\"";
                found.push(hinted("basic.password", "is missing", hint));
            }
            Some(password) if password.expose().contains(char::is_control) => {
                found.push(bad("basic.password", "a password has no control characters"));
            }
            Some(password) if is_long(user) || is_long(password.expose()) => {
                found.push(bad("basic", "the name or the password is too long"));
            }
            Some(_) => {}
        }
    }
    // RFC 6750 section 2.1.
    let is_token = |text: &str| {
        let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        !text.is_empty() && !is_long(text) && text.bytes().all(in_token)
    };
    if options.bearer.as_ref().is_some_and(|token| !is_token(token.expose())) {
        let message = "a token is letters, digits and -._~+/= without blanks, and not empty";
        found.push(bad("bearer", message));
    }
}

fn keys(secrets: &[SigningSecret], found: &mut Vec<BadOption>) {
    if secrets.len() > SIGNING_KEYS_MAX {
        found.push(bad("secrets", format!("more than {SIGNING_KEYS_MAX} signing keys")));
        return;
    }
    for (at, secret) in secrets.iter().enumerate() {
        if let Err(error) = signature::check(&secret.key) {
            found.push(bad(&format!("secrets[{at}]"), error.to_string()));
        }
    }
    if !secrets.is_empty() && secrets.iter().all(|secret| secret.until.is_some()) {
        let message = "all keys end: what is sent later could not be signed";
        found.push(hinted("secrets", message, "leave out `until` of the newest"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::webhook::options::Basic;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn options() -> Options {
        Options::new("https://shop.example/hook")
    }

    fn paths(options: &Options) -> Vec<String> {
        of(options).into_iter().map(|bad| bad.path).collect()
    }

    #[test]
    fn urls_are_those_of_http() {
        for good in ["http://a", "https://[::1]:8/x?y#z", "HTTPS://EXAMPLE.COM"] {
            assert_eq!(paths(&Options::new(good)), [""; 0], "{good}");
        }
        let long = format!("https://a/{}", "x".repeat(URL_BYTES_MAX));
        for wrong in ["", "shop", "/hook", "ftp://a/", "file:///etc/passwd", "https://", &long] {
            assert_eq!(paths(&Options::new(wrong)), ["url"], "{wrong}");
        }
        let bad = of(&Options::new("https://user:hunter2@a/"));
        assert!(bad[0].hint.as_ref().unwrap().contains("basic"));
        assert!(!format!("{bad:?}").contains("hunter2"));
    }

    #[test]
    fn no_header_brings_another_one_or_replaces_what_the_hub_sets() {
        for (name, value) in [
            ("x\r\nevil", "1"),
            ("x: 1\r\nevil", "1"),
            ("", "1"),
            ("x y", "1"),
            ("é", "1"),
            ("x", "1\r\nevil: 1"),
            ("x", "1\nevil: 1"),
            ("x", "1\0"),
            ("x", "é"),
            ("Host", "a"),
            ("content-length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("content-type", "text/plain"),
            ("Webhook-Id", "1"),
            ("webhook-signature", "v1,x"),
            ("CE-Id", "1"),
            ("tidings-topic", "a"),
        ] {
            let mut options = options();
            options.headers.insert(name.to_owned(), Secret::new(value));
            let bad = of(&options);
            assert_eq!(bad.len(), 1, "{name:?}: {value:?}: {bad:?}");
            assert!(bad[0].path.starts_with("headers"));
            assert!(!bad[0].path.contains(['\r', '\n']) && !bad[0].message.contains(['\r', '\n']));
            assert!(value.len() < 4 || !format!("{bad:?}").contains(value), "{bad:?}");
        }
    }

    #[test]
    fn headers_are_bounded_and_stand_once() {
        let many = |count: usize| {
            let header = |at: usize| (format!("x-{at}"), Secret::new("1"));
            Options { headers: (0..count).map(header).collect(), ..options() }
        };
        assert_eq!(paths(&many(HEADERS_MAX)), [""; 0]);
        assert_eq!(paths(&many(HEADERS_MAX + 1)), ["headers"]);
        let mut twice = options();
        twice.headers.insert("X-A".to_owned(), Secret::new("1"));
        twice.headers.insert("x-a".to_owned(), Secret::new("1"));
        assert_eq!(paths(&twice), ["headers.x-a"]);
        let mut long = options();
        long.headers.insert("x".to_owned(), Secret::new("1".repeat(HEADER_VALUE_BYTES_MAX + 1)));
        long.headers.insert("y".repeat(HEADER_NAME_BYTES_MAX + 1), Secret::new("1"));
        assert_eq!(paths(&long), ["headers.x", "headers"]);
    }

    #[test]
    fn credentials_are_one_and_whole() {
        let basic = |user: &str, password: Option<&str>| {
            let password = password.map(Secret::new);
            Options { basic: Some(Basic { user: user.to_owned(), password }), ..options() }
        };
        let bearer = |token: &str| Options { bearer: Some(Secret::new(token)), ..options() };
        for (options, expected) in [
            (basic("", Some("")), None),
            (basic("é", Some(":")), None),
            (basic("a:b", Some("")), Some("basic.user")),
            (basic("a\n", Some("")), Some("basic.user")),
            (basic("a", Some("\r\nx: y")), Some("basic.password")),
            (basic("a", None), Some("basic.password")),
            (basic("a", Some(&"x".repeat(HEADER_VALUE_BYTES_MAX))), Some("basic")),
            (bearer("abc.DEF-_~+/=="), None),
            (bearer(""), Some("bearer")),
            (bearer("a b"), Some("bearer")),
            (bearer("a\r\nx: y"), Some("bearer")),
            (bearer(&"x".repeat(HEADER_VALUE_BYTES_MAX)), Some("bearer")),
            (Options { bearer: Some(Secret::new("a")), ..basic("a", Some("")) }, Some("bearer")),
        ] {
            assert_eq!(paths(&options), expected.map_or(Vec::new(), |path| vec![path]));
        }
        let mut both = bearer("a");
        both.headers.insert("Authorization".to_owned(), Secret::new("Token x"));
        assert_eq!(paths(&both), ["bearer"]);
        let mut own = options();
        own.headers.insert("Authorization".to_owned(), Secret::new("Token x"));
        assert_eq!(paths(&own), [""; 0]);
    }

    #[test]
    fn signing_keys_are_keys_and_one_of_them_stays() {
        let secret = |key: &str, until| SigningSecret { key: Secret::new(key), until };
        let with = |secrets| Options { secrets, ..options() };
        assert_eq!(paths(&with(vec![secret(KEY, None), secret(KEY, Some(1))])), [""; 0]);
        assert_eq!(paths(&with(vec![secret(KEY, Some(1))])), ["secrets"]);
        assert_eq!(paths(&with(vec![secret(KEY, None), secret("whsec_x", None)])), ["secrets[1]"]);
        assert_eq!(paths(&with(vec![secret(KEY, None); SIGNING_KEYS_MAX + 1])), ["secrets"]);
    }

    #[test]
    fn numbers_have_bounds() {
        let second = Span(Duration::from_secs(1));
        let (none, long) = (Span(Duration::ZERO), Span(EXCHANGE_TIMEOUT_MAX * 2));
        for (options, expected) in [
            (Options { success: vec![200, 302, 599], ..options() }, None),
            (Options { success: vec![100], ..options() }, Some("success")),
            (Options { success: vec![600], ..options() }, Some("success")),
            (Options { success: vec![200; 33], ..options() }, Some("success")),
            (Options { timeout: second, ..options() }, None),
            (Options { timeout: none, ..options() }, Some("timeout")),
            (Options { timeout: long, ..options() }, Some("timeout")),
            (Options { connect_timeout: none, ..options() }, Some("connect_timeout")),
            (Options { body_size_max: 0, ..options() }, Some("body_size_max")),
            (Options { body_size_max: REQUEST_BYTES_MAX + 1, ..options() }, Some("body_size_max")),
            (Options { content_type: Some("json".into()), ..options() }, Some("content_type")),
            (
                Options { content_type: Some("a/b\r\nx: y".into()), ..options() },
                Some("content_type"),
            ),
            (
                Options { allow: vec!["10.0.0.0/8".parse().unwrap(); 65], ..options() },
                Some("allow"),
            ),
        ] {
            assert_eq!(paths(&options), expected.map_or(Vec::new(), |path| vec![path]));
        }
    }

    #[test]
    fn a_stranger_names_no_file_and_opens_no_network() {
        let options = Options {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            ca_file: Some("/etc/shadow".into()),
            ..options()
        };
        assert_eq!(paths(&options), [""; 0]);
        let over_api: Vec<String> =
            options.problems_over_api().into_iter().map(|bad| bad.path).collect();
        assert_eq!(over_api, ["allow", "ca_file"]);
    }
}
