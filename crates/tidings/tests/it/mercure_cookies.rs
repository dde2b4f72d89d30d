//! Tokens in cookies: where they are looked for, and from which pages they publish.

use crate::http::{EventStream, Pairs, Reply, encode, stream_http2};
use crate::hub::{HUB, TestHub};
use crate::mercure::{
    MEMORY, Witness, expect_challenge, expect_problem, expect_unauthorized, with_token,
};
use crate::tokens::{Role, bearer, token_draft, token_final};

const TOPIC: &str = "https://cookies.example/1";
const NAME: &str = "__Secure-mercure_access_token";
const DRAFT_NAME: &str = "mercureAuthorization";
/// The origin of the hub's own public URL.
const OWN: &str = "https://hub.example";

/// A `Cookie` field with one cookie.
fn cookie(name: &str, token: &str) -> String {
    format!("{name}={token}")
}

/// Posts an update with these header fields.
#[track_caller]
fn publish(hub: &TestHub, headers: Pairs<'_>) -> Reply {
    hub.post(headers, &[("topic", TOPIC), ("data", "by cookie")])
}

/// Whether a subscriber with these headers reads the private update of [`TOPIC`].
#[track_caller]
fn reads_private(hub: &TestHub, query: &str, headers: Pairs<'_>) -> bool {
    let stream = hub.stream(&format!("{HUB}?{query}={}", encode(TOPIC)), headers);
    assert_eq!(stream.head.status, 200, "{query} {headers:?}: {:?}", stream.head);
    sees_private(hub, stream)
}

fn sees_private(hub: &TestHub, mut stream: EventStream) -> bool {
    stream.until_open();
    hub.publish(&[("topic", TOPIC), ("data", "private"), ("private", "")]);
    hub.publish(&[("topic", TOPIC), ("data", "public")]);
    let first = stream.event().data;
    assert!(["private", "public"].contains(&first.as_str()), "{first}");
    first == "private"
}

#[test]
fn m35_m36_m37_a_cookie_carries_a_token_of_either_generation() {
    let hub = TestHub::start(MEMORY);
    let (final_token, draft_token) =
        (token_final(Role::Subscribe, &["*"]), token_draft(Role::Subscribe, &["*"]));
    for (query, name, token) in [
        ("match", NAME, &final_token),
        ("topic", DRAFT_NAME, &draft_token),
        // The name says nothing: the token's issuer decides.
        ("topic", NAME, &draft_token),
        ("match", DRAFT_NAME, &final_token),
    ] {
        let field = cookie(name, token);
        assert!(reads_private(&hub, query, &[("Cookie", &field)]), "{query} {name}");
        let quoted = cookie(name, &format!("\"{token}\""));
        assert!(reads_private(&hub, query, &[("Cookie", &quoted)]), "{query} {name} quoted");
        // Fields may be split, as HTTP/2 does.
        let split = [("Cookie", "a=1"), ("Cookie", field.as_str()), ("Cookie", "b=2")];
        assert!(reads_private(&hub, query, &split), "{query} {name} split");
        let target = format!("{HUB}?{query}={}", encode(TOPIC));
        let stream = stream_http2(hub.address, "GET", &target, &split, b"");
        assert_eq!(stream.head.status, 200, "{query} {name} HTTP/2");
        assert!(sees_private(&hub, stream), "{query} {name} HTTP/2");
    }
}

#[test]
fn m36_the_header_wins_and_the_cookie_is_not_even_looked_at() {
    let hub = TestHub::start(&format!("{MEMORY}[auth]\nanonymous = true\n"));
    let (nobody, everybody) =
        (token_final(Role::Subscribe, &["urn:other"]), token_final(Role::Subscribe, &["*"]));
    let (nobody_header, everybody_header) = (bearer(&nobody), bearer(&everybody));
    let field = |token: &str| cookie(NAME, token);
    let headers = [with_token(&everybody_header), ("Cookie", &field("no token at all"))];
    assert!(reads_private(&hub, "match", &headers));
    let headers = [with_token(&nobody_header), ("Cookie", &field(&everybody))];
    assert!(!reads_private(&hub, "match", &headers));
    // Nor does a good cookie heal a bad header.
    let headers = [("Authorization", "Bearer broken.token.here"), ("Cookie", &field(&everybody))];
    let reply = hub.get(&format!("{HUB}?match=*"), &headers);
    expect_challenge(&reply, 401, Some("invalid_token"), "bad header");
}

