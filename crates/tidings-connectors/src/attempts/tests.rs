//! What is recorded and listed again, over a history in memory.

use tidings_core::{Entry, Line};

use super::*;
use crate::connector::{Answer, Failure, Fault};
use crate::in_memory::Still;
use crate::limits::ANSWER_BYTES_MAX;
use crate::webhook::{all_published, update};

fn open() -> (Attempts, Recorder) {
    let options = AttemptsOptions { path: None, keep: Keep::default() };
    Attempts::open(options, Arc::new(Still(1_709_210_096_007))).unwrap()
}

async fn run(tries: u32) -> Run {
    let entries: Vec<Arc<Entry>> = all_published(vec![update("a", "1")]).await;
    Run { entries, tries }
}

fn succeeded(body: Bytes) -> Outcome {
    Outcome { delivered: 1, failure: None, answer: Answer { status: Some(200), body } }
}

fn failed() -> Outcome {
    let reason = "because".to_owned();
    let failure = Some(Failure { fault: Fault::Busy, reason, retry_after: None });
    Outcome { delivered: 0, failure, answer: Answer::default() }
}

/// Everything of a sink, the oldest first.
fn all(attempts: &Attempts, sink: &str) -> Vec<Attempt> {
    let mut all = Vec::new();
    attempts.visit(sink, 0, attempts.end(), &mut |attempt| {
        all.push(attempt);
        true
    });
    all
}

#[tokio::test]
async fn all_that_waits_is_recorded_before_recording_ends() {
    let (attempts, recorder) = open();
    let run = run(0).await;
    for number in 0..1_000 {
        let took = Duration::from_micros(number);
        attempts.record("one", &run, &succeeded(Bytes::new()), took);
    }
    attempts.end_recording();
    recorder.run().await;
    let took: Vec<_> = all(&attempts, "one").iter().map(|one| one.took.as_micros()).collect();
    assert_eq!(took, (0..1_000).collect::<Vec<_>>());
    attempts.record("one", &run, &failed(), Duration::ZERO);
    assert_eq!((attempts.dropped(), all(&attempts, "one").len()), (1, 1_000));
}

#[tokio::test]
async fn what_comes_within_a_moment_is_recorded_together() {
    let (attempts, recorder) = open();
    let run = run(0).await;
    let mut recording = tokio::task::JoinSet::new();
    recording.spawn(recorder.run());
    attempts.record("one", &run, &failed(), Duration::ZERO);
    while attempts.queue.capacity() < ATTEMPTS_QUEUE_MAX {
        tokio::task::yield_now().await;
    }
    // There is one thread: the recorder cannot go on before these are there as well.
    for _ in 0..3 {
        attempts.record("one", &run, &failed(), Duration::ZERO);
    }
    attempts.end_recording();
    recording.join_next().await.unwrap().unwrap();
    assert_eq!(all(&attempts, "one").len(), 4);
    assert_eq!(attempts.hub.counters().batches.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn answers_are_left_out_where_too_many_of_them_wait() {
    let (attempts, recorder) = open();
    let (run, body) = (run(0).await, Bytes::from(vec![b'x'; ANSWER_BYTES_MAX]));
    let count = ATTEMPTS_QUEUE_BYTES_MAX / ANSWER_BYTES_MAX + 10;
    for _ in 0..count {
        attempts.record("one", &run, &succeeded(body.clone()), Duration::ZERO);
    }
    attempts.end_recording();
    recorder.run().await;
    let all = all(&attempts, "one");
    let whole = all.iter().filter(|one| one.answer == body).count();
    let without = all.iter().filter(|one| one.answer.is_empty()).count();
    assert_eq!((all.len(), whole + without), (count, count));
    assert!((11..15).contains(&without), "{without}");
    assert_eq!((attempts.dropped(), attempts.waiting.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn a_page_holds_the_newest_and_says_where_the_next_one_begins() {
    let (attempts, recorder) = open();
    for tries in 0..250 {
        let outcome = if tries % 5 == 0 { failed() } else { succeeded(Bytes::new()) };
        attempts.record("one", &run(tries).await, &outcome, Duration::ZERO);
        attempts.record("two", &run(tries).await, &outcome, Duration::ZERO);
    }
    attempts.end_recording();
    recorder.run().await;
    let (mut tries, mut lengths, mut before) = (Vec::new(), Vec::new(), None);
    loop {
        let page = attempts.list("one", before, false);
        lengths.push(page.attempts.len());
        tries.extend(page.attempts.iter().map(|one| one.tries));
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(lengths, [100, 100, 50]);
    assert_eq!(tries, (1..=250).rev().collect::<Vec<_>>());
    let failed = attempts.list("two", None, true);
    assert_eq!((failed.attempts.len(), failed.before), (50, None));
    assert!(failed.attempts.iter().all(|one| one.failure.is_some() && one.tries % 5 == 1));
}

#[tokio::test]
async fn what_is_written_in_another_form_is_passed_over() {
    let (attempts, recorder) = open();
    let said = |name: &str, value: &str| (Line::parse(name).unwrap(), value.to_owned());
    let mut old = update("one", "an answer");
    old.attributes = vec![said("first", "1"), said("tries", "1")];
    attempts.hub.publish(&Grant::operator(), old).await.unwrap();
    attempts.record("one", &run(6).await, &failed(), Duration::ZERO);
    attempts.hub.publish(&Grant::operator(), update("one", "")).await.unwrap();
    attempts.end_recording();
    recorder.run().await;
    let page = attempts.list("one", None, false);
    assert_eq!(page.attempts.iter().map(|one| one.tries).collect::<Vec<_>>(), [7]);
}
