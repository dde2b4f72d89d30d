//! What goes into the machine of a sink and what comes out of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Entry, Offset};

use super::changes::{DeadTotal, Held, Row, RowKey, Standing};
use crate::connector::Run;
use crate::space::Part;

/// What time it is, by both clocks. Waits are counted on the first; the second is for what has to
/// mean something in another process.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since some moment that stays the same in this process.
    pub monotonic: Duration,
    /// Milliseconds since 1970-01-01.
    pub wall: u64,
}

/// What to do for a sink.
#[derive(Debug)]
pub enum Action {
    /// Deliver this and say what became of it by [`super::Delivery::answered`].
    Send {
        /// To be named in the answer.
        lane: u64,
        /// What to deliver.
        run: Run,
    },
    /// Read these copies and give them to [`super::Delivery::loaded`].
    Load {
        /// To be named in the answer.
        lane: u64,
        /// Which.
        keys: Vec<RowKey>,
    },
    /// Publish what follows this entry and say so by [`super::Delivery::followed`].
    Follow {
        /// To be named in the answer.
        lane: u64,
        /// What was delivered.
        entry: Arc<Entry>,
    },
}

/// What is saved of a sink, to go on with.
#[derive(Debug, Default)]
pub struct Saved {
    /// The place up to which nothing is owed.
    pub position: Offset,
    /// Whether it works.
    pub standing: Standing,
    /// The system wants to be left alone.
    pub held: Held,
    /// Copies.
    pub rows: Vec<Row>,
    /// Its dead letters.
    pub dead: DeadTotal,
    /// What its copies and dead letters take of the space of all sinks.
    pub part: Part,
    /// Entries behind the position whose follow-up stands in the history: they are delivered.
    pub followed: HashSet<u64>,
}

/// Numbers for people, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The place up to which nothing is owed.
    pub position: Offset,
    /// Whether it works.
    pub standing: Standing,
    /// Entries taken from the history and not done.
    pub waiting: usize,
    /// Deliveries on their way.
    pub sending: usize,
    /// Copies set aside.
    pub parked: usize,
    /// Dead letters.
    pub dead: usize,
    /// The system is left alone since it failed several times in a row, or asked for it.
    pub is_resting: bool,
    /// There is no room for another copy or dead letter: it waits for somebody to do something.
    pub is_full: bool,
    /// Why it does not run at all, though it should.
    pub failure: Option<String>,
    /// Why an entry failed last, since something was delivered.
    pub last_failure: Option<String>,
}
