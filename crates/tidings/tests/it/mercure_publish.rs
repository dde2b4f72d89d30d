//! What a publication becomes: sections "Publication" and "Authorization" of the Mercure protocol,
//! 1.0. What is refused stands in `mercure_refusals`.

use std::collections::HashSet;

use serde_json::json;

use crate::http::{self, Event, encode, exchange_http2, stream_http2};
use crate::hub::{HUB, TestHub};
use crate::mercure::{
    MEMORY, Witness, data_until_mark, expect_challenge, marked, picked, try_publish_bytes,
    until_mark, with_token,
};
use crate::tokens::{Role, bearer, claims_final, detail, mint, token_draft, token_final};

const TOPIC: &str = "https://publish.example/1";

/// What a subscriber to everything gets for a publication with these fields beside its topic.
#[track_caller]
fn published(hub: &TestHub, fields: http::Pairs<'_>) -> (String, Event) {
    let mut witness = Witness::new(hub);
    let mut all = vec![("topic", TOPIC)];
    all.extend_from_slice(fields);
    let id = hub.publish(&all);
    let seen = witness.seen(hub);
    let [event] = seen.try_into().unwrap_or_else(|seen| panic!("{fields:?} gave {seen:?}"));
    (id, event)
}

#[test]
fn m23_a_form_is_read_as_utf_8_and_unknown_fields_mean_nothing() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    for (body, data) in [
        ("topic=a&data=x", "x"),
        ("data=x&topic=a", "x"),
        ("topic=a&data=%C3%A9t%c3%a9+%2B%20plus", "été + plus"),
        ("topic=a&data=été", "été"),
        ("topic=a&data=a=b;c=d%", "a=b;c=d%"),
        ("%74opic=a&d%61ta=x", "x"),
        ("topic=a&data=first&data=second", "first"),
        ("topic=a&unknown=1&Data=no&other&=&data=x&x%20y=%20", "x"),
        ("&&topic=a&&data=x&", "x"),
        ("topic=a&data=%F0%9F%98%80%E2%80%8D%01", "\u{1f600}\u{200d}\u{1}"),
    ] {
        let id = try_publish_bytes(&hub, body.as_bytes()).expect(200).text();
        let seen = witness.seen(&hub);
        assert_eq!(seen.len(), 1, "{body}: {seen:?}");
        assert_eq!((seen[0].data.as_str(), seen[0].id.as_deref()), (data, Some(id.as_str())));
    }
    let (name, token) = bearer(&token_final(Role::Publish, &["*"]));
    for kind in [
        "application/x-www-form-urlencoded; charset=utf-8",
        "application/x-www-form-urlencoded;charset=UTF-8",
        "Application/X-WWW-Form-Urlencoded",
    ] {
        let headers = [("Content-Type", kind), (name.as_str(), token.as_str())];
        hub.request("POST", HUB, &headers, b"topic=a&data=typed").expect(200);
        assert_eq!(witness.seen(&hub)[0].data, "typed", "{kind}");
    }
}

#[test]
fn m24_the_first_topic_is_canonical_and_the_others_are_alternates() {
    let hub = TestHub::start(MEMORY);
    let topics = [TOPIC, "https://publish.example/alternate", "urn:publish:2"];
    let mut streams: Vec<_> = topics
        .iter()
        .map(|topic| hub.subscribe(&marked(&format!("match={}", encode(topic)))))
        .collect();
    let mut other = hub.subscribe(&marked("match=https://publish.example/"));
    let fields: Vec<_> =
        topics.iter().map(|topic| ("topic", *topic)).chain([("data", "x")]).collect();
    let id = hub.publish(&fields);
    for stream in &mut streams {
        let events = until_mark(&hub, stream);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].id.as_deref(), Some(id.as_str()));
        // Topics are no part of what a subscriber is told, alternates least of all.
        let raw = String::from_utf8_lossy(&stream.raw).into_owned();
        assert!(!raw.contains("publish.example") && !raw.contains("urn:publish"), "{raw}");
    }
    assert_eq!(data_until_mark(&hub, &mut other), Vec::<String>::new());
}

