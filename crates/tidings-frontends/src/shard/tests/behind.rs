//! Who is behind, and how it comes to have everything: from what its audience remembers, from the
//! history, or told of a gap.

use super::*;
use crate::limits::{CATCH_UP_FRAME_BYTES, RECENT_BYTES};
use crate::shard::audience::Source;
use crate::shard::receiver::Phase;

const CHUNKED: Framing = Framing::Chunked;

fn asks(topic: &'static str) -> Asks {
    Asks { topic, ..Asks::default() }
}

fn telling(topic: &'static str) -> Asks {
    Asks { tells: Some(Continuity::Live), ..asks(topic) }
}

fn few(entries: u64) -> Keep {
    Keep { entries: Some(entries), ..Keep::default() }
}

fn numbers(script: &Script) -> Vec<usize> {
    script.heard(CHUNKED).numbers
}

/// Publishes these, each in a turn of its own.
fn publish_in_turns(driven: &mut Driven, numbers: std::ops::RangeInclusive<usize>, length: usize) {
    for number in numbers {
        driven.publish("t", number, length);
        driven.until_fanned_out();
        driven.turn();
    }
}

/// Publishes more than an audience holds back, and some more, without a turn of the shard.
fn overflow(driven: &Driven, first: usize) -> usize {
    let overflows = || driven.hub.counters().overflows.load(Ordering::SeqCst);
    let before = overflows();
    let mut last = first;
    while overflows() == before || last < first + 20 {
        driven.publish("t", last, 40_000);
        driven.until_fanned_out();
        last += 1;
        assert!(last < first + 100, "nothing is too much");
    }
    for last in last..last + 5 {
        driven.publish("t", last, 40_000);
    }
    driven.until_fanned_out();
    last + 4
}

/// Turns until somebody reads the history for an audience.
#[track_caller]
fn until_away(driven: &mut Driven) {
    driven.until("an audience is too slow", |driven| {
        driven.shard.audiences.iter().any(|one| matches!(one.1.source, Source::Away))
    });
}

#[track_caller]
fn until_told(driven: &mut Driven, script: &Script, last: usize) {
    driven.until("the last one comes", |_| numbers(script).last() == Some(&last));
    driven.settle();
}

#[test]
fn an_audience_is_served_once_in_a_turn_however_often_it_is_announced() {
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&Asks::default(), &script);
    driven.settle();
    for number in 1..=50 {
        driven.publish("t", number, 10);
        driven.until_fanned_out();
        driven.shard.served = 0;
        driven.shard.line_up(0);
        driven.turn_alone();
        assert!(driven.shard.served <= 1, "{number}: {} times", driven.shard.served);
    }
    driven.until("all", |_| script.heard(Framing::Chunked).numbers.len() == 50);
}

#[test]
fn who_is_blocked_holds_up_nobody_and_is_given_what_its_audience_remembers() {
    // Nobody reads the history.
    let mut driven = Driven::with(Keep::default(), 0);
    let (slow, quick) = (Script::default(), Script::default());
    let number = driven.join(&asks("t"), &slow);
    driven.join(&asks("t"), &quick);
    driven.turn();
    slow.set_full(true);
    publish_in_turns(&mut driven, 1..=10, 100);
    assert_eq!(numbers(&quick), (1..=10).collect::<Vec<_>>());
    assert!(numbers(&slow).is_empty());
    assert_eq!(driven.receiver(number).unwrap().phase, Phase::Lagging);
    slow.set_full(false);
    until_told(&mut driven, &slow, 10);
    assert_eq!(numbers(&slow), (1..=10).collect::<Vec<_>>());
    driven.assert_idle();
    publish_in_turns(&mut driven, 11..=12, 1);
    assert_eq!(numbers(&slow), numbers(&quick));
}

#[test]
fn updates_for_others_do_not_send_a_blocked_client_to_the_history() {
    let mut driven = Driven::with(Keep::default(), 0);
    let slow = Script::default();
    driven.join(&asks("t"), &slow);
    driven.turn();
    slow.set_full(true);
    for number in 1..=10 {
        driven.publish("others", 0, 1);
        publish_in_turns(&mut driven, number..=number, 100);
    }
    slow.set_full(false);
    until_told(&mut driven, &slow, 10);
    assert_eq!(numbers(&slow), (1..=10).collect::<Vec<_>>());
}

