//! What of a request's target may stand in a log. Knows the names of parameters, not their meaning.

use std::borrow::Cow;
use std::fmt::Write;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::limits::{
    DOTTED_BYTES_SHOWN_MAX, METHOD_BYTES_SHOWN_MAX, SEGMENT_BYTES_SHOWN_MAX, TARGET_BYTES_MAX,
};

/// Parameters whose values are shown, because they say what a client asked for and are not
/// secrets. Every other value, and every name that is not one of these, is left out: a token can
/// stand anywhere in a hand-made URL.
const SHOWN: [&str; 6] =
    ["topic", "match", "last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"];
/// Segments of a path that are shown in any case: the hub's own path and what is asked of it. What
/// comes behind may name topics.
const SEGMENTS_SHOWN: usize = 3;
/// How parameters begin that name a matcher of another type than `match`.
const MATCHER_PREFIX: &str = "match_";

/// A method, shortened. It is ASCII by its syntax (RFC 9110 section 5.6.2).
pub(super) fn shortened(method: &Method) -> String {
    match method.as_str().get(..METHOD_BYTES_SHOWN_MAX) {
        Some(start) if start != method.as_str() => format!("{start}…"),
        _ => method.to_string(),
    }
}

/// The path and what is not secret of the query, shortened, in printable ASCII. Without `topics` no
/// value of a parameter is shown, nor what a path names behind its first three segments.
pub fn redacted(target: &Uri, topics: bool) -> String {
    let mut shown = String::new();
    for (at, segment) in target.path().split('/').enumerate() {
        if shown.len() >= TARGET_BYTES_MAX {
            shown.push('…');
            break;
        }
        if at > 0 {
            shown.push('/');
        }
        if may_be_token(segment) || (!topics && at > SEGMENTS_SHOWN && !segment.is_empty()) {
            shown.push('…');
        } else {
            push_shortened(&mut shown, segment);
        }
    }
    let mut separator = '?';
    for pair in target.query().into_iter().flat_map(|query| query.split('&')) {
        if shown.len() >= TARGET_BYTES_MAX {
            shown.push('…');
            break;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name: Cow<'_, str> = percent_decode_str(name).decode_utf8_lossy();
        shown.push(separator);
        separator = '&';
        if is_shown(&name) {
            // Writing into a string cannot fail.
            let _ = write!(shown, "{name}=");
            push_shortened(&mut shown, if topics { value } else { "…" });
        } else {
            shown.push('…');
        }
    }
    shown
}

/// Whether a segment of a path looks like a JWT (RFC 7515 section 3.1) or is as long as one.
fn may_be_token(segment: &str) -> bool {
    let decoded: Vec<u8> = percent_decode_str(segment).collect();
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=.".contains(byte);
    let dots = decoded.iter().filter(|byte| **byte == b'.').count();
    let is_dotted = dots == 2 && decoded.iter().all(of_token);
    segment.len() > SEGMENT_BYTES_SHOWN_MAX || (is_dotted && decoded.len() > DOTTED_BYTES_SHOWN_MAX)
}

fn is_shown(name: &str) -> bool {
    let of_matcher = name.strip_prefix(MATCHER_PREFIX);
    SHOWN.contains(&name)
        || of_matcher.is_some_and(|kind| kind.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn push_shortened(shown: &mut String, text: &str) {
    let room = TARGET_BYTES_MAX.saturating_sub(shown.len());
    let fits = |c: &char| c.is_ascii_graphic() || *c == '…';
    shown.extend(text.chars().filter(fits).take(room));
    if text.len() > room {
        shown.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(target: &str) -> String {
        redacted(&target.parse().unwrap(), true)
    }

    #[test]
    fn topics_are_shown_only_where_the_operator_wants_them() {
        let hidden = |target: &str| redacted(&target.parse().unwrap(), false);
        let query = "/hub?topic=secret&match_mqtt=secret&last_event_id=secret&x=y";
        assert_eq!(hidden(query), "/hub?topic=…&match_mqtt=…&last_event_id=…&…");
        let path = "/.well-known/mercure/subscriptions/exact/secret/urn%3Auuid%3A1";
        assert_eq!(hidden(path), "/.well-known/mercure/subscriptions/…/…/…");
        assert_eq!(shown(path), path);
    }

    #[test]
    fn a_token_in_the_target_is_not_shown_in_any_spelling() {
        for name in [
            "authorization",
            "%61uthorization",
            "Authorization",
            "access_token",
            "secret",
            "token",
            "ticket",
        ] {
            assert_eq!(shown(&format!("/hub?topic=a&{name}=secret")), "/hub?topic=a&…");
        }
        assert_eq!(shown("/hub?match_urlpattern=a&match_=b"), "/hub?match_urlpattern=a&match_=b");
        assert_eq!(shown("/hub?secret"), "/hub?…");
        assert_eq!(shown("/hub"), "/hub");
    }

    #[test]
    fn a_token_in_the_path_is_not_shown() {
        let token = "eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0";
        for path in [
            format!("/{token}"),
            format!("/{}", token.replace('.', "%2E")),
            format!("/%65{}", &token[1..]),
            format!("/{}", "s".repeat(65)),
            format!("/{}.js", "s".repeat(65)),
        ] {
            assert_eq!(shown(&path), "/…", "{path}");
            assert_eq!(shown(&format!("/a{path}/b?topic=c")), "/a/…/b?topic=c", "{path}");
        }
        for path in ["/.well-known/mercure", "/page.min.js", "//", "/a/", "/v1.2.3/x"] {
            assert_eq!(shown(path), path);
        }
        assert!(shown(&"/a".repeat(1_000)).len() < 300);
    }

    #[test]
    fn a_long_method_is_cut() {
        let long = Method::from_bytes(b"eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0").unwrap();
        assert_eq!(shortened(&long), "eyJhbGciOiJIUzI1…");
        assert_eq!(shortened(&Method::GET), "GET");
        let fits = Method::from_bytes(b"BASELINE-CONTROL").unwrap();
        assert_eq!(shortened(&fits), "BASELINE-CONTROL");
    }

    #[test]
    fn a_long_target_is_cut() {
        let long = shown(&format!("/hub?topic={}&topic=b", "x".repeat(10_000)));
        assert!(long.len() < 300, "{}", long.len());
        assert!(shown(&format!("/{}", "y".repeat(5_000))).len() < 300);
    }
}
