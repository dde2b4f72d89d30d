//! A request's body: whole already, or as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

/// A request's body.
#[derive(Debug)]
pub struct Received(Inner);

#[derive(Debug)]
enum Inner {
    /// What is left of it: all or nothing.
    Whole(Bytes),
    Coming(Incoming),
}

impl Received {
    pub(super) fn whole(bytes: Bytes) -> Received {
        Received(Inner::Whole(bytes))
    }
}

impl Received {
    /// The body if it is whole already: its bytes arrived with the head and wait for nothing.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Inner::Whole(bytes) => Some(std::mem::take(bytes)),
            Inner::Coming(_) => None,
        }
    }
}

impl From<Incoming> for Received {
    fn from(incoming: Incoming) -> Received {
        Received(Inner::Coming(incoming))
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Coming(incoming) => Pin::new(incoming).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Coming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Coming(incoming) => incoming.size_hint(),
        }
    }
}
