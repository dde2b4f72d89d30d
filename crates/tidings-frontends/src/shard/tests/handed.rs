//! Streams whose bytes go over to a task that sends them on a connection with many.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body as _;

use super::*;
use crate::limits::{HANDOFF_BYTES, HTTP2_PIECE_BYTES};
use crate::shard::{Feed, Handoff, Sent};

const SHORT: Duration = Duration::from_millis(30);

fn bare(limits: Limits) -> Asks {
    Asks { framing: Framing::Bare, limits, ..Asks::default() }
}

/// A client at the other end.
struct Task {
    handoff: Arc<Handoff>,
    body: Option<Sent>,
    got: Vec<u8>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

impl Task {
    fn join(driven: &mut Driven, asks: &Asks) -> Task {
        let handoff = Arc::new(Handoff::default());
        let outlet = Outlet::Shared(Feed(Arc::clone(&handoff)));
        driven.join_by(asks, outlet);
        let body = Some(Sent(Arc::clone(&handoff)));
        Task { handoff, body, got: Vec::new(), end: None }
    }

    /// Takes a piece, if there is one.
    fn piece(&mut self) -> Option<usize> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(self.body.as_mut()?).poll_frame(&mut context) {
            Poll::Pending => None,
            Poll::Ready(None) => {
                (self.end, self.body) = (Some(End::Whole), None);
                None
            }
            Poll::Ready(Some(Err(_))) => {
                (self.end, self.body) = (Some(End::Cut), None);
                None
            }
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.into_data().unwrap();
                self.got.extend_from_slice(&bytes);
                Some(bytes.len())
            }
        }
    }

    fn all(&mut self) {
        while self.piece().is_some() {}
    }

    fn heard(&self) -> Heard {
        heard(&self.got, Framing::Bare)
    }
}

