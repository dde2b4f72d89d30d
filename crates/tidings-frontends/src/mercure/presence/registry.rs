//! The live connections with their subscriptions, and which of their beginnings and ends nobody was
//! told of yet. Knows no document and no hub.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidings_core::Language;
use tidings_core::matcher::UriTemplate;

use super::subscriber::Subscriber;
use crate::auth::Verified;
use crate::limits::{PRESENCE_CANCEL_WINDOW, PRESENCE_ENDED_MAX, PRESENCE_PENDING_SWEEP};

/// What a subscription asks for, as its subscriber wrote it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    pub(super) language: Language,
    pub(super) text: Box<str>,
    /// Whether a subscriber of 0.x could have asked for the same: it knows the wildcard, topics,
    /// and URI Templates, told apart by their look.
    pub(super) is_in_draft: bool,
}

impl Pattern {
    /// What a subscriber of 0.x asks for with `topic`: a URI Template if it looks like one.
    pub(super) fn of_draft(text: &str) -> Pattern {
        let language = if is_template(text) { Language::UriTemplate } else { Language::Exact };
        Pattern { language, text: text.into(), is_in_draft: true }
    }

    pub(super) fn new(language: Language, text: &str) -> Pattern {
        let is_in_draft = match language {
            _ if text == "*" => true,
            Language::Exact => !is_template(text),
            Language::UriTemplate => true,
            Language::UrlPattern | Language::Mqtt | Language::Nats => false,
        };
        Pattern { language, text: text.into(), is_in_draft }
    }
}

fn is_template(text: &str) -> bool {
    text.contains('{') && matches!(UriTemplate::parse(text), Ok(Some(_)))
}

/// One subscription of a connection.
#[derive(Debug)]
pub(super) struct Shown {
    /// Shared by all who ask for the same.
    pub(super) pattern: Arc<Pattern>,
    /// Which detail of the token has its payload.
    detail: Option<u16>,
}

/// A connection with its subscriptions; never changes.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) subscriber: Subscriber,
    pub(super) subscriptions: Box<[Shown]>,
    /// Where payloads stand, when there are any.
    verified: Option<Arc<Verified>>,
}

impl Connection {
    /// What a subscription of this connection carries along.
    pub(super) fn payload(&self, shown: &Shown) -> Option<&Value> {
        let detail = self.verified.as_ref()?.details.get(usize::from(shown.detail?))?;
        detail.payload.as_ref()
    }
}

/// What others know of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing: if it ends now, it never was.
    Nothing,
    /// It stood in a list, so its end has to be told in any case.
    Listed,
    /// It was announced.
    Announced,
}

#[derive(Debug)]
struct Row {
    connection: Arc<Connection>,
    told: Told,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Registry {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    live: BTreeMap<Subscriber, Row>,
    /// With the number of live subscriptions.
    patterns: HashMap<Arc<Pattern>, usize>,
    /// Beginnings that nobody was told of, with their times. Those that ended since may stand here.
    begun: VecDeque<(Instant, Subscriber)>,
    /// Ends that nobody was told of, of connections that somebody was told of. Announced before
    /// further beginnings are, and while there are many, lists show none either that was not
    /// announced: there are never more than the bound and once the connections.
    ended: VecDeque<Arc<Connection>>,
    /// Changes were taken and are not announced yet.
    announcing: bool,
    stopped: bool,
}

/// A connection, and whether it began or ended.
pub(super) type Change = (Arc<Connection>, bool);

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(
        &self,
        subscriber: Subscriber,
        verified: Option<Arc<Verified>>,
        shown: Vec<(Pattern, Option<u16>)>,
    ) -> Arc<Connection> {
        let mut table = self.lock();
        let subscriptions = shown
            .into_iter()
            .map(|(pattern, detail)| Shown { pattern: table.shared(pattern), detail })
            .collect();
        let connection = Connection { subscriber, subscriptions, verified };
        let connection = Arc::new(connection);
        let row = Row { connection: Arc::clone(&connection), told: Told::Nothing };
        table.live.insert(subscriber, row);
        table.begun.push_back((Instant::now(), subscriber));
        table.sweep();
        drop(table);
        self.changed.notify_all();
        connection
    }

