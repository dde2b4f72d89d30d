//! What a receiver asks for and may see: the one rule of delivery on every protocol. Knows no
//! place in the history.

use std::sync::Arc;

use crate::grant::Grant;
use crate::history::Stored;
use crate::matcher::{Candidate, Matcher, Steps};
use crate::namespace::Namespace;

/// What a receiver asks for, and what it may see of that.
#[derive(Debug, Clone)]
pub struct Selection {
    /// An update is wanted when one of its topics matches one of these.
    pub matchers: Vec<Arc<Matcher>>,
    /// A private update is delivered when the grant covers one of its topics, perhaps another one.
    pub grant: Arc<Grant>,
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

    pub(crate) fn selects_stored(&self, stored: &Stored<'_>, namespace: &Namespace) -> bool {
        if let [matcher] = self.matchers.as_slice()
            && !stored.is_private()
        {
            let mut steps = Steps::for_update();
            // The common case needs no list of candidates.
            return stored.any_topic(&mut |topic| match &**matcher {
                Matcher::Any => true,
                Matcher::Exact(text) => **text == *topic,
                matcher => matcher.matches_within(&Candidate::new(topic, namespace), &mut steps),
            });
        }
        let mut topics = Vec::new();
        stored.any_topic(&mut |topic| {
            topics.push(topic.to_owned());
            false
        });
        let candidates: Vec<_> =
            topics.iter().map(|topic| Candidate::new(topic, namespace)).collect();
        self.selects(&candidates, stored.is_private())
    }
}
