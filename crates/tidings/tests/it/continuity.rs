//! Continuity in band: what a stream says about itself to clients that ask for it, and a browser's
//! own `EventSource` behind a network that breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::http::{Connection, Event, EventStream, encode, form, request};
use crate::hub::{HUB, Launch, TestHub};
use crate::mercure::{MEMORY, expect_draft, expect_problem, refused_get};
use crate::storage_faults::{SMALL_SEGMENTS, damage};
use crate::tokens::{Role, bearer, token_draft, token_final};

const TOPIC: &str = "https://continuity.example/1";

/// Each generation's token and parameter.
fn generations() -> [(String, &'static str); 2] {
    [
        (token_final(Role::Subscribe, &["*"]), "match=*"),
        (token_draft(Role::Subscribe, &["*"]), "topic=*"),
    ]
}

/// The next event, which has to be the one about the stream itself: its id and data.
#[track_caller]
fn told(stream: &mut EventStream) -> (String, Value) {
    let Event { id, event, data, retry } = stream.event();
    assert_eq!((event.as_deref(), retry), (Some("tidings"), None), "{data}");
    let data: Value = serde_json::from_str(&data).unwrap();
    let mut members: Vec<&String> = data.as_object().unwrap().keys().collect();
    members.sort_unstable();
    assert_eq!(members, ["after", "continuity", "epoch"]);
    (id.unwrap(), data)
}

/// A stream that tells, and what it tells first.
#[track_caller]
fn open(hub: &TestHub, token: &str, query: &str) -> (EventStream, String, Value) {
    let mut stream = hub.subscribe_with(token, &format!("{query}&continuity=1"), &[]);
    let (id, data) = told(&mut stream);
    (stream, id, data)
}

#[test]
fn a_stream_says_whether_anything_is_missing() {
    let hub = TestHub::start(MEMORY);
    let mut epochs = Vec::new();
    for (token, query) in generations() {
        let (mut live, began, data) = open(&hub, &token, query);
        assert_eq!((&data["continuity"], &data["after"]), (&json!("live"), &json!(began)));
        epochs.push(data["epoch"].clone());
        let first = hub.publish(&[("topic", TOPIC), ("data", "first")]);
        let second = hub.publish(&[("topic", TOPIC), ("data", "second"), ("id", "own \"id\"")]);
        assert_eq!(live.data(2), ["first", "second"]);

        // From the id of the first event on, nothing is lost or repeated.
        for (cursor, expected) in
            [(&began, vec!["first", "second"]), (&first, vec!["second"]), (&second, vec![])]
        {
            let query = format!("{query}&last_event_id={}", encode(cursor));
            let (mut stream, id, data) = open(&hub, &token, &query);
            assert_eq!(data["continuity"], "resumed", "{cursor}: {data}");
            assert_eq!(data["after"], json!(cursor), "{cursor}");
            hub.publish(&[("topic", TOPIC), ("data", "end")]);
            let mut got = Vec::new();
            while got.last().is_none_or(|data| data != "end") {
                got.push(stream.event().data);
            }
            got.pop();
            got.retain(|data| data != "end");
            assert_eq!(got, expected, "{cursor}");
            let mut headers = hub.subscribe_with(&token, &query, &[("Last-Event-ID", &id)]);
            let next = headers.event().data;
            assert_eq!(&next, expected.first().unwrap_or(&"end"), "behind the opening's id");
        }

        let (_, _, data) = open(&hub, &token, &format!("{query}&last_event_id=earliest"));
        assert_eq!((&data["continuity"], &data["after"]), (&json!("resumed"), &json!("earliest")));
        let (_, id, data) = open(&hub, &token, &format!("{query}&last_event_id=urn:nobodys"));
        assert_eq!((&data["continuity"], &data["after"]), (&json!("reset"), &Value::Null));
        assert!(id.starts_with("urn:uuid:"), "{id}");
        epochs.push(data["epoch"].clone());
        // So that the other generation finds its own id first.
        if query.starts_with("match") {
            break;
        }
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "one history has one name: {epochs:?}");
    // The history in memory ends with the process.
    let hub = hub.restart();
    let (token, query) = &generations()[1];
    let (mut stream, began, data) = open(&hub, token, query);
    assert_eq!(data["continuity"], "live");
    assert_ne!(data["epoch"], epochs[0]);
    hub.publish(&[("topic", TOPIC), ("data", "in 0.x")]);
    let event = stream.event();
    assert_eq!(event.data, "in 0.x");
    let after = format!("{query}&last_event_id={}", encode(&began));
    let (mut stream, _, data) = open(&hub, token, &after);
    assert_eq!((&data["continuity"], &data["after"]), (&json!("resumed"), &json!(began)));
    assert_eq!(stream.event().data, "in 0.x");
    let (_, _, data) = open(&hub, token, &format!("{query}&last_event_id=urn:nobodys"));
    assert_eq!((&data["continuity"], &data["after"]), (&json!("reset"), &Value::Null));
}

#[test]
fn a_cursor_of_an_ended_history_is_told_as_a_reset() {
    let hub = TestHub::start(MEMORY);
    let cursor = hub.publish(&[("topic", TOPIC), ("data", "before")]);
    let hub = hub.restart();
    for (token, query) in generations() {
        let query = format!("{query}&last_event_id={}", encode(&cursor));
        let (_, _, data) = open(&hub, &token, &query);
        assert_eq!((&data["continuity"], &data["after"]), (&json!("reset"), &Value::Null));
    }
}

#[test]
fn a_cursor_that_is_no_longer_kept_is_told_as_a_gap() {
    let keep = "keep = { age = \"off\", size = \"off\", entries = 2 }\n";
    let hub = TestHub::start(&format!("{MEMORY}{keep}"));
    let cursor = hub.publish(&[("topic", TOPIC), ("data", "long ago")]);
    for number in 0..16 {
        hub.publish(&[("topic", TOPIC), ("data", &number.to_string())]);
    }
    for (token, query) in generations() {
        let query = format!("{query}&last_event_id={}", encode(&cursor));
        let (mut stream, id, data) = open(&hub, &token, &query);
        assert_eq!((&data["continuity"], &data["after"]), (&json!("gap"), &json!(cursor)));
        assert_ne!(id, cursor);
        if query.starts_with("match") {
            assert_eq!(stream.data(2), ["14", "15"], "what is still kept follows");
        }
    }
}

#[test]
fn a_gap_in_the_middle_is_told_and_the_stream_goes_on() {
    const COUNT: usize = 400;
    let launch = Launch::toml(SMALL_SEGMENTS);
    let mut hub = TestHub::launch(launch);
    let padding = "x".repeat(16 * 1024);
    let mut ids = Vec::new();
    for number in 0..COUNT {
        let data = format!("update {number:06} {padding}");
        ids.push(hub.publish(&[("topic", TOPIC), ("data", &data)]));
    }
    hub.kill9();
    damage(&hub.data(), "update 000200 ");
    let hub = hub.restart();
    let (token, query) = &generations()[0];
    let (mut stream, _, data) = open(&hub, token, &format!("{query}&last_event_id=earliest"));
    assert_eq!(data["continuity"], "resumed");
    let (mut next, mut gaps) = (0, 0);
    while next < COUNT {
        let event = stream.event();
        if event.event.as_deref() == Some("tidings") {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(data["continuity"], "gap");
            // Both ends are named: what was read last, and the last that is missing.
            assert_eq!(data["after"], json!(ids[next - 1]));
            let until = ids.iter().position(|id| Some(id) == event.id.as_ref()).unwrap();
            assert!((next..=until).contains(&200), "{next}..={until}");
            next = until + 1;
            gaps += 1;
        } else {
            let number: usize = event.data[7..13].parse().unwrap();
            assert_eq!(number, next, "a gap that was not told");
            next += 1;
        }
    }
    assert_eq!(gaps, 1);
    hub.publish(&[("topic", TOPIC), ("data", "live")]);
    assert_eq!(stream.event().data, "live", "on the same stream");
}

#[test]
fn without_the_parameter_nothing_changes_on_the_wire() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nheartbeat = \"1s\"\n"));
    for (token, query) in generations() {
        for more in ["", "&continuity_=1", "&Continuity=1"] {
            let query = format!("{query}{more}");
            let mut stream = hub.subscribe_with(&token, &query, &[]);
            let id = hub.publish(&[("topic", TOPIC), ("data", "d")]);
            stream.event();
            let event = format!("id: {id}\ndata: d\n\n");
            // The comment that opens, the event, and a heartbeat.
            let nothing = stream.next_within(Duration::from_millis(1_500));
            assert_eq!(nothing, None);
            let raw = String::from_utf8(stream.raw.clone()).unwrap();
            let beats = raw.strip_prefix(&format!(":\n{event}"));
            let beats = beats.unwrap_or_else(|| panic!("{query}: {raw:?}"));
            assert!(beats == ":\n" || beats == ":\n:\n", "{query}: {raw:?}");
        }
    }
}

