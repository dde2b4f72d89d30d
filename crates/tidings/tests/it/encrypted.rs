//! A certificate authority for one test, and a client that speaks TLS as the test wants it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, StreamOwned,
};

use crate::http::{self, PATIENCE, Pairs, Reply};
use crate::hub::TestHub;

/// Issues certificates that its own root leads to.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "root of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    /// The root as PEM.
    pub(crate) fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a key that somebody else has, valid from some days ago for some days.
    pub(crate) fn sign(
        &self,
        names: &[&str],
        days: (i64, i64),
        key: &impl PublicKeyData,
    ) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let now = std::time::SystemTime::now();
        let day = |days: i64| {
            let span = Duration::from_secs(days.unsigned_abs() * 86_400);
            if days < 0 { now - span } else { now + span }
        };
        params.not_before = day(days.0).into();
        params.not_after = day(days.1).into();
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// A chain and its key, both PEM.
    pub(crate) fn issue(&self, names: &[&str], days: (i64, i64)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (self.sign(names, days, &key), key.serialize_pem())
    }

    /// Writes `NAME.pem` and `NAME.key` for these names.
    pub(crate) fn write(&self, folder: &Path, file: &str, names: &[&str]) {
        let (chain, key) = self.issue(names, (-1, 60));
        std::fs::write(folder.join(format!("{file}.pem")), chain).unwrap();
        std::fs::write(folder.join(format!("{file}.key")), key).unwrap();
    }

    /// What a server of these names shows.
    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.server_valid(names, (-1, 1))
    }

    /// The same with a certificate that is valid from some days ago for some days.
    pub(crate) fn server_valid(&self, names: &[&str], days: (i64, i64)) -> Arc<ServerConfig> {
        let (chain, key) = self.issue(names, days);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            );
        Arc::new(config.unwrap())
    }

    /// What a client of this authority trusts and offers.
    pub(crate) fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        self.client_with(rustls::DEFAULT_VERSIONS, protocols)
    }

    /// The same with some versions of TLS only.
    pub(crate) fn client_with(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let pem = self.root();
        roots.add(PemObject::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Where the hub listens with TLS.
#[track_caller]
pub(crate) fn address(hub: &TestHub) -> SocketAddr {
    let line = hub.wait_for_log("listening on https://");
    let (_, address) = line.rsplit_once("https://").unwrap();
    let end = address.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)));
    address[..end.unwrap_or(address.len())].parse().unwrap()
}

/// A connection whose handshake is done.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Connects; the error is what kept the handshake from its end.
pub(crate) fn connect(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> std::io::Result<Secure> {
    let socket = TcpStream::connect(address)?;
    handshake(config, socket, name)
}

/// The handshake alone.
pub(crate) fn handshake(
    config: &Arc<ClientConfig>,
    mut socket: TcpStream,
    name: &str,
) -> std::io::Result<Secure> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

/// The version of TLS and the protocol that were agreed on.
pub(crate) fn agreed(stream: &Secure) -> (ProtocolVersion, Option<String>) {
    let protocol = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into());
    (stream.conn.protocol_version().unwrap(), protocol)
}

/// One request over HTTP/1.1 on this connection, and the complete answer.
pub(crate) fn exchange(
    stream: &mut Secure,
    method: &str,
    target: &str,
    headers: Pairs<'_>,
) -> Reply {
    let mut all = vec![("Connection", "close")];
    all.extend_from_slice(headers);
    stream.write_all(&http::request(method, target, &all, b"")).unwrap();
    let mut bytes = Vec::new();
    // Who closes without a farewell has still said everything.
    let _ = stream.read_to_end(&mut bytes);
    parsed(&bytes)
}

/// An answer whose body is everything behind the head.
pub(crate) fn parsed(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Reply { status, headers, body: bytes[end..].to_vec() }
}

/// Reads until this text has come.
#[track_caller]
pub(crate) fn read_until(stream: &mut impl Read, text: &str) -> String {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap_or(0);
        seen.extend_from_slice(&piece[..read]);
        let all = String::from_utf8_lossy(&seen).into_owned();
        if all.contains(text) {
            return all;
        }
        assert!(read > 0, "ended without {text:?}: {all}");
    }
}
