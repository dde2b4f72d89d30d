//! Who is subscribed to what: announced and listed, in the words of both generations.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Connection, Event, EventStream, PATIENCE, Pairs, Reply, encode, request};
use crate::hub::{HUB, Launch, TestHub};
use crate::mercure::{
    MEMORY, METADATA, data_until_mark, expect_challenge, expect_draft, expect_problem,
    expect_unauthorized, marked, until_mark, with_token,
};
use crate::tokens::{
    PUBLIC_URL, Role, bearer, claims_final, detail, mint, token_draft, token_final,
};

/// The test configuration with presence, in memory.
const PRESENCE: &str = "[history]\ndurability = \"memory\"\n[mercure]\nsubscriptions = true\n";
const LIST: &str = "/.well-known/mercure/subscriptions";
const TOPIC: &str = "https://e.com/books/1?a=b c";
const UNKNOWN: &str = "urn%3Auuid%3A00000000-0000-4000-8000-000000000000";

/// A 1.0 subscriber's token with these details.
fn token_of(details: &Value) -> String {
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    mint(&header, &claims_final(details.clone()), Role::Subscribe.key())
}

/// Everything, and in 1.0 or 0.x.
fn all(is_draft: bool) -> String {
    if is_draft {
        token_draft(Role::Subscribe, &["*"])
    } else {
        token_final(Role::Subscribe, &["*"])
    }
}

#[track_caller]
fn get_with(hub: &TestHub, token: &str, target: &str, headers: Pairs<'_>) -> Reply {
    let bearer = bearer(token);
    let mut pairs = vec![with_token(&bearer)];
    pairs.extend_from_slice(headers);
    hub.get(target, &pairs)
}

#[track_caller]
fn get(hub: &TestHub, token: &str, target: &str) -> Reply {
    get_with(hub, token, target, &[])
}

/// The cursor in the `Link` field of a list.
fn cursor(reply: &Reply) -> String {
    let link = reply.header("link").unwrap();
    let rest = link.split_once("last-event-id=\"").unwrap().1;
    rest.split_once('"').unwrap().0.to_owned()
}

/// The next announcement about this topic, as JSON, with what carried it.
#[track_caller]
fn announced(stream: &mut EventStream, name: &str, text: &str) -> (Value, Event) {
    loop {
        let event = stream.event();
        let document: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if document[name] == text {
            return (document, event);
        }
    }
}

/// Opens a stream, and waits until everybody was told of it.
#[track_caller]
fn subscribe_and_see(hub: &TestHub, token: &str, query: &str) -> (EventStream, String) {
    let before = subscribers(hub);
    let stream = hub.subscribe_with(token, query, &[]);
    let after = subscribers(hub);
    let new: Vec<&String> = after.difference(&before).collect();
    assert_eq!(new.len(), 1, "one connection, one subscriber");
    (stream, new[0].clone())
}

