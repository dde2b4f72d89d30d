//! A shard's turns: each looks at sockets, messages, times and then at what the hub has for its
//! audiences. Knows no thread: who works for a shard is told in `work`.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Token};
use slab::Slab;
use tidings_core::{Clock, Hub, ReadyList};

use super::audience::{Audience, Likeness};
use super::inbox::{Inbox, Message};
use super::readers::Readers;
use super::receiver::Receiver;
use super::wheel::Wheel;
use crate::limits::{
    GATHER_MAX, GATHER_MIN, GATHER_SHARE, GATHERS_SKIPPED_MAX, HELPS_AT_ONCE, LIGHT_TURN_MAX,
    SCRATCH_BYTES,
};

/// The token of the waker; sockets have the number of their receiver.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Marks the key of a receiver among those of audiences.
pub(super) const RECEIVER_KEY: u64 = 1 << 63;

/// What the thread owns.
pub(super) struct Shard {
    pub(super) hub: Hub,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) readers: Arc<Readers>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) ready: Arc<ReadyList>,
    pub(super) registry: mio::Registry,
    pub(super) wheel: Wheel,
    pub(super) receivers: Slab<Receiver>,
    pub(super) audiences: Slab<Audience>,
    pub(super) alike: HashMap<Likeness, u32>,
    /// Audiences with more to take than one turn hands out.
    pub(super) again: Vec<u32>,
    /// Receivers for which the history is to be read.
    pub(super) readers_line: VecDeque<u32>,
    /// What is to be done in this turn.
    messages: VecDeque<Message>,
    /// Turns of reading that are not over.
    pub(super) reads: usize,
    /// The last number that tells receivers and audiences from earlier ones.
    pub(super) serial: u64,
    /// Whether the program's end is listened for.
    pub(super) watches: bool,
    pub(super) scratch: Box<[u8]>,
    begun: Instant,
    /// How long the last turn wrote to audiences.
    wrote_for: Duration,
    /// How many receivers were served since that was asked.
    pub(super) served: usize,
    /// When the next turn begins though nothing happens.
    planned: Option<Duration>,
    gathering: Gathering,
    /// Since the beginning; moved on once for each thing that takes long.
    pub(super) now: Duration,
}

/// Whether it pays to wait for more to write.
#[derive(Default)]
struct Gathering {
    /// Turns that were begun at once since it last did not.
    skipped: u32,
    /// Turns that begin at once before it is tried again.
    to_skip: u32,
}

impl Shard {
    pub(super) fn new(
        hub: Hub,
        clock: Arc<dyn Clock>,
        readers: Arc<Readers>,
        registry: mio::Registry,
        inbox: Arc<Inbox>,
    ) -> Shard {
        Shard {
            hub,
            clock,
            readers,
            inbox,
            ready: Arc::default(),
            registry,
            wheel: Wheel::new(),
            receivers: Slab::new(),
            audiences: Slab::new(),
            alike: HashMap::new(),
            again: Vec::new(),
            readers_line: VecDeque::new(),
            messages: VecDeque::new(),
            reads: 0,
            serial: 0,
            watches: false,
            scratch: vec![0; SCRATCH_BYTES].into(),
            begun: Instant::now(),
            wrote_for: Duration::ZERO,
            served: 0,
            planned: None,
            gathering: Gathering::default(),
            now: Duration::ZERO,
        }
    }

    /// Does something of it. What a panic left behind is not gone on with: clients come back and go
    /// on where they were.
    pub(super) fn guarded<T>(&mut self, mut work: impl FnMut(&mut Shard) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        if done.is_err() {
            self.begin_anew();
        }
        done.ok()
    }

    fn begin_anew(&mut self) {
        tracing::error!(streams = self.receivers.len(), "a shard panicked: its streams end");
        let numbers: Vec<usize> = self.receivers.iter().map(|(number, _)| number).collect();
        for number in numbers {
            drop(self.receivers.try_remove(number));
        }
        self.audiences = Slab::new();
        self.alike = HashMap::new();
        self.again = Vec::new();
        self.readers_line = VecDeque::new();
        self.wheel = Wheel::new();
    }

    /// Moves the clock on.
    pub(super) fn look_at_clock(&mut self) {
        self.now = self.begun.elapsed();
    }

    /// How long a turn may wait for something to happen; `None` for as long as nothing does.
    pub(super) fn plan(&mut self, waker: &Waker) -> Option<Duration> {
        self.look_at_clock();
        let mut ready = Vec::new();
        let nothing_ready = self.poll_ready(waker, &mut ready).is_pending();
        self.sort(&ready);
        self.planned = match nothing_ready && self.again.is_empty() {
            true => self.wheel.next(),
            false => Some(self.now),
        };
        self.planned.map(|next| next.saturating_sub(self.now))
    }

