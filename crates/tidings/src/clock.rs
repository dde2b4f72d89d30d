//! The machine's clocks. Everything else gets the time passed in, so that tests decide it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock and the monotonic clock of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now() }
    }
}

impl tidings_core::Clock for SystemClock {
    /// Milliseconds since 1970 (UTC). Zero when the machine believes in an earlier time.
    fn wall(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Time since this clock was made. Never goes back, whatever happens to the wall clock.
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::Clock;

    use super::*;

    #[test]
    fn wall_clock_counts_milliseconds_of_this_century() {
        let wall = SystemClock::new().wall();
        assert!(wall > 1_700_000_000_000, "{wall}");
        assert!(wall < 10_000_000_000_000, "{wall}");
    }

    #[test]
    fn monotonic_clock_never_goes_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
