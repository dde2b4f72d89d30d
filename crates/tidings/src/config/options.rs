//! The options of each part as they are written in the file. Structs here move beside their part
//! as soon as the part has one; nothing here knows files, variables or where a value came from.
//!
//! No field has a default of its own: `schema` holds every default, once.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use tidings_frontends::auth;

use super::courier::CourierTable;
use super::tls::TlsSettings;
use super::webhooks::WebhookSettings;
use super::websocket::WebSocketOptions;
use super::{duration, size};

/// The whole file, deserialized. [`super::Config`] is what has been checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) public_url: Option<String>,
    pub(super) hub_path: String,
    pub(super) history: HistorySettings,
    pub(super) auth: auth::Options,
    pub(super) mercure: MercureOptions,
    pub(super) websocket: WebSocketOptions,
    pub(super) http: HttpOptions,
    pub(super) tokens: TokensOptions,
    pub(super) courier: CourierTable,
    pub(super) tls: TlsSettings,
    pub(super) webhooks: WebhookSettings,
    pub(super) admin: AdminOptions,
    pub(super) log: LogOptions,
}

/// `[history]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistorySettings {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) keep: Keep,
    #[serde(deserialize_with = "size::deserialize")]
    pub(super) segment_size: u64,
    #[serde(default, deserialize_with = "held")]
    pub(super) hold: Option<u64>,
}

/// "off" is none, and nothing is what is usual.
fn held<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size::or_off(deserializer).map(|size| Some(size.unwrap_or(0)))
}

/// What an acknowledged update survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the disk: survives power loss.
    Fsync,
    /// With the operating system: survives the end of the process, not power loss.
    Written,
    /// In memory only: survives nothing. There is no file.
    Memory,
}

/// How much of the history is kept. Whole files that exceed one of these go; `None` sets none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Entries older than this may go.
    #[serde(deserialize_with = "duration::or_off")]
    pub age: Option<Duration>,
    /// Bytes on disk (or in memory) that stay at most.
    #[serde(deserialize_with = "size::or_off")]
    pub size: Option<u64>,
    /// At least so many of the newest entries stay, whole files of older ones go.
    #[serde(deserialize_with = "size::count_or_off")]
    pub entries: Option<u64>,
}

/// `[history]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The data folder. `None` if and only if the durability is `memory`.
    pub path: Option<PathBuf>,
    /// What an acknowledged update survives.
    pub durability: Durability,
    /// How much is kept.
    pub keep: Keep,
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// Bytes that it may be larger than `keep` for sinks that still need it.
    pub hold_bytes: u64,
}

/// `[mercure]`: the Mercure protocol on the hub's path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MercureOptions {
    /// Origins whose pages may read answers, with credentials: `https://app.example.com`, with
    /// one wildcard label `https://*.example.com`, any port `http://localhost:*`, `null`, or `*`
    /// for all others, without credentials.
    pub cors_origins: Vec<String>,
    /// The cookie that may carry a token. `None` (`"off"`) reads none.
    #[serde(deserialize_with = "text_or_off")]
    pub cookie: Option<String>,
    /// Origins whose pages may publish with a token in a cookie, beside the hub's own.
    pub publish_origins: Vec<String>,
    /// Silence after which a comment is sent. `None` never sends one.
    #[serde(deserialize_with = "duration::or_off")]
    pub heartbeat: Option<Duration>,
    /// How long a stream lives at most. `None` is without a bound.
    #[serde(deserialize_with = "duration::or_off")]
    pub connection_age_max: Option<Duration>,
    /// Entries that a subscriber without a token gets at most when it asks for the past from the
    /// earliest kept entry. `None` is without a bound.
    #[serde(deserialize_with = "size::count_or_off")]
    pub anonymous_replay_max: Option<u64>,
    /// Whether subscriptions are announced to watchers and listed.
    pub subscriptions: bool,
    /// Largest data of an update in bytes. Bodies of requests may be larger, for their encoding.
    #[serde(deserialize_with = "size::deserialize")]
    pub update_size_max: u64,
}

/// `[tokens]`: what applications get for their API keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensOptions {
    /// Whether Shlink's web clients are served.
    pub mercure_info: bool,
    /// Origins whose pages may exchange keys.
    pub cors_origins: Vec<String>,
}

fn text_or_off<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(from)?).filter(|text| text != "off"))
}

/// `[http]`: connections, for every protocol over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpOptions {
    /// How long a client may take for the head of a request.
    #[serde(deserialize_with = "duration::deserialize")]
    pub header_timeout: Duration,
    /// How long a client may leave its socket full while there is something for it.
    #[serde(deserialize_with = "duration::deserialize")]
    pub write_timeout: Duration,
    /// Open connections in total.
    pub connections_max: usize,
    /// Open connections of one address (IPv6: one /64), and its requests at the same time.
    pub connections_per_address_max: usize,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Networks of balancers whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// Time between the signal to stop and the end of the process.
    #[serde(deserialize_with = "duration::deserialize")]
    pub shutdown_budget: Duration,
}

/// `[admin]`: the operator's listener.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminOptions {
    /// Where it listens. `None` (`"off"`) opens none.
    #[serde(deserialize_with = "size::address_or_off")]
    pub listen: Option<SocketAddr>,
    /// What operators present to change anything. Once checked, also where it came from a file.
    #[serde(default)]
    pub token: Option<String>,
    /// The file that holds it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

// By hand: the token never reaches a log through `{:?}`.
impl fmt::Debug for AdminOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AdminOptions").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// `[log]`: the log on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOptions {
    /// A level, or filter directives as in `info,tidings_core=debug`.
    pub level: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// Whether lines show topics, patterns and cursors. Tokens are never shown.
    pub topics: bool,
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line for each event.
    Text,
    /// One JSON object for each event.
    Json,
}
