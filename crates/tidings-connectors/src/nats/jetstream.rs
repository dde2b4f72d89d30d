//! A `JetStream` stream as a source: asks for messages, hands them on, and acknowledges what the
//! hub has. Knows no hub and no socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::{Line, Update};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::ingest::{Acknowledge, Answered, Incoming, Taken};
use crate::limits::{
    NATS_ANSWER_TIMEOUT, NATS_PULL_EXPIRES, NATS_QUIET, NATS_READS_MAX, NATS_STREAM_AGAIN_AFTER,
    NATS_UNACKNOWLEDGED_MAX,
};
use crate::nats::connection::{Arrival, Connection, Interest, Link, Plan};
use crate::nats::consumer::{self, Consumer, Wanted};
use crate::nats::counters::Counters;
use crate::nats::headers::Headers;
use crate::nats::inbox::Inbox;
use crate::nats::options::JetStreamOptions;
use crate::nats::protocol::{Message, publish, unsubscribe};
use crate::nats::published::{Place, Published};
use crate::nats::source::{Conversion, Room};

/// How often it is looked at what takes too long.
const TICK: Duration = Duration::from_millis(250);

/// What was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Nothing: there is no connection.
    Nothing,
    /// Whether the consumer is there.
    Look,
    /// To make it.
    Make,
    /// For messages, of which so many did not come yet.
    Pull(usize),
    /// Nothing until the deadline: the stream is not as it should be.
    Pause,
}

/// A message that is not acknowledged.
struct Waiting {
    reply: Bytes,
    /// When the server was told last that somebody works on it.
    told: Instant,
}

/// Messages of a stream on their way.
struct Pulling {
    name: String,
    stream: JetStreamOptions,
    subjects: Vec<String>,
    conversion: Conversion,
    counters: Arc<Counters>,
    inbox: Inbox,
    asked: Asked,
    /// The number of the last question.
    question: u64,
    /// When the last question counts as not answered.
    deadline: Instant,
    ack_wait: Duration,
    /// What is written once there is a connection: whole frames.
    output: BytesMut,
    is_connected: bool,
    /// What the hub has of the stream.
    published: Published,
    /// What nobody has taken yet.
    held: VecDeque<(Update, Waiting)>,
    /// What the hub has, by its number.
    waiting: BTreeMap<u64, Waiting>,
    /// The number of the next message.
    next: u64,
    /// What the log was told last about the stream.
    told: Option<String>,
    /// No message is asked for any more. The last one came then, or nothing came since.
    ending: Option<Instant>,
}

/// Brings messages until `stop`, and acknowledges what was brought.
pub(super) async fn run(
    mut plan: Plan,
    link: watch::Sender<Link>,
    wanted: Wanted,
    conversion: Conversion,
    to: mpsc::Sender<Incoming>,
    stop: CancellationToken,
) {
    let inbox = Inbox::new();
    plan.interests = vec![Interest { subject: inbox.pattern(), queue: None }];
    let mut pulling = Pulling::new(&plan, wanted, conversion, inbox);
    let (arriving, mut arrivals) = mpsc::channel(NATS_READS_MAX);
    let connection = Connection::start(plan, arriving, link);
    let (answering, mut answers) = mpsc::channel(NATS_UNACKNOWLEDGED_MAX);
    let room = Room::default();
    let mut tick = interval(TICK);
    while !pulling.has_ended() {
        let has_place = pulling.waiting.len() < NATS_UNACKNOWLEDGED_MAX;
        tokio::select! {
            arrival = arrivals.recv(), if pulling.held.is_empty() => match arrival {
                Some(Arrival::Connected) => pulling.connected(),
                Some(Arrival::Messages(messages)) => pulling.take(messages),
                None => return,
            },
            taken = place(&to, &room, pulling.held.front()), if has_place => {
                let Some((place, room)) = taken else { return };
                // As many places as may wait: there is one.
                if let Ok(answer) = answering.clone().try_reserve_owned()
                    && let Some((update, waiting)) = pulling.held.pop_front()
                {
                    let number = pulling.keep(waiting);
                    let acknowledge = Acknowledge::telling(answer, number, room);
                    place.send(Incoming { updates: vec![update], acknowledge });
                }
            }
            Some(answered) = answers.recv() => {
                pulling.answered(answered);
                while let Ok(answered) = answers.try_recv() {
                    pulling.answered(answered);
                }
            }
            _ = tick.tick() => pulling.look_at_times(),
            () = stop.cancelled(), if pulling.ending.is_none() => pulling.end(),
        }
        pulling.go_on();
        if pulling.is_writing() {
            connection.write(pulling.output.split()).await;
        }
    }
    // The last acknowledgements are with the server, or come to nothing with it.
    let _read = connection.write_and_wait(pulling.output).await;
}

