//! An entry as its data alone. Does not know who receives it.

use bytes::Bytes;
use tidings_core::{Entry, Form};

use crate::websocket::frame::{BINARY, TEXT, message};

/// The data as a message, rendered once for all receivers: a text, unless it is none. Others of
/// the hub may publish bytes, at which a client would end the connection if they came as text
/// (RFC 6455 section 8.1).
pub(crate) fn raw(entry: &Entry) -> &Bytes {
    entry.rendered(Form::SocketRaw, |entry| {
        let data = &entry.update.data;
        message(if std::str::from_utf8(data).is_ok() { TEXT } else { BINARY }, data)
    })
}

#[cfg(test)]
mod tests {
    use tidings_core::{Topic, Update};

    use super::super::testing;
    use super::*;

    #[test]
    fn what_is_no_text_comes_in_a_binary_message() {
        for (data, first) in [("{}".as_bytes(), 0x81), (b"\xFF", 0x82), (b"", 0x81)] {
            let update = Update::new(Topic::parse("a").unwrap(), data.to_vec());
            let entry = testing::hub().made_up(update, 0, 1);
            assert_eq!(raw(&entry)[0], first, "{data:?}");
            assert_eq!(&raw(&entry)[2..], data);
        }
    }
}
