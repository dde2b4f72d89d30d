//! Pages of other origins: M12, and what browsers need to read answers of either generation.

use crate::http::{Pairs, Reply};
use crate::hub::{HUB, TestHub};
use crate::mercure::{MEMORY, with_token};
use crate::tokens::{Role, bearer, token_draft, token_final};

const TOPIC: &str = "https://cors.example/1";

/// The answers to a page of this origin: a stream, a publication, a refusal in each generation.
fn answers(hub: &TestHub, origin: &str) -> Vec<(&'static str, Reply)> {
    let origin = ("Origin", origin);
    let subscribe = bearer(&token_final(Role::Subscribe, &["*"]));
    let draft = bearer(&token_draft(Role::Subscribe, &["*"]));
    let publish = bearer(&token_final(Role::Publish, &["*"]));
    let get = |query: &str, headers: Pairs<'_>| hub.stream(&format!("{HUB}{query}"), headers).head;
    let cursor = ("Last-Event-ID", "earliest");
    vec![
        ("stream", get("?match=*", &[origin, cursor, with_token(&subscribe)])),
        ("0.x stream", get("?topic=*", &[origin, cursor, with_token(&draft)])),
        ("no token", get("?match=*", &[origin])),
        ("0.x no token", get("?topic=*", &[origin])),
        ("bad parameters", get("", &[origin, with_token(&subscribe)])),
        ("publish", hub.post(&[origin, with_token(&publish)], &[("topic", TOPIC)])),
        ("refused publish", hub.post(&[origin, with_token(&publish)], &[("topic", "*")])),
        ("wrong method", hub.request("DELETE", HUB, &[origin], b"")),
    ]
}

fn preflight(hub: &TestHub, origin: &str, method: &str) -> Reply {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization,last-event-id"),
    ];
    hub.request("OPTIONS", HUB, &headers, b"")
}

/// Whether a list in a header has this item.
fn lists(reply: &Reply, name: &str, item: &str) -> bool {
    let value = reply.header(name).unwrap_or_default();
    value.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(item))
}

const NAMES: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
];

#[track_caller]
fn expect_none(reply: &Reply, case: &str) {
    for name in NAMES {
        assert_eq!(reply.header(name), None, "{case}: {name}");
    }
}

#[test]
fn m12_a_cors_listed_origins_get_credentials_and_see_every_header() {
    let toml = "[mercure]\n\
                cors_origins = [\"https://app.example.com\", \"https://*.e.com\", \"http://localhost:*\"]";
    let hub = TestHub::start(&format!("{MEMORY}{toml}"));
    for origin in ["https://app.example.com", "https://a.e.com", "http://localhost:5173"] {
        for (case, reply) in answers(&hub, origin) {
            let case = format!("{case} from {origin}");
            assert_eq!(
                reply.header("access-control-allow-origin").as_deref(),
                Some(origin),
                "{case}"
            );
            let credentials = reply.header("access-control-allow-credentials");
            assert_eq!(credentials.as_deref(), Some("true"), "{case}");
            assert!(lists(&reply, "vary", "Origin"), "{case}: {reply:?}");
            for exposed in [
                "Link",
                "Last-Event-ID",
                "Mercure-Last-Event-ID",
                "WWW-Authenticate",
                "Tidings-Receipt",
                "ETag",
                "X-Request-Id",
            ] {
                assert!(
                    lists(&reply, "access-control-expose-headers", exposed),
                    "{case}: {exposed}"
                );
            }
        }
        for method in ["GET", "POST", "QUERY"] {
            let reply = preflight(&hub, origin, method);
            assert!(matches!(reply.status, 200 | 204), "{reply:?}");
            assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some(origin));
            let credentials = reply.header("access-control-allow-credentials");
            assert_eq!(credentials.as_deref(), Some("true"));
            assert!(lists(&reply, "access-control-allow-methods", method), "{reply:?}");
            // With credentials `*` would mean a header of that name.
            for header in [
                "authorization",
                "cache-control",
                "last-event-id",
                "content-type",
                "idempotency-key",
            ] {
                assert!(
                    lists(&reply, "access-control-allow-headers", header),
                    "{header}: {reply:?}"
                );
            }
            assert!(lists(&reply, "vary", "Origin"), "{reply:?}");
        }
    }
    assert_eq!(hub.history().len(), 3, "one publication from each origin");
}