#[test]
fn the_query_parameter_of_0_x_comes_before_its_cookie() {
    let hub = TestHub::start(MEMORY);
    let (nobody, everybody) =
        (token_draft(Role::Subscribe, &["urn:other"]), token_draft(Role::Subscribe, &["*"]));
    let field = cookie(DRAFT_NAME, &everybody);
    let query = format!("authorization={nobody}&topic");
    assert!(!reads_private(&hub, &query, &[("Cookie", &field)]));
    let field = cookie(DRAFT_NAME, &nobody);
    let query = format!("authorization={everybody}&topic");
    assert!(reads_private(&hub, &query, &[("Cookie", &field)]));
}

#[test]
fn cookies_that_disagree_are_judged_by_the_configured_name_and_then_the_first() {
    let hub = TestHub::start(MEMORY);
    let (nobody, everybody) =
        (token_final(Role::Subscribe, &["urn:other"]), token_final(Role::Subscribe, &["*"]));
    let draft = token_draft(Role::Subscribe, &["*"]);
    let reads = |field: &str| reads_private(&hub, "match", &[("Cookie", field)]);
    assert!(!reads(&format!("{DRAFT_NAME}={draft}; {NAME}={nobody}")));
    assert!(reads(&format!("{DRAFT_NAME}={nobody}; {NAME}={everybody}")));
    assert!(!reads(&format!("{NAME}={nobody}; {NAME}={everybody}")));
    assert!(reads(&format!("{NAME}={everybody}; {NAME}={nobody}")));
    let many: String = (0..1_000).map(|number| format!("c{number}=v; ")).collect();
    assert!(reads(&format!("{many}{NAME}={everybody}")), "behind a thousand others");
    // A bad one is not passed over for a better one.
    for field in [
        format!("{NAME}=broken; {NAME}={everybody}"),
        format!("{NAME}=; {DRAFT_NAME}={draft}"),
        format!("{NAME}=é"),
    ] {
        let reply = hub.get(&format!("{HUB}?match=*"), &[("Cookie", &field)]);
        expect_challenge(&reply, 401, Some("invalid_token"), &field);
        let reply = hub.get(&format!("{HUB}?topic=*"), &[("Cookie", &field)]);
        expect_unauthorized(&reply, &field);
    }
}

#[test]
fn m37_the_cookie_has_the_name_that_the_operator_gave_it() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\ncookie = \"own\"\n"));
    let token = token_final(Role::Subscribe, &["*"]);
    assert!(reads_private(&hub, "match", &[("Cookie", &cookie("own", &token))]));
    let target = format!("{HUB}?match=*");
    let reply = hub.get(&target, &[("Cookie", &cookie(NAME, &token))]);
    expect_challenge(&reply, 401, None, "the default name");
    let off = TestHub::start(&format!("{MEMORY}[mercure]\ncookie = \"off\"\n"));
    for name in ["off", NAME, DRAFT_NAME] {
        let reply = off.get(&target, &[("Cookie", &cookie(name, &token))]);
        expect_challenge(&reply, 401, None, name);
    }
    let finals = TestHub::start(
        "[history]\ndurability = \"memory\"\n[[auth.issuer]]\nid = \"https://issuer.example\"\n\
         subscribe.key = \"subscribe-secret-of-the-tests-0123456789abcdef\"\n",
    );
    let reply = finals.get(&target, &[("Cookie", &cookie(DRAFT_NAME, &token))]);
    expect_challenge(&reply, 401, None, "nobody here speaks 0.x");
}

#[test]
fn m38_a_cookie_publishes_only_from_pages_of_allowed_origins() {
    let toml = "[mercure]\npublish_origins = [\"https://app.example\", \"https://*.e.com\"]\n";
    let hub = TestHub::start(&format!("{MEMORY}{toml}"));
    let field = cookie(NAME, &token_final(Role::Publish, &["*"]));
    let draft_field = cookie(DRAFT_NAME, &token_draft(Role::Publish, &["*"]));
    let mut witness = Witness::new(&hub);
    let mut expected = 0;
    for origin in [OWN, "https://app.example", "https://a.e.com"] {
        for field in [&field, &draft_field] {
            let cookie = ("Cookie", field.as_str());
            publish(&hub, &[cookie, ("Origin", origin)]).expect(200);
            let page = format!("{origin}/some/page?with=query");
            publish(&hub, &[cookie, ("Referer", &page)]).expect(200);
            // The origin is believed before the referer.
            let foreign = ("Referer", "https://evil.example/");
            publish(&hub, &[cookie, ("Origin", origin), foreign]).expect(200);
            expected += 3;
        }
    }
    assert_eq!(witness.seen(&hub).len(), expected);
    for headers in [
        vec![],
        vec![("Origin", "https://evil.example")],
        vec![("Origin", "http://app.example")],
        vec![("Origin", "https://app.example:8443")],
        vec![("Origin", "https://app.example.evil.example")],
        vec![("Origin", "https://e.com")],
        vec![("Origin", "null")],
        vec![("Origin", "null"), ("Referer", "https://app.example/")],
        vec![("Origin", "")],
        vec![("Origin", "https://app.example"), ("Origin", "https://evil.example")],
        vec![("Referer", "https://evil.example/?https://app.example")],
        vec![("Referer", "https://app.example@evil.example/")],
        vec![("Referer", "about:blank")],
        vec![("Referer", "no url")],
        // What a page cannot forge a browser would not send; the Host header decides nothing.
        vec![("Origin", "http://127.0.0.1")],
    ] {
        let case = format!("{headers:?}");
        let mut all = vec![("Cookie", field.as_str())];
        all.extend(headers.iter().copied());
        expect_challenge(&publish(&hub, &all), 400, Some("invalid_request"), &case);
        all[0] = ("Cookie", draft_field.as_str());
        expect_unauthorized(&publish(&hub, &all), &case);
    }
    assert_eq!(witness.seen(&hub), [], "delivered");
    assert_eq!(hub.history().len(), expected, "stored");
    hub.wait_for_log("list its origin in mercure.publish_origins");
    hub.wait_for_log("https://evil.example");
}

