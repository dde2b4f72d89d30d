//! Hubs in memory and their clocks, for the tests of all parts.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidings_core::{Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace};

/// A clock that stands at this wall time.
#[derive(Debug)]
pub(crate) struct Still(pub(crate) u64);

impl Clock for Still {
    fn wall(&self) -> u64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A clock that goes as all clocks do.
#[derive(Debug)]
pub(crate) struct Ticking(Instant);

impl Ticking {
    pub(crate) fn begin() -> Arc<dyn Clock> {
        Arc::new(Ticking(Instant::now()))
    }
}

impl Clock for Ticking {
    fn wall(&self) -> u64 {
        u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The hub's URL in all tests.
pub(crate) fn namespace() -> Namespace {
    Namespace::new("https://hub.example/.well-known/mercure".parse().unwrap())
}

/// A hub that takes updates of so many bytes.
pub(crate) fn hub(clock: Arc<dyn Clock>, update_bytes_max: usize) -> Hub {
    let history = HistoryOptions {
        path: None,
        durability: Durability::Memory,
        keep: Keep::default(),
        segment_bytes: 1 << 26,
        hold_bytes: 0,
    };
    let options = HubOptions { namespace: namespace(), update_bytes_max, history };
    Hub::open(options, clock).unwrap()
}
