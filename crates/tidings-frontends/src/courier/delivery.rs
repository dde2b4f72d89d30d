//! An entry as its data alone. Does not know who receives it.

use bytes::Bytes;
use tidings_core::{Entry, Form};

use crate::websocket::frame::text;

/// The data as a text message, rendered once for all receivers.
pub(crate) fn raw(entry: &Entry) -> &Bytes {
    entry.rendered(Form::SocketRaw, |entry| text(&entry.update.data))
}