#[test]
fn m12_other_origins_are_told_nothing() {
    let toml = "[mercure]\ncors_origins = [\"https://app.example.com\", \"https://*.e.com\"]";
    let hub = TestHub::start(&format!("{MEMORY}{toml}"));
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://xapp.example.com",
        "https://e.com",
        "https://evil.com/.e.com",
        "https://user@a.e.com",
        "null",
        "",
        "*",
    ] {
        for (case, reply) in answers(&hub, origin) {
            let case = format!("{case} from {origin}");
            expect_none(&reply, &case);
            // A cache must not hand this answer to a page that may read it.
            assert!(lists(&reply, "vary", "Origin"), "{case}");
        }
        expect_none(&preflight(&hub, origin, "GET"), origin);
    }
}

#[test]
fn m12_everybody_means_without_credentials() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\ncors_origins = [\"*\"]"));
    for origin in ["https://any.example", "null"] {
        for (case, reply) in answers(&hub, origin) {
            let allowed = reply.header("access-control-allow-origin");
            assert_eq!(allowed.as_deref(), Some("*"), "{case}: never reflected");
            assert_eq!(reply.header("access-control-allow-credentials"), None, "{case}");
            assert!(lists(&reply, "access-control-expose-headers", "Mercure-Last-Event-ID"));
        }
        let reply = preflight(&hub, origin, "GET");
        assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some("*"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert!(lists(&reply, "access-control-allow-headers", "authorization"));
    }
}

#[test]
fn m12_the_origin_null_is_let_in_only_by_name() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\ncors_origins = [\"null\"]"));
    for (case, reply) in answers(&hub, "null") {
        assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some("null"), "{case}");
    }
    for (case, reply) in answers(&hub, "https://any.example") {
        expect_none(&reply, case);
    }
}

#[test]
fn m12_without_a_list_no_origin_is_let_in() {
    let hub = TestHub::start(MEMORY);
    for (case, reply) in answers(&hub, "https://app.example.com") {
        expect_none(&reply, case);
    }
    expect_none(&preflight(&hub, "https://app.example.com", "GET"), "preflight");
}

#[test]
fn only_a_preflight_is_told_what_may_be_sent() {
    let origin = "https://app.example.com";
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\ncors_origins = [\"{origin}\"]"));
    let asks = ("Access-Control-Request-Method", "POST");
    for (method, headers) in [
        // An `OPTIONS` that asks for nothing, and something else that asks.
        ("OPTIONS", &[("Origin", origin)][..]),
        ("DELETE", &[("Origin", origin), asks]),
    ] {
        let reply = hub.request(method, HUB, headers, b"");
        assert_eq!(reply.header("access-control-allow-origin").as_deref(), Some(origin));
        for name in ["access-control-allow-methods", "access-control-max-age"] {
            assert_eq!(reply.header(name), None, "{method}: {name}");
        }
        assert!(lists(&reply, "access-control-expose-headers", "ETag"), "{method}: {reply:?}");
    }
}

#[test]
fn a_preflight_needs_no_token_and_subscribes_nobody() {
    let toml = "[mercure]\ncors_origins = [\"https://app.example.com\"]";
    let hub = TestHub::start(&format!("{MEMORY}{toml}"));
    let headers = [("Origin", "https://app.example.com"), ("Access-Control-Request-Method", "GET")];
    let reply = hub.request("OPTIONS", &format!("{HUB}?match=*"), &headers, b"");
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
    assert_eq!(reply.body, b"");
    assert_eq!(reply.header("www-authenticate"), None);
}
