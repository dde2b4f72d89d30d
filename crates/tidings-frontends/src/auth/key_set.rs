//! The keys that an issuer publishes, as they are known now. Whoever reads them for us, from the
//! network or a file, replaces them here; who verifies tokens takes them from here and may ask for
//! them to be read again.
//!
//! Makes no connection, reads no clock and no file: it only knows what it is told, and whether
//! asking again is worth a wait.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;
use url::Url;

use super::jwk::{self, BadKeySet};
use super::keys::Key;

/// Where a key set is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySetPlace {
    /// At this address.
    Url(Url),
    /// In a file of this machine.
    File(PathBuf),
    /// Where the metadata of the issuer of this identifier says (RFC 8414).
    Discovered(Url),
}

impl KeySetPlace {
    /// Its kind, and all of it in one text.
    pub(super) fn written(&self) -> (&'static str, String) {
        match self {
            KeySetPlace::Url(url) => ("url", url.to_string()),
            KeySetPlace::File(path) => ("file", path.display().to_string()),
            KeySetPlace::Discovered(issuer) => ("discovered", issuer.to_string()),
        }
    }
}

impl fmt::Display for KeySetPlace {
    /// Without a query, which may hold what is nobody's business.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySetPlace::File(path) => path.display().fmt(formatter),
            KeySetPlace::Discovered(issuer) => write!(formatter, "the metadata of {issuer}"),
            KeySetPlace::Url(url) => {
                let mut url = url.clone();
                url.set_query(None);
                url.fmt(formatter)
            }
        }
    }
}

/// Keys that belong together, as they are at one moment.
pub(super) struct Snapshot {
    pub(super) keys: Vec<Key>,
    /// Which state of its set this is; a token is remembered for one of them.
    pub(super) generation: u64,
    content: Option<[u8; 32]>,
}

impl Snapshot {
    /// A key that never changes.
    pub(super) fn of(key: Key) -> Snapshot {
        Snapshot::fixed(vec![key])
    }

    /// Keys that never change.
    pub(super) fn fixed(keys: Vec<Key>) -> Snapshot {
        Snapshot { keys, generation: 0, content: None }
    }
}

/// What a reader of the set is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has just read, or nobody reads at all: asking leads to nothing.
    Resting,
    /// It would read again.
    Willing,
    /// It was asked to.
    Asked,
    /// It reads.
    Reading,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    phase: Phase,
    /// Times that reading ended, whatever came of it.
    rounds: u64,
}

/// What came of a set that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Whether it holds anything else than before.
    pub changed: bool,
    /// Keys in use, one for each algorithm.
    pub keys: usize,
    /// Why others were left out.
    pub left_out: Vec<&'static str>,
}

/// The key set of one issuer.
pub struct KeySet {
    issuer: Box<str>,
    place: KeySetPlace,
    keys: RwLock<Option<Arc<Snapshot>>>,
    generation: AtomicU64,
    reading: watch::Sender<Reading>,
    reads: AtomicU64,
    failures: AtomicU64,
    /// When it was last read, in milliseconds since 1970; zero for never.
    read_at: AtomicU64,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeySet")
            .field("issuer", &self.issuer)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    pub(super) fn new(issuer: &str, place: KeySetPlace) -> KeySet {
        KeySet {
            issuer: issuer.into(),
            place,
            keys: RwLock::default(),
            generation: AtomicU64::new(0),
            reading: watch::Sender::new(Reading { phase: Phase::Resting, rounds: 0 }),
            reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
        }
    }

    /// Whose keys these are, as configured.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where they are.
    pub fn place(&self) -> &KeySetPlace {
        &self.place
    }

    /// Takes the keys of a set that was read at `now`, in milliseconds since 1970. Tokens whose
    /// keys are gone count no longer.
    ///
    /// # Errors
    /// When these bytes are no usable key set; the keys from before stay.
    pub fn replace(&self, bytes: &[u8], now: u64) -> Result<Replaced, BadKeySet> {
        let mut content = [0; 32];
        content.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.as_ref().filter(|known| known.content == Some(content)) {
            self.note_read(now);
            return Ok(Replaced { changed: false, keys: same.keys.len(), left_out: Vec::new() });
        }
        let read = jwk::read_set(bytes)?;
        let generation = self.generation.load(Ordering::Acquire) + 1;
        let replaced = Replaced { changed: true, keys: read.keys.len(), left_out: read.left_out };
        let content = Some(content);
        *known = Some(Arc::new(Snapshot { keys: read.keys, generation, content }));
        self.generation.store(generation, Ordering::Release);
        self.note_read(now);
        Ok(replaced)
    }

    fn note_read(&self, now: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_at.store(now, Ordering::Relaxed);
    }

