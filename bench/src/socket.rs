//! Non-blocking sockets of clients, plain or with TLS, from many loopback addresses. Knows no HTTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use socket2::{Domain, Socket as RawSocket, Type};

use crate::limits::{CONNECTIONS_PER_SOURCE_MAX, SLOW_BUFFER_BYTES_MAX};

/// A connection's bytes.
pub(crate) enum Socket {
    /// As they are.
    Plain(TcpStream),
    /// Encrypted. Boxed: a million plain streams must not pay for it.
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Dialer {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// With which TLS, if any.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Begins a connection whose source address depends on its number.
    pub(crate) fn dial(&self, number: usize, slow: bool) -> io::Result<Socket> {
        let raw = RawSocket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
        if slow {
            raw.set_recv_buffer_size(SLOW_BUFFER_BYTES_MAX)?;
        }
        raw.bind(&SocketAddr::from((source(number), 0)).into())?;
        match raw.connect(&self.address.into()) {
            // EINPROGRESS; epoll says when it stands.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            other => other?,
        }
        raw.set_tcp_nodelay(true)?;
        let stream = TcpStream::from_std(raw.into());
        let Some(tls) = &self.tls else { return Ok(Socket::Plain(stream)) };
        let name = ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Ok(Socket::Encrypted(Box::new(StreamOwned::new(session, stream))))
    }
}

impl Dialer {
    /// A plain connection that stands, and waits for its bytes.
    pub(crate) fn dial_and_wait(&self, number: usize) -> io::Result<RawSocket> {
        let raw = RawSocket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
        raw.bind(&SocketAddr::from((source(number), 0)).into())?;
        raw.connect(&self.address.into())?;
        raw.set_tcp_nodelay(true)?;
        Ok(raw)
    }
}

/// The loopback address that a connection comes from.
fn source(number: usize) -> Ipv4Addr {
    let group = number / CONNECTIONS_PER_SOURCE_MAX;
    let octet = |value: usize| u8::try_from(value % 250).unwrap_or(0) + 1;
    Ipv4Addr::new(127, 0, octet(group / 250), octet(group + 1))
}

impl Socket {
    /// What epoll watches.
    pub(crate) fn source(&mut self) -> &mut TcpStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Encrypted(stream) => &mut stream.sock,
        }
    }

    /// Whether a read that does not fill its buffer has taken all there was. With TLS, a read takes
    /// one record.
    pub(crate) fn short_read_drains(&self) -> bool {
        matches!(self, Socket::Plain(_))
    }

    /// Reads what is there: `Ok(None)` when nothing is.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match self {
            Socket::Plain(stream) => stream.read(buffer),
            Socket::Encrypted(stream) => stream.read(buffer),
        };
        match read {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what the kernel takes and removes it from `out`. Also goes on with a handshake.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while !out.is_empty() {
            let wrote = match self {
                Socket::Plain(stream) => stream.write(out),
                Socket::Encrypted(stream) => stream.write(out),
            };
            match wrote {
                Ok(length) => drop(out.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if let Socket::Encrypted(stream) = self {
            match stream.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// TLS that believes every certificate: what it costs is asked here, not whom one speaks to.
pub(crate) fn credulous(http2: bool) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Credulous(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_have_few_of_each_address() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 1, 2));
        let mut seen = std::collections::HashMap::<Ipv4Addr, usize>::new();
        (0..1_000_000).for_each(|number| *seen.entry(source(number)).or_default() += 1);
        assert!(seen.values().all(|count| *count <= CONNECTIONS_PER_SOURCE_MAX));
    }
}