#[test]
fn m24_topics_are_any_text_without_control_and_format_characters() {
    let hub = TestHub::start(MEMORY);
    let topics = [
        "a",
        "a b",
        "https://e.com/é",
        "été/日本/\u{1f600}",
        "e\u{301}",
        "a\u{a0}b",
        "a\u{2028}b",
        "https://e.com/{id}",
        "https://e.com/*",
        "**",
        "$SYS/x",
        "#x/../y",
        "..",
        "http://[bad",
        "a.b.>",
        "100%",
    ];
    let stream = hub.subscribe("match=*");
    // A fragment, or nothing that leads away from the hub's URL, is the hub itself.
    let free: Vec<&str> = topics.into_iter().filter(|topic| *topic != "#x/../y").collect();
    assert_eq!(picked(&hub, stream, &free), free);
}

#[test]
fn m27_every_line_end_in_data_starts_a_new_data_field() {
    let hub = TestHub::start(MEMORY);
    for (data, lines) in [
        ("one", vec!["one"]),
        ("", vec![""]),
        (" leading space", vec![" leading space"]),
        ("a\nb", vec!["a", "b"]),
        ("a\rb", vec!["a", "b"]),
        ("a\r\nb", vec!["a", "b"]),
        ("a\n\rb", vec!["a", "", "b"]),
        ("a\n\nb\n", vec!["a", "", "b", ""]),
        ("\r\n", vec!["", ""]),
        ("a\u{2028}b\u{85}c\u{b}d\u{c}e", vec!["a\u{2028}b\u{85}c\u{b}d\u{c}e"]),
        ("x\nid: forged", vec!["x", "id: forged"]),
        ("x\r\rdata: forged", vec!["x", "", "data: forged"]),
        (
            "x\r\n\r\nevent: mercure\r\nretry: 1\r\n\r\n",
            vec!["x", "", "event: mercure", "retry: 1", "", ""],
        ),
        ("eyJhbGciOiJkaXIifQ..iv.c.t", vec!["eyJhbGciOiJkaXIifQ..iv.c.t"]),
    ] {
        let mut stream = hub.subscribe("match=*");
        let id = hub.publish(&[("topic", TOPIC), ("data", data)]);
        let event = stream.event();
        assert_eq!(event.data, lines.join("\n"), "{data:?}");
        assert_eq!(
            (event.id.as_deref(), event.event, event.retry),
            (Some(id.as_str()), None, None)
        );
        let raw = String::from_utf8(stream.raw.clone()).unwrap();
        let fields: String = lines.iter().map(|line| format!("data: {line}\n")).collect();
        assert!(raw.ends_with(&format!("{fields}\n")), "{data:?} became {raw:?}");
        assert!(!raw.contains('\r'), "{raw:?}");
    }
}

#[test]
fn m27_data_is_optional_and_opaque() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let id = try_publish_bytes(&hub, b"topic=a").expect(200).text();
    let seen = witness.seen(&hub);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].data.as_str(), seen[0].id.as_deref()), ("", Some(id.as_str())));
    let large = "0123456789abcdef".repeat(40_000);
    let (_, event) = published(&hub, &[("data", &large)]);
    assert!(event.data == large, "{} bytes of {}", event.data.len(), large.len());
}

#[test]
fn m28_the_name_private_makes_it_private_whatever_its_value() {
    let hub = TestHub::start(MEMORY);
    let token = token_final(Role::Subscribe, &["https://publish.example/other"]);
    let mut stranger = hub.subscribe_with(&token, "match=*", &[]);
    let mut witness = Witness::new(&hub);
    for field in [
        "private=on",
        "private",
        "private=",
        "private=0",
        "private=false",
        "private=off",
        "private=x&private=y",
        "priv%61te=no",
    ] {
        try_publish_bytes(&hub, format!("topic={TOPIC}&data=hidden&{field}").as_bytes())
            .expect(200);
        assert_eq!(witness.seen(&hub).len(), 1, "{field}");
        assert_eq!(data_until_mark(&hub, &mut stranger), Vec::<String>::new(), "{field}");
    }
    for field in ["Private=on", "privat=on", "private%20=on", "x=private"] {
        try_publish_bytes(&hub, format!("topic={TOPIC}&data=open&{field}").as_bytes()).expect(200);
        assert_eq!(data_until_mark(&hub, &mut stranger), ["open"], "{field}");
    }
}

