//! Publications that were made before: known by idempotency key or by upstream position, never by
//! id. A bounded window; the first receipt is answered again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::hub::Receipt;
use crate::limits::{IDEMPOTENCY_AGE, IDEMPOTENCY_KEYS_MAX};
use crate::update::{Entry, Update};

/// Receipts by key, for a while.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    receipts: HashMap<Arc<str>, Receipt>,
    order: VecDeque<(Duration, Arc<str>)>,
}

/// What makes two publications the same one: the publisher's key, or where a connector took it.
pub(crate) fn repeat_key(update: &Update, publisher: &str) -> Option<Arc<str>> {
    match (&update.idempotency_key, &update.origin) {
        (Some(key), _) => Some(format!("key\0{publisher}\0{}", key.as_str()).into()),
        (None, Some(origin)) => {
            let (connector, position) = (origin.connector.as_str(), origin.position.as_str());
            Some(format!("origin\0{connector}\0{position}").into())
        }
        (None, None) => None,
    }
}

impl Repeats {
    pub(crate) fn find(&mut self, key: &str, now: Duration) -> Option<Receipt> {
        while let Some((since, oldest)) = self.order.front() {
            let old = now.saturating_sub(*since) > IDEMPOTENCY_AGE;
            if !old && self.order.len() <= IDEMPOTENCY_KEYS_MAX {
                break;
            }
            self.receipts.remove(oldest);
            self.order.pop_front();
        }
        self.receipts.get(key).cloned()
    }

    pub(crate) fn remember(&mut self, key: Arc<str>, receipt: Receipt, now: Duration) {
        self.order.push_back((now, Arc::clone(&key)));
        self.receipts.insert(key, receipt);
    }

    /// Takes back what was remembered for entries that were not committed.
    pub(crate) fn forget(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            if let Some(key) = repeat_key(&entry.update, entry.publisher()) {
                self.receipts.remove(&key);
                self.order.retain(|(_, known)| *known != key);
            }
        }
    }
}
