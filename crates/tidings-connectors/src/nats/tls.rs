//! TLS towards a NATS server: whom we trust, and our own certificate. Knows no connection.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use crate::nats::login::file;
use crate::nats::options::{ServerOptions, bad};
use crate::specification::BadOption;

/// What a connection by TLS needs. The system's certificates are read when it is first used.
pub(super) struct Tls {
    trusted: Vec<CertificateDer<'static>>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    made: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads the files that the options name.
    pub(super) fn new(options: &ServerOptions) -> Result<Tls, Vec<BadOption>> {
        let ServerOptions { ca_file, cert_file, key_file, .. } = options;
        let mut problems = Vec::new();
        let mut read = |name: &str, path: &Path| {
            certificates(path)
                .map_err(|wrong| problems.push(bad(name, &wrong, None)))
                .unwrap_or_default()
        };
        let trusted = ca_file.as_ref().map(|path| read("ca_file", path)).unwrap_or_default();
        let chain = cert_file.as_ref().map(|path| read("cert_file", path)).unwrap_or_default();
        let key = key_file.as_ref().and_then(|path| {
            key(path).map_err(|wrong| problems.push(bad("key_file", &wrong, None))).ok()
        });
        match (cert_file, key_file) {
            (Some(_), None) => problems.push(bad("key_file", "missing beside cert_file", None)),
            (None, Some(_)) => problems.push(bad("cert_file", "missing beside key_file", None)),
            _ => {}
        }
        let own = key.map(|key| (chain, key));
        let tls = Tls { trusted, own, made: OnceLock::new() };
        if problems.is_empty()
            && tls.own.is_some()
            && let Err(wrong) = tls.config()
        {
            problems.push(bad("cert_file", &wrong, None));
        }
        if problems.is_empty() { Ok(tls) } else { Err(problems) }
    }

    /// What rustls needs, made once.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(made) = self.made.get() {
            return Ok(Arc::clone(made));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(self.trusted.clone(), Arc::clone(&provider))
            .map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.own {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| format!("our own certificate: {error}"))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::clone(self.made.get_or_init(|| Arc::new(config))))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = file(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{}: has no certificate in PEM form", path.display())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let found = PrivateKeyDer::from_pem_slice(&file(path)?);
    found.map_err(|_| format!("{}: has no private key in PEM form", path.display()))
}
