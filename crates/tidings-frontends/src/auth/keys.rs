//! Keys that verify tokens: read from the configuration, checked for what makes keys weak, bound to
//! one algorithm each. Knows nothing of claims.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::algorithm::{Algorithm, Verification};
use super::flaw::KeyFlaw;
use super::marks::{Print, print};
use super::options::KeyOptions;
use crate::limits::{KEY_FILE_BYTES_MAX, PATH_SHOWN_BYTES_MAX, RSA_BITS_MIN};

/// The secret in the examples of the Mercure ecosystem: everybody can sign with it.
pub const WELL_KNOWN_SECRET: &str = "!ChangeThisMercureHubJWTSecretKey!";

/// What is done about a secret that can be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weakness {
    /// Refused: RFC 7518 section 3.2 forbids it.
    Refused,
    /// A warning: 0.x setups have short secrets, and 0.x never forbade them. What everybody knows
    /// is refused all the same.
    Warned,
    /// Nothing: the operator said so.
    Allowed,
}

/// A key with the one algorithm that it verifies.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<Box<str>>,
    /// Whether it is a secret that can be guessed, in a setup where that is only warned about.
    pub(super) is_short: bool,
    /// Which key this is, whatever its name, in every process. As secret as the key.
    pub(super) print: Print,
    /// From when on it verifies nothing, in milliseconds since 1970; `None` for never.
    pub(super) ends: Option<u64>,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

// By hand: the material never reaches a log through `{:?}`.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Reads and checks a key.
    pub(super) fn load(options: &KeyOptions, weakness: Weakness) -> Result<Key, KeyFlaw> {
        let name = options.algorithm.as_str();
        let algorithm = Algorithm::parse(name)
            .ok_or_else(|| KeyFlaw::UnknownAlgorithm { name: name.to_owned() })?;
        let bytes = match (&options.key, &options.key_file) {
            (Some(key), None) => key.clone().into_bytes(),
            (None, Some(path)) => read_key_file(path)?,
            (None, None) => return Err(KeyFlaw::Missing),
            (Some(_), Some(_)) => return Err(KeyFlaw::Twice),
        };
        if bytes.is_empty() {
            return Err(KeyFlaw::Empty);
        }
        let mut is_short = false;
        let material = match algorithm.verification() {
            Verification::Secret(hash) => {
                is_short = check_secret(&bytes, algorithm, hash, weakness)?;
                Material::Secret(Box::new(hmac::Key::new(hash, &bytes)))
            }
            Verification::Public(verification) => {
                let der = public_key(&bytes, algorithm)?;
                let key = ParsedPublicKey::new(verification, der)
                    .map_err(|_| KeyFlaw::DoesNotFit { algorithm: algorithm.name() })?;
                Material::Public(key)
            }
        };
        let kid = options.kid.as_deref().map(Box::from);
        let print = print(&[name.as_bytes(), &bytes]);
        Ok(Key { algorithm, kid, is_short, print, ends: None, material })
    }

    /// A secret of the hub's own tokens, until it ends in milliseconds since 1970.
    pub(super) fn own(kid: &str, secret: &[u8; 32], ends: Option<u64>) -> Key {
        let (algorithm, kid) = (Algorithm::Hs256, Some(kid.into()));
        let material = Material::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        let print = print(&[algorithm.name().as_bytes(), secret]);
        Key { algorithm, kid, is_short: false, print, ends, material }
    }

    /// A public key of a set, in one of the forms that its algorithm's keys have in DER, or as the
    /// bare point or string of a curve. `None` when it does not fit the algorithm.
    pub(super) fn public(algorithm: Algorithm, kid: Option<Box<str>>, key: &[u8]) -> Option<Key> {
        let Verification::Public(verification) = algorithm.verification() else { return None };
        let parsed = ParsedPublicKey::new(verification, key).ok()?;
        let material = Material::Public(parsed);
        Some(Key { algorithm, kid, is_short: false, print: print(&[key]), ends: None, material })
    }

    /// Whether `signature` is this key's for `signed`. Compares secrets in constant time.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Material::Public(key) => key.verify_sig(signed, signature).is_ok(),
        }
    }
}

/// How files that hold keys usually end.
const KEY_FILE_ENDINGS: [&str; 11] =
    [".key", ".pem", ".pub", ".txt", ".secret", ".jwt", ".token", ".env", ".conf", ".toml", ".der"];

/// Whether a text looks like a path and not like a secret that somebody wrote where a path belongs:
/// short, without spaces, and with a known ending or a slash. Base64 has slashes, too, but rarely
/// without a plus or an equals sign.
pub fn is_pathlike(text: &str) -> bool {
    let ends = KEY_FILE_ENDINGS.iter().any(|ending| text.ends_with(ending));
    let named = ends || (text.contains('/') && !text.contains(['+', '=']));
    named && text.len() < PATH_SHOWN_BYTES_MAX && !text.contains(char::is_whitespace)
}

/// A path to a secret as it is shown: masked where it may be the secret itself.
pub fn shown_path(path: &Path) -> Cow<'_, str> {
    match path.to_str() {
        Some(text) if !is_pathlike(text) => {
            Cow::Borrowed("the file (its name does not look like a path, so it is not shown)")
        }
        _ => path.to_string_lossy(),
    }
}

