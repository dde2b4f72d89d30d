//! Entries for the tests of this folder: only a hub makes them.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{
    Batch, Clock, Durability, Entry, Grant, HistoryOptions, Hub, HubOptions, Keep, Language, Line,
    Namespace, Selection, Start, Topic, Update,
};
use url::Url;

/// When everything here happens.
pub(super) const TIME: u64 = 1_709_210_096_007;
/// The same as a text.
pub(super) const TIME_TEXT: &str = "2024-02-29T12:34:56.007Z";

/// A clock that stands.
pub(crate) struct Standing;

impl Clock for Standing {
    fn wall(&self) -> u64 {
        TIME
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

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
    let namespace = Namespace::new(Url::parse("https://hub.example/.well-known/mercure").unwrap());
    let history = HistoryOptions {
        path: None,
        durability: Durability::Memory,
        keep: Keep::default(),
        hold_bytes: 0,
        segment_bytes: 0,
    };
    let options = HubOptions { namespace, update_bytes_max: 8 * 1024 * 1024, history };
    let hub = Hub::open(options, Arc::new(Standing)).unwrap();
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
