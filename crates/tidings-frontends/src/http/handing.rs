//! How a connection goes over to an answer that lasts. The library that read the request has done
//! its work then: the head is written here, and the socket belongs to a shard.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, Version};
use tokio_util::task::TaskTracker;

use super::usual::write_head;
use super::wire::Wire;
use super::{Body, Place, Server, boxed, streams};
use crate::shard::{Carrier, Encrypted, Feed, Handoff, Outlet, Patience, Sent};
use crate::sse::Framing;

/// An answer that lasts: what it does with the connection that it is given.
pub struct Lasting {
    begin: Box<dyn FnOnce(Carrier) + Send>,
    speaks: Speaks,
}

/// What goes over the connection from then on.
enum Speaks {
    /// Events, in the framing of the request's version.
    Events,
    /// Messages, both ways.
    Messages(Framing),
}

/// What an answer has behind its head.
pub enum Content {
    /// A body that is sent as it comes.
    Body(Body),
    /// A stream without an end of its own.
    Lasting(Lasting),
}

impl From<Body> for Content {
    fn from(body: Body) -> Content {
        Content::Body(body)
    }
}

impl Lasting {
    pub(crate) fn new(begin: impl FnOnce(Carrier) + Send + 'static) -> Lasting {
        Lasting { begin: Box::new(begin), speaks: Speaks::Events }
    }

    /// Of a connection that is no longer one of HTTP/1.1 (RFC 9110 section 7.8): its answer is
    /// written as it is, and the bytes behind the request belong to the messages.
    pub(crate) fn messages(
        framing: Framing,
        begin: impl FnOnce(Carrier) + Send + 'static,
    ) -> Lasting {
        Lasting { begin: Box::new(begin), speaks: Speaks::Messages(framing) }
    }
}

/// What connections that are given away share.
#[derive(Clone)]
pub(super) struct Handing {
    patience: Arc<Patience>,
    open: TaskTracker,
}

/// An answer that is to be given its connection.
pub(super) struct Given {
    pub(super) head: Response<()>,
    pub(super) lasting: Lasting,
    pub(super) version: Version,
    /// The request's.
    pub(super) place: Option<Place>,
}

impl Handing {
    pub(super) fn new(server: &Server) -> Handing {
        Handing { patience: server.patience(), open: server.given.clone() }
    }

    /// Gives a connection of HTTP/1 to its answer. It carries nothing else from then on. `begun` is
    /// what the client said behind its request, as far as it was read.
    ///
    /// # Errors
    ///
    /// When the connection has broken meanwhile.
    pub(super) fn give(
        &self,
        given: Given,
        wire: Wire,
        begun: Bytes,
        place: Place,
    ) -> io::Result<()> {
        let Given { head, lasting, version, place: of_request } = given;
        let framing = match lasting.speaks {
            Speaks::Messages(framing) => framing,
            Speaks::Events if version == Version::HTTP_11 => Framing::Chunked,
            Speaks::Events => Framing::Bare,
        };
        let (socket, session, unread) = wire.into_parts();
        let begun = if unread.is_empty() { begun } else { [begun, unread].concat().into() };
        let outlet = match session {
            None => Outlet::Plain(mio::net::TcpStream::from_std(socket.into_std()?)),
            Some(session) => {
                let socket = mio::net::TcpStream::from_std(socket.into_std()?);
                Outlet::Encrypted(Box::new(Encrypted { socket, session }))
            }
        };
        let places = [Some(place), of_request];
        let head = written(head.status(), head.headers(), framing);
        let (patience, open) = (Arc::clone(&self.patience), self.open.token());
        (lasting.begin)(Carrier { outlet, framing, head, begun, patience, places, open });
        Ok(())
    }

    /// The body of a stream of HTTP/2, which its answer fills.
    pub(super) fn share(&self, lasting: Lasting, place: Option<Place>) -> Body {
        let handoff = Arc::new(Handoff::default());
        streams::ended_by(&handoff);
        let carrier = Carrier {
            outlet: Outlet::Shared(Feed(Arc::clone(&handoff))),
            framing: Framing::Bare,
            head: Bytes::new(),
            begun: Bytes::new(),
            patience: Arc::clone(&self.patience),
            places: [None, place],
            open: self.open.token(),
        };
        (lasting.begin)(carrier);
        boxed(Sent(handoff))
    }
}

/// A head as HTTP/1 writes it (RFC 9112). No other answer follows on this connection.
fn written(status: StatusCode, headers: &HeaderMap, framing: Framing) -> Bytes {
    let mut head = BytesMut::with_capacity(1024);
    let version = if framing == Framing::Bare { Version::HTTP_10 } else { Version::HTTP_11 };
    write_head(&mut head, version, status, headers);
    head.put_slice(match framing {
        Framing::Chunked => b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        Framing::Bare => b"connection: close\r\n\r\n",
        Framing::Messages | Framing::MessagesBinary | Framing::Raw => b"\r\n",
    });
    head.freeze()
}
