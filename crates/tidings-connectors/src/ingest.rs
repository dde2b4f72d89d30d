//! From a source into the hub: publish in order, then acknowledge. Knows no system and no
//! connection; a source knows nothing of the hub's refusals.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Grant, Hub, Line, Placed, Refused, Update};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{
    INCOMING_MAX, INGEST_AGAIN_AFTER, INGEST_PATIENCE_MAX, REASON_BYTES_MAX, REFUSALS_TOLD_EVERY,
};
use crate::nats;

/// Updates that a source brings together.
#[derive(Debug)]
pub struct Incoming {
    /// What is published, in this order.
    pub updates: Vec<Update>,
    /// Whom to tell what became of it, where there is one update.
    pub acknowledge: Acknowledge,
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It stands in the history, as safe as the history is.
    Published,
    /// The hub cannot take it just now.
    Later,
    /// The hub will never take it, with the reason.
    Never(String),
}

/// Whom to tell what became of an update. Who drops it says [`Taken::Later`], if nothing was told.
#[derive(Debug, Default)]
pub struct Acknowledge {
    /// The place and the number of the update; none for a source that does not want to know.
    answer: Option<(OwnedPermit<Answered>, u64)>,
    /// A part of the bytes that the source may have on the way.
    _room: Option<OwnedSemaphorePermit>,
}

/// What became of the update with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The number that the source gave it.
    pub number: u64,
    /// What became of it.
    pub taken: Taken,
}

impl Acknowledge {
    /// Of a source that does not want to know. `room` is given back when the hub has the updates.
    pub fn nobody(room: OwnedSemaphorePermit) -> Acknowledge {
        Acknowledge { answer: None, _room: Some(room) }
    }

    /// Of a source that is told in `place`, a place that it keeps free for its one update.
    pub fn telling(
        place: OwnedPermit<Answered>,
        number: u64,
        room: OwnedSemaphorePermit,
    ) -> Acknowledge {
        Acknowledge { answer: Some((place, number)), _room: Some(room) }
    }

    /// Tells what became of it.
    pub fn next(&mut self, taken: Taken) {
        if let Some((place, number)) = self.answer.take() {
            place.send(Answered { number, taken });
        }
    }
}

impl Drop for Acknowledge {
    fn drop(&mut self) {
        self.next(Taken::Later);
    }
}

/// Ends when a system has let a source in, or has refused it, and why, for the first time.
pub type Admission = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A system that updates come from.
pub trait Source: Send {
    /// What its connection to NATS counts, if it has one. To be asked before it runs.
    fn nats(&self) -> Option<Arc<nats::Counters>> {
        None
    }

    /// Where the positions go of what the hub has from it, oldest first, before it runs. `None`
    /// when its system knows no positions.
    fn recalls(&mut self) -> Option<&mut Vec<Line>> {
        None
    }

    /// See [`Admission`]. To be asked before it runs; does not end while nobody can be reached.
    fn admission(&self) -> Admission;

    /// Brings updates in their order until `stop`, and ends in bounded time then. While `to` is
    /// full it takes nothing from its system. When `to` is closed it ends.
    fn run(
        self: Box<Self>,
        to: Sender<Incoming>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Publishes what a source brings, in order, and tells the source after the hub's answer. `name` is
/// the source's, for the log. What the hub has no room for is offered again until there is room, or
/// until the source has ended and patience as well. Ends when the source has ended.
pub async fn ingest(name: &str, hub: Hub, grant: Grant, mut from: Receiver<Incoming>) {
    let refusals = Refusals { since: None, count: 0, reason: String::new() };
    let mut ingest = Ingest { name, hub, grant, refusals };
    let mut batch = Vec::new();
    // What arrives while the hub is busy with one batch is the next one.
    while from.recv_many(&mut batch, INCOMING_MAX).await > 0 {
        let mut incoming = VecDeque::from(std::mem::take(&mut batch));
        ingest.publish(&mut incoming, &from).await;
    }
    ingest.refusals.tell(name, true);
}

struct Ingest<'a> {
    name: &'a str,
    hub: Hub,
    grant: Grant,
    refusals: Refusals,
}

impl Ingest<'_> {
    /// Publishes updates and tells the source. What there is no room for goes again, in order and
    /// before anything else, until there is room.
    async fn publish(&mut self, batch: &mut VecDeque<Incoming>, from: &Receiver<Incoming>) {
        let mut patience: Option<Instant> = None;
        let mut told = 0;
        loop {
            // Kept for another try: data and topics are shared, not copied.
            let updates = batch.iter().flat_map(|incoming| &incoming.updates).skip(told).cloned();
            let answers = self.hub.publish_all(&self.grant, updates.collect()).await;
            let Some(refused) = self.tell(batch, &mut told, answers) else { return };
            self.refusals.note(self.name, &refused);
            if from.is_closed() {
                let end = *patience.get_or_insert_with(|| Instant::now() + INGEST_PATIENCE_MAX);
                if Instant::now() >= end {
                    return batch.clear();
                }
            }
            tokio::time::sleep(INGEST_AGAIN_AFTER).await;
        }
    }

