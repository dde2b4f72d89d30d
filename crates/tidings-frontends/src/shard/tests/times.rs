//! What a stream says when nothing comes, when it ends, and whom it does not wait for. Times are
//! real and short; nothing is said to be fast.

use super::*;
use crate::limits::LIGHT_TURN_MAX;
use crate::limits::WRITE_PROGRESS_BYTES_MIN;
use crate::shard::receiver::Phase;

const CHUNKED: Framing = Framing::Chunked;
const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(600);

fn limited(limits: Limits) -> Asks {
    Asks { limits, ..Asks::default() }
}

fn text(script: &Script) -> String {
    script.heard(CHUNKED).text
}

#[track_caller]
fn until_empty(driven: &mut Driven) {
    driven.until("all end", |driven| driven.shard.receivers.is_empty());
    driven.assert_empty();
}

#[test]
fn m15_silence_is_broken_by_comments_and_only_silence() {
    let mut driven = Driven::new();
    let script = Script::default();
    let begun = Instant::now();
    driven.join(&limited(Limits { heartbeat: Some(SHORT), ..FOREVER }), &script);
    driven.until("three comments", |_| text(&script) == ":\n:\n:\n:\n");
    assert!(begun.elapsed() >= 3 * SHORT, "{:?}", begun.elapsed());
    let silent = Script::default();
    driven.join(&Asks::default(), &silent);
    driven.join(&limited(Limits { heartbeat: Some(LONG), ..FOREVER }), &Script::default());
    driven.settle();
    assert_eq!(text(&silent), ":\n");
    driven.assert_idle();
}

#[test]
fn a_client_that_is_blocked_is_sent_no_comments() {
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&limited(Limits { heartbeat: Some(SHORT), ..FOREVER }), &script);
    script.set_full(true);
    driven.publish("t", 1, 10);
    driven.until("it is blocked", |driven| driven.receiver(0).unwrap().rest.is_some());
    let before = driven.receiver(0).unwrap().rest.as_ref().unwrap().bytes();
    std::thread::sleep(4 * SHORT);
    driven.settle();
    assert_eq!(driven.receiver(0).unwrap().rest.as_ref().unwrap().bytes(), before);
    script.set_full(false);
    let comments = |script: &Script| text(script).matches(":\n").count();
    let known = comments(&script);
    driven.until("silence is broken again", |_| comments(&script) >= known + 3);
}

#[test]
fn who_asks_for_it_hears_how_far_it_has_come_in_every_silence() {
    let mut driven = Driven::new();
    driven.publish("t", 1, 1);
    let script = Script::default();
    let tells = Some(Continuity::Resumed("earliest".to_owned()));
    let limits = Limits { heartbeat: Some(SHORT), ..FOREVER };
    let asks = Asks { topic: "other", start: Start::Earliest, tells, limits, ..Asks::default() };
    driven.join(&asks, &script);
    let (begin, epoch) = (driven.hub.cursor(driven.hub.before_first()), driven.hub.epoch());
    let data =
        format!("{{\"continuity\":\"resumed\",\"after\":\"earliest\",\"epoch\":\"{epoch}\"}}");
    let opening = format!(":\nevent: tidings\nid: {begin}\ndata: {data}\n\n");
    assert_eq!(text(&script), opening);
    driven.publish("t", 2, 1);
    let passed = driven.hub.cursor(driven.hub.last());
    driven.until("the place is told", |_| text(&script).ends_with(&format!(":\nid: {passed}\n\n")));
    assert!(script.heard(CHUNKED).numbers.is_empty());
}

