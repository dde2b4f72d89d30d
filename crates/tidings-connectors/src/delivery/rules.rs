//! What a sink was told about how to deliver. Knows no entry that waits and no system.

use std::hash::{DefaultHasher, Hash, Hasher};

use tidings_core::limits::{HOPS_MAX, PENDING_BYTES_MAX};
use tidings_core::{Entry, Line, Origin, Topic, Update};

use super::retry::Retry;
use crate::hash;
use crate::limits::{
    PENDING_RUNS_BYTES_MAX, RUN_BYTES_MAX, UNSAVED_MAX, WINDOW_BYTES_MAX, WINDOW_ENTRIES_MAX,
    WINDOW_RUNS_MAX,
};
use crate::specification::{KeyOf, Replace, SinkSpecification};

/// How a sink delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Its name.
    pub name: String,
    /// Order is kept in the whole sink where there is none.
    pub key: Option<KeyOf>,
    /// Deliveries at the same time; 1 without a key.
    pub concurrency: usize,
    /// Deliveries in a second, at most.
    pub rate: Option<u32>,
    /// How failures are tried again.
    pub retry: Retry,
    /// What follows.
    pub then: Option<Replace>,
    /// Entries that the system takes at a time.
    pub run_max: usize,
}

/// Lanes of entries that were sent for again stand beside those of entries that come the first
/// time: they are not held up by them and do not hold them up.
pub(super) const AGAIN: u64 = 1 << 63;

impl Rules {
    /// What a sink was told, whose system takes `run_max` entries at a time.
    pub fn new(told: &SinkSpecification, run_max: usize) -> Rules {
        let (first, max) = (told.retry.first.0, told.retry.max.0);
        Rules {
            name: told.name.clone(),
            key: told.key.clone(),
            concurrency: told.concurrency,
            rate: told.rate,
            retry: Retry { first, max, give_up_after: told.retry.give_up_after.0 },
            then: told.then.as_ref().map(|then| then.publish.clone()),
            run_max,
        }
    }

    /// The lane of an entry. Two keys may share one, which costs them only each other's time.
    pub(super) fn lane(&self, entry: &Entry) -> u64 {
        let key = match &self.key {
            None => return 0,
            Some(KeyOf::Topic) => entry.update.topics.first().map_or("", Topic::as_str),
            Some(KeyOf::Attribute(wanted)) => {
                let found =
                    entry.update.attributes.iter().find(|(name, _)| name.as_str() == wanted);
                found.map_or("", |(_, value)| value)
            }
        };
        // The lane is written down: it has to be the same in the next process.
        hash::stable(key.as_bytes()) & !AGAIN
    }

    /// Entries of one run.
    pub(super) fn run_max(&self) -> usize {
        // A follow-up is published behind its own entry, before the next is delivered; and a rate
        // counts entries.
        if self.then.is_some() || self.rate.is_some() { 1 } else { self.run_max.max(1) }
    }

    /// Entries and bytes that are taken from the history before those in front are delivered.
    pub(super) fn window(&self) -> (usize, usize) {
        match self.run_max() {
            1 => (WINDOW_ENTRIES_MAX, WINDOW_BYTES_MAX),
            most => (WINDOW_RUNS_MAX * most, WINDOW_RUNS_MAX * RUN_BYTES_MAX),
        }
    }

    /// Bytes of live entries that wait before they are read from the history again.
    pub(super) fn pending_bytes_max(&self) -> usize {
        match self.run_max() {
            1 => PENDING_BYTES_MAX,
            _ => PENDING_RUNS_BYTES_MAX,
        }
    }

    /// Acknowledged entries that may be unsaved.
    pub(super) fn unsaved_max(&self) -> usize {
        match self.run_max() {
            1 => UNSAVED_MAX,
            most => UNSAVED_MAX.max(WINDOW_RUNS_MAX * most),
        }
    }

    /// See [`Replace::is_own`].
    pub(super) fn is_own(&self, entry: &Entry) -> bool {
        self.then.as_ref().is_some_and(|then| then.is_own(entry, &self.name))
    }
}

impl Replace {
    /// Whether the sink of this name made an entry itself, and would by delivering it make another
    /// one.
    pub(crate) fn is_own(&self, entry: &Entry, sink: &str) -> bool {
        let topic = entry.update.topics.first().map_or("", Topic::as_str);
        let origin = entry.update.origin.as_ref().map(|origin| origin.connector.as_str());
        origin == Some(sink) && self.to.starts_with(&self.from) && topic.starts_with(&self.to)
    }

    /// What is published once `entry` is delivered by the sink of this name; `None` when its topic
    /// does not begin with what is to be replaced. Its idempotency key is (sink, place), so that it
    /// stands in the history once however often the delivery is repeated.
    pub(crate) fn follow_up(&self, entry: &Entry, sink: &str) -> Option<Update> {
        let topic = entry.update.topics.first()?.as_str();
        let rest = topic.strip_prefix(&self.from)?;
        let topic = Topic::parse(&format!("{}{rest}", self.to)).ok()?;
        let place = place(entry);
        let hops = entry.update.origin.as_ref().map_or(0, |origin| origin.hops);
        let update = &entry.update;
        Some(Update {
            topics: vec![topic],
            data: update.data.clone(),
            content_type: update.content_type.clone(),
            private: update.private,
            id: None,
            event_type: update.event_type.clone(),
            retry: None,
            attributes: update.attributes.clone(),
            idempotency_key: Line::parse(&format!("then/{sink}/{place}")).ok(),
            origin: Some(Origin {
                connector: Line::parse(sink).ok()?,
                position: Line::parse(&place).ok(),
                hops: hops.saturating_add(1).min(HOPS_MAX.saturating_add(1)),
            }),
            ephemeral: false,
        })
    }
}

/// The place of an entry in words that stay the same: its epoch and its number.
fn place(entry: &Entry) -> String {
    format!("{:016x}/{}", entry.epoch.0, entry.offset.durable)
}

/// The number of the entry of this epoch that `position` of a follow-up names.
pub(crate) fn followed(position: &str, epoch: u64) -> Option<u64> {
    let (named, number) = position.split_once('/')?;
    (u64::from_str_radix(named, 16).ok()? == epoch).then(|| number.parse().ok())?
}

/// A seed for the dice of a sink: another one in each process.
pub(crate) fn seed(name: &str, moment: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, moment, std::process::id()).hash(&mut hasher);
    hasher.finish()
}
