//! Sinks on a real hub, with a system that is made up.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;
use tidings_core::{
    Batch, Durability, HistoryOptions, HubOptions, Keep, Language, Offset, Start, Table, Topic,
    Update,
};

use super::*;
use crate::attempts::AttemptsOptions;
use crate::connector::{Answer, Delivering, Failure, Fault, Outcome, Run};
use crate::delivery::Standing;
use crate::in_memory::{self, Ticking};
use crate::specification;

mod failing;
mod looking;
mod space;

/// A system that remembers what it was given.
#[derive(Default)]
struct System {
    got: Mutex<Vec<String>>,
    fails: AtomicBool,
    hangs: AtomicBool,
    panics: AtomicBool,
    /// What it gets is a dead letter at once.
    refuses: AtomicBool,
}

impl System {
    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }

    async fn has(&self, wanted: usize) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(20);
        while self.got().len() < wanted {
            assert!(Instant::now() < until, "{:?}", self.got());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.got()
    }
}

struct Way(Arc<System>);

impl Sink for Way {
    fn run_max(&self) -> usize {
        1
    }

    fn deliver(&self, run: Run) -> Delivering {
        let system = Arc::clone(&self.0);
        Box::pin(async move {
            if system.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            assert!(!system.panics.load(Ordering::SeqCst), "a mistake of the hub");
            if system.refuses.load(Ordering::SeqCst) {
                let failure =
                    Failure { fault: Fault::Never, reason: "not that".into(), retry_after: None };
                return Outcome { delivered: 0, failure: Some(failure), answer: Answer::default() };
            }
            if system.fails.load(Ordering::SeqCst) {
                let failure =
                    Failure { fault: Fault::Busy, reason: "made up".into(), retry_after: None };
                return Outcome { delivered: 0, failure: Some(failure), answer: Answer::default() };
            }
            for entry in &run.entries {
                let text = String::from_utf8(entry.update.data.to_vec()).unwrap();
                system.got.lock().unwrap().push(text);
            }
            Outcome { delivered: run.entries.len(), failure: None, answer: Answer::default() }
        })
    }
}

struct House {
    hub: Hub,
    sinks: Arc<Sinks>,
    _recorder: JoinSet<()>,
}

