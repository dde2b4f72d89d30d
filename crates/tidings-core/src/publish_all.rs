//! Publishing many updates at once, for who has many at hand: one place in the queue and one answer
//! for all, and no id that nobody asks for. Knows no connector.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::answers::{self, Answer, Together, Told};
use crate::error::Refused;
use crate::grant::Grant;
use crate::hub::{Hub, Receipt, Room};
use crate::limits::{PUBLISHED_AT_ONCE_BYTES_MAX, PUBLISHED_AT_ONCE_MAX};
use crate::metrics::count;
use crate::options::Durability;
use crate::update::{Entry, Offset, Update};
use crate::writer::{Commit, Queued};

/// What is true of one of many published updates now.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its place.
    pub offset: Offset,
    /// How safe it is.
    pub durability: Durability,
    /// It was published before under the same idempotency key or upstream position, at that place.
    pub repeated: bool,
    known: Known,
}

#[derive(Debug, Clone)]
enum Known {
    Entry(Arc<Entry>),
    Receipt(Receipt),
}

impl Placed {
    pub(crate) fn new(entry: Arc<Entry>, durability: Durability) -> Placed {
        Placed { offset: entry.offset, durability, repeated: false, known: Known::Entry(entry) }
    }

    pub(crate) fn again(first: Receipt) -> Placed {
        let Receipt { offset, durability, .. } = first;
        Placed { offset, durability, repeated: true, known: Known::Receipt(first) }
    }

    /// The receipt that [`Hub::publish`] gives: with the ids, which are made now.
    pub fn receipt(&self) -> Receipt {
        match &self.known {
            Known::Entry(entry) => answers::receipt(entry, self.durability),
            Known::Receipt(first) => Receipt { repeated: self.repeated, ..first.clone() },
        }
    }
}

impl Hub {
    /// Publishes updates in their order, and waits until they are as durable as is said: an answer
    /// for each, in the same order. One that is refused does not keep the others from being
    /// published. Up to [`PUBLISHED_AT_ONCE_MAX`] of them, and [`PUBLISHED_AT_ONCE_BYTES_MAX`]
    /// bytes, share one sync; of more, the next wait for those before them.
    ///
    /// When this is dropped, those that wait in the queue are published all the same.
    ///
    /// # Errors
    ///
    /// See [`Refused`] and [`Hub::publish`], for each update.
    pub async fn publish_all(
        &self,
        grant: &Grant,
        updates: Vec<Update>,
    ) -> Vec<Result<Placed, Refused>> {
        let mut answers = Vec::with_capacity(updates.len());
        let mut rest = updates;
        while !rest.is_empty() {
            let behind = rest.split_off(together(&rest));
            let told = self.publish_together(grant, std::mem::replace(&mut rest, behind)).await;
            let passing = told.iter().find_map(|answer| answer.as_ref().err().filter(is_passing));
            let passing = passing.cloned();
            answers.extend(told);
            if let Some(refused) = passing {
                // Nothing of them may stand before what was refused and comes again.
                answers.extend(rest.drain(..).map(|_| Err(refused.clone())));
            }
        }
        let refused = &self.shared().counters.refused;
        answers.iter().filter(|answer| answer.is_err()).for_each(|_| count(refused));
        answers
    }

