//! One turn of reading the history, on a thread that may wait. Knows nobody's socket.

use std::time::{Duration, Instant};

use tidings_core::{Batch, Missed, Offset, Reading, Subscription, Taken};

use super::portion::Portion;
use crate::limits::CATCH_UP_FRAME_BYTES;
use crate::sse::Framing;

/// Who is behind.
pub(super) enum Behind {
    /// One receiver.
    One(Box<Reading>),
    /// A whole audience.
    All(Subscription),
}

impl Behind {
    /// Up to where it has everything.
    pub(super) fn offset(&self) -> Offset {
        match self {
            Behind::One(reading) => reading.offset(),
            Behind::All(subscription) => subscription.offset(),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Behind::One(reading) => reading.is_done(),
            Behind::All(subscription) => subscription.is_live(),
        }
    }

    fn take(&mut self, batch: &mut Batch) -> Result<Taken, Missed> {
        match self {
            Behind::One(reading) => reading.take(batch),
            Behind::All(subscription) => subscription.take(batch),
        }
    }
}

/// What could not be read. Whoever reads stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// The history no longer has it.
    Missed(Missed),
    /// Ephemeral updates that nobody remembers.
    Forgotten(Missed),
}

impl Gap {
    /// Where it ends.
    pub(super) fn until(&self) -> Offset {
        let (Gap::Missed(missed) | Gap::Forgotten(missed)) = self;
        missed.until
    }
}

/// What one turn gave.
pub(super) struct Turn {
    pub(super) behind: Behind,
    /// What was read, whole up to the gap if there is one.
    pub(super) portion: Option<Portion>,
    /// What is missing behind that.
    pub(super) gap: Option<Gap>,
}

/// Reads until there is enough for one write, all is read, or the turn is over.
pub(super) fn read_history(mut behind: Behind, framing: Framing, turn: Duration) -> Turn {
    let (batch, gap) = read_some(&mut behind, turn);
    let portion = Portion::new(batch);
    if let Some(portion) = &portion {
        // Made here, where nobody waits for it.
        portion.whole(framing);
    }
    Turn { behind, portion, gap }
}

/// The same as entries, whole up to the gap if there is one.
pub(super) fn read_some(behind: &mut Behind, turn: Duration) -> (Batch, Option<Gap>) {
    let begun = Instant::now();
    let (mut batch, mut bytes) = (Batch::new(), 0);
    let gap = loop {
        let (after, known) = (behind.offset(), batch.len());
        let taken = behind.take(&mut batch);
        bytes += batch.iter().skip(known).map(|entry| entry.update.weight()).sum::<usize>();
        match taken {
            // Announcements for this client are forgotten: it has to read the list of them again.
            Ok(taken) if taken.ephemerals_lost => {
                break Some(Gap::Forgotten(Missed { after, until: taken.offset }));
            }
            Ok(_) => {}
            Err(missed) => break Some(Gap::Missed(missed)),
        }
        let enough = bytes >= CATCH_UP_FRAME_BYTES || begun.elapsed() >= turn;
        if enough || behind.is_done() {
            break None;
        }
    };
    (batch, gap)
}
