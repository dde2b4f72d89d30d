//! `[websocket]`: the hub over WebSockets. Whose tokens count and how long receivers live is said
//! in `[auth]` and `[mercure]`.

use serde::Deserialize;
use tidings_frontends::limits::{
    SOCKET_BURST_DEFAULT, SOCKET_MESSAGE_BYTES_DEFAULT, SOCKET_PER_SECOND_DEFAULT,
    SOCKET_PUBLISH_BYTES_DEFAULT, SOCKET_SUBSCRIPTIONS_DEFAULT, SOCKET_SUBSCRIPTIONS_MAX,
};

use super::schema::{Default, Key, Kind, bound, value};
use super::size;
use crate::limits::{SOCKET_MESSAGE_SETTING_MAX, SOCKET_RATE_SETTING_MAX};

/// Settings of `[websocket]`.
pub(super) const KEYS: [Key; 6] = [
    value(
        "websocket.enabled",
        Kind::Boolean,
        "true",
        "Whether the hub is reached over WebSockets too.",
    ),
    value(
        "websocket.path",
        Kind::UrlPath,
        r#""/.well-known/tidings/ws""#,
        "Where, below the path of `public_url`.",
    ),
    bound(
        "websocket.subscriptions_max",
        Kind::Number { min: 1, max: SOCKET_SUBSCRIPTIONS_MAX as i64 },
        Default::Number(SOCKET_SUBSCRIPTIONS_DEFAULT),
        "Matchers of all subscriptions of one socket together, up to 1000.",
    ),
    bound(
        "websocket.message_size_max",
        Kind::Size { min: SOCKET_MESSAGE_BYTES_DEFAULT as u64, max: SOCKET_MESSAGE_SETTING_MAX },
        Default::Bytes(SOCKET_PUBLISH_BYTES_DEFAULT),
        "Largest message of a client that may publish. Text grows when JSON escapes it, so twice
`mercure.update_size_max` is right for most. Whoever may not publish says 64 KiB at most.",
    ),
    bound(
        "websocket.commands_per_second",
        Kind::Number { min: 1, max: SOCKET_RATE_SETTING_MAX },
        Default::Number(SOCKET_PER_SECOND_DEFAULT as usize),
        "Messages that a client may send in a second, in the long run. Of who sends more nothing is
read for a while.",
    ),
    bound(
        "websocket.burst",
        Kind::Number { min: 1, max: SOCKET_RATE_SETTING_MAX },
        Default::Number(SOCKET_BURST_DEFAULT as usize),
        "Messages that it may send at a time after silence.",
    ),
];

/// `[websocket]`: the hub over WebSockets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocketOptions {
    /// Whether there are any.
    pub enabled: bool,
    /// Below the public URL's path; starts with a slash.
    pub path: String,
    /// Matchers of all subscriptions of one socket together.
    pub subscriptions_max: usize,
    /// Bytes of a publisher's message.
    #[serde(deserialize_with = "size::deserialize")]
    pub message_size_max: u64,
    /// Messages of a client in a second, in the long run.
    pub commands_per_second: u32,
    /// Messages at a time after silence.
    pub burst: u32,
}
