//! NATS as a sink: entries become messages. Knows no retries: it says what the server has, and
//! whose fault it is when it does not.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::Entry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::connector::{Answer, Delivering, Fault, Outcome, Run, Sink};
use crate::limits::{ANSWER_BYTES_MAX, NATS_READS_MAX, NATS_REFUSED_SUBJECTS_MAX, NATS_RUN_MAX};
use crate::nats::answers::{Answers, Part, Waited, failure};
use crate::nats::connection::{Broken, Connection, Link, Plan, Server};
use crate::nats::counters::Counters;
use crate::nats::encoding::{Encoding, Unfit};
use crate::nats::options::SinkOptions;
use crate::specification::BadOption;

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
        let answers = options.jetstream.then(Answers::new);
        plan.interests.extend(answers.iter().map(|answers| answers.interest()));
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

    fn nats(&self) -> Option<Arc<Counters>> {
        Some(self.counters())
    }
}

/// Messages that are published together: those of the first `count` entries.
struct Prepared {
    output: BytesMut,
    count: usize,
    run: Option<Waited>,
}

impl Inner {
    async fn deliver(&self, entries: &[Arc<Entry>]) -> Outcome {
        let until = Instant::now() + self.timeout;
        let mut delivered = 0;
        let mut most = entries.len();
        let (failure, said) = loop {
            let rest: Vec<_> = entries.iter().skip(delivered).take(most).collect();
            if rest.is_empty() {
                break (None, Bytes::new());
            }
            let part = self.deliver_part(&rest, until).await;
            delivered += part.delivered;
            if part.is_unclear {
                most = 1;
            } else if part.failure.is_some() {
                break (part.failure, part.said);
            }
        };
        Counters::add(&self.counters.sent, delivered);
        let body = said.slice(..said.len().min(ANSWER_BYTES_MAX));
        Outcome { delivered, failure, answer: Answer { status: None, body } }
    }

    async fn deliver_part(&self, entries: &[&Arc<Entry>], until: Instant) -> Part {
        let server = match self.connected(until).await {
            Ok(server) => server,
            Err(part) => return part,
        };
        match self.prepare(entries, server) {
            Ok(prepared) => self.published(entries, prepared, until).await,
            Err(unfit) => {
                unfit.count(&self.counters);
                Part::failed(0, Fault::Never, &unfit.to_string())
            }
        }
    }

    /// Writes down some from the front: all, or those before one that cannot be published, or one
    /// alone whose subject was refused before: those behind it would be published again each time.
    /// The error says why the first can never be published.
    fn prepare(&self, entries: &[&Arc<Entry>], server: Server) -> Result<Prepared, Unfit> {
        let run = self.answers.as_ref().map(|answers| Waited::new(answers, entries.len()));
        let mut writing = self.encoding.begin(entries, server);
        let refused = self.refused();
        let mut count = 0;
        for (index, entry) in entries.iter().enumerate() {
            let reply = run.as_ref().map(|run| run.subject(index));
            let added = self.encoding.subject(entry).and_then(|subject| {
                let is_refused = refused.contains(&*subject);
                if !is_refused || index == 0 {
                    self.encoding.add(&mut writing, entry, &subject, reply.as_deref())?;
                    count += 1;
                }
                Ok(is_refused)
            });
            match added {
                Ok(false) => {}
                Err(unfit) if index == 0 => return Err(unfit),
                Ok(true) | Err(_) => break,
            }
        }
        Ok(Prepared { output: writing.finish(), count, run })
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
                // The connection comes back by itself: it is asked again at once.
                _ => return Err(Part::failed(0, Fault::Unreachable, &reason).again_soon()),
            }
        }
    }

    /// Writes messages and waits until the server has read them, and the streams if they have to.
    async fn published(&self, entries: &[&Arc<Entry>], prepared: Prepared, until: Instant) -> Part {
        let Prepared { output, count, run } = prepared;
        let began = Instant::now();
        // Seen before anything is written: a change from here on is a connection that broke.
        let mut link = self.link.clone();
        link.mark_unchanged();
        let refusals = match timeout_at(until, self.connection.write_and_wait(output)).await {
            Ok(Ok(refusals)) => refusals,
            Ok(Err(Broken)) => {
                let reason = "the connection broke before the server answered";
                return Part::failed(0, Fault::Unreachable, reason);
            }
            Err(_) => {
                // Who is silent for so long is not there; what waits to be written is in vain.
                if began.elapsed() >= self.timeout / 2 {
                    self.connection.give_up();
                }
                return Part::failed(0, Fault::TimedOut, "the NATS server did not answer in time");
            }
        };
        let first = match self.note(entries.iter().take(count), &refusals) {
            Ok(first) => first,
            Err(said) if count == 1 => Some((0, said)),
            Err(_) => return Part { is_unclear: true, ..Part::delivered(0) },
        };
        let limit = first.map_or(count, |(index, _)| index);
        let part = match run {
            Some(run) => run.wait(limit, link, until).await,
            None => Part::delivered(limit),
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

    /// Remembers which subjects were refused. Answers the first of them; an error is a refusal of
    /// none of them.
    fn note<'a, 'b>(
        &self,
        entries: impl Iterator<Item = &'b &'b Arc<Entry>>,
        refusals: &'a [String],
    ) -> Result<Option<(usize, &'a String)>, &'a String> {
        let mut refused = self.refused();
        if refusals.is_empty() && refused.is_empty() {
            return Ok(None);
        }
        // All of them have a subject, or they would not have been published.
        let subjects = entries.map(|entry| self.encoding.subject(entry).unwrap_or_default());
        // As the server quotes them.
        let quoted = |subject: Cow<'b, str>| (format!("{subject:?}"), subject);
        let subjects: Vec<_> = subjects.map(quoted).collect();
        let is_known = |said: &&String| subjects.iter().any(|(quoted, _)| said.contains(quoted));
        if let Some(said) = refusals.iter().find(|said| !is_known(said)) {
            return Err(said);
        }
        let mut first = None;
        for (index, (quoted, subject)) in subjects.into_iter().enumerate() {
            match refusals.iter().find(|said| said.contains(&quoted)) {
                Some(said) => {
                    if refused.len() < NATS_REFUSED_SUBJECTS_MAX {
                        refused.insert(subject.into_owned());
                    }
                    first = first.or(Some((index, said)));
                }
                None => {
                    refused.remove(&*subject);
                }
            }
        }
        Ok(first)
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
