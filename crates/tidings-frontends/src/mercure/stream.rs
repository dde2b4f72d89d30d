//! One subscriber's answer: a body that never ends by itself. Everything that waits leaves in one
//! frame; whoever cannot go on without a gap is told so where it asked to be, else it is ended, and
//! learns the truth when it comes back with the last id it has: the place before the gap.
//!
//! Knows no parameter, no token text and no socket.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use tidings_core::{Batch, Clock, Hub, Missed, Offset, Subscription};
use tokio::time::{Instant, Sleep};

use super::catch_up::{Turn, catch_up};
use super::continuity::{self, Continuity};
use super::lasting::{Lasting, shortened};
use super::pieces::Pieces;
use super::presence::Present;
use super::readers::Readers;
use super::turns::{Place, Turns};
use crate::http::{Body, BoxError, RequestId, Standing, Until, boxed};
use crate::limits::EXPIRY_JUDGED_EVERY;

/// A comment: opens the stream for proxies and `EventSource`, and keeps it open.
const COMMENT: Bytes = Bytes::from_static(b":\n");

/// When a stream ends, and how it is kept open.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The end of the grant, in milliseconds since 1970 by the wall clock.
    pub(super) expires: Option<u64>,
    /// Silence after which a comment is sent.
    pub(super) heartbeat: Option<Duration>,
    /// How long a stream lives at most.
    pub(super) lifetime: Option<Duration>,
}

/// What all streams use.
pub(super) struct Streams {
    pub(super) hub: Hub,
    pub(super) clock: Arc<dyn Clock>,
    /// Who reads the history for them.
    pub(super) readers: Readers,
    pub(super) turns: Arc<Turns>,
}

type CatchUp = Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;
type End = Pin<Box<dyn Future<Output = Duration> + Send + Sync>>;

/// Where entries come from.
enum Source {
    /// Memory: nothing here waits for a disk.
    Live(Subscription),
    /// The history, read on a thread that may wait.
    History(CatchUp),
    /// Nowhere any more: the history had a gap.
    Missed(Missed),
    /// Nowhere any more: announcements are forgotten.
    Forgotten,
    /// Nowhere any more.
    Ended,
}

/// The body of a subscriber's answer.
pub(super) struct EventStream {
    request: RequestId,
    source: Source,
    heartbeat: Option<Duration>,
    lasting: Arc<Lasting>,
    opened: bool,
    /// The client is told in band how its stream goes on.
    tells: bool,
    /// Pieces that were not taken by the socket yet.
    waiting: VecDeque<Bytes>,
    written: Instant,
    /// One timer for everything that happens at a time; it is not moved when a frame is written.
    timer: Pin<Box<Sleep>>,
    /// The place of the last id that was written, or where the stream began.
    told: Offset,
    /// Up to where nothing for this client was left out.
    passed: Offset,
    streams: Arc<Streams>,
    place: Arc<Place>,
    closing: End,
    /// Others see it as subscribed as long as this is there.
    _present: Option<Present>,
}

impl EventStream {
    /// A stream over `subscription` that ends when `closing` resolves, with the client's pause.
    pub(super) fn new(
        request: RequestId,
        subscription: Subscription,
        limits: Limits,
        streams: Arc<Streams>,
        closing: End,
    ) -> EventStream {
        let now = Instant::now();
        let lasting = Lasting {
            ending: subscription.ending(),
            expires: limits.expires,
            ends: limits.lifetime.map(|lifetime| now + shortened(lifetime)),
            clock: Arc::clone(&streams.clock),
        };
        let mut stream = EventStream {
            request,
            told: subscription.offset(),
            passed: subscription.offset(),
            source: Source::Live(subscription),
            heartbeat: limits.heartbeat,
            lasting: Arc::new(lasting),
            opened: false,
            tells: false,
            waiting: VecDeque::new(),
            written: now,
            timer: Box::pin(tokio::time::sleep(EXPIRY_JUDGED_EVERY)),
            place: Place::new(Arc::clone(&streams.turns)),
            streams,
            closing,
            _present: None,
        };
        stream.set_timer(now);
        stream
    }

