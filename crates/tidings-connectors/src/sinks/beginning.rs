//! Where a sink goes on: behind what is saved, without what the history shows to be delivered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidings_core::{Batch, Grant, Language, Missed, Offset, Selection, Start};

use super::{Sinks, Wanted, now};
use crate::book::Opened;
use crate::delivery::{Counts, Delivery, Rules, followed, seed};
use crate::limits::READ_AGAIN_AFTER;

impl Sinks {
    pub(super) fn machine(
        &self,
        rules: Rules,
        opened: Opened,
        followed: HashSet<u64>,
        counts: &Counts,
    ) -> Delivery {
        let now = now(&self.around);
        let Opened { name, mut saved, epoch, .. } = opened;
        saved.followed = followed;
        let hub = &self.around.hub;
        let (position, last) = (saved.position, hub.end());
        let is_of_before = epoch != hub.epoch_now().0;
        saved.position = position.min(last);
        let mut delivery = Delivery::new(rules, saved, seed(&name, now.wall), now);
        if is_of_before {
            tracing::error!(
                sink = name,
                "missed: the history is another one than the sink \
                knew, acknowledged entries may be gone; a dead letter says so"
            );
            let missed = Missed { after: position.min(last), until: position.min(last) };
            counts.missed();
            delivery.save_place();
            delivery.missed(missed, "the history is another one than before", now);
        }
        delivery
    }

    /// Entries of these sinks that are owed by what is saved, and whose follow-up stands in the
    /// history already: they were delivered. One look at the history for all.
    pub(super) fn followed(
        &self,
        wanted: &[Wanted],
        opened: &[Opened],
    ) -> HashMap<String, HashSet<u64>> {
        let mut found: HashMap<String, HashSet<u64>> = HashMap::new();
        let follows =
            |name: &str| wanted.iter().any(|one| one.told.name == name && one.told.then.is_some());
        let opened = opened.iter().filter(|one| follows(&one.name));
        let from: HashMap<&str, Offset> =
            opened.map(|one| (one.name.as_str(), one.unfollowed)).collect();
        let Some(first) = from.values().min() else { return found };
        let hub = &self.around.hub;
        let Ok(any) = hub.matcher(Language::Exact, "*") else { return found };
        let grant = Arc::new(Grant::operator());
        let selection = Selection { matchers: vec![any], grant, scope: None };
        let mut reading = hub.reading(Arc::new(selection), Start::After(*first));
        let mut batch = Batch::new();
        while !reading.is_done() {
            batch.clear();
            // A gap has no follow-ups to be found in it; what cannot be read just now may have.
            if reading.take(&mut batch).is_err_and(|missed| missed.until <= missed.after) {
                std::thread::sleep(READ_AGAIN_AFTER);
            }
            for entry in batch.iter() {
                let Some(origin) = &entry.update.origin else { continue };
                let name = origin.connector.as_str();
                let position = origin.position.as_ref().map_or("", |position| position.as_str());
                if let Some(number) = followed(position, entry.epoch.0)
                    && from.contains_key(name)
                {
                    found.entry(name.to_owned()).or_default().insert(number);
                }
            }
        }
        found
    }
}
