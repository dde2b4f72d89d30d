//! One file of the history: a header, then records. Knows its own file and nothing of its siblings
//! but the number of the one before.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::record::Record;
use super::sidecar::Sidecar;
use crate::error::{OpenError, io_error};
use crate::limits::{BLOCK_BYTES, WRITTEN_AHEAD_BYTES};
use crate::update::Epoch;

/// Bytes before the first record.
pub(crate) const HEADER: u32 = 64;
/// The version of the format that this program reads and writes.
pub(crate) const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"TIDINGS\n";

/// What stands at the front of a segment file, all little-endian:
/// magic | version u32 | CRC-32 of the rest u32 | epoch u64 | base u64 | previous u64 |
/// observed u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) epoch: Epoch,
    /// Every offset in the segment is larger. Also its name.
    pub(crate) base: u64,
    /// The base of the segment before; its own when there was none.
    pub(crate) previous: u64,
    /// Milliseconds that the hub had been running when the segment began.
    pub(crate) observed: u64,
}

impl Header {
    fn encode(&self) -> [u8; 64] {
        let mut rest = Vec::with_capacity(48);
        for number in [self.epoch.0, self.base, self.previous, self.observed] {
            rest.extend_from_slice(&number.to_le_bytes());
        }
        rest.resize(48, 0);
        let mut all = MAGIC.to_vec();
        all.extend_from_slice(&FORMAT.to_le_bytes());
        all.extend_from_slice(&crc32fast::hash(&rest).to_le_bytes());
        all.extend_from_slice(&rest);
        let mut header = [0; 64];
        header.copy_from_slice(&all);
        header
    }

    /// Reads the header of the segment file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Header, OpenError> {
        let mut bytes = [0; 64];
        let mut file = File::open(path).map_err(|source| io_error(path, source))?;
        let foreign = || OpenError::Foreign { path: path.display().to_string() };
        file.read_exact(&mut bytes).map_err(|_| foreign())?;
        Header::decode(&bytes, path)
    }

    fn decode(bytes: &[u8; 64], path: &Path) -> Result<Header, OpenError> {
        let foreign = || OpenError::Foreign { path: path.display().to_string() };
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
        let (crc, rest) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
        if magic != MAGIC {
            return Err(foreign());
        }
        let found = u32::from_le_bytes(*version);
        if found != FORMAT {
            let path = path.display().to_string();
            return Err(OpenError::UnknownFormat { path, found, supported: FORMAT });
        }
        if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
            return Err(foreign());
        }
        let mut numbers = rest
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        let mut next = || numbers.next().unwrap_or_default();
        let (epoch, base, previous, observed) = (Epoch(next()), next(), next(), next());
        Ok(Header { epoch, base, previous, observed })
    }
}

/// Where a block begins: behind which offset, at which position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockStart {
    pub(crate) after: u64,
    pub(crate) position: u32,
}

/// What is known about a segment's records. Grows while the segment is written.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    /// Position behind the last acknowledged record.
    pub(crate) end: u32,
    /// The last offset; the base while there is none.
    pub(crate) last: u64,
    pub(crate) count: u64,
    pub(crate) first_time: u64,
    pub(crate) last_time: u64,
    pub(crate) blocks: Vec<BlockStart>,
    /// Hashes of publishers' ids with their earliest offset, while the segment is written; a closed
    /// one has them in its sidecar.
    pub(crate) ids: HashMap<u64, u64>,
    /// Checksum of everything between header and end.
    pub(crate) crc: crc32fast::Hasher,
    /// Milliseconds that the hub had been running when the segment was closed.
    pub(crate) closed: Option<u64>,
}

impl Contents {
    pub(crate) fn new(base: u64) -> Contents {
        Contents {
            end: HEADER,
            last: base,
            count: 0,
            first_time: 0,
            last_time: 0,
            blocks: Vec::new(),
            ids: HashMap::new(),
            crc: crc32fast::Hasher::new(),
            closed: None,
        }
    }

    /// Notes a record at `position`.
    pub(crate) fn note(&mut self, record: &Record<'_>, position: u32) {
        let block_bytes = u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX);
        let begins =
            self.blocks.last().is_none_or(|block| position - block.position >= block_bytes);
        if begins {
            self.blocks.push(BlockStart { after: self.last, position });
        }
        if self.count == 0 {
            self.first_time = record.time();
        }
        if let Some(id) = record.id() {
            self.ids.entry(hash_id(id)).or_insert(record.offset);
        }
        self.last = record.offset;
        self.last_time = record.time();
        self.count += 1;
    }
}

/// FNV-1a, 64 bit: what the id tables hold instead of ids. A hit is checked against the record.
pub(crate) fn hash_id(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A segment as readers and retention see it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    contents: RwLock<Contents>,
}