/// A hub in `folder` as it is after a start. What was there before lets go of the folder when its
/// tasks have ended.
async fn open(folder: &Path, keep: Keep) -> House {
    loop {
        match try_open(folder, keep) {
            Ok(house) => return house,
            Err(tidings_core::OpenError::InUse { .. }) => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn try_open(folder: &Path, keep: Keep) -> Result<House, tidings_core::OpenError> {
    let clock = Ticking::begin();
    let history = HistoryOptions {
        path: Some(folder.join("history")),
        durability: Durability::Written,
        keep,
        segment_bytes: 1 << 20,
        hold_bytes: 0,
    };
    let namespace = in_memory::namespace();
    let options = HubOptions { namespace, update_bytes_max: 1 << 20, history };
    let hub = Hub::open(options, Arc::clone(&clock))?;
    let options = AttemptsOptions { path: Some(folder.join("attempts")), keep: Keep::default() };
    let (attempts, recorder) = Attempts::open(options, Arc::clone(&clock))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(recorder.run());
    let sinks = Arc::new(Sinks::new(hub.clone(), clock, attempts));
    tasks.spawn(Arc::clone(&sinks).start_failed_again());
    Ok(House { sinks, hub, _recorder: tasks })
}

fn told(name: &str, more: &serde_json::Value) -> SinkSpecification {
    let mut tree = json!({
        "kind": "webhook", "name": name, "topics": ["*"], "url": "http://127.0.0.1:9/",
    });
    tree.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    specification::sink(&tree).unwrap()
}

// JSON is written where it is passed.
#[allow(clippy::needless_pass_by_value)]
fn wanted(name: &str, system: &Arc<System>, more: serde_json::Value) -> Wanted {
    let sink = Arc::new(Way(Arc::clone(system)));
    Wanted {
        told: told(name, &more),
        sink,
        grant: Arc::new(Grant::operator()),
        origin: Origin::Configuration,
    }
}

async fn publish(hub: &Hub, topic: &str, text: &str) {
    let update = Update::new(Topic::parse(topic).unwrap(), text.to_owned());
    hub.publish(&Grant::operator(), update).await.unwrap();
}

#[tokio::test]
async fn a_new_sink_begins_now_and_its_place_is_saved_first() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    publish(&house.hub, "a", "before").await;
    let system = Arc::new(System::default());
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    let saved = house.hub.state().get(Table::Sinks, b"one").unwrap();
    assert!(saved.is_some());
    publish(&house.hub, "a", "behind").await;
    assert_eq!(system.has(1).await, ["behind"]);
}

#[tokio::test]
async fn a_restart_goes_on_behind_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(System::default());
    {
        let house = open(folder.path(), Keep::default()).await;
        house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
        publish(&house.hub, "a", "1").await;
        system.has(1).await;
        house.sinks.end(Duration::from_secs(5)).await;
        publish(&house.hub, "a", "2").await;
        publish(&house.hub, "a", "3").await;
        house.hub.shut_down();
        house.sinks.attempts().shut_down();
    }
    let house = open(folder.path(), Keep::default()).await;
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    assert_eq!(system.has(3).await, ["1", "2", "3"]);
    house.sinks.end(Duration::from_secs(5)).await;
    assert_eq!(house.sinks.book().unsaved("one"), 0);
}

#[tokio::test]
async fn what_is_on_its_way_at_the_end_is_delivered_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(System::default());
    system.hangs.store(true, Ordering::SeqCst);
    let house = open(folder.path(), Keep::default()).await;
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    publish(&house.hub, "a", "1").await;
    let began = Instant::now();
    house.sinks.stop("one", Duration::from_millis(50)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    system.hangs.store(false, Ordering::SeqCst);
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    assert_eq!(system.has(1).await, ["1"]);
}

#[tokio::test]
async fn a_follow_up_stands_once_in_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(System::default());
    let then = json!({ "topics": [{ "nats": "cms.>" }, "other"],
        "then": { "publish": { "replace": ["cms.", "seen."] } } });
    for round in 0..4 {
        let house = open(folder.path(), Keep::default()).await;
        let all = house.hub.matcher(Language::Nats, "seen.>").unwrap();
        let grant = Arc::new(Grant::operator());
        let selection = Selection { matchers: vec![all], grant, scope: None };
        let mut seen = house.hub.subscribe(selection, Start::Earliest);
        house.sinks.start(vec![wanted("one", &system, then.clone())]).unwrap();
        publish(&house.hub, "other", "no follow-up").await;
        for number in 0..5 {
            publish(&house.hub, "cms.a", &format!("{round} {number}")).await;
        }
        system.has(6 * (round + 1)).await;
        let (mut texts, mut batch) = (Vec::new(), Batch::new());
        while texts.len() < 5 * (round + 1) {
            batch.clear();
            seen.next(&mut batch).await.unwrap();
            texts.extend(batch.iter().map(|entry| {
                assert_eq!(entry.update.topics[0].as_str(), "seen.a");
                String::from_utf8(entry.update.data.to_vec()).unwrap()
            }));
        }
        let distinct: BTreeSet<&String> = texts.iter().collect();
        assert_eq!(distinct.len(), texts.len(), "{texts:?}");
        // No end in order: nothing of the last moment is saved.
        house.hub.shut_down();
        house.sinks.attempts().shut_down();
    }
    let distinct: BTreeSet<String> = system.got().into_iter().collect();
    assert_eq!(distinct.len(), 21);
}

#[tokio::test]
async fn an_end_that_saved_nothing_does_not_deliver_what_was_followed_up() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(System::default());
    let then = json!({ "then": { "publish": { "replace": ["cms.", "seen."] } } });
    let before = {
        let house = open(folder.path(), Keep::default()).await;
        house.sinks.start(vec![wanted("one", &system, then.clone())]).unwrap();
        let before = house.hub.state().get(Table::Sinks, b"one").unwrap().unwrap();
        publish(&house.hub, "cms.a", "1").await;
        system.has(1).await;
        // Until its follow-up is delivered as well, which has none itself.
        system.has(2).await;
        house.sinks.end(Duration::from_secs(5)).await;
        house.hub.shut_down();
        house.sinks.attempts().shut_down();
        before
    };
    let house = open(folder.path(), Keep::default()).await;
    let write = tidings_core::Write { table: Table::Sinks, key: b"one", value: Some(&before) };
    house.hub.state().commit(&[write]).unwrap();
    house.sinks.start(vec![wanted("one", &system, then)]).unwrap();
    publish(&house.hub, "cms.b", "2").await;
    let got = system.has(5).await;
    assert_eq!(got.iter().filter(|text| *text == "1").count(), 3, "{got:?}");
}

