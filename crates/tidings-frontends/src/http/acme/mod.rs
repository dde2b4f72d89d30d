//! Certificates from an ACME server (RFC 8555), validated over TLS itself (RFC 8737).
//!
//! The hub serves on with what it has, whatever the server does. Knows no listener and no file of
//! the operator; it hands certificates to [`Tls`].

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use instant_acme::{Account, NewAccount};
use tokio::sync::Notify;

mod client;
mod folder;
mod order;
mod schedule;

use super::Shutdown;
use super::certificate::{Certificate, now};
use super::tls::{Tls, in_words};
use crate::limits::{ACME_ATTEMPT_TIMEOUT, ACME_DETAIL_CHARS_MAX, ACME_LOOK_INTERVAL};
use client::{Client, Told};
use folder::Folder;
use order::{Issued, order};
use schedule::Schedule;

/// What the operator decides about ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeOptions {
    /// DNS names for one certificate; at least one, without wildcards.
    pub domains: Vec<String>,
    /// Where the server can reach the operator, as in `mailto:ops@example.com`.
    pub contact: Option<String>,
    /// The server's directory, an `https` URL.
    pub directory: String,
    /// Where account and certificate are kept.
    pub folder: PathBuf,
    /// Certificates that the server's own certificate is judged by instead of the system's.
    pub roots: Option<PathBuf>,
}

