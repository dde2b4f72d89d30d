//! Every setting: its path, what it takes, its default, and what it does in a sentence. Checks,
//! variables and the printed reference read this one table, so that they cannot drift apart.

use std::time::Duration;

use tidings_core::limits::UPDATE_BYTES_DEFAULT;
use tidings_frontends::limits::{
    CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_DEFAULT, HEAD_TIMEOUT_DEFAULT,
    HEARTBEAT_DEFAULT, SHUTDOWN_BUDGET_DEFAULT, STREAM_LIFETIME_DEFAULT, WRITE_TIMEOUT_DEFAULT,
};

pub(super) use super::kind::Kind;
use super::{duration, size};
use crate::limits::CONNECTIONS_SETTING_MAX;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Dotted path; `[]` stands for every element of a list of tables.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
    /// What it does, in sentences. Lines of the reference.
    pub(super) about: &'static str,
}

/// What a setting has when nobody sets it. Texts are TOML; what is not a text is a bound that
/// stands with its reason in the `limits` of the part that keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Default {
    Value(&'static str),
    Number(usize),
    Span(Duration),
    Bytes(usize),
    /// Unset; the reference shows an example.
    Unset(&'static str),
    /// Must be set when its table is there; the reference shows an example.
    Required(&'static str),
}

impl Default {
    /// The value in TOML, if there is one.
    pub(super) fn value(self) -> Option<String> {
        match self {
            Default::Value(text) => Some(text.to_owned()),
            Default::Number(number) => Some(number.to_string()),
            Default::Span(span) => Some(format!("\"{}\"", duration::render(span))),
            Default::Bytes(bytes) => {
                Some(format!("\"{}\"", size::render(u64::try_from(bytes).unwrap_or(u64::MAX))))
            }
            Default::Unset(_) | Default::Required(_) => None,
        }
    }
}

/// Tables that may come several times.
pub(super) const LISTS: [&str; 3] = ["auth.issuer", "source", "sink"];

/// Lists whose tables are judged by the connectors' own tables, by the name of the table.
pub(super) const CONNECTORS: [&str; 2] = ["source", "sink"];

/// Algorithms that can verify a token (RFC 7518, RFC 8037).
pub(super) const ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA", "Ed25519",
];

/// Settings that are to come, with what is true until then. Written already, they would promise
/// what nothing keeps.
const NOT_YET: [(&str, &str); 2] = [
    ("mercure.publish_origins", "cookies are not read yet, so no page publishes with one"),
    ("admin.token", "the admin listener has only /livez, /readyz and /metrics, which need none"),
];

const MIB: u64 = 1024 * 1024;

const fn value(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default: Default::Value(default), about }
}

