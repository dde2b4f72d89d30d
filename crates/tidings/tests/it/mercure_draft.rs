//! Protocol 0.x as its hubs speak it: how today's publishers and subscribers are served, and the
//! words in which they are refused. Cursors of 0.x stand in `mercure_replay`.

use serde_json::{Value, json};

use crate::http::{Connection, Pairs, Reply, encode, exchange_http2, stream_http2};
use crate::hub::{HUB, Launch, TestHub};
use crate::mercure::{
    MEMORY, Witness, data_until_mark, expect_draft, expect_problem, expect_unauthorized, marked,
    picked, refused_get, refused_get_without, until_mark, with_token,
};
use crate::tokens::{
    ISSUER, PUBLISH_KEY, Role, SUBSCRIBE_KEY, bearer, mint, mint_text, now, token_draft,
    token_final,
};

const TOPIC: &str = "https://draft.example/1";
const MISSING: &str = "Missing \"topic\" parameter.";

fn header() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

/// A token with this `mercure` claim.
fn token(role: Role, claim: &Value) -> String {
    mint(&header(), &json!({ "mercure": claim }), role.key())
}

/// POST of a form with a 0.x token for everything.
#[track_caller]
fn try_publish(hub: &TestHub, fields: Pairs<'_>) -> Reply {
    hub.publish_with(&token_draft(Role::Publish, &["*"]), fields)
}

#[test]
fn a_subscribe_parameter_is_topic_and_may_repeat() {
    let hub = TestHub::start(MEMORY);
    let query = format!("topic={}&topic=b&unknown=x&topic=b", encode(TOPIC));
    let mut stream = hub.subscribe_draft(&marked(&query));
    for topic in [TOPIC, "a", "b", "c"] {
        hub.publish_draft(&[("topic", topic), ("data", topic)]);
    }
    assert_eq!(data_until_mark(&hub, &mut stream), [TOPIC, "b"]);
    // Unencoded, as some clients append it.
    let mut stream = hub.subscribe_draft(&marked("topic=https://draft.example/subscriptions/1"));
    hub.publish_draft(&[("topic", "https://draft.example/subscriptions/1"), ("data", "x")]);
    assert_eq!(data_until_mark(&hub, &mut stream), ["x"]);
}

#[test]
fn a_subscribe_parameter_topic_is_there_at_least_once_and_at_most_1_000_times() {
    let hub = TestHub::start(MEMORY);
    let token = token_draft(Role::Subscribe, &["*"]);
    for query in ["", "Topic=a", "lastEventID=x", "topics=a", "match=a"] {
        expect_draft(&refused_get(&hub, &token, query), 400, MISSING, query);
    }
    let query = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|number| format!("topic={number}")).collect();
        pairs.join("&")
    };
    let reply = refused_get(&hub, &token, &query(1_001));
    expect_draft(&reply, 400, "Too many \"topic\" parameters.", "1,001 topics");
    let mut stream = hub.subscribe_draft(&query(1_000));
    hub.publish_draft(&[("topic", "999"), ("data", "the last one")]);
    assert_eq!(stream.event().data, "the last one");
}

