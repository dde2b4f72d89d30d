//! One connection: HTTP/1.1 or HTTP/2, told apart by its first bytes. Knows no frontend's protocol.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderName, Method, Response, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::entrance::{Entered, Entrance, enter};
use super::forwarded::{client, is_trusted};
use super::handing::{Content, Given, Handing};
use super::line::Line;
use super::places::Place;
use super::streams::{Streams, watched};
use super::usual::{self, Next};
use super::wire::{Spoken, Wire};
use super::{
    Body, BoxError, HttpOptions, Received, Request, RequestId, Server, boxed, head, refusal, secure,
};
use crate::limits::{
    HEAD_BYTES_MAX, HEADERS_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_ERRORS_MAX,
    HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, HTTP2_RESETS_PENDING_MAX, HTTP2_SEND_BUFFER_BYTES,
    HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    let entered = enter(&server, &options, stream, peer, place, &entrance);
    // Its room is not kept for as long as the connection lasts.
    let entered = Box::pin(entered).await;
    let Some(Entered { mut wire, peer, place }) = entered else { return };
    let handing = Handing::new(&server);
    let mut silence = pin!(tokio::time::sleep(options.head_timeout));
    let connection = Connection { server, peer, secure: entrance.is_secure(), handing };
    let silent = silence.as_mut();
    match usual::serve(&connection, &mut wire, options.head_timeout, silent).await {
        Next::Ended => {}
        // Whoever reads requests here takes nothing that says more than a request.
        Next::Given(given) => connection.give(given, wire, Bytes::new(), place),
        // Its room is not kept for connections that do without.
        Next::Library { is_first: true } => {
            Box::pin(connection.by_library(wire, &options, place, silence.as_mut())).await;
        }
        Next::Library { is_first: false } => {
            Box::pin(connection.http1(wire, &options, place, silence.as_mut())).await;
        }
    }
}

/// What all requests of a connection share.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    peer: IpAddr,
    secure: bool,
    handing: Handing,
}

impl Connection {
    /// Nothing was asked in time.
    pub(super) fn note_silence(&self) {
        self.server.counters.silent.fetch_add(1, Ordering::Relaxed);
    }

    fn give(&self, given: Given, wire: Wire, begun: Bytes, place: Place) {
        if let Err(error) = self.handing.give(given, wire, begun, place) {
            tracing::debug!(client = %self.peer, %error, "a connection ended");
        }
    }

    async fn by_library(
        self,
        mut wire: Wire,
        options: &HttpOptions,
        place: Place,
        mut silence: Pin<&mut Sleep>,
    ) {
        let spoken = tokio::select! {
            spoken = wire.spoken() => spoken,
            () = self.server.shutdown.accepting_ended() => return,
            () = silence.as_mut() => return self.note_silence(),
        };
        match spoken {
            Ok(Spoken::Http1) => self.http1(wire, options, place, silence).await,
            Ok(Spoken::Http2) => self.http2(wire, options, place, silence).await,
            Err(error) => tracing::debug!(client = %self.peer, %error, "a connection ended"),
        }
    }