/// Waits for a place and for room, if there is something that needs them.
async fn place<'a>(
    to: &'a mpsc::Sender<Incoming>,
    room: &Room,
    first: Option<&(Update, Waiting)>,
) -> Option<(mpsc::Permit<'a, Incoming>, tokio::sync::OwnedSemaphorePermit)> {
    match first {
        Some((update, _)) => {
            let room = room.of(update.weight()).await;
            to.reserve().await.ok().map(|place| (place, room))
        }
        None => std::future::pending().await,
    }
}

impl Pulling {
    fn new(plan: &Plan, wanted: Wanted, conversion: Conversion, inbox: Inbox) -> Pulling {
        let Wanted { stream, subjects, known } = wanted;
        Pulling {
            name: plan.name.clone(),
            counters: Arc::clone(&plan.counters),
            ack_wait: stream.ack_wait.0,
            published: Published::recalled(&stream.stream, &known),
            stream,
            subjects,
            conversion,
            inbox,
            asked: Asked::Nothing,
            question: 0,
            deadline: Instant::now(),
            output: BytesMut::new(),
            is_connected: false,
            held: VecDeque::new(),
            waiting: BTreeMap::new(),
            next: 0,
            told: None,
            ending: None,
        }
    }

    fn connected(&mut self) {
        self.is_connected = true;
        self.asked = Asked::Nothing;
    }

    fn is_writing(&self) -> bool {
        self.is_connected && !self.output.is_empty()
    }

    /// Sends a question whose answer comes to a subject of its own.
    fn ask(&mut self, asked: Asked, subject: &str, body: &[u8], patience: Duration) {
        self.question += 1;
        let reply = self.inbox.subject(self.question, 0);
        publish(&mut self.output, subject, Some(&reply), None, body);
        self.asked = asked;
        self.deadline = Instant::now() + patience;
    }

    fn look(&mut self) {
        let subject = consumer::looked_at(&self.stream);
        self.ask(Asked::Look, &subject, b"", NATS_ANSWER_TIMEOUT);
    }

    fn pull(&mut self) {
        let batch = self.stream.batch;
        let subject = consumer::pulled_at(&self.stream);
        let patience = NATS_PULL_EXPIRES + NATS_ANSWER_TIMEOUT;
        self.ask(Asked::Pull(batch), &subject, &consumer::pull(batch), patience);
    }

    /// Asks what is to be asked next.
    fn go_on(&mut self) {
        if self.ending.is_some() || !self.is_connected {
            return;
        }
        match self.asked {
            Asked::Nothing => self.look(),
            Asked::Pull(0) => self.pull(),
            Asked::Look | Asked::Make | Asked::Pull(_) | Asked::Pause => {}
        }
    }

    /// The server is to send nothing more. What it has sent is still brought: it would come again
    /// only after newer messages otherwise.
    fn end(&mut self) {
        self.ending = Some(Instant::now());
        unsubscribe(&mut self.output, 1);
    }

    fn has_ended(&self) -> bool {
        self.ending.is_some_and(|since| since.elapsed() > NATS_QUIET)
            && self.held.is_empty()
            && self.waiting.is_empty()
    }

    fn take(&mut self, messages: Vec<Message>) {
        self.ending = self.ending.map(|_| Instant::now());
        for message in messages {
            let is_delivery =
                message.reply.as_ref().is_some_and(|reply| reply.starts_with(b"$JS.ACK."));
            if is_delivery {
                self.delivered(&message);
            } else {
                self.told(&message);
            }
        }
    }

    /// A message of the stream. Its subject is the one that it was published to.
    fn delivered(&mut self, message: &Message) {
        Counters::add(&self.counters.received, 1);
        if let Asked::Pull(left) = &mut self.asked {
            *left = left.saturating_sub(1);
        }
        let Some(reply) = message.reply.clone() else { return };
        if self.conversion.is_excepted(message) {
            self.acknowledge(&reply, b"+ACK");
            return;
        }
        let place = consumer::place(&reply);
        if place.is_some_and(|place| self.published.has(place)) {
            Counters::add(&self.counters.repeated, 1);
            self.acknowledge(&reply, b"+ACK");
            return;
        }
        let position = place.and_then(|place| Line::parse(&self.position(place)).ok());
        match self.conversion.update(message.clone(), position) {
            Some(update) => {
                self.held.push_back((update, Waiting { reply, told: Instant::now() }));
            }
            None => self.acknowledge(&reply, b"+TERM"),
        }
    }

