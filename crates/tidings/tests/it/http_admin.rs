//! The operator's listener: alive, ready, metrics; and reloading by SIGHUP.

use crate::http::{self, Reply};
use crate::hub::{HUB, Launch, TestHub, configuration};
use crate::tokens::{
    ISSUER, PUBLISH_KEY, Role, SUBSCRIBE_KEY, claims_final, detail, mint, token_final,
};
use serde_json::json;

const TOPIC: &str = "https://admin.example/";

fn ask(hub: &TestHub, method: &str, path: &str) -> Reply {
    let admin = hub.admin.expect("the admin listener's address in the log");
    http::exchange(admin, &http::request(method, path, &[], b""))
}

#[test]
fn a_running_hub_is_alive_and_ready() {
    let hub = TestHub::start("");
    assert_eq!(ask(&hub, "GET", "/livez").expect(200).text(), "alive\n");
    assert_eq!(ask(&hub, "GET", "/readyz").expect(200).text(), "ready\n");
    assert_eq!(ask(&hub, "HEAD", "/readyz").expect(200).text(), "");
    let refused = ask(&hub, "POST", "/readyz").expect(405);
    assert_eq!(refused.header("allow").as_deref(), Some("GET, HEAD"));
    ask(&hub, "GET", "/").expect(404);
    ask(&hub, "GET", HUB).expect(404);
}

#[test]
fn what_operators_see_clients_do_not() {
    let hub = TestHub::start("");
    for path in ["/livez", "/readyz", "/metrics"] {
        hub.get(path, &[]).expect(404);
    }
}

#[test]
fn probes_of_the_image_that_is_replaced_are_answered_to_clients() {
    let hub = TestHub::start("");
    assert_eq!(hub.get("/healthz", &[]).expect(200).text(), "");
    hub.request("HEAD", "/healthz", &[], b"").expect(200);
    hub.request("POST", "/healthz", &[], b"").expect(405);
    hub.get("/healthz/x", &[]).expect(404);
}

#[test]
fn metrics_count_what_happened() {
    let hub = TestHub::start("");
    let mut stream = hub.subscribe("match=*");
    for _ in 0..3 {
        hub.publish(&[("topic", TOPIC)]);
    }
    stream.data(3);
    hub.get(HUB, &[]).expect(401);
    let reply = ask(&hub, "GET", "/metrics").expect(200);
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "tidings_updates_published_total 3",
        "tidings_subscribers 1",
        "tidings_history_writable 1",
        "tidings_requests_answered_total{class=\"2xx\"} 4",
        "tidings_requests_answered_total{class=\"4xx\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

#[test]
fn the_largest_update_is_what_it_was_at_the_start_until_a_restart() {
    let hub = TestHub::start("[mercure]\nupdate_size_max = \"4 KiB\"");
    let folder = hub.config().parent().unwrap().to_owned();
    let launch = Launch::toml("[mercure]\nupdate_size_max = \"1 MiB\"");
    std::fs::write(hub.config(), configuration(&folder, &launch)).unwrap();
    hub.signal("HUP");
    hub.wait_for_log("mercure.update_size_max has changed, which needs a restart");
    let token = token_final(Role::Publish, &["*"]);
    let large = "x".repeat(100_000);
    hub.publish_with(&token, &[("topic", TOPIC), ("data", &large)]).expect(413);
    hub.publish_with(&token, &[("topic", TOPIC), ("data", &large[..4_096])]).expect(200);
}

#[test]
fn a_reload_changes_keys_and_limits_and_a_bad_file_changes_nothing() {
    let hub = TestHub::start("");
    let old = token_final(Role::Publish, &["*"]);
    let claims = claims_final(json!([detail(Role::Publish, &["*"])]));
    let header = json!({ "alg": "HS256", "typ": "at+jwt" });
    let other_key = "another-publish-secret-0123456789abcdef-0123";
    let new = mint(&header, &claims, other_key);
    let publish = |token: &str| hub.publish_with(token, &[("topic", TOPIC), ("data", "x")]).status;
    assert_eq!((publish(&old), publish(&new)), (200, 401));
    let mut stream = hub.subscribe("match=*");

    std::fs::write(hub.config(), "listen = 7").unwrap();
    hub.signal("HUP");
    hub.wait_for_log("nothing has changed");
    assert_eq!((publish(&old), publish(&new)), (200, 401));

    let launch = Launch::toml(&format!(
        "hub_path = \"/other\"\n[[auth.issuer]]\nid = \"{ISSUER}\"\npublish = {{ key = \"{other_key}\", algorithm = \"HS256\" }}\nsubscribe = {{ key = \"{SUBSCRIBE_KEY}\" }}"
    ));
    let folder = hub.config().parent().unwrap().to_owned();
    std::fs::write(hub.config(), configuration(&folder, &launch)).unwrap();
    hub.signal("HUP");
    hub.wait_for_log("configuration reloaded");
    hub.wait_for_log("hub_path has changed, which needs a restart");
    assert_eq!((publish(&old), publish(&new)), (401, 200));
    assert_eq!(stream.data(2), ["x", "x"], "a stream goes on over reloads");
    assert!(!hub.log().contains(other_key) && !hub.log().contains(PUBLISH_KEY));
}

#[test]
fn a_misspelled_level_in_the_environment_is_refused_with_the_nearest() {
    for (filter, hint) in [("inof", "\"info\""), ("info,tidings=debgu", "\"debug\"")] {
        let environment = vec![("RUST_LOG".to_owned(), filter.to_owned())];
        let log = match TestHub::try_launch(Launch { environment, ..Launch::default() }) {
            Ok(_) => panic!("started with {filter}"),
            Err(log) => log,
        };
        assert!(log.contains("RUST_LOG names a level that does not exist"), "{log}");
        assert!(log.contains(hint), "{log}");
    }
}
