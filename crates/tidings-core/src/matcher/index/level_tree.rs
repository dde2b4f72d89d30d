//! A tree over levels with wildcards. Knows neither MQTT nor NATS, only whether the last wildcard
//! may stand for nothing.

use std::collections::BTreeMap;

use crate::matcher::index::{MatcherId, take_out};
use crate::matcher::levels::Level;

/// What a wildcard for the rest may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Any number of levels.
    MayBeNothing,
    /// At least one level.
    IsSomething,
}

/// The tree. Nodes live in one list and name each other by number, so that a pattern of a
/// thousand levels does not use the stack.
#[derive(Debug, Default)]
pub(super) struct LevelTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    words: BTreeMap<Box<str>, u32>,
    one: Option<u32>,
    /// Patterns that end here.
    ends: Vec<MatcherId>,
    /// Patterns that go on with a wildcard for the rest.
    rests: Vec<MatcherId>,
}

const ROOT: u32 = 0;

impl LevelTree {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn insert<'p>(&mut self, levels: impl Iterator<Item = Level<'p>>, id: MatcherId) {
        if self.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = ROOT;
        for level in levels {
            let next = match level {
                Level::Word(word) => self.node(at).words.get(word).copied(),
                Level::One => self.node(at).one,
                Level::Rest => {
                    self.node_mut(at).rests.push(id);
                    return;
                }
            };
            at = match next {
                Some(next) => next,
                None => {
                    let next = self.add();
                    self.link(at, level, Some(next));
                    next
                }
            };
        }
        self.node_mut(at).ends.push(id);
    }

    pub(super) fn remove<'p>(&mut self, levels: impl Iterator<Item = Level<'p>>, id: MatcherId) {
        if self.is_empty() {
            return;
        }
        let mut at = ROOT;
        let mut path = Vec::new();
        let mut rest = false;
        for level in levels {
            let next = match level {
                Level::Word(word) => self.node(at).words.get(word).copied(),
                Level::One => self.node(at).one,
                Level::Rest => {
                    rest = true;
                    break;
                }
            };
            let Some(next) = next else { return };
            path.push((at, level));
            at = next;
        }
        let node = self.node_mut(at);
        take_out(if rest { &mut node.rests } else { &mut node.ends }, id);
        while self.node(at).is_unused() {
            let Some((parent, level)) = path.pop() else {
                *self = LevelTree::default();
                return;
            };
            self.link(parent, level, None);
            self.free.push(at);
            at = parent;
        }
    }

    /// Appends every pattern that matches `words`. With `hidden`, wildcards on the first level do
    /// not match.
    pub(super) fn find(
        &self,
        words: &[&str],
        rest: Rest,
        hidden: bool,
        found: &mut Vec<MatcherId>,
    ) {
        let mut waiting = vec![(ROOT, 0)];
        while let Some((at, depth)) = waiting.pop() {
            let Some(node) = self.nodes.get(at as usize) else { continue };
            let wild = depth > 0 || !hidden;
            let word = words.get(depth);
            if wild && (word.is_some() || rest == Rest::MayBeNothing) {
                found.extend(&node.rests);
            }
            let Some(word) = word else {
                found.extend(&node.ends);
                continue;
            };
            waiting.extend(node.words.get(*word).map(|next| (*next, depth + 1)));
            waiting.extend(node.one.filter(|_| wild).map(|next| (next, depth + 1)));
        }
    }

    fn link(&mut self, at: u32, level: Level<'_>, next: Option<u32>) {
        let node = self.node_mut(at);
        match (level, next) {
            (Level::Word(word), Some(next)) => {
                node.words.insert(word.into(), next);
            }
            (Level::Word(word), None) => {
                node.words.remove(word);
            }
            (Level::One, next) => node.one = next,
            // Has no node of its own.
            (Level::Rest, _) => {}
        }
    }

    fn add(&mut self) -> u32 {
        if let Some(at) = self.free.pop() {
            *self.node_mut(at) = Node::default();
            return at;
        }
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).expect("memory ends before four thousand million nodes")
    }

    fn node(&self, at: u32) -> &Node {
        self.nodes.get(at as usize).expect("nodes are named by their place in the list")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        self.nodes.get_mut(at as usize).expect("nodes are named by their place in the list")
    }
}

impl Node {
    fn is_unused(&self) -> bool {
        self.words.is_empty() && self.one.is_none() && self.ends.is_empty() && self.rests.is_empty()
    }
}
