//! The hub: everything that receives is a subscriber, everything that sends is a publisher, and
//! there is one way to be behind: read the history after an offset.
//!
//! This crate knows no protocol, no socket, no clock source and no configuration file. Of tokio it
//! uses only what lets a future wait.

pub mod limits;

mod error;
mod grant;
mod namespace;
mod topic;
mod update;

pub mod matcher;

pub use error::{Missed, OpenError, Refused};
pub use grant::{Grant, TokenIdentity};
pub use matcher::{BadPattern, Candidate, Language, Matcher};
pub use namespace::Namespace;
pub use topic::{BadText, Line, Topic};
pub use update::{Entry, Epoch, Flaw, Form, Offset, Origin, Update};
