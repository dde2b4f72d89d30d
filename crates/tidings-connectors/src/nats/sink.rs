//! NATS as a sink: entries become messages. Knows no retries: it says what the server has, and
//! whose fault it is when it does not.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::Entry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::connector::{Answer, Delivering, Failure, Fault, Outcome, Run, Sink};
use crate::limits::{
    ANSWER_BYTES_MAX, NATS_READS_MAX, NATS_REFUSED_SUBJECTS_MAX, NATS_RUN_MAX, REASON_BYTES_MAX,
};
use crate::nats::connection::{
    Arrival, Broken, Connection, Counters, Interest, Link, Plan, Server,
};
use crate::nats::consumer::{ApiError, published};
use crate::nats::encoding::Encoding;
use crate::nats::headers::Headers;
use crate::nats::inbox::Inbox;
use crate::nats::options::SinkOptions;
use crate::nats::protocol::Message;
use crate::specification::BadOption;

/// A stream's error that says that a message is too large for it.
const TOO_LARGE_FOR_STREAM: u32 = 10_054;

/// Where updates become messages of NATS subjects.
#[derive(Debug)]
pub struct NatsSink {
    inner: Arc<Inner>,
    /// Hands answers of streams to those who wait for them.
    _task: JoinSet<()>,
}

struct Inner {
    connection: Connection,
    link: watch::Receiver<Link>,
    counters: Arc<Counters>,
    encoding: Encoding,
    timeout: Duration,
    /// Where streams answer, when they are asked to.
    answers: Option<Arc<Answers>>,
    /// Subjects that the server did not let us publish to.
    refused: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NatsSink").field("link", &*self.link.borrow()).finish()
    }
}

/// Who waits for answers of streams.
struct Answers {
    inbox: Inbox,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    runs: HashMap<u64, mpsc::Sender<(usize, Message)>>,
}

impl NatsSink {
    /// Reads the options and begins to connect. Has to be called inside a runtime.
    ///
    /// # Errors
    ///
    /// All that is wrong with the options.
    pub fn start(name: &str, options: SinkOptions) -> Result<NatsSink, Vec<BadOption>> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut plan = Plan::new(name, &options.server)?;
        let counters = Arc::clone(&plan.counters);
        let answers = options.jetstream.then(|| {
            let waiting = Mutex::default();
            Arc::new(Answers { inbox: Inbox::new(), waiting })
        });
        if let Some(answers) = &answers {
            plan.interests.push(Interest { subject: answers.inbox.pattern(), queue: None });
        }
        let (link, linked) = watch::channel(Link::Beginning);
        let (arriving, arrivals) = mpsc::channel(NATS_READS_MAX);
        let connection = Connection::start(plan, arriving, link);
        let mut task = JoinSet::new();
        if let Some(answers) = answers.clone() {
            task.spawn(answers.hand_out(arrivals));
        }
        let encoding = Encoding::new(options.subject, options.headers, Arc::clone(&counters));
        let inner = Inner {
            connection,
            link: linked,
            counters,
            encoding,
            timeout: options.timeout.0,
            answers,
            refused: Mutex::default(),
        };
        Ok(NatsSink { inner: Arc::new(inner), _task: task })
    }

    /// How its connection stands, from now on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }

    /// What happened to it.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.inner.counters)
    }
}

impl Sink for NatsSink {
    fn run_max(&self) -> usize {
        NATS_RUN_MAX
    }

    fn deliver(&self, run: Run) -> Delivering {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.deliver(&run.entries).await })
    }
}

/// How far a part of a run came.
struct Part {
    delivered: usize,
    failure: Option<Failure>,
    said: Bytes,
}

impl Part {
    fn failed(delivered: usize, fault: Fault, reason: &str) -> Part {
        let said = Bytes::new();
        Part { delivered, failure: Some(failure(fault, reason)), said }
    }
}

fn failure(fault: Fault, reason: &str) -> Failure {
    let mut reason = reason.to_owned();
    while reason.len() > REASON_BYTES_MAX {
        reason.pop();
    }
    Failure { fault, reason, retry_after: None }
}

impl Inner {
    async fn deliver(&self, entries: &[Arc<Entry>]) -> Outcome {
        let until = Instant::now() + self.timeout;
        let mut delivered = 0;
        let (failure, said) = loop {
            let rest = entries.get(delivered..).unwrap_or_default();
            if rest.is_empty() {
                break (None, Bytes::new());
            }
            let part = self.deliver_part(rest, until).await;
            delivered += part.delivered;
            if part.failure.is_some() {
                break (part.failure, part.said);
            }
        };
        let body = said.slice(..said.len().min(ANSWER_BYTES_MAX));
        Outcome { delivered, failure, answer: Answer { status: None, body } }
    }

