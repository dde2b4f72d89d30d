//! Entries as NATS messages: topic to subject, what belongs to the update to headers. Knows no
//! connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tidings_core::limits::HOPS_MAX;
use tidings_core::{Entry, Line};

use crate::limits::NATS_HEADS_BYTES;
use crate::nats::connection::Server;
use crate::nats::counters::Counters;
use crate::nats::headers::Block;
use crate::nats::options::Rewrite;
use crate::nats::protocol::{decimal, publish};
use crate::nats::source::{CONTENT_TYPE, HOPS, MESSAGE_ID};
use crate::nats::subject::flaw;

/// Header fields that servers act on, or that we write ourselves. A publisher's attributes are not
/// taken for them.
const OWN_PREFIXES: [&str; 2] = ["nats-", "tidings-"];

/// Why an entry can never be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// The server would take it for a command.
    #[error("subjects that begin with $ or _INBOX are the server's own")]
    Inner,
    /// NATS has no such subjects.
    #[error("the topic is no NATS subject: {0}")]
    NoSubject(&'static str),
    /// It goes round.
    #[error("passed through more than {HOPS_MAX} connectors: there is a loop")]
    Looped,
    /// The server says how much it takes.
    #[error("{length} bytes, and the server takes {max}: see max_payload there")]
    TooLarge {
        /// Of headers and data, in bytes.
        length: usize,
        /// What the server takes, in bytes.
        max: usize,
    },
}

impl Unfit {
    /// Counts it.
    pub(super) fn count(&self, counters: &Counters) {
        let counter = match self {
            Unfit::Inner | Unfit::NoSubject(_) => &counters.no_subject,
            Unfit::Looped => &counters.looped,
            Unfit::TooLarge { .. } => &counters.too_large,
        };
        Counters::add(counter, 1);
    }
}

/// How entries become messages.
pub(super) struct Encoding {
    rewrite: Option<Rewrite>,
    has_headers: bool,
    counters: Arc<Counters>,
}

impl Encoding {
    pub(super) fn new(
        rewrite: Option<Rewrite>,
        has_headers: bool,
        counters: Arc<Counters>,
    ) -> Encoding {
        Encoding { rewrite, has_headers, counters }
    }

    /// The subject of an entry, or why it can never be published.
    pub(super) fn subject<'a>(&self, entry: &'a Entry) -> Result<Cow<'a, str>, Unfit> {
        let topic = entry.update.topics.first().map_or("", |topic| topic.as_str());
        let subject = match &self.rewrite {
            Some(rewrite) => rewrite.apply(topic),
            None => Cow::Borrowed(topic),
        };
        // What begins so commands the server. Only the operator's own words may lead there.
        let is_meant = self.rewrite.as_ref().is_some_and(|Rewrite { replace: (from, to) }| {
            topic.starts_with(from.as_str()) && to.starts_with(['$', '_'])
        });
        if is_inner(&subject) && !is_meant {
            return Err(Unfit::Inner);
        }
        match flaw(&subject) {
            Some(reason) => Err(Unfit::NoSubject(reason)),
            None => Ok(subject),
        }
    }

    /// Begins to write messages of these entries for a server.
    pub(super) fn begin(&self, entries: &[&Arc<Entry>], server: Server) -> Writing {
        let bytes: usize = entries.iter().map(|entry| entry.update.weight()).sum();
        let room = bytes + entries.len() * NATS_HEADS_BYTES;
        let block = (self.has_headers && server.headers).then(Block::new);
        Writing { output: BytesMut::with_capacity(room), block, server }
    }

    /// Appends the message of an entry, or says why it can never be published.
    pub(super) fn add(
        &self,
        writing: &mut Writing,
        entry: &Entry,
        subject: &str,
        reply: Option<&str>,
    ) -> Result<(), Unfit> {
        let Writing { output, block, server } = writing;
        let hops = entry.update.origin.as_ref().map_or(0, |origin| origin.hops).saturating_add(1);
        if hops > HOPS_MAX {
            return Err(Unfit::Looped);
        }
        let block = block.as_mut().map(|block| self.fill(block, entry, hops));
        let data = &entry.update.data;
        let length = block.map_or(0, <[u8]>::len) + data.len();
        if length > server.message_bytes_max {
            let max = server.message_bytes_max;
            return Err(Unfit::TooLarge { length, max });
        }
        publish(output, subject, reply, block, data);
        Ok(())
    }

    fn fill<'a>(&self, block: &'a mut Block, entry: &Entry, hops: u8) -> &'a [u8] {
        let update = &entry.update;
        let mut dropped = 0;
        block.clear();
        block.add(MESSAGE_ID, entry.cursor());
        block.add(HOPS, decimal(hops.into(), &mut [0; 20]));
        if let Some(content_type) = update.content_type.as_ref().map(Line::as_str) {
            dropped += u64::from(!block.add(CONTENT_TYPE, content_type));
        }
        for (name, value) in &update.attributes {
            let name = name.as_str();
            let lower = name.to_ascii_lowercase();
            let is_own = OWN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
                || lower.eq_ignore_ascii_case(CONTENT_TYPE);
            dropped += u64::from(is_own || !block.add(name, value));
        }
        if dropped > 0 {
            self.counters.fields_dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        block.finish()
    }
}

/// Messages that are written one behind the other.
pub(super) struct Writing {
    output: BytesMut,
    /// Used for one message after the other, where there are headers.
    block: Option<Block>,
    server: Server,
}

impl Writing {
    /// All of them.
    pub(super) fn finish(self) -> BytesMut {
        self.output
    }
}

/// Whether a subject is one of those that servers use themselves.
fn is_inner(subject: &str) -> bool {
    subject.starts_with('$') || subject == "_INBOX" || subject.starts_with("_INBOX.")
}