#[test]
fn updates_for_others_that_are_let_go_are_no_gap_for_a_client_that_is_blocked() {
    let mut driven = Driven::with(few(4), 1);
    let slow = Script::default();
    driven.join(&telling("t"), &slow);
    driven.turn();
    publish_in_turns(&mut driven, 1..=1, 1);
    for _ in 0..40 {
        driven.publish("others", 0, 1);
    }
    driven.until_fanned_out();
    driven.turn();
    slow.set_full(true);
    publish_in_turns(&mut driven, 2..=4, 1);
    slow.set_full(false);
    until_told(&mut driven, &slow, 4);
    assert_eq!(numbers(&slow), [1, 2, 3, 4]);
    let text = slow.heard(CHUNKED).text;
    assert!(!text.contains("\"continuity\":\"gap\""), "nothing is missing: {text}");
}

#[test]
fn who_is_blocked_for_long_reads_the_history() {
    let mut driven = Driven::new();
    let (slow, quick) = (Script::default(), Script::default());
    let number = driven.join(&asks("t"), &slow);
    driven.join(&asks("t"), &quick);
    driven.turn();
    slow.set_full(true);
    publish_in_turns(&mut driven, 1..=40, 4_000);
    assert_eq!(numbers(&quick).len(), 40);
    let remembered: usize = driven.shard.audiences.iter().map(|one| one.1.remembered()).sum();
    assert!(remembered > 0 && remembered <= RECENT_BYTES, "{remembered}");
    // It takes a little at a time: what waits for it stays small.
    slow.lock().takes = std::iter::repeat_n([Some(3_000), None], 200).flatten().collect();
    slow.set_full(false);
    driven.until("the last one comes", |driven| {
        let receiver = driven.receiver(number).unwrap();
        let waiting = receiver.rest.as_ref().map_or(0, |rest| rest.bytes());
        assert!(waiting <= 2 * CATCH_UP_FRAME_BYTES, "{waiting} bytes wait");
        numbers(&slow).last() == Some(&40)
    });
    driven.settle();
    assert_eq!(numbers(&slow), (1..=40).collect::<Vec<_>>());
    driven.assert_idle();
}

/// A client that was blocked until some of what it lacks is no longer kept, and how many it had.
fn blocked_before_a_gap(asks: &Asks) -> (Driven, Script) {
    let mut driven = Driven::with(few(3), 1);
    let slow = Script::default();
    driven.join(asks, &slow);
    driven.turn();
    publish_in_turns(&mut driven, 1..=2, 4_000);
    slow.set_full(true);
    publish_in_turns(&mut driven, 3..=40, 4_000);
    slow.set_full(false);
    (driven, slow)
}

#[test]
fn who_asks_for_it_is_told_of_what_the_history_no_longer_has() {
    let (mut driven, slow) = blocked_before_a_gap(&telling("t"));
    until_told(&mut driven, &slow, 40);
    let heard = slow.heard(CHUNKED);
    assert_eq!(heard.text.matches("\"continuity\":\"gap\"").count(), 1);
    assert!(heard.numbers.starts_with(&[1, 2, 3]), "{:?}", heard.numbers);
    assert!(heard.numbers.is_sorted_by(|one, next| one < next), "{:?}", heard.numbers);
    let (_, behind) = heard.text.split_once("\"continuity\":\"gap\"").unwrap();
    let missing = 40 - heard.numbers.len();
    assert!(missing > 0 && behind.matches("\ndata: ").count() == heard.numbers.len() - 3);
    driven.assert_idle();
    publish_in_turns(&mut driven, 41..=41, 1);
    assert_eq!(numbers(&slow).last(), Some(&41));
}

