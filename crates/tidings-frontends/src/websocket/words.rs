//! What a socket is told though its client asked nothing. Knows no socket, and not when there is
//! something to say.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidings_core::{Hub, Missed, Offset};

use super::delivery::framed;

/// The client has everything up to here.
pub(crate) fn place(hub: &Hub, place: Offset) -> Bytes {
    framed(json!({ "op": "place", "cursor": hub.cursor(place) }).to_string().as_bytes())
}

/// What is missing, and where it goes on.
pub(crate) fn gap(hub: &Hub, missed: &Missed, place: Offset) -> Bytes {
    let (after, cursor) = (hub.cursor(missed.after), hub.cursor(place));
    let gap = json!({ "op": "gap", "after": after, "cursor": cursor, "epoch": hub.epoch() });
    framed(gap.to_string().as_bytes())
}

/// The last message before the close frame: why, where the client is, and how long it is to wait
/// before it comes back.
pub(crate) fn end(hub: &Hub, code: &str, place: Offset, pause: Option<Duration>) -> Bytes {
    let retry = pause.map(|pause| pause.as_millis());
    let cursor = hub.cursor(place);
    let end = json!({ "op": "end", "code": code, "cursor": cursor, "retry": retry });
    framed(end.to_string().as_bytes())
}