    /// Delivers some from the front: all, or those before one that cannot be published, or one
    /// alone whose subject was refused before: those behind it would be published again each time.
    async fn deliver_part(&self, entries: &[Arc<Entry>], until: Instant) -> Part {
        let server = match self.connected(until).await {
            Ok(server) => server,
            Err(part) => return part,
        };
        let run = self.answers.as_ref().map(|answers| Waited::new(answers, entries.len()));
        let mut output = BytesMut::new();
        let mut subjects: Vec<String> = Vec::with_capacity(entries.len());
        let mut flaw = None;
        for (index, entry) in entries.iter().enumerate() {
            let subject = match self.encoding.subject(entry) {
                Ok(subject) => subject,
                Err(reason) => {
                    flaw = Some(reason);
                    break;
                }
            };
            let is_refused = self.refused().contains(&subject);
            if is_refused && index > 0 {
                break;
            }
            let reply = run.as_ref().map(|run| run.subject(index));
            let added = self.encoding.add(&mut output, entry, &subject, reply.as_deref(), server);
            if let Err(reason) = added {
                flaw = Some(reason);
                break;
            }
            subjects.push(subject);
            if is_refused {
                break;
            }
        }
        if subjects.is_empty() {
            return Part::failed(0, Fault::Never, &flaw.unwrap_or_default());
        }
        self.published(output, &subjects, run, until).await
    }

    async fn connected(&self, until: Instant) -> Result<Server, Part> {
        let mut link = self.link.clone();
        loop {
            let reason = match &*link.borrow_and_update() {
                Link::Connected(server) => return Ok(*server),
                Link::Beginning => "no NATS server has answered yet".to_owned(),
                Link::Unreachable(reason) | Link::Rejected(reason) => reason.clone(),
            };
            match timeout_at(until, link.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(Part::failed(0, Fault::Unreachable, &reason)),
            }
        }
    }

    /// Writes messages and waits until the server has read them, and the streams if they have to.
    async fn published(
        &self,
        output: BytesMut,
        subjects: &[String],
        run: Option<Waited>,
        until: Instant,
    ) -> Part {
        // Seen before anything is written: a change from here on is a connection that broke.
        let mut link = self.link.clone();
        link.mark_unchanged();
        let refusals = match timeout_at(until, self.connection.write_and_wait(output)).await {
            Ok(Ok(refusals)) => refusals,
            Ok(Err(Broken)) => {
                return Part::failed(
                    0,
                    Fault::Unreachable,
                    "the connection broke before the server answered",
                );
            }
            Err(_) => {
                return Part::failed(0, Fault::TimedOut, "the NATS server did not answer in time");
            }
        };
        let first = self.note(subjects, &refusals);
        let limit = first.map_or(subjects.len(), |(index, _)| index);
        let part = match run {
            Some(run) => run.wait(limit, link, until).await,
            None => Part { delivered: limit, failure: None, said: Bytes::new() },
        };
        match first {
            Some((_, said)) if part.failure.is_none() => Part {
                failure: Some(failure(Fault::Rejected, &format!("the server says: {said}"))),
                said: said.clone().into(),
                ..part
            },
            _ => part,
        }
    }

    /// Remembers which subjects were refused. Answers the first.
    fn note<'a>(&self, subjects: &[String], refusals: &'a [String]) -> Option<(usize, &'a String)> {
        let mut refused = self.refused();
        let mut first = None;
        for (index, subject) in subjects.iter().enumerate() {
            let quoted = format!("\"{subject}\"");
            match refusals.iter().find(|said| said.contains(&quoted)) {
                Some(said) => {
                    if refused.len() < NATS_REFUSED_SUBJECTS_MAX {
                        refused.insert(subject.clone());
                    }
                    first = first.or(Some((index, said)));
                }
                None => {
                    refused.remove(subject);
                }
            }
        }
        first
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands each answer to the run that waits for it.
    async fn hand_out(self: Arc<Answers>, mut arrivals: mpsc::Receiver<Arrival>) {
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
struct Waited {
    answers: Arc<Answers>,
    number: u64,
    arriving: mpsc::Receiver<(usize, Message)>,
}

impl Waited {
    fn new(answers: &Arc<Answers>, entries: usize) -> Waited {
        let (sender, arriving) = mpsc::channel(entries.max(1));
        let mut waiting = answers.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.runs.insert(number, sender);
        drop(waiting);
        Waited { answers: Arc::clone(answers), number, arriving }
    }

    fn subject(&self, index: usize) -> String {
        self.answers.inbox.subject(self.number, index)
    }

    /// Waits for the answers to the first `count` messages, up to the first that is a refusal.
    async fn wait(mut self, count: usize, mut link: watch::Receiver<Link>, until: Instant) -> Part {
        let mut answers: Vec<Option<Message>> = vec![None; count];
        let mut delivered = 0;
        while delivered < count {
            if let Some(message) = answers.get_mut(delivered).and_then(Option::take) {
                if let Some((failure, said)) = refusal(&message) {
                    return Part { delivered, failure: Some(failure), said };
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
        Part { delivered, failure: None, said: Bytes::new() }
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