/// Where the client with this last id stands: whether what follows has a gap.
fn has_gap_behind(driven: &Driven, id: &str) -> bool {
    match driven.hub.locate(id) {
        tidings_core::Located::Entry(place) => driven.hub.gap_after(place).is_some(),
        tidings_core::Located::Trimmed => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn others_are_ended_before_the_gap_and_learn_of_it_when_they_come_back() {
    let (mut driven, slow) = blocked_before_a_gap(&asks("t"));
    driven.until("it ends", |driven| driven.shard.receivers.is_empty());
    let heard = slow.heard(CHUNKED);
    assert!(heard.ended);
    assert_eq!(heard.numbers, [1, 2, 3]);
    assert!(has_gap_behind(&driven, &heard.id.unwrap()), "the gap is hidden");
    driven.assert_empty();
}

#[test]
fn nobody_misses_or_repeats_when_an_audience_is_too_slow() {
    let mut driven = Driven::new();
    let scripts: Vec<Script> = (0..4).map(|_| Script::default()).collect();
    for script in &scripts {
        driven.join(&asks("t"), script);
    }
    driven.turn();
    scripts[3].set_full(true);
    driven.publish("t", 1, 1);
    let hold = driven.hold_readers();
    let last = overflow(&driven, 2) + 1;
    until_away(&mut driven);
    // Who comes meanwhile stands behind it as well.
    let (late, earliest) = (Script::default(), Script::default());
    driven.join(&asks("t"), &late);
    driven.join(&Asks { start: Start::Earliest, ..asks("t") }, &earliest);
    driven.publish("t", last, 1);
    driven.turn();
    drop(hold);
    scripts[3].set_full(false);
    for script in scripts.iter().chain([&earliest]) {
        driven.until("the last one comes", |_| numbers(script).last() == Some(&last));
    }
    driven.settle();
    for script in scripts.iter().chain([&earliest]) {
        assert_eq!(numbers(script), (1..=last).collect::<Vec<_>>());
    }
    assert_eq!(numbers(&late), [last]);
    driven.assert_idle();
}

/// An audience that was too slow until some of what it lacks is no longer kept: it had one update.
fn slow_before_a_gap(asks: &Asks) -> (Driven, Script, usize) {
    let mut driven = Driven::with(few(3), 1);
    let script = Script::default();
    driven.join(asks, &script);
    driven.turn();
    publish_in_turns(&mut driven, 1..=1, 1);
    let last = overflow(&driven, 2);
    (driven, script, last)
}

#[test]
fn an_audience_that_asks_for_it_is_told_of_a_gap() {
    let (mut driven, script, last) = slow_before_a_gap(&telling("t"));
    until_told(&mut driven, &script, last);
    let heard = script.heard(CHUNKED);
    assert_eq!(heard.text.matches("\"continuity\":\"gap\"").count(), 1);
    assert!(heard.numbers.is_sorted_by(|one, next| one < next), "{:?}", heard.numbers);
    assert!(heard.numbers.len() < last, "nothing was let go: the test shows nothing");
    publish_in_turns(&mut driven, last + 1..=last + 1, 1);
    assert_eq!(numbers(&script).last(), Some(&(last + 1)));
    driven.assert_idle();
}

#[test]
fn an_audience_that_does_not_is_ended_before_the_gap() {
    let (mut driven, script, last) = slow_before_a_gap(&asks("t"));
    driven.until("it ends", |driven| driven.shard.receivers.is_empty());
    let heard = script.heard(CHUNKED);
    assert!(heard.ended && heard.numbers.len() < last, "{:?}", heard.numbers);
    assert!(has_gap_behind(&driven, &heard.id.unwrap()), "the gap is hidden");
    driven.assert_empty();
}

#[test]
fn who_joined_behind_the_gap_of_its_audience_neither_hears_of_it_nor_what_was_before() {
    for asks in [telling("t"), asks("t")] {
        let mut driven = Driven::with(few(3), 1);
        let (early, late) = (Script::default(), Script::default());
        driven.join(&telling("t"), &early);
        let mut at_end = asks.clone();
        driven.turn();
        let hold = driven.hold_readers();
        let last = overflow(&driven, 1);
        until_away(&mut driven);
        at_end.start = Start::Now;
        driven.join(&at_end, &late);
        drop(hold);
        driven.until("the gap is told", |_| early.heard(CHUNKED).text.contains("\"gap\""));
        driven.settle();
        publish_in_turns(&mut driven, last + 1..=last + 1, 1);
        driven.settle();
        let heard = late.heard(CHUNKED);
        assert_eq!(heard.numbers, [last + 1], "asks to be told: {}", asks.tells.is_some());
        assert!(!heard.text.contains("\"gap\"") && !heard.ended);
        assert_eq!(numbers(&early).last(), Some(&(last + 1)));
    }
}

#[test]
fn the_turn_of_who_has_left_reaches_nobody() {
    let mut driven = Driven::new();
    publish_in_turns(&mut driven, 1..=5, 10);
    let hold = driven.hold_readers();
    let (gone, next) = (Script::default(), Script::default());
    let earliest = Asks { start: Start::Earliest, ..asks("t") };
    let number = driven.join(&earliest, &gone);
    assert_eq!(driven.receiver(number).unwrap().phase, Phase::Reading);
    gone.lock().is_gone = true;
    driven.turn();
    driven.assert_empty();
    // The same number for somebody who reads as well, and who must not get the turn of the other.
    assert_eq!(driven.join(&earliest, &next), number);
    drop(hold);
    until_told(&mut driven, &next, 5);
    assert_eq!(numbers(&next), [1, 2, 3, 4, 5]);
    let live = Script::default();
    let hold = driven.hold_readers();
    let other = driven.join(&earliest, &gone);
    assert!(driven.receiver(other).is_none(), "who is gone is not waited for");
    let reading = Script::default();
    let other = driven.join(&earliest, &reading);
    reading.lock().is_gone = true;
    driven.turn();
    assert_eq!(driven.join(&asks("t"), &live), other);
    drop(hold);
    driven.settle();
    driven.settle();
    assert!(numbers(&live).is_empty());
    publish_in_turns(&mut driven, 6..=6, 1);
    assert_eq!(numbers(&live), [6]);
    driven.assert_idle();
}

#[test]
fn the_turn_of_an_audience_that_is_gone_reaches_nobody() {
    let mut driven = Driven::new();
    let (gone, next) = (Script::default(), Script::default());
    driven.join(&asks("t"), &gone);
    driven.turn();
    let hold = driven.hold_readers();
    let last = overflow(&driven, 1);
    until_away(&mut driven);
    gone.lock().is_gone = true;
    driven.turn();
    driven.assert_empty();
    driven.join(&asks("t"), &next);
    drop(hold);
    driven.settle();
    assert!(numbers(&next).is_empty());
    publish_in_turns(&mut driven, last + 1..=last + 1, 1);
    assert_eq!(numbers(&next), [last + 1]);
    driven.assert_idle();
}

/// Announces so many updates of this scope, as the hub's own thread would.
fn announce(driven: &Driven, scope: Scope, count: usize) {
    let topic = Topic::parse("/.well-known/mercure/x").unwrap();
    for _ in 0..count / 256 {
        driven.hub.announce(scope, vec![Update::new(topic.clone(), data(1, 0)); 256]).unwrap();
    }
    driven.until_fanned_out();
}

#[test]
fn a_watcher_for_whom_announcements_are_forgotten_is_ended_behind_them() {
    let scope = Scope("test");
    let watcher = Asks { token: Some("watcher"), scope: Some(scope), ..asks("*") };
    let count = 4 * tidings_core::limits::EPHEMERALS_KEPT_MAX;
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&watcher, &script);
    driven.turn();
    announce(&driven, scope, count);
    driven.until("it ends", |driven| driven.shard.receivers.is_empty());
    let heard = script.heard(CHUNKED);
    assert!(heard.ended && heard.numbers.len() < count);
    let cursor = heard.id.unwrap();
    let tidings_core::Located::Entry(place) = driven.hub.locate(&cursor) else { panic!() };
    let selection = driven.selection(&watcher);
    assert!(
        driven.hub.forgotten_behind(place, &selection).until.is_none(),
        "it comes back in vain"
    );

    let script = Script::default();
    driven.join(&Asks { tells: Some(Continuity::Live), ..watcher }, &script);
    driven.turn();
    announce(&driven, scope, count);
    driven.publish("t", 7, 1);
    until_told(&mut driven, &script, 7);
    let heard = script.heard(CHUNKED);
    assert_eq!(heard.text.matches("\"continuity\":\"gap\"").count(), 1);
    assert!(heard.numbers.len() < count);
    driven.assert_idle();
}
