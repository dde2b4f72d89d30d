//! The hub's own ids: a place in the history, encrypted, in the shape of a random UUID.
//!
//! An id discloses neither order nor rate nor time, is stored nowhere, needs no index, and still
//! says its place to the hub that made it. The 122 free bits of a version 4 UUID (RFC 9562 section
//! 5.4) hold offset (52), sub-offset (20), epoch tag (20) and 30 zero bits by which the hub knows
//! its own; four Feistel rounds with AES-128 as the round function (Luby and Rackoff 1988) make a
//! permutation of those 122 bits.

use std::fmt;
use std::sync::Arc;

use aes::Aes128;
use aes::cipher::{
    Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit,
};

use crate::limits::DURABLE_MAX;
use crate::update::{Epoch, Offset};

const PREFIX: &str = "urn:uuid:";
const HALF: u64 = (1 << 61) - 1;
const TAG: u64 = (1 << 20) - 1;
const CHECK_BITS: u32 = 30;

/// What an id of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    tag: u64,
    pub(crate) offset: Offset,
}

impl Place {
    /// Whether the place belongs to `epoch`.
    pub(crate) fn is_of(&self, epoch: Epoch) -> bool {
        self.tag == epoch.0 & TAG
    }
}

/// Makes and reads the hub's ids under the key of one data folder.
pub(crate) struct Ids {
    cipher: Aes128,
}

impl fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ids")
    }
}

impl Ids {
    pub(crate) fn new(key: [u8; 16]) -> Ids {
        Ids { cipher: Aes128::new(&Array::from(key)) }
    }

    /// The id of a place.
    pub(crate) fn seal(&self, epoch: Epoch, offset: Offset) -> Arc<str> {
        let sub = u64::from(offset.sub);
        let mut left = (offset.durable & DURABLE_MAX) << 9 | sub >> 11;
        let mut right = (sub & 0x7ff) << 50 | (epoch.0 & TAG) << CHECK_BITS;
        self.cipher.encrypt_with_backend(Rounds::Sealing(&mut left, &mut right));
        let bits = u128::from(left) << 61 | u128::from(right);
        let uuid = (bits >> 74) << 80
            | 4 << 76
            | (bits >> 62 & 0xfff) << 64
            | 2 << 62
            | (bits & ((1 << 62) - 1));
        written(uuid)
    }

    /// The place that `id` says, if it is an id that [`Ids::seal`] made under this key.
    pub(crate) fn open(&self, id: &str) -> Option<Place> {
        let uuid = parse(id.strip_prefix(PREFIX)?)?;
        if (uuid >> 76) & 0xf != 4 || (uuid >> 62) & 3 != 2 {
            return None;
        }
        let bits = uuid >> 80 << 74 | (uuid >> 64 & 0xfff) << 62 | (uuid & ((1 << 62) - 1));
        let half = |bits: u128| u64::try_from(bits & u128::from(HALF)).unwrap_or_default();
        let (mut left, mut right) = (half(bits >> 61), half(bits));
        self.cipher.encrypt_with_backend(Rounds::Opening(&mut left, &mut right));
        let sub = (left & 0x1ff) << 11 | right >> 50;
        let known = right & ((1 << CHECK_BITS) - 1) == 0;
        known.then(|| Place {
            tag: right >> CHECK_BITS & TAG,
            offset: Offset { durable: left >> 9, sub: u32::try_from(sub).unwrap_or_default() },
        })
    }
}

/// The rounds of the permutation over both halves. All of them in one turn of the cipher: each turn
/// lays out its keys anew, which costs more than a block.
enum Rounds<'a> {
    Sealing(&'a mut u64, &'a mut u64),
    Opening(&'a mut u64, &'a mut u64),
}

impl BlockSizeUser for Rounds<'_> {
    type BlockSize = <Aes128 as BlockSizeUser>::BlockSize;
}

impl BlockCipherEncClosure for Rounds<'_> {
    fn call<B: BlockCipherEncBackend<BlockSize = Self::BlockSize>>(self, backend: &B) {
        let function = |round: u8, half: u64| {
            let block = u128::from(half) | u128::from(round) << 120;
            let mut block = Array::from(block.to_le_bytes());
            backend.encrypt_block((&mut block).into());
            let [a, b, c, d, e, f, g, h, ..] = block.0;
            u64::from_le_bytes([a, b, c, d, e, f, g, h]) & HALF
        };
        match self {
            Rounds::Sealing(left, right) => {
                for round in 0..4 {
                    (*left, *right) = (*right, *left ^ function(round, *right));
                }
            }
            Rounds::Opening(left, right) => {
                for round in (0..4).rev() {
                    (*left, *right) = (*right ^ function(round, *left), *left);
                }
            }
        }
    }
}

/// The canonical text of a UUID as a URN (RFC 9562 section 4). Each update has one.
fn written(uuid: u128) -> Arc<str> {
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(uuid.to_be_bytes()) {
        *pair = [byte >> 4, byte & 0xf];
    }
    // Without a question for each: all of them are made at once.
    let digits = digits.map(|half| half + b'0' + u8::from(half > 9) * (b'a' - b'9' - 1));
    let mut text = [b'-'; PREFIX.len() + 36];
    text[..9].copy_from_slice(PREFIX.as_bytes());
    text[9..17].copy_from_slice(&digits[..8]);
    text[18..22].copy_from_slice(&digits[8..12]);
    text[23..27].copy_from_slice(&digits[12..16]);
    text[28..32].copy_from_slice(&digits[16..20]);
    text[33..].copy_from_slice(&digits[20..]);
    String::from_utf8_lossy(&text).into()
}

/// Reads the canonical text of a UUID: lower case, hyphens in their places.
fn parse(text: &str) -> Option<u128> {
    let mut value = 0u128;
    let mut digits = 0;
    for (index, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'-' if matches!(index, 8 | 13 | 18 | 23) => continue,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(digit);
        digits += 1;
    }
    (digits == 32 && text.len() == 36).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SUB_MAX;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_says_its_place_and_nothing_else_does(
            key: [u8; 16], epoch: u64, durable in 0..=DURABLE_MAX, sub in 0..=SUB_MAX, other: u128
        ) {
            let ids = Ids::new(key);
            let offset = Offset { durable, sub };
            let id = ids.seal(Epoch(epoch), offset);
            prop_assert_eq!(id.len(), 45);
            prop_assert_eq!(&id[23..24], "4");
            let place = ids.open(&id).unwrap();
            prop_assert_eq!(place.offset, offset);
            prop_assert!(place.is_of(Epoch(epoch)));
            prop_assert!(!place.is_of(Epoch(epoch ^ 1)));
            prop_assert_eq!(Ids::new([7; 16]).open(&id).filter(|_| key != [7; 16]), None);
            let hex = format!("{other:032x}");
            let foreign = format!(
                "urn:uuid:{}-{}-4{}-8{}-{}",
                &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]
            );
            prop_assert_eq!(ids.open(&foreign), None);
        }
    }

    #[test]
    fn other_spellings_are_not_ours() {
        let ids = Ids::new([1; 16]);
        let id = ids.seal(Epoch(5), Offset::durable(9));
        for wrong in ["", "urn:uuid:", &id[9..], &id.to_uppercase(), &id.replace('-', "")] {
            assert_eq!(ids.open(wrong), None, "{wrong}");
        }
    }
}
