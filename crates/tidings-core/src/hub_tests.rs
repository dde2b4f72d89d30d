//! The hub from outside: publish, subscribe, be behind, come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use url::Url;

use crate::limits::{BARE_PATTERNS_MAX, BARE_PATTERNS_OF_STRANGERS, PENDING_BYTES_MAX};
use crate::*;

/// A clock that stands still until told.
#[derive(Debug, Default)]
pub(crate) struct FakeClock {
    pub(crate) wall: AtomicU64,
    pub(crate) monotonic: AtomicU64,
}

impl Clock for FakeClock {
    fn wall(&self) -> u64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::Relaxed))
    }
}

pub(crate) fn namespace() -> Namespace {
    Namespace::new(Url::parse("https://hub.example/.well-known/mercure").unwrap())
}

pub(crate) fn options(history: HistoryOptions) -> HubOptions {
    HubOptions { namespace: namespace(), update_bytes_max: 1024 * 1024, history }
}

pub(crate) fn in_memory() -> HistoryOptions {
    let durability = Durability::Memory;
    HistoryOptions {
        hold_bytes: 0,
        path: None,
        durability,
        keep: Keep::default(),
        segment_bytes: 0,
    }
}

pub(crate) fn memory_hub() -> Hub {
    Hub::open(options(in_memory()), Arc::new(FakeClock::default())).unwrap()
}

fn selection(hub: &Hub, pattern: &str) -> Selection {
    let matcher = hub.matcher(Language::Exact, pattern).unwrap();
    Selection { matchers: vec![matcher], grant: Arc::new(Grant::anonymous()), scope: None }
}

pub(crate) fn update(topic: &str, data: &str) -> Update {
    Update::new(Topic::parse(topic).unwrap(), data.to_owned())
}

pub(crate) fn data(batch: &Batch) -> Vec<String> {
    batch.iter().map(|entry| String::from_utf8(entry.update.data.to_vec()).unwrap()).collect()
}

pub(crate) async fn publish(hub: &Hub, update: Update) -> Receipt {
    hub.publish(&Grant::operator(), update).await.unwrap()
}

/// Everything up to and including the entry with this data.
pub(crate) async fn read_until(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().map(String::as_str) != Some(last) {
        let mut batch = Batch::new();
        subscription.next(&mut batch).await.unwrap();
        all.extend(data(&batch));
    }
    all
}

#[tokio::test]
async fn a_subscriber_gets_what_it_asked_for_in_order() {
    let hub = memory_hub();
    let mut subscription = hub.subscribe(selection(&hub, "a"), Start::Now);
    for number in 0..10 {
        publish(&hub, update("a", &format!("a{number}"))).await;
        publish(&hub, update("b", "not asked for")).await;
    }
    let expected: Vec<_> = (0..10).map(|number| format!("a{number}")).collect();
    assert_eq!(read_until(&mut subscription, "a9").await, expected);
}

#[tokio::test]
async fn replay_joins_live_without_gap_or_repeat() {
    let hub = memory_hub();
    let mut cursors = Vec::new();
    for number in 0..2_000 {
        cursors.push(publish(&hub, update("a", &number.to_string())).await.cursor);
    }
    let Located::Entry(after) = hub.locate(&cursors[499]) else { panic!() };
    let mut subscription = hub.subscribe(selection(&hub, "*"), Start::After(after));
    assert!(!subscription.is_live());
    for number in 2_000..2_100 {
        publish(&hub, update("a", &number.to_string())).await;
    }
    let expected: Vec<_> = (500..2_100).map(|number| number.to_string()).collect();
    assert_eq!(read_until(&mut subscription, "2099").await, expected);
    let mut earliest = hub.subscribe(selection(&hub, "*"), Start::Earliest);
    assert_eq!(read_until(&mut earliest, "2099").await.len(), 2_100);
}