    /// Tells what became of the next updates, up to the first that goes again: why it does. So many
    /// of those in front were `told` of already.
    fn tell(
        &mut self,
        batch: &mut VecDeque<Incoming>,
        told: &mut usize,
        answers: Vec<Result<Placed, Refused>>,
    ) -> Option<Refused> {
        for answer in answers {
            let incoming = batch.front_mut()?;
            incoming.acknowledge.next(match answer {
                Ok(_placed) => Taken::Published,
                Err(refused) if is_passing(&refused) => return Some(refused),
                Err(refused) => self.refuse(&refused),
            });
            *told += 1;
            if *told >= incoming.updates.len() {
                batch.pop_front();
                *told = 0;
            }
        }
        None
    }

    fn refuse(&mut self, refused: &Refused) -> Taken {
        if !is_final(refused) {
            return Taken::Later;
        }
        self.refusals.note(self.name, refused);
        Taken::Never(reason(refused))
    }
}

/// Whether it ends by itself, or when the hub does.
fn is_passing(refused: &Refused) -> bool {
    matches!(refused, Refused::NoSpace | Refused::StorageFailed(_))
}

/// Whether the same update will be refused for ever.
fn is_final(refused: &Refused) -> bool {
    match refused {
        Refused::Flawed(_)
        | Refused::Reserved(_)
        | Refused::Audience(_)
        | Refused::NotGranted(_)
        | Refused::KeyReused => true,
        Refused::Expired
        | Refused::Fallen
        | Refused::NoSpace
        | Refused::StorageFailed(_)
        | Refused::ShuttingDown => false,
    }
}

fn reason(refused: &Refused) -> String {
    let mut text = refused.to_string();
    while text.len() > REASON_BYTES_MAX {
        text.pop();
    }
    text
}

/// Refusals that the log was not told of yet.
struct Refusals {
    since: Option<Instant>,
    count: u64,
    /// Of the last one.
    reason: String,
}

impl Refusals {
    fn note(&mut self, source: &str, refused: &Refused) {
        self.count += 1;
        self.reason = reason(refused);
        self.tell(source, false);
    }

