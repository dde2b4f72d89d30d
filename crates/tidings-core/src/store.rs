//! Opens what a hub keeps: history, state, the key of its ids, and which epoch it is. The epoch
//! changes whenever acknowledged entries may be gone.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Clock;
use crate::error::{OpenError, io_error};
use crate::history::disk::{DiskHistory, DiskOptions};
use crate::history::memory::MemoryHistory;
use crate::history::note::{CleanEnd, Note};
use crate::history::open::{self, CheckReport, Opened};
use crate::history::{History, Stored};
use crate::hold::Holds;
use crate::hub::Receipt;
use crate::ids::Ids;
use crate::limits::IDEMPOTENCY_AGE;
use crate::options::{Durability, HistoryOptions};
use crate::repeats::{First, Repeats, repeat_key};
use crate::state::{SAVED_UP_TO, State, StateError, Table, Write};
use crate::update::{Epoch, Offset};

const KEY_OF_IDS: &[u8] = b"key of ids";
const EPOCH: &[u8] = b"epoch";
const FLOOR: &[u8] = b"floor";
const NEWEST: &[u8] = b"newest segment";
const IDENTITY: &[u8] = b"identity";
const BOOT: &[u8] = b"boot";
const DURABILITY: &[u8] = b"durability";
const CLEAN_END: &[u8] = b"clean end";
/// The base of a segment that was closed without a successor, at the end of its epoch.
const CLOSED: &[u8] = b"closed segment";

