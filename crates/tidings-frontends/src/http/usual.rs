//! Requests as nearly all clients send them: at once, in the plain words of HTTP/1.1. They are read
//! and answered here, for a third of what the library takes that can read everything.
//! What is unusual in any way (a body in chunks, an expectation, a head in two pieces) is
//! left to the library, with every byte that was read.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header,
};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connection::{Answered, Connection, Head, REQUEST_ID};
use super::familiar::{Familiar, Found};
use super::handing::Given;
use super::wire::Wire;
use super::{Body, Received, RequestId, date};
use crate::limits::{
    GATHERED_BODY_BYTES_MAX, HEADERS_MAX, USUAL_BODY_TIMEOUT, USUAL_REQUEST_BYTES_MAX,
};

/// How it goes on with a connection.
pub(super) enum Next {
    /// The library reads what comes, beginning with what the wire has again; whether that is the
    /// first that the client says.
    Library { is_first: bool },
    /// The answer is given the connection.
    Given(Given),
    /// It has ended.
    Ended,
}

/// Names whose meaning is left to the library.
const UNUSUAL: [HeaderName; 6] = [
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::EXPECT,
    header::TE,
    header::TRAILER,
];

thread_local! {
    /// Where bytes are read to: nobody keeps room for what has not come.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; USUAL_REQUEST_BYTES_MAX].into());
}

/// Reads and answers requests until one is unusual or is answered by a stream.
pub(super) async fn serve(
    connection: &Connection,
    wire: &mut Wire,
    timeout: Duration,
    silence: Pin<&mut Sleep>,
) -> Next {
    let mut reading = Reading { timeout, silence, asked: false, since: Instant::now() };
    let mut ending = pin!(connection.server.shutdown.accepting_ended());
    let mut waiting = Bytes::new();
    let mut familiar = None;
    loop {
        let taken = match waiting.is_empty() {
            true => Taken::Begun,
            false => take(&mut waiting, &mut familiar),
        };
        let (head, body) = match taken {
            Taken::Whole(head, body) => (head, body),
            Taken::Begun => {
                let more = tokio::select! {
                    biased;
                    more = reading.next(wire, waiting.is_empty()) => more,
                    () = ending.as_mut(), if waiting.is_empty() => return Next::Ended,
                };
                match more {
                    Ok(more) if waiting.is_empty() => waiting = more,
                    Ok(more) => waiting = [&*waiting, &*more].concat().into(),
                    // The library knows what to say of a body that is late.
                    Err(error)
                        if error.kind() == io::ErrorKind::TimedOut && !waiting.is_empty() =>
                    {
                        return reading.leave(wire, &waiting);
                    }
                    Err(error) => {
                        if error.kind() == io::ErrorKind::TimedOut && !reading.asked {
                            connection.note_silence();
                        }
                        return Next::Ended;
                    }
                }
                continue;
            }
            Taken::Unusual => return reading.leave(wire, &waiting),
        };
        let now = std::time::Instant::now();
        reading.asked = true;
        let answer = connection.answer(head, Received::whole(body), now);
        let (response, id) = match Box::pin(answer).await {
            Answered::Whole(response, id) => (response, id),
            Answered::Lasting(given) => return Next::Given(given),
        };
        let is_last = connection.server.shutdown.has_begun();
        let written = write(wire, response, id, is_last).await;
        if written.is_err() || is_last {
            // Who is gone already hears nothing of it.
            let _gone = wire.shutdown().await;
            return Next::Ended;
        }
        reading.since = wire.written().into();
    }
}

/// The wait for a request.
struct Reading<'s> {
    timeout: Duration,
    /// Moved on when it is over, not for each request.
    silence: Pin<&'s mut Sleep>,
    asked: bool,
    since: Instant,
}

