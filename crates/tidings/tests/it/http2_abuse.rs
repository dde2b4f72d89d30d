//! HTTP/2 frame by frame, against its own rules and against the hub's patience: over TCP with prior
//! knowledge and over TLS. After each the hub serves others, and its memory is what it was.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::encrypted::{Authority, Secure, address, connect};
use crate::http::{EventStream, PATIENCE};
use crate::hub::{HUB, TestHub};

const NAME: &str = "hub.example.com";
const TOPIC: &str = "https://abuse.example/";
/// What a flood may leave in memory: buffers of allocators, not what was sent.
const GROWTH: u64 = 48 * 1024 * 1024;

pub(crate) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface and these settings.
pub(crate) fn begin(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, settings)].concat()
}

/// The compressed head of a GET (RFC 7541).
fn head(path: &str) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x86, 0x01, 1, b'x', 0x04];
    assert!(path.len() < 127);
    bytes.push(u8::try_from(path.len()).unwrap());
    bytes.extend(path.as_bytes());
    bytes
}

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head(path))
}

/// A connection of either kind.
enum Wire {
    Plain(TcpStream),
    Encrypted(Box<Secure>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Encrypted(stream) => &stream.sock,
        }
    }

    /// Sends as much as the hub takes; whether it took all.
    fn send(&mut self, bytes: &[u8]) -> bool {
        match self {
            Wire::Plain(stream) => stream.write_all(bytes).is_ok(),
            Wire::Encrypted(stream) => {
                stream.write_all(bytes).and_then(|()| stream.flush()).is_ok()
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self {
            Wire::Plain(stream) => stream.read(buffer).unwrap_or(0),
            Wire::Encrypted(stream) => stream.read(buffer).unwrap_or(0),
        }
    }

    /// The next frame: kind, flags, stream, payload. `None` at the end of the connection.
    fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let start = self.exactly(9)?;
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize;
        let stream = u32::from_be_bytes([start[5], start[6], start[7], start[8]]);
        Some((start[3], start[4], stream, self.exactly(length)?))
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            match self.read(&mut bytes[read..]) {
                0 => return None,
                more => read += more,
            }
        }
        Some(bytes)
    }

    /// Reads to the end of the connection; the error code of its GOAWAY, if there was one.
    #[track_caller]
    fn until_end(&mut self) -> Option<u32> {
        let mut code = None;
        let deadline = Instant::now() + PATIENCE;
        while let Some((kind, _, _, payload)) = self.frame() {
            if kind == GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                // Nothing else will come; the hub waits for us to close.
                let _ = self.socket().shutdown(Shutdown::Write);
            }
            assert!(Instant::now() < deadline, "the connection goes on");
        }
        code
    }
}

struct Setup {
    hub: TestHub,
    witness: EventStream,
    client: Arc<ClientConfig>,
    _folder: TempDir,
}

impl Setup {
    fn new(more: &str) -> Setup {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        authority.write(folder.path(), "hub", &[NAME]);
        let file = |ending: &str| folder.path().join(format!("hub.{ending}"));
        let hub = TestHub::start(&format!(
            "{more}\n[auth]\nanonymous = true\n[tls]\nlisten = \"127.0.0.1:0\"\n\
             certificate = {:?}\nkey = {:?}",
            file("pem"),
            file("key")
        ));
        let witness = hub.subscribe("match=*");
        Setup { hub, witness, client: authority.client(&["h2"]), _folder: folder }
    }

