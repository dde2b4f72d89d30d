//! Certificates with their keys: read from PEM, checked, and found by name.
//!
//! Knows no socket and no ACME server, and not when files change.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};

use crate::limits::{CERTIFICATE_FILE_BYTES_MAX, CERTIFICATES_MAX, CHAIN_CERTIFICATES_MAX};

/// Where one certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its issuer, as PEM, its own first.
    pub certificate: PathBuf,
    /// Its private key as PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be served. Says which file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// Which one.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{file} {flaw}")]
    Flawed {
        /// Which one.
        file: String,
        /// What is wrong with it, and what to do.
        flaw: Flaw,
    },
    /// Certificate and key do not belong together.
    #[error("{key} is not the key of {certificate}: the two files must come from one renewal")]
    Strangers {
        /// The file of the certificate.
        certificate: String,
        /// The file of the key.
        key: String,
    },
    /// There are more than `CERTIFICATES_MAX`.
    #[error("there are more than {CERTIFICATES_MAX} certificates")]
    TooMany,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Larger than any chain of certificates.
    #[error("is larger than {CERTIFICATE_FILE_BYTES_MAX} bytes: is it the right file?")]
    Large,
    /// No PEM block of a certificate.
    #[error("holds no certificate: it needs a block -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// No PEM block of a private key.
    #[error("holds no private key: it needs a block -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// The key needs a password.
    #[error("holds an encrypted key: `openssl pkey -in FILE -out NEW` takes the password away")]
    EncryptedKey,
    /// Broken PEM.
    #[error("is not PEM: a line is damaged or missing")]
    NotPem,
    /// More certificates than a chain has.
    #[error("holds more than {CHAIN_CERTIFICATES_MAX} certificates: a chain is shorter")]
    LongChain,
    /// PEM around something else.
    #[error("holds a certificate that cannot be read (it must be X.509 version 3)")]
    NotX509,
    /// A key of a kind that TLS here does not use.
    #[error("holds a key that cannot be used: RSA from 2,048 bits, ECDSA and Ed25519 can")]
    KeyKind,
}

/// A certificate whose time is over. It is served all the same, because the one that is renewed
/// may come any moment, and because others beside it are good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} expired {days} days ago: clients refuse it, renew it")]
pub struct Expired {
    /// The file of the certificate.
    pub file: String,
    /// Whole days since then.
    pub days: u64,
}

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// Seconds since 1970 from which on it is valid.
    pub(super) from: u64,
    /// Seconds since 1970 at which it expires.
    pub(super) until: u64,
}

impl Certificate {
    /// Reads and checks a pair of files.
    pub(super) fn read(files: &CertificateFiles) -> Result<Certificate, BadCertificate> {
        let (chain, key) = (shown(&files.certificate), shown(&files.key));
        let flawed = |file: &str, flaw| BadCertificate::Flawed { file: file.to_owned(), flaw };
        let chain_pem = bytes(&files.certificate)?;
        let key_pem = bytes(&files.key)?;
        Certificate::parse(&chain_pem, &key_pem).map_err(|error| match error {
            Unfit::Chain(flaw) => flawed(&chain, flaw),
            Unfit::Key(flaw) => flawed(&key, flaw),
            Unfit::Strangers => BadCertificate::Strangers { certificate: chain, key },
        })
    }

    /// A certificate from a chain and a key, both PEM. Other blocks beside them do not matter.
    pub(super) fn parse(chain: &[u8], key: &[u8]) -> Result<Certificate, Unfit> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .take(CHAIN_CERTIFICATES_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| Unfit::Chain(Flaw::NotPem))?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(Unfit::Chain(Flaw::LongChain));
        }
        let own = chain.first().ok_or(Unfit::Chain(Flaw::NoCertificate))?;
        let (from, until) = validity(own).ok_or(Unfit::Chain(Flaw::NotX509))?;
        let key = private_key(key).map_err(Unfit::Key)?;
        let key = aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| Unfit::Key(Flaw::KeyKind))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| Unfit::Strangers)?;
        Ok(Certificate { key: Arc::new(key), from, until })
    }

    /// Whole days since it has expired at `now`, in seconds since 1970; `None` before.
    pub(super) fn days_over(&self, now: u64) -> Option<u64> {
        (self.until < now).then(|| (now - self.until) / DAY)
    }

    /// Whether it is made for this DNS name.
    pub(super) fn names(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        let Ok(own) = self.key.end_entity_cert() else { return false };
        EndEntityCert::try_from(own)
            .is_ok_and(|own| own.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// Seconds since 1970 at which two thirds of its time are over: time to renew it.
    pub(super) fn due(&self) -> u64 {
        self.from.saturating_add(self.until.saturating_sub(self.from) / 3 * 2)
    }
}

/// Why a chain and a key cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    Chain(Flaw),
    Key(Flaw),
    Strangers,
}

const DAY: u64 = 24 * 60 * 60;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Checks a pair of files as a hub that starts would. An expired certificate is served, and told.
///
/// # Errors
///
/// Why it cannot be served.
pub fn check_certificate(files: &CertificateFiles) -> Result<Option<Expired>, BadCertificate> {
    let days = Certificate::read(files)?.days_over(now());
    Ok(days.map(|days| Expired { file: shown(&files.certificate), days }))
}

