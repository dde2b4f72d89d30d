//! What a connector is to the parts around it: a sink takes entries, a source brings updates. Knows
//! no system but what NATS counts, and not when something is delivered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::Entry;

use crate::nats;

/// What a sink is asked to deliver at a time: entries that follow each other in one lane.
#[derive(Debug, Clone)]
pub struct Run {
    /// At least one, at most [`Sink::run_max`].
    pub entries: Vec<Arc<Entry>>,
    /// How often the first of them was tried before.
    pub tries: u32,
}

/// What the system said, for whoever looks into it later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status, where the protocol has one.
    pub status: Option<u16>,
    /// The first bytes of what it said, at most [`crate::limits::ANSWER_BYTES_MAX`].
    pub body: Bytes,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// So many entries of the run, from its front, are delivered.
    pub delivered: usize,
    /// Why the next one is not; `None` when all are.
    pub failure: Option<Failure>,
    /// What the system said last.
    pub answer: Answer,
}

/// Why an entry was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is, which decides what happens next.
    pub fault: Fault,
    /// What happened, in words for the operator. Without secrets, at most
    /// [`crate::limits::REASON_BYTES_MAX`].
    pub reason: String,
    /// The system asked to be left alone for so long, from when the answer came.
    pub retry_after: Option<RetryAfter>,
}

/// A wait that the system asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter {
    /// How long, from the answer.
    pub wait: Duration,
    /// Whether it is about everything that is sent there, or about this entry alone.
    pub is_for_all: bool,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection: name, route, refusal, certificate. Tried again while there is patience.
    Unreachable,
    /// No whole answer in time. Tried again while there is patience.
    TimedOut,
    /// The system cannot just now (408, 425, 429, 5xx). Tried again while there is patience.
    Busy,
    /// The system does not want this one (other answers; a forbidden address). Tried three times.
    Rejected,
    /// The system wants nothing any more (410). The sink is disabled.
    Gone,
    /// It can never be delivered, such as one that is too large. Not tried again.
    Never,
}

impl Fault {
    /// All there are.
    pub const ALL: [Fault; 6] = [
        Fault::Unreachable,
        Fault::TimedOut,
        Fault::Busy,
        Fault::Rejected,
        Fault::Gone,
        Fault::Never,
    ];

    /// The word for it in lists, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Unreachable => "unreachable",
            Fault::TimedOut => "timed-out",
            Fault::Busy => "busy",
            Fault::Rejected => "rejected",
            Fault::Gone => "gone",
            Fault::Never => "never",
        }
    }

    /// The fault of this name.
    pub fn of_name(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// An outcome on its way.
pub type Delivering = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A system that updates leave to. Retries, order and rate are not its business: it delivers what
/// it is given, once, and says what became of it. The future it answers with is bounded in time by
/// the sink itself, and dropping it cancels the delivery.
pub trait Sink: Send + Sync {
    /// How many entries it takes at a time.
    fn run_max(&self) -> usize;

    /// Delivers a run.
    fn deliver(&self, run: Run) -> Delivering;

    /// What its connection to NATS counts, if it has one.
    fn nats(&self) -> Option<Arc<nats::Counters>> {
        None
    }
}