#[test]
fn a_heartbeat_never_says_that_a_client_has_what_waits_for_it() {
    let mut driven = Driven::new();
    let script = Script::default();
    let tells = Some(Continuity::Live);
    let limits = Limits { heartbeat: Some(Duration::from_millis(5)), ..FOREVER };
    driven.join(&Asks { tells, limits, ..Asks::default() }, &script);
    let before = driven.hub.end().durable;
    for number in 1..=200 {
        driven.publish("t", number, 10);
        driven.turn();
        // Whatever was said last: all up to there has been given.
        let heard = script.heard(CHUNKED);
        let tidings_core::Located::Entry(place) = driven.hub.locate(&heard.id.unwrap()) else {
            panic!("no place")
        };
        let passed = (1..=number).filter(|number| !heard.numbers.contains(number)).min();
        let passed = passed.map(|first| before + u64::try_from(first).unwrap());
        assert!(passed.is_none_or(|first| place.durable < first), "{place:?} {passed:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_helps_serves_few_and_leaves_to_the_thread_what_it_has_to_wait_for() {
    let mut driven = Driven::new();
    let script = Script::default();
    let quiet = limited(Limits { heartbeat: None, ..FOREVER });
    driven.join(&quiet, &script);
    driven.turn();
    let help = |driven: &mut Driven, number: usize| {
        let _wait = driven.shard.plan(&driven.waker);
        driven.publish("t", number, 10);
        driven.until_fanned_out();
        driven.shard.help(&driven.waker)
    };
    assert!(help(&mut driven, 1));
    assert_eq!(script.heard(CHUNKED).numbers, [1]);
    script.set_full(true);
    assert!(!help(&mut driven, 2), "somebody has to look whether the client takes anything");
    script.set_full(false);
    driven.until("the rest", |_| script.heard(CHUNKED).numbers == [1, 2]);
    let more: Vec<Script> = std::iter::repeat_with(Script::default).take(LIGHT_TURN_MAX).collect();
    for script in &more {
        driven.join(&quiet, script);
    }
    driven.settle();
    assert!(!help(&mut driven, 3), "these are many");
    assert_eq!(script.heard(CHUNKED).numbers, [1, 2]);
    driven.turn();
    assert!(more.iter().all(|script| script.heard(CHUNKED).numbers == [3]));
}

#[test]
fn m57_a_stream_ends_when_the_wall_clock_passes_the_end_of_its_token() {
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&limited(Limits { expires: Some(50), ..FOREVER }), &script);
    driven.publish("t", 1, 1);
    driven.until("the update", |_| script.heard(CHUNKED).numbers == [1]);
    driven.wall.0.store(50, Ordering::SeqCst);
    until_empty(&mut driven);
    let heard = script.heard(CHUNKED);
    assert!(heard.ended && script.lock().is_closed);
    assert_eq!(heard.numbers, [1]);
}

#[test]
fn m57_who_is_blocked_at_the_end_of_its_token_gets_nothing_more() {
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&limited(Limits { expires: Some(50), ..FOREVER }), &script);
    driven.turn();
    let known = script.lock().taken.len();
    script.set_full(true);
    driven.publish("t", 1, 1);
    driven.until("it is blocked", |driven| driven.receiver(0).unwrap().rest.is_some());
    driven.wall.0.store(50, Ordering::SeqCst);
    until_empty(&mut driven);
    script.set_full(false);
    assert_eq!(script.lock().taken.len(), known);
    assert_eq!(driven.stalled(), 0);
}

/// A hub that takes back the tokens of one subject.
fn revoke(driven: &Driven, subject: &'static str) {
    driven.hub.judge_by(Arc::new(move |grant| grant.token.subject.as_deref() != Some(subject)));
}