    pub(super) fn leave(&self, connection: &Arc<Connection>) {
        let mut table = self.lock();
        let Some(row) = table.live.remove(&connection.subscriber) else { return };
        for shown in &connection.subscriptions {
            table.release(&shown.pattern);
        }
        if row.told != Told::Nothing {
            table.ended.push_back(row.connection);
            drop(table);
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to announce and takes of it connections with `max`
    /// subscriptions, or a single one with more. `None` when nothing will be announced any more.
    pub(super) fn wait_for_changes(&self, max: usize) -> Option<Vec<Change>> {
        let mut table = self.lock();
        loop {
            if table.stopped {
                return None;
            }
            let changes = table.take(max, Instant::now());
            if !changes.is_empty() {
                table.announcing = true;
                return Some(changes);
            }
            let ripe = table.begun.front().map(|(since, _)| ripe(*since));
            table = match ripe {
                None => self.changed.wait(table).unwrap_or_else(PoisonError::into_inner),
                Some(ripe) => {
                    let left = ripe.saturating_duration_since(Instant::now());
                    let waited = self.changed.wait_timeout(table, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Waits for a while, or until nothing will be announced any more.
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut table = self.lock();
        while !table.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(table, left);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What was taken is announced.
    pub(super) fn settle(&self) {
        self.lock().announcing = false;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Nothing will be announced any more.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether everything that happened was announced.
    pub(super) fn is_quiet(&self) -> bool {
        let table = self.lock();
        let live = &table.live;
        let nothing_begun = table.begun.iter().all(|(_, begun)| !live.contains_key(begun));
        !table.announcing && table.ended.is_empty() && nothing_begun
    }

    /// The live connection of this name.
    pub(super) fn find(&self, subscriber: Subscriber) -> Option<Arc<Connection>> {
        self.lock().live.get(&subscriber).map(|row| Arc::clone(&row.connection))
    }

    /// Up to `max` live connections behind one of this name, in the order of their names.
    pub(super) fn page(&self, after: Subscriber, max: usize) -> Vec<Arc<Connection>> {
        let table = self.lock();
        let behind = table.live.range((Bound::Excluded(after), Bound::Unbounded));
        behind.take(max).map(|(_, row)| Arc::clone(&row.connection)).collect()
    }

    /// Whether a connection may be shown: its end will be told from now on. Not when it ended, and
    /// not before it is announced when too many ends wait: then its beginning is told later.
    pub(super) fn list(&self, subscriber: Subscriber) -> bool {
        let mut table = self.lock();
        let crowded = table.ended.len() >= PRESENCE_ENDED_MAX;
        let Some(row) = table.live.get_mut(&subscriber) else { return false };
        if row.told == Told::Nothing {
            if crowded {
                return false;
            }
            row.told = Told::Listed;
        }
        true
    }
}

/// When a beginning is told: it does not cancel itself any more.
fn ripe(since: Instant) -> Instant {
    since + PRESENCE_CANCEL_WINDOW
}

impl Table {
    fn shared(&mut self, pattern: Pattern) -> Arc<Pattern> {
        if let Some((known, _)) = self.patterns.get_key_value(&pattern) {
            let known = Arc::clone(known);
            *self.patterns.entry(Arc::clone(&known)).or_default() += 1;
            return known;
        }
        let fresh = Arc::new(pattern);
        self.patterns.insert(Arc::clone(&fresh), 1);
        fresh
    }

    /// One subscription less. Lets go of the pattern with the last one.
    fn release(&mut self, pattern: &Arc<Pattern>) {
        let Some(count) = self.patterns.get_mut(pattern) else { return };
        *count -= 1;
        if *count == 0 {
            self.patterns.remove(pattern);
        }
        if self.patterns.len() * 4 < self.patterns.capacity() {
            self.patterns.shrink_to(self.patterns.len() * 2);
        }
    }

    /// Keeps the list of beginnings as short as that of the connections.
    fn sweep(&mut self) {
        if self.begun.len() > 2 * self.live.len() + PRESENCE_PENDING_SWEEP {
            let live = &self.live;
            self.begun.retain(|(_, begun)| live.contains_key(begun));
        }
    }

    /// Ends first: whoever is told of more and more beginnings must also hear of ends.
    fn take(&mut self, max: usize, now: Instant) -> Vec<Change> {
        let (mut changes, mut count) = (Vec::new(), 0);
        while count < max
            && let Some(connection) = self.ended.pop_front()
        {
            count += connection.subscriptions.len().max(1);
            changes.push((connection, false));
        }
        while count < max
            && let Some((since, begun)) = self.begun.front()
            && (ripe(*since) <= now || !self.live.contains_key(begun))
        {
            if let Some(row) = self.live.get_mut(begun) {
                row.told = Told::Announced;
                count += row.connection.subscriptions.len().max(1);
                changes.push((Arc::clone(&row.connection), true));
            }
            self.begun.pop_front();
        }
        // What a storm needed is given back when it is over.
        if self.ended.is_empty() {
            self.ended = VecDeque::new();
        }
        if self.begun.is_empty() {
            self.begun = VecDeque::new();
        }
        changes
    }
}

#[cfg(test)]
impl Registry {
    /// How many beginnings are noted.
    pub(super) fn begun(&self) -> usize {
        self.lock().begun.len()
    }

    /// Whether nothing is left of anybody.
    pub(super) fn is_empty(&self) -> bool {
        let table = self.lock();
        let capacity = table.ended.capacity() + table.begun.capacity() + table.patterns.capacity();
        table.live.is_empty() && capacity == 0
    }
}
