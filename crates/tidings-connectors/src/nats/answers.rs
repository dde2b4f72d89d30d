//! What streams answer to the messages of a sink, and who waits for it. Knows no connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::connector::{Failure, Fault, RetryAfter};
use crate::limits::{NATS_AGAIN_MIN, REASON_BYTES_MAX};
use crate::nats::connection::{Arrival, Interest, Link};
use crate::nats::consumer::{ApiError, published};
use crate::nats::headers::Headers;
use crate::nats::inbox::Inbox;
use crate::nats::protocol::Message;

/// A stream's error that says that a message is too large for it.
const TOO_LARGE_FOR_STREAM: u32 = 10_054;

/// How far a part of a run came.
pub(super) struct Part {
    pub(super) delivered: usize,
    pub(super) failure: Option<Failure>,
    pub(super) said: Bytes,
    /// The server refused something, and did not say clearly what: the part goes again, one by one.
    pub(super) is_unclear: bool,
}

impl Part {
    pub(super) fn delivered(delivered: usize) -> Part {
        Part { delivered, failure: None, said: Bytes::new(), is_unclear: false }
    }

    pub(super) fn failed(delivered: usize, fault: Fault, reason: &str) -> Part {
        Part { failure: Some(failure(fault, reason)), ..Part::delivered(delivered) }
    }

    /// Has it tried again as soon as there is a connection, however often that failed: who waits
    /// for one asks nobody anything.
    pub(super) fn again_soon(mut self) -> Part {
        let soon = RetryAfter { wait: NATS_AGAIN_MIN, is_for_all: false };
        if let Some(failure) = &mut self.failure {
            failure.retry_after = Some(soon);
        }
        self
    }
}

pub(super) fn failure(fault: Fault, reason: &str) -> Failure {
    let mut reason = reason.to_owned();
    while reason.len() > REASON_BYTES_MAX {
        reason.pop();
    }
    Failure { fault, reason, retry_after: None }
}

/// Who waits for answers of streams.
pub(super) struct Answers {
    inbox: Inbox,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    runs: HashMap<u64, mpsc::Sender<(usize, Message)>>,
}

impl Answers {
    pub(super) fn new() -> Arc<Answers> {
        Arc::new(Answers { inbox: Inbox::new(), waiting: Mutex::default() })
    }

    /// What has to be subscribed to.
    pub(super) fn interest(&self) -> Interest {
        Interest { subject: self.inbox.pattern(), queue: None }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands each answer to the run that waits for it.
    pub(super) async fn hand_out(self: Arc<Answers>, mut arrivals: mpsc::Receiver<Arrival>) {
        while let Some(arrival) = arrivals.recv().await {
            let Arrival::Messages(messages) = arrival else { continue };
            let waiting = self.lock();
            for message in messages {
                let question = self.inbox.question(&message.subject);
                if let Some((number, index)) = question
                    && let Some(run) = waiting.runs.get(&number)
                {
                    // There is a place for each answer; more of them are not waited for.
                    let _told = run.try_send((index, message));
                }
            }
        }
    }
}

/// A run that waits for the answers of streams.
pub(super) struct Waited {
    answers: Arc<Answers>,
    number: u64,
    arriving: mpsc::Receiver<(usize, Message)>,
}

impl Waited {
    pub(super) fn new(answers: &Arc<Answers>, entries: usize) -> Waited {
        let (sender, arriving) = mpsc::channel(entries.max(1));
        let mut waiting = answers.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.runs.insert(number, sender);
        drop(waiting);
        Waited { answers: Arc::clone(answers), number, arriving }
    }

    pub(super) fn subject(&self, index: usize) -> String {
        self.answers.inbox.subject(self.number, index)
    }

    /// Waits for the answers to the first `count` messages, up to the first that is a refusal.
    /// Anything that is new on `link` is a connection that broke: no answer comes behind that.
    pub(super) async fn wait(
        mut self,
        count: usize,
        mut link: watch::Receiver<Link>,
        until: Instant,
    ) -> Part {
        let mut answers: Vec<Option<Message>> = vec![None; count];
        let mut delivered = 0;
        while delivered < count {
            if let Some(message) = answers.get_mut(delivered).and_then(Option::take) {
                if let Some((failure, said)) = refusal(&message) {
                    return Part { failure: Some(failure), said, ..Part::delivered(delivered) };
                }
                delivered += 1;
                continue;
            }
            let answer = tokio::select! {
                // What came before the connection broke still counts.
                biased;
                answer = self.arriving.recv() => answer,
                _ = link.changed() => {
                    let reason = "the connection broke before the stream answered";
                    return Part::failed(delivered, Fault::Unreachable, reason);
                }
                () = sleep_until(until) => None,
            };
            let Some((index, message)) = answer else {
                return Part::failed(delivered, Fault::TimedOut, "no stream answered in time");
            };
            if let Some(place) = answers.get_mut(index) {
                *place = Some(message);
            }
        }
        Part::delivered(delivered)
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.answers.lock().runs.remove(&self.number);
    }
}

/// Why a stream did not take a message, and what it said.
fn refusal(message: &Message) -> Option<(Failure, Bytes)> {
    let headers = message.headers.as_ref().and_then(|block| Headers::parse(block));
    if headers.and_then(|headers| headers.status) == Some(503) {
        let reason = "no stream takes this subject, or JetStream is not turned on at the server";
        return Some((failure(Fault::Busy, reason), Bytes::new()));
    }
    let ApiError { code, err_code, description } = published(&message.payload).err()?;
    let fault = match (code, err_code) {
        (_, TOO_LARGE_FOR_STREAM) => Fault::Never,
        (400..=499, _) => Fault::Rejected,
        _ => Fault::Busy,
    };
    Some((failure(fault, &format!("the stream says: {description}")), message.payload.clone()))
}