    /// A stream that says first how it goes on from what the client has, and later where there is
    /// a gap; its heartbeats say how far the client has come.
    pub(super) fn telling(mut self, continuity: &Continuity) -> EventStream {
        self.tells = true;
        self.waiting.push_back(continuity::opening(&self.streams.hub, continuity, self.passed));
        self
    }

    /// The same stream, and as long as it lasts others see that it is there.
    pub(super) fn seen_as(mut self, present: Option<Present>) -> EventStream {
        self._present = present;
        self
    }

    /// The stream as an answer, which says until when it may go on.
    pub(super) fn into_answer(self) -> Response<Body> {
        let until = Until(Arc::<Lasting>::clone(&self.lasting));
        let mut answer = Response::new(boxed(self));
        answer.extensions_mut().insert(until);
        answer
    }

    /// The next moment at which something is to be done though no entry came.
    fn set_timer(&mut self, now: Instant) {
        let heartbeat = self.heartbeat.map(|silence| self.written + silence);
        let expires = self.lasting.expires.map(|expires| {
            let left = Duration::from_millis(expires.saturating_sub(self.lasting.clock.wall()));
            // The wall clock may jump, so it is looked at again before its time.
            now + left.min(EXPIRY_JUDGED_EVERY)
        });
        let next = [heartbeat, expires, self.lasting.ends].into_iter().flatten().min();
        self.timer.as_mut().reset(next.unwrap_or(now + EXPIRY_JUDGED_EVERY));
    }

    /// Ends the stream. What it says last: where the client is, when it has come further than the
    /// last id that it has, and how long it is to wait. Who was sent little would else come back
    /// with an old id, to read the same in vain or to find it gone.
    fn end(&mut self, reason: &str, pause: Option<Duration>) -> Option<Bytes> {
        tracing::debug!(request = %self.request, reason, "a stream ends");
        if let Source::Live(mut subscription) = std::mem::replace(&mut self.source, Source::Ended)
            && subscription.is_live()
        {
            let mut batch = Batch::new();
            if let Ok(taken) = subscription.take(&mut batch)
                && batch.is_empty()
            {
                self.passed = taken.offset;
            }
        }
        let mut block = String::new();
        // What was not sent is not said to be there.
        if self.passed > self.told && self.waiting.is_empty() {
            block = format!("id: {}\n", self.streams.hub.cursor(self.passed));
        }
        if let Some(pause) = pause {
            block.push_str(&format!("retry: {}\n", pause.as_millis()));
        }
        if block.is_empty() {
            return None;
        }
        block.push('\n');
        Some(block.into())
    }

    /// What waits, as bytes; an error when something is missing.
    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<VecDeque<Bytes>, Option<Missed>>> {
        loop {
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Ended | Source::Forgotten => return Poll::Ready(Err(None)),
                Source::Missed(missed) => return Poll::Ready(Err(Some(missed))),
                Source::Live(subscription) if subscription.is_ended() => {
                    self.source = Source::Live(subscription);
                    return Poll::Ready(Ok(VecDeque::new()));
                }
                Source::Live(subscription) if !subscription.is_live() => {
                    let streams = Arc::clone(&self.streams);
                    self.source = Source::History(Box::pin(catch_up(subscription, streams)));
                }
                Source::Live(mut subscription) => {
                    let mut batch = Batch::new();
                    let after = subscription.offset();
                    match subscription.take(&mut batch) {
                        // It became too slow just now.
                        Ok(taken) if taken.ephemerals_lost => {
                            let mut pieces = Pieces::default();
                            pieces.add(&batch);
                            let last = batch.last().map(|entry| entry.offset);
                            let (pieces, forgotten) = (pieces.done(), Some(after));
                            let turn = Turn { subscription, pieces, last, missed: None, forgotten };
                            return Poll::Ready(Ok(self.take_turn(turn)));
                        }
                        Ok(taken) => self.passed = taken.offset,
                        Err(missed) if self.tells => {
                            let mut pieces = Pieces::default();
                            pieces.add(&batch);
                            return Poll::Ready(Ok(self.pass(missed, pieces.done(), subscription)));
                        }
                        Err(missed) => return Poll::Ready(Err(Some(missed))),
                    }
                    let ready = !batch.is_empty() || subscription.poll_ready(context).is_ready();
                    self.source = Source::Live(subscription);
                    if let Some(last) = batch.last() {
                        self.told = last.offset;
                        let mut pieces = Pieces::default();
                        pieces.add(&batch);
                        return Poll::Ready(Ok(pieces.done()));
                    }
                    if !ready {
                        return Poll::Pending;
                    }
                }
                Source::History(mut turn) => match turn.as_mut().poll(context) {
                    Poll::Pending => {
                        self.source = Source::History(turn);
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => return Poll::Ready(Err(None)),
                    Poll::Ready(Some(turn)) => {
                        let pieces = self.take_turn(turn);
                        if !pieces.is_empty() {
                            return Poll::Ready(Ok(pieces));
                        }
                    }
                },
            }
        }
    }