/// The name of a segment file.
pub(crate) fn log_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

/// The file beside a closed segment.
pub(crate) fn sidecar_path(log: &Path) -> PathBuf {
    log.with_extension("idx")
}

impl Segment {
    pub(crate) fn new(header: Header, path: PathBuf, contents: Contents) -> Segment {
        Segment { header, path, contents: RwLock::new(contents) }
    }

    pub(crate) fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn contents_mut(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The earliest offset of a publisher's id in this segment, by its hash.
    pub(crate) fn find_id(&self, hash: u64) -> Option<u64> {
        let contents = self.contents();
        match contents.closed {
            None => contents.ids.get(&hash).copied(),
            Some(_) => {
                drop(contents);
                Sidecar::find_id(&sidecar_path(&self.path), hash)
            }
        }
    }

    /// Bytes on disk that count for retention.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.contents().end)
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    file: File,
    size: u64,
    /// Up to here every block of the file was written once, with records or with zeros.
    written: u64,
}

impl Active {
    /// Makes a new segment file of `size` bytes, all of it allocated, so that a full disk shows now
    /// and not when a record is written.
    pub(crate) fn create(folder: &Path, header: Header, size: u64) -> io::Result<Active> {
        let path = log_path(folder, header.base);
        let fresh = path.with_extension("new");
        let made = (|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            allocate(&file, size)?;
            file.write_all_at(&header.encode(), 0)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(folder)?.sync_all()?;
            Ok(file)
        })();
        if made.is_err() {
            // A half-made file would keep the space that is missing.
            let _gone = std::fs::remove_file(&fresh);
        }
        let segment = Arc::new(Segment::new(header, path, Contents::new(header.base)));
        made.map(|file| Active { segment, file, size, written: 0 })
    }

    /// Goes on with a segment that was recovered.
    pub(crate) fn resume(segment: Arc<Segment>) -> io::Result<Active> {
        let file = OpenOptions::new().read(true).write(true).open(&segment.path)?;
        let size = file.metadata()?.len();
        Ok(Active { segment, file, size, written: 0 })
    }

    /// Whether so many bytes still fit.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        let end = u64::from(self.segment.contents().end);
        u64::try_from(bytes).is_ok_and(|bytes| end + bytes <= self.size)
    }

    /// Writes encoded records behind the last one and, if asked, waits for the disk. What was
    /// written becomes visible to readers only then.
    pub(crate) fn append(&mut self, records: &[u8], sync: bool) -> io::Result<()> {
        let end = self.segment.contents().end;
        self.file.write_all_at(records, u64::from(end))?;
        if sync {
            self.write_ahead(u64::from(end) + records.len() as u64);
            self.file.sync_data()?;
        }
        let mut contents = self.segment.contents_mut();
        let mut rest = records;
        let mut position = end;
        while let Some((record, length)) =
            Record::trusted(rest).map(|record| (record, record.length()))
        {
            contents.note(&record, position);
            position += u32::try_from(length).unwrap_or_default();
            rest = rest.get(length..).unwrap_or_default();
        }
        contents.crc.update(records);
        contents.end = position;
        Ok(())
    }

    /// Writes zeros behind the last record when it reaches where nothing was written before. The
    /// first writing to allocated space changes what the file system knows of the file, and each
    /// sync would wait for that too: now one of many does.
    fn write_ahead(&mut self, end: u64) {
        if end > self.written {
            self.written = self.size.min(end + WRITTEN_AHEAD_BYTES);
            // Where this fails only time is lost: zeros are read there anyway.
            let _saved = write_zeros(&self.file, end..self.written);
        }
    }

    /// Gives back the space behind the last record and writes the sidecar.
    pub(crate) fn close(&self, observed: u64) -> io::Result<()> {
        let sidecar = {
            let contents = self.segment.contents();
            self.file.set_len(u64::from(contents.end))?;
            self.file.sync_all()?;
            Sidecar::of(&contents, observed)
        };
        sidecar.write(&sidecar_path(&self.segment.path))?;
        let mut contents = self.segment.contents_mut();
        contents.closed = Some(observed);
        contents.ids = HashMap::new();
        Ok(())
    }

    /// Whether the file was deleted behind our back: what is written now is gone with the process.
    pub(crate) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Waits until everything written is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether an error says that there is no space, which may pass.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOSPC | Errno::DQUOT))
}

fn allocate(file: &File, size: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            // File systems without it (some network ones): write the zeros.
            write_zeros(file, 0..size)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, place: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    for position in place.clone().step_by(ZEROS.len()) {
        let length = usize::try_from(place.end - position).unwrap_or(usize::MAX);
        file.write_all_at(ZEROS.get(..length).unwrap_or(&ZEROS), position)?;
    }
    Ok(())
}
