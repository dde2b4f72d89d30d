//! Refusals explained: to the operator in the log, by the id that the client got, and by
//! `tidings token explain`. Discovery beside it: what a client is told to look at.

use serde_json::json;

use crate::http::{Reply, encode};
use crate::hub::{HUB, TestHub, run};
use crate::mercure::{MEMORY, METADATA, with_token};
use crate::tokens::{self, Role, bearer, mint, token_draft, token_final};

/// A 1.0 token for subscribers with these changes to its claims.
fn changed(member: &str, value: serde_json::Value) -> String {
    let mut claims = tokens::claims_final(json!([tokens::detail(Role::Subscribe, &["*"])]));
    claims[member] = value;
    mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, Role::Subscribe.key())
}

#[test]
fn the_log_says_the_exact_reason_under_the_id_that_the_client_got() {
    let hub = TestHub::start(MEMORY);
    let good = token_final(Role::Subscribe, &["*"]);
    let jwt = json!({ "alg": "HS256", "typ": "JWT" });
    let claims = tokens::claims_final(json!([tokens::detail(Role::Subscribe, &["*"])]));
    for (token, reason) in [
        (changed("exp", json!(1)), "the token has expired"),
        (changed("nbf", json!(tokens::now() + 1_000)), "the token is not valid yet"),
        (changed("aud", json!("https://other.example")), "the token is for another audience"),
        (changed("iss", json!("https://other.example")), "the token's issuer is not configured"),
        (mint(&jwt, &claims, Role::Subscribe.key()), "the token's typ is not at+jwt"),
        (token_final(Role::Publish, &["*"]), "the token's signature does not verify"),
        (format!("{good}x"), "the token"),
    ] {
        let header = bearer(&token);
        let reply = hub.get(&format!("{HUB}?match=*"), &[with_token(&header)]).expect(401);
        let id = reply.header("x-request-id").unwrap();
        let line = hub.wait_for_log(&format!("request={id}"));
        assert!(line.contains(reason), "{reason}: {line}");
        assert!(!reply.text().contains(reason), "{}", reply.text());
    }
    let signature = good.rsplit('.').next().unwrap();
    assert!(!hub.log().contains(signature), "a signature is in the log");
    assert!(!hub.log().contains("checks=\"\""), "nothing is said of nothing");
}

#[test]
fn the_log_says_of_a_refused_token_what_was_found_and_what_would_pass() {
    let hub = TestHub::start(MEMORY);
    let claims = tokens::claims_final(json!([tokens::detail(Role::Subscribe, &["*"])]));
    let typed = |header: serde_json::Value| mint(&header, &claims, Role::Subscribe.key());
    let line_of = |token: &str| {
        let header = bearer(token);
        let reply = hub.get(&format!("{HUB}?match=*"), &[with_token(&header)]).expect(401);
        let id = reply.header("x-request-id").unwrap();
        let line = hub.wait_for_log(&format!("request={id}")).replace('\\', "");
        assert!(!reply.text().contains("would pass"), "{}", reply.text());
        assert!(!line.contains(token), "{line}");
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!line.contains(part), "{part}: {line}");
        }
        line
    };
    let other = "https://other.example";
    for (token, said) in [
        (changed("exp", json!(1)), "exp: 1, would pass: after now ("),
        (changed("nbf", json!("soon")), "nbf: \"soon\", would pass: not after now ("),
        (
            changed("aud", json!(other)),
            "aud: \"https://other.example\", would pass: https://hub.example/.well-known/mercure",
        ),
        (changed("iss", json!(other)), "iss: \"https://other.example\", would pass: \"https://iss"),
        (typed(json!({ "alg": "HS256", "typ": "JWT" })), "typ: \"JWT\", would pass: at+jwt"),
        (typed(json!({ "alg": "HS512", "typ": "at+jwt" })), "alg: \"HS512\", would pass: HS256"),
        (
            token_final(Role::Publish, &["*"]),
            "signature: not made by any key that may, would pass: the subscribe key of",
        ),
        ("no.token".to_owned(), "form: 8 bytes, would pass: three parts"),
    ] {
        let line = line_of(&token);
        assert!(line.contains(said), "{said}: {line}");
    }
    // Every check that fails, in one line that is bounded and tells no topic.
    let long = format!("https://{}.example", "x".repeat(5_000));
    let mut many = claims.clone();
    many["aud"] = json!(long);
    many["exp"] = json!(1);
    many["authorization_details"] = json!([{ "type": "hush-hush\nsecond line" }, 7]);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let line = line_of(&mint(&header, &many, Role::Subscribe.key()));
    for check in ["typ: ", "exp: ", "aud: ", "authorization_details: not shown"] {
        assert!(line.contains(check), "{check}: {line}");
    }
    assert!(line.len() < 2_000 && !line.contains("hush"), "{} bytes: {line}", line.len());
    // A publisher's is explained by the publishers' key.
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let sent = [(name.as_str(), value.as_str())];
    let reply = hub.request("POST", HUB, &sent, b"topic=a&data=b").expect(401);
    let line = hub.wait_for_log(&format!("request={}", reply.header("x-request-id").unwrap()));
    assert!(line.contains("would pass: the publish key of"), "{line}");
}

