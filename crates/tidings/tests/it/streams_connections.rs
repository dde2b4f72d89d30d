//! What a connection is asked and answered around a stream, byte by byte: whole requests and split
//! ones, several in one packet, and what a client says behind a request that a stream answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http::{Connection, PATIENCE, Reply, form, request};
use crate::hub::{HUB, TestHub};
use crate::mercure::MEMORY;
use crate::streams::{Publisher, subscription};
use crate::tokens::{Role, bearer, token_final};

const TOPIC: &str = "https://streams.example/1";

/// An answer without what differs each time.
/// Status, header fields and body.
type Said = (u16, Vec<(String, String)>, String);

fn lasting(reply: Option<Reply>) -> Option<Said> {
    let mut reply = reply?;
    assert!(reply.header("date").is_some(), "{:?}", reply.headers);
    let differs = ["date", "x-request-id", "tidings-receipt"];
    reply.headers.retain(|(name, _)| !differs.contains(&name.as_str()));
    reply.headers.sort();
    let text = reply.text();
    Some((reply.status, reply.headers, text))
}

/// The answer to a request that comes in two pieces, and whether the connection is kept.
fn answer(hub: &TestHub, first: &[u8], second: &[u8]) -> (Option<Said>, bool) {
    let mut connection = Connection::open(hub.address);
    connection.send(first);
    if !second.is_empty() {
        // Long enough for the hub to see the first piece alone, mostly.
        std::thread::sleep(Duration::from_millis(1));
        connection.send(second);
    }
    let reply = lasting(connection.reply());
    connection.send(&request("GET", "/nobody", &[], b""));
    let is_kept = connection.reply().is_some_and(|reply| reply.status == 404);
    (reply, is_kept)
}

#[test]
fn a_request_is_answered_the_same_wherever_it_is_split() {
    let hub = TestHub::start(MEMORY);
    let token = bearer(&token_final(Role::Publish, &["*"]));
    let pair = (token.0.as_str(), token.1.as_str());
    let form_type = ("Content-Type", "application/x-www-form-urlencoded");
    let fields = form(&[("topic", TOPIC), ("data", "x"), ("id", "urn:example:1")]);
    let post =
        |headers: &[(&str, &str)], body: &str| request("POST", HUB, headers, body.as_bytes());
    let text = |text: &str| text.as_bytes().to_vec();
    let requests = [
        (200, post(&[pair, form_type], &fields)),
        (404, request("GET", "/nobody?a=b", &[("Accept", "*/*")], b"")),
        (401, request("GET", &format!("{HUB}?match=*"), &[], b"")),
        (401, post(&[form_type], &fields)),
        (400, text("GET / HTTP/1.1\r\n\r\n")),
        (400, text("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")),
        (400, text("GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n")),
        (400, text("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n")),
        (404, text("\r\nGET /nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")),
        (404, text("GET http://x/nobody HTTP/1.1\r\nHost: x\r\n\r\n")),
        (404, text("GET /nobody HTTP/1.0\r\nHost: x\r\n\r\n")),
    ];
    for (status, bytes) in requests {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let (whole, is_kept) = answer(&hub, &bytes, b"");
        assert_eq!(whole.as_ref().map(|reply| reply.0), Some(status), "{shown}");
        // Long tokens are as long as they are: every byte of the rest, some of theirs.
        for at in (1..bytes.len()).filter(|at| bytes.len() < 250 || at % 7 == 0) {
            let (first, second) = bytes.split_at(at);
            let (split, is_kept_then) = answer(&hub, first, second);
            assert_eq!(split, whole, "{shown} at {at}");
            // Who is refused before its body has come is not listened to any longer.
            let may_close = status >= 400 && bytes.starts_with(b"POST");
            assert!(is_kept_then == is_kept || may_close, "{shown} at {at}");
        }
    }
}

