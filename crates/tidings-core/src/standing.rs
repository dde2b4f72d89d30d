//! Which grants still count. A grant is proof when it is made; the operator may take it back
//! before its end. Knows neither tokens nor why one falls: whoever makes grants judges them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::grant::Grant;
use crate::hub::Hub;
use crate::state::State;

/// Says whether a grant still counts. Asked for each publication and each new subscription, so it
/// must be quick and wait for nothing.
pub type Judgement = Arc<dyn Fn(&Grant) -> bool + Send + Sync>;

/// The judgement that holds now; without one every grant counts.
#[derive(Default)]
pub(crate) struct Standing(RwLock<Option<Judgement>>);

impl fmt::Debug for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Standing")
    }
}

impl Standing {
    fn judgement(&self) -> Option<Judgement> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn holds(&self, grant: &Grant) -> bool {
        self.judgement().is_none_or(|holds| holds(grant))
    }
}

impl Hub {
    /// Judges grants by `judgement` from now on, those in use as well. Answers how many
    /// receivers end by that.
    pub fn judge_by(&self, judgement: Judgement) -> usize {
        let standing = &self.shared().subscribers.standing;
        *standing.0.write().unwrap_or_else(PoisonError::into_inner) = Some(judgement);
        self.judge_again()
    }

    /// Ends every receiver whose grant no longer counts, and wakes its owner: for when what
    /// the judgement looks at has changed. Who subscribes meanwhile is judged as well. Answers how
    /// many ended. Costs time by the number of receivers.
    pub fn judge_again(&self) -> usize {
        let subscribers = &self.shared().subscribers;
        let Some(holds) = subscribers.standing.judgement() else { return 0 };
        let (ended, wake) = subscribers.holders.end(&|grant| !holds(grant));
        for waker in wake {
            waker.wake();
        }
        ended
    }

    /// Whether a grant still counts.
    pub fn stands(&self, grant: &Grant) -> bool {
        self.shared().subscribers.standing.holds(grant)
    }

    /// What is small and to be kept beside the history: as durable as the history's folder, gone
    /// with the process where the history is in memory.
    pub fn state(&self) -> &State {
        &self.shared().state
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::task::Poll;

    use super::*;
    use crate::hub_tests::{FakeClock, in_memory, options, update};
    use crate::{Batch, Language, Refused, Selection, Start, Subscription, TokenIdentity};

    fn hub() -> Hub {
        Hub::open(options(in_memory()), Arc::new(FakeClock::default())).unwrap()
    }

    fn grant(hub: &Hub, subject: &str) -> Arc<Grant> {
        let any = vec![hub.matcher(Language::Exact, "*").unwrap()];
        let token = TokenIdentity { subject: Some(subject.into()), ..TokenIdentity::default() };
        Arc::new(Grant { publish: any.clone(), subscribe: any, expires: None, token })
    }

    fn subscribe(hub: &Hub, subject: &str) -> Subscription {
        let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
        hub.subscribe(Selection { matchers, grant: grant(hub, subject), scope: None }, Start::Now)
    }

    fn without(subject: &'static str) -> Judgement {
        Arc::new(move |grant| grant.token.subject.as_deref() != Some(subject))
    }

    #[tokio::test]
    async fn a_subscription_ends_when_its_grant_falls_and_others_go_on() {
        let hub = hub();
        let (mut fallen, mut other) = (subscribe(&hub, "mallory"), subscribe(&hub, "alice"));
        let nothing = poll_fn(|context| Poll::Ready(fallen.poll_ready(context).is_ready()));
        assert!(!nothing.await, "nothing to do before");
        assert_eq!(hub.judge_by(without("mallory")), 1);
        poll_fn(|context| fallen.poll_ready(context)).await;
        assert!(fallen.is_ended() && !other.is_ended());
        assert_eq!(hub.judge_again(), 0, "nobody ends twice");
        hub.publish(&grant(&hub, "alice"), update("a", "1")).await.unwrap();
        let mut batch = Batch::new();
        other.next(&mut batch).await.unwrap();
        assert_eq!(batch.len(), 1);
        let mut batch = Batch::new();
        fallen.next(&mut batch).await.unwrap();
        assert!(batch.is_empty(), "nothing is handed out any more");
    }

    #[tokio::test]
    async fn who_subscribes_with_a_fallen_grant_has_ended_from_the_beginning() {
        let hub = hub();
        hub.judge_by(without("mallory"));
        assert!(subscribe(&hub, "mallory").is_ended());
        assert!(!subscribe(&hub, "alice").is_ended());
    }

    #[tokio::test]
    async fn a_grant_that_falls_while_its_update_waits_for_room_publishes_nothing() {
        let hub = hub();
        let mut reader = subscribe(&hub, "alice");
        let held = grant(&hub, "mallory");
        let room = hub.room(1).await.unwrap();
        hub.judge_by(without("mallory"));
        let refused = hub.publish_in(room, &held, update("a", "no"));
        assert_eq!(refused.unwrap_err(), Refused::Fallen);
        hub.publish(&grant(&hub, "alice"), update("a", "yes")).await.unwrap();
        let mut batch = Batch::new();
        reader.next(&mut batch).await.unwrap();
        let seen: Vec<_> = batch.iter().map(|entry| entry.update.data.to_vec()).collect();
        assert_eq!(seen, [b"yes"]);
    }

    #[test]
    fn no_subscription_slips_in_while_grants_are_judged() {
        let hub = hub();
        let allowed = Arc::new(Mutex::new(true));
        let judged = Arc::clone(&allowed);
        hub.judge_by(Arc::new(move |_| *judged.lock().unwrap()));
        for _ in 0..200 {
            *allowed.lock().unwrap() = true;
            let joining = hub.clone();
            let subscriber = std::thread::spawn(move || subscribe(&joining, "mallory"));
            *allowed.lock().unwrap() = false;
            hub.judge_again();
            assert!(subscriber.join().unwrap().is_ended());
        }
    }
}
