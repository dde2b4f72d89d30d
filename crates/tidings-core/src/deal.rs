//! Who gets which entries of a fan-out. Works on the whole of it: receivers that get the same get
//! one shared run, so that the cost follows the receivers, not receivers times entries.
//!
//! What a round needs to know of a receiver stands in the list of its matcher: each further place
//! in memory that is looked at for it was last used long ago, and takes as long as all the rest.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use crate::batch::Run;
use crate::limits::PICKS_KEPT_MAX;
use crate::matcher::index::MatcherId;
use crate::namespace::Namespace;
use crate::slot::Slot;
use crate::subscribers::{Member, Registered, Registry};
use crate::update::{Entry, Scope};

/// Runs and who gets them.
#[derive(Default)]
pub(crate) struct Dealt<'r> {
    /// Each run, and how many get it.
    runs: Vec<(Arc<Run>, usize)>,
    /// Each receiver, and the number of its run.
    gets: Vec<(&'r Slot, usize)>,
}

/// Scratch memory of the fan-out, kept between rounds.
#[derive(Debug, Default)]
pub(crate) struct Deal {
    /// For each entry the matchers that pick it, sorted.
    matched: Vec<Vec<MatcherId>>,
    /// What each matcher picks: sorted by matcher, then in order.
    picked: Vec<Pick>,
    round: u64,
    /// For receivers with several matchers the last round in which they were found.
    found: Vec<u64>,
}

/// A matcher picks the entry at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    matcher: MatcherId,
    at: u32,
}

impl Pick {
    fn place(&self) -> usize {
        self.at as usize
    }
}

/// What a round works on.
#[derive(Clone, Copy)]
struct Table<'r, 't> {
    registry: &'r Registry,
    entries: &'t [Arc<Entry>],
    matched: &'t [Vec<MatcherId>],
    picked: &'t [Pick],
}

/// Receivers of one matcher with the same key get the same run: those of one grant, where an entry
/// is private, and of one scope, where one has a scope.
type RunKey = (Option<usize>, Option<Scope>);

impl Dealt<'_> {
    /// Each receiver with its run and how many share that.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Slot, &Arc<Run>, usize)> {
        self.gets.iter().filter_map(|(slot, number)| {
            let (run, shared_by) = self.runs.get(*number)?;
            Some((*slot, run, *shared_by))
        })
    }

    /// How many receivers get something.
    pub(crate) fn len(&self) -> usize {
        self.gets.len()
    }
}

impl<'r> Dealt<'r> {
    /// Gives a run to one receiver. Answers its number, for others who get it too.
    fn give(&mut self, run: Run, slot: &'r Slot) -> usize {
        self.runs.push((Arc::new(run), 0));
        let number = self.runs.len() - 1;
        self.share(number, slot);
        number
    }

    fn share(&mut self, number: usize, slot: &'r Slot) {
        if let Some((_, shared_by)) = self.runs.get_mut(number) {
            *shared_by += 1;
            self.gets.push((slot, number));
        }
    }
}

impl Deal {
    /// Finds everybody who gets something of these entries, and what.
    pub(crate) fn deal<'r>(
        &mut self,
        registry: &'r Registry,
        entries: &[Arc<Entry>],
        namespace: &Namespace,
    ) -> Dealt<'r> {
        self.round += 1;
        self.match_entries(registry, entries, namespace);
        let mut dealt = Dealt::default();
        let table = Table { registry, entries, matched: &self.matched, picked: &self.picked };
        let mut groups: Vec<&[Pick]> =
            self.picked.chunk_by(|one, other| one.matcher == other.matcher).collect();
        // Who gets the oldest entry is served first.
        groups.sort_by_key(|group| group.first().map(|pick| pick.at));
        groups.iter().for_each(|group| table.look_ahead(group));
        for group in groups {
            let Some(Pick { matcher, .. }) = group.first() else { continue };
            match registry.members(*matcher) {
                // There is nobody to share it with.
                [member] if member.is_alone => {
                    if let Some(run) = table.run(places(group), member.slot_id) {
                        dealt.give(run, &member.slot);
                    }
                }
                members => {
                    let seen = Seen { round: self.round, found: &mut self.found };
                    table.deal_to_many(group, members, seen, &mut dealt);
                }
            }
        }
        dealt
    }

    fn match_entries(
        &mut self,
        registry: &Registry,
        entries: &[Arc<Entry>],
        namespace: &Namespace,
    ) {
        self.picked.clear();
        // What a round needed that reached very many is given back.
        self.picked.shrink_to(PICKS_KEPT_MAX);
        self.matched.resize(entries.len().max(self.matched.len()), Vec::new());
        if entries.len() > 1 {
            registry.look_ahead(entries);
        }
        for (at, (entry, matched)) in entries.iter().zip(&mut self.matched).enumerate() {
            matched.clear();
            registry.find(entry, namespace, matched);
            // A round has far fewer entries.
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.picked.extend(matched.iter().map(|matcher| Pick { matcher: *matcher, at }));
        }
        // Those of each entry are in order already.
        self.picked.sort();
    }
}