    /// Serves requests one after the other, until one is answered by a stream.
    async fn http1(
        self,
        wire: Wire,
        options: &HttpOptions,
        place: Place,
        mut silence: Pin<&mut Sleep>,
    ) {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(options.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .keep_alive(true);
        let asked = Arc::new(AtomicBool::new(false));
        let given: Arc<Mutex<Option<Given>>> = Arc::default();
        let service = {
            let (this, asked, given) = (self.clone(), Arc::clone(&asked), Arc::clone(&given));
            service_fn(move |request| {
                asked.store(true, Ordering::Relaxed);
                let (this, given) = (this.clone(), Arc::clone(&given));
                // The connection keeps room for this future for as long as it lasts.
                Box::pin(async move {
                    match this.answer_library(request).await {
                        Answered::Whole(response, _) => Ok::<_, Infallible>(response),
                        Answered::Lasting(lasting) => {
                            *given.lock().unwrap_or_else(PoisonError::into_inner) = Some(lasting);
                            // The connection is taken away from here.
                            std::future::pending().await
                        }
                    }
                })
            })
        };
        let mut connection = builder.serve_connection(TokioIo::new(wire), service);
        let mut ending = false;
        let mut watched = true;
        let taken = || given.lock().unwrap_or_else(PoisonError::into_inner).take();
        let given = loop {
            let polled = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if given.lock().is_ok_and(|given| given.is_some()) => {
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            });
            tokio::select! {
                ended = polled => match ended {
                    Some(ended) => return self.note_end(ended),
                    None => break taken(),
                },
                // hyper's own timeout begins only with the first byte.
                () = silence.as_mut(), if watched => {
                    watched = false;
                    if !asked.load(Ordering::Relaxed) {
                        return self.note_silence();
                    }
                }
                () = self.server.shutdown.accepting_ended(), if !ending => {
                    ending = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        let parts = connection.into_parts();
        let Some(given) = given else { return };
        self.give(given, parts.io.into_inner(), parts.read_buf, place);
    }

    /// Serves many requests at a time.
    async fn http2(
        self,
        wire: Wire,
        options: &HttpOptions,
        place: Place,
        mut silence: Pin<&mut Sleep>,
    ) {
        let streams = Streams::new(Arc::clone(&self.server), options.write_timeout);
        let mut builder = http2::Builder::new(streams);
        builder
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
        let asked = Arc::new(AtomicBool::new(false));
        let service = {
            let (this, asked) = (self.clone(), Arc::clone(&asked));
            service_fn(move |request| {
                asked.store(true, Ordering::Relaxed);
                let this = this.clone();
                Box::pin(async move {
                    Ok::<_, Infallible>(match this.answer_library(request).await {
                        Answered::Whole(response, _) => response,
                        Answered::Lasting(Given { head, lasting, place, .. }) => {
                            head.map(|()| this.handing.share(lasting, place))
                        }
                    })
                })
            })
        };
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(wire), service));
        let mut ending = false;
        let mut watched = true;
        loop {
            tokio::select! {
                ended = connection.as_mut() => break self.note_end(ended),
                () = silence.as_mut(), if watched => {
                    watched = false;
                    if !asked.load(Ordering::Relaxed) {
                        break self.note_silence();
                    }
                }
                () = self.server.shutdown.accepting_ended(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
        drop(place);
    }

    /// Errors here are the peer's: broken framing, a reset, a head that was too slow.
    fn note_end(&self, ended: hyper::Result<()>) {
        if let Err(error) = ended {
            tracing::debug!(client = %self.peer, %error, "a connection ended");
        }
    }

    /// Answers a request that the library has read.
    async fn answer_library(&self, request: http::Request<Incoming>) -> Answered {
        let (head, body) = request.into_parts();
        let head = Head { parts: Arc::new(head), is_judged: false };
        let mut answered = self.answer(head, Received::coming(body), Instant::now()).await;
        if let Answered::Whole(response, id) = &mut answered {
            response.headers_mut().insert(REQUEST_ID, id.header());
        }
        answered
    }

    pub(super) async fn answer(&self, head: Head, body: Received, begun: Instant) -> Answered {
        let Head { parts: head, is_judged } = head;
        let Connection { server, peer, secure, .. } = self;
        let (peer, secure) = (*peer, *secure);
        let id = RequestId::next();
        let options = server.options();
        let version = head.version;
        if head.method != Method::GET {
            server.note_work(begun);
        }
        let trusted = is_trusted(peer, &options.trusted_proxies);
        let client = client(peer, &head.headers, &options.trusted_proxies);
        if let Some(public) = &options.public_url {
            server.hints.look(peer, trusted, &head.headers, public);
        }
        let line = Line::new(&head, client, id, options.log_topics);
        // Where one connection carries many requests, its own place says little: a proxy's belongs
        // to all its clients, and one of HTTP/2 can hold hundreds of streams.
        let many = version == Version::HTTP_2 || trusted;
        let place = many
            .then(|| server.places.request(client, options.connections_per_address_max))
            .transpose();
        let elsewhere = if secure { None } else { secure::redirect(&options, trusted, &head) };
        let (mut response, place) = match place {
            Ok(place) if elsewhere.is_some() => {
                (refusal::moved(elsewhere).map(Content::Body), place)
            }
            Ok(place) => {
                let closing = server.shutdown.closing();
                let request = Request { head, body, client, id, closing };
                (frontend(server, request, is_judged).await, place)
            }
            Err(full) => {
                server.counters.refused(full).fetch_add(1, Ordering::Relaxed);
                (refusal::response(full).map(Content::Body), None)
            }
        };
        if let Some(value) = options.hsts.filter(|_| secure) {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, secure::hsts(value));
        }
        if let Some(counter) = server.counters.answer(response.status()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        line.write(&response, begun);
        let (head, content) = response.into_parts();
        match content {
            Content::Body(body) => {
                Answered::Whole(watched(hold(Response::from_parts(head, body), place)), id)
            }
            Content::Lasting(lasting) => {
                let mut head = Response::from_parts(head, ());
                head.headers_mut().insert(REQUEST_ID, id.header());
                Answered::Lasting(Given { head, lasting, version, place })
            }
        }
    }
}

/// The head of a request.
pub(super) struct Head {
    pub(super) parts: Arc<Parts>,
    /// It was looked at whether it is to be refused whoever it is for, and it is not.
    pub(super) is_judged: bool,
}

/// What became of a request.
pub(super) enum Answered {
    /// An answer, and the name of its request, which is not in its head yet.
    Whole(Response<Body>, RequestId),
    Lasting(Given),
}

async fn frontend(server: &Server, request: Request, is_judged: bool) -> Response<Content> {
    if !is_judged && let Some(refusal) = head::refusal(&request.head) {
        return refusal.map(Content::Body);
    }
    let path = request.head.uri.path();
    let Some(frontend) = server.frontends.iter().find(|frontend| frontend.claims(path)) else {
        return refusal::not_found().map(Content::Body);
    };
    let frontend = Arc::clone(frontend);
    let id = request.id;
    let answer = AssertUnwindSafe(async move { frontend.call(request).await });
    answer.catch_unwind().await.unwrap_or_else(|_| {
        server.counters.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(request = %id, "a frontend panicked");
        refusal::panicked().map(Content::Body)
    })
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
