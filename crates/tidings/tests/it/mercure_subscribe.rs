//! Who gets which updates, and in what form: sections "Subscription" and "Matchers" of the Mercure
//! protocol, 1.0. What is refused stands in `mercure_refusals`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::{
    Connection, PATIENCE, Pairs, Part, encode, exchange_http2, request, stream_http2,
};
use crate::hub::{HUB, TestHub};
use crate::mercure::{
    MEMORY, data_until_mark, expect_challenge, expect_problem, marked, picked, publish_end,
    refused_get, refused_get_without, until_mark, with_token,
};
use crate::tokens::{self, Role, bearer, claims_final, detail, mint, token_final};

const TOPIC: &str = "https://subscribe.example/1";
const FORM_TYPE: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// For each pattern of one matcher type: topics that it picks, and topics that it does not.
#[track_caller]
fn check_matcher(hub: &TestHub, name: &str, table: &[(&str, &[&str], &[&str])]) {
    for (pattern, picks, leaves) in table {
        let stream = hub.subscribe(&marked(&format!("{name}={}", encode(pattern))));
        let topics = [*picks, *leaves].concat();
        assert_eq!(picked(hub, stream, &topics), *picks, "{name}={pattern}");
    }
}

/// A stream opened by QUERY with this body.
fn query(hub: &TestHub, query: &str, headers: Pairs<'_>, body: &str) -> crate::http::EventStream {
    let authorization = bearer(&token_final(Role::Subscribe, &["*"]));
    let mut all = vec![with_token(&authorization), FORM_TYPE];
    all.extend_from_slice(headers);
    let target = format!("{HUB}{query}");
    let bytes = request("QUERY", &target, &all, body.as_bytes());
    crate::http::stream(hub.address, &bytes)
}

#[test]
fn m02_m14_a_stream_of_server_sent_events_answers_get() {
    let hub = TestHub::start(MEMORY);
    let mut stream = hub.subscribe(&format!("match={}", encode(TOPIC)));
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "private, no-cache, no-store, must-revalidate, max-age=0"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(stream.head.header(name).as_deref(), Some(value), "{name}");
    }
    // Something is sent at once, so that proxies and browsers take the stream for open.
    assert_eq!(stream.raw, b":\n");
    let id = hub.publish(&[
        ("topic", TOPIC),
        ("data", "line 1\nline 2"),
        ("type", "changed"),
        ("retry", "250"),
    ]);
    let event = stream.event();
    assert_eq!(event.id.as_deref(), Some(id.as_str()));
    assert_eq!(event.event.as_deref(), Some("changed"));
    assert_eq!(event.retry.as_deref(), Some("250"));
    assert_eq!(event.data, "line 1\nline 2");
    let raw = String::from_utf8(stream.raw.clone()).unwrap();
    assert!(raw.ends_with("\n\n") && raw.is_ascii() && !raw.contains('\r'), "{raw:?}");
}

#[test]
fn m02_m03_query_reads_matchers_from_a_form_body() {
    let hub = TestHub::start(MEMORY);
    let body = format!("match={}&unknown=x", encode(TOPIC));
    let mut stream = query(&hub, "", &[], &body);
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.head.header("content-type").as_deref(), Some("text/event-stream"));
    stream.until_open();
    hub.publish(&[("topic", "https://subscribe.example/2"), ("data", "no")]);
    hub.publish(&[("topic", TOPIC), ("data", "yes")]);
    assert_eq!(stream.event().data, "yes");
    // A body in any other form is refused, and the answer says which one is read.
    let authorization = bearer(&token_final(Role::Subscribe, &["*"]));
    for kind in ["application/json", "text/plain"] {
        let headers = [with_token(&authorization), ("Content-Type", kind)];
        let reply = hub.request("QUERY", HUB, &headers, b"{\"match\":\"a\"}");
        expect_problem(&reply, 415, kind);
        let accepted = reply.header("accept-query").unwrap();
        assert!(accepted.contains("application/x-www-form-urlencoded"), "{accepted}");
    }
    let headers = [with_token(&authorization), FORM_TYPE];
    for body in ["", "match=%FF", "Match=a", "match=a&match_regexp=b"] {
        expect_problem(&hub.request("QUERY", HUB, &headers, body.as_bytes()), 400, body);
    }
}

