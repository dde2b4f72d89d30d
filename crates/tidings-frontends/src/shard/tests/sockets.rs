//! Sockets: what clients say is heard, answered and bounded, and every end is said.

use super::talking::{LIMITS, Listener, Talking, masked};
use super::*;
use crate::shard::Shards;
use crate::shard::limits::{
    SOCKET_ANSWERS_BYTES, SOCKET_CLOSING_TIMEOUT, SOCKET_MESSAGE_TIMEOUT, SOCKET_MESSAGES_WAITING,
    SOCKET_TURN_BYTES,
};
use crate::shard::receiver::Phase;
use crate::shard::talk::{FrameLimits, Hearer, Order, Talk};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

fn messages() -> Asks {
    Asks { framing: Framing::Messages, ..Asks::default() }
}

fn talk(driven: &mut Driven) -> Talking {
    driven.talk(&messages(), LIMITS, &Script::default())
}

/// The member `name` of a message.
fn member(text: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value[name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_a_client_says_is_heard_whole_and_in_order_also_behind_its_request() {
    let mut driven = Driven::new();
    let (mut begun, cut) = (masked(TEXT, b"one"), masked(TEXT, b"two"));
    begun.extend_from_slice(&cut[..4]);
    let script = Script::default();
    let socket = driven.talk_behind(&messages(), LIMITS, &script, begun.into());
    assert_eq!(socket.hearer.texts(), ["one"]);
    for byte in &cut[4..] {
        script.lock().says.push_back(*byte);
        driven.turn();
    }
    socket.says(TEXT, b"three");
    socket.says(2, &[0, 255]);
    driven.turn();
    assert_eq!(socket.hearer.texts(), ["one", "two", "three", "b\"\\0\\xff\""]);
}

#[test]
fn entries_come_as_messages_and_answers_stand_at_their_place() {
    let mut driven = Driven::new();
    let socket = talk(&mut driven);
    driven.publish("a", 1, 5);
    socket.join("first", &[driven.exact("a")], Start::Now);
    driven.turn();
    driven.publish("a", 2, 5);
    driven.publish("b", 3, 5);
    let is_there = |texts: &[String], number: usize| {
        texts.iter().any(|text| text.contains(&format!("\"{}\"", data(number, 5))))
    };
    driven.until("the second", |_| is_there(&socket.texts(), 2));
    socket.leave("second", &[driven.exact("a")]);
    driven.turn();
    driven.publish("a", 4, 5);
    driven.settle();
    let texts = socket.texts();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[0].starts_with("done first ") && texts[2].starts_with("done second "));
    assert_eq!(
        (member(&texts[1], "op").as_str(), member(&texts[1], "topic").as_str()),
        ("update", "a")
    );
    driven.assert_idle();
}

#[test]
fn every_ping_is_answered_in_its_turn() {
    let mut driven = Driven::new();
    let socket = talk(&mut driven);
    for payload in [&b"a"[..], b"b", b"c"] {
        socket.says(PING, payload);
    }
    driven.turn();
    let pong = |payload: &[u8]| (0x8A, payload.to_vec());
    assert_eq!(socket.frames(), [pong(b"a"), pong(b"b"), pong(b"c")]);
}

#[test]
fn a_client_that_closes_hears_its_code_and_is_gone() {
    for (payload, answer) in [(&[0x03, 0xE8][..], vec![0x03, 0xE8]), (&[], vec![])] {
        let mut driven = Driven::new();
        let socket = talk(&mut driven);
        socket.says(TEXT, b"last");
        socket.says(CLOSE, payload);
        socket.says(TEXT, b"behind it");
        driven.turn();
        assert_eq!(socket.frames(), [(0x88, answer)]);
        assert_eq!(socket.hearer.texts(), ["last"]);
        assert!(socket.script.lock().is_closed);
        assert_eq!(socket.hearer.lock().ended, 1);
        socket.order(Order::Say(Bytes::from_static(b"nobody hears it")));
        driven.turn();
        driven.assert_empty();
    }
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_so_and_has_time_to_close() {
    let mut driven = Driven::new();
    let socket = talk(&mut driven);
    // Not masked.
    socket.script.lock().says.extend([0x81, 1, b'x']);
    driven.turn();
    assert_eq!(socket.close_code(), Some(1002));
    assert!(socket.script.lock().is_closed, "nothing follows");
    assert_eq!(driven.receiver(socket.number).unwrap().phase, Phase::Closing);
    socket.says(TEXT, b"dropped");
    let begun = Instant::now();
    driven.until("it is let go of", |driven| driven.receiver(socket.number).is_none());
    assert!(begun.elapsed() + Duration::from_millis(100) >= SOCKET_CLOSING_TIMEOUT);
    assert!(socket.hearer.texts().is_empty());
    driven.assert_empty();
}

#[test]
fn a_revoked_grant_and_a_shutdown_are_said_before_the_close() {
    for (code, close) in [("expired", 1008), ("shutdown", 1001)] {
        let mut driven = Driven::new();
        let limits = Limits { expires: Some(1_000), ..FOREVER };
        let script = Script::default();
        let socket = driven.talk(&Asks { limits, ..messages() }, LIMITS, &script);
        if code == "expired" {
            driven.wall.0.store(1_000, Ordering::SeqCst);
        } else {
            driven.shutdown.close_streams();
        }
        driven.until("the end", |_| socket.close_code().is_some());
        assert_eq!(socket.close_code(), Some(close));
        let last = socket.texts().pop().unwrap();
        assert_eq!((member(&last, "op").as_str(), member(&last, "code").as_str()), ("end", code));
        socket.says(CLOSE, &close.to_be_bytes());
        driven.turn();
        assert!(script.lock().is_closed);
        driven.assert_empty();
    }
}

#[test]
fn who_may_come_back_is_told_when_and_where_to_go_on() {
    let mut driven = Driven::new();
    driven.publish("t", 1, 1);
    let limits = Limits { lifetime: Some(Duration::from_millis(20)), ..FOREVER };
    let old = driven.talk(&Asks { limits, ..messages() }, LIMITS, &Script::default());
    driven.until("the end of the old one", |_| old.close_code().is_some());
    let (failed, slow) = (talk(&mut driven), talk(&mut driven));
    failed.order(Order::Fail);
    let whole = masked(TEXT, b"never all of it");
    slow.script.lock().says.extend(&whole[..whole.len() - 1]);
    driven.turn();
    // Its clock goes on by so much at once.
    let later = SOCKET_MESSAGE_TIMEOUT + Duration::from_secs(1);
    driven.shard.begun = driven.shard.begun.checked_sub(later).unwrap();
    driven.until("the other ends", |_| slow.close_code().is_some());
    for (socket, code, close) in
        [(&old, "longest_time", 1001), (&failed, "internal", 1011), (&slow, "too_slow", 1008)]
    {
        let last = socket.texts().pop().unwrap();
        assert_eq!((member(&last, "code").as_str(), socket.close_code()), (code, Some(close)));
        let end: serde_json::Value = serde_json::from_str(&last).unwrap();
        assert_eq!(end["retry"], 1_000, "{last}");
        assert_eq!(member(&last, "cursor"), driven.hub.cursor(driven.hub.end()), "{last}");
    }
}

#[test]
fn a_hearer_ends_its_socket_with_its_own_words() {
    let mut driven = Driven::new();
    let socket = talk(&mut driven);
    let words = crate::websocket::frame::text(b"too late");
    socket.order(Order::End { close: 1008, words });
    socket.order(Order::Say(Bytes::from_static(b"never")));
    driven.turn();
    assert_eq!((socket.texts(), socket.close_code()), (vec!["too late".to_owned()], Some(1008)));
}

#[test]
fn who_has_asked_enough_is_not_read_until_it_is_answered() {
    let mut driven = Driven::new();
    let socket = talk(&mut driven);
    for number in 0..SOCKET_MESSAGES_WAITING * 3 {
        socket.says(TEXT, number.to_string().as_bytes());
    }
    driven.settle();
    assert_eq!(socket.hearer.texts().len(), SOCKET_MESSAGES_WAITING);
    socket.order(Order::Done { bytes: 1 });
    socket.order(Order::Done { bytes: 1 });
    driven.turn_alone();
    assert_eq!(socket.hearer.texts().len(), SOCKET_MESSAGES_WAITING + 2);
    for _ in 0..SOCKET_MESSAGES_WAITING * 3 {
        socket.order(Order::Done { bytes: 1 });
    }
    driven.turn_alone();
    let all: Vec<_> = (0..SOCKET_MESSAGES_WAITING * 3).map(|number| number.to_string()).collect();
    assert_eq!(socket.hearer.texts(), all);
}

#[test]
fn who_talks_faster_than_it_may_is_heard_at_its_rate() {
    let mut driven = Driven::new();
    let limits = FrameLimits { per_second: 100, burst: 5, ..LIMITS };
    let socket = driven.talk(&messages(), limits, &Script::default());
    socket.hearer.lock().echoes = true;
    for _ in 0..10 {
        socket.says(TEXT, b"x");
    }
    let begun = Instant::now();
    driven.turn();
    assert_eq!(socket.hearer.texts().len(), 5);
    driven.until("all", |_| socket.hearer.texts().len() == 10);
    assert!(begun.elapsed() >= Duration::from_millis(40));
}

#[test]
fn who_takes_no_answers_is_not_heard() {
    let mut driven = Driven::new();
    let socket = talk(&mut driven);
    socket.script.set_full(true);
    socket.hearer.lock().echoes = true;
    let long = vec![b'x'; 10_000];
    for _ in 0..50 {
        socket.says(TEXT, &long);
    }
    driven.settle();
    let heard = socket.hearer.texts().len();
    assert!(heard * long.len() < SOCKET_ANSWERS_BYTES + 17 * 10_000, "{heard}");
    assert!(heard < 50);
    socket.script.set_full(false);
    driven.until("all", |_| socket.texts().len() == 50);
}

#[test]
fn nobody_who_talks_without_end_keeps_others_waiting() {
    let mut driven = Driven::new();
    let (loud, quiet) = (talk(&mut driven), talk(&mut driven));
    loud.hearer.lock().echoes = true;
    for _ in 0..100 {
        loud.says(PING, &[0; 100]);
    }
    let ping = masked(PING, &[0; 100]);
    while loud.script.lock().says.len() < SOCKET_TURN_BYTES * 3 {
        loud.script.lock().says.extend(&ping);
    }
    quiet.says(TEXT, b"now");
    driven.turn();
    assert_eq!(quiet.hearer.texts(), ["now"]);
    assert!(!loud.script.lock().says.is_empty());
    driven.until("all of it", |_| loud.script.lock().says.is_empty());
}

#[test]
fn a_silent_socket_is_told_its_place_when_it_moved_and_else_asked_whether_it_is_there() {
    let mut driven = Driven::new();
    let limits = Limits { heartbeat: Some(Duration::from_millis(20)), ..FOREVER };
    let socket = driven.talk(&Asks { limits, ..messages() }, LIMITS, &Script::default());
    driven.until("a ping", |_| socket.frames().contains(&(0x89, Vec::new())));
    assert!(socket.texts().is_empty());
    driven.publish("t", 1, 1);
    driven.until("the place", |_| !socket.texts().is_empty());
    let told = socket.texts().remove(0);
    assert_eq!(member(&told, "op"), "place");
    assert_eq!(member(&told, "cursor"), driven.hub.cursor(driven.hub.end()));
}

#[test]
fn a_socket_that_is_gone_has_ended_also_when_the_shard_panics() {
    let mut driven = Driven::new();
    let (one, other) = (talk(&mut driven), talk(&mut driven));
    one.script.lock().is_gone = true;
    driven.turn();
    assert_eq!((one.hearer.lock().ended, other.hearer.lock().ended), (1, 0));
    assert!(driven.shard.guarded::<()>(|_| panic!("as the test wants it")).is_none());
    assert_eq!(other.hearer.lock().ended, 1);
}

#[test]
fn a_client_of_another_make_talks_over_a_real_socket() {
    let served = Served::new(Keep::default());
    let clock: Arc<dyn Clock> = Arc::<Wall>::clone(&served.wall);
    let readers = Arc::new(Readers::start("history", 1));
    let shards = Shards::start_some(&served.hub, &clock, &readers, 1).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let outlet = Outlet::Plain(mio::net::TcpStream::from_std(server));
    let (mut stream, mut carrier) = served.stream(&messages(), outlet);
    stream.selection.matchers.clear();
    carrier.head = Bytes::new();
    let hearer = Arc::new(Listener::default());
    hearer.lock().echoes = true;
    let opening = Some(crate::websocket::frame::text(b"hello"));
    let shared: Arc<dyn Hearer> = Arc::<Listener>::clone(&hearer);
    stream.talk = Some(Box::new(Talk { hearer: shared, limits: LIMITS, opening }));
    shards.begin(stream, carrier);
    let role = tungstenite::protocol::Role::Client;
    let mut client = tungstenite::WebSocket::from_raw_socket(client, role, None);
    assert_eq!(client.read().unwrap().into_text().unwrap().as_str(), "hello");
    let long = "é".repeat(20_000);
    for text in ["short", &long] {
        client.send(tungstenite::Message::text(text)).unwrap();
        assert_eq!(client.read().unwrap().into_text().unwrap().as_str(), text);
    }
    client.close(None).unwrap();
    let end = loop {
        match client.read() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end:?}");
}
