//! The space that the copies and dead letters of all sinks take together: each sink has bounds of
//! its own, which ten thousand of them could fill the disk with. Knows no copy and no dead letter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::UNDELIVERED_BYTES_DEFAULT;

/// How much is taken of what all sinks may take together.
#[derive(Debug)]
pub struct Space {
    most: AtomicUsize,
    taken: AtomicUsize,
    /// By each sink, also by those that do not run: what they left stands on the disk.
    parts: Mutex<HashMap<String, Arc<AtomicUsize>>>,
}

impl Default for Space {
    fn default() -> Space {
        let space = Space {
            most: AtomicUsize::new(usize::MAX),
            taken: AtomicUsize::new(0),
            parts: Mutex::default(),
        };
        space.bound(Some(UNDELIVERED_BYTES_DEFAULT));
        space
    }
}

impl Space {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicUsize>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another bound in bytes from now on; `None` is none.
    pub fn bound(&self, bytes: Option<u64>) {
        let most = bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many bytes may be taken; `None` when there is no bound.
    pub fn most(&self) -> Option<usize> {
        Some(self.most.load(Ordering::Relaxed)).filter(|most| *most < usize::MAX)
    }

    /// How many bytes are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The sink of this name has so much on the disk, whatever was thought of it before.
    pub(crate) fn part(self: &Arc<Self>, name: &str, bytes: usize) -> Part {
        let own = Arc::new(AtomicUsize::new(bytes));
        let mut parts = self.lock();
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        if let Some(before) = parts.insert(name.to_owned(), Arc::clone(&own)) {
            self.taken.fetch_sub(before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Part { space: Arc::clone(self), own }
    }

    /// Nothing is left of the sink of this name.
    pub(crate) fn clear(&self, name: &str) {
        if let Some(before) = self.lock().remove(name) {
            self.taken.fetch_sub(before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// What one sink takes of the space, while it runs.
#[derive(Debug, Default)]
pub struct Part {
    space: Arc<Space>,
    own: Arc<AtomicUsize>,
}

impl Part {
    /// Whether there is room for so much more. Sinks that ask at the same moment may all take what
    /// is there: as many as there are threads exceed the bound by one entry each.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let most = self.space.most.load(Ordering::Relaxed);
        self.space.taken().saturating_add(bytes) <= most
    }

    /// So much more is taken.
    pub(crate) fn take(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.space.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much is taken no longer.
    pub(crate) fn give(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.space.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sink_left_counts_until_it_is_removed() {
        let space = Arc::new(Space::default());
        space.bound(Some(100));
        let (one, two) = (space.part("one", 30), space.part("two", 0));
        two.take(50);
        assert!(two.has_room(20) && !one.has_room(21));
        two.give(10);
        drop((one, two));
        assert_eq!(space.taken(), 70);
        // What was not saved of it is gone when it begins again.
        let one = space.part("one", 25);
        assert_eq!(space.taken(), 65);
        space.clear("two");
        space.clear("two");
        assert_eq!((space.taken(), space.most()), (25, Some(100)));
        space.bound(None);
        assert!(one.has_room(usize::MAX) && space.most().is_none());
    }
}