    /// Does the turn behind that wait. Answers whether the shard goes on.
    pub(super) fn turn(&mut self, events: &Events, waker: &Waker) -> bool {
        self.look_at_clock();
        let mut ready = Vec::new();
        for event in events.iter() {
            if event.token() != WAKE {
                self.on_socket(event.token().0 as u32, event);
            }
        }
        if !self.read_messages() {
            return false;
        }
        self.look_at_times();
        let _pending = self.poll_ready(waker, &mut ready);
        if !ready.is_empty() || !self.again.is_empty() {
            self.let_more_come();
            let _pending = self.poll_ready(waker, &mut ready);
            self.look_at_clock();
            let begun = self.now;
            self.sort(&ready);
            self.serve(waker);
            self.look_at_clock();
            self.wrote_for = self.now - begun;
        }
        true
    }

    /// Does between turns what a turn would do for audiences that are ready, if these are few.
    /// Answers whether the next turn may begin as planned; else it has to begin now.
    pub(super) fn help(&mut self, waker: &Waker) -> bool {
        self.look_at_clock();
        for _ in 0..HELPS_AT_ONCE {
            let mut ready = Vec::new();
            let is_done = self.poll_ready(waker, &mut ready).is_pending() && self.again.is_empty();
            if is_done {
                return match (self.planned, self.wheel.next()) {
                    (_, None) => true,
                    (planned, Some(next)) => planned.is_some_and(|planned| planned <= next),
                };
            }
            self.sort(&ready);
            if self.receivers_ready() > LIGHT_TURN_MAX {
                return false;
            }
            self.serve(waker);
        }
        false
    }

    /// How many receivers the audiences have for which something is ready.
    fn receivers_ready(&self) -> usize {
        let audiences = self.again.iter().map(|number| self.audiences.get(*number as usize));
        audiences.flatten().map(|audience| audience.members.len()).sum()
    }

    /// Whether little was done since this was asked last.
    pub(super) fn was_light(&mut self) -> bool {
        std::mem::take(&mut self.served) <= LIGHT_TURN_MAX
    }

    /// Waits a little where writing takes long anyway: what is published meanwhile leaves in the
    /// same writes, and there is one round of them less.
    fn let_more_come(&mut self) {
        let wait = (self.wrote_for / GATHER_SHARE).min(GATHER_MAX);
        if wait < GATHER_MIN {
            return;
        }
        let Gathering { skipped, to_skip } = &mut self.gathering;
        if *to_skip > 0 {
            *to_skip -= 1;
            return;
        }
        let before = self.hub.end();
        std::thread::sleep(wait);
        // Where updates come one by one, waiting brings nothing.
        *skipped =
            if self.hub.end() > before { 0 } else { (*skipped * 2 + 1).min(GATHERS_SKIPPED_MAX) };
        *to_skip = *skipped;
    }

    fn poll_ready(&self, waker: &Waker, ready: &mut Vec<u64>) -> Poll<()> {
        self.ready.poll(&mut Context::from_waker(waker), ready)
    }

    fn read_messages(&mut self) -> bool {
        // Kept here: what one of them does may panic, and the others still count then.
        self.inbox.empty(&mut self.messages);
        while let Some(message) = self.messages.pop_front() {
            match message {
                Message::Arrived(arrival) => self.welcome(*arrival),
                Message::Read { number, serial, turn } => self.on_read(number, serial, turn),
                Message::ReadForAll { number, serial, turn } => {
                    self.on_read_for_all(number, serial, turn);
                }
                Message::Look(number) => self.look(number),
                Message::Closing => self.close_all(),
                Message::End => return false,
            }
        }
        true
    }

    fn look_at_times(&mut self) {
        let mut due = Vec::new();
        self.wheel.turn(self.now, &mut due);
        for (number, tick) in due {
            // Others have been put off, or are gone.
            let receiver = self.receivers.get(number as usize);
            if receiver.is_some_and(|receiver| receiver.armed == tick) {
                self.on_time(number);
            }
        }
    }

    /// Serves audiences that are ready, and those that were not served to their end.
    fn serve(&mut self, waker: &Waker) {
        for number in std::mem::take(&mut self.again) {
            self.serve_audience(number);
            // Writing to thousands takes long: a grant that has fallen meanwhile gets no more, and
            // an audience that has something again has its next turn with all the others.
            let mut ready = Vec::new();
            if self.poll_ready(waker, &mut ready).is_ready() {
                self.sort(&ready);
            }
        }
    }

    /// Looks at receivers, and notes audiences.
    fn sort(&mut self, ready: &[u64]) {
        for key in ready {
            if key & RECEIVER_KEY == 0 {
                self.again.push(*key as u32);
            } else {
                self.look((key & !RECEIVER_KEY) as u32);
            }
        }
    }
}
