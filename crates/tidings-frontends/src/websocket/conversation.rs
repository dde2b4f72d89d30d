//! Runs a session: does what it wants and tells it what came of that. Knows no socket, only the ear
//! of one; what is to stand at an exact place of the socket's stream is ordered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidings_core::{
    BadPattern, Flaw, Grant, Hub, Matcher, Receipt, Refused, Selection, Start, Update,
};

use super::commands::{Pattern, Token};
use super::judge::Right;
use super::judge::judge;
use super::messages::{Code, Goes, Message, Reference};
use super::session::{Denial, Input, Joining, Output, Session, denial};
use crate::auth::Verified;
use crate::http::RequestId;
use crate::limits::PUBLISH_ROOM_WAIT_MAX;
use crate::mercure::Mercure;
use crate::shard::talk::{
    Answer, Answering, Around, Ear, Hearer, Joined, Line, Order, Partner, Said,
};
use crate::sse::continuity::Continuity;

/// A socket's hearer, which answers what it hears.
pub(super) struct Conversation {
    mercure: Arc<Mercure>,
    request: RequestId,
    line: Line,
    state: Mutex<State>,
    /// The socket is gone.
    has_ended: AtomicBool,
}

struct State {
    session: Session,
    /// Subscriptions that others see, as long as these are here.
    shown: Vec<Shown>,
    /// A subscription was ordered of which it is not known whether it has begun.
    has_joined: bool,
}

struct Shown {
    name: Box<str>,
    patterns: Box<[Pattern]>,
    present: Box<dyn Send>,
}

impl Conversation {
    /// With the client of this request.
    pub(super) fn new(
        mercure: Arc<Mercure>,
        request: RequestId,
        session: Session,
        answering: Arc<Answering>,
    ) -> Conversation {
        let state = Mutex::new(State { session, shown: Vec::new(), has_joined: false });
        let (line, has_ended) = (Line::new(answering), AtomicBool::new(false));
        Conversation { mercure, request, line, state, has_ended }
    }
}

impl Hearer for Conversation {
    fn heard(self: Arc<Self>, said: Said, ear: &Ear) {
        Line::put(&self, said, ear);
    }

    fn ended(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // Whoever is at work with it sees that, and it is not waited for here.
        if let Ok(mut state) = self.state.try_lock() {
            state.shown = Vec::new();
        }
    }
}

impl Partner for Conversation {
    fn line(&self) -> &Line {
        &self.line
    }

    fn answer(self: Arc<Self>, said: Said, ear: Ear) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.answer_one(said, &ear).await;
            if self.has_ended.load(Ordering::SeqCst) {
                self.lock().shown = Vec::new();
            }
        })
    }
}

impl Conversation {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hub(&self) -> &Hub {
        self.mercure.hub()
    }

    /// Answers one message to its end.
    async fn answer_one(&self, said: Said, ear: &Ear) {
        let anonymous = self.mercure.lent().auth().anonymous_allowed();
        self.lock().session.let_strangers(anonymous);
        let mut next = Some(Input::Said(said));
        while let Some(input) = next.take() {
            let outputs = self.lock().session.handle(input);
            for output in outputs {
                // Of the outputs to one input, one at most has an answer.
                next = next.or(self.run(output, ear).await);
            }
        }
    }

    /// Does one thing; what came of it, if the session waits for that.
    async fn run(&self, output: Output, ear: &Ear) -> Option<Input> {
        match output {
            Output::Say(words) => ear.order(Order::Say(words)),
            Output::Limits(limits) => ear.order(Order::Limits(limits)),
            Output::End { close, words } => ear.order(Order::End { close, words }),
            Output::Judge(token) => return Some(Input::Judged(self.judged(&token).await)),
            Output::Compile(patterns) => return Some(Input::Compiled(self.compiled(&patterns))),
            Output::Begin { matchers, cursor } => {
                let begun = Box::pin(self.begun(matchers, cursor)).await;
                return Some(Input::Begun(begun));
            }
            Output::Publish { update, grant } => {
                if std::mem::take(&mut self.lock().has_joined) {
                    // What it asked for before has to begin before what it publishes.
                    ear.leave(Box::default()).await;
                }
                let published = Box::pin(self.published(*update, &grant)).await;
                return Some(Input::Published(published));
            }
            Output::Join(joining) => self.join(joining, ear),
            Output::Leave { number, reference, name, matchers } => {
                self.lock().shown.retain(|shown| *shown.name != *name);
                let hub = self.hub().clone();
                let answer: Answer = Box::new(move |joined| {
                    let (reference, cursor) = (&reference, &*hub.cursor(joined.place));
                    Message::Unsubscribed { reference, name: &name, cursor }.frame()
                });
                let (number, matchers) = (Some(number), matchers.into());
                ear.order(Order::Leave { number, matchers, answer });
            }
            Output::Grant { reference, right, before } => {
                self.show_again(&right, before.as_ref());
                self.grant(reference, &right, ear);
            }
        }
        None
    }