#[test]
fn a_selector_semantics_are_wildcard_equality_or_template() {
    let hub = TestHub::start(MEMORY);
    let table: &[(&str, &[&str], &[&str])] = &[
        ("*", &["a", "https://e.com/1", "http://[bad"], &[]),
        (
            "https://e.com/1",
            &["https://e.com/1"],
            &["https://e.com/1/", "https://E.com/1", "https://e.com/11"],
        ),
        ("https://e.com/*", &["https://e.com/*"], &["https://e.com/1"]),
        ("https://e.com/:id", &["https://e.com/:id"], &["https://e.com/1"]),
        // A variable: unreserved characters and commas, or nothing.
        (
            "https://e.com/u/{id}",
            &[
                "https://e.com/u/1",
                "https://e.com/u/",
                "https://e.com/u/a-b.c_d~e,f",
                "https://e.com/u/%C3%A9",
                "https://e.com/u/{id}",
            ],
            &[
                "https://e.com/u/1/2",
                "https://e.com/u/é",
                "https://e.com/u/a b",
                "https://e.com/u/a?b",
                "https://e.com/u",
                "https://e.com/u/%C3%A",
                "x https://e.com/u/1",
            ],
        ),
        (
            "https://e.com/{+path}",
            &["https://e.com/a/b?c=d#e", "https://e.com/", "https://e.com/!$&;@[]"],
            &["https://f.com/a", "https://e.com/é"],
        ),
        (
            "{scheme}://{+host}/demo/books/{id}.jsonld",
            &["https://localhost/demo/books/1.jsonld", "http://e.com:81/x/demo/books/a.jsonld"],
            &["https://localhost/demo/books/1.json", "https://localhost/demo/books/1/2.jsonld"],
        ),
        // Names of variables are not looked at.
        (
            "https://e.com/foo/{?topic}",
            &["https://e.com/foo/?topic=x", "https://e.com/foo/?other=x", "https://e.com/foo/"],
            &["https://e.com/foo", "https://e.com/foo/x"],
        ),
        (
            "/subs{/topic}{/subscriber}",
            &["/subs/a/b", "/subs/a", "/subs", "/subs/https%3A%2F%2Fe.com/1"],
            &["/subs/a/b/c", "/sub"],
        ),
        ("/l/{a,b}", &["/l/1,2", "/l/1", "/l/"], &["/l/1/2"]),
        ("/e{/path*}", &["/e/a/b/c/d", "/e"], &["/ex", "/e/a b"]),
        ("/p/{id:3}", &["/p/abcdef", "/p/a"], &["/p/a/b"]),
        ("/d{.ext}", &["/d.json", "/d"], &["/djson", "/d/json"]),
        ("/f{#part}", &["/f#a/b", "/f"], &["/fa"]),
        // What is no template is taken literally.
        ("/i/{id", &["/i/{id"], &["/i/1"]),
        ("/i/{!id}", &["/i/{!id}"], &["/i/1"]),
        ("/i/{a b}", &["/i/{a b}"], &["/i/1"]),
        ("/i /{id}", &["/i /{id}"], &["/i /1"]),
        ("/i/{}", &["/i/{}"], &["/i/", "/i/1"]),
        // A regular expression is none.
        ("/r/.{id}", &["/r/.1"], &["/r/a1"]),
    ];
    for (selector, picks, leaves) in table {
        let stream = hub.subscribe_draft(&marked(&format!("topic={}", encode(selector))));
        let topics = [*picks, *leaves].concat();
        assert_eq!(picked(&hub, stream, &topics), *picks, "topic={selector}");
        // The same words grant in a token.
        let token = token_draft(Role::Publish, &[selector]);
        for topic in &topics {
            let reply = hub.publish_with(&token, &[("topic", topic), ("data", "by token")]);
            if picks.contains(topic) {
                assert_eq!(reply.status, 200, "{selector} grants {topic}");
            } else {
                expect_unauthorized(&reply, &format!("{selector} grants no {topic}"));
            }
        }
    }
}

#[test]
fn a_selector_that_is_built_to_explode_costs_nothing_much() {
    let hub = TestHub::start(MEMORY);
    let selector = format!("/{}x", "{+a}".repeat(30));
    let mut stream = hub.subscribe_draft(&marked(&format!("topic={}", encode(&selector))));
    let topic = format!("/{}", "a".repeat(4_000));
    for _ in 0..10 {
        hub.publish_draft(&[("topic", &topic), ("data", "no")]);
    }
    hub.publish_draft(&[("topic", "/aaax"), ("data", "yes")]);
    assert_eq!(data_until_mark(&hub, &mut stream), ["yes"]);
}

#[test]
fn a_order_of_checks_is_token_before_parameters() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let forged = mint(
        &header(),
        &json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } }),
        "forged-secret-0123456789abcdef0123456789ab",
    );
    expect_unauthorized(&refused_get(&hub, &forged, ""), "subscribe without parameters");
    let many = vec!["topic=a"; 1_001].join("&");
    expect_unauthorized(&refused_get(&hub, &forged, &many), "subscribe with too many");
    expect_unauthorized(&hub.publish_with(&forged, &[]), "publish without parameters");
    let fields = [("topic", TOPIC), ("retry", "x")];
    expect_unauthorized(&hub.publish_with(&forged, &fields), "publish with bad ones");
    // Between the two: no claim at all is seen before, an ungranted topic after the parameters.
    let none = token(Role::Publish, &json!({ "subscribe": ["*"] }));
    expect_unauthorized(&hub.publish_with(&none, &[]), "no claim");
    let narrow = token_draft(Role::Publish, &["elsewhere"]);
    let reply = hub.publish_with(&narrow, &fields);
    expect_draft(&reply, 400, "Invalid \"retry\" parameter", "a narrow claim");
    expect_unauthorized(&hub.publish_with(&narrow, &[("topic", TOPIC)]), "a narrow claim");
    witness.expect_nothing(&hub);
}