#[test]
fn a_revoked_token_ends_its_streams_alone_whether_live_or_blocked_or_read_for() {
    let mut driven = Driven::new();
    driven.publish("t", 1, 10);
    let scripts: Vec<Script> = (0..4).map(|_| Script::default()).collect();
    let of = |subject| Asks { token: Some(subject), ..Asks::default() };
    driven.join(&of("bad"), &scripts[0]);
    driven.join(&of("bad"), &scripts[1]);
    driven.join(&of("good"), &scripts[2]);
    driven.turn();
    scripts[1].set_full(true);
    driven.publish_private("t", 2, 10);
    driven.until("one hears", |_| scripts[2].heard(CHUNKED).numbers == [2]);
    let hold = driven.hold_readers();
    let read_for = driven.join(&Asks { start: Start::Earliest, ..of("bad") }, &scripts[3]);
    assert_eq!(driven.receiver(read_for).unwrap().phase, Phase::Reading);
    revoke(&driven, "bad");
    driven.until("three end", |driven| driven.shard.receivers.len() == 1);
    drop(hold);
    scripts[1].set_full(false);
    driven.publish_private("t", 3, 10);
    driven.until("the good one hears", |_| scripts[2].heard(CHUNKED).numbers == [2, 3]);
    driven.settle();
    let ended = |at: usize| scripts[at].heard(CHUNKED);
    assert!(ended(0).ended && ended(0).numbers == [2]);
    assert!(!ended(1).ended && ended(1).numbers.is_empty());
    assert!(ended(3).ended && ended(3).numbers.is_empty());
    assert!(!ended(2).ended);
    // Whoever comes with it is shown out.
    let late = Script::default();
    driven.join(&of("bad"), &late);
    driven.settle();
    assert!(late.heard(CHUNKED).ended);
    assert_eq!((driven.shard.receivers.len(), driven.subscribers()), (1, 1));
    driven.assert_idle();
}

#[test]
fn m57_a_stream_ends_at_its_longest_age_and_says_where_it_stands() {
    let mut driven = Driven::new();
    let limits = Limits { lifetime: Some(5 * SHORT), ..FOREVER };
    let (heard, passed_by) = (Script::default(), Script::default());
    driven.join(&limited(limits), &heard);
    driven.join(&Asks { topic: "other", ..limited(limits) }, &passed_by);
    driven.publish("t", 1, 1);
    let place = driven.hub.cursor(driven.hub.last());
    until_empty(&mut driven);
    assert_eq!(heard.heard(CHUNKED).numbers, [1]);
    assert!(heard.heard(CHUNKED).ended && heard.lock().is_closed);
    assert_eq!(text(&heard).matches("id: ").count(), 1, "who has the last id is told no other");
    assert_eq!(text(&passed_by), format!(":\nid: {place}\n\n"));
    assert!(passed_by.heard(CHUNKED).ended);
    assert_eq!(driven.stalled(), 0);
}

#[test]
fn what_waits_leaves_before_a_stream_ends_at_its_longest_age() {
    let mut driven = Driven::new();
    let script = Script::default();
    let limits = Limits { lifetime: Some(SHORT), ..FOREVER };
    driven.join(&limited(limits), &script);
    script.set_full(true);
    driven.publish("t", 1, 1_000);
    driven.until("it is to end", |driven| {
        driven.receiver(0).is_some_and(|receiver| receiver.phase == Phase::Ending)
    });
    driven.publish("t", 2, 1);
    driven.settle();
    script.set_full(false);
    until_empty(&mut driven);
    let heard = script.heard(CHUNKED);
    assert_eq!((heard.numbers, heard.ended), (vec![1], true));
}

#[test]
fn who_is_ended_and_takes_nothing_is_not_looked_at_all_the_time() {
    let mut driven = Driven::new();
    let script = Script::default();
    let limits = Limits { lifetime: Some(SHORT), ..FOREVER };
    driven.join(&limited(limits), &script);
    script.set_full(true);
    driven.publish("t", 1, 1);
    driven.until("it is to end", |driven| {
        driven.receiver(0).is_some_and(|receiver| receiver.phase == Phase::Ending)
    });
    driven.settle();
    let next = driven.shard.wheel.next().unwrap();
    driven.shard.look_at_clock();
    let away = next.saturating_sub(driven.shard.now);
    assert!(away > Duration::from_secs(5), "{away:?}: before its client is late");
}

