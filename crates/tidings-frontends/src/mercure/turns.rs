//! Streams take turns. One update wakes thousands of them; as equals in the runtime's queues they
//! would all stand before the next publisher. So a wake-up goes into a line here, and only as many
//! streams as have a turn reach the runtime at a time.
//!
//! Knows no stream's bytes: only who is to be polled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::limits::TURN_LATE;

/// The turns of all streams.
pub(super) struct Turns {
    at_once: usize,
    line: Mutex<Line>,
}

struct Line {
    /// Turns that are given away.
    given: usize,
    /// Everybody stands here once at most.
    waiting: VecDeque<Arc<Place>>,
    /// When a turn was given or came back.
    moved: Instant,
}

/// One stream's place. Its waker is what wakes the stream, in its turn.
pub(super) struct Place {
    turns: Arc<Turns>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// In the line, perhaps from an earlier wake-up.
    in_line: bool,
    has_turn: bool,
    /// The stream's task.
    task: Waker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Being polled; whether it was woken meanwhile.
    Polled { woken: bool },
    /// Nothing to do, until it is woken.
    Asleep,
    /// Woken; its turn will come.
    InLine,
    /// The runtime was told to poll it.
    Called,
    /// Its bytes are being written. It is polled again when they are, whoever wakes it.
    Writing,
    /// It has ended.
    Gone,
}

impl Turns {
    /// Turns for so many streams at once.
    pub(super) fn new(at_once: usize) -> Turns {
        let line = Line { given: 0, waiting: VecDeque::new(), moved: Instant::now() };
        Turns { at_once, line: Mutex::new(line) }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn, or a place at the end of the line.
    fn ask(&self, place: &Arc<Place>, in_line: bool) -> bool {
        let mut line = self.lock();
        // A client can keep a stream from being polled. It must not take a turn away for ever.
        if line.given < self.at_once || line.moved.elapsed() >= TURN_LATE {
            line.given += 1;
            line.moved = Instant::now();
            return true;
        }
        if !in_line {
            line.waiting.push_back(Arc::clone(place));
        }
        false
    }

    /// Gives a turn that came back to the next in the line.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut line = self.lock();
                line.moved = Instant::now();
                let next = line.waiting.pop_front();
                if next.is_none() {
                    line.given -= 1;
                }
                next
            };
            match next {
                Some(place) if !place.call() => {}
                Some(_) | None => return,
            }
        }
    }
}

impl Place {
    /// The place of a stream that has not been polled yet.
    pub(super) fn new(turns: Arc<Turns>) -> Arc<Place> {
        let task = Waker::noop().clone();
        let state = State { phase: Phase::Writing, in_line: false, has_turn: false, task };
        Arc::new(Place { turns, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls the stream. What it waits for wakes this place, and the place the stream's task.
    pub(super) fn poll<T>(
        self: &Arc<Place>,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        {
            let mut state = self.lock();
            state.phase = Phase::Polled { woken: false };
            if !state.task.will_wake(context.waker()) {
                state.task.clone_from(context.waker());
            }
        }
        let polled = poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))));
        let (woken, had_turn) = {
            let mut state = self.lock();
            let woken = polled.is_pending() && state.phase == Phase::Polled { woken: true };
            state.phase = if polled.is_pending() { Phase::Asleep } else { Phase::Writing };
            (woken, std::mem::take(&mut state.has_turn))
        };
        if had_turn {
            self.turns.pass_on();
        }
        if woken {
            self.wake_by_ref();
        }
        polled
    }

    /// Its turn has come; whether it is still wanted.
    fn call(&self) -> bool {
        let task = {
            let mut state = self.lock();
            state.in_line = false;
            if state.phase != Phase::InLine {
                return false;
            }
            state.phase = Phase::Called;
            state.has_turn = true;
            state.task.clone()
        };
        task.wake();
        true
    }

    /// The stream has ended.
    pub(super) fn leave(&self) {
        let had_turn = {
            let mut state = self.lock();
            state.phase = Phase::Gone;
            state.task = Waker::noop().clone();
            std::mem::take(&mut state.has_turn)
        };
        if had_turn {
            self.turns.pass_on();
        }
    }
}