#[test]
fn m29_a_given_id_is_kept_as_it_is() {
    let hub = TestHub::start(MEMORY);
    for given in [
        "1",
        "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb",
        "https://e.com/é?x=1#y",
        "a#b",
        "Earliest",
        "earliest2",
        "a b: c",
        "日本",
        // Twice the same: nothing is dropped for it.
        "1",
    ] {
        let (id, event) = published(&hub, &[("id", given), ("data", "x")]);
        assert_eq!((id.as_str(), event.id.as_deref()), (given, Some(given)));
    }
    assert_eq!(hub.history().iter().filter(|event| event.id.as_deref() == Some("1")).count(), 2);
}

#[test]
fn m29_m60_m80_without_an_id_the_hub_gives_an_opaque_iri() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let ids: Vec<String> =
        (0..40).map(|_| hub.publish(&[("topic", TOPIC), ("data", "x")])).collect();
    let seen: Vec<String> = witness.seen(&hub).into_iter().map(|event| event.id.unwrap()).collect();
    assert_eq!(ids, seen);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    for id in &ids {
        let text = id.strip_prefix("urn:uuid:").unwrap_or_else(|| panic!("{id} is no UUID"));
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        assert!(text.bytes().all(|byte| b"0123456789abcdef-".contains(&byte)), "{id}");
    }
    // Neither a counter nor a clock shows through: the ids are not in order, and no two in a row
    // begin alike.
    assert!(!ids.is_sorted() && !ids.iter().rev().is_sorted(), "{ids:?}");
    for pair in ids.windows(2) {
        assert_ne!(pair[0][..17], pair[1][..17], "{ids:?}");
        assert_ne!(pair[0][33..], pair[1][33..], "{ids:?}");
    }
    // An empty id is no id.
    let (id, event) = published(&hub, &[("id", ""), ("data", "x")]);
    assert!(id.starts_with("urn:uuid:"), "{id}");
    assert_eq!(event.id, Some(id));
}

#[test]
fn m30_m31_type_and_retry_become_fields_of_the_event() {
    let hub = TestHub::start(MEMORY);
    for given in ["message", "Mercure", "mercure2", "été", "a b", "0"] {
        let (_, event) = published(&hub, &[("type", given), ("data", "x")]);
        assert_eq!(event.event.as_deref(), Some(given));
    }
    for (given, sent) in [("0", "0"), ("1", "1"), ("18000", "18000"), ("4294967296", "4294967296")]
    {
        let (_, event) = published(&hub, &[("retry", given), ("data", "x")]);
        assert_eq!(event.retry.as_deref(), Some(sent), "{given}");
    }
    let (_, event) = published(&hub, &[("data", "x")]);
    assert_eq!((event.event, event.retry), (None, None));
}

#[test]
fn m32_success_is_exactly_200_with_the_id_as_plain_text() {
    let hub = TestHub::start("");
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let headers = [(name.as_str(), value.as_str())];
    for fields in [
        &[("topic", TOPIC)][..],
        &[
            ("topic", TOPIC),
            ("data", "x"),
            ("private", "on"),
            ("id", "given"),
            ("type", "t"),
            ("retry", "5"),
        ],
    ] {
        let reply = hub.post(&headers, fields).expect(200);
        assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string()));
        assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"));
        let id = reply.text();
        assert!(!id.is_empty() && id.trim() == id, "{id:?}");
        if fields.len() > 1 {
            assert_eq!(id, "given");
        }
    }
}