#[test]
fn a_shutdown_ends_streams_one_after_the_other_and_tells_them_how_long_to_wait() {
    let mut driven = Driven::new();
    driven.publish("t", 1, 1);
    let scripts: Vec<Script> = (0..8).map(|_| Script::default()).collect();
    for script in &scripts {
        driven.join(&Asks { topic: "other", ..Asks::default() }, script);
    }
    driven.publish("t", 2, 1);
    let place = driven.hub.cursor(driven.hub.last());
    driven.turn();
    driven.shutdown.stop_accepting();
    driven.settle();
    assert_eq!(driven.shard.receivers.len(), 8);
    let begun = Instant::now();
    driven.shutdown.close_streams();
    driven.until("some end", |driven| driven.shard.receivers.len() < 8);
    assert!(!driven.shard.receivers.is_empty(), "all at once");
    until_empty(&mut driven);
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    for script in &scripts {
        let heard = script.heard(CHUNKED);
        let (_, pause) = heard.text.split_once("retry: ").unwrap();
        let pause: u64 = pause.trim_end().parse().unwrap();
        assert!((1..=200).contains(&pause), "{pause}");
        assert_eq!(heard.text, format!(":\nid: {place}\nretry: {pause}\n\n"), "one block");
        assert!(heard.ended && script.lock().is_closed);
    }
    // Who comes too late is told at once.
    let late = Script::default();
    driven.join(&Asks::default(), &late);
    until_empty(&mut driven);
    assert!(text(&late).contains("retry: ") && late.heard(CHUNKED).ended);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_counted() {
    let mut driven = Driven::new();
    let scripts: Vec<Script> = (0..2).map(|_| Script::default()).collect();
    let asks = Asks { write_timeout: 4 * SHORT, ..Asks::default() };
    for script in &scripts {
        driven.join(&asks, script);
    }
    driven.turn();
    scripts[0].set_full(true);
    let begun = Instant::now();
    driven.publish("t", 1, 1);
    driven.until("one is cut off", |driven| driven.shard.receivers.len() == 1);
    assert!(begun.elapsed() >= 4 * SHORT, "{:?}", begun.elapsed());
    assert_eq!(driven.stalled(), 1);
    driven.publish("t", 2, 1);
    driven.until("the other goes on", |_| scripts[1].heard(CHUNKED).numbers == [1, 2]);
    assert!(!scripts[0].lock().is_closed, "it hears nothing of it");
    driven.assert_idle();
}

#[test]
fn a_client_that_takes_a_byte_now_and_then_is_cut_off() {
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&Asks { write_timeout: 4 * SHORT, ..Asks::default() }, &script);
    driven.turn();
    script.lock().room = Some(1);
    driven.publish("t", 1, 100_000);
    driven.until("it is cut off", |driven| {
        script.lock().room = Some(1);
        driven.shard.receivers.is_empty()
    });
    assert_eq!(driven.stalled(), 1);
    driven.assert_empty();
}

#[test]
fn a_client_that_is_slow_and_goes_on_is_waited_for() {
    let mut driven = Driven::new();
    let script = Script::default();
    // Long enough for a test that has to wait for the processor itself.
    let limit = Duration::from_secs(1);
    driven.join(&Asks { write_timeout: limit, ..Asks::default() }, &script);
    driven.turn();
    script.lock().room = Some(0);
    driven.publish("t", 1, 500_000);
    driven.until("it is blocked", |driven| driven.receiver(0).unwrap().rest.is_some());
    let begun = Instant::now();
    while begun.elapsed() < limit * 5 / 2 {
        // Four times what it has to take.
        script.lock().room = Some(WRITE_PROGRESS_BYTES_MIN / 5);
        driven.turn();
        assert_eq!(driven.shard.receivers.len(), 1, "cut off after {:?}", begun.elapsed());
        std::thread::sleep(limit / 20);
    }
    assert_eq!(driven.stalled(), 0);
    script.lock().room = None;
    driven.until("all comes", |_| script.heard(CHUNKED).numbers == [1]);
    driven.assert_idle();
}