impl Reading<'_> {
    /// Leaves what comes to the library, and what waits.
    fn leave(&mut self, wire: &mut Wire, waiting: &Bytes) -> Next {
        wire.put_back(waiting);
        self.silence.as_mut().reset(Instant::now() + self.timeout);
        Next::Library { is_first: !self.asked }
    }

    /// What the client says next, which begins a request or else goes on with one.
    async fn next(&mut self, wire: &mut Wire, begins: bool) -> io::Result<Bytes> {
        let end = match begins {
            true => self.since + self.timeout,
            false => Instant::now() + USUAL_BODY_TIMEOUT,
        };
        if !begins {
            self.silence.as_mut().reset(end);
        }
        std::future::poll_fn(|context| {
            let read = ROOM.with_borrow_mut(|room| {
                let mut buffer = ReadBuf::new(room);
                let polled = Pin::new(&mut *wire).poll_read(context, &mut buffer);
                polled.map_ok(|()| Bytes::copy_from_slice(buffer.filled()))
            });
            match read {
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(read) => return Poll::Ready(read),
                Poll::Pending => {}
            }
            while self.silence.as_mut().poll(context).is_ready() {
                if Instant::now() >= end {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.silence.as_mut().reset(end);
            }
            Poll::Pending
        })
        .await
    }
}

/// What stands at the beginning of what was read.
enum Taken {
    /// A request.
    Whole(Head, Bytes),
    /// The head of a usual one, and not all of its body; or nothing.
    Begun,
    /// What the library reads.
    Unusual,
}

/// Takes a request off what was read. What is familiar is known without being read.
fn take(waiting: &mut Bytes, familiar: &mut Option<Familiar>) -> Taken {
    let known = familiar.as_ref().and_then(|familiar| familiar.recognize(waiting));
    let found = match known {
        Some(known) => Some(known),
        None => read_anew(waiting, familiar),
    };
    let Some(Found { head, head_length, length }) = found else { return Taken::Unusual };
    let whole = head_length.saturating_add(length);
    if whole >= USUAL_REQUEST_BYTES_MAX {
        return Taken::Unusual;
    }
    if waiting.len() < whole {
        return Taken::Begun;
    }
    let mut body = waiting.split_to(whole);
    body.advance(head_length);
    Taken::Whole(head, body)
}

/// Reads a head. That of a request with a body is familiar from then on.
fn read_anew(waiting: &Bytes, familiar: &mut Option<Familiar>) -> Option<Found> {
    if waiting.len() >= USUAL_REQUEST_BYTES_MAX {
        return None;
    }
    let copy = waiting.starts_with(b"POST ").then(|| Familiar::copy(waiting)).flatten();
    let (parts, head_length, length) = read(copy.as_ref().unwrap_or(waiting))?;
    let parts = Arc::new(parts);
    // A head may end in bare line feeds, and its body hold what else ends one.
    let copy = copy.filter(|copy| copy.len() == head_length);
    *familiar = copy.and_then(|copy| Familiar::new(copy, length, &parts));
    Some(Found { head: Head { parts, is_judged: familiar.is_some() }, head_length, length })
}

/// A head, its length, and the length of the body behind it, if that is usual.
fn read(waiting: &Bytes) -> Option<(Parts, usize, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_length) = parsed.parse(waiting).ok()? else { return None };
    if parsed.version != Some(1) {
        return None;
    }
    let method = match parsed.method? {
        "GET" => Method::GET,
        "POST" => Method::POST,
        _ => return None,
    };
    // A target that names a host says other things than its path.
    let target = parsed.path.filter(|path| path.starts_with('/'))?;
    let uri = Uri::from_maybe_shared(part(waiting, target.as_bytes())?).ok()?;
    let mut fields = read_fields(waiting, parsed.headers)?;
    // The body says how long it is: of a familiar head the next request may have another length.
    let length = match fields.remove(header::CONTENT_LENGTH) {
        Some(length) => read_length(length.as_bytes())?,
        None if method == Method::GET => 0,
        None => return None,
    };
    if method == Method::GET && length > 0 {
        return None;
    }
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = fields;
    Some((request.into_parts().0, head_length, length))
}

/// A part of what was read, which lives as long as the whole instead of being copied.
fn part(whole: &Bytes, part: &[u8]) -> Option<Bytes> {
    let begin = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = begin.checked_add(part.len())?;
    (end <= whole.len()).then(|| whole.slice(begin..end))
}

fn read_fields(whole: &Bytes, parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(parsed.len() + 2);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if UNUSUAL.contains(&name) {
            let keeps = field.value.eq_ignore_ascii_case(b"keep-alive");
            // What goes without saying in HTTP/1.1.
            if name != header::CONNECTION || !keeps {
                return None;
            }
        }
        if name == header::CONTENT_LENGTH && fields.contains_key(header::CONTENT_LENGTH) {
            return None;
        }
        fields.append(name, HeaderValue::from_maybe_shared(part(whole, field.value)?).ok()?);
    }
    Some(fields)
}

