//! Dead letters of a sink, for people: listed, delivered again, deleted. Knows no rule of delivery.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidings_core::{Entry, Hub, StateError, Table, Topic};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Asking, Sinks};
use crate::delivery::{About, Again, DeadLetter};
use crate::limits::{
    AGAIN_PATIENCE, AGAIN_WAIT, LETTER_ANSWER_BYTES_MAX, LETTERS_AT_ONCE_MAX,
    LETTERS_HANDED_BYTES_MAX, LETTERS_HANDED_MAX, LETTERS_PAGE_MAX, REDRIVE_ANSWER_AFTER,
};
use crate::records::{self, number_of, numbered_key};

/// A dead letter as it is listed: without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its number among those of its sink.
    pub number: u64,
    /// `update`, `follow-up`, `gap` or `unreadable`.
    pub kind: &'static str,
    /// When it became one: milliseconds since 1970-01-01; 0 when that cannot be read.
    pub time: u64,
    /// How often it was tried.
    pub tries: u32,
    /// Why it is one.
    pub reason: String,
    /// Whose fault it was, of an update.
    pub fault: Option<&'static str>,
    /// What the system answered last, where there was an answer.
    pub status: Option<u16>,
    /// The first bytes of that.
    pub answer: Bytes,
    /// The hub's id of the entry.
    pub entry: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// The places of the history that it is about, the first and the last.
    pub places: Option<(u64, u64)>,
    /// Bytes of the update.
    pub size: usize,
}

/// Some dead letters, the oldest first.
#[derive(Debug, Default)]
pub struct LettersPage {
    /// At most [`LETTERS_PAGE_MAX`].
    pub letters: Vec<Letter>,
    /// Behind which number the next page begins; `None` when there is none.
    pub after: Option<u64>,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All that there are now.
    All,
    /// Those with these numbers.
    Numbers(Vec<u64>),
}

/// How far dead letters are delivered again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redriven {
    /// They are none any more: their sink delivers them.
    pub taken: usize,
    /// Gaps, and those that cannot be read any more: there is nothing to deliver.
    pub empty: usize,
    /// Numbers that no dead letter has.
    pub unknown: usize,
    /// Whether it is over.
    pub is_over: bool,
    /// Why it ended before all were taken.
    pub failure: Option<String>,
}

/// Nothing can be done about dead letters.
#[derive(Debug, thiserror::Error)]
pub enum LettersProblem {
    /// The fault of whoever asked.
    #[error("there is no such sink")]
    NoSink,
    /// Somebody else does something about them.
    #[error(
        "dead letters of this sink are being delivered again or deleted: ask when that is over"
    )]
    Busy,
    /// The storage.
    #[error("the dead letters cannot be read or changed: {0}")]
    State(#[from] StateError),
}

impl Sinks {
    /// A page of a sink's dead letters, behind the number `after`; `None` when it does not run.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the state cannot be read.
    pub fn dead_letters(&self, name: &str, after: u64) -> Result<Option<LettersPage>, StateError> {
        if self.known(name).is_none() {
            return Ok(None);
        }
        let mut queue = Queue::all(self.around.hub.clone(), name, after)?;
        let mut page = LettersPage::default();
        loop {
            let found = queue.take()?;
            if found.is_empty() {
                return Ok(Some(page));
            }
            for found in &found {
                if page.letters.len() == LETTERS_PAGE_MAX {
                    page.after = page.letters.last().map(|letter| letter.number);
                    return Ok(Some(page));
                }
                page.letters.extend(found.shown());
            }
        }
    }

    /// Has a sink deliver dead letters again, in their order and each with the whole patience of
    /// its sink. Answers when that is over, or after a while how far it is; it goes on then for as
    /// long as the sink takes them.
    ///
    /// # Errors
    ///
    /// See [`LettersProblem`].
    pub async fn redrive(&self, name: &str, which: Which) -> Result<Redriven, LettersProblem> {
        let (asking, alone) = self.letters_of(name)?;
        let (progress, mut seen) = watch::channel(Redriven::default());
        let stop = asking.stop.clone();
        self.own(async move {
            let _alone = alone;
            let redriving = redrive(&asking, which, &progress);
            let failure = tokio::select! {
                () = stop.cancelled() => Some("the sink ended".to_owned()),
                result = redriving => result.err(),
            };
            if let Some(reason) = &failure {
                tracing::warn!(sink = &*asking.name, reason, "dead letters are left");
            }
            progress.send_modify(|told| (told.is_over, told.failure) = (true, failure));
        });
        let over = seen.wait_for(|told| told.is_over);
        // Late or not, the last word counts.
        drop(tokio::time::timeout(REDRIVE_ANSWER_AFTER, over).await);
        let told = seen.borrow().clone();
        Ok(told)
    }