#[test]
fn a_token_sources_are_the_header_and_then_the_query() {
    let hub = TestHub::start(&format!("{MEMORY}[auth]\nanonymous = true"));
    let good = token_draft(Role::Subscribe, &["*"]);
    let forged = mint(
        &header(),
        &json!({ "mercure": { "subscribe": ["*"] } }),
        "forged-secret-0123456789abcdef0123456789ab",
    );
    let open = |query: &str, headers: Pairs<'_>| {
        let mut stream = hub.stream(&format!("{HUB}?topic=*{query}"), headers);
        if stream.head.status == 200 {
            return Ok(stream);
        }
        stream.until_end();
        stream.head.body = stream.raw;
        Err(stream.head)
    };
    // The query alone.
    let mut stream = open(&format!("&authorization={good}"), &[]).unwrap();
    stream.until_open();
    hub.publish_draft(&[("topic", TOPIC), ("private", "on"), ("data", "private")]);
    assert_eq!(stream.event().data, "private");
    expect_unauthorized(&open(&format!("&authorization={forged}"), &[]).err().unwrap(), "forged");
    // Too short for a token: refused, and not taken for nobody.
    for short in ["", "x", &"x".repeat(40), "a.b.c"] {
        let reply = open(&format!("&authorization={short}"), &[]).err().unwrap();
        expect_unauthorized(&reply, &format!("authorization={short}"));
    }
    // The header wins over the query, whichever of them is good.
    let (name, value) = bearer(&good);
    let stream = open(&format!("&authorization={forged}"), &[(&name, &value)]);
    assert_eq!(stream.unwrap().head.status, 200);
    let (_, forged_value) = bearer(&forged);
    let reply = open(&format!("&authorization={good}"), &[(&name, &forged_value)]).err().unwrap();
    expect_unauthorized(&reply, "the header is forged");
    // Its form is exact.
    let short = format!("Bearer {}", "x".repeat(40));
    for (case, headers) in [
        ("lower case", vec![format!("bearer {good}")]),
        ("upper case", vec![format!("BEARER {good}")]),
        ("two spaces", vec![format!("Bearer  {good}")]),
        ("no scheme", vec![good.clone()]),
        ("another scheme", vec!["Basic dXNlcjpwYXNzd29yZC10aGF0LWlzLWxvbmctZW5vdWdo".to_owned()]),
        ("too short", vec![short]),
        ("empty", vec![String::new()]),
        ("twice", vec![value.clone(), value.clone()]),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|value| ("Authorization", value.as_str())).collect();
        expect_unauthorized(&open("", &headers).err().unwrap(), case);
    }
    // Publishers may use the query, too.
    let publish = token_draft(Role::Publish, &["*"]);
    let target = format!("{HUB}?authorization={publish}");
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    hub.request("POST", &target, &[form_type], b"topic=a&data=x").expect(200);
}

#[test]
fn a_token_in_the_query_can_be_switched_off() {
    let hub = TestHub::start(&format!("{MEMORY}[auth]\nquery_token = false"));
    let good = token_draft(Role::Subscribe, &["*"]);
    let reply = refused_get_without(&hub, &format!("topic=*&authorization={good}"));
    expect_unauthorized(&reply, "switched off");
    let publish = token_draft(Role::Publish, &["*"]);
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let target = format!("{HUB}?authorization={publish}");
    let reply = hub.request("POST", &target, &[form_type], b"topic=a&data=x");
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(hub.history(), []);
    hub.subscribe_draft("topic=*");
}

