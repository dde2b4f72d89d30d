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