/// Everything that was opened.
pub(crate) struct Store {
    pub(crate) history: Box<dyn History>,
    /// What of it is still needed.
    pub(crate) holds: Arc<Holds>,
    pub(crate) state: Arc<State>,
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
        let epoch = Epoch(u64::from_le_bytes(random()?));
        let holds = Arc::new(Holds::new(options.hold_bytes));
        let kept_for = Arc::clone(&holds);
        let ids = Arc::new(Ids::new(random()?));
        let own = Arc::clone(&ids);
        let history = MemoryHistory::new(options.keep, kept_for, clock, epoch, own, start);
        Ok(Store {
            history: Box::new(history),
            holds,
            state: Arc::new(State::open(None)?),
            ids,
            epoch,
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
        let epoch = notes.epoch(folder, &opened, clean.is_some())?;
        let newest_is_other = opened.segments.last().is_some_and(|last| last.header.epoch != epoch);
        if let Some(active) = opened.active.take_if(|_| newest_is_other) {
            let observed = opened.observed;
            let path = active.segment.path.clone();
            active.close(observed).map_err(|source| io_error(&path, source))?;
        }
        let start = notes.begin(folder, &opened, epoch, options.durability)?;
        let ids = Arc::new(Ids::new(notes.key_of_ids()?));
        let state = Arc::clone(&notes.state);
        let holds = Arc::new(Holds::new(options.hold_bytes));
        let options = DiskOptions {
            folder: folder.to_owned(),
            durability: options.durability,
            keep: options.keep,
            holds: Arc::clone(&holds),
            segment_bytes: options.segment_bytes,
            epoch,
            clock,
            ids: Arc::clone(&ids),
            note: Arc::new(move |note| notes.note(note)),
        };
        let (durability, now) = (options.durability, options.clock.monotonic());
        let history = Box::new(DiskHistory::new(options, opened, start));
        let remembered = remember(&*history, durability, now);
        let start = Offset::durable(start);
        let lock = Some(lock);
        Ok(Store { history, holds, state, ids, epoch, start, durability, remembered, lock })
    }
}

fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let lock = File::options().create(true).append(true).mode(0o600).open(&path);
    let lock = lock.map_err(|source| io_error(&path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::InUse { path: folder.display().to_string() })
        }
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

/// Receipts of what was published shortly before the end, for publishers that ask again. However
/// long the pause was: nobody could ask meanwhile, so they are remembered as if published `now`, by
/// the monotonic clock.
fn remember(history: &dyn History, durability: Durability, now: Duration) -> Repeats {
    let mut repeats = Repeats::default();
    let bounds = history.bounds();
    let age = u64::try_from(IDEMPOTENCY_AGE.as_millis()).unwrap_or(u64::MAX);
    let newest = newest_time(history, bounds.last);
    let mut position = history.recent().max(bounds.before_first);
    while position < bounds.last {
        let scanned = history.scan(position, bounds.last, &mut |stored: &Stored<'_>| {
            if let Some(entry) = stored.is_repeatable().then(|| stored.to_entry()).flatten()
                && entry.time.saturating_add(age) >= newest
                && let Some(key) = repeat_key(&entry.update, entry.publisher())
            {
                let (id, cursor) = (entry.id().into(), Arc::clone(entry.cursor()));
                let offset = entry.offset;
                let receipt = Receipt { id, cursor, offset, durability, repeated: true };
                let first = First::new(&entry.update, receipt);
                repeats.remember(key, first, now);
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

/// When the newest entry was taken; the beginning of time when it cannot be read.
fn newest_time(history: &dyn History, newest: Offset) -> u64 {
    let before = Offset::durable(newest.durable.saturating_sub(1));
    let mut time = 0;
    let mut visit = |stored: &Stored<'_>| {
        time = stored.time();
        true
    };
    // Without it, keys that are too old are remembered as well: better than to forget one.
    let _gap = history.scan(before, newest, &mut visit);
    time
}

/// Reads the note of a clean end.
fn clean_end(value: &[u8]) -> Option<CleanEnd> {
    let number = |at: usize| {
        let bytes = value.get(at * 8..).and_then(<[u8]>::first_chunk);
        bytes.copied().map(u64::from_le_bytes)
    };
    let position = u32::try_from(number(1)?).ok()?;
    Some(CleanEnd { base: number(0)?, position, last: number(2)?, observed: number(3)? })
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

/// The places of lock and state on their disk and their births: a copied or restored folder has
/// others. (The place alone does not do: a file system gives a free one to the next file.)
fn identity(folder: &Path) -> Vec<u8> {
    [folder.join("lock"), folder.join("state")].iter().flat_map(|file| identity_of(file)).collect()
}

fn identity_of(file: &Path) -> Vec<u8> {
    let Ok(metadata) = file.metadata() else { return Vec::new() };
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos());
    format!("{} {} {born};", metadata.dev(), metadata.ino()).into()
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
        Ok(self.get(CLEAN_END)?.as_deref().and_then(clean_end))
    }

    /// The epoch of before, or a new one when acknowledged entries may be gone.
    fn epoch(&self, folder: &Path, opened: &Opened, clean: bool) -> Result<Epoch, OpenError> {
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
                opened.active.is_none()
                    && !opened.segments.is_empty()
                    && self.number(CLOSED)? != Some(newest),
                "the segment that was written is missing",
            ),
            (
                self.get(IDENTITY)?.is_some_and(|known| known != identity(folder)),
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
        folder: &Path,
        opened: &Opened,
        epoch: Epoch,
        durability: Durability,
    ) -> Result<u64, OpenError> {
        let named = self.number(FLOOR)?.max(self.number(SAVED_UP_TO)?);
        let start = opened.last().max(named.unwrap_or(0)) + 1;
        let newest = opened.segments.last().map_or(0, |segment| segment.header.base);
        let durability: &[u8] = match durability {
            Durability::Fsync => b"fsync",
            Durability::Written => b"written",
            Durability::Memory => b"memory",
        };
        let closed = opened.active.is_none().then(|| newest.to_le_bytes());
        let (identity, boot) = (identity(folder), boot());
        let write = |key, value| Write { table: Table::Hub, key, value };
        self.state.commit(&[
            write(EPOCH, Some(&epoch.0.to_le_bytes())),
            write(FLOOR, Some(&start.to_le_bytes())),
            write(NEWEST, Some(&newest.to_le_bytes())),
            write(IDENTITY, Some(&identity)),
            write(BOOT, Some(&boot)),
            write(DURABILITY, Some(durability)),
            write(CLEAN_END, None),
            write(CLOSED, closed.as_ref().map(|base| &base[..])),
        ])?;
        Ok(start)
    }

    /// Notes what happens to the history and answers whether it stands. Who cannot note recovers as
    /// after a crash.
    fn note(&self, note: Note) -> bool {
        let write = |key, value| Write { table: Table::Hub, key, value: Some(value) };
        let noted = match note {
            Note::Begun(base) => self.state.commit(&[write(NEWEST, &base.to_le_bytes())]),
            Note::Skipped(number) => self.state.commit(&[write(FLOOR, &number.to_le_bytes())]),
            Note::Ended(end) => {
                let mut value = Vec::new();
                for number in [end.base, u64::from(end.position), end.last, end.observed] {
                    value.extend_from_slice(&number.to_le_bytes());
                }
                self.state.commit(&[write(CLEAN_END, &value)])
            }
        };
        if let Err(error) = &noted {
            tracing::warn!(%error, ?note, "could not be noted");
        }
        noted.is_ok()
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

/// Reads the whole history in a data folder without changing it and says what is damaged.
///
/// # Errors
///
/// When the folder or a file cannot be read, is foreign or of another format version.
pub fn check(folder: &Path) -> Result<CheckReport, OpenError> {
    // While a hub runs, how it will end is not known yet.
    let noted = State::peek(&folder.join("state"), Table::Hub, CLEAN_END);
    open::check(folder, noted.as_deref().and_then(clean_end))
}
