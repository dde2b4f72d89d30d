//! Secrets: texts that nothing shows, and the file with the key that seals them where they are
//! kept. Knows no table and not what a secret is good for.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hmac, rand};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A password, token or key as its owner wrote it. Neither `{}` nor `{:?}` shows it, and it is not
/// written with what it stands in.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The one with this text.
    pub fn new(text: impl Into<Box<str>>) -> Secret {
        Secret(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(a secret)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// A text. What else stands there is not repeated in the error: it may be a password of digits.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        from.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl SecretVisitor {
    fn no_text<E: de::Error>() -> E {
        E::custom("a secret is a text: put it into quotes")
    }
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(SecretVisitor::no_text())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(SecretVisitor::no_text())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(SecretVisitor::no_text())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(SecretVisitor::no_text())
    }
}

const KEY_BYTES: usize = 32;
const MARK_BYTES: usize = 4;

/// Which key it was that sealed something. Says nothing about the key itself.
pub type Mark = [u8; MARK_BYTES];

/// The key that seals secrets, as it stands in its file: 32 random bytes.
pub struct KeyFile {
    key: RandomizedNonceKey,
    mark: Mark,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum BadKeyFile {
    /// The file is there, or should be, and cannot be read.
    #[error("the key file {path} cannot be read: {source}")]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is none yet, and none can be made.
    #[error(
        "the key file {path} cannot be made: {source}; its folder must be there and writable, or \
         the setting must name another place"
    )]
    NotMade {
        /// Where it would be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "the key file {path} is not of {KEY_BYTES} bytes: it is damaged, or no key file; put the \
         right one there, for without it the secrets that were kept cannot be read"
    )]
    Length {
        /// Where it is.
        path: PathBuf,
    },
    /// The system gave no random numbers, or the key is not taken.
    #[error("no key could be made of random numbers")]
    Random,
}

/// Something could not be sealed: no random numbers, or it is larger than 64 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret could not be sealed")]
pub struct NotSealed;

/// Why something does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// It was sealed with another key: the key file is the wrong one.
    #[error("sealed with another key: the key file is not the one that this was kept with")]
    OtherKey,
    /// It is not what was sealed, or it was sealed for another place.
    #[error("damaged, or moved from another place")]
    Damaged,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyFile")
    }
}

impl KeyFile {
    /// Reads the key at `path`, and makes one there first if there is no such file.
    ///
    /// # Errors
    ///
    /// See [`BadKeyFile`]. A file that is there is never replaced.
    pub fn open_or_make(path: &Path) -> Result<KeyFile, BadKeyFile> {
        if !path.exists() {
            make(path)?;
        }
        KeyFile::open(path)
    }

    /// Reads the key at `path`: for when something was sealed before, so that a file that is not
    /// there is a mistake.
    ///
    /// # Errors
    ///
    /// See [`BadKeyFile`].
    pub fn open(path: &Path) -> Result<KeyFile, BadKeyFile> {
        let (bytes, mode) = read(path)
            .map_err(|source| BadKeyFile::Unreadable { path: path.to_owned(), source })?;
        if bytes.len() != KEY_BYTES {
            return Err(BadKeyFile::Length { path: path.to_owned() });
        }
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                "others than the owner may read or change the key file; chmod 600 mends that"
            );
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| BadKeyFile::Random)?;
        Ok(KeyFile { key, mark: mark_of(&bytes) })
    }

    /// A key that is in no file: what it seals is gone with the process.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn of_this_process() -> Result<KeyFile, BadKeyFile> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).map_err(|_| BadKeyFile::Random)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| BadKeyFile::Random)?;
        Ok(KeyFile { key, mark: mark_of(&bytes) })
    }

    /// Which key it is: stands in front of everything that it seals.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Seals `plain` for `place`, such as a table and a key in it: it opens nowhere else. The
    /// result is mark (4 bytes), nonce (12), ciphertext and tag (16), of AES-256-GCM.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let mut text = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(place), &mut text)
            .map_err(|_| NotSealed)?;
        Ok([self.mark.as_slice(), nonce.as_ref(), &text].concat())
    }

    /// What was sealed for `place`.
    ///
    /// # Errors
    ///
    /// When it was sealed with another key, for another place, or is damaged.
    pub fn open_sealed(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let (mark, rest) = sealed.split_at_checked(MARK_BYTES).ok_or(NotOpened::Damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(NotOpened::Damaged)?;
        if mark != self.mark {
            return Err(NotOpened::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotOpened::Damaged)?;
        let mut text = text.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(place), &mut text)
            .map_err(|_| NotOpened::Damaged)?
            .len();
        text.truncate(plain);
        Ok(text)
    }
}

