//! Bodies, received and sent: whole already, or as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body whose bytes are all there, or one that comes in pieces.
#[derive(Debug)]
pub struct MaybeWhole<B>(Inner<B>);

#[derive(Debug)]
enum Inner<B> {
    /// What is left of it: all or nothing.
    Whole(Bytes),
    Coming(B),
}

impl<B> MaybeWhole<B> {
    pub(super) fn whole(bytes: Bytes) -> MaybeWhole<B> {
        MaybeWhole(Inner::Whole(bytes))
    }

    pub(super) fn coming(body: B) -> MaybeWhole<B> {
        MaybeWhole(Inner::Coming(body))
    }

    /// The body if it is whole already: its bytes wait for nothing.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Inner::Whole(bytes) => Some(std::mem::take(bytes)),
            Inner::Coming(_) => None,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for MaybeWhole<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Coming(coming) => Pin::new(coming).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Coming(coming) => coming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Coming(coming) => coming.size_hint(),
        }
    }
}
