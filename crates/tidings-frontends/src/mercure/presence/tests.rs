//! Whoever reads the list and applies what is announced behind its cursor ends with the truth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use proptest::prelude::*;
use tidings_core::{
    Batch, Clock, Durability, Grant, HistoryOptions, HubOptions, Keep, Namespace, Selection, Start,
    Subscription,
};

use super::list::{List, Wanted};
use super::*;
use crate::limits::{
    PRESENCE_CANCEL_WINDOW, PRESENCE_ENDED_MAX, PRESENCE_PENDING_SWEEP, PRESENCE_PIECE_BYTES,
};

struct Now(Instant);

impl Clock for Now {
    fn wall(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn hub() -> Hub {
    hub_at("https://hub.example/.well-known/mercure")
}

fn hub_at(url: &str) -> Hub {
    let url = url::Url::parse(url).unwrap();
    let history = HistoryOptions {
        hold_bytes: 0,
        path: None,
        durability: Durability::Memory,
        keep: Keep::default(),
        segment_bytes: 1024 * 1024,
    };
    let options = HubOptions { namespace: Namespace::new(url), update_bytes_max: 1 << 20, history };
    Hub::open(options, Arc::new(Now(Instant::now()))).unwrap()
}

/// With somebody to hear it in both generations.
fn presence(hub: &Hub) -> Presence {
    let presence = Presence::new(hub, std::thread::Builder::new()).unwrap();
    presence.spoken.draft.store(true, Ordering::Relaxed);
    presence.spoken.modern.store(true, Ordering::Relaxed);
    presence
}

fn watch(hub: &Hub, generation: Generation, start: Start) -> Subscription {
    let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
    let grant = Arc::new(Grant::operator());
    hub.subscribe(Selection { matchers, grant, scope: Some(scope(generation)) }, start)
}

fn join(presence: &Presence, generation: Generation, asked: &[(Language, &str)]) -> Present {
    let asked: Vec<_> =
        asked.iter().map(|(language, text)| Asked { language: *language, text }).collect();
    presence.join(generation, None, &asked)
}

/// The ids of everything that a list shows now.
fn listed(presence: &Presence, generation: Generation) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut after = Subscriber::FIRST;
    loop {
        let mut page = presence.registry.page(after, 3);
        let Some(last) = page.last() else { return found };
        after = last.subscriber;
        page.retain(|connection| presence.registry.list(connection.subscriber));
        for connection in &page {
            for shown in &connection.subscriptions {
                let place = documents::Place::Listed;
                let document = presence.documents.document(generation, connection, shown, place);
                found.extend(document.map(|document| read(&document).0));
            }
        }
    }
}

/// The id of a document and whether it is there.
fn read(document: &[u8]) -> (String, bool) {
    let document: serde_json::Value = serde_json::from_slice(document).unwrap();
    (document["id"].as_str().unwrap().to_owned(), document["active"].as_bool().unwrap())
}

/// Applies what was announced up to now.
fn apply(watching: &mut Subscription, hub: &Hub, known: &mut BTreeSet<String>) -> usize {
    let until = hub.end();
    let mut count = 0;
    loop {
        let mut batch = Batch::new();
        let taken = watching.take(&mut batch).unwrap();
        assert!(!taken.ephemerals_lost);
        for entry in batch.iter() {
            count += 1;
            let (id, active) = read(&entry.update.data);
            if active {
                known.insert(id)
            } else {
                known.remove(&id)
            };
        }
        if taken.offset >= until && batch.is_empty() {
            return count;
        }
        std::thread::yield_now();
    }
}

fn wait_until_quiet(presence: &Presence) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !presence.registry.is_quiet() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_join_and_leave_that_nobody_saw_is_not_announced_and_one_that_was_listed_is() {
    let hub = hub();
    let presence = presence(&hub);
    let mut watching = watch(&hub, Generation::Final, Start::Now);
    let one = [(Language::Exact, "a")];
    for _ in 0..1_000 {
        drop(join(&presence, Generation::Final, &one));
    }
    let seen = join(&presence, Generation::Final, &one);
    let mut known = listed(&presence, Generation::Final);
    assert_eq!(known.len(), 1);
    drop(seen);
    let stays = join(&presence, Generation::Final, &one);
    wait_until_quiet(&presence);
    assert_eq!(apply(&mut watching, &hub, &mut known), 2, "one end, one beginning");
    assert_eq!(known, listed(&presence, Generation::Final));
    drop(stays);
    wait_until_quiet(&presence);
    assert_eq!(apply(&mut watching, &hub, &mut known), 1);
    assert!(known.is_empty());
    assert!(listed(&presence, Generation::Final).is_empty());
}

#[test]
fn a_join_is_announced_when_it_lasts() {
    let hub = hub();
    let presence = presence(&hub);
    let mut watching = watch(&hub, Generation::Final, Start::Now);
    let begun = Instant::now();
    let _stays = join(&presence, Generation::Final, &[(Language::Exact, "a")]);
    wait_until_quiet(&presence);
    assert!(begun.elapsed() >= PRESENCE_CANCEL_WINDOW);
    let mut known = BTreeSet::new();
    apply(&mut watching, &hub, &mut known);
    assert_eq!(known, listed(&presence, Generation::Final));
}

#[test]
fn each_generation_sees_what_it_has_words_for() {
    let hub = hub();
    let presence = presence(&hub);
    let _modern = join(
        &presence,
        Generation::Final,
        &[
            (Language::Exact, "*"),
            (Language::UrlPattern, "*"),
            (Language::UrlPattern, "/a/:id"),
            (Language::Exact, "plain"),
            (Language::Exact, "{no template"),
            (Language::Exact, "looks/like/{one}"),
            (Language::UriTemplate, "is/{one}"),
            (Language::Mqtt, "a/+"),
            (Language::Nats, "a.*"),
        ],
    );
    let older = [(Language::UriTemplate, "t/{x}"), (Language::UriTemplate, "plain/2")];
    let _older = join(&presence, Generation::Draft, &older);
    let parts = |generation, depth: usize| {
        let listed = listed(&presence, generation);
        let cut = |id: &String| id.split('/').skip(4).take(depth).collect::<Vec<_>>().join(" ");
        listed.iter().map(cut).collect::<BTreeSet<String>>()
    };
    let expected = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        parts(Generation::Final, 2),
        expected(&[
            "exact %2A",
            "urlpattern %2A",
            "urlpattern %2Fa%2F%3Aid",
            "exact plain",
            "exact %7Bno%20template",
            "exact looks%2Flike%2F%7Bone%7D",
            "uritemplate is%2F%7Bone%7D",
            "mqtt a%2F%2B",
            "nats a.%2A",
            "uritemplate t%2F%7Bx%7D",
            "exact plain%2F2",
        ])
    );
    assert_eq!(
        parts(Generation::Draft, 1),
        expected(
            &["%2A", "plain", "%7Bno+template", "is%2F%7Bone%7D", "t%2F%7Bx%7D", "plain%2F2",]
        )
    );
}

