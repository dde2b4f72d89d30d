//! Publishes over keep-alive connections, as fast as the hub acknowledges or at a rate. Knows
//! nothing of who receives.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use crate::hub::token;

/// What is published.
pub(crate) struct Load<'a> {
    pub(crate) count: usize,
    /// In a second; as fast as possible without.
    pub(crate) rate: Option<f64>,
    /// Publishers, each with one update on its way.
    pub(crate) connections: usize,
    /// Bytes of data of each update.
    pub(crate) bytes: usize,
    /// The topic of the update of this number.
    pub(crate) topic: &'a (dyn Fn(usize) -> String + Sync),
}

/// Nanoseconds since 1970: all processes of one machine see the same.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Publishes all, each with the time at which it was sent at the begin of its data; how many that
/// were in a second.
pub(crate) fn publish(hub: SocketAddr, load: &Load<'_>) -> f64 {
    let (begin, token) = (Instant::now(), token());
    std::thread::scope(|scope| {
        for first in 0..load.connections {
            let token = &token;
            scope.spawn(move || publish_some(hub, load, first, begin, token));
        }
    });
    load.count as f64 / begin.elapsed().as_secs_f64()
}

fn publish_some(hub: SocketAddr, load: &Load<'_>, first: usize, begin: Instant, token: &str) {
    let mut stream = TcpStream::connect(hub).expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let mut answer = vec![0; 4096];
    for number in (first..load.count).step_by(load.connections) {
        if let Some(rate) = load.rate {
            let due = begin + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let request = request(load, number, token);
        stream.write_all(request.as_bytes()).expect("sent");
        let length = stream.read(&mut answer).expect("answered");
        let answer = answer.get(..length).unwrap_or_default();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
    }
}

fn request(load: &Load<'_>, number: usize, token: &str) -> String {
    let mut body = format!("topic={}&data=", (load.topic)(number));
    let before = body.len();
    let _whole = write!(body, "{}.", now());
    let missing = load.bytes.saturating_sub(body.len() - before);
    body.extend(std::iter::repeat_n('x', missing));
    format!(
        "POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
