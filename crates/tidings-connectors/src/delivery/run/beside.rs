//! What the loop does beside delivering: publishing what follows, keeping back what a grant
//! does not cover, and saying that there is no room. Knows no rule of delivery.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tidings_core::{Candidate, Entry, Grant, Refused, TokenIdentity};

use super::{Flight, Loop};
use crate::delivery::Lack;
use crate::limits::{FOLLOW_AGAIN_AFTER, SAVE_TOLD_EVERY};

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
            let mut told: Option<Instant> = None;
            loop {
                let refused = match hub.publish(&grant, update.clone()).await {
                    Ok(_) => return Flight::Followed { lane, result: Ok(()) },
                    Err(refused) => refused,
                };
                let passes = match refused {
                    Refused::NoSpace => true,
                    Refused::StorageFailed(_) => hub.is_writable(),
                    _ => false,
                };
                if matches!(refused, Refused::StorageFailed(_) | Refused::ShuttingDown) && !passes {
                    return Flight::Unfollowed;
                }
                if !passes {
                    let result = Err(format!("the hub refused what follows: {refused}"));
                    return Flight::Followed { lane, result };
                }
                // A lack of space or of descriptors passes, and is waited for.
                if told.is_none_or(|told| told.elapsed() >= SAVE_TOLD_EVERY) {
                    told = Some(Instant::now());
                    let (sink, reason) = (&*name, refused.to_string());
                    tracing::error!(sink, reason, "the sink waits: what follows has no room");
                }
                tokio::time::sleep(FOLLOW_AGAIN_AFTER).await;
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

    /// Says from time to time that there is no room.
    pub(super) fn tell_full(&mut self) {
        let is_told = self.told_full.is_some_and(|told| told.elapsed() < SAVE_TOLD_EVERY);
        let Some(lack) = self.delivery.lacks().filter(|_| !is_told) else { return };
        self.told_full = Some(Instant::now());
        let sink = &*self.name;
        match lack {
            Lack::Own => tracing::error!(
                sink,
                "no room for more dead letters, or for what is set aside: the sink waits until \
                some are delivered again or deleted"
            ),
            Lack::Shared => tracing::error!(
                sink,
                "no room for more dead letters, or for what is set aside, of all sinks together: \
                the sink waits until some of any sink are deleted, or \
                `webhooks.undelivered_size_max` grows"
            ),
        }
    }
}
