//! The history in a folder: segments, the one that is written, retention. One process at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::blocks::{Block, Blocks, Unread, Wanted};
use super::note::{CleanEnd, Note};
use super::open::Opened;
use super::segment::{Active, Header, Segment, hash_id, is_no_space, sidecar_path};
use super::{AppendError, Bounds, History, Stored, Visit, record, retention};
use crate::clock::Clock;
use crate::error::Missed;
use crate::hold::Holds;
use crate::ids::Ids;
use crate::limits::RECENT_BYTES_MAX;
use crate::options::{Durability, Keep};
use crate::update::{Entry, Epoch, Offset};

/// What a disk history needs to know.
#[derive(Clone)]
pub(crate) struct DiskOptions {
    pub(crate) folder: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) keep: Keep,
    pub(crate) holds: Arc<Holds>,
    pub(crate) segment_bytes: u64,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<Ids>,
    /// Where what has to outlive the process is noted; answers whether it stands there.
    pub(crate) note: Arc<dyn Fn(Note) -> bool + Send + Sync>,
}

/// See the module.
pub(crate) struct DiskHistory {
    options: DiskOptions,
    segments: RwLock<Vec<Arc<Segment>>>,
    /// Only the writer's thread appends; the lock is for the end of the process.
    writing: Mutex<Writing>,
    blocks: Blocks,
    /// Everything up to here was trimmed or never was.
    before_first: RwLock<u64>,
}

struct Writing {
    active: Option<Active>,
    /// Ended segments whose sidecars could not be written yet.
    unclosed: Vec<Active>,
    last: u64,
    /// Running time before this process, in milliseconds, and when it began.
    observed_before: u64,
    since: Duration,
    maintained: Duration,
}

impl std::fmt::Debug for DiskHistory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DiskHistory").field("folder", &self.options.folder).finish()
    }
}

impl DiskHistory {
    /// A history over what was found in the folder, behind `start`.
    pub(crate) fn new(options: DiskOptions, opened: Opened, start: u64) -> DiskHistory {
        let since = options.clock.monotonic();
        let first = opened.segments.first();
        let before_first = first.map_or(start, |segment| segment.header.base);
        let writing = Writing {
            active: opened.active,
            unclosed: Vec::new(),
            last: start,
            observed_before: opened.observed,
            since,
            maintained: since,
        };
        DiskHistory {
            options,
            segments: RwLock::new(opened.segments),
            writing: Mutex::new(writing),
            blocks: Blocks::default(),
            before_first: RwLock::new(before_first),
        }
    }

    fn segments(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self) -> bool {
        self.options.durability == Durability::Fsync
    }

    /// Milliseconds that hubs on this folder have been running. Age is judged by it and not by the
    /// wall clock: a clock that jumps deletes nothing.
    fn observed(&self, writing: &Writing) -> u64 {
        let here = self.options.clock.monotonic().saturating_sub(writing.since);
        writing.observed_before + u64::try_from(here.as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// Closes the segment that is written and begins one that holds `bytes` at least.
    fn roll(&self, writing: &mut Writing, bytes: usize) -> std::io::Result<()> {
        let observed = self.observed(writing);
        let needed = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(64);
        let size =
            retention::segment_bytes(&self.options.keep, self.options.segment_bytes).max(needed);
        let base = writing.last;
        // A segment without entries gives its place and its name to the new one.
        let replaced = writing.active.as_ref().map(|active| active.segment.header);
        let replaced = replaced.filter(|header| header.base == base);
        let before = self.segments().last().map(|segment| segment.header.base);
        let previous = replaced.map_or(before.unwrap_or(base), |header| header.previous);
        let header = Header { epoch: self.options.epoch, base, previous, observed };
        // The new one first: without space the old one stays as it is.
        let fresh = Active::create(&self.options.folder, header, size)?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if replaced.is_some() {
            segments.pop();
        }
        segments.push(Arc::clone(&fresh.segment));
        drop(segments);
        let old = writing.active.replace(fresh);
        writing.unclosed.extend(old.filter(|_| replaced.is_none()));
        (self.options.note)(Note::Begun(base));
        close(&mut writing.unclosed, observed);
        Ok(())
    }

    fn remove_first(&self) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if segments.len() < 2 {
            return;
        }
        let oldest = segments.remove(0);
        let last = oldest.contents().last;
        *self.before_first.write().unwrap_or_else(PoisonError::into_inner) = last;
        drop(segments);
        for path in [oldest.path.clone(), sidecar_path(&oldest.path)] {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                let path = path.display();
                tracing::warn!(%error, %path, "an expired segment could not be deleted");
            }
        }
    }

