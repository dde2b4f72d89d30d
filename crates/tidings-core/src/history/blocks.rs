//! Blocks of the history: read and checked once, shared by all who read the same part, bounded in
//! number. Knows files and records, not who reads.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::record::{ALIGN, Record};
use crate::limits::BLOCKS_CACHED_BYTES;

/// A checked part of a segment.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Records behind the last item are damaged.
    pub(crate) hole_at_end: bool,
}

/// A record in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) offset: u64,
    position: u32,
    /// Records right before it are damaged.
    pub(crate) hole_before: bool,
}

impl Block {
    /// Reads a block, or what was added to it since `known`.
    fn read(wanted: &Wanted<'_>, known: Option<&Block>) -> io::Result<Block> {
        let known = known.map_or(&[][..], |block| &block.bytes);
        let mut bytes = vec![0; usize::try_from(wanted.to - wanted.from).unwrap_or_default()];
        let (old, fresh) = bytes.split_at_mut_checked(known.len()).unwrap_or_default();
        old.copy_from_slice(known);
        let position = u64::from(wanted.from) + u64::try_from(old.len()).unwrap_or_default();
        File::open(wanted.path)?.read_exact_at(fresh, position)?;
        Ok(Block::check(bytes))
    }

    fn reaches(&self, offset: u64) -> bool {
        self.items.last().is_some_and(|item| item.offset >= offset)
    }

    /// Checks every record; what is damaged becomes a hole.
    pub(crate) fn check(bytes: Vec<u8>) -> Block {
        let mut items = Vec::new();
        let mut position = 0;
        let mut hole = false;
        while let Some(rest) = bytes.get(position..)
            && !rest.is_empty()
        {
            match Record::check(rest) {
                Some((record, length)) => {
                    let place = u32::try_from(position).unwrap_or(u32::MAX);
                    let (offset, hole_before) = (record.offset, hole);
                    items.push(Item { offset, position: place, hole_before });
                    hole = false;
                    position += length;
                }
                None => {
                    hole = true;
                    position += ALIGN;
                }
            }
        }
        Block { bytes, items, hole_at_end: hole }
    }

    /// The items behind `after`.
    pub(crate) fn items_after(&self, after: u64) -> &[Item] {
        let from = self.items.partition_point(|item| item.offset <= after);
        self.items.get(from..).unwrap_or_default()
    }

    /// The record of one of this block's items.
    pub(crate) fn record(&self, item: &Item) -> Option<Record<'_>> {
        let position = usize::try_from(item.position).ok()?;
        self.bytes.get(position..).and_then(Record::trusted)
    }
}

/// A segment's base and the position where the block begins.
type Key = (u64, u32);

/// Which part of which file is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'w> {
    pub(crate) path: &'w Path,
    pub(crate) base: u64,
    pub(crate) from: u32,
    /// Behind the last record of the block as it is now; the block may grow.
    pub(crate) to: u32,
    /// A cached block that reaches this offset is good enough.
    pub(crate) until: u64,
}

/// Why a block was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Deleted, or the disk cannot read it: what stood there is lost for readers.
    Gone,
    /// The process lacks something, descriptors or memory: it can be read later.
    NotNow,
}

impl From<&io::Error> for Unread {
    fn from(error: &io::Error) -> Unread {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN) => {
                Unread::NotNow
            }
            _ => Unread::Gone,
        }
    }
}

/// The blocks that were read last.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    cached: Mutex<Cached>,
}

type Place = Arc<Mutex<Option<Arc<Block>>>>;

#[derive(Debug, Default)]
struct Cached {
    blocks: HashMap<Key, (Place, usize)>,
    /// From the first read to the last.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Blocks {
    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wanted block; read by the first who asks while the others wait for it, and only as far
    /// as it has grown since.
    pub(crate) fn get(&self, wanted: Wanted<'_>) -> Result<Arc<Block>, Unread> {
        let key = (wanted.base, wanted.from);
        let place = {
            let mut cached = self.lock();
            if !cached.blocks.contains_key(&key) {
                cached.order.push_back(key);
            }
            Arc::clone(&cached.blocks.entry(key).or_default().0)
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let length = usize::try_from(wanted.to - wanted.from).unwrap_or_default();
        if let Some(block) = &*place
            && (block.bytes.len() >= length || block.reaches(wanted.until))
        {
            return Ok(Arc::clone(block));
        }
        match Block::read(&wanted, place.as_deref()) {
            Ok(block) => {
                let block = Arc::new(block);
                *place = Some(Arc::clone(&block));
                drop(place);
                self.lock().account(key, length);
                Ok(block)
            }
            Err(error) => {
                let segment = wanted.path.display();
                tracing::error!(%error, %segment, "history cannot be read");
                Err(Unread::from(&error))
            }
        }
    }
}

impl Cached {
    fn account(&mut self, key: Key, bytes: usize) {
        if let Some((_, known)) = self.blocks.get_mut(&key) {
            self.bytes = self.bytes + bytes - std::mem::replace(known, bytes);
        }
        while self.bytes > BLOCKS_CACHED_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            let freed = self.blocks.remove(&oldest).map_or(0, |(_, bytes)| bytes);
            self.bytes -= freed;
        }
    }
}