    /// Counts a read that failed. The keys from before stay.
    pub fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads that gave a set, and reads that failed.
    pub fn reads(&self) -> (u64, u64) {
        (self.reads.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// When it was last read, in milliseconds since 1970; `None` for never.
    pub fn read_at(&self) -> Option<u64> {
        Some(self.read_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    pub(super) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The reader begins.
    pub fn begin_reading(&self) {
        self.reading.send_modify(|reading| reading.phase = Phase::Reading);
    }

    /// The reader is done, for better or worse, and rests: strangers' tokens do not make it read
    /// again and again.
    pub fn end_reading(&self) {
        self.reading.send_modify(|reading| {
            reading.phase = Phase::Resting;
            reading.rounds += 1;
        });
    }

    /// The reader has rested: from now on it reads when asked.
    pub fn end_rest(&self) {
        self.reading.send_if_modified(|reading| {
            let rested = reading.phase == Phase::Resting;
            if rested {
                reading.phase = Phase::Willing;
            }
            rested
        });
    }

    /// Ends when somebody asks the reader to read again.
    pub async fn asked(&self) {
        // The sender is this set itself, so there is always one.
        let mut reading = self.reading.subscribe();
        let _open = reading.wait_for(|now| now.phase == Phase::Asked).await;
    }

    /// Has it read as soon as possible, also while the reader rests: the operator wants it.
    pub fn ask(&self) {
        self.reading.send_if_modified(|reading| {
            let idle = reading.phase != Phase::Reading;
            if idle {
                reading.phase = Phase::Asked;
            }
            idle
        });
    }

    /// Waits until it was read once more, when a reader is at it or willing. All who wait share one
    /// read. Answers whether there was one.
    pub(super) async fn read_again(&self) -> bool {
        let mut reading = self.reading.subscribe();
        let mut before = None;
        self.reading.send_if_modified(|reading| {
            before = (reading.phase != Phase::Resting).then_some(reading.rounds);
            let willing = reading.phase == Phase::Willing;
            if willing {
                reading.phase = Phase::Asked;
            }
            willing
        });
        match before {
            None => false,
            Some(before) => reading.wait_for(|now| now.rounds != before).await.is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn set() -> KeySet {
        let url = "https://issuer.example/keys?secret=1".parse().unwrap();
        KeySet::new("https://issuer.example", KeySetPlace::Url(url))
    }

    const ED: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn keys_from_before_stay_when_what_comes_is_no_set() {
        let set = set();
        assert!(set.snapshot().is_none() && set.read_at().is_none());
        assert!(set.replace(ED.as_bytes(), 7).unwrap().changed);
        for (bytes, flaw) in [
            (&b"<html>"[..], BadKeySet::NotJson),
            (b"", BadKeySet::NotJson),
            (b"{}", BadKeySet::NoList),
            (b"[]", BadKeySet::NoList),
            (br#"{"keys":{}}"#, BadKeySet::NoList),
            (br#"{"keys":[]}"#, BadKeySet::NoKey),
            (br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, BadKeySet::NoKey),
        ] {
            assert_eq!(set.replace(bytes, 8), Err(flaw));
        }
        assert_eq!(set.snapshot().unwrap().keys.len(), 1);
        assert_eq!((set.generation(), set.read_at()), (1, Some(7)));
        assert!(!set.replace(ED.as_bytes(), 9).unwrap().changed);
        assert_eq!((set.generation(), set.read_at()), (1, Some(9)));
    }

    #[test]
    fn places_are_shown_without_their_query() {
        assert_eq!(set().place().to_string(), "https://issuer.example/keys");
    }

    #[test]
    fn all_who_wait_share_one_read_and_nobody_waits_for_a_reader_that_rests() {
        let set = set();
        assert_eq!(set.read_again().now_or_never(), Some(false), "nobody reads");
        set.begin_reading();
        let mut early = Box::pin(set.read_again());
        assert!(early.as_mut().now_or_never().is_none());
        set.end_reading();
        assert_eq!(early.now_or_never(), Some(true));
        assert_eq!(set.read_again().now_or_never(), Some(false), "it rests");
        assert!(set.asked().now_or_never().is_none());
        set.end_rest();
        let mut waiting: Vec<_> = (0..200).map(|_| Box::pin(set.read_again())).collect();
        assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        assert!(set.asked().now_or_never().is_some());
        set.begin_reading();
        assert!(set.asked().now_or_never().is_none(), "asked once by all of them");
        set.end_reading();
        assert!(waiting.into_iter().all(|one| one.now_or_never() == Some(true)));
        set.ask();
        assert!(set.asked().now_or_never().is_some(), "the operator need not wait");
    }

    #[test]
    fn reads_and_failures_are_counted_apart() {
        let set = set();
        assert_eq!((set.issuer(), set.reads()), ("https://issuer.example", (0, 0)));
        for now in 1..=3 {
            set.replace(ED.as_bytes(), now).unwrap();
        }
        set.note_failure();
        assert_eq!(set.reads(), (3, 1));
    }

    #[test]
    fn every_other_set_is_another_state() {
        let set = set();
        assert_eq!(set.generation(), 0);
        for (state, name) in [(1, "1"), (2, "2"), (3, "1")] {
            let keys = ED.replace("\"kid\":\"1\"", &format!("\"kid\":\"{name}\""));
            assert!(set.replace(keys.as_bytes(), 1).unwrap().changed);
            assert_eq!(set.generation(), state);
            assert_eq!(set.snapshot().unwrap().generation, state);
        }
    }
}
