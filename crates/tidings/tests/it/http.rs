//! A small HTTP/1.1 client that sends exactly the bytes it is given and shows exactly what came
//! back, a reader for Server-Sent Events, and HTTP/2 with prior knowledge through reqwest.
//! Does not know what the program is for, follows nothing and retries nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a test waits for what must come. Generous: only failing tests wait this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Name and value pairs: headers or form fields.
pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// An answer, complete or (for streams) its head only.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, in the order sent.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header (name in lower case); several are joined by `, `.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }

    /// Says no unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{:?} {:?}", self.headers, self.text());
        self
    }
}

/// `name=value&…` with everything but unreserved characters percent-encoded.
pub(crate) fn form(fields: Pairs<'_>) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// Percent-encodes all but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A request as bytes: `Host` and, with a body, `Content-Length` are added, nothing else.
pub(crate) fn request(method: &str, target: &str, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n").into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method == "POST" {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// What reading a body gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Some bytes of the body.
    Bytes(Vec<u8>),
    /// The body ended as announced.
    End,
    /// The connection ended in the middle of the body.
    Cut,
    /// Nothing came before the deadline.
    Nothing,
}

/// How the rest of a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked { left: usize },
    Length(usize),
    UntilClose,
    Ended,
}

/// One HTTP/1.1 connection.
pub(crate) struct Connection {
    socket: TcpStream,
    /// Received, not yet consumed.
    buffer: Vec<u8>,
    framing: Framing,
    closed: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Connection {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Connection { socket, buffer: Vec::new(), framing: Framing::Ended, closed: false }
    }

    /// Sends these bytes; false when the other side has closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Ends our half of the connection.
    pub(crate) fn finish_sending(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// The next complete answer, or nothing when the connection ended before one.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut reply = self.head(false)?;
        loop {
            match self.part(Instant::now() + PATIENCE) {
                Part::Bytes(bytes) => reply.body.extend_from_slice(&bytes),
                Part::End => return Some(reply),
                Part::Cut => return None,
                Part::Nothing => panic!("an answer without an end: {reply:?}"),
            }
        }
    }

    /// The head of the next answer; `bodiless` for answers to HEAD.
    pub(crate) fn head(&mut self, bodiless: bool) -> Option<Reply> {
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            match self.fill(deadline) {
                Filled::Some => {}
                Filled::Closed => return None,
                Filled::Late => panic!("no answer within {PATIENCE:?}"),
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if status == 100 {
            return self.head(bodiless);
        }
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let reply = Reply { status, headers, body: Vec::new() };
        self.framing = if bodiless || status == 204 || status == 304 {
            Framing::Ended
        } else if reply.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            Framing::Chunked { left: 0 }
        } else if let Some(length) = reply.header("content-length") {
            Framing::Length(length.parse().unwrap())
        } else {
            Framing::UntilClose
        };
        Some(reply)
    }

    /// The next bytes of the body, decoded.
    pub(crate) fn part(&mut self, deadline: Instant) -> Part {
        loop {
            if let Some(part) = self.buffered_part() {
                return part;
            }
            match self.fill(deadline) {
                Filled::Some => {}
                Filled::Closed if self.framing == Framing::UntilClose => return Part::End,
                Filled::Closed => return Part::Cut,
                Filled::Late => return Part::Nothing,
            }
        }
    }

