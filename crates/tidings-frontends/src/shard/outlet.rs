//! Where a stream's bytes leave: a socket, a socket behind TLS, or a stream of a connection that
//! carries many. Takes what there is room for and waits for nobody. Knows no event.

use std::io::{self, Read, Write};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::handoff::Feed;
use crate::limits::{ENCRYPT_BYTES, IGNORED_BYTES_MAX};

/// Where a stream's bytes leave.
pub(crate) enum Outlet {
    /// A socket of its own.
    Plain(TcpStream),
    /// The same behind TLS.
    Encrypted(Box<Encrypted>),
    /// A stream among others of a connection.
    Shared(Feed),
    /// Takes what a test says.
    #[cfg(test)]
    Scripted(super::tests::Script),
}

/// A socket and its TLS session.
pub(crate) struct Encrypted {
    pub(crate) socket: TcpStream,
    pub(crate) session: rustls::ServerConnection,
}

impl Outlet {
    /// Has `token` come up when the client takes something again, says something, or leaves.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let all = Interest::READABLE | Interest::WRITABLE;
        match self {
            Outlet::Plain(socket) => registry.register(socket, token, all),
            Outlet::Encrypted(encrypted) => registry.register(&mut encrypted.socket, token, all),
            Outlet::Shared(_) => Ok(()),
            #[cfg(test)]
            Outlet::Scripted(_) => Ok(()),
        }
    }

    /// Hands over as much of `bytes` as there is room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; everything else is the end of the connection.
    pub(super) fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        match self {
            Outlet::Plain(socket) => retried(|| socket.write(bytes)),
            Outlet::Encrypted(encrypted) => encrypted.write(bytes),
            Outlet::Shared(feed) => feed.0.write(bytes),
            #[cfg(test)]
            Outlet::Scripted(script) => script.write(bytes),
        }
    }

    /// Whether all that was handed over has left, as far as this can see.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Outlet::Encrypted(encrypted) => encrypted.flush(),
            Outlet::Shared(feed) => Ok(feed.0.is_empty()),
            Outlet::Plain(_) => Ok(true),
            #[cfg(test)]
            Outlet::Scripted(_) => Ok(true),
        }
    }

    /// Reads what the client says, which is nothing that counts, to find out whether it is there.
    ///
    /// # Errors
    ///
    /// When it has left, or goes on talking.
    pub(super) fn ignore_input(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        match self {
            Outlet::Plain(socket) => ignore(|| socket.read(scratch)),
            Outlet::Encrypted(encrypted) => encrypted.ignore_input(scratch),
            Outlet::Shared(feed) => feed.0.look(),
            #[cfg(test)]
            Outlet::Scripted(script) => script.look(),
        }
    }

    /// Reads what the client says. 0 is the end of that.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing now; everything else is the end of the connection.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Outlet::Plain(socket) => retried(|| socket.read(room)),
            Outlet::Encrypted(encrypted) => encrypted.read(room),
            // Nobody talks there.
            Outlet::Shared(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(test)]
            Outlet::Scripted(script) => script.read(room),
        }
    }

    /// Says that nothing follows, when there is room for that.
    pub(super) fn close(&mut self) {
        // Who is gone already hears nothing of it.
        let _gone = match self {
            Outlet::Plain(socket) => socket.shutdown(std::net::Shutdown::Write),
            Outlet::Encrypted(encrypted) => encrypted.close(),
            Outlet::Shared(feed) => {
                feed.0.end();
                Ok(())
            }
            #[cfg(test)]
            Outlet::Scripted(script) => {
                script.close();
                Ok(())
            }
        };
    }

    /// The socket, where there is one of its own.
    pub(super) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Outlet::Plain(socket) => Some(socket),
            Outlet::Encrypted(encrypted) => Some(&encrypted.socket),
            Outlet::Shared(_) => None,
            #[cfg(test)]
            Outlet::Scripted(_) => None,
        }
    }
}

impl Encrypted {
    fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..)
            && !rest.is_empty()
        {
            if !self.flush()? {
                let full = || Err(io::ErrorKind::WouldBlock.into());
                return if taken == 0 { full() } else { Ok(taken) };
            }
            let part = rest.get(..ENCRYPT_BYTES).unwrap_or(rest);
            taken += self.session.writer().write(part)?;
        }
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match retried(|| self.session.write_tls(&mut self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            // The session may hold more than the request that it was taken over with.
            self.session.process_new_packets().map_err(io::Error::other)?;
            match self.session.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            let read = retried(|| self.session.read_tls(&mut self.socket));
            // A session has words of its own, as when its keys change.
            self.flush()?;
            if read? == 0 {
                return Ok(0);
            }
        }
    }

    fn ignore_input(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        // The session may hold more than the request that it was taken over with.
        self.ignore_decrypted(scratch)?;
        ignore(|| {
            let read = self.session.read_tls(&mut self.socket)?;
            if read > 0 {
                self.ignore_decrypted(scratch)?;
            }
            Ok(read)
        })?;
        self.flush().map(|_| ())
    }

    fn ignore_decrypted(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        let state = self.session.process_new_packets().map_err(io::Error::other)?;
        while matches!(self.session.reader().read(scratch), Ok(1..)) {}
        let has_left = state.peer_has_closed();
        if has_left { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn close(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.flush()?;
        self.socket.shutdown(std::net::Shutdown::Write)
    }
}

fn retried(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Reads until there is nothing more. Requests behind one that is answered by a stream are never
/// answered: who sends many of them is not waited for.
fn ignore(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    let mut ignored = 0;
    loop {
        match retried(&mut read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => ignored += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        if ignored > IGNORED_BYTES_MAX {
            return Err(io::Error::other("the client goes on talking"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Socket};
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

    use super::*;

    fn sessions() -> (ServerConnection, ClientConnection) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("hub.example").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        (ServerConnection::new(Arc::new(server)).unwrap(), client)
    }

    #[test]
    fn what_a_session_held_before_it_was_handed_over_is_read_first() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = Socket::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let (mut session, mut client) = sessions();
        let talks = std::thread::spawn(move || {
            while client.is_handshaking() {
                client.complete_io(&mut near).unwrap();
            }
            client.writer().write_all(b"request, and behind it").unwrap();
            client.complete_io(&mut near).unwrap();
            client.writer().write_all(b" more").unwrap();
            client.send_close_notify();
            client.complete_io(&mut near).unwrap();
            near
        });
        while session.is_handshaking() {
            session.complete_io(&mut far).unwrap();
        }
        let mut request = [0; 7];
        while session.reader().read(&mut request).is_err() {
            session.complete_io(&mut far).unwrap();
        }
        assert_eq!(&request, b"request");
        far.set_nonblocking(true).unwrap();
        let socket = TcpStream::from_std(far);
        let mut outlet = Outlet::Encrypted(Box::new(Encrypted { socket, session }));
        let (mut read, mut room) = (Vec::new(), [0; 5]);
        loop {
            match outlet.read(&mut room) {
                Ok(0) => break,
                Ok(count) => read.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(read, b", and behind it more");
        drop(talks.join().unwrap());
    }
}
