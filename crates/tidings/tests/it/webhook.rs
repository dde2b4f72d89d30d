//! Webhook sinks against endpoints that answer well, badly, late and never.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::encrypted::Authority;
use crate::http::PATIENCE;
use crate::hub::{Launch, TestHub};
use crate::receiver::{Manner, Received, Receiver, Reply};
use crate::sinks::{
    ADMIN, CACHE, Publisher, QUICK, ask, dead_letters, exactly, publish, resident, state,
    wait_for_dead_letters, wait_for_state, webhook,
};
use crate::tokens::{Role, bearer, now, token_final};

/// The hub's own id for an update that this publishes with more fields.
fn publish_and_get_cursor(hub: &TestHub, fields: &[(&str, &str)]) -> String {
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let reply = hub.post(&[(name.as_str(), value.as_str())], fields).expect(200);
    let receipt = reply.header("tidings-receipt").unwrap();
    let (_, cursor) = receipt.split_once("cursor=\"").unwrap();
    cursor.split('"').next().unwrap().to_owned()
}

#[test]
fn an_update_arrives_as_it_was_published() {
    let receiver = Receiver::start();
    let hub = TestHub::start(&webhook("cache", &receiver.url("/hook?a=b"), CACHE, QUICK));
    publish(&hub, "cms.other.1", "not for it");
    let mut ids = Vec::new();
    let large = "ä\u{1f600}\r\n\0x".repeat(20_000);
    let all = ["{\"title\": \"Tidings\"}", "", "two\nlines\n", large.as_str()];
    for (number, data) in all.iter().enumerate() {
        let topic = format!("cms.cache.node.{number}");
        let mut fields = vec![("topic", topic.as_str()), ("data", *data)];
        if number == 1 {
            // Neither makes a difference to who was configured by the operator.
            fields.extend([("id", "an-id-of-the-publisher"), ("private", "on")]);
        }
        ids.push(publish_and_get_cursor(&hub, &fields));
    }
    let received = receiver.wait_for(all.len());
    assert_eq!(received.len(), all.len());
    for (number, (request, data)) in received.iter().zip(&all).enumerate() {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hook?a=b"));
        assert!(request.body == data.as_bytes(), "update {number}: {} bytes", request.body.len());
        assert_eq!(request.header("webhook-id"), Some(ids[number].clone()));
        assert_eq!(request.header("tidings-topic"), Some(format!("cms.cache.node.{number}")));
        let sent: u64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
        assert!(now().abs_diff(sent) < 60, "{sent}");
        assert_eq!(request.header("host"), Some(receiver.address.to_string()));
        assert!(request.header("user-agent").unwrap().starts_with("tidings/"));
        assert_eq!(request.header("webhook-signature"), None, "nobody gave it a secret");
        assert_eq!(request.header("authorization"), None);
    }
    assert_eq!(receiver.connections(), 1, "one after the other, on one connection");
}

#[test]
fn configured_headers_and_logins_are_sent() {
    let receiver = Receiver::start();
    let login = "basic = { user = \"anna\", password = \"pass:word\" }\n";
    let basic = webhook("basic", &receiver.url("/basic"), "\"*\"", login);
    let more = "bearer = \"a-token\"\nheaders = { \"X-Site\" = \"one\", \"X-Other\" = \"two\" }\n";
    let more = webhook("bearer", &receiver.url("/bearer"), "\"*\"", more);
    let hub = TestHub::start(&(basic + &more));
    publish(&hub, "a", "x");
    let basic = receiver.wait_for_body("/basic", "x").remove(0);
    assert_eq!(basic.header("authorization").as_deref(), Some("Basic YW5uYTpwYXNzOndvcmQ="));
    let bearer = receiver.wait_for_body("/bearer", "x").remove(0);
    assert_eq!(bearer.header("authorization").as_deref(), Some("Bearer a-token"));
    assert_eq!(bearer.header("x-site").as_deref(), Some("one"));
    assert_eq!(bearer.header("x-other").as_deref(), Some("two"));
    assert!(!hub.log().contains("pass:word") && !hub.log().contains("a-token"), "{}", hub.log());
}

/// What a status does: how often an update is sent that is always, or four times, answered so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Success,
    TriedAgain,
    ThreeTries,
    Disabled,
}

