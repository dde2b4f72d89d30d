//! Events as a socket takes them. Knows no socket and no stream.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tidings_core::Batch;

use super::event;
use crate::limits::PIECE_BYTES;

/// Small events together in one piece, large ones as they are, shared with everybody else who gets
/// them.
#[derive(Default)]
pub(super) struct Pieces {
    done: VecDeque<Bytes>,
    small: BytesMut,
    /// Of all events so far.
    pub(super) bytes: usize,
}

impl Pieces {
    /// Adds the events of a batch, in its order.
    pub(super) fn add(&mut self, batch: &Batch) {
        for entry in batch.iter() {
            let event = event::rendered(entry);
            self.bytes += event.len();
            let alone = batch.len() == 1 && self.small.is_empty();
            if alone || event.len() >= PIECE_BYTES {
                self.end_small();
                self.done.push_back(event.clone());
            } else {
                self.small.extend_from_slice(event);
            }
        }
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.done.push_back(self.small.split().freeze());
        }
    }

    /// All pieces.
    pub(super) fn done(mut self) -> VecDeque<Bytes> {
        self.end_small();
        self.done
    }
}