#[test]
fn bodies_of_queries_are_bounded_and_read_as_they_are() {
    const LIMIT: usize = 64 * 1024;
    let hub = TestHub::start(MEMORY);
    let authorization = bearer(&token_final(Role::Subscribe, &["*"]));
    let filled = |bytes: usize| format!("match=a&unknown={}", "x".repeat(bytes - 16));
    let mut stream = query(&hub, "", &[], &filled(LIMIT));
    assert_eq!(stream.head.status, 200);
    stream.until_open();
    let headers = [with_token(&authorization), FORM_TYPE];
    let reply = hub.request("QUERY", HUB, &headers, filled(LIMIT + 1).as_bytes());
    expect_problem(&reply, 413, "one byte too many");
    // The same without a length in the head.
    let chunked = [with_token(&authorization), FORM_TYPE, ("Transfer-Encoding", "chunked")];
    let mut bytes = request("QUERY", HUB, &chunked, b"");
    for _ in 0..=LIMIT / 1_000 {
        bytes.extend(format!("3e8\r\n{}\r\n", "x".repeat(1_000)).bytes());
    }
    expect_problem(&hub.exchange(&bytes), 413, "one chunk too many");
    for (coding, status) in [("gzip", 415), ("br, identity", 415), ("identity", 400)] {
        let headers = [with_token(&authorization), FORM_TYPE, ("Content-Encoding", coding)];
        expect_problem(&hub.request("QUERY", HUB, &headers, b"Match=a"), status, coding);
    }
}

#[test]
fn m04_query_takes_the_union_of_query_and_body() {
    let hub = TestHub::start(MEMORY);
    let ids: Vec<String> = (0..4)
        .map(|number| hub.publish(&[("topic", TOPIC), ("data", &number.to_string())]))
        .collect();
    let in_query = format!("?match={}&match=https://e.com/q", encode(TOPIC));
    let body = "match=https://e.com/b&match_urlpattern=https%3A%2F%2Fp.example%2F*";
    let mut stream = query(&hub, &in_query, &[], body);
    stream.until_open();
    for topic in
        [TOPIC, "https://e.com/q", "https://e.com/b", "https://e.com/x", "https://p.example/1"]
    {
        hub.publish(&[("topic", topic), ("data", topic)]);
    }
    let expected = [TOPIC, "https://e.com/q", "https://e.com/b", "https://p.example/1"];
    assert_eq!(stream.data(4), expected);
    // The cursor: the header wins over the query, the query over the body.
    let cursor = |number: usize| format!("last_event_id={}", encode(&ids[number]));
    let matcher = format!("match={}", encode(TOPIC));
    let header = [("Last-Event-ID", ids[2].as_str())];
    for (case, headers, query_cursor, body_cursor, first) in [
        ("body", &[][..], None, Some(0), "1"),
        ("query over body", &[], Some(1), Some(0), "2"),
        ("header over query", &header[..], Some(1), None, "3"),
        ("header over body", &header, None, Some(0), "3"),
        ("header over both", &header, Some(1), Some(0), "3"),
    ] {
        let in_query = query_cursor.map(|at| format!("?{}", cursor(at))).unwrap_or_default();
        let in_body = body_cursor.map(|at| format!("&{}", cursor(at))).unwrap_or_default();
        let mut stream = query(&hub, &in_query, headers, &format!("{matcher}{in_body}"));
        assert_eq!(stream.head.status, 200, "{case}");
        assert_eq!(stream.event().data, first, "{case}");
    }
}

