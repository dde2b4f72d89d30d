//! What the loop does beside delivering: publishing what follows, and keeping back what a grant
//! does not cover. Knows no rule of delivery.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidings_core::{Candidate, Entry, Grant, Refused, TokenIdentity};

use super::{Flight, Loop};
use crate::limits::FOLLOW_AGAIN_AFTER;

impl Loop {
    pub(super) fn follow(
        &self,
        lane: u64,
        entry: &Entry,
    ) -> Pin<Box<dyn Future<Output = Flight> + Send>> {
        let update = self.then.as_ref().and_then(|then| then.follow_up(entry, &self.name));
        let (hub, name) = (self.around.hub.clone(), Arc::clone(&self.name));
        Box::pin(async move {
            let Some(update) = update else { return Flight::Followed { lane, result: Ok(()) } };
            // Keys of follow-ups never meet those of a publisher.
            let issuer = Some("tidings:sink".into());
            let token =
                TokenIdentity { issuer, subject: Some((*name).into()), ..Default::default() };
            let grant = Grant { token, ..Grant::operator() };
            loop {
                let result = match hub.publish(&grant, update.clone()).await {
                    Ok(_) => Ok(()),
                    // What passes, such as a lack of space or of descriptors, is waited for.
                    Err(Refused::NoSpace) => {
                        tokio::time::sleep(FOLLOW_AGAIN_AFTER).await;
                        continue;
                    }
                    Err(Refused::StorageFailed(_)) if hub.is_writable() => {
                        tokio::time::sleep(FOLLOW_AGAIN_AFTER).await;
                        continue;
                    }
                    Err(Refused::StorageFailed(_) | Refused::ShuttingDown) => {
                        return Flight::Unfollowed;
                    }
                    Err(refused) => Err(format!("the hub refused what follows: {refused}")),
                };
                return Flight::Followed { lane, result };
            }
        })
    }

    /// Takes away what its grant, which may be another one than before, does not cover.
    pub(super) fn withhold(&self, entry: &mut Option<Arc<Entry>>) {
        let namespace = self.around.hub.namespace();
        entry.take_if(|entry| {
            let topics = entry.update.topics.iter();
            let topics: Vec<_> =
                topics.map(|topic| Candidate::new(topic.as_str(), namespace)).collect();
            entry.update.private && !self.grant.covers_reading(&topics)
        });
    }
}
