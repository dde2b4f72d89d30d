//! How endpoints prove who they are: against the system's certificates, and an operator's own.
//! Knows no connection.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use url::Host;

/// Certificates that cannot be used. The operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificates {
    /// Not the text form of a certificate.
    #[error("it is no file of certificates in PEM form: {0}")]
    Text(pem::Error),
    /// No certificate in it.
    #[error("there is no certificate in it; it must hold at least one `BEGIN CERTIFICATE` block")]
    Empty,
    /// One of them, or the system's.
    #[error("its certificates cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

/// Trusts whom the system trusts, and speaks HTTP/1.1. Reads the system's certificates, so it is
/// made once for all sinks.
///
/// # Errors
/// When the system has no certificates.
pub fn tls() -> Result<Arc<ClientConfig>, rustls::Error> {
    trusting(Vec::new())
}

/// Trusts whom the system trusts, and these certificates in PEM form.
///
/// # Errors
/// When there is none among them, or one that cannot be read.
pub fn tls_with(extra: &[u8]) -> Result<Arc<ClientConfig>, BadCertificates> {
    let roots: Vec<_> = CertificateDer::pem_slice_iter(extra)
        .collect::<Result<_, _>>()
        .map_err(BadCertificates::Text)?;
    if roots.is_empty() {
        return Err(BadCertificates::Empty);
    }
    Ok(trusting(roots)?)
}

fn trusting(extra: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The name that an endpoint's certificate must be for. `None` for what no certificate can name.
pub(super) fn server_name(host: &Host<String>) -> Option<ServerName<'static>> {
    match host {
        // The dot of a name from the root is no part of it in a certificate.
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            ServerName::try_from(name.to_owned()).ok()
        }
        Host::Ipv4(address) => Some(ServerName::IpAddress((*address).into())),
        Host::Ipv6(address) => Some(ServerName::IpAddress((*address).into())),
    }
}

/// Why no encrypted connection came about, for the operator. Says nothing that the certificate
/// says: its names are anybody's text.
pub(super) fn complaint(error: &rustls::Error) -> String {
    use CertificateError as Flaw;
    let rustls::Error::InvalidCertificate(flaw) = error else {
        return error.to_string();
    };
    let told = match flaw {
        Flaw::Expired | Flaw::ExpiredContext { .. } => "its certificate has expired",
        Flaw::NotValidYet | Flaw::NotValidYetContext { .. } => "its certificate is not valid yet",
        Flaw::Revoked => "its certificate was revoked",
        Flaw::UnknownIssuer => {
            "its certificate is of an unknown issuer; name a file with the issuer's in `ca_file`"
        }
        Flaw::NotValidForName | Flaw::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        Flaw::BadSignature => "its certificate has a wrong signature",
        _ => "its certificate cannot be accepted",
    };
    told.to_owned()
}
