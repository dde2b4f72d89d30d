//! What a receiver asks for and may see: the one rule of delivery on every protocol. Knows no
//! receiver and no place in the history.

use std::sync::Arc;

use crate::grant::Grant;
use crate::history::Stored;
use crate::matcher::{Candidate, Matcher, Steps};
use crate::namespace::{Namespace, audience};
use crate::update::{Entry, Scope};

/// What a receiver asks for, and what it may see of that.
#[derive(Debug, Clone)]
pub struct Selection {
    /// An update is wanted when one of its topics matches one of these.
    pub matchers: Vec<Arc<Matcher>>,
    /// A private update is delivered when the grant covers one of its topics, perhaps another one.
    pub grant: Arc<Grant>,
    /// In which words it hears what the hub itself announces; `None` hears nothing of it.
    pub scope: Option<Scope>,
}

impl Selection {
    /// Whether an update of these topics is delivered: the one rule on every protocol. What costs
    /// more than the bound on one update does not match.
    pub fn selects(&self, topics: &[Candidate<'_>], private: bool) -> bool {
        let any = |matchers: &[Arc<Matcher>]| {
            let mut steps = Steps::for_update();
            topics
                .iter()
                .any(|topic| matchers.iter().any(|one| one.matches_within(topic, &mut steps)))
        };
        any(&self.matchers) && (!private || any(&self.grant.subscribe))
    }

    /// Whether an entry in memory is delivered: [`Selection::selects`], and in its scope.
    pub(crate) fn selects_entry(&self, entry: &Entry, namespace: &Namespace) -> bool {
        if entry.scope.is_some() && entry.scope != self.scope {
            return false;
        }
        let topics = entry.update.topics.iter();
        let candidates: Vec<_> =
            topics.map(|topic| Candidate::new(topic.as_str(), namespace)).collect();
        self.selects(&candidates, entry.update.private)
    }

    /// Whether something that the hub announces could be for it. Says yes where that is not known.
    pub(crate) fn may_select_announced(&self, namespace: &Namespace) -> bool {
        let reaches = |matchers: &[Arc<Matcher>]| {
            matchers.iter().any(|matcher| matcher.reaches_into(namespace))
        };
        self.scope.is_some() && reaches(&self.grant.subscribe) && reaches(&self.matchers)
    }

    /// The same of an item of the history. Says yes where a topic cannot be read.
    pub(crate) fn selects_stored(&self, stored: &Stored<'_>, namespace: &Namespace) -> bool {
        if let [matcher] = self.matchers.as_slice()
            && !stored.is_private()
        {
            let mut steps = Steps::for_update();
            // The common case needs no list of candidates.
            return stored.any_topic(&mut |topic| match &**matcher {
                Matcher::Everything => true,
                Matcher::Any => audience(topic).is_none(),
                Matcher::Exact(text) => **text == *topic,
                matcher => matcher.matches_within(&Candidate::new(topic, namespace), &mut steps),
            });
        }
        let mut topics = Vec::new();
        let is_unreadable = stored.any_topic(&mut |topic| {
            topics.push(topic.to_owned());
            false
        });
        let candidates: Vec<_> =
            topics.iter().map(|topic| Candidate::new(topic, namespace)).collect();
        is_unreadable || self.selects(&candidates, stored.is_private())
    }
}
