//! The hub: everything that receives is a subscriber, everything that sends is a publisher, and
//! there is one way to be behind: read the history after an offset.
//!
//! This crate knows no protocol, no socket, no clock source and no configuration file. Of tokio it
//! uses only what lets a future wait.

pub mod limits;
pub mod matcher;

mod announce;
#[cfg(test)]
mod announce_tests;
mod answers;
mod batch;
mod clock;
mod deal;
#[cfg(test)]
mod delivery_tests;
mod error;
mod fan_out;
mod grant;
mod held;
mod history;
mod hold;
mod hub;
#[cfg(test)]
mod hub_tests;
mod ids;
mod intake;
mod interner;
mod metrics;
mod namespace;
mod options;
mod outbox;
#[cfg(test)]
mod outbox_tests;
mod packed;
mod place;
mod publish_all;
mod reading;
mod ready;
mod repeats;
mod selection;
mod slot;
mod stage;
mod standing;
mod state;
mod store;
mod subscribers;
mod subscription;
mod tail;
mod topic;
mod turns;
mod update;
mod writer;

pub use batch::Batch;
pub use clock::Clock;
pub use error::{Missed, OpenError, Refused};
pub use grant::{Asker, Grant, TokenIdentity};
pub use held::Held;
pub use history::open::{CheckReport, SegmentReport};
pub use hold::HistoryHold;
pub use hub::{Hub, Publishing, Receipt, Room};
pub use matcher::{BadPattern, Candidate, Language, Matcher};
pub use metrics::Counters;
pub use namespace::{AUDIENCE_PREFIX, Namespace, audience};
pub use options::{Durability, HistoryOptions, HubOptions, Keep};
pub use place::{Judged, Located};
pub use publish_all::Placed;
pub use reading::{Reading, Start, Taken};
pub use ready::ReadyList;
pub use selection::Selection;
pub use standing::Judgement;
pub use state::{Row, SAVED_UP_TO, State, StateError, Table, Write};
pub use store::check;
pub use subscription::{Live, Subscription};
pub use topic::{BadText, Line, Topic};
pub use turns::after_others;
pub use update::{Entry, Epoch, Flaw, Form, Offset, Origin, Scope, Update};

/// Entry points for random and fuzz testing: whatever the bytes, none of them may panic.
#[doc(hidden)]
pub mod fuzz {
    pub use crate::history::record::fuzz_record;
    pub use crate::history::recovery::fuzz_segment;
    pub use crate::history::sidecar::fuzz_sidecar;
    pub use crate::packed::fuzz_packed;
}