const STATUSES: &[(u16, Means)] = &[
    (200, Means::Success),
    (201, Means::Success),
    (202, Means::Success),
    (204, Means::Success),
    (299, Means::Success),
    (300, Means::ThreeTries),
    (301, Means::ThreeTries),
    (302, Means::ThreeTries),
    (303, Means::ThreeTries),
    (304, Means::ThreeTries),
    (307, Means::ThreeTries),
    (308, Means::ThreeTries),
    (400, Means::ThreeTries),
    (401, Means::ThreeTries),
    (403, Means::ThreeTries),
    (404, Means::ThreeTries),
    (413, Means::ThreeTries),
    (422, Means::ThreeTries),
    (499, Means::ThreeTries),
    (408, Means::TriedAgain),
    (425, Means::TriedAgain),
    (429, Means::TriedAgain),
    (500, Means::TriedAgain),
    (502, Means::TriedAgain),
    (503, Means::TriedAgain),
    (504, Means::TriedAgain),
    (599, Means::TriedAgain),
    (410, Means::Disabled),
];

#[test]
fn each_status_means_what_the_page_says() {
    let receiver = Receiver::with(|request| {
        let status: u16 = request.target.trim_start_matches('/').parse().unwrap();
        let (_, means) = STATUSES.iter().find(|(known, _)| *known == status).unwrap();
        let is_first = request.body == b"first";
        match means {
            Means::TriedAgain if is_first && request.seen < 4 => Reply::status(status),
            Means::ThreeTries | Means::Disabled if is_first => Reply::status(status),
            Means::Success => Reply::status(status),
            _ => Reply::status(200),
        }
    });
    let sinks = STATUSES.iter().map(|(status, _)| {
        webhook(&format!("s{status}"), &receiver.url(&format!("/{status}")), "\"*\"", QUICK)
    });
    let hub = TestHub::start(&(ADMIN.to_owned() + &sinks.collect::<String>()));
    publish(&hub, "a", "first");
    publish(&hub, "a", "second");
    for (status, means) in STATUSES {
        let (path, name) = (format!("/{status}"), format!("s{status}"));
        let (firsts, letters) = match means {
            Means::Success => (1, 0),
            Means::TriedAgain => (5, 0),
            Means::ThreeTries => (3, 1),
            Means::Disabled => continue,
        };
        receiver.wait_for_body(&path, "second");
        let mut wanted = vec!["first"; firsts];
        wanted.push("second");
        assert_eq!(receiver.bodies_at(&path), wanted, "{status}");
        let found = wait_for_dead_letters(&hub, &name, letters);
        assert_eq!(found.len(), letters, "{status}: {found:?}");
        if let Some(letter) = found.first() {
            assert_eq!((&letter["status"], &letter["tries"]), (&json!(status), &json!(3)));
            assert_eq!(letter["topic"], json!("a"));
        }
        let ids: Vec<_> = receiver.at(&path).iter().map(|r| r.header("webhook-id")).collect();
        assert!(ids[..firsts].iter().all(|id| *id == ids[0]), "the same at each try: {ids:?}");
        assert_ne!(ids[firsts], ids[0]);
    }
    assert_eq!(receiver.bodies_at("/410"), ["first"]);
}

#[test]
fn gone_disables_and_redirects_are_not_followed() {
    let receiver = Receiver::with(|request| match request.target.as_str() {
        "/gone" => Reply::status(410),
        "/moved" if request.body == b"first" => {
            Reply::status(307).header("Location", "/elsewhere").body(b"go there")
        }
        _ => Reply::status(200),
    });
    let gone = webhook("gone", &receiver.url("/gone"), "\"*\"", QUICK);
    let moved = webhook("moved", &receiver.url("/moved"), "\"*\"", QUICK);
    let hub = TestHub::start(&format!("{ADMIN}{gone}{moved}"));
    publish(&hub, "a", "first");
    publish(&hub, "a", "second");
    receiver.wait_for_body("/moved", "second");
    wait_for_state(&hub, "gone", "disabled");
    hub.wait_for_log("gone");
    // Saved within 100 ms; killed before that, it would ask once more.
    std::thread::sleep(Duration::from_millis(500));
    // Also by whoever starts later.
    let hub = hub.restart();
    assert_eq!(state(&hub, "gone"), "disabled");
    publish(&hub, "a", "third");
    receiver.wait_for_body("/moved", "third");
    assert_eq!(receiver.bodies_at("/gone"), ["first"]);
    assert!(receiver.at("/elsewhere").is_empty(), "a redirect was followed");
}

