//! Everything small and transactional: named tables of bytes, committed in batches. The only file
//! that knows which library stores them.

use std::fs::File;
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::error::{OpenError, io_error};

/// Memory that the state may use for pages. It is small and read seldom.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// What is stored under a name of its own. Closed, so that nobody invents one in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The hub's own: key of ids, epoch, how the last run ended.
    Hub,
    /// Tokens that no longer count, in the form of whoever judges tokens.
    Revocations,
    /// Up to where each sink has delivered, and how it is, by its name.
    Sinks,
    /// Entries that a sink still has to deliver though its position is behind them.
    Parked,
    /// What a sink gave up on.
    DeadLetters,
    /// Sinks that were made over the API.
    Endpoints,
    /// Their secrets, sealed by whoever put them here.
    Secrets,
    /// Ranges of the history that a sink delivers once more.
    Replays,
    /// Keys that applications exchange for tokens, without what is secret of them.
    ApiKeys,
    /// Secrets that the hub signs its own tokens with.
    Issuer,
    /// Who is alone with its own topics, by name.
    Audiences,
    /// The topics that audiences have noted down.
    AudienceTopics,
    /// What was brought from elsewhere, so that it does not come again.
    Brought,
}

impl Table {
    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Table::Hub => "hub",
            Table::Revocations => "revocations",
            Table::Sinks => "sinks",
            Table::Parked => "parked",
            Table::DeadLetters => "dead letters",
            Table::Endpoints => "endpoints",
            Table::Secrets => "secrets",
            Table::Replays => "replays",
            Table::ApiKeys => "api keys",
            Table::Issuer => "issuer",
            Table::Audiences => "audiences",
            Table::AudienceTopics => "audience topics",
            Table::Brought => "brought",
        })
    }
}

/// In [`Table::Hub`]: the largest place that anything beside the history names, as a little-endian
/// u64. No later run hands out a place up to it, also when the history has lost its end.
pub const SAVED_UP_TO: &[u8] = b"saved up to";

/// The state could not be read or written; what the storage said.
#[derive(Debug, thiserror::Error)]
#[error("state: {0}")]
pub struct StateError(String);

/// A key with its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// One change of a commit.
#[derive(Debug)]
pub struct Write<'w> {
    /// Where.
    pub table: Table,
    /// Which key.
    pub key: &'w [u8],
    /// The new value; `None` removes the key.
    pub value: Option<&'w [u8]>,
}

/// Named tables of bytes. Commits are atomic and, with a file, durable when they return.
#[derive(Debug)]
pub struct State {
    database: Database,
}

fn failed(error: impl Into<redb::Error>) -> StateError {
    StateError(error.into().to_string())
}

