//! Streams over scripted and real sockets.

use std::io;

use bytes::Bytes;

/// How much each write takes; nothing where it is none.
pub(crate) struct Script {
    pub(super) takes: std::collections::VecDeque<Option<usize>>,
    pub(super) taken: Vec<u8>,
}

impl Script {
    pub(super) fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        match self.takes.pop_front() {
            Some(None) => Err(io::ErrorKind::WouldBlock.into()),
            Some(Some(room)) => {
                let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                self.taken.extend_from_slice(part);
                Ok(part.len())
            }
            None => {
                self.taken.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }
}
