//! Patterns by the literal text that they begin and end with. Does not know what the text is.

use std::collections::HashMap;
use std::sync::Arc;

use crate::matcher::index::radix::Radix;
use crate::matcher::index::{MatcherId, shrink, shrink_map};
use crate::matcher::{Candidate, Matcher, Steps};

/// Patterns in a tree of prefixes, and below each prefix in a tree of suffixes, read backwards.
#[derive(Debug, Default)]
pub(super) struct Literals {
    prefixes: Radix<Radix<Vec<Listed>>>,
    /// Where each stands in its list. With it, a pattern is taken out without looking at others.
    places: HashMap<MatcherId, usize>,
}

#[derive(Debug)]
struct Listed {
    id: MatcherId,
    matcher: Arc<Matcher>,
}

impl Literals {
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.places.is_empty()
    }

    /// How many patterns have neither prefix nor suffix.
    pub(super) fn bare(&self) -> usize {
        self.prefixes.get(&[]).and_then(|suffixes| suffixes.get(&[])).map_or(0, Vec::len)
    }

    pub(super) fn insert(
        &mut self,
        prefix: &str,
        suffix: &str,
        id: MatcherId,
        matcher: &Arc<Matcher>,
    ) {
        let listed = Listed { id, matcher: Arc::clone(matcher) };
        let list = self.prefixes.entry(prefix.as_bytes()).entry(&backwards(suffix));
        self.places.insert(id, list.len());
        list.push(listed);
    }

    pub(super) fn remove(&mut self, prefix: &str, suffix: &str, id: MatcherId) {
        let Some(place) = self.places.remove(&id) else { return };
        shrink_map(&mut self.places);
        let suffix = backwards(suffix);
        let Some(suffixes) = self.prefixes.get_mut(prefix.as_bytes()) else { return };
        let Some(list) = suffixes.get_mut(&suffix) else { return };
        if list.get(place).is_some_and(|listed| listed.id == id) {
            list.swap_remove(place);
        }
        if let Some(moved) = list.get(place) {
            self.places.insert(moved.id, place);
        }
        shrink(list);
        if list.is_empty() {
            suffixes.remove(&suffix);
            if suffixes.is_empty() {
                self.prefixes.remove(prefix.as_bytes());
            }
        }
    }

    /// Asks the patterns whose prefix begins `head` and whose suffix ends `tail` about `topic`,
    /// those with the longest prefixes first: they mean the topic most. Returns how many were
    /// asked.
    pub(super) fn find(
        &self,
        head: &str,
        tail: &str,
        topic: &Candidate<'_>,
        steps: &mut Steps,
        found: &mut Vec<MatcherId>,
    ) -> usize {
        let tail = backwards(tail);
        let mut asked = 0;
        for suffixes in self.prefixes.prefixes(head.as_bytes()).into_iter().rev() {
            for list in suffixes.prefixes(&tail).into_iter().rev() {
                for listed in list {
                    if steps.are_used_up() {
                        return asked;
                    }
                    asked += 1;
                    if listed.matcher.matches_within(topic, steps) {
                        found.push(listed.id);
                    }
                }
            }
        }
        asked
    }
}

fn backwards(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}