#[test]
fn a_token_checks_are_signature_algorithm_exp_and_nbf() {
    let hub = TestHub::start(MEMORY);
    let claims = || json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } });
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let key = PUBLISH_KEY;
    let mut count = 0;
    for (case, token) in [
        ("nothing more", mint(&header(), &claims(), key)),
        ("no typ", mint(&json!({ "alg": "HS256" }), &claims(), key)),
        ("any typ", mint(&json!({ "alg": "HS256", "typ": "x" }), &claims(), key)),
        ("typ of 1.0", mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims(), key)),
        ("any aud", mint(&header(), &with("aud", json!("https://e.com")), key)),
        ("another iss", mint(&header(), &with("iss", json!("Shlink")), key)),
        ("the iss", mint(&header(), &with("iss", json!(ISSUER)), key)),
        ("exp ahead", mint(&header(), &with("exp", json!(now() + 600)), key)),
        ("nbf behind", mint(&header(), &with("nbf", json!(now() - 5)), key)),
        ("an unknown kid", mint(&json!({ "alg": "HS256", "kid": "x" }), &claims(), key)),
    ] {
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", "good")]);
        assert_eq!(reply.status, 200, "{case}: {reply:?}");
        count += 1;
    }
    let none = mint(&json!({ "alg": "none", "typ": "JWT" }), &claims(), key);
    let unsigned = format!("{}.", none.rsplit_once('.').unwrap().0);
    for (case, token) in [
        ("none", unsigned),
        ("none, signed", none),
        ("HS512 with the same secret", mint(&json!({ "alg": "HS512" }), &claims(), key)),
        ("another secret", mint(&header(), &claims(), "another-secret-0123456789abcdef0123456789")),
        ("the other role's", mint(&header(), &claims(), SUBSCRIBE_KEY)),
        ("expired", mint(&header(), &with("exp", json!(now() - 5)), key)),
        ("not yet", mint(&header(), &with("nbf", json!(now() + 600)), key)),
        ("crit", mint(&json!({ "alg": "HS256", "crit": ["x"] }), &claims(), key)),
        ("the claim is a string", mint(&header(), &json!({ "mercure": "publish" }), key)),
        ("publish is a string", mint(&header(), &json!({ "mercure": { "publish": "*" } }), key)),
        (
            "a selector is no string",
            mint(&header(), &json!({ "mercure": { "publish": ["*", 1] } }), key),
        ),
    ] {
        let reply = hub.publish_with(&token, &[("topic", TOPIC), ("data", case)]);
        expect_unauthorized(&reply, case);
    }
    // Of a token that cannot be read nobody knows the generation.
    let twice = "{\"mercure\":{\"publish\":[\"*\"]},\"mercure\":{\"publish\":[\"*\"]}}";
    let reply =
        hub.publish_with(&mint_text(&header().to_string(), twice, key), &[("topic", TOPIC)]);
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(hub.history().len(), count);
}

#[test]
fn a_claim_under_the_long_name_replaces_the_short_one_as_a_whole() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let long = "https://mercure.rocks/";
    let publish = |claims: Value| {
        hub.publish_with(&mint(&header(), &claims, PUBLISH_KEY), &[("topic", TOPIC), ("data", "x")])
    };
    publish(json!({ long: { "publish": ["*"] } })).expect(200);
    publish(json!({ long: { "publish": ["*"] }, "mercure": { "publish": [] } })).expect(200);
    assert_eq!(witness.seen(&hub).len(), 2);
    for claims in [
        json!({ long: { "publish": [] }, "mercure": { "publish": ["*"] } }),
        json!({ long: { "subscribe": ["*"] }, "mercure": { "publish": ["*"] } }),
        json!({ long: {}, "mercure": { "publish": ["*"] } }),
        json!({ "https://mercure.rocks": { "publish": ["*"] } }),
    ] {
        expect_unauthorized(&publish(claims.clone()), &claims.to_string());
    }
    assert_eq!(witness.seen(&hub), []);
    // The same for subscribers.
    let claims = json!({ long: { "subscribe": ["a"] }, "mercure": { "subscribe": ["*"] } });
    let mut stream =
        hub.subscribe_with(&mint(&header(), &claims, SUBSCRIBE_KEY), &marked("topic=*"), &[]);
    hub.publish_draft(&[("topic", "b"), ("private", "on"), ("data", "b")]);
    hub.publish_draft(&[("topic", "a"), ("private", "on"), ("data", "a")]);
    assert_eq!(data_until_mark(&hub, &mut stream), ["a"]);
}

#[test]
fn a_publish_rule_is_that_every_topic_matches_a_selector() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let second = "https://draft.example/2";
    for (claim, topics, good) in [
        (json!({ "publish": ["*"] }), &[TOPIC, second][..], true),
        (json!({ "publish": [TOPIC] }), &[TOPIC], true),
        (json!({ "publish": [TOPIC, second] }), &[second, TOPIC], true),
        (json!({ "publish": ["https://draft.example/{id}"] }), &[TOPIC, second], true),
        (json!({ "publish": ["*"], "subscribe": [], "payload": "x" }), &[TOPIC], true),
        (json!({ "publish": [TOPIC] }), &[TOPIC, second], false),
        (json!({ "publish": [TOPIC] }), &[second, TOPIC], false),
        (json!({ "publish": [second] }), &[TOPIC], false),
        (json!({ "publish": [] }), &[TOPIC], false),
        (json!({ "publish": null }), &[TOPIC], false),
        (json!({ "subscribe": ["*"] }), &[TOPIC], false),
        (json!({}), &[TOPIC], false),
    ] {
        for private in [false, true] {
            let mut fields: Vec<(&str, &str)> = topics.iter().map(|t| ("topic", *t)).collect();
            fields.push(("data", "x"));
            fields.extend(private.then_some(("private", "on")));
            let reply = hub.publish_with(&token(Role::Publish, &claim), &fields);
            let case = format!("{claim} {topics:?}");
            if good {
                assert_eq!(reply.status, 200, "{case}");
            } else {
                expect_unauthorized(&reply, &case);
            }
            assert_eq!(witness.seen(&hub).len(), usize::from(good), "{case}");
        }
    }
    assert_eq!(hub.history().len(), 10);
    // A token without either claim is good for nothing.
    let empty = mint(&header(), &json!({ "sub": "alice", "exp": now() + 60 }), PUBLISH_KEY);
    let reply = hub.publish_with(&empty, &[("topic", TOPIC)]);
    assert_eq!(reply.status, 401, "{reply:?}");
}