#[test]
fn memory_is_given_back_when_everybody_left() {
    let hub = hub();
    let presence = presence(&hub);
    let everybody: Vec<_> = (0..2_000)
        .map(|number| {
            let topic = format!("https://example.com/{}", number / 2);
            join(&presence, Generation::Final, &[(Language::Exact, &topic)])
        })
        .collect();
    wait_until_quiet(&presence);
    drop(everybody);
    wait_until_quiet(&presence);
    assert!(presence.registry.is_empty());
}

#[test]
fn what_cannot_be_announced_holds_up_nobody() {
    // Its topics are those of another host when they are read as references: not the hub's own.
    let hub = hub_at("https://hub.example//other/hub");
    let presence = presence(&hub);
    let _stays = join(&presence, Generation::Final, &[(Language::Exact, "a")]);
    wait_until_quiet(&presence);
}

#[test]
fn who_asks_for_the_same_shares_one_pattern_as_long_as_somebody_does() {
    let registry = Registry::default();
    let join = |text: &str| {
        let shown = vec![(Pattern::new(Language::Exact, text), None)];
        registry.join(Subscriber::random(), None, shown)
    };
    let pattern = |of: &Arc<Connection>| Arc::clone(&of.subscriptions[0].pattern);
    let (first, second, other) = (join("a"), join("a"), join("b"));
    assert!(Arc::ptr_eq(&pattern(&first), &pattern(&second)));
    assert!(!Arc::ptr_eq(&pattern(&first), &pattern(&other)));
    registry.leave(&first);
    let third = join("a");
    assert!(Arc::ptr_eq(&pattern(&second), &pattern(&third)), "somebody still asked for it");
    registry.leave(&second);
    registry.leave(&third);
    let later = join("a");
    assert!(!Arc::ptr_eq(&pattern(&third), &pattern(&later)), "nobody did any more");
}

