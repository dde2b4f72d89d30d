//! What a shard says by itself, in the words of each framing, and why a stream ends. Knows no
//! receiver, and not when there is something to say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::{Hub, Missed, Offset};

use super::limits::SOCKET_COMES_BACK;
use crate::sse::continuity::Continuity;
use crate::sse::{COMMENT, Framing, continuity, farewell};
use crate::websocket::{frame, words};

/// Why a stream ends though its client did not want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its token's time is over.
    Expired,
    /// Its token no longer counts.
    Revoked,
    /// It is as old as streams become.
    LongestTime,
    /// The program ends; the client is to wait so long before it comes back.
    Shutdown(Duration),
    /// Entries are missing, and the framing has no words for that.
    Missing,
    /// A client took too long over one message.
    TooSlow,
    /// The same, where others wait for the memory that the message has.
    Crowded,
    /// A fault of the hub.
    Internal,
}

impl End {
    /// For the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            End::Expired => "its token expired",
            End::Revoked => "its token no longer counts",
            End::LongestTime => "its longest time is over",
            End::Shutdown(_) => "the hub is shutting down",
            End::Missing => "entries are missing",
            End::TooSlow => "a message took too long",
            End::Crowded => "a message took too long while others wait",
            End::Internal => "what it said could not be answered",
        }
    }

    /// For the client of a socket.
    fn code(self) -> &'static str {
        match self {
            End::Expired => "expired",
            End::Revoked => "revoked",
            End::LongestTime => "longest_time",
            End::Shutdown(_) => "shutdown",
            End::Missing => "gap",
            End::TooSlow => "too_slow",
            End::Crowded => "busy",
            End::Internal => "internal",
        }
    }

    /// The code of its close frame (RFC 6455 section 7.4.1): it goes away, a rule of the hub, or
    /// something to come back for.
    pub(super) fn close(self) -> u16 {
        match self {
            End::LongestTime | End::Shutdown(_) => 1001,
            End::Expired | End::Revoked | End::TooSlow => 1008,
            End::Internal => 1011,
            End::Missing | End::Crowded => 1013,
        }
    }

    /// How long a stream of events is told to wait. It would keep to that whenever it comes back,
    /// so nothing is said where its own time does.
    fn pause(self) -> Option<Duration> {
        match self {
            End::Shutdown(pause) => Some(pause),
            _ => None,
        }
    }

    /// How long a socket is to wait before it comes back: nothing where it would be refused again.
    fn pause_of_socket(self) -> Option<Duration> {
        match self {
            End::Shutdown(pause) => Some(pause),
            End::LongestTime | End::Missing | End::TooSlow | End::Crowded | End::Internal => {
                Some(SOCKET_COMES_BACK)
            }
            End::Expired | End::Revoked => None,
        }
    }
}

/// The first words of a stream of events that goes on behind `place`.
pub(super) fn opening(
    framing: Framing,
    hub: &Hub,
    tells: Option<&Continuity>,
    place: Offset,
) -> Bytes {
    let mut first = BytesMut::from(&framing.frame(COMMENT)[..]);
    if let Some(continuity) = tells {
        let opening = continuity::opening(hub, continuity, place);
        first.extend_from_slice(&framing.frame(&opening));
    }
    first.freeze()
}

/// Breaks a silence; says up to where the client has everything, where it is to know.
pub(super) fn heartbeat(framing: Framing, hub: &Hub, place: Option<Offset>) -> Bytes {
    match (framing, place) {
        (Framing::Chunked | Framing::Bare, Some(place)) => {
            framing.frame(&continuity::heartbeat(hub, place))
        }
        (Framing::Chunked | Framing::Bare, None) => framing.frame(COMMENT),
        (Framing::Messages | Framing::MessagesBinary, Some(place)) => words::place(hub, place),
        (Framing::Messages | Framing::MessagesBinary, None) | (Framing::Raw, _) => frame::ping(),
    }
}

/// Says what is missing before `place`. Nothing where there are no words for it.
pub(super) fn gap(framing: Framing, hub: &Hub, missed: &Missed, place: Offset) -> Option<Bytes> {
    match framing {
        Framing::Chunked | Framing::Bare => {
            Some(framing.frame(&continuity::gap(hub, missed, place)))
        }
        Framing::Messages | Framing::MessagesBinary => Some(words::gap(hub, missed, place)),
        Framing::Raw => None,
    }
}

/// The last words, and what says that nothing follows. `place` is where the client is; an event
/// stream says it only where `is_news`.
pub(super) fn last(framing: Framing, hub: &Hub, why: End, place: Offset, is_news: bool) -> Bytes {
    let mut last = BytesMut::new();
    if framing.is_messages() {
        if framing != Framing::Raw {
            last.extend_from_slice(&words::end(hub, why.code(), place, why.pause_of_socket()));
        }
        last.extend_from_slice(&frame::close(Some(why.close()), why.code()));
        return last.freeze();
    }
    let pause = why.pause().map(|pause| pause.as_millis());
    let words = farewell(hub, is_news.then_some(place), pause);
    if !words.is_empty() {
        last.extend_from_slice(&framing.frame(words.as_bytes()));
    }
    last.extend_from_slice(framing.end());
    last.freeze()
}
