//! One stream: where its client is, what waits for its socket, and when it is to be looked at.
//! Knows nobody else, and nothing of how entries are found.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{Clock, Held, Namespace, Offset, Reading};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::arrival::{Counted, Patience};
use super::handoff::Feed;
use super::outlet::Outlet;
use super::portion::{Pieces, Portion};
use super::socket::Socket;
use super::words::End;
use crate::http::{Open, Place, RequestId, has_vanished};
use crate::limits::{EXPIRY_JUDGED_EVERY, WRITE_PROGRESS_BYTES_MIN};
use crate::sse::Framing;

/// Where a receiver's entries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// With its audience.
    Live,
    /// It is behind, and catches up as soon as its socket takes more.
    Lagging,
    /// Somebody reads the history for it.
    Reading,
    /// Nowhere any more: what waits is the last.
    Ending,
    /// Nowhere any more, and only a farewell waits, which needs no right.
    Leaving,
    /// A socket that was told the end and waits for its client's.
    Closing,
}

impl Phase {
    /// Whether nothing more comes.
    pub(super) fn is_last(self) -> bool {
        matches!(self, Phase::Ending | Phase::Leaving | Phase::Closing)
    }
}

/// One stream.
pub(super) struct Receiver {
    pub(super) outlet: Outlet,
    pub(super) framing: Framing,
    /// Its audience, and its seat there.
    pub(super) audience: u32,
    pub(super) seat: u32,
    /// Tells it from others that had its number before.
    pub(super) serial: u64,
    /// Tells what is read for it now from what was to be read before it moved.
    pub(super) read_serial: u64,
    pub(super) phase: Phase,
    /// The client is told in band how its stream goes on.
    pub(super) tells: bool,
    /// Up to here it was given everything.
    pub(super) position: Offset,
    /// The place of the last id that it was told, or where it began.
    pub(super) told: Offset,
    /// What its socket did not take yet. An idle receiver has none.
    pub(super) rest: Option<Box<Rest>>,
    /// Its way through the history, while nobody reads.
    pub(super) reading: Option<Box<Reading>>,
    /// When all that there was had been written last.
    pub(super) written: Duration,
    /// The tick for which it stands in the wheel.
    pub(super) armed: u64,
    pub(super) heartbeat: Option<Duration>,
    /// The end of the grant by the wall clock.
    pub(super) expires: Option<u64>,
    /// The end of its longest time.
    pub(super) ends: Option<Duration>,
    /// When it has to end because the program does, and how long its client is to wait.
    pub(super) closes: Option<Box<(Duration, Duration)>>,
    pub(super) patience: Arc<Patience>,
    pub(super) held: Held,
    pub(super) open: Open,
    pub(super) request: RequestId,
    /// Others see it as long as this is there.
    pub(super) present: Option<Box<dyn Send>>,
    /// What makes it a socket, which is listened to.
    pub(super) socket: Option<Box<Socket>>,
    pub(super) _places: [Option<Place>; 2],
    pub(super) _open: TaskTrackerToken,
    pub(super) _counted: Counted,
}

/// Bytes that found the socket full.
pub(super) struct Rest {
    pieces: VecDeque<Bytes>,
    /// Since when the client is waited for.
    since: Duration,
    /// What it took meanwhile.
    taken: usize,
    /// Bytes in it that answer the client.
    words: usize,
}

/// What became of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The socket has them.
    All,
    /// Some wait until the client takes more.
    Waits,
    /// There is no client any more.
    Never,
}

#[cfg(test)]
impl Rest {
    /// How much waits.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

impl Receiver {
    /// Sends these behind everything before.
    pub(super) fn send(&mut self, pieces: &[Bytes], now: Duration) -> Sent {
        if let Some(rest) = &mut self.rest {
            rest.pieces.extend(pieces.iter().cloned());
            return Sent::Waits;
        }
        if self.has_vanished(now) {
            return Sent::Never;
        }
        for (at, piece) in pieces.iter().enumerate() {
            match write(&mut self.outlet, piece) {
                Ok(None) => {}
                Ok(Some(left)) => {
                    let mut waiting = VecDeque::from([left]);
                    waiting.extend(pieces.iter().skip(at + 1).cloned());
                    return self.wait(waiting, now);
                }
                Err(_) => return Sent::Never,
            }
        }
        self.finish(now)
    }

    /// Sends what answers the client, behind everything before.
    pub(super) fn say(&mut self, words: Bytes, now: Duration) -> Sent {
        if words.is_empty() {
            return Sent::All;
        }
        let bytes = words.len();
        let sent = self.send(&[words], now);
        if let (Sent::Waits, Some(rest)) = (sent, &mut self.rest) {
            rest.words += bytes;
        }
        sent
    }

    /// Bytes of answers that the client has not taken.
    pub(super) fn unsent_words(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.words)
    }

