//! What copies and dead letters of all sinks take together.

use super::super::letters::Which;
use super::*;

/// Waits until all that is taken is `wanted`.
async fn takes(house: &House, wanted: impl Fn(usize) -> bool) -> usize {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let taken = house.sinks.space().taken();
        if wanted(taken) {
            return taken;
        }
        assert!(Instant::now() < until, "{taken}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn is_full(house: &House, name: &str) -> bool {
    house.sinks.status(name).await.unwrap().is_full
}

async fn end(house: House) {
    house.sinks.end(Duration::from_secs(5)).await;
    house.hub.shut_down();
    house.sinks.attempts().shut_down();
}

#[tokio::test]
async fn sinks_wait_when_all_of_them_together_have_taken_the_space() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    house.sinks.space().bound(Some(12_000));
    let (first, second) = (Arc::new(System::default()), Arc::new(System::default()));
    first.refuses.store(true, Ordering::SeqCst);
    second.refuses.store(true, Ordering::SeqCst);
    let (one, two) = (json!({ "topics": ["one"] }), json!({ "topics": ["two"] }));
    house.sinks.start(vec![wanted("one", &first, one), wanted("two", &second, two)]).unwrap();
    for _ in 0..5 {
        publish(&house.hub, "one", &"x".repeat(1_800)).await;
    }
    takes(&house, |taken| taken > 10_000).await;
    assert!(!is_full(&house, "one").await && !is_full(&house, "two").await);
    let place = house.hub.end();
    publish(&house.hub, "two", &"x".repeat(1_800)).await;
    publish(&house.hub, "two", "behind").await;
    while !is_full(&house, "two").await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // It stands where it was, with nothing lost and nothing taken.
    let status = house.sinks.status("two").await.unwrap();
    assert_eq!((status.dead, status.position), (0, place));
    let taken = house.sinks.space().taken();
    assert!(taken <= 12_000, "{taken}");
    second.refuses.store(false, Ordering::SeqCst);
    assert_eq!(house.sinks.forget("one", Which::Numbers(vec![1, 2])).await.unwrap(), 2);
    // What had been given up becomes a dead letter, and what is behind it is delivered.
    assert_eq!(second.has(1).await, ["behind"]);
    let status = house.sinks.status("two").await.unwrap();
    assert_eq!((status.dead, status.is_full), (1, false));
    end(house).await;
}

#[tokio::test]
async fn what_is_set_aside_and_dead_is_counted_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let system = Arc::new(System::default());
    let keyed = json!({ "key": "topic", "retry": { "first": "1h", "max": "1h" } });
    let taken = {
        let house = open(folder.path(), Keep::default()).await;
        let (own, left) = (Arc::new(System::default()), Arc::new(System::default()));
        own.fails.store(true, Ordering::SeqCst);
        left.refuses.store(true, Ordering::SeqCst);
        let wanted = vec![wanted("one", &own, keyed.clone()), wanted("left", &left, json!({}))];
        house.sinks.start(wanted).unwrap();
        for topic in ["a", "b", "c"] {
            publish(&house.hub, topic, &"x".repeat(1_000)).await;
        }
        let taken = takes(&house, |taken| taken > 6_000).await;
        end(house).await;
        taken
    };
    let house = open(folder.path(), Keep::default()).await;
    // The other one does not run any more, and what it left is on the disk all the same.
    house.sinks.start(vec![wanted("one", &system, keyed.clone())]).unwrap();
    assert_eq!(house.sinks.space().taken(), taken);
    house.sinks.stop("one", Duration::from_secs(5)).await;
    assert_eq!(house.sinks.space().taken(), taken);
    house.sinks.start(vec![wanted("one", &system, keyed)]).unwrap();
    house.sinks.command("one", Command::Resume).await;
    system.has(3).await;
    let left = takes(&house, |taken| taken < 4_000).await;
    assert!(left > 3_000, "{left}");
    house.sinks.stop("one", Duration::from_secs(5)).await;
    house.sinks.book().remove("left", Vec::new()).unwrap();
    assert_eq!(house.sinks.space().taken(), 0);
    end(house).await;
}

#[tokio::test]
async fn copies_have_no_room_where_others_have_taken_it_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path(), Keep::default()).await;
    house.sinks.space().bound(Some(1_000));
    let system = Arc::new(System::default());
    system.fails.store(true, Ordering::SeqCst);
    let keyed = json!({ "key": "topic", "retry": { "first": "200ms", "max": "200ms" } });
    house.sinks.start(vec![wanted("one", &system, keyed)]).unwrap();
    for number in 0..3 {
        publish(&house.hub, &format!("t{number}"), &number.to_string().repeat(800)).await;
    }
    while !is_full(&house, "one").await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(house.sinks.space().taken() <= 1_000);
    system.fails.store(false, Ordering::SeqCst);
    assert_eq!(system.has(3).await.len(), 3);
    takes(&house, |taken| taken == 0).await;
    assert!(!is_full(&house, "one").await);
    end(house).await;
}
