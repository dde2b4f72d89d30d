//! Connection limits, slow clients, forwarded addresses, both HTTP versions.

use std::collections::HashSet;
use std::time::Instant;

use crate::http::{self, Connection, PATIENCE};
use crate::hub::{HUB, Launch, TestHub};
use crate::tokens::{Role, bearer, token_draft, token_final};

const TOPIC: &str = "https://connections.example/";

/// Waits until a connection is served again; the program sees the end of others in its own time.
#[track_caller]
fn until_served(hub: &TestHub) {
    let deadline = Instant::now() + PATIENCE;
    while hub.get("/nobody", &[("Connection", "close")]).status != 404 {
        assert!(Instant::now() < deadline, "still refused\n{}", hub.log());
    }
}

#[test]
fn connections_over_the_limit_of_an_address_are_refused_and_others_go_on() {
    let hub = TestHub::start("[http]\nconnections_per_address_max = 3");
    let mut first = hub.subscribe("match=*");
    let second = hub.subscribe("match=*");
    let mut publisher = Connection::open(hub.address);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let headers =
        [(name.as_str(), value.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let mut publish = |data: &str| {
        let form = http::form(&[("topic", TOPIC), ("data", data)]);
        publisher.send(&http::request("POST", HUB, &headers, form.as_bytes()));
        publisher.reply().unwrap().expect(200)
    };
    publish("one");
    let refused = hub.get(HUB, &[]).expect(429);
    assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
    assert!(refused.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
    assert_eq!(refused.json()["status"], 429);
    publish("two");
    assert_eq!(first.data(2), ["one", "two"]);
    drop(second);
    until_served(&hub);
    assert!(hub.metric("tidings_connections_refused_total{limit=\"address\"}") >= 1);
}

#[test]
fn connections_over_the_total_are_refused_whoever_asks() {
    let hub = TestHub::start(
        "[http]\nconnections_max = 2\nconnections_per_address_max = 100\n\
         trusted_proxies = [\"127.0.0.0/8\"]",
    );
    let first = hub.subscribe("match=*");
    let _second = hub.subscribe("match=*");
    hub.get(HUB, &[("X-Forwarded-For", "203.0.113.7")]).expect(429);
    drop(first);
    until_served(&hub);
}

#[test]
fn clients_that_take_every_place_leave_descriptors_for_the_history() {
    let under = ["prlimit", "--nofile=300:300"].map(str::to_owned).to_vec();
    let toml = "[http]\nconnections_max = 1000\nconnections_per_address_max = 1000";
    let hub = TestHub::launch(Launch { under, ..Launch::toml(toml) });
    hub.wait_for_log("http.connections_max is 150 instead of 1000");
    let mut publisher = Connection::open(hub.address);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let headers =
        [(name.as_str(), value.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let form = http::form(&[("topic", TOPIC), ("data", "x")]);
    let publish = http::request("POST", HUB, &headers, form.as_bytes());
    publisher.send(&publish);
    publisher.reply().unwrap().expect(200);
    let idle: Vec<Connection> = (0..190).map(|_| Connection::open(hub.address)).collect();
    hub.get(HUB, &[]).expect(429);
    publisher.send(&publish);
    publisher.reply().unwrap().expect(200);
    drop(idle);
    until_served(&hub);
    assert!(!hub.log().contains("no connection can be accepted"), "{}", hub.log());
}

#[test]
fn only_trusted_proxies_say_who_asks() {
    let forwarded = [("X-Forwarded-For", "198.51.100.1, 203.0.113.7"), ("Connection", "close")];
    let hub = TestHub::start("");
    hub.get("/nobody-1", &forwarded).expect(404);
    assert!(hub.wait_for_log("/nobody-1").contains("client=127.0.0.1"), "{}", hub.log());
    let hub = TestHub::start("[http]\ntrusted_proxies = [\"127.0.0.1/32\"]");
    hub.get("/nobody-2", &forwarded).expect(404);
    assert!(hub.wait_for_log("/nobody-2").contains("client=203.0.113.7"), "{}", hub.log());
}

#[test]
fn clients_behind_a_trusted_proxy_are_limited_one_by_one() {
    let hub = TestHub::start(
        "[auth]\nanonymous = true\n[http]\nconnections_per_address_max = 2\n\
         trusted_proxies = [\"127.0.0.1/32\"]",
    );
    let target = format!("{HUB}?match=*");
    let of = |client| hub.stream(&target, &[("X-Forwarded-For", client)]);
    let (first, second) = (of("203.0.113.7"), of("203.0.113.7"));
    assert_eq!((first.head.status, second.head.status), (200, 200));
    assert_eq!(of("203.0.113.7").head.status, 429);
    let other = of("203.0.113.8");
    assert_eq!(other.head.status, 200);
    drop((first, second));
    let deadline = Instant::now() + PATIENCE;
    while of("203.0.113.7").head.status != 200 {
        assert!(Instant::now() < deadline, "places were not given back\n{}", hub.log());
    }
}

#[test]
fn a_client_that_is_slow_with_its_head_is_cut_off() {
    let hub = TestHub::start("[http]\nheader_timeout = \"1s\"");
    for begun in ["", "PRI * HTTP/2", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow"] {
        let mut connection = Connection::open(hub.address);
        connection.send(begun.as_bytes());
        let reply = connection.reply().map(|reply| reply.status);
        assert!(matches!(reply, None | Some(408)), "{begun:?}: {reply:?}");
    }
    hub.publish(&[("topic", TOPIC)]);
    // A stream is no slow head.
    let mut stream = hub.subscribe("match=*");
    let mut witness = Connection::open(hub.address);
    assert!(witness.reply().is_none(), "closed after the timeout");
    hub.publish(&[("topic", TOPIC), ("data", "still here")]);
    assert_eq!(stream.event().data, "still here");
}

#[test]
fn floods_of_headers_are_refused() {
    let hub = TestHub::start("");
    let many: Vec<(String, String)> = (0..500).map(|n| (format!("X-{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(hub.get(HUB, &many).status, 431);
    let long = "x".repeat(1024 * 1024);
    let mut connection = Connection::open(hub.address);
    connection.send(&http::request("GET", HUB, &[("X-Long", &long)], b""));
    // The program may have closed before the rest was sent; what it never does is read it all.
    if let Some(reply) = connection.reply() {
        assert_eq!(reply.status, 431);
    }
    hub.publish(&[("topic", TOPIC)]);
}

#[test]
fn answers_have_request_ids_of_the_hubs_own_on_both_versions() {
    let hub = TestHub::start("");
    let sent = [("X-Request-Id", "chosen-by-the-client")];
    let mut ids = HashSet::new();
    for _ in 0..3 {
        for reply in [
            hub.get("/nobody", &sent),
            http::exchange_http2(hub.address, "GET", "/nobody", &sent, b""),
        ] {
            assert_eq!(reply.status, 404);
            let id = reply.header("x-request-id").expect("a request id");
            assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            assert!(hub.wait_for_log(&id).contains("status=404"));
            ids.insert(id);
        }
    }
    assert_eq!(ids.len(), 6);
}

#[test]
fn a_request_that_is_not_http_is_refused_without_harm() {
    let hub = TestHub::start("");
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBroken\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\0\0",
    ] {
        let mut connection = Connection::open(hub.address);
        connection.send(bytes);
        connection.finish_sending();
        if let Some(reply) = connection.reply() {
            assert_eq!(reply.status, 400, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
    hub.publish(&[("topic", TOPIC)]);
}

#[test]
fn tokens_never_reach_the_log_even_of_the_libraries() {
    let launch = Launch {
        toml: "[auth]\nanonymous = true\n[log]\ntopics = true".to_owned(),
        environment: vec![("RUST_LOG".to_owned(), "trace".to_owned())],
        ..Launch::default()
    };
    let hub = TestHub::launch(launch);
    let token = token_draft(Role::Subscribe, &["*"]);
    let (name, value) = bearer(&token);
    let header = [(name.as_str(), value.as_str())];
    let target = format!("{HUB}?topic=a&authorization={token}");
    let encoded = format!("{HUB}?topic=a&%61uthorization={token}");
    let bad = format!("{HUB}?match=a&authorization={token}x");
    for target in [&target, &encoded, &bad, HUB] {
        drop(hub.stream(target, &[]));
        drop(http::stream_http2(hub.address, "GET", target, &[], b""));
    }
    drop(hub.stream(&format!("{HUB}?topic=a"), &header));
    drop(http::stream_http2(hub.address, "GET", &format!("{HUB}?topic=a"), &header, b""));
    let publish = token_final(Role::Publish, &["*"]);
    hub.publish_with(&publish, &[("topic", TOPIC)]).expect(200);
    let marker = hub.get("/marker", &[]).header("x-request-id").unwrap();
    hub.wait_for_log(&marker);
    let log = hub.log();
    for secret in [&token, &publish] {
        for part in secret.split('.').skip(1) {
            assert!(!log.contains(part), "a part of a token is in the log");
        }
    }
    assert!(log.contains("topic=a"), "requests are logged");
}

#[test]
fn without_descriptors_accepting_pauses_and_streams_go_on() {
    let under = ["prlimit", "--nofile=64:64"].map(str::to_owned).to_vec();
    let hub = TestHub::launch(Launch { under, ..Launch::default() });
    let mut stream = hub.subscribe("match=*");
    let mut publisher = Connection::open(hub.address);
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let headers =
        [(name.as_str(), value.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let mut publish = |data: &str| {
        let form = http::form(&[("topic", TOPIC), ("data", data)]);
        publisher.send(&http::request("POST", HUB, &headers, form.as_bytes()));
        publisher.reply().unwrap().expect(200)
    };
    publish("before");
    // More than the limit: the kernel takes them, the program cannot.
    let idle: Vec<Connection> = (0..80).map(|_| Connection::open(hub.address)).collect();
    hub.wait_for_log("no connection can be accepted");
    publish("meanwhile");
    assert_eq!(stream.data(2), ["before", "meanwhile"]);
    drop(idle);
    hub.wait_for_log("connections are accepted again");
    until_served(&hub);
    hub.publish(&[("topic", TOPIC), ("data", "after")]);
    assert_eq!(stream.event().data, "after");
    assert!(hub.metric("tidings_accept_pauses_total") >= 1);
    assert_eq!(hub.log().matches("no connection can be accepted").count(), 1);
}