/// An HTTP date so many seconds from now, in each of the forms that clients must understand.
fn dates(seconds: u64) -> (SystemTime, [String; 3]) {
    let at = now() + seconds;
    let (days, rest) = (at / 86_400, at % 86_400);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    // Days since 1970 to a date of the Gregorian calendar.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let names =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = names[month as usize - 1];
    let weekdays = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let weekday = weekdays[(days % 7) as usize];
    let short = &weekday[..3];
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    let forms = [
        format!("{short}, {day:02} {month} {year} {time} GMT"),
        format!("{weekday}, {day:02}-{month}-{:02} {time} GMT", year % 100),
        format!("{short} {month} {day:>2} {time} {year}"),
    ];
    (UNIX_EPOCH + Duration::from_secs(at), forms)
}

#[test]
fn dates_of_the_tests_are_those_of_the_calendar() {
    let output = std::process::Command::new("date")
        .args(["-u", "+%a, %d %b %Y %H:%M"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, forms) = dates(0);
    let (_, later) = dates(60);
    let found = forms[0].starts_with(said.trim()) || later[0].starts_with(said.trim());
    assert!(found, "{said} {forms:?}");
}

#[test]
fn retry_after_in_seconds_and_as_a_date_is_obeyed() {
    let asked: Mutex<HashMap<String, (String, SystemTime)>> = Mutex::default();
    let asked = std::sync::Arc::new(asked);
    let kept = std::sync::Arc::clone(&asked);
    let receiver = Receiver::with(move |request| {
        if request.seen > 0 {
            return Reply::status(200);
        }
        let (at, forms) = dates(3);
        let (status, value, at) = match request.target.as_str() {
            "/seconds" => (429, "2".to_owned(), request.wall + Duration::from_secs(2)),
            "/of-500" => (500, "2".to_owned(), request.wall + Duration::from_secs(2)),
            "/imf" => (503, forms[0].clone(), at),
            "/rfc850" => (503, forms[1].clone(), at),
            _ => (503, forms[2].clone(), at),
        };
        kept.lock().unwrap().insert(request.target.clone(), (value.clone(), at));
        Reply::status(status).header("Retry-After", &value)
    });
    let paths = ["seconds", "of-500", "imf", "rfc850", "asctime"];
    let sinks: String = paths
        .iter()
        .map(|name| webhook(name, &receiver.url(&format!("/{name}")), "\"*\"", QUICK))
        .collect();
    let hub = TestHub::start(&sinks);
    publish(&hub, "a", "x");
    for name in paths {
        let path = format!("/{name}");
        let tries = receiver.wait_for_body(&path, "x");
        assert_eq!(tries.len(), 2, "{name}");
        let (value, at) = asked.lock().unwrap()[&path].clone();
        let early = at.duration_since(tries[1].wall).unwrap_or_default();
        // What was asked for counts from the answer, which left a moment after the request.
        assert!(early.is_zero(), "{name}: {early:?} before {value:?} was over");
        let late = tries[1].wall.duration_since(at).unwrap();
        assert!(late < Duration::from_millis(500), "{name}: {late:?} after {value:?}");
    }
}

#[test]
fn an_endpoint_that_asks_for_a_pause_gets_it_for_all_keys() {
    let receiver = Receiver::with(|request| match request.number {
        0 => Reply::status(429).header("Retry-After", "2"),
        _ => Reply::status(200),
    });
    let more = format!("key = \"topic\"\n{QUICK}");
    let hub = TestHub::start(&webhook("all", &receiver.url("/"), "\"*\"", &more));
    publish(&hub, "a", "first");
    let refused = receiver.wait_for(1)[0].at;
    publish(&hub, "b", "of another key");
    let received = receiver.wait_for(3);
    for request in &received[1..] {
        assert!(request.at - refused >= Duration::from_secs(2), "{:?}", request.at - refused);
    }
}

#[test]
fn a_wait_beyond_all_patience_is_a_dead_letter_at_once() {
    let receiver = Receiver::with(|request| match request.body.as_slice() {
        b"first" => Reply::status(500).header("Retry-After", "31536000"),
        _ => Reply::status(200),
    });
    let sink = webhook("patient", &receiver.url("/"), "\"*\"", QUICK);
    let hub = TestHub::start(&format!("{ADMIN}{sink}"));
    publish(&hub, "a", "first");
    publish(&hub, "a", "second");
    receiver.wait_for_body("/", "second");
    assert_eq!(receiver.bodies(), ["first", "second"]);
    assert_eq!(wait_for_dead_letters(&hub, "patient", 1).len(), 1);
}

#[test]
fn hostile_answers_cost_little_and_end_in_time() {
    // Whether the first try is a failure for certain.
    let manners = [
        ("/dribbled-head", Manner::DribbleHead(1), true),
        ("/dribbled-body", Manner::DribbleBody(1), false),
        ("/endless-head", Manner::EndlessHead, true),
        ("/endless-interim", Manner::EndlessInterim, true),
        ("/endless-body", Manner::EndlessBody, false),
        ("/cut-head", Manner::CutHead, true),
        ("/cut-body", Manner::CutBody, false),
        ("/garbage", Manner::Garbage, true),
        ("/closed", Manner::Close, true),
        ("/hanging", Manner::Hang, true),
    ];
    let receiver = Receiver::with(move |request| {
        let path = request.target.rsplit_once('-').unwrap().0;
        match manners.iter().find(|(name, ..)| *name == path) {
            Some((_, manner, _)) if request.seen == 0 && request.body == b"first" => {
                Reply::manner(*manner)
            }
            _ => Reply::status(200),
        }
    });
    let copies = 12;
    let more = format!("timeout = \"2s\"\n{QUICK}");
    let mut sinks = String::new();
    for (path, ..) in manners {
        for copy in 0..copies {
            let name = format!("{}-{copy}", &path[1..]);
            sinks.push_str(&webhook(
                &name,
                &receiver.url(&format!("{path}-{copy}")),
                "\"*\"",
                &more,
            ));
        }
    }
    let hub = TestHub::start(&sinks);
    let before = resident(hub.pid());
    let begun = Instant::now();
    publish(&hub, "a", "first");
    publish(&hub, "a", "second");
    let watched = std::thread::scope(|scope| {
        let pid = hub.pid();
        let watch = scope.spawn(move || {
            let mut most = 0;
            while begun.elapsed() < Duration::from_secs(4) {
                most = resident(pid).max(most);
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        });
        for (path, _, is_failure) in manners {
            for copy in 0..copies {
                let path = format!("{path}-{copy}");
                receiver.wait_for_body(&path, "second");
                let bodies = receiver.bodies_at(&path);
                let firsts = bodies.iter().filter(|body| *body == "first").count();
                let allowed = if is_failure { 2..=2 } else { 1..=2 };
                assert!(allowed.contains(&firsts), "{path}: {bodies:?}");
                assert_eq!(bodies.len(), firsts + 1, "{path}: {bodies:?}");
            }
        }
        watch.join().unwrap()
    });
    let count = manners.len() * copies;
    // 64 KiB for each, and as much for its connection and for what a busy program needs anyway.
    let allowed = (count as u64) * 128 + 24 * 1024;
    let grown = watched.saturating_sub(before);
    assert!(grown < allowed, "{grown} KiB for {count} hostile answers");
}

#[test]
fn bad_hosts_names_and_certificates_are_retried_and_named() {
    let folder = TempDir::new().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca_file = folder.path().join("root.pem");
    std::fs::write(&ca_file, authority.root()).unwrap();
    let serve = |tls| Receiver::with_tls(tls, |_| Reply::status(200));
    let names = ["127.0.0.1", "localhost"];
    let (good, other_name, expired, unknown) = (
        serve(authority.server(&names)),
        serve(authority.server(&["other.example"])),
        serve(authority.server_valid(&names, (-10, -5))),
        serve(stranger.server(&names)),
    );
    let mut nobody = Receiver::start();
    nobody.close();
    let urls = [
        ("good", good.url("/"), ""),
        ("other-name", other_name.url("/"), "certificate"),
        ("expired", expired.url("/"), "certificate"),
        ("unknown", unknown.url("/"), "certificate"),
        ("nobody", nobody.url("/"), "refused"),
        ("no-name", "https://no-such-host.invalid/".to_owned(), "no-such-host.invalid"),
    ];
    let retry = "retry = { first = \"50ms\", max = \"200ms\", give_up_after = \"2s\" }\n";
    let more = format!("ca_file = {ca_file:?}\n{retry}");
    let sinks: String =
        urls.iter().map(|(name, url, _)| webhook(name, url, "\"*\"", &more)).collect();
    let hub = TestHub::start(&format!("{ADMIN}{sinks}"));
    publish(&hub, "a", "x");
    good.wait_for(1);
    for (name, _, reason) in &urls[1..] {
        let letter = wait_for_dead_letters(&hub, name, 1).remove(0);
        let said = letter["reason"].as_str().unwrap().to_lowercase();
        assert!(said.contains(reason), "{name}: {said}");
        // A name that nobody knows may take longer to be looked up than there is patience.
        if *name != "no-name" {
            assert!(letter["tries"].as_u64().unwrap() >= 2, "{name}: {letter}");
            assert_eq!(letter["fault"], json!("unreachable"), "{name}");
        }
    }
    for receiver in [other_name, expired, unknown] {
        assert_eq!(receiver.count(), 0, "nothing is sent to who is not trusted");
    }
    assert!(dead_letters(&hub, "good").is_empty());
}

#[test]
fn an_endpoint_that_comes_back_gets_what_it_missed() {
    let mut receiver = Receiver::start();
    receiver.close();
    let hub = TestHub::start(&webhook("away", &receiver.url("/"), "\"*\"", QUICK));
    let all: Vec<String> = (0..300).map(|number| format!("update {number}")).collect();
    let mut publisher = Publisher::new(hub.address);
    for data in &all {
        publisher.publish("a", data);
    }
    // Without a word to the hub, and over its restart.
    let hub = hub.restart();
    receiver.open();
    receiver.wait_for_body("/", "update 299");
    assert_eq!(receiver.bodies(), all);
    drop(hub);
}

#[test]
fn a_new_sink_begins_now_and_goes_on_where_it_was() {
    let receiver = Receiver::start();
    let hub = TestHub::start("");
    publish(&hub, "a", "before it was there");
    let with_sink = Launch::toml(&webhook("new", &receiver.url("/"), "\"*\"", QUICK));
    let hub = hub.restart_with(with_sink.clone());
    publish(&hub, "a", "first");
    receiver.wait_for_body("/", "first");
    // In time for the position to be saved, so that nothing is repeated.
    std::thread::sleep(Duration::from_millis(500));
    let hub = hub.restart_with(Launch::default());
    publish(&hub, "a", "while it was not configured");
    let hub = hub.restart_with(with_sink);
    publish(&hub, "a", "last");
    receiver.wait_for_body("/", "last");
    assert_eq!(receiver.bodies(), ["first", "while it was not configured", "last"]);
    drop(hub);
}

#[test]
fn an_orderly_end_repeats_nothing() {
    let receiver = Receiver::with(|_| Reply::status(200).after(Duration::from_millis(5)));
    let mut hub = TestHub::start(&webhook("orderly", &receiver.url("/"), "\"*\"", QUICK));
    let mut all = Vec::new();
    for round in 0..4 {
        let mut publisher = Publisher::new(hub.address);
        for number in 0..50 {
            let data = format!("{round} {number}");
            assert!(publisher.publish("a", &data));
            all.push(data);
        }
        hub.signal("TERM");
        assert_eq!(hub.wait_for_exit(Duration::from_secs(60)), 0, "{}", hub.log());
        hub = hub.restart();
    }
    receiver.wait_for_body("/", "3 49");
    assert_eq!(receiver.bodies(), all);
}

#[test]
fn an_update_that_is_too_large_for_the_endpoint_is_a_dead_letter_and_can_be_redriven() {
    let receiver = Receiver::with(|request| {
        let status = if request.body.len() > 100_000 { 413 } else { 200 };
        Reply::status(status)
    });
    let sink = webhook("small", &receiver.url("/"), "\"*\"", QUICK);
    let hub = TestHub::start(&format!("{ADMIN}{sink}"));
    let large = "x".repeat(200_000);
    publish(&hub, "a", &large);
    publish(&hub, "a", "small");
    receiver.wait_for_body("/", "small");
    let letter = wait_for_dead_letters(&hub, "small", 1).remove(0);
    assert_eq!((&letter["status"], &letter["kind"]), (&json!(413), &json!("update")));
    // It is a copy: also a restart leaves it there.
    let hub = hub.restart();
    assert_eq!(dead_letters(&hub, "small").len(), 1);
    receiver.behave(|_| Reply::status(200));
    let all = json!({ "all": true });
    ask(&hub, "POST", "/small/dead-letters/redrive", &all).expect(200);
    receiver.wait_for_body("/", &large);
    let deadline = Instant::now() + PATIENCE;
    while !dead_letters(&hub, "small").is_empty() {
        assert!(Instant::now() < deadline, "redriven and still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_space_of_dead_letters_makes_the_sink_wait_and_alarm() {
    // A sink may have 256 MiB of them.
    let receiver = Receiver::with(|request| {
        Reply::status(if request.body.starts_with(b"large") { 400 } else { 200 })
    });
    receiver.keep_only(16);
    let retry = "retry = { first = \"10ms\", max = \"10ms\" }\n";
    let sink = webhook("full", &receiver.url("/"), "\"*\"", retry);
    let hub = TestHub::start(&format!("{ADMIN}{sink}"));
    let mut publisher = Publisher::new(hub.address);
    let padding = "x".repeat(1_000_000);
    for number in 0..280 {
        assert!(publisher.publish("a", &format!("large {number} {padding}")));
    }
    publisher.publish("a", "small");
    let patience = Duration::from_secs(120);
    let deadline = Instant::now() + patience;
    while state(&hub, "full") != "waiting" {
        assert!(Instant::now() < deadline, "{} dead letters", dead_letters(&hub, "full").len());
        std::thread::sleep(Duration::from_millis(200));
    }
    hub.wait_for_log("dead letters");
    let kept = dead_letters(&hub, "full").len();
    assert!((240..280).contains(&kept), "{kept}");
    assert!(!receiver.bodies().iter().any(|body| body == "small"), "it went past what is owed");
    // Room is made, and it goes on.
    receiver.behave(|_| Reply::status(200));
    ask(&hub, "POST", "/full/dead-letters/redrive", &json!({ "all": true })).expect(200);
    let numbers = |requests: &[Received]| -> Vec<String> {
        let good = requests.iter().filter(|request| request.succeeded());
        let mut all: Vec<String> =
            good.map(|request| request.text().chars().take(9).collect()).collect();
        all.sort();
        all.dedup();
        all
    };
    receiver.wait_within(patience, |requests| numbers(requests).len() == 281);
}

/// The most arrivals in any second that slides over them, and how many there are.
fn busiest_second(received: &[Received]) -> usize {
    let times: Vec<Instant> = received.iter().map(|request| request.at).collect();
    let within = |first: usize| {
        times[first..].iter().take_while(|at| **at - times[first] < Duration::from_secs(1)).count()
    };
    (0..times.len()).map(within).max().unwrap_or(0)
}

#[test]
fn a_rate_holds_over_restarts_and_outages() {
    const RATE: usize = 100;
    let mut receiver = Receiver::start();
    receiver.close();
    let more = format!("key = \"topic\"\nrate = {RATE}\n{QUICK}");
    let mut hub = TestHub::start(&webhook("slow", &receiver.url("/"), "\"*\"", &more));
    let mut publisher = Publisher::new(hub.address);
    for number in 0..600 {
        publisher.publish(&format!("topic {}", number % 50), &format!("update {number}"));
    }
    // An outage lets nothing accumulate.
    std::thread::sleep(Duration::from_secs(2));
    receiver.open();
    for count in [150, 350] {
        receiver.wait_for(count);
        hub.kill9();
        hub = hub.restart();
    }
    let distinct = |requests: &[Received]| {
        let mut bodies: Vec<&[u8]> = requests.iter().map(|one| one.body.as_slice()).collect();
        bodies.sort_unstable();
        bodies.dedup();
        bodies.len()
    };
    let received = receiver.wait_within(Duration::from_secs(60), |all| distinct(all) == 600);
    let busiest = busiest_second(&received);
    assert!(busiest <= RATE * 105 / 100, "{busiest} in one second");
    // And it is used: at least nine tenths of it between the first restart and the end.
    let second = received.iter().skip(380).map(|one| one.at).collect::<Vec<_>>();
    let took = *second.last().unwrap() - second[0];
    let least = Duration::from_secs_f64(second.len() as f64 / RATE as f64 * 1.1);
    assert!(took < least + Duration::from_secs(1), "{} in {took:?}", second.len());
    drop(hub);
}

/// The latency below which 99 of 100 updates reached each of these paths.
fn p99(receiver: &Receiver, sent: &HashMap<String, Instant>, paths: &[String]) -> Duration {
    let mut all: Vec<Duration> = Vec::new();
    for path in paths {
        for request in receiver.at(path) {
            if let Some(sent) = sent.get(&request.text()) {
                all.push(request.at - *sent);
            }
        }
    }
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

#[test]
fn other_endpoints_do_not_feel_those_that_hang_or_fail() {
    let receiver = Receiver::with(|request| match request.target.get(..5) {
        Some("/hang") => Reply::manner(Manner::Hang),
        Some("/fail") => Reply::status(500),
        _ => Reply::status(200),
    });
    let names = |kind: &str, count: usize| -> Vec<String> {
        (0..count).map(|number| format!("/{kind}{number}")).collect()
    };
    let (good, hanging, failing) = (names("good", 16), names("hang", 8), names("fail", 8));
    let sinks = |paths: &[String]| -> String {
        let one = |path: &String| webhook(&path[1..], &receiver.url(path), "\"*\"", QUICK);
        paths.iter().map(one).collect()
    };
    let run = |hub: &TestHub, round: &str| {
        let mut publisher = Publisher::new(hub.address);
        let mut sent = HashMap::new();
        for number in 0..200 {
            let data = format!("{round} {number}");
            sent.insert(data.clone(), Instant::now());
            publisher.publish("a", &data);
            std::thread::sleep(Duration::from_millis(5));
        }
        for path in &good {
            receiver.wait_for_body(path, &format!("{round} 199"));
        }
        p99(&receiver, &sent, &good)
    };
    let hub = TestHub::start(&sinks(&good));
    let alone = run(&hub, "alone");
    let all = [sinks(&good), sinks(&hanging), sinks(&failing)].concat();
    let hub = hub.restart_with(Launch::toml(&all));
    let beside = run(&hub, "beside");
    eprintln!("p99 alone {alone:?}, beside those that hang and fail {beside:?}");
    // The ratio is for the benchmark, on a quiet machine. Who had to wait for one that hangs would
    // wait for its timeout of seconds.
    assert!(beside <= 2 * alone + Duration::from_secs(1), "{beside:?} instead of {alone:?}");
}

#[test]
fn a_key_that_fails_holds_up_no_other_and_keeps_its_order() {
    let receiver = Receiver::with(|request| match request.header("tidings-topic").as_deref() {
        Some("poison") => Reply::status(500),
        _ => Reply::status(200),
    });
    let more = format!("key = \"topic\"\n{QUICK}");
    let mut hub = TestHub::start(&webhook("keyed", &receiver.url("/"), "\"*\"", &more));
    // More than any window of the hub holds.
    let (count, keys) = (6_000, 10);
    let mut wanted: HashMap<String, Vec<String>> = HashMap::new();
    let mut publisher = Publisher::new(hub.address);
    for number in 0..count {
        let topic =
            if number % keys == 0 { "poison".to_owned() } else { format!("t{}", number % keys) };
        let data = format!("{topic} {number}");
        assert!(publisher.publish(&topic, &data));
        wanted.entry(topic).or_default().push(data);
    }
    let healthy = count - count / keys;
    let good = |all: &[Received]| all.iter().filter(|one| one.succeeded()).count();
    receiver.wait_within(Duration::from_secs(60), |all| good(all) >= healthy);
    let poisoned = receiver.received().into_iter().filter(|one| one.text().starts_with("poison"));
    let mut bodies: Vec<String> = poisoned.map(|one| one.text()).collect();
    bodies.dedup();
    assert_eq!(bodies, wanted["poison"][..1], "the next ones wait behind the first");
    // What waits is kept over the death of the hub.
    hub.kill9();
    let hub = hub.restart();
    receiver.behave(|_| Reply::status(200));
    let last = wanted["poison"].last().unwrap().clone();
    receiver.wait_for_body("/", &last);
    for (topic, wanted) in &wanted {
        assert_eq!(first_successes(&receiver.received(), topic), *wanted, "{topic}");
    }
    drop(hub);
}

/// The bodies of a topic, in the order in which each was first answered with success.
fn first_successes(received: &[Received], topic: &str) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    received
        .iter()
        .filter(|one| one.succeeded() && one.header("tidings-topic").as_deref() == Some(topic))
        .map(Received::text)
        .filter(|body| seen.insert(body.clone()))
        .collect()
}

#[test]
fn history_that_was_let_go_under_a_sink_is_told_as_a_gap() {
    let mut receiver = Receiver::start();
    receiver.close();
    let sink = webhook("gap", &receiver.url("/"), "\"*\"", QUICK);
    // In memory, 64 MiB more than that are kept for sinks.
    let history = "[history]\ndurability = \"memory\"\nkeep = { size = \"4 MiB\" }\n";
    receiver.keep_only(32);
    let hub = TestHub::start(&format!("{ADMIN}{history}{sink}"));
    let mut publisher = Publisher::new(hub.address);
    let padding = "x".repeat(900_000);
    for number in 0..200 {
        assert!(publisher.publish("a", &format!("update {number} {padding}")));
    }
    publisher.publish("a", "last");
    receiver.open();
    receiver.wait_for_body("/", "last");
    let letters: Vec<Value> = wait_for_dead_letters(&hub, "gap", 1);
    assert_eq!(letters[0]["kind"], json!("gap"), "{letters:?}");
    hub.wait_for_log("gap");
    // What is neither delivered nor in the gap would be lost silently.
    let numbers: Vec<usize> =
        receiver.bodies().iter().filter_map(|body| body.split(' ').nth(1)?.parse().ok()).collect();
    let mut delivered = numbers.clone();
    delivered.dedup();
    let missing = (0..200).filter(|number| !numbers.contains(number)).count();
    assert!(missing > 0, "nothing was let go");
    assert_eq!(delivered.len() + missing, 200);
    assert!(delivered.is_sorted(), "{delivered:?}");
}

#[test]
fn topics_are_picked_in_every_way() {
    let receiver = Receiver::start();
    let ways = [
        ("all", "\"*\"".to_owned(), 5),
        ("exact", exactly("https://a.example/books/1"), 1),
        ("url", "{ url_pattern = \"https://a.example/books/:id\" }".to_owned(), 2),
        ("template", "{ uri_template = \"https://a.example/{kind}/1\" }".to_owned(), 2),
        ("mqtt", "{ mqtt = \"house/+/state\" }".to_owned(), 1),
        ("nats", CACHE.to_owned(), 1),
    ];
    let sinks: String = ways
        .iter()
        .map(|(name, topics, _)| webhook(name, &receiver.url(&format!("/{name}")), topics, QUICK))
        .collect();
    let hub = TestHub::start(&sinks);
    let topics = [
        "https://a.example/books/1",
        "https://a.example/books/2",
        "https://a.example/reviews/1",
        "house/kitchen/state",
        "cms.cache.1",
    ];
    for topic in topics {
        publish(&hub, topic, topic);
    }
    let total = ways.iter().map(|(_, _, count)| count).sum::<usize>();
    receiver.wait_for(total);
    publish(&hub, "cms.cache.end", "end");
    receiver.wait_for_body("/all", "end");
    receiver.wait_for_body("/nats", "end");
    for (name, _, count) in ways {
        let mut found = receiver.bodies_at(&format!("/{name}"));
        found.retain(|body| body != "end");
        assert_eq!(found.len(), count, "{name}: {found:?}");
    }
}
