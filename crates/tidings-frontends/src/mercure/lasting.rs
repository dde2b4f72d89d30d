//! Until when a stream may go on. The stream itself asks, and its connection where the client takes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Clock, Ending};
use tokio::time::Instant;

use crate::http::Standing;

/// Until when a stream may go on.
pub(super) struct Lasting {
    pub(super) ending: Ending,
    /// The end of the grant, in milliseconds since 1970 by the wall clock.
    pub(super) expires: Option<u64>,
    /// The end of its longest time.
    pub(super) ends: Option<Instant>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Lasting {
    pub(super) fn reason_to_end(&self) -> Option<&'static str> {
        if self.ending.has_come() {
            return Some("its token no longer counts");
        }
        if self.expires.is_some_and(|expires| self.clock.wall() >= expires) {
            return Some("its token expired");
        }
        let is_over = self.ends.is_some_and(|ends| Instant::now() >= ends);
        is_over.then_some("its longest time is over")
    }
}

impl Standing for Lasting {
    fn has_ended(&self) -> bool {
        self.reason_to_end().is_some()
    }
}

/// Between 80 and 100 % of a lifetime: streams that began together do not end together.
pub(super) fn shortened(lifetime: Duration) -> Duration {
    let random = getrandom::u64().unwrap_or(u64::MAX) as f64 / u64::MAX as f64;
    lifetime.mul_f64(0.8 + 0.2 * random)
}