#[test]
fn the_thread_that_announces_ends_with_presence() {
    let presence = presence(&hub());
    let registry = Arc::clone(&presence.registry);
    drop(presence);
    let deadline = Instant::now() + Duration::from_secs(20);
    while Arc::strong_count(&registry) > 1 {
        assert!(Instant::now() < deadline, "it still waits for changes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_list_or_document_is_of_what_was_asked_for_in_every_part() {
    let pattern = Pattern::new(Language::Exact, "a");
    let last = |language, text: &str| Wanted::Final(language, text.to_owned()).is(&pattern);
    assert!(Wanted::All.is(&pattern));
    assert!(last(Language::Exact, "a"));
    assert!(!last(Language::Exact, "b") && !last(Language::Mqtt, "a"));
    let draft = |text: &str, pattern: &Pattern| Wanted::Draft(text.to_owned()).is(pattern);
    assert!(draft("a", &pattern) && !draft("b", &pattern));
    assert!(!draft("a", &Pattern::new(Language::Mqtt, "a")), "0.x has no words for it");
}

/// Many subscriptions of one connection, with patterns of so many bytes.
fn join_many(presence: &Presence, name: usize, count: usize, bytes: usize) -> Present {
    let topics: Vec<String> =
        (0..count).map(|number| format!("{name}/{number}/{}", "x".repeat(bytes))).collect();
    let asked: Vec<_> = topics.iter().map(|topic| (Language::Exact, topic.as_str())).collect();
    join(presence, Generation::Draft, &asked)
}

fn list_of(presence: &Presence, wanted: Wanted) -> List {
    let (registry, documents) = (presence.registry.clone(), presence.documents.clone());
    List::new(registry, documents, Generation::Final, wanted, "{\"subscriptions\":[".into())
}

#[tokio::test]
async fn a_list_comes_in_pieces_of_few_bytes_however_much_one_connection_brings() {
    let hub = hub();
    let presence = presence(&hub);
    let _everybody: Vec<_> = (0..3).map(|name| join_many(&presence, name, 200, 2_000)).collect();
    let mut body = list_of(&presence, Wanted::All).into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        assert!(piece.len() <= PRESENCE_PIECE_BYTES + 8_192, "{}", piece.len());
        whole.extend_from_slice(&piece);
    }
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let members = whole["subscriptions"].as_array().unwrap();
    let ids: BTreeSet<_> = members.iter().map(|member| member["id"].as_str().unwrap()).collect();
    assert_eq!((members.len(), ids.len()), (600, 600), "each once");
}

#[test]
fn who_keeps_up_a_little_loses_nothing_of_a_connection_with_many_or_large_subscriptions() {
    for (connections, count, bytes) in [(1, 600, 4_000), (20, 300, 1)] {
        let hub = hub();
        let presence = Presence::new(&hub, std::thread::Builder::new()).unwrap();
        presence.spoken.modern.store(true, Ordering::Relaxed);
        let mut watching = watch(&hub, Generation::Final, Start::Now);
        let _there: Vec<_> =
            (0..connections).map(|name| join_many(&presence, name, count, bytes)).collect();
        let mut known = BTreeSet::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while known.len() < connections * count {
            assert!(Instant::now() < deadline, "{} known", known.len());
            // A watcher on a network, not beside the hub.
            std::thread::sleep(Duration::from_millis(250));
            apply(&mut watching, &hub, &mut known);
        }
    }
}

#[test]
fn what_a_list_does_not_show_may_still_cancel_itself() {
    let hub = hub();
    let presence = presence(&hub);
    let mut watching = watch(&hub, Generation::Final, Start::Now);
    let shown = join(&presence, Generation::Final, &[(Language::Exact, "shown")]);
    let other = join(&presence, Generation::Final, &[(Language::Exact, "other")]);
    drop(list_of(&presence, Wanted::Final(Language::Exact, "shown".to_owned())).into_body());
    drop((shown, other));
    wait_until_quiet(&presence);
    assert_eq!(apply(&mut watching, &hub, &mut BTreeSet::new()), 1, "the end of what was shown");
}

#[test]
fn lists_add_no_ends_while_too_many_wait() {
    let registry = Registry::default();
    let join = || registry.join(Subscriber::random(), None, Vec::new());
    for _ in 0..PRESENCE_ENDED_MAX {
        let connection = join();
        assert!(registry.list(connection.subscriber));
        registry.leave(&connection);
        assert!(!registry.list(connection.subscriber), "gone");
    }
    let late = join();
    assert!(!registry.list(late.subscriber), "its beginning is announced later");
    assert_eq!(registry.wait_for_changes(1).unwrap().len(), 1);
    assert!(registry.list(late.subscriber));
}

#[test]
fn beginnings_are_forgotten_with_who_left_and_told_as_many_as_are_asked_for() {
    let registry = Registry::default();
    let join = || registry.join(Subscriber::random(), None, Vec::new());
    let (_one, _two) = (join(), join());
    // With the one that comes three are there: twice as many and some may be noted.
    let bound = 2 * 3 + PRESENCE_PENDING_SWEEP;
    for _ in 2..bound {
        registry.leave(&join());
    }
    assert_eq!(registry.begun(), bound);
    let _three = join();
    assert_eq!(registry.begun(), 3);
    std::thread::sleep(PRESENCE_CANCEL_WINDOW);
    assert_eq!(registry.wait_for_changes(2).unwrap().len(), 2);
    assert_eq!(registry.wait_for_changes(2).unwrap().len(), 1);
}

#[test]
fn presence_without_its_thread_does_not_start() {
    let thread = std::thread::Builder::new().stack_size(1 << 60);
    let error = Presence::new(&hub(), thread).err().unwrap();
    let said = crate::mercure::BadStart::Thread(error).to_string();
    assert!(said.contains("switch subscriptions off"), "{said}");
}

#[derive(Debug, Clone)]
enum Step {
    Join(Generation, usize),
    Leave(usize),
    Wait(u64),
    /// Reads the list again and watches behind its cursor.
    Watch,
}

fn step() -> impl Strategy<Value = Step> {
    let generation = prop_oneof![Just(Generation::Draft), Just(Generation::Final)];
    prop_oneof![
        4 => (generation, 0..4usize).prop_map(|(generation, topic)| Step::Join(generation, topic)),
        3 => (0..8usize).prop_map(Step::Leave),
        2 => (0..60u64).prop_map(Step::Wait),
        1 => Just(Step::Watch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn list_and_announcements_together_are_the_truth(
        steps in proptest::collection::vec(step(), 0..24),
    ) {
        let hub = hub();
        let presence = presence(&hub);
        let mut present = Vec::new();
        let mut watchers = Vec::new();
        for step in steps {
            match step {
                Step::Join(generation, topic) => {
                    let topic = ["*", "a b", "t/{x}", "/r"][topic];
                    let language = Language::UriTemplate;
                    present.push(join(&presence, generation, &[(language, topic)]));
                }
                Step::Leave(which) if which < present.len() => drop(present.swap_remove(which)),
                Step::Leave(_) => {}
                Step::Wait(milliseconds) => {
                    std::thread::sleep(Duration::from_millis(milliseconds));
                }
                Step::Watch => {
                    for generation in [Generation::Draft, Generation::Final] {
                        let cursor = hub.end();
                        let known = listed(&presence, generation);
                        watchers.push((generation, cursor, known));
                    }
                }
            }
        }
        wait_until_quiet(&presence);
        for (generation, cursor, mut known) in watchers {
            let mut watching = watch(&hub, generation, Start::After(cursor));
            apply(&mut watching, &hub, &mut known);
            prop_assert_eq!(known, listed(&presence, generation));
        }
    }
}
