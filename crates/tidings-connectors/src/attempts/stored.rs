//! One attempt as bytes: the data of an entry in the history of attempts. Knows no history.
//!
//! Everything is little-endian but the id:
//!
//! ```text
//!  0  u8    version of this form
//!  1  u8    flags: which of the fields with a question mark are there
//!  2  u16   how many entries were delivered
//!  4  u32   tries
//!  8  u32   duration in microseconds
//! 12  u64   place of the first entry
//! 20  u128  the UUID of the first entry's id
//!     u64?  place of the last entry, where it is not the first
//!     u16?  status
//!     u8?   fault, then u16 and so many bytes of the reason
//!     u64?  place of the entry that failed
//!     u32?  and so many bytes of the answer
//! ```

use std::time::Duration;

use bytes::Bytes;
use tidings_core::Entry;

use super::Attempt;
use crate::connector::{Fault, Outcome, Run};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;
/// Bytes of an attempt without any of the fields that may be missing.
const HEAD: usize = 36;
/// What the text of the hub's ids begins with.
const URN: &str = "urn:uuid:";

const LAST: u8 = 1;
const STATUS: u8 = 1 << 1;
const FAILURE: u8 = 1 << 2;
const FAILED: u8 = 1 << 3;
const ANSWER: u8 = 1 << 4;

/// What was tried, and what came of it.
#[derive(Clone, Copy)]
pub(super) struct Tried<'t> {
    pub(super) run: &'t Run,
    pub(super) outcome: &'t Outcome,
    pub(super) took: Duration,
}

impl Tried<'_> {
    /// The bytes, with these of the answer. `None` without an entry.
    pub(super) fn to_bytes(self, answer: &[u8]) -> Option<Vec<u8>> {
        let Tried { run, outcome, took } = self;
        let (first, last) = (run.entries.first()?, run.entries.last()?.offset.durable);
        let (status, failure) = (outcome.answer.status, outcome.failure.as_ref());
        let failed = failure.and_then(|_| run.entries.get(outcome.delivered));
        let reason = failure.map_or("", |failure| &failure.reason);
        let place = first.offset.durable;
        let flags = flag(LAST, last != place)
            | flag(STATUS, status.is_some())
            | flag(FAILURE, failure.is_some())
            | flag(FAILED, failed.is_some())
            | flag(ANSWER, !answer.is_empty());
        // What may be there besides takes 25 bytes at most.
        let mut bytes = Vec::with_capacity(HEAD + 25 + reason.len() + answer.len());
        let delivered = u16::try_from(outcome.delivered).unwrap_or(u16::MAX);
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&[VERSION, flags]);
        bytes.extend_from_slice(&delivered.to_le_bytes());
        bytes.extend_from_slice(&run.tries.saturating_add(1).to_le_bytes());
        bytes.extend_from_slice(&took.to_le_bytes());
        bytes.extend_from_slice(&place.to_le_bytes());
        bytes.extend_from_slice(&uuid_of(first)?.to_be_bytes());
        if last != place {
            bytes.extend_from_slice(&last.to_le_bytes());
        }
        if let Some(status) = status {
            bytes.extend_from_slice(&status.to_le_bytes());
        }
        if let Some(failure) = failure {
            let length = u16::try_from(reason.len()).ok()?;
            bytes.push(code(failure.fault));
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(reason.as_bytes());
        }
        if let Some(failed) = failed {
            bytes.extend_from_slice(&failed.offset.durable.to_le_bytes());
        }
        if !answer.is_empty() {
            bytes.extend_from_slice(&u32::try_from(answer.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(answer);
        }
        Some(bytes)
    }
}

/// The attempt that an entry holds. `None` for what was written in another form or is damaged.
pub(super) fn attempt(entry: &Entry) -> Option<Attempt> {
    read(&entry.update.data, entry.offset.durable, entry.time)
}

fn read(data: &Bytes, number: u64, time: u64) -> Option<Attempt> {
    let mut fields = Fields(data);
    let [version, flags] = fields.array()?;
    if version != VERSION {
        return None;
    }
    let delivered = usize::from(u16::from_le_bytes(fields.array()?));
    let tries = u32::from_le_bytes(fields.array()?);
    let took = Duration::from_micros(u32::from_le_bytes(fields.array()?).into());
    let first = u64::from_le_bytes(fields.array()?);
    let entry = written(u128::from_be_bytes(fields.array()?));
    let last = match flags & LAST {
        0 => first,
        _ => u64::from_le_bytes(fields.array()?),
    };
    let status = match flags & STATUS {
        0 => None,
        _ => Some(u16::from_le_bytes(fields.array()?)),
    };
    let failure = match flags & FAILURE {
        0 => None,
        _ => Some(fields.failure()?),
    };
    let failed = match flags & FAILED {
        0 => None,
        _ => Some(u64::from_le_bytes(fields.array()?)),
    };
    let length = match flags & ANSWER {
        0 => 0,
        _ => usize::try_from(u32::from_le_bytes(fields.array()?)).ok()?,
    };
    let Fields(answer) = fields;
    let answer = (answer.len() == length).then(|| data.slice_ref(answer))?;
    let places = (first, last);
    Some(Attempt {
        number,
        time,
        entry,
        places,
        delivered,
        failed,
        tries,
        took,
        status,
        failure,
        answer,
    })
}

/// Reads fields off the front of some bytes.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The name of a fault, and the reason.
    fn failure(&mut self) -> Option<(String, String)> {
        let [code] = self.array()?;
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (reason, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let fault = fault(code)?.name().to_owned();
        Some((fault, std::str::from_utf8(reason).ok()?.to_owned()))
    }
}

