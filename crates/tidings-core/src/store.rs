//! Opens what a hub keeps: history, state, the key of its ids, and which epoch it is. The epoch
//! changes whenever acknowledged entries may be gone.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::clock::Clock;
use crate::error::OpenError;
use crate::history::disk::{CleanEnd, DiskHistory, DiskOptions};
use crate::history::memory::MemoryHistory;
use crate::history::open::{self, CheckReport, Opened};
use crate::history::segment::io_error;
use crate::history::{History, Stored};
use crate::hub::Receipt;
use crate::ids::Ids;
use crate::limits::IDEMPOTENCY_KEYS_MAX;
use crate::options::{Durability, HistoryOptions};
use crate::repeats::{Repeats, repeat_key};
use crate::state::{State, StateError, Table, Write};
use crate::update::{Epoch, Offset};

const KEY_OF_IDS: &[u8] = b"key of ids";
const EPOCH: &[u8] = b"epoch";
const FLOOR: &[u8] = b"floor";
const NEWEST: &[u8] = b"newest segment";
const IDENTITY: &[u8] = b"identity";
const BOOT: &[u8] = b"boot";
const DURABILITY: &[u8] = b"durability";
const CLEAN_END: &[u8] = b"clean end";

/// Everything that was opened.
pub(crate) struct Store {
    pub(crate) history: Box<dyn History>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) epoch: Epoch,
    /// Behind everything that ever had a place.
    pub(crate) start: Offset,
    pub(crate) durability: Durability,
    pub(crate) remembered: Repeats,
    /// Held for as long as the folder is in use.
    pub(crate) lock: Option<File>,
}

/// Random bytes for keys and epochs.
fn random<const N: usize>() -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| OpenError::Io { path: "getrandom".into(), source: error.into() })?;
    Ok(bytes)
}

impl Store {
    pub(crate) fn open(
        options: &HistoryOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Store, OpenError> {
        match &options.path {
            Some(folder) if options.durability != Durability::Memory => {
                Store::on_disk(folder, options, clock)
            }
            _ => Store::in_memory(options, clock),
        }
    }

    fn in_memory(options: &HistoryOptions, clock: Arc<dyn Clock>) -> Result<Store, OpenError> {
        let start = Offset::durable(1);
        Ok(Store {
            history: Box::new(MemoryHistory::new(options.keep, clock, start)),
            ids: Arc::new(Ids::new(random()?)),
            epoch: Epoch(u64::from_le_bytes(random()?)),
            start,
            durability: Durability::Memory,
            remembered: Repeats::default(),
            lock: None,
        })
    }

    fn on_disk(
        folder: &Path,
        options: &HistoryOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Store, OpenError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| io_error(folder, source))?;
        let lock = take_lock(folder)?;
        let notes = Notes { state: Arc::new(State::open(Some(&folder.join("state")))?) };
        let clean = notes.clean_end()?;
        let mut opened = open::open(folder, clean)?;
        let epoch = notes.epoch(&lock, &opened, clean.is_some())?;
        let newest_is_other = opened.segments.last().is_some_and(|last| last.header.epoch != epoch);
        if let Some(active) = opened.active.take_if(|_| newest_is_other) {
            let observed = opened.observed;
            let path = active.segment.path.clone();
            active.close(observed).map_err(|source| io_error(&path, source))?;
        }
        let start = notes.begin(&lock, &opened, epoch, options.durability)?;
        let ids = Arc::new(Ids::new(notes.key_of_ids()?));
        let ended = Arc::clone(&notes.state);
        let options = DiskOptions {
            folder: folder.to_owned(),
            durability: options.durability,
            keep: options.keep,
            segment_bytes: options.segment_bytes,
            epoch,
            clock,
            ids: Arc::clone(&ids),
            ended: Arc::new(move |end| note_clean_end(&ended, end)),
        };
        let durability = options.durability;
        let history = Box::new(DiskHistory::new(options, opened, start));
        let remembered = remember(&*history, durability);
        let start = Offset::durable(start);
        Ok(Store { history, ids, epoch, start, durability, remembered, lock: Some(lock) })
    }
}

fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let lock = File::options().create(true).append(true).open(&path);
    let lock = lock.map_err(|source| io_error(&path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::InUse { path: folder.display().to_string() })
        }
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

/// Receipts of what was published shortly before the end, for publishers that ask again.
fn remember(history: &dyn History, durability: Durability) -> Repeats {
    let mut repeats = Repeats::default();
    let bounds = history.bounds();
    let window = u64::try_from(IDEMPOTENCY_KEYS_MAX).unwrap_or(u64::MAX);
    let from = Offset::durable(bounds.last.durable.saturating_sub(window));
    let mut position = from.max(bounds.before_first);
    while position < bounds.last {
        let scanned = history.scan(position, bounds.last, &mut |stored: &Stored<'_>| {
            if let Some(entry) = stored.is_repeatable().then(|| stored.to_entry()).flatten()
                && let Some(key) = repeat_key(&entry.update, entry.publisher())
            {
                let (id, cursor) = (entry.id().into_owned(), entry.cursor());
                let offset = entry.offset;
                let receipt = Receipt { id, cursor, offset, durability, repeated: true };
                repeats.remember(key, receipt, std::time::Duration::ZERO);
            }
            true
        });
        position = match scanned {
            Ok(reached) => reached,
            Err(missed) => missed.until,
        };
    }
    repeats
}

/// What the state says about the history beside it.
struct Notes {
    state: Arc<State>,
}