    /// The segment and block that hold what follows `after`.
    fn block_after(&self, after: u64, until: u64) -> Result<Found, Missed> {
        let segments = self.segments();
        let missed =
            |until: u64| Missed { after: Offset::durable(after), until: Offset::durable(until) };
        let before_first = *self.before_first.read().unwrap_or_else(PoisonError::into_inner);
        if after < before_first {
            return Err(missed(before_first));
        }
        let from = segments.partition_point(|segment| segment.contents().last <= after);
        let mut before = from.checked_sub(1).and_then(|before| segments.get(before));
        let mut found = None;
        for segment in segments.get(from..).unwrap_or_default() {
            let header = &segment.header;
            // The one before is not the one that was before: a segment is gone.
            let follows = before.is_none_or(|before| header.previous == before.header.base);
            if !follows && after < header.base {
                return Err(missed(header.base));
            }
            let (count, last) = {
                let contents = segment.contents();
                (contents.count, contents.last)
            };
            if count > 0 {
                found = Some(segment);
                break;
            }
            // It had entries, and none of them can be read.
            if last > header.base {
                return Err(missed(last));
            }
            // One that got no entry before its process ended hides nothing behind it.
            before = Some(segment);
        }
        let Some(segment) = found else { return Ok(Found::Nothing) };
        let (header, contents) = (&segment.header, segment.contents());
        let at = contents.blocks.partition_point(|block| block.after <= after).max(1) - 1;
        let Some(start) = contents.blocks.get(at) else { return Ok(Found::Nothing) };
        let next = contents.blocks.get(at + 1);
        let wanted = Wanted {
            path: &segment.path,
            base: header.base,
            from: start.position,
            to: next.map_or(contents.end, |next| next.position),
            until,
        };
        let last = next.map_or(contents.last, |next| next.after);
        let (path, wanted) = (segment.path.clone(), Wanted { path: Path::new(""), ..wanted });
        let epoch = header.epoch;
        drop(contents);
        drop(segments);
        let block = self.blocks.get(Wanted { path: &path, ..wanted });
        match block {
            Ok(block) => Ok(Found::Block { block, epoch, last }),
            // Nothing is gone, but it cannot be read now: the reader stays where it is.
            Err(Unread::NotNow) => Err(missed(after)),
            Err(Unread::Gone) => Err(missed(last)),
        }
    }

    fn append_to(&self, writing: &mut Writing, batch: &[Arc<Entry>]) -> Result<(), AppendError> {
        // About what it takes, so that it hardly has to grow.
        let expected = |entry: &Arc<Entry>| record::HEAD + entry.update.weight();
        let mut bytes = Vec::with_capacity(batch.iter().map(expected).sum());
        let encode = |bytes: &mut Vec<u8>, acknowledged| {
            bytes.clear();
            for entry in batch {
                record::encode(entry, acknowledged, bytes);
            }
        };
        let end =
            |writing: &Writing| writing.active.as_ref().map(|active| active.segment.contents().end);
        encode(&mut bytes, end(writing).unwrap_or_default());
        if !writing.active.as_ref().is_some_and(|active| active.fits(bytes.len())) {
            // Nothing of the batch was written yet: whatever is missing may be there next time.
            self.roll(writing, bytes.len()).map_err(|error| match is_no_space(&error) {
                true => AppendError::NoSpace,
                false => AppendError::NotNow(error.to_string()),
            })?;
            encode(&mut bytes, end(writing).unwrap_or_default());
        }
        match &mut writing.active {
            // A failure here is final, one for lack of space too: what reached the disk is unknown.
            Some(active) => active
                .append(&bytes, self.sync())
                .map_err(|error| AppendError::Failed(error.to_string())),
            None => Ok(()),
        }
    }
}

/// What was found behind a place.
enum Found {
    Nothing,
    Block { block: Arc<Block>, epoch: Epoch, last: u64 },
}

/// Closes ended segments. Who cannot be closed now stays readable and is tried again.
fn close(unclosed: &mut Vec<Active>, observed: u64) {
    unclosed.retain(|active| {
        let closed = active.close(observed);
        if let Err(error) = &closed {
            let segment = active.segment.path.display();
            tracing::warn!(%error, %segment, "a segment could not be closed yet");
        }
        closed.is_err()
    });
}