#[test]
fn a_claims_hold_at_most_1_000_selectors() {
    let hub = TestHub::start(MEMORY);
    let selectors = |count: usize| -> Vec<String> { (0..count).map(|n| format!("s{n}")).collect() };
    for (count, good) in [(1_000, true), (1_001, false)] {
        let claim = token(Role::Publish, &json!({ "publish": selectors(count) }));
        let reply = hub.publish_with(&claim, &[("topic", "s1"), ("data", "x")]);
        if good {
            reply.expect(200);
        } else {
            expect_unauthorized(&reply, "1,001 selectors");
        }
        let claim = token(Role::Subscribe, &json!({ "subscribe": selectors(count) }));
        let reply = refused_get(&hub, &claim, "topic=*");
        assert_eq!(reply.status, if good { 200 } else { 401 });
    }
    assert_eq!(hub.history().len(), 1);
}

#[test]
fn a_auth_errors_are_401_without_a_challenge() {
    let hub = TestHub::start(&format!(
        "{MEMORY}[[auth.issuer]]\nid = \"{ISSUER}\"\naccept = [\"0.x\"]\n\
         publish = {{ key = \"{PUBLISH_KEY}\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}\n"
    ));
    // Where nobody speaks 1.0, nobody is answered in its words.
    let expired =
        mint(&header(), &json!({ "mercure": { "publish": ["*"] }, "exp": 1 }), PUBLISH_KEY);
    for (case, reply) in [
        ("subscribe without a token", refused_get_without(&hub, "topic=a")),
        ("subscribe without anything", refused_get_without(&hub, "")),
        ("publish without a token", hub.post(&[], &[("topic", TOPIC)])),
        ("expired", hub.publish_with(&expired, &[("topic", TOPIC)])),
        ("not a token", hub.publish_with(&"x".repeat(60), &[("topic", TOPIC)])),
        (
            "subscribe with no token of 1.0",
            refused_get(&hub, &token_final(Role::Subscribe, &["*"]), "topic=a"),
        ),
        (
            "publish with a token of 1.0",
            hub.publish_with(&token_final(Role::Publish, &["*"]), &[("topic", TOPIC)]),
        ),
    ] {
        expect_unauthorized(&reply, case);
    }
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let reply = exchange_http2(hub.address, "POST", HUB, &[form_type], b"topic=a");
    expect_unauthorized(&reply, "over HTTP/2");
    let reply = hub.request("HEAD", &format!("{HUB}?topic=a"), &[], b"");
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, None));
    let mut stream = hub.subscribe_draft("topic=*");
    hub.publish_draft(&[("topic", TOPIC), ("data", "nothing before")]);
    assert_eq!(stream.event().data, "nothing before");
}

#[test]
fn a_reserved_substring_is_403() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let line = "a topic is in the hub's reserved namespace";
    for topic in [
        "/.well-known/mercure",
        "/.well-known/mercure/subscriptions/a/b",
        "https://e.com/.well-known/mercure",
        "https://e.com/x/.well-known/mercure",
        "https://e.com/.well-known/mercureXXX",
        "https://e.com/?u=/.well-known/mercure/x",
        "urn:x:/.well-known/mercure",
        "x#/.well-known/mercure",
    ] {
        for fields in [
            vec![("topic", topic), ("data", "x")],
            vec![("topic", TOPIC), ("topic", topic), ("data", "x")],
            vec![("topic", topic), ("private", "on"), ("data", "x")],
        ] {
            expect_draft(&try_publish(&hub, &fields), 403, line, topic);
        }
        // The grant is looked at first.
        let narrow = token_draft(Role::Publish, &[TOPIC]);
        expect_unauthorized(&hub.publish_with(&narrow, &[("topic", topic)]), topic);
    }
    // What would lead there after all is refused to 0.x as to everybody.
    for topic in ["/.well-known/%6Dercure/x", "mercure/x", "https://e.com\\.well-known\\mercure"] {
        expect_draft(&try_publish(&hub, &[("topic", topic)]), 403, line, topic);
    }
    witness.expect_nothing(&hub);
    for topic in ["/.well-known/Mercure", "https://e.com/mercure", "../mercure/x", "/.well-known/x"]
    {
        try_publish(&hub, &[("topic", topic), ("data", topic)]).expect(200);
    }
}