#[test]
fn m05_the_query_is_read_as_url_search_params_writes_it() {
    let hub = TestHub::start(MEMORY);
    for (query, topic) in [
        ("match=a;b", "a;b"),
        ("match=100%", "100%"),
        ("match=%zz%4", "%zz%4"),
        ("match=a+b", "a b"),
        ("match=a%2Bb", "a+b"),
        ("match=a=b", "a=b"),
        ("%6Datch=enc", "enc"),
        ("m%61tch%5Fexact=x%2Fy", "x/y"),
        ("&&match=amp&&", "amp"),
        ("match=%C3%A9", "é"),
        ("match=https://e.com/a?b", "https://e.com/a?b"),
        ("match=a%26b", "a&b"),
        ("x;match=no&match=semi", "semi"),
    ] {
        let stream = hub.subscribe(&marked(query));
        let topics = [topic, "a", "b", "100", "other"];
        assert_eq!(picked(&hub, stream, &topics), [topic], "{query}");
    }
    // A name without a value has an empty one, which is a matcher that nothing can match.
    for query in ["match", "match=", "match_exact"] {
        let stream = hub.subscribe(&marked(query));
        assert_eq!(picked(&hub, stream, &["a", "x"]), Vec::<String>::new(), "{query}");
    }
}

#[test]
fn m06_m10_matchers_add_up_and_an_update_comes_once() {
    let hub = TestHub::start(MEMORY);
    let query = format!(
        "match={}&match_exact=b&match_urlpattern={}&match=a&match=a",
        encode(TOPIC),
        encode("https://subscribe.example/:id")
    );
    let mut stream = hub.subscribe(&marked(&query));
    hub.publish(&[("topic", TOPIC), ("data", "by two matchers")]);
    hub.publish(&[("topic", "a"), ("topic", "b"), ("data", "by two topics")]);
    hub.publish(&[("topic", "c"), ("data", "by none")]);
    hub.publish(&[("topic", "c"), ("topic", "b"), ("data", "by an alternate")]);
    hub.publish(&[("topic", "https://subscribe.example/9"), ("data", "by the pattern")]);
    assert_eq!(
        data_until_mark(&hub, &mut stream),
        ["by two matchers", "by two topics", "by an alternate", "by the pattern"]
    );
}

