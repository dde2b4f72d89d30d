//! Coming back: section "Reconnection and state reconciliation" of the Mercure protocol, both
//! generations. Where the two differ, column A of 0.x decides for tokens of 0.x.

use crate::http::{self, Connection, Event, Pairs, encode, request};
use crate::hub::{HUB, Launch, TestHub};
use crate::mercure::{MEMORY, marked, publish_end, refused_get, until_mark, with_token};
use crate::tokens::{Role, bearer, token_draft, token_final};

const TOPIC: &str = "https://replay.example/1";
/// Every spelling of the cursor's parameter that clients use.
const SPELLINGS: [&str; 4] = ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"];

/// What a subscriber is told and sent, up to now.
#[derive(Debug)]
struct Replay {
    /// `Mercure-Last-Event-ID`.
    header: Option<String>,
    events: Vec<Event>,
}

impl Replay {
    fn data(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.data.as_str()).collect()
    }
}

/// Subscribes and reads up to now. Both response headers say the same, or neither is there.
#[track_caller]
fn replay_with(hub: &TestHub, token: &str, query: &str, headers: Pairs<'_>) -> Replay {
    let mut stream = hub.subscribe_with(token, &marked(query), headers);
    let header = stream.head.header("mercure-last-event-id");
    assert_eq!(header, stream.head.header("last-event-id"), "each generation reads its own");
    Replay { header, events: until_mark(hub, &mut stream) }
}

#[track_caller]
fn replay(hub: &TestHub, query: &str, headers: Pairs<'_>) -> Replay {
    replay_with(hub, &token_final(Role::Subscribe, &["*"]), query, headers)
}

#[track_caller]
fn replay_draft(hub: &TestHub, query: &str, headers: Pairs<'_>) -> Replay {
    replay_with(hub, &token_draft(Role::Subscribe, &["*"]), query, headers)
}

/// Publishes `0`, `1`, …; gives the ids.
fn publish_numbers(hub: &TestHub, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| hub.publish(&[("topic", TOPIC), ("data", &number.to_string())]))
        .collect()
}

/// Publishes many in a row on a few connections, in order on each.
fn publish_many(hub: &TestHub, count: usize) {
    let authorization = bearer(&token_final(Role::Publish, &["*"]));
    let headers =
        [with_token(&authorization), ("Content-Type", "application/x-www-form-urlencoded")];
    let mut connection = Connection::open(hub.address);
    let mut sent = 0;
    while sent < count {
        // A window of requests at once on one connection: answers come in the order asked.
        let window = 64.min(count - sent);
        let mut bytes = Vec::new();
        for number in sent..sent + window {
            let data = number.to_string();
            let body =
                http::form(&[("topic", TOPIC), ("data", &data), ("id", &format!("n{data}"))]);
            bytes.extend_from_slice(&request("POST", HUB, &headers, body.as_bytes()));
        }
        connection.send(&bytes);
        for _ in 0..window {
            connection.reply().unwrap().expect(200);
        }
        sent += window;
    }
}

#[test]
fn m61_every_spelling_of_the_cursor_brings_what_came_after_it() {
    let hub = TestHub::start(MEMORY);
    let ids = publish_numbers(&hub, 4);
    let matcher = [format!("match={}", encode(TOPIC)), format!("topic={}", encode(TOPIC))];
    for (number, id) in ids.iter().enumerate() {
        let expected: Vec<String> = (number + 1..4).map(|number| number.to_string()).collect();
        let mut found = vec![
            replay(&hub, &matcher[0], &[("Last-Event-ID", id)]),
            replay_draft(&hub, &matcher[1], &[("Last-Event-ID", id)]),
        ];
        for name in SPELLINGS {
            found.push(replay(&hub, &format!("{}&{name}={}", matcher[0], encode(id)), &[]));
            found.push(replay_draft(&hub, &format!("{}&{name}={}", matcher[1], encode(id)), &[]));
        }
        for replay in found {
            assert_eq!(replay.data(), expected, "after {number}");
            assert_eq!(replay.header.as_deref(), Some(id.as_str()), "after {number}");
        }
    }
}