fn flag(flag: u8, is_set: bool) -> u8 {
    if is_set { flag } else { 0 }
}

fn code(fault: Fault) -> u8 {
    match fault {
        Fault::Unreachable => 0,
        Fault::TimedOut => 1,
        Fault::Busy => 2,
        Fault::Rejected => 3,
        Fault::Gone => 4,
        Fault::Never => 5,
    }
}

fn fault(wanted: u8) -> Option<Fault> {
    Fault::ALL.into_iter().find(|fault| code(*fault) == wanted)
}

/// The UUID that an entry's own id says.
fn uuid_of(entry: &Entry) -> Option<u128> {
    let digits = entry.cursor().strip_prefix(URN)?.bytes().filter(|byte| *byte != b'-');
    digits.map(char::from).try_fold(0, |uuid, digit| {
        let digit = digit.to_digit(16)?;
        Some(uuid << 4 | u128::from(digit))
    })
}

/// An id, of its UUID (RFC 9562 section 4).
fn written(uuid: u128) -> String {
    let part = |shift: u32, mask: u128| uuid >> shift & mask;
    format!(
        "{URN}{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 0xffff_ffff),
        part(80, 0xffff),
        part(64, 0xffff),
        part(48, 0xffff),
        part(0, 0xffff_ffff_ffff)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connector::{Answer, Failure};
    use crate::webhook::{all_published, update};

    /// Entries with places and ids of a hub.
    async fn entries(count: usize) -> Vec<Arc<Entry>> {
        let updates = (0..count).map(|number| update("a", &number.to_string()));
        all_published(updates.collect()).await
    }

    /// All shapes that an outcome of three entries can have.
    fn outcomes() -> Vec<Outcome> {
        let mut all = Vec::new();
        for status in [None, Some(204), Some(u16::MAX)] {
            for body in ["", "words", "é\0\n"] {
                let answer = Answer { status, body: Bytes::from_static(body.as_bytes()) };
                all.push(Outcome { delivered: 3, failure: None, answer: answer.clone() });
                for fault in Fault::ALL {
                    for (delivered, reason) in [(0, "because"), (2, ""), (3, "of nothing: é")] {
                        let reason = reason.to_owned();
                        let failure = Some(Failure { fault, reason, retry_after: None });
                        all.push(Outcome { delivered, failure, answer: answer.clone() });
                    }
                }
            }
        }
        all
    }

    fn expected(tried: Tried<'_>) -> Attempt {
        let Tried { run, outcome, took } = tried;
        let place = |entry: &Arc<Entry>| entry.offset.durable;
        let failure = outcome.failure.as_ref();
        let failed = failure.and_then(|_| run.entries.get(outcome.delivered));
        Attempt {
            number: 7,
            time: 8,
            entry: run.entries[0].cursor().to_string(),
            places: (place(&run.entries[0]), place(run.entries.last().unwrap())),
            delivered: outcome.delivered,
            failed: failed.map(place),
            tries: run.tries + 1,
            took,
            status: outcome.answer.status,
            failure: failure.map(|why| (why.fault.name().to_owned(), why.reason.clone())),
            answer: outcome.answer.body.clone(),
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_no_part_of_it_is() {
        let entries = entries(3).await;
        for entries in [&entries[..], &entries[..1]] {
            let run = Run { entries: entries.to_vec(), tries: 4 };
            for outcome in &outcomes() {
                let took = Duration::from_micros(1_234_567);
                let tried = Tried { run: &run, outcome, took };
                let bytes = tried.to_bytes(&outcome.answer.body).unwrap();
                let data = Bytes::from(bytes.clone());
                assert_eq!(read(&data, 7, 8), Some(expected(tried)));
                for end in 0..data.len() {
                    assert_eq!(read(&data.slice(..end), 7, 8), None, "{end} of {data:?}");
                }
                let longer = Bytes::from([&data[..], &[0]].concat());
                assert_eq!(read(&longer, 7, 8), None);
                // Whatever stands there: it is read or not, and nothing breaks.
                for at in 0..data.len() {
                    for bit in 0..8 {
                        let mut changed = bytes.clone();
                        changed[at] ^= 1 << bit;
                        let _ = read(&Bytes::from(changed), 7, 8);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_too_much_for_its_field_is_the_most_that_fits() {
        let run = Run { entries: entries(1).await, tries: u32::MAX };
        let outcome = Outcome { delivered: 1, failure: None, answer: Answer::default() };
        let took = Duration::from_secs(1 << 40);
        let bytes = Tried { run: &run, outcome: &outcome, took }.to_bytes(&[]).unwrap();
        assert_eq!(bytes.len(), HEAD);
        let attempt = read(&bytes.into(), 1, 1).unwrap();
        assert_eq!(attempt.tries, u32::MAX);
        assert_eq!(attempt.took, Duration::from_micros(u32::MAX.into()));
    }

    #[test]
    fn each_fault_has_its_code() {
        let codes: Vec<u8> = Fault::ALL.into_iter().map(code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
        for fault in Fault::ALL {
            assert_eq!(super::fault(code(fault)), Some(fault));
        }
        assert_eq!(fault(6), None);
    }

    #[test]
    fn nothing_is_no_attempt() {
        let of = |bytes: &'static [u8]| read(&Bytes::from_static(bytes), 1, 1);
        assert_eq!((of(b""), of(b"{}"), of(&[0; 64])), (None, None, None));
    }
}
