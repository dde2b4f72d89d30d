//! Grants that receivers hold. A grant that falls ends whoever holds it, before its time. Knows
//! nothing of what they receive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::grant::Grant;
use crate::hub::{Hub, Shared};
use crate::metrics::count;
use crate::ready::ReadyList;

/// A receiver's hold on its grant. Dropping it ends the receiver for the hub.
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
    place: usize,
    ending: Ending,
}

/// Whether a receiver has ended because its grant fell.
#[derive(Debug, Clone)]
struct Ending(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    has_fallen: AtomicBool,
    owner: Arc<ReadyList>,
    /// The owner's name for it.
    key: u64,
}

/// All grants that are held.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    places: Vec<Option<(Arc<Grant>, Ending)>>,
    free: Vec<usize>,
}

impl Hub {
    /// Holds a receiver's grant: should it fall, `key` appears in the owner's list.
    pub fn hold(&self, grant: &Arc<Grant>, owner: Arc<ReadyList>, key: u64) -> Held {
        Held::new(Arc::clone(&self.inner.shared), grant, owner, key)
    }
}

impl Held {
    pub(crate) fn new(
        shared: Arc<Shared>,
        grant: &Arc<Grant>,
        owner: Arc<ReadyList>,
        key: u64,
    ) -> Held {
        count(&shared.counters.subscribers);
        let ending = Ending(Arc::new(Holder { has_fallen: AtomicBool::new(false), owner, key }));
        let place = shared.subscribers.holders.add(grant, &ending);
        // Judged behind the entry: whose grant falls later is found by `end`.
        if !shared.subscribers.standing.holds(grant) {
            ending.0.has_fallen.store(true, Ordering::Release);
        }
        Held { shared, place, ending }
    }

    /// Whether the grant no longer counts: nothing more may be handed out.
    pub fn has_fallen(&self) -> bool {
        self.ending.has_come()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.subscribers.holders.remove(self.place);
        self.shared.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ending {
    fn has_come(&self) -> bool {
        self.0.has_fallen.load(Ordering::Acquire)
    }

    fn come(&self) -> Option<Waker> {
        self.0.has_fallen.store(true, Ordering::Release);
        self.0.owner.add(self.0.key)
    }
}

impl Holders {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, grant: &Arc<Grant>, ending: &Ending) -> usize {
        let mut table = self.lock();
        let held = Some((Arc::clone(grant), ending.clone()));
        match table.free.pop() {
            Some(place) => {
                if let Some(free) = table.places.get_mut(place) {
                    *free = held;
                }
                place
            }
            None => {
                table.places.push(held);
                table.places.len() - 1
            }
        }
    }

    fn remove(&self, place: usize) {
        let mut table = self.lock();
        if let Some(held) = table.places.get_mut(place) {
            *held = None;
            table.free.push(place);
        }
        if table.free.len() == table.places.len() {
            // What a storm needed is given back when it is over.
            *table = Table::default();
        }
    }

    /// Ends everybody whose grant has fallen. Answers how many, and the owners to wake.
    pub(crate) fn end(&self, has_fallen: &dyn Fn(&Grant) -> bool) -> (usize, Vec<Waker>) {
        let table = self.lock();
        let mut wake = Vec::new();
        let mut ended = 0;
        for (grant, ending) in table.places.iter().flatten() {
            if !ending.has_come() && has_fallen(grant) {
                ended += 1;
                wake.extend(ending.come());
            }
        }
        (ended, wake)
    }
}
