//! What protocol 1.0 refuses and in which words: sections "Publication", "Subscription" and
//! "Authorization". After each refusal nothing was stored and nothing delivered.

use serde_json::json;

use crate::http::{Connection, Reply, encode};
use crate::hub::{HUB, TestHub};
use crate::mercure::{
    MEMORY, Witness, expect_challenge, expect_draft, expect_problem, expect_unauthorized,
    post_head, refused_get, refused_get_without, try_publish, try_publish_bytes, with_token,
};
use crate::tokens::{self, Role, bearer, claims_final, detail, mint, token_draft, token_final};

const TOPIC: &str = "https://refusals.example/1";

/// C0, DEL, C1, and format characters (Unicode category Cf).
const FORBIDDEN: [char; 24] = [
    '\0',
    '\u{1}',
    '\t',
    '\n',
    '\r',
    '\u{1b}',
    '\u{1f}',
    '\u{7f}',
    '\u{80}',
    '\u{85}',
    '\u{9f}',
    '\u{ad}',
    '\u{61c}',
    '\u{180e}',
    '\u{200b}',
    '\u{200d}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{206f}',
    '\u{feff}',
    '\u{fffb}',
    '\u{1d173}',
    '\u{e0001}',
];

/// Publishes each form with a token for everything: all are refused with this status, and nothing
/// of them is stored or delivered.
#[track_caller]
fn all_refused(hub: &TestHub, status: u16, forms: &[Vec<(&str, &str)>]) {
    let mut witness = Witness::new(hub);
    for fields in forms {
        let reply = try_publish(hub, fields);
        expect_problem(&reply, status, &format!("{fields:.200?}"));
    }
    witness.expect_nothing(hub);
}

#[test]
fn m23_a_form_without_a_topic_or_with_broken_text_is_refused() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    for body in [
        &b""[..],
        b"data=x",
        b"Topic=https://e.com/1&data=x",
        b"topics=https://e.com/1",
        b"%20topic=https://e.com/1",
        b"{\"topic\":\"https://e.com/1\"}",
        b"topic=%FF",
        b"topic=https://e.com/%C3%28",
        b"topic=https://e.com/%ED%A0%80",
        b"topic=https://e.com/%C0%AF",
        b"topic=https://e.com/1&topic=%FF",
        b"topic=https://e.com/1&data=%FF",
        b"topic=https://e.com/1&data=\xff\xfe",
        b"topic=https://e.com/1&id=%80",
        b"topic=https://e.com/1&type=%80",
        b"topic=https://e.com/1&%FF=x",
    ] {
        let reply = try_publish_bytes(&hub, body);
        expect_problem(&reply, 400, &String::from_utf8_lossy(body));
    }
    witness.expect_nothing(&hub);
}

#[test]
fn m23_a_body_that_is_no_form_is_refused() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let authorization = (name.as_str(), value.as_str());
    let body = format!("topic={TOPIC}&data=x");
    for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x", "", "x"] {
        let headers = [authorization, ("Content-Type", kind)];
        let reply = hub.request("POST", HUB, &headers, body.as_bytes());
        expect_problem(&reply, 400, kind);
    }
    let reply = hub.request("POST", HUB, &[authorization], body.as_bytes());
    expect_problem(&reply, 400, "no content type");
    // Parameters in the query are no form.
    let headers = [authorization, ("Content-Type", "application/x-www-form-urlencoded")];
    let reply = hub.request("POST", &format!("{HUB}?{body}"), &headers, b"");
    expect_problem(&reply, 400, "in the query");
    witness.expect_nothing(&hub);
}

#[test]
fn m24_m29_m30_control_and_format_characters_are_refused() {
    let hub = TestHub::start(MEMORY);
    let texts: Vec<String> = FORBIDDEN
        .iter()
        .flat_map(|character| {
            [format!("a{character}b"), format!("{character}a"), format!("a{character}")]
        })
        .collect();
    let mut forms = Vec::new();
    for text in &texts {
        forms.push(vec![("topic", text.as_str()), ("data", "x")]);
        forms.push(vec![("topic", TOPIC), ("topic", text), ("data", "x")]);
        forms.push(vec![("topic", TOPIC), ("id", text), ("data", "x")]);
        forms.push(vec![("topic", TOPIC), ("type", text), ("data", "x")]);
    }
    all_refused(&hub, 400, &forms);
}

