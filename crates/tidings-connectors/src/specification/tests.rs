//! Specifications, good and bad, from JSON to what runs or what is told.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tidings_core::{Candidate, Namespace};

use super::*;
use crate::limits::{CONCURRENCY_DEFAULT, CONCURRENCY_MAX};
use crate::rows::{Kind, OF_EVERY_SINK, OF_EVERY_SOURCE};
use crate::{SINKS, SOURCES};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A webhook with `more` laid over it; `null` takes a key away.
fn webhook(more: Value) -> Value {
    let minimal = json!({
        "kind": "webhook", "name": "a", "topics": ["*"], "url": "https://example.com/",
    });
    over(minimal, more)
}

// JSON is written where it is passed.
#[allow(clippy::needless_pass_by_value)]
fn over(mut value: Value, more: Value) -> Value {
    let table = value.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(table.remove(name)),
            value => drop(table.insert(name.clone(), value.clone())),
        }
    }
    value
}

fn nats_source(more: Value) -> Value {
    over(json!({ "kind": "nats", "url": "nats://n", "subjects": "a.>" }), more)
}

#[test]
fn a_minimal_sink_has_the_defaults_of_the_rows() {
    let read = sink(&webhook(json!({}))).unwrap();
    assert_eq!(read.topics, [Pick::All]);
    assert_eq!((read.key, read.concurrency, read.rate, read.then), (None, 1, None, None));
    assert_eq!(read.to.kind, "webhook");
    assert_eq!(json!(read.to.options), json!({ "url": "https://example.com/" }));
    let default = |path: &str| {
        let row = OF_EVERY_SINK.iter().find(|row| row.path == path).unwrap();
        row.default.unwrap().to_owned()
    };
    assert_eq!(json!(read.retry.first).to_string(), default("retry.first"));
    assert_eq!(json!(read.retry.max).to_string(), default("retry.max"));
    assert_eq!(json!(read.retry.give_up_after).to_string(), default("retry.give_up_after"));
    let keyed = sink(&webhook(json!({ "key": "topic" }))).unwrap();
    assert_eq!(keyed.concurrency, CONCURRENCY_DEFAULT);
    assert_eq!(CONCURRENCY_DEFAULT.to_string(), default("concurrency"));
}

#[test]
fn everything_that_is_written_is_read() {
    let value = webhook(json!({
        "name": "next-cache.1_x",
        "topics": [
            "https://example.com/1", { "nats": "cms.>" }, { "mqtt": "a/+/#" },
            { "url_pattern": "/books/:id" }, { "uri_template": "https://e/{id}" },
        ],
        "key": "attribute:customer id",
        "concurrency": 8,
        "rate": 100,
        "retry": { "first": "250ms", "max": "30s", "give_up_after": "15m" },
        "then": { "publish": { "replace": ["cms.cache", "relayed.cache"] } },
        "body": "cloudevents",
        "headers": { "x-a": "1", "x-b": "" },
        "basic": { "user": "", "password": "p" },
        "secrets": KEY,
        "success": [200],
        "timeout": "30s",
        "allow": ["10.0.0.0/8", "::1"],
    }));
    let read = sink(&value).unwrap();
    assert_eq!(read.name, "next-cache.1_x");
    assert_eq!(read.topics.len(), 5);
    assert_eq!(read.topics[3], Pick::UrlPattern("/books/:id".into()));
    assert_eq!(read.key, Some(KeyOf::Attribute("customer id".into())));
    assert_eq!((read.concurrency, read.rate), (8, Some(100)));
    assert_eq!(read.retry.first, Span(Duration::from_millis(250)));
    let then = read.then.clone().unwrap();
    assert_eq!(then.publish.apply("cms.cache.cms.cache.1").unwrap(), "relayed.cache.cms.cache.1");
    assert_eq!(then.publish.apply("other.cms.cache"), None);
    assert_eq!(read.to.get("basic.password"), Some(&json!("p")));
    // One value where a list may stand is a list.
    assert_eq!(read.to.get("secrets"), Some(&json!([KEY])));
    assert_eq!(sink(&read.to_json()).unwrap(), read);
}

