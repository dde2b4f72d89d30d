//! What a receiver takes at a time. Parts of a fan-out that several receivers share stay shared:
//! taking a thousand entries costs one reference.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::update::{Entry, Offset};

/// Entries in order that several receivers get alike; never empty.
#[derive(Debug)]
pub(crate) struct Run {
    /// Mostly one.
    pub(crate) entries: SmallVec<[Arc<Entry>; 1]>,
    pub(crate) weight: usize,
}

impl Run {
    /// A run of these entries, if there are any.
    pub(crate) fn of(entries: impl Iterator<Item = Arc<Entry>>) -> Option<Run> {
        let entries: SmallVec<[_; 1]> = entries.collect();
        let weight = entries.iter().map(|entry| entry.update.weight()).sum();
        (!entries.is_empty()).then_some(Run { entries, weight })
    }

    pub(crate) fn last(&self) -> Offset {
        self.entries.last().map_or(Offset::ZERO, |entry| entry.offset)
    }
}

/// Entries that were taken from a subscription, in order.
#[derive(Debug, Default)]
pub struct Batch {
    parts: SmallVec<[(Arc<Run>, Range<usize>); 1]>,
    length: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.parts
            .iter()
            .flat_map(|(run, range)| run.entries.get(range.clone()).unwrap_or_default())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The last entry.
    pub fn last(&self) -> Option<&Arc<Entry>> {
        let (run, range) = self.parts.last()?;
        run.entries.get(range.clone())?.last()
    }

    /// Lets go of the entries.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.length = 0;
    }

    pub(crate) fn add(&mut self, run: Arc<Run>, range: Range<usize>) {
        self.length += range.len();
        self.parts.push((run, range));
    }
}