#[tokio::test]
async fn a_gap_under_a_sink_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { bytes: Some(1 << 20), ..Keep::default() };
    let system = Arc::new(System::default());
    system.fails.store(true, Ordering::SeqCst);
    let house = open(folder.path(), keep).await;
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    house.sinks.stop("one", Duration::from_secs(5)).await;
    let large = "x".repeat(512 * 1024);
    for _ in 0..12 {
        publish(&house.hub, "a", &large).await;
    }
    // What is too much goes a little later.
    while house.hub.before_first() <= Offset::durable(8) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        publish(&house.hub, "a", "more").await;
    }
    system.fails.store(false, Ordering::SeqCst);
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    publish(&house.hub, "a", "last").await;
    while system.got().last().is_none_or(|text| text != "last") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let got = system.got();
    assert!(got.iter().filter(|text| text.len() > 9).count() < 12, "something was let go");
    assert_eq!(house.sinks.status("one").await.unwrap().dead, 1);
    house.sinks.end(Duration::from_secs(5)).await;
    assert_eq!(house.hub.state().rows(Table::DeadLetters, 9).unwrap().len(), 1);
}

#[tokio::test]
async fn sinks_are_saved_together_and_stand_as_they_were_told() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    let names: Vec<String> = (0..200).map(|number| format!("sink-{number}")).collect();
    house.sinks.start(names.iter().map(|name| wanted(name, &system, json!({}))).collect()).unwrap();
    let saves = house.sinks.book().saves();
    for _ in 0..20 {
        publish(&house.hub, "a", "x").await;
    }
    system.has(20 * names.len()).await;
    assert!(house.sinks.command("sink-7", Command::Pause).await);
    assert!(!house.sinks.command("none", Command::Pause).await);
    assert_eq!(house.sinks.status("sink-7").await.unwrap().standing, Standing::Paused);
    house.sinks.end(Duration::from_secs(5)).await;
    assert!(*saves.borrow() < 20, "{} commits", *saves.borrow());
    house.sinks.attempts().shut_down();
    let opened = house.sinks.book().open(&["sink-7", "sink-8"]).unwrap();
    assert_eq!(opened[0].saved.standing, Standing::Paused);
    assert_eq!(opened[1].saved.standing, Standing::Running);
    assert_eq!(opened[1].saved.position, house.hub.end());
}

#[tokio::test]
async fn attempts_are_listed_the_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    system.fails.store(true, Ordering::SeqCst);
    let quick = json!({ "retry": { "first": "100ms" } });
    house.sinks.start(vec![wanted("one", &system, quick)]).unwrap();
    publish(&house.hub, "a", "1").await;
    while house.sinks.attempts().list("one", None, true).attempts.len() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    system.fails.store(false, Ordering::SeqCst);
    house.sinks.command("one", Command::Resume).await;
    system.has(1).await;
    let page = loop {
        let page = house.sinks.attempts().list("one", None, false);
        if page.attempts.first().is_some_and(|newest| newest.failure.is_none()) {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(page.before, None);
    let tries: Vec<u32> = page.attempts.iter().map(|attempt| attempt.tries).collect();
    assert!(tries.len() >= 3 && tries.is_sorted_by(|a, b| a > b), "{tries:?}");
    assert!(house.sinks.attempts().list("two", None, false).attempts.is_empty());
    let first = page.attempts.last().unwrap();
    assert_eq!(first.failure, Some(("busy".into(), "made up".into())));
    let older = house.sinks.attempts().list("one", Some(page.attempts[0].number), false);
    assert_eq!(older.attempts, page.attempts[1..]);
}

#[tokio::test]
async fn no_place_that_is_saved_of_a_sink_is_given_away_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let house = open(folder.path(), Keep::default()).await;
        let named = 10_000_u64.to_le_bytes();
        let key = tidings_core::SAVED_UP_TO;
        let write = tidings_core::Write { table: Table::Hub, key, value: Some(&named) };
        house.hub.state().commit(&[write]).unwrap();
        house.hub.shut_down();
        house.sinks.attempts().shut_down();
    }
    let house = open(folder.path(), Keep::default()).await;
    publish(&house.hub, "a", "1").await;
    assert!(house.hub.end() > Offset::durable(10_000), "{:?}", house.hub.end());
}

#[tokio::test]
async fn a_place_in_another_history_is_told_and_left_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    let far = Offset::durable(house.hub.end().durable + 5_000);
    let record = crate::records::SinkRecord::new(tidings_core::Epoch(1), far).to_value();
    let write = tidings_core::Write { table: Table::Sinks, key: b"one", value: Some(&record) };
    house.hub.state().commit(&[write]).unwrap();
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    publish(&house.hub, "a", "1").await;
    assert_eq!(system.has(1).await, ["1"]);
    assert_eq!(house.sinks.status("one").await.unwrap().dead, 1);
    house.sinks.end(Duration::from_secs(5)).await;
    let opened = house.sinks.book().open(&["one"]).unwrap();
    assert_eq!(opened[0].saved.position, house.hub.end());
    assert_eq!(opened[0].epoch, house.hub.epoch_now().0);
}
