//! Dead letters of a sink on their way out of the state, some at a time. Knows nobody who wants
//! them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{Hub, StateError, Table};

use super::Asking;
use super::letters::{Letter, Which, entry, shown};
use crate::delivery::{Again, DeadLetter};
use crate::limits::{LETTERS_AT_ONCE_MAX, LETTERS_HANDED_BYTES_MAX, LETTERS_HANDED_MAX};
use crate::records::{self, number_of, numbered_key};

/// What stands under a number.
pub(super) enum Found {
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
    pub(super) fn weight(&self) -> Option<(u64, usize)> {
        match self {
            Found::Letter(letter) => Some((letter.number, letter.weight())),
            Found::Damaged(number, bytes) => Some((*number, *bytes)),
            Found::Unknown => None,
        }
    }

    /// What is to be delivered again, if something can be.
    pub(super) fn again(&self) -> Option<Again> {
        let Found::Letter(letter) = self else { return None };
        let entry = entry(&letter.about)?;
        Some(Again { entry: Arc::clone(entry), letter: Some((letter.number, letter.weight())) })
    }

    pub(super) fn shown(&self) -> Option<Letter> {
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

/// Dead letters of a sink on their way out of the state.
pub(super) struct Queue {
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
    pub(super) fn all(hub: Hub, name: &str, after: u64) -> Result<Queue, StateError> {
        let (from, until) = records::bounds(name);
        let last = hub.state().range_back(Table::DeadLetters, &from, Some(&until), 1)?;
        let last = last.first().and_then(|(key, _)| number_of(key)).unwrap_or(0);
        let numbers = Numbers::Range(after.saturating_add(1), last.saturating_add(1));
        Ok(Queue { hub, name: name.to_owned(), numbers })
    }

    pub(super) fn new(asking: &Asking, which: Which) -> Result<Queue, StateError> {
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
    pub(super) fn take(&mut self) -> Result<Vec<Found>, StateError> {
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
pub(super) async fn next(queue: &mut Option<Queue>) -> Result<Option<Vec<Found>>, StateError> {
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
