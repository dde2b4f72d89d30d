//! Entries for the tests of this folder: only a hub makes them.

use std::sync::Arc;

use tidings_core::{Batch, Entry, Grant, Language, Line, Selection, Start, Topic, Update};

use crate::in_memory::{self, Still};

/// When everything here happens.
pub(super) const TIME: u64 = 1_709_210_096_007;
/// The same as a text.
pub(super) const TIME_TEXT: &str = "2024-02-29T12:34:56.007Z";

pub(super) fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

pub(crate) fn update(text: &str, data: &str) -> Update {
    Update::new(topic(text), data.to_owned())
}

pub(super) fn attributes(pairs: &[(&str, &str)]) -> Vec<(Line, String)> {
    pairs.iter().map(|(name, value)| (Line::parse(name).unwrap(), (*value).to_owned())).collect()
}

/// The entry that a hub makes of `update`.
pub(super) fn entry(update: Update) -> Arc<Entry> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(published(update))
}

/// The same, where there is a runtime.
pub(super) async fn published(update: Update) -> Arc<Entry> {
    all_published(vec![update]).await.remove(0)
}

/// The entries that one hub makes of these.
pub(crate) async fn all_published(updates: Vec<Update>) -> Vec<Arc<Entry>> {
    let hub = in_memory::hub(Arc::new(Still(TIME)), 8 * 1024 * 1024);
    let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
    let selection = Selection { matchers, grant: Arc::new(Grant::operator()), scope: None };
    let mut subscription = hub.subscribe(selection, Start::Earliest);
    let count = updates.len();
    for update in updates {
        hub.publish(&Grant::operator(), update).await.unwrap();
    }
    let (mut batch, mut entries) = (Batch::new(), Vec::new());
    while entries.len() < count {
        batch.clear();
        subscription.next(&mut batch).await.unwrap();
        entries.extend(batch.iter().map(Arc::clone));
    }
    hub.shut_down();
    entries
}