    fn plain(&self) -> Wire {
        let stream = TcpStream::connect(self.hub.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire::Plain(stream)
    }

    fn encrypted(&self) -> Wire {
        let stream = connect(&self.client, address(&self.hub), NAME).unwrap();
        stream.sock.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire::Encrypted(Box::new(stream))
    }

    /// Does something to a connection of each kind, several times, and looks what is left of it.
    #[track_caller]
    fn survives(&mut self, abuse: impl Fn(&mut Wire)) {
        let round = |setup: &Setup| {
            abuse(&mut setup.plain());
            abuse(&mut setup.encrypted());
        };
        round(self);
        let before = self.hub.metric("tidings_process_resident_bytes");
        round(self);
        round(self);
        self.hub.publish(&[("topic", TOPIC), ("data", "still here")]);
        assert_eq!(self.witness.event().data, "still here");
        let grown = self.hub.metric("tidings_process_resident_bytes").saturating_sub(before);
        assert!(grown < GROWTH, "{grown} bytes more");
        let deadline = Instant::now() + PATIENCE;
        while self.hub.metric("tidings_connections_open") > 1 {
            assert!(Instant::now() < deadline, "places were not given back");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.hub.metric("tidings_requests_panicked_total"), 0);
    }
}

#[test]
fn frames_that_break_the_rules_end_their_connection() {
    let mut setup = Setup::new("");
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("a frame larger than announced", frame(DATA, 0, 1, &[0; 20_000])),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("data on an idle stream", frame(DATA, 0, 1, b"x")),
        (
            "a head on an even stream",
            frame(HEADERS, END_STREAM | END_HEADERS, 2, &head("/healthz")),
        ),
        ("a head on stream 0", frame(HEADERS, END_STREAM | END_HEADERS, 0, &head("/healthz"))),
        (
            "a head that cannot be decompressed",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 64]),
        ),
        ("an entry that is in no table", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xfe])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, b"")),
        (
            "another frame inside a head",
            [frame(HEADERS, END_STREAM, 1, &head("/healthz")), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("a reset of an idle stream", frame(RESET, 0, 1, &[0; 4])),
        ("a short reset", [get(1, "/healthz"), frame(RESET, 0, 1, &[0; 3])].concat()),
        ("a short ping", frame(PING, 0, 0, &[0; 7])),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("a window larger than possible", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a window that does not grow", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("streams that go backwards", [get(5, "/healthz"), get(3, "/healthz")].concat()),
    ];
    setup.survives(|wire| {
        // One of them each time would take long over TLS; all kinds come over TCP as well.
        wire.send(&begin(&[]));
        wire.send(&broken[0].1);
        assert!(matches!(wire.until_end(), Some(1..) | None));
    });
    for (what, bytes) in &broken {
        let mut wire = setup.plain();
        wire.send(&begin(&[]));
        wire.send(bytes);
        // Some libraries say why, some only close.
        assert_ne!(wire.until_end(), Some(0), "{what}");
    }
}

#[test]
fn something_else_than_the_preface_is_closed() {
    let mut setup = Setup::new("");
    setup.survives(|wire| {
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
        wire.until_end();
    });
}

#[test]
fn a_head_without_end_is_cut_off() {
    let mut setup = Setup::new("");
    setup.survives(|wire| {
        wire.send(&begin(&[]));
        wire.send(&frame(HEADERS, END_STREAM, 1, &head("/healthz")));
        // Fields of 10 KiB each in frames that never say that they are the last.
        let mut field = vec![0x00, 1, b'a', 0x7f];
        let mut rest = 10_000 - 127;
        while rest >= 128 {
            field.push(u8::try_from(rest % 128).unwrap() | 0x80);
            rest /= 128;
        }
        field.push(u8::try_from(rest).unwrap());
        field.extend(vec![b'x'; 10_000]);
        let mut sent = 0;
        while sent < 20_000 && wire.send(&frame(CONTINUATION, 0, 1, &field)) {
            sent += 1;
        }
        assert!(sent < 20_000, "200 MB of one head were taken");
    });
}

#[test]
fn empty_continuations_without_end_are_cut_off() {
    let mut setup = Setup::new("");
    setup.survives(|wire| {
        wire.send(&begin(&[]));
        wire.send(&frame(HEADERS, END_STREAM, 1, &head("/healthz")));
        let many = frame(CONTINUATION, 0, 1, b"").repeat(1_000);
        let taken = (0..1_000).take_while(|_| wire.send(&many)).count();
        assert!(taken < 1_000, "a million frames of one head were taken");
    });
}

#[test]
fn a_head_that_is_too_large_is_refused_and_its_connection_goes_on() {
    let mut setup = Setup::new("");
    setup.survives(|wire| {
        wire.send(&begin(&[]));
        // One entry of the table, named again and again: small on the wire, large when decompressed.
        let mut block = head("/healthz");
        block.extend([0x40, 1, b'a', 0x7f, 0xc9, 0x1e]);
        block.extend(vec![b'x'; 127 + 0x49 + 0x1e * 128]);
        block.extend(vec![0xbe; 4_000]);
        wire.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        wire.send(&get(3, "/healthz"));
        let mut refused = false;
        while let Some((kind, _, stream, payload)) = wire.frame() {
            refused |= stream == 1 && (kind == RESET || kind == HEADERS && payload[0] != 0x88);
            if kind == GOAWAY || (stream == 3 && kind == HEADERS) {
                assert!(kind == GOAWAY || payload[0] == 0x88, "200 for the other stream");
                refused |= kind == GOAWAY;
                break;
            }
        }
        assert!(refused, "16 MB of decompressed fields");
    });
}

#[test]
fn streams_that_are_reset_at_once_cost_their_connection_only() {
    let mut setup = Setup::new("");
    setup.survives(|wire| {
        wire.send(&begin(&[]));
        let mut stream = 1;
        for _ in 0..200 {
            let mut many = Vec::new();
            for _ in 0..100 {
                many.extend(get(stream, "/.well-known/mercure?match=*"));
                many.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
                stream += 2;
            }
            // Either all are taken and forgotten, or the connection is ended on the way.
            if !wire.send(&many) {
                break;
            }
        }
        let _ = wire.socket().shutdown(Shutdown::Both);
    });
    assert_eq!(setup.hub.metric("tidings_subscribers"), 1, "the witness alone");
}

#[test]
fn pings_and_settings_without_end_are_bounded() {
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let mut setup = Setup::new("[http]\nwrite_timeout = \"1s\"");
        setup.survives(|wire| {
            wire.socket().set_write_timeout(Some(Duration::from_secs(3))).unwrap();
            wire.send(&begin(&[]));
            // Nobody reads the answers, so that they have to wait somewhere.
            let many = flood.repeat(1_000);
            let _taken = (0..1_000).take_while(|_| wire.send(&many)).count();
            let _ = wire.socket().shutdown(Shutdown::Both);
        });
    }
}

