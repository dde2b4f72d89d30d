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
use crate::limits::{PRESENCE_PACE, PRESENCE_RETRY, READERS_NICENESS};

/// The thread. It ends when this is dropped.
pub(super) struct Announcer {
    registry: Arc<Registry>,
}

impl Announcer {
    pub(super) fn start(
        hub: Hub,
        registry: Arc<Registry>,
        documents: Arc<Documents>,
        spoken: Arc<Spoken>,
    ) -> Announcer {
        let work = Work { hub, registry: Arc::clone(&registry), documents, spoken };
        let thread = std::thread::Builder::new().name("presence".to_owned());
        if let Err(error) = thread.spawn(move || work.run()) {
            tracing::error!(%error, "the thread that announces subscribers did not start");
        }
        Announcer { registry }
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
            for (generation, is_spoken) in spoken {
                if is_spoken.load(Ordering::Relaxed) {
                    self.announce(generation, &changes);
                }
            }
            self.registry.settle();
            self.registry.pause(PRESENCE_PACE);
        }
    }

    fn announce(&self, generation: Generation, changes: &[Change]) {
        let mut updates = Vec::new();
        for (connection, active) in changes {
            for shown in &connection.subscriptions {
                updates.extend(self.documents.update(generation, connection, shown, *active));
                if updates.len() == ANNOUNCED_AT_ONCE_MAX {
                    self.tell(generation, &updates);
                    updates.clear();
                }
            }
        }
        self.tell(generation, &updates);
    }

    /// Announces for as long as it takes: what watchers are not told would be lost in silence.
    fn tell(&self, generation: Generation, updates: &[Update]) {
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
