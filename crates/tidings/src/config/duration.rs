//! Durations in settings: what a connector takes (`15s`, `1m30s`, `7d`, `0`), and `off` where that
//! is allowed.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

pub(super) use tidings_connectors::span::scaled;
pub use tidings_connectors::span::{parse, render};

/// For `deserialize_with`: a duration.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(from)?).map_err(de::Error::custom)
}

/// For `deserialize_with`: a duration, or `None` for `off`.
pub(super) fn or_off<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "off" => Ok(None),
        text => parse(text).map(Some).map_err(de::Error::custom),
    }
}
