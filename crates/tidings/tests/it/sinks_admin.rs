//! Looking into sinks: what the admin listener says of them, and what it does about dead letters and
//! the past; the commands that ask it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::http::{self, PATIENCE};
use crate::hub::{Launch, PROGRAM, TestHub, run_in};
use crate::receiver::{Receiver, Reply};
use crate::sinks::{
    ADMIN, QUICK, ask, dead_letters, publish, state, wait_for_dead_letters, wait_for_state, webhook,
};
use crate::tokens::bearer;

/// A receiver that refuses while the flag is set, whatever comes.
fn fickle() -> (Receiver, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&refuses);
    let receiver = Receiver::with(move |_| match flag.load(Ordering::SeqCst) {
        true => Reply::status(400).body(b"not like that"),
        false => Reply::status(200).body(b"thanks"),
    });
    (receiver, refuses)
}

fn one(receiver: &Receiver, more: &str) -> TestHub {
    let sink =
        webhook("one", &receiver.url("/hook?key=in-the-url"), "\"*\"", &format!("{QUICK}{more}"));
    TestHub::start(&format!("{ADMIN}{sink}"))
}

fn get(hub: &TestHub, path: &str) -> Value {
    ask(hub, "GET", path, &Value::Null).expect(200).json()
}

/// Waits until this answer is as it should be.
#[track_caller]
fn wait_for(hub: &TestHub, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = get(hub, path);
        if is_right(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{path}: {found}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_an_endpoint_rejected_is_listed_and_delivered_again() {
    let (receiver, refuses) = fickle();
    let hub = one(&receiver, "bearer = \"never-to-be-shown\"\n");
    refuses.store(true, Ordering::SeqCst);
    for data in ["1", "2", "3"] {
        publish(&hub, "a", data);
    }
    let letters = wait_for_dead_letters(&hub, "one", 3);
    let first = &letters[0];
    assert_eq!(
        (&first["number"], &first["kind"], &first["fault"]),
        (&json!(1), &json!("update"), &json!("rejected"))
    );
    assert_eq!((&first["status"], &first["answer"]), (&json!(400), &json!("not like that")));
    assert_eq!(first["entry"], json!(receiver.received()[0].header("webhook-id").unwrap()));
    let behind = get(&hub, "/one/dead-letters?after=2");
    assert_eq!(behind["dead_letters"][0]["number"], json!(3));

    let found = get(&hub, "/one");
    assert_eq!(
        (&found["origin"], &found["state"], &found["dead_letters"]),
        (&json!("configuration"), &json!("running"), &json!(3))
    );
    assert_eq!((&found["behind"], &found["kind"]), (&json!(0), &json!("webhook")));
    assert!(found["last_failure"].as_str().unwrap().contains("400"), "{found}");
    let list = get(&hub, "");
    assert_eq!(list["sinks"][0]["name"], json!("one"));
    let said = format!("{found}{list}{behind}");
    assert!(!said.contains("never-to-be-shown") && !said.contains("in-the-url"), "{said}");

    // It is rejected once more: another dead letter, not an endless loop.
    let redrive = "/one/dead-letters/redrive";
    let told = ask(&hub, "POST", redrive, &json!({ "numbers": [1, 9] })).expect(200).json();
    assert_eq!(
        (&told["taken"], &told["unknown"], &told["goes_on"]),
        (&json!(1), &json!(1), &json!(false))
    );
    wait_for(&hub, "/one/dead-letters", |list| list["dead_letters"][2]["number"] == json!(4));
    refuses.store(false, Ordering::SeqCst);
    ask(&hub, "DELETE", "/one/dead-letters/3", &Value::Null).expect(204);
    ask(&hub, "DELETE", "/one/dead-letters/3", &Value::Null).expect(404);
    let told = ask(&hub, "POST", redrive, &json!({ "all": true })).expect(200).json();
    assert_eq!((&told["taken"], &told["left"]), (&json!(2), &json!(0)), "{told}");
    let all = receiver.wait_for(14);
    let mut good: Vec<String> = all[12..].iter().map(|one| one.text()).collect();
    good.sort();
    assert_eq!(good, ["1", "2"]);
    assert!(dead_letters(&hub, "one").is_empty());
    // Also for the next process.
    let hub = hub.restart();
    assert!(dead_letters(&hub, "one").is_empty());
    publish(&hub, "a", "last");
    receiver.wait_for_body("/hook?key=in-the-url", "last");
}

#[test]
fn replay_by_id_by_range_and_only_failures() {
    let (receiver, refuses) = fickle();
    let hub = one(&receiver, "then = { publish = { replace = [\"a\", \"b\"] } }\n");
    let ids: Vec<String> =
        ["1", "2", "3"].iter().map(|data| hub.publish(&[("topic", "x"), ("data", data)])).collect();
    wait_for(&hub, "/one", |one| one["behind"] == json!(0));
    refuses.store(true, Ordering::SeqCst);
    publish(&hub, "x", "4");
    wait_for_dead_letters(&hub, "one", 1);
    refuses.store(false, Ordering::SeqCst);
    let begun = receiver.count();
    let bodies = |count: usize| -> Vec<String> {
        let all = receiver.wait_for(begun + count);
        all[begun..].iter().map(|one| one.text()).collect()
    };
    let replays = "/one/replays";

    let made = ask(&hub, "POST", replays, &json!({ "ids": [ids[2], ids[0]] })).expect(201);
    assert_eq!(made.header("location").as_deref(), Some("/tidings/admin/sinks/one/replays/1"));
    assert_eq!(bodies(2), ["1", "3"]);
    ask(&hub, "POST", replays, &json!({ "from": ids[1], "until": ids[2] })).expect(201);
    assert_eq!(bodies(4)[2..], ["2", "3"]);
    ask(&hub, "POST", replays, &json!({ "from": "2027-01-15", "until": "2020-01-15" })).expect(201);
    wait_for(&hub, "/one/attempts?failed=true", |list| {
        !list["attempts"].as_array().unwrap().is_empty()
    });
    ask(&hub, "POST", replays, &json!({ "failed": true })).expect(201);
    assert_eq!(bodies(5)[4..], ["4"]);
    let list = wait_for(&hub, replays, |list| list["replays"][0]["state"] == json!("done"));
    let taken: Vec<&Value> =
        list["replays"].as_array().unwrap().iter().map(|replay| &replay["taken"]).collect();
    assert_eq!(taken, [&json!(1), &json!(0), &json!(2), &json!(2)]);
    // The same id, so that receivers know it.
    let webhook_ids: Vec<_> = receiver.received().iter().map(|r| r.header("webhook-id")).collect();
    assert_eq!(webhook_ids[begun], webhook_ids[0]);

    for (body, status) in [
        (json!({ "ids": ["urn:uuid:nothing"] }), 404),
        (json!({ "ids": [ids[0]], "from": 1 }), 400),
        (json!({ "from": true }), 400),
        (json!({ "form": 1 }), 400),
        (json!({}), 400),
        (Value::Null, 400),
    ] {
        ask(&hub, "POST", replays, &body).expect(status);
    }
    ask(&hub, "DELETE", "/one/replays/1", &Value::Null).expect(204);
    ask(&hub, "DELETE", "/one/replays/9", &Value::Null).expect(404);
    assert_eq!(receiver.count(), begun + 5, "nothing else was sent");
}

#[test]
fn nothing_follows_a_replay() {
    let receiver = Receiver::start();
    let then = "then = { publish = { replace = [\"a\", \"b\"] } }\n";
    let sink = webhook("one", &receiver.url("/"), "\"a\"", &format!("{QUICK}{then}"));
    let hub = TestHub::start(&format!("{ADMIN}{sink}"));
    publish(&hub, "a", "1");
    let mut stream = hub.subscribe("match=b&last_event_id=earliest");
    assert_eq!(stream.event().data, "1");
    ask(&hub, "POST", "/one/replays", &json!({ "from": 1 })).expect(201);
    receiver.wait_for(2);
    wait_for(&hub, "/one/replays", |list| list["replays"][0]["state"] == json!("done"));
    publish(&hub, "a", "2");
    assert_eq!(stream.event().data, "2");
}

#[test]
fn attempts_say_what_the_endpoint_answered() {
    let (receiver, refuses) = fickle();
    let hub = one(&receiver, "");
    publish(&hub, "a", "good");
    // What arrived may not have been answered yet.
    wait_for(&hub, "/one", |one| one["behind"] == json!(0));
    refuses.store(true, Ordering::SeqCst);
    publish(&hub, "a", "bad");
    wait_for_dead_letters(&hub, "one", 1);
    let list =
        wait_for(&hub, "/one/attempts", |list| list["attempts"].as_array().unwrap().len() == 4);
    let attempts = list["attempts"].as_array().unwrap();
    let (newest, oldest) = (&attempts[0], &attempts[3]);
    assert_eq!(
        (&newest["tries"], &newest["status"], &newest["fault"]),
        (&json!(3), &json!(400), &json!("rejected"))
    );
    assert_eq!(newest["answer"], json!("not like that"));
    assert_eq!(
        (&oldest["delivered"], &oldest["status"], &oldest["answer"]),
        (&json!(1), &json!(200), &json!("thanks"))
    );
    let failed = get(&hub, "/one/attempts?failed=true");
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 3);
    let older = get(&hub, &format!("/one/attempts?before={}", attempts[2]["number"]));
    assert_eq!(older["attempts"], json!([oldest]));
    for query in ["before=x", "failed=perhaps"] {
        ask(&hub, "GET", &format!("/one/attempts?{query}"), &Value::Null).expect(400);
    }
}

#[test]
fn a_trial_tells_what_became_of_it_and_is_in_no_history() {
    let (receiver, refuses) = fickle();
    let hub = one(&receiver, "");
    let told = ask(&hub, "POST", "/one/test", &Value::Null).expect(200).json();
    assert_eq!(
        (&told["delivered"], &told["status"], &told["answer"]),
        (&json!(true), &json!(200), &json!("thanks"))
    );
    let first = receiver.received().remove(0);
    assert_eq!(first.json(), json!({ "test": true, "sink": "one" }));
    assert_eq!(first.header("tidings-topic").as_deref(), Some("tidings.test"));
    refuses.store(true, Ordering::SeqCst);
    let told = ask(&hub, "POST", "/one/test", &Value::Null).expect(200).json();
    assert_eq!((&told["delivered"], &told["fault"]), (&json!(false), &json!("rejected")));
    let second = receiver.received().remove(1);
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(dead_letters(&hub, "one").is_empty());
    assert!(hub.history().is_empty(), "nobody else hears of it");
}

#[test]
fn configured_sinks_cannot_be_changed_and_a_disabled_one_can_go_on() {
    let gone = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&gone);
    let receiver =
        Receiver::with(move |_| Reply::status(if flag.load(Ordering::SeqCst) { 410 } else { 200 }));
    let hub = one(&receiver, "");
    publish(&hub, "a", "1");
    wait_for_state(&hub, "one", "disabled");
    let found = get(&hub, "/one");
    assert!(found["reason"].as_str().unwrap().contains("410"), "{found}");
    for (method, path) in
        [("PUT", "/one"), ("DELETE", "/one"), ("POST", "/one/pause"), ("POST", "/one/rotate")]
    {
        let problem = ask(&hub, method, path, &json!({})).expect(409);
        assert!(problem.text().contains("configuration"), "{method} {path}");
    }
    assert_eq!(state(&hub, "one"), "disabled");
    gone.store(false, Ordering::SeqCst);
    ask(&hub, "POST", "/one/resume", &Value::Null).expect(200);
    receiver.wait_within(PATIENCE, |all| all.iter().any(|one| one.succeeded()));
    assert_eq!(state(&hub, "one"), "running");
}