#[test]
fn m25_the_wildcard_is_no_topic() {
    let hub = TestHub::start(MEMORY);
    all_refused(
        &hub,
        400,
        &[
            vec![("topic", "*"), ("data", "x")],
            vec![("topic", TOPIC), ("topic", "*"), ("data", "x")],
            vec![("topic", "*"), ("topic", TOPIC), ("private", "on"), ("data", "x")],
        ],
    );
}

#[test]
fn m26_reserved_topic_is_refused_in_every_spelling() {
    let hub = TestHub::start(MEMORY);
    let reserved = [
        "",
        "?",
        "?query",
        "#fragment",
        "mercure",
        "mercure/",
        "mercure/x",
        "./mercure/x",
        "x/../mercure",
        "/.well-known/mercure",
        "/.well-known/mercure/",
        "/.well-known/mercure?x=1",
        "/.well-known/mercure#x",
        "/.well-known/mercure/subscriptions/exact/a/b",
        "/.well-known/./mercure",
        "/.well-known/x/../mercure/y",
        "/%2ewell-known/mercure",
        "/.well-known/%6Dercure",
        "/.well-known/%6dercure/x",
        "/%2E%77ell-known/mercur%65",
        "/x/%2e%2e/.well-known/mercure",
        "https://hub.example/.well-known/mercure",
        "https://hub.example/.well-known/mercure/x",
        "https://other.example/.well-known/%6Dercure",
        "HTTPS://OTHER.EXAMPLE:8443/.well-known/mercure",
        "http://user:pass@other.example/.well-known/mercure/x",
        "https://e.com\\.well-known\\mercure\\x",
        "\\.well-known\\mercure",
        "//other.example/.well-known/mercure",
        "ftp://e.com/.well-known/mercure",
        "foo://e.com/.well-known/mercure/x",
        "foo:/.well-known/mercure",
        "file:///.well-known/mercure",
        " /.well-known/mercure ",
        "https:/.well-known/../.well-known/mercure",
    ];
    let mut forms = Vec::new();
    for topic in reserved {
        forms.push(vec![("topic", topic), ("data", "x")]);
        forms.push(vec![("topic", TOPIC), ("topic", topic), ("data", "x")]);
        forms.push(vec![("topic", topic), ("private", "on"), ("data", "x")]);
    }
    all_refused(&hub, 400, &forms);
    let mut witness = Witness::new(&hub);
    let free = [
        "../mercure/x",
        "/mercure",
        "/.well-known/mercureXXX",
        "/.well-known/mercure2/x",
        "/.well-known/Mercure",
        "/.well-known",
        "/.well-known/",
        "/.well-known/mercure%2Fx",
        "/.well-known%2Fmercure",
        "/.well-known//mercure",
        "/x/.well-known/mercure",
        "urn:example:mercure",
        "urn:.well-known/mercure",
        "https://e.com/?/.well-known/mercure",
        "https://e.com/#/.well-known/mercure",
        // Not a URL at all: nobody's namespace.
        "http://[bad/.well-known/mercure",
    ];
    for topic in free {
        try_publish(&hub, &[("topic", topic), ("data", topic)]).expect(200);
    }
    let seen: Vec<String> = witness.seen(&hub).into_iter().map(|event| event.data).collect();
    assert_eq!(seen, free);
}

#[test]
fn m01_m26_the_reserved_namespace_follows_the_hubs_path() {
    let hub = TestHub::start(&format!("hub_path = \"/live/hub\"\n{MEMORY}"));
    let url = format!("{}/live/hub", tokens::PUBLIC_URL);
    let mut claims = claims_final(json!([detail(Role::Publish, &["*"])]));
    claims["aud"] = json!(url);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let (name, value) = bearer(&mint(&header, &claims, Role::Publish.key()));
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let headers = [(name.as_str(), value.as_str()), form_type];
    let publish = |path: &str, topic: &str| {
        hub.request("POST", path, &headers, format!("topic={}", encode(topic)).as_bytes())
    };
    assert_eq!(publish(HUB, "a").status, 404);
    publish("/live/hub", "a").expect(200);
    publish("/live/hub", "/.well-known/mercure").expect(200);
    for topic in ["/live/hub", "hub/x", "https://e.com/liv%65/hub/x", ""] {
        expect_problem(&publish("/live/hub", topic), 400, topic);
    }
    let reply = hub.request("POST", "/live/hub", &[form_type], b"topic=a").expect(401);
    let challenge = reply.header("www-authenticate").unwrap();
    let metadata = format!("{}/.well-known/oauth-protected-resource/live/hub", tokens::PUBLIC_URL);
    assert_eq!(challenge, format!("Bearer resource_metadata=\"{metadata}\""));
    let document = hub.get("/.well-known/oauth-protected-resource/live/hub", &[]).expect(200);
    assert_eq!(document.json()["resource"], url);
    // A token for the default path is for another hub.
    let reply = hub.request(
        "POST",
        "/live/hub",
        &[with_token(&bearer(&token_final(Role::Publish, &["*"]))), form_type],
        b"topic=a",
    );
    assert_eq!(reply.status, 401);
}

