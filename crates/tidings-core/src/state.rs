//! Everything small and transactional: named tables of bytes, committed in batches. The only file
//! that knows which library stores them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

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
}

impl Table {
    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Table::Hub => "hub",
            Table::Revocations => "revocations",
        })
    }
}

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
            Some(path) => builder.create(path),
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
        let transaction = self.database.begin_read().map_err(failed)?;
        let opened = match transaction.open_table(table.definition()) {
            Ok(opened) => opened,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let rows = opened.iter().map_err(failed)?.take(rows_max).map(|row| {
            let (key, value) = row.map_err(failed)?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        });
        rows.collect()
    }

    /// Makes all changes or none.
    pub fn commit(&self, writes: &[Write<'_>]) -> Result<(), StateError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        for write in writes {
            let mut table = transaction.open_table(write.table.definition()).map_err(failed)?;
            match write.value {
                Some(value) => table.insert(write.key, value).map_err(failed)?,
                None => table.remove(write.key).map_err(failed)?,
            };
        }
        transaction.commit().map_err(failed)
    }
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
}
