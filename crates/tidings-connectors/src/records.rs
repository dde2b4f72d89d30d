//! What is saved of sinks, as keys and values of the hub's state. Every value begins with the
//! version of its format. Knows no sink that runs.
//!
//! A key is the sink's name, a zero byte, and numbers in big-endian order; names hold no zero byte.
//! A value is a byte of the version, the length of a JSON text as a little-endian u32, that text,
//! and behind it, where there is one, a packed entry.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::{Entry, Epoch, Hub, Missed, Offset};

use crate::connector::{Answer, Fault};
use crate::delivery::{About, DeadLetter, DeadTotal, Held, Row, RowKey, Standing};

const FORMAT: u8 = 1;

/// One sink as it is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SinkRecord {
    /// The log that the position is a place in.
    pub(crate) epoch: u64,
    pub(crate) position: u64,
    pub(crate) unfollowed: u64,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    disabled: Option<String>,
    held_until: u64,
    /// Milliseconds.
    #[serde(default)]
    held_wait: u64,
    dead_last: u64,
    dead_rows: usize,
    dead_bytes: usize,
}

impl SinkRecord {
    /// A sink that begins behind `position`.
    pub(crate) fn new(epoch: Epoch, position: Offset) -> SinkRecord {
        SinkRecord {
            epoch: epoch.0,
            position: position.durable,
            unfollowed: position.durable,
            paused: false,
            disabled: None,
            held_until: 0,
            held_wait: 0,
            dead_last: 0,
            dead_rows: 0,
            dead_bytes: 0,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        match (&self.disabled, self.paused) {
            (Some(reason), _) => Standing::Disabled(reason.clone()),
            (None, true) => Standing::Paused,
            (None, false) => Standing::Running,
        }
    }

    pub(crate) fn set_standing(&mut self, standing: &Standing) {
        self.paused = *standing == Standing::Paused;
        self.disabled = match standing {
            Standing::Disabled(reason) => Some(reason.clone()),
            Standing::Running | Standing::Paused => None,
        };
    }

    pub(crate) fn held(&self) -> Held {
        Held { until: self.held_until, wait: Duration::from_millis(self.held_wait) }
    }

    pub(crate) fn set_held(&mut self, held: Held) {
        self.held_until = held.until;
        self.held_wait = u64::try_from(held.wait.as_millis()).unwrap_or(u64::MAX);
    }

    pub(crate) fn dead(&self) -> DeadTotal {
        let (last, rows, bytes) = (self.dead_last, self.dead_rows, self.dead_bytes);
        DeadTotal { last, rows, bytes }
    }

    pub(crate) fn set_dead(&mut self, dead: DeadTotal) {
        (self.dead_last, self.dead_rows, self.dead_bytes) = (dead.last, dead.rows, dead.bytes);
    }

    pub(crate) fn to_value(&self) -> Vec<u8> {
        value(self, &[])
    }

    /// `None` when the bytes are damaged or of another format.
    pub(crate) fn of_value(bytes: &[u8]) -> Option<SinkRecord> {
        parts(bytes).map(|(record, _)| record)
    }
}

#[derive(Serialize, Deserialize)]
struct CopyRecord {
    weight: usize,
    tries: u32,
    rejected: u32,
    since: u64,
    due: u64,
    wait: u64,
    replayed: bool,
}

/// The key of everything of a sink, and the first key behind it.
pub(crate) fn bounds(name: &str) -> (Vec<u8>, Vec<u8>) {
    ([name.as_bytes(), &[0]].concat(), [name.as_bytes(), &[1]].concat())
}

/// The key of a copy.
pub(crate) fn copy_key(name: &str, key: RowKey) -> Vec<u8> {
    [name.as_bytes(), &[0], &key.lane.to_be_bytes(), &key.number.to_be_bytes()].concat()
}

/// The key of a dead letter, and of everything else that is numbered.
pub(crate) fn numbered_key(name: &str, number: u64) -> Vec<u8> {
    [name.as_bytes(), &[0], &number.to_be_bytes()].concat()
}

/// The number at the end of a key.
pub(crate) fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().copied().map(u64::from_be_bytes)
}