#[test]
fn strangers_and_unknown_names_are_turned_away() {
    let receiver = Receiver::start();
    let hub = one(&receiver, "");
    let admin = hub.admin.unwrap();
    let every = [
        ("GET", ""),
        ("GET", "/one"),
        ("GET", "/one/attempts"),
        ("GET", "/one/dead-letters"),
        ("POST", "/one/dead-letters/redrive"),
        ("POST", "/one/dead-letters/forget"),
        ("DELETE", "/one/dead-letters/1"),
        ("GET", "/one/replays"),
        ("POST", "/one/replays"),
        ("DELETE", "/one/replays/1"),
        ("POST", "/one/pause"),
        ("POST", "/one/resume"),
        ("POST", "/one/test"),
    ];
    for (method, path) in every {
        let target = format!("/tidings/admin/sinks{path}");
        for token in ["", "admin-token-of-the-test", "admin-token-of-the-tests2"] {
            let (name, value) = bearer(token);
            let headers = [(name.as_str(), value.as_str())];
            http::exchange(admin, &http::request(method, &target, &headers, b"")).expect(401);
        }
        http::exchange(admin, &http::request(method, &target, &[], b"")).expect(401);
        hub.request(method, &target, &[], b"").expect(404);
        if !path.is_empty() {
            ask(&hub, method, &path.replacen("one", "none", 1), &json!({})).expect(404);
        }
    }
    assert_eq!(receiver.count(), 0);
    let refused = ask(&hub, "PATCH", "/one", &Value::Null).expect(405);
    assert_eq!(refused.header("allow").as_deref(), Some("GET, HEAD, PUT, DELETE"));
    for body in [json!({}), json!({ "all": true, "numbers": [1] }), json!({ "every": true })] {
        ask(&hub, "POST", "/one/dead-letters/redrive", &body).expect(400);
    }
    let without = TestHub::start(ADMIN);
    assert_eq!(get(&without, ""), json!({ "sinks": [] }));
    ask(&without, "GET", "/one", &Value::Null).expect(404);
}

