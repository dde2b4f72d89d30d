//! A history without a file: a bounded list of the newest entries.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{AppendError, Bounds, History, Stored, Visit};
use crate::clock::Clock;
use crate::error::Missed;
use crate::hold::Holds;
use crate::limits::{BLOCK_BYTES, KEEP_BYTES_IN_MEMORY_DEFAULT};
use crate::options::Keep;
use crate::update::{Entry, Epoch, Offset};

pub(crate) struct MemoryHistory {
    keep: Keep,
    holds: Arc<Holds>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    kept: RwLock<Kept>,
}

impl std::fmt::Debug for MemoryHistory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MemoryHistory")
    }
}

#[derive(Debug)]
struct Kept {
    /// With the monotonic time of its arrival: a wall clock that jumps deletes nothing.
    entries: VecDeque<(Duration, Arc<Entry>)>,
    bytes: u64,
    before_first: Offset,
    last: Offset,
    /// The first kept entry of each publisher's id, by a count of its entries that are kept.
    ids: HashMap<Box<str>, VecDeque<Offset>>,
}

impl MemoryHistory {
    /// An empty history behind `start`.
    pub(crate) fn new(
        keep: Keep,
        holds: Arc<Holds>,
        clock: Arc<dyn Clock>,
        epoch: Epoch,
        start: Offset,
    ) -> MemoryHistory {
        let kept = Kept {
            entries: VecDeque::new(),
            bytes: 0,
            before_first: start,
            last: start,
            ids: HashMap::new(),
        };
        MemoryHistory { keep, holds, clock, epoch, kept: RwLock::new(kept) }
    }

    fn trim(&self, kept: &mut Kept) {
        let bytes_max = self.keep.bytes.unwrap_or(KEEP_BYTES_IN_MEMORY_DEFAULT);
        let now = self.clock.monotonic();
        let count = |kept: &Kept| u64::try_from(kept.entries.len()).unwrap_or(u64::MAX);
        while let Some((arrived, entry)) = kept.entries.front() {
            let old = self.keep.age.is_some_and(|age| now.saturating_sub(*arrived) > age);
            let many = self.keep.entries.is_some_and(|most| count(kept) > most);
            if !(old || many || kept.bytes > bytes_max) {
                break;
            }
            if self.holds.keep(entry.offset.durable, kept.bytes.saturating_sub(bytes_max)) {
                break;
            }
            kept.drop_first();
        }
    }
}

impl Kept {
    fn drop_first(&mut self) {
        let Some((_, entry)) = self.entries.pop_front() else { return };
        self.bytes -= weight(&entry);
        self.before_first = entry.offset;
        if let Some(id) = &entry.update.id
            && let Some(places) = self.ids.get_mut(id.as_str())
        {
            places.pop_front();
            if places.is_empty() {
                self.ids.remove(id.as_str());
            }
        }
    }
}

fn weight(entry: &Entry) -> u64 {
    u64::try_from(entry.update.weight()).unwrap_or(u64::MAX)
}

impl History for MemoryHistory {
    fn append(&self, batch: &[Arc<Entry>]) -> Result<(), AppendError> {
        let now = self.clock.monotonic();
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for entry in batch {
            kept.bytes += weight(entry);
            kept.last = entry.offset;
            if let Some(id) = &entry.update.id {
                kept.ids.entry(id.as_str().into()).or_default().push_back(entry.offset);
            }
            kept.entries.push_back((now, Arc::clone(entry)));
        }
        self.trim(&mut kept);
        Ok(())
    }

    fn scan(&self, after: Offset, until: Offset, visit: Visit<'_>) -> Result<Offset, Missed> {
        let mut block: Vec<Arc<Entry>> = Vec::new();
        {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            if after < kept.before_first {
                return Err(Missed { after, until: kept.before_first.min(until) });
            }
            let from = kept.entries.partition_point(|(_, entry)| entry.offset <= after);
            let mut bytes = 0;
            for (_, entry) in kept.entries.range(from..) {
                if entry.offset > until || bytes > BLOCK_BYTES {
                    break;
                }
                bytes += entry.update.weight();
                block.push(Arc::clone(entry));
            }
        }
        let Some(last) = block.last().map(|entry| entry.offset) else { return Ok(until) };
        for entry in &block {
            if !visit(&Stored::Shared(entry)) {
                return Ok(entry.offset);
            }
        }
        Ok(last)
    }

    fn bounds(&self) -> Bounds {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        Bounds { before_first: kept.before_first, last: kept.last }
    }

    fn find_id(&self, id: &str) -> Option<(Epoch, Offset)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let offset = kept.ids.get(id).and_then(VecDeque::front).copied()?;
        Some((self.epoch, offset))
    }

    fn recent(&self) -> Offset {
        // Nothing outlives the process: there is nothing to look for at its start.
        self.bounds().last
    }

    fn skip_to(&self, _number: u64) -> Result<(), AppendError> {
        // Each run is an epoch of its own.
        Ok(())
    }

    fn maintain(&self) -> Result<(), AppendError> {
        self.trim(&mut self.kept.write().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn close(&self) {}
}
