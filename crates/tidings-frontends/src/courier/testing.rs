//! A hub in memory for tests.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace};

struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> u64 {
        super::token::tests::NOW
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