#[test]
fn a_id_and_type_checks_are_only_for_null_and_line_ends() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    for text in ["a\0b", "a\rb", "a\nb", "a\r\nb", "\n", "x\ndata: forged", "\0"] {
        for name in ["id", "type"] {
            let reply = try_publish(&hub, &[("topic", TOPIC), (name, text), ("data", "x")]);
            let case = format!("{name} {text:?}");
            expect_draft(&reply, 400, "a field contains a forbidden control character", &case);
        }
    }
    witness.expect_nothing(&hub);
    for text in [
        "#",
        "#x",
        "a\tb",
        "\u{1}",
        "a\u{7f}",
        "a\u{85}b",
        "a\u{ad}b",
        "a\u{202e}b",
        "\u{feff}x",
        "earliest",
    ] {
        let reply = try_publish(&hub, &[("topic", TOPIC), ("id", text), ("data", "x")]).expect(200);
        assert_eq!(reply.text(), text);
        let seen = witness.seen(&hub);
        assert_eq!((seen.len(), seen[0].id.as_deref()), (1, Some(text)), "id {text:?}");
    }
    for text in ["mercure", "a\tb", "\u{1}", "a\u{ad}b"] {
        try_publish(&hub, &[("topic", TOPIC), ("type", text), ("data", "x")]).expect(200);
        let seen = witness.seen(&hub);
        assert_eq!((seen.len(), seen[0].event.as_deref()), (1, Some(text)), "type {text:?}");
    }
    let topics = ["*", "a\tb", "a\u{1}b", "a\u{ad}b", "\u{200b}"];
    let mut stream = hub.subscribe_draft(&marked("topic=*"));
    for topic in topics {
        try_publish(&hub, &[("topic", topic), ("data", topic)]).expect(200);
    }
    assert_eq!(data_until_mark(&hub, &mut stream), topics);
}

#[test]
fn an_id_with_spaces_around_it_and_an_empty_retry_are_still_taken() {
    let hub = TestHub::start(MEMORY);
    let reply = try_publish(&hub, &[("topic", TOPIC), ("id", " a "), ("retry", "")]);
    assert_eq!(reply.expect(200).text(), " a ");
}

#[test]
fn a_parameters_of_a_publication_are_refused_in_one_line() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let missing = "Missing \"topic\" parameter";
    expect_draft(&try_publish(&hub, &[]), 400, missing, "nothing");
    expect_draft(&try_publish(&hub, &[("data", "x")]), 400, missing, "no topic");
    for retry in ["x", "-1", "+1", "1.5", " 1", "٣"] {
        let reply = try_publish(&hub, &[("topic", TOPIC), ("retry", retry)]);
        expect_draft(&reply, 400, "Invalid \"retry\" parameter", retry);
    }
    let (name, value) = bearer(&token_draft(Role::Publish, &["*"]));
    let headers = [(name.as_str(), value.as_str()), ("Content-Type", "application/json")];
    let reply = hub.request("POST", HUB, &headers, b"{\"topic\":\"a\"}");
    expect_draft(&reply, 400, missing, "not a form");
    let topics: Vec<String> = (0..1_001).map(|number| format!("t{number}")).collect();
    let mut many: Vec<(&str, &str)> =
        topics.iter().map(|topic| ("topic", topic.as_str())).collect();
    assert_eq!(try_publish(&hub, &many).status, 400);
    witness.expect_nothing(&hub);
    many.pop();
    try_publish(&hub, &many).expect(200);
}

#[test]
fn a_payload_caps_are_413_also_in_0_x() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nupdate_size_max = \"4 KiB\""));
    let mut witness = Witness::new(&hub);
    let large = "x".repeat(5_000);
    let reply = try_publish(&hub, &[("topic", TOPIC), ("data", &large)]);
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    let mut connection = Connection::open(hub.address);
    let authorization = bearer(&token_draft(Role::Publish, &["*"]));
    connection.send(&crate::mercure::post_head(&[
        with_token(&authorization),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", "1000000000"),
    ]));
    assert_eq!(connection.reply().unwrap().status, 413);
    witness.expect_nothing(&hub);
}