    /// Whether it is not with its audience now.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self.phase, Phase::Lagging | Phase::Reading)
    }

    /// Whether it waits for the past of its socket's later wish.
    pub(super) fn is_held(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.is_held())
    }

    /// Gives it what it lacks of a portion.
    pub(super) fn give(&mut self, portion: &Portion, namespace: &Namespace, now: Duration) -> Sent {
        let last = portion.last();
        let wants = self.socket.as_ref().map(|socket| &socket.wants);
        let pieces = match wants.filter(|wants| self.position < wants.even()) {
            None => portion.behind(self.position, self.framing),
            Some(wants) => Pieces::Own(portion.picked(self.framing, |entry| {
                entry.offset > self.position && wants.wants(entry, namespace)
            })),
        };
        let sent = match pieces.as_ref() {
            [] => Sent::All,
            pieces => self.send(pieces, now),
        };
        self.position = self.position.max(last);
        self.told = self.told.max(last);
        sent
    }

    /// Sends what waits, as far as the client takes it.
    pub(super) fn go_on(&mut self, now: Duration) -> Sent {
        let Some(rest) = &mut self.rest else { return Sent::All };
        while let Some(piece) = rest.pieces.front_mut() {
            let left = match write(&mut self.outlet, piece) {
                Ok(left) => left,
                Err(_) => return Sent::Never,
            };
            rest.taken += piece.len() - left.as_ref().map_or(0, Bytes::len);
            match left {
                Some(left) => {
                    *piece = left;
                    return Sent::Waits;
                }
                None => drop(rest.pieces.pop_front()),
            }
        }
        self.finish(now)
    }

    fn finish(&mut self, now: Duration) -> Sent {
        // A shared connection's own task sends it, soon; whether it does is looked at later.
        let is_shared = matches!(self.outlet, Outlet::Shared(_)) && !self.phase.is_last();
        match if is_shared { Ok(true) } else { self.outlet.flush() } {
            Ok(true) => {
                self.rest = None;
                self.written = now;
                Sent::All
            }
            Ok(false) if self.rest.is_some() => Sent::Waits,
            Ok(false) => self.wait(VecDeque::new(), now),
            Err(_) => Sent::Never,
        }
    }

    fn wait(&mut self, pieces: VecDeque<Bytes>, now: Duration) -> Sent {
        self.rest = Some(Box::new(Rest { pieces, since: now, taken: 0, words: 0 }));
        Sent::Waits
    }

    /// Whether what was written long before never arrived.
    fn has_vanished(&self, now: Duration) -> bool {
        // Heartbeats come a little early by this clock.
        let limit = self.patience.acknowledge_timeout * 9 / 10;
        now.saturating_sub(self.written) >= limit
            && self.outlet.socket().is_some_and(|socket| has_vanished(socket, limit))
    }

    /// Whether the client has left its socket full for too long. Called at the end of that time.
    pub(super) fn is_late(&mut self, now: Duration) -> bool {
        let limit = self.patience.write_timeout;
        let Some(rest) = &mut self.rest else {
            return now >= self.written + limit && self.is_stuck(now);
        };
        if now < rest.since + limit {
            return false;
        }
        if rest.taken < WRITE_PROGRESS_BYTES_MIN {
            return true;
        }
        (rest.since, rest.taken) = (now, 0);
        false
    }

    /// Whether silence has to be broken.
    pub(super) fn is_silent(&self, now: Duration) -> bool {
        let silence = now.saturating_sub(self.written);
        let is_silent = self.heartbeat.is_some_and(|heartbeat| silence >= heartbeat);
        is_silent && !self.is_stuck(now)
    }

    /// Whether something that was sent has not left.
    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        // What was sent just now is on its way: to ask after each would cost as much as to send.
        let is_on_its_way = |feed: &Feed| now > self.written && !feed.0.is_empty();
        self.rest.is_some() || matches!(&self.outlet, Outlet::Shared(feed) if is_on_its_way(feed))
    }

    /// Whether somebody will look at what was sent just now: the wheel, or its own socket.
    pub(super) fn is_watched(&self) -> bool {
        self.armed != u64::MAX || !matches!(self.outlet, Outlet::Shared(_))
    }

    /// Why it may not go on, if it may not, though it could.
    pub(super) fn has_no_right(&self, clock: &dyn Clock) -> Option<End> {
        if self.held.has_fallen() {
            return Some(End::Revoked);
        }
        let is_over = self.expires.is_some_and(|expires| clock.wall() >= expires);
        is_over.then_some(End::Expired)
    }

    /// The next moment at which something is to be done though nothing came.
    pub(super) fn next_look(&self, now: Duration, clock: &dyn Clock) -> Option<Duration> {
        let (is_stuck, limit) = (self.is_stuck(now), self.patience.write_timeout);
        let since = self.rest.as_ref().map_or(self.written, |rest| rest.since);
        // A shared connection does not say when it is stuck: it is asked, by heartbeats or so.
        let is_asked = matches!(self.outlet, Outlet::Shared(_)) && self.heartbeat.is_none();
        let late = match is_stuck {
            true => Some(since + limit),
            false => is_asked.then_some(now + limit),
        };
        let expires = self.expires.map(|expires| {
            let left = Duration::from_millis(expires.saturating_sub(clock.wall()));
            // The wall clock may jump, so it is looked at again before its time.
            now + left.min(EXPIRY_JUDGED_EVERY)
        });
        let closes = self.socket.as_ref().and_then(|socket| socket.closes);
        match self.phase {
            Phase::Leaving => return late,
            Phase::Closing => return [late, closes].into_iter().flatten().min(),
            Phase::Ending => return [late, expires].into_iter().flatten().min(),
            Phase::Live | Phase::Lagging | Phase::Reading => {}
        }
        let silence = self.heartbeat.filter(|_| !is_stuck);
        let silent = silence.map(|silence| self.written + silence);
        let closes = self.closes.as_ref().map(|closes| closes.0);
        let socket = self.socket.as_ref();
        let talks = socket.map_or([None, None], |socket| [socket.paused, socket.late(now)]);
        let all = [late, expires, silent, self.ends, closes];
        all.into_iter().chain(talks).flatten().min()
    }
}

/// What is left of a piece, if anything.
fn write(outlet: &mut Outlet, piece: &Bytes) -> io::Result<Option<Bytes>> {
    let mut taken = 0;
    while taken < piece.len() {
        let written =
            if taken == 0 { outlet.write(piece) } else { outlet.write(&piece.slice(taken..)) };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Some(piece.slice(taken..)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
