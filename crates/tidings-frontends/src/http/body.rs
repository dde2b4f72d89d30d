//! Whole bodies, read and written. Knows no content type.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full};

use super::{Body, BoxError};

/// Why a request's body was not read. All of it is the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyProblem {
    /// More bytes than allowed (413).
    #[error("the body is larger than the limit")]
    TooLarge,
    /// It did not arrive in time (408).
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection or the framing broke (400, if anybody is there to read it).
    #[error("the body broke off")]
    Broken,
}

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| -> BoxError { match never {} }).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| -> BoxError { match never {} }).boxed_unsync()
}

/// Reads a whole body of at most `bytes_max` bytes within `time`. A declared length over the limit
/// is refused before anything is read.
pub async fn read_body<B>(body: B, bytes_max: usize, time: Duration) -> Result<Bytes, BodyProblem>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyProblem::TooLarge);
    }
    tokio::time::timeout(time, collect(body, bytes_max)).await.unwrap_or(Err(BodyProblem::TooSlow))
}

async fn collect<B>(mut body: B, bytes_max: usize) -> Result<Bytes, BodyProblem>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| BodyProblem::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + piece.len() > bytes_max {
            return Err(BodyProblem::TooLarge);
        }
        // Most bodies are one frame: those are handed on without a copy.
        if first.is_empty() {
            first = piece;
        } else {
            rest.extend_from_slice(&piece);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn pieces(
        texts: &'static [&'static str],
    ) -> impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin {
        StreamBody::new(stream::iter(
            texts.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
        ))
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_read_whole() {
        let time = Duration::from_secs(5);
        assert_eq!(read_body(pieces(&["a", "b", "", "cd"]), 4, time).await.unwrap(), "abcd");
        assert_eq!(read_body(pieces(&[]), 4, time).await.unwrap(), "");
        assert_eq!(
            read_body(pieces(&["abc", "de"]), 4, time).await.unwrap_err(),
            BodyProblem::TooLarge
        );
        assert_eq!(read_body(full("12345"), 4, time).await.unwrap_err(), BodyProblem::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_too_slow() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        let read = read_body(body, 4, Duration::from_millis(20)).await;
        assert_eq!(read.unwrap_err(), BodyProblem::TooSlow);
    }
}
