//! Saves for all sinks what each of them has to have saved, in one commit: a thousand sinks cost
//! the disk no more than one. Knows no system and no rule of delivery.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::{Entry, Hub, Offset, SAVED_UP_TO, StateError, Table, Write};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Changes, Row, RowKey};
use crate::limits::{
    LOAD_ROWS_MAX, PARKED_ROWS_MAX, SAVE_ACKNOWLEDGED_MAX, SAVE_AGAIN_AFTER, SAVE_BYTES_MAX,
    SAVE_EVERY, SAVE_PAUSE, SAVE_QUIET_EVERY, SAVE_TOLD_EVERY,
};
use crate::records::{self, SinkRecord};
use crate::space::Space;

mod counted;
mod opened;
mod page;

pub use self::opened::{BadBook, Opened};
pub use self::page::Noted;
use self::page::Page;

/// A change of the state, on its way to it.
pub(crate) type Change = (Table, Vec<u8>, Option<Vec<u8>>);

/// A copy that was read; `None` when it cannot be read any more.
pub type Loaded = (RowKey, Option<Arc<Entry>>);

/// What is saved of all sinks.
#[derive(Debug)]
pub struct Book {
    hub: Hub,
    /// What all sinks take together.
    space: Arc<Space>,
    /// Whether all of it is counted, also what sinks left that do not run.
    is_counted: AtomicBool,
    pages: Mutex<Pages>,
    /// Held from when notes are taken until they are on the disk: who saves afterwards knows that
    /// all that was noted before is there.
    saving: Mutex<()>,
    /// Something was noted that has to be saved soon.
    noted: Notify,
    /// So much was noted that it is saved at once, or something that must not wait.
    full: Notify,
    /// Counts commits.
    saved: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pages {
    pages: HashMap<Arc<str>, Page>,
    /// Acknowledged entries that are noted and not saved.
    acknowledged: usize,
    /// How often sinks were opened.
    openings: u64,
}

impl Book {
    /// An empty book over the hub's state.
    pub fn new(hub: Hub) -> Book {
        let (saved, _) = watch::channel(0);
        let (noted, full) = (Notify::new(), Notify::new());
        Book {
            hub,
            space: Arc::default(),
            is_counted: AtomicBool::new(false),
            pages: Mutex::default(),
            saving: Mutex::default(),
            noted,
            full,
            saved,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is saved of these sinks. Those that are not known begin with what is published from now
    /// on, and that is saved before this returns. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the state cannot be read or written, or what is saved of a sink is damaged.
    pub fn open(&self, names: &[&str]) -> Result<Vec<Opened>, BadBook> {
        self.count_what_is_left(names)?;
        let state = self.hub.state();
        let mut new = Vec::new();
        let mut opened = Vec::new();
        for name in names {
            let key = name.as_bytes();
            let record = match state.get(Table::Sinks, key)? {
                Some(value) => SinkRecord::of_value(&value)
                    .ok_or_else(|| BadBook::Damaged { name: (*name).to_owned() })?,
                None => {
                    let record = SinkRecord::new(self.hub.epoch_now(), self.hub.end());
                    new.push((Table::Sinks, key.to_vec(), Some(record.to_value())));
                    record
                }
            };
            let rows = self.rows(name)?;
            let part = self.space.part(name, counted::bytes(&record, &rows));
            opened.push(Opened::new(name, &record, rows, part));
            let changes = Changes::default();
            let mut pages = self.lock();
            pages.openings += 1;
            let page = Page {
                opening: pages.openings,
                saved: Offset::durable(record.position),
                record,
                changes,
                saving: 0,
                saving_copies: Vec::new(),
                since: Instant::now(),
            };
            pages.pages.insert((*name).into(), page);
        }
        commit(&self.hub, &new)?;
        Ok(opened)
    }

    /// The copies of a sink, without their entries.
    fn rows(&self, name: &str) -> Result<Vec<Row>, BadBook> {
        let (mut from, until) = records::bounds(name);
        let mut rows = Vec::new();
        loop {
            let part = self.hub.state().range(Table::Parked, &from, Some(&until), LOAD_ROWS_MAX)?;
            let Some((last, _)) = part.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in &part {
                let damaged = || BadBook::Damaged { name: name.to_owned() };
                rows.push(records::copy_row(key, value).ok_or_else(damaged)?);
            }
            if rows.len() > 2 * PARKED_ROWS_MAX {
                break;
            }
        }
        Ok(rows)
    }

    /// Reads copies; what cannot be read any more is `None`. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the state cannot be read.
    pub fn load(&self, name: &str, keys: &[RowKey]) -> Result<Vec<Loaded>, StateError> {
        let mut rows = Vec::with_capacity(keys.len());
        let noted: Vec<Option<Arc<Entry>>> = {
            let pages = self.lock();
            let page = pages.pages.get(name);
            keys.iter().map(|key| page.and_then(|page| page.noted(*key))).collect()
        };
        for (key, noted) in keys.iter().zip(noted) {
            if noted.is_some() {
                rows.push((*key, noted));
                continue;
            }
            let value = self.hub.state().get(Table::Parked, &records::copy_key(name, *key))?;
            let packed = value.as_deref().and_then(records::packed);
            rows.push((*key, packed.and_then(|packed| self.hub.unpack(packed))));
        }
        Ok(rows)
    }

    /// Notes what a sink has to have saved. Answers how far saving is.
    pub fn note(&self, name: &str, changes: Changes) -> Noted {
        if changes.is_empty() {
            return self.noted_of(name);
        }
        let is_quiet = changes.is_quiet();
        // Who wants nothing any more is not to be asked once more after a crash.
        let is_urgent = changes.standing.is_some();
        let mut pages = self.lock();
        pages.acknowledged += changes.acknowledged;
        let is_full = pages.acknowledged >= SAVE_ACKNOWLEDGED_MAX;
        let Some(page) = pages.pages.get_mut(name) else { return Noted::default() };
        if page.changes.is_empty() {
            page.since = Instant::now();
        }
        page.changes.merge(changes);
        let noted = page.so_far();
        drop(pages);
        if !is_quiet {
            self.noted.notify_one();
        }
        if is_full || is_urgent {
            self.full.notify_one();
        }
        noted
    }

    /// What is noted of a sink now.
    fn noted_of(&self, name: &str) -> Noted {
        self.lock().pages.get(name).map(Page::so_far).unwrap_or_default()
    }

    /// How many acknowledged entries of a sink are not saved yet.
    pub fn unsaved(&self, name: &str) -> usize {
        self.noted_of(name).unsaved
    }

    /// Counts commits: who waits for one looks here.
    pub fn saves(&self) -> watch::Receiver<u64> {
        self.saved.subscribe()
    }

    /// The sink is no more, and with it all that is saved of it, and `along` in the last commit.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the state cannot be changed. The sink can be removed once more then.
    pub(crate) fn remove(&self, name: &str, along: Vec<Change>) -> Result<(), StateError> {
        {
            // Nobody writes anything of it who has not done so by now.
            let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
            self.lock().pages.remove(name);
        }
        for table in [Table::Parked, Table::DeadLetters, Table::Replays] {
            let (from, until) = records::bounds(name);
            loop {
                let rows = self.hub.state().range(table, &from, Some(&until), LOAD_ROWS_MAX)?;
                if rows.is_empty() {
                    break;
                }
                let gone: Vec<Change> =
                    rows.into_iter().map(|(key, _)| (table, key, None)).collect();
                commit(&self.hub, &gone)?;
            }
        }
        let mut last = along;
        last.push((Table::Sinks, name.as_bytes().to_vec(), None));
        commit(&self.hub, &last)?;
        self.space.clear(name);
        Ok(())
    }

    /// The sink does not run any more; what is saved of it stays.
    pub fn close(&self, name: &str) {
        self.lock().pages.remove(name);
    }

    /// Saves what is noted, again and again, until `stop`. One task does this.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let (mut told, mut last) = (None, Instant::now());
        loop {
            let is_quiet = tokio::select! {
                () = stop.cancelled() => return,
                () = self.noted.notified() => false,
                () = tokio::time::sleep(SAVE_QUIET_EVERY) => true,
            };
            if !is_quiet {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.full.notified() => tokio::time::sleep_until(last + SAVE_PAUSE).await,
                    () = tokio::time::sleep(SAVE_EVERY) => {}
                }
            }
            if let Err(error) = self.save().await {
                if told.is_none_or(|told: Instant| told.elapsed() > SAVE_TOLD_EVERY) {
                    tracing::error!(%error, "what sinks delivered cannot be saved: they wait");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(SAVE_AGAIN_AFTER).await;
                self.noted.notify_one();
            }
            last = Instant::now();
        }
    }

    /// Saves all that is noted now.
    ///
    /// # Errors
    ///
    /// When the state cannot be changed. What was to be saved stays noted.
    pub async fn save(self: &Arc<Self>) -> Result<(), StateError> {
        loop {
            let book = Arc::clone(self);
            let saved = tokio::task::spawn_blocking(move || book.save_some()).await;
            // The task only fails with the runtime that it runs on.
            match saved {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Saves as much as one commit takes. Answers whether there is more.
    fn save_some(&self) -> Result<bool, StateError> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, is_more) = self.take();
        if taken.is_empty() {
            return Ok(false);
        }
        // Before anything of it can be forgotten by the history.
        let named = self.hub.last().durable.to_le_bytes().to_vec();
        let named = (Table::Hub, SAVED_UP_TO.to_vec(), Some(named));
        let changes: Vec<Change> = taken
            .iter()
            .flat_map(|(name, record, changes)| self.changes(name, record, changes))
            .chain([named])
            .collect();
        let result = commit(&self.hub, &changes);
        let mut pages = self.lock();
        for (name, record, changes) in taken {
            let Some(page) = pages.pages.get_mut(&name) else { continue };
            page.saving = 0;
            if result.is_ok() {
                page.saved = Offset::durable(record.position);
            }
            page.saving_copies.clear();
            if result.is_err() {
                let later = std::mem::replace(&mut page.changes, changes);
                page.changes.merge(later);
            }
        }
        drop(pages);
        result?;
        self.saved.send_modify(|saves| *saves += 1);
        Ok(is_more)
    }

    /// What the next commit saves, and whether more waits.
    fn take(&self) -> (Vec<(Arc<str>, SinkRecord, Changes)>, bool) {
        let mut pages = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let epoch = self.hub.epoch_now();
        for (name, page) in &mut pages.pages {
            if page.changes.is_empty() {
                continue;
            }
            if bytes > SAVE_BYTES_MAX {
                return (taken, true);
            }
            let changes = std::mem::take(&mut page.changes);
            bytes += changes.weight();
            page.saving = changes.acknowledged;
            let copies = changes.copies.iter();
            let put = copies.filter_map(|(key, copy)| Some((*key, Arc::clone(&copy.as_ref()?.1))));
            page.saving_copies = put.collect();
            let record = &mut page.record;
            record.epoch = epoch.0;
            if let Some(position) = changes.position {
                record.position = position.durable;
            }
            if let Some(unfollowed) = changes.unfollowed {
                record.unfollowed = unfollowed.durable;
            }
            if let Some(standing) = &changes.standing {
                record.set_standing(standing);
            }
            if let Some(held) = changes.held {
                record.set_held(held);
            }
            if let Some(total) = changes.dead_total {
                record.set_dead(total);
            }
            taken.push((Arc::clone(name), record.clone(), changes));
        }
        pages.acknowledged = 0;
        (taken, false)
    }

    /// The rows of a sink's changes.
    fn changes(&self, name: &str, record: &SinkRecord, changes: &Changes) -> Vec<Change> {
        let mut rows = vec![(Table::Sinks, name.as_bytes().to_vec(), Some(record.to_value()))];
        for (key, copy) in &changes.copies {
            let value =
                copy.as_ref().map(|(row, entry)| records::copy_value(&self.hub, row, entry));
            rows.push((Table::Parked, records::copy_key(name, *key), value));
        }
        for letter in &changes.dead {
            let value = Some(records::letter_value(&self.hub, letter));
            rows.push((Table::DeadLetters, records::numbered_key(name, letter.number), value));
        }
        for number in &changes.revived {
            rows.push((Table::DeadLetters, records::numbered_key(name, *number), None));
        }
        rows
    }
}

pub(crate) fn commit(hub: &Hub, changes: &[Change]) -> Result<(), StateError> {
    if changes.is_empty() {
        return Ok(());
    }
    let writes: Vec<Write<'_>> = changes
        .iter()
        .map(|(table, key, value)| Write { table: *table, key, value: value.as_deref() })
        .collect();
    hub.state().commit(&writes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidings_core::{Durability, HistoryOptions, HubOptions, Keep, Namespace};

    use super::*;
    use crate::delivery::Standing;
    use crate::in_memory::Still;

    fn hub(folder: &std::path::Path) -> Hub {
        let namespace = Namespace::new("https://hub.example/".parse().unwrap());
        let history = HistoryOptions {
            path: Some(folder.to_owned()),
            durability: Durability::Written,
            keep: Keep::default(),
            segment_bytes: 1 << 20,
            hold_bytes: 0,
        };
        let options = HubOptions { namespace, update_bytes_max: 1024, history };
        Hub::open(options, Arc::new(Still(0))).unwrap()
    }

    #[tokio::test]
    async fn how_a_sink_stands_is_saved_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let book = Arc::new(Book::new(hub(folder.path())));
        book.open(&["one"]).unwrap();
        let mut keeping = tokio::task::JoinSet::new();
        keeping.spawn(Arc::clone(&book).keep(CancellationToken::new()));
        let mut saves = book.saves();
        let mut soonest = Duration::MAX;
        // A disk may take its time, but not each time.
        for number in 0..20 {
            let standing = Standing::Disabled(number.to_string());
            let began = Instant::now();
            book.note("one", Changes { standing: Some(standing), ..Changes::default() });
            saves.changed().await.unwrap();
            soonest = soonest.min(began.elapsed());
        }
        assert!(soonest < SAVE_EVERY / 2, "{soonest:?}");
        let saved = book.open(&["one"]).unwrap().remove(0).saved;
        assert_eq!(saved.standing, Standing::Disabled("19".to_owned()));
    }
}
