//! One stream's turn of reading the history, on a thread that may wait. Knows nobody's socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{Batch, Missed, Offset, Subscription};

use super::pieces::Pieces;
use super::stream::Streams;
use crate::limits::{CATCH_UP_FRAME_BYTES, CATCH_UP_TURN};

/// What one turn of reading the history gave.
pub(super) struct Turn {
    pub(super) subscription: Subscription,
    /// What was read, whole up to the gap if there is one.
    pub(super) pieces: VecDeque<Bytes>,
    /// The last entry in it.
    pub(super) last: Option<Offset>,
    /// What could not be read. The subscription stands behind it.
    pub(super) missed: Option<Missed>,
    /// The last place behind which announcements for this client are forgotten, if any are: it has
    /// to read the list of them again.
    pub(super) forgotten: Option<Offset>,
}

/// One turn of reading the history, when it is this stream's.
pub(super) async fn catch_up(subscription: Subscription, streams: Arc<Streams>) -> Option<Turn> {
    streams.readers.read(move || read_history(subscription, CATCH_UP_TURN)).await
}

/// Reads until there is enough for one frame, the subscription is live, or the turn is over.
pub(super) fn read_history(mut subscription: Subscription, turn: Duration) -> Turn {
    let begun = std::time::Instant::now();
    let mut pieces = Pieces::default();
    let mut batch = Batch::new();
    let mut last = None;
    let mut forgotten = None;
    let missed = loop {
        let after = subscription.offset();
        let taken = subscription.take(&mut batch);
        last = batch.last().map(|entry| entry.offset).or(last);
        pieces.add(&batch);
        batch.clear();
        match taken {
            Ok(taken) => forgotten = taken.ephemerals_lost.then_some(after),
            Err(missed) => break Some(missed),
        }
        let enough =
            forgotten.is_some() || pieces.bytes >= CATCH_UP_FRAME_BYTES || begun.elapsed() >= turn;
        if enough || subscription.is_live() {
            break None;
        }
    };
    Turn { subscription, pieces: pieces.done(), last, missed, forgotten }
}
