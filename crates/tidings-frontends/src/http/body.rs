//! Whole bodies, read and written. Knows no content type.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Body;
use crate::limits::{BODY_MEMORY_JUDGED_EVERY, BODY_TIMEOUT_SHORT};

/// Why a request's body was not read. All but `NoMemory` is the client's fault.
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
    /// The bodies of other requests held all the memory that there is for them (503).
    #[error("no memory for the body became free in time")]
    NoMemory,
}

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Body::whole(bytes.into())
}

/// A whole body that keeps its share of memory for as long as any of it is there.
pub(crate) fn shared(bytes: Vec<u8>, share: Share) -> Body {
    struct Owned(Vec<u8>, #[expect(dead_code, reason = "it is there to be dropped")] Share);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Body::whole(Bytes::from_owner(Owned(bytes, share)))
}

/// No body.
pub fn empty() -> Body {
    Body::whole(Bytes::new())
}

/// The memory that the bodies of all requests share while they are read and used: who sends a part
/// and then nothing holds no more of it than it sent, and all of them together no more than this.
#[derive(Debug)]
pub struct Bodies {
    bytes_max: usize,
    bytes: Arc<Semaphore>,
    /// One body at a time goes on when no memory is left. Without it, bodies that all wait for
    /// their last piece would wait for each other.
    beyond: Arc<Semaphore>,
}

/// A share of that memory, given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    bytes: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Memory of `bytes_max` bytes, and of the one body beside that may go beyond.
    pub fn new(bytes_max: usize) -> Bodies {
        let bytes = Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS)));
        Bodies { bytes_max, bytes, beyond: Arc::new(Semaphore::new(1)) }
    }

    /// Reads a whole body of at most `bytes_max` bytes within `time`. A declared length over the
    /// limit is refused before anything is read. The share is for as long as the bytes are kept.
    ///
    /// # Errors
    ///
    /// When the body is too large, too slow or broken, or found no memory in time.
    pub async fn read<B>(
        &self,
        mut body: B,
        bytes_max: usize,
        time: Duration,
    ) -> Result<(Bytes, Share), BodyProblem>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(BodyProblem::TooLarge);
        }
        let begun = Instant::now();
        let end = begun + time;
        let mut share = Share::default();
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        loop {
            let has_share = share.bytes.is_some() || share.beyond.is_some();
            let frame = self.next(&mut body, begun, end, has_share).await?;
            let Some(frame) = frame else { break };
            let Ok(piece) = frame.map_err(|_| BodyProblem::Broken)?.into_data() else { continue };
            if first.len().max(whole.len()) + piece.len() > bytes_max {
                return Err(BodyProblem::TooLarge);
            }
            let more = timeout_at(end, self.more(&mut share, piece.len()));
            more.await.map_err(|_| BodyProblem::NoMemory)?;
            // Most bodies are one frame: those are handed on without a copy.
            if first.is_empty() {
                first = piece;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&piece);
            }
        }
        Ok((if whole.is_empty() { first } else { whole.freeze() }, share))
    }

    /// The next frame of a body. One that has memory for which others wait does not take long.
    async fn next<B>(
        &self,
        body: &mut B,
        begun: Instant,
        end: Instant,
        has_share: bool,
    ) -> Result<Option<Result<Frame<Bytes>, B::Error>>, BodyProblem>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let mut looked = begun + BODY_TIMEOUT_SHORT;
        loop {
            let until = looked.max(Instant::now()).min(end);
            if let Ok(frame) = timeout_at(until, body.frame()).await {
                return Ok(frame);
            }
            let is_short = self.bytes.available_permits() < self.bytes_max / 8;
            if until >= end || (has_share && is_short) {
                return Err(BodyProblem::TooSlow);
            }
            looked = until + BODY_MEMORY_JUDGED_EVERY;
        }
    }

    /// A share for so many bytes that are not read but made.
    ///
    /// # Errors
    ///
    /// When there is none in time.
    pub(crate) async fn share(&self, bytes: usize, time: Duration) -> Result<Share, BodyProblem> {
        let mut share = Share::default();
        let more = timeout_at(Instant::now() + time, self.more(&mut share, bytes)).await;
        more.map_err(|_| BodyProblem::NoMemory)?;
        Ok(share)
    }

    /// Waits until `share` covers `bytes` more.
    async fn more(&self, share: &mut Share, bytes: usize) {
        if share.beyond.is_some() || bytes == 0 {
            return;
        }
        // A piece is as large as a read buffer; what no number holds can only go beyond.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        tokio::select! {
            biased;
            Ok(more) = Arc::clone(&self.bytes).acquire_many_owned(bytes) => {
                match &mut share.bytes {
                    Some(held) => held.merge(more),
                    None => share.bytes = Some(more),
                }
            }
            Ok(alone) = Arc::clone(&self.beyond).acquire_owned() => share.beyond = Some(alone),
            // Neither is ever closed.
            else => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BoxError, boxed};
    use futures_util::stream;
    use http_body_util::StreamBody;

    fn pieces(
        texts: &'static [&'static str],
    ) -> impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin {
        StreamBody::new(stream::iter(
            texts.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
        ))
    }

    async fn read(
        bodies: &Bodies,
        body: impl http_body::Body<Data = Bytes> + Unpin,
        bytes_max: usize,
    ) -> Result<(Bytes, Share), BodyProblem> {
        bodies.read(body, bytes_max, Duration::from_secs(5)).await
    }

    /// A body of one piece that never ends.
    fn unfinished(
        text: &'static str,
    ) -> impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin {
        let piece = stream::iter([Ok(Frame::data(Bytes::from_static(text.as_bytes())))]);
        StreamBody::new(futures_util::StreamExt::chain(piece, stream::pending()))
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_read_whole() {
        let bodies = Bodies::new(100);
        let whole = read(&bodies, pieces(&["a", "b", "", "cd"]), 4).await.unwrap().0;
        assert_eq!(whole, "abcd");
        assert_eq!(read(&bodies, pieces(&["", "ab"]), 4).await.unwrap().0, "ab");
        assert_eq!(read(&bodies, pieces(&[]), 4).await.unwrap().0, "");
        for body in
            [boxed(pieces(&["abc", "de"])), boxed(pieces(&["a", "b", "cde"])), full("12345")]
        {
            assert_eq!(read(&bodies, body, 4).await.unwrap_err(), BodyProblem::TooLarge);
        }
        assert_eq!(bodies.bytes.available_permits(), 100, "all is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_too_slow() {
        let bodies = Bodies::new(100);
        assert_eq!(read(&bodies, unfinished("a"), 4).await.unwrap_err(), BodyProblem::TooSlow);
        assert_eq!(bodies.bytes.available_permits(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_hold_no_more_memory_than_there_is_for_all() {
        let bodies = Bodies::new(10);
        let (_, kept) = read(&bodies, pieces(&["1234", "5678"]), 10).await.unwrap();
        let (_, beyond) = read(&bodies, pieces(&["1234", "5678", "90"]), 10).await.unwrap();
        // Nothing is left and the one that may go beyond is there.
        assert_eq!(read(&bodies, full("123"), 10).await.unwrap_err(), BodyProblem::NoMemory);
        assert_eq!(read(&bodies, full("12"), 10).await.unwrap().0, "12");
        let (waiting, ()) = tokio::join!(read(&bodies, full("123"), 10), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(kept);
        });
        assert_eq!(waiting.unwrap().0, "123");
        drop(beyond);
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_others_waiting_for_memory_has_less_time() {
        let bodies = Bodies::new(16);
        let long = Duration::from_secs(30);
        let begun = Instant::now();
        let stalled = || bodies.read(unfinished("12345678"), 16, long);
        assert_eq!(stalled().await.unwrap_err(), BodyProblem::TooSlow);
        assert_eq!(begun.elapsed(), long, "nobody waits");
        let begun = Instant::now();
        let (one, two, beyond, other) = tokio::join!(stalled(), stalled(), stalled(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let read = bodies.read(full("123"), 16, long).await;
            (read.map(|(whole, _)| whole), begun.elapsed())
        });
        for stalled in [one, two, beyond] {
            assert_eq!(stalled.unwrap_err(), BodyProblem::TooSlow);
        }
        assert_eq!(other.0.unwrap(), "123");
        assert!(other.1 < Duration::from_secs(7), "{:?}", other.1);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_need_more_than_there_is_do_not_wait_for_each_other() {
        let bodies = Bodies::new(10);
        let slow = |text| {
            use futures_util::StreamExt;
            let pause = || tokio::time::sleep(Duration::from_millis(100));
            let piece = move |_| async move {
                pause().await;
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(text)))
            };
            StreamBody::new(Box::pin(stream::iter(0..3).then(piece)))
        };
        // Each wants nine: after the first pieces one byte is left.
        let reads = [b"aaa", b"bbb", b"ccc", b"ddd"]
            .map(async |text| read(&bodies, slow(text), 10).await.map(|(whole, _)| whole));
        let read = futures_util::future::join_all(reads).await;
        let whole: Vec<_> = read.into_iter().map(|whole| whole.unwrap()).collect();
        assert_eq!(whole, ["aaaaaaaaa", "bbbbbbbbb", "ccccccccc", "ddddddddd"]);
        assert_eq!(bodies.bytes.available_permits(), 10);
    }
}
