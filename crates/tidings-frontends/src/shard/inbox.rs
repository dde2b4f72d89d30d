//! What other threads have for a shard. Everything here stands for a receiver that has its place
//! already, so that its length is bounded by the places.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use tokio::sync::Notify;

use super::arrival::Arrival;
use super::catch_up::Turn;
use super::side::SideTurn;
use super::talk::Order;
use crate::limits::LIGHT_TURNS_MIN;

/// One thing for the shard to do.
pub(super) enum Message {
    /// A stream begins.
    Arrived(Box<Arrival>),
    /// A receiver's turn of reading is over; there is none when it panicked.
    Read { number: u32, serial: u64, turn: Option<Turn> },
    /// The same for an audience.
    ReadForAll { number: u32, serial: u64, turn: Option<Turn> },
    /// The same for the past of a socket's later wish.
    SideRead { number: u32, serial: u64, turn: Option<Box<SideTurn>> },
    /// What a hearer has for its socket.
    Order { number: u32, serial: u64, order: Box<Order> },
    /// Something about this receiver may have changed.
    Look(u32),
    /// The program ends its streams.
    Closing,
    /// The shard itself ends.
    End,
}

/// Messages that wait, and how to wake who works for the shard.
pub(super) struct Inbox {
    /// There is nobody any more who would read them when the shard has ended.
    messages: Mutex<Option<VecDeque<Message>>>,
    waker: mio::Waker,
    /// Wakes the task that helps.
    help: Notify,
    /// There is such a task.
    has_help: AtomicBool,
    /// Times in a row that so little was to be done that it would have been done sooner by it.
    light: AtomicU32,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Arc<Inbox> {
        Arc::new(Inbox {
            messages: Mutex::new(Some(VecDeque::new())),
            waker,
            help: Notify::new(),
            has_help: AtomicBool::new(false),
            light: AtomicU32::new(0),
        })
    }

    pub(super) fn put(&self, message: Message) {
        let mut messages = self.lock();
        let Some(waiting) = messages.as_mut() else {
            // What it stands for is dropped without the lock.
            drop(messages);
            return drop(message);
        };
        waiting.push_back(message);
        let is_first = waiting.len() == 1;
        drop(messages);
        if is_first {
            self.wake_thread();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Message>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves everything behind what is in `messages`.
    pub(super) fn empty(&self, messages: &mut VecDeque<Message>) {
        let mut waiting = self.lock();
        let Some(waiting) = waiting.as_mut() else { return };
        if messages.is_empty() {
            // What a storm needed is given back when it is over.
            *messages = std::mem::take(waiting);
        } else {
            messages.append(waiting);
        }
    }

    /// The shard has ended.
    pub(super) fn end(&self) {
        let unread = self.lock().take();
        drop(unread);
    }

    /// Notes whether little was to be done.
    pub(super) fn note_work(&self, is_light: bool) {
        let light = if is_light { self.light.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.light.store(light, Ordering::Relaxed);
    }

    /// Notes whether a task helps.
    pub(super) fn set_help(&self, has_help: bool) {
        self.has_help.store(has_help, Ordering::SeqCst);
        // It may have been called in vain.
        self.wake_thread();
    }

    /// For that task: waits until it is called.
    pub(super) async fn called(&self) {
        self.help.notified().await;
    }

    /// Has somebody look at what is ready.
    fn wake_shard(&self) {
        let is_light = self.light.load(Ordering::Relaxed) >= LIGHT_TURNS_MIN;
        if is_light && self.has_help.load(Ordering::SeqCst) {
            self.help.notify_one();
            if self.has_help.load(Ordering::SeqCst) {
                return;
            }
        }
        self.wake_thread();
    }

    pub(super) fn wake_thread(&self) {
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
