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
use super::certificate::{BadCertificate, Certificate, CertificateFiles, Expired, now, shown};
use super::impatient::Impatient;
use crate::limits::{CERTIFICATE_LOOK_INTERVAL, CERTIFICATE_WARNED_BEFORE, CERTIFICATES_MAX};

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
    pairs: Vec<Pair>,
    certificates: Vec<Certificate>,
}

/// The files that are served, as they were when they were read.
#[derive(Default)]
struct Watched {
    pairs: Vec<Pair>,
    /// Which list of files this is: counted up when it is replaced.
    list: u64,
}

/// The files of one certificate.
#[derive(Clone)]
struct Pair {
    files: CertificateFiles,
    state: PairState,
}

/// The states of a certificate's file and its key's; `None` for one that is not there.
type PairState = [Option<State>; 2];

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
        if files.len() > CERTIFICATES_MAX {
            return Err(BadCertificate::TooMany);
        }
        let mut loaded = Loaded { pairs: Vec::new(), certificates: Vec::new() };
        for files in files {
            // Before reading: a change in between is then seen at the next look.
            let state = pair_state(&files);
            loaded.certificates.push(Certificate::read(&files)?);
            loaded.pairs.push(Pair { files, state });
        }
        Ok(loaded)
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
        let Loaded { pairs, certificates } = loaded;
        for (pair, certificate) in pairs.iter().zip(&certificates) {
            tell_if_expired(pair, certificate);
        }
        // Held to the end: files and certificates belong together.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        *self.choice.from_files.write().unwrap_or_else(PoisonError::into_inner) = certificates;
        *watched = Watched { pairs, list: watched.list.wrapping_add(1) };
    }

    /// Seconds until the first certificate expires, zero when one has. `None` without any.
    pub fn seconds_left(&self) -> Option<u64> {
        let until = self.ends().into_iter().map(|(_, until)| until).min();
        until.map(|until| until.saturating_sub(now()))
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

    /// Reads the files again that have changed since they were read, each pair for itself.
    fn look(&self) {
        self.look_and(|| {});
    }

    /// [`Tls::look`], with something that happens meanwhile.
    fn look_and(&self, meanwhile: impl FnOnce()) {
        let (pairs, list) = {
            let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            (watched.pairs.clone(), watched.list)
        };
        let mut changed = Vec::new();
        for (at, pair) in pairs.into_iter().enumerate() {
            let state = pair_state(&pair.files);
            if state != pair.state {
                let certificate = Certificate::read(&pair.files);
                changed.push((at, Pair { state, ..pair }, certificate));
            }
        }
        meanwhile();
        let mut outcomes = Vec::new();
        {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            if watched.list != list {
                // A reload came in between, and has read its own files.
                return;
            }
            let mut served = self.choice.from_files.write().unwrap_or_else(PoisonError::into_inner);
            for (at, pair, certificate) in changed {
                // Noted whatever they hold, so that a broken file is in the log once.
                if let Some(known) = watched.pairs.get_mut(at) {
                    *known = pair.clone();
                }
                if let (Ok(certificate), Some(place)) = (&certificate, served.get_mut(at)) {
                    *place = certificate.clone();
                }
                outcomes.push((pair, certificate));
            }
        }
        for (pair, certificate) in outcomes {
            let file = shown(&pair.files.certificate);
            match certificate {
                Ok(certificate) => {
                    tracing::info!(file, "a certificate has changed and is served");
                    tell_if_expired(&pair, &certificate);
                }
                Err(error) => {
                    tracing::error!(%error, "a certificate has changed, the old one is served");
                }
            }
        }
    }

    /// Once a day for each certificate of which little is left.
    fn warn_of_the_end(&self, warned_at: &mut Option<u64>) {
        let now = now();
        let day = 24 * 60 * 60;
        if warned_at.is_some_and(|at| now.saturating_sub(at) < day) {
            return;
        }
        let near = now.saturating_add(CERTIFICATE_WARNED_BEFORE.as_secs());
        for (file, until) in self.ends().into_iter().filter(|(_, until)| *until <= near) {
            *warned_at = Some(now);
            let left = until.saturating_sub(now);
            if left == 0 {
                tracing::error!(file, "a certificate has expired: clients refuse the connection");
            } else {
                tracing::warn!(file, "a certificate expires in {}", in_words(left));
            }
        }
    }

    /// Each certificate, by its file, with its end in seconds since 1970.
    fn ends(&self) -> Vec<(String, u64)> {
        let ordered = self.ordered();
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let from_files = self.choice.from_files.read().unwrap_or_else(PoisonError::into_inner);
        let mut ends: Vec<_> = watched
            .pairs
            .iter()
            .zip(from_files.iter())
            .map(|(pair, certificate)| (shown(&pair.files.certificate), certificate.until))
            .collect();
        ends.extend(ordered.map(|one| ("from ACME".to_owned(), one.until)));
        ends
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
        let now = now();
        let meant = name.and_then(|name| {
            let made_for_it = || all.clone().filter(|one| one.names(name));
            // An expired one stands back for another of the same name.
            made_for_it().find(|one| one.until > now).or_else(|| made_for_it().next())
        });
        meant.or_else(|| all.next()).map(|certificate| Arc::clone(&certificate.key))
    }
}