    async fn judged(&self, token: &Token) -> Result<Right, Denial> {
        let lent = self.mercure.lent();
        let judged = judge(lent.auth(), self.mercure.clock(), &token.0).await;
        judged.map_err(|cause| {
            tracing::info!(request = %self.request, reason = %cause, "a token is not valid");
            // As over HTTP, the client does not learn why.
            denial(Code::BadToken, "the token is not valid")
        })
    }

    fn compiled(&self, patterns: &[Pattern]) -> Result<Vec<Arc<Matcher>>, Denial> {
        let asker = self.lock().session.asker();
        let compile = |pattern: &Pattern| {
            let Pattern { language, text } = pattern;
            self.hub().matcher_of_subscriber(*language, text, asker).map_err(|bad| {
                let code = match bad {
                    BadPattern::Crowded => Code::Busy,
                    _ => Code::BadPattern,
                };
                Denial { code, reason: bad.to_string() }
            })
        };
        patterns.iter().map(compile).collect()
    }

    /// What may be read now, and what of the past at most.
    fn reader(&self) -> (Arc<Grant>, Option<u64>) {
        let right = self.lock().session.right().cloned();
        match right.as_ref().and_then(Right::grant) {
            Some(grant) => (grant, None),
            None => (Arc::new(Grant::anonymous()), self.mercure.lent().anonymous_replay_max()),
        }
    }

    async fn begun(
        &self,
        matchers: Vec<Arc<Matcher>>,
        cursor: String,
    ) -> Result<(Start, Goes), Denial> {
        let (grant, replay_max) = self.reader();
        let selection = Selection { matchers, grant, scope: self.mercure.scope() };
        let found = self.mercure.begin(selection, replay_max, cursor).await;
        // A reader that panicked has said why; what it would have found is not known.
        let (start, continuity) =
            found.ok_or_else(|| denial(Code::Internal, "the place could not be looked up"))?;
        let goes = match continuity {
            Continuity::Live => Goes::Live,
            Continuity::Resumed(_) => Goes::Resumed,
            Continuity::Gap(_) => Goes::Gap,
            Continuity::Reset => Goes::Reset,
        };
        Ok((start, goes))
    }

    async fn published(&self, update: Update, grant: &Grant) -> Result<Receipt, Denial> {
        let hub = self.hub();
        let weight = update.weight();
        let room = match hub.room_now(weight) {
            Some(room) => Ok(room),
            None => match tokio::time::timeout(PUBLISH_ROOM_WAIT_MAX, hub.room(weight)).await {
                Ok(room) => room,
                Err(_) => {
                    let reason = "too many updates wait for the history; publish again later";
                    return Err(denial(Code::Busy, reason));
                }
            },
        };
        let publishing = room.and_then(|room| hub.publish_in(room, grant, update));
        let receipt = match publishing {
            Ok(publishing) => publishing.receipt().await,
            Err(refused) => Err(refused),
        };
        receipt.map_err(|refused| {
            let (request, reason) = (self.request, kind(&refused));
            tracing::info!(%request, reason, "an update is refused");
            denied(&refused)
        })
    }

    fn join(&self, joining: Joining, ear: &Ear) {
        let Joining { number, reference, name, patterns, matchers, start, goes } = joining;
        let verified = self.lock().session.right().and_then(|right| right.subscribe.clone());
        if let Some(present) = self.present(verified.as_ref(), &patterns) {
            let (name, patterns) = (name.as_str().into(), patterns.into());
            let mut state = self.lock();
            state.shown.reserve_exact(1);
            state.shown.push(Shown { name, patterns, present });
        }
        self.lock().has_joined = true;
        let around = (start != Start::Now).then(|| self.around(reference.clone()));
        let hub = self.hub().clone();
        let answer: Answer = Box::new(move |joined: Joined| {
            let reference = &reference;
            if joined.cancelled {
                let reason = "taken back by `unsubscribe`";
                let (reference, code) = (Some(reference), Code::Cancelled);
                return Message::Error { reference, code, reason }.frame();
            }
            let continuity = match goes {
                Goes::Resumed if joined.missed.is_some() => Goes::Gap,
                goes => goes,
            };
            let cursor = &*hub.cursor(joined.place);
            Message::Subscribed { reference, name: &name, continuity, cursor }.frame()
        });
        let matchers = matchers.into();
        ear.order(Order::Join { number, matchers, start, around, answer });
    }