    /// An answer to a question.
    fn told(&mut self, message: &Message) {
        let answers_last = self
            .inbox
            .question(&message.subject)
            .is_some_and(|(number, _)| number == self.question);
        if !answers_last {
            return;
        }
        let headers = message.headers.as_ref().and_then(|block| Headers::parse(block));
        let status = headers.as_ref().and_then(|headers| headers.status);
        match (self.asked, status) {
            (_, Some(100)) => {}
            (_, Some(503)) => self.pause("no JetStream answers: is it turned on at the server?"),
            (Asked::Pull(_), Some(404 | 408)) => self.asked = Asked::Pull(0),
            (Asked::Pull(_), Some(_)) => {
                let words = headers.map(|headers| headers.description).unwrap_or_default();
                match consumer::is_passing(&words) {
                    true => self.rest(),
                    false => self.pause(&format!("the consumer says: {words}")),
                }
            }
            (Asked::Look | Asked::Make, None) => self.consumer(&message.payload),
            _ => {}
        }
    }

    fn consumer(&mut self, answer: &[u8]) {
        match consumer::consumer(&self.stream, &self.subjects, answer) {
            Consumer::There(ack_wait, given) => {
                self.published.keep(given);
                self.ack_wait = ack_wait.max(TICK * 4);
                self.told = None;
                self.asked = Asked::Pull(0);
            }
            Consumer::Missing if self.asked == Asked::Look => {
                let subject = consumer::made_at(&self.stream);
                let body = consumer::make(&self.stream, &self.subjects);
                self.ask(Asked::Make, &subject, &body, NATS_ANSWER_TIMEOUT);
            }
            Consumer::Missing => self.pause("the consumer was made and is not there"),
            Consumer::Unusable(reason) => self.pause(&reason),
        }
    }

    /// Says once why nothing comes, and looks again a moment later.
    fn pause(&mut self, reason: &str) {
        if self.told.as_deref() != Some(reason) {
            tracing::error!(source = self.name, reason, "nothing comes from JetStream, waiting");
            self.told = Some(reason.to_owned());
        }
        self.rest();
    }

    fn rest(&mut self) {
        self.asked = Asked::Pause;
        self.deadline = Instant::now() + NATS_STREAM_AGAIN_AFTER;
    }

    /// Notes that the hub has a message. Answers its number.
    fn keep(&mut self, waiting: Waiting) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, waiting);
        self.next
    }

    fn answered(&mut self, answered: Answered) {
        let Some(Waiting { reply, .. }) = self.waiting.remove(&answered.number) else { return };
        match answered.taken {
            Taken::Published => {
                if let Some(place) = consumer::place(&reply) {
                    self.published.add(place);
                }
                self.acknowledge(&reply, b"+ACK");
            }
            Taken::Later => self.acknowledge(&reply, &consumer::later()),
            Taken::Never(reason) => {
                if let Some(count) = Counters::tells(&self.counters.given_up) {
                    let place = consumer::place(&reply);
                    let position = place.map_or_else(String::new, |place| self.position(place));
                    let source = &self.name;
                    tracing::error!(source, count, position, reason, "a NATS message is given up");
                }
                self.acknowledge(&reply, b"+TERM");
            }
        }
    }

    fn position(&self, place: Place) -> String {
        place.position(&self.stream.stream)
    }

    fn acknowledge(&mut self, reply: &Bytes, body: &[u8]) {
        // It came from the server as one word; what is no text cannot be answered to.
        if let Ok(reply) = std::str::from_utf8(reply) {
            publish(&mut self.output, reply, None, None, body);
        }
    }

    /// Tells the server that somebody works on what waits, and asks again what was not answered.
    fn look_at_times(&mut self) {
        let now = Instant::now();
        let mut late = Vec::new();
        let held = self.held.iter_mut().map(|(_, waiting)| waiting);
        for waiting in self.waiting.values_mut().chain(held) {
            if now.duration_since(waiting.told) > self.ack_wait / 3 {
                waiting.told = now;
                late.push(waiting.reply.clone());
            }
        }
        for reply in late {
            self.acknowledge(&reply, b"+WPI");
        }
        if now < self.deadline {
            return;
        }
        match self.asked {
            Asked::Look | Asked::Make => self.pause("the server does not answer for its streams"),
            Asked::Nothing | Asked::Pull(_) | Asked::Pause => self.asked = Asked::Nothing,
        }
    }
}