#[test]
fn m61_the_header_wins_over_the_query() {
    let hub = TestHub::start(MEMORY);
    let ids = publish_numbers(&hub, 3);
    for name in SPELLINGS {
        let cursor = format!("{name}={}", encode(&ids[0]));
        let header = [("Last-Event-ID", ids[1].as_str())];
        assert_eq!(replay(&hub, &format!("match=*&{cursor}"), &header).data(), ["2"]);
        assert_eq!(replay_draft(&hub, &format!("topic=*&{cursor}"), &header).data(), ["2"]);
        // Several spellings at once, as some template helpers write them.
        let both = format!("match=*&{cursor}&lastEventID={0}&Last-Event-ID={0}", encode(&ids[0]));
        assert_eq!(replay(&hub, &both, &[]).data(), ["1", "2"]);
    }
}

#[test]
fn m61_m62_what_is_replayed_is_filtered_by_matchers_and_the_token_of_now() {
    let hub = TestHub::start(MEMORY);
    let (a, b) = ("https://replay.example/a", "https://replay.example/b");
    let first = hub.publish(&[("topic", TOPIC), ("data", "first")]);
    hub.publish(&[("topic", a), ("data", "public a")]);
    hub.publish(&[("topic", a), ("private", "on"), ("data", "private a")]);
    hub.publish(&[("topic", b), ("private", "on"), ("data", "private b")]);
    hub.publish(&[("topic", b), ("topic", a), ("private", "on"), ("data", "private both")]);
    hub.publish(&[("topic", b), ("data", "public b")]);
    let cursor = [("Last-Event-ID", first.as_str())];
    let matcher = format!("match={}", encode(a));
    for (topics, query, expected) in [
        (
            &["*"][..],
            "match=*",
            &["public a", "private a", "private b", "private both", "public b"][..],
        ),
        (&["*"], &matcher, &["public a", "private a", "private both"]),
        (&[a], "match=*", &["public a", "private a", "private both", "public b"]),
        (&[b], "match=*", &["public a", "private b", "private both", "public b"]),
        (&[b], &matcher, &["public a", "private both"]),
        (&[TOPIC], "match=*", &["public a", "public b"]),
    ] {
        let token = token_final(Role::Subscribe, topics);
        let case = format!("{topics:?} {query}");
        assert_eq!(replay_with(&hub, &token, query, &cursor).data(), expected, "{case}");
        let token = token_draft(Role::Subscribe, topics);
        let query = query.replace("match=", "topic=");
        assert_eq!(replay_with(&hub, &token, &query, &cursor).data(), expected, "0.x {case}");
    }
}

#[test]
fn m63_m65_earliest_brings_everything_that_is_kept() {
    let hub = TestHub::start(MEMORY);
    let empty = replay(&hub, "match=nothing&last_event_id=earliest", &[]);
    assert_eq!((empty.header.as_deref(), empty.data().len()), (Some("earliest"), 0));
    publish_numbers(&hub, 3);
    for found in [
        replay(&hub, "match=*&last_event_id=earliest", &[]),
        replay(&hub, "match=*", &[("Last-Event-ID", "earliest")]),
        replay_draft(&hub, "topic=*&lastEventID=earliest", &[]),
        replay_draft(&hub, "topic=*", &[("Last-Event-ID", "earliest")]),
    ] {
        assert_eq!(found.data(), ["0", "1", "2"]);
        assert_eq!(found.header.as_deref(), Some("earliest"));
    }
}