/// The file's bytes, no more than show that it is too long, and who may read it.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

/// Part of a keyed hash of a fixed text: as good as random to who has not the key.
fn mark_of(key: &[u8]) -> Mark {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let hash = hmac::sign(&key, b"tidings: which key file is this");
    let mut mark = Mark::default();
    mark.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    mark
}

/// Puts a new key at `path`, whole and on the disk, or nothing. When somebody else was faster,
/// theirs stays.
fn make(path: &Path) -> Result<(), BadKeyFile> {
    let mut bytes = [0; KEY_BYTES + 8];
    rand::fill(&mut bytes).map_err(|_| BadKeyFile::Random)?;
    let (key, name) = bytes.split_at(KEY_BYTES);
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{name}.new"));
    let new = PathBuf::from(new);
    let made = write(&new, key).and_then(|()| match std::fs::hard_link(&new, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    // Also when it failed: a key that nobody uses is not left behind.
    let _ = std::fs::remove_file(&new);
    made.and_then(|()| sync_folder(path))
        .map_err(|source| BadKeyFile::NotMade { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The new name must survive as well.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?} {secret}").contains("hunter2"));
        assert_eq!(serde_json::from_str::<Secret>("\"hunter2\"").unwrap(), secret);
    }

    #[test]
    fn a_secret_that_is_no_text_is_not_repeated() {
        for written in ["8675309", "-8675309", "8675309.5", "true", "[8675309]", "{\"a\":8675309}"]
        {
            let error = serde_json::from_str::<Secret>(written).unwrap_err().to_string();
            assert!(error.contains("text") && !error.contains("8675309"), "{written}: {error}");
        }
    }

    fn key_file() -> (tempfile::TempDir, PathBuf, KeyFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webhooks.key");
        let file = KeyFile::open_or_make(&path).unwrap();
        (folder, path, file)
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let (folder, path, first) = key_file();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_ne!(bytes, [0; 32]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let again = KeyFile::open_or_make(&path).unwrap();
        assert_eq!(again.mark(), first.mark());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let sealed = first.seal(b"place", b"plain").unwrap();
        assert_eq!(again.open_sealed(b"place", &sealed).unwrap(), b"plain");
        let shown = format!("{first:?}");
        assert_eq!(shown, "KeyFile");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for (name, length) in [("empty", 0), ("short", 31), ("long", 33), ("endless", 100_000)] {
            let path = folder.path().join(name);
            std::fs::write(&path, vec![7; length]).unwrap();
            let error = KeyFile::open_or_make(&path).unwrap_err();
            assert!(matches!(error, BadKeyFile::Length { .. }), "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), length as u64);
        }
        let missing = folder.path().join("missing");
        assert!(matches!(KeyFile::open(&missing), Err(BadKeyFile::Unreadable { .. })));
        let nowhere = folder.path().join("no/such/folder");
        assert!(matches!(KeyFile::open_or_make(&nowhere), Err(BadKeyFile::NotMade { .. })));
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let (_folder, _, file) = key_file();
        let one = file.seal(b"shop\0bearer", b"token of the shop").unwrap();
        let two = file.seal(b"bank\0bearer", b"token of the bank").unwrap();
        assert_eq!(file.open_sealed(b"shop\0bearer", &one).unwrap(), b"token of the shop");
        assert_eq!(file.open_sealed(b"bank\0bearer", &one), Err(NotOpened::Damaged));
        assert_eq!(file.open_sealed(b"shop\0bearer", &two), Err(NotOpened::Damaged));
        let inside = one.windows(5).any(|part| part == b"token");
        assert!(!inside, "the text is not readable");
        assert_ne!(one, file.seal(b"shop\0bearer", b"token of the shop").unwrap());
    }

    #[test]
    fn a_wrong_key_file_is_told_from_damage() {
        let (_one, _, file) = key_file();
        let (_two, _, other) = key_file();
        let sealed = file.seal(b"place", b"plain").unwrap();
        assert_eq!(other.open_sealed(b"place", &sealed), Err(NotOpened::OtherKey));
        assert_eq!(sealed.get(..4).unwrap(), file.mark());
        for at in 4..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(file.open_sealed(b"place", &damaged), Err(NotOpened::Damaged), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert_eq!(
                file.open_sealed(b"place", &sealed[..length]),
                Err(NotOpened::Damaged),
                "{length} bytes"
            );
        }
    }
}