#[test]
fn the_log_says_what_a_valid_token_lacks() {
    let presence = "[mercure]\nsubscriptions = true\n";
    let list = format!("{HUB}/subscriptions");
    let published = token_final(Role::Publish, &["https://e.com/1"]);
    let draft = token_draft(Role::Publish, &["https://e.com/1"]);
    let watcher = token_final(Role::Subscribe, &["https://e.com/1"]);
    for topics in [false, true] {
        let hub = TestHub::start(&format!("{MEMORY}\n{presence}[log]\ntopics = {topics}\n"));
        let line_of = |reply: Reply| {
            assert!(!reply.text().contains("would pass"), "{}", reply.text());
            let id = reply.header("x-request-id").unwrap();
            hub.wait_for_log(&format!("request={id}")).replace('\\', "")
        };
        let fields = [("topic", "https://e.com/1"), ("topic", "https://e.com/hush"), ("data", "x")];
        for (token, status) in [(&published, 403), (&draft, 401)] {
            let line = line_of(hub.publish_with(token, &fields).expect(status));
            assert!(line.contains("publish: nothing granted matches "), "{line}");
            assert!(line.contains("would pass: a token that grants it"), "{line}");
            assert_eq!(line.contains("\"https://e.com/hush\""), topics, "{line}");
        }
        let header = bearer(&watcher);
        let line = line_of(hub.get(&list, &[with_token(&header)]).expect(403));
        assert!(line.contains("subscribe: nothing granted matches "), "{line}");
        let nothing = mint(
            &json!({ "alg": "HS256", "typ": "JWT" }),
            &json!({ "mercure": { "subscribe": ["*"] } }),
            Role::Publish.key(),
        );
        let line = line_of(hub.publish_with(&nothing, &fields).expect(401));
        assert!(line.contains("publish: nothing granted, would pass: a token that"), "{line}");
    }
}

#[test]
fn explain_judges_topics_and_lists_every_check() {
    let token = token_final(Role::Publish, &["https://e.com/1"]);
    let arguments = ["token", "explain", &token, "--publish", "https://e.com/1"];
    let output = run(&arguments, Some(MEMORY));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("may publish to \"https://e.com/1\", by exact"), "{text}");
    assert!(text.contains("made by the publish key of \"https://issuer.example\""), "{text}");
    let arguments = ["token", "explain", &token, "--publish", "https://e.com/2"];
    let output = run(&arguments, Some(MEMORY));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("may NOT publish to \"https://e.com/2\""), "{text}");

    let token = token_draft(Role::Subscribe, &["https://e.com/{id}"]);
    let topic = "https://e.com/7";
    let output = run(&["token", "explain", &token, "--subscribe", topic], Some(MEMORY));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("judged as 0.x"), "{text}");
    assert!(text.contains("may read private updates of \"https://e.com/7\", by "), "{text}");

    let expired = changed("exp", json!(1));
    let output = run(&["token", "explain", &expired], Some(MEMORY));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_ne!(output.status.code(), Some(0));
    for line in ["FAIL  exp: 1", "would pass: after now", "ok    aud: ", "ok    typ: "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let signature = expired.rsplit('.').next().unwrap();
    assert!(!text.contains(signature), "{text}");
}

#[test]
fn m74_m75_the_metadata_says_where_tokens_come_from_and_how_they_are_sent() {
    let toml = "hub_path = \"/live/hub\"\n[history]\ndurability = \"memory\"\n\
                [mercure]\ncookie = \"__Host-t\"\ncors_origins = [\"https://app.example\"]\n";
    let hub = TestHub::start(toml);
    let path = "/.well-known/oauth-protected-resource/live/hub";
    let reply = hub.get(path, &[("Origin", "https://app.example")]).expect(200);
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(reply.header("cache-control").as_deref(), Some("max-age=3600"));
    let allowed = reply.header("access-control-allow-origin");
    assert_eq!(allowed.as_deref(), Some("https://app.example"));
    let document = reply.json();
    assert_eq!(document["resource"], "https://hub.example/live/hub");
    assert_eq!(document.get("authorization_servers"), None, "the issuer has no metadata");
    let detail = "https://mercure.rocks/authorization-detail";
    assert_eq!(document["authorization_details_types_supported"], json!([detail]));
    assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    assert_eq!(document["mercure_cookie"], "__Host-t");
    assert!(document["mercure_matcher_types_supported"].as_array().unwrap().len() >= 2);
    // Every challenge points to it.
    let url = format!("https://hub.example{path}");
    let refused = hub.get("/live/hub?match=*", &[]).expect(401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert_eq!(challenge, format!("Bearer resource_metadata=\"{url}\""));
    hub.request("POST", path, &[], b"").expect(405);
    assert!(METADATA.ends_with(HUB));
}

#[test]
fn m76_the_link_header_of_applications_is_printed() {
    let id = "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb";
    let topic = "https://example.com/books/1";
    let arguments = ["link", "--topic", topic, "--last-event-id", id];
    let output = run(&arguments, Some(MEMORY));
    let expected = format!(
        "<https://hub.example{HUB}>; rel=\"mercure\"; last-event-id=\"{id}\", \
         <{topic}>; rel=\"self\"\n"
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let output = run(&["link", "--topic", "a b"], Some(MEMORY));
    assert_eq!(output.status.code(), Some(2), "{} is no URI", encode("a b"));
}