#[test]
fn metrics_tell_each_sink_apart() {
    let (receiver, refuses) = fickle();
    let hub = one(&receiver, "");
    publish(&hub, "a", "good");
    // What arrived may not have been answered yet.
    wait_for(&hub, "/one", |one| one["behind"] == json!(0));
    refuses.store(true, Ordering::SeqCst);
    publish(&hub, "a", "bad");
    wait_for_dead_letters(&hub, "one", 1);
    let count = |result| {
        hub.metric(&format!("tidings_sink_deliveries_total{{sink=\"one\",result=\"{result}\"}}"))
    };
    assert_eq!((count("delivered"), count("rejected"), count("busy")), (1, 3, 0));
    for (name, value) in [
        ("dead_letters", 1),
        ("waiting_entries", 0),
        ("parked_entries", 0),
        ("behind_entries", 0),
        ("resting", 0),
        ("stopped", 0),
        ("failed", 0),
        ("gaps_total", 0),
    ] {
        assert_eq!(hub.metric(&format!("tidings_sink_{name}{{sink=\"one\"}}")), value, "{name}");
    }
    assert_eq!(hub.metric("tidings_attempts_dropped_total"), 0);
    // The one dead letter, and what is around its text.
    let undelivered = hub.metric("tidings_undelivered_bytes");
    assert!((3..1_000).contains(&undelivered), "{undelivered}");
    assert_eq!(hub.metric("tidings_undelivered_max_bytes"), 4 << 30);
}

