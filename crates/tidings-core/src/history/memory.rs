//! A history without a file: the newest entries as records, in chunks of memory.
//!
//! As entries they would be a dozen pieces of memory each. Every one of those has long left the
//! processor's caches when the entry is let go of, and the next entry would be made of them. As
//! records they follow each other, and what an entry was made of is used again at once. Only of a
//! large one the data stays where it is, once for all who read it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::record::{Record, encode_trusted};
use super::{AppendError, Bounds, History, Stored, Visit};
use crate::clock::Clock;
use crate::error::Missed;
use crate::hold::Holds;
use crate::ids::Ids;
use crate::limits::{
    CHUNK_BYTES, KEEP_BYTES_IN_MEMORY_DEFAULT, MEMORY_BLOCK_BYTES, SHARED_DATA_BYTES,
};
use crate::options::Keep;
use crate::update::{Entry, Epoch, Offset};

pub(crate) struct MemoryHistory {
    keep: Keep,
    holds: Arc<Holds>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    ids: Arc<Ids>,
    kept: RwLock<Kept>,
}

impl std::fmt::Debug for MemoryHistory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MemoryHistory")
    }
}

#[derive(Debug)]
struct Kept {
    /// Records in order; some of each are kept.
    chunks: VecDeque<Chunk>,
    /// The memory of the chunk that became empty last.
    spare: Vec<u8>,
    items: VecDeque<Item>,
    /// The large ones, whose records are without the data.
    large: VecDeque<Arc<Entry>>,
    bytes: u64,
    before_first: Offset,
    last: Offset,
    /// The first kept entry of each publisher's id, by a count of its entries that are kept.
    ids: HashMap<Box<str>, VecDeque<Offset>>,
}

/// Records one behind the other. Those at the front may be let go of already.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// The first record that was put into it.
    first: u64,
    /// How many of its records are kept.
    items: usize,
}

/// What has to be known of a kept record without reading it.
#[derive(Debug, Clone, Copy)]
struct Item {
    offset: u64,
    /// Nanoseconds by the monotonic clock: a wall clock that jumps deletes nothing.
    arrived: u64,
    weight: u32,
    /// Where in its chunk it begins.
    position: u32,
    /// Its publisher gave it an id.
    has_id: bool,
    /// Its data is not in its record.
    is_large: bool,
}

/// What is read in one go.
#[derive(Debug, Default)]
struct Copied {
    /// Where it begins, if there is anything.
    first: Option<u64>,
    records: Vec<u8>,
    /// The large ones of them, in order.
    large: Vec<Arc<Entry>>,
}

impl MemoryHistory {
    /// An empty history behind `start`.
    pub(crate) fn new(
        keep: Keep,
        holds: Arc<Holds>,
        clock: Arc<dyn Clock>,
        epoch: Epoch,
        ids: Arc<Ids>,
        start: Offset,
    ) -> MemoryHistory {
        let kept = Kept {
            chunks: VecDeque::new(),
            spare: Vec::new(),
            items: VecDeque::new(),
            large: VecDeque::new(),
            bytes: 0,
            before_first: start,
            last: start,
            ids: HashMap::new(),
        };
        MemoryHistory { keep, holds, clock, epoch, ids, kept: RwLock::new(kept) }
    }

    fn trim(&self, kept: &mut Kept, now: Duration) {
        let bytes_max = self.keep.bytes.unwrap_or(KEEP_BYTES_IN_MEMORY_DEFAULT);
        let count = |kept: &Kept| u64::try_from(kept.items.len()).unwrap_or(u64::MAX);
        while let Some(item) = kept.items.front() {
            let old = self.keep.age.is_some_and(|age| now.saturating_sub(item.arrived()) > age);
            let many = self.keep.entries.is_some_and(|most| count(kept) > most);
            if !(old || many || kept.bytes > bytes_max) {
                break;
            }
            if self.holds.keep(item.offset, kept.bytes.saturating_sub(bytes_max)) {
                break;
            }
            kept.drop_first();
        }
    }
}

impl Item {
    fn arrived(&self) -> Duration {
        Duration::from_nanos(self.arrived)
    }
}

