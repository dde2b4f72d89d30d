//! What publishers are told once their batch is committed, or that it was not. Does not know how it
//! was, and waits for nobody: who no longer listens has published all the same.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Refused;
use crate::hub::{Receipt, Shared};
use crate::metrics::{Counters, count};
use crate::options::Durability;
use crate::publish_all::Placed;
use crate::update::{Entry, Update};

/// To the publisher of one update.
pub(crate) type Answer = oneshot::Sender<Result<Receipt, Refused>>;
/// To the publisher of many, in their order.
pub(crate) type AnswerToMany = oneshot::Sender<Vec<Result<Placed, Refused>>>;

/// What somebody wants to have published, and who is to be told.
#[derive(Debug)]
pub(crate) enum Order {
    /// One update.
    One(Update, Answer),
    /// Many in one place of the queue, some of which were refused already.
    Many(Vec<Result<Update, Refused>>, AnswerToMany),
}

/// What became of an update.
pub(crate) enum Outcome {
    New(Arc<Entry>),
    Repeated(Receipt),
    Refused(Refused),
}

/// Who is told what.
pub(crate) enum Due {
    One(Answer, Outcome),
    Many(AnswerToMany, Vec<Outcome>),
}

impl Order {
    /// The number of updates and their weight in bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Order::One(update, _) => (1, update.weight()),
            Order::Many(updates, _) => {
                (updates.len(), updates.iter().flatten().map(Update::weight).sum())
            }
        }
    }

    /// Refuses it whole. What was refused before keeps its own reason.
    pub(crate) fn refuse(self, refused: &Refused) {
        match self {
            Order::One(_, answer) => {
                let _gone = answer.send(Err(refused.clone()));
            }
            Order::Many(updates, answer) => {
                let reason = |update: Result<_, Refused>| {
                    Err(update.err().unwrap_or_else(|| refused.clone()))
                };
                let _gone = answer.send(updates.into_iter().map(reason).collect());
            }
        }
    }
}

impl Outcome {
    fn count(&self, counters: &Counters) {
        match self {
            Outcome::New(_) => count(&counters.published),
            Outcome::Repeated(_) => count(&counters.repeated),
            // Counted by whoever is told.
            Outcome::Refused(_) => {}
        }
    }

    fn receipt(self, shared: &Shared) -> Result<Receipt, Refused> {
        match self {
            Outcome::New(entry) => Ok(receipt(&entry, shared.durability_of(&entry))),
            Outcome::Repeated(first) => Ok(Receipt { repeated: true, ..first }),
            Outcome::Refused(refused) => Err(refused),
        }
    }

    fn placed(self, shared: &Shared) -> Result<Placed, Refused> {
        match self {
            Outcome::New(entry) => {
                let durability = shared.durability_of(&entry);
                Ok(Placed::new(entry, durability))
            }
            Outcome::Repeated(first) => Ok(Placed::again(first)),
            Outcome::Refused(refused) => Err(refused),
        }
    }
}

impl Due {
    /// Tells the publisher of updates that are committed.
    pub(crate) fn tell(self, shared: &Shared) {
        match self {
            Due::One(answer, outcome) => {
                outcome.count(&shared.counters);
                let _gone = answer.send(outcome.receipt(shared));
            }
            Due::Many(answer, outcomes) => {
                let placed = outcomes.into_iter().map(|outcome| {
                    outcome.count(&shared.counters);
                    outcome.placed(shared)
                });
                let _gone = answer.send(placed.collect());
            }
        }
    }

    /// Tells the publisher of updates that are not. What was refused before keeps its own reason.
    pub(crate) fn refuse(self, refused: &Refused) {
        match self {
            Due::One(answer, _) => {
                let _gone = answer.send(Err(refused.clone()));
            }
            Due::Many(answer, outcomes) => {
                let reason = |outcome| match outcome {
                    Outcome::Refused(own) => Err(own),
                    Outcome::New(_) | Outcome::Repeated(_) => Err(refused.clone()),
                };
                let _gone = answer.send(outcomes.into_iter().map(reason).collect());
            }
        }
    }
}

/// What is true of an entry once it is as durable as that.
pub(crate) fn receipt(entry: &Entry, durability: Durability) -> Receipt {
    let cursor = entry.cursor();
    let own = entry.update.id.as_ref().map(|id| id.as_str().into());
    Receipt {
        id: own.unwrap_or_else(|| Arc::clone(cursor)),
        cursor: Arc::clone(cursor),
        offset: entry.offset,
        durability,
        repeated: false,
    }
}