#[tokio::test]
async fn who_overflows_reads_the_history_again() {
    let hub = memory_hub();
    let mut slow = hub.subscribe(selection(&hub, "a"), Start::Now);
    let count = PENDING_BYTES_MAX / 1024 * 3;
    let text = |number| format!("{number} {}", "x".repeat(1024));
    // Each is handed out by itself: what comes in one go never overflows an empty list.
    let mut prompt = hub.subscribe(selection(&hub, "a"), Start::Now);
    for number in 0..count {
        publish(&hub, update("a", &text(number))).await;
        read_until(&mut prompt, &text(number)).await;
    }
    let all: Vec<_> = (0..count).map(text).collect();
    assert!(read_until(&mut slow, &all[count - 1]).await == all);
    publish(&hub, update("a", "afterwards")).await;
    assert_eq!(read_until(&mut slow, "afterwards").await, ["afterwards"]);
    assert_eq!(hub.counters().overflows.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_quiet_receiver_moves_with_the_hub() {
    let hub = memory_hub();
    let mut quiet = hub.subscribe(selection(&hub, "never"), Start::Now);
    let mut witness = hub.subscribe(selection(&hub, "*"), Start::Now);
    let receipt = publish(&hub, update("a", "x")).await;
    read_until(&mut witness, "x").await;
    let mut batch = Batch::new();
    while quiet.take(&mut batch).unwrap().offset < receipt.offset {
        std::thread::yield_now();
    }
    assert!(batch.is_empty());
}

#[tokio::test]
async fn a_private_update_needs_a_grant_on_one_of_its_topics() {
    let hub = memory_hub();
    let granted = |pattern: &str| {
        let subscribe = vec![hub.matcher(Language::Exact, pattern).unwrap()];
        let grant = Arc::new(Grant { subscribe, ..Grant::default() });
        let matchers = vec![hub.matcher(Language::Exact, "canonical").unwrap()];
        Selection { matchers, grant, scope: None }
    };
    let mut by_other_topic = hub.subscribe(granted("alternate"), Start::Now);
    let mut without = hub.subscribe(granted("unrelated"), Start::Now);
    let mut private = update("canonical", "private");
    private.topics.push(Topic::parse("alternate").unwrap());
    private.private = true;
    publish(&hub, private).await;
    publish(&hub, update("canonical", "public")).await;
    assert_eq!(read_until(&mut by_other_topic, "public").await, ["private", "public"]);
    assert_eq!(read_until(&mut without, "public").await, ["public"]);
    let mut replayed = hub.subscribe(granted("alternate"), Start::Earliest);
    assert_eq!(read_until(&mut replayed, "public").await, ["private", "public"]);
    let mut replayed = hub.subscribe(granted("unrelated"), Start::Earliest);
    assert_eq!(read_until(&mut replayed, "public").await, ["public"]);
}

#[tokio::test]
async fn subscribers_bring_so_many_patterns_without_fixed_text_and_no_more() {
    let hub = memory_hub();
    let bare = |number: usize| format!("{{x{number}}}");
    let ask = |text: &str, asker| hub.matcher_of_subscriber(Language::UriTemplate, text, asker);
    let mut open: Vec<Subscription> = Vec::new();
    for number in 0..BARE_PATTERNS_MAX {
        let asker =
            if number < BARE_PATTERNS_OF_STRANGERS { Asker::Stranger } else { Asker::Known };
        let wanted = ask(&bare(number), asker).unwrap();
        let selection =
            Selection { matchers: vec![wanted], grant: Arc::new(Grant::anonymous()), scope: None };
        open.push(hub.subscribe(selection, Start::Now));
        let other = ask("{other}", Asker::Stranger);
        assert_eq!(other.is_ok(), number + 1 < BARE_PATTERNS_OF_STRANGERS, "{number}");
    }
    let refused = ask(&bare(BARE_PATTERNS_MAX), Asker::Known);
    assert!(matches!(refused, Err(BadPattern::Crowded)), "{refused:?}");
    // What is there already, what has fixed text and what the operator grants goes on.
    assert!(ask(&bare(0), Asker::Stranger).is_ok());
    assert!(ask("{a}.json", Asker::Stranger).is_ok());
    assert!(hub.matcher_of_subscriber(Language::Exact, "*", Asker::Stranger).is_ok());
    assert!(hub.matcher(Language::UriTemplate, &bare(BARE_PATTERNS_MAX)).is_ok());
    // Whoever leaves makes room.
    open.pop();
    assert!(ask("{other}", Asker::Known).is_ok());
}

#[tokio::test]
async fn refusals_say_why_and_store_nothing() {
    let hub = memory_hub();
    let nobody = Grant::anonymous();
    let refused = hub.publish(&nobody, update("a", "x")).await;
    assert!(matches!(refused, Err(Refused::NotGranted(topic)) if topic.as_str() == "a"));
    let reserved = hub.publish(&Grant::operator(), update("/.well-known/mercure/x", "x")).await;
    assert!(matches!(reserved, Err(Refused::Reserved(_))));
    let expired = Grant { expires: Some(0), ..Grant::operator() };
    assert_eq!(hub.publish(&expired, update("a", "x")).await, Err(Refused::Expired));
    let large = hub.publish(&Grant::operator(), update("a", &"x".repeat(1024 * 1024 + 1))).await;
    assert_eq!(large, Err(Refused::Flawed(Flaw::TooLarge)));
    assert!(hub.last_entry().is_none());
    hub.shut_down();
    let late = hub.publish(&Grant::operator(), update("a", "x")).await;
    assert_eq!(late, Err(Refused::ShuttingDown));
}

#[tokio::test]
async fn an_update_of_an_audience_is_private_and_of_that_audience_alone() {
    let hub = memory_hub();
    let (one, other) = ("urn:tidings:audience:one:a", "urn:tidings:audience:two:a");
    for (topics, private, is_taken) in [
        (&[one][..], true, true),
        (&[one, "urn:tidings:audience:one"], true, true),
        (&[one], false, false),
        (&[one, other], true, false),
        (&[one, "a"], true, false),
        (&["a", one], true, false),
        (&["a", "b"], false, true),
    ] {
        let mut of = update("x", "x");
        of.topics = topics.iter().map(|topic| Topic::parse(topic).unwrap()).collect();
        of.private = private;
        let published = hub.publish(&Grant::operator(), of).await;
        let is_refused = matches!(published, Err(Refused::Audience(_)));
        assert_eq!((published.is_ok(), is_refused), (is_taken, !is_taken), "{topics:?}");
    }
}

#[tokio::test]
async fn a_wildcard_neither_reads_nor_writes_topics_of_an_audience() {
    let hub = memory_hub();
    let topic = "urn:tidings:audience:one:a";
    let of = |pattern: &str| Grant {
        publish: vec![hub.matcher(Language::UriTemplate, pattern).unwrap()],
        subscribe: vec![hub.matcher(Language::UriTemplate, pattern).unwrap()],
        ..Grant::default()
    };
    let mut hidden = update(topic, "hidden");
    hidden.private = true;
    let refused = hub.publish(&of("*"), hidden.clone()).await;
    assert!(matches!(refused, Err(Refused::NotGranted(_))), "{refused:?}");
    let own = "urn:tidings:audience:one:{topic}";
    let receives = |pattern: &str, grant: Grant| {
        let matchers = vec![hub.matcher(Language::UriTemplate, pattern).unwrap()];
        hub.subscribe(Selection { matchers, grant: Arc::new(grant), scope: None }, Start::Now)
    };
    let mut all = [
        (receives("*", Grant::operator()), false),
        (receives(own, of("*")), false),
        (receives(own, of("urn:tidings:audience:two:{topic}")), false),
        (receives(own, of(own)), true),
        (receives(own, Grant::operator()), true),
    ];
    hub.publish(&of(own), hidden).await.unwrap();
    let mut shown = update("a", "for all");
    shown.private = false;
    hub.publish(&Grant::operator(), shown).await.unwrap();
    // The way through the history and the live one decide alike.
    for (at, (live, is_given)) in all.iter_mut().enumerate() {
        let selection = live.selection().as_ref().clone();
        let mut read = hub.subscribe(selection, Start::Earliest);
        let mut batch = Batch::new();
        while !read.is_live() {
            read.take(&mut batch).unwrap();
        }
        let has_it = batch.iter().any(|entry| entry.update.data == "hidden");
        assert_eq!(has_it, *is_given, "read by {at}");
        let mut batch = Batch::new();
        if *is_given || at == 0 {
            live.next(&mut batch).await.unwrap();
        }
        let has_it = batch.iter().any(|entry| entry.update.data == "hidden");
        assert_eq!(has_it, *is_given, "live for {at}");
    }
}

#[tokio::test]
async fn a_repeated_publication_gets_the_first_receipt() {
    let hub = memory_hub();
    let mut keyed = update("a", "x");
    keyed.idempotency_key = Some(Line::parse("key").unwrap());
    let first = publish(&hub, keyed.clone()).await;
    let second = publish(&hub, keyed.clone()).await;
    assert_eq!(second, Receipt { repeated: true, ..first.clone() });
    let changed = Update { private: true, ..keyed.clone() };
    let refused = hub.publish(&Grant::operator(), changed).await;
    assert_eq!(refused, Err(Refused::KeyReused));
    let mut other = Grant::operator();
    other.token.subject = Some("somebody else".into());
    let third = hub.publish(&other, keyed).await.unwrap();
    assert_ne!(third.offset, first.offset);
}

#[tokio::test]
async fn cursors_are_found_by_publishers_id_and_by_the_hubs() {
    let hub = memory_hub();
    let mut named = update("a", "first");
    named.id = Some(Line::parse("my-id").unwrap());
    let first = publish(&hub, named.clone()).await;
    assert_eq!(&*first.id, "my-id");
    publish(&hub, named).await;
    assert_eq!(hub.locate("my-id"), Located::Entry(first.offset));
    assert_eq!(hub.locate(&first.cursor), Located::Entry(first.offset));
    assert_eq!(hub.locate("nobody's"), Located::Unknown);
    assert_eq!(memory_hub().locate(&first.cursor), Located::Unknown);
}

#[tokio::test]
async fn ephemeral_updates_are_remembered_in_order_and_then_forgotten() {
    let clock = Arc::new(FakeClock::default());
    let hub = Hub::open(options(in_memory()), Arc::<FakeClock>::clone(&clock)).unwrap();
    let mut live = hub.subscribe(selection(&hub, "*"), Start::Now);
    let first = publish(&hub, update("a", "durable")).await;
    let ephemeral = Update { ephemeral: true, ..update("a", "ephemeral") };
    let second = publish(&hub, ephemeral).await;
    publish(&hub, update("a", "later")).await;
    assert_eq!(second.offset, Offset { durable: first.offset.durable, sub: 1 });
    assert_eq!(read_until(&mut live, "later").await, ["durable", "ephemeral", "later"]);
    let mut replayed = hub.subscribe(selection(&hub, "*"), Start::Earliest);
    assert_eq!(read_until(&mut replayed, "later").await, ["durable", "ephemeral", "later"]);
    assert_eq!(hub.forgotten_behind(first.offset, &selection(&hub, "*")).until, None);
    clock.monotonic.store(100_000, Ordering::Relaxed);
    publish(&hub, Update { ephemeral: true, ..update("a", "the next") }).await;
    let mut replayed = hub.subscribe(selection(&hub, "*"), Start::Earliest);
    assert_eq!(read_until(&mut replayed, "the next").await, ["durable", "later", "the next"]);
    let forgotten = hub.forgotten_behind(first.offset, &selection(&hub, "*")).until;
    assert_eq!(forgotten, Some(second.offset));
    assert_eq!(hub.forgotten_behind(second.offset, &selection(&hub, "*")).until, None);
    let Located::Entry(after) = hub.locate(&second.cursor) else { panic!() };
    let mut behind = hub.subscribe(selection(&hub, "*"), Start::After(after));
    assert_eq!(read_until(&mut behind, "the next").await, ["later", "the next"]);
}

#[tokio::test]
async fn receivers_that_leave_leave_nothing_behind() {
    let hub = memory_hub();
    let stay = hub.subscribe(selection(&hub, "a"), Start::Now);
    let many: Vec<_> = (0..100)
        .map(|number| {
            let mut selection = selection(&hub, "a");
            selection.matchers.push(hub.matcher(Language::Exact, "a").unwrap());
            let topic = (number % 7).to_string();
            selection.matchers.push(hub.matcher(Language::Exact, &topic).unwrap());
            hub.subscribe(selection, Start::Now)
        })
        .collect();
    for (number, subscription) in many.into_iter().enumerate() {
        drop(subscription);
        publish(&hub, update("a", &number.to_string())).await;
    }
    let mut stay = stay;
    assert_eq!(read_until(&mut stay, "99").await.len(), 100);
    assert_eq!(hub.counters().subscribers.load(Ordering::Relaxed), 1);
}