impl Chunk {
    fn record(&self, item: &Item) -> Option<Record<'_>> {
        let position = usize::try_from(item.position).ok()?;
        self.bytes.get(position..).and_then(Record::trusted)
    }

    fn bytes_of(&self, item: &Item) -> Option<&[u8]> {
        let position = usize::try_from(item.position).ok()?;
        let length = self.record(item)?.length();
        self.bytes.get(position..position + length)
    }
}

impl Kept {
    /// `arrived` is in nanoseconds by the monotonic clock.
    fn put(&mut self, entry: &Arc<Entry>, arrived: u64) {
        let weight = entry.update.weight();
        let offset = entry.offset.durable;
        let is_large = entry.update.data.len() >= SHARED_DATA_BYTES;
        let data = if is_large { &[] } else { &*entry.update.data };
        let length = weight - entry.update.data.len() + data.len();
        let is_full = |chunk: &Chunk| chunk.bytes.len() + length > CHUNK_BYTES;
        if self.chunks.back().is_none_or(is_full) {
            let bytes = std::mem::take(&mut self.spare);
            self.chunks.push_back(Chunk { bytes, first: offset, items: 0 });
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        let position = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
        encode_trusted(entry, data, &mut chunk.bytes);
        chunk.items += 1;
        if is_large {
            self.large.push_back(Arc::clone(entry));
        }
        self.bytes += weight as u64;
        self.last = entry.offset;
        if let Some(id) = &entry.update.id {
            self.ids.entry(id.as_str().into()).or_default().push_back(entry.offset);
        }
        let (has_id, weight) =
            (entry.update.id.is_some(), u32::try_from(weight).unwrap_or(u32::MAX));
        self.items.push_back(Item { offset, arrived, weight, position, has_id, is_large });
    }

    fn drop_first(&mut self) {
        let Some(item) = self.items.pop_front() else { return };
        self.bytes -= u64::from(item.weight);
        self.before_first = Offset::durable(item.offset);
        if item.is_large {
            self.large.pop_front();
        }
        let Some(chunk) = self.chunks.front_mut() else { return };
        // Only then: the record has long left the processor's caches.
        if item.has_id
            && let Some(id) = chunk.record(&item).and_then(|record| record.id())
            && let Some(places) = self.ids.get_mut(id)
        {
            places.pop_front();
            if places.is_empty() {
                self.ids.remove(id);
            }
        }
        chunk.items -= 1;
        if chunk.items == 0
            && let Some(empty) = self.chunks.pop_front()
        {
            self.recycle(empty.bytes);
        }
        if self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.len() * 2);
            self.large.shrink_to(self.large.len() * 2);
        }
    }

    /// Keeps the memory of one chunk for the next; what a large record or a burst needed is given
    /// back.
    fn recycle(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        if bytes.capacity() <= 2 * CHUNK_BYTES && bytes.capacity() > self.spare.capacity() {
            self.spare = bytes;
        }
    }

    /// What stands behind `after`, up to `until`, as much as is read in one go.
    fn copy(&self, after: Offset, until: Offset) -> Copied {
        let from = self.items.partition_point(|item| Offset::durable(item.offset) <= after);
        let mut copied = Copied::default();
        let first = self.items.get(from).map(|item| item.offset);
        let Some(first) = first.filter(|first| Offset::durable(*first) <= until) else {
            return copied;
        };
        copied.first = Some(first);
        let chunk = self.chunks.partition_point(|chunk| chunk.first <= first);
        let mut number = chunk.saturating_sub(1);
        let large = self.large.partition_point(|entry| entry.offset.durable < first);
        let mut large = self.large.range(large..);
        let mut weight = 0;
        for item in self.items.range(from..) {
            if Offset::durable(item.offset) > until || weight > MEMORY_BLOCK_BYTES as u64 {
                break;
            }
            let next = self.chunks.get(number + 1);
            number += usize::from(next.is_some_and(|next| next.first <= item.offset));
            let bytes = self.chunks.get(number).and_then(|chunk| chunk.bytes_of(item));
            let Some(bytes) = bytes else { break };
            copied.records.extend_from_slice(bytes);
            if item.is_large {
                copied.large.extend(large.next().map(Arc::clone));
            }
            weight += u64::from(item.weight);
        }
        copied
    }
}

