//! What publishers are told once their batch is committed, or that it was not. Does not know how it
//! was, and waits for nobody: who no longer listens has published all the same.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::Refused;
use crate::hub::{Receipt, Shared};
use crate::metrics::{Counters, count};
use crate::options::Durability;
use crate::publish_all::Placed;
use crate::update::Entry;

/// Who is told what became of an update.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Its publisher.
    One(oneshot::Sender<Result<Receipt, Refused>>),
    /// Its publisher, with what became of others.
    Part(Part),
}

/// One of several updates that were published together.
#[derive(Debug)]
pub(crate) struct Part {
    of: Arc<Together>,
    index: usize,
}

/// What became of updates that were published together; nothing yet, or for ever, of some.
pub(crate) type Told = Vec<Option<Result<Placed, Refused>>>;

/// Told when the last of its parts is.
#[derive(Debug)]
pub(crate) struct Together {
    told: Mutex<Told>,
    to: Option<oneshot::Sender<Told>>,
}

/// What became of an update.
pub(crate) enum Outcome {
    New(Arc<Entry>),
    Repeated(Receipt),
    Refused(Refused),
}

impl Answer {
    /// Tells of an update whose batch is committed.
    pub(crate) fn tell(self, outcome: Outcome, shared: &Shared) {
        outcome.count(&shared.counters);
        match self {
            Answer::One(to) => {
                let _gone = to.send(outcome.receipt(shared));
            }
            Answer::Part(part) => part.tell(outcome.placed(shared)),
        }
    }

    /// Tells of one that is not published.
    pub(crate) fn refuse(self, refused: Refused) {
        match self {
            Answer::One(to) => {
                let _gone = to.send(Err(refused));
            }
            Answer::Part(part) => part.tell(Err(refused)),
        }
    }
}

impl Together {
    /// The parts of so many updates, in their order.
    pub(crate) fn parts(updates: usize, to: oneshot::Sender<Told>) -> impl Iterator<Item = Answer> {
        let told = Mutex::new(std::iter::repeat_with(|| None).take(updates).collect());
        let together = Arc::new(Together { told, to: Some(to) });
        (0..updates).map(move |index| Answer::Part(Part { of: Arc::clone(&together), index }))
    }
}

impl Part {
    fn tell(self, answer: Result<Placed, Refused>) {
        let mut told = self.of.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = told.get_mut(self.index) {
            *place = Some(answer);
        }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        let told = std::mem::take(self.told.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(to) = self.to.take() {
            let _gone = to.send(told);
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
