//! Finds the matchers that pick a topic without asking the others: the cost of a topic follows the
//! number of matchers that could pick it. Does not know who owns a matcher, nor does it parse one.
//!
//! Exact topics are looked up; URL patterns and templates are found by the literal text that they
//! begin with and, below that, by the literal text that they end with; filters of MQTT and
//! subjects of NATS are found level by level. A pattern that begins and ends with a variable is
//! asked about every topic.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::COSTLY_STEPS_PER_BYTE;
use crate::matcher::mqtt_filter::{hides_from_wildcards, topic_levels};
use crate::matcher::nats_subject::is_subject;
use crate::matcher::{Candidate, Matcher, Steps, url_pattern};
use crate::namespace::audience;

pub use exact::TopicHash;

use exact::Exact;
use level_tree::{LevelTree, Rest};
use literals::Literals;

mod exact;
mod level_tree;
mod literals;
mod radix;
#[cfg(test)]
mod tests;

/// A matcher's number, given by the index's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MatcherId(u32);

impl MatcherId {
    /// The id with this number. Panics beyond four thousand million matchers, which no memory
    /// holds.
    pub fn new(index: usize) -> MatcherId {
        MatcherId(u32::try_from(index).expect("memory ends before four thousand million matchers"))
    }

    /// The number.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All matchers of a hub, by what they could pick.
#[derive(Debug, Default)]
pub struct Index {
    any: Vec<MatcherId>,
    everything: Vec<MatcherId>,
    exact: Exact,
    anchored: Patterns,
    loose: Patterns,
    costly: Patterns,
    mqtt: LevelTree,
    nats: LevelTree,
}

/// Patterns that have to be asked, by their literal text.
#[derive(Debug, Default)]
struct Patterns {
    urls: Literals,
    templates: Literals,
}

impl Index {
    /// Adds `matcher` under `id`. An id that is in the index already must not be added again.
    pub fn insert(&mut self, id: MatcherId, matcher: &Arc<Matcher>) {
        match &**matcher {
            Matcher::Any => self.any.push(id),
            Matcher::Everything => self.everything.push(id),
            Matcher::Exact(text) => self.exact.insert(text, id),
            Matcher::UrlPattern(pattern) => {
                let (prefix, suffix) = (pattern.literal_prefix(), pattern.literal_suffix());
                let patterns = self.patterns(pattern.is_anchored(), pattern.steps_per_byte());
                patterns.urls.insert(&prefix, suffix, id, matcher);
            }
            Matcher::UriTemplate(template) => {
                let (prefix, suffix) = (template.literal_prefix(), template.literal_suffix());
                let patterns = self.patterns(template.is_anchored(), template.steps_per_byte());
                patterns.templates.insert(prefix, suffix, id, matcher);
            }
            Matcher::Mqtt(filter) => self.mqtt.insert(filter.levels(), id),
            Matcher::Nats(subject) => self.nats.insert(subject.levels(), id),
        }
    }

    /// Takes out what was added under `id`; `matcher` is the one it was added with. Nothing of it
    /// is left behind.
    pub fn remove(&mut self, id: MatcherId, matcher: &Matcher) {
        match matcher {
            Matcher::Any => take_out(&mut self.any, id),
            Matcher::Everything => take_out(&mut self.everything, id),
            Matcher::Exact(text) => self.exact.remove(text, id),
            Matcher::UrlPattern(pattern) => {
                let patterns = self.patterns(pattern.is_anchored(), pattern.steps_per_byte());
                patterns.urls.remove(&pattern.literal_prefix(), pattern.literal_suffix(), id);
            }
            Matcher::UriTemplate(template) => {
                let patterns = self.patterns(template.is_anchored(), template.steps_per_byte());
                patterns.templates.remove(template.literal_prefix(), template.literal_suffix(), id);
            }
            Matcher::Mqtt(filter) => self.mqtt.remove(filter.levels(), id),
            Matcher::Nats(subject) => self.nats.remove(subject.levels(), id),
        }
    }

    /// How many patterns have no literal text to find them by: every topic has to ask them.
    pub fn bare_patterns(&self) -> usize {
        let bare = |patterns: &Patterns| patterns.urls.bare() + patterns.templates.bare();
        bare(&self.loose) + bare(&self.costly)
    }