impl State {
    /// Opens or creates the state in `file`; without one it lives in memory.
    pub fn open(file: Option<&Path>) -> Result<State, OpenError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = match file {
            Some(path) => make_whole(&builder, path).and_then(|()| builder.create(path)),
            None => builder.create_with_backend(redb::backends::InMemoryBackend::new()),
        };
        let database = opened.map_err(|error| OpenError::State {
            path: file.map_or("memory".into(), |path| path.display().to_string()),
            reason: error.to_string(),
        })?;
        if let Some(path) = file {
            // It holds the key of the hub's ids.
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path, private).map_err(|source| io_error(path, source))?;
        }
        Ok(State { database })
    }

    /// The value of a key in `file` without opening it for writing. `None` as well when it cannot
    /// be read so: in use, in need of repair, missing.
    pub fn peek(file: &Path, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        let database = redb::ReadOnlyDatabase::open(file).ok()?;
        let opened = database.begin_read().ok()?.open_table(table.definition()).ok()?;
        Some(opened.get(key).ok()??.value().to_vec())
    }

    /// The value of a key.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        match transaction.open_table(table.definition()) {
            Ok(opened) => {
                let value = opened.get(key).map_err(failed)?;
                Ok(value.map(|value| value.value().to_vec()))
            }
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keys and values of a table in the order of the keys, `rows_max` of them at most.
    ///
    /// # Errors
    ///
    /// When the storage cannot be read.
    pub fn rows(&self, table: Table, rows_max: usize) -> Result<Vec<Row>, StateError> {
        self.range(table, &[], None, rows_max)
    }

    /// The same of the keys from `from` on, itself included, and before `until`: the first
    /// `rows_max` of them. Without `until` up to the end of the table.
    ///
    /// # Errors
    ///
    /// When the storage cannot be read.
    pub fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<Vec<Row>, StateError> {
        self.read(table, from, until, |rows| rows.take(rows_max).map(row).collect())
    }

    /// [`State::range`] from its end: the last `rows_max` rows of it, the last first.
    ///
    /// # Errors
    ///
    /// When the storage cannot be read.
    pub fn range_back(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<Vec<Row>, StateError> {
        self.read(table, from, until, |rows| rows.rev().take(rows_max).map(row).collect())
    }

    fn read(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        pick: impl FnOnce(Stored) -> Result<Vec<Row>, StateError>,
    ) -> Result<Vec<Row>, StateError> {
        if until.is_some_and(|until| until <= from) {
            return Ok(Vec::new());
        }
        let transaction = self.database.begin_read().map_err(failed)?;
        let opened = match transaction.open_table(table.definition()) {
            Ok(opened) => opened,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let end = until.map_or(Bound::Unbounded, Bound::Excluded);
        pick(opened.range::<&[u8]>((Bound::Included(from), end)).map_err(failed)?)
    }

    /// Makes all changes or none, in order: of two changes of one key the later one counts.
    ///
    /// # Errors
    ///
    /// When the storage cannot be written; nothing has changed then.
    pub fn commit(&self, writes: &[Write<'_>]) -> Result<(), StateError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let mut tables: Vec<Table> = Vec::new();
        for table in writes.iter().map(|write| write.table) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        // Opening a table costs more than a write to it: once for each.
        for table in tables {
            let mut opened = transaction.open_table(table.definition()).map_err(failed)?;
            for write in writes.iter().filter(|write| write.table == table) {
                match write.value {
                    Some(value) => opened.insert(write.key, value).map_err(failed)?,
                    None => opened.remove(write.key).map_err(failed)?,
                };
            }
        }
        transaction.commit().map_err(failed)
    }
}

/// Makes the file where there is none, under another name until it is one: who is killed in between
/// leaves nothing that could not be opened.
fn make_whole(builder: &redb::Builder, path: &Path) -> Result<(), redb::DatabaseError> {
    if path.exists() {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    // Of whoever was killed; mostly there is none.
    let _gone = std::fs::remove_file(&fresh);
    drop(builder.create(&fresh)?);
    let named = std::fs::rename(&fresh, path).and_then(|()| match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    });
    Ok(named.map_err(redb::StorageError::Io)?)
}

/// Rows as the storage hands them out.
type Stored = redb::Range<'static, &'static [u8], &'static [u8]>;
type StoredRow =
    (redb::AccessGuard<'static, &'static [u8]>, redb::AccessGuard<'static, &'static [u8]>);

fn row(stored: Result<StoredRow, redb::StorageError>) -> Result<Row, StateError> {
    let (key, value) = stored.map_err(failed)?;
    Ok((key.value().to_vec(), value.value().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let write = |key, value| Write { table: Table::Hub, key, value };
        let state = State::open(Some(&file)).unwrap();
        assert_eq!(state.get(Table::Hub, b"a").unwrap(), None);
        state.commit(&[write(b"a", Some(b"1")), write(b"b", Some(b"2"))]).unwrap();
        state.commit(&[write(b"b", None)]).unwrap();
        drop(state);
        let state = State::open(Some(&file)).unwrap();
        assert_eq!(state.get(Table::Hub, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(state.get(Table::Hub, b"b").unwrap(), None);
    }

    #[test]
    fn a_state_that_was_being_made_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        std::fs::write(file.with_extension("new"), vec![0; 5_000]).unwrap();
        drop(State::open(Some(&file)).unwrap());
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(names.collect::<Vec<_>>(), [file.as_path()]);
        assert!(State::open(Some(&file)).is_ok());
    }

    #[test]
    fn rows_of_a_table_are_listed_within_a_bound() {
        let state = State::open(None).unwrap();
        assert_eq!(state.rows(Table::Revocations, 9).unwrap(), []);
        let write = |key, value| Write { table: Table::Revocations, key, value };
        state.commit(&[write(b"b", Some(b"2")), write(b"a", Some(b"1"))]).unwrap();
        let row = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
        assert_eq!(state.rows(Table::Revocations, 9).unwrap(), [row(b"a", b"1"), row(b"b", b"2")]);
        assert_eq!(state.rows(Table::Revocations, 1).unwrap(), [row(b"a", b"1")]);
        assert_eq!(state.rows(Table::Hub, 9).unwrap(), []);
    }

    fn with_keys(table: Table, keys: &[&[u8]]) -> State {
        let state = State::open(None).unwrap();
        let write = |key| Write { table, key, value: Some(key) };
        state.commit(&keys.iter().copied().map(write).collect::<Vec<_>>()).unwrap();
        state
    }

    #[test]
    fn a_range_of_a_table_ends_where_it_was_told() {
        let keys: [&[u8]; 6] = [b"a\0\x01", b"a\0\x02", b"a\0\xff", b"a\x01", b"ab\0", b"b"];
        let state = with_keys(Table::Parked, &keys);
        let list = |from: &[u8], until: Option<&[u8]>, rows_max, back: bool| {
            let rows = match back {
                false => state.range(Table::Parked, from, until, rows_max),
                true => state.range_back(Table::Parked, from, until, rows_max),
            };
            let rows = rows.unwrap();
            assert!(rows.iter().all(|(key, value)| key == value));
            rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(list(b"", None, 9, false), keys);
        assert_eq!(list(b"a\0", Some(b"a\x01"), 9, false), keys[..3]);
        assert_eq!(list(b"a\0\x02", Some(b"b"), 3, false), keys[1..4]);
        assert_eq!(list(b"a\x01", None, 9, false), keys[3..]);
        assert_eq!(list(b"a\0", Some(b"a\x01"), 2, true), [keys[2], keys[1]]);
        assert_eq!(list(b"", None, 1, true), keys[5..]);
        for back in [false, true] {
            assert!(list(b"a", Some(b"a"), 9, back).is_empty());
            assert!(list(b"b", Some(b"a"), 9, back).is_empty());
            assert!(list(b"c", None, 9, back).is_empty());
            assert!(list(b"", None, 0, back).is_empty());
            let none = match back {
                false => state.range(Table::Replays, b"", None, 9),
                true => state.range_back(Table::Replays, b"", None, 9),
            };
            assert_eq!(none.unwrap(), []);
        }
    }

    #[test]
    fn a_commit_to_several_tables_stands_in_all_of_them_in_its_order() {
        let tables = [
            Table::Hub,
            Table::Revocations,
            Table::Sinks,
            Table::Parked,
            Table::DeadLetters,
            Table::Endpoints,
            Table::Secrets,
            Table::Replays,
            Table::ApiKeys,
            Table::Issuer,
            Table::Audiences,
            Table::AudienceTopics,
            Table::Brought,
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let state = State::open(Some(&file)).unwrap();
        let names: Vec<_> = tables.iter().map(|table| format!("{table:?}")).collect();
        let mut writes = Vec::new();
        let pairs = || tables.iter().zip(&names);
        let write = |table, key, value| Write { table, key, value };
        writes.extend(pairs().map(|(table, _)| write(*table, b"k", Some(&b"early"[..]))));
        writes.extend(pairs().map(|(table, _)| write(*table, b"gone", Some(&b"soon"[..]))));
        writes.extend(pairs().map(|(table, _)| write(*table, b"gone", None)));
        writes.extend(pairs().map(|(table, name)| write(*table, b"k", Some(name.as_bytes()))));
        state.commit(&writes).unwrap();
        drop(state);
        let state = State::open(Some(&file)).unwrap();
        for (table, name) in pairs() {
            let row = (b"k".to_vec(), name.as_bytes().to_vec());
            assert_eq!(state.rows(*table, 9).unwrap(), [row]);
        }
    }
}
