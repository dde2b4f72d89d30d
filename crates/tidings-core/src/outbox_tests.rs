//! Who waits for the disk is told, in order, whatever the runtime's threads are doing.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::hub_tests::{FakeClock, options, update};
use crate::*;

const LONG: Duration = Duration::from_secs(30);

fn on_disk(folder: &Path) -> Hub {
    let history = HistoryOptions {
        hold_bytes: 0,
        path: Some(folder.to_owned()),
        durability: Durability::Fsync,
        keep: Keep::default(),
        segment_bytes: 1024 * 1024,
    };
    Hub::open(options(history), Arc::new(FakeClock::default())).unwrap()
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

/// By a thread of its own.
fn publish_elsewhere(hub: &Hub, number: usize) {
    let here = Builder::new_current_thread().build().unwrap();
    let grant = Grant::operator();
    here.block_on(hub.publish(&grant, update("a", &number.to_string()))).unwrap();
}

fn everything(hub: &Hub) -> Subscription {
    let grant = Arc::new(Grant::operator());
    hub.subscribe(
        Selection { matchers: vec![Arc::new(Matcher::Any)], grant, scope: None },
        Start::Now,
    )
}

/// Takes what is live until there are so many.
fn take_live(subscription: &mut Subscription, many: usize) -> Vec<Offset> {
    let begun = Instant::now();
    let mut offsets = Vec::new();
    while offsets.len() < many {
        let mut batch = Batch::new();
        assert_ne!(subscription.take_live(&mut batch), Live::Behind, "nobody is behind");
        offsets.extend(batch.iter().map(|entry| entry.offset));
        assert!(begun.elapsed() < LONG, "{} of {many}", offsets.len());
        std::thread::yield_now();
    }
    offsets
}

#[test]
fn publishers_on_many_threads_are_answered_and_receivers_get_all_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime(4);
    let hub = on_disk(folder.path());
    runtime.spawn(hub.telling());
    let mut live = everything(&hub);
    let publishers: Vec<_> = (0..16)
        .map(|publisher| {
            let hub = hub.clone();
            runtime.spawn(async move {
                let mut last = Offset::default();
                for number in 0..50 {
                    let update = update("a", &format!("{publisher} {number}"));
                    let receipt = hub.publish(&Grant::operator(), update).await.unwrap();
                    assert!(receipt.offset > last);
                    assert!(hub.last() >= receipt.offset, "it was committed before");
                    last = receipt.offset;
                }
            })
        })
        .collect();
    let offsets = take_live(&mut live, 16 * 50);
    assert!(offsets.is_sorted_by(|one, next| one < next));
    for publisher in publishers {
        runtime.block_on(publisher).unwrap();
    }
}

#[test]
fn with_a_runtime_whose_threads_are_busy_everybody_is_told_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime(1);
    let hub = on_disk(folder.path());
    runtime.spawn(hub.telling());
    let mut live = everything(&hub);
    let (let_go, wait) = channel::<()>();
    let (is_busy, busy) = channel();
    let blocking = runtime.spawn(async move {
        is_busy.send(()).unwrap();
        wait.recv().unwrap();
    });
    busy.recv().unwrap();
    // Once with a task that was called and waits behind it, and once more beside that.
    for number in 0..2 {
        publish_elsewhere(&hub, number);
    }
    take_live(&mut live, 2);
    let_go.send(()).unwrap();
    runtime.block_on(blocking).unwrap();
}

#[test]
fn a_hub_outlives_the_runtime_whose_task_tells() {
    let folder = tempfile::tempdir().unwrap();
    let begun = runtime(1);
    let hub = on_disk(folder.path());
    begun.spawn(hub.telling());
    let mut live = everything(&hub);
    drop(begun);
    for number in 0..3 {
        publish_elsewhere(&hub, number);
    }
    take_live(&mut live, 3);
    hub.shut_down();
}

#[test]
fn what_is_committed_when_the_hub_ends_is_told_and_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime(2);
    let hub = on_disk(folder.path());
    runtime.spawn(hub.telling());
    let mut live = everything(&hub);
    let begin = hub.last().durable;
    let publishers: Vec<_> = (0..8)
        .map(|number| {
            let hub = hub.clone();
            let update = update("a", &number.to_string());
            runtime.spawn(async move { hub.publish(&Grant::operator(), update).await })
        })
        .collect();
    let before = take_live(&mut live, 1).len();
    hub.shut_down();
    let answers: Vec<_> =
        publishers.into_iter().map(|one| runtime.block_on(one).unwrap()).collect();
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = |answer: &&Result<_, _>| matches!(answer, Err(Refused::ShuttingDown));
    assert_eq!(accepted + answers.iter().filter(refused).count(), 8);
    take_live(&mut live, accepted - before);
    assert_eq!(hub.last().durable - begin, accepted as u64);
}
