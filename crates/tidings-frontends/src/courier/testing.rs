//! A hub in memory, and tokens as applications make them, for tests.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use serde_json::Value;
use tidings_core::{Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace};

use super::token::LENIENT;

pub(super) const SECRET: &str = "a secret of tests that is long enough";
/// In milliseconds.
pub(super) const NOW: u64 = 1_700_000_000_000;

/// A token as an application makes it.
pub(super) fn mint(secret: &str, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| LENIENT.encode(value.to_string()).replace('=', "");
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = LENIENT.encode(hmac::sign(&key, signed.as_bytes())).replace('=', "");
    format!("{signed}.{signature}")
}

struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> u64 {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(super) fn stopped() -> Arc<dyn Clock> {
    Arc::new(Stopped)
}

pub(super) fn hub() -> Hub {
    let history = HistoryOptions {
        hold_bytes: 0,
        path: None,
        durability: Durability::Memory,
        keep: Keep::default(),
        segment_bytes: 1024 * 1024,
    };
    let namespace = Namespace::new("https://hub.example/.well-known/mercure".parse().unwrap());
    Hub::open(HubOptions { namespace, update_bytes_max: 1 << 20, history }, stopped()).unwrap()
}
