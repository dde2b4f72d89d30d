//! Patterns by the literal text that they begin and end with. Does not know what the text is.

use std::sync::Arc;

use crate::matcher::index::MatcherId;
use crate::matcher::index::radix::Radix;
use crate::matcher::{Candidate, Matcher};

/// Patterns in a tree of prefixes, and below each prefix in a tree of suffixes, read backwards.
#[derive(Debug, Default)]
pub(super) struct Literals(Radix<Radix<Vec<Listed>>>);

#[derive(Debug)]
struct Listed {
    id: MatcherId,
    matcher: Arc<Matcher>,
}

impl Literals {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(
        &mut self,
        prefix: &str,
        suffix: &str,
        id: MatcherId,
        matcher: &Arc<Matcher>,
    ) {
        let listed = Listed { id, matcher: Arc::clone(matcher) };
        self.0.entry(prefix.as_bytes()).entry(&backwards(suffix)).push(listed);
    }

    pub(super) fn remove(&mut self, prefix: &str, suffix: &str, id: MatcherId) {
        let suffix = backwards(suffix);
        let Some(suffixes) = self.0.get_mut(prefix.as_bytes()) else { return };
        let Some(listed) = suffixes.get_mut(&suffix) else { return };
        if let Some(place) = listed.iter().position(|other| other.id == id) {
            listed.swap_remove(place);
        }
        if listed.is_empty() {
            suffixes.remove(&suffix);
            if suffixes.is_empty() {
                self.0.remove(prefix.as_bytes());
            }
        }
    }

    /// Asks the patterns whose prefix begins `head` and whose suffix ends `tail` about `topic`.
    /// Returns how many were asked.
    pub(super) fn find(
        &self,
        head: &str,
        tail: &str,
        topic: &Candidate<'_>,
        found: &mut Vec<MatcherId>,
    ) -> usize {
        let tail = backwards(tail);
        let mut asked = 0;
        self.0.each_prefix(head.as_bytes(), &mut |suffixes| {
            suffixes.each_prefix(&tail, &mut |listed| {
                asked += listed.len();
                let picking = listed.iter().filter(|listed| listed.matcher.matches(topic));
                found.extend(picking.map(|listed| listed.id));
            });
        });
        asked
    }
}

fn backwards(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}