impl History for DiskHistory {
    fn append(&self, batch: &[Arc<Entry>]) -> Result<(), AppendError> {
        let mut writing = self.writing();
        self.append_to(&mut writing, batch)?;
        if let Some(last) = batch.last() {
            writing.last = last.offset.durable;
        }
        Ok(())
    }

    fn scan(&self, after: Offset, until: Offset, visit: Visit<'_>) -> Result<Offset, Missed> {
        let (from, last_wanted) = (after.durable, until.durable);
        let Found::Block { block, epoch, last } = self.block_after(from, last_wanted)? else {
            return Ok(until);
        };
        let mut reached = from;
        for item in block.items_after(from) {
            if item.hole_before && reached + 1 < item.offset {
                if reached > from {
                    return Ok(Offset::durable(reached));
                }
                return Err(Missed { after, until: Offset::durable(item.offset - 1) });
            }
            if item.offset > last_wanted {
                return Ok(until);
            }
            let Some(record) = block.record(item) else { continue };
            reached = item.offset;
            if !visit(&Stored { record, shared: None, epoch, ids: &self.options.ids }) {
                return Ok(Offset::durable(reached).max(after));
            }
        }
        if block.hole_at_end && reached == from && from < last {
            return Err(Missed { after, until: Offset::durable(last) });
        }
        let end = if block.hole_at_end { reached } else { last.max(reached) };
        // Everything wanted was visited: ephemeral updates have no place to be read from.
        Ok(if end >= last_wanted { until } else { Offset::durable(end) })
    }

    fn bounds(&self) -> Bounds {
        let before_first = *self.before_first.read().unwrap_or_else(PoisonError::into_inner);
        let last = self.segments().last().map_or(before_first, |segment| segment.contents().last);
        Bounds { before_first: Offset::durable(before_first), last: Offset::durable(last) }
    }

    fn find_id(&self, id: &str) -> Option<(Epoch, Offset)> {
        let segments = self.segments().clone();
        let hash = hash_id(id);
        segments.iter().find_map(|segment| {
            let offset = segment.find_id(hash)?;
            let mut right = false;
            let mut visit = |stored: &Stored<'_>| {
                right = stored.has_id(id);
                false
            };
            let after = Offset::durable(offset.checked_sub(1)?);
            self.scan(after, Offset::durable(offset), &mut visit).ok()?;
            right.then_some((segment.header.epoch, Offset::durable(offset)))
        })
    }

    fn recent(&self) -> Offset {
        let mut bytes = 0;
        for segment in self.segments().iter().rev() {
            let contents = segment.contents();
            for block in contents.blocks.iter().rev() {
                if bytes + u64::from(contents.end - block.position) > RECENT_BYTES_MAX {
                    return Offset::durable(block.after);
                }
            }
            bytes += u64::from(contents.end);
        }
        self.bounds().before_first
    }

    fn skip_to(&self, number: u64) -> Result<(), AppendError> {
        match (self.options.note)(Note::Skipped(number)) {
            true => Ok(()),
            false => Err(AppendError::NotNow("a place could not be noted".into())),
        }
    }

    fn maintain(&self) -> Result<(), AppendError> {
        let mut writing = self.writing();
        let now = self.options.clock.monotonic();
        if now.saturating_sub(writing.maintained) < Duration::from_secs(1) {
            return Ok(());
        }
        writing.maintained = now;
        if writing.active.as_ref().is_some_and(Active::is_deleted) {
            return Err(AppendError::Failed("the history was deleted while it was in use".into()));
        }
        let observed = self.observed(&writing);
        close(&mut writing.unclosed, observed);
        let keep = &self.options.keep;
        let is_due = |active: &Active| retention::is_due(keep, &active.segment, observed);
        if writing.active.as_ref().is_some_and(is_due)
            && let Err(error) = self.roll(&mut writing, 0)
            && !is_no_space(&error)
        {
            tracing::warn!(%error, "a segment could not be ended");
        }
        drop(writing);
        let gone = retention::let_go(keep, &self.options.holds, &self.segments(), observed);
        for _ in 0..gone {
            self.remove_first();
        }
        Ok(())
    }

    fn close(&self) {
        let writing = self.writing();
        let observed = self.observed(&writing);
        let Some(active) = &writing.active else { return };
        if let Err(error) = active.sync() {
            tracing::error!(%error, "the history could not be synced at the end");
            return;
        }
        let contents = active.segment.contents();
        let (base, position) = (active.segment.header.base, contents.end);
        let end = CleanEnd { base, position, last: contents.last, observed };
        (self.options.note)(Note::Ended(end));
    }
}