#[test]
fn a_source_may_be_called_by_its_kind() {
    let read = source(&nats_source(json!({ "jetstream": { "stream": "S", "consumer": "c" } })));
    let read = read.unwrap();
    assert_eq!((read.name.as_str(), read.private), ("nats", false));
    assert_eq!(read.from.get("subjects"), Some(&json!(["a.>"])));
    assert_eq!(read.from.get("jetstream.stream"), Some(&json!("S")));
    let named = source(&nats_source(json!({ "name": "cms", "private": true }))).unwrap();
    assert_eq!((named.name.as_str(), named.private), ("cms", true));
}

#[track_caller]
fn refused(read: Result<impl fmt::Debug, Vec<BadOption>>, path: &str, message: &str, hint: &str) {
    let problems = read.expect_err("it was accepted");
    let [problem] = problems.as_slice() else { panic!("not one problem: {problems:#?}") };
    assert_eq!(problem.path, path, "{problem:?}");
    assert!(problem.message.contains(message), "{problem:?}");
    assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{problem:?}");
}

#[test]
fn each_mistake_in_a_sink_is_named_with_what_to_do() {
    let long = "x".repeat(65);
    for (more, path, message, hint) in [
        (json!({ "name": null }), "name", "`name` is missing", r#"name = "next-cache""#),
        (json!({ "name": "Next" }), "name", "does not take \"Next\"", "a-z"),
        (json!({ "name": "-a" }), "name", "does not take", "a-z"),
        (json!({ "name": "a b" }), "name", "does not take", "64"),
        (json!({ "name": long }), "name", "a text of 65 characters", "64"),
        (json!({ "name": "" }), "name", "is empty", "as in name"),
        (json!({ "name": 1 }), "name", "takes a text, not a number", "as in name"),
        (json!({ "kind": null }), "kind", "this sink has no `kind`", "webhook, nats"),
        (
            json!({ "kind": "webhok" }),
            "kind",
            "unknown kind \"webhok\"",
            "did you mean \"webhook\"",
        ),
        (json!({ "kind": 1 }), "kind", "takes a text, not a number", "webhook"),
        (json!({ "topics": null }), "topics", "`topics` is missing", "nats"),
        (json!({ "topics": [] }), "topics", "nothing would be delivered", "[\"*\"]"),
        (json!({ "topics": [""] }), "topics[0]", "empty topic", "\"*\""),
        (json!({ "topics": ["*", 1] }), "topics[1]", "not a number", "as in topics"),
        (json!({ "topics": [{ "nast": "a" }] }), "topics[0]", "one pattern in a table", "mqtt"),
        (json!({ "topics": { "nats": "a..b" } }), "topics[0]", "not a valid NATS", "topics"),
        (json!({ "topics": [{ "url_pattern": "(" }] }), "topics[0]", "URL pattern", "topics"),
        (json!({ "key": "topics" }), "key", "does not take \"topics\"", "attribute:NAME"),
        (json!({ "key": "attribute:" }), "key", "no name of an attribute", "attribute:customer"),
        (json!({ "concurrency": 4 }), "concurrency", "needs a `key`", "key = \"topic\""),
        (json!({ "key": "topic", "concurrency": 0 }), "concurrency", "1 at least", "as in"),
        (
            json!({ "key": "topic", "concurrency": CONCURRENCY_MAX + 1 }),
            "concurrency",
            "at most",
            "as in",
        ),
        (json!({ "rate": 0 }), "rate", "is 0, and 1 at least", "as in rate = 100"),
        (json!({ "rate": 1.5 }), "rate", "a whole number, not a fraction", "as in"),
        (json!({ "rate": -1 }), "rate", "negative", "as in"),
        (json!({ "retry": { "first": "0" } }), "retry.first", "10ms at least", "as in"),
        (json!({ "retry": { "first": "5" } }), "retry.first", "not a duration", "a unit"),
        (json!({ "retry": { "max": "9999d" } }), "retry.max", "366d at most", "as in"),
        (json!({ "retry": { "frist": "1s" } }), "retry.frist", "in `retry`", "`first`"),
        (json!({ "retry": { "first": "10m" } }), "retry.first", "`max` is 5m", "as in"),
        (json!({ "retry": { "first": "2s", "max": "1s" } }), "retry.max", "is 1s", "as in"),
        (json!({ "retry": "1s" }), "retry", "takes a table, not a text", "retry.first"),
        (json!({ "then": {} }), "then.publish.replace", "is missing", "relayed.cache"),
        (
            json!({ "then": { "publish": { "replace": ["", "a"] } } }),
            "then.publish.replace",
            "nothing to replace",
            "",
        ),
        (
            json!({ "then": { "publish": { "replace": ["a", "a"] } } }),
            "then.publish.replace",
            "the same text",
            "",
        ),
        (
            json!({ "then": { "publish": { "replace": ["a"] } } }),
            "then.publish.replace",
            "two texts",
            "",
        ),
        (
            json!({ "then": { "publish": { "replace": "a" } } }),
            "then.publish.replace",
            "two texts",
            "",
        ),
        (
            json!({ "then": { "publish": { "replace": ["a", "b"] }, "publsh": 1 } }),
            "then.publsh",
            "unknown key",
            "`publish`",
        ),
        (json!({ "url": null }), "url", "`url` is missing", "https://app.example.com/hook"),
        (json!({ "url": "example.com" }), "url", "not a URL", "https://"),
        (json!({ "url": "ftp://example.com" }), "url", "http:// or https://", "https://"),
        (json!({ "url": "https://u:p@example.com" }), "url", "user name", "basic = "),
        (json!({ "url": "https://e/#x" }), "url", "fragment", "as in"),
        (json!({ "url": "https://e/\r\nHost: x" }), "url", "control character", "one line"),
        (json!({ "body": "event" }), "body", "does not take \"event\"", "cloudevents"),
        (json!({ "headers": ["a"] }), "headers", "a table of texts, not a list", "x-team"),
        (json!({ "headers": { "a": 1 } }), "headers.\"a\"", "a text, not a number", "x-team"),
        (json!({ "success": [200, 600] }), "success[1]", "200 to 599", "as in"),
        (json!({ "allow": "10.0.0.0/99" }), "allow[0]", "not a network", "10.0.0.0/8"),
        (json!({ "timeout": "11m" }), "timeout", "10m at most", "as in"),
        (json!({ "basic": { "user": "a" } }), "basic.password", "is missing", "the password"),
        (json!({ "secrets": "hunter2" }), "secrets[0]", "", ""),
        (json!({ "headers": { "host": "x" } }), "headers.host", "the hub sets this", ""),
        (
            json!({ "bearer": "b", "basic": { "user": "u", "password": "p" } }),
            "bearer",
            "exclude each other",
            "",
        ),
        (json!({ "ulr": "x" }), "ulr", "unknown key `ulr`", "did you mean `url`?"),
        (json!({ "jetstream": true }), "jetstream", "unknown key", "of kind \"nats\""),
        (json!({ "retry.first": "1s" }), "retry.first", "unknown key `retry.first`", ""),
        (json!({ "nothing": 1 }), "nothing", "unknown key", "known here: name, topics, key"),
    ] {
        refused(sink(&webhook(more)), path, message, hint);
    }
    let source_of = |more| source(&nats_source(more));
    refused(source_of(json!({ "subjects": null })), "subjects", "`subjects`: no subject", "cms");
    refused(source_of(json!({ "subjects": ["a.>", "a..b"] })), "subjects[1]", "no NATS", "dots");
    refused(source_of(json!({ "url": "http://n" })), "url", "`url`: ", "");
    refused(source_of(json!({ "password": "p" })), "user", "missing beside password", "");
    refused(source_of(json!({ "creds_file": "/nowhere" })), "creds_file", "nowhere", "");
    let jetstream = json!({ "jetstream": { "stream": "S" } });
    refused(source_of(jetstream), "jetstream.consumer", "is missing", "tidings");
    refused(sink(&json!([])), "", "a sink is a table, not a list", "");
    refused(source(&nats_source(json!({ "kind": "webhook" }))), "kind", "unknown kind", "nats");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let problems = sink(&json!({
        "kind": "webhook", "topics": 1, "concurrency": 0, "retry": { "x": 1, "first": 2 },
    }))
    .unwrap_err();
    let mut paths: Vec<&str> = problems.iter().map(|bad| bad.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["concurrency", "name", "retry.first", "retry.x", "topics[0]", "url"]);
    let unknown: Vec<bool> = problems.iter().map(|bad| bad.is_unknown).collect();
    assert_eq!(unknown.iter().filter(|unknown| **unknown).count(), 1);
    // Keys of a kind that is not known are not called unknown.
    let problems = sink(&json!({ "kind": "webhok", "url": 1, "nmae": "a" })).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|bad| bad.path.as_str()).collect();
    assert_eq!(paths, ["kind", "name", "topics"]);
}