#[test]
fn the_receipt_says_how_durable_an_update_is_and_where_it_stands() {
    for (toml, durability) in
        [("", "fsync"), ("[history]\ndurability = \"written\"", "written"), (MEMORY, "memory")]
    {
        let hub = TestHub::start(toml);
        let token = token_final(Role::Publish, &["*"]);
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "a"), ("id", "mine")]);
        let receipt = reply.expect(200).header("tidings-receipt").unwrap();
        let cursor = receipt
            .strip_prefix(&format!("durability={durability}; cursor=\""))
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or_else(|| panic!("{receipt}"));
        assert!(cursor.starts_with("urn:uuid:"), "{receipt}");
        // The cursor is a place to go on from, although the update has an id of its own.
        hub.publish(&[("topic", TOPIC), ("data", "b")]);
        let mut stream = hub.subscribe(&format!("match=*&last_event_id={}", encode(cursor)));
        assert_eq!(stream.event().data, "b");
    }
}

#[test]
fn a_repeated_idempotency_key_gets_the_first_receipt_and_publishes_nothing() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let publish = |key: &str, data: &str| {
        let headers = [(name.as_str(), value.as_str()), ("Idempotency-Key", key)];
        hub.post(&headers, &[("topic", TOPIC), ("data", data)])
    };
    let first = publish("k1", "a").expect(200);
    let again = publish("k1", "a").expect(200);
    assert_eq!(first.text(), again.text());
    let cursor = |reply: &http::Reply| {
        let receipt = reply.header("tidings-receipt").unwrap();
        receipt.split("; ").find(|part| part.starts_with("cursor=")).unwrap().to_owned()
    };
    assert_eq!(cursor(&first), cursor(&again));
    publish("k2", "b").expect(200);
    let long = "k".repeat(257);
    publish(&long, "no").expect(400);
    assert_eq!(
        witness.seen(&hub).into_iter().map(|event| event.data).collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn m41_m55_every_topic_must_be_granted() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let one = token_final(Role::Publish, &[TOPIC]);
    let two = token_final(Role::Publish, &[TOPIC, "https://publish.example/2"]);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let mut split = claims_final(json!([
        detail(Role::Publish, &[TOPIC]),
        detail(Role::Publish, &["https://publish.example/2"]),
    ]));
    let split_token = mint(&header, &split, Role::Publish.key());
    split["authorization_details"][1]["topics"] = json!([
        { "match": "https://publish.example/:id", "match_type": "urlpattern" },
    ]);
    let pattern = mint(&header, &split, Role::Publish.key());
    let topics = |topics: &[&str]| -> Vec<(String, String)> {
        topics.iter().map(|topic| ("topic".to_owned(), (*topic).to_owned())).collect()
    };
    let second = "https://publish.example/2";
    let third = "https://publish.example/3";
    for (case, token, list, granted) in [
        ("its topic", &one, topics(&[TOPIC]), true),
        ("another topic", &one, topics(&[second]), false),
        ("an alternate that is not granted", &one, topics(&[TOPIC, second]), false),
        ("a canonical one that is not granted", &one, topics(&[second, TOPIC]), false),
        ("both", &two, topics(&[second, TOPIC]), true),
        ("a third", &two, topics(&[second, TOPIC, third]), false),
        ("by two details", &split_token, topics(&[TOPIC, second]), true),
        ("by a pattern", &pattern, topics(&[TOPIC, second, third]), true),
        ("another spelling", &one, topics(&["https://PUBLISH.example/1"]), false),
        ("a prefix", &one, topics(&["https://publish.example/"]), false),
        ("longer", &one, topics(&["https://publish.example/11"]), false),
    ] {
        for private in [false, true] {
            let mut fields: Vec<(&str, &str)> =
                list.iter().map(|(name, topic)| (name.as_str(), topic.as_str())).collect();
            fields.push(("data", case));
            if private {
                fields.push(("private", "on"));
            }
            let reply = hub.publish_with(token, &fields);
            if granted {
                reply.expect(200);
                assert_eq!(witness.seen(&hub).len(), 1, "{case}");
            } else {
                expect_challenge(&reply, 403, Some("insufficient_scope"), case);
                assert_eq!(witness.seen(&hub), [], "{case}");
            }
        }
    }
    assert!(hub.history().iter().all(|event| {
        ["its topic", "both", "by two details", "by a pattern"].contains(&event.data.as_str())
    }));
}