#[test]
fn the_commands_say_what_the_listener_says() {
    let (receiver, refuses) = fickle();
    let hub = one(&receiver, "");
    let admin = hub.admin.unwrap().to_string();
    let file = hub.config().display().to_string();
    let folder = tempfile::TempDir::new().unwrap();
    let shown = Mutex::new(String::new());
    let command = |line: &str, code: i32| -> String {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[0] == "sink" {
            words.extend(["--config", &file, "--admin", &admin]);
        }
        let output = run_in(folder.path(), &words, None);
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{PROGRAM} {line}: {text}");
        shown.lock().unwrap().push_str(&text);
        text
    };
    let id = hub.publish(&[("topic", "a"), ("data", "1")]);
    receiver.wait_for(1);
    assert_eq!(command("sink list", 0), "one (webhook, configuration): running, 0 behind\n");
    assert!(command("sink show one", 0).contains("\"specification\": {"));
    assert!(command("sink test one", 0).starts_with("delivered in "));
    refuses.store(true, Ordering::SeqCst);
    assert!(command("sink test one", 1).contains("not like that"));
    publish(&hub, "b", "2");
    wait_for_dead_letters(&hub, "one", 1);
    wait_for(&hub, "/one/attempts?failed=true", |list| {
        list["attempts"].as_array().unwrap().len() == 3
    });
    assert_eq!(command("sink attempts one --failed", 0).lines().count(), 3);
    assert!(command("sink dead-letters one", 0).contains(" update b, tries: 3, 400"));
    refuses.store(false, Ordering::SeqCst);
    assert!(command("sink redrive one 7", 0).contains("1 numbers belong to no dead letter"));
    assert_eq!(command("sink redrive one --all", 0), "to be delivered again: 1; left: 0\n");
    assert_eq!(
        command("sink forget one 1", 0),
        "deleted: 0; left: 0\n1 numbers belong to no dead letter\n"
    );
    assert_eq!(command("sink dead-letters one", 0), "there are no dead letters\n");
    assert!(command(&format!("sink replay one --id {id}"), 0).starts_with("1 20"));
    wait_for(&hub, "/one/replays", |list| list["replays"][0]["state"] == json!("done"));
    assert!(command("sink replays one", 0).contains(" done: at "));
    assert_eq!(command("sink stop-replay one 1", 0), "stopped\n");
    assert!(command("sink resume one", 0).starts_with("one (webhook, configuration): running"));
    assert!(command("sink show none", 1).contains("No sink is called \"none\""));
    assert!(command("egress check http://127.0.0.1:9000/", 1).contains("add it to `allow`"));
    let allowed = command("egress check http://127.0.0.1:9000/ --allow 127.0.0.0/8", 0);
    assert_eq!(allowed, "127.0.0.1 is 127.0.0.1:9000: may be reached\n");
    assert!(!shown.lock().unwrap().contains("in-the-url"));
}

#[test]
fn a_replay_goes_on_after_a_kill() {
    let receiver = Receiver::start();
    let sink = webhook("one", &receiver.url("/"), "\"*\"", &format!("{QUICK}rate = 50\n"));
    let mut hub = TestHub::launch(Launch::toml(&format!("{ADMIN}{sink}")));
    for number in 0..100 {
        publish(&hub, "a", &number.to_string());
    }
    receiver.wait_for(100);
    // A replay ends where the sink has come to.
    wait_for(&hub, "/one", |one| one["behind"] == json!(0));
    ask(&hub, "POST", "/one/replays", &json!({ "from": 1 })).expect(201);
    receiver.wait_for(120);
    hub.kill9();
    let hub = hub.restart();
    let wanted = |again: &[crate::receiver::Received]| {
        let mut all: Vec<String> = again[100..].iter().map(|one| one.text()).collect();
        all.sort();
        all.dedup();
        all.len() == 100
    };
    receiver.wait_within(PATIENCE, |all| all.len() >= 200 && wanted(all));
    wait_for(&hub, "/one/replays", |list| list["replays"][0]["state"] == json!("done"));
}
