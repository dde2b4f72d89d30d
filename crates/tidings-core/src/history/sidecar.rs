//! The synced file beside a closed segment: where its blocks begin, its publishers' ids, times and
//! checksum. Opening a history reads these instead of the records.
//!
//! ```text
//! magic 8 | version u32 | CRC-32 of what follows up to the ids u32 | last u64 | count u64 |
//! first time u64 | last time u64 | closed (hub's running time, ms) u64 | end u32 |
//! checksum of the records u32 | blocks u32 | ids u32 | checksum of the ids u32 | zero u32 |
//! blocks: (after u64, position u32, zero u32)* | ids: (hash u64, offset u64)*, sorted
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::segment::{BlockStart, Contents, FORMAT};

const MAGIC: &[u8; 8] = b"TIDINDEX";
const FIXED: usize = 80;
const ENTRY: usize = 16;

/// What a sidecar says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sidecar {
    pub(crate) last: u64,
    pub(crate) count: u64,
    pub(crate) first_time: u64,
    pub(crate) last_time: u64,
    pub(crate) closed: u64,
    pub(crate) end: u32,
    pub(crate) crc: u32,
    pub(crate) blocks: Vec<BlockStart>,
    pub(crate) ids: Vec<(u64, u64)>,
}

impl Sidecar {
    pub(crate) fn of(contents: &Contents, closed: u64) -> Sidecar {
        let mut ids: Vec<_> = contents.ids.iter().map(|(hash, offset)| (*hash, *offset)).collect();
        ids.sort_unstable();
        Sidecar {
            last: contents.last,
            count: contents.count,
            first_time: contents.first_time,
            last_time: contents.last_time,
            closed,
            end: contents.end,
            crc: contents.crc.clone().finalize(),
            blocks: contents.blocks.clone(),
            ids,
        }
    }

