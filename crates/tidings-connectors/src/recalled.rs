//! What of a source stands in the history from earlier runs. Knows no system, and not what its
//! positions mean.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::{Batch, Grant, Hub, Line, Matcher, Offset, Selection, Start};

use crate::limits::{RECALLED_MAX, RECALLED_PLACES_MAX};

/// The upstream positions of the newest updates that this connector brought, oldest first, in
/// bounds. May block on a disk.
pub(crate) fn positions(hub: &Hub, connector: &str) -> Vec<Line> {
    let from = Offset::durable(hub.last().durable.saturating_sub(RECALLED_PLACES_MAX));
    let start = Start::After(from.max(hub.before_first()));
    let grant = Arc::new(Grant::operator());
    let selection = Selection { matchers: vec![Arc::new(Matcher::Everything)], grant, scope: None };
    let mut reading = hub.reading(Arc::new(selection), start);
    let mut found = VecDeque::new();
    while !reading.is_done() {
        let mut batch = Batch::new();
        // Behind a gap it goes on: what is gone cannot be known. Neither can what cannot be read
        // just now.
        if reading.take(&mut batch).is_err_and(|missed| missed.until <= missed.after) {
            break;
        }
        for entry in batch.iter() {
            let Some(origin) = &entry.update.origin else { continue };
            if origin.connector.as_str() != connector {
                continue;
            }
            found.extend(origin.position.clone());
            if found.len() > RECALLED_MAX {
                found.pop_front();
            }
        }
    }
    found.into()
}