const fn bound(path: &'static str, kind: Kind, default: Default, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

const fn unset(path: &'static str, kind: Kind, example: &'static str, about: &'static str) -> Key {
    Key { path, kind, default: Default::Unset(example), about }
}

/// All settings in the order of the reference.
pub(super) const KEYS: &[Key] = &[
    value(
        "listen",
        Kind::Addresses,
        r#""0.0.0.0:3000""#,
        "Where the hub listens: an address or a list of addresses. Port 0 takes a free port.",
    ),
    unset(
        "public_url",
        Kind::Url,
        r#""https://hub.example.com""#,
        "The URL under which clients reach the hub, without the hub's path. Tokens of protocol 1.0
are made for it, and relative topics and patterns are relative to it. Needed as soon as an
issuer accepts \"1.0\". Unset, it is http://localhost with the port of `listen`.",
    ),
    value(
        "hub_path",
        Kind::UrlPath,
        r#""/.well-known/mercure""#,
        "The path of the Mercure protocol. Topics at or below it belong to the hub.",
    ),
    value(
        "history.path",
        Kind::File,
        r#""/var/lib/tidings""#,
        "The data folder. One hub at a time. Only for durability \"fsync\" and \"written\".",
    ),
    value(
        "history.durability",
        Kind::Choice(&["fsync", "written", "memory"]),
        r#""fsync""#,
        "What an acknowledged update survives. \"fsync\": power loss. \"written\": the end of the
process, not power loss. \"memory\": nothing; there is no file.",
    ),
    value(
        "history.segment_size",
        Kind::Size { min: MIB, max: 64 * MIB },
        r#""64 MiB""#,
        "Size of one file of the history, 1 MiB to 64 MiB. Files are deleted whole, so this is
also the step in which old entries go. Space for one file is reserved in advance.",
    ),
    value(
        "history.keep.age",
        Kind::DurationOrOff,
        r#""7d""#,
        "Entries older than this may go. \"off\" sets no bound.",
    ),
    value(
        "history.keep.size",
        Kind::SizeOrOff,
        r#""10 GiB""#,
        "The oldest entries go when the history is larger than this. \"off\" sets no bound.",
    ),
    value(
        "history.keep.entries",
        Kind::Count,
        r#""off""#,
        "The oldest entries go as long as at least so many of the newest stay. Files are deleted
whole, so some more stay. \"off\" sets no bound.",
    ),
    value(
        "auth.anonymous",
        Kind::Boolean,
        "false",
        "Whether subscribers without a token are served. They get public updates only.",
    ),
    value(
        "auth.allow_weak_keys",
        Kind::Boolean,
        "false",
        "Whether keys that everybody knows are accepted, such as the one in the examples of the
Mercure documentation. For development only.",
    ),
    value(
        "auth.query_token",
        Kind::Boolean,
        "true",
        "Whether a token in the URL (`authorization=`) is read. Only for issuers that accept
\"0.x\"; URLs end up in logs of proxies and in browser histories.",
    ),
    Key {
        path: "auth.issuer[].id",
        kind: Kind::Text,
        default: Default::Required(r#""https://example.com""#),
        about: "Who signs: the `iss` of its tokens, exactly. Tokens of 0.x need not have one.",
    },
    value(
        "auth.issuer[].accept",
        Kind::Choices(&["1.0", "0.x"]),
        r#"["1.0"]"#,
        "The generations of the Mercure protocol whose tokens are accepted. \"0.x\" only where
today's Symfony, API Platform or Shlink signs.",
    ),
    value(
        "auth.issuer[].audience",
        Kind::Texts,
        "[]",
        "Accepted `aud` of its tokens beside the hub's own URL.",
    ),
    unset(
        "auth.issuer[].publish.key",
        Kind::Secret,
        r#""at least 32 random bytes, or PEM""#,
        "The key that verifies publishers' tokens: a secret, or a public key as PEM.",
    ),
    unset(
        "auth.issuer[].publish.key_file",
        Kind::File,
        r#""/run/secrets/publisher.key""#,
        "The file with that key. One newline at its end does not belong to the key.",
    ),
    value(
        "auth.issuer[].publish.algorithm",
        Kind::Choice(&ALGORITHMS),
        r#""HS256""#,
        "The only algorithm that key is used with. To be set for PEM keys.",
    ),
    unset(
        "auth.issuer[].publish.kid",
        Kind::Text,
        r#""2026-01""#,
        "The key's id in token headers. A hint, never a proof.",
    ),
    unset(
        "auth.issuer[].subscribe.key",
        Kind::Secret,
        r#""at least 32 random bytes, or PEM""#,
        "The key that verifies subscribers' tokens.",
    ),
    unset(
        "auth.issuer[].subscribe.key_file",
        Kind::File,
        r#""/run/secrets/subscriber.key""#,
        "The file with that key.",
    ),
    value(
        "auth.issuer[].subscribe.algorithm",
        Kind::Choice(&ALGORITHMS),
        r#""HS256""#,
        "The only algorithm that key is used with.",
    ),
    unset(
        "auth.issuer[].subscribe.kid",
        Kind::Text,
        r#""2026-01""#,
        "The key's id in token headers.",
    ),
    value(
        "mercure.cors_origins",
        Kind::Origins,
        "[]",
        "Origins whose pages may subscribe, as in [\"https://app.example.com\"]. One label may be a
wildcard (https://*.example.com), so may the port (http://localhost:*). \"*\" stands for all
others, without credentials.",
    ),
    bound(
        "mercure.heartbeat",
        Kind::DurationOrOff,
        Default::Span(HEARTBEAT_DEFAULT),
        "Silence after which an idle stream gets a comment. Half of the 30 seconds after which the
most impatient proxies close, so that one may come late. \"off\" sends none.",
    ),
    bound(
        "mercure.connection_age_max",
        Kind::DurationOrOff,
        Default::Span(STREAM_LIFETIME_DEFAULT),
        "How long a stream lives at most, so that streams spread again over machines behind a
balancer. The client reconnects and goes on where it stopped. \"off\" sets no bound.",
    ),
    value(
        "mercure.anonymous_replay_max",
        Kind::Count,
        "10000",
        "Entries that a subscriber without a token gets at most when it asks for the past from
the earliest entry. \"off\" sets no bound.",
    ),
    value(
        "mercure.subscriptions",
        Kind::Boolean,
        "false",
        "Whether who is subscribed is announced and listed, for those whose token grants the topics
of subscriptions. A token with \"*\" does.",
    ),
    bound(
        "mercure.update_size_max",
        Kind::Size { min: 1024, max: 16 * MIB },
        Default::Bytes(UPDATE_BYTES_DEFAULT),
        "Largest data of an update, up to 16 MiB. The body of a publish request may have four times
as many bytes and 64 KiB: what is not plain English grows when a form encodes it.",
    ),
    bound(
        "http.header_timeout",
        Kind::Duration,
        Default::Span(HEAD_TIMEOUT_DEFAULT),
        "How long a client may take to send the head of a request, and how long an idle HTTP/1.1
connection is kept: publishers that reuse one pause between updates.",
    ),
    bound(
        "http.write_timeout",
        Kind::Duration,
        Default::Span(WRITE_TIMEOUT_DEFAULT),
        "How long a client may leave its socket full while there is something for it. It is cut
off then: it would not hear that its token or the hub ends.",
    ),
    bound(
        "http.connections_max",
        Kind::Number { min: 1, max: CONNECTIONS_SETTING_MAX },
        Default::Number(CONNECTIONS_MAX_DEFAULT),
        "Open connections in total; more are refused with 429. Lowered at the start where the limit
of open files does not leave so many.",
    ),
    bound(
        "http.connections_per_address_max",
        Kind::Number { min: 1, max: CONNECTIONS_SETTING_MAX },
        Default::Number(CONNECTIONS_PER_ADDRESS_DEFAULT),
        "Open connections of one address (IPv6: one /64), and its requests at the same time over
HTTP/2; more are refused with 429. An office may be behind one address; name your proxies in
`trusted_proxies`, or all clients are one.",
    ),
    value(
        "http.trusted_proxies",
        Kind::Networks,
        "[]",
        "Networks of your proxies, as in [\"10.0.0.0/8\"]. Only their X-Forwarded-For is believed.",
    ),
    bound(
        "http.shutdown_budget",
        Kind::Duration,
        Default::Span(SHUTDOWN_BUDGET_DEFAULT),
        "Time between the signal to stop and the end. Streams are closed evenly over it. Docker
kills after 10 seconds; give more where yours waits longer.",
    ),
    value(
        "admin.listen",
        Kind::AddressOrOff,
        r#""127.0.0.1:3001""#,
        "Where the operator's listener is: /livez, /readyz, /metrics. \"off\" opens none.",
    ),
    value(
        "log.level",
        Kind::Text,
        r#""info""#,
        "error, warn, info, debug or trace, also for a part: \"info,tidings_core=debug\".",
    ),
    value(
        "log.format",
        Kind::Choice(&["text", "json"]),
        r#""text""#,
        "Lines for people (\"text\") or one JSON object a line (\"json\").",
    ),
];

/// The setting at a concrete path such as `auth.issuer[3].id`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let general = general(path);
    KEYS.iter().find(|key| key.path == general)
}

/// Why a setting has no effect yet, if its path is one of those that are to come.
pub(super) fn not_yet(is_meant: impl Fn(&str) -> bool) -> Option<&'static str> {
    NOT_YET.iter().find(|(path, _)| is_meant(path)).map(|(_, reason)| *reason)
}

/// The path with every index left out: `auth.issuer[].id`.
pub(super) fn general(path: &str) -> String {
    let mut general = String::with_capacity(path.len());
    let mut index = false;
    for c in path.chars() {
        index = if c == '[' { true } else { index && c != ']' };
        if !index || c == '[' {
            general.push(c);
        }
    }
    general
}

/// Names that may stand directly in the table at `path` (general form; empty for the top).
pub(super) fn members(path: &str) -> Vec<&'static str> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let connectors = if path.is_empty() { CONNECTORS.as_slice() } else { &[] };
    let mut names: Vec<&'static str> = KEYS
        .iter()
        .filter_map(|key| key.path.strip_prefix(prefix.as_str()))
        .filter_map(|rest| rest.split(['.', '[']).next())
        .chain(connectors.iter().copied())
        .collect();
    names.dedup();
    names
}

/// Whether a table is at `path` (general form).
pub(super) fn is_table(path: &str) -> bool {
    !members(path).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concrete_paths_lead_to_their_setting() {
        assert_eq!(find("auth.issuer[12].publish.key").unwrap().kind, Kind::Secret);
        assert_eq!(find("listen").unwrap().kind, Kind::Addresses);
        assert!(find("auth.issuer[0]").is_none());
        assert!(find("nothing").is_none());
        assert_eq!(general("sink[3].a[1].b"), "sink[].a[].b");
    }

    #[test]
    fn members_of_tables_are_listed_once() {
        assert_eq!(members("history"), ["path", "durability", "segment_size", "keep"]);
        assert_eq!(members("auth.issuer[].publish"), ["key", "key_file", "algorithm", "kid"]);
        assert!(members("").contains(&"source"));
        assert!(is_table("history.keep"));
        assert!(!is_table("history.path"));
    }

    #[test]
    fn every_setting_is_described_in_short_lines() {
        for key in KEYS {
            assert!(key.about.ends_with('.'), "{}", key.path);
            for line in key.about.lines() {
                assert!(line.len() <= 98, "{}: {line}", key.path);
            }
        }
    }
}
