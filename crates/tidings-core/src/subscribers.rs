//! Everybody who receives, found by what they ask for. Matchers and grants are interned: equal
//! ones are judged once for an update, and publishing costs what matches, never what is there.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use smallvec::SmallVec;

use crate::deal::Deal;
use crate::held::Holders;
use crate::matcher::index::{Budget, Index, MatcherId};
use crate::matcher::{Candidate, Matcher};
use crate::metrics::{Counters, add};
use crate::namespace::Namespace;
use crate::selection::Selection;
use crate::slot::{Pushed, Slot};
use crate::standing::Standing;
use crate::update::{Entry, Offset, Scope};

/// All receivers, and up to where the writer has committed.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    registry: Mutex<Registry>,
    /// Up to where the writer has committed. A lock of its own, taken inside the registry's or
    /// alone: publishers never wait for the fan-out.
    committed: Mutex<Offset>,
    /// Which grants still count.
    pub(crate) standing: Standing,
    /// Who holds one.
    pub(crate) holders: Holders,
}

/// Who is there, under one lock.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    index: Index,
    ids: HashMap<MatcherKey, MatcherId>,
    matchers: Vec<Option<Interned>>,
    free_matchers: Vec<usize>,
    slots: Vec<Option<Registered>>,
    free_slots: Vec<usize>,
    grants: HashMap<Arc<[MatcherId]>, usize>,
    grant_references: Vec<usize>,
    free_grants: Vec<usize>,
    deal: Deal,
}

/// Identity of a matcher: `Hub::matcher` hands out one for equal patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct MatcherKey(usize);

impl MatcherKey {
    fn of(matcher: &Arc<Matcher>) -> MatcherKey {
        MatcherKey(Arc::as_ptr(matcher).addr())
    }
}

#[derive(Debug)]
struct Interned {
    matcher: Arc<Matcher>,
    /// Mostly one, which stands here.
    members: SmallVec<[Member; 1]>,
    /// Subscriptions and grants that name it.
    references: usize,
}

/// A receiver in a matcher's list.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) slot: Arc<Slot>,
    pub(crate) slot_id: usize,
    /// Which of the receiver's matchers this is.
    which: u32,
    /// It is the only one.
    pub(crate) is_alone: bool,
}

/// A receiver's matchers, grant and scope.
#[derive(Debug)]
pub(crate) struct Registered {
    /// For each of its matchers, the place in that matcher's list.
    pub(crate) places: Vec<(MatcherId, usize)>,
    pub(crate) grant: Arc<[MatcherId]>,
    pub(crate) grant_id: usize,
    pub(crate) scope: Option<Scope>,
}

impl Subscribers {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a receiver: entries behind the returned place will be pushed to it.
    pub(crate) fn add(&self, slot: &Arc<Slot>, selection: &Selection) -> (usize, Offset) {
        let mut registry = self.lock();
        let id = registry.register(slot, selection);
        // Read behind the registration: what is committed later is pushed later, so it is seen.
        let committed = self.committed();
        slot.join(committed);
        (id, committed)
    }

    /// Makes a receiver live again that overflowed: entries behind the returned place will be
    /// pushed to it.
    pub(crate) fn rejoin(&self, slot: &Slot) -> Offset {
        let _pushing = self.lock();
        let committed = self.committed();
        slot.join(committed);
        committed
    }

    /// Whether there are so many patterns without literal text that this may not join them.
    pub(crate) fn is_crowded_for(&self, matcher: &Arc<Matcher>, bare_max: usize) -> bool {
        if !matcher.is_bare() {
            return false;
        }
        let registry = self.lock();
        registry.index.bare_patterns() >= bare_max
            && !registry.ids.contains_key(&MatcherKey::of(matcher))
    }

    pub(crate) fn remove(&self, slot_id: usize) {
        self.lock().unregister(slot_id);
    }