/// Digits only, as RFC 9110 section 8.6 says.
pub(super) fn read_length(text: &[u8]) -> Option<usize> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Writes an answer; small ones leave in one piece.
async fn write(
    wire: &mut Wire,
    response: Response<Body>,
    id: RequestId,
    is_last: bool,
) -> io::Result<()> {
    let (parts, mut body) = response.into_parts();
    let has_body = !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = body.size_hint().exact();
    let small = length.filter(|length| *length <= GATHERED_BODY_BYTES_MAX as u64);
    let mut bytes = BytesMut::with_capacity(1024 + small.unwrap_or_default() as usize);
    write_head(&mut bytes, Version::HTTP_11, parts.status, &parts.headers);
    put(&mut bytes, &[REQUEST_ID.as_str(), ": "]);
    bytes.put_slice(&id.digits());
    bytes.put_slice(b"\r\n");
    match length {
        _ if !has_body => {}
        Some(length) if !parts.headers.contains_key(header::CONTENT_LENGTH) => {
            put(&mut bytes, &["content-length: ", &length.to_string(), "\r\n"]);
        }
        Some(_) => {}
        None => bytes.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    if is_last {
        bytes.put_slice(b"connection: close\r\n");
    }
    bytes.put_slice(b"\r\n");
    if small.is_some()
        && let Some(whole) = body.take_whole()
    {
        if has_body {
            bytes.put_slice(&whole);
        }
        wire.write_all(&bytes).await?;
        return wire.flush().await;
    }
    while has_body && let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(io::Error::other)?.into_data() else { continue };
        if length.is_none() && !piece.is_empty() {
            put(&mut bytes, &[&format!("{:x}", piece.len()), "\r\n"]);
        }
        let is_small = bytes.len() + piece.len() <= GATHERED_BODY_BYTES_MAX;
        if length.is_some() && is_small {
            bytes.put_slice(&piece);
            continue;
        }
        wire.write_all(&bytes.split()).await?;
        wire.write_all(&piece).await?;
        if length.is_none() && !piece.is_empty() {
            bytes.put_slice(b"\r\n");
        }
        if length.is_none() {
            // What is sent as it comes is not held back.
            wire.write_all(&bytes.split()).await?;
            wire.flush().await?;
        }
    }
    if has_body && length.is_none() {
        bytes.put_slice(b"0\r\n\r\n");
    }
    wire.write_all(&bytes).await?;
    wire.flush().await
}

