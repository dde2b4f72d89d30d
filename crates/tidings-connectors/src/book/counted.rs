//! Counts what copies and dead letters take: at a start by what stands on the disk, so that it is
//! exact whatever happened before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_core::Table;

use super::{BadBook, Book};
use crate::delivery::Row;
use crate::limits::COUNTED_AT_ONCE_MAX;
use crate::records::SinkRecord;
use crate::space::Space;

/// What a sink takes.
pub(super) fn bytes(record: &SinkRecord, rows: &[Row]) -> usize {
    record.dead().bytes + rows.iter().map(|row| row.weight).sum::<usize>()
}

impl Book {
    /// What copies and dead letters of all sinks take together.
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Counts once what was left by sinks that are not among `opened`, which are counted when they
    /// are opened. Blocks on the disk.
    pub(super) fn count_what_is_left(&self, opened: &[&str]) -> Result<(), BadBook> {
        if self.is_counted.load(Ordering::Acquire) {
            return Ok(());
        }
        let opened: std::collections::HashSet<&str> = opened.iter().copied().collect();
        let mut from = Vec::new();
        loop {
            let some = self.hub.state().range(Table::Sinks, &from, None, COUNTED_AT_ONCE_MAX)?;
            let Some((last, _)) = some.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (name, value) in &some {
                let name = String::from_utf8_lossy(name);
                if opened.contains(&*name) {
                    continue;
                }
                // Damaged rows of what does not run are its own trouble, once it is to run.
                let Some(record) = SinkRecord::of_value(value) else { continue };
                match self.rows(&name) {
                    Ok(rows) => drop(self.space.part(&name, bytes(&record, &rows))),
                    Err(BadBook::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.is_counted.store(true, Ordering::Release);
        Ok(())
    }
}
