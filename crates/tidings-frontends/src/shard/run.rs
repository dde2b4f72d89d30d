//! A shard's turns: each looks at sockets, messages, times and then at what the hub has for its
//! audiences. Knows no thread: who works for a shard is told in `work`.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Token};
use slab::Slab;
use tidings_core::{Clock, Hub, ReadyList};

use super::audience::{Audience, Likeness, Source};
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

/// Streams, and what whoever works for them has to know.
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
    /// What the hub said to be ready, and nobody has looked at yet.
    heard: Vec<u64>,
    /// Audiences that are served next, each once.
    line: Vec<u32>,
    /// Sockets that were not heard to their end.
    pub(super) hungry: Vec<u32>,
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
    pub(super) begun: Instant,
    /// How long the last turn wrote to audiences.
    wrote_for: Duration,
    /// How many receivers were served or looked at since that was noted.
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
            heard: Vec::new(),
            line: Vec::new(),
            hungry: Vec::new(),
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
        self.line = Vec::new();
        self.heard = Vec::new();
        self.hungry = Vec::new();
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
        self.hear(waker);
        let is_at_once = self.is_something_ready() || !self.hungry.is_empty();
        self.planned = if is_at_once { Some(self.now) } else { self.wheel.next() };
        self.planned.map(|next| next.saturating_sub(self.now))
    }

    /// Does the turn behind that wait. Answers whether the shard goes on.
    pub(super) fn turn(&mut self, events: &Events, waker: &Waker) -> bool {
        self.look_at_clock();
        for number in std::mem::take(&mut self.hungry) {
            self.listen(number);
        }
        for event in events.iter() {
            if event.token() != WAKE {
                self.on_socket(event.token().0 as u32, event);
            }
        }
        if !self.read_messages() {
            return false;
        }
        self.look_at_times();
        self.hear(waker);
        if self.is_something_ready() {
            self.let_more_come();
            self.hear(waker);
            self.look_at_clock();
            let begun = self.now;
            self.serve(waker);
            self.look_at_clock();
            self.wrote_for = self.now - begun;
        }
        true
    }

    /// Does between turns what a turn would do for audiences that are ready, if these are small.
    /// Answers whether the next turn may begin as planned; else it has to begin now.
    pub(super) fn help(&mut self, waker: &Waker) -> bool {
        self.look_at_clock();
        for _ in 0..HELPS_AT_ONCE {
            self.hear(waker);
            if !self.is_something_ready() {
                return match (self.planned, self.wheel.next()) {
                    (_, None) => true,
                    (planned, Some(next)) => planned.is_some_and(|planned| planned <= next),
                };
            }
            if !self.is_little_ready() {
                return false;
            }
            self.look_ahead();
            self.sort();
            for number in std::mem::take(&mut self.line) {
                self.serve_audience(number);
            }
        }
        false
    }

    /// Looks at a receiver of each audience that is ready. What was not used for long comes from
    /// memory side by side that way; served one by one, each would wait for its own.
    fn look_ahead(&self) {
        let audiences = self.heard.iter().filter_map(|key| self.audiences.get(*key as usize));
        let first = audiences.map(|audience| {
            if let Source::Live(subscription) = &audience.source {
                subscription.look_ahead();
                black_box((audience.passed, audience.in_line));
            }
            audience.members.first().copied()
        });
        // What says who they are comes before they do.
        let first: Vec<_> = first.collect();
        for number in first.into_iter().flatten() {
            let Some(receiver) = self.receivers.get(number as usize) else { continue };
            let Receiver { phase, position, written, patience, rest, .. } = receiver;
            black_box((*phase, *position, *written, Arc::as_ptr(patience), rest.is_some()));
        }
    }

    fn is_something_ready(&self) -> bool {
        !self.heard.is_empty() || !self.line.is_empty()
    }

    /// Whether that is audiences only, and these have few receivers.
    fn is_little_ready(&self) -> bool {
        let line = self.line.iter().map(|number| u64::from(*number));
        let members = self.heard.iter().copied().chain(line).map(|key| match key & RECEIVER_KEY {
            0 => self.audiences.get(key as usize).map_or(0, |audience| audience.members.len()),
            _ => LIGHT_TURN_MAX + 1,
        });
        members.sum::<usize>() <= LIGHT_TURN_MAX
    }

    /// Notes how much was done since this was noted last.
    pub(super) fn note_work(&mut self) {
        self.inbox.note_work(std::mem::take(&mut self.served) <= LIGHT_TURN_MAX);
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

    /// Hears what is ready, or has `waker` woken when something is.
    fn hear(&mut self, waker: &Waker) {
        let _pending = self.ready.poll(&mut Context::from_waker(waker), &mut self.heard);
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
                Message::SideRead { number, serial, turn } => {
                    self.on_side_read(number, serial, turn.map(|turn| *turn));
                }
                Message::Order { number, serial, order } => self.on_order(number, serial, *order),
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
        self.sort();
        for number in std::mem::take(&mut self.line) {
            self.serve_audience(number);
            // Writing to thousands takes long: a grant that has fallen meanwhile gets no more, and
            // an audience that has something again has its next turn with all the others.
            self.hear(waker);
            self.sort();
        }
    }

    /// Has an audience served, once, however often somebody says that there is something for it.
    pub(super) fn line_up(&mut self, number: u32) {
        if let Some(audience) = self.audiences.get_mut(number as usize)
            && !std::mem::replace(&mut audience.in_line, true)
        {
            self.line.push(number);
        }
    }

    /// Looks at receivers, and lines audiences up.
    fn sort(&mut self) {
        for key in std::mem::take(&mut self.heard) {
            if key & RECEIVER_KEY == 0 {
                self.line_up(key as u32);
            } else {
                self.served += 1;
                self.look((key & !RECEIVER_KEY) as u32);
            }
        }
    }
}
