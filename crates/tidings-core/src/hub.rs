//! The hub's one door, with two verbs: publish and subscribe. Knows no protocol.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::answers::Answer;
use crate::clock::Clock;
use crate::error::{OpenError, Refused};
use crate::grant::{Asker, Grant};
use crate::history::History;
use crate::hold::Holds;
use crate::ids::Ids;
use crate::intake::Duty;
use crate::interner::Interner;
use crate::limits::{
    BARE_PATTERNS_MAX, BARE_PATTERNS_OF_STRANGERS, QUEUE_PERMIT_BYTES, QUEUE_UPDATES_MAX,
};
use crate::matcher::{BadPattern, Candidate, Language, Matcher};
use crate::metrics::{Counters, count};
use crate::namespace::{Namespace, audience};
use crate::options::{Durability, HubOptions};
use crate::state::State;
use crate::store::Store;
use crate::subscribers::Subscribers;
use crate::tail::Tail;
use crate::topic::Topic;
use crate::update::{Entry, Epoch, Offset, Update};
use crate::writer::{Commit, Queued, Writer};

/// What is true of a published update now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id, as receivers see it.
    pub id: Arc<str>,
    /// The hub's own id for its place: a cursor to go on behind it.
    pub cursor: Arc<str>,
    /// Its place.
    pub offset: Offset,
    /// How safe it is.
    pub durability: Durability,
    /// It was published before under the same idempotency key; this is that one's receipt.
    pub repeated: bool,
}

/// A place in the queue of the writer, for one update of up to the reserved weight.
#[derive(Debug)]
pub struct Room {
    pub(crate) permit: OwnedSemaphorePermit,
}

/// An update in the queue of the writer. It is published also when this is dropped.
#[derive(Debug)]
pub struct Publishing {
    hub: Hub,
    answered: oneshot::Receiver<Result<Receipt, Refused>>,
    duty: Option<Duty<Queued>>,
}

impl Publishing {
    /// Waits until the update is as durable as the receipt says.
    ///
    /// # Errors
    ///
    /// See [`Refused`]. Nothing was stored or delivered then, except that after `StorageFailed` the
    /// update may still stand in the history when it is opened again.
    pub async fn receipt(self) -> Result<Receipt, Refused> {
        if let Some(duty) = self.duty {
            self.hub.inner.writer.see_to(duty).await;
        }
        let shared = self.hub.shared();
        let result = self.answered.await.unwrap_or_else(|_| Err(shared.refusal_at_the_end()));
        result.inspect_err(|_| count(&shared.counters.refused))
    }
}

/// What the hub's parts share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) namespace: Namespace,
    pub(crate) history: Box<dyn History>,
    pub(crate) state: Arc<State>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) subscribers: Subscribers,
    pub(crate) tail: Tail,
    pub(crate) counters: Counters,
    pub(crate) ids: Arc<Ids>,
    pub(crate) epoch: Epoch,
    pub(crate) durability: Durability,
    /// The storage failed: nothing is accepted any more.
    pub(crate) failed: AtomicBool,
    fanned_out: Mutex<Offset>,
}

impl Shared {
    /// What a publisher is told whom nobody answers any more.
    pub(crate) fn refusal_at_the_end(&self) -> Refused {
        match self.failed.load(Ordering::Acquire) {
            true => Refused::StorageFailed("the writer has ended".into()),
            false => Refused::ShuttingDown,
        }
    }

    /// How safe an entry is that is committed.
    pub(crate) fn durability_of(&self, entry: &Entry) -> Durability {
        if entry.update.ephemeral { Durability::Memory } else { self.durability }
    }

    /// Up to where entries were handed to the receivers' lists.
    pub(crate) fn fanned_out(&self) -> Offset {
        *self.fanned_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_fanned_out(&self, offset: Offset) {
        *self.fanned_out.lock().unwrap_or_else(PoisonError::into_inner) = offset;
    }
}

/// The hub. Cheap to clone; all clones are one hub.
#[derive(Debug, Clone)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    interner: Interner,
    update_bytes_max: usize,
    clock: ClockHandle,
    room: Arc<Semaphore>,
    pub(crate) writer: Writer,
    /// Held by who announces: one at a time.
    pub(crate) announcing: Mutex<()>,
    /// The data folder is ours for as long as this is open.
    _lock: Option<File>,
}

