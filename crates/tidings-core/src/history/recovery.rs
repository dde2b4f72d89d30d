//! Makes sense of a segment that nobody closed: which records count, where a torn tail begins, and
//! what is damage. Looks at one file only.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record::{ALIGN, Record};
use super::segment::{Contents, HEADER, Header};

/// What a scan of all records found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) contents: Contents,
    /// Positions at which records are damaged that were acknowledged.
    pub(crate) damaged: Vec<u32>,
    /// Bytes behind the last record that belong to nobody.
    torn: bool,
}

/// How far a segment is known to have been acknowledged, from elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Everything before this position.
    pub(crate) end: u32,
    /// Everything up to this offset.
    pub(crate) last: u64,
}

/// Scans the records in `bytes`, the whole file. Where the end is known, what stands behind it
/// was refused and does not count.
pub(crate) fn scan(bytes: &[u8], header: &Header, known: Known) -> Scanned {
    let mut contents = Contents::new(header.base);
    let mut damaged = Vec::new();
    let start = usize::try_from(HEADER).unwrap_or_default();
    let known_end = usize::try_from(known.end).unwrap_or_default().min(bytes.len());
    let all = bytes;
    let bytes = if known_end == 0 { all } else { all.get(..known_end).unwrap_or_default() };
    let mut position = start;
    loop {
        while let Some((record, length)) = record_at(bytes, position, contents.last) {
            contents.note(&record, u32::try_from(position).unwrap_or(u32::MAX));
            position += length;
        }
        // Records behind a bad place count if that place was acknowledged before they were written.
        let Some(next) = next_record(bytes, position, contents.last, known_end) else { break };
        damaged.push(u32::try_from(position).unwrap_or(u32::MAX));
        position = next;
        if let Some((record, _)) = record_at(bytes, next, contents.last) {
            // What was lost had the places up to here: a block that begins here begins behind it.
            contents.last = record.offset - 1;
        }
    }
    if position < known_end.min(bytes.len()) {
        damaged.push(u32::try_from(position).unwrap_or(u32::MAX));
        position = known_end.min(bytes.len());
    }
    contents.last = contents.last.max(known.last);
    contents.end = u32::try_from(position).unwrap_or(u32::MAX);
    // A file that was cut may end in the padding of its last record. Zeros belong there, and stand
    // there again when it is written on.
    let within = position.min(bytes.len());
    contents.crc.update(bytes.get(start..within).unwrap_or_default());
    contents.crc.update([0; ALIGN].get(..position - within).unwrap_or_default());
    let torn = all.get(position..).unwrap_or_default().iter().any(|byte| *byte != 0);
    Scanned { contents, damaged, torn }
}

/// The record at a position, if it is one that follows `last`.
fn record_at(bytes: &[u8], position: usize, last: u64) -> Option<(Record<'_>, usize)> {
    Record::check(bytes.get(position..)?).filter(|(record, _)| record.offset > last)
}

/// The position of the next record behind a bad one, if the bad one was acknowledged.
fn next_record(bytes: &[u8], bad: usize, last: u64, known_end: usize) -> Option<usize> {
    let mut position = bad + ALIGN;
    let mut first = None;
    while position + ALIGN <= bytes.len() {
        let zero = bytes.get(position..position + ALIGN).is_some_and(|word| word == [0; ALIGN]);
        if !zero && let Some((record, length)) = record_at(bytes, position, last) {
            let first = *first.get_or_insert(position);
            let acknowledged = usize::try_from(record.synced).is_ok_and(|synced| synced > bad);
            if acknowledged || bad < known_end {
                return Some(first);
            }
            position += length;
        } else {
            position += ALIGN;
        }
    }
    None
}

/// Scans a segment file that was not closed and makes it safe to go on with: a torn tail becomes
/// zeros again, and what counts is written anew and synced, since after a crash or a failed sync
/// the operating system may hold pages that never reached the disk.
pub(crate) fn recover(path: &Path, header: &Header) -> io::Result<Scanned> {
    let mut bytes = std::fs::read(path)?;
    let scanned = scan(&bytes, header, Known::default());
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let end = usize::try_from(scanned.contents.end).unwrap_or_default().min(bytes.len());
    if let Some(tail) = bytes.get_mut(end..)
        && scanned.torn
    {
        tracing::warn!(
            segment = %path.display(),
            position = end,
            "dropped a torn tail: nothing in it was acknowledged"
        );
        tail.fill(0);
    } else {
        bytes.truncate(end);
    }
    file.write_all_at(&bytes, 0)?;
    file.sync_all()?;
    Ok(scanned)
}

/// Scans without changing anything.
pub(crate) fn inspect(path: &Path, header: &Header, known: Known) -> io::Result<Scanned> {
    Ok(scan(&std::fs::read(path)?, header, known))
}

/// Scans a segment that others follow, so that all of it was acknowledged.
pub(crate) fn inspect_followed(path: &Path, header: &Header, last: u64) -> io::Result<Scanned> {
    let bytes = std::fs::read(path)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let end = u32::try_from(used.next_multiple_of(ALIGN)).unwrap_or(u32::MAX);
    Ok(scan(&bytes, header, Known { end, last }))
}

