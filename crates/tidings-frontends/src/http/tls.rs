//! TLS for listeners: handshakes, and which certificate a client gets. Certificates come from files
//! that may change, and from an ACME server.
//!
//! Knows no HTTP, and not how a certificate is ordered.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Shutdown;
use super::certificate::{BadCertificate, Certificate, CertificateFiles, now, read_all};
use super::impatient::Impatient;
use crate::limits::{CERTIFICATE_LOOK_INTERVAL, CERTIFICATE_WARNED_BEFORE};

/// What a server that validates a name by `tls-alpn-01` asks for (RFC 8737 section 4).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// TLS as listeners share it.
pub struct Tls {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
    watched: Mutex<Watched>,
}

/// Certificates that were read and checked, ready to be served.
pub struct Loaded {
    files: Vec<CertificateFiles>,
    states: Vec<Option<State>>,
    certificates: Vec<Certificate>,
}

/// The files that are served, as they were when they were read.
#[derive(Default)]
struct Watched {
    files: Vec<CertificateFiles>,
    states: Vec<Option<State>>,
}

/// What changes when a file is replaced or written: time, size, inode.
type State = (SystemTime, u64, u64);

/// The certificates of this moment. Locks are held for a look only.
#[derive(Debug, Default)]
struct Choice {
    from_files: RwLock<Vec<Certificate>>,
    ordered: RwLock<Option<Certificate>>,
    /// By the name that is being validated, in lower case.
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl Loaded {
    /// Reads the certificates of `files`; the first is for clients that name nobody.
    ///
    /// # Errors
    ///
    /// The first that cannot be served.
    pub fn read(files: Vec<CertificateFiles>) -> Result<Loaded, BadCertificate> {
        // Before reading: a change in between is then seen at the next look.
        let states = states(&files);
        let certificates = read_all(&files)?;
        Ok(Loaded { files, states, certificates })
    }
}

impl Tls {
    /// TLS 1.2 and 1.3 with these certificates. With `challenges`, connections of an ACME server
    /// that validates a name are answered as well.
    ///
    /// # Errors
    ///
    /// When the system has no randomness for the keys of session tickets.
    pub fn new(loaded: Loaded, challenges: bool) -> Result<Arc<Tls>, rustls::Error> {
        let choice = Arc::new(Choice::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Choice>::clone(&choice));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if challenges {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        // Who comes back within hours saves a signature and a round trip, and the hub keeps
        // nothing for it.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        let config = Arc::new(config);
        let tls = Tls { config, choice, watched: Mutex::new(Watched::default()) };
        tls.install(loaded);
        Ok(Arc::new(tls))
    }

    /// Serves these certificates from now on; open connections go on with theirs.
    pub fn install(&self, loaded: Loaded) {
        let Loaded { files, states, certificates } = loaded;
        *self.choice.from_files.write().unwrap_or_else(PoisonError::into_inner) = certificates;
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Watched { files, states };
    }

    /// Seconds until the first certificate expires, zero when one has. `None` without any.
    pub fn seconds_left(&self) -> Option<u64> {
        let ordered = self.choice.ordered.read().unwrap_or_else(PoisonError::into_inner);
        let from_files = self.choice.from_files.read().unwrap_or_else(PoisonError::into_inner);
        let until = from_files.iter().chain(ordered.as_ref()).map(|certificate| certificate.until);
        until.min().map(|until| until.saturating_sub(now()))
    }

    /// Looks at the files from time to time and reads them again when they have changed, until the
    /// shutdown begins. A file that cannot be served changes nothing.
    pub async fn watch(self: Arc<Tls>, shutdown: Shutdown) {
        let mut warned_at = None;
        loop {
            self.warn_of_the_end(&mut warned_at);
            tokio::select! {
                () = shutdown.accepting_ended() => return,
                () = tokio::time::sleep(CERTIFICATE_LOOK_INTERVAL) => {}
            }
            let tls = Arc::clone(&self);
            // Files may be on a network.
            if tokio::task::spawn_blocking(move || tls.look()).await.is_err() {
                tracing::error!("looking at the certificates ended by a panic");
            }
        }
    }

    /// Reads the files again if one has changed since they were read.
    fn look(&self) {
        let files = {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            let states = states(&watched.files);
            if states == watched.states {
                return;
            }
            // Noted whatever they hold, so that a broken file is in the log once.
            watched.states = states;
            watched.files.clone()
        };
        match Loaded::read(files) {
            Ok(loaded) => {
                self.install(loaded);
                tracing::info!("the certificates have changed and are served");
            }
            Err(error) => {
                tracing::error!(%error, "the certificates have changed, the old ones are served");
            }
        }
    }

    /// Once a day when little is left.
    fn warn_of_the_end(&self, warned_at: &mut Option<u64>) {
        let Some(left) = self.seconds_left() else { return };
        let day = 24 * 60 * 60;
        let told = warned_at.is_some_and(|at| now().saturating_sub(at) < day);
        if left > CERTIFICATE_WARNED_BEFORE.as_secs() || told {
            return;
        }
        *warned_at = Some(now());
        if left == 0 {
            tracing::error!("a certificate has expired: clients refuse the connection");
        } else {
            tracing::warn!("a certificate expires in {}", in_words(left));
        }
    }

    /// Does the handshake. `None` when it was an ACME server's, which has learned all it wanted.
    pub(super) async fn accept(
        &self,
        stream: Impatient,
    ) -> io::Result<Option<TlsStream<Impatient>>> {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let challenge = stream.get_ref().1.alpn_protocol() == Some(ACME_TLS);
        Ok((!challenge).then_some(stream))
    }

    /// Serves what an ACME server has issued.
    pub(super) fn install_ordered(&self, certificate: Certificate) {
        *self.choice.ordered.write().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
    }

    /// What an ACME server has issued.
    pub(super) fn ordered(&self) -> Option<Certificate> {
        self.choice.ordered.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers validations of `name` with this certificate, or no longer.
    pub(super) fn challenge(&self, name: &str, answer: Option<Arc<CertifiedKey>>) {
        let mut challenges = self.choice.challenges.write().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_ascii_lowercase();
        match answer {
            Some(answer) => challenges.insert(name, answer),
            None => challenges.remove(&name),
        };
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let mut protocols = hello.alpn().into_iter().flatten();
        if protocols.next() == Some(ACME_TLS) && protocols.next().is_none() {
            let challenges = self.challenges.read().unwrap_or_else(PoisonError::into_inner);
            return challenges.get(&name?.to_ascii_lowercase()).cloned();
        }
        let from_files = self.from_files.read().unwrap_or_else(PoisonError::into_inner);
        let ordered = self.ordered.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = from_files.iter().chain(ordered.as_ref());
        let meant = name.and_then(|name| all.clone().find(|one| one.names(name)));
        meant.or_else(|| all.next()).map(|certificate| Arc::clone(&certificate.key))
    }
}

fn states(files: &[CertificateFiles]) -> Vec<Option<State>> {
    let paths = files.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    paths.map(|path| state(path)).collect()
}

fn state(path: &Path) -> Option<State> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// A time for people: days, or what is below.
pub(super) fn in_words(seconds: u64) -> String {
    let span = Duration::from_secs(seconds);
    match span.as_secs() {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn write(folder: &Path, name: &str) -> CertificateFiles {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let files = CertificateFiles {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
        };
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn names(tls: &Tls, name: &str) -> bool {
        tls.choice.from_files.read().unwrap().iter().any(|one| one.names(name))
    }

    #[test]
    fn changed_files_are_served_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), "one.example");
        let tls = Tls::new(Loaded::read(vec![files.clone()]).unwrap(), false).unwrap();
        tls.look();
        assert!(names(&tls, "one.example"));
        write(folder.path(), "second.example");
        tls.look();
        assert!(names(&tls, "second.example") && !names(&tls, "one.example"));
        std::fs::write(&files.key, "half of a fi").unwrap();
        tls.look();
        assert!(names(&tls, "second.example"), "the old one is kept");
        std::fs::remove_file(&files.certificate).unwrap();
        tls.look();
        assert!(names(&tls, "second.example"), "the old one is kept");
        write(folder.path(), "thirds.example");
        tls.look();
        assert!(names(&tls, "thirds.example"));
        assert!(tls.seconds_left().unwrap() > 86_400);
    }

    #[test]
    fn times_are_said_in_the_largest_unit_that_says_something() {
        let said = [59, 300, 7_200, 90_000, 172_800, 86_400 * 90].map(in_words);
        assert_eq!(said, ["59 seconds", "5 minutes", "2 hours", "25 hours", "2 days", "90 days"]);
    }
}
