//! What the hub itself announces: who hears it, who is told that it was forgotten, and what it
//! leaves on the disk.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::hub_tests::{FakeClock, in_memory, memory_hub, options, publish, read_until, update};
use crate::limits::{ANNOUNCED_AT_ONCE_MAX, EPHEMERALS_KEPT_MAX, SUB_MAX};
use crate::store::Store;
use crate::*;

const ONE: Scope = Scope("one");
const OTHER: Scope = Scope("other");
const OWN: &str = "/.well-known/mercure/list/x";

fn selection(hub: &Hub, wanted: (Language, &str), granted: &str, scope: Scope) -> Selection {
    let matchers = vec![hub.matcher(wanted.0, wanted.1).unwrap()];
    let subscribe = vec![hub.matcher(Language::Exact, granted).unwrap()];
    let grant = Arc::new(Grant { subscribe, ..Grant::default() });
    Selection { matchers, grant, scope: Some(scope) }
}

fn watcher(hub: &Hub, scope: Scope) -> Selection {
    selection(hub, (Language::Exact, "*"), "*", scope)
}

/// Announces on a thread that may wait.
async fn announce(hub: &Hub, scope: Scope, data: &[&str]) -> Result<(), Refused> {
    let updates = data.iter().map(|data| update(OWN, data)).collect();
    let hub = hub.clone();
    tokio::task::spawn_blocking(move || hub.announce(scope, updates)).await.unwrap()
}

async fn check(hub: &Hub, selection: Selection, begin: Offset, expected: &[&str]) {
    let mut behind = hub.subscribe(selection, Start::After(begin));
    let found = read_until(&mut behind, "end").await;
    let expected: Vec<&str> = expected.iter().copied().chain(["end"]).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn announcements_reach_their_scope_and_whose_grant_covers_them_live_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    for path in [None, Some(folder.path().to_owned())] {
        let durability = if path.is_some() { Durability::Fsync } else { Durability::Memory };
        let history = HistoryOptions { path, durability, segment_bytes: 1 << 20, ..in_memory() };
        let hub = Hub::open(options(history), Arc::new(FakeClock::default())).unwrap();
        let begin = hub.end();
        let patterns = [
            (Language::Exact, OWN),
            (Language::UrlPattern, "/.well-known/mercure/list/:x"),
            (Language::UriTemplate, "/.well-known/mercure/list/{x}"),
            (Language::Mqtt, "#"),
            (Language::Nats, ">"),
        ];
        let mut live: Vec<_> = patterns
            .iter()
            .map(|wanted| hub.subscribe(selection(&hub, *wanted, "*", ONE), Start::Now))
            .collect();
        let mut elsewhere = hub.subscribe(watcher(&hub, OTHER), Start::Now);
        let without = selection(&hub, (Language::Exact, "*"), "https://example.com/other", ONE);
        let mut ungranted = hub.subscribe(without.clone(), Start::Now);
        let nowhere = Selection { scope: None, ..watcher(&hub, ONE) };
        let mut nobody = hub.subscribe(nowhere.clone(), Start::Now);
        announce(&hub, ONE, &["a", "b"]).await.unwrap();
        announce(&hub, OTHER, &["c"]).await.unwrap();
        publish(&hub, update("t", "end")).await;
        assert_eq!(hub.last(), Offset::durable(begin.durable + 1), "only that is stored");
        for (live, (language, _)) in live.iter_mut().zip(patterns) {
            let mut batch = Batch::new();
            while live.take(&mut batch).unwrap().offset < hub.end() {
                tokio::task::yield_now().await;
            }
            let foreign = matches!(language, Language::Mqtt | Language::Nats);
            let announced = batch.iter().filter(|entry| entry.update.ephemeral).count();
            assert_eq!(announced, if foreign { 0 } else { 2 }, "{language:?}");
        }
        assert_eq!(read_until(&mut elsewhere, "end").await, ["c", "end"]);
        assert_eq!(read_until(&mut ungranted, "end").await, ["end"]);
        assert_eq!(read_until(&mut nobody, "end").await, ["end"]);
        check(&hub, watcher(&hub, ONE), begin, &["a", "b"]).await;
        check(&hub, watcher(&hub, OTHER), begin, &["c"]).await;
        check(&hub, without, begin, &[]).await;
        check(&hub, nowhere, begin, &[]).await;
    }
}

#[tokio::test]
async fn who_is_behind_by_more_than_is_remembered_is_told_once_and_others_are_not() {
    let hub = memory_hub();
    let mut slow = hub.subscribe(watcher(&hub, ONE), Start::Now);
    let mut stranger = hub.subscribe(
        selection(&hub, (Language::Exact, "a"), "https://example.com/other", ONE),
        Start::Now,
    );
    let begin = hub.end();
    let rounds = 3 * EPHEMERALS_KEPT_MAX / ANNOUNCED_AT_ONCE_MAX;
    for _ in 0..rounds {
        announce(&hub, ONE, &["x"; ANNOUNCED_AT_ONCE_MAX]).await.unwrap();
    }
    announce(&hub, ONE, &["last"]).await.unwrap();
    publish(&hub, update("a", "end")).await;
    let (mut told, mut batch) = (0, Batch::new());
    while batch.last().is_none_or(|entry| entry.update.data != "end") {
        told += usize::from(slow.next(&mut batch).await.unwrap().ephemerals_lost);
    }
    assert_eq!(told, 1, "lost {}", rounds * ANNOUNCED_AT_ONCE_MAX + 2 - batch.len());
    let mut batch = Batch::new();
    while batch.is_empty() {
        assert!(!stranger.next(&mut batch).await.unwrap().ephemerals_lost);
    }
    let known = hub.forgotten_behind(begin, &watcher(&hub, ONE)).until.unwrap();
    assert!(known > begin && known.durable == begin.durable);
    assert_eq!(hub.forgotten_behind(begin, stranger.selection()).until, None);
    // Who was told before it began is not told again.
    let mut late = hub.subscribe(watcher(&hub, ONE), Start::After(begin));
    let mut batch = Batch::new();
    while batch.last().is_none_or(|entry| entry.update.data != "end") {
        assert!(!late.next(&mut batch).await.unwrap().ephemerals_lost);
    }
    assert_eq!(batch.len(), EPHEMERALS_KEPT_MAX + 1);
}