    /// What a turn of reading gave, as bytes, and where it goes on from there.
    fn take_turn(&mut self, turn: Turn) -> VecDeque<Bytes> {
        let Turn { subscription, pieces, last, missed, forgotten } = turn;
        self.told = last.unwrap_or(self.told);
        self.passed = missed.as_ref().map_or(subscription.offset(), |missed| missed.after);
        let until = subscription.offset();
        let gap = missed.or_else(|| forgotten.map(|after| Missed { after, until }));
        self.source = match (gap, missed) {
            (Some(gap), _) if self.tells => return self.pass(gap, pieces, subscription),
            (_, Some(missed)) => Source::Missed(missed),
            (Some(_), None) => Source::Forgotten,
            (None, None) => Source::Live(subscription),
        };
        pieces
    }

    /// Goes on behind a gap. What stood before it, or is left of it, is sent, then where it is.
    fn pass(
        &mut self,
        missed: Missed,
        mut pieces: VecDeque<Bytes>,
        subscription: Subscription,
    ) -> VecDeque<Bytes> {
        tracing::info!(request = %self.request, %missed, "a stream goes on behind a gap");
        let place = subscription.offset();
        pieces.push_back(continuity::gap(&self.streams.hub, &missed, place));
        (self.told, self.passed) = (place, place);
        self.source = Source::Live(subscription);
        pieces
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if matches!(self.source, Source::Ended) {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.opened, true) {
            return Poll::Ready(Some(COMMENT));
        }
        if let Poll::Ready(pause) = self.closing.as_mut().poll(context) {
            return Poll::Ready(self.end("the hub is shutting down", Some(pause)));
        }
        loop {
            if let Some(reason) = self.lasting.reason_to_end() {
                return Poll::Ready(self.end(reason, None));
            }
            if let Some(piece) = self.waiting.pop_front() {
                self.written = Instant::now();
                return Poll::Ready(Some(piece));
            }
            match self.poll_source(context) {
                Poll::Ready(Ok(pieces)) => self.waiting = pieces,
                Poll::Ready(Err(missed)) => {
                    if let Some(missed) = missed {
                        tracing::info!(request = %self.request, %missed, "a stream ends");
                    }
                    return Poll::Ready(self.end("entries are missing", None));
                }
                Poll::Pending => {
                    if let Some(said) = self.poll_timer(context) {
                        return said;
                    }
                }
            }
        }
    }

    /// What is to be said though no entry came; `None` when everything has to be looked at again.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Option<Poll<Option<Bytes>>> {
        if self.timer.as_mut().poll(context).is_pending() {
            return Some(Poll::Pending);
        }
        let now = Instant::now();
        let silent = now.saturating_duration_since(self.written);
        let heartbeat = self.heartbeat.is_some_and(|silence| silent >= silence);
        if heartbeat {
            self.written = now;
        }
        self.set_timer(now);
        if !heartbeat || self.lasting.has_ended() {
            return None;
        }
        if self.tells {
            // Nothing waits for the socket: the client has everything up to here.
            self.told = self.passed;
            return Some(Poll::Ready(Some(continuity::heartbeat(&self.streams.hub, self.told))));
        }
        Some(Poll::Ready(Some(COMMENT)))
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let stream = self.get_mut();
        let place = Arc::clone(&stream.place);
        let bytes = place.poll(context, |context| stream.poll_bytes(context));
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.place.leave();
    }
}

#[cfg(test)]
mod tests;