impl From<StateError> for OpenError {
    fn from(error: StateError) -> OpenError {
        OpenError::State { path: "state".into(), reason: error.to_string() }
    }
}

/// The computer's current run; another one after each boot.
fn boot() -> Vec<u8> {
    std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The lock file's place on its disk and its birth: a copied or restored folder has another one.
/// (The place alone does not do: a file system gives a free one to the next file.)
fn identity(lock: &File) -> Vec<u8> {
    let Ok(metadata) = lock.metadata() else { return Vec::new() };
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos());
    format!("{} {} {born}", metadata.dev(), metadata.ino()).into()
}

impl Notes {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        Ok(self.state.get(Table::Hub, key)?)
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, OpenError> {
        let value = self.get(key)?;
        Ok(value.and_then(|value| value.try_into().ok()).map(u64::from_le_bytes))
    }

    fn clean_end(&self) -> Result<Option<CleanEnd>, OpenError> {
        let Some(value) = self.get(CLEAN_END)? else { return Ok(None) };
        let number = |at: usize| {
            let bytes = value.get(at * 8..).and_then(<[u8]>::first_chunk);
            bytes.copied().map(u64::from_le_bytes)
        };
        let end = || {
            let position = u32::try_from(number(1)?).ok()?;
            Some(CleanEnd { base: number(0)?, position, last: number(2)?, observed: number(3)? })
        };
        Ok(end())
    }

    /// The epoch of before, or a new one when acknowledged entries may be gone.
    fn epoch(&self, lock: &File, opened: &Opened, clean: bool) -> Result<Epoch, OpenError> {
        let known = self.number(EPOCH)?;
        let fresh = || random().map(|bytes| Epoch(u64::from_le_bytes(bytes)));
        let Some(known) = known else { return fresh() };
        let newest = opened.segments.last().map_or(0, |segment| segment.header.base);
        let was_written = self.get(DURABILITY)?.as_deref() == Some(b"written");
        let reasons = [
            (opened.torn_out, "a segment is missing"),
            (newest < self.number(NEWEST)?.unwrap_or(0), "the newest segment is missing"),
            // A segment is closed only when its successor exists.
            (
                opened.active.is_none() && !opened.segments.is_empty(),
                "the segment that was written is missing",
            ),
            (
                self.get(IDENTITY)?.is_some_and(|known| known != identity(lock)),
                "the folder was copied or restored",
            ),
            (
                !clean && was_written && self.get(BOOT)?.is_some_and(|known| known != boot()),
                "the computer went down while the history was not synced",
            ),
        ];
        match reasons.iter().find(|(applies, _)| *applies) {
            Some((_, reason)) => {
                tracing::warn!(
                    reason,
                    "a new epoch begins: receivers are told that entries may be gone"
                );
                fresh()
            }
            None => Ok(Epoch(known)),
        }
    }

    /// Notes that a run begins and hands out its first place: behind everything that was ever used.
    fn begin(
        &self,
        lock: &File,
        opened: &Opened,
        epoch: Epoch,
        durability: Durability,
    ) -> Result<u64, OpenError> {
        let start = opened.last().max(self.number(FLOOR)?.unwrap_or(0)) + 1;
        let newest = opened.segments.last().map_or(0, |segment| segment.header.base);
        let durability: &[u8] = match durability {
            Durability::Fsync => b"fsync",
            Durability::Written => b"written",
            Durability::Memory => b"memory",
        };
        let (identity, boot) = (identity(lock), boot());
        let write = |key, value| Write { table: Table::Hub, key, value };
        self.state.commit(&[
            write(EPOCH, Some(&epoch.0.to_le_bytes())),
            write(FLOOR, Some(&start.to_le_bytes())),
            write(NEWEST, Some(&newest.to_le_bytes())),
            write(IDENTITY, Some(&identity)),
            write(BOOT, Some(&boot)),
            write(DURABILITY, Some(durability)),
            write(CLEAN_END, None),
        ])?;
        Ok(start)
    }

    fn key_of_ids(&self) -> Result<[u8; 16], OpenError> {
        if let Some(key) = self.get(KEY_OF_IDS)?.and_then(|key| key.try_into().ok()) {
            return Ok(key);
        }
        let key: [u8; 16] = random()?;
        let write = Write { table: Table::Hub, key: KEY_OF_IDS, value: Some(&key) };
        self.state.commit(&[write])?;
        Ok(key)
    }
}

fn note_clean_end(state: &State, end: CleanEnd) {
    let mut value = Vec::new();
    for number in [end.base, u64::from(end.position), end.last, end.observed] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    let newest = end.base.to_le_bytes();
    let writes = [
        Write { table: Table::Hub, key: CLEAN_END, value: Some(&value) },
        Write { table: Table::Hub, key: NEWEST, value: Some(&newest) },
    ];
    if let Err(error) = state.commit(&writes) {
        // The next start recovers as after a crash.
        tracing::warn!(%error, "the clean end could not be noted");
    }
}

/// Reads the whole history in a data folder without changing it and says what is damaged.
///
/// # Errors
///
/// When the folder or a file cannot be read, is foreign or of another format version.
pub fn check(folder: &Path) -> Result<CheckReport, OpenError> {
    let state = folder.join("state");
    // While a hub runs, how it will end is not known yet.
    let clean = match File::open(folder.join("lock")).map(|lock| (lock.try_lock(), lock)) {
        Ok((Ok(()), _lock)) if state.exists() => {
            Notes { state: Arc::new(State::open(Some(&state))?) }.clean_end()?
        }
        _ => None,
    };
    open::check(folder, clean)
}
