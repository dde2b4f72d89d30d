//! Dead letters of a sink, for people: listed, delivered again, deleted. Knows no rule of delivery.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidings_core::{Entry, StateError, Topic};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::queue::{Found, Queue, next};
use super::{Asking, Sinks};
use crate::delivery::{About, Again, DeadLetter};
use crate::limits::{
    AGAIN_PATIENCE, AGAIN_WAIT, LETTER_ANSWER_BYTES_MAX, LETTERS_PAGE_MAX, REDRIVE_ANSWER_AFTER,
};

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

pub(super) fn entry(about: &About) -> Option<&Arc<Entry>> {
    match about {
        About::Entry { entry, .. } | About::FollowUp { entry } => Some(entry),
        About::Gap(_) | About::Unreadable { .. } => None,
    }
}

pub(super) fn shown(letter: &DeadLetter) -> Letter {
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
