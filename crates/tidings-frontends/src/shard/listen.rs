//! How a shard listens to sockets, and how they are closed (RFC 6455 section 7). Knows no message's
//! meaning.

use std::time::Duration;

use bytes::Bytes;

use super::limits::SOCKET_CLOSING_TIMEOUT;
use super::receiver::{Phase, Sent};
use super::run::Shard;
use super::socket::Heard;
use crate::websocket::frame;

impl Shard {
    /// Hears what a socket says, as much as it may say now.
    pub(super) fn listen(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let (heard, pongs) = receiver.listen(&mut self.scratch, self.now);
        if !pongs.is_empty() && !receiver.phase.is_last() {
            self.say(number, pongs.into());
        }
        match heard {
            Heard::All | Heard::NotNow => self.arm(number),
            Heard::Some => {
                self.hungry.push(number);
                self.arm(number);
            }
            Heard::Close(code) => self.answer_close(number, code),
            Heard::Fault(fault) => {
                self.end_by(number, &Bytes::new(), fault.close(), &fault.to_string());
            }
            Heard::Gone => {
                if let Some(receiver) = self.receivers.get(number as usize) {
                    tracing::debug!(request = %receiver.request, "a client has left");
                }
                self.remove(number);
            }
        }
    }

    /// Listens again, where that may bring something.
    pub(super) fn listen_on(&mut self, number: u32) {
        let receiver = self.receivers.get(number as usize);
        let socket = receiver.and_then(|receiver| receiver.socket.as_ref());
        if socket.is_some_and(|socket| socket.is_unread()) {
            self.listen(number);
        }
    }

    /// Says something of its own, behind everything before.
    pub(super) fn say(&mut self, number: u32, words: Bytes) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        match receiver.say(words, self.now) {
            Sent::Never => self.remove(number),
            Sent::All | Sent::Waits => self.arm(number),
        }
    }

    /// The client said its last: it hears the same, and that is the end.
    fn answer_close(&mut self, number: u32, code: Option<u16>) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        match receiver.phase {
            Phase::Closing => self.close(number),
            // The end is on its way already.
            Phase::Ending | Phase::Leaving => {}
            Phase::Live | Phase::Lagging | Phase::Reading => {
                self.say_last(number, frame::close(code, ""));
            }
        }
    }

    /// Ends a socket by these words and a close frame.
    pub(super) fn end_by(&mut self, number: u32, words: &Bytes, close: u16, reason: &str) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        match receiver.phase {
            // What it says makes no sense, and it was told the end.
            Phase::Closing => return self.close(number),
            Phase::Ending | Phase::Leaving => return,
            Phase::Live | Phase::Lagging | Phase::Reading => {}
        }
        tracing::debug!(request = %receiver.request, close, reason, "a socket ends");
        receiver.patience.counters.socket_closes(close);
        self.say_last(number, [&words[..], &frame::close(Some(close), reason)].concat().into());
    }

    /// Ends a receiver: nothing follows these bytes.
    pub(super) fn say_last(&mut self, number: u32, last: Bytes) {
        let Some(receiver) = self.receivers.get(number as usize) else { return };
        // What waits is not sent any more where there is no right to it.
        let has_right = receiver.has_no_right(&*self.clock).is_none();
        if receiver.is_stuck(self.now) && !has_right {
            return self.remove(number);
        }
        self.set_phase(number, if has_right { Phase::Ending } else { Phase::Leaving });
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let last: &[Bytes] = if last.is_empty() { &[] } else { &[last] };
        match receiver.send(last, self.now) {
            Sent::Waits => self.arm(number),
            Sent::All => self.said_last(number),
            Sent::Never => self.remove(number),
        }
    }

    /// Everything has been said. A socket waits for its client's close: to close it while something
    /// is unread would take our last words away from the client.
    pub(super) fn said_last(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        let Some(socket) = receiver.socket.as_mut().filter(|socket| !socket.has_ended) else {
            return self.close(number);
        };
        socket.closes = Some(self.now + SOCKET_CLOSING_TIMEOUT);
        if socket.is_broken() {
            // Its close could not be read (section 7.1.7): nothing is waited for but its leaving.
            receiver.outlet.close();
        }
        receiver.phase = Phase::Closing;
        // For everybody else it is gone.
        receiver.present = None;
        self.listen(number);
    }

    fn close(&mut self, number: u32) {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return };
        receiver.outlet.close();
        self.remove(number);
    }

    /// What times of a socket have come. Answers whether that was its end.
    pub(super) fn is_socket_over(&mut self, number: u32) -> bool {
        let Some(receiver) = self.receivers.get_mut(number as usize) else { return true };
        let is_last = receiver.phase.is_last();
        let Some(socket) = &mut receiver.socket else { return false };
        let has_come = |time: Option<Duration>| time.is_some_and(|time| self.now >= time);
        if has_come(socket.closes) {
            self.close(number);
            return true;
        }
        if let Some(why) = socket.is_late(self.now).filter(|_| !is_last) {
            self.end(number, why);
            return true;
        }
        if has_come(socket.paused) {
            self.listen(number);
        }
        self.receivers.get(number as usize).is_none()
    }
}