#[test]
fn no_value_of_a_secret_is_told_or_shown() {
    const SECRET: &str = "hunter2";
    for more in [
        json!({ "bearer": format!("{SECRET}\n") }),
        json!({ "bearer": [SECRET] }),
        json!({ "secrets": [SECRET, 1, format!("{SECRET}\u{7}")] }),
        json!({ "headers": { "authorization": [SECRET] } }),
        json!({ "basic": { "user": "u", "password": { SECRET: SECRET } } }),
        json!({ "basic": SECRET }),
        json!({ "url": format!("https://u:{SECRET}@example.com") }),
        json!({ "bearre": SECRET }),
    ] {
        let told = format!("{:?}", sink(&webhook(more)).unwrap_err());
        assert!(!told.contains(SECRET), "{told}");
    }
    let read = sink(&webhook(json!({ "bearer": SECRET, "url": "https://e/hunter2" }))).unwrap();
    let shown = format!("{read:?}");
    assert!(!shown.contains(SECRET) && shown.contains("bearer"), "{shown}");
}

#[test]
fn secrets_are_taken_out_and_put_in_again() {
    let rows = SINKS.iter().find(|kind| kind.name == "webhook").unwrap().options;
    for (credentials, open, paths) in [
        (
            json!({ "basic": { "user": "u", "password": "p" } }),
            json!({ "url": "https://example.com/", "basic": { "user": "u" } }),
            ["basic.password", "headers", "secrets"],
        ),
        (
            json!({ "bearer": "b" }),
            json!({ "url": "https://example.com/" }),
            ["bearer", "headers", "secrets"],
        ),
    ] {
        let whole =
            webhook(over(credentials, json!({ "secrets": [KEY], "headers": { "a": "h" } })));
        let read = sink(&whole).unwrap();
        let mut to = read.to.clone();
        let secrets = to.take_secrets(rows);
        assert_eq!(json!(to.options), open);
        assert!(secrets.keys().eq(&paths), "{paths:?}");
        for (path, value) in secrets {
            to.put_secret(path, value);
        }
        assert_eq!(to, read.to);
    }
}