/// A copy as it is saved.
pub(crate) fn copy_value(hub: &Hub, row: &Row, entry: &Entry) -> Vec<u8> {
    let record = CopyRecord {
        weight: row.weight,
        tries: row.tries,
        rejected: row.rejected,
        since: row.since,
        due: row.due,
        wait: u64::try_from(row.wait.as_millis()).unwrap_or(u64::MAX),
        replayed: row.is_replayed,
    };
    value(&record, &hub.pack(entry))
}

/// What is known of a copy without its entry.
pub(crate) fn copy_row(key: &[u8], bytes: &[u8]) -> Option<Row> {
    let (rest, number) = key.split_last_chunk::<8>()?;
    let lane = u64::from_be_bytes(*rest.last_chunk()?);
    let (record, _): (CopyRecord, _) = parts(bytes)?;
    Some(Row {
        key: RowKey { lane, number: u64::from_be_bytes(*number) },
        weight: record.weight,
        tries: record.tries,
        rejected: record.rejected,
        since: record.since,
        due: record.due,
        wait: Duration::from_millis(record.wait),
        is_replayed: record.replayed,
    })
}

/// The packed entry of a copy.
pub(crate) fn packed(bytes: &[u8]) -> Option<&[u8]> {
    parts::<serde::de::IgnoredAny>(bytes).map(|(_, packed)| packed)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Entry,
    FollowUp,
    Gap,
    Unreadable,
}

#[derive(Serialize, Deserialize)]
struct LetterRecord {
    kind: Kind,
    time: u64,
    tries: u32,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Of a gap, or the place of an entry that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// Bytes of the answer, which stands behind the text.
    answer: usize,
}

/// A dead letter as it is saved.
pub(crate) fn letter_value(hub: &Hub, letter: &DeadLetter) -> Vec<u8> {
    let mut record = LetterRecord {
        kind: Kind::Entry,
        time: letter.time,
        tries: letter.tries,
        reason: letter.reason.clone(),
        fault: None,
        status: None,
        after: None,
        until: None,
        answer: 0,
    };
    match &letter.about {
        About::Entry { entry, fault, answer } => {
            record.fault = Some(fault.name().to_owned());
            record.status = answer.status;
            record.answer = answer.body.len();
            value(&record, &[&answer.body[..], &hub.pack(entry)].concat())
        }
        About::FollowUp { entry } => {
            record.kind = Kind::FollowUp;
            value(&record, &hub.pack(entry))
        }
        About::Gap(missed) => {
            record.kind = Kind::Gap;
            (record.after, record.until) = (Some(missed.after.durable), Some(missed.until.durable));
            value(&record, &[])
        }
        About::Unreadable { number } => {
            record.kind = Kind::Unreadable;
            record.until = Some(*number);
            value(&record, &[])
        }
    }
}

/// A saved dead letter; `None` when the bytes are damaged.
pub(crate) fn letter(hub: &Hub, key: &[u8], bytes: &[u8]) -> Option<DeadLetter> {
    let (record, rest): (LetterRecord, _) = parts(bytes)?;
    let (body, packed) = rest.split_at_checked(record.answer)?;
    let about = match record.kind {
        Kind::Entry => About::Entry {
            entry: hub.unpack(packed)?,
            fault: record.fault.as_deref().and_then(Fault::of_name)?,
            answer: Answer { status: record.status, body: Bytes::copy_from_slice(body) },
        },
        Kind::FollowUp => About::FollowUp { entry: hub.unpack(packed)? },
        Kind::Gap => About::Gap(Missed {
            after: Offset::durable(record.after?),
            until: Offset::durable(record.until?),
        }),
        Kind::Unreadable => About::Unreadable { number: record.until? },
    };
    let (time, tries, reason) = (record.time, record.tries, record.reason);
    Some(DeadLetter { number: number_of(key)?, time, tries, reason, about })
}

/// A record as it is saved, with what stands behind it.
pub(crate) fn value(record: &impl Serialize, behind: &[u8]) -> Vec<u8> {
    // Plain structures of numbers and texts: there is nothing that JSON could not say.
    let text = serde_json::to_vec(record).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&[FORMAT], &length[..], &text, behind].concat()
}

/// A saved record and what stands behind it.
pub(crate) fn parts<'b, R: Deserialize<'b>>(bytes: &'b [u8]) -> Option<(R, &'b [u8])> {
    let rest = bytes.strip_prefix(&[FORMAT])?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, behind) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(text).ok()?, behind))
}