#[test]
fn m11_connections_of_one_address_are_bounded_by_429() {
    let hub = TestHub::start(&format!("{MEMORY}[http]\nconnections_per_address_max = 3"));
    let streams: Vec<_> = (0..3).map(|_| hub.subscribe("match=*")).collect();
    let reply = hub.get(&format!("{HUB}?match=*"), &[]);
    assert_eq!(reply.status, 429, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    drop(streams);
    // Places come back as connections go.
    let deadline = Instant::now() + PATIENCE;
    while hub.get(&format!("{HUB}?match=*"), &[]).status == 429 {
        assert!(Instant::now() < deadline, "no place came back");
    }
}

#[test]
fn m13_m56_private_updates_reach_only_who_may_read_one_of_their_topics() {
    let hub = TestHub::start(&format!("{MEMORY}[auth]\nanonymous = true"));
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let (a, b) = ("https://subscribe.example/a", "https://subscribe.example/b");
    let mut other_action = claims_final(json!([detail(Role::Subscribe, &["*"])]));
    other_action["authorization_details"][0]["actions"] = json!(["publish", "read"]);
    let mut by_pattern = claims_final(json!([detail(Role::Subscribe, &[a])]));
    by_pattern["authorization_details"][0]["topics"][0] =
        json!({ "match": "https://subscribe.example/*", "match_type": "urlpattern" });
    let key = Role::Subscribe.key();
    // Who, with which token and matcher, and which of the private updates below arrive.
    let table = [
        ("everything", Some(token_final(Role::Subscribe, &["*"])), "match=*", "a b ab"),
        ("a", Some(token_final(Role::Subscribe, &[a])), "match=*", "a ab"),
        ("b", Some(token_final(Role::Subscribe, &[b])), "match=*", "b ab"),
        // The topic that is matched need not be the one that is granted.
        (
            "b by a",
            Some(token_final(Role::Subscribe, &[b])),
            "match=https://subscribe.example/a",
            "ab",
        ),
        (
            "a by a",
            Some(token_final(Role::Subscribe, &[a])),
            "match=https://subscribe.example/a",
            "a ab",
        ),
        ("both", Some(token_final(Role::Subscribe, &[a, b])), "match=*", "a b ab"),
        ("a pattern", Some(mint(&header, &by_pattern, key)), "match=*", "a b ab"),
        (
            "another topic",
            Some(token_final(Role::Subscribe, &["https://subscribe.example/"])),
            "match=*",
            "",
        ),
        ("another action", Some(mint(&header, &other_action, key)), "match=*", ""),
        ("no details", Some(mint(&header, &claims_final(json!([])), key)), "match=*", ""),
        ("nobody", None, "match=*", ""),
    ];
    let open = |case: &str, token: &Option<String>, query: &str| {
        let query = marked(query);
        let mut stream = match token {
            Some(token) => hub.subscribe_with(token, &query, &[]),
            None => hub.stream(&format!("{HUB}?{query}"), &[]),
        };
        assert_eq!(stream.head.status, 200, "{case}");
        stream.until_open();
        stream
    };
    let mut live: Vec<_> =
        table.iter().map(|(case, token, query, _)| open(case, token, query)).collect();
    hub.publish(&[("topic", a), ("private", "on"), ("data", "a")]);
    hub.publish(&[("topic", b), ("private", "on"), ("data", "b")]);
    hub.publish(&[("topic", a), ("topic", b), ("private", "on"), ("data", "ab")]);
    hub.publish(&[("topic", a), ("data", "public")]);
    let end = publish_end(&hub);
    for (stream, (case, token, query, expected)) in live.iter_mut().zip(&table) {
        let mut expected: Vec<&str> = expected.split_whitespace().collect();
        expected.push("public");
        let check = |stream: &mut crate::http::EventStream, how: &str| {
            let mut seen = Vec::new();
            loop {
                let event = stream.event();
                if event.data == end {
                    break;
                }
                seen.push(event.data);
            }
            assert_eq!(seen, expected, "{case}, {how}");
        };
        check(stream, "live");
        let mut replayed = open(case, token, &format!("{query}&last_event_id=earliest"));
        check(&mut replayed, "from the history");
    }
}

#[test]
fn m15_an_idle_stream_gets_comments() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nheartbeat = \"1s\""));
    let mut stream = hub.subscribe("match=*");
    let deadline = Instant::now() + PATIENCE;
    while stream.raw.len() < 6 {
        assert_eq!(stream.next_within(Duration::from_millis(200)), None);
        assert!(Instant::now() < deadline, "no comments: {:?}", stream.raw);
    }
    assert!(stream.raw.chunks(2).all(|comment| comment == b":\n"), "{:?}", stream.raw);
    hub.publish(&[("topic", TOPIC), ("data", "x")]);
    assert_eq!(stream.event().data, "x");
}

#[test]
fn m16_anonymous_subscribers_are_let_in_only_where_that_is_configured() {
    let closed = TestHub::start(MEMORY);
    expect_challenge(&refused_get_without(&closed, "match=*"), 401, None, "closed");
    let open = TestHub::start(&format!("{MEMORY}[auth]\nanonymous = true"));
    let mut stream = open.stream(&format!("{HUB}?match=*"), &[]);
    assert_eq!(stream.head.status, 200);
    stream.until_open();
    open.publish(&[("topic", TOPIC), ("private", "on"), ("data", "private")]);
    open.publish(&[("topic", TOPIC), ("data", "public")]);
    assert_eq!(stream.event().data, "public");
    // Whoever shows a token is judged by it, also where none is needed.
    let reply = refused_get(&open, "garbage.garbage.garbage-garbage-garbage-garbage", "match=*");
    expect_challenge(&reply, 401, Some("invalid_token"), "a bad token");
    // Publishing always needs one.
    expect_challenge(&open.post(&[], &[("topic", TOPIC)]), 401, None, "publish");
    assert_eq!(open.history().len(), 2);
}

