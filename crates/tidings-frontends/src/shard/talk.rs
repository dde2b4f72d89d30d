//! Between a socket in a shard and whoever understands what its client says. Messages go out whole;
//! what is to be done comes back as orders, each at its place in the socket's stream.
//!
//! Knows no message's meaning, and not how frames are taken apart.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidings_core::{Grant, Matcher, Missed, Offset, Scope, Start};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::inbox::{Inbox, Message};

/// What a client said, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Checked to be UTF-8.
    Text(Bytes),
    /// Whatever it is.
    Binary(Bytes),
}

impl Said {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        let (Said::Text(bytes) | Said::Binary(bytes)) = self;
        bytes
    }
}

/// Hears a socket. Called by whoever works for its shard, so it waits for nothing.
pub(crate) trait Hearer: Send + Sync {
    /// Each message is answered by [`Order::Done`] some time, or the socket is not read any more.
    fn heard(self: Arc<Self>, said: Said, ear: &Ear);

    /// The socket is gone, and nothing that is ordered happens any more. Called once.
    fn ended(&self);
}

/// What makes a receiver a socket.
pub(crate) struct Talk {
    pub(crate) hearer: Arc<dyn Hearer>,
    pub(crate) limits: FrameLimits,
    /// The first frame, before everything else.
    pub(crate) opening: Option<Bytes>,
}

/// What a client may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameLimits {
    /// Bytes of a whole message.
    pub(crate) message_bytes: usize,
    /// Whether binary messages are heard at all.
    pub(crate) binary: bool,
    /// Frames of every kind a second, in the long run.
    pub(crate) per_second: u32,
    /// Frames at a time after silence.
    pub(crate) burst: u32,
}

/// Names a socket to those who have orders for it. Outlives it without harm.
#[derive(Clone)]
pub(crate) struct Ear {
    pub(super) inbox: Arc<Inbox>,
    pub(super) number: u32,
    pub(super) serial: u64,
}

impl Ear {
    /// Has this done, behind what was ordered before.
    pub(crate) fn order(&self, order: Order) {
        let (number, serial, order) = (self.number, self.serial, Box::new(order));
        self.inbox.put(Message::Order { number, serial, order });
    }

    /// Takes these away without a word, and waits until that and all that was ordered before has
    /// happened. A socket that is gone does nothing, which ends the wait too.
    pub(crate) async fn leave(&self, matchers: Box<[Arc<Matcher>]>) {
        let (done, is_done) = oneshot::channel();
        let answer: Answer = Box::new(move |_| {
            // Who waits for it may be gone, and that is all the same.
            let _told = done.send(());
            Bytes::new()
        });
        self.order(Order::Leave { number: None, matchers, answer });
        let _done = is_done.await;
    }
}

/// What a socket is to do. Nothing happens when it is gone.
pub(crate) enum Order {
    /// Says these frames, behind everything before.
    Say(Bytes),
    /// Adds matchers. What they pick behind `start` is brought, what older ones brought is not
    /// repeated, and the answer is said as soon as the past is over.
    Join {
        /// By which it can be taken back as a whole; the socket's own.
        number: u32,
        matchers: Box<[Arc<Matcher>]>,
        start: Start,
        /// What is said around each part of the past; nothing where there is none.
        around: Option<Around>,
        answer: Answer,
    },
    /// Takes matchers away, also from joins that are not answered yet, and with them a whole join
    /// by its number, whatever others want of its matchers. What is left of no matcher is
    /// answered before this.
    Leave { number: Option<u32>, matchers: Box<[Arc<Matcher>]>, answer: Answer },
    /// Another grant from here on.
    Grant {
        grant: Arc<Grant>,
        scope: Option<Scope>,
        /// In milliseconds since 1970 by the wall clock.
        expires: Option<u64>,
        answer: Answer,
    },
    /// Other limits from the next frame on.
    Limits(FrameLimits),
    /// One heard message of so many bytes is answered.
    Done { bytes: usize },
    /// Says these words, then closes with this code (RFC 6455 section 7.4).
    End { close: u16, words: Bytes },
    /// Ends by a fault of the hub, with the words that the shard has for that.
    Fail,
}

/// Renders an answer at its exact place in the stream.
pub(crate) type Answer = Box<dyn FnOnce(Joined) -> Bytes + Send>;

/// What is said before and behind one part of the past. The offset is the socket's place, which
/// the past does not move.
pub(crate) type Around = Box<dyn Fn(Offset) -> [Bytes; 2] + Send>;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joined {
    /// What follows is behind this place.
    pub(crate) place: Offset,
    /// What was not in the history any more.
    pub(crate) missed: Option<Missed>,
    /// It was taken back before it was done.
    pub(crate) cancelled: bool,
}

/// Who answers the messages of one socket, one after the other.
pub(crate) trait Partner: Send + Sync + 'static {
    /// What waits to be answered.
    fn line(&self) -> &Line;

    /// Answers one message to its end, but for [`Order::Done`].
    fn answer(self: Arc<Self>, said: Said, ear: Ear) -> BoxFuture<'static, ()>;
}

/// Where messages are answered: in tasks of a runtime, whose owner counts them.
pub(crate) struct Answering {
    runtime: Handle,
    tasks: TaskTracker,
}

impl Answering {
    /// In the runtime of whoever calls this.
    pub(crate) fn here(tasks: TaskTracker) -> Arc<Answering> {
        Arc::new(Answering { runtime: Handle::current(), tasks })
    }
}

/// Messages of one socket, answered by a task that is there only while some wait. Says
/// [`Order::Done`] for each by itself.
pub(crate) struct Line {
    answering: Arc<Answering>,
    /// As long as there is a task.
    waiting: Mutex<Option<Box<Waiting>>>,
}

/// Bounded by the socket, which is not read while too many are not answered.
#[derive(Default)]
struct Waiting {
    said: VecDeque<(Said, Ear)>,
}

impl Line {
    /// Where nobody waits yet.
    pub(crate) fn new(answering: Arc<Answering>) -> Line {
        Line { answering, waiting: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `said` answered behind what was put before. Waits for nothing.
    pub(crate) fn put(partner: &Arc<impl Partner>, said: Said, ear: &Ear) {
        let line = partner.line();
        let mut waiting = line.lock();
        let has_task = waiting.is_some();
        waiting.get_or_insert_default().said.push_back((said, ear.clone()));
        if !has_task {
            let task = work_off(Arc::clone(partner));
            line.answering.tasks.spawn_on(task, &line.answering.runtime);
        }
    }

    fn next(&self) -> Option<(Said, Ear)> {
        let mut waiting = self.lock();
        let next = waiting.as_mut().and_then(|waiting| waiting.said.pop_front());
        if next.is_none() {
            // An idle socket keeps no room for it.
            *waiting = None;
        }
        next
    }
}

async fn work_off(partner: Arc<impl Partner>) {
    while let Some((said, ear)) = partner.line().next() {
        let bytes = said.bytes().len();
        let answering = Arc::clone(&partner).answer(said, ear.clone());
        if AssertUnwindSafe(answering).catch_unwind().await.is_err() {
            tracing::error!("answering a message panicked: its socket ends");
            ear.order(Order::Fail);
        }
        ear.order(Order::Done { bytes });
    }
}
