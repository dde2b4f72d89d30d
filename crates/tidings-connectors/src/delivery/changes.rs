//! What a sink has to have saved: all of it at once, or none of it. Knows no storage.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Entry, Missed, Offset};

use crate::connector::{Answer, Fault};

/// Which copy: its lane, and the place of its entry in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The lane.
    pub lane: u64,
    /// The place.
    pub number: u64,
}

/// What is known of a copy without reading its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which one.
    pub key: RowKey,
    /// What its entry weighs, in bytes.
    pub weight: usize,
    /// How often it failed.
    pub tries: u32,
    /// How often because the system does not want it.
    pub rejected: u32,
    /// Since when it can be delivered: milliseconds since 1970-01-01.
    pub since: u64,
    /// When it is tried next, as `since`.
    pub due: u64,
    /// How long that was to wait for when it was written.
    pub wait: Duration,
    /// No follow-up is published for it.
    pub is_replayed: bool,
}

/// A copy as it is to be: `None` removes it.
pub type Copy = (RowKey, Option<(Row, Arc<Entry>)>);

/// What nobody was told, kept so that somebody can do something about it.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its number among those of its sink, from 1.
    pub number: u64,
    /// When it became one: milliseconds since 1970-01-01.
    pub time: u64,
    /// How often it was tried.
    pub tries: u32,
    /// Why it is one, in words.
    pub reason: String,
    /// What it is about.
    pub about: About,
}

/// What a dead letter is about.
#[derive(Debug, Clone)]
pub enum About {
    /// An entry that was not delivered.
    Entry {
        /// The entry.
        entry: Arc<Entry>,
        /// Whose fault it was.
        fault: Fault,
        /// What the system said last.
        answer: Answer,
    },
    /// An entry that was delivered; what should have followed was refused by the hub.
    FollowUp {
        /// The entry that was delivered.
        entry: Arc<Entry>,
    },
    /// Entries that the history no longer had when the sink came for them.
    Gap(Missed),
    /// A copy that cannot be read any more.
    Unreadable {
        /// The place of its entry.
        number: u64,
    },
}

impl DeadLetter {
    /// What it weighs in the state, in bytes, about.
    pub fn weight(&self) -> usize {
        let about = match &self.about {
            About::Entry { entry, answer, .. } => entry.update.weight() + answer.body.len(),
            About::FollowUp { entry } => entry.update.weight(),
            About::Gap(_) | About::Unreadable { .. } => 0,
        };
        128 + self.reason.len() + about
    }
}

/// Whether a sink works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It does.
    #[default]
    Running,
    /// Somebody paused it.
    Paused,
    /// It does not until somebody says so; why.
    Disabled(String),
}

/// How long a system wants to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Until then: milliseconds since 1970-01-01.
    pub until: u64,
    /// How long that was to wait for when it was said: a clock that was wrong then or is wrong now
    /// makes it no longer.
    pub wait: Duration,
}

/// The dead letters of a sink, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadTotal {
    /// The number of the last one there ever was.
    pub last: u64,
    /// How many there are.
    pub rows: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// Everything that changed since it was asked for last. Later changes win over earlier ones.
#[derive(Debug, Default)]
pub struct Changes {
    /// The place up to which nothing is owed.
    pub position: Option<Offset>,
    /// No follow-up of what is still owed stands in the history up to here.
    pub unfollowed: Option<Offset>,
    /// Whether it works.
    pub standing: Option<Standing>,
    /// The system wants to be left alone.
    pub held: Option<Held>,
    /// Copies, new or changed, with their entries. In order: a later one for the same key wins.
    pub copies: Vec<Copy>,
    /// New dead letters.
    pub dead: Vec<DeadLetter>,
    /// Dead letters that are none any more.
    pub revived: Vec<u64>,
    /// How many dead letters there are after both.
    pub dead_total: Option<DeadTotal>,
    /// How many entries were acknowledged.
    pub acknowledged: usize,
}

impl Changes {
    /// Whether there is something to save.
    pub fn is_empty(&self) -> bool {
        self.position.is_none() && self.is_quiet()
    }

    /// Whether nothing happened but that the position moved over what is not for this sink.
    pub fn is_quiet(&self) -> bool {
        self.standing.is_none()
            && self.held.is_none()
            && self.copies.is_empty()
            && self.dead.is_empty()
            && self.revived.is_empty()
            && self.acknowledged == 0
    }

    /// Bytes that saving it takes, about.
    pub fn weight(&self) -> usize {
        let copy = |(_, row): &Copy| 64 + row.as_ref().map_or(0, |(row, _)| row.weight);
        let copies: usize = self.copies.iter().map(copy).sum();
        copies + self.dead.iter().map(DeadLetter::weight).sum::<usize>()
    }

    /// Lays `later` over this.
    pub fn merge(&mut self, later: Changes) {
        self.position = later.position.or(self.position);
        self.unfollowed = later.unfollowed.or(self.unfollowed);
        self.dead_total = later.dead_total.or(self.dead_total);
        self.standing = later.standing.or(self.standing.take());
        self.held = later.held.or(self.held);
        self.copies.extend(later.copies);
        self.dead.extend(later.dead);
        self.revived.extend(later.revived);
        self.acknowledged += later.acknowledged;
    }
}