#[test]
fn m17_m18_the_wildcard_is_recognised_in_every_type_of_matcher() {
    let hub = TestHub::start(MEMORY);
    let topics = ["a", "https://e.com/1", "urn:x:y", "http://[bad", "/x", "$SYS/a", "**"];
    for name in ["match", "match_exact", "match_urlpattern", "match_uritemplate"] {
        let stream = hub.subscribe(&format!("{name}=*"));
        assert_eq!(picked(&hub, stream, &topics), topics, "{name}");
    }
    // Only the one character is it.
    for name in ["match", "match_exact"] {
        let stream = hub.subscribe(&marked(&format!("{name}=**")));
        assert_eq!(picked(&hub, stream, &topics), ["**"], "{name}");
    }
}

#[test]
fn m19_exact_compares_bytes() {
    let hub = TestHub::start(MEMORY);
    check_matcher(
        &hub,
        "match",
        &[
            (
                "https://e.com/a",
                &["https://e.com/a"],
                &[
                    "https://e.com/A",
                    "HTTPS://e.com/a",
                    "https://E.com/a",
                    "https://e.com/a/",
                    "https://e.com:443/a",
                    "https://e.com/a?",
                    "https://e.com/a#",
                    "https://e.com/ab",
                    "https://e.com/",
                ],
            ),
            ("/a", &["/a"], &["https://hub.example/a", "a", "/./a", "/a/"]),
            ("a", &["a"], &["/.well-known/a", "./a"]),
            (
                "https://e.com/é",
                &["https://e.com/é"],
                &["https://e.com/%C3%A9", "https://e.com/e\u{301}"],
            ),
            ("https://e.com/%61", &["https://e.com/%61"], &["https://e.com/a"]),
            ("https://e.com/{id}", &["https://e.com/{id}"], &["https://e.com/1"]),
            ("https://e.com/:id", &["https://e.com/:id"], &["https://e.com/1"]),
            ("https://e.com/*", &["https://e.com/*"], &["https://e.com/1"]),
            (".*", &[".*"], &["a"]),
        ],
    );
    check_matcher(&hub, "match_exact", &[("https://e.com/a", &["https://e.com/a"], &["a"])]);
}

#[test]
fn m20_m21_url_patterns_are_those_of_the_whatwg() {
    let hub = TestHub::start(MEMORY);
    check_matcher(
        &hub,
        "match_urlpattern",
        &[
            (
                "https://e.com/books/:id",
                &[
                    "https://e.com/books/1",
                    "https://E.com/books/1",
                    "HTTPS://e.com:443/books/%41",
                    "https://e.com/x/../books/2",
                    "https://e.com/books/1?q#f",
                ],
                &[
                    "https://e.com/Books/1",
                    "https://e.com/books/",
                    "https://e.com/books/1/2",
                    "http://e.com/books/1",
                    "https://e.com:8443/books/1",
                    "https://f.com/books/1",
                    "e.com/books/1",
                ],
            ),
            (
                "https://e.com/books/*",
                &["https://e.com/books/1", "https://e.com/books/", "https://e.com/books/1/2"],
                &["https://e.com/books", "https://e.com/BOOKS/1"],
            ),
            // The host is canonical in the pattern, too; nothing else is.
            ("https://E.COM/Books/:id", &["https://e.com/Books/1"], &["https://e.com/books/1"]),
            (
                "https://*.e.com/a",
                &["https://x.e.com/a", "https://x.y.e.com/a"],
                &["https://e.com/a", "https://xe.com/a"],
            ),
            (
                "https://e.com/:type/:id(\\d+)",
                &["https://e.com/a/12"],
                &["https://e.com/a/b", "https://e.com/a/1b"],
            ),
            (
                "https://e.com/a{/b}?/c",
                &["https://e.com/a/c", "https://e.com/a/b/c"],
                &["https://e.com/a/b/b/c"],
            ),
            ("http{s}?://e.com/a", &["http://e.com/a", "https://e.com/a"], &["ftp://e.com/a"]),
            (
                "https://e.com/a\\?x=:v",
                &["https://e.com/a?x=1"],
                &["https://e.com/a?y=1", "https://e.com/a"],
            ),
            // Relative patterns and relative topics are relative to the hub's URL with its path.
            (
                "/feeds/:id",
                &["/feeds/1", "https://hub.example/feeds/1", "../feeds/1"],
                &["https://other.example/feeds/1", "feeds/1"],
            ),
            (
                "feeds/:id",
                &[
                    "feeds/1",
                    "/.well-known/feeds/1",
                    "https://hub.example/.well-known/feeds/1",
                    "./feeds/1",
                ],
                &["/feeds/1"],
            ),
            ("https://hub.example/feeds/:id", &["/feeds/1"], &["feeds/1"]),
            // What is no URL is matched by no pattern, and harms nobody.
            (
                "*://*/*",
                &["https://e.com/a", "a", "/b"],
                &["http://[bad", "https://e.com:99999999/a", "https://"],
            ),
        ],
    );
}

