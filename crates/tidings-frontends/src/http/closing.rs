//! The order in which connections end when the program does. Knows no hub: what has to happen
//! between the steps (the queue drained, positions saved) is the program's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
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
    /// The same, for who asks with each request.
    has_begun: AtomicBool,
    budget: Duration,
    open: AtomicUsize,
    /// Streams that were open when they were told to end.
    to_close: AtomicUsize,
    /// Streams that have asked for their moment since.
    asked: AtomicUsize,
    /// Whom to wake when the streams are to end.
    watchers: Mutex<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    wakers: Vec<Waker>,
    streams_end: bool,
}

impl Shutdown {
    /// A shutdown that has not begun and will spread the end of the streams over `budget`.
    pub fn new(budget: Duration) -> Shutdown {
        Shutdown {
            shared: Arc::new(Shared {
                accepting_ends: CancellationToken::new(),
                has_begun: AtomicBool::new(false),
                budget,
                open: AtomicUsize::new(0),
                to_close: AtomicUsize::new(0),
                asked: AtomicUsize::new(0),
                watchers: Mutex::default(),
            }),
        }
    }

    /// First step: listeners close, idle connections end, busy ones end after their answer.
    pub fn stop_accepting(&self) {
        self.shared.has_begun.store(true, Ordering::SeqCst);
        self.shared.accepting_ends.cancel();
    }

    /// Second step: streams end, one after the other, evenly over the budget.
    pub fn close_streams(&self) {
        self.shared.to_close.store(self.shared.open.load(Ordering::SeqCst), Ordering::SeqCst);
        let wakers = {
            let mut watchers = self.shared.lock();
            watchers.streams_end = true;
            std::mem::take(&mut watchers.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// What a request carries.
    pub fn closing(&self) -> Closing {
        Closing { shared: Arc::clone(&self.shared) }
    }

    /// Streams that are open now.
    pub fn streams_open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Whether the first step is taken.
    pub(crate) fn has_begun(&self) -> bool {
        self.shared.has_begun.load(Ordering::SeqCst)
    }

    /// Resolves when the first step is taken.
    pub(crate) async fn accepting_ended(&self) {
        self.shared.accepting_ends.cancelled().await;
    }
}

impl Closing {
    /// Counts one more open stream, until what is answered is dropped.
    pub fn open(&self) -> Open {
        self.shared.open.fetch_add(1, Ordering::SeqCst);
        Open { shared: Arc::clone(&self.shared) }
    }

    /// Has `waker` woken when streams are to end; each then asks for its moment.
    pub fn watch(&self, waker: Waker) {
        let mut watchers = self.shared.lock();
        if watchers.streams_end {
            drop(watchers);
            return waker.wake();
        }
        watchers.wakers.push(waker);
    }

    /// Whether the program is ending: a new stream may be refused at once.
    pub fn has_begun(&self) -> bool {
        self.shared.has_begun.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Open {
    shared: Arc<Shared>,
}

impl Open {
    /// When this stream has to end, from now on, if streams are to end; and a time for its client
    /// to wait before it comes back (`retry:`): random over the budget, so that a restarted hub
    /// does not meet all of them at once. For each stream to ask once.
    pub fn moment(&self) -> Option<(Duration, Duration)> {
        let shared = &self.shared;
        if !shared.lock().streams_end {
            return None;
        }
        let rank = shared.asked.fetch_add(1, Ordering::SeqCst);
        let all = shared.to_close.load(Ordering::SeqCst).max(1);
        Some((moment(shared.budget, rank, all), spread(shared.budget)))
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
    use std::task::Wake;

    struct Flag(AtomicUsize);

    impl Wake for Flag {
        fn wake(self: Arc<Flag>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn streams_end_evenly_over_the_budget() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let closing = shutdown.closing();
        let streams: Vec<Open> = (0..5).map(|_| closing.open()).collect();
        let flag = Arc::new(Flag(AtomicUsize::new(0)));
        closing.watch(Waker::from(Arc::clone(&flag)));
        assert_eq!(shutdown.streams_open(), 5);
        shutdown.stop_accepting();
        assert!(closing.has_begun() && streams[0].moment().is_none());
        assert_eq!(flag.0.load(Ordering::SeqCst), 0);
        shutdown.close_streams();
        assert_eq!(flag.0.load(Ordering::SeqCst), 1);
        let mut seconds = Vec::new();
        for stream in &streams {
            let (after, pause) = stream.moment().unwrap();
            assert!(pause > Duration::ZERO && pause <= Duration::from_secs(10));
            seconds.push(after.as_secs());
        }
        assert_eq!(seconds, [0, 2, 4, 6, 8]);
        closing.watch(Waker::from(Arc::clone(&flag)));
        assert_eq!(flag.0.load(Ordering::SeqCst), 2, "who comes too late is told at once");
        drop(streams);
        assert_eq!(shutdown.streams_open(), 0);
    }

    #[test]
    fn a_late_stream_ends_at_once() {
        assert_eq!(moment(Duration::from_secs(10), 3, 3), Duration::ZERO);
    }
}