fn subscribers(hub: &TestHub) -> BTreeSet<String> {
    let list = get(hub, &all(false), LIST).expect(200).json();
    let list = list["subscriptions"].as_array().unwrap();
    list.iter().map(|one| one["subscriber"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn m67_m69_watchers_are_told_of_beginnings_and_ends_in_1_0() {
    let hub = TestHub::start(PRESENCE);
    let mut watcher = hub.subscribe("match=*");
    let payload = json!({ "name": "Ann", "n": [1, 2] });
    let mut with_payload = detail(Role::Subscribe, &[TOPIC]);
    with_payload["payload"] = payload.clone();
    let token = token_of(&json!([with_payload]));
    let query = format!("match={}&match_urlpattern=/a/:b&x=y", encode(TOPIC));
    let (stream, subscriber) = subscribe_and_see(&hub, &token, &query);
    let id = format!("{LIST}/exact/{}/{}", encode(TOPIC), encode(&subscriber));
    let expected = json!({
        "id": id, "type": "subscription", "match_type": "exact", "match": TOPIC,
        "subscriber": subscriber, "active": true, "payload": payload,
    });
    let (document, event) = announced(&mut watcher, "match", TOPIC);
    assert_eq!(document, expected);
    assert_eq!(event.event.as_deref(), Some("mercure"));
    assert!(event.id.is_some_and(|id| id.starts_with("urn:uuid:")));
    let (document, _) = announced(&mut watcher, "match", "/a/:b");
    let id = format!("{LIST}/urlpattern/%2Fa%2F%3Ab/{}", encode(&subscriber));
    assert_eq!(document["id"], json!(id), "one subscriber for all of a connection's matchers");
    assert_eq!(document.get("payload"), None, "no detail speaks of this one");
    drop(stream);
    let (document, event) = announced(&mut watcher, "match", TOPIC);
    let mut ended = expected;
    ended["active"] = json!(false);
    assert_eq!(document, ended);
    assert_eq!(event.event.as_deref(), Some("mercure"));
}

#[test]
fn m58_the_payload_is_that_of_the_first_detail_that_matches_the_pattern_as_a_topic() {
    let hub = TestHub::start(PRESENCE);
    let with = |topics: Value, payload: Option<Value>| {
        let mut one = detail(Role::Subscribe, &[]);
        one["topics"] = topics;
        if let Some(payload) = payload {
            one["payload"] = payload;
        }
        one
    };
    let token = token_of(&json!([
        with(json!([{ "match": "without" }]), None),
        with(json!([{ "match": "/a/:b", "match_type": "urlpattern" }]), Some(json!({ "n": 1 }))),
        with(json!([{ "match": "https://e.com/{id}" }]), Some(json!({ "n": 2 }))),
        with(json!([{ "match": "*" }]), Some(json!({ "n": 3 }))),
    ]));
    let patterns = ["without", "/a/1", "https://e.com/{id}", "https://e.com/1", "*"];
    let query: Vec<_> = patterns.iter().map(|text| format!("match={}", encode(text))).collect();
    let _stream = hub.subscribe_with(&token, &query.join("&"), &[]);
    let list = get(&hub, &all(false), LIST).expect(200).json();
    let payload = |text: &str| {
        let list = list["subscriptions"].as_array().unwrap();
        list.iter().find(|one| one["match"] == text).unwrap().get("payload").cloned()
    };
    assert_eq!(payload("without"), None, "the first that matches has none");
    assert_eq!(payload("/a/1"), Some(json!({ "n": 1 })));
    assert_eq!(payload("https://e.com/{id}"), Some(json!({ "n": 2 })));
    assert_eq!(payload("https://e.com/1"), Some(json!({ "n": 3 })));
    assert_eq!(payload("*"), Some(json!({ "n": 3 })));
}

#[test]
fn m68_nobody_chooses_a_subscriber() {
    let hub = TestHub::start(PRESENCE);
    let forged = "urn:uuid:00000000-0000-4000-8000-000000000000";
    let mut claimed = detail(Role::Subscribe, &["*"]);
    claimed["payload"] = json!({ "subscriber": forged, "active": false });
    claimed["subscriber"] = json!(forged);
    let token = token_of(&json!([claimed]));
    let query = format!("match=a&subscriber={forged}&id={forged}");
    let _streams: Vec<_> =
        (0..2).map(|_| hub.subscribe_with(&token, &query, &[("Subscriber", forged)])).collect();
    let found = subscribers(&hub);
    assert_eq!(found.len(), 2, "each connection has its own");
    for subscriber in &found {
        assert_ne!(subscriber, forged);
        assert!(subscriber.starts_with("urn:uuid:") && subscriber.len() == 45, "{subscriber}");
        assert_eq!(&subscriber[23..24], "4", "{subscriber}");
    }
    let target = format!("{LIST}/exact/a/{}", encode(forged));
    expect_problem(&get(&hub, &all(false), &target), 404, "nobody is called that");
}

#[test]
fn m70_m72_lists_and_single_documents_of_1_0() {
    let hub = TestHub::start(PRESENCE);
    let token = all(false);
    let empty = get(&hub, &token, LIST).expect(200);
    let expected = json!({ "id": LIST, "type": "subscriptions", "subscriptions": [] });
    assert_eq!(empty.json(), expected);
    let both = format!("match={}&match_mqtt={}", encode(TOPIC), encode("a/+/#"));
    let (one, first) = subscribe_and_see(&hub, &token, &both);
    let (_two, second) = subscribe_and_see(&hub, &token, &format!("match={}", encode(TOPIC)));
    let all_of_them = get(&hub, &token, LIST).expect(200);
    assert_eq!(all_of_them.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(all_of_them.json()["subscriptions"].as_array().unwrap().len(), 3);
    let collection = format!("{LIST}/exact/{}", encode(TOPIC));
    let list = get(&hub, &token, &format!("{collection}?x=y")).expect(200).json();
    assert_eq!(list["id"], json!(collection), "the path, without the query");
    let list = list["subscriptions"].as_array().unwrap().clone();
    let found: BTreeSet<_> = list.iter().map(|one| one["subscriber"].clone().to_string()).collect();
    assert_eq!(found, [&first, &second].map(|one| json!(one).to_string()).into());
    for document in &list {
        let alone = get(&hub, &token, document["id"].as_str().unwrap()).expect(200);
        assert_eq!(alone.json(), *document, "the same on its own");
        assert_eq!(alone.header("content-type").as_deref(), Some("application/json"));
    }
    let filter = format!("{LIST}/mqtt/{}", encode("a/+/#"));
    let list = get(&hub, &token, &filter).expect(200).json();
    assert_eq!(list["subscriptions"][0]["match_type"], "mqtt");
    for absent in [
        format!("{LIST}/"),
        format!("{LIST}/exact"),
        format!("{LIST}/regexp/a"),
        format!("{LIST}/Exact/a"),
        format!("{LIST}/exact/a/{UNKNOWN}"),
        format!("{collection}/{UNKNOWN}"),
        format!("{LIST}/urlpattern/{}/{}", encode(TOPIC), encode(&first)),
        format!("{LIST}/exact/other/{}", encode(&first)),
        format!("{collection}/{}/x", encode(&first)),
        format!("{LIST}/exact/%2e%2e"),
        format!("{LIST}/exact/%FF"),
    ] {
        expect_problem(&get(&hub, &token, &absent), 404, &absent);
    }
    // Encoded twice is another topic, of which there is nothing.
    let twice = get(&hub, &token, &format!("{LIST}/exact/{}", encode(&encode(TOPIC)))).expect(200);
    assert_eq!(twice.json()["subscriptions"], json!([]));
    let ended = format!("{collection}/{}", encode(&first));
    get(&hub, &token, &ended).expect(200);
    drop(one);
    wait_until(|| get(&hub, &token, &ended).status == 404);
    assert_eq!(subscribers(&hub), [second].into());
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never was so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_no_path_can_name_and_what_tenants_ask_for_is_neither_listed_nor_announced() {
    let hub = TestHub::start(PRESENCE);
    for (is_draft, parameter) in [(false, "match"), (true, "topic")] {
        let mut watcher = hub.subscribe_with(&all(is_draft), &format!("{parameter}=*"), &[]);
        let tenant = "urn:tidings:audience:8a9c4f6e-7d1b-4f53-9c0e-3b1f0a2d4c5e:secret";
        let query = format!("{parameter}=.&{parameter}=..&{parameter}={tenant}&{parameter}=seen");
        let _stream = hub.subscribe_with(&all(is_draft), &query, &[]);
        announced(&mut watcher, parameter, "seen");
        let list = get(&hub, &all(is_draft), LIST).expect(200).json();
        let shown = list["subscriptions"].as_array().unwrap().clone();
        let of = |text: &str| shown.iter().filter(|one| one[parameter] == text).count();
        assert_eq!((of("."), of(".."), of(tenant), of("seen")), (0, 0, 0, 1), "{shown:?}");
        let said = String::from_utf8_lossy(&watcher.raw).into_owned();
        assert!(!said.contains("/../") && !said.contains("/./"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn m71_a_list_is_read_by_who_is_granted_its_path() {
    let hub = TestHub::start(PRESENCE);
    let (_stream, subscriber) = subscribe_and_see(&hub, &all(false), "match=a%2Fb");
    let collection = format!("{LIST}/exact/a%2Fb");
    let one = format!("{collection}/{}", encode(&subscriber));
    let pattern = |text: &str| {
        let mut one = detail(Role::Subscribe, &[]);
        one["topics"] = json!([{ "match": text, "match_type": "urlpattern" }]);
        token_of(&json!([one]))
    };
    let exact = |text: &str| token_final(Role::Subscribe, &[text]);
    let absolute = format!("{PUBLIC_URL}{LIST}");
    for (name, token, allowed) in [
        ("everything", all(false), [true, true, true]),
        ("the list", exact(LIST), [true, false, false]),
        ("the collection", exact(&collection), [false, true, false]),
        ("one", exact(&one), [false, false, true]),
        ("decoded", exact(&format!("{LIST}/exact/a/b")), [false, false, false]),
        ("absolute", exact(&absolute), [false, false, false]),
        ("something else", exact("https://e.com/1"), [false, false, false]),
        ("a pattern", pattern(&format!("{LIST}/exact/:topic")), [false, true, false]),
        ("a longer one", pattern(&format!("{LIST}/:a/:b/:c")), [false, false, true]),
        ("an absolute one", pattern(&format!("{absolute}*")), [true, true, true]),
        ("of another host", pattern("https://other.example/*"), [false, false, false]),
    ] {
        for (target, allowed) in [LIST, &collection, &one].into_iter().zip(allowed) {
            let reply = get(&hub, &token, target);
            match allowed {
                true => drop(reply.expect(200)),
                false => expect_challenge(&reply, 403, Some("insufficient_scope"), name),
            }
        }
    }
    let nobody = hub.get(LIST, &[]);
    expect_challenge(&nobody, 401, None, "without a token");
    let wrong = token_final(Role::Publish, &["*"]);
    expect_challenge(&get(&hub, &wrong, LIST), 401, Some("invalid_token"), "a publisher's");
    let absent = format!("{LIST}/nothing/of/the/kind");
    let reply = get(&hub, &exact(LIST), &absent);
    expect_challenge(&reply, 403, Some("insufficient_scope"), "who may not ask learns nothing");
}

#[test]
fn m71_strangers_read_no_list_also_where_they_may_subscribe() {
    let hub = TestHub::start(&format!("{PRESENCE}[auth]\nanonymous = true\n"));
    let mut stranger = hub.stream(&format!("{HUB}?match=*"), &[]);
    stranger.until_open();
    expect_challenge(&hub.get(LIST, &[]), 401, None, "without a token");
    let _watcher = hub.subscribe("match=*");
    wait_until(|| subscribers(&hub).len() == 2);
    hub.publish(&[("topic", "a"), ("data", "first")]);
    assert_eq!(stranger.event().data, "first", "and hear nothing");
}

#[test]
fn m73_answers_name_the_hub_and_a_cursor_and_can_be_read_across_origins() {
    let origin = "https://app.example";
    let hub = TestHub::start(&format!("{PRESENCE}cors_origins = [\"{origin}\"]\n"));
    let token = all(false);
    let before = get(&hub, &token, LIST).expect(200);
    let mut cursors = BTreeSet::from([cursor(&before)]);
    // Publishers choose their ids, and choose the same again.
    let ids = ["my-id", "ü", "a b", "a\"b", "my-id"];
    for (number, id) in ids.into_iter().enumerate() {
        hub.publish(&[("topic", "a"), ("data", "x"), ("id", id)]);
        let reply = get(&hub, &token, LIST).expect(200);
        let last = cursor(&reply);
        assert!(last.starts_with("urn:uuid:"), "{id:?}: {last:?}");
        assert_eq!(reply.header("etag"), Some(format!("\"{last}\"")));
        cursors.insert(last);
        assert_eq!(cursors.len(), number + 2, "{id:?} is another state");
    }
    let id = hub.publish(&[("topic", "a"), ("data", "x")]);
    let reply = get_with(&hub, &token, LIST, &[("Origin", origin)]).expect(200);
    let link = format!(
        "<{HUB}>; rel=\"mercure\"; last-event-id=\"{id}\"; type=\"mercure\"; \
         content-type=\"application/json\""
    );
    assert_eq!(reply.header("link"), Some(link));
    assert_eq!(reply.header("cache-control").as_deref(), Some("must-revalidate"));
    assert!(reply.header("vary").unwrap().contains("Authorization"));
    assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some(origin));
    let exposed = reply.header("access-control-expose-headers").unwrap();
    for name in ["Link", "ETag"] {
        assert!(exposed.split(", ").any(|one| one == name), "{exposed}");
    }
    let authorization = bearer(&token);
    let head = hub.request("HEAD", LIST, &[with_token(&authorization)], b"").expect(200);
    assert_eq!(head.header("link"), reply.header("link"));
    assert_eq!(head.header("content-type").as_deref(), Some("application/json"));
    let options = hub.request("OPTIONS", LIST, &[], b"").expect(204);
    assert_eq!(options.header("allow").as_deref(), Some("GET, HEAD, OPTIONS"));
    let preflight = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "authorization,if-none-match"),
    ];
    let preflight = hub.request("OPTIONS", LIST, &preflight, b"").expect(204);
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("if-none-match"), "{allowed}");
    for method in ["POST", "PUT", "DELETE", "QUERY"] {
        let reply = hub.request(method, LIST, &[with_token(&authorization)], b"x");
        expect_problem(&reply, 405, method);
        assert_eq!(reply.header("allow").as_deref(), Some("GET, HEAD, OPTIONS"));
    }
}

#[test]
fn who_is_there_without_being_listed_is_not_said_to_end() {
    let hub = TestHub::start(PRESENCE);
    let token = all(false);
    let mut watcher = hub.subscribe_with(&token, &marked("match=*"), &[]);
    watcher.until_open();
    let (name, value) = bearer(&token);
    for _ in 0..20 {
        let there = hub.subscribe("match=short");
        // It shows nobody.
        hub.request("HEAD", LIST, &[(&name, &value)], b"").expect(200);
        drop(there);
    }
    hub.wait_for_metric("tidings_subscribers", 1);
    std::thread::sleep(Duration::from_secs(1));
    let mut begun = BTreeSet::new();
    for (id, active) in announcements(&hub, &mut watcher) {
        if active {
            begun.insert(id);
        } else {
            assert!(begun.remove(&id), "an end of {id} without its beginning");
        }
    }
}

#[test]
fn m72_what_is_not_there_is_404_whatever_the_client_has_already() {
    let hub = TestHub::start(PRESENCE);
    let token = all(false);
    let (_there, subscriber) = subscribe_and_see(&hub, &token, "match=a");
    // Until its beginning is announced, answers may still differ.
    wait_until(|| get_with(&hub, &token, LIST, &[("If-None-Match", "*")]).status == 304);
    let own = format!("{LIST}/exact/a/{}", encode(&subscriber));
    let etag = get(&hub, &token, &own).expect(200).header("etag").unwrap();
    for known in ["*", etag.as_str()] {
        let known = [("If-None-Match", known)];
        get_with(&hub, &token, &own, &known).expect(304);
        let other = own.replace("/exact/a/", "/exact/b/");
        for missing in [other, format!("{LIST}/exact/a/{UNKNOWN}")] {
            get_with(&hub, &token, &missing, &known).expect(404);
        }
    }
}

#[test]
fn m73_refusals_name_the_hub_too_and_tell_strangers_no_cursor() {
    let hub = TestHub::start(PRESENCE);
    let id = hub.publish(&[("topic", "a"), ("data", "x")]);
    let start = format!("<{HUB}>; rel=\"mercure\"; last-event-id=\"");
    let limited = token_final(Role::Subscribe, &["a"]);
    let unknown = format!("{LIST}/regexp/a");
    let cases = [
        (get(&hub, &limited, LIST), 403, id.as_str()),
        (get(&hub, &all(false), &unknown), 404, id.as_str()),
        (get(&hub, "not.a.token", LIST), 401, "earliest"),
        (hub.get(LIST, &[]), 401, "earliest"),
        (hub.request("POST", LIST, &[], b""), 405, "earliest"),
    ];
    for (reply, status, last) in cases {
        assert_eq!(cursor(&reply), last, "{status}");
        assert!(reply.header("link").unwrap().starts_with(&start), "{status}");
        reply.expect(status);
    }
    assert_eq!(hub.get(HUB, &[]).expect(401).header("link"), None, "it is no list");
    let draft = token_draft(Role::Subscribe, &["a"]);
    assert_eq!(get(&hub, &draft, LIST).expect(401).header("link"), None, "as hubs of 0.x");
}

#[test]
fn m73_what_the_client_has_already_is_not_sent_again() {
    let hub = TestHub::start(PRESENCE);
    let (_stream, _) = subscribe_and_see(&hub, &all(false), "match=a");
    for is_draft in [false, true] {
        let token = all(is_draft);
        let mut etag = String::new();
        // Until it was announced, nothing is the same.
        wait_until(|| {
            let etag = get(&hub, &token, LIST).header("etag").unwrap();
            get_with(&hub, &token, LIST, &[("If-None-Match", &etag)]).status == 304
        });
        etag.push_str(&get(&hub, &token, LIST).header("etag").unwrap());
        assert_eq!(etag.starts_with('"'), !is_draft, "{etag}");
        let known = get_with(&hub, &token, LIST, &[("If-None-Match", &etag)]).expect(304);
        assert!(known.body.is_empty());
        assert_eq!(known.header("etag"), Some(etag.clone()));
        let among = format!("\"x\", W/{etag}");
        let reply = get_with(&hub, &token, LIST, &[("If-None-Match", &among)]);
        assert_eq!(reply.status, if is_draft { 200 } else { 304 });
        get_with(&hub, &token, LIST, &[("If-None-Match", "\"other\"")]).expect(200);
        hub.publish(&[("topic", "a"), ("data", "x")]);
        get_with(&hub, &token, LIST, &[("If-None-Match", &etag)]).expect(200);
    }
}

#[test]
fn m73_who_watches_behind_the_cursor_of_a_list_misses_nothing() {
    let hub = TestHub::start(PRESENCE);
    for is_draft in [false, true] {
        let token = all(is_draft);
        let list = get(&hub, &token, LIST).expect(200);
        let name = if is_draft { "topic" } else { "match" };
        let text = if is_draft { "older" } else { "newer" };
        let (stream, _) = subscribe_and_see(&hub, &token, &format!("{name}={text}"));
        hub.publish(&[("topic", "t"), ("data", "between")]);
        drop(stream);
        wait_until(|| subscribers(&hub).is_empty());
        let query = if is_draft { "topic=*&lastEventID=" } else { "match=*&last_event_id=" };
        let mut watcher = hub.subscribe_with(&token, &format!("{query}{}", cursor(&list)), &[]);
        // It ended before others had to be told that it began, or after: it ended in any case.
        while announced(&mut watcher, name, text).0["active"] != json!(false) {}
        drop(watcher);
        wait_until(|| subscribers(&hub).is_empty());
    }
}

#[test]
fn who_watched_before_a_restart_is_told_that_announcements_are_missing() {
    let hub = TestHub::start("[mercure]\nsubscriptions = true\n");
    let stored = hub.publish(&[("topic", "a"), ("data", "x")]);
    let mut watcher = hub.subscribe_with(&all(false), "match=*", &[]);
    let (_, event) = announced(&mut watcher, "match", "*");
    let heard = event.id.unwrap();
    drop(watcher);
    let hub = hub.restart();
    for cursor in [&heard, &stored] {
        for is_draft in [false, true] {
            let name = if is_draft { "topic" } else { "match" };
            let query = format!("{name}=*&last_event_id={}", encode(cursor));
            let stream = hub.subscribe_with(&all(is_draft), &query, &[]);
            let header = if is_draft { "last-event-id" } else { "mercure-last-event-id" };
            let behind = stream.head.header(header).unwrap();
            assert_ne!(&behind, cursor);
            let query = format!("{query}&continuity=1");
            let told = hub.subscribe_with(&all(is_draft), &query, &[]).event();
            assert_eq!(told.event.as_deref(), Some("tidings"), "{told:?}");
            let told: Value = serde_json::from_str(&told.data).unwrap();
            assert_eq!((&told["continuity"], &told["after"]), (&json!("gap"), &json!(cursor)));
            // Who has been told goes on without a gap, also when nothing was published since.
            let query = format!("{name}=*&continuity=1&last_event_id={}", encode(&behind));
            let told = hub.subscribe_with(&all(is_draft), &query, &[]).event();
            let told: Value = serde_json::from_str(&told.data).unwrap();
            assert_eq!(told["continuity"], "resumed");
        }
    }
    // Who has nothing of this hub's to hear misses nothing.
    let narrow = format!("match=a&continuity=1&last_event_id={}", encode(&stored));
    let told = hub.subscribe_with(&all(false), &narrow, &[]).event();
    assert!(told.data.contains("\"resumed\""), "{}", told.data);
}

#[test]
fn m18_a_wildcard_keeps_the_name_of_the_matcher_that_was_used() {
    let hub = TestHub::start(PRESENCE);
    let token = all(false);
    let query = "match=*&match_urlpattern=*&match_exact=*&match_nats=*";
    let _stream = hub.subscribe_with(&token, query, &[]);
    let list = get(&hub, &token, LIST).expect(200).json();
    let list = list["subscriptions"].as_array().unwrap();
    let found: BTreeSet<_> = list.iter().map(|one| one["match_type"].as_str().unwrap()).collect();
    assert_eq!(found, ["exact", "nats", "urlpattern"].into());
    assert_eq!(list.len(), 3, "equal ones count once");
    let one = get(&hub, &token, &format!("{LIST}/urlpattern/*")).expect(200).json();
    assert_eq!(one["subscriptions"].as_array().unwrap().len(), 1);
    let one = get(&hub, &token, &format!("{LIST}/urlpattern/%2A")).expect(200).json();
    assert_eq!(one["subscriptions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_subscription_topic_document_and_api_are_those_of_0_x() {
    let hub = TestHub::start(PRESENCE);
    let claims = json!({ "mercure": { "subscribe": ["*"], "payload": { "user": "Ann" } } });
    let token = mint(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, Role::Subscribe.key());
    let mut watcher =
        hub.subscribe_draft("topic=/.well-known/mercure/subscriptions{/topic}{/subscriber}");
    let (stream, subscriber) = subscribe_and_see(&hub, &token, &format!("topic={}", encode(TOPIC)));
    // As forms encode: a space is a plus.
    let topic = encode(TOPIC).replace("%20", "+");
    let id = format!("{LIST}/{topic}/{}", encode(&subscriber));
    let mut expected = json!({
        "@context": "https://mercure.rocks/", "id": id, "type": "Subscription",
        "subscriber": subscriber, "topic": TOPIC, "active": true, "payload": { "user": "Ann" },
    });
    let mut hears_all = hub.subscribe_draft("topic=*&lastEventID=earliest");
    let (document, _) = announced(&mut hears_all, "topic", TOPIC);
    assert_eq!(document, expected);
    let alone = get(&hub, &token, &id).expect(200);
    assert_eq!(alone.header("content-type").as_deref(), Some("application/ld+json"));
    let mut with_cursor = expected.clone();
    with_cursor["lastEventID"] = json!(cursor(&alone));
    assert_eq!(alone.json(), with_cursor);
    assert_eq!(alone.header("etag"), Some(cursor(&alone)), "raw");
    let target = format!("{LIST}/{topic}?x=y");
    let list = get(&hub, &token, &target).expect(200);
    let mut member = expected.clone();
    member.as_object_mut().unwrap().remove("@context");
    assert_eq!(
        list.json(),
        json!({
            "@context": "https://mercure.rocks/", "id": target, "type": "Subscriptions",
            "lastEventID": cursor(&list), "subscriptions": [member],
        })
    );
    let own = "/.well-known/mercure/subscriptions{/topic}{/subscriber}";
    let (document, event) = announced(&mut watcher, "topic", own);
    assert_eq!(document["active"], json!(true), "a watcher hears of itself");
    assert_eq!(event.event, None, "its clients listen to events without a name");
    // Its variables know no plus, so that this watcher hears of simpler topics only.
    drop(stream);
    let (plain, _) = subscribe_and_see(&hub, &token, "topic=plain");
    let (document, _) = announced(&mut watcher, "topic", "plain");
    assert_eq!(document["active"], json!(true));
    drop(plain);
    expected["active"] = json!(false);
    let (document, event) = announced(&mut watcher, "topic", "plain");
    assert_eq!(document["active"], expected["active"]);
    assert_eq!(event.event, None);
    wait_until(|| get(&hub, &token, &id).status == 404);
    expect_draft(&get(&hub, &token, &id), 404, "404 page not found", "it has ended");
}

#[test]
fn a_list_of_0_x_is_read_by_who_is_granted_the_request_uri() {
    let hub = TestHub::start(PRESENCE);
    let granted = |selector: &str| token_draft(Role::Subscribe, &[selector]);
    let template = granted("/.well-known/mercure/subscriptions{/topic}{/subscriber}");
    for (target, token, allowed) in [
        (LIST.to_owned(), &template, true),
        (format!("{LIST}/a"), &template, true),
        (format!("{LIST}/a?x=y"), &template, false),
        (format!("{LIST}?x=y"), &granted(&format!("{LIST}?x=y")), true),
        (format!("{LIST}?x=y"), &granted(LIST), false),
        (LIST.to_owned(), &granted("https://e.com/1"), false),
        (format!("{LIST}/a"), &granted(LIST), false),
    ] {
        let reply = get(&hub, token, &target);
        match allowed {
            true => drop(reply.expect(200)),
            false => expect_unauthorized(&reply, &target),
        }
    }
    // The token in the URL is no part of what it names, nor of the answer.
    let target = format!("{LIST}?authorization={template}");
    let reply = hub.get(&target, &[]).expect(200);
    assert_eq!(reply.json()["id"], json!(LIST));
    assert!(!reply.text().contains(&template));
}

#[test]
fn each_generation_is_told_in_its_own_words_and_only_once() {
    let hub = TestHub::start(PRESENCE);
    let mut newer = hub.subscribe(&marked("match=*"));
    let mut older = hub.subscribe_draft("topic=*");
    let (stream, _) = subscribe_and_see(&hub, &all(false), "match=seen&match_urlpattern=/x/:y");
    let (document, _) = announced(&mut newer, "match", "seen");
    assert!(document.get("@context").is_none());
    announced(&mut newer, "match", "/x/:y");
    let (document, _) = announced(&mut older, "topic", "seen");
    assert_eq!(document["type"], "Subscription");
    drop(stream);
    announced(&mut newer, "match", "seen");
    announced(&mut newer, "match", "/x/:y");
    let rest = data_until_mark(&hub, &mut newer);
    assert_eq!(rest, [""; 0], "nothing in the words of 0.x, nothing twice");
    let seen: Vec<Event> = std::iter::from_fn(|| {
        let event = older.event();
        (!event.data.starts_with("end-of")).then_some(event)
    })
    .collect();
    for event in seen {
        let document: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(document["@context"], "https://mercure.rocks/", "{document}");
        assert_ne!(document["topic"], "/x/:y", "0.x has no words for it");
    }
}

#[test]
fn announcements_are_heard_by_who_is_granted_their_topics_only() {
    let hub = TestHub::start(PRESENCE);
    let granted = |topic: &str| token_final(Role::Subscribe, &[topic]);
    let query = marked("match=*");
    let mut without = hub.subscribe_with(&granted("https://e.com/1"), &query, &[]);
    let foreign = marked("match_mqtt=%23&match_nats=%3E");
    let mut foreign = hub.subscribe_with(&all(false), &foreign, &[]);
    let mut watcher = hub.subscribe("match=*");
    let (stream, _) = subscribe_and_see(&hub, &all(false), "match=seen");
    announced(&mut watcher, "match", "seen");
    drop(stream);
    announced(&mut watcher, "match", "seen");
    assert_eq!(data_until_mark(&hub, &mut without), [""; 0]);
    assert_eq!(data_until_mark(&hub, &mut foreign), [""; 0]);
}

#[test]
fn m75_presence_is_advertised_where_it_is_switched_on_and_absent_elsewhere() {
    let path = METADATA.strip_prefix(PUBLIC_URL).unwrap();
    let hub = TestHub::start(PRESENCE);
    assert_eq!(hub.get(path, &[]).expect(200).json()["mercure_subscriptions"], json!(true));
    let hub = TestHub::start(MEMORY);
    assert_eq!(hub.get(path, &[]).expect(200).json().get("mercure_subscriptions"), None);
    let _stream = hub.subscribe("match=*");
    for target in [LIST.to_owned(), format!("{LIST}/exact/a"), format!("{LIST}/exact/a/{UNKNOWN}")]
    {
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            let authorization = bearer(&all(false));
            let reply = hub.request(method, &target, &[with_token(&authorization)], b"");
            assert_eq!(reply.status, 404, "{method} {target}");
        }
    }
}

#[test]
fn m01_presence_follows_the_configured_path() {
    let hub = TestHub::start(&format!("hub_path = \"/live\"\n{PRESENCE}"));
    let claims = |topics: Value| {
        let mut one = detail(Role::Subscribe, &[]);
        one["topics"] = topics;
        let mut claims = claims_final(json!([one]));
        claims["aud"] = json!(format!("{PUBLIC_URL}/live"));
        mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, Role::Subscribe.key())
    };
    let everything = bearer(&claims(json!([{ "match": "*" }])));
    let mut stream = hub.stream("/live?match=*", &[with_token(&everything)]);
    let document: Value = serde_json::from_str(&stream.event().data).unwrap();
    assert!(document["id"].as_str().unwrap().starts_with("/live/subscriptions/exact/%2A/urn"));
    let list = hub.get("/live/subscriptions", &[with_token(&everything)]).expect(200);
    assert_eq!(list.json()["subscriptions"], json!([document]));
    assert!(list.header("link").unwrap().starts_with("</live>; rel=\"mercure\"; "));
    assert_eq!(hub.get(LIST, &[with_token(&everything)]).status, 404);
}

#[test]
fn a_long_list_is_whole_and_holds_nobody_up() {
    let hub = TestHub::start(PRESENCE);
    let count = 600;
    let streams: Vec<_> =
        (0..count).map(|n| hub.subscribe(&format!("match=t&match={n}"))).collect();
    let list = get(&hub, &all(false), LIST).expect(200).json();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 2 * count);
    let one = get(&hub, &all(false), &format!("{LIST}/exact/599")).expect(200).json();
    assert_eq!(one["subscriptions"].as_array().unwrap().len(), 1);
    let all_on_one = get(&hub, &all(false), &format!("{LIST}/exact/t")).expect(200).json();
    assert_eq!(all_on_one["subscriptions"].as_array().unwrap().len(), count);
    drop(streams);
    wait_until(|| subscribers(&hub).is_empty());
}

/// What was announced up to now: of which subscriptions, and whether they began.
fn announcements(hub: &TestHub, watcher: &mut EventStream) -> Vec<(String, bool)> {
    let events = until_mark(hub, watcher).into_iter();
    events
        .filter(|event| event.event.as_deref() == Some("mercure"))
        .map(|event| {
            let document: Value = serde_json::from_str(&event.data).unwrap();
            let id = document["id"].as_str().unwrap().to_owned();
            (id, document["active"] == json!(true))
        })
        .collect()
}

#[test]
fn a_client_that_comes_and_goes_without_end_holds_up_nobody_and_leaves_nothing() {
    let hub = TestHub::start(PRESENCE);
    let token = all(false);
    let mut watcher = hub.subscribe_with(&token, &marked("match=*"), &[]);
    watcher.until_open();
    let (name, value) = bearer(&token);
    let ask = request("GET", &format!("{HUB}?match=restless"), &[(&name, &value)], b"");
    // As fast as they can: a thousand a second where the machine lets them.
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while opened.load(Ordering::Relaxed) < 3_000 {
                    let mut connection = Connection::open(hub.address);
                    connection.send(&ask);
                    // Half of them are gone before they are answered.
                    if opened.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                        connection.head(false).unwrap().expect(200);
                    }
                }
            });
        }
        while opened.load(Ordering::Relaxed) < 3_000 {
            let asked = Instant::now();
            hub.publish(&[("topic", "steady"), ("data", "steady")]);
            get(&hub, &token, LIST).expect(200);
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        }
    });
    hub.wait_for_metric("tidings_subscribers", 1);
    wait_until(|| subscribers(&hub).len() == 1);
    // Whoever watched knows in the end who is there: the watcher itself, and who came later.
    let _later = hub.subscribe("match=later");
    let mut known = BTreeSet::new();
    std::thread::sleep(Duration::from_secs(1));
    for (id, active) in announcements(&hub, &mut watcher) {
        if active {
            known.insert(id)
        } else {
            known.remove(&id)
        };
    }
    assert!(known.iter().all(|id| !id.contains("restless")), "{known:?}");
    assert!(known.iter().any(|id| id.contains("later")), "{known:?}");
    assert_eq!(hub.metric("tidings_requests_panicked_total"), 0);
}