/// The bytes of a file with a key or another secret, without one line ending at its end.
///
/// # Errors
/// When it cannot be read or is larger than [`KEY_FILE_BYTES_MAX`]; says which file.
pub fn read_key_file(path: &Path) -> Result<Vec<u8>, KeyFlaw> {
    let mut bytes = read_bounded(path, KEY_FILE_BYTES_MAX)?;
    // Editors and `echo` end a file with a newline that nobody means to be part of the secret.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// The bytes of a file of at most `bytes_max`.
///
/// # Errors
/// When it cannot be read or is larger; says which file.
pub fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, KeyFlaw> {
    let unreadable = |source| KeyFlaw::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    let limit = u64::try_from(bytes_max + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > bytes_max {
        return Err(KeyFlaw::TooLarge { path: path.to_owned(), bytes_max });
    }
    Ok(bytes)
}

/// Whether the secret is too short where that is only warned about.
fn check_secret(
    secret: &[u8],
    algorithm: Algorithm,
    hash: hmac::Algorithm,
    weakness: Weakness,
) -> Result<bool, KeyFlaw> {
    // With a public key as the secret, everybody could sign (RFC 8725 section 2.1).
    if secret.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN.as_bytes()) {
        return Err(KeyFlaw::PemForSecret { algorithm: algorithm.name() });
    }
    let bytes = hash.digest_algorithm().output_len();
    let is_short = secret.len() < bytes;
    match weakness {
        Weakness::Allowed => Ok(false),
        _ if secret.trim_ascii() == WELL_KNOWN_SECRET.as_bytes() => Err(KeyFlaw::WellKnown),
        Weakness::Refused if is_short => {
            Err(KeyFlaw::TooShort { algorithm: algorithm.name(), bytes })
        }
        Weakness::Refused | Weakness::Warned => Ok(is_short),
    }
}

const PEM_BEGIN: &str = "-----BEGIN ";

/// The DER bytes of a public key in PEM text: `SubjectPublicKeyInfo`, or PKCS #1 for RSA.
fn public_key(text: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, KeyFlaw> {
    let not_pem = || KeyFlaw::NotPem { algorithm: algorithm.name() };
    let text = std::str::from_utf8(text).map_err(|_| not_pem())?;
    let (_, text) = text.split_once(PEM_BEGIN).ok_or_else(not_pem)?;
    let (label, text) = text.split_once("-----").ok_or_else(not_pem)?;
    match label {
        "PUBLIC KEY" => {}
        "RSA PUBLIC KEY" if algorithm.is_rsa() => {}
        "CERTIFICATE" => return Err(KeyFlaw::Certificate),
        _ if label.ends_with("PRIVATE KEY") => return Err(KeyFlaw::Private),
        _ => return Err(not_pem()),
    }
    let (body, _) = text.split_once("-----END ").ok_or_else(not_pem)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| not_pem())?;
    if algorithm.is_rsa() {
        let bits = rsa_bits(&der).ok_or(KeyFlaw::DoesNotFit { algorithm: algorithm.name() })?;
        if bits < RSA_BITS_MIN {
            return Err(KeyFlaw::RsaTooSmall { bits });
        }
    }
    Ok(der)
}

fn rsa_bits(der: &[u8]) -> Option<usize> {
    let key = RsaPublicKey::from_der(der).ok()?;
    bits(&RsaPublicKeyComponents::<Vec<u8>>::from(&key).n)
}

/// The length of a number whose highest byte comes first; `None` for zero.
pub(super) fn bits(number: &[u8]) -> Option<usize> {
    let first = number.iter().position(|byte| *byte != 0)?;
    let digits = number.get(first..)?;
    Some(digits.len() * 8 - digits.first()?.leading_zeros() as usize)
}

/// Reads `bytes` as a key of every algorithm.
pub(super) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for algorithm in ["HS256", "RS256", "PS512", "ES256", "ES384", "EdDSA"] {
        let options = KeyOptions {
            key: Some(text.clone().into_owned()),
            algorithm: algorithm.to_owned(),
            ..KeyOptions::default()
        };
        if let Ok(key) = Key::load(&options, Weakness::Refused) {
            let _ = key.verifies(b"signed", bytes);
        }
    }
    if let Ok(set) = super::jwk::read_set(bytes) {
        set.keys.iter().for_each(|key| assert!(!key.verifies(b"signed", bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_a_secret_that_stands_in_its_place() {
        for path in ["/run/secrets/key", "keys/a", "publisher.pem", "my-token.env"] {
            assert!(is_pathlike(path), "{path}");
            assert_eq!(shown_path(Path::new(path)), path);
        }
        for secret in ["", "hunter2", "Zm9v/YmFy==", "Zm9v/YmF+y", "a b/c", "pass word.key"] {
            assert!(!is_pathlike(secret), "{secret}");
            let shown = shown_path(Path::new(secret));
            assert!(shown.contains("not shown"), "{secret}: {shown}");
        }
        assert!(is_pathlike(&format!("/{}", "x".repeat(PATH_SHOWN_BYTES_MAX - 2))));
        assert!(!is_pathlike(&format!("/{}", "x".repeat(PATH_SHOWN_BYTES_MAX - 1))));
        assert!(!is_pathlike(&format!("/{}", "x".repeat(PATH_SHOWN_BYTES_MAX))));
    }

    #[test]
    fn files_are_read_up_to_their_bound_and_not_a_byte_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(matches!(read_bounded(&path, 4), Err(KeyFlaw::TooLarge { bytes_max: 4, .. })));
    }

    #[test]
    fn leading_zeros_do_not_make_a_number_longer() {
        for (number, expected) in [
            (&[][..], None),
            (&[0, 0], None),
            (&[1], Some(1)),
            (&[0x80], Some(8)),
            (&[0, 0, 0x7f, 0], Some(15)),
            (&[2, 0, 0], Some(18)),
        ] {
            assert_eq!(bits(number), expected, "{number:?}");
        }
    }
}