/// Why there is no certificate. Texts of the server are shortened, and hold no secret.
#[derive(Debug, thiserror::Error)]
pub enum AcmeProblem {
    /// The folder cannot be used.
    #[error("the folder of ACME, {folder}: {source}")]
    Folder {
        /// Which one.
        folder: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The roots for the server cannot be used.
    #[error("{file} {reason}")]
    Roots {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client cannot be made.
    #[error("requests to the ACME server cannot be made: {0}")]
    Client(String),
    /// The server cannot be reached, says no, or says what cannot be understood.
    #[error("the ACME server: {0}")]
    Server(#[from] instant_acme::Error),
    /// A name could not be validated.
    #[error(
        "{name} was not validated: {reason}; its DNS must lead here, and port 443 to `tls.listen`"
    )]
    Validation {
        /// The name.
        name: String,
        /// What the server says.
        reason: String,
    },
    /// The server does not validate over TLS.
    #[error("the ACME server does not offer tls-alpn-01, which is the one way to validate here")]
    NoChallenge,
    /// The order went another way than orders go.
    #[error("the order failed: {0}")]
    Order(String),
    /// Making keys or requests failed.
    #[error("a key or request could not be made: {0}")]
    Making(#[from] rcgen::Error),
    /// What was issued cannot be served.
    #[error("the ACME server gave a wrong certificate: {0}")]
    WrongCertificate(String),
    /// It took too long.
    #[error("the order took longer than {} minutes", ACME_ATTEMPT_TIMEOUT.as_secs() / 60)]
    Slow,
}

/// Keeps one certificate fresh.
pub struct Acme {
    options: AcmeOptions,
    folder: Folder,
    tls: Arc<Tls>,
    wish: Notify,
}

impl Acme {
    /// Serves the certificate of an earlier start, if there is one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used.
    pub fn open(options: AcmeOptions, tls: Arc<Tls>) -> Result<Arc<Acme>, AcmeProblem> {
        let problem = |source| AcmeProblem::Folder {
            folder: options.folder.to_string_lossy().into_owned(),
            source,
        };
        let folder = Folder::open(&options.folder).map_err(problem)?;
        if let Some(pem) = folder.certificate().map_err(problem)? {
            match Certificate::parse(&pem, &pem) {
                Ok(certificate) => {
                    if let Some(days) = certificate.days_over(now()) {
                        tracing::error!(
                            "the certificate of ACME expired {days} days ago: it is served until \
                             there is a new one, and clients refuse it"
                        );
                    }
                    tls.install_ordered(certificate);
                }
                Err(unfit) => tracing::warn!("the certificate of ACME is not served: {unfit:?}"),
            }
        }
        if tls.ordered().is_none() {
            tracing::warn!(
                "there is no certificate from ACME yet: TLS connections that need it are refused \
                 until there is"
            );
        }
        Ok(Arc::new(Acme { options, folder, tls, wish: Notify::new() }))
    }

    /// What has kept an order back may have changed: tries again if one is due. What the server has
    /// asked for stands.
    pub fn hurry(&self) {
        self.wish.notify_one();
    }

    /// Orders a certificate whenever one is due, until the shutdown begins.
    pub async fn run(self: Arc<Acme>, shutdown: Shutdown) {
        let mut schedule = self.folder.schedule().unwrap_or_default();
        loop {
            let wait = schedule.next(self.due(), now()).saturating_sub(now());
            if wait > 0 {
                let wait = Duration::from_secs(wait).min(ACME_LOOK_INTERVAL);
                tokio::select! {
                    () = shutdown.accepting_ended() => return,
                    () = self.wish.notified() => schedule.hurry(),
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            }
            schedule.begin(now());
            if let Err(error) = self.folder.keep_schedule(&schedule) {
                // Without this a restart could ask too often.
                tracing::error!(%error, "the folder of ACME cannot be written: nothing is ordered");
                schedule.fail(now(), None, jitter());
                continue;
            }
            let told = Told::default();
            let attempt = tokio::time::timeout(ACME_ATTEMPT_TIMEOUT, self.attempt(&told));
            let ended = tokio::select! {
                () = shutdown.accepting_ended() => return,
                ended = attempt => ended.unwrap_or(Err(AcmeProblem::Slow)),
            };
            self.conclude(ended, &told, &mut schedule);
        }
    }

    /// Seconds since 1970 at which a certificate is to be ordered.
    fn due(&self) -> u64 {
        let certificate = self.tls.ordered();
        let named = |one: &Certificate| self.options.domains.iter().all(|name| one.names(name));
        certificate.filter(named).map_or(0, |certificate| certificate.due())
    }

    fn conclude(&self, ended: Result<Issued, AcmeProblem>, told: &Told, schedule: &mut Schedule) {
        let kept = ended.and_then(|issued| {
            // Served even when it cannot be kept: it was hard to get.
            self.tls.install_ordered(issued.certificate);
            self.folder.keep_certificate(&issued.pem).map_err(|source| self.unusable(source))
        });
        match kept {
            Ok(()) => {
                schedule.succeed(now());
                let left = self.tls.ordered().map_or(0, |one| one.until.saturating_sub(now()));
                tracing::info!(
                    "a certificate for {} was issued; it expires in {}",
                    self.options.domains.join(", "),
                    in_words(left)
                );
            }
            Err(problem) => {
                let told = *told.lock().unwrap_or_else(PoisonError::into_inner);
                schedule.fail(now(), told, jitter());
                self.complain(&problem, schedule.next(self.due(), now()).saturating_sub(now()));
            }
        }
        if let Err(error) = self.folder.keep_schedule(schedule) {
            tracing::error!(%error, "the folder of ACME cannot be written");
        }
    }

    fn complain(&self, problem: &AcmeProblem, wait: u64) {
        let reason = shortened(&problem.to_string());
        let again = in_words(wait);
        let domains = self.options.domains.join(", ");
        match self.tls.ordered().map(|one| one.until.saturating_sub(now())) {
            Some(0) => tracing::error!(
                domains,
                reason,
                "no new certificate, and the present one has expired; the next \
                 attempt is in {again}"
            ),
            Some(left) => tracing::warn!(
                domains,
                reason,
                "no new certificate; the present one is served and expires in \
                 {}, the next attempt is in {again}",
                in_words(left)
            ),
            None => tracing::error!(
                domains,
                reason,
                "no certificate, TLS connections that need it are refused; the \
                 next attempt is in {again}"
            ),
        }
    }

    async fn attempt(&self, told: &Told) -> Result<Issued, AcmeProblem> {
        let account = self.account(told).await?;
        let ended = order(&account, &self.options.domains, &self.tls).await;
        if let Err(AcmeProblem::Server(instant_acme::Error::Api(problem))) = &ended
            && problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
        {
            // The next attempt makes a new one.
            self.folder.forget_account().map_err(|source| self.unusable(source))?;
        }
        ended
    }

    /// The account of an earlier attempt, or a new one.
    async fn account(&self, told: &Told) -> Result<Account, AcmeProblem> {
        let AcmeOptions { directory, contact, roots, .. } = &self.options;
        let client = Client::new(roots.as_deref(), Arc::clone(told))?;
        let builder = Account::builder_with_http(Box::new(client));
        let known = self.folder.account(directory).map_err(|source| self.unusable(source))?;
        if let Some(credentials) = known {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        // The configuration is refused unless the operator agrees.
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&wanted, directory.clone(), None).await?;
        let kept = self.folder.keep_account(directory, credentials);
        kept.map_err(|source| self.unusable(source))?;
        Ok(account)
    }

    fn unusable(&self, source: io::Error) -> AcmeProblem {
        AcmeProblem::Folder { folder: self.options.folder.to_string_lossy().into_owned(), source }
    }
}

/// From 0 to 1.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

/// A text of somebody else for the log: one line, not too long.
fn shortened(text: &str) -> String {
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().take(ACME_DETAIL_CHARS_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tls::Loaded;
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn an_expired_certificate_is_served_after_a_restart_and_renewed_at_once() {
        let root = tempfile::tempdir().unwrap();
        let name = "hub.example.com".to_owned();
        let mut params = CertificateParams::new(vec![name.clone()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        Folder::open(root.path()).unwrap().keep_certificate(&pem).unwrap();
        let tls = Tls::new(Loaded::read(Vec::new()).unwrap(), true).unwrap();
        let options = AcmeOptions {
            domains: vec![name.clone()],
            contact: None,
            directory: "https://acme.example/directory".to_owned(),
            folder: root.path().to_owned(),
            roots: None,
        };
        let acme = Acme::open(options, Arc::clone(&tls)).unwrap();
        assert!(tls.ordered().unwrap().names(&name));
        assert_eq!(tls.seconds_left(), Some(0));
        assert!(acme.due() < now());
    }
}
