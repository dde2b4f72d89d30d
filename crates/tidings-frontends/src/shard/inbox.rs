//! What other threads have for a shard. Everything here stands for a receiver that has its place
//! already, so that its length is bounded by the places.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use super::arrival::Arrival;
use super::catch_up::Turn;

/// One thing for the shard to do.
pub(super) enum Message {
    /// A stream begins.
    Arrived(Box<Arrival>),
    /// A receiver's turn of reading is over; there is none when it panicked.
    Read { number: u32, serial: u64, turn: Option<Turn> },
    /// The same for an audience.
    ReadForAll { number: u32, serial: u64, turn: Option<Turn> },
    /// Something about this receiver may have changed.
    Look(u32),
    /// The program ends its streams.
    Closing,
    /// The shard itself ends.
    End,
}

/// Messages that wait, and how to wake the shard.
pub(super) struct Inbox {
    messages: Mutex<VecDeque<Message>>,
    waker: mio::Waker,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Arc<Inbox> {
        Arc::new(Inbox { messages: Mutex::default(), waker })
    }

    pub(super) fn put(&self, message: Message) {
        let is_first = {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            messages.push_back(message);
            messages.len() == 1
        };
        if is_first {
            self.wake_shard();
        }
    }

    /// Moves everything behind what is in `messages`.
    pub(super) fn empty(&self, messages: &mut VecDeque<Message>) {
        let mut waiting = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.is_empty() {
            // What a storm needed is given back when it is over.
            *messages = std::mem::take(&mut *waiting);
        } else {
            messages.append(&mut waiting);
        }
    }

    fn wake_shard(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a shard could not be woken");
        }
    }
}

/// Woken by the hub when a subscription has something to take.
impl Wake for Inbox {
    fn wake(self: Arc<Inbox>) {
        self.wake_shard();
    }

    fn wake_by_ref(self: &Arc<Inbox>) {
        self.wake_shard();
    }
}