#[test]
fn a_publish_ok_is_200_with_the_id_as_plain_text() {
    let hub = TestHub::start(MEMORY);
    for fields in [
        &[("topic", TOPIC)][..],
        // As Symfony's client orders them.
        &[
            ("topic", TOPIC),
            ("topic", "https://draft.example/2"),
            ("data", "{}"),
            ("private", "on"),
            ("id", "urn:x:1"),
            ("type", "t"),
            ("retry", "5"),
        ],
    ] {
        let mut stream = hub.subscribe_draft("topic=*");
        let reply = try_publish(&hub, fields).expect(200);
        assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        let event = stream.event();
        assert_eq!(event.id, Some(reply.text()));
        assert!(!reply.body.is_empty() && !reply.text().ends_with('\n'), "{:?}", reply.text());
        if fields.len() > 1 {
            assert_eq!(reply.text(), "urn:x:1");
            assert_eq!((event.event.as_deref(), event.retry.as_deref()), (Some("t"), Some("5")));
        }
    }
}

#[test]
fn a_private_match_takes_any_topic_for_each_of_the_two_questions() {
    let hub = TestHub::start(&format!("{MEMORY}[auth]\nanonymous = true"));
    let table = [
        ("everything", Some(json!({ "subscribe": ["*"] })), "topic=*", "a b ab"),
        ("a", Some(json!({ "subscribe": ["a"] })), "topic=*", "a ab"),
        ("b by a", Some(json!({ "subscribe": ["b"] })), "topic=a", "ab"),
        ("a template", Some(json!({ "subscribe": ["{x}"] })), "topic=*", "a b ab"),
        ("an empty list", Some(json!({ "subscribe": [] })), "topic=*", ""),
        ("null", Some(json!({ "subscribe": null })), "topic=*", ""),
        ("a publisher's claim", Some(json!({ "publish": ["*"] })), "topic=*", ""),
        ("an empty claim", Some(json!({})), "topic=*", ""),
        ("nobody", None, "topic=*", ""),
    ];
    let mut streams: Vec<_> = table
        .iter()
        .map(|(case, claim, query, _)| {
            let query = marked(query);
            let mut stream = match claim {
                Some(claim) => hub.subscribe_with(&token(Role::Subscribe, claim), &query, &[]),
                None => hub.stream(&format!("{HUB}?{query}"), &[]),
            };
            assert_eq!(stream.head.status, 200, "{case}");
            stream.until_open();
            stream
        })
        .collect();
    hub.publish_draft(&[("topic", "a"), ("private", "on"), ("data", "a")]);
    hub.publish_draft(&[("topic", "b"), ("private", ""), ("data", "b")]);
    hub.publish_draft(&[("topic", "a"), ("topic", "b"), ("private", "0"), ("data", "ab")]);
    hub.publish_draft(&[("topic", "a"), ("data", "public")]);
    for (stream, (case, _, _, expected)) in streams.iter_mut().zip(&table) {
        let mut expected: Vec<&str> = expected.split_whitespace().collect();
        expected.push("public");
        assert_eq!(data_until_mark(&hub, stream), expected, "{case}");
    }
}

#[test]
fn a_stream_ends_with_its_token_and_needs_none_to_end() {
    let hub = TestHub::start(MEMORY);
    let expires = now() + 2;
    let claims = json!({ "mercure": { "subscribe": ["*"] }, "exp": expires });
    let mut stream = hub.subscribe_with(&mint(&header(), &claims, SUBSCRIBE_KEY), "topic=*", &[]);
    let mut endless = hub.subscribe_draft("topic=*");
    let (_, end) = stream.until_end();
    assert_eq!(end, crate::http::Part::End);
    assert!(now() >= expires);
    hub.publish_draft(&[("topic", TOPIC), ("data", "goes on")]);
    assert_eq!(endless.event().data, "goes on");
}

#[test]
fn both_generations_see_each_others_updates() {
    let hub = TestHub::start(MEMORY);
    let mut draft = hub.subscribe_draft(&marked(&format!("topic={}", encode(TOPIC))));
    let mut final_ = hub.subscribe(&marked(&format!("match={}", encode(TOPIC))));
    let ids = [
        hub.publish_draft(&[("topic", TOPIC), ("data", "0.x"), ("private", "on")]),
        hub.publish(&[("topic", TOPIC), ("data", "1.0"), ("private", "on")]),
    ];
    for stream in [&mut draft, &mut final_] {
        let seen: Vec<_> = until_mark(&hub, stream);
        assert_eq!(
            seen.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(),
            ["0.x", "1.0"]
        );
        assert_eq!(seen.into_iter().map(|event| event.id.unwrap()).collect::<Vec<_>>(), ids);
    }
}

