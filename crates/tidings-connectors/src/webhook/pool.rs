//! The connections of one sink that wait for their next request. Knows neither requests nor names.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::connection::Open;
use crate::limits::{CONCURRENCY_MAX, IDLE_CONNECTION_MAX};

/// Idle connections, the one that was used last at the end. There are as many as were in use at a
/// time, at most [`CONCURRENCY_MAX`].
#[derive(Default)]
pub(super) struct Pool {
    idle: Arc<Mutex<Idle>>,
    /// One task while there is an idle connection: it closes those that waited for too long.
    closing: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Open>,
    is_watched: bool,
}

impl Idle {
    /// Takes out those that waited for too long: they stand in front.
    fn old(&mut self, now: Instant) -> Vec<Open> {
        let is_old = |open: &Open| open.idle_since + IDLE_CONNECTION_MAX <= now;
        let count = self.connections.partition_point(is_old);
        self.connections.drain(..count).collect()
    }
}

impl Pool {
    /// A connection for this URL to one of these addresses, that was not closed as far as is known.
    pub(super) async fn take(&self, url: &Url, addresses: &[SocketAddr]) -> Option<Open> {
        loop {
            let mut open = {
                let mut idle = locked(&self.idle);
                idle.connections.pop()?
            };
            let is_fresh = open.idle_since + IDLE_CONNECTION_MAX > Instant::now();
            let is_wanted = open.origin.has(url) && addresses.contains(&open.peer);
            // Dropping it closes it.
            if is_fresh && is_wanted && open.is_free().await {
                return Some(open);
            }
        }
    }

    /// Keeps a connection for the next request, if it can serve one.
    pub(super) async fn give(&self, mut open: Open) {
        if !open.is_free().await {
            return;
        }
        let must_watch = {
            let mut idle = locked(&self.idle);
            if idle.connections.len() >= CONCURRENCY_MAX {
                return;
            }
            // Under the lock, so that they stand in the order of their ages.
            open.idle_since = Instant::now();
            idle.connections.push(open);
            !std::mem::replace(&mut idle.is_watched, true)
        };
        if must_watch {
            let mut closing = locked(&self.closing);
            while closing.try_join_next().is_some() {}
            closing.spawn(close_old(Arc::clone(&self.idle)));
        }
    }

    /// Closes all that do not lead to one of these addresses.
    pub(super) fn keep_only(&self, addresses: &[SocketAddr]) {
        locked(&self.idle).connections.retain(|open| addresses.contains(&open.peer));
    }
}

async fn close_old(idle: Arc<Mutex<Idle>>) {
    loop {
        let (old, next) = {
            let mut idle = locked(&idle);
            let old = idle.old(Instant::now());
            let next = idle.connections.first().map(|open| open.idle_since + IDLE_CONNECTION_MAX);
            idle.is_watched = next.is_some();
            (old, next)
        };
        drop(old);
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}

/// A panic elsewhere leaves a list of connections as good as it was.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio_rustls::TlsConnector;

    use super::super::connection::Origin;
    use super::super::peer::{OK, Peer, request};
    use super::super::tls::tls;
    use super::*;

    impl Pool {
        pub(in super::super) fn count(&self) -> usize {
            locked(&self.idle).connections.len()
        }

        fn age(&self, at: usize) {
            locked(&self.idle).connections[at].idle_since -= IDLE_CONNECTION_MAX;
        }
    }

    async fn open(peer: &Peer) -> Open {
        let origin = Arc::new(Origin::of(&peer.url()).unwrap());
        let tls = TlsConnector::from(tls().unwrap());
        let until = Instant::now() + IDLE_CONNECTION_MAX;
        Open::connect(&origin, &[peer.address], &tls, until).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_waited_for_too_long_is_not_used_again() {
        let (peer, pool) = (Peer::answering(OK).await, Pool::default());
        pool.give(open(&peer).await).await;
        assert!(pool.take(&peer.url(), &[peer.address]).await.is_some());
        pool.give(open(&peer).await).await;
        pool.age(0);
        assert!(pool.take(&peer.url(), &[peer.address]).await.is_none());
    }

    #[tokio::test]
    async fn those_that_waited_for_too_long_are_closed_and_the_others_stay() {
        let (closed, pool) = (Arc::new(tokio::sync::Semaphore::new(0)), Pool::default());
        let seen = Arc::clone(&closed);
        let peer = Peer::new(move |mut stream, _| {
            let seen = Arc::clone(&seen);
            async move {
                assert_eq!(request(&mut stream).await, None);
                seen.add_permits(1);
            }
        })
        .await;
        for _ in 0..3 {
            pool.give(open(&peer).await).await;
        }
        pool.age(0);
        pool.age(1);
        let mut closing = JoinSet::new();
        closing.spawn(close_old(Arc::clone(&pool.idle)));
        let _two = closed.acquire_many(2).await.unwrap();
        assert_eq!(pool.count(), 1);
        pool.age(0);
        close_old(Arc::clone(&pool.idle)).await;
        let _third = closed.acquire().await.unwrap();
        assert!(!locked(&pool.idle).is_watched);
    }

    #[tokio::test]
    async fn a_closed_connection_is_neither_kept_nor_given() {
        let peer = Peer::new(|stream, _| async move { drop(stream) }).await;
        let (pool, mut one) = (Pool::default(), open(&peer).await);
        while one.is_free().await {
            tokio::task::yield_now().await;
        }
        pool.give(one).await;
        assert_eq!(pool.count(), 0);
    }
}
