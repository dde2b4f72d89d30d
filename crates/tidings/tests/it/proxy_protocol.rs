//! Balancers that say for whom they connect, and proxies that say what is not true.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::encrypted::{Authority, address, exchange, handshake, parsed, read_until};
use crate::http::{self, PATIENCE};
use crate::hub::TestHub;

const BALANCER: &str = "[http]\nproxy_protocol = [\"127.0.0.0/8\"]\n";

/// A header of version 2 for this client.
fn header(client: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13".to_vec();
    bytes.extend(client);
    bytes.extend([127, 0, 0, 1, 0x12, 0x34, 0x0b, 0xb8]);
    // An extension that says nothing: seven bytes.
    bytes.extend([0x04, 0, 4, 1, 2, 3, 4]);
    bytes
}

fn probe() -> Vec<u8> {
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()
}

fn open(hub: &TestHub, begin: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(hub.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(begin).unwrap();
    stream
}

fn everything(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// The answer to a request behind this header; nothing when the connection was closed.
fn asked(hub: &TestHub, header: &[u8], target: &str) -> Option<http::Reply> {
    let request = http::request("GET", target, &[("Connection", "close")], b"");
    let bytes = everything(&mut open(hub, &[header, &request].concat()));
    (!bytes.is_empty()).then(|| parsed(&bytes))
}

#[test]
fn a_shutdown_does_not_wait_for_headers() {
    let mut hub = TestHub::start(BALANCER);
    let mut silent = open(&hub, b"PROXY TC");
    assert_eq!(asked(&hub, &probe(), "/healthz").unwrap().status, 200, "it was accepted before");
    let begun = Instant::now();
    hub.signal("TERM");
    assert_eq!(everything(&mut silent), b"");
    assert_eq!(hub.wait_for_exit(PATIENCE), 0);
    // The header alone would have had five seconds.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn the_named_client_is_in_the_log_and_probes_are_the_balancers() {
    let hub = TestHub::start(BALANCER);
    for (header, target, client) in [
        (header([203, 0, 113, 7]), "/of-client", "client=203.0.113.7"),
        (probe(), "/of-probe", "client=127.0.0.1"),
        (b"PROXY TCP4 203.0.113.8 127.0.0.1 4660 3000\r\n".to_vec(), "/of-line", "203.0.113.8"),
    ] {
        assert_eq!(asked(&hub, &header, target).unwrap().status, 404);
        let line = hub.wait_for_log(target);
        assert!(line.contains(client), "{line}");
    }
}

#[test]
fn a_header_in_pieces_is_a_header() {
    let hub = TestHub::start(BALANCER);
    let request = http::request("GET", "/pieces", &[("Connection", "close")], b"");
    let mut stream = open(&hub, b"");
    stream.set_nodelay(true).unwrap();
    for byte in [header([203, 0, 113, 9]), request].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(parsed(&everything(&mut stream)).status, 404);
    assert!(hub.wait_for_log("/pieces").contains("client=203.0.113.9"));
}

#[test]
fn the_named_clients_share_no_limit() {
    let hub = TestHub::start(&format!(
        "{BALANCER}connections_per_address_max = 1\n[auth]\nanonymous = true"
    ));
    let stream = |client| {
        let request = http::request("GET", "/.well-known/mercure?match=*", &[], b"");
        let mut stream = open(&hub, &[header(client), request].concat());
        read_until(&mut stream, "\r\n\r\n");
        stream
    };
    let first = stream([203, 0, 113, 7]);
    let refused = asked(&hub, &header([203, 0, 113, 7]), "/healthz").unwrap();
    assert_eq!(refused.status, 429);
    let _other = stream([203, 0, 113, 8]);
    for _ in 0..3 {
        assert_eq!(asked(&hub, &probe(), "/healthz").unwrap().status, 200, "probes have no limit");
    }
    drop(first);
    while asked(&hub, &header([203, 0, 113, 7]), "/healthz").unwrap().status != 200 {}
}

#[test]
fn a_balancer_without_its_header_is_closed_and_the_log_says_what_to_set() {
    let hub = TestHub::start(BALANCER);
    let long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 3_000]].concat();
    for bytes in [&b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PROXY TCP4 nobody\r\n", &long]
    {
        let mut stream = open(&hub, bytes);
        assert_eq!(everything(&mut stream), b"", "{:?}", String::from_utf8_lossy(bytes));
    }
    let line = hub.wait_for_log("does not begin with a PROXY header");
    assert!(line.contains("http.proxy_protocol"), "{line}");
    assert_eq!(hub.log().matches("http.proxy_protocol").count(), 1, "one line is enough");
    assert_eq!(asked(&hub, &probe(), "/healthz").unwrap().status, 200);
}

#[test]
fn a_balancer_that_says_nothing_is_closed_in_time() {
    let hub = TestHub::start(BALANCER);
    let begun = Instant::now();
    assert_eq!(everything(&mut open(&hub, b"\r\n\r\n\0\r\nQ")), b"");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn a_header_of_somebody_else_is_no_header() {
    let hub = TestHub::start("[http]\nproxy_protocol = [\"10.0.0.0/8\"]");
    let reply = asked(&hub, &header([203, 0, 113, 7]), "/forged");
    assert!(reply.is_none_or(|reply| reply.status == 400));
    let line = b"PROXY TCP4 203.0.113.8 127.0.0.1 4660 3000\r\n";
    assert!(asked(&hub, line, "/forged").is_none_or(|reply| reply.status == 400));
    assert_eq!(asked(&hub, b"", "/healthz").unwrap().status, 200);
    assert!(!hub.log().contains("203.0.113"), "{}", hub.log());
}

#[test]
fn the_header_stands_before_the_handshake() {
    let authority = Authority::new();
    let folder = tempfile::TempDir::new().unwrap();
    authority.write(folder.path(), "hub", &["hub.example.com"]);
    let file = |ending: &str| folder.path().join(format!("hub.{ending}"));
    let hub = TestHub::start(&format!(
        "{BALANCER}[tls]\nlisten = \"127.0.0.1:0\"\ncertificate = {:?}\nkey = {:?}",
        file("pem"),
        file("key")
    ));
    let mut socket = TcpStream::connect(address(&hub)).unwrap();
    socket.write_all(&header([203, 0, 113, 7])).unwrap();
    let client = authority.client(&["http/1.1"]);
    let mut stream = handshake(&client, socket, "hub.example.com").unwrap();
    assert_eq!(exchange(&mut stream, "GET", "/encrypted", &[]).status, 404);
    assert!(hub.wait_for_log("/encrypted").contains("client=203.0.113.7"));
}

#[test]
fn a_proxy_that_contradicts_the_public_url_is_in_the_log_with_what_to_set() {
    let hub = TestHub::start(
        "public_url = \"https://hub.example.com\"\n[http]\ntrusted_proxies = [\"127.0.0.1/32\"]",
    );
    let ask = |proto, host| {
        let headers = [("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host)];
        hub.get("/healthz", &[&headers[..], &[("Connection", "close")]].concat()).expect(200);
    };
    ask("https", "hub.example.com");
    assert!(!hub.log().contains("public_url"), "{}", hub.log());
    for _ in 0..3 {
        ask("http", "other.example.com");
    }
    let line = hub.wait_for_log("http://other.example.com");
    assert!(line.contains("set `public_url`"), "{line}");
    assert_eq!(hub.log().matches("set `public_url`").count(), 1, "not once for each request");
}

#[test]
fn an_unknown_proxy_is_in_the_log_with_what_to_set() {
    let hub = TestHub::start("");
    for _ in 0..3 {
        let headers = [("X-Forwarded-For", "203.0.113.7"), ("Connection", "close")];
        hub.get("/healthz", &headers).expect(200);
    }
    hub.wait_for_log("http.trusted_proxies");
    assert_eq!(hub.log().matches("http.trusted_proxies").count(), 1);
}
