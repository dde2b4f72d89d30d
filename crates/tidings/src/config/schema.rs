//! Every setting: its path, what it takes, its default, and what it does in a sentence. Checks,
//! variables and the printed reference read this one table, so that they cannot drift apart.

use std::sync::LazyLock;
use std::time::Duration;

use tidings_core::limits::UPDATE_BYTES_DEFAULT;
use tidings_frontends::limits::{
    CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_DEFAULT, HEAD_TIMEOUT_DEFAULT,
    HEARTBEAT_DEFAULT, SHUTDOWN_BUDGET_DEFAULT, STREAM_LIFETIME_DEFAULT, WRITE_TIMEOUT_DEFAULT,
};

pub(super) use super::kind::Kind;
pub(super) use super::paths::{find, general, is_table, members};
use super::{courier, duration, issuers, size, tls, webhooks, websocket};
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

const MIB: u64 = 1024 * 1024;

pub(super) const fn value(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { path, kind, default: Default::Value(default), about }
}

pub(super) const fn bound(
    path: &'static str,
    kind: Kind,
    default: Default,
    about: &'static str,
) -> Key {
    Key { path, kind, default, about }
}

pub(super) const fn unset(
    path: &'static str,
    kind: Kind,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { path, kind, default: Default::Unset(example), about }
}

/// All settings in the order of the reference.
pub(super) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    [HUB, issuers::KEYS, AROUND, &websocket::KEYS, &courier::KEYS, &tls::KEYS, &webhooks::KEYS]
        .concat()
});

/// Settings of the hub itself and of its history.
const HUB: &[Key] = &[
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
    unset(
        "history.hold",
        Kind::SizeOrOff,
        r#""1 GiB""#,
        "How much larger than `keep` the history may become for sinks that have not delivered all of
it yet. Behind that the oldest entries go, and those sinks record a gap. Unset, it is 1 GiB, and
64 MiB for a history in memory; \"off\" keeps nothing for them.",
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
        "The oldest entries go when the history is larger than this. \"off\" sets no bound.
A history in memory keeps 64 MiB where nothing else is written, and where it is \"off\".",
    ),
    value(
        "history.keep.entries",
        Kind::Count,
        r#""off""#,
        "The oldest entries go as long as at least so many of the newest stay. Files are deleted
whole, so some more stay. \"off\" sets no bound.",
    ),
];

/// Settings of the protocols, the listeners and the log.
const AROUND: &[Key] = &[
    value(
        "mercure.cors_origins",
        Kind::Origins,
        "[]",
        "Origins whose pages may subscribe, as in [\"https://app.example.com\"]. One label may be a
wildcard (https://*.example.com), so may the port (http://localhost:*). \"*\" stands for all
others, without credentials.",
    ),
    value(
        "mercure.cookie",
        Kind::CookieOrOff,
        r#""__Secure-mercure_access_token""#,
        "The cookie that may carry a token, where there is no Authorization header. Behind it
mercureAuthorization is read where an issuer accepts \"0.x\". \"off\" reads no cookie.",
    ),
    value(
        "mercure.publish_origins",
        Kind::Origins,
        "[]",
        "Origins whose pages may publish with a token in a cookie, beside the hub's own; written
as in `cors_origins`. \"*\" stands for all but \"null\", and lets every page publish.",
    ),
    bound(
        "mercure.heartbeat",
        Kind::DurationOrOff,
        Default::Span(HEARTBEAT_DEFAULT),
        "Silence after which an idle stream gets a comment. Half of the 30 seconds after which the
most impatient proxies close, so that one may come late. Whose machine has not acknowledged
one when the next is due is gone. \"off\" sends none.",
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
    value(
        "tokens.mercure_info",
        Kind::Boolean,
        "false",
        "Whether /rest/v1 to v3/mercure-info answers as Shlink does, for web clients that present
an API key of this hub (`tidings key create`).",
    ),
    value(
        "tokens.cors_origins",
        Kind::Origins,
        "[]",
        "Origins whose pages may exchange API keys, written as in `mercure.cors_origins`. Usually
none: a key belongs on a server.",
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
        "How long a client may leave its socket full, or what it was sent unacknowledged. It is
cut off then, so that it does not hold its place for ever.",
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
    value(
        "http.proxy_protocol",
        Kind::Networks,
        "[]",
        "Networks of balancers whose connections begin with a PROXY header (version 1 or 2), as in
[\"10.0.0.0/8\"]. Theirs must, and nobody else's header is read.",
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
        "Where the operator's listener is: /livez, /readyz, /metrics, and with a token what
`tidings token revoke` asks for. \"off\" opens none.",
    ),
    unset(
        "admin.token",
        Kind::Secret,
        r#""at least 16 random characters""#,
        "What operators present to change anything there. Unset, nobody can.",
    ),
    unset(
        "admin.token_file",
        Kind::File,
        r#""/run/secrets/admin.token""#,
        "The file with that token.",
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
    value(
        "log.topics",
        Kind::Boolean,
        "false",
        "Whether lines show the topics, patterns and cursors of requests. Tokens are never shown.",
    ),
];

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
        assert_eq!(members("history"), ["path", "durability", "segment_size", "hold", "keep"]);
        assert_eq!(
            members("auth.issuer[].publish"),
            ["key", "key_file", "algorithm", "kid", "jwks", "algorithms"]
        );
        assert!(members("").contains(&"source"));
        assert!(is_table("history.keep"));
        assert!(!is_table("history.path"));
    }

    #[test]
    fn every_setting_is_described_in_short_lines() {
        for key in KEYS.iter() {
            assert!(key.about.ends_with('.'), "{}", key.path);
            for line in key.about.lines() {
                assert!(line.len() <= 98, "{}: {line}", key.path);
            }
        }
    }
}
