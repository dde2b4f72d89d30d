//! Who gets which entries of a fan-out. Works on the whole of it: receivers that get the same get
//! one shared run, so that the cost follows the receivers, not receivers times entries.

use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::Run;
use crate::matcher::index::MatcherId;
use crate::namespace::Namespace;
use crate::slot::Slot;
use crate::subscribers::{Registered, Registry};
use crate::update::{Entry, Scope};

/// One run and everybody who gets it.
pub(crate) struct Hand<'r> {
    pub(crate) run: Arc<Run>,
    pub(crate) slots: Vec<&'r Slot>,
}

/// Scratch memory of the fan-out, kept between rounds. What stands in it counts only when it
/// carries the number of the current round.
#[derive(Debug, Default)]
pub(crate) struct Deal {
    round: u64,
    /// For each entry the matchers that pick it, sorted.
    matched: Vec<Vec<MatcherId>>,
    /// For each matcher the entries that it picks, in order.
    picked: Vec<(u64, Vec<usize>)>,
    /// The matchers that pick something.
    matchers: Vec<MatcherId>,
    /// For each receiver by what it was found.
    found: Vec<(u64, Found)>,
}

/// By what a receiver was found.
#[derive(Debug, Clone, Copy)]
enum Found {
    One(MatcherId),
    Several,
}

/// Receivers with the same key get the same run: those of one matcher and, where an entry is
/// private, of one grant, and where one has a scope, of one scope.
type RunKey = (MatcherId, Option<usize>, Option<Scope>);

impl Deal {
    /// Finds everybody who gets something of these entries, and what.
    pub(crate) fn deal<'r>(
        &mut self,
        registry: &'r Registry,
        entries: &[Arc<Entry>],
        namespace: &Namespace,
    ) -> Vec<Hand<'r>> {
        self.round += 1;
        self.match_entries(registry, entries, namespace);
        let mut places: HashMap<RunKey, Option<usize>> = HashMap::new();
        let mut hands: Vec<Hand<'r>> = Vec::new();
        for (slot_id, slot) in self.receivers(registry) {
            let Some(registered) = registry.registered(slot_id) else { continue };
            let Some((_, Found::One(matcher))) = self.found.get(slot_id) else {
                let picked = self.picked_by_several(registered);
                hands.extend(self.hand(entries, &picked, registered, slot));
                continue;
            };
            let picked = self.picked.get(matcher.index()).map_or(&[][..], |(_, picked)| picked);
            if let [_] = registry.members(*matcher) {
                // There is nobody to share it with.
                hands.extend(self.hand(entries, picked, registered, slot));
                continue;
            }
            let any = |is: fn(&Entry) -> bool| {
                picked.iter().any(|at| entries.get(*at).is_some_and(|entry| is(entry)))
            };
            let grant = any(|entry| entry.update.private).then_some(registered.grant_id);
            let scope = registered.scope.filter(|_| any(|entry| entry.scope.is_some()));
            let key = (*matcher, grant, scope);
            match places.get(&key) {
                None => {
                    let hand = self.hand(entries, picked, registered, slot);
                    places.insert(key, hand.is_some().then_some(hands.len()));
                    hands.extend(hand);
                }
                Some(None) => {}
                Some(Some(place)) => {
                    if let Some(hand) = hands.get_mut(*place) {
                        hand.slots.push(slot);
                    }
                }
            }
        }
        hands
    }

    fn match_entries(
        &mut self,
        registry: &Registry,
        entries: &[Arc<Entry>],
        namespace: &Namespace,
    ) {
        self.matchers.clear();
        self.matched.resize(entries.len().max(self.matched.len()), Vec::new());
        for (at, (entry, matched)) in entries.iter().zip(&mut self.matched).enumerate() {
            matched.clear();
            registry.find(entry, namespace, matched);
            for matcher in matched.iter() {
                if self.picked.len() <= matcher.index() {
                    self.picked.resize(matcher.index() + 1, (0, Vec::new()));
                }
                let Some((round, picked)) = self.picked.get_mut(matcher.index()) else { continue };
                if *round != self.round {
                    *round = self.round;
                    picked.clear();
                    self.matchers.push(*matcher);
                }
                picked.push(at);
            }
        }
    }

    /// Everybody in the lists of the matchers that pick something, each once.
    fn receivers<'r>(&mut self, registry: &'r Registry) -> Vec<(usize, &'r Slot)> {
        let mut receivers = Vec::new();
        for matcher in &self.matchers {
            for member in registry.members(*matcher) {
                if self.found.len() <= member.slot_id {
                    self.found.resize(member.slot_id + 1, (0, Found::Several));
                }
                let Some(found) = self.found.get_mut(member.slot_id) else { continue };
                match *found {
                    (round, Found::One(known)) if round == self.round && known == *matcher => {}
                    (round, _) if round == self.round => found.1 = Found::Several,
                    _ => {
                        *found = (self.round, Found::One(*matcher));
                        receivers.push((member.slot_id, &*member.slot));
                    }
                }
            }
        }
        receivers
    }

    /// What any of a receiver's matchers picks, in order, each once.
    fn picked_by_several(&self, registered: &Registered) -> Vec<usize> {
        let mut all = Vec::new();
        for (matcher, _) in &registered.places {
            if let Some((round, picked)) = self.picked.get(matcher.index())
                && *round == self.round
            {
                all.extend_from_slice(picked);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The run of what this receiver may read of the picked entries, if there is any.
    fn hand<'r>(
        &self,
        entries: &[Arc<Entry>],
        picked: &[usize],
        registered: &Registered,
        slot: &'r Slot,
    ) -> Option<Hand<'r>> {
        let run: Box<[_]> = picked
            .iter()
            .filter_map(|at| entries.get(*at).map(|entry| (*at, entry)))
            .filter(|(_, entry)| entry.scope.is_none() || entry.scope == registered.scope)
            .filter(|(at, entry)| !entry.update.private || self.may_read(registered, *at))
            .map(|(_, entry)| Arc::clone(entry))
            .collect();
        (!run.is_empty()).then(|| Hand { run: Arc::new(Run::new(run)), slots: vec![slot] })
    }

    /// Whether the receiver's grant covers one of the topics of an entry.
    fn may_read(&self, registered: &Registered, at: usize) -> bool {
        let Some(matched) = self.matched.get(at) else { return false };
        registered.grant.iter().any(|matcher| matched.binary_search(matcher).is_ok())
    }
}