    /// The place up to which a new receiver has to read the history. Moved before the batch is
    /// pushed, so that nobody misses or repeats an entry.
    pub(crate) fn commit(&self, committed: Offset) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = committed;
    }

    pub(crate) fn committed(&self) -> Offset {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends everybody back to the history: committed entries behind `fanned_out` were not pushed.
    pub(crate) fn overflow(&self, fanned_out: Offset, counters: &Counters, wake: &mut Vec<Waker>) {
        let registry = self.lock();
        for member in registry.matchers.iter().flatten().flat_map(|one| &one.members) {
            let (overflowed, waker) = member.slot.overflow(fanned_out);
            add(&counters.overflows, usize::from(overflowed));
            wake.extend(waker);
        }
    }

    /// Pushes batches to everybody who gets something of them, and hands out the owners to wake.
    /// Answers to how many lists that was.
    pub(crate) fn push(
        &self,
        entries: &[Arc<Entry>],
        namespace: &Namespace,
        counters: &Counters,
        wake: &mut Vec<Waker>,
    ) -> usize {
        let mut registry = self.lock();
        let mut deal = std::mem::take(&mut registry.deal);
        let dealt = deal.deal(&registry, entries, namespace);
        for (slot, run, shared_by) in dealt.iter() {
            let (pushed, waker) = slot.push(run, shared_by);
            wake.extend(waker);
            match pushed {
                Pushed::Taken(count) => add(&counters.fanned_out, count),
                Pushed::Overflowed => add(&counters.overflows, 1),
                Pushed::Already => {}
            }
        }
        let lists = dealt.len();
        registry.deal = deal;
        lists
    }
}

/// A receiver has far fewer matchers.
fn number(which: usize) -> u32 {
    u32::try_from(which).unwrap_or(u32::MAX)
}

impl Registry {
    fn register(&mut self, slot: &Arc<Slot>, selection: &Selection) -> usize {
        let slot_id = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let is_alone = selection.matchers.len() == 1;
        let mut places: Vec<(MatcherId, usize)> = Vec::with_capacity(selection.matchers.len());
        for matcher in &selection.matchers {
            let id = self.reference(matcher);
            let which = number(places.len());
            let Some(Some(interned)) = self.matchers.get_mut(id.index()) else { continue };
            places.push((id, interned.members.len()));
            interned.members.push(Member { slot: Arc::clone(slot), slot_id, which, is_alone });
        }
        let mut grant: Vec<_> =
            selection.grant.subscribe.iter().map(|matcher| self.reference(matcher)).collect();
        grant.sort_unstable();
        let grant: Arc<[MatcherId]> = grant.into();
        let grant_id = self.reference_grant(&grant);
        if let Some(place) = self.slots.get_mut(slot_id) {
            *place = Some(Registered { places, grant, grant_id, scope: selection.scope });
        }
        slot_id
    }

    fn unregister(&mut self, slot_id: usize) {
        let Some(registered) = self.slots.get_mut(slot_id).and_then(Option::take) else { return };
        self.free_slots.push(slot_id);
        // From the last to the first: a receiver may stand twice in one list.
        for (which, (id, _)) in registered.places.iter().enumerate().rev() {
            self.leave(slot_id, which, *id, &registered);
            self.release(*id);
        }
        for id in registered.grant.iter() {
            self.release(*id);
        }
        self.release_grant(&registered.grant, registered.grant_id);
    }

    fn leave(&mut self, slot_id: usize, which: usize, id: MatcherId, leaving: &Registered) {
        let Some(Some(interned)) = self.matchers.get_mut(id.index()) else { return };
        let Some((_, place)) = leaving.places.get(which) else { return };
        // The noted place is only out of date when the receiver's own other entry moved.
        let is_it = |member: &Member| member.slot_id == slot_id && member.which == number(which);
        let place = match interned.members.get(*place) {
            Some(member) if is_it(member) => Some(*place),
            _ => interned.members.iter().position(is_it),
        };
        let Some(place) = place else { return };
        interned.members.swap_remove(place);
        if let Some(moved) = interned.members.get(place)
            && let Some(Some(registered)) = self.slots.get_mut(moved.slot_id)
            && let Some((_, noted)) = registered.places.get_mut(moved.which as usize)
        {
            *noted = place;
        }
        if interned.members.len() * 4 < interned.members.capacity() {
            interned.members.shrink_to_fit();
        }
    }