#[test]
fn m29_reserved_ids_are_refused() {
    let hub = TestHub::start(MEMORY);
    let ids = ["#", "#x", "#earliest", "earliest"];
    let forms: Vec<_> =
        ids.iter().map(|id| vec![("topic", TOPIC), ("id", *id), ("data", "x")]).collect();
    all_refused(&hub, 400, &forms);
}

#[test]
fn m29_ids_that_a_header_could_not_carry_are_refused() {
    let hub = TestHub::start(MEMORY);
    let ids = [" ", " a", "a ", "  a  ", "earliest ", " #"];
    let forms: Vec<_> =
        ids.iter().map(|id| vec![("topic", TOPIC), ("id", *id), ("data", "x")]).collect();
    all_refused(&hub, 400, &forms);
    let reply = try_publish(&hub, &[("topic", TOPIC), ("id", "a ")]);
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("space") && detail.contains("Last-Event-ID"), "{detail}");
}

#[test]
fn a_publication_in_a_content_coding_is_refused() {
    let hub = TestHub::start(MEMORY);
    let authorization = bearer(&token_final(Role::Publish, &["*"]));
    let publish = |coding: &str| {
        let headers = [
            with_token(&authorization),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Encoding", coding),
        ];
        hub.request("POST", HUB, &headers, b"topic=a&data=x")
    };
    for coding in ["gzip", "br", "identity, gzip", "deflate, identity"] {
        let reply = publish(coding);
        expect_problem(&reply, 415, coding);
        assert_eq!(reply.header("accept-encoding").as_deref(), Some("identity"), "{coding}");
    }
    assert_eq!(hub.history(), []);
    publish("Identity").expect(200);
}

#[test]
fn m30_the_event_type_mercure_is_refused() {
    let hub = TestHub::start(MEMORY);
    all_refused(&hub, 400, &[vec![("topic", TOPIC), ("type", "mercure"), ("data", "x")]]);
}

#[test]
fn m31_a_retry_that_is_not_digits_is_refused() {
    let hub = TestHub::start(MEMORY);
    let retries = [
        "-1",
        "+1",
        "1.5",
        "1e3",
        "abc",
        " 1",
        "1 ",
        "0x10",
        "1_000",
        "١٢",
        "１",
        "1\n2",
        "1,0",
        "ms",
        "",
        "18446744073709551616",
    ];
    let forms: Vec<_> = retries
        .iter()
        .map(|retry| vec![("topic", TOPIC), ("retry", *retry), ("data", "x")])
        .collect();
    all_refused(&hub, 400, &forms);
    let reply = try_publish(&hub, &[("topic", TOPIC), ("retry", "18446744073709551616")]);
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("too large"), "{detail}");
}

#[test]
fn m33_too_many_or_too_long_fields_are_413() {
    let hub = TestHub::start(MEMORY);
    let topics: Vec<String> = (0..1_001).map(|n| format!("https://refusals.example/{n}")).collect();
    let mut many: Vec<(&str, &str)> = topics.iter().map(|t| ("topic", t.as_str())).collect();
    many.push(("data", "x"));
    let long_topic = format!("https://e.com/{}", "x".repeat(4_096));
    let long = "x".repeat(1_025);
    all_refused(
        &hub,
        413,
        &[
            many.clone(),
            vec![("topic", &long_topic), ("data", "x")],
            vec![("topic", TOPIC), ("topic", &long_topic), ("data", "x")],
            vec![("topic", TOPIC), ("id", &long), ("data", "x")],
            vec![("topic", TOPIC), ("type", &long), ("data", "x")],
        ],
    );
    // Up to the limits all is well.
    many.remove(0);
    try_publish(&hub, &many).expect(200);
    let longest = &long_topic[..4_096];
    try_publish(&hub, &[("topic", longest), ("id", &long[1..]), ("type", &long[1..])]).expect(200);
}