    /// Tells the log at most once in [`REFUSALS_TOLD_EVERY`], or `now`, if there is any.
    fn tell(&mut self, source: &str, now: bool) {
        let since = self.since.map_or(Duration::MAX, |since| since.elapsed());
        if self.count == 0 || (!now && since < REFUSALS_TOLD_EVERY) {
            return;
        }
        let (count, reason) = (self.count, self.reason.as_str());
        tracing::warn!(source, count, reason, "the hub refused what a source brought");
        (self.since, self.count) = (Some(Instant::now()), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings_core::{Batch, Matcher, Selection, Start, Topic};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::in_memory::{self, Still};

    fn hub() -> Hub {
        in_memory::hub(Arc::new(Still(1_700_000_000_000)), 1_000)
    }

    async fn room() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap()
    }

    #[tokio::test]
    async fn updates_are_published_in_order_and_acknowledged_then() {
        let hub = hub();
        let matchers = vec![Arc::new(Matcher::Any)];
        let grant = Arc::new(Grant::operator());
        let selection = Selection { matchers, grant, scope: None };
        let mut subscription = hub.subscribe(selection, Start::Earliest);
        let (to, from) = mpsc::channel(8);
        let (answers, mut answered) = mpsc::channel(8);
        let mut tasks = tokio::task::JoinSet::new();
        let own = hub.clone();
        tasks.spawn(async move { ingest("a", own, Grant::operator(), from).await });
        for (number, size) in [(1, 10), (2, 2_000), (3, 10)] {
            let place = answers.clone().reserve_owned().await.unwrap();
            let topic = Topic::parse(&format!("t{number}")).unwrap();
            let updates = vec![Update::new(topic, vec![b'x'; size])];
            let acknowledge = Acknowledge::telling(place, number, room().await);
            to.send(Incoming { updates, acknowledge }).await.unwrap();
        }
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(answered.recv().await.unwrap());
        }
        let number = |index: usize| told[index].number;
        assert_eq!((number(0), number(1), number(2)), (1, 2, 3));
        assert_eq!(told[0].taken, Taken::Published);
        assert!(matches!(told[1].taken, Taken::Never(_)));
        assert_eq!(told[2].taken, Taken::Published);
        drop(to);
        tasks.join_next().await.unwrap().unwrap();
        let mut taken = Batch::new();
        subscription.take(&mut taken).unwrap();
        let topics: Vec<_> =
            taken.iter().map(|entry| entry.update.topics[0].as_str().to_owned()).collect();
        assert_eq!(topics, ["t1", "t3"]);
    }

    #[tokio::test]
    async fn what_a_hub_that_ends_does_not_take_is_for_later() {
        let hub = hub();
        hub.shut_down();
        let (to, from) = mpsc::channel(8);
        let (answers, mut answered) = mpsc::channel(1);
        let place = answers.reserve_owned().await.unwrap();
        let updates = vec![Update::new(Topic::parse("t").unwrap(), "x")];
        let acknowledge = Acknowledge::telling(place, 7, room().await);
        to.send(Incoming { updates, acknowledge }).await.unwrap();
        drop(to);
        ingest("a", hub, Grant::operator(), from).await;
        assert_eq!(answered.recv().await.unwrap(), Answered { number: 7, taken: Taken::Later });
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_goes_again_from_there_on() {
        let hub = hub();
        let refusals = Refusals { since: None, count: 0, reason: String::new() };
        let grant = Grant::operator();
        let mut ingest = Ingest { name: "a", hub: hub.clone(), grant, refusals };
        let (answers, mut answered) = mpsc::channel(8);
        let one = |text: &str| Update::new(Topic::parse(text).unwrap(), "x");
        let place = answers.clone().reserve_owned().await.unwrap();
        let first = vec![one("a"), one("b"), one("c")];
        let mut batch = VecDeque::from([
            Incoming { updates: first, acknowledge: Acknowledge::nobody(room().await) },
            Incoming {
                updates: vec![one("d")],
                acknowledge: Acknowledge::telling(place, 7, room().await),
            },
        ]);
        let placed = hub.publish_all(&Grant::operator(), vec![one("x")]).await.remove(0).unwrap();
        let (mut told, none) = (0, || Err(Refused::NoSpace));
        let refused = ingest.tell(&mut batch, &mut told, vec![Ok(placed.clone()), none(), none()]);
        assert!(matches!(refused, Some(Refused::NoSpace)));
        assert_eq!((batch.len(), told), (2, 1));
        // The rest of the first, and then nothing more.
        let rest = vec![Ok(placed.clone()), Ok(placed.clone()), none()];
        assert!(ingest.tell(&mut batch, &mut told, rest).is_some());
        assert_eq!((batch.len(), told), (1, 0));
        assert!(answered.try_recv().is_err());
        assert!(ingest.tell(&mut batch, &mut told, vec![Ok(placed)]).is_none());
        assert!(batch.is_empty());
        let last = Answered { number: 7, taken: Taken::Published };
        assert_eq!(answered.recv().await.unwrap(), last);
    }

    #[tokio::test]
    async fn who_is_dropped_says_later() {
        let (answers, mut answered) = mpsc::channel(1);
        let place = answers.reserve_owned().await.unwrap();
        drop(Acknowledge::telling(place, 1, room().await));
        assert_eq!(answered.recv().await.unwrap().taken, Taken::Later);
    }
}