/// The first line and the fields of a head, without the empty line behind them.
pub(super) fn write_head(
    head: &mut BytesMut,
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
) {
    let version = if version == Version::HTTP_11 { "HTTP/1.1 " } else { "HTTP/1.0 " };
    let reason = status.canonical_reason().unwrap_or_default();
    put(head, &[version, status.as_str(), " ", reason, "\r\n"]);
    for (name, value) in headers {
        put(head, &[name.as_str(), ": "]);
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    if !headers.contains_key(header::DATE) {
        head.put_slice(b"date: ");
        date::now(|date| head.put_slice(date.as_bytes()));
        head.put_slice(b"\r\n");
    }
}

fn put(bytes: &mut BytesMut, texts: &[&str]) {
    for text in texts {
        bytes.put_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";

    fn taken(text: &str) -> Option<(Parts, Bytes, usize)> {
        let mut waiting = Bytes::copy_from_slice(text.as_bytes());
        let Taken::Whole(head, body) = take(&mut waiting, &mut None) else { return None };
        Some((Parts::clone(&head.parts), body, waiting.len()))
    }

    #[test]
    fn whole_requests_are_taken_one_by_one() {
        let (parts, body, left) = taken(&format!("{HEAD}abcGET / HTTP/1.1\r\n")).unwrap();
        assert_eq!((parts.method, parts.uri.to_string()), (Method::POST, "/a?b".into()));
        assert_eq!(parts.version, Version::HTTP_11);
        assert_eq!((parts.headers.len(), &parts.headers["host"]), (1, &"x".parse().unwrap()));
        assert_eq!((&body[..], left), (&b"abc"[..], 16));
        let (_, body, left) = taken("GET / HTTP/1.1\r\nconnection: Keep-Alive\r\n\r\n").unwrap();
        assert_eq!((body.len(), left), (0, 0));
        let two = "GET / HTTP/1.1\r\na: 1\r\nA: 2\r\n\r\n";
        assert_eq!(taken(two).unwrap().0.headers.get_all("a").iter().count(), 2);
    }

    #[test]
    fn what_is_not_whole_is_left_alone() {
        let whole = format!("{HEAD}abc");
        for end in 1..whole.len() {
            let mut waiting = Bytes::copy_from_slice(&whole.as_bytes()[..end]);
            let is_begun = matches!(take(&mut waiting, &mut None), Taken::Begun);
            assert_eq!((is_begun, waiting.len()), (end >= HEAD.len(), end));
        }
    }

    /// What became of it, in words that can be compared.
    fn told(taken: &Taken, waiting: &Bytes) -> String {
        let left = waiting.len();
        match taken {
            Taken::Whole(head, body) => {
                let Parts { method, uri, headers, .. } = &*head.parts;
                format!("{method} {uri} {headers:?} {body:?}, {left} left")
            }
            Taken::Begun => format!("begun, {left} left"),
            Taken::Unusual => format!("unusual, {left} left"),
        }
    }

    proptest! {
        #[test]
        fn a_familiar_head_is_read_as_it_would_be_anew(
            requests in vec((0..60_usize, vec((0..80_usize, any::<u8>()), 0..2), 0..90_usize), 1..8)
        ) {
            let mut familiar = None;
            for (length, changes, cut) in requests {
                let head = HEAD.replace("Length: 3", &format!("Length: {length}"));
                let mut text = head.into_bytes();
                for (at, byte) in changes {
                    let end = text.len();
                    text[at % end] = byte;
                }
                text.extend_from_slice(&[b'x'; 60]);
                text.truncate(text.len().saturating_sub(cut));
                let (mut one, mut other) = (Bytes::from(text.clone()), Bytes::from(text));
                let known = take(&mut one, &mut familiar);
                let anew = take(&mut other, &mut None);
                prop_assert_eq!(told(&known, &one), told(&anew, &other));
            }
        }
    }

    #[test]
    fn a_head_that_ends_in_bare_line_feeds_ends_there_each_time() {
        for end in ["\n\n", "\r\n\n", "\n\r\n"] {
            let body = "a\r\n\r\nb";
            let head = format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nA: b{end}");
            let text = format!("{head}{body}").repeat(3);
            let (mut waiting, mut familiar) = (Bytes::from(text), None);
            for _ in 0..3 {
                let Taken::Whole(_, taken) = take(&mut waiting, &mut familiar) else {
                    panic!("{end:?}");
                };
                assert_eq!(taken, body, "{end:?}");
            }
            assert!(waiting.is_empty());
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_the_library() {
        for fields in [
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            "Content-Length: 0\r\nContent-Length: 0",
            "Content-Length: 0, 0",
            "Content-Length: +0",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Content-Length: 0\r\nExpect: 100-continue",
            "Content-Length: 0\r\nConnection: close",
            "Content-Length: 0\r\nConnection: keep-alive, upgrade",
            "Content-Length: 0\r\nUpgrade: h2c",
            "Content-Length : 0",
            "Content-Length: 0\r\n folded: 1",
            "Content-Length: 0\r\na\tb: 1",
            "",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
            assert!(taken(&text.replace("\r\n\r\n\r\n", "\r\n\r\n")).is_none(), "{fields}");
        }
        for line in [
            "GET / HTTP/1.0",
            "GET http://x/ HTTP/1.1",
            "GET * HTTP/1.1",
            "OPTIONS / HTTP/1.1",
            "HEAD / HTTP/1.1",
            "get / HTTP/1.1",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.1\r\nContent-Length: 1",
        ] {
            assert!(taken(&format!("{line}\r\n\r\nx")).is_none(), "{line}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(USUAL_REQUEST_BYTES_MAX));
        assert!(taken(&long).is_none());
        let many = "a: 1\r\n".repeat(HEADERS_MAX + 1);
        assert!(taken(&format!("GET / HTTP/1.1\r\n{many}\r\n")).is_none());
    }
}
