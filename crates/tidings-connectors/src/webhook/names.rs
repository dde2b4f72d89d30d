//! Asks the system for the addresses of names. Slow names have places of their own, so that they
//! hold up no others. Knows nothing of who may be reached.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::address::Refusal;
use crate::limits::{LOOK_UP_SLOW, LOOK_UP_TIMEOUT, LOOK_UPS_MAX, LOOK_UPS_SLOW_MAX};

static PLACES: Places = Places::new(LOOK_UPS_MAX, LOOK_UPS_SLOW_MAX, LOOK_UP_SLOW);

/// How long the look-ups of one sink took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Whether the last one that is known was slow and in vain, or nobody waited for its end.
    is_slow: AtomicBool,
}

/// Places for look-ups. A place is held until its thread is free again, not only until nobody
/// waits for it any more.
struct Places {
    quick: Semaphore,
    slow: Semaphore,
    slow_after: Duration,
}

impl Places {
    const fn new(quick: usize, slow: usize, slow_after: Duration) -> Places {
        let (quick, slow) = (Semaphore::const_new(quick), Semaphore::const_new(slow));
        Places { quick, slow, slow_after }
    }

    /// Asks on a thread for what blocks, when there is a place.
    async fn ask<T: Send + 'static>(
        &'static self,
        pace: &Arc<Pace>,
        ask: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let places = if pace.is_slow.load(Ordering::Relaxed) { &self.slow } else { &self.quick };
        // Only a closed semaphore gives none, and nobody closes these.
        let place = places.acquire().await.map_err(|_| io::ErrorKind::Interrupted)?;
        // Until it is known: the one who waits may have left by then.
        pace.is_slow.store(true, Ordering::Relaxed);
        let pace = Arc::clone(pace);
        let asked = spawn_blocking(move || {
            let (_held, began) = (place, Instant::now());
            let answer = ask();
            // Who is found has its place among the others, however long that took once.
            let is_slow = answer.is_err() && began.elapsed() > self.slow_after;
            pace.is_slow.store(is_slow, Ordering::Relaxed);
            answer
        });
        asked.await.map_err(|_| io::Error::from(io::ErrorKind::Interrupted))?
    }
}

/// The addresses of a name with this port. At least one.
///
/// # Errors
/// When nobody knows it, or nobody says so in time.
pub(super) async fn look_up(
    name: String,
    port: u16,
    pace: &Arc<Pace>,
) -> Result<Vec<SocketAddr>, Refusal> {
    let ask = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    match timeout(LOOK_UP_TIMEOUT, PLACES.ask(pace, ask)).await {
        Err(_) => Err(Refusal::TimedOut),
        Ok(Err(error)) => Err(Refusal::Unresolved(error)),
        Ok(Ok(found)) if found.is_empty() => {
            Err(Refusal::Unresolved(io::ErrorKind::NotFound.into()))
        }
        Ok(Ok(found)) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Long enough for what comes, which is all that comes.
    const LONG: Duration = Duration::from_secs(20);
    /// Whoever waits for nothing waits for so long.
    const SHORT: Duration = Duration::from_millis(20);

    /// A look-up of somebody with little patience, which ends when the answer is dropped.
    async fn unanswered(places: &'static Places, pace: &Arc<Pace>) -> mpsc::Sender<()> {
        let (answer, asked) = mpsc::channel::<()>();
        let ask = move || asked.recv().map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
        assert!(timeout(SHORT, places.ask(pace, ask)).await.is_err());
        answer
    }

    async fn is_answered(places: &'static Places, pace: &Arc<Pace>, patience: Duration) -> bool {
        timeout(patience, places.ask(pace, || Ok(()))).await.is_ok_and(|answer| answer.is_ok())
    }

    #[tokio::test]
    async fn names_that_were_not_answered_hold_up_each_other_and_no_others() {
        static FEW: Places = Places::new(2, 1, Duration::ZERO);
        let dead: Vec<Arc<Pace>> = (0..10).map(|_| Arc::default()).collect();
        for pace in &dead {
            let answer = unanswered(&FEW, pace).await;
            assert!(pace.is_slow.load(Ordering::Relaxed));
            drop(answer);
            while FEW.quick.available_permits() < 2 {
                tokio::task::yield_now().await;
            }
        }
        let mut answers = Vec::new();
        for pace in &dead {
            answers.push(unanswered(&FEW, pace).await);
        }
        assert!(is_answered(&FEW, &Arc::default(), LONG).await);
        assert!(!is_answered(&FEW, &dead[0], SHORT).await);
        drop(answers);
        assert!(is_answered(&FEW, &dead[0], LONG).await);
    }

    #[tokio::test]
    async fn what_took_long_is_slow_until_it_does_not() {
        static ALL_SLOW: Places = Places::new(1, 1, Duration::ZERO);
        static ALL_QUICK: Places = Places::new(1, 1, LONG);
        let pace = Arc::default();
        for (places, is_slow) in [(&ALL_SLOW, true), (&ALL_QUICK, false)] {
            let ask = || {
                std::thread::sleep(Duration::from_millis(1));
                Err::<(), _>(io::ErrorKind::NotFound.into())
            };
            assert!(places.ask(&pace, ask).await.is_err());
            assert_eq!(pace.is_slow.load(Ordering::Relaxed), is_slow);
        }
    }

    #[tokio::test]
    async fn a_name_has_addresses_or_is_unresolved() {
        let pace = Arc::default();
        let found = look_up("localhost".to_owned(), 81, &pace).await.unwrap();
        assert!(found.iter().all(|one| one.ip().is_loopback() && one.port() == 81));
        let refused = look_up("nowhere.invalid".to_owned(), 81, &pace).await.unwrap_err();
        assert!(matches!(refused, Refusal::Unresolved(_)), "{refused}");
    }
}
