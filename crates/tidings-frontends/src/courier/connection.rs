//! Runs a session: what it wants is ordered from its socket, or published. Knows no message.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidings_core::{Grant, Hub, Language, Matcher, Refused, Start, Topic, Update};

use super::session::{Output, Session};
use crate::http::RequestId;
use crate::limits::PUBLISH_ROOM_WAIT_MAX;
use crate::shard::talk::{Answer, Answering, Ear, Hearer, Line, Order, Partner, Said};

/// Close code (RFC 6455 section 7.4.1 and its registry): come back.
const TRY_AGAIN: u16 = 1013;

/// A socket's hearer, which does what it hears.
pub(super) struct Connection {
    hub: Hub,
    grant: Arc<Grant>,
    /// Where each subscription begins.
    start: Start,
    request: RequestId,
    line: Line,
    session: Mutex<Session>,
    /// What is for all of the audience was brought from where subscriptions begin.
    has_begun: Arc<AtomicBool>,
    _counted: Counted,
}

/// One of the connections that are open, as long as this is here.
pub(super) struct Counted(Arc<AtomicU64>);

impl Counted {
    pub(super) fn one_more(open: &Arc<AtomicU64>) -> Counted {
        open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// With the client of this request.
    pub(super) fn new(
        hub: Hub,
        grant: Arc<Grant>,
        start: Start,
        request: RequestId,
        session: Session,
        (answering, _counted): (Arc<Answering>, Counted),
    ) -> Connection {
        let (line, session) = (Line::new(answering), Mutex::new(session));
        let has_begun = Arc::default();
        Connection { hub, grant, start, request, line, session, has_begun, _counted }
    }
}

impl Hearer for Connection {
    fn heard(self: Arc<Self>, said: Said, ear: &Ear) {
        Line::put(&self, said, ear);
    }

    fn ended(&self) {}
}

impl Partner for Connection {
    fn line(&self) -> &Line {
        &self.line
    }

    fn answer(self: Arc<Self>, said: Said, ear: Ear) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.answer_one(said, &ear).await })
    }
}

impl Connection {
    async fn answer_one(&self, said: Said, ear: &Ear) {
        let output = self.session.lock().unwrap_or_else(PoisonError::into_inner).hear(&said);
        match output {
            Some(Output::Join { topics, again }) => {
                // From here on, not from when the socket gets to it: what this client publishes
                // next is for it as well.
                let now = Start::After(self.hub.end());
                let start = if self.start == Start::Now { now } else { self.start };
                let has_begun = self.has_begun.load(Ordering::Relaxed);
                let (topics, again) = match again {
                    // It was taken back before its past had come.
                    Some(broadcast) if !has_begun => {
                        (std::iter::once(broadcast).chain(topics).collect(), None)
                    }
                    again => (topics, again),
                };
                self.join(&topics, start, ear);
                again.iter().for_each(|topic| self.join(std::slice::from_ref(topic), now, ear));
            }
            // What is published from here on is not brought.
            Some(Output::Leave(topics)) => ear.leave(self.matchers(&topics)).await,
            Some(Output::Publish(update)) => {
                if let Err(reason) = publish(&self.hub, &self.grant, *update).await {
                    // Nobody is told, as ever.
                    tracing::info!(request = %self.request, %reason, "a message is dropped");
                }
            }
            Some(Output::Drop(reason)) => {
                // The client's doing, as often as it likes: nothing to fill a log with.
                tracing::debug!(request = %self.request, reason, "a message is dropped");
            }
            Some(Output::End(close)) => ear.order(Order::End { close, words: Bytes::new() }),
            None => {}
        }
    }

    fn matchers(&self, topics: &[Topic]) -> Box<[Arc<Matcher>]> {
        // A topic is a pattern of its own: none of these is the wildcard.
        let matcher = |topic: &Topic| self.hub.matcher(Language::Exact, topic.as_str()).ok();
        topics.iter().filter_map(matcher).collect()
    }

    fn join(&self, topics: &[Topic], start: Start, ear: &Ear) {
        let (own, has_begun) = (ear.clone(), Arc::clone(&self.has_begun));
        let answer: Answer = Box::new(move |joined| {
            // The first that is brought whole had what is for all of the audience with it.
            has_begun.fetch_or(!joined.cancelled, Ordering::Relaxed);
            if joined.missed.is_some() && !joined.cancelled {
                // There are no words for it. Who comes back begins behind what is missing.
                own.order(Order::End { close: TRY_AGAIN, words: Bytes::new() });
            }
            Bytes::new()
        });
        // What is taken back is named by its topics.
        let (number, matchers) = (0, self.matchers(topics));
        ear.order(Order::Join { number, matchers, start, around: None, answer });
    }
}

/// Why an update was not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPublished {
    /// Not now.
    #[error("too many updates wait for the history")]
    Busy,
    /// The hub's word.
    #[error("{}", kind(.0))]
    Refused(#[from] Refused),
}

/// A refusal without the topic that it names.
fn kind(refused: &Refused) -> String {
    match refused {
        Refused::Reserved(_) | Refused::Audience(_) | Refused::NotGranted(_) => {
            "a topic is not the audience's".to_owned()
        }
        refused => refused.to_string(),
    }
}

/// Publishes an update, and waits until it is as durable as is configured.
pub(super) async fn publish(hub: &Hub, grant: &Grant, update: Update) -> Result<(), NotPublished> {
    let weight = update.weight();
    let room = match hub.room_now(weight) {
        Some(room) => room,
        None => tokio::time::timeout(PUBLISH_ROOM_WAIT_MAX, hub.room(weight))
            .await
            .map_err(|_| NotPublished::Busy)??,
    };
    hub.publish_in(room, grant, update)?.receipt().await?;
    Ok(())
}
