//! What is saved of a sink, as it is found at a start.

use std::collections::HashSet;

use tidings_core::{Offset, StateError, Table};

use super::Book;
use crate::delivery::{Row, Saved, Status};
use crate::records::SinkRecord;
use crate::space::Part;

/// A sink as it was saved.
#[derive(Debug)]
pub struct Opened {
    /// Its name.
    pub name: String,
    /// What its machine goes on with; `followed` is empty.
    pub saved: Saved,
    /// The log that its position is a place in.
    pub epoch: u64,
    /// No follow-up of what is still owed stands in the history up to here.
    pub unfollowed: Offset,
}

impl Opened {
    pub(super) fn new(name: &str, record: &SinkRecord, rows: Vec<Row>, part: Part) -> Opened {
        let saved = Saved {
            position: Offset::durable(record.position),
            standing: record.standing(),
            held: record.held(),
            rows,
            dead: record.dead(),
            part,
            followed: HashSet::new(),
        };
        let unfollowed = Offset::durable(record.unfollowed);
        Opened { name: name.to_owned(), saved, epoch: record.epoch, unfollowed }
    }
}

impl Book {
    /// How a sink stood when something of it was noted last, as far as that is known. Blocks on the
    /// disk where it was not opened.
    pub fn status(&self, name: &str) -> Status {
        let record = self.lock().pages.get(name).map(|page| page.record.clone());
        let saved = || self.hub.state().get(Table::Sinks, name.as_bytes()).ok().flatten();
        let record = record.or_else(|| SinkRecord::of_value(&saved()?));
        let Some(record) = record else {
            // It would begin there, if it is new.
            return Status { position: self.hub.end(), ..Status::default() };
        };
        Status {
            position: Offset::durable(record.position),
            standing: record.standing(),
            dead: record.dead().rows,
            ..Status::default()
        }
    }
}

/// What is saved of sinks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadBook {
    /// The hub's storage.
    #[error("what is saved of sinks cannot be read or written: {0}")]
    State(#[from] StateError),
    /// A row makes no sense.
    #[error(
        "what is saved of the sink {name:?} is damaged: restore the data folder from a copy, or \
         give the sink another name, under which it begins with what is published from then on"
    )]
    Damaged {
        /// Of which.
        name: String,
    },
}
