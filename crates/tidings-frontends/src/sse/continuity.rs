//! What a stream says about itself in band, to clients that ask for it: whether anything is missing
//! between what they have and what follows. A browser's `EventSource` cannot read header fields.
//!
//! Knows no socket, and not when there is something to say.

use bytes::Bytes;
use serde::Serialize;
use tidings_core::{Hub, Missed, Offset};

/// How a stream goes on from what its client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// The client named no cursor: it has nothing, and gets what comes.
    Live,
    /// Everything behind the client's cursor follows.
    Resumed(String),
    /// The client's cursor is a place of this history; some of what followed it is gone.
    Gap(String),
    /// The client's cursor is no place of this history: what is missing cannot be said.
    Reset,
}

impl Continuity {
    /// The same when what follows the place is damaged.
    pub(crate) fn with_gap(self) -> Continuity {
        match self {
            Continuity::Resumed(cursor) | Continuity::Gap(cursor) => Continuity::Gap(cursor),
            Continuity::Live | Continuity::Reset => self,
        }
    }
}

/// The event's data. The client has everything up to `after`, and gets everything behind the
/// event's own id; where both are one place, nothing is missing.
#[derive(Serialize)]
struct Told<'a> {
    continuity: &'a str,
    after: Option<&'a str>,
    epoch: &'a str,
}

/// The first event of a stream that goes on behind `place`.
pub(crate) fn opening(hub: &Hub, continuity: &Continuity, place: Offset) -> Bytes {
    let id = hub.cursor(place);
    let (word, after) = match continuity {
        Continuity::Live => ("live", Some(id.as_str())),
        Continuity::Resumed(cursor) => ("resumed", Some(cursor.as_str())),
        Continuity::Gap(cursor) => ("gap", Some(cursor.as_str())),
        Continuity::Reset => ("reset", None),
    };
    event(hub, word, after, &id)
}

/// The event in the middle of a stream that goes on at `place`, behind a gap.
pub(crate) fn gap(hub: &Hub, missed: &Missed, place: Offset) -> Bytes {
    event(hub, "gap", Some(&hub.cursor(missed.after)), &hub.cursor(place))
}

fn event(hub: &Hub, word: &str, after: Option<&str>, id: &str) -> Bytes {
    let told = Told { continuity: word, after, epoch: &hub.epoch() };
    // Three texts: nothing in them that JSON could not hold, and JSON text has no line ends.
    let data = serde_json::to_string(&told).unwrap_or_default();
    format!("event: tidings\nid: {id}\ndata: {data}\n\n").into()
}

/// A heartbeat that says how far the client has come. A block without data is no event, yet its id
/// counts (WHATWG HTML, section 9.2.6): a quiet client never falls off the history.
pub(crate) fn heartbeat(hub: &Hub, place: Offset) -> Bytes {
    format!(":\nid: {}\n\n", hub.cursor(place)).into()
}
