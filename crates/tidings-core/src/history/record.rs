//! One entry as bytes, format version 1. Everything is little-endian and starts at a multiple of
//! eight; what follows the last record of a segment is zero.
//!
//! ```text
//!  0  u32  length of the body
//!  4  u32  CRC-32 over bytes 8 to the end of the body
//!  8  u64  offset
//! 16  u32  how far this segment was synced when the record was written
//! 20  u32  zero
//! 24  body: time u64 | flags u16 | hops u8 | zero u8 | topic count u16 | topics |
//!           optional fields in the order of the flags | attributes | data
//! ```
//!
//! A text is a u16 of its length and its bytes. The synced position tells a torn tail (nothing
//! behind it was ever acknowledged) from damage in the middle.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Ids;
use crate::limits::RECORD_BYTES_MAX;
use crate::topic::{Line, Topic};
use crate::update::{Entry, Epoch, Offset, Origin, Update};

/// Bytes before the body.
pub(crate) const HEAD: usize = 24;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;

const PRIVATE: u16 = 1;
const ID: u16 = 1 << 1;
const EVENT_TYPE: u16 = 1 << 2;
const CONTENT_TYPE: u16 = 1 << 3;
const RETRY: u16 = 1 << 4;
const IDEMPOTENCY_KEY: u16 = 1 << 5;
const ORIGIN: u16 = 1 << 6;
const ATTRIBUTES: u16 = 1 << 7;

fn put_text(into: &mut Vec<u8>, text: &str) {
    // Every text of an update is bounded far below 64 KiB, attribute values below 16 MiB.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    if let Ok(short) = u16::try_from(length)
        && short < u16::MAX
    {
        into.extend_from_slice(&short.to_le_bytes());
    } else {
        into.extend_from_slice(&u16::MAX.to_le_bytes());
        into.extend_from_slice(&length.to_le_bytes());
    }
    into.extend_from_slice(text.as_bytes());
}

fn count(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

fn flags(update: &Update) -> u16 {
    let set = |flag, yes: bool| if yes { flag } else { 0 };
    set(PRIVATE, update.private)
        | set(ID, update.id.is_some())
        | set(EVENT_TYPE, update.event_type.is_some())
        | set(CONTENT_TYPE, update.content_type.is_some())
        | set(RETRY, update.retry.is_some())
        | set(IDEMPOTENCY_KEY, update.idempotency_key.is_some())
        | set(ORIGIN, update.origin.is_some())
        | set(ATTRIBUTES, !update.attributes.is_empty())
}

/// Appends the record of `entry` to `into`, padded to the alignment. `synced` is the position up to
/// which its segment is synced now.
pub(crate) fn encode(entry: &Entry, synced: u32, into: &mut Vec<u8>) {
    let start = into.len();
    let end = put(entry, &entry.update.data, synced, into);
    let crc = crc32fast::hash(into.get(start + 8..end).unwrap_or_default());
    if let Some(place) = into.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// The same without a checksum, for memory, which nobody else writes to. `data` is the entry's, or
/// nothing where that is kept elsewhere.
pub(crate) fn encode_trusted(entry: &Entry, data: &[u8], into: &mut Vec<u8>) {
    put(entry, data, 0, into);
}

/// Answers where the record ends, without what pads it.
fn put(entry: &Entry, data: &[u8], synced: u32, into: &mut Vec<u8>) -> usize {
    let start = into.len();
    let update = &entry.update;
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&entry.offset.durable.to_le_bytes());
    into.extend_from_slice(&synced.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&entry.time.to_le_bytes());
    into.extend_from_slice(&flags(update).to_le_bytes());
    into.extend_from_slice(&[update.origin.as_ref().map_or(0, |origin| origin.hops), 0]);
    into.extend_from_slice(&count(update.topics.len()));
    for topic in &update.topics {
        put_text(into, topic.as_str());
    }
    for line in [&update.id, &update.event_type, &update.content_type].into_iter().flatten() {
        put_text(into, line.as_str());
    }
    if let Some(retry) = update.retry {
        into.extend_from_slice(&retry.to_le_bytes());
    }
    if let Some(key) = &update.idempotency_key {
        put_text(into, entry.publisher());
        put_text(into, key.as_str());
    }
    if let Some(origin) = &update.origin {
        put_text(into, origin.connector.as_str());
        // No position is empty: a line never is.
        put_text(into, origin.position.as_ref().map_or("", Line::as_str));
    }
    if !update.attributes.is_empty() {
        into.extend_from_slice(&count(update.attributes.len()));
        for (name, value) in &update.attributes {
            put_text(into, name.as_str());
            put_text(into, value);
        }
    }
    into.extend_from_slice(data);
    let end = into.len();
    let length = u32::try_from(end - start - HEAD).unwrap_or(u32::MAX);
    if let Some(place) = into.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    into.resize(end.next_multiple_of(ALIGN), 0);
    end
}

/// Reads fields off the front of some bytes.
#[derive(Debug, Clone, Copy)]
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn bytes(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn number32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn number64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = match self.number16()? {
            u16::MAX => usize::try_from(self.number32()?).ok()?,
            short => usize::from(short),
        };
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn line(&mut self) -> Option<Line> {
        self.text().and_then(|text| Line::parse(text).ok())
    }

    /// An empty text is none.
    fn line_or_none(&mut self) -> Option<Option<Line>> {
        match self.text()? {
            "" => Some(None),
            text => Line::parse(text).ok().map(Some),
        }
    }
}

/// A record whose frame is right, and whose checksum is where it has one; not decoded further than
/// needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'b> {
    pub(crate) offset: u64,
    /// How far the segment was synced when this was written.
    pub(crate) synced: u32,
    body: &'b [u8],
}