/// Options of a kind read with the default of each row are what is read without them.
fn defaults<T: PartialEq + fmt::Debug>(
    kinds: &[Kind],
    name: &str,
    minimal: &Value,
    read: impl Fn(&Map<String, Value>) -> Result<T, Vec<BadOption>>,
) {
    let read = |options: &Value| read(options.as_object().unwrap()).unwrap();
    let rows = kinds.iter().find(|kind| kind.name == name).unwrap().options;
    let mut seen = 0;
    for row in rows {
        let Some(default) = row.default.filter(|_| row.path != "content_type") else { continue };
        let default: Value = serde_json::from_str(default).unwrap();
        let mut written = minimal.as_object().unwrap().clone();
        put(&mut written, row.path, default);
        assert_eq!(read(&Value::Object(written)), read(minimal), "{}", row.path);
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn defaults_of_rows_are_those_of_the_kinds() {
    let url = json!({ "url": "https://example.com/" });
    defaults(SINKS, "webhook", &url, crate::webhook::Options::read);
    let url = json!({ "url": "nats://n" });
    defaults(SINKS, "nats", &url, crate::nats::SinkOptions::read);
    let url = json!({ "url": "nats://n", "jetstream": { "stream": "S", "consumer": "c" } });
    defaults(SOURCES, "nats", &url, crate::nats::SourceOptions::read);
}

#[test]
fn an_endpoint_opens_neither_files_nor_networks() {
    assert!(endpoint(&webhook(json!({}))).is_ok());
    for (more, path, message) in [
        (json!({ "allow": ["10.0.0.0/8"] }), "allow", "operator"),
        (json!({ "ca_file": "/etc/passwd" }), "ca_file", "cannot name a file"),
        (json!({ "kind": "nats", "creds_file": "/etc/passwd" }), "kind", "unknown kind \"nats\""),
    ] {
        refused(endpoint(&webhook(more)), path, message, "");
    }
}

#[test]
fn patterns_pick_in_their_language() {
    let namespace = Namespace::new("https://hub.example/.well-known/mercure".parse().unwrap());
    for (written, picked, other) in [
        (json!("*"), "anything", None),
        (json!("a"), "a", Some("b")),
        (json!({ "nats": "cms.>" }), "cms.x.y", Some("cms")),
        (json!({ "mqtt": "a/+" }), "a/b", Some("a/b/c")),
        (json!({ "url_pattern": "/books/:id" }), "https://hub.example/books/1", Some("/x")),
        (json!({ "uri_template": "https://e/{id}" }), "https://e/1", Some("https://f/1")),
    ] {
        let pick: Pick = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(json!(pick), written);
        let (language, pattern) = pick.pattern();
        let matcher = tidings_core::Matcher::parse(language, pattern, &namespace).unwrap();
        assert!(matcher.matches(&Candidate::new(picked, &namespace)), "{written}");
        if let Some(other) = other {
            assert!(!matcher.matches(&Candidate::new(other, &namespace)), "{written}");
        }
    }
}

#[test]
fn every_row_says_what_it_does() {
    let kinds = SINKS.iter().chain(SOURCES);
    let own = kinds.flat_map(|kind: &Kind| kind.options);
    for row in OF_EVERY_SINK.iter().chain(OF_EVERY_SOURCE).chain(own) {
        assert!(row.about.ends_with('.'), "{}", row.path);
        assert!(row.about.lines().all(|line| line.len() <= 98), "{}", row.path);
        assert!(!(row.is_required && row.default.is_some()), "{}", row.path);
    }
    for (kinds, every) in [(SINKS, OF_EVERY_SINK), (SOURCES, OF_EVERY_SOURCE)] {
        for kind in kinds {
            let mut paths: Vec<_> = every.iter().chain(kind.options).map(|row| row.path).collect();
            let count = paths.len();
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), count, "an option of {} is there twice", kind.name);
        }
    }
}

