//! Opens what a hub keeps: history, state, the key of its ids, and which epoch it is.

use std::sync::Arc;

use crate::clock::Clock;
use crate::error::OpenError;
use crate::history::History;
use crate::history::memory::MemoryHistory;
use crate::hub::{Durability, HistoryOptions};
use crate::ids::Ids;
use crate::repeats::Repeats;
use crate::update::{Epoch, Offset};

/// Everything that was opened.
pub(crate) struct Store {
    pub(crate) history: Box<dyn History>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) epoch: Epoch,
    /// Behind everything that ever had a place.
    pub(crate) start: Offset,
    pub(crate) durability: Durability,
    pub(crate) remembered: Repeats,
}

/// Random bytes for keys and epochs.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| OpenError::Io { path: "getrandom".into(), source: error.into() })?;
    Ok(bytes)
}

impl Store {
    pub(crate) fn open(
        options: &HistoryOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Store, OpenError> {
        let start = Offset::durable(1);
        Ok(Store {
            history: Box::new(MemoryHistory::new(options.keep, clock, start)),
            ids: Arc::new(Ids::new(random()?)),
            epoch: Epoch(u64::from_le_bytes(random()?)),
            start,
            durability: Durability::Memory,
            remembered: Repeats::default(),
        })
    }
}