/// The bytes that a record with a body of this length takes up, padding included.
fn padded(body: usize) -> usize {
    (HEAD + body).next_multiple_of(ALIGN)
}

impl<'b> Record<'b> {
    /// The record at the front of `bytes` and the bytes that it takes up, if its frame and checksum
    /// are right.
    pub(crate) fn check(bytes: &'b [u8]) -> Option<(Record<'b>, usize)> {
        let (record, length, crc) = Record::frame(bytes)?;
        let covered = bytes.get(8..HEAD + record.body.len())?;
        (crc32fast::hash(covered) == crc).then_some((record, length))
    }

    /// The record at the front of bytes that were checked before, or that nobody else wrote.
    pub(crate) fn trusted(bytes: &'b [u8]) -> Option<Record<'b>> {
        Record::frame(bytes).map(|(record, _, _)| record)
    }

    fn frame(bytes: &'b [u8]) -> Option<(Record<'b>, usize, u32)> {
        let mut fields = Fields(bytes);
        let length = usize::try_from(fields.number32()?).ok()?;
        let crc = fields.number32()?;
        let offset = fields.number64()?;
        let synced = fields.number32()?;
        fields.number32()?;
        if length == 0 || length > RECORD_BYTES_MAX * 2 {
            return None;
        }
        let body = fields.bytes(length)?;
        Some((Record { offset, synced, body }, padded(length), crc))
    }

    /// The bytes that it takes up, padding included.
    pub(crate) fn length(&self) -> usize {
        padded(self.body.len())
    }

    pub(crate) fn time(&self) -> u64 {
        Fields(self.body).number64().unwrap_or_default()
    }

    fn flags(&self) -> u16 {
        self.body
            .get(8..10)
            .map_or(0, |bytes| bytes.try_into().map(u16::from_le_bytes).unwrap_or_default())
    }

    pub(crate) fn is_private(&self) -> bool {
        self.flags() & PRIVATE != 0
    }

    /// Whether `pick` says yes to one of the topics, asked in order until it does; yes as well when
    /// a topic cannot be read.
    pub(crate) fn any_topic(&self, pick: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut fields = Fields(self.body.get(12..).unwrap_or_default());
        let topics = fields.number16().unwrap_or(1);
        (0..topics).any(|_| fields.text().is_none_or(&mut *pick))
    }

    /// The publisher's id, if it gave one.
    pub(crate) fn id(&self) -> Option<&'b str> {
        if self.flags() & ID == 0 {
            return None;
        }
        let mut fields = Fields(self.body.get(12..)?);
        for _ in 0..fields.number16()? {
            fields.text()?;
        }
        fields.text()
    }

