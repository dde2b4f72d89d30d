//! What one socket wants, from where on, and what it may read: enough to tell what the past of a
//! later wish has in common with what it was given already. Knows no entry's bytes and no place in
//! a stream.

use std::sync::Arc;

use tidings_core::{Candidate, Entry, Grant, Matcher, Namespace, Offset, Scope, Selection};

use super::limits::{SOCKET_GRANTS_REMEMBERED, SOCKET_LEFT_REMEMBERED};

/// All that a socket wants.
#[derive(Clone)]
pub(super) struct Wants {
    wants: Vec<Want>,
    grant: Arc<Grant>,
    scope: Option<Scope>,
    /// Behind this place everything that is wanted is given.
    even: Offset,
    /// Most have none.
    before: Option<Box<Before>>,
}

/// What counted before.
#[derive(Clone, Default)]
struct Before {
    /// Grants, each up to where it counted.
    grants: Vec<(Offset, Arc<Grant>)>,
    /// Up to here it is not known any more which grant counted.
    forgotten: Offset,
    /// What was let go of while a past is brought, each up to where it counted.
    left: Vec<(Want, Offset)>,
}

/// One matcher: everything behind `since` was brought, or will be.
#[derive(Debug, Clone)]
struct Want {
    matcher: Arc<Matcher>,
    since: Offset,
    /// Up to here it was brought as past, by this grant; behind that by the grant of each place.
    live: Offset,
    grant: Arc<Grant>,
}

impl Wants {
    /// From a selection that counts from `since` on.
    pub(super) fn new(selection: &Selection, since: Offset) -> Wants {
        let mut wants = Wants {
            wants: Vec::new(),
            grant: Arc::clone(&selection.grant),
            scope: selection.scope,
            even: Offset::ZERO,
            before: None,
        };
        wants.add(&selection.matchers, since, since);
        wants
    }

    /// What an audience is found by.
    pub(super) fn selection(&self) -> Selection {
        self.aside(self.wants.iter().map(|want| Arc::clone(&want.matcher)).collect())
    }

    /// The same for other matchers.
    pub(super) fn aside(&self, matchers: Vec<Arc<Matcher>>) -> Selection {
        Selection { matchers, grant: Arc::clone(&self.grant), scope: self.scope }
    }

    /// Behind this place everything is given that is wanted at all.
    pub(super) fn even(&self) -> Offset {
        self.even
    }

    /// Wants what these pick behind `since`. Up to `live` it was brought as past, as far as the
    /// grant of now covers it.
    pub(super) fn add(&mut self, matchers: &[Arc<Matcher>], since: Offset, live: Offset) {
        self.add_brought_by(&Arc::clone(&self.grant), matchers, since, live);
    }

    /// The same where grants changed meanwhile: nothing private is taken for brought.
    pub(super) fn add_in_part(&mut self, matchers: &[Arc<Matcher>], since: Offset, live: Offset) {
        self.add_brought_by(&Arc::new(Grant::anonymous()), matchers, since, live);
    }

    fn add_brought_by(
        &mut self,
        grant: &Arc<Grant>,
        matchers: &[Arc<Matcher>],
        since: Offset,
        live: Offset,
    ) {
        // A socket with one wish keeps room for one.
        self.wants.reserve_exact(matchers.len());
        for matcher in matchers {
            let (matcher, grant) = (Arc::clone(matcher), Arc::clone(grant));
            let want = Want { matcher, since, live, grant };
            let mut wants = self.wants.iter_mut();
            match wants.find(|known| Arc::ptr_eq(&known.matcher, &want.matcher)) {
                Some(known) if known.since < since => {}
                Some(known) => *known = want,
                None => self.wants.push(want),
            }
        }
        self.even = self.wants.iter().map(|want| want.since).max().unwrap_or_default();
    }

    /// Lets go of these at `place`. Remembers them where a past is being brought.
    pub(super) fn remove(&mut self, matchers: &[Arc<Matcher>], place: Offset, remembers: bool) {
        let goes = |want: &mut Want| matchers.iter().any(|one| Arc::ptr_eq(one, &want.matcher));
        let gone: Vec<Want> = self.wants.extract_if(.., goes).collect();
        if remembers {
            let before = self.before.get_or_insert_default();
            before.left.extend(gone.into_iter().map(|want| (want, place)));
            // Of what is forgotten, something may be brought once more.
            let over = before.left.len().saturating_sub(SOCKET_LEFT_REMEMBERED);
            before.left.drain(..over);
        }
        self.even = self.wants.iter().map(|want| want.since).max().unwrap_or_default();
    }

    /// No past is being brought any more.
    pub(super) fn forget_left(&mut self) {
        if let Some(before) = &mut self.before {
            before.left = Vec::new();
        }
    }

    /// Another grant counts behind `place`.
    pub(super) fn set_grant(&mut self, grant: Arc<Grant>, scope: Option<Scope>, place: Offset) {
        let earlier = std::mem::replace(&mut self.grant, grant);
        self.scope = scope;
        if covers_the_same(&earlier, &self.grant) {
            return;
        }
        let before = self.before.get_or_insert_default();
        if before.grants.len() == SOCKET_GRANTS_REMEMBERED {
            before.forgotten = before.grants.remove(0).0;
        }
        before.grants.push((place, earlier));
    }

    /// Whether something is wanted at its place, of what the audience gives.
    pub(super) fn wants(&self, entry: &Entry, namespace: &Namespace) -> bool {
        let wanted = self.wants.iter().filter(|want| want.since < entry.offset);
        let matchers = wanted.map(|want| Arc::clone(&want.matcher)).collect();
        picks(matchers, Arc::clone(&self.grant), false, entry, namespace)
    }

    /// Whether an entry that lies before the socket's place was given already.
    pub(super) fn has_brought(&self, entry: &Entry, namespace: &Namespace) -> bool {
        let at = entry.offset;
        let is_private = entry.update.private;
        let nothing = Before::default();
        let before = self.before.as_deref().unwrap_or(&nothing);
        let left = before.left.iter().filter(|(_, until)| at <= *until).map(|(want, _)| want);
        let wanted = self.wants.iter().chain(left).filter(|want| want.since < at);
        let earlier = before.grants.iter().find(|(until, _)| at <= *until);
        let then = earlier.map_or(&self.grant, |(_, grant)| grant);
        let mut matchers = Vec::new();
        for want in wanted {
            let matcher = Arc::clone(&want.matcher);
            if !is_private || at > want.live {
                matchers.push(matcher);
            } else if picks(vec![matcher], Arc::clone(&want.grant), true, entry, namespace) {
                return true;
            }
        }
        if is_private && at <= before.forgotten {
            return false;
        }
        picks(matchers, Arc::clone(then), is_private, entry, namespace)
    }
}

/// By the one rule of delivery, so that what costs too much is decided alike.
fn picks(
    matchers: Vec<Arc<Matcher>>,
    grant: Arc<Grant>,
    is_private: bool,
    entry: &Entry,
    namespace: &Namespace,
) -> bool {
    let topics = entry.update.topics.iter();
    let topics: Vec<_> = topics.map(|topic| Candidate::new(topic.as_str(), namespace)).collect();
    Selection { matchers, grant, scope: None }.selects(&topics, is_private)
}

fn covers_the_same(one: &Grant, other: &Grant) -> bool {
    let (one, other) = (&one.subscribe, &other.subscribe);
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}