    fn reference(&mut self, matcher: &Arc<Matcher>) -> MatcherId {
        let key = MatcherKey::of(matcher);
        if let Some(id) = self.ids.get(&key)
            && let Some(Some(interned)) = self.matchers.get_mut(id.index())
        {
            interned.references += 1;
            return *id;
        }
        let place = self.free_matchers.pop().unwrap_or_else(|| {
            self.matchers.push(None);
            self.matchers.len() - 1
        });
        let id = MatcherId::new(place);
        self.ids.insert(key, id);
        self.index.insert(id, matcher);
        if let Some(slot) = self.matchers.get_mut(place) {
            let matcher = Arc::clone(matcher);
            *slot = Some(Interned { matcher, members: SmallVec::new(), references: 1 });
        }
        id
    }

    fn release(&mut self, id: MatcherId) {
        let Some(place) = self.matchers.get_mut(id.index()) else { return };
        let Some(interned) = place else { return };
        interned.references -= 1;
        if interned.references == 0
            && let Some(interned) = place.take()
        {
            self.ids.remove(&MatcherKey::of(&interned.matcher));
            self.index.remove(id, &interned.matcher);
            self.free_matchers.push(id.index());
        }
    }

    fn reference_grant(&mut self, grant: &Arc<[MatcherId]>) -> usize {
        if let Some(id) = self.grants.get(grant)
            && let Some(references) = self.grant_references.get_mut(*id)
        {
            *references += 1;
            return *id;
        }
        let id = self.free_grants.pop().unwrap_or_else(|| {
            self.grant_references.push(0);
            self.grant_references.len() - 1
        });
        if let Some(references) = self.grant_references.get_mut(id) {
            *references = 1;
        }
        self.grants.insert(Arc::clone(grant), id);
        id
    }

    fn release_grant(&mut self, grant: &Arc<[MatcherId]>, id: usize) {
        let Some(references) = self.grant_references.get_mut(id) else { return };
        *references -= 1;
        if *references == 0 {
            self.grants.remove(grant);
            self.free_grants.push(id);
        }
    }

    /// The ids of all matchers that pick one of the update's topics, in order, each once. What is
    /// not found out within the budget of an update does not pick it.
    pub(crate) fn find(&self, entry: &Entry, namespace: &Namespace, found: &mut Vec<MatcherId>) {
        let mut budget = Budget::for_update();
        for topic in &entry.update.topics {
            self.index.find(&Candidate::new(topic.as_str(), namespace), &mut budget, found);
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Looks for who asks for exactly the topics of these entries. What is needed for that comes
    /// from memory side by side, since each step is done for all before the next, and is at hand
    /// when they are looked up for good.
    pub(crate) fn look_ahead(&self, entries: &[Arc<Entry>]) {
        let topics = entries.iter().flat_map(|entry| &entry.update.topics);
        let hashes: Vec<_> = topics.map(|topic| self.index.hash(topic.as_str())).collect();
        let exact: Vec<_> = hashes.iter().map(|hash| self.index.look_ahead(*hash)).collect();
        for matcher in exact.into_iter().flatten() {
            black_box(self.members(matcher).len());
        }
    }

    pub(crate) fn members(&self, matcher: MatcherId) -> &[Member] {
        match self.matchers.get(matcher.index()) {
            Some(Some(interned)) => &interned.members,
            _ => &[],
        }
    }

    pub(crate) fn registered(&self, slot_id: usize) -> Option<&Registered> {
        self.slots.get(slot_id).and_then(Option::as_ref)
    }
}
