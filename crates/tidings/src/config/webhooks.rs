//! `[webhooks]`: what endpoints made over the API have in common, and how long attempts are kept.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::load::Meaning;
use super::options::HistoryOptions;
use super::schema::{Key, Kind, unset, value};
use super::{duration, size};

/// Settings of `[webhooks]`.
pub(super) const KEYS: [Key; 5] = [
    unset(
        "webhooks.key_file",
        Kind::File,
        r#""/run/secrets/webhooks.key""#,
        "The file with the key that seals the secrets of endpoints made over the API. Unset, it is
`webhooks.key` in the data folder, made when it is not there. Keep a copy: without it, those
secrets cannot be read.",
    ),
    value(
        "webhooks.allow",
        Kind::Networks,
        "[]",
        "Networks that endpoints made over the API may lead to beside the public ones, as in
[\"10.1.2.0/24\"]. Sinks of this file have their own `allow`.",
    ),
    value(
        "webhooks.undelivered_size_max",
        Kind::SizeOrOff,
        r#""4 GiB""#,
        "What dead letters and copies of what waits for another try may take in all, of endpoints
and of sinks of this file together. Sinks that need more of it wait. \"off\" sets no bound but
those of each sink.",
    ),
    value(
        "webhooks.attempts.keep.age",
        Kind::DurationOrOff,
        r#""7d""#,
        "Attempts of deliveries older than this may go. \"off\" sets no bound.",
    ),
    value(
        "webhooks.attempts.keep.size",
        Kind::SizeOrOff,
        r#""1 GiB""#,
        "The oldest attempts go when all are larger than this. \"off\" sets no bound.",
    ),
];

/// `[webhooks]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookSettings {
    key_file: Option<PathBuf>,
    allow: Vec<IpNet>,
    attempts: AttemptSettings,
    #[serde(deserialize_with = "size::or_off")]
    undelivered_size_max: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttemptSettings {
    keep: KeepAttempts,
}

/// How long attempts are kept; `None` sets no bound.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepAttempts {
    /// Attempts older than this may go.
    #[serde(deserialize_with = "duration::or_off")]
    pub age: Option<Duration>,
    /// Bytes of all attempts at most.
    #[serde(deserialize_with = "size::or_off")]
    pub size: Option<u64>,
}

/// `[webhooks]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// Where the key is that seals the secrets of endpoints. `None` if and only if nothing says
    /// where, which is so with a history in memory: the key is in memory as well.
    pub key_file: Option<PathBuf>,
    /// Networks that endpoints made over the API may lead to beside the public ones.
    pub allow: Vec<IpNet>,
    /// How long attempts are kept.
    pub keep_attempts: KeepAttempts,
    /// Bytes of dead letters and copies of all sinks together; `None` sets no bound.
    pub undelivered_size_max: Option<u64>,
}

impl Meaning<'_> {
    pub(super) fn webhooks(
        &mut self,
        settings: WebhookSettings,
        history: &HistoryOptions,
    ) -> WebhookOptions {
        let WebhookSettings { key_file, allow, attempts, undelivered_size_max } = settings;
        let AttemptSettings { keep } = attempts;
        if undelivered_size_max == Some(0) {
            let message = "every sink would wait as soon as something fails";
            self.wrong("webhooks.undelivered_size_max", message, "\"off\" sets no bound");
        }
        for (path, zero) in [
            ("webhooks.attempts.keep.age", keep.age.is_some_and(|age| age.is_zero())),
            ("webhooks.attempts.keep.size", keep.size == Some(0)),
        ] {
            if zero {
                self.wrong(path, "nothing would be kept", "\"off\" sets no bound");
            }
        }
        let in_history = || history.path.as_ref().map(|path| path.join("webhooks.key"));
        WebhookOptions {
            key_file: key_file.or_else(in_history),
            allow,
            keep_attempts: keep,
            undelivered_size_max,
        }
    }
}