    fn buffered_part(&mut self) -> Option<Part> {
        match self.framing {
            Framing::Ended | Framing::Length(0) => Some(Part::End),
            Framing::UntilClose => {
                let bytes = std::mem::take(&mut self.buffer);
                (!bytes.is_empty()).then_some(Part::Bytes(bytes))
            }
            Framing::Length(left) => {
                let bytes: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
                self.framing = Framing::Length(left - bytes.len());
                (!bytes.is_empty()).then_some(Part::Bytes(bytes))
            }
            Framing::Chunked { left: 0 } => {
                let end = find(&self.buffer, b"\r\n")?;
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let size = line.split(';').next().unwrap().trim();
                let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{line:?}"));
                if size == 0 {
                    // Trailers, if any, end with an empty line like a head.
                    let end = find(&self.buffer, b"\r\n\r\n")?;
                    self.buffer.drain(..end + 4);
                    self.framing = Framing::Ended;
                    return Some(Part::End);
                }
                self.buffer.drain(..end + 2);
                self.framing = Framing::Chunked { left: size + 2 };
                self.buffered_part()
            }
            Framing::Chunked { left } => {
                let taken: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
                // The last two bytes are the line end behind the chunk.
                let data = taken.len().min(left.saturating_sub(2));
                self.framing = Framing::Chunked { left: left - taken.len() };
                match data {
                    0 if taken.is_empty() => None,
                    0 => self.buffered_part(),
                    _ => Some(Part::Bytes(taken[..data].to_vec())),
                }
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> Filled {
        if self.closed {
            return Filled::Closed;
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Filled::Late;
        };
        self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        let mut bytes = [0_u8; 16 * 1024];
        match self.socket.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                return Filled::Some;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Filled::Late;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return Filled::Some,
            Err(_) => self.closed = true,
        }
        Filled::Closed
    }
}

enum Filled {
    Some,
    Closed,
    Late,
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// One update as a browser would see it, without a browser's forgiveness: fields as sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: String,
    pub(crate) retry: Option<String>,
}

/// Where the bytes of a stream come from.
enum Bytes {
    Http1(Connection),
    Http2(mpsc::Receiver<Part>),
}

/// An open stream of Server-Sent Events.
pub(crate) struct EventStream {
    /// Status and headers.
    pub(crate) head: Reply,
    /// Everything received so far, decoded of chunks.
    pub(crate) raw: Vec<u8>,
    /// How the stream ended, once it has.
    pub(crate) ended: Option<Part>,
    /// The last `retry:` seen, in events and between them.
    pub(crate) retry: Option<String>,
    read: usize,
    bytes: Bytes,
}

impl EventStream {
    /// The next event, or nothing when the stream ended or the deadline passed.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Event> {
        let deadline = Instant::now() + patience;
        // Large lines are not looked through again for each piece of them.
        let mut line_ended = true;
        loop {
            while line_ended && let Some(block) = self.block() {
                if let Some(event) = self.parse(&block) {
                    return Some(event);
                }
            }
            if self.ended.is_some() {
                return None;
            }
            let part = match &mut self.bytes {
                Bytes::Http1(connection) => connection.part(deadline),
                Bytes::Http2(parts) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    parts.recv_timeout(left).unwrap_or_else(|e| match e {
                        mpsc::RecvTimeoutError::Timeout => Part::Nothing,
                        mpsc::RecvTimeoutError::Disconnected => Part::Cut,
                    })
                }
            };
            match part {
                Part::Bytes(bytes) => {
                    let pending = self.raw.last() == Some(&b'\r');
                    line_ended = pending || bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
                    self.raw.extend_from_slice(&bytes);
                }
                Part::Nothing => return None,
                end => (line_ended, self.ended) = (true, Some(end)),
            }
        }
    }

