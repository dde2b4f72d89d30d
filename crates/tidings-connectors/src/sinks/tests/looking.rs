//! Dead letters, replays and trials of sinks on a real hub.

use super::*;
use crate::sinks::letters::{LettersProblem, Which};
use crate::sinks::replay::{Edge, Replay, ReplayProblem, State, Wish};

/// The same system as it is when it wants nothing.
fn refusing() -> Arc<System> {
    let system = Arc::new(System::default());
    system.refuses.store(true, Ordering::SeqCst);
    system
}

async fn until_dead(house: &House, name: &str, count: usize) {
    while house.sinks.status(name).await.unwrap().dead != count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    house.sinks.book().save().await.unwrap();
}

async fn until_ended(house: &House, name: &str, number: u64) -> Replay {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let all = house.sinks.replays_of(name).unwrap().unwrap();
        let one = all.into_iter().find(|replay| replay.number == number).unwrap();
        if one.state != State::Running {
            return one;
        }
        assert!(Instant::now() < deadline, "{one:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn dead_letters_are_listed_delivered_again_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = refusing();
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    for text in ["1", "2", "3", "4"] {
        publish(&house.hub, "a", text).await;
    }
    until_dead(&house, "one", 4).await;
    let page = house.sinks.dead_letters("one", 0).unwrap().unwrap();
    let numbers: Vec<u64> = page.letters.iter().map(|letter| letter.number).collect();
    assert_eq!((numbers, page.after), (vec![1, 2, 3, 4], None));
    let first = &page.letters[0];
    assert_eq!(
        (first.kind, first.fault, first.topic.as_deref()),
        ("update", Some("never"), Some("a"))
    );
    let place = house.hub.end().durable - 3;
    assert_eq!(first.places, Some((place, place)));
    assert_eq!(house.sinks.dead_letters("one", 2).unwrap().unwrap().letters, page.letters[2..]);
    assert!(house.sinks.dead_letters("none", 0).unwrap().is_none());

    // What fails once more is another dead letter, and not delivered for ever.
    let told = house.sinks.redrive("one", Which::Numbers(vec![2, 9, 2])).await.unwrap();
    assert_eq!((told.taken, told.unknown, told.is_over), (1, 1, true), "{told:?}");
    while house.sinks.dead_letters("one", 4).unwrap().unwrap().letters.is_empty() {
        house.sinks.book().save().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let page = house.sinks.dead_letters("one", 0).unwrap().unwrap();
    let numbers: Vec<u64> = page.letters.iter().map(|letter| letter.number).collect();
    assert_eq!(numbers, [1, 3, 4, 5]);

    assert_eq!(house.sinks.forget("one", Which::Numbers(vec![3, 3, 2])).await.unwrap(), 1);
    system.refuses.store(false, Ordering::SeqCst);
    let told = house.sinks.redrive("one", Which::All).await.unwrap();
    assert_eq!((told.taken, told.empty, told.failure), (3, 0, None));
    let mut got = system.has(3).await;
    got.sort();
    assert_eq!(got, ["1", "2", "4"]);
    assert_eq!(house.sinks.status("one").await.unwrap().dead, 0);
    assert!(house.hub.state().rows(Table::DeadLetters, 9).unwrap().is_empty());
    let problem = house.sinks.redrive("none", Which::All).await.unwrap_err();
    assert!(matches!(problem, LettersProblem::NoSink));
}

#[tokio::test]
async fn what_holds_nothing_is_not_delivered_again_and_can_be_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = refusing();
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    publish(&house.hub, "a", "1").await;
    until_dead(&house, "one", 1).await;
    let key = crate::records::numbered_key("one", 1);
    let write = tidings_core::Write { table: Table::DeadLetters, key: &key, value: Some(b"\x09") };
    house.hub.state().commit(&[write]).unwrap();
    let page = house.sinks.dead_letters("one", 0).unwrap().unwrap();
    assert_eq!((page.letters[0].kind, page.letters[0].number), ("unreadable", 1));
    let told = house.sinks.redrive("one", Which::All).await.unwrap();
    assert_eq!((told.taken, told.empty, told.is_over), (0, 1, true));
    assert_eq!(house.sinks.forget("one", Which::All).await.unwrap(), 1);
    assert!(house.hub.state().rows(Table::DeadLetters, 9).unwrap().is_empty());
}

#[tokio::test]
async fn a_replay_is_of_a_range_of_some_entries_or_of_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    let topics = json!({ "topics": ["a"] });
    let before = house.hub.end().durable;
    house.sinks.start(vec![wanted("one", &system, topics)]).unwrap();
    for text in ["1", "2", "3"] {
        publish(&house.hub, "a", text).await;
        publish(&house.hub, "b", "not for it").await;
    }
    system.has(3).await;
    system.refuses.store(true, Ordering::SeqCst);
    publish(&house.hub, "a", "failed").await;
    until_dead(&house, "one", 1).await;
    system.refuses.store(false, Ordering::SeqCst);

    let cursor = |place| house.hub.cursor(Offset::durable(before + place));
    let range = Wish {
        from: Some(Edge::Id(cursor(2))),
        until: Some(Edge::Place(before + 4)),
        ..Wish::default()
    };
    let replay = house.sinks.replay("one", range).await.unwrap();
    assert_eq!(system.has(4).await[3..], ["2"]);
    let ended = until_ended(&house, "one", replay.number).await;
    assert_eq!((ended.state, ended.taken, ended.missed), (State::Done, 1, 0));

    let ids = Wish { ids: vec![cursor(5), cursor(1), cursor(2)], ..Wish::default() };
    let replay = house.sinks.replay("one", ids).await.unwrap();
    assert_eq!(replay.number, 2);
    assert_eq!(system.has(6).await[4..], ["1", "3"]);

    while house.sinks.attempts().list("one", None, true).attempts.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let failed = Wish { only_failed: true, ..Wish::default() };
    house.sinks.replay("one", failed.clone()).await.unwrap();
    assert_eq!(system.has(7).await[6..], ["failed"]);
    until_ended(&house, "one", 3).await;
    // Its success is recorded a moment later.
    while house.sinks.attempts().list("one", None, false).attempts.len() < 8 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    house.sinks.replay("one", failed).await.unwrap();
    assert_eq!(until_ended(&house, "one", 4).await.taken, 0, "it was delivered since");

    let later = Wish { from: Some(Edge::Time(u64::MAX)), ..Wish::default() };
    house.sinks.replay("one", later).await.unwrap();
    assert_eq!(until_ended(&house, "one", 5).await.taken, 0);
    let unknown = Wish { ids: vec!["urn:uuid:nothing".into()], ..Wish::default() };
    let problem = house.sinks.replay("one", unknown).await.unwrap_err();
    assert!(matches!(problem, ReplayProblem::NoEntry(_)));
    let problem = house.sinks.stop_replay("one", 9).await.unwrap_err();
    assert!(matches!(problem, ReplayProblem::NoReplay));
    assert_eq!(house.sinks.replays_of("one").unwrap().unwrap().len(), 5);
    assert_eq!(system.got().len(), 7);
}