impl History for MemoryHistory {
    fn append(&self, batch: &[Arc<Entry>]) -> Result<(), AppendError> {
        let now = self.clock.monotonic();
        // Enough for 584 years.
        let arrived = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for entry in batch {
            kept.put(entry, arrived);
        }
        self.trim(&mut kept, now);
        Ok(())
    }

    fn scan(&self, after: Offset, until: Offset, visit: Visit<'_>) -> Result<Offset, Missed> {
        // The writer waits for what is copied here, and for nobody who reads it.
        let copied = {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            if after < kept.before_first {
                return Err(Missed { after, until: kept.before_first.min(until) });
            }
            kept.copy(after, until)
        };
        let Some(first) = copied.first else { return Ok(until) };
        let mut reached = None;
        let mut rest = &*copied.records;
        let mut large = copied.large.iter().peekable();
        while let Some(record) = Record::trusted(rest) {
            let shared = large.next_if(|entry| entry.offset.durable == record.offset);
            let stored = Stored { record, shared, epoch: self.epoch, ids: &self.ids };
            reached = Some(stored.offset());
            if !visit(&stored) {
                break;
            }
            rest = rest.get(record.length()..).unwrap_or_default();
        }
        // What cannot be read is told as missing.
        reached.ok_or(Missed { after, until: Offset::durable(first) })
    }

    fn bounds(&self) -> Bounds {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        Bounds { before_first: kept.before_first, last: kept.last }
    }