    /// Appends the ids of all matchers that pick `topic`, each once, in no order. Patterns that
    /// are not asked within the budget do not pick it.
    pub fn find(&self, topic: &Candidate<'_>, budget: &mut Budget, found: &mut Vec<MatcherId>) {
        self.search(topic, budget, found);
    }

    /// By what [`Index::look_ahead`] finds a topic.
    pub fn hash(&self, topic: &str) -> TopicHash {
        self.exact.hash(topic)
    }

    /// A matcher that probably names exactly the topic of this hash. Of many topics each is found
    /// sooner for good when all of them were looked for in this way before.
    pub fn look_ahead(&self, topic: TopicHash) -> Option<MatcherId> {
        self.exact.look_ahead(topic)
    }

    /// [`Index::find`], and how many patterns had to be asked.
    fn search(
        &self,
        topic: &Candidate<'_>,
        budget: &mut Budget,
        found: &mut Vec<MatcherId>,
    ) -> usize {
        found.extend(&self.everything);
        if audience(topic.text()).is_none() {
            found.extend(&self.any);
        }
        found.extend(self.exact.find(topic.text()));
        let asked = self.anchored.find(topic, &mut budget.anchored, found)
            + self.loose.find(topic, &mut budget.loose, found)
            + self.costly.find(topic, &mut budget.costly, found);
        let levels = !self.mqtt.is_empty() || !self.nats.is_empty();
        if levels && !topic.is_hidden() {
            self.find_levels(topic.text(), found);
        }
        asked
    }

    /// Where a pattern of this kind stands.
    fn patterns(&mut self, anchored: bool, steps_per_byte: usize) -> &mut Patterns {
        if steps_per_byte > COSTLY_STEPS_PER_BYTE {
            &mut self.costly
        } else if anchored {
            &mut self.anchored
        } else {
            &mut self.loose
        }
    }

    /// The empty text does not get here: it means the hub's own URL, which is reserved.
    fn find_levels(&self, text: &str, found: &mut Vec<MatcherId>) {
        if !self.mqtt.is_empty() {
            let words: Vec<&str> = topic_levels(text).collect();
            self.mqtt.find(&words, Rest::MayBeNothing, hides_from_wildcards(text), found);
        }
        if !self.nats.is_empty() && is_subject(text) {
            let words: Vec<&str> = text.split('.').collect();
            self.nats.find(&words, Rest::IsSomething, false, found);
        }
    }
}

impl Patterns {
    /// Appends those that pick `topic`. Returns how many were asked.
    fn find(&self, topic: &Candidate<'_>, steps: &mut Steps, found: &mut Vec<MatcherId>) -> usize {
        if steps.are_used_up() {
            return 0;
        }
        let mut asked = 0;
        if !self.templates.is_empty() {
            asked += self.templates.find(topic.text(), topic.text(), topic, steps, found);
        }
        // Resolving a topic costs more than finding nothing does.
        if !self.urls.is_empty()
            && let Some(url) = topic.url()
        {
            let reach = url_pattern::reach(url);
            asked += self.urls.find(&reach, url.path(), topic, steps, found);
        }
        asked
    }
}

/// What finding may cost: strangers' patterns for any host, and those made to cost much, cannot use
/// up what is there for the plain ones that name their host.
#[derive(Debug)]
pub struct Budget {
    anchored: Steps,
    loose: Steps,
    costly: Steps,
}

impl Budget {
    /// For all topics of one update.
    pub fn for_update() -> Budget {
        let steps = Steps::for_update();
        Budget { anchored: steps.clone(), loose: steps.clone(), costly: steps }
    }

    /// No bound.
    pub fn unlimited() -> Budget {
        let steps = Steps::unlimited();
        Budget { anchored: steps.clone(), loose: steps.clone(), costly: steps }
    }
}

/// Takes `id` out of a list without order.
fn take_out(ids: &mut Vec<MatcherId>, id: MatcherId) {
    if let Some(place) = ids.iter().position(|other| *other == id) {
        ids.swap_remove(place);
    }
    shrink(ids);
}

/// A list that was long once would keep its memory for ever.
fn shrink<T>(list: &mut Vec<T>) {
    if list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
}

/// See [`shrink`].
fn shrink_map<V>(map: &mut HashMap<MatcherId, V>) {
    if map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}
