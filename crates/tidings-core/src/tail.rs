//! Ephemeral updates of the last minute, in memory only: who was behind for a moment takes them
//! from here, in order, and who was behind for longer is told. Knows no receiver.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{
    EPHEMERALS_AGE, EPHEMERALS_KEPT_BYTES_MAX, EPHEMERALS_KEPT_MAX, TAKE_BYTES_MAX,
    TAKE_ENTRIES_MAX,
};
use crate::update::{Entry, Offset};

/// What is remembered. Publishers' and the hub's own are kept apart: many of these must not push
/// out those, and hardly anybody reads these.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    published: Mutex<Kept>,
    announced: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With the monotonic time of their arrival.
    entries: VecDeque<(Duration, Arc<Entry>)>,
    bytes: usize,
    /// Everything up to here was forgotten, if there was anything.
    forgotten: Offset,
}

/// What stands behind a place, as far as one take reaches.
pub(crate) struct Remembered {
    /// In order.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Nothing that is remembered up to here was left out.
    pub(crate) until: Offset,
    /// Up to here something was forgotten.
    pub(crate) forgotten: Offset,
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    /// Of a run that begins at this place. What was announced in the runs before it is forgotten.
    pub(crate) fn beginning_at(start: Offset) -> Tail {
        let announced = Kept { forgotten: start, ..Kept::default() };
        Tail { announced: Mutex::new(announced), ..Tail::default() }
    }

    /// Remembers the ephemeral ones of these, which came at `now`.
    pub(crate) fn remember(&self, entries: &[Arc<Entry>], now: Duration) {
        for entry in entries.iter().filter(|entry| entry.update.ephemeral) {
            let kept = if entry.scope.is_some() { &self.announced } else { &self.published };
            lock(kept).push(entry, now);
        }
    }

    /// Forgets what is too old.
    pub(crate) fn forget(&self, now: Duration) {
        for kept in [&self.published, &self.announced] {
            lock(kept).trim(now);
        }
    }

    /// What stands behind `after` up to `until`; announcements only where they are wanted.
    pub(crate) fn behind(&self, after: Offset, until: Offset, announced: bool) -> Remembered {
        let mut found = lock(&self.published).behind(after, until);
        if announced {
            let others = lock(&self.announced).behind(after, until);
            found.until = found.until.min(others.until);
            found.forgotten = found.forgotten.max(others.forgotten);
            found.entries.extend(others.entries);
            found.entries.sort_unstable_by_key(|entry| entry.offset);
            found.entries.retain(|entry| entry.offset <= found.until);
        }
        found
    }

    /// Up to which place something was forgotten.
    pub(crate) fn forgotten(&self, announced: bool) -> Offset {
        let published = lock(&self.published).forgotten;
        if announced { published.max(lock(&self.announced).forgotten) } else { published }
    }
}

impl Kept {
    fn push(&mut self, entry: &Arc<Entry>, now: Duration) {
        self.bytes += entry.update.weight();
        self.entries.push_back((now, Arc::clone(entry)));
        self.trim(now);
    }

    fn trim(&mut self, now: Duration) {
        while let Some((since, entry)) = self.entries.front() {
            let old = now.saturating_sub(*since) > EPHEMERALS_AGE;
            let many = self.entries.len() > EPHEMERALS_KEPT_MAX;
            if !(old || many || self.bytes > EPHEMERALS_KEPT_BYTES_MAX) {
                break;
            }
            self.bytes -= entry.update.weight();
            self.forgotten = entry.offset;
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            // What a storm needed is given back when it is over.
            self.entries = VecDeque::new();
        }
    }

    fn behind(&self, after: Offset, until: Offset) -> Remembered {
        let from = self.entries.partition_point(|(_, entry)| entry.offset <= after);
        let wanted = self.entries.range(from..).take_while(|(_, entry)| entry.offset <= until);
        let (mut entries, mut bytes, mut until) = (Vec::new(), 0, until);
        for (_, entry) in wanted {
            bytes += entry.update.weight();
            entries.push(Arc::clone(entry));
            if entries.len() == TAKE_ENTRIES_MAX || bytes >= TAKE_BYTES_MAX {
                until = entry.offset;
                break;
            }
        }
        Remembered { entries, until, forgotten: self.forgotten }
    }
}