struct ClockHandle(Arc<dyn Clock>);

impl std::fmt::Debug for ClockHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Clock")
    }
}

impl Hub {
    /// Opens the history and starts the two stages of the hub, each a thread.
    ///
    /// # Errors
    ///
    /// When the data folder cannot be used: in use by another process, of another format version,
    /// foreign, or not accessible.
    pub fn open(options: HubOptions, clock: Arc<dyn Clock>) -> Result<Hub, OpenError> {
        let store = Store::open(&options.history, Arc::clone(&clock))?;
        Hub::over(store, options, clock)
    }

    pub(crate) fn over(
        store: Store,
        options: HubOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Hub, OpenError> {
        let Store { history, holds, state, ids, epoch, start, durability, remembered, lock } =
            store;
        let shared = Arc::new(Shared {
            namespace: options.namespace,
            history,
            state,
            holds,
            subscribers: Subscribers::default(),
            tail: Tail::beginning_at(start),
            counters: Counters::default(),
            ids,
            epoch,
            durability,
            failed: AtomicBool::new(false),
            fanned_out: Mutex::new(start),
        });
        shared.subscribers.commit(start);
        let writer = Writer::start(Arc::clone(&shared), Arc::clone(&clock), start, remembered)
            .map_err(|source| OpenError::Io { path: "thread".into(), source })?;
        let inner = Inner {
            shared,
            interner: Interner::default(),
            update_bytes_max: options.update_bytes_max,
            clock: ClockHandle(clock),
            room: Arc::new(Semaphore::new(QUEUE_UPDATES_MAX)),
            writer,
            announcing: Mutex::new(()),
            _lock: lock,
        };
        Ok(Hub { inner: Arc::new(inner) })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// The hub's own URL and what belongs to it.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.shared.namespace
    }

    /// The matcher for a pattern: compiled once for all who use an equal one at the same time.
    ///
    /// # Errors
    ///
    /// When the pattern is not valid in its language or too costly.
    pub fn matcher(&self, language: Language, pattern: &str) -> Result<Arc<Matcher>, BadPattern> {
        self.inner.interner.matcher(language, pattern, self.namespace())
    }

    /// [`Hub::matcher`] for what a subscriber asks for. Grants are not made of these.
    ///
    /// # Errors
    ///
    /// As [`Hub::matcher`]; also for a pattern without literal text at its begin and its end when
    /// subscribers use [`crate::limits::BARE_PATTERNS_MAX`] others already, or, for a stranger,
    /// [`crate::limits::BARE_PATTERNS_OF_STRANGERS`].
    pub fn matcher_of_subscriber(
        &self,
        language: Language,
        pattern: &str,
        asker: Asker,
    ) -> Result<Arc<Matcher>, BadPattern> {
        let matcher = self.matcher(language, pattern)?;
        let bare_patterns_max = match asker {
            Asker::Known => BARE_PATTERNS_MAX,
            Asker::Stranger => BARE_PATTERNS_OF_STRANGERS,
        };
        if self.inner.shared.subscribers.is_crowded_for(&matcher, bare_patterns_max) {
            return Err(BadPattern::Crowded);
        }
        Ok(matcher)
    }

    /// Waits for a place in the queue for an update of this weight in bytes.
    ///
    /// # Errors
    ///
    /// When the hub shuts down.
    pub async fn room(&self, weight: usize) -> Result<Room, Refused> {
        self.room_for(1, weight).await
    }

    /// The same for several updates of this weight together.
    pub(crate) async fn room_for(&self, updates: usize, weight: usize) -> Result<Room, Refused> {
        let permits = permits(updates, weight);
        let room = Arc::clone(&self.inner.room).acquire_many_owned(permits).await;
        Ok(Room { permit: room.map_err(|_| Refused::ShuttingDown)? })
    }

    /// The same without waiting, if there is a place and nobody waits for one.
    pub fn room_now(&self, weight: usize) -> Option<Room> {
        let room = Arc::clone(&self.inner.room).try_acquire_many_owned(permits(1, weight)).ok();
        room.map(|permit| Room { permit })
    }

    /// Waits for room, then publishes as [`Hub::publish_in`].
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub async fn publish(&self, grant: &Grant, update: Update) -> Result<Receipt, Refused> {
        let room = self.room(update.weight()).await?;
        self.publish_in(room, grant, update)?.receipt().await
    }

    /// Publishes an update: it is checked and in the queue. [`Publishing::receipt`] waits until it
    /// is as durable as that says.
    ///
    /// # Errors
    ///
    /// See [`Refused`]. Nothing is stored or delivered then.
    pub fn publish_in(
        &self,
        room: Room,
        grant: &Grant,
        update: Update,
    ) -> Result<Publishing, Refused> {
        let standing = self.check_grant(grant);
        let put = self.check(grant, standing, &update);
        let put = put.and_then(|()| self.put(room, grant, update));
        put.inspect_err(|_| count(&self.inner.shared.counters.refused))
    }

    /// Whether a grant counts just now.
    ///
    /// # Errors
    ///
    /// When it has expired, or fallen.
    pub fn check_grant(&self, grant: &Grant) -> Result<(), Refused> {
        if grant.expires.is_some_and(|expires| expires <= self.inner.clock.0.wall()) {
            return Err(Refused::Expired);
        }
        match self.inner.shared.subscribers.standing.holds(grant) {
            true => Ok(()),
            false => Err(Refused::Fallen),
        }
    }

    /// Whether a grant that stands so may publish an update.
    pub(crate) fn check(
        &self,
        grant: &Grant,
        standing: Result<(), Refused>,
        update: &Update,
    ) -> Result<(), Refused> {
        if let Some(flaw) = update.flaw(self.inner.update_bytes_max) {
            return Err(flaw.into());
        }
        let namespace = self.namespace();
        let topics: Vec<_> =
            update.topics.iter().map(|topic| Candidate::new(topic.as_str(), namespace)).collect();
        let reserved = update.topics.iter().zip(&topics).find(|(_, topic)| topic.is_reserved());
        if let Some((topic, _)) = reserved {
            return Err(Refused::Reserved(Topic::clone(topic)));
        }
        if let Some(topic) = apart(update) {
            return Err(Refused::Audience(topic.clone()));
        }
        standing?;
        let mut pairs = update.topics.iter().zip(&topics);
        if let Some((topic, _)) = pairs.find(|(_, topic)| !grant.covers_publishing(topic)) {
            return Err(Refused::NotGranted(Topic::clone(topic)));
        }
        Ok(())
    }

    fn put(&self, room: Room, grant: &Grant, update: Update) -> Result<Publishing, Refused> {
        let (answer, answered) = oneshot::channel();
        let keyed = update.idempotency_key.is_some();
        let publisher = keyed.then(|| grant.token.publisher());
        let room = Some(room.permit);
        let commit = Commit { update, publisher, answer: Answer::One(answer), room };
        let writer = &self.inner.writer;
        let duty = writer.put(Queued::Published(commit))?;
        Ok(Publishing { hub: self.clone(), answered, duty })
    }

    /// What the hub counts.
    pub fn counters(&self) -> &Counters {
        &self.inner.shared.counters
    }

    /// Whether updates are accepted: not after the storage failed or the hub shut down.
    pub fn is_writable(&self) -> bool {
        self.inner.writer.is_open() && !self.inner.shared.failed.load(Ordering::Acquire)
    }

    /// Ends the hub: refuses new updates, commits and delivers what waits, syncs, and notes the
    /// clean end. Blocks until that is done. Receivers keep what they have; reading goes on.
    pub fn shut_down(&self) {
        self.inner.shut_down();
    }
}

/// A topic of an audience that an update must not have: an audience's updates are for it alone.
fn apart(update: &Update) -> Option<&Topic> {
    let of = |topic: &Topic| audience(topic.as_str()).map(str::to_owned);
    let (topic, owner) = update.topics.iter().find_map(|topic| Some((topic, of(topic)?)))?;
    let is_alone = update.topics.iter().all(|other| of(other).as_ref() == Some(&owner));
    (!update.private || !is_alone).then_some(topic)
}

/// What of the queue so many updates of this weight take: one permit each at least.
fn permits(updates: usize, weight: usize) -> u32 {
    let permits = weight.div_ceil(QUEUE_PERMIT_BYTES).max(updates).min(QUEUE_UPDATES_MAX);
    u32::try_from(permits).unwrap_or(u32::MAX)
}

impl Inner {
    fn shut_down(&self) {
        self.room.close();
        if self.writer.end() && !self.shared.failed.load(Ordering::Acquire) {
            self.shared.history.close();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shut_down();
    }
}
