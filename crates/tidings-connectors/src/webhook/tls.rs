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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use tokio::io::AsyncWriteExt;
    use tokio_rustls::TlsAcceptor;
    use url::Url;

    use super::super::peer::{OK, Peer, request};
    use super::super::{Client, Egress, Exchanged, Times};
    use super::*;
    use crate::connector::{Failure, Fault};

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// An encrypted endpoint whose certificate is for this name and until this year.
    async fn endpoint(authority: &Authority, name: &str, year: i32) -> Peer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Peer::new(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                while request(&mut stream).await.is_some() {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        })
        .await
    }

    fn url(peer: &Peer, host: &str) -> Url {
        format!("https://{host}:{}/hook", peer.address.port()).parse().unwrap()
    }

    fn client(config: Arc<ClientConfig>) -> Client {
        Client::new(Egress::everything(), config, Times::default())
    }

    async fn post(client: &Client, url: &Url) -> Result<Exchanged, Failure> {
        client.post(url, HeaderMap::new(), Bytes::new()).await
    }

    #[tokio::test]
    async fn an_endpoint_that_proves_its_name_is_asked_over_one_connection() {
        let own = authority();
        let config = tls_with(own.pem.as_bytes()).unwrap();
        for (name, hosts) in [
            ("localhost", &["localhost", "LOCALHOST"][..]),
            ("127.0.0.1", &["127.0.0.1", "2130706433"]),
        ] {
            let peer = endpoint(&own, name, 2090).await;
            for host in hosts {
                let (client, before) = (client(Arc::clone(&config)), peer.accepted());
                for _ in 0..3 {
                    let exchanged = post(&client, &url(&peer, host)).await;
                    assert_eq!(exchanged.unwrap().status, 200, "{host}");
                }
                assert_eq!(peer.accepted() - before, 1, "{host}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_said() {
        let own = authority();
        let trusting = client(tls_with(own.pem.as_bytes()).unwrap());
        let strange = client(tls().unwrap());
        for (client, name, year, host, told) in [
            (&strange, "localhost", 2090, "localhost", "is of an unknown issuer"),
            (&trusting, "localhost", 2001, "localhost", "has expired"),
            (&trusting, "example.com", 2090, "localhost", "is for another name"),
            (&trusting, "localhost", 2090, "127.0.0.1", "is for another name"),
        ] {
            let peer = endpoint(&own, name, year).await;
            let failure = post(client, &url(&peer, host)).await.unwrap_err();
            assert_eq!(failure.fault, Fault::Unreachable, "{}", failure.reason);
            assert!(failure.reason.contains(told), "{} has no {told:?}", failure.reason);
            assert!(failure.reason.starts_with(host), "{}", failure.reason);
        }
    }

    #[tokio::test]
    async fn an_endpoint_without_encryption_is_no_encrypted_one() {
        let plain = Peer::new(|mut stream, _| async move {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            request(&mut stream).await;
        })
        .await;
        let failure = post(&client(tls().unwrap()), &url(&plain, "localhost")).await.unwrap_err();
        assert_eq!(failure.fault, Fault::Unreachable);
        assert!(failure.reason.contains("no encrypted connection"), "{}", failure.reason);
        let silent =
            Peer::new(|mut stream, _| async move { while request(&mut stream).await.is_some() {} })
                .await;
        let times = Times { connect: Duration::from_millis(900), ..Times::default() };
        let client = Client::new(Egress::everything(), tls().unwrap(), times);
        let failure = post(&client, &url(&silent, "127.0.0.1")).await.unwrap_err();
        assert_eq!(failure.fault, Fault::TimedOut);
        assert!(failure.reason.contains("900ms at most"), "{}", failure.reason);
    }

    #[test]
    fn a_dot_at_the_end_is_no_part_of_a_name() {
        let named = |host: &str| server_name(&Host::parse(host).unwrap());
        assert_eq!(named("example.com."), Some(ServerName::try_from("example.com").unwrap()));
        assert_eq!(named("example.com"), named("example.com."));
        assert_eq!(named("127.1"), Some(ServerName::try_from("127.0.0.1").unwrap()));
        assert_eq!(named("[::1]"), Some(ServerName::try_from("::1").unwrap()));
        assert_eq!(named(".."), None);
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        for text in ["", "hello", key.as_str()] {
            assert!(matches!(tls_with(text.as_bytes()), Err(BadCertificates::Empty)), "{text}");
        }
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(tls_with(cut.as_bytes()), Err(BadCertificates::Text(_))));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(tls_with(junk.as_bytes()), Err(BadCertificates::Refused(_))));
    }
}