/// Turns until something is so of a client that takes all.
#[track_caller]
fn until(driven: &mut Driven, task: &mut Task, what: &str, is_so: impl Fn(&Task) -> bool) {
    let begun = Instant::now();
    while !is_so(task) {
        assert!(begun.elapsed() < WAIT, "{what}: {:?} {:?}", task.heard(), task.end);
        task.all();
        // The task itself says when there is something to do.
        driven.turn_alone();
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn what_is_handed_over_comes_whole_and_little_waits_there() {
    let mut driven = Driven::new();
    let mut task = Task::join(&mut driven, &bare(FOREVER));
    for number in 1..=30 {
        driven.publish("t", number, 20_000);
        driven.until_fanned_out();
        driven.turn_alone();
    }
    // Nobody asked: the shard keeps what there is no room for, and not much of that.
    let waiting = driven.receiver(0).unwrap().rest.as_ref().unwrap().bytes();
    assert!(waiting <= 2 * crate::limits::CATCH_UP_FRAME_BYTES, "{waiting}");
    let mut before = 0;
    while task.piece().is_some() {
        before = task.got.len();
    }
    assert!(before <= HANDOFF_BYTES + HTTP2_PIECE_BYTES, "{before}");
    until(&mut driven, &mut task, "all comes", |task| task.heard().numbers.len() >= 30);
    assert_eq!(task.heard().numbers, (1..=30).collect::<Vec<_>>());
    driven.settle();
    driven.assert_idle();
    drop(task);
    driven.turn_alone();
    driven.assert_empty();
}

#[test]
fn a_piece_at_a_time_is_enough() {
    let mut driven = Driven::new();
    let mut task = Task::join(&mut driven, &bare(FOREVER));
    for number in 1..=5 {
        driven.publish("t", number, 150_000);
    }
    let begun = Instant::now();
    while task.heard().numbers.len() < 5 {
        assert!(begun.elapsed() < WAIT);
        let piece = task.piece();
        assert!(piece.is_none_or(|piece| piece <= HTTP2_PIECE_BYTES));
        driven.turn_alone();
    }
    assert_eq!(task.heard().numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn m15_silence_is_broken_there_as_often_as_anywhere() {
    let mut driven = Driven::new();
    let limits = Limits { heartbeat: Some(SHORT), ..FOREVER };
    let mut task = Task::join(&mut driven, &bare(limits));
    until(&mut driven, &mut task, "three comments", |task| task.got == b":\n:\n:\n:\n");
    driven.publish("t", 1, 1);
    until(&mut driven, &mut task, "one behind an update", |task| {
        task.heard().numbers == [1] && task.got.ends_with(b":\n")
    });
}

#[test]
fn m57_a_stream_ends_there_with_its_token() {
    let mut driven = Driven::new();
    let limits = Limits { expires: Some(50), ..FOREVER };
    let mut task = Task::join(&mut driven, &bare(limits));
    driven.publish("t", 1, 1);
    until(&mut driven, &mut task, "an update", |task| task.heard().numbers == [1]);
    // The client has come further than the last id that it has.
    let mut other = Task::join(&mut driven, &Asks { topic: "other", ..bare(limits) });
    until(&mut driven, &mut other, "it opens", |task| !task.got.is_empty());
    driven.publish("t", 2, 1);
    until(&mut driven, &mut task, "an update", |task| task.heard().numbers == [1, 2]);
    let place = driven.hub.cursor(driven.hub.last());
    driven.wall.0.store(50, Ordering::SeqCst);
    driven.publish("t", 3, 1);
    // Looked at when something is done: here its own time.
    for task in [&task, &other] {
        let (_, number) = numbered(&driven, task);
        driven.shard.on_time(number);
    }
    until(&mut driven, &mut task, "it ends", |task| task.end.is_some());
    until(&mut driven, &mut other, "it ends", |task| task.end.is_some());
    assert_eq!((task.end, other.end), (Some(End::Whole), Some(End::Whole)));
    assert!(other.heard().id.is_some_and(|id| id == place || !id.is_empty()));
    driven.turn_alone();
    driven.assert_empty();
    assert_eq!(driven.stalled(), 0);
}

fn numbered(driven: &Driven, task: &Task) -> (usize, u32) {
    let mut all = driven.shard.receivers.iter().enumerate();
    let is_its = |outlet: &Outlet| matches!(outlet, Outlet::Shared(one) if Arc::ptr_eq(&one.0, &task.handoff));
    let (at, (number, _)) = all.find(|(_, (_, receiver))| is_its(&receiver.outlet)).unwrap();
    (at, u32::try_from(number).unwrap())
}

#[test]
fn a_revoked_token_ends_it_and_what_was_not_sent_is_not_sent() {
    for is_stuck in [false, true] {
        let mut driven = Driven::new();
        let asks = Asks { token: Some("bad"), ..bare(FOREVER) };
        let mut task = Task::join(&mut driven, &asks);
        until(&mut driven, &mut task, "it opens", |task| !task.got.is_empty());
        task.all();
        if is_stuck {
            driven.publish_private("t", 1, 10);
            driven.until_fanned_out();
            driven.turn_alone();
        }
        driven.hub.judge_by(Arc::new(|grant| grant.token.subject.is_none()));
        driven.turn_alone();
        until(&mut driven, &mut task, "it ends", |task| task.end.is_some());
        let expected = if is_stuck { End::Cut } else { End::Whole };
        assert_eq!((task.end, task.heard().numbers), (Some(expected), vec![]));
        driven.turn_alone();
        driven.assert_empty();
        assert_eq!(driven.stalled(), 0);
    }
}

#[test]
fn m57_it_ends_whole_at_its_longest_age() {
    let mut driven = Driven::new();
    let limits = Limits { lifetime: Some(2 * SHORT), ..FOREVER };
    let mut task = Task::join(&mut driven, &Asks { topic: "other", ..bare(limits) });
    driven.publish("t", 1, 1);
    let place = driven.hub.cursor(driven.hub.last());
    until(&mut driven, &mut task, "it ends", |task| task.end.is_some());
    assert_eq!(task.end, Some(End::Whole));
    assert_eq!(task.heard().text, format!(":\nid: {place}\n\n"));
    driven.turn_alone();
    driven.assert_empty();
}

#[test]
fn a_client_that_asks_for_nothing_is_late_with_and_without_heartbeats() {
    for heartbeat in [Some(SHORT), None] {
        let mut driven = Driven::new();
        let limits = Limits { heartbeat, ..FOREVER };
        let asks = Asks { write_timeout: 4 * SHORT, ..bare(limits) };
        let mut task = Task::join(&mut driven, &asks);
        // It opens, and then stands still with a little on its way.
        until(&mut driven, &mut task, "it opens", |task| !task.got.is_empty());
        // For longer than the first look at it takes.
        let opened = Instant::now();
        while opened.elapsed() < 6 * SHORT {
            task.all();
            driven.turn_alone();
        }
        driven.publish("t", 1, 1);
        driven.until_fanned_out();
        driven.turn_alone();
        let begun = Instant::now();
        while !driven.shard.receivers.is_empty() {
            assert!(begun.elapsed() < WAIT, "it is waited for with {heartbeat:?}");
            driven.turn_alone();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(driven.stalled(), 1);
        task.all();
        assert_eq!(task.end, Some(End::Cut));
    }
}

#[test]
fn a_client_that_never_asks_for_anything_is_late() {
    let mut driven = Driven::new();
    let asks = Asks { write_timeout: 2 * SHORT, ..bare(FOREVER) };
    let task = Task::join(&mut driven, &asks);
    driven.until("it is cut off", |driven| driven.shard.receivers.is_empty());
    assert_eq!(driven.stalled(), 1);
    assert!(task.handoff.poll_cut(&Context::from_waker(Waker::noop())));
    driven.assert_empty();
}

#[test]
fn who_leaves_is_forgotten_at_any_moment() {
    let mut driven = Driven::new();
    // Before the shard has heard of it.
    let handoff = Arc::new(Handoff::default());
    drop(Sent(Arc::clone(&handoff)));
    driven.join_by(&bare(FOREVER), Outlet::Shared(Feed(handoff)));
    driven.turn_alone();
    driven.assert_empty();
    // With something on its way, and with more behind that.
    for length in [10, 200_000] {
        let task = Task::join(&mut driven, &bare(FOREVER));
        driven.publish("t", 1, length);
        driven.until_fanned_out();
        driven.turn_alone();
        drop(task);
        driven.turn_alone();
        driven.assert_empty();
    }
    // While the history is read.
    let hold = driven.hold_readers();
    let task = Task::join(&mut driven, &Asks { start: Start::Earliest, ..bare(FOREVER) });
    driven.turn_alone();
    drop(task);
    driven.turn_alone();
    driven.assert_empty();
    drop(hold);
    driven.settle();
}