#[test]
fn shlink_and_symfony_are_served_as_they_are_configured_today() {
    // A secret that is too short for its hash, as many have it.
    let hub = TestHub::launch(Launch::toml(&format!(
        "{MEMORY}[[auth.issuer]]\nid = \"{ISSUER}\"\naccept = [\"1.0\"]\n\
         publish = {{ key = \"{PUBLISH_KEY}\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}\n\
         [[auth.issuer]]\nid = \"Shlink\"\naccept = [\"0.x\"]\n\
         publish = {{ key = \"!ChangeMe!\" }}\nsubscribe = {{ key = \"!ChangeMe!\" }}\n"
    )));
    let shlink = |claim: Value, lifetime: u64| {
        let now = now();
        let claims =
            json!({ "iss": "Shlink", "iat": now, "exp": now + lifetime, "mercure": claim });
        mint(&header(), &claims, "!ChangeMe!")
    };
    // Shlink's page: a polyfill with a header, which resends the cursor in its own spelling.
    let subscriber = shlink(json!({ "subscribe": ["*"] }), 3 * 24 * 3_600);
    let topics = "topic=https%3A%2F%2Fshlink.io%2Fnew-visit%2Fabc&topic=https%3A%2F%2Fshlink.io%2Fnew-short-url";
    let mut stream = hub.subscribe_with(&subscriber, topics, &[]);
    let publisher = shlink(json!({ "publish": ["*"] }), 600);
    let topic = "https://shlink.io/new-visit/abc";
    let data = "{\"shortUrl\":{\"shortCode\":\"abc\"},\"visit\":{}}";
    let id = hub.publish_with(&publisher, &[("topic", topic), ("data", data)]).expect(200).text();
    assert_eq!(stream.event().data, data);
    let next = hub
        .publish_with(&publisher, &[("topic", "https://shlink.io/new-short-url"), ("data", "{}")]);
    next.expect(200);
    let mut again =
        hub.subscribe_with(&subscriber, &format!("{topics}&lastEventId={}", encode(&id)), &[]);
    assert_eq!(again.event().data, "{}");
    // Symfony's page: the cursor in two spellings at once; a native EventSource resends a header.
    let twig = format!("{topics}&lastEventID={0}&Last-Event-ID={0}", encode(&id));
    let symfony = mint(
        &header(),
        &json!({ "mercure": { "publish": [], "subscribe": [] }, "exp": now() + 3_600 }),
        "!ChangeMe!",
    );
    let mut again = hub.subscribe_with(&symfony, &twig, &[]);
    assert_eq!(again.event().data, "{}");
    // Over HTTP/2, as browsers do behind TLS.
    let target = format!("{HUB}?topic=%2A");
    let authorization = bearer(&subscriber);
    let headers = [with_token(&authorization), ("Last-Event-ID", id.as_str())];
    let mut again = stream_http2(hub.address, "GET", &target, &headers, b"");
    assert_eq!(again.head.header("last-event-id"), Some(id));
    assert_eq!(again.event().data, "{}");
    // The short secret is good for nothing in 1.0.
    let mut claims =
        crate::tokens::claims_final(json!([crate::tokens::detail(Role::Publish, &["*"])]));
    claims["iss"] = json!("Shlink");
    let forged = mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, "!ChangeMe!");
    assert_eq!(hub.publish_with(&forged, &[("topic", topic)]).status, 401);
}

#[test]
fn an_issuer_of_1_0_only_takes_no_token_of_0_x() {
    let hub = TestHub::start(&format!(
        "{MEMORY}[[auth.issuer]]\nid = \"{ISSUER}\"\n\
         publish = {{ key = \"{PUBLISH_KEY}\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}\n"
    ));
    let mut witness = Witness::new(&hub);
    for claims in [
        json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } }),
        json!({ "iss": ISSUER, "mercure": { "publish": ["*"], "subscribe": ["*"] }, "exp": now() + 60 }),
    ] {
        let publish = mint(&header(), &claims, PUBLISH_KEY);
        let reply = hub.publish_with(&publish, &[("topic", TOPIC), ("data", "x")]);
        crate::mercure::expect_challenge(&reply, 401, Some("invalid_token"), "publish");
        let subscribe = mint(&header(), &claims, SUBSCRIBE_KEY);
        let reply = refused_get(&hub, &subscribe, "match=*");
        crate::mercure::expect_challenge(&reply, 401, Some("invalid_token"), "subscribe");
        // Nor from the URL.
        let reply = refused_get_without(&hub, &format!("match=*&authorization={subscribe}"));
        assert_eq!(reply.status, 401, "{reply:?}");
    }
    // `topic` belongs to 0.x, which this hub does not speak.
    let reply = refused_get(&hub, &token_final(Role::Subscribe, &["*"]), "topic=a");
    expect_problem(&reply, 400, "topic");
    witness.expect_nothing(&hub);
}