#[tokio::test]
async fn what_is_forgotten_between_a_judgement_and_its_subscription_is_told() {
    let hub = memory_hub();
    announce(&hub, ONE, &["first"]).await.unwrap();
    let begin = hub.end();
    let judged = hub.forgotten_behind(begin, &watcher(&hub, ONE));
    assert_eq!(judged.until, None);
    for _ in 0..2 * EPHEMERALS_KEPT_MAX / ANNOUNCED_AT_ONCE_MAX {
        announce(&hub, ONE, &["x"; ANNOUNCED_AT_ONCE_MAX]).await.unwrap();
    }
    let known = hub.forgotten_behind(begin, &watcher(&hub, ONE));
    assert!(known.until.is_some());
    for (start, expected) in [(judged.start, 1), (known.start, 0)] {
        let mut late = hub.subscribe(watcher(&hub, ONE), start);
        let (mut told, mut batch) = (0, Batch::new());
        while late.offset() < hub.end() {
            told += usize::from(late.next(&mut batch).await.unwrap().ephemerals_lost);
        }
        assert_eq!((told, batch.len()), (expected, EPHEMERALS_KEPT_MAX));
    }
}

#[tokio::test]
async fn what_was_announced_before_a_restart_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = Some(folder.path().to_owned());
    let history = HistoryOptions {
        path,
        durability: Durability::Fsync,
        segment_bytes: 1 << 20,
        ..in_memory()
    };
    let open = || Hub::open(options(history.clone()), Arc::new(FakeClock::default())).unwrap();
    let hub = open();
    publish(&hub, update("a", "durable")).await;
    announce(&hub, ONE, &["x"]).await.unwrap();
    let (last, end) = (hub.last(), hub.end());
    drop(hub);
    let hub = open();
    for place in [last, end] {
        let judged = hub.forgotten_behind(place, &watcher(&hub, ONE));
        assert_eq!(judged.until, Some(hub.end()), "and no later entry is passed");
        let deaf = Selection { scope: None, ..watcher(&hub, ONE) };
        assert_eq!(hub.forgotten_behind(place, &deaf).until, None);
    }
    assert_eq!(hub.forgotten_behind(hub.end(), &watcher(&hub, ONE)).until, None, "told once");
    let first = hub.before_first();
    let judged = hub.forgotten_behind(first, &watcher(&hub, ONE));
    assert!(judged.until.unwrap() < last, "what is stored stays");
}

#[tokio::test]
async fn announcements_are_on_topics_of_the_hub_only_and_few_at_a_time() {
    let hub = memory_hub();
    let many = announce(&hub, ONE, &["x"; ANNOUNCED_AT_ONCE_MAX + 1]).await;
    assert_eq!(many, Err(Refused::Flawed(Flaw::TooLarge)));
    let foreign = hub.clone();
    let foreign = tokio::task::spawn_blocking(move || foreign.announce(ONE, vec![update("a", "")]));
    assert!(matches!(foreign.await.unwrap(), Err(Refused::Flawed(_))));
    assert_eq!(announce(&hub, ONE, &[]).await, Ok(()));
    hub.shut_down();
    assert_eq!(announce(&hub, ONE, &["x"]).await, Err(Refused::ShuttingDown));
}

#[tokio::test]
async fn no_place_of_an_ephemeral_update_is_used_again_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let history = HistoryOptions {
        path: Some(folder.path().join("history")),
        durability: Durability::Fsync,
        segment_bytes: 1 << 20,
        ..in_memory()
    };
    let crashed = folder.path().join("crashed");
    let mut seen = HashSet::new();
    let mut options = options(history);
    for life in 0..4 {
        let clock = Arc::new(FakeClock::default());
        clock.wall.store(life, Ordering::Relaxed);
        let mut store = Store::open(&options.history, Arc::<FakeClock>::clone(&clock)).unwrap();
        // Nearly as many behind the last number as there can be.
        store.start.sub = SUB_MAX - 1;
        let hub = Hub::over(store, options.clone(), clock).unwrap();
        let mut watching = hub.subscribe(watcher(&hub, ONE), Start::Now);
        for _ in 0..3 {
            announce(&hub, ONE, &["x", "x"]).await.unwrap();
        }
        if life == 2 {
            publish(&hub, update("a", "durable")).await;
        }
        announce(&hub, ONE, &["end"]).await.unwrap();
        let mut batch = Batch::new();
        while batch.last().is_none_or(|entry| entry.update.data != "end") {
            watching.next(&mut batch).await.unwrap();
        }
        for entry in batch.iter() {
            assert!(seen.insert(entry.offset), "life {life}: {:?} again", entry.offset);
        }
        // A crash: what is on the disk now, without a clean end.
        let next = crashed.join(life.to_string());
        copy(options.history.path.as_ref().unwrap(), &next);
        options.history.path = Some(next);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
