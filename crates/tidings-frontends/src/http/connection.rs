//! One connection: HTTP/1.1 or HTTP/2, told apart by its first bytes. Knows no frontend's protocol.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Response, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::entrance::{Entered, Entrance, enter};
use super::forwarded::{client, is_trusted};
use super::patience::Current;
use super::places::Place;
use super::redacted::{redacted, shortened};
use super::streams::{Streams, watched};
use super::{Body, BoxError, Request, RequestId, Server, boxed, head, refusal, secure};
use crate::limits::{
    HEAD_BYTES_MAX, HEADERS_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_ERRORS_MAX,
    HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, HTTP2_RESETS_PENDING_MAX, HTTP2_SEND_BUFFER_BYTES,
    HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
};

/// Serves one connection until it ends, or, after the shutdown has begun, until its last answer.
pub(super) async fn run(
    server: Arc<Server>,
    stream: TcpStream,
    peer: IpAddr,
    place: Place,
    entrance: Entrance,
) {
    // An update must not wait for the next one to fill a packet.
    let _ = stream.set_nodelay(true);
    let options = server.options();
    // A client that vanished without a word: what it was sent is never acknowledged, and the kernel
    // would try for a quarter of an hour. It takes a client that reads nothing for one that is
    // gone, so this is as long as anybody may leave a socket full; `vanished` tells them apart.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(options.write_timeout));
    let current = Current::default();
    let entered = enter(&server, &options, stream, peer, place, &entrance, &current);
    // Its room is not kept for as long as the connection lasts.
    let entered = Box::pin(entered).await;
    let Some(Entered { wire, peer, place }) = entered else { return };
    let head_timeout = options.head_timeout;
    let secure = entrance.is_secure();
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let (server, asked) = (Arc::clone(&server), Arc::clone(&asked));
        service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            // The connection keeps room for this future, also while a stream is sent.
            Box::pin(answer(Arc::clone(&server), peer, secure, current.clone(), request))
        })
    };
    let streams = Streams::new(Arc::clone(&server), options.write_timeout);
    let builder = builder(streams, head_timeout);
    let mut connection =
        Box::pin(builder.serve_connection_with_upgrades(TokioIo::new(wire), service));
    let mut ending = false;
    let silence = tokio::time::sleep(head_timeout);
    tokio::pin!(silence);
    let mut watched = true;
    loop {
        tokio::select! {
            // Errors here are the peer's: broken framing, a reset, a head that was too slow.
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client = %peer, %error, "a connection ended");
                }
                break;
            }
            // hyper's own timeout begins only when it knows which version is spoken.
            () = &mut silence, if watched => {
                watched = false;
                if !asked.load(Ordering::Relaxed) {
                    server.counters.silent.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            () = server.shutdown.accepting_ended(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    drop(place);
}

fn builder(streams: Streams, head_timeout: Duration) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_PENDING_MAX)
        .max_local_error_reset_streams(HTTP2_ERRORS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}

async fn answer(
    server: Arc<Server>,
    peer: IpAddr,
    secure: bool,
    current: Current,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let begun = Instant::now();
    let id = RequestId::next();
    let options = server.options();
    let (head, body) = request.into_parts();
    let trusted = is_trusted(peer, &options.trusted_proxies);
    let client = client(peer, &head.headers, &options.trusted_proxies);
    if let Some(public) = &options.public_url {
        server.hints.look(peer, trusted, &head.headers, public);
    }
    let line = Line::new(&head, client, id, options.log_topics);
    // Where one connection carries many requests, its own place says little: a proxy's belongs to
    // all its clients, and one of HTTP/2 can hold hundreds of streams.
    let many = head.version == Version::HTTP_2 || trusted;
    let place = many
        .then(|| server.places.request(client, options.connections_per_address_max))
        .transpose();
    let elsewhere = if secure { None } else { secure::redirect(&options, trusted, &head) };
    let mut response = match place {
        Ok(_) if elsewhere.is_some() => refusal::moved(elsewhere),
        Ok(place) => {
            let request = Request { head, body, client, id, closing: server.shutdown.closing() };
            hold(frontend(&server, request).await, place)
        }
        Err(full) => {
            server.counters.refused(full).fetch_add(1, Ordering::Relaxed);
            refusal::response(full)
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert("x-request-id", value);
    }
    if let Some(value) = options.hsts.filter(|_| secure) {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, secure::hsts(value));
    }
    if let Some(counter) = server.counters.answer(response.status()) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    line.write(&response, begun.elapsed());
    Ok(watched(response, &current))
}

async fn frontend(server: &Server, request: Request) -> Response<Body> {
    if let Some(refusal) = head::refusal(&request.head) {
        return refusal;
    }
    let path = request.head.uri.path();
    let Some(frontend) = server.frontends.iter().find(|frontend| frontend.claims(path)) else {
        return refusal::not_found();
    };
    let frontend = Arc::clone(frontend);
    let id = request.id;
    let answer = AssertUnwindSafe(async move { frontend.call(request).await });
    answer.catch_unwind().await.unwrap_or_else(|_| {
        server.counters.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(request = %id, "a frontend panicked");
        refusal::panicked()
    })
}

/// A request's line in the log, taken before the request is given away.
struct Line {
    method: String,
    target: Option<String>,
    client: IpAddr,
    id: RequestId,
}

impl Line {
    fn new(head: &http::request::Parts, client: IpAddr, id: RequestId, topics: bool) -> Line {
        let wanted = tracing::enabled!(target: "tidings::request", tracing::Level::INFO);
        let target = wanted.then(|| redacted(&head.uri, topics));
        let method = if wanted { shortened(&head.method) } else { String::new() };
        Line { method, target, client, id }
    }

    /// Refusals are worth a line in production, the rest only when somebody looks closely.
    fn write(self, response: &Response<Body>, took: Duration) {
        let Line { method, client, id, .. } = self;
        let Some(target) = self.target else { return };
        let status = response.status().as_u16();
        let milliseconds = took.as_micros() as f64 / 1000.0;
        if status < 400 {
            tracing::debug!(target: "tidings::request", %method, target, status, milliseconds,
                %client, request = %id, "answered");
        } else {
            tracing::info!(target: "tidings::request", %method, target, status, milliseconds,
                %client, request = %id, "refused");
        }
    }
}

/// A body that keeps its client's place until it has been sent.
struct Holding {
    body: Body,
    _place: Place,
}

fn hold(response: Response<Body>, place: Option<Place>) -> Response<Body> {
    match place {
        Some(place) => response.map(|body| boxed(Holding { body, _place: place })),
        None => response,
    }
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