impl Wake for Place {
    fn wake(self: Arc<Place>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Place>) {
        let mut state = self.lock();
        match &mut state.phase {
            Phase::Polled { woken } => *woken = true,
            Phase::Asleep => {
                if self.turns.ask(self, state.in_line) {
                    state.phase = Phase::Called;
                    state.has_turn = true;
                    let task = state.task.clone();
                    drop(state);
                    task.wake();
                } else {
                    state.phase = Phase::InLine;
                    state.in_line = true;
                }
            }
            Phase::InLine | Phase::Called | Phase::Writing | Phase::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts how often the runtime was told to poll.
    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Calls>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A stream, and what wakes it.
    struct Stream {
        place: Arc<Place>,
        calls: Arc<Calls>,
        waker: Option<Waker>,
    }

    impl Stream {
        fn new(turns: &Arc<Turns>) -> Stream {
            let place = Place::new(Arc::clone(turns));
            let mut stream = Stream { place, calls: Arc::default(), waker: None };
            stream.poll();
            stream
        }

        fn poll(&mut self) {
            let task = Waker::from(Arc::clone(&self.calls));
            let waker = &mut self.waker;
            let _pending = self.place.poll(&mut Context::from_waker(&task), |context| {
                *waker = Some(context.waker().clone());
                Poll::<()>::Pending
            });
        }

        fn wake(&self) {
            self.waker.as_ref().unwrap().wake_by_ref();
        }

        fn calls(&self) -> usize {
            self.calls.0.load(Ordering::SeqCst)
        }
    }

    fn called(streams: &[Stream]) -> Vec<usize> {
        streams.iter().map(Stream::calls).collect()
    }

    #[test]
    fn so_many_are_called_at_once_and_the_others_in_their_turn() {
        let turns = Arc::new(Turns::new(2));
        let mut streams: Vec<Stream> = (0..5).map(|_| Stream::new(&turns)).collect();
        for stream in streams.iter().chain(&streams) {
            stream.wake();
        }
        assert_eq!(called(&streams), [1, 1, 0, 0, 0]);
        streams[1].poll();
        assert_eq!(called(&streams), [1, 1, 1, 0, 0]);
        // One in the line is polled for another reason, another one ends: neither is called.
        streams[3].poll();
        streams[4].place.leave();
        streams[0].poll();
        streams[2].poll();
        assert_eq!(called(&streams), [1, 1, 1, 0, 0]);
        assert_eq!(turns.lock().given, 0);
        for stream in &streams {
            stream.wake();
        }
        assert_eq!(called(&streams), [2, 2, 1, 0, 0]);
    }

    #[test]
    fn who_is_woken_while_it_is_polled_is_called_again() {
        let turns = Arc::new(Turns::new(1));
        let stream = Stream::new(&turns);
        let task = Waker::from(Arc::clone(&stream.calls));
        let _pending = stream.place.poll(&mut Context::from_waker(&task), |context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(stream.calls(), 1);
    }

    #[test]
    fn who_ends_in_its_turn_gives_it_to_the_next() {
        let turns = Arc::new(Turns::new(1));
        let streams = [Stream::new(&turns), Stream::new(&turns)];
        streams[0].wake();
        streams[1].wake();
        assert_eq!(called(&streams), [1, 0]);
        streams[0].place.leave();
        assert_eq!(called(&streams), [1, 1]);
    }

    #[test]
    fn turns_that_never_come_back_do_not_stop_the_others() {
        let turns = Arc::new(Turns::new(1));
        let mut streams: Vec<Stream> = (0..4).map(|_| Stream::new(&turns)).collect();
        streams[0].wake();
        streams[1].wake();
        streams[2].wake();
        assert_eq!(called(&streams), [1, 0, 0, 0]);
        std::thread::sleep(TURN_LATE);
        streams[3].wake();
        assert_eq!(called(&streams), [1, 0, 0, 1]);
        streams[3].poll();
        streams[1].poll();
        assert_eq!(called(&streams), [1, 1, 1, 1]);
    }
}
