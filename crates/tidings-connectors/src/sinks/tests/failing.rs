//! Sinks that do not run though they should.

use super::*;

/// Waits until a sink stands as it should.
async fn stands(house: &House, name: &str, is_right: impl Fn(&Status) -> bool) -> Status {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let status = house.sinks.status(name).await.expect("it is always listed");
        if is_right(&status) {
            return status;
        }
        assert!(Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What is saved of a sink makes no sense from now on.
fn damage(house: &House, name: &str) {
    let key = name.as_bytes();
    let write = tidings_core::Write { table: Table::Sinks, key, value: Some(b"nonsense") };
    house.hub.state().commit(&[write]).unwrap();
}

#[tokio::test]
async fn a_sink_that_fails_by_a_mistake_of_the_hub_is_listed_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let (bad, good) = (Arc::new(System::default()), Arc::new(System::default()));
    house
        .sinks
        .start(vec![wanted("bad", &bad, json!({})), wanted("good", &good, json!({}))])
        .unwrap();
    publish(&house.hub, "a", "1").await;
    bad.has(1).await;
    let place = house.hub.end();
    bad.panics.store(true, Ordering::SeqCst);
    publish(&house.hub, "a", "2").await;
    let status = stands(&house, "bad", |status| status.failure.is_some()).await;
    assert_eq!(status.failure.as_deref(), Some("stopped by an internal error"));
    assert!(status.position <= place, "{status:?}");
    let known = house.sinks.known("bad").unwrap();
    assert_eq!(known.failure, status.failure);
    assert_eq!(house.sinks.all().len(), 2);
    assert!(!house.sinks.command("bad", Command::Pause).await);
    good.has(2).await;
    bad.panics.store(false, Ordering::SeqCst);
    // By itself, behind what it had delivered, and its numbers go on.
    assert_eq!(bad.has(2).await, ["1", "2"]);
    let status = stands(&house, "bad", |status| status.failure.is_none()).await;
    assert_eq!(status.standing, Standing::Running);
    assert!(known.counts.results().contains(&("delivered", 2)));
    house.sinks.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn one_that_fails_again_and_again_waits_longer_each_time_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    system.panics.store(true, Ordering::SeqCst);
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    let pause = || house.sinks.lock()["one"].past.pause();
    assert_eq!(pause(), crate::limits::START_AGAIN_FIRST);
    publish(&house.hub, "a", "1").await;
    stands(&house, "one", |status| status.failure.is_some()).await;
    assert!(house.sinks.start_again("one").await);
    stands(&house, "one", |status| status.failure.is_some()).await;
    assert_eq!(pause(), 2 * crate::limits::START_AGAIN_FIRST);
    house.sinks.stop("one", Duration::from_secs(5)).await;
    assert!(house.sinks.status("one").await.is_none() && house.sinks.all().is_empty());
    assert!(!house.sinks.start_again("one").await);
}

#[tokio::test]
async fn what_can_be_started_is_and_what_cannot_is_listed_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    damage(&house, "bad");
    let both = vec![wanted("bad", &system, json!({})), wanted("good", &system, json!({}))];
    let failed = house.sinks.start_each(both);
    assert_eq!(failed.len(), 1);
    assert!(failed[0].to_string().contains("\"bad\" is damaged"), "{}", failed[0]);
    let known = house.sinks.known("bad").unwrap();
    assert_eq!(known.failure, Some(failed[0].to_string()));
    publish(&house.hub, "a", "1").await;
    assert_eq!(system.has(1).await, ["1"]);
    // Who mends it has it at once, and else a little later.
    assert!(!house.sinks.start_again("bad").await);
    let record = crate::records::SinkRecord::new(house.hub.epoch_now(), Offset::ZERO).to_value();
    let write = tidings_core::Write { table: Table::Sinks, key: b"bad", value: Some(&record) };
    house.hub.state().commit(&[write]).unwrap();
    assert!(house.sinks.start_again("bad").await);
    assert_eq!(system.has(2).await, ["1", "1"]);
    house.sinks.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn nothing_of_a_replay_is_written_behind_the_end_of_its_sink() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    let system = Arc::new(System::default());
    let book = Arc::clone(house.sinks.book());
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    let key = crate::records::numbered_key("one", 1);
    let writes = [tidings_core::Write { table: Table::Replays, key: &key, value: Some(b"row") }];
    let opening = book.opening("one");
    assert!(book.write("one", opening, &writes).unwrap());
    house.sinks.stop("one", Duration::from_secs(5)).await;
    book.remove("one", Vec::new()).unwrap();
    assert!(!book.write("one", opening, &writes).unwrap());
    assert!(!book.write("one", book.opening("one"), &writes).unwrap());
    // Another one of the same name has nothing to do with it.
    house.sinks.start(vec![wanted("one", &system, json!({}))]).unwrap();
    assert!(!book.write("one", opening, &writes).unwrap());
    assert!(house.hub.state().rows(Table::Replays, 9).unwrap().is_empty());
    house.sinks.end(Duration::from_secs(5)).await;
}