/// Loudly, because clients refuse it.
fn tell_if_expired(pair: &Pair, certificate: &Certificate) {
    if let Some(days) = certificate.days_over(now()) {
        let expired = Expired { file: shown(&pair.files.certificate), days };
        tracing::error!("a certificate is served that has expired: {expired}");
    }
}

fn pair_state(files: &CertificateFiles) -> PairState {
    [state(&files.certificate), state(&files.key)]
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
        write_until(folder, name, 2080)
    }

    fn write_until(folder: &Path, name: &str, year: i32) -> CertificateFiles {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
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
    fn each_pair_is_judged_alone() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [one, old, broken] = [0, 1, 2].map(|at| folders[at].path());
        let files = [
            write(one, "one.example"),
            write_until(old, "old.example", 2021),
            write(broken, "broken.example"),
        ];
        let tls = Tls::new(Loaded::read(files.to_vec()).unwrap(), false).unwrap();
        assert!(names(&tls, "one.example") && names(&tls, "old.example"), "served on");
        assert_eq!(tls.seconds_left(), Some(0));
        write(one, "fresh.example");
        std::fs::write(&files[2].key, "half of a fi").unwrap();
        tls.look();
        assert!(names(&tls, "fresh.example") && !names(&tls, "one.example"), "renewed");
        assert!(names(&tls, "old.example") && names(&tls, "broken.example"), "kept");
        write_until(one, "late.example", 2022);
        tls.look();
        assert!(names(&tls, "late.example"), "expired, and what the operator wants");
        write(broken, "repaired.example");
        tls.look();
        assert!(names(&tls, "repaired.example") && !names(&tls, "broken.example"));
    }

    #[test]
    fn a_look_does_not_undo_a_reload_that_came_in_between() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let before = write(folders[0].path(), "before.example");
        let tls = Tls::new(Loaded::read(vec![before]).unwrap(), false).unwrap();
        write(folders[0].path(), "changed.example");
        let after = write(folders[1].path(), "after.example");
        tls.look_and(|| tls.install(Loaded::read(vec![after]).unwrap()));
        assert!(names(&tls, "after.example"));
        assert!(!names(&tls, "before.example") && !names(&tls, "changed.example"));
        write(folders[1].path(), "watched.example");
        tls.look();
        assert!(names(&tls, "watched.example"), "the new files are watched");
    }

    #[test]
    fn times_are_said_in_the_largest_unit_that_says_something() {
        let said = [59, 300, 7_200, 90_000, 172_800, 86_400 * 90].map(in_words);
        assert_eq!(said, ["59 seconds", "5 minutes", "2 hours", "25 hours", "2 days", "90 days"]);
    }
}