/// Which receivers with several matchers were found in this round already.
struct Seen<'s> {
    round: u64,
    found: &'s mut Vec<u64>,
}

impl Seen<'_> {
    /// Answers whether it is found for the first time.
    fn is_new(&mut self, slot_id: usize) -> bool {
        if self.found.len() <= slot_id {
            self.found.resize(slot_id + 1, 0);
        }
        let found = self.found.get_mut(slot_id);
        found.is_some_and(|found| std::mem::replace(found, self.round) != self.round)
    }
}

fn places(group: &[Pick]) -> impl Iterator<Item = usize> {
    group.iter().map(Pick::place)
}

impl<'r> Table<'r, '_> {
    /// Looks at the first who may get what a matcher picks. What was not used for long comes from
    /// memory side by side that way; dealt to one by one, each would wait for its own.
    fn look_ahead(&self, group: &[Pick]) {
        let Some(pick) = group.first() else { return };
        let Some(member) = self.registry.members(pick.matcher).first() else { return };
        member.slot.look_ahead();
        if self.entries.get(pick.place()).is_some_and(|entry| entry.update.private) {
            let registered = self.registry.registered(member.slot_id);
            let grant = registered.and_then(|registered| registered.grant.first().copied());
            black_box((registered.map(|registered| registered.grant_id), grant));
        }
    }

    /// Deals what a matcher picks to everybody in its list.
    fn deal_to_many(
        &self,
        group: &[Pick],
        members: &'r [Member],
        mut seen: Seen<'_>,
        dealt: &mut Dealt<'r>,
    ) {
        let any = |is: fn(&Entry) -> bool| {
            places(group).any(|at| self.entries.get(at).is_some_and(|entry| is(entry)))
        };
        let (is_private, has_scope) =
            (any(|entry| entry.update.private), any(|entry| entry.scope.is_some()));
        let mut numbers: HashMap<RunKey, Option<usize>> = HashMap::new();
        for member in members {
            let registered = match member.is_alone && !is_private && !has_scope {
                true => None,
                false => self.registry.registered(member.slot_id),
            };
            if let Some(registered) = registered.filter(|_| !member.is_alone) {
                if !seen.is_new(member.slot_id) {
                    continue;
                }
                if let Some(all) = self.picked_by_several(registered) {
                    if let Some(run) = self.run(all.into_iter(), member.slot_id) {
                        dealt.give(run, &member.slot);
                    }
                    continue;
                }
            }
            let grant = registered.filter(|_| is_private).map(|registered| registered.grant_id);
            let scope = registered.filter(|_| has_scope).and_then(|registered| registered.scope);
            match numbers.get(&(grant, scope)) {
                Some(Some(number)) => dealt.share(*number, &member.slot),
                Some(None) => {}
                None => {
                    let run = self.run(places(group), member.slot_id);
                    let number = run.map(|run| dealt.give(run, &member.slot));
                    numbers.insert((grant, scope), number);
                }
            }
        }
    }

    /// What any of a receiver's matchers picks, in order, each once; nothing where only one of them
    /// picks something.
    fn picked_by_several(&self, registered: &Registered) -> Option<Vec<usize>> {
        let mut all = Vec::new();
        let mut picking: Option<MatcherId> = None;
        let mut several = false;
        for (matcher, _) in &registered.places {
            let from = self.picked.partition_point(|pick| pick.matcher < *matcher);
            let picks = self.picked.get(from..).unwrap_or_default();
            let picks = picks.iter().take_while(|pick| pick.matcher == *matcher);
            let before = all.len();
            all.extend(picks.map(Pick::place));
            if all.len() > before {
                several |= picking.is_some_and(|other| other != *matcher);
                picking = Some(*matcher);
            }
        }
        all.sort_unstable();
        all.dedup();
        several.then_some(all)
    }

    /// The run of what this receiver may read of the picked entries, if there is any.
    fn run(&self, picked: impl Iterator<Item = usize>, slot_id: usize) -> Option<Run> {
        let may_have = |at: usize, entry: &Entry| {
            if entry.scope.is_none() && !entry.update.private {
                return true;
            }
            let Some(registered) = self.registry.registered(slot_id) else { return false };
            (entry.scope.is_none() || entry.scope == registered.scope)
                && (!entry.update.private || self.may_read(registered, at))
        };
        let picked = picked.filter_map(|at| self.entries.get(at).map(|entry| (at, entry)));
        let given = picked.filter(|(at, entry)| may_have(*at, entry));
        Run::of(given.map(|(_, entry)| Arc::clone(entry)))
    }

    /// Whether the receiver's grant covers one of the topics of an entry.
    fn may_read(&self, registered: &Registered, at: usize) -> bool {
        let Some(matched) = self.matched.get(at) else { return false };
        registered.grant.iter().any(|matcher| matched.binary_search(matcher).is_ok())
    }
}