#[test]
fn m33_a_body_over_the_limit_is_413_however_it_is_sent() {
    // Four bytes of a form for each byte of data, and 64 KiB.
    const LIMIT: usize = 4 * 4_096 + 64 * 1_024;
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nupdate_size_max = \"4 KiB\""));
    let mut witness = Witness::new(&hub);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let authorization = (name.as_str(), value.as_str());
    let body = |length: usize| {
        let mut body = b"topic=a&nothing=".to_vec();
        body.resize(length, b'x');
        body
    };
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    // Announced by its length.
    expect_problem(&hub.post_body(&[authorization], &body(LIMIT + 1)), 413, "by length");
    expect_problem(&hub.post_body(&[authorization], &body(100 * LIMIT)), 413, "much");
    // In chunks without a length.
    let chunked = |body: &[u8]| {
        let mut bytes = post_head(&[authorization, form_type, ("Transfer-Encoding", "chunked")]);
        for chunk in body.chunks(1_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        hub.exchange(&bytes)
    };
    expect_problem(&chunked(&body(LIMIT + 1)), 413, "chunked");
    // Announced and never sent: the answer does not wait for it.
    let mut connection = Connection::open(hub.address);
    let length = (1_u64 << 40).to_string();
    connection.send(&post_head(&[authorization, form_type, ("Content-Length", &length)]));
    expect_problem(&connection.reply().unwrap(), 413, "announced only");
    witness.expect_nothing(&hub);
    hub.post_body(&[authorization], &body(LIMIT)).expect(200);
    chunked(&body(LIMIT)).expect(200);
    assert_eq!(witness.seen(&hub).len(), 2);
}

#[test]
fn an_update_of_the_largest_size_fits_however_a_form_encodes_it() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nupdate_size_max = \"4 KiB\""));
    let mut witness = Witness::new(&hub);
    let mut data = "é".repeat(2_048);
    try_publish(&hub, &[("topic", "a"), ("data", &data)]).expect(200);
    data.push('x');
    expect_problem(&try_publish(&hub, &[("topic", "a"), ("data", &data)]), 413, "one byte more");
    assert_eq!(witness.seen(&hub).len(), 1);
}

#[test]
fn a_body_that_breaks_off_publishes_nothing() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let authorization = bearer(&token_final(Role::Publish, &["*"]));
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    for (framing, body) in [
        (("Content-Length", "100"), &b"topic=a&data=half"[..]),
        (("Transfer-Encoding", "chunked"), b"11\r\ntopic=a&data=half\r\n"),
    ] {
        let mut connection = Connection::open(hub.address);
        let head = post_head(&[with_token(&authorization), form_type, framing]);
        connection.send(&[&head, body].concat());
        connection.finish_sending();
        if let Some(reply) = connection.reply() {
            assert_eq!(reply.status, 400, "{reply:?}");
        }
    }
    witness.expect_nothing(&hub);
}

#[test]
fn m39_without_a_token_the_challenge_has_no_error_code() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let query = format!("{HUB}?match=*");
    expect_challenge(&refused_get_without(&hub, "match=*"), 401, None, "GET");
    expect_challenge(&hub.post(&[], &[("topic", TOPIC), ("data", "x")]), 401, None, "POST");
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let reply = hub.request("QUERY", &query, &[form_type], b"match=*");
    expect_challenge(&reply, 401, None, "QUERY");
    let reply = hub.request("HEAD", &query, &[], b"");
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").is_some_and(|value| !value.contains("error")));
    // The check of the token comes before that of the parameters.
    expect_challenge(&refused_get_without(&hub, ""), 401, None, "GET without parameters");
    expect_challenge(&refused_get_without(&hub, "match=%FF"), 401, None, "GET with bad ones");
    expect_challenge(&hub.post(&[], &[]), 401, None, "POST without parameters");
    // No token is taken from such a parameter.
    let token = token_final(Role::Subscribe, &["*"]);
    let reply = refused_get_without(&hub, &format!("match=*&access_token={token}"));
    expect_challenge(&reply, 401, None, "access_token in the query");
    let publish = token_final(Role::Publish, &["*"]);
    let reply = hub.post(&[], &[("topic", TOPIC), ("access_token", &publish)]);
    expect_challenge(&reply, 401, None, "access_token in the body");
    witness.expect_nothing(&hub);
}