#[test]
fn heartbeats_say_how_far_a_quiet_client_has_come() {
    let hub = TestHub::start(&format!("{MEMORY}[mercure]\nheartbeat = \"1s\"\n"));
    let token = token_final(Role::Subscribe, &["*"]);
    let (mut stream, began, _) = open(&hub, &token, "match=urn:quiet");
    let passed = hub.publish(&[("topic", TOPIC), ("data", "not for this client")]);
    assert_eq!(stream.next_within(Duration::from_millis(2_500)), None, "no event");
    let raw = String::from_utf8(stream.raw.clone()).unwrap();
    assert!(raw.contains(&format!(":\nid: {passed}\n\n")), "{raw:?}");
    assert_ne!(began, passed);
}

#[test]
fn other_values_of_the_parameter_are_refused() {
    let hub = TestHub::start(MEMORY);
    for value in ["", "0", "true", "2", "1&continuity=0", "%FF"] {
        let [(final_token, _), (draft_token, _)] = generations();
        let query = format!("match=*&continuity={value}");
        expect_problem(&refused_get(&hub, &final_token, &query), 400, &query);
        let query = format!("topic=*&continuity={value}");
        expect_draft(&refused_get(&hub, &draft_token, &query), 400, "Bad Request", &query);
    }
}

/// A network that breaks: it carries connections to the hub, and cuts each after a number of bytes
/// of the answer as long as cuts are left.
struct FaultProxy {
    address: SocketAddr,
    faults: Arc<Faults>,
}