/// Runs a command to its end inside the network of a process.
fn inside(pid: u32, command: &[&str]) -> String {
    let pid = pid.to_string();
    let arguments = ["-t", &pid, "-U", "-n", "--preserve-credentials"];
    let output = Command::new("nsenter").args(arguments).args(command).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_client_that_vanished_without_a_word_is_gone_soon() {
    let mut possible = Command::new("unshare");
    possible.args(["-rn", "ip", "link"]).stdout(Stdio::null());
    let status = possible.status().expect("unshare, of the package util-linux");
    assert!(status.success(), "a network of one's own (unshare -rn) with ip, of iproute2");
    let toml = format!("{PRESENCE}heartbeat = \"1s\"\n");
    let hub = TestHub::launch(Launch {
        under: ["unshare", "-rn", "sh", "-c", "ip link set lo up; exec \"$0\" \"$@\""]
            .map(str::to_owned)
            .into(),
        ..Launch::toml(&toml)
    });
    let url = format!("http://{}{HUB}", hub.address);
    let token = format!("Authorization: Bearer {}", all(false));
    let list = || {
        let target = format!("{url}/subscriptions");
        inside(hub.pid(), &["curl", "-s", "-H", &token, &target])
    };
    let pid = hub.pid().to_string();
    let mut client = Command::new("nsenter")
        .args(["-t", &pid, "-U", "-n", "--preserve-credentials"])
        .args(["curl", "-sN", "-H", &token, &format!("{url}?match=seen")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(|| list().contains("\"seen\""));
    // The wire is cut: neither side hears of the other any more.
    inside(hub.pid(), &["ip", "link", "set", "lo", "down"]);
    let cut = Instant::now();
    std::thread::sleep(Duration::from_secs(4));
    inside(hub.pid(), &["ip", "link", "set", "lo", "up"]);
    assert!(!list().contains("\"seen\""), "still there after {:?}", cut.elapsed());
    let _ = client.kill();
    let _ = client.wait();
}
