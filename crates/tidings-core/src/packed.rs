//! An entry as bytes, for whoever keeps a copy of it beside the history. Does not know who does,
//! where, or for how long.
//!
//! ```text
//!  0  u8   format version
//!  1  u24  sub-offset, little-endian as everything
//!  4  u32  CRC-32 over the epoch and the four bytes at the front
//!  8  u64  epoch
//! 16  the entry as a record of the history, which has a checksum of its own
//! ```

use std::sync::Arc;

use crate::history::record::{Record, encode};
use crate::hub::Hub;
use crate::ids::Ids;
use crate::update::{Entry, Epoch};

/// The format that is written, and the only one that is read.
const FORMAT: u8 = 1;
/// Bytes before the record.
const HEAD: usize = 16;

impl Hub {
    /// A published entry as bytes: [`Hub::unpack`] makes the same entry of them, in a later run of
    /// this hub too and when the history no longer has it. About [`crate::Update::weight`] bytes.
    /// In what scope the hub announced something is not kept.
    pub fn pack(&self, entry: &Entry) -> Vec<u8> {
        pack(entry)
    }

    /// The entry that was packed, with its cursor and id of before. `None` when the bytes are
    /// damaged, no packed entry, or of another format version.
    pub fn unpack(&self, bytes: &[u8]) -> Option<Arc<Entry>> {
        unpack(bytes, &self.inner.shared.ids).map(Arc::new)
    }
}

fn checksum(front: [u8; 4], epoch: [u8; 8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch);
    hasher.update(&front);
    hasher.finalize().to_le_bytes()
}

fn pack(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + entry.update.weight());
    // A sub-offset has 20 bits: see `limits::SUB_MAX`.
    let [low, middle, high, _zero] = entry.offset.sub.to_le_bytes();
    let (front, epoch) = ([FORMAT, low, middle, high], entry.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&front);
    bytes.extend_from_slice(&checksum(front, epoch));
    bytes.extend_from_slice(&epoch);
    encode(entry, 0, &mut bytes);
    bytes
}

fn unpack(bytes: &[u8], ids: &Arc<Ids>) -> Option<Entry> {
    let (front, rest) = bytes.split_first_chunk::<4>()?;
    let (known, rest) = rest.split_first_chunk::<4>()?;
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let [format, low, middle, high] = *front;
    if format != FORMAT || checksum(*front, *epoch) != *known {
        return None;
    }
    let (record, length) = Record::check(rest)?;
    let mut entry = record.to_entry(Epoch(u64::from_le_bytes(*epoch)), ids)?;
    entry.offset.sub = u32::from_le_bytes([low, middle, high, 0]);
    entry.update.ephemeral = entry.offset.sub > 0;
    (length == rest.len()).then_some(entry)
}

/// Reads arbitrary bytes as a packed entry, for random and fuzz testing: must not panic.
#[doc(hidden)]
pub fn fuzz_packed(bytes: &[u8]) {
    let ids = Arc::new(Ids::new([0; 16]));
    if let Some(entry) = unpack(bytes, &ids) {
        let again = unpack(&pack(&entry), &ids);
        let cursor = again.as_ref().map(Entry::cursor);
        assert_eq!(cursor, Some(entry.cursor()), "what was unpacked can be packed");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::record::any_update;
    use crate::hub_tests::{memory_hub, publish, update};
    use crate::limits::{DURABLE_MAX, SUB_MAX};
    use crate::*;

    proptest! {
        #[test]
        fn a_packed_entry_is_the_same_entry_again(
            update in any_update(),
            durable in 0..=DURABLE_MAX,
            sub in prop_oneof![Just(0), 0..=SUB_MAX],
            (epoch, time, flip) in any::<(u64, u64, usize)>(),
        ) {
            let ids = Arc::new(Ids::new([5; 16]));
            let update = Update { ephemeral: sub > 0, ..update };
            let offset = Offset { durable, sub };
            let entry = Entry::new(offset, Epoch(epoch), time, update, Arc::clone(&ids))
                .published_by("me");
            let mut bytes = pack(&entry);
            let again = unpack(&bytes, &ids).unwrap();
            prop_assert_eq!(&again.update, &entry.update);
            prop_assert_eq!((again.offset, again.epoch, again.time), (offset, Epoch(epoch), time));
            prop_assert_eq!(again.publisher(), entry.publisher());
            prop_assert_eq!((again.id(), again.cursor()), (entry.id(), entry.cursor()));
            // A damaged pack is no entry: shorter, longer, or with a flipped bit where it matters.
            prop_assert!(unpack(&bytes[..flip % bytes.len()], &ids).is_none());
            let body = u32::from_le_bytes(bytes[HEAD..HEAD + 4].try_into().unwrap()) as usize;
            let at = flip % (HEAD + 24 + body);
            bytes[at] ^= 1 << (flip % 8);
            prop_assert!(unpack(&bytes, &ids).is_none());
            bytes[at] ^= 1 << (flip % 8);
            bytes.extend_from_slice(&[0; 8]);
            prop_assert!(unpack(&bytes, &ids).is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            fuzz_packed(&bytes);
        }
    }

    #[tokio::test]
    async fn a_packed_entry_keeps_the_id_that_its_publisher_was_told() {
        let hub = memory_hub();
        let receipt = publish(&hub, update("a", "1")).await;
        let bytes = hub.pack(&hub.last_entry().unwrap());
        let again = hub.unpack(&bytes).unwrap();
        assert_eq!((again.id(), again.offset), (&*receipt.id, receipt.offset));
        assert_eq!(again.epoch, hub.epoch_now());
        assert_eq!(format!("{:016x}", hub.epoch_now().0), hub.epoch());
        assert!(memory_hub().unpack(&bytes).unwrap().id() != again.id(), "another hub's ids");
    }
}
