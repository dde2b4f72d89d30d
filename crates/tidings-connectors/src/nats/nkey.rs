//! Keys as NATS writes them: ed25519 in base32, with a prefix and a checksum. Knows no login.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// What an encoded user's key begins with: `U`.
const USER: u8 = 20 << 3;
/// What an encoded seed begins with: `S`, in five bits; the kind of key follows.
const SEED: u8 = 18 << 3;

/// Why a text is no seed. Never says the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSeed {
    /// Not base32, or of another length.
    #[error("it is no nkey seed: 58 capital letters and digits that begin with SU")]
    Form,
    /// The checksum is not right.
    #[error("a letter of the nkey seed is wrong: its checksum does not fit")]
    Checksum,
    /// A key of something else.
    #[error("it is the seed of something else than a user: a user's begins with SU")]
    Kind,
}

/// A user's key, which signs what a server asks.
pub(super) struct UserKey(Ed25519KeyPair);

impl UserKey {
    /// Reads a seed.
    pub(super) fn parse(seed: &str) -> Result<UserKey, BadSeed> {
        let bytes = decode(seed.trim()).ok_or(BadSeed::Form)?;
        let (body, sum) = bytes.split_last_chunk::<2>().ok_or(BadSeed::Form)?;
        let [first, second, seed @ ..] = body else { return Err(BadSeed::Form) };
        if seed.len() != 32 || first & 0xf8 != SEED {
            return Err(BadSeed::Form);
        }
        if checksum(body) != u16::from_le_bytes(*sum) {
            return Err(BadSeed::Checksum);
        }
        if (first & 7) << 5 | second >> 3 != USER {
            return Err(BadSeed::Kind);
        }
        Ed25519KeyPair::from_seed_unchecked(seed).map(UserKey).map_err(|_| BadSeed::Form)
    }

    /// The public key as servers know it, beginning with `U`.
    pub(super) fn public(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend_from_slice(self.0.public_key().as_ref());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        encode(&bytes)
    }

    /// The signature of a server's question.
    pub(super) fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sign(nonce.as_bytes()))
    }
}

/// CRC-16/XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => sum << 1 ^ 0x1021,
        })
    })
}

/// RFC 4648 section 6 without padding; an unfinished byte at the end has to be zero.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count < 5).then_some(bytes)
}

fn encode(bytes: &[u8]) -> String {
    let (mut bits, mut count, mut text) = (0u32, 0, String::new());
    let letter = |value: u32| ALPHABET.get(value as usize & 31).map_or('A', |l| char::from(*l));
    for byte in bytes {
        bits = (bits & 31) << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(letter(bits >> count));
        }
    }
    if count > 0 {
        text.push(letter(bits << (5 - count)));
    }
    text
}

/// A seed for tests and the public key that belongs to it.
#[cfg(test)]
pub(super) fn seed_of(raw: [u8; 32]) -> (String, String) {
    let mut bytes = vec![SEED | USER >> 5, (USER & 31) << 3];
    bytes.extend_from_slice(&raw);
    let seed = checked(bytes);
    let public = UserKey::parse(&seed).map(|key| key.public());
    (seed, public.unwrap_or_default())
}

/// The bytes with their checksum, as text.
#[cfg(test)]
pub(super) fn checked(mut bytes: Vec<u8>) -> String {
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    encode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_and_its_public_key_written() {
        let (seed, public) = seed_of([7; 32]);
        assert!(seed.starts_with("SU") && seed.len() == 58, "{seed}");
        assert!(public.starts_with('U') && public.len() == 56, "{public}");
        let key = UserKey::parse(&seed).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(key.sign("nonce")).unwrap();
        let verifier = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ED25519,
            key.0.public_key(),
        );
        verifier.verify(b"nonce", &signature).unwrap();
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(checksum(b"123456789"), 0x31c3);
        assert_eq!(encode(b"foobar"), "MZXW6YTBOI");
        assert_eq!(decode("MZXW6YTBOI").unwrap(), b"foobar");
        assert_eq!(decode("MZXW6YTBOJ"), None);
    }

    #[test]
    fn what_is_no_seed_is_refused_without_saying_it() {
        let (seed, public) = seed_of([1; 32]);
        let wrong = seed.replacen('A', "B", 1);
        let error = |text: &str| UserKey::parse(text).err();
        assert_eq!(error(&wrong), Some(BadSeed::Checksum));
        for bad in ["", "SU", "hello", "SUé", &seed.to_lowercase(), &public] {
            assert_eq!(error(bad), Some(BadSeed::Form), "{bad}");
        }
        let mut account = vec![SEED, 0];
        account.extend_from_slice(&[1; 32]);
        assert_eq!(error(&checked(account)), Some(BadSeed::Kind));
    }
}