#[tokio::test]
async fn a_replay_waits_for_room_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(System::default());
    let count = crate::limits::AGAIN_ROWS_MAX + 700;
    {
        let house = open(folder.path(), Keep::default()).await;
        let then =
            json!({ "then": { "publish": { "replace": ["a", "followed"] } }, "topics": ["a"] });
        house
            .sinks
            .start(vec![wanted("one", &system, json!({})), wanted("two", &system, then)])
            .unwrap();
        house.sinks.stop("two", Duration::ZERO).await;
        for number in 0..count {
            publish(&house.hub, "b", &number.to_string()).await;
        }
        system.has(count).await;
        house.sinks.command("one", Command::Pause).await;
        house.sinks.replay("one", Wish::default()).await.unwrap();
        while house.sinks.status("one").await.unwrap().parked < crate::limits::AGAIN_ROWS_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        house.sinks.end(Duration::from_secs(5)).await;
        let all = house.sinks.replays_of("one").unwrap();
        assert!(all.is_none(), "it does not run any more");
        house.hub.shut_down();
        house.sinks.attempts().shut_down();
    }
    let house = open(folder.path(), Keep::default()).await;
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    house.sinks.command("one", Command::Resume).await;
    let got = system.has(2 * count).await;
    let ended = until_ended(&house, "one", 1).await;
    assert_eq!(ended.state, State::Done);
    let again: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    assert!(got[count..] == again, "in order, each once");
}

#[tokio::test]
async fn nothing_follows_a_replay_and_it_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    let then = json!({ "then": { "publish": { "replace": ["a.", "seen."] } }, "topics": ["*"] });
    house.sinks.start(vec![wanted("one", &system, then)]).unwrap();
    publish(&house.hub, "a.1", "1").await;
    system.has(2).await;
    let end = house.hub.end();
    house.sinks.replay("one", Wish::default()).await.unwrap();
    // Also what followed was for the sink, and is once more.
    assert_eq!(system.has(4).await, ["1", "1", "1", "1"]);
    until_ended(&house, "one", 1).await;
    assert_eq!(house.hub.end(), end);

    system.hangs.store(true, Ordering::SeqCst);
    house.sinks.replay("one", Wish::default()).await.unwrap();
    house.sinks.stop_replay("one", 2).await.unwrap();
    house.sinks.stop_replay("one", 1).await.unwrap();
    let ended = until_ended(&house, "one", 2).await;
    assert_ne!(ended.state, State::Running);
    assert_eq!(until_ended(&house, "one", 1).await.state, State::Done, "it had ended before");
}

#[tokio::test]
async fn a_trial_is_beside_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    house.sinks.command("one", Command::Pause).await;
    let end = house.hub.end();
    let trial = house.sinks.test("one").await.unwrap();
    assert_eq!((trial.outcome.delivered, trial.outcome.failure), (1, None));
    assert_eq!(system.got(), [json!({ "test": true, "sink": "one" }).to_string()]);
    system.fails.store(true, Ordering::SeqCst);
    let trial = house.sinks.test("one").await.unwrap();
    assert_eq!(trial.outcome.failure.unwrap().reason, "made up");
    assert!(house.sinks.test("none").await.is_none());
    assert_eq!(house.hub.end(), end);
    assert_eq!(house.sinks.known("one").unwrap().counts.results()[0], ("delivered", 0));
}