    async fn publish_together(
        &self,
        grant: &Grant,
        updates: Vec<Update>,
    ) -> Vec<Result<Placed, Refused>> {
        let length = updates.len();
        let all_refused = |refused: Refused| vec![Err(refused); length];
        // At least a permit for each, so that the queue's bound on updates holds.
        let weight: usize = updates.iter().map(Update::weight).sum();
        let room = match self.room_for(length, weight).await {
            Ok(room) => room,
            Err(refused) => return all_refused(refused),
        };
        let (answer, answered) = oneshot::channel();
        let commits = self.commits(room, grant, updates, Together::parts(length, answer));
        match self.inner.writer.put(Queued::Together(commits)) {
            Ok(Some(duty)) => self.inner.writer.see_to(duty).await,
            Ok(None) => {}
            Err(refused) => return all_refused(refused),
        }
        // Nothing is told of updates that were with a writer which ended.
        let lost = |_| std::iter::repeat_with(|| None).take(length).collect();
        let told: Told = answered.await.unwrap_or_else(lost);
        let unanswered = || Err(self.shared().refusal_at_the_end());
        told.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    /// Those that are not refused at once.
    fn commits(
        &self,
        room: Room,
        grant: &Grant,
        updates: Vec<Update>,
        parts: impl Iterator<Item = Answer>,
    ) -> Vec<Commit> {
        let mut room = Some(room.permit);
        let mut commits = Vec::with_capacity(updates.len());
        // Judged once for all of them.
        let standing = self.check_grant(grant);
        for (update, answer) in updates.into_iter().zip(parts) {
            if let Err(refused) = self.check(grant, standing.clone(), &update) {
                answer.refuse(refused);
                continue;
            }
            let keyed = update.idempotency_key.is_some();
            let publisher = keyed.then(|| grant.token.publisher());
            commits.push(Commit { update, publisher, answer, room: room.take() });
        }
        commits
    }
}

/// Whether an update may be taken a little later that is refused now.
fn is_passing(refused: &&Refused) -> bool {
    matches!(refused, Refused::NoSpace | Refused::StorageFailed(_) | Refused::ShuttingDown)
}

/// How many of the next updates are published together; one at least.
fn together(updates: &[Update]) -> usize {
    let mut bytes = 0;
    let fits = |update: &&Update| {
        bytes += update.weight();
        bytes <= PUBLISHED_AT_ONCE_BYTES_MAX
    };
    updates.iter().take(PUBLISHED_AT_ONCE_MAX).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::hub_tests::{FakeClock, in_memory, memory_hub, options, update};
    use crate::*;

    #[tokio::test]
    async fn many_updates_are_published_in_their_order_with_an_answer_each() {
        let folder = tempfile::tempdir().unwrap();
        let on_disk = HistoryOptions {
            path: Some(folder.path().to_owned()),
            durability: Durability::Fsync,
            ..in_memory()
        };
        for history in [in_memory(), on_disk] {
            let durability = history.durability;
            let hub = Hub::open(options(history), Arc::new(FakeClock::default())).unwrap();
            let count = 2 * PUBLISHED_AT_ONCE_MAX + 5;
            let texts: Vec<_> = (0..count).map(|number| number.to_string()).collect();
            let updates = texts.iter().map(|text| update("a", text)).collect();
            let before = hub.last();
            let placed = hub.publish_all(&Grant::operator(), updates).await;
            assert_eq!(hub.counters().batches.load(Ordering::Relaxed), 3, "one sync for many");
            assert_eq!(hub.counters().published.load(Ordering::Relaxed), count as u64);
            let grant = Arc::new(Grant::operator());
            let selection =
                Selection { matchers: vec![Arc::new(Matcher::Any)], grant, scope: None };
            let mut all = hub.subscribe(selection, Start::After(before));
            let mut batch = Batch::new();
            while !all.is_live() {
                all.take(&mut batch).unwrap();
            }
            assert_eq!((placed.len(), batch.len()), (count, count));
            for ((answer, entry), text) in placed.iter().zip(batch.iter()).zip(&texts) {
                let placed = answer.as_ref().unwrap();
                assert_eq!(entry.update.data, text.as_bytes());
                assert_eq!((placed.offset, placed.durability), (entry.offset, durability));
                let receipt = placed.receipt();
                assert_eq!((&*receipt.id, &receipt.cursor), (entry.id(), entry.cursor()));
                assert!(!placed.repeated && !receipt.repeated);
            }
        }
    }

    #[tokio::test]
    async fn what_is_refused_of_many_keeps_no_other_back() {
        let hub = memory_hub();
        let keyed = |key: &str, text| {
            let idempotency_key = Some(Line::parse(key).unwrap());
            Update { idempotency_key, ..update("a", text) }
        };
        let first = hub.publish(&Grant::operator(), keyed("early", "0")).await.unwrap();
        let reserved = update("https://hub.example/.well-known/mercure/subscriptions/x", "x");
        let updates = vec![
            keyed("early", "0"),
            update("a", &"x".repeat(1024 * 1024 + 1)),
            keyed("key", "1"),
            reserved.clone(),
            keyed("key", "1"),
            keyed("key", "2"),
            Update { ephemeral: true, ..update("a", "3") },
            update("b", "4"),
        ];
        let placed = hub.publish_all(&Grant::operator(), updates).await;
        let [early, large, new, own, again, reused, ephemeral, last] =
            <[_; 8]>::try_from(placed).unwrap();
        let (early, new, again) = (early.unwrap(), new.unwrap(), again.unwrap());
        assert_eq!(early.receipt(), Receipt { repeated: true, ..first });
        assert_eq!(large.unwrap_err(), Refused::Flawed(Flaw::TooLarge));
        assert_eq!(own.unwrap_err(), Refused::Reserved(reserved.topics[0].clone()));
        assert_eq!(again.receipt(), Receipt { repeated: true, ..new.receipt() });
        assert!(again.repeated && !new.repeated);
        assert_eq!(reused.unwrap_err(), Refused::KeyReused);
        let (ephemeral, last) = (ephemeral.unwrap(), last.unwrap());
        assert_eq!(ephemeral.durability, Durability::Memory);
        assert_eq!(ephemeral.offset, Offset { sub: 1, ..new.offset });
        assert_eq!(last.offset, Offset::durable(new.offset.durable + 1));
        assert_eq!(hub.counters().refused.load(Ordering::Relaxed), 3);
        assert_eq!(hub.counters().repeated.load(Ordering::Relaxed), 2);
        assert_eq!(hub.counters().published.load(Ordering::Relaxed), 4);

        let nobody = hub.publish_all(&Grant::anonymous(), vec![update("a", "x")]).await;
        assert!(matches!(nobody.as_slice(), [Err(Refused::NotGranted(_))]));
        assert!(hub.publish_all(&Grant::operator(), Vec::new()).await.is_empty());
    }

    #[tokio::test]
    async fn many_that_come_too_late_are_all_refused() {
        let hub = memory_hub();
        hub.shut_down();
        let updates = vec![update("a", "1"), update("a", "2")];
        let answers = hub.publish_all(&Grant::operator(), updates).await;
        assert!(matches!(answers.as_slice(), [Err(Refused::ShuttingDown), Err(_)]));
    }

    #[test]
    fn what_is_published_together_is_bounded_in_number_and_bytes() {
        let large = PUBLISHED_AT_ONCE_BYTES_MAX / 2 - 1_000;
        let sizes = |sizes: &[usize]| {
            let mut updates: Vec<_> =
                sizes.iter().map(|size| update("a", &"x".repeat(*size))).collect();
            let mut lengths = Vec::new();
            while !updates.is_empty() {
                lengths.push(together(&updates));
                updates.drain(..together(&updates));
            }
            lengths
        };
        assert_eq!(sizes(&[large, large, large, 3 * large, 1, large]), [2, 1, 1, 2]);
        assert_eq!(sizes(&[1; PUBLISHED_AT_ONCE_MAX + 1]), [PUBLISHED_AT_ONCE_MAX, 1]);
    }
}