#[test]
fn more_streams_than_allowed_are_refused_one_by_one() {
    let mut setup = Setup::new("");
    setup.survives(|wire| {
        wire.send(&begin(&[]));
        for number in 0..300 {
            wire.send(&get(1 + 2 * number, "/.well-known/mercure?match=*"));
        }
        let (mut open, mut refused) = (0, 0);
        while open + refused < 300 {
            match wire.frame() {
                Some((HEADERS, _, _, _)) => open += 1,
                Some((RESET, _, _, code)) => {
                    assert_eq!(code, [0, 0, 0, 7], "REFUSED_STREAM");
                    refused += 1;
                }
                Some((GOAWAY, ..)) | None => break,
                Some(_) => {}
            }
        }
        assert!(open <= 256, "{open} streams");
        assert!(refused > 0 || open < 300);
        let _ = wire.socket().shutdown(Shutdown::Both);
    });
}

#[test]
fn a_stream_without_a_window_is_reset_and_others_go_on() {
    let mut setup = Setup::new("[http]\nwrite_timeout = \"1s\"");
    let target = format!("{HUB}?match=*");
    let hub = &setup.hub;
    for _ in 0..20 {
        hub.publish(&[("topic", TOPIC), ("data", &"x".repeat(1_000))]);
    }
    setup.witness.data(20);
    setup.survives(|wire| {
        // No byte of any body may be sent.
        wire.send(&begin(&[0, 4, 0, 0, 0, 0]));
        wire.send(&get(1, &format!("{target}&last_event_id=earliest")));
        let mut ended = false;
        while let Some((kind, _, stream, _)) = wire.frame() {
            ended |= kind == RESET && stream == 1 || kind == GOAWAY;
            assert!(kind != DATA, "there was no room");
            if ended {
                break;
            }
        }
        assert!(ended);
        let _ = wire.socket().shutdown(Shutdown::Both);
    });
    assert!(setup.hub.metric("tidings_connections_stalled_total") >= 1);
}
