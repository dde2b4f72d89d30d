//! Tells the hub what changed, in batches: one thread that gives way to everybody else. However
//! many join and leave at once, watchers are woken a few times and publishers wait for little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidings_core::limits::ANNOUNCED_AT_ONCE_MAX;
use tidings_core::{Hub, Refused, Update};

use super::documents::Documents;
use super::registry::{Change, Registry};
use super::scope;
use crate::auth::Generation;
use crate::limits::{PRESENCE_PACE, PRESENCE_RETRY, PRESENCE_ROUND_BYTES, READERS_NICENESS};

/// The thread. It ends when this is dropped.
pub(super) struct Announcer {
    registry: Arc<Registry>,
}

impl Announcer {
    /// Runs on `thread`, or says why there is none: without it presence would be silent.
    pub(super) fn start(
        thread: std::thread::Builder,
        hub: Hub,
        registry: Arc<Registry>,
        documents: Arc<Documents>,
        spoken: Arc<Spoken>,
    ) -> std::io::Result<Announcer> {
        let work = Work { hub, registry: Arc::clone(&registry), documents, spoken };
        thread.name("presence".to_owned()).spawn(move || work.run())?;
        Ok(Announcer { registry })
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.registry.stop();
    }
}

struct Work {
    hub: Hub,
    registry: Arc<Registry>,
    documents: Arc<Documents>,
    spoken: Arc<Spoken>,
}

/// The generations that some issuer's tokens belong to. Nobody reads in the words of another.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) draft: AtomicBool,
    pub(super) modern: AtomicBool,
}

impl Work {
    fn run(&self) {
        // Of this thread alone, and only a wish: without it the others are slower, not wrong.
        let _refused = rustix::process::setpriority_process(None, READERS_NICENESS);
        while let Some(changes) = self.registry.wait_for_changes(ANNOUNCED_AT_ONCE_MAX) {
            let spoken =
                [(Generation::Final, &self.spoken.modern), (Generation::Draft, &self.spoken.draft)];
            let mut told = false;
            for (generation, is_spoken) in spoken {
                if is_spoken.load(Ordering::Relaxed) {
                    self.announce(generation, &changes, &mut told);
                }
            }
            self.registry.settle();
            self.registry.pause(PRESENCE_PACE);
        }
    }

    /// Tells changes to a generation in rounds that are bounded in number and bytes: what a single
    /// connection brings may be as much as the hub remembers, and watchers are to keep up with it.
    /// Each round waits for its time but the first, before which nothing was `told`.
    fn announce(&self, generation: Generation, changes: &[Change], told: &mut bool) {
        let mut round = Round::default();
        for (connection, active) in changes {
            for shown in &connection.subscriptions {
                let update = self.documents.update(generation, connection, shown, *active);
                let Some(update) = update else { continue };
                if let Some(updates) = round.add(update) {
                    self.tell(generation, &updates, told);
                    if self.registry.is_stopped() {
                        return;
                    }
                }
            }
        }
        if let Some(updates) = round.rest() {
            self.tell(generation, &updates, told);
        }
    }

    /// Announces for as long as it takes: what watchers are not told would be lost in silence.
    fn tell(&self, generation: Generation, updates: &[Update], told: &mut bool) {
        if std::mem::replace(told, true) {
            self.registry.pause(PRESENCE_PACE);
        }
        loop {
            match self.hub.announce(scope(generation), updates.to_vec()) {
                Ok(()) => return,
                // Streams end as well: there is nobody to tell.
                Err(Refused::ShuttingDown) => return,
                // A mistake of ours, which a second try would not mend.
                Err(refused @ Refused::Flawed(_)) => {
                    tracing::error!(%refused, "subscribers are not announced");
                    return;
                }
                Err(refused) => {
                    tracing::error!(%refused, "subscribers could not be announced");
                    self.registry.pause(PRESENCE_RETRY);
                    if self.registry.is_stopped() {
                        return;
                    }
                }
            }
        }
    }
}

/// Updates that are announced at once.
#[derive(Default)]
struct Round {
    updates: Vec<Update>,
    bytes: usize,
}

impl Round {
    /// Adds an update; answers those before when it does not fit to them any more.
    fn add(&mut self, update: Update) -> Option<Vec<Update>> {
        let weight = update.weight();
        let is_full = self.updates.len() == ANNOUNCED_AT_ONCE_MAX
            || self.bytes + weight > PRESENCE_ROUND_BYTES;
        let full = (is_full && !self.updates.is_empty()).then(|| std::mem::take(self).updates);
        self.bytes += weight;
        self.updates.push(update);
        full
    }

    /// What was added last, if anything: an empty round would cost its time for nothing.
    fn rest(self) -> Option<Vec<Update>> {
        (!self.updates.is_empty()).then_some(self.updates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mercure::presence::registry::Pattern;
    use crate::mercure::presence::subscriber::Subscriber;
    use tidings_core::{Language, Namespace};

    fn update(bytes: usize) -> Update {
        let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
        let (registry, documents) = (Registry::default(), Documents::new(&namespace));
        let pattern = Pattern::new(Language::Exact, "a");
        let connection = registry.join(Subscriber::random(), None, vec![(pattern, None)]);
        let shown = &connection.subscriptions[0];
        let mut update = documents.update(Generation::Final, &connection, shown, true).unwrap();
        update.data = Vec::new().into();
        let beside = update.weight();
        update.data = vec![b'x'; bytes.saturating_sub(beside)].into();
        update
    }

    #[test]
    fn a_round_is_bounded_in_number_and_bytes_and_never_empty() {
        let mut round = Round::default();
        let (half, rest) = (PRESENCE_ROUND_BYTES / 2, PRESENCE_ROUND_BYTES.div_ceil(2));
        assert!(round.add(update(half)).is_none());
        assert!(round.add(update(rest)).is_none(), "exactly full");
        assert_eq!(round.add(update(1)).unwrap().len(), 2);
        assert_eq!(round.add(update(PRESENCE_ROUND_BYTES)).unwrap().len(), 1);
        assert_eq!(
            round.add(update(2 * PRESENCE_ROUND_BYTES)).unwrap().len(),
            1,
            "alone too large"
        );
        assert_eq!(round.add(update(1)).unwrap().len(), 1);
        assert_eq!((round.updates.len(), round.bytes), (1, update(1).weight()));
        assert_eq!(round.rest().unwrap().len(), 1);
        assert!(Round::default().rest().is_none());

        let mut round = Round::default();
        let small = update(1);
        assert!(small.weight() * ANNOUNCED_AT_ONCE_MAX < PRESENCE_ROUND_BYTES);
        for _ in 0..ANNOUNCED_AT_ONCE_MAX {
            assert!(round.add(small.clone()).is_none());
        }
        assert_eq!(round.add(small).unwrap().len(), ANNOUNCED_AT_ONCE_MAX);
    }
}