#[test]
fn m38_a_token_in_the_header_publishes_from_everywhere() {
    let hub = TestHub::start(MEMORY);
    for token in [token_final(Role::Publish, &["*"]), token_draft(Role::Publish, &["*"])] {
        let header = bearer(&token);
        for origin in ["https://evil.example", "null"] {
            let headers = [with_token(&header), ("Origin", origin), ("Cookie", "a=b")];
            publish(&hub, &headers).expect(200);
        }
        publish(&hub, &[with_token(&header)]).expect(200);
    }
    assert_eq!(hub.history().len(), 6);
}

#[test]
fn m38_every_origin_but_null_publishes_where_the_operator_says_so() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\npublish_origins = [\"*\"]\n"));
    let field = cookie(NAME, &token_final(Role::Publish, &["*"]));
    let mut witness = Witness::new(&hub);
    let cookie = ("Cookie", field.as_str());
    expect_challenge(&publish(&hub, &[cookie]), 400, Some("invalid_request"), "neither");
    let null = [cookie, ("Origin", "null")];
    expect_challenge(&publish(&hub, &null), 400, Some("invalid_request"), "null");
    witness.expect_nothing(&hub);
    publish(&hub, &[cookie, ("Origin", "https://any.example")]).expect(200);
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\npublish_origins = [\"null\"]\n"));
    publish(&hub, &null).expect(200);
    let other = [cookie, ("Origin", "https://any.example")];
    expect_challenge(&publish(&hub, &other), 400, Some("invalid_request"), "only null");
}

#[test]
fn m38_a_cookie_of_a_good_page_is_still_checked_as_every_token() {
    let hub = TestHub::start(MEMORY);
    let mut witness = Witness::new(&hub);
    let origin = ("Origin", OWN);
    let bad = cookie(NAME, "broken");
    let reply = publish(&hub, &[("Cookie", &bad), origin]);
    expect_challenge(&reply, 401, Some("invalid_token"), "broken");
    let other = cookie(NAME, &token_final(Role::Publish, &["urn:other"]));
    let reply = publish(&hub, &[("Cookie", &other), origin]);
    expect_challenge(&reply, 403, Some("insufficient_scope"), "other topic");
    let other = cookie(DRAFT_NAME, &token_draft(Role::Publish, &["urn:other"]));
    expect_unauthorized(&publish(&hub, &[("Cookie", &other), origin]), "other topic in 0.x");
    let good = cookie(NAME, &token_final(Role::Publish, &["*"]));
    let reply = hub.post(&[("Cookie", &good), origin], &[("data", "without a topic")]);
    expect_problem(&reply, 400, "no topic");
    witness.expect_nothing(&hub);
}

#[test]
fn m12_a_page_of_a_listed_origin_uses_its_cookie_and_reads_the_answer() {
    let app = "https://app.example";
    let toml = format!("[mercure]\ncors_origins = [\"{app}\"]\npublish_origins = [\"{app}\"]\n");
    let hub = TestHub::start(&format!("{MEMORY}{toml}"));
    let origin = ("Origin", app);
    let subscribe = cookie(NAME, &token_final(Role::Subscribe, &["*"]));
    let publisher = cookie(NAME, &token_final(Role::Publish, &["*"]));
    for reply in [
        hub.stream(&format!("{HUB}?match=*"), &[origin, ("Cookie", &subscribe)]).head,
        publish(&hub, &[origin, ("Cookie", &publisher)]).expect(200),
    ] {
        assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some(app));
        let credentials = reply.header("access-control-allow-credentials");
        assert_eq!(credentials.as_deref(), Some("true"), "{reply:?}");
    }
}
