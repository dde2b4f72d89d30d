//! The delivery rule against a naive model: whatever is asked for, granted and published, live and
//! from the history, in memory and on disk.

use std::sync::Arc;

use proptest::prelude::*;

use crate::hub_tests::{FakeClock, in_memory, namespace, options};
use crate::*;

/// Patterns and topics that meet often.
const PATTERNS: [(Language, &str); 16] = [
    (Language::Exact, "*"),
    (Language::Exact, "https://example.com/books/1"),
    (Language::Exact, "a/b"),
    (Language::Exact, "cms.page"),
    (Language::UrlPattern, "https://example.com/books/:id"),
    (Language::UrlPattern, "https://*.example.com/*"),
    (Language::UrlPattern, "/relative/*"),
    (Language::UriTemplate, "https://example.com/books/{id}"),
    (Language::UriTemplate, "{scheme}://{+host}/books/1"),
    (Language::UriTemplate, "https://example.com/books/{?page}"),
    (Language::Mqtt, "a/+"),
    (Language::Mqtt, "#"),
    (Language::Mqtt, "+/b"),
    (Language::Nats, "cms.>"),
    (Language::Nats, "*.page"),
    (Language::Nats, "*"),
];
const TOPICS: [&str; 10] = [
    "https://example.com/books/1",
    "https://example.com/books/2",
    "https://www.example.com/x",
    "https://hub.example/relative/x",
    "relative",
    "a/b",
    "a/c",
    "cms.page",
    "$SYS/x",
    "cms",
];

#[derive(Debug, Clone)]
struct Asking {
    wanted: Vec<usize>,
    granted: Vec<usize>,
}

fn asking() -> impl Strategy<Value = Asking> {
    let some = |most| proptest::collection::vec(0..PATTERNS.len(), 0..most);
    (some(4), some(3)).prop_map(|(wanted, granted)| Asking { wanted, granted })
}

/// The rule in three lines: wanted by one topic, and when private, granted by one.
fn delivered(asking: &Asking, topics: &[usize], private: bool) -> bool {
    let namespace = namespace();
    let any = |patterns: &[usize]| {
        patterns.iter().any(|pattern| {
            let (language, text) = PATTERNS[*pattern];
            let matcher = Matcher::parse(language, text, &namespace).unwrap();
            topics.iter().any(|topic| matcher.matches(&Candidate::new(TOPICS[*topic], &namespace)))
        })
    };
    any(&asking.wanted) && (!private || any(&asking.granted))
}

fn matchers(hub: &Hub, patterns: &[usize]) -> Vec<Arc<Matcher>> {
    patterns.iter().map(|at| hub.matcher(PATTERNS[*at].0, PATTERNS[*at].1).unwrap()).collect()
}

fn selection(hub: &Hub, asking: &Asking) -> Selection {
    let subscribe = matchers(hub, &asking.granted);
    let grant = Arc::new(Grant { subscribe, ..Grant::default() });
    Selection { matchers: matchers(hub, &asking.wanted), grant, scope: None }
}

/// Everything that a subscription gets up to this place.
async fn read(subscription: &mut Subscription, until: Offset) -> Vec<usize> {
    let mut batch = Batch::new();
    while subscription.take(&mut batch).unwrap().offset < until {
        tokio::task::yield_now().await;
    }
    batch.iter().map(|entry| usize::from(entry.update.data[0])).collect()
}

async fn check(
    hub: &Hub,
    askings: &[Asking],
    updates: &[(Vec<usize>, bool)],
    together: bool,
) -> Result<(), TestCaseError> {
    let mut live: Vec<_> =
        askings.iter().map(|one| hub.subscribe(selection(hub, one), Start::Now)).collect();
    let mut publishing = Vec::new();
    for (number, (topics, private)) in updates.iter().enumerate() {
        let data = vec![u8::try_from(number).unwrap()];
        let mut update = Update::new(Topic::parse(TOPICS[topics[0]]).unwrap(), data);
        update.topics = topics.iter().map(|at| Topic::parse(TOPICS[*at]).unwrap()).collect();
        update.private = *private;
        let hub = hub.clone();
        let publish = async move { hub.publish(&Grant::operator(), update).await.unwrap() };
        if together {
            publishing.push(tokio::task::spawn_local(publish));
        } else {
            publish.await;
        }
    }
    for published in publishing {
        published.await.unwrap();
    }
    let last = hub.last();
    for (asking, live) in askings.iter().zip(&mut live) {
        let mut replayed = hub.subscribe(selection(hub, asking), Start::Earliest);
        let expected: Vec<usize> = (0..updates.len())
            .filter(|number| delivered(asking, &updates[*number].0, updates[*number].1))
            .collect();
        prop_assert_eq!(&read(live, last).await, &expected, "live {:?}", asking);
        prop_assert_eq!(&read(&mut replayed, last).await, &expected, "replayed {:?}", asking);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn everybody_gets_exactly_what_the_rule_says_live_and_from_the_history(
        askings in proptest::collection::vec(asking(), 1..6),
        updates in proptest::collection::vec(
            (proptest::collection::vec(0..TOPICS.len(), 1..4), any::<bool>()), 0..12),
        (on_disk, together) in any::<(bool, bool)>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let history = match on_disk {
            true => HistoryOptions {
                path: Some(folder.path().to_owned()),
                durability: Durability::Written,
                ..in_memory()
            },
            false => in_memory(),
        };
        let hub = Hub::open(options(history), Arc::new(FakeClock::default())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, check(&hub, &askings, &updates, together))?;
    }
}