    /// Whether it carries what a repeated publication is known by.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.flags() & (IDEMPOTENCY_KEY | ORIGIN) != 0
    }

    /// The whole entry. `None` only when the record was written by a program that is wrong.
    pub(crate) fn to_entry(self, epoch: Epoch, ids: &Arc<Ids>) -> Option<Entry> {
        let mut fields = Fields(self.body);
        let time = fields.number64()?;
        let flags = fields.number16()?;
        let [hops, _zero] = fields.array()?;
        let mut topics = Vec::new();
        for _ in 0..fields.number16()? {
            topics.push(Topic::parse(fields.text()?).ok()?);
        }
        let mut line = |flag| match flags & flag {
            0 => Some(None),
            _ => fields.line().map(Some),
        };
        let (id, event_type, content_type) = (line(ID)?, line(EVENT_TYPE)?, line(CONTENT_TYPE)?);
        let retry = if flags & RETRY == 0 { None } else { Some(fields.number64()?) };
        let mut publisher = "";
        let mut idempotency_key = None;
        if flags & IDEMPOTENCY_KEY != 0 {
            publisher = fields.text()?;
            idempotency_key = Some(fields.line()?);
        }
        let mut origin = None;
        if flags & ORIGIN != 0 {
            let (connector, position) = (fields.line()?, fields.line_or_none()?);
            origin = Some(Origin { connector, position, hops });
        }
        let mut attributes = Vec::new();
        if flags & ATTRIBUTES != 0 {
            for _ in 0..fields.number16()? {
                attributes.push((fields.line()?, fields.text()?.to_owned()));
            }
        }
        let update = Update {
            topics,
            data: Bytes::copy_from_slice(fields.0),
            content_type,
            private: flags & PRIVATE != 0,
            id,
            event_type,
            retry,
            attributes,
            idempotency_key,
            origin,
            ephemeral: false,
        };
        let offset = Offset::durable(self.offset);
        Some(Entry::new(offset, epoch, time, update, Arc::clone(ids)).published_by(publisher))
    }
}

/// Reads arbitrary bytes as records, for random and fuzz testing: must not panic.
#[doc(hidden)]
pub fn fuzz_record(bytes: &[u8]) {
    let ids = Arc::new(Ids::new([0; 16]));
    for (record, _) in [Record::check(bytes), Record::trusted(bytes).map(|record| (record, 0))]
        .into_iter()
        .flatten()
    {
        let _ = (record.time(), record.is_private(), record.id());
        record.any_topic(&mut |_| false);
        if let Some(entry) = record.to_entry(Epoch(1), &ids) {
            let mut again = Vec::new();
            encode(&entry, record.synced, &mut again);
            assert!(Record::check(&again).is_some(), "what was read can be written");
        }
    }
}

#[cfg(test)]
pub(crate) use tests::any_update;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = Option<Line>> {
        proptest::option::of("[^\0\r\n]{1,40}".prop_map(|text| Line::parse(&text).unwrap()))
    }

    prop_compose! {
        pub(crate) fn any_update()(
            topics in proptest::collection::vec("[^\0\r\n]{0,60}", 1..5),
            data in any::<Vec<u8>>(),
            (private, retry) in any::<(bool, Option<u64>)>(),
            (id, event_type, content_type) in (line(), line(), line()),
            (idempotency_key, connector, position) in (line(), line(), line()),
            attributes in proptest::collection::vec(("[a-z]{1,9}", ".{0,40}"), 0..4),
            hops in any::<u8>(),
        ) -> Update {
            let origin = connector.map(|connector| Origin { connector, position, hops });
            Update {
                topics: topics.iter().map(|topic| Topic::parse(topic).unwrap()).collect(),
                data: data.into(),
                content_type, private, id, event_type, retry, idempotency_key, origin,
                attributes: attributes.into_iter()
                    .map(|(name, value)| (Line::parse(&name).unwrap(), value)).collect(),
                ephemeral: false,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(update in any_update(), durable: u64, time: u64, flip: usize) {
            let ids = Arc::new(Ids::new([0; 16]));
            let publisher = if update.idempotency_key.is_some() { "me" } else { "" };
            let entry = Entry::new(Offset { durable, sub: 0 }, Epoch(1), time, update, ids.clone())
                .published_by("me");
            let mut bytes = Vec::new();
            encode(&entry, 77, &mut bytes);
            prop_assert_eq!(bytes.len() % ALIGN, 0);
            let (record, length) = Record::check(&bytes).unwrap();
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!(record.synced, 77);
            prop_assert_eq!(record.time(), time);
            prop_assert_eq!(record.id(), entry.update.id.as_ref().map(Line::as_str));
            let again = record.to_entry(Epoch(1), &ids).unwrap();
            prop_assert_eq!(&again.update, &entry.update);
            prop_assert_eq!(again.publisher(), publisher);
            prop_assert_eq!(again.offset, entry.offset);
            // Any flipped bit of what the checksum covers is noticed.
            let body = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
            let at = flip % (HEAD + body);
            bytes[at] ^= 1 << (flip % 8);
            prop_assert!(Record::check(&bytes).is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            fuzz_record(&bytes);
        }
    }
}