#[test]
fn m41_a_token_without_the_action_publish_may_not_publish() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    for (case, details) in [
        ("no details of Mercure", json!([{ "type": "https://other.example/detail", "x": 1 }])),
        ("no details", json!([])),
        ("only subscribe", json!([detail(Role::Subscribe, &["*"])])),
    ] {
        let token = mint(&header, &claims_final(details), Role::Publish.key());
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", case)]);
        expect_challenge(&reply, 403, Some("insufficient_scope"), case);
    }
    witness.expect_nothing(&hub);
}

#[test]
fn m16_publishing_and_subscribing_work_the_same_over_http_2() {
    let hub = TestHub::start(MEMORY);
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let target = format!("{HUB}?match={}", encode(TOPIC));
    let headers = [(name.as_str(), value.as_str()), ("Accept", "text/event-stream")];
    let mut stream = stream_http2(hub.address, "GET", &target, &headers, b"");
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.head.header("content-type").as_deref(), Some("text/event-stream"));
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let mut ids = Vec::new();
    for (token, data) in
        [(token_final(Role::Publish, &["*"]), "one"), (token_draft(Role::Publish, &["*"]), "two")]
    {
        let authorization = bearer(&token);
        let headers = [with_token(&authorization), form_type];
        let body = http::form(&[("topic", TOPIC), ("data", data)]);
        let reply = exchange_http2(hub.address, "POST", HUB, &headers, body.as_bytes()).expect(200);
        assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        let event = stream.event();
        assert_eq!((event.data.as_str(), event.id.as_deref()), (data, Some(reply.text().as_str())));
        ids.push(reply.text());
    }
    // A reconnect, by QUERY this time.
    let headers = [(name.as_str(), value.as_str()), ("Last-Event-ID", ids[0].as_str()), form_type];
    let body = format!("match={}", encode(TOPIC));
    let mut again = stream_http2(hub.address, "QUERY", HUB, &headers, body.as_bytes());
    assert_eq!(again.head.status, 200);
    assert_eq!(again.head.header("mercure-last-event-id").as_deref(), Some(ids[0].as_str()));
    assert_eq!(again.event().data, "two");
    // A refusal.
    let reply = exchange_http2(hub.address, "POST", HUB, &[form_type], b"topic=a");
    expect_challenge(&reply, 401, None, "no token over HTTP/2");
    let authorization = bearer(&token_draft(Role::Publish, &[TOPIC]));
    let headers = [with_token(&authorization), form_type];
    let reply = exchange_http2(hub.address, "POST", HUB, &headers, b"topic=elsewhere");
    crate::mercure::expect_unauthorized(&reply, "0.x over HTTP/2");
    assert_eq!(hub.history().len(), 2);
}

#[test]
fn order_is_the_same_for_every_subscriber_and_in_the_history() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 25;
    let hub = TestHub::start(MEMORY);
    let mut streams: Vec<_> = (0..3).map(|_| hub.subscribe("match=*")).collect();
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let hub = &hub;
            scope.spawn(move || {
                for number in 0..EACH {
                    let data = format!("{publisher} {number}");
                    hub.publish(&[("topic", TOPIC), ("data", &data)]);
                }
            });
        }
    });
    let stored: Vec<String> = hub.history().into_iter().map(|event| event.data).collect();
    assert_eq!(stored.len(), PUBLISHERS * EACH);
    for stream in &mut streams {
        assert_eq!(stream.data(PUBLISHERS * EACH), stored);
    }
    for publisher in 0..PUBLISHERS {
        let own: Vec<&String> =
            stored.iter().filter(|data| data.starts_with(&format!("{publisher} "))).collect();
        let expected: Vec<String> =
            (0..EACH).map(|number| format!("{publisher} {number}")).collect();
        assert!(own.into_iter().eq(expected.iter()), "{stored:?}");
    }
}
