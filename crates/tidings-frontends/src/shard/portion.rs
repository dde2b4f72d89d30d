//! Entries in order, as the bytes that all get who are at the same place. Knows no socket.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidings_core::{Batch, Entry, Offset};

use crate::limits::PIECE_BYTES;
use crate::sse::{FRAMINGS, Framing, event};
use crate::{courier, websocket};

/// Pieces that leave in one write each; mostly one, which stands here.
pub(super) type Few = SmallVec<[Bytes; 1]>;

/// What is handed out at a time; never empty.
pub(super) struct Portion {
    batch: Batch,
    first: Offset,
    last: Offset,
    /// By framing; made by the first who needs it.
    framed: [OnceLock<Few>; FRAMINGS],
}

impl Portion {
    /// The entries of a batch, if it has any.
    pub(super) fn new(batch: Batch) -> Option<Portion> {
        let first = batch.iter().next()?.offset;
        let last = batch.last()?.offset;
        Some(Portion { batch, first, last, framed: [const { OnceLock::new() }; FRAMINGS] })
    }

    /// The place of the last entry.
    pub(super) fn last(&self) -> Offset {
        self.last
    }

    /// What a receiver gets that has everything up to `position`: small events together in one
    /// piece, large ones as they are, shared with everybody else who gets them.
    pub(super) fn behind(&self, position: Offset, framing: Framing) -> Pieces<'_> {
        if position < self.first {
            return Pieces::Shared(self.whole(framing));
        }
        let missing = self.batch.iter().filter(|entry| entry.offset > position);
        Pieces::Own(pieces(missing.map(|entry| &**entry), framing))
    }

    /// Those of its entries that `is_for` says yes to, for one receiver.
    pub(super) fn picked(&self, framing: Framing, is_for: impl Fn(&Entry) -> bool) -> Few {
        pieces(self.batch.iter().map(|entry| &**entry).filter(|entry| is_for(entry)), framing)
    }

    /// All of it.
    pub(super) fn whole(&self, framing: Framing) -> &[Bytes] {
        let [chunked, bare, messages, messages_binary, raw] = &self.framed;
        let cell = match framing {
            Framing::Chunked => chunked,
            Framing::Bare => bare,
            Framing::Messages => messages,
            Framing::MessagesBinary => messages_binary,
            Framing::Raw => raw,
        };
        cell.get_or_init(|| pieces(self.batch.iter().map(|entry| &**entry), framing))
    }

    /// About how many bytes it is, in whatever framing.
    pub(super) fn bytes(&self) -> usize {
        self.batch.iter().map(|entry| entry.update.weight()).sum()
    }
}

/// Bytes for one receiver.
pub(super) enum Pieces<'p> {
    /// As for most.
    Shared(&'p [Bytes]),
    /// For one who has the beginning already.
    Own(Few),
}

impl AsRef<[Bytes]> for Pieces<'_> {
    fn as_ref(&self) -> &[Bytes] {
        match self {
            Pieces::Shared(pieces) => pieces,
            Pieces::Own(pieces) => pieces,
        }
    }
}

fn pieces<'e>(entries: impl Iterator<Item = &'e Entry>, framing: Framing) -> Few {
    let mut done = Few::new();
    let mut small = BytesMut::new();
    let mut first: Option<Bytes> = None;
    for entry in entries {
        let event = match framing {
            Framing::Chunked => event::chunked(entry).clone(),
            Framing::Bare => event::bare(entry),
            Framing::Messages => websocket::delivery::text(entry).clone(),
            Framing::MessagesBinary => websocket::delivery::binary(entry),
            Framing::Raw => courier::delivery::raw(entry).clone(),
        };
        if event.len() >= PIECE_BYTES {
            end_small(&mut first, &mut small, &mut done);
            done.push(event);
        } else if small.is_empty() && first.is_none() {
            // Alone, as most are, it is not copied.
            first = Some(event);
        } else {
            if let Some(first) = first.take() {
                small.extend_from_slice(&first);
            }
            small.extend_from_slice(&event);
        }
    }
    end_small(&mut first, &mut small, &mut done);
    done
}

fn end_small(first: &mut Option<Bytes>, small: &mut BytesMut, done: &mut Few) {
    done.extend(first.take());
    if !small.is_empty() {
        done.push(small.split().freeze());
    }
}