    /// The next event; says no when there is none.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Event {
        match self.next_within(PATIENCE) {
            Some(event) => event,
            None => panic!(
                "no event; stream ended: {:?}; received {:?}",
                self.ended,
                String::from_utf8_lossy(&self.raw)
            ),
        }
    }

    /// The data of the next `count` events.
    #[track_caller]
    pub(crate) fn data(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().data).collect()
    }

    /// Reads until the first bytes came: the subscriber is registered.
    pub(crate) fn until_open(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.raw.is_empty() && Instant::now() < deadline {
            if let Bytes::Http1(connection) = &mut self.bytes {
                match connection.part(deadline) {
                    Part::Bytes(bytes) => self.raw.extend_from_slice(&bytes),
                    other => panic!("stream did not open: {other:?}"),
                }
            } else {
                return;
            }
        }
    }

    /// Events until the stream ends, and how it ended.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> (Vec<Event>, Part) {
        let mut events = Vec::new();
        while let Some(event) = self.next_within(PATIENCE) {
            events.push(event);
        }
        match self.ended.clone() {
            Some(end) => (events, end),
            None => panic!("the stream goes on; received {:?}", String::from_utf8_lossy(&self.raw)),
        }
    }

    /// The next block of lines up to an empty line, if it is complete.
    fn block(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        let mut at = self.read;
        loop {
            let rest = self.raw.get(at..)?;
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
            let mut next = at + end + 1;
            if rest[end] == b'\r' {
                // A line feed may still be on its way.
                match self.raw.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None if self.ended.is_none() => return None,
                    None => {}
                }
            }
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            at = next;
            if line.is_empty() {
                self.read = at;
                return Some(lines);
            }
            lines.push(line);
        }
    }

    /// An event, unless the block holds no data (comments, a bare `retry:` or `id:`).
    fn parse(&mut self, lines: &[String]) -> Option<Event> {
        let mut event = Event::default();
        let mut data: Vec<&str> = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" => {}
                "id" => event.id = Some(value.to_owned()),
                "event" => event.event = Some(value.to_owned()),
                "data" => data.push(value),
                "retry" => {
                    event.retry = Some(value.to_owned());
                    self.retry = Some(value.to_owned());
                }
                _ => panic!("unknown field in {lines:?}"),
            }
        }
        event.data = data.join("\n");
        (!data.is_empty()).then_some(event)
    }
}

/// One request on its own connection and its complete answer.
#[track_caller]
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    if bytes.starts_with(b"HEAD ") {
        connection.head(true).expect("the connection was closed without an answer")
    } else {
        connection.reply().expect("the connection was closed without an answer")
    }
}

/// Sends a request and gives the answer as a stream, whatever its status.
#[track_caller]
pub(crate) fn stream(address: SocketAddr, bytes: &[u8]) -> EventStream {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    let head = connection.head(false).expect("the connection was closed without an answer");
    open_stream(head, Bytes::Http1(connection))
}

fn open_stream(head: Reply, bytes: Bytes) -> EventStream {
    EventStream { head, raw: Vec::new(), ended: None, retry: None, read: 0, bytes }
}

/// The same over HTTP/2 with prior knowledge; drop the stream to end it.
pub(crate) fn stream_http2(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: Pairs<'_>,
    body: &[u8],
) -> EventStream {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    stream_by(client, method, format!("http://{address}{target}"), headers, body)
}

/// The same by a client that agrees on HTTP/2 with whoever answers at this URL.
pub(crate) fn stream_by(
    client: reqwest::Client,
    method: &str,
    url: String,
    headers: Pairs<'_>,
    body: &[u8],
) -> EventStream {
    let (heads, head) = mpsc::sync_channel(1);
    let (parts, received) = mpsc::sync_channel(1024);
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let body = body.to_vec();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut request = client.request(method, url).body(body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let mut answer = request.send().await.unwrap();
            assert_eq!(answer.version(), reqwest::Version::HTTP_2);
            let headers = answer
                .headers()
                .iter()
                .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
                .collect();
            let status = answer.status().as_u16();
            heads.send(Reply { status, headers, body: Vec::new() }).unwrap();
            loop {
                let part = match answer.chunk().await {
                    Ok(Some(bytes)) => Part::Bytes(bytes.to_vec()),
                    Ok(None) => Part::End,
                    Err(_) => Part::Cut,
                };
                let over = !matches!(part, Part::Bytes(_));
                if parts.send(part).is_err() || over {
                    return;
                }
            }
        });
    });
    let head = head.recv_timeout(PATIENCE).expect("no answer over HTTP/2");
    open_stream(head, Bytes::Http2(received))
}

/// One exchange over HTTP/2 with prior knowledge.
pub(crate) fn exchange_http2(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: Pairs<'_>,
    body: &[u8],
) -> Reply {
    let mut stream = stream_http2(address, method, target, headers, body);
    let deadline = Instant::now() + PATIENCE;
    let Bytes::Http2(parts) = &mut stream.bytes else { panic!("opened over HTTP/2") };
    loop {
        match parts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Part::Bytes(bytes)) => stream.head.body.extend_from_slice(&bytes),
            Ok(Part::End) => return stream.head,
            other => panic!("the body did not end well: {other:?}"),
        }
    }
}