#[test]
fn m39_m74_m75_challenges_point_to_a_document_that_is_there() {
    let hub = TestHub::start(MEMORY);
    let path = "/.well-known/oauth-protected-resource/.well-known/mercure";
    let reply = hub.get(path, &[]).expect(200);
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
    let document = reply.json();
    assert_eq!(document["resource"], tokens::HUB_URL);
    assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    assert_eq!(
        document["authorization_details_types_supported"],
        json!(["https://mercure.rocks/authorization-detail"])
    );
    let types = document["mercure_matcher_types_supported"].as_array().unwrap();
    assert!(types.contains(&json!("exact")) && types.contains(&json!("urlpattern")), "{types:?}");
    // What is advertised works, as parameter and in a token.
    for kind in types {
        let kind = kind.as_str().unwrap();
        let mut stream = hub.subscribe(&format!("match_{kind}=a"));
        let mut detail = detail(Role::Publish, &["a"]);
        detail["topics"][0]["match_type"] = json!(kind);
        let header = json!({ "alg": "HS256", "typ": "at+jwt" });
        let token = mint(&header, &claims_final(json!([detail])), Role::Publish.key());
        // As a URL pattern `a` is relative to the hub, and so is the topic.
        hub.publish_with(&token, &[("topic", "a"), ("data", kind)]).expect(200);
        assert_eq!(stream.event().data, kind);
    }
}

#[test]
fn m40_an_invalid_token_is_refused_without_a_reason() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let good =
        claims_final(json!([detail(Role::Publish, &["*"]), detail(Role::Subscribe, &["*"])]));
    let mut expired = good.clone();
    expired["exp"] = json!(tokens::now() - 10);
    let mut elsewhere = good.clone();
    elsewhere["aud"] = json!("https://elsewhere.example/.well-known/mercure");
    let mut malformed = good.clone();
    malformed["authorization_details"][0]["topics"] = json!(["*"]);
    let mut answers: Vec<Reply> = Vec::new();
    for role in [Role::Publish, Role::Subscribe] {
        for (case, token) in [
            ("expired", mint(&header, &expired, role.key())),
            ("elsewhere", mint(&header, &elsewhere, role.key())),
            ("malformed details", mint(&header, &malformed, role.key())),
            ("forged", mint(&header, &good, "another-secret-0123456789abcdef0123456789")),
            ("typ", mint(&json!({ "alg": "HS256", "typ": "JWT" }), &good, role.key())),
        ] {
            let reply = match role {
                Role::Publish => hub.publish_with(&token, &[("topic", TOPIC), ("data", "x")]),
                Role::Subscribe => refused_get(&hub, &token, "match=*"),
            };
            expect_challenge(&reply, 401, Some("invalid_token"), case);
            answers.push(reply);
        }
    }
    for answer in &answers {
        assert_eq!(answer.body, answers[0].body, "the reason is the operator's to know");
        assert_eq!(answer.header("www-authenticate"), answers[0].header("www-authenticate"));
    }
    // The operator's log does say it, with the request's name and without the token.
    let id = answers[0].header("x-request-id").expect("a request id");
    let line = hub.wait_for_log(&id);
    assert!(line.contains("expired"), "{line}");
    witness.expect_nothing(&hub);
}

#[test]
fn m42_a_token_that_is_not_presented_as_it_must_be_is_an_invalid_request() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let token = token_final(Role::Publish, &["*"]);
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let two = format!("Bearer {token}");
    for (case, authorizations) in [
        ("no scheme", vec![token.clone()]),
        ("no token", vec!["Bearer".to_owned()]),
        ("an empty token", vec!["Bearer ".to_owned()]),
        ("another scheme", vec!["Basic dXNlcjpwYXNz".to_owned()]),
        ("parameters", vec![format!("Bearer token=\"{token}\"")]),
        ("two tokens", vec![format!("Bearer {token} {token}")]),
        ("a list", vec![format!("Bearer {token}, Bearer {token}")]),
        ("two headers", vec![two.clone(), two.clone()]),
        ("two schemes", vec![two, "Basic dXNlcjpwYXNz".to_owned()]),
    ] {
        let mut headers = vec![form_type];
        headers.extend(authorizations.iter().map(|value| ("Authorization", value.as_str())));
        let reply = hub.request("POST", HUB, &headers, b"topic=a&data=x");
        expect_challenge(&reply, 400, Some("invalid_request"), case);
        let reply = hub.get(&format!("{HUB}?match=*"), &headers[1..]);
        expect_challenge(&reply, 400, Some("invalid_request"), case);
    }
    witness.expect_nothing(&hub);
}