#[test]
fn m22_patterns_that_are_built_to_explode_cost_nothing_much() {
    let hub = TestHub::start(MEMORY);
    let token = token_final(Role::Subscribe, &["*"]);
    let many_wildcards = format!("https://e.com/{}b", "*a".repeat(1_000));
    let nested = format!("https://e.com/{}a{}", "((?:".repeat(300), ")*)".repeat(300));
    let patterns = [
        "https://e.com/((?:a+)+b)",
        "https://e.com/((?:a|aa)+b)",
        "https://e.com/((?:a|a?)+b)",
        "https://e.com/(.*a.*a.*a.*a.*a.*a.*a.*a.*b)",
        "https://e.com/((?:a{0,1000}){0,1000}b)",
        "https://e.com/([a-z]{1000000})",
        &many_wildcards,
        &nested,
    ];
    let mut accepted = Vec::new();
    for pattern in patterns {
        let query = marked(&format!("match_urlpattern={}", encode(pattern)));
        let mut stream = hub.stream(&format!("{HUB}?{query}"), &[with_token(&bearer(&token))]);
        match stream.head.status {
            200 => {
                stream.until_open();
                accepted.push(stream);
            }
            400 => {}
            status => panic!("{status} for {pattern:.100}"),
        }
    }
    // At least the textbook ones are ordinary patterns for an engine without backtracking.
    assert!(accepted.len() >= 3, "{}", accepted.len());
    let began = Instant::now();
    let topic = format!("https://e.com/{}c", "a".repeat(4_000));
    for number in 0..20 {
        hub.publish(&[("topic", &topic), ("data", &number.to_string())]);
    }
    for stream in &mut accepted {
        assert_eq!(data_until_mark(&hub, stream), Vec::<String>::new());
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let mut plain = hub.subscribe("match_urlpattern=https://e.com/((?:a%2B)%2Bb)");
    hub.publish(&[("topic", "https://e.com/aaaab"), ("data", "matches")]);
    assert_eq!(plain.event().data, "matches");
}

#[test]
fn m48_m57_a_stream_ends_with_its_token() {
    let hub = TestHub::start(MEMORY);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let mut claims = claims_final(json!([detail(Role::Subscribe, &["*"])]));
    let expires = tokens::now() + 2;
    claims["exp"] = json!(expires);
    let token = mint(&header, &claims, Role::Subscribe.key());
    let target = format!("{HUB}?match=*");
    let authorization = bearer(&token);
    let headers = [with_token(&authorization)];
    let mut over_http2 = stream_http2(hub.address, "GET", &target, &headers, b"");
    let mut stream = hub.subscribe_with(&token, "match=*", &[]);
    hub.publish(&[("topic", TOPIC), ("data", "before")]);
    for stream in [&mut stream, &mut over_http2] {
        let (events, end) = stream.until_end();
        assert_eq!(end, Part::End, "a clean end");
        assert!(tokens::now() >= expires, "not before its time");
        assert_eq!(events.len(), 1);
    }
    // Verified before, and yet no longer good.
    let reply = refused_get(&hub, &token, "match=*");
    expect_challenge(&reply, 401, Some("invalid_token"), "afterwards");
}

#[test]
fn m57_no_stream_lives_for_ever() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nconnection_age_max = \"1s\""));
    let mut stream = hub.subscribe("match=*");
    let id = hub.publish(&[("topic", TOPIC), ("data", "before")]);
    let (events, end) = stream.until_end();
    assert_eq!((events.len(), end), (1, Part::End));
    hub.publish(&[("topic", TOPIC), ("data", "meanwhile")]);
    let token = token_final(Role::Subscribe, &["*"]);
    let mut again = hub.subscribe_with(&token, "match=*", &[("Last-Event-ID", &id)]);
    assert_eq!(again.event().data, "meanwhile");
}