    /// Deletes dead letters: nobody will ever be told of them. Answers how many there were.
    ///
    /// # Errors
    ///
    /// See [`LettersProblem`].
    pub async fn forget(&self, name: &str, which: Which) -> Result<usize, LettersProblem> {
        let (asking, _alone) = self.letters_of(name)?;
        asking.settle().await.ok_or(LettersProblem::NoSink)??;
        let mut queue = Some(Queue::new(&asking, which)?);
        let mut deleted = 0;
        while let Some(found) = next(&mut queue).await? {
            let letters: Vec<(u64, usize)> = found.iter().filter_map(Found::weight).collect();
            deleted += letters.len();
            asking.forget(letters).await.ok_or(LettersProblem::NoSink)?;
        }
        asking.settle().await.ok_or(LettersProblem::NoSink)??;
        Ok(deleted)
    }

    fn letters_of(&self, name: &str) -> Result<(Asking, OwnedSemaphorePermit), LettersProblem> {
        let asking = self.asking(name).ok_or(LettersProblem::NoSink)?;
        let one_at_a_time = self.lock().get(name).map(|one| Arc::clone(&one.letters));
        let one_at_a_time = one_at_a_time.ok_or(LettersProblem::NoSink)?;
        let alone = one_at_a_time.try_acquire_owned().map_err(|_| LettersProblem::Busy)?;
        Ok((asking, alone))
    }
}

/// Hands all of them to the sink. The error says why some are left.
async fn redrive(
    asking: &Asking,
    which: Which,
    progress: &watch::Sender<Redriven>,
) -> Result<(), String> {
    let ended = || "the sink ended".to_owned();
    let words = |error: StateError| error.to_string();
    // What was asked before is not to be found any more.
    asking.settle().await.ok_or_else(ended)?.map_err(words)?;
    let mut queue = Some(Queue::new(asking, which).map_err(words)?);
    while let Some(found) = next(&mut queue).await.map_err(words)? {
        let (mut again, mut empty, mut unknown) = (Vec::new(), 0, 0);
        for found in found {
            match found.again() {
                Some(one) => again.push(one),
                None if matches!(found, Found::Unknown) => unknown += 1,
                None => empty += 1,
            }
        }
        progress.send_modify(|told| {
            (told.empty, told.unknown) = (told.empty + empty, told.unknown + unknown);
        });
        hand(asking, again, progress).await?;
    }
    asking.settle().await.ok_or_else(ended)?.map_err(words)
}

/// Hands some to the sink, as there is room.
async fn hand(
    asking: &Asking,
    mut again: Vec<Again>,
    progress: &watch::Sender<Redriven>,
) -> Result<(), String> {
    let mut moved = Instant::now();
    while !again.is_empty() {
        let taken = asking.again(again.clone()).await.ok_or("the sink ended")?;
        again.drain(..taken.min(again.len()));
        if taken > 0 {
            moved = Instant::now();
            progress.send_modify(|told| told.taken += taken);
        } else if moved.elapsed() > AGAIN_PATIENCE {
            return Err("the sink has no room for more: what waits there is not delivered".into());
        }
        if !again.is_empty() {
            tokio::time::sleep(AGAIN_WAIT).await;
        }
    }
    Ok(())
}

/// What stands under a number.
enum Found {
    Letter(DeadLetter),
    /// It makes no sense any more; its number and its bytes.
    Damaged(u64, usize),
    Unknown,
}

impl Found {
    fn of(hub: &Hub, key: &[u8], value: &[u8]) -> Found {
        match records::letter(hub, key, value) {
            Some(letter) => Found::Letter(letter),
            None => Found::Damaged(number_of(key).unwrap_or_default(), value.len()),
        }
    }

    /// Its number and weight.
    fn weight(&self) -> Option<(u64, usize)> {
        match self {
            Found::Letter(letter) => Some((letter.number, letter.weight())),
            Found::Damaged(number, bytes) => Some((*number, *bytes)),
            Found::Unknown => None,
        }
    }

    /// What is to be delivered again, if something can be.
    fn again(&self) -> Option<Again> {
        let Found::Letter(letter) = self else { return None };
        let entry = entry(&letter.about)?;
        Some(Again { entry: Arc::clone(entry), letter: Some((letter.number, letter.weight())) })
    }

    fn shown(&self) -> Option<Letter> {
        match self {
            Found::Letter(letter) => Some(shown(letter)),
            Found::Damaged(number, bytes) => Some(Letter {
                number: *number,
                kind: "unreadable",
                time: 0,
                tries: 0,
                reason: "what is saved of it makes no sense any more".to_owned(),
                fault: None,
                status: None,
                answer: Bytes::new(),
                entry: None,
                topic: None,
                places: None,
                size: *bytes,
            }),
            Found::Unknown => None,
        }
    }
}

fn entry(about: &About) -> Option<&Arc<Entry>> {
    match about {
        About::Entry { entry, .. } | About::FollowUp { entry } => Some(entry),
        About::Gap(_) | About::Unreadable { .. } => None,
    }
}

