//! What was tried, one entry for each delivery of each sink, in a history of its own: status,
//! duration and the first bytes of the answer. Knows no rule of delivery.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::{
    Batch, Clock, Durability, Grant, HistoryOptions, Hub, HubOptions, Keep, Language, Namespace,
    Offset, OpenError, Refused, Selection, Start, Topic, Update,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::connector::{Outcome, Run};
use crate::limits::{
    ATTEMPT_BYTES_MAX, ATTEMPTS_AT_ONCE_MAX, ATTEMPTS_GATHERED_FOR, ATTEMPTS_PAGE_MAX,
    ATTEMPTS_QUEUE_BYTES_MAX, ATTEMPTS_QUEUE_MAX, ATTEMPTS_SCAN_MAX, ATTEMPTS_SEGMENT_BYTES,
    SAVE_TOLD_EVERY,
};

mod stored;
#[cfg(test)]
mod tests;

use self::stored::Tried;

/// The history of attempts.
#[derive(Debug, Clone)]
pub struct Attempts {
    hub: Hub,
    queue: mpsc::Sender<Update>,
    /// Bytes that wait to be recorded.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    ending: CancellationToken,
}

/// Where attempts are kept.
#[derive(Debug, Clone)]
pub struct AttemptsOptions {
    /// The folder; in memory without one.
    pub path: Option<PathBuf>,
    /// How much is kept.
    pub keep: Keep,
}

/// One attempt, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its place among all attempts: a page goes on before it.
    pub number: u64,
    /// When it was over: milliseconds since 1970-01-01.
    pub time: u64,
    /// The hub's id of the first entry that it was for.
    pub entry: String,
    /// The places of the first and the last entry in the history.
    pub places: (u64, u64),
    /// How many of its entries were delivered.
    pub delivered: usize,
    /// The place of the entry that was not, where one was not.
    pub failed: Option<u64>,
    /// The first try is 1.
    pub tries: u32,
    /// How long it took.
    pub took: Duration,
    /// What the system answered, where there was an answer.
    pub status: Option<u16>,
    /// Whose fault it was that one was not delivered, and why; `None` for a success.
    pub failure: Option<(String, String)>,
    /// The first bytes of the answer.
    pub answer: Bytes,
}

/// Some attempts, the newest first.
#[derive(Debug, Default)]
pub struct Page {
    /// At most as many as were asked for.
    pub attempts: Vec<Attempt>,
    /// Where the next page begins; `None` when there is none.
    pub before: Option<u64>,
}

/// What keeps the attempts that are recorded: one task has to run it.
#[derive(Debug)]
pub struct Recorder {
    hub: Hub,
    queue: mpsc::Receiver<Update>,
    waiting: Arc<AtomicUsize>,
    ending: CancellationToken,
}

impl Attempts {
    /// Opens the history of attempts.
    ///
    /// # Errors
    ///
    /// When its folder cannot be used.
    pub fn open(
        options: AttemptsOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Attempts, Recorder), OpenError> {
        let durability = match options.path {
            Some(_) => Durability::Written,
            None => Durability::Memory,
        };
        let history = HistoryOptions {
            path: options.path,
            durability,
            keep: options.keep,
            segment_bytes: ATTEMPTS_SEGMENT_BYTES,
            hold_bytes: 0,
        };
        // Nobody reaches this hub from outside, so its name means nothing.
        let namespace = Namespace::new(nowhere());
        let options = HubOptions { namespace, update_bytes_max: ATTEMPT_BYTES_MAX, history };
        let hub = Hub::open(options, clock)?;
        let (sender, queue) = mpsc::channel(ATTEMPTS_QUEUE_MAX);
        let (waiting, ending) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let recorder = Recorder {
            hub: hub.clone(),
            queue,
            waiting: Arc::clone(&waiting),
            ending: ending.clone(),
        };
        Ok((Attempts { hub, queue: sender, waiting, dropped: Arc::default(), ending }, recorder))
    }