struct Faults {
    hub: SocketAddr,
    /// Cuts to come.
    left: AtomicUsize,
    random: Mutex<u64>,
    /// The heads of the requests that came through.
    heads: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
}

impl FaultProxy {
    fn start(hub: SocketAddr, cuts: usize) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let faults = Arc::new(Faults {
            hub,
            left: AtomicUsize::new(cuts),
            random: Mutex::new(0x9e37_79b9_7f4a_7c15),
            heads: Mutex::default(),
            open: Mutex::default(),
        });
        let shared = Arc::clone(&faults);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let faults = Arc::clone(&shared);
                std::thread::spawn(move || faults.carry(client));
            }
        });
        FaultProxy { address, faults }
    }

    /// Cuts every connection that is open now.
    fn cut_all(&self) {
        for client in self.faults.open.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// The `Last-Event-ID` of each request so far.
    fn cursors(&self) -> Vec<Option<String>> {
        let heads = self.faults.heads.lock().unwrap();
        let cursor = |head: &String| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(name, _)| name.eq_ignore_ascii_case("last-event-id"));
            found.next().map(|(_, value)| value.to_owned())
        };
        heads.iter().map(cursor).collect()
    }
}

impl Faults {
    /// Between 1 and `max`, the same on every run.
    fn random(&self, max: u64) -> usize {
        let mut state = self.random.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state % max + 1).unwrap()
    }

    fn carry(&self, mut client: TcpStream) {
        let Ok(mut hub) = TcpStream::connect(self.hub) else { return };
        let mut head = Vec::new();
        let mut buffer = [0_u8; 4096];
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => head.extend_from_slice(&buffer[..count]),
            }
        }
        self.heads.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
        self.open.lock().unwrap().push(client.try_clone().unwrap());
        let _ = hub.write_all(&head);
        // Nothing of the answer, or its whole head and some of its body: a head that ends early
        // is no failure to browsers but an answer without the fields that EventSource needs.
        let mut bytes = match self.random(8) {
            1 => 0,
            _ => self.random(3_500),
        };
        let mut answer = Vec::new();
        let mut in_head = true;
        while let Ok(read) = hub.read(&mut buffer) {
            let mut count = read;
            let cutting = self.left.load(Ordering::SeqCst) > 0;
            if in_head && bytes > 0 && count > 0 {
                answer.extend_from_slice(&buffer[..count]);
                let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
                let Some(end) = end else { continue };
                in_head = false;
                if client.write_all(&answer[..end + 4]).is_err() {
                    break;
                }
                let rest = answer.split_off(end + 4);
                buffer[..rest.len()].copy_from_slice(&rest);
                count = rest.len();
                if count == 0 {
                    continue;
                }
            }
            let kept = if cutting { count.min(bytes) } else { count };
            bytes -= kept.min(bytes);
            if count == 0 || client.write_all(&buffer[..kept]).is_err() {
                break;
            }
            if cutting && bytes == 0 {
                self.left.fetch_sub(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = hub.shutdown(Shutdown::Both);
    }
}

/// Everybody subscribes from every page.
const OPEN_TO_PAGES: &str = "[history]\ndurability = \"memory\"\n[auth]\nanonymous = true\n[mercure]\ncors_origins = [\"*\"]\n";

/// An `EventSource` in a page that notes what it is told.
fn listen(browser: &Browser, hub: &TestHub, proxy: &FaultProxy, query: &str) {
    browser.go(&format!("http://{}/healthz", hub.address));
    let url = format!("http://{}{HUB}?{query}", proxy.address);
    browser.run(&format!(
        "window.got = []; window.told = [];
        window.source = new EventSource({url:?});
        source.onmessage = (event) => got.push(event.data);
        source.addEventListener('tidings', (event) =>
            told.push({{ ...JSON.parse(event.data), id: event.lastEventId }}));"
    ));
}

#[test]
fn an_event_source_misses_and_repeats_nothing_on_a_network_that_cuts_200_times() {
    const COUNT: usize = 5_000;
    const CUTS: usize = 200;
    let hub = TestHub::start(OPEN_TO_PAGES);
    let proxy = FaultProxy::start(hub.address, CUTS);
    let browser = Browser::open();
    // Browsers wait for seconds before they come back unless they are told.
    hub.publish(&[("topic", TOPIC), ("data", "0"), ("retry", "2")]);
    listen(&browser, &hub, &proxy, "match=*&continuity=1&last_event_id=earliest");
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    let mut publisher = Connection::open(hub.address);
    for number in 1..COUNT {
        let body = form(&[("topic", TOPIC), ("data", &number.to_string())]);
        publisher.send(&request("POST", HUB, &[(&name, &value), kind], body.as_bytes()));
        assert_eq!(publisher.reply().unwrap().status, 200);
    }
    let deadline = Instant::now() + Duration::from_secs(45);
    let count = || browser.run("return got.length").as_u64().unwrap();
    while count() < COUNT as u64 || proxy.faults.left.load(Ordering::SeqCst) > 0 {
        if count() >= COUNT as u64 {
            // What is left of the cuts falls on what is published now.
            hub.publish(&[("topic", TOPIC), ("data", "more")]);
        }
        assert!(Instant::now() < deadline, "{} of {COUNT} came", count());
        std::thread::sleep(Duration::from_millis(20));
    }
    let got = browser.run("return got.filter((data) => data !== 'more')");
    let expected: Vec<Value> = (0..COUNT).map(|number| json!(number.to_string())).collect();
    assert!(got == json!(expected), "each once and in order");
    let told = browser.run("return told");
    let told = told.as_array().unwrap();
    // A cut in the head of an answer leaves no stream to tell.
    assert!(told.len() > CUTS / 4, "{} streams", told.len());
    for event in told {
        assert_eq!(event["continuity"], "resumed", "{event}");
    }
    assert!(proxy.cursors().len() > CUTS, "as many requests as cuts");
}

#[test]
fn a_quiet_event_source_goes_on_from_its_last_heartbeat() {
    let hub = TestHub::start(&format!("{OPEN_TO_PAGES}heartbeat = \"1s\"\n"));
    let proxy = FaultProxy::start(hub.address, 0);
    let browser = Browser::open();
    listen(&browser, &hub, &proxy, "match=urn:quiet&continuity=1");
    browser.wait_until("told.length === 1");
    let passed = hub.publish(&[("topic", TOPIC), ("data", "not for this page")]);
    // Time for a heartbeat behind it: there is no event that could tell.
    std::thread::sleep(Duration::from_millis(2_500));
    proxy.cut_all();
    browser.wait_until("told.length === 2");
    let told = browser.run("return told");
    assert_eq!(told[0]["continuity"], "live");
    assert_eq!((&told[1]["continuity"], &told[1]["after"]), (&json!("resumed"), &json!(passed)));
    assert_eq!(proxy.cursors(), [None, Some(passed)]);
    assert_eq!(browser.run("return got"), json!([]));
}
