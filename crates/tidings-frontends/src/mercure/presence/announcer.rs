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
            let mut told = 0;
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
    /// `told` counts rounds, of which each but the first waits for its time.
    fn announce(&self, generation: Generation, changes: &[Change], told: &mut usize) {
        let (mut updates, mut bytes) = (Vec::new(), 0);
        for (connection, active) in changes {
            for shown in &connection.subscriptions {
                let update = self.documents.update(generation, connection, shown, *active);
                let Some(update) = update else { continue };
                let weight = update.weight();
                let full =
                    updates.len() == ANNOUNCED_AT_ONCE_MAX || bytes + weight > PRESENCE_ROUND_BYTES;
                if full && !updates.is_empty() {
                    self.tell(generation, &updates, told);
                    updates.clear();
                    bytes = 0;
                    if self.registry.is_stopped() {
                        return;
                    }
                }
                bytes += weight;
                updates.push(update);
            }
        }
        if !updates.is_empty() {
            self.tell(generation, &updates, told);
        }
    }

    /// Announces for as long as it takes: what watchers are not told would be lost in silence.
    fn tell(&self, generation: Generation, updates: &[Update], told: &mut usize) {
        if *told > 0 {
            self.registry.pause(PRESENCE_PACE);
        }
        *told += 1;
        loop {
            match self.hub.announce(scope(generation), updates.to_vec()) {
                Ok(()) => return,
                // Streams end as well: there is nobody to tell.
                Err(Refused::ShuttingDown) => return,
                Err(refused) => {
                    tracing::error!(%refused, "subscribers could not be announced");
                    self.registry.pause(PRESENCE_RETRY);
                    if self.registry.is_stopped() || matches!(refused, Refused::Flawed(_)) {
                        return;
                    }
                }
            }
        }
    }
}
