//! `then`: what is published after a delivery, and only then; first the cache, then the browsers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hub::TestHub;
use crate::receiver::{Receiver, Reply};
use crate::sinks::{
    ADMIN, CACHE, QUICK, ask, dead_letters, history_of, publish, wait_for_dead_letters, webhook,
};

const THEN: &str = "then = { publish = { replace = [\"cms.cache\", \"relayed.cache\"] } }\n";

/// A hub whose sink publishes what follows, and what stands before the sink.
fn start(receiver: &Receiver, more: &str) -> TestHub {
    let more = format!("{QUICK}{THEN}{more}");
    TestHub::start(&format!("{ADMIN}{}", webhook("cache", &receiver.url("/"), CACHE, &more)))
}

#[test]
fn browsers_are_told_after_the_endpoint_has_answered() {
    let slow = Duration::from_millis(400);
    let receiver = Receiver::with(move |_| Reply::status(200).after(slow));
    let hub = start(&receiver, "");
    let mut browser = hub.subscribe("match_nats=relayed.cache.%3E");
    for (number, data) in ["one", "two", "three"].into_iter().enumerate() {
        hub.publish(&[("topic", "cms.cache.page"), ("data", data), ("type", "changed")]);
        let event = browser.event();
        let told = Instant::now();
        assert_eq!((event.data.as_str(), event.event.as_deref()), (data, Some("changed")));
        let (_, answered) = receiver.received()[number].answered.expect("an answer before it");
        assert!(told >= answered);
    }
    assert_eq!(history_of(&hub, "relayed.cache.page"), ["one", "two", "three"]);
    assert_eq!(receiver.bodies(), ["one", "two", "three"], "a follow-up is not for the sink");
}

#[test]
fn what_is_not_delivered_is_not_followed_up_until_it_is_redriven() {
    let receiver =
        Receiver::with(|request| Reply::status(if request.body == b"bad" { 400 } else { 200 }));
    let hub = start(&receiver, "");
    publish(&hub, "cms.cache.1", "bad");
    publish(&hub, "cms.cache.1", "good");
    receiver.wait_for_body("/", "good");
    wait_for_dead_letters(&hub, "cache", 1);
    let mut browser = hub.subscribe("match_nats=relayed.cache.%3E&last_event_id=earliest");
    assert_eq!(browser.event().data, "good");
    receiver.behave(|_| Reply::status(200));
    ask(&hub, "POST", "/cache/dead-letters/redrive", &json!({ "all": true })).expect(200);
    assert_eq!(browser.event().data, "bad");
    assert_eq!(history_of(&hub, "relayed.cache.>"), ["good", "bad"]);
}

#[test]
fn private_updates_have_private_follow_ups() {
    let receiver = Receiver::start();
    let hub = start(&receiver, "");
    let subscriber = crate::tokens::token_final(crate::tokens::Role::Subscribe, &["other"]);
    let mut stranger = hub.subscribe_with(&subscriber, "match_nats=relayed.cache.%3E", &[]);
    let mut owner = hub.subscribe("match_nats=relayed.cache.%3E");
    let fields = [("topic", "cms.cache.1"), ("data", "secret"), ("private", "on")];
    hub.publish(&fields);
    assert_eq!(owner.event().data, "secret");
    publish(&hub, "cms.cache.1", "for all");
    assert_eq!(stranger.event().data, "for all");
}

#[test]
fn only_the_leading_prefix_of_whole_topics_is_replaced() {
    let receiver = Receiver::start();
    let toml = format!(
        "[[sink]]\nkind = \"webhook\"\nname = \"a\"\nurl = \"{}\"\ntopics = [\"*\"]\n\
         allow = [\"127.0.0.0/8\"]\nthen = {{ publish = {{ replace = [\"a\", \"z\"] }} }}\n",
        receiver.url("/")
    );
    let hub = TestHub::start(&toml);
    publish(&hub, "a.data.a", "1");
    publish(&hub, "other.a", "not replaced");
    receiver.wait_for_body("/", "not replaced");
    let mut stream = hub.subscribe("match=z.data.a&last_event_id=earliest");
    assert_eq!(stream.event().data, "1");
}

#[test]
fn a_follow_up_that_the_sink_would_take_makes_no_loop() {
    let receiver = Receiver::start();
    let more = format!("{QUICK}then = {{ publish = {{ replace = [\"a\", \"a.r\"] }} }}\n");
    let sink = webhook("loop", &receiver.url("/"), "{ nats = \"a.>\" }", &more);
    let hub = TestHub::start(&sink);
    publish(&hub, "a.1", "one");
    publish(&hub, "a.2", "two");
    let mut stream = hub.subscribe("match_nats=a.r.%3E&last_event_id=earliest");
    assert_eq!(stream.data(2), ["one", "two"]);
    publish(&hub, "a.3", "three");
    assert_eq!(stream.event().data, "three");
    assert_eq!(receiver.bodies(), ["one", "two", "three"]);
    assert_eq!(history_of(&hub, "a.r.>"), ["one", "two", "three"]);
}

#[test]
fn two_sinks_that_feed_each_other_end() {
    let receiver = Receiver::start();
    let one = |name: &str, from: &str, to: &str| {
        let more =
            format!("{QUICK}then = {{ publish = {{ replace = [\"{from}\", \"{to}\"] }} }}\n");
        let topics = format!("{{ nats = \"{from}.>\" }}");
        webhook(name, &receiver.url(&format!("/{name}")), &topics, &more)
    };
    let hub =
        TestHub::start(&format!("{ADMIN}{}{}", one("there", "a", "b"), one("back", "b", "a")));
    publish(&hub, "a.1", "round and round");
    // The ninth hop is a dead letter of the sink that would have made it.
    let deadline = Instant::now() + crate::http::PATIENCE;
    let letters: Vec<Value> = loop {
        let all = [dead_letters(&hub, "there"), dead_letters(&hub, "back")].concat();
        if !all.is_empty() {
            break all;
        }
        assert!(Instant::now() < deadline, "no end after {}", receiver.count());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((letters.len(), &letters[0]["kind"]), (1, &json!("follow-up")), "{letters:?}");
    assert_eq!(receiver.count(), 9, "what was published, and eight hops");
}

#[test]
fn a_follow_up_is_made_once_however_long_the_hub_was_down() {
    // Killed between the answer and the saved place, again and again.
    let receiver = Receiver::start();
    let mut hub = start(&receiver, "");
    for round in 0..8 {
        let data = format!("round {round}");
        publish(&hub, "cms.cache.1", &data);
        receiver.wait_for_body("/", &data);
        std::thread::sleep(Duration::from_millis(15 * round));
        hub.kill9();
        hub = hub.restart();
    }
    publish(&hub, "cms.cache.1", "end");
    let mut browser = hub.subscribe("match_nats=relayed.cache.%3E&last_event_id=earliest");
    let mut wanted: Vec<String> = (0..8).map(|round| format!("round {round}")).collect();
    wanted.push("end".to_owned());
    assert_eq!(browser.data(wanted.len()), wanted);
    assert_eq!(history_of(&hub, "relayed.cache.>"), wanted);
}