    /// Shows a subscription to others, where the operator wants that.
    fn present(
        &self,
        verified: Option<&Arc<Verified>>,
        patterns: &[Pattern],
    ) -> Option<Box<dyn Send>> {
        let pairs = patterns.iter().map(|pattern| (pattern.language, pattern.text.as_str()));
        self.mercure.join(verified, pairs)
    }

    /// Shows what is subscribed as somebody else's, where the token is.
    fn show_again(&self, right: &Right, before: Option<&Right>) {
        let verified = right.subscribe.as_ref();
        if is_alike(verified, before.and_then(|before| before.subscribe.as_ref())) {
            return;
        }
        for shown in &mut self.lock().shown {
            if let Some(present) = self.present(verified, &shown.patterns) {
                shown.present = present;
            }
        }
    }

    /// What is said around each part of the past.
    fn around(&self, reference: Reference) -> Around {
        let hub = self.hub().clone();
        Box::new(move |place| -> [Bytes; 2] {
            let (reference, cursor) = (&reference, &*hub.cursor(place));
            let live = Message::Live { reference, cursor };
            [Message::Replaying { reference }.frame(), live.frame()]
        })
    }

    fn grant(&self, reference: Reference, right: &Right, ear: &Ear) {
        let Some(grant) = right.grant() else { return };
        let (hub, allowed) = (self.hub().clone(), self.lock().session.allowed());
        let (ends, publish) = (right.expires(), right.publish.is_some());
        let answer: Answer = Box::new(move |joined| {
            let cursor = &*hub.cursor(joined.place);
            let expires = ends.map(|milliseconds| milliseconds / 1_000);
            let (reference, limits) = (&reference, allowed);
            Message::Authenticated { reference, expires, publish, limits, cursor }.frame()
        });
        let scope = self.mercure.scope();
        ear.order(Order::Grant { grant, scope, expires: ends, answer });
    }
}

/// Whether others see the same of two tokens.
fn is_alike(one: Option<&Arc<Verified>>, other: Option<&Arc<Verified>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let (token, before) = (&one.grant.token, &other.grant.token);
    let payloads = |verified: &Verified| -> Vec<Option<serde_json::Value>> {
        verified.details.iter().map(|detail| detail.payload.clone()).collect()
    };
    (&token.issuer, &token.subject) == (&before.issuer, &before.subject)
        && payloads(one) == payloads(other)
}

/// A refusal without the topic that it names, for the log.
fn kind(refused: &Refused) -> String {
    match refused {
        Refused::Reserved(_) => "a topic is reserved for the hub".to_owned(),
        Refused::Audience(_) => "an update of an audience is not private, or not of one".to_owned(),
        Refused::NotGranted(_) => "the token does not cover a topic".to_owned(),
        refused => refused.to_string(),
    }
}

/// A refusal for who published.
fn denied(refused: &Refused) -> Denial {
    let code = match refused {
        Refused::Flawed(Flaw::TooLarge | Flaw::TooManyTopics) => Code::TooLarge,
        Refused::Flawed(Flaw::NoTopic | Flaw::TooManyAttributes | Flaw::TooManyHops) => {
            Code::BadCommand
        }
        Refused::Reserved(_) => Code::ReservedTopic,
        Refused::Audience(_) => Code::BadTopic,
        Refused::NotGranted(_) => Code::Forbidden,
        Refused::Expired => Code::Expired,
        Refused::Fallen => Code::BadToken,
        Refused::KeyReused => Code::KeyReused,
        Refused::NoSpace => Code::NoSpace,
        // Where the history is and what its disk says is the operator's matter.
        Refused::StorageFailed(_) => {
            return denial(Code::StorageFailed, "the history cannot be written");
        }
        Refused::ShuttingDown => Code::ShuttingDown,
    };
    Denial { code, reason: refused.to_string() }
}
