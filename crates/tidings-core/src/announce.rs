//! What the hub itself says on the topics that belong to it: in memory only, private, and inside a
//! scope. Knows no protocol: who speaks one makes the words.

use std::sync::PoisonError;

use tokio::sync::oneshot;

use crate::error::Refused;
use crate::hub::Hub;
use crate::limits::ANNOUNCED_AT_ONCE_MAX;
use crate::matcher::Candidate;
use crate::update::{Flaw, Scope, Update};
use crate::writer::Queued;

/// Announcements on their way.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) scope: Scope,
    pub(crate) updates: Vec<Update>,
    pub(crate) answer: oneshot::Sender<Result<(), Refused>>,
}

impl Hub {
    /// Tells the receivers of one scope something on topics of the hub itself. Whatever the updates
    /// say, they are private and ephemeral; their size is the caller's business. Returns when they
    /// have their places: a cursor from before does not miss them.
    ///
    /// Blocks the calling thread, and other announcements meanwhile: one waits for the writer at a
    /// time, so that publishers find the queue as they always do.
    ///
    /// # Errors
    ///
    /// [`Refused::Flawed`] for more than [`ANNOUNCED_AT_ONCE_MAX`] at once and for topics outside
    /// of the hub's namespace, [`Refused::ShuttingDown`], and [`Refused::StorageFailed`] when no
    /// place could be noted. Nothing was announced then.
    pub fn announce(&self, scope: Scope, mut updates: Vec<Update>) -> Result<(), Refused> {
        if updates.is_empty() {
            return Ok(());
        }
        let is_own =
            |topic: &crate::Topic| Candidate::new(topic.as_str(), self.namespace()).is_reserved();
        if updates.len() > ANNOUNCED_AT_ONCE_MAX {
            return Err(Flaw::TooLarge.into());
        }
        if !updates.iter().flat_map(|update| &update.topics).all(is_own) {
            return Err(Flaw::NoTopic.into());
        }
        for update in &mut updates {
            update.private = true;
            update.ephemeral = true;
        }
        let _alone = self.inner.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, answered) = oneshot::channel();
        drop(self.inner.writer.put(Queued::Announced(Announcement { scope, updates, answer }))?);
        answered.blocking_recv().unwrap_or(Err(Refused::ShuttingDown))
    }
}
