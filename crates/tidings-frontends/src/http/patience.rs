//! How long an answer is waited for whose client takes nothing. Nobody asks such an answer's body
//! for more, so that the body can neither end nor say that it has to: this can.
//!
//! Knows no request and no protocol: only time, and whether an answer still counts.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::limits::STANDING_LOOK_INTERVAL;

/// What knows when an answer has to end, whether its client reads or not.
pub trait Standing: Send + Sync {
    /// Whether the answer has no right to go on, as when its token expired.
    fn has_ended(&self) -> bool;
}

/// Among the extensions of a response: its body ends by itself as soon as this has ended, and when
/// it cannot because the client takes nothing, its connection or stream ends without it.
#[derive(Clone)]
pub struct Until(pub Arc<dyn Standing>);

/// The answer that a connection, or a stream of one, is sending.
#[derive(Clone, Default)]
pub(super) struct Current(Arc<Mutex<Option<Until>>>);

impl Current {
    /// The next answer, and when it ends, if that is not its own affair.
    pub(super) fn is(&self, until: Option<Until>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn has_ended(&self) -> bool {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.as_ref().is_some_and(|until| until.0.has_ended())
    }
}

/// Why nothing is waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The client had all the time that there is.
    Late,
    /// The answer has no right to go on.
    Ended,
}

/// One wait for one client.
pub(super) struct Patience {
    /// When it is over, whatever the answer is.
    end: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Waits for `limit` from now on.
    pub(super) fn new(limit: Duration) -> Patience {
        let now = Instant::now();
        let end = now + limit;
        let look = end.min(now + STANDING_LOOK_INTERVAL);
        Patience { end, timer: Box::pin(tokio::time::sleep_until(look)) }
    }

    /// Resolves when the wait is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, current: &Current) -> Poll<Over> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            if current.has_ended() {
                return Poll::Ready(Over::Ended);
            }
            let now = Instant::now();
            if now >= self.end {
                return Poll::Ready(Over::Late);
            }
            self.timer.as_mut().reset(self.end.min(now + STANDING_LOOK_INTERVAL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Switch(AtomicBool);

    impl Standing for Switch {
        fn has_ended(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    async fn wait(limit: Duration, current: &Current) -> (Over, Duration) {
        let begun = Instant::now();
        let mut patience = Patience::new(limit);
        let over = std::future::poll_fn(|context| patience.poll(context, current)).await;
        (over, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_over_in_time_and_at_once_when_its_answer_has_ended() {
        let limit = Duration::from_secs(30);
        let late = |waited: Duration| waited >= limit && waited < limit + Duration::from_millis(9);
        let current = Current::default();
        let (over, waited) = wait(limit, &current).await;
        assert!(over == Over::Late && late(waited), "{over:?} {waited:?}");

        let switch = Arc::new(Switch(AtomicBool::new(false)));
        current.is(Some(Until(Arc::<Switch>::clone(&switch))));
        let (over, waited) = wait(limit, &current).await;
        assert!(over == Over::Late && late(waited), "{over:?} {waited:?}");

        let ended = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            switch.0.store(true, Ordering::Relaxed);
        };
        let ((over, waited), ()) = tokio::join!(wait(limit, &current), ended);
        assert_eq!(over, Over::Ended);
        assert!(waited <= Duration::from_secs(5) + STANDING_LOOK_INTERVAL, "{waited:?}");

        current.is(None);
        assert_eq!(wait(limit, &current).await.0, Over::Late, "the next answer has its own right");
        assert_eq!(wait(Duration::ZERO, &current).await.0, Over::Late);
    }
}
