//! The order in which connections end when the program does. Knows no hub: what has to happen
//! between the steps (the queue drained, positions saved) is the program's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The program's side: two steps, each taken once, in this order.
#[derive(Debug, Clone)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

/// A request's side: tells a stream its moment to end.
#[derive(Debug, Clone)]
pub struct Closing {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    accepting_ends: CancellationToken,
    streams_end: CancellationToken,
    budget: Duration,
    open: AtomicUsize,
    /// Streams that were open when `streams_end` fired.
    to_close: AtomicUsize,
    /// Streams that have asked for their moment since.
    asked: AtomicUsize,
}

impl Shutdown {
    /// A shutdown that has not begun and will spread the end of the streams over `budget`.
    pub fn new(budget: Duration) -> Shutdown {
        Shutdown {
            shared: Arc::new(Shared {
                accepting_ends: CancellationToken::new(),
                streams_end: CancellationToken::new(),
                budget,
                open: AtomicUsize::new(0),
                to_close: AtomicUsize::new(0),
                asked: AtomicUsize::new(0),
            }),
        }
    }

    /// First step: listeners close, idle connections end, busy ones end after their answer.
    pub fn stop_accepting(&self) {
        self.shared.accepting_ends.cancel();
    }

    /// Second step: streams end, one after the other, evenly over the budget.
    pub fn close_streams(&self) {
        self.shared.to_close.store(self.shared.open.load(Ordering::SeqCst), Ordering::SeqCst);
        self.shared.streams_end.cancel();
    }

    /// What a request carries.
    pub fn closing(&self) -> Closing {
        Closing { shared: Arc::clone(&self.shared) }
    }

    /// Streams that are open now.
    pub fn streams_open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Resolves when the first step is taken.
    pub(crate) async fn accepting_ended(&self) {
        self.shared.accepting_ends.cancelled().await;
    }
}

impl Closing {
    /// Counts the caller as an open stream until the future is dropped. Resolves when this stream
    /// has to end, with a time for its client to wait before it comes back (`retry:`): random over
    /// the budget, so that a restarted hub does not meet all of them at once.
    pub fn stream(&self) -> Pin<Box<dyn Future<Output = Duration> + Send + Sync>> {
        let open = Open::new(Arc::clone(&self.shared));
        Box::pin(async move { open.ends().await })
    }

    /// Whether the program is ending: a new stream may be refused at once.
    pub fn has_begun(&self) -> bool {
        self.shared.accepting_ends.is_cancelled()
    }
}

struct Open {
    shared: Arc<Shared>,
}

impl Open {
    fn new(shared: Arc<Shared>) -> Open {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Open { shared }
    }

    async fn ends(self) -> Duration {
        self.shared.streams_end.cancelled().await;
        let shared = &self.shared;
        let rank = shared.asked.fetch_add(1, Ordering::SeqCst);
        let all = shared.to_close.load(Ordering::SeqCst).max(1);
        tokio::time::sleep(moment(shared.budget, rank, all)).await;
        spread(shared.budget)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// When the stream of `rank` (from 0) out of `all` ends. One that came too late ends at once.
fn moment(budget: Duration, rank: usize, all: usize) -> Duration {
    if rank >= all {
        return Duration::ZERO;
    }
    budget.mul_f64(rank as f64 / all as f64)
}

/// A random time up to `budget`, at least one millisecond: `retry: 0` would ask for a storm.
fn spread(budget: Duration) -> Duration {
    let milliseconds = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX).max(1);
    let random = getrandom::u64().unwrap_or_default();
    Duration::from_millis(1 + random % milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_end_evenly_over_the_budget() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let begun = tokio::time::Instant::now();
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let stream = shutdown.closing().stream();
            streams.spawn(async move {
                let retry = stream.await;
                (begun.elapsed().as_secs(), retry)
            });
        }
        assert_eq!(shutdown.streams_open(), 5);
        shutdown.stop_accepting();
        shutdown.close_streams();
        let mut seconds = Vec::new();
        while let Some(end) = streams.join_next().await {
            let (second, retry) = end.unwrap();
            assert!(retry > Duration::ZERO && retry <= Duration::from_secs(10));
            seconds.push(second);
        }
        assert_eq!(seconds, [0, 2, 4, 6, 8]);
        assert_eq!(shutdown.streams_open(), 0);
    }

    #[test]
    fn a_late_stream_ends_at_once() {
        assert_eq!(moment(Duration::from_secs(10), 3, 3), Duration::ZERO);
    }
}