#[test]
fn m64_a_cursor_that_names_several_updates_means_the_earliest() {
    let hub = TestHub::start(MEMORY);
    for (id, data) in
        [("x", "0"), ("same", "1"), ("y", "2"), ("same", "3"), ("same", "4"), ("z", "5")]
    {
        hub.publish(&[("topic", TOPIC), ("id", id), ("data", data)]);
    }
    let found = replay(&hub, "match=*&last_event_id=same", &[]);
    assert_eq!(found.data(), ["2", "3", "4", "5"]);
    assert_eq!(found.header.as_deref(), Some("same"));
    let found = replay_draft(&hub, "topic=*&lastEventID=same", &[]);
    assert_eq!(found.data(), ["2", "3", "4", "5"]);
    assert_eq!(replay(&hub, "match=*&last_event_id=x", &[]).data(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn m65_the_answer_names_the_update_before_the_first_that_is_sent() {
    // The history is empty: whatever is asked, nothing comes before.
    let empty = TestHub::start(MEMORY);
    for cursor in ["", "earliest", "unknown"] {
        let stream = empty.subscribe(&format!("match=*&last_event_id={cursor}"));
        let header = stream.head.header("mercure-last-event-id");
        assert_eq!(header.as_deref(), Some("earliest"), "{cursor:?}");
    }
    let hub = TestHub::start(MEMORY);
    let ids = publish_numbers(&hub, 3);
    // Without a cursor nothing is said and nothing replayed.
    let found = replay(&hub, "match=*", &[]);
    assert_eq!((found.header.clone(), found.data().len()), (None, 0));
    for (case, query, headers) in [
        ("in the query", "match=*&last_event_id=", &[][..]),
        ("without a value", "match=*&last_event_id", &[]),
        ("in the header", "match=*", &[("Last-Event-ID", "")]),
    ] {
        let hub = TestHub::start(MEMORY);
        let ids = publish_numbers(&hub, 3);
        let found = replay(&hub, query, headers);
        assert_eq!(found.header.as_deref(), Some(ids[2].as_str()), "an empty cursor {case}");
        assert_eq!(found.data().len(), 0, "an empty cursor {case}");
    }
    // An id that is not, or no longer, known: everything that is kept, and the client is told.
    for cursor in [
        "unknown",
        "#1",
        "urn:uuid:00000000-0000-4000-8000-000000000000",
        "urn:uuid:ffffffff-ffff-ffff-ffff-ffffffffffff",
        "é",
        "a b",
        &"x".repeat(5_000),
    ] {
        let found = replay(&hub, &format!("match=*&last_event_id={}", encode(cursor)), &[]);
        assert_eq!(found.header.as_deref(), Some("earliest"), "{cursor:.50}");
        assert_eq!(found.data(), ["0", "1", "2"], "{cursor:.50}");
    }
    let found = replay(&hub, &format!("match=*&last_event_id={}", encode(&ids[1])), &[]);
    assert_eq!((found.header.as_deref(), found.data()), (Some(ids[1].as_str()), vec!["2"]));
}

#[test]
fn a_cursor_of_another_history_is_unknown() {
    let other = TestHub::start(MEMORY);
    let foreign = other.publish(&[("topic", TOPIC), ("data", "elsewhere")]);
    let hub = TestHub::start(MEMORY);
    publish_numbers(&hub, 2);
    let found = replay(&hub, &format!("match=*&last_event_id={}", encode(&foreign)), &[]);
    assert_eq!((found.header.as_deref(), found.data()), (Some("earliest"), vec!["0", "1"]));
}

#[test]
fn m66_the_answer_does_not_betray_the_id_of_a_private_update() {
    let hub = TestHub::start(MEMORY);
    hub.publish(&[("topic", TOPIC), ("data", "public"), ("id", "public-id")]);
    hub.publish(&[("topic", TOPIC), ("data", "no"), ("id", "secret-id"), ("private", "on")]);
    let stranger = token_final(Role::Subscribe, &["https://replay.example/other"]);
    let stranger_draft = token_draft(Role::Subscribe, &["https://replay.example/other"]);
    for (token, query) in
        [(&stranger, "match=*&last_event_id="), (&stranger_draft, "topic=*&lastEventID=unknown")]
    {
        let mut stream = hub.subscribe_with(token, &marked(query), &[]);
        let header = stream.head.header("mercure-last-event-id").unwrap();
        assert_ne!(header, "secret-id", "{query}");
        assert_eq!(until_mark(&hub, &mut stream), [], "{query}");
        // It is a place to go on from all the same.
        let found = replay(&hub, &format!("match=*&last_event_id={}", encode(&header)), &[]);
        assert_eq!(found.data(), Vec::<&str>::new(), "{query}");
    }
}

#[test]
fn a_cursor_response_header_is_sent_by_0_x_only_for_a_cursor_that_is_not_empty() {
    let hub = TestHub::start(MEMORY);
    let ids = publish_numbers(&hub, 3);
    let found = replay_draft(&hub, "topic=*", &[]);
    assert_eq!((found.header, found.events.len()), (None, 0));
    for name in SPELLINGS {
        let found = replay_draft(&hub, &format!("topic=*&{name}="), &[]);
        assert_eq!((found.header, found.events.len()), (None, 0), "{name}");
    }
    let found = replay_draft(&hub, "topic=*", &[("Last-Event-ID", "")]);
    assert_eq!((found.header, found.events.len()), (None, 0));
    let found = replay_draft(&hub, "topic=*", &[("Last-Event-ID", &ids[1])]);
    assert_eq!((found.header.as_deref(), found.data()), (Some(ids[1].as_str()), vec!["2"]));
}

#[test]
fn a_unknown_id_goes_live_in_0_x_and_names_the_last_readable_id() {
    let hub = TestHub::start(MEMORY);
    let ids = publish_numbers(&hub, 3);
    let mut stream = hub.subscribe_draft(&marked("topic=*&lastEventID=unknown"));
    assert_eq!(stream.head.header("last-event-id").as_deref(), Some(ids[2].as_str()));
    hub.publish(&[("topic", TOPIC), ("data", "live")]);
    let seen: Vec<String> =
        until_mark(&hub, &mut stream).into_iter().map(|event| event.data).collect();
    assert_eq!(seen, ["live"]);
}

#[test]
fn what_is_published_while_a_client_comes_back_is_neither_lost_nor_repeated() {
    const COUNT: usize = 400;
    let hub = TestHub::start(MEMORY);
    publish_many(&hub, COUNT / 2);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let authorization = bearer(&token_final(Role::Publish, &["*"]));
            for number in COUNT / 2..COUNT {
                let data = number.to_string();
                hub.post(&[with_token(&authorization)], &[("topic", TOPIC), ("data", &data)])
                    .expect(200);
            }
        });
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let hub = &hub;
                scope.spawn(move || {
                    let first = 10 * reader + 1;
                    let cursor = format!("n{}", first - 1);
                    let mut stream = hub.subscribe(&format!("match=*&last_event_id={cursor}"));
                    let expected: Vec<String> =
                        (first..COUNT).map(|number| number.to_string()).collect();
                    assert_eq!(stream.data(COUNT - first), expected);
                })
            })
            .collect();
        publisher.join().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_client_that_is_far_behind_gets_all_it_missed() {
    const COUNT: usize = 12_000;
    let hub = TestHub::start(MEMORY);
    publish_many(&hub, COUNT);
    for first in [1, COUNT - 5] {
        let mut stream = hub.subscribe(&format!("match=*&last_event_id=n{}", first - 1));
        for number in first..COUNT {
            assert_eq!(stream.event().data, number.to_string());
        }
    }
}