    /// What is known about the segment's contents; the ids stay in the file.
    pub(crate) fn contents(&self) -> Contents {
        Contents {
            end: self.end,
            last: self.last,
            count: self.count,
            first_time: self.first_time,
            last_time: self.last_time,
            blocks: self.blocks.clone(),
            closed: Some(self.closed),
            ..Contents::new(self.last)
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut ids = Vec::with_capacity(self.ids.len() * ENTRY);
        for (hash, offset) in &self.ids {
            ids.extend_from_slice(&hash.to_le_bytes());
            ids.extend_from_slice(&offset.to_le_bytes());
        }
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut head = Vec::new();
        for number in [self.last, self.count, self.first_time, self.last_time, self.closed] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        let counts = [size(self.blocks.len()), size(self.ids.len()), crc32fast::hash(&ids), 0];
        for number in [self.end, self.crc].into_iter().chain(counts) {
            head.extend_from_slice(&number.to_le_bytes());
        }
        for block in &self.blocks {
            head.extend_from_slice(&block.after.to_le_bytes());
            head.extend_from_slice(&block.position.to_le_bytes());
            head.extend_from_slice(&[0; 4]);
        }
        let mut all = MAGIC.to_vec();
        all.extend_from_slice(&FORMAT.to_le_bytes());
        all.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        all.append(&mut head);
        all.append(&mut ids);
        all
    }

    /// Writes the file and waits for the disk.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("idx.new");
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        let written = file.write_all(&self.encode()).and_then(|()| file.sync_all());
        written.and_then(|()| std::fs::rename(&fresh, path)).inspect_err(|_| {
            // A half-written file is of no use to anybody.
            let _gone = std::fs::remove_file(&fresh);
        })?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Reads a sidecar without its ids. `None` when it is missing or damaged: it can be made again
    /// from the segment.
    pub(crate) fn read(path: &Path) -> Option<Sidecar> {
        let file = File::open(path).ok()?;
        let mut fixed = [0; FIXED];
        file.read_exact_at(&mut fixed, 0).ok()?;
        let blocks = usize::try_from(number32(&fixed, 64)?).ok()?;
        let length = u64::try_from(FIXED + blocks.checked_mul(ENTRY)?).ok()?;
        if file.metadata().ok()?.len() < length {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Sidecar::decode(&bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Sidecar> {
        let right = bytes.get(..8)? == MAGIC
            && number32(bytes, 8)? == FORMAT
            && number32(bytes, 12)? == crc32fast::hash(bytes.get(16..)?);
        if !right {
            return None;
        }
        let blocks = bytes.get(FIXED..)?.chunks_exact(ENTRY).map(|entry| {
            Some(BlockStart { after: number64(entry, 0)?, position: number32(entry, 8)? })
        });
        Some(Sidecar {
            last: number64(bytes, 16)?,
            count: number64(bytes, 24)?,
            first_time: number64(bytes, 32)?,
            last_time: number64(bytes, 40)?,
            closed: number64(bytes, 48)?,
            end: number32(bytes, 56)?,
            crc: number32(bytes, 60)?,
            blocks: blocks.collect::<Option<_>>()?,
            ids: Vec::new(),
        })
    }

    /// Looks up one id in the file, by binary search.
    pub(crate) fn find_id(path: &Path, hash: u64) -> Option<u64> {
        let file = File::open(path).ok()?;
        let mut fixed = [0; FIXED];
        file.read_exact_at(&mut fixed, 0).ok()?;
        let start = FIXED + usize::try_from(number32(&fixed, 64)?).ok()?.checked_mul(ENTRY)?;
        let (mut low, mut high) = (0, usize::try_from(number32(&fixed, 68)?).ok()?);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut entry = [0; ENTRY];
            let position = u64::try_from(start + middle * ENTRY).ok()?;
            file.read_exact_at(&mut entry, position).ok()?;
            match number64(&entry, 0)?.cmp(&hash) {
                std::cmp::Ordering::Equal => return number64(&entry, 8),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Whether the table of ids is undamaged.
    pub(crate) fn ids_are_whole(path: &Path) -> bool {
        std::fs::read(path).is_ok_and(|bytes| {
            let whole = || {
                let blocks = usize::try_from(number32(&bytes, 64)?).ok()?;
                let ids = bytes.get(FIXED + blocks.checked_mul(ENTRY)?..)?;
                let count = usize::try_from(number32(&bytes, 68)?).ok()?;
                let right = number32(&bytes, 72)? == crc32fast::hash(ids);
                Some(right && ids.len() == count.checked_mul(ENTRY)?)
            };
            whole().unwrap_or(false)
        })
    }
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// Reads arbitrary bytes as a sidecar, for random and fuzz testing: must not panic.
#[doc(hidden)]
pub fn fuzz_sidecar(bytes: &[u8]) {
    if let Some(sidecar) = Sidecar::decode(bytes) {
        assert_eq!(Sidecar::decode(&sidecar.encode()).as_ref(), Some(&sidecar));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.idx");
        let blocks = vec![
            BlockStart { after: 1, position: 64 },
            BlockStart { after: 900, position: 300_000 },
        ];
        let ids: Vec<_> = (0..1_000u64).map(|number| (number * 3, number + 7)).collect();
        let sidecar = Sidecar {
            last: 1_000,
            count: 990,
            first_time: 5,
            last_time: 6,
            closed: 7,
            end: 400_000,
            crc: 9,
            blocks,
            ids,
        };
        sidecar.write(&path).unwrap();
        let read = Sidecar::read(&path).unwrap();
        assert_eq!(Sidecar { ids: Vec::new(), ..sidecar }, read);
        assert_eq!(Sidecar::find_id(&path, 2_997), Some(1_006));
        assert_eq!(Sidecar::find_id(&path, 0), Some(7));
        assert_eq!(Sidecar::find_id(&path, 4), None);
        assert!(Sidecar::ids_are_whole(&path));
        let whole = std::fs::read(&path).unwrap();
        for at in [3, 9, 14, 17, 70, 100] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Sidecar::read(&path), None, "byte {at}");
        }
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(!Sidecar::ids_are_whole(&path));
        std::fs::write(&path, &whole[..50]).unwrap();
        assert_eq!(Sidecar::read(&path), None);
    }
}
