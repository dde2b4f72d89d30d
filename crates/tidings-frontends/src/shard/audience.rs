//! Receivers of one shard who ask for the same and may read the same: they stand behind one
//! subscription, so that an update costs one entry in a list for all of them, and its bytes are put
//! together once.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use tidings_core::{Grant, Matcher, Offset, Scope, Selection, Subscription};

use super::portion::Portion;
use crate::limits::RECENT_BYTES;

/// What makes receivers equal. Matchers that are equal are one, for as long as somebody uses them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Likeness {
    matchers: Box<[usize]>,
    grant: Box<[usize]>,
    scope: Option<Scope>,
}

impl Likeness {
    pub(super) fn of(selection: &Selection) -> Likeness {
        let addresses = |matchers: &[Arc<Matcher>]| {
            let mut addresses: Box<[usize]> =
                matchers.iter().map(|matcher| Arc::as_ptr(matcher).addr()).collect();
            addresses.sort_unstable();
            addresses
        };
        Likeness {
            matchers: addresses(&selection.matchers),
            grant: addresses(&selection.grant.subscribe),
            scope: selection.scope,
        }
    }
}

/// The selection of all who are alike: whose token it was does not count, each holds its own.
pub(super) fn common(selection: Selection) -> Selection {
    let subscribe = selection.grant.subscribe.clone();
    let grant = Arc::new(Grant { subscribe, ..Grant::default() });
    Selection { grant, ..selection }
}

/// Where an audience's entries come from.
pub(super) enum Source {
    /// Memory.
    Live(Subscription),
    /// The history: somebody reads.
    Away,
}

/// One audience.
pub(super) struct Audience {
    /// Tells it from others that had its number before.
    pub(super) serial: u64,
    pub(super) likeness: Likeness,
    pub(super) selection: Arc<Selection>,
    pub(super) source: Source,
    /// It stands in line to be served.
    pub(super) in_line: bool,
    /// Numbers of its receivers; where they are few, they stand here.
    pub(super) members: SmallVec<[u32; 4]>,
    /// Up to here its live receivers were given everything.
    pub(super) passed: Offset,
    /// How many of its receivers are not live.
    pub(super) behind: usize,
    recent: Recent,
}

/// What was handed out last, for as long as a receiver is behind: it catches up from here.
#[derive(Default)]
struct Recent {
    portions: VecDeque<Arc<Portion>>,
    bytes: usize,
    /// Nothing behind this place is missing.
    after: Offset,
}

/// What an audience has for a receiver that is behind.
pub(super) enum Covered {
    /// This comes next.
    By(Arc<Portion>),
    /// It has everything.
    Entirely,
    /// The history has to be read.
    Not,
}

impl Audience {
    pub(super) fn new(
        serial: u64,
        likeness: Likeness,
        selection: Arc<Selection>,
        subscription: Subscription,
    ) -> Audience {
        let passed = subscription.offset();
        let (source, recent) = (Source::Live(subscription), Recent::default());
        let (in_line, members, behind) = (false, SmallVec::new(), 0);
        Audience { serial, likeness, selection, source, in_line, members, passed, behind, recent }
    }

    /// Notes what is handed out, when somebody is behind who will want it.
    pub(super) fn remember(&mut self, portion: Portion) {
        if self.behind == 0 {
            return;
        }
        let recent = &mut self.recent;
        if recent.portions.is_empty() {
            recent.after = self.passed;
        }
        recent.bytes += portion.bytes();
        recent.portions.push_back(Arc::new(portion));
        while recent.bytes > RECENT_BYTES
            && let Some(old) = recent.portions.pop_front()
        {
            recent.bytes -= old.bytes();
            recent.after = old.last();
        }
    }

    /// Up to here its live receivers have everything, also when nothing was for them.
    pub(super) fn offset(&self) -> Offset {
        match &self.source {
            Source::Live(subscription) if subscription.is_live() => subscription.caught_up(),
            Source::Live(_) | Source::Away => self.passed,
        }
    }

    /// Lets go of what was handed out.
    pub(super) fn forget(&mut self) {
        if !self.recent.portions.is_empty() {
            self.recent = Recent::default();
        }
    }

    /// Bytes of what was handed out that are kept.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.recent.portions.iter().map(|portion| portion.bytes()).sum()
    }

    /// What comes for a receiver that has everything up to `position`.
    pub(super) fn covers(&self, position: Offset) -> Covered {
        if position >= self.passed {
            return Covered::Entirely;
        }
        let recent = &self.recent;
        if recent.portions.is_empty() || position < recent.after {
            return Covered::Not;
        }
        let from = recent.portions.partition_point(|portion| portion.last() <= position);
        match recent.portions.get(from) {
            Some(portion) => Covered::By(Arc::clone(portion)),
            None => Covered::Entirely,
        }
    }

    pub(super) fn join(&mut self, number: u32) -> u32 {
        self.members.push(number);
        u32::try_from(self.members.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes the receiver from its seat. Answers who sits there now.
    pub(super) fn leave(&mut self, seat: u32) -> Option<u32> {
        let seat = seat as usize;
        if seat < self.members.len() {
            self.members.swap_remove(seat);
        }
        if self.members.len() * 4 < self.members.capacity() {
            self.members.shrink_to_fit();
        }
        self.members.get(seat).copied()
    }
}