fn shown(letter: &DeadLetter) -> Letter {
    let entry = entry(&letter.about);
    let (fault, answer) = match &letter.about {
        About::Entry { fault, answer, .. } => (Some(fault.name()), answer.clone()),
        _ => (None, crate::connector::Answer::default()),
    };
    let kind = match &letter.about {
        About::Entry { .. } => "update",
        About::FollowUp { .. } => "follow-up",
        About::Gap(_) => "gap",
        About::Unreadable { .. } => "unreadable",
    };
    let places = match &letter.about {
        About::Entry { entry, .. } | About::FollowUp { entry } => {
            (entry.offset.durable, entry.offset.durable)
        }
        About::Gap(missed) => (missed.after.durable + 1, missed.until.durable),
        About::Unreadable { number } => (*number, *number),
    };
    let topic = entry.and_then(|entry| entry.update.topics.first()).map(Topic::as_str);
    Letter {
        number: letter.number,
        kind,
        time: letter.time,
        tries: letter.tries,
        reason: letter.reason.clone(),
        fault,
        status: answer.status,
        answer: answer.body.slice(..answer.body.len().min(LETTER_ANSWER_BYTES_MAX)),
        entry: entry.map(|entry| entry.cursor().to_string()),
        topic: topic.map(str::to_owned),
        places: Some(places),
        size: entry.map_or(0, |entry| entry.update.data.len()),
    }
}

/// Dead letters of a sink on their way out of the state.
struct Queue {
    hub: Hub,
    name: String,
    numbers: Numbers,
}

enum Numbers {
    Named(VecDeque<u64>),
    /// From the first on, before the second.
    Range(u64, u64),
}

impl Queue {
    /// All behind `after`. Those that come later are not among them, so that what fails once more
    /// is not delivered for ever. Blocks on the disk.
    fn all(hub: Hub, name: &str, after: u64) -> Result<Queue, StateError> {
        let (from, until) = records::bounds(name);
        let last = hub.state().range_back(Table::DeadLetters, &from, Some(&until), 1)?;
        let last = last.first().and_then(|(key, _)| number_of(key)).unwrap_or(0);
        let numbers = Numbers::Range(after.saturating_add(1), last.saturating_add(1));
        Ok(Queue { hub, name: name.to_owned(), numbers })
    }

    fn new(asking: &Asking, which: Which) -> Result<Queue, StateError> {
        let hub = asking.around.hub.clone();
        match which {
            Which::All => Queue::all(hub, &asking.name, 0),
            Which::Numbers(mut numbers) => {
                numbers.sort_unstable();
                numbers.dedup();
                let (name, numbers) = (asking.name.to_string(), Numbers::Named(numbers.into()));
                Ok(Queue { hub, name, numbers })
            }
        }
    }

    /// The next ones, bounded in number and bytes; none when there are no more. Blocks on the disk.
    fn take(&mut self) -> Result<Vec<Found>, StateError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < LETTERS_HANDED_MAX && bytes < LETTERS_HANDED_BYTES_MAX {
            let some = self.read()?;
            if some.is_empty() {
                break;
            }
            bytes += some.iter().filter_map(Found::weight).map(|(_, weight)| weight).sum::<usize>();
            found.extend(some);
        }
        Ok(found)
    }

    fn read(&mut self) -> Result<Vec<Found>, StateError> {
        match &mut self.numbers {
            Numbers::Named(numbers) => {
                let Some(number) = numbers.pop_front() else { return Ok(Vec::new()) };
                let key = numbered_key(&self.name, number);
                let value = self.hub.state().get(Table::DeadLetters, &key)?;
                let found = value.map(|value| Found::of(&self.hub, &key, &value));
                Ok(vec![found.unwrap_or(Found::Unknown)])
            }
            Numbers::Range(from, end) => {
                let first = numbered_key(&self.name, *from);
                let until = numbered_key(&self.name, *end);
                let (table, most) = (Table::DeadLetters, LETTERS_AT_ONCE_MAX);
                let rows = self.hub.state().range(table, &first, Some(&until), most)?;
                if let Some(last) = rows.last().and_then(|(key, _)| number_of(key)) {
                    *from = last.saturating_add(1);
                }
                Ok(rows.iter().map(|(key, value)| Found::of(&self.hub, key, value)).collect())
            }
        }
    }
}

/// The same off the threads that must not block; `None` when there are no more.
async fn next(queue: &mut Option<Queue>) -> Result<Option<Vec<Found>>, StateError> {
    let Some(mut taking) = queue.take() else { return Ok(None) };
    let taken = tokio::task::spawn_blocking(move || {
        let found = taking.take();
        (taking, found)
    });
    // The task only fails with the runtime that it runs on.
    let Ok((taking, found)) = taken.await else { return Ok(None) };
    *queue = Some(taking);
    Ok(Some(found?).filter(|found| !found.is_empty()))
}
