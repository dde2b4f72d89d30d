//! Every way in which a client breaks the WebSocket protocol, and the code that its socket is
//! closed with. Knows no byte of a frame.

/// A client broke the protocol or a limit: its fault in every case, and the end of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// RFC 6455 section 5.1: a client masks everything.
    #[error("a frame is not masked")]
    Unmasked,
    /// No extension was agreed on (section 5.2).
    #[error("a reserved bit is set")]
    Reserved,
    /// An opcode that the protocol does not have.
    #[error("an unknown opcode")]
    UnknownOpcode,
    /// A length that is not written as short as it can be, or has its highest bit set.
    #[error("a length that is not written as it must be")]
    BadLength,
    /// Ping, pong and close are one frame (section 5.5).
    #[error("a control frame in fragments")]
    FragmentedControl,
    /// They carry 125 bytes at most (section 5.5).
    #[error("a control frame is too long")]
    LongControl,
    /// A message begins before the one before it has ended (section 5.4).
    #[error("a message inside of another one")]
    Interleaved,
    /// There is no message to continue (section 5.4).
    #[error("nothing to continue")]
    NothingToContinue,
    /// The message is longer than this socket may send.
    #[error("the message is too long")]
    TooLong,
    /// The message comes in more pieces than anybody needs.
    #[error("the message has too many fragments")]
    TooManyFragments,
    /// Text, or the reason of a close, is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A close of one byte, or with a code that must not be sent (section 7.4).
    #[error("a close frame is wrong")]
    BadClose,
    /// A binary message where only text is spoken.
    #[error("binary messages are not spoken here")]
    Binary,
}

impl Fault {
    /// The code that the socket is closed with (RFC 6455 section 7.4.1).
    pub(crate) fn close(self) -> u16 {
        match self {
            Fault::TooLong | Fault::TooManyFragments => 1009,
            Fault::NotUtf8 => 1007,
            Fault::Binary => 1003,
            _ => 1002,
        }
    }
}