    /// Records one attempt of a sink. Never waits; where the storage does not keep up, answers are
    /// left out at first, and then attempts are dropped and counted.
    pub fn record(&self, sink: &str, run: &Run, outcome: &Outcome, took: Duration) {
        let Ok(topic) = Topic::parse(sink) else { return };
        let tried = Tried { run, outcome, took };
        let Some(mut data) = tried.to_bytes(&outcome.answer.body) else { return };
        let waiting = self.waiting.fetch_add(data.len(), Ordering::Relaxed);
        if waiting.saturating_add(data.len()) > ATTEMPTS_QUEUE_BYTES_MAX {
            let Some(without) = tried.to_bytes(&[]) else { return };
            self.waiting.fetch_sub(data.len() - without.len(), Ordering::Relaxed);
            data = without;
        }
        if let Err(refused) = self.queue.try_send(Update::new(topic, data)) {
            let update = refused.into_inner();
            self.waiting.fetch_sub(update.data.len(), Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many attempts were not recorded since the storage did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A page of a sink's attempts, the newest first, from before `before` on. Looks at a bounded
    /// part of the history: a page may hold none, and say where to go on. Blocks on the disk.
    pub fn list(&self, sink: &str, before: Option<u64>, only_failed: bool) -> Page {
        let end = self.end();
        let until = before.unwrap_or(end).min(end);
        let from = until.saturating_sub(ATTEMPTS_SCAN_MAX);
        let (mut found, mut is_more) = (VecDeque::new(), false);
        self.visit(sink, from.saturating_sub(1), until, &mut |attempt| {
            if !only_failed || attempt.failure.is_some() {
                // No more than the page holds: each has an answer with it.
                is_more |= found.len() == ATTEMPTS_PAGE_MAX && found.pop_front().is_some();
                found.push_back(attempt);
            }
            true
        });
        let first_kept = self.hub.before_first().durable;
        let before = match found.front().filter(|_| is_more) {
            Some(oldest) => Some(oldest.number),
            None => (from > first_kept + 1).then_some(from),
        };
        Page { attempts: found.into_iter().rev().collect(), before }
    }

    /// Shows a sink's attempts behind `after` and before `until`, the oldest first, until there are
    /// no more or `visit` answers that it has seen enough. Blocks on the disk.
    pub fn visit(
        &self,
        sink: &str,
        after: u64,
        until: u64,
        visit: &mut dyn FnMut(Attempt) -> bool,
    ) {
        let Ok(matcher) = self.hub.matcher(Language::Exact, sink) else { return };
        let grant = Arc::new(Grant::operator());
        let selection = Selection { matchers: vec![matcher], grant, scope: None };
        let mut reading =
            self.hub.reading(Arc::new(selection), Start::After(Offset::durable(after)));
        let mut batch = Batch::new();
        while !reading.is_done() && reading.offset().durable + 1 < until {
            batch.clear();
            // What is gone is gone: attempts are for looking into, nothing depends on them.
            if reading.take(&mut batch).is_err_and(|missed| missed.until <= missed.after) {
                return;
            }
            let inside = batch.iter().filter(|entry| entry.offset.durable < until);
            if !inside.filter_map(|entry| stored::attempt(entry)).all(&mut *visit) {
                return;
            }
        }
    }

    /// The place behind the newest attempt.
    pub fn end(&self) -> u64 {
        self.hub.end().durable + 1
    }

    /// Nothing more is recorded: [`Recorder::run`] ends when all that waits is.
    pub fn end_recording(&self) {
        self.ending.cancel();
    }

    /// Ends the history of attempts. Blocks until it is complete.
    pub fn shut_down(&self) {
        self.hub.shut_down();
    }
}

impl Recorder {
    /// Keeps what is recorded until nobody records any more. Ends with the last [`Attempts`], after
    /// [`Attempts::end_recording`], or when its storage fails.
    pub async fn run(mut self) {
        let grant = Grant::operator();
        let mut told: Option<Instant> = None;
        loop {
            let some = self.some().await;
            if some.is_empty() {
                return;
            }
            let length = some.iter().map(|update: &Update| update.data.len()).sum();
            let published = self.hub.publish_all(&grant, some).await;
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            match published.into_iter().find_map(Result::err) {
                None => {}
                Some(Refused::ShuttingDown) => return,
                Some(error) if told.is_none_or(|told| told.elapsed() > SAVE_TOLD_EVERY) => {
                    tracing::error!(%error, "attempts are not recorded");
                    told = Some(Instant::now());
                }
                Some(_) => {}
            }
        }
    }

    /// What is recorded next: some more than the first, after a moment. What a busy sink did costs
    /// one turn through the storage then, and not one each.
    async fn some(&mut self) -> Vec<Update> {
        let mut some = Vec::new();
        tokio::select! {
            _ = self.queue.recv_many(&mut some, ATTEMPTS_AT_ONCE_MAX) => {}
            () = self.ending.cancelled(), if !self.queue.is_closed() => self.queue.close(),
        }
        if some.len() < ATTEMPTS_AT_ONCE_MAX {
            // Returns at once when recording ends.
            let ending = self.ending.cancelled();
            let _moment = tokio::time::timeout(ATTEMPTS_GATHERED_FOR, ending).await;
        }
        while some.len() < ATTEMPTS_AT_ONCE_MAX
            && let Ok(update) = self.queue.try_recv()
        {
            some.push(update);
        }
        some
    }
}

fn nowhere() -> url::Url {
    url::Url::parse("http://attempts.invalid/").expect("a URL")
}
