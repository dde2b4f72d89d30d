//! Runs a session: does what it wants and tells it what came of that. Knows no socket, only the ear
//! of one; what is to stand at an exact place of the socket's stream is ordered.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_core::{Flaw, Grant, Hub, Matcher, Receipt, Refused, Selection, Start, Update};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::commands::{Pattern, Token};
use super::judge::Right;
use super::judge::judge;
use super::messages::{Code, Goes, Message, Reference};
use super::session::{Denial, Input, Joining, Output, Session, denial};
use crate::http::RequestId;
use crate::limits::PUBLISH_ROOM_WAIT_MAX;
use crate::mercure::Mercure;
use crate::shard::talk::{Answer, Around, Ear, Hearer, Joined, Line, Order, Said};
use crate::sse::continuity::Continuity;

/// A socket's hearer.
pub(super) struct Conversation {
    partner: Arc<Partner>,
    line: Arc<Line>,
}

/// Who answers.
struct Partner {
    mercure: Arc<Mercure>,
    request: RequestId,
    state: Mutex<State>,
}

struct State {
    session: Session,
    /// Others see subscriptions as long as these are here.
    shown: Vec<(String, Box<dyn Send>)>,
    /// The socket is gone.
    has_ended: bool,
}

impl Conversation {
    /// With the client of this request. Its answers are tasks of `tasks`.
    pub(super) fn new(
        mercure: Arc<Mercure>,
        request: RequestId,
        session: Session,
        tasks: TaskTracker,
    ) -> Conversation {
        let state = State { session, shown: Vec::new(), has_ended: false };
        let partner = Arc::new(Partner { mercure, request, state: Mutex::new(state) });
        let answering = Arc::clone(&partner);
        let answer = move |said, ear: Ear| -> futures_util::future::BoxFuture<'static, ()> {
            let partner = Arc::clone(&answering);
            Box::pin(async move { partner.answer(said, &ear).await })
        };
        let line = Line::new(Handle::current(), tasks, Arc::new(answer));
        Conversation { partner, line }
    }
}

impl Hearer for Conversation {
    fn heard(&self, said: Said, ear: &Ear) {
        self.line.put(said, ear);
    }

    fn ended(&self) {
        let mut state = self.partner.lock();
        state.has_ended = true;
        state.shown = Vec::new();
    }
}

impl Partner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hub(&self) -> &Hub {
        self.mercure.hub()
    }

    /// Answers one message to its end.
    async fn answer(&self, said: Said, ear: &Ear) {
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
                let published = Box::pin(self.published(*update, &grant)).await;
                return Some(Input::Published(published));
            }
            Output::Join(joining) => self.join(joining, ear),
            Output::Leave { reference, name, matchers } => {
                self.lock().shown.retain(|(shown, _)| *shown != name);
                let hub = self.hub().clone();
                let answer: Answer = Box::new(move |joined| {
                    let (reference, cursor) = (&reference, &*hub.cursor(joined.place));
                    Message::Unsubscribed { reference, name: &name, cursor }.frame()
                });
                ear.order(Order::Leave { matchers: matchers.into(), answer });
            }
            Output::Grant { reference, right } => self.grant(reference, &right, ear),
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
        let compile = |pattern: &Pattern| {
            let matcher = self.hub().matcher_of_subscriber(pattern.language, &pattern.text);
            matcher.map_err(|bad| Denial { code: Code::BadPattern, reason: bad.to_string() })
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
        let Joining { reference, name, patterns, matchers, start, goes, withdrawn } = joining;
        let pairs = patterns.iter().map(|pattern| (pattern.language, pattern.text.as_str()));
        let verified = self.lock().session.right().and_then(|right| right.subscribe.clone());
        if let Some(shown) = self.mercure.join(verified.as_ref(), pairs) {
            let mut state = self.lock();
            if !state.has_ended {
                state.shown.push((name.clone(), shown));
            }
        }
        let around = (start != Start::Now).then(|| self.around(reference.clone()));
        let hub = self.hub().clone();
        let answer: Answer = Box::new(move |joined: Joined| {
            let reference = &reference;
            if joined.cancelled || withdrawn.load(Ordering::Relaxed) {
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
        ear.order(Order::Join { matchers: matchers.into(), start, around, answer });
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
