//! What a socket is told though its client asked nothing. Knows no socket, and not when there is
//! something to say.

use std::time::Duration;

use bytes::Bytes;
use tidings_core::{Hub, Missed, Offset};

use super::messages::Message;

/// The client has everything up to here.
pub(crate) fn place(hub: &Hub, place: Offset) -> Bytes {
    Message::Place { cursor: &hub.cursor(place) }.frame()
}

/// What is missing, and where it goes on.
pub(crate) fn gap(hub: &Hub, missed: &Missed, place: Offset) -> Bytes {
    let (after, cursor) = (hub.cursor(missed.after), hub.cursor(place));
    Message::Gap { after: &after, cursor: &cursor, epoch: &hub.epoch() }.frame()
}

/// The last message before the close frame: why, where the client is, and how long it is to wait
/// before it comes back.
pub(crate) fn end(hub: &Hub, code: &str, place: Offset, pause: Option<Duration>) -> Bytes {
    let retry = pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
    Message::End { code, cursor: Some(&hub.cursor(place)), retry }.frame()
}