#[test]
fn the_history_outlives_a_restart() {
    let hub = TestHub::launch(Launch::default());
    let ids = publish_numbers(&hub, 10);
    let mine = hub.publish(&[("topic", TOPIC), ("data", "10"), ("id", "mine")]);
    assert_eq!(mine, "mine");
    let hub = hub.restart();
    let mut stream = hub.subscribe(&format!("match=*&last_event_id={}", encode(&ids[7])));
    let header = stream.head.header("mercure-last-event-id");
    assert_eq!(header.as_deref(), Some(ids[7].as_str()));
    assert_eq!(stream.data(3), ["8", "9", "10"]);
    let mut stream = hub.subscribe("match=*&last_event_id=earliest");
    assert_eq!(stream.data(11).len(), 11);
    let mut stream = hub.subscribe("match=*&last_event_id=mine");
    hub.publish(&[("topic", TOPIC), ("data", "11")]);
    assert_eq!(stream.event().data, "11");
}

#[test]
fn the_replay_for_strangers_is_bounded_where_that_is_configured() {
    let toml = format!("{MEMORY}[auth]\nanonymous = true\n[mercure]\nanonymous_replay_max = 3");
    let hub = TestHub::start(&toml);
    let ids = publish_numbers(&hub, 8);
    // No cursor names this place: it is not the beginning, so it is not called that.
    for cursor in ["earliest", "unknown"] {
        let target = format!("{HUB}?match={}&last_event_id={cursor}", encode(TOPIC));
        let mut stream = hub.stream(&target, &[]);
        assert_eq!(stream.head.status, 200);
        let header = stream.head.header("mercure-last-event-id").unwrap();
        assert_ne!(header, "earliest");
        assert_eq!(stream.data(3), ["5", "6", "7"], "{cursor}");
        // And what it is called leads there again.
        let again = format!("{HUB}?match={}&last_event_id={}", encode(TOPIC), encode(&header));
        assert_eq!(hub.stream(&again, &[]).data(3), ["5", "6", "7"]);
    }
    // Who names a place that exists gets everything after it, and so does who has a token.
    let target = format!("{HUB}?match=*&last_event_id={}", encode(&ids[0]));
    assert_eq!(hub.stream(&target, &[]).data(7), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(hub.subscribe("match=*&last_event_id=earliest").data(8).len(), 8);
}

#[test]
fn cursors_of_any_text_come_back_in_a_header_and_inject_none() {
    let hub = TestHub::start(MEMORY);
    for id in ["été/日本", "a b", "a:b, c", "\"q\"", "%41", "a+b&c=d"] {
        hub.publish(&[("topic", TOPIC), ("id", id), ("data", "named")]);
        hub.publish(&[("topic", TOPIC), ("data", id)]);
        for found in [
            replay(&hub, "match=*", &[("Last-Event-ID", id)]),
            replay(&hub, &format!("match=*&last_event_id={}", encode(id)), &[]),
        ] {
            assert_eq!(found.data(), [id]);
            assert_eq!(found.header.as_deref(), Some(id));
        }
        hub.publish(&[("topic", TOPIC), ("id", &format!("behind {id}")), ("data", "x")]);
        let found = replay(&hub, &format!("match=*&last_event_id={}", encode(id)), &[]);
        assert_eq!(found.data(), [id, "x"]);
    }
    // Ids of 0.x may hold what no header can carry: the place is named otherwise then.
    let fields = [("topic", TOPIC), ("id", "a\u{1}b"), ("data", "named")];
    hub.publish_draft(&fields);
    hub.publish(&[("topic", TOPIC), ("data", "after")]);
    let found = replay_draft(&hub, "topic=*&lastEventID=a%01b", &[]);
    assert_eq!(found.data(), ["after"]);
    let again = format!("match=*&last_event_id={}", encode(&found.header.unwrap()));
    assert_eq!(replay(&hub, &again, &[]).data(), ["after"]);
    for cursor in ["x%0D%0AX-Forged:%201", "x%0AX-Forged:%201", "x%00", "%FF"] {
        for query in
            [format!("match=*&last_event_id={cursor}"), format!("topic=*&lastEventID={cursor}")]
        {
            let token = match query.starts_with("topic") {
                true => token_draft(Role::Subscribe, &["*"]),
                false => token_final(Role::Subscribe, &["*"]),
            };
            let stream = hub.subscribe_with(&token, &query, &[]);
            assert_eq!(stream.head.header("x-forged"), None, "{query}");
        }
    }
}

#[test]
fn a_refused_subscriber_is_told_no_cursor() {
    let hub = TestHub::start(MEMORY);
    publish_numbers(&hub, 1);
    publish_end(&hub);
    let token = token_final(Role::Subscribe, &["*"]);
    let reply = refused_get(&hub, &token, "last_event_id=earliest").expect(400);
    assert_eq!(reply.header("mercure-last-event-id"), None);
    assert_eq!(reply.header("last-event-id"), None);
}