#[test]
fn several_publications_in_one_packet_are_answered_in_order() {
    let hub = TestHub::start(MEMORY);
    let mut stream = hub.subscribe("match=*");
    let token = bearer(&token_final(Role::Publish, &["*"]));
    let headers = [
        (token.0.as_str(), token.1.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let ids = ["urn:example:1", "urn:example:2", "urn:example:3", "urn:example:4"];
    let requests: Vec<u8> = ids
        .iter()
        .flat_map(|id| {
            let form = form(&[("topic", TOPIC), ("data", id), ("id", id)]);
            request("POST", HUB, &headers, form.as_bytes())
        })
        .collect();
    // Three and a half, then the rest.
    let (first, second) = requests.split_at(requests.len() - 20);
    let mut connection = Connection::open(hub.address);
    connection.send(first);
    for id in &ids[..3] {
        assert_eq!(connection.reply().unwrap().expect(200).text(), *id);
    }
    connection.send(second);
    assert_eq!(connection.reply().unwrap().expect(200).text(), ids[3]);
    assert_eq!(stream.data(4), ids);
}

#[test]
fn a_connection_that_is_to_be_closed_is_closed_behind_its_answer() {
    let hub = TestHub::start(MEMORY);
    let token = bearer(&token_final(Role::Publish, &["*"]));
    for headers in [
        vec![("Connection", "close")],
        vec![("Connection", "close"), (token.0.as_str(), token.1.as_str())],
    ] {
        for method in ["GET", "POST"] {
            let mut connection = Connection::open(hub.address);
            connection.send(&request(method, "/nobody", &headers, b""));
            let reply = connection.reply().unwrap().expect(404);
            assert_eq!(reply.header("connection").as_deref(), Some("close"));
            assert!(connection.reply().is_none(), "closed");
        }
    }
    let mut kept = Connection::open(hub.address);
    for _ in 0..3 {
        kept.send(&request("GET", "/nobody", &[("Connection", "keep-alive")], b""));
        let reply = kept.reply().unwrap().expect(404);
        assert_ne!(reply.header("connection").as_deref(), Some("close"));
    }
}

/// Reads until this text has come.
#[track_caller]
fn until(socket: &mut TcpStream, text: &str) -> String {
    crate::encrypted::read_until(socket, text)
}

fn open(hub: &TestHub) -> TcpStream {
    let socket = TcpStream::connect(hub.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_stream_of_http_1_0_comes_without_chunks_and_ends_with_its_connection() {
    let hub = TestHub::start(&format!("{MEMORY}[http]\nshutdown_budget = \"1s\""));
    let token = token_final(Role::Subscribe, &["*"]);
    let asked = String::from_utf8(subscription(Some(&token))).unwrap();
    for (version, chunked) in [("HTTP/1.0", false), ("HTTP/1.1", true)] {
        let mut socket = open(&hub);
        socket.write_all(asked.replace("HTTP/1.1", version).as_bytes()).unwrap();
        let head = until(&mut socket, ":\n").to_lowercase();
        assert!(head.starts_with(&format!("{} 200 ok\r\n", version.to_lowercase())), "{head}");
        assert!(
            head.contains("\r\ndate: ") && head.contains("\r\nconnection: close\r\n"),
            "{head}"
        );
        assert_eq!(head.contains("transfer-encoding"), chunked, "{head}");
        Publisher::new(hub.address).publish(1, 3, false);
        let event = until(&mut socket, "data: 1 xxx\n\n");
        let first = if chunked { char::is_alphanumeric } else { |first: char| first == 'i' };
        assert!(event.trim_start_matches("\r\n").starts_with(first), "{event:?}");
        assert_eq!(event.contains("\r\n"), chunked, "{event:?}");
        if !chunked {
            assert!(event.starts_with("id: "), "{event:?}");
        }
    }
    let mut socket = open(&hub);
    socket.write_all(asked.replace("HTTP/1.1", "HTTP/1.0").as_bytes()).unwrap();
    until(&mut socket, ":\n");
    let ending = std::thread::spawn(move || {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    });
    assert_eq!(hub.stop().0, 0);
    let rest = ending.join().unwrap();
    assert!(rest.contains("retry: ") && rest.ends_with("\n\n"), "{rest:?}");
}

#[test]
fn what_a_client_says_behind_its_stream_is_ignored_up_to_a_limit() {
    let hub = TestHub::start(MEMORY);
    let asked = subscription(Some(&token_final(Role::Subscribe, &["*"])));
    let other = request("GET", "/nobody", &[], b"");
    let mut talking = open(&hub);
    // In one packet with the request, and behind the answer.
    talking.write_all(&[asked.as_slice(), &other, &other].concat()).unwrap();
    until(&mut talking, ":\n");
    talking.write_all(&other).unwrap();
    let mut flooding = open(&hub);
    flooding.write_all(&asked).unwrap();
    until(&mut flooding, ":\n");
    hub.wait_for_metric("tidings_subscribers", 2);
    // Refused in the middle: the hub does not read all that.
    let _refused = flooding.write_all(&vec![b'x'; 16 * 1024 * 1024]);
    hub.wait_for_metric("tidings_subscribers", 1);
    Publisher::new(hub.address).publish(1, 3, false);
    let all = until(&mut talking, "data: 1 xxx\n\n");
    assert!(!all.contains("HTTP/1.1"), "answered: {all}");
}
