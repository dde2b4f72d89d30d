//! Sinks and sources from a file and from variables, and where their mistakes are told.

use proptest::prelude::*;
use serde_json::json;
use tidings_connectors::specification::{KeyOf, Pick};

use crate::config::{Config, Variables, from_text, from_variables};

const HUB: &str = r#"
public_url = "https://hub.example.com"
[[auth.issuer]]
id = "https://example.com"
publish = { key = "0123456789abcdef0123456789abcdef" }
"#;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The first sink of a file, where the tests begin.
const SINK: &str = r#"
[[sink]]
kind = "webhook"
name = "next-cache"
topics = ["*"]
url = "https://example.com/"
"#;

fn load(text: &str) -> Result<Config, String> {
    load_under(text, &Variables::default())
}

fn load_under(text: &str, variables: &Variables) -> Result<Config, String> {
    let text = format!("{HUB}{text}");
    from_text("tidings.toml", &text, variables).map_err(|mistakes| mistakes.report(false))
}

#[track_caller]
fn told(report: &Result<Config, String>, parts: &[&str]) {
    let report = report.as_ref().expect_err("it was accepted");
    for part in parts {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
    assert!(report.contains("1 mistake in"), "{report}");
}

#[test]
fn sinks_and_sources_stand_in_the_file() {
    let config = load(
        r#"
[[source]]
kind = "nats"
url = "nats://localhost:4222"
subjects = ["cms.cache.>"]

[[sink]]
kind = "webhook"
name = "next-cache"
topics = [{ nats = "cms.cache.>" }]
url = "https://my-app.example.com/api/cache/webhook"
then = { publish = { replace = ["cms.cache", "relayed.cache"] } }

[[sink]]
kind = "nats"
name = "relayed"
topics = [{ nats = "relayed.>" }]
url = "nats://localhost:4222"
subject.replace = ["relayed.", "r."]
"#,
    )
    .unwrap();
    let [cache, relayed] = config.sinks.as_slice() else { panic!("{:?}", config.sinks) };
    assert_eq!(cache.topics, [Pick::Nats("cms.cache.>".into())]);
    assert_eq!(cache.then.as_ref().unwrap().publish.to, "relayed.cache");
    assert_eq!((relayed.name.as_str(), relayed.to.kind.as_str()), ("relayed", "nats"));
    assert_eq!(config.sources[0].name, "nats");
    assert_eq!(config.sources[0].from.get("subjects"), Some(&json!(["cms.cache.>"])));
    assert!(load("").unwrap().sinks.is_empty());
}

#[test]
fn every_mistake_in_a_sink_is_named_with_its_line() {
    // What is added begins in line 12.
    for (more, parts) in [
        ("rate = 0", &["tidings.toml:12:8", "rate = 0", "1 at least"] as &[_]),
        ("rate = 1.5", &["tidings.toml:12:8", "takes a whole number, not a fraction"]),
        ("timeout = 2020-01-01", &["tidings.toml:12:11", "not a date"]),
        ("retyr = { first = '1s' }", &["tidings.toml:12:1", "did you mean `retry`?"]),
        ("retry = { frist = '1s' }", &["tidings.toml:12:11", "did you mean `first`?"]),
        ("retry = { first = '1h' }", &["tidings.toml:12:19", "`max` is 5m"]),
        ("retry.max = 'x'", &["tidings.toml:12:13", "not a duration"]),
        ("success = [200, 'x']", &["tidings.toml:12:17", "200, 'x'"]),
        ("concurrency = 2", &["tidings.toml:12:15", "key = \"topic\""]),
        ("jetstream = true", &["tidings.toml:12:1", "option of kind \"nats\""]),
        ("bearer_file = '/nowhere/token'", &["tidings.toml:12:15", "cannot read /nowhere/token"]),
        (
            "bearer = 'b'\nbearer_file = '/nowhere/token'",
            &["tidings.toml:13:15", "set one of them"],
        ),
        ("bearer_file = 5", &["tidings.toml:12:15", "the path of a file, not a number"]),
        ("url_file = '/nowhere/token'", &["tidings.toml:12:1", "unknown key `url_file`"]),
        ("basic = { user = 'u' }", &["`basic.password` is missing", "tidings.toml:12:9"]),
        (
            "[[sink]]\nkind = 'webhook'\ntopics = '*'\nurl = 'http://n/'",
            &["tidings.toml:12:1", "`name` is missing here", "name = \"next-cache\""],
        ),
        (
            "[[sink]]\nkind = 'webhook'\nname = 'next-cache'\ntopics = '*'\nurl = 'http://n/'",
            &["tidings.toml:14:8", "another sink or source is called \"next-cache\""],
        ),
        (
            "[[source]]\nkind = 'nats'\nname = 'next-cache'\nurl = 'n'\nsubjects = 'a'",
            &["tidings.toml:9:8", "another sink or source"],
        ),
        (
            "[[source]]\nurl = 'n'\nsubjects = 'a'",
            &["tidings.toml:12:1", "this source has no `kind`", "kinds of source: nats"],
        ),
    ] {
        told(&load(&format!("{SINK}{more}")), parts);
    }
    for (line, part) in [
        ("sink = 1", "`sink` takes a list of tables"),
        ("source = ['x']", "a source is a table, not a text"),
    ] {
        let text = format!("{line}{HUB}");
        let whole = from_text("tidings.toml", &text, &Variables::default());
        told(&whole.map_err(|bad| bad.report(false)), &["tidings.toml:1:", part]);
    }
}

#[test]
fn a_sink_can_be_made_by_variables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("{KEY}\n\n{KEY}\n")).unwrap();
    let config = from_variables(
        &[
            ("TIDINGS_AUTH_ISSUER_0_ID", "https://example.com"),
            ("TIDINGS_AUTH_ISSUER_0_PUBLISH_KEY", "0123456789abcdef0123456789abcdef"),
            ("TIDINGS_PUBLIC_URL", "https://hub.example.com"),
            ("TIDINGS_SINK__NEXT_CACHE__KIND", "webhook"),
            ("TIDINGS_SINK__NEXT_CACHE__NAME", "next-cache"),
            ("TIDINGS_SINK__NEXT_CACHE__TOPICS", r#"[{"nats": "cms.>"}, "b"]"#),
            ("TIDINGS_SINK__NEXT_CACHE__URL", "https://example.com/"),
            ("TIDINGS_SINK__NEXT_CACHE__KEY", "attribute:page"),
            ("TIDINGS_SINK__NEXT_CACHE__CONCURRENCY", "4"),
            ("TIDINGS_SINK__NEXT_CACHE__RATE", "100"),
            ("TIDINGS_SINK__NEXT_CACHE__RETRY__FIRST", "2s"),
            ("TIDINGS_SINK__NEXT_CACHE__THEN__PUBLISH__REPLACE", "cms., relayed."),
            ("TIDINGS_SINK__NEXT_CACHE__SUCCESS", "200,204"),
            ("TIDINGS_SINK__NEXT_CACHE__ALLOW", "10.0.0.0/8,::1"),
            ("TIDINGS_SINK__NEXT_CACHE__HEADERS", r#"{"x-team": "cms"}"#),
            ("TIDINGS_SINK__CACHE2__KIND", "webhook"),
            ("TIDINGS_SINK__CACHE2__TOPICS", "*"),
            ("TIDINGS_SINK__CACHE2__URL", "https://example.com/"),
            ("TIDINGS_SINK__CACHE2__BASIC", r#"{"user": "u", "password": "p"}"#),
            ("TIDINGS_SINK__NEXT_CACHE__BEARER_FILE", token.to_str().unwrap()),
            ("TIDINGS_SINK__NEXT_CACHE__SECRETS_FILE", keys.to_str().unwrap()),
            ("TIDINGS_SINK__CMS__KIND", "nats"),
            ("TIDINGS_SINK__CMS__TOPICS", "a,b"),
            ("TIDINGS_SINK__CMS__URL_FILE", token.to_str().unwrap()),
            ("TIDINGS_SINK__CMS__JETSTREAM", "1"),
            ("TIDINGS_SOURCE__IN__KIND", "nats"),
            ("TIDINGS_SOURCE__IN__URL", "nats://n"),
            ("TIDINGS_SOURCE__IN__SUBJECTS", "a.>,b"),
            ("TIDINGS_SOURCE__IN__PRIVATE", "true"),
        ]
        .into(),
    )
    .map_err(|mistakes| mistakes.report(false))
    .unwrap();
    let [basic, nats, webhook] = config.sinks.as_slice() else { panic!("{:?}", config.sinks) };
    assert_eq!(webhook.name, "next-cache");
    assert_eq!(webhook.topics, [Pick::Nats("cms.>".into()), Pick::Exact("b".into())]);
    assert_eq!(webhook.key, Some(KeyOf::Attribute("page".into())));
    assert_eq!((webhook.concurrency, webhook.rate), (4, Some(100)));
    assert_eq!(webhook.retry.first.to_string(), "2s");
    assert_eq!(webhook.then.as_ref().unwrap().publish.from, "cms.");
    assert_eq!(
        json!(webhook.to.options),
        json!({
            "url": "https://example.com/", "success": [200, 204], "allow": ["10.0.0.0/8", "::1"],
            "headers": { "x-team": "cms" },             "bearer": "hunter2", "secrets": [KEY, KEY],
        })
    );
    assert_eq!(basic.to.get("basic.password"), Some(&json!("p")));
    assert_eq!((nats.name.as_str(), nats.topics.len()), ("cms", 2));
    assert_eq!(json!(nats.to.options), json!({ "url": "hunter2", "jetstream": true }));
    assert_eq!((config.sources[0].name.as_str(), config.sources[0].private), ("in", true));
}

#[test]
fn variables_are_over_the_sink_of_that_name() {
    let variables = [
        ("TIDINGS_SINK__NEXT_CACHE__URL", "https://other.example/"),
        ("TIDINGS_SINK__NEXT_CACHE__RETRY__MAX", "9m"),
    ];
    let text = format!("{SINK}retry = {{ first = '3s', max = '4s' }}");
    let config = load_under(&text, &variables.into()).unwrap();
    assert_eq!(config.sinks.len(), 1);
    assert_eq!(config.sinks[0].to.get("url"), Some(&json!("https://other.example/")));
    let retry = config.sinks[0].retry;
    assert_eq!((retry.first.to_string(), retry.max.to_string()), ("3s".into(), "9m".into()));
}

#[test]
fn wrong_variables_of_sinks_are_named() {
    for (name, value, parts) in [
        ("RATE", "x", &["TIDINGS_SINK__NEXT_CACHE__RATE: `rate` takes a whole number"] as &[_]),
        ("JETSTREAM", "x", &["TIDINGS_SINK__NEXT_CACHE__JETSTREAM: unknown key"]),
        ("HEADERS", "hunter2", &["TIDINGS_SINK__NEXT_CACHE__HEADERS: is not JSON"]),
        ("RETRY", "hunter2", &["TIDINGS_SINK__NEXT_CACHE__RETRY: is not JSON"]),
        ("TOPICS", "[hunter2", &["TIDINGS_SINK__NEXT_CACHE__TOPICS: is not JSON"]),
        ("URL__X", "hunter2", &["TIDINGS_SINK__NEXT_CACHE__URL__X: a part of this", "set one"]),
        ("NAME", "other", &["TIDINGS_SINK__NEXT_CACHE__NAME: is another name"]),
        ("BEARER_FILE", "/nowhere/x", &["__BEARER_FILE: cannot read /nowhere/x"]),
        ("SUCCESS", "20,200", &["TIDINGS_SINK__NEXT_CACHE__SUCCESS: `success` takes statuses"]),
    ] {
        let name = format!("TIDINGS_SINK__NEXT_CACHE__{name}");
        let report = load_under(SINK, &[(name.as_str(), value)].into());
        told(&report, parts);
        assert!(!report.unwrap_err().contains("hunter2"), "{name}");
    }
    let variables = [("TIDINGS_SINK__A_B__KIND", "webhook"), ("TIDINGS_SINK__A_B__TOPICS", "*")];
    let report = load_under("", &variables.into());
    told(&report, &["sink \"a_b\": `url` is missing here", "set TIDINGS_SINK__A_B__URL"]);
    let variables = [("TIDINGS_SINK_CACHE_URL", "hunter2")];
    told(&load_under("", &variables.into()), &["write TIDINGS_SINK__NAME__OPTION"]);
}

#[test]
fn secrets_of_sinks_are_never_shown() {
    for more in [
        "bearer = 'hunter2'",
        "secrets = ['hunter2', 5]",
        "headers = { x-key = 'hunter2', y = 5 }",
        "headers = 'hunter2'",
        "basic = { user = 'u', password = 'hunter2', realm = 'hunter2' }",
        "basic = { password = 'hunter2' }",
        "basic = 'hunter2'",
        "bearre = 'hunter2'",
        "bearer_file = 'hunter2 is no path but a secret that stands in the wrong place'",
        "bearer = \"hunter2\\n\"",
    ] {
        // Each beside something that is wrong in the same line or another.
        let text = format!("{}rate = 0\n{more}", SINK.replace("url", "rule"));
        let report = load(&text).unwrap_err();
        assert!(!report.contains("hunter2"), "{report}");
    }
    let text = SINK.replace("example.com", "me:hunter2@example.com");
    assert!(!load(&text).unwrap_err().contains("hunter2"));
    let config = load(&format!("{SINK}bearer = 'hunter2'")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn endpoints_have_their_settings() {
    let webhooks = load("").unwrap().webhooks;
    assert_eq!(webhooks.key_file.unwrap(), std::path::Path::new("/var/lib/tidings/webhooks.key"));
    assert_eq!(webhooks.keep_attempts.age.unwrap().as_secs(), 7 * 86_400);
    assert_eq!(webhooks.keep_attempts.size, Some(1 << 30));
    assert!(webhooks.allow.is_empty());
    let in_the_code = tidings_connectors::limits::UNDELIVERED_BYTES_DEFAULT;
    assert_eq!(webhooks.undelivered_size_max, Some(in_the_code));
    let text = "[history]\ndurability = 'memory'\n[webhooks]\nallow = '10.0.0.0/8'\n\
                undelivered_size_max = 'off'\nattempts.keep = { age = 'off', size = 5000 }";
    let webhooks = load(text).unwrap().webhooks;
    assert_eq!((webhooks.key_file, webhooks.allow.len()), (None, 1));
    assert_eq!((webhooks.keep_attempts.age, webhooks.keep_attempts.size), (None, Some(5000)));
    assert_eq!(webhooks.undelivered_size_max, None);
    let zero = load("[webhooks]\nundelivered_size_max = 0");
    told(&zero, &["every sink would wait", "\"off\""]);
    let zero = load("[webhooks]\nattempts.keep.age = '0s'");
    told(&zero, &["nothing would be kept", "\"off\""]);
}

proptest! {
    #[test]
    fn no_sink_panics(
        text in r#"(\[\[sink\]\]|\n|[a-z_.]{1,6} = |kind|name|url|topics|retry|first|basic|_file|"webhook"|"nats"|'.{0,3}'|[\[\]{},0-9]|true){0,24}"#
    ) {
        let _ = load(&text);
        let _ = load(&format!("{SINK}{text}"));
    }

    #[test]
    fn no_variable_panics(
        name in "(KIND|URL|TOPICS|RETRY|__|_FILE|FIRST|HEADERS|[A-Z_]{1,4}){1,5}",
        value in r#"(\[|\]|\{|\}|"[a-z]{0,3}"|:|,|[0-9]|.){0,10}"#,
    ) {
        let name = format!("TIDINGS_SINK__NEXT_CACHE__{name}");
        let _ = load_under(SINK, &[(name.as_str(), value.as_str())].into());
    }
}