fn bytes(path: &Path) -> Result<Vec<u8>, BadCertificate> {
    let unreadable = |source| BadCertificate::Unreadable { file: shown(path), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > CERTIFICATE_FILE_BYTES_MAX) {
        return Err(BadCertificate::Flawed { file: shown(path), flaw: Flaw::Large });
    }
    Ok(bytes)
}

/// A path for people; a key that was pasted in its place is not shown.
pub(super) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.contains("-----BEGIN") || text.len() > crate::limits::PATH_SHOWN_BYTES_MAX {
        return "a text that is no path (put it into a file)".to_owned();
    }
    text.into_owned()
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Flaw> {
    use rustls::pki_types::pem::Error;
    let encrypted = b"ENCRYPTED PRIVATE KEY-----";
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        Error::NoItemsFound if pem.windows(encrypted.len()).any(|part| part == encrypted) => {
            Flaw::EncryptedKey
        }
        Error::NoItemsFound => Flaw::NoKey,
        _ => Flaw::NotPem,
    })
}

/// From when until when a certificate is valid, in seconds since 1970. The library tells it only
/// as the reason why a certificate does not hold at a moment before and after all others.
fn validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let judged = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::server_auth();
        certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
    };
    let from = match judged(0)? {
        webpki::Error::CertNotValidYet { not_before, .. } => not_before.as_secs(),
        _ => 0,
    };
    match judged(u64::MAX)? {
        webpki::Error::CertExpired { not_after, .. } => Some((from, not_after.as_secs())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn pair(names: &[&str], until: i32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn flaw(chain: &str, key: &str) -> Unfit {
        Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_pair_says_whom_it_names_and_how_long_it_lasts() {
        let (chain, key) = pair(&["hub.example.com", "*.push.example.com"], 2080);
        let found = Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap();
        assert!(found.names("hub.example.com") && found.names("a.push.example.com"));
        assert!(!found.names("example.com") && !found.names("a.b.push.example.com"));
        assert!(!found.names("") && !found.names("not a name"));
        // 2020-01-01 and 2080-01-01 by `date -u -d … +%s`.
        assert_eq!((found.from, found.until), (1_577_836_800, 3_471_292_800));
        assert_eq!(found.due(), 1_577_836_800 + (3_471_292_800 - 1_577_836_800) / 3 * 2);
    }

    #[test]
    fn every_flaw_has_its_own_words() {
        let (chain, key) = pair(&["a.example"], 2080);
        let (_, other) = pair(&["a.example"], 2080);
        assert_eq!(flaw(&chain, &other), Unfit::Strangers);
        assert_eq!(flaw(&key, &key), Unfit::Chain(Flaw::NoCertificate));
        assert_eq!(flaw("", &key), Unfit::Chain(Flaw::NoCertificate));
        assert_eq!(flaw(&chain, &chain), Unfit::Key(Flaw::NoKey));
        assert_eq!(flaw(&chain, "-----BEGIN PRIVATE KEY-----\nAA"), Unfit::Key(Flaw::NotPem));
        assert_eq!(flaw("-----BEGIN CERTIFICATE-----\nAA", &key), Unfit::Chain(Flaw::NotPem));
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(flaw(&chain, &encrypted), Unfit::Key(Flaw::EncryptedKey));
        let nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(flaw(nothing, &key), Unfit::Chain(Flaw::NotX509));
        let nothing = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(flaw(&chain, nothing), Unfit::Key(Flaw::KeyKind));
        assert_eq!(flaw(&chain.repeat(50), &key), Unfit::Chain(Flaw::LongChain));
    }

    #[test]
    fn files_are_named_and_keys_in_their_place_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = pair(&["a.example"], 2080);
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (chain, key_path) = (at("chain.pem", &chain), at("key.pem", &key));
        let large = at("large.pem", &"x".repeat(1024 * 1024));
        let read = |certificate: &Path, key: &Path| {
            let files = CertificateFiles { certificate: certificate.into(), key: key.into() };
            check_certificate(&files).map_err(|error| error.to_string())
        };
        assert_eq!(read(&chain, &key_path), Ok(None));
        let (old, old_key) = pair(&["a.example"], 2021);
        let expired = read(&at("old.pem", &old), &at("old.key", &old_key)).unwrap().unwrap();
        assert!(expired.file.ends_with("old.pem") && expired.days > 1_000, "{expired}");
        assert!(read(&large, &key_path).unwrap_err().contains("large.pem is larger"));
        let swapped = read(&key_path, &chain).unwrap_err();
        assert!(swapped.contains("key.pem holds no certificate"), "{swapped}");
        let missing = read(&folder.path().join("none"), &key_path).unwrap_err();
        assert!(missing.contains("none: "), "{missing}");
        let pasted = read(&chain, Path::new(&key)).unwrap_err();
        assert!(!pasted.contains("-----BEGIN"), "{pasted}");
    }
}