/// Scans arbitrary bytes as a segment, for random and fuzz testing: must not panic.
#[doc(hidden)]
pub fn fuzz_segment(bytes: &[u8]) {
    let header = Header { epoch: crate::update::Epoch(1), base: 0, previous: 0, observed: 0 };
    let known_end = bytes.first().map_or(0, |byte| u32::from(*byte) * 8);
    let scanned = scan(bytes, &header, Known { end: known_end, last: 0 });
    let end_max = bytes.len().next_multiple_of(ALIGN).max(64);
    assert!(usize::try_from(scanned.contents.end).is_ok_and(|end| end <= end_max));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::record::encode;
    use super::*;
    use crate::ids::Ids;
    use crate::update::{Entry, Epoch, Offset};

    const HEAD: Header = Header { epoch: Epoch(1), base: 0, previous: 0, observed: 0 };

    /// A segment of batches; each batch carries what was acknowledged before it. Answers the bytes
    /// and the end of each batch.
    fn segment(batches: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let ids = Arc::new(Ids::new([0; 16]));
        let mut bytes = vec![0; 64];
        let mut ends = vec![64];
        let mut number = 0;
        for size in batches {
            let acknowledged = u32::try_from(bytes.len()).unwrap();
            for _ in 0..*size {
                number += 1;
                let update = crate::hub_tests::update("a", &"x".repeat(number % 50));
                let offset = Offset::durable(number as u64);
                let entry = Entry::new(offset, Epoch(1), 1, update, ids.clone());
                encode(&entry, acknowledged, &mut bytes);
            }
            ends.push(bytes.len());
        }
        bytes.extend_from_slice(&[0; 4096]);
        (bytes, ends)
    }

    #[test]
    fn a_file_that_ends_in_the_padding_of_its_last_record_has_it_whole() {
        let mut padded = 0;
        for count in 1..16 {
            let (whole, ends) = segment(&[count]);
            let end = ends[1];
            let zeros = whole[..end].iter().rev().take_while(|byte| **byte == 0).count();
            let last = whole[..end].chunks(ALIGN).next_back().unwrap().iter();
            let cut = zeros.min(last.rev().take_while(|byte| **byte == 0).count());
            padded += cut;
            let expected = scan(&whole[..end], &HEAD, Known::default()).contents;
            let found = scan(&whole[..end - cut], &HEAD, Known::default()).contents;
            assert_eq!((found.end, found.last), (expected.end, expected.last), "{count}");
            assert_eq!(found.crc.finalize(), expected.crc.finalize(), "{count}");
        }
        assert!(padded > 0, "no record had any padding");
    }

    #[test]
    fn a_torn_last_batch_is_dropped_and_a_damaged_middle_is_kept_as_a_hole() {
        let (whole, ends) = segment(&[3, 4, 5]);
        assert_eq!(scan(&whole, &HEAD, Known::default()).contents.count, 12);
        assert!(!scan(&whole, &HEAD, Known::default()).torn);
        // The first record of the last batch never reached the disk, the others did.
        let mut torn = whole.clone();
        torn[ends[2]..ends[2] + 16].fill(0);
        let scanned = scan(&torn, &HEAD, Known::default());
        assert_eq!((scanned.contents.count, scanned.torn), (7, true));
        assert!(scanned.damaged.is_empty());
        // The same damage when that place is known to be acknowledged.
        let scanned = scan(&torn, &HEAD, Known { end: u32::try_from(ends[3]).unwrap(), last: 12 });
        assert_eq!((scanned.contents.count, scanned.damaged.len()), (11, 1));
        // Damage in the batch before: the last batch proves that it was acknowledged.
        let mut damaged = whole.clone();
        damaged[ends[1] + 30] ^= 1;
        let scanned = scan(&damaged, &HEAD, Known::default());
        assert_eq!(scanned.contents.count, 11);
        assert_eq!(scanned.damaged, [u32::try_from(ends[1]).unwrap()]);
    }

    proptest! {
        #[test]
        fn whatever_is_lost_of_the_last_batch_acknowledged_records_stay(
            batches in proptest::collection::vec(1usize..6, 1..6),
            lost in proptest::collection::vec((0usize..4096, 1usize..64), 0..6),
        ) {
            let (mut bytes, ends) = segment(&batches);
            let (last_start, last_end) = (ends[ends.len() - 2], ends[ends.len() - 1]);
            for (from, length) in lost {
                let from = last_start + from % (last_end - last_start);
                let until = (from + length).min(last_end);
                bytes[from..until].fill(0);
            }
            let acknowledged: usize = batches[..batches.len() - 1].iter().sum();
            let scanned = scan(&bytes, &HEAD, Known::default());
            prop_assert!(scanned.contents.count as usize >= acknowledged);
            prop_assert!(scanned.damaged.is_empty());
            prop_assert!(scanned.contents.count as usize <= batches.iter().sum());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            fuzz_segment(&bytes);
        }
    }
}