#[test]
fn m35_m42_m78_a_final_token_in_the_url_is_refused() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let token = token_final(Role::Subscribe, &["*"]);
    let reply = refused_get_without(&hub, &format!("match=*&authorization={token}"));
    expect_challenge(&reply, 400, Some("invalid_request"), "subscribe");
    let token = token_final(Role::Publish, &["*"]);
    let target = format!("{HUB}?authorization={token}");
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let reply = hub.request("POST", &target, &[form_type], b"topic=a&data=x");
    expect_challenge(&reply, 400, Some("invalid_request"), "publish");
    witness.expect_nothing(&hub);
}

#[test]
fn m06_m07_parameters_that_are_no_matchers_are_refused() {
    let hub = TestHub::start(MEMORY);
    let token = token_final(Role::Subscribe, &["*"]);
    for query in [
        "",
        "Topic=a",
        "last_event_id=earliest",
        "mat=a",
        "Match=a",
        "MATCH=a",
        "match%00=a",
        "matching=a",
        "match_=a",
        "match_regexp=a",
        "match_Exact=a",
        "match_EXACT=a",
        "matchURLPattern=a",
        "match_url_pattern=a",
        "match=a&matching=b",
        "match=a&Match_exact=b",
        "match=a&%6Datch_x",
        "match%FF=a",
        "match=a&match%20=b",
    ] {
        expect_problem(&refused_get(&hub, &token, query), 400, query);
    }
    for query in ["match=a&mat=b", "match=a&xmatch=b", "match=a&%20match=b", "match=a&unknown"] {
        hub.subscribe(query);
    }
}

#[test]
fn m08_matchers_are_valid_text_and_valid_patterns() {
    let hub = TestHub::start(MEMORY);
    let token = token_final(Role::Subscribe, &["*"]);
    for name in ["match", "match_exact", "match_urlpattern"] {
        for character in FORBIDDEN {
            let query = format!("{name}={}", encode(&format!("a{character}b")));
            expect_problem(&refused_get(&hub, &token, &query), 400, &query);
        }
        for bytes in ["%FF", "a%80", "%C3%28", "%ED%A0%80", "%C0%80"] {
            let query = format!("{name}={bytes}");
            expect_problem(&refused_get(&hub, &token, &query), 400, &query);
        }
    }
    for pattern in [
        "https://e.com/(",
        "https://e.com/:",
        "https://e.com/{a",
        "https://e.com/(a(b))",
        "https://e.com/(?=a)b",
        "https://e.com/([a)",
        "https://e.com/:a/:a",
        "https://[::1",
    ] {
        let query = format!("match_urlpattern={}", encode(pattern));
        expect_problem(&refused_get(&hub, &token, &query), 400, pattern);
        // One bad pattern spoils the request.
        let query = format!("match=a&{query}");
        expect_problem(&refused_get(&hub, &token, &query), 400, pattern);
    }
}

#[test]
fn m09_too_many_or_too_long_matchers_are_400() {
    let hub = TestHub::start(MEMORY);
    let token = token_final(Role::Subscribe, &["*"]);
    let query = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|number| format!("match={number}")).collect();
        pairs.join("&")
    };
    expect_problem(&refused_get(&hub, &token, &query(101)), 400, "101 matchers");
    hub.subscribe(&query(100));
    for name in ["match", "match_exact", "match_urlpattern"] {
        let long = "a".repeat(4_097);
        expect_problem(&refused_get(&hub, &token, &format!("{name}={long}")), 400, name);
        hub.subscribe(&format!("{name}={}", &long[1..]));
    }
}