/// JSON with the names of options in it, so that more than the first check is reached.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("*".to_owned()),
        Just("webhook".to_owned()),
        Just("https://e/".to_owned()),
        Just("99999999w".to_owned()),
        "attribute:.{0,3}",
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let name = prop_oneof![
        "name|kind|topics|key|concurrency|rate|retry|first|max|then|publish|replace|url|basic",
        "user|headers|secrets|success|timeout|allow|nats|mqtt|url_pattern|jetstream|subjects",
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|table| Value::Object(table.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_panics(value in any_json()) {
        let _ = (sink(&value), source(&value));
        if let Value::Object(_) = &value {
            if let Err(problems) = sink(&webhook(value.clone())) {
                prop_assert!(!problems.is_empty());
            }
            let _ = source(&nats_source(value));
        }
    }

    #[test]
    fn no_bytes_panic(value in any_json(), bytes: Vec<u8>) {
        fuzz_endpoint(&bytes);
        fuzz_endpoint(value.to_string().as_bytes());
        if value.is_object() {
            fuzz_endpoint(webhook(value).to_string().as_bytes());
        }
    }

    #[test]
    fn what_is_read_is_read_again_from_its_own_form(value in any_json()) {
        if value.is_object() && let Ok(read) = sink(&webhook(value)) {
            prop_assert_eq!(sink(&read.to_json()), Ok(read));
        }
    }
}