#[test]
fn head_says_what_get_would_say_and_subscribes_nobody() {
    let hub = TestHub::start(MEMORY);
    let id = hub.publish(&[("topic", TOPIC), ("data", "x")]);
    let authorization = bearer(&token_final(Role::Subscribe, &["*"]));
    let headers = [with_token(&authorization), ("Last-Event-ID", id.as_str())];
    let target = format!("{HUB}?match=*");
    let mut connection = Connection::open(hub.address);
    let mut head = Vec::new();
    for _ in 0..3 {
        // On one connection: each answer is over when its head is.
        connection.send(&request("HEAD", &target, &headers, b""));
        let reply = connection.head(true).unwrap();
        assert_eq!(reply.status, 200);
        head = reply.headers;
    }
    assert_eq!(hub.metric("tidings_subscribers"), 0);
    let get = hub.stream(&target, &headers);
    let without = |headers: &[(String, String)]| -> Vec<(String, String)> {
        let own = ["date", "x-request-id", "transfer-encoding", "content-length", "connection"];
        let mut left: Vec<_> =
            headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned().collect();
        left.sort();
        left
    };
    assert_eq!(without(&head), without(&get.head.headers));
    for (query, status) in [("", 400), ("match=%FF", 400), ("topic=a", 400)] {
        let reply = hub.request("HEAD", &format!("{HUB}?{query}"), &headers[..1], b"");
        assert_eq!((reply.status, reply.body.len()), (status, 0), "{query}");
    }
    let reply = exchange_http2(hub.address, "HEAD", &target, &headers, b"").expect(200);
    assert_eq!(reply.body, b"");
}

#[test]
fn m16_many_streams_share_one_hub_over_both_versions_of_http() {
    let hub = TestHub::start(MEMORY);
    let authorization = bearer(&token_final(Role::Subscribe, &["*"]));
    let headers = [with_token(&authorization)];
    let target = format!("{HUB}?{}", marked(&format!("match={}", encode(TOPIC))));
    let mut streams: Vec<_> = (0..4)
        .map(|_| stream_http2(hub.address, "GET", &target, &headers, b""))
        .chain((0..4).map(|_| hub.stream(&target, &headers)))
        .collect();
    for stream in &streams {
        assert_eq!(stream.head.status, 200);
    }
    let ids: Vec<String> = (0..10)
        .map(|number| hub.publish(&[("topic", TOPIC), ("data", &number.to_string())]))
        .collect();
    hub.publish(&[("topic", "elsewhere"), ("data", "no")]);
    for stream in &mut streams {
        let events = until_mark(&hub, stream);
        let seen: Vec<String> = events.into_iter().filter_map(|event| event.id).collect();
        assert_eq!(seen, ids);
    }
}