    fn find_id(&self, id: &str) -> Option<(Epoch, Offset)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let offset = kept.ids.get(id).and_then(VecDeque::front).copied()?;
        Some((self.epoch, offset))
    }

    fn recent(&self) -> Offset {
        // Nothing outlives the process: there is nothing to look for at its start.
        self.bounds().last
    }

    fn skip_to(&self, _number: u64) -> Result<(), AppendError> {
        // Each run is an epoch of its own.
        Ok(())
    }

    fn maintain(&self) -> Result<(), AppendError> {
        let now = self.clock.monotonic();
        self.trim(&mut self.kept.write().unwrap_or_else(PoisonError::into_inner), now);
        Ok(())
    }

    fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::record::any_update;
    use super::*;
    use crate::topic::{Line, Topic};
    use crate::update::Update;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn wall(&self) -> u64 {
            0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    struct Setting {
        history: MemoryHistory,
        clock: Arc<Hand>,
        next: u64,
    }

    fn setting(keep: Keep) -> Setting {
        let (clock, ids) = (Arc::new(Hand::default()), Arc::new(Ids::new([1; 16])));
        let holds = Arc::new(Holds::new(u64::MAX));
        let start = Offset::durable(1);
        let own: Arc<dyn Clock> = Arc::<Hand>::clone(&clock);
        let history = MemoryHistory::new(keep, holds, own, Epoch(7), ids, start);
        Setting { history, clock, next: 2 }
    }

    impl Setting {
        /// Appends an entry with so many bytes of data, all of the digit that its number ends with.
        fn append(&mut self, bytes: usize, id: Option<&str>) -> u64 {
            let digit = b'0' + u8::try_from(self.next % 10).unwrap();
            let mut update = Update::new(Topic::parse("a").unwrap(), vec![digit; bytes]);
            update.id = id.map(|id| Line::parse(id).unwrap());
            let offset = Offset::durable(self.next);
            let ids = Arc::clone(&self.history.ids);
            let entry = Entry::new(offset, Epoch(7), self.next, update, ids);
            self.history.append(&[Arc::new(entry)]).unwrap();
            self.next += 1;
            self.next - 1
        }

        /// Everything behind a place, read to the end.
        fn read(&self, after: u64) -> Result<Vec<(u64, usize)>, Missed> {
            let (mut found, last) = (Vec::new(), self.history.bounds().last);
            let mut place = Offset::durable(after);
            while place < last {
                place = self.history.scan(place, last, &mut |stored| {
                    let entry = stored.to_entry().unwrap();
                    let number = entry.offset.durable;
                    let digit = b'0' + u8::try_from(number % 10).unwrap();
                    assert!(entry.update.data.iter().all(|byte| *byte == digit), "{number}");
                    assert_eq!((entry.epoch, entry.time), (Epoch(7), number));
                    found.push((number, entry.update.data.len()));
                    true
                })?;
            }
            Ok(found)
        }

        fn first(&self) -> u64 {
            self.history.bounds().before_first.durable + 1
        }

        fn memory(&self) -> usize {
            let kept = self.history.kept.read().unwrap();
            let chunks: usize = kept.chunks.iter().map(|chunk| chunk.bytes.capacity()).sum();
            let large: usize = kept.large.iter().map(|entry| entry.update.data.len()).sum();
            chunks + large + kept.spare.capacity()
        }
    }

    #[test]
    fn what_is_kept_is_read_in_order_over_many_chunks() {
        let mut setting = setting(Keep { bytes: Some(4 * CHUNK_BYTES as u64), ..Keep::default() });
        let sizes = [0, 1, 7, 8, 300, 5_000, CHUNK_BYTES - 200, 3 * CHUNK_BYTES, 20];
        for round in 0..500 {
            setting.append(sizes[round % sizes.len()], None);
            let first = setting.first();
            let expected: Vec<_> = (first..setting.next)
                .map(|at| (at, sizes[(at as usize - 2) % sizes.len()]))
                .collect();
            assert_eq!(setting.read(first - 1).unwrap(), expected);
            let middle = first + (setting.next - first) / 2;
            let behind = expected.iter().filter(|(at, _)| *at > middle).copied();
            assert_eq!(setting.read(middle).unwrap(), behind.collect::<Vec<_>>());
        }
        let missed = setting.read(setting.first() - 2).unwrap_err();
        assert_eq!(missed.until, setting.history.bounds().before_first);
        assert!(setting.memory() < 10 * CHUNK_BYTES, "{}", setting.memory());
    }

    #[test]
    fn a_large_entry_is_one_for_all_who_read_it() {
        let mut setting = setting(Keep { entries: Some(6), ..Keep::default() });
        let sizes = [SHARED_DATA_BYTES - 1, SHARED_DATA_BYTES, 10, 3 * CHUNK_BYTES];
        for round in 0..40 {
            setting.append(sizes[round % sizes.len()], None);
        }
        let read = || {
            let (mut entries, last) = (Vec::new(), setting.history.bounds().last);
            let mut place = setting.history.bounds().before_first;
            while place < last {
                let mut visit = |stored: &Stored<'_>| {
                    entries.push(stored.to_entry().unwrap());
                    true
                };
                place = setting.history.scan(place, last, &mut visit).unwrap();
            }
            entries
        };
        let (one, other) = (read(), read());
        let pairs: Vec<_> = one.iter().zip(&other).collect();
        assert_eq!(pairs.len(), 6);
        for (one, other) in pairs {
            assert_eq!((one.offset, &one.update), (other.offset, &other.update));
            let is_large = one.update.data.len() >= SHARED_DATA_BYTES;
            assert_eq!(Arc::ptr_eq(one, other), is_large, "{}", one.update.data.len());
        }
        assert_eq!(setting.history.kept.read().unwrap().large.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn what_is_kept_is_read_with_all_that_belongs_to_it(
            updates in proptest::collection::vec((any_update(), proptest::bool::ANY), 1..20)
        ) {
            let Setting { history, .. } = setting(Keep::default());
            let entry = |(number, (update, is_large)): (usize, (Update, bool))| {
                let data = if is_large { vec![7; SHARED_DATA_BYTES].into() } else { update.data };
                let offset = Offset::durable(number as u64 + 2);
                let update = Update { data, ..update };
                let entry = Entry::new(offset, Epoch(7), 5, update, Arc::clone(&history.ids));
                Arc::new(entry.published_by("me"))
            };
            let entries: Vec<_> = updates.into_iter().enumerate().map(entry).collect();
            history.append(&entries).unwrap();
            let mut read = Vec::new();
            let mut place = history.bounds().before_first;
            while place < history.bounds().last {
                let mut visit = |stored: &Stored<'_>| {
                    assert_eq!(stored.is_private(), stored.to_entry().unwrap().update.private);
                    read.push(stored.to_entry().unwrap());
                    true
                };
                place = history.scan(place, history.bounds().last, &mut visit).unwrap();
            }
            let whole = |entry: &Arc<Entry>| {
                let Entry { offset, epoch, time, .. } = **entry;
                (offset, epoch, time, entry.update.clone(), entry.publisher().to_owned())
            };
            let (read, entries): (Vec<_>, Vec<_>) =
                (read.iter().map(whole).collect(), entries.iter().map(whole).collect());
            proptest::prop_assert_eq!(read, entries);
        }
    }

    #[test]
    fn a_scan_ends_where_it_is_told_to() {
        let mut setting = setting(Keep::default());
        for _ in 0..1_000 {
            setting.append(1_000, None);
        }
        let until = Offset::durable(900);
        let mut seen = Vec::new();
        let reached = setting.history.scan(Offset::durable(880), until, &mut |stored| {
            seen.push(stored.offset().durable);
            seen.len() < 5
        });
        assert_eq!((reached.unwrap(), seen), (Offset::durable(885), vec![881, 882, 883, 884, 885]));
        let mut count = 0;
        let mut place = Offset::durable(100);
        while place < until {
            place = setting
                .history
                .scan(place, until, &mut |_| {
                    count += 1;
                    true
                })
                .unwrap();
        }
        assert_eq!((place, count), (until, 800));
        let nothing = setting.history.scan(until, until, &mut |_| panic!("nothing is there"));
        assert_eq!(nothing.unwrap(), until);
    }

    #[test]
    fn each_bound_lets_go_of_the_oldest() {
        let mut by_count = setting(Keep { entries: Some(3), ..Keep::default() });
        let mut by_age = setting(Keep { age: Some(Duration::from_secs(5)), ..Keep::default() });
        for number in 0..10 {
            by_age.clock.0.store(number, Ordering::Relaxed);
            by_count.append(10, None);
            by_age.append(10, None);
        }
        assert_eq!(by_count.first(), 9);
        assert_eq!(by_age.first(), 6);
        by_age.clock.0.store(100, Ordering::Relaxed);
        by_age.history.maintain().unwrap();
        assert_eq!(by_age.history.bounds().before_first, by_age.history.bounds().last);
        assert_eq!(by_age.read(11).unwrap(), []);
        by_age.append(10, None);
        assert_eq!(by_age.read(11).unwrap(), [(12, 10)]);
    }

    #[test]
    fn memory_is_used_again_and_what_a_burst_took_is_given_back() {
        let mut setting = setting(Keep { bytes: Some(CHUNK_BYTES as u64), ..Keep::default() });
        setting.append(10, None);
        assert!(setting.memory() < 4096, "a small history is small: {}", setting.memory());
        for _ in 0..20_000 {
            setting.append(200, None);
        }
        assert!(setting.memory() <= 6 * CHUNK_BYTES, "{}", setting.memory());
        setting.append(20 * CHUNK_BYTES, None);
        for _ in 0..5_000 {
            setting.append(200, None);
        }
        assert!(setting.memory() <= 6 * CHUNK_BYTES, "{}", setting.memory());
    }

    #[test]
    fn a_bound_on_bytes_keeps_as_many_of_the_newest_as_fit() {
        let most = 3 * CHUNK_BYTES as u64;
        let mut setting = setting(Keep { bytes: Some(most), ..Keep::default() });
        let mut kept = VecDeque::new();
        for round in 0..3_000_u64 {
            let size = usize::try_from(round * 7_919 % 4_001).unwrap();
            let update = Update::new(Topic::parse("a").unwrap(), vec![0; size]);
            kept.push_back((setting.append(size, None), update.weight() as u64));
            while kept.iter().map(|(_, weight)| weight).sum::<u64>() > most {
                kept.pop_front();
            }
            assert_eq!(setting.first(), kept[0].0);
        }
        let offsets: Vec<_> = kept.iter().map(|(offset, _)| *offset).collect();
        let read = setting.read(setting.first() - 1).unwrap();
        assert_eq!(read.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), offsets);
    }

    #[test]
    fn a_chunk_that_became_empty_is_the_next_one() {
        let mut setting = setting(Keep { entries: Some(100), ..Keep::default() });
        let begins = |setting: &Setting| {
            let kept = setting.history.kept.read().unwrap();
            let chunks = kept.chunks.iter().map(|chunk| chunk.bytes.as_ptr().addr());
            let spare = (kept.spare.capacity() > 0).then(|| kept.spare.as_ptr().addr());
            chunks.chain(spare).collect::<std::collections::BTreeSet<_>>()
        };
        for _ in 0..5_000 {
            setting.append(200, None);
        }
        let known = begins(&setting);
        assert_eq!(known.len(), 2, "one is written, and one is empty or becomes so");
        for _ in 0..10_000 {
            setting.append(200, None);
            assert_eq!(begins(&setting), known);
        }
    }

    #[test]
    fn what_is_known_beside_a_record_is_small() {
        assert!(size_of::<Item>() <= 32, "half a cache line: {}", size_of::<Item>());
    }

    #[test]
    fn an_id_is_found_in_whatever_chunk_its_entry_stands() {
        let mut setting = setting(Keep { entries: Some(2_000), ..Keep::default() });
        let id = |number: u64| format!("id {number}");
        let mut last = 0;
        for number in 2..8_000 {
            let own = id(number);
            last = setting.append(300, (number % 3 == 0).then_some(&*own));
        }
        let first = setting.first();
        assert_eq!(last + 1 - first, 2_000);
        for number in 2..8_000 {
            let is_there = number % 3 == 0 && number >= first;
            let place = is_there.then(|| (Epoch(7), Offset::durable(number)));
            assert_eq!(setting.history.find_id(&id(number)), place);
        }
    }

    #[test]
    fn a_publishers_id_is_found_for_as_long_as_its_entry_is_kept() {
        let mut setting = setting(Keep { entries: Some(3), ..Keep::default() });
        let first = setting.append(1, Some("x"));
        let place = |setting: &Setting, id| setting.history.find_id(id).map(|(_, at)| at.durable);
        let second = setting.append(1, Some("x"));
        setting.append(1, None);
        assert_eq!(place(&setting, "x"), Some(first));
        setting.append(1, Some("y"));
        assert_eq!(place(&setting, "x"), Some(second));
        setting.append(1, None);
        assert_eq!((place(&setting, "x"), place(&setting, "z")), (None, None));
        assert!(place(&setting, "y").is_some());
        assert_eq!(setting.history.kept.read().unwrap().ids.len(), 1);
    }

    #[test]
    fn readers_see_whole_records_while_others_append() {
        let mut setting = setting(Keep { bytes: Some(CHUNK_BYTES as u64 / 2), ..Keep::default() });
        setting.append(10, None);
        let end = Offset::durable(20_000);
        std::thread::scope(|scope| {
            let history = &setting.history;
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(move || {
                        let (mut place, mut seen, mut before) = (Offset::durable(1), 0, 1);
                        while place < end {
                            let until = history.bounds().last;
                            let scanned = history.scan(place, until, &mut |stored| {
                                let entry = stored.to_entry().unwrap();
                                let digit = b'0' + (entry.offset.durable % 10) as u8;
                                assert!(entry.update.data.iter().all(|byte| *byte == digit));
                                assert_eq!(entry.offset.durable, before + 1, "none is left out");
                                before += 1;
                                seen += 1;
                                true
                            });
                            place = scanned.unwrap_or_else(|missed| {
                                before = missed.until.durable;
                                missed.until
                            });
                        }
                        seen
                    })
                })
                .collect();
            for number in 3..=20_000_u64 {
                let digit = b'0' + (number % 10) as u8;
                let bytes = vec![digit; (number % 977) as usize];
                let update = Update::new(Topic::parse("a").unwrap(), bytes);
                let (offset, ids) = (Offset::durable(number), Arc::clone(&history.ids));
                let entry = Entry::new(offset, Epoch(7), number, update, ids);
                history.append(&[Arc::new(entry)]).unwrap();
            }
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
    }
}