#[test]
fn a_topic_parameter_belongs_to_0_x_and_never_mixes_with_matchers() {
    let hub = TestHub::start(&format!("{MEMORY}[auth]\nanonymous = true"));
    let token = token_final(Role::Subscribe, &["*"]);
    expect_problem(&refused_get(&hub, &token, "topic=a"), 400, "a 1.0 token with topic");
    for query in ["topic=a&match=b", "match=b&topic=a", "topic=a&match_urlpattern=b"] {
        expect_problem(&refused_get(&hub, &token, query), 400, query);
        expect_problem(&refused_get_without(&hub, query), 400, query);
        let draft = token_draft(Role::Subscribe, &["*"]);
        let reply = refused_get(&hub, &draft, query).expect(400);
        assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    }
    // Over the two places where parameters can stand, too.
    let headers =
        [with_token(&bearer(&token)), ("Content-Type", "application/x-www-form-urlencoded")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply = hub.request("QUERY", &format!("{HUB}?topic=a"), &headers, b"match=b");
    expect_problem(&reply, 400, "topic in the query, match in the body");
}

#[test]
fn refusals_are_worded_as_the_token_is_and_without_one_as_the_parameters_are() {
    let hub = TestHub::start(MEMORY);
    expect_unauthorized(&refused_get_without(&hub, "topic=a"), "no token, topic");
    expect_challenge(&refused_get_without(&hub, "match=a"), 401, None, "no token, match");
    let garbage = "garbage.garbage.garbage-garbage-garbage-garbage-garbage";
    expect_unauthorized(&refused_get(&hub, garbage, "topic=a"), "garbage, topic");
    let reply = refused_get(&hub, garbage, "match=a");
    expect_challenge(&reply, 401, Some("invalid_token"), "garbage, match");
    let draft = token_draft(Role::Subscribe, &["*"]);
    let missing = "Missing \"topic\" parameter.";
    expect_draft(&refused_get(&hub, &draft, "match=a"), 400, missing, "0.x token, match");
    let forged = mint(
        &json!({ "alg": "HS256", "typ": "JWT" }),
        &json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } }),
        "another-secret-0123456789abcdef0123456789",
    );
    expect_unauthorized(&refused_get(&hub, &forged, "topic=a"), "forged 0.x token, topic");
    let reply = hub.publish_with(&forged, &[("topic", TOPIC)]);
    expect_unauthorized(&reply, "forged 0.x token, publish");
    let forged = mint(
        &json!({ "alg": "HS256", "typ": "at+jwt" }),
        &claims_final(json!([detail(Role::Publish, &["*"])])),
        "another-secret-0123456789abcdef0123456789",
    );
    let reply = hub.publish_with(&forged, &[("topic", TOPIC)]);
    expect_challenge(&reply, 401, Some("invalid_token"), "forged 1.0 token, publish");
    let reply = refused_get(&hub, &forged, "topic=a");
    expect_challenge(&reply, 401, Some("invalid_token"), "forged 1.0 token, topic");
    assert_eq!(hub.history(), []);
}

#[test]
fn other_methods_are_405_and_name_those_that_are_allowed() {
    let hub = TestHub::start(MEMORY);
    let authorization = bearer(&token_final(Role::Publish, &["*"]));
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let headers = [with_token(&authorization), form_type];
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "MKCOL", "get", "post"] {
        let reply = hub.request(method, HUB, &headers, b"");
        assert_eq!(reply.status, 405, "{method}: {reply:?}");
        let allow = reply.header("allow").unwrap_or_else(|| panic!("{method}: no Allow"));
        for allowed in ["GET", "HEAD", "POST", "QUERY", "OPTIONS"] {
            assert!(allow.split(", ").any(|name| name == allowed), "{method}: {allow}");
        }
    }
    let reply = hub.request("OPTIONS", HUB, &[], b"");
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
    let allow = reply.header("allow").unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(hub.history(), []);
}

#[test]
fn m43_problem_details_say_what_is_wrong() {
    let hub = TestHub::start(MEMORY);
    for (fields, word) in [
        (vec![("data", "x")], "topic"),
        (vec![("topic", "*")], "*"),
        (vec![("topic", TOPIC), ("retry", "x")], "retry"),
        (vec![("topic", TOPIC), ("id", "earliest")], "id"),
        (vec![("topic", TOPIC), ("type", "mercure")], "type"),
    ] {
        let reply = try_publish(&hub, &fields);
        expect_problem(&reply, 400, word);
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(word), "{fields:?}: {detail}");
    }
    let token = token_final(Role::Subscribe, &["*"]);
    let reply = refused_get(&hub, &token, "");
    assert!(reply.json()["detail"].as_str().unwrap().contains("match"), "{}", reply.text());
    let reply = refused_get(&hub, &token, "topic=a");
    assert!(reply.json()["detail"].as_str().unwrap().contains("topic"), "{}", reply.text());
}
