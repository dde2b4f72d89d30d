//! Publications that were made before: known by idempotency key or by upstream position, never by
//! id. A bounded window; the first receipt is answered again.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::hub::Receipt;
use crate::limits::{IDEMPOTENCY_AGE, IDEMPOTENCY_KEYS_MAX};
use crate::update::{Entry, Update};

/// Receipts by key, for a while.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    receipts: HashMap<Arc<str>, First>,
    order: VecDeque<(Duration, Arc<str>)>,
}

/// The first publication under a key.
#[derive(Debug, Clone)]
pub(crate) struct First {
    pub(crate) receipt: Receipt,
    /// A hash of what was published, to notice a key that is used for something else.
    content: u64,
}

impl First {
    pub(crate) fn new(update: &Update, receipt: Receipt) -> First {
        First { receipt, content: content(update) }
    }

    /// Whether this is the same update once more. Upstream systems are believed: the same position
    /// is the same message, whatever became of its encoding.
    pub(crate) fn is_of(&self, update: &Update) -> bool {
        update.idempotency_key.is_none() || self.content == content(update)
    }
}

fn content(update: &Update) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Update { topics, data, private, id, event_type, content_type, retry, .. } = update;
    (topics, data, private, id, event_type, content_type, retry).hash(&mut hasher);
    hasher.finish()
}

/// What makes two publications the same one: the publisher's key, or where a connector took it.
pub(crate) fn repeat_key(update: &Update, publisher: &str) -> Option<Arc<str>> {
    match (&update.idempotency_key, &update.origin) {
        (Some(key), _) => Some(format!("key\0{publisher}\0{}", key.as_str()).into()),
        (None, Some(origin)) => {
            let (connector, position) = (origin.connector.as_str(), origin.position.as_ref()?);
            Some(format!("origin\0{connector}\0{}", position.as_str()).into())
        }
        (None, None) => None,
    }
}

impl Repeats {
    pub(crate) fn find(&mut self, key: &str, now: Duration) -> Option<First> {
        self.trim(now);
        self.receipts.get(key).cloned()
    }

    pub(crate) fn remember(&mut self, key: Arc<str>, first: First, now: Duration) {
        self.order.push_back((now, Arc::clone(&key)));
        self.receipts.insert(key, first);
        self.trim(now);
    }

    fn trim(&mut self, now: Duration) {
        while let Some((since, oldest)) = self.order.front() {
            let old = now.saturating_sub(*since) > IDEMPOTENCY_AGE;
            if !old && self.order.len() <= IDEMPOTENCY_KEYS_MAX {
                break;
            }
            self.receipts.remove(oldest);
            self.order.pop_front();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub_tests::{memory_hub, update};
    use crate::*;

    #[test]
    fn an_absent_position_is_no_key_and_others_never_meet() {
        let line = |text: &str| Line::parse(text).unwrap();
        let from = |position: Option<&str>| {
            let position = position.map(line);
            let origin = Some(Origin { connector: line("orders"), position, hops: 1 });
            Update { origin, ..update("a", "x") }
        };
        assert_eq!(repeat_key(&from(None), ""), None);
        let key = repeat_key(&from(Some("7")), "").unwrap();
        assert_ne!(repeat_key(&from(Some("8")), "").unwrap(), key);
        let keyed = Update { idempotency_key: Some(line("7")), ..from(None) };
        assert_ne!(repeat_key(&keyed, "orders").unwrap(), key);
    }

    #[tokio::test]
    async fn an_origin_without_a_position_is_no_repetition() {
        let hub = memory_hub();
        let connector = Line::parse("orders").unwrap();
        let upstream = |position: Option<&str>, hops| {
            let position = position.map(|text| Line::parse(text).unwrap());
            let origin = Some(Origin { connector: connector.clone(), position, hops });
            Update { origin, ..update("a", "x") }
        };
        let operator = Grant::operator();
        let publish = |update| hub.publish(&operator, update);
        let mut offsets = std::collections::HashSet::new();
        for _ in 0..3 {
            let receipt = publish(upstream(None, 1)).await.unwrap();
            assert!(!receipt.repeated && offsets.insert(receipt.offset));
        }
        assert!(!publish(upstream(Some("1"), 1)).await.unwrap().repeated);
        assert!(publish(upstream(Some("1"), 1)).await.unwrap().repeated);
        let looped = publish(upstream(None, limits::HOPS_MAX + 1)).await;
        assert_eq!(looped, Err(Refused::Flawed(Flaw::TooManyHops)));
    }
}
