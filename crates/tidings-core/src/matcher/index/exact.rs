//! Topics that are named exactly, and who names them. One that was not looked up for long is in no
//! cache of the processor: who looks up many can have all of them come from memory side by side.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::MatcherId;

/// A topic's hash, under a key of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicHash(u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Exact {
    named: HashTable<Named>,
    key: RandomState,
}

#[derive(Debug)]
struct Named {
    hash: TopicHash,
    /// The matcher's own.
    topic: Arc<str>,
    ids: SmallVec<[MatcherId; 2]>,
}

impl Named {
    fn rehash(&self) -> u64 {
        self.hash.0
    }
}

impl Exact {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub(super) fn insert(&mut self, topic: &Arc<str>, id: MatcherId) {
        let hash = self.hash(topic);
        let is_it = |named: &Named| named.hash == hash && named.topic == *topic;
        let fresh = || Named { hash, topic: Arc::clone(topic), ids: SmallVec::new() };
        let named = self.named.entry(hash.0, is_it, Named::rehash).or_insert_with(fresh);
        named.into_mut().ids.push(id);
    }

    pub(super) fn remove(&mut self, topic: &Arc<str>, id: MatcherId) {
        let hash = self.hash(topic);
        let is_it = |named: &Named| named.hash == hash && named.topic == *topic;
        let Ok(mut found) = self.named.find_entry(hash.0, is_it) else { return };
        let ids = &mut found.get_mut().ids;
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            found.remove();
        }
    }

    /// Who names this topic.
    pub(super) fn find(&self, topic: &str) -> &[MatcherId] {
        let hash = self.hash(topic);
        let is_it = |named: &Named| named.hash == hash && *named.topic == *topic;
        self.named.find(hash.0, is_it).map_or(&[], |named| &named.ids)
    }

    pub(super) fn hash(&self, topic: &str) -> TopicHash {
        TopicHash(self.key.hash_one(topic))
    }

    /// The first who names the topic of this hash, or, which hardly ever is, another one of the
    /// same. What [`Exact::find`] has to look at then is at hand.
    pub(super) fn look_ahead(&self, hash: TopicHash) -> Option<MatcherId> {
        let named = self.named.find(hash.0, |named| named.hash == hash)?;
        black_box(named.topic.as_bytes().first().copied());
        named.ids.first().copied()
    }
}
