//! From an address to a NATS server that knows who we are: connect, its greeting, TLS, login. Knows
//! nothing of what is done with the connection.

use std::fmt::Display;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::limits::{
    NATS_CONNECT_TIMEOUT, NATS_LOGIN_FRAMES_MAX, NATS_MESSAGE_BYTES_MAX, NATS_READ_BYTES_MAX,
    NATS_TOLD_TIMEOUT,
};
use crate::nats::login::{Greeting, Login};
use crate::nats::protocol::{Decoder, Frame, PING, PONG, connect};
use crate::nats::server::Server;
use crate::nats::tls::Tls;

/// What can be read from.
pub(super) type ReadSide = Box<dyn AsyncRead + Send + Unpin>;
/// What can be written to.
pub(super) type WriteSide = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection that is logged in.
pub(super) struct Opened {
    pub(super) read: ReadSide,
    pub(super) write: WriteSide,
    /// With what the server said behind its answer to the login.
    pub(super) decoder: Decoder,
    pub(super) greeting: Greeting,
}

/// Why there is none. Both without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// No connection, or the server does not do what a NATS server does.
    Unreachable(String),
    /// It does not want us.
    Rejected(String),
}

impl NotOpened {
    pub(super) fn reason(&self) -> &str {
        match self {
            NotOpened::Unreachable(reason) | NotOpened::Rejected(reason) => reason,
        }
    }
}

fn unreachable(reason: &dyn Display) -> NotOpened {
    NotOpened::Unreachable(reason.to_string())
}

/// Connects and logs in, in bounded time.
pub(super) async fn open(
    server: &Server,
    login: &Login,
    tls: &Tls,
    client: &str,
) -> Result<Opened, NotOpened> {
    let opening = Box::pin(open_slowly(server, login, tls, client));
    match tokio::time::timeout(NATS_CONNECT_TIMEOUT, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(unreachable(&format!("no login within {NATS_CONNECT_TIMEOUT:?}"))),
    }
}

async fn open_slowly(
    server: &Server,
    login: &Login,
    tls: &Tls,
    client: &str,
) -> Result<Opened, NotOpened> {
    let mut decoder = Decoder::default();
    let (stream, greeting) = if server.is_told {
        // Clusters often tell of addresses that only they can reach: those that somebody wrote down
        // do not wait for each of them.
        match tokio::time::timeout(NATS_TOLD_TIMEOUT, greeted(server, &mut decoder)).await {
            Ok(greeted) => greeted?,
            Err(_) => {
                return Err(unreachable(&format!("no greeting within {NATS_TOLD_TIMEOUT:?}")));
            }
        }
    } else {
        greeted(server, &mut decoder).await?
    };
    let wants_tls = server.needs_tls || greeting.tls_required;
    if server.needs_tls && !greeting.tls_required && !greeting.tls_available {
        return Err(unreachable(
            &"the server does not speak TLS, and its address begins with tls://",
        ));
    }
    let (mut read, mut write): (ReadSide, WriteSide) = if wants_tls {
        // Bytes behind the greeting would be someone's who sits between.
        if !decoder.is_empty() {
            return Err(unreachable(&"the server said more than its greeting before TLS"));
        }
        let config = tls.config().map_err(|error| unreachable(&error))?;
        let name =
            ServerName::try_from(server.certified.clone()).map_err(|error| unreachable(&error))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| unreachable(&error))?;
        let (read, write) = tokio::io::split(stream);
        (Box::new(read), Box::new(write))
    } else {
        let (read, write) = stream.into_split();
        (Box::new(read), Box::new(write))
    };
    let options =
        login.connect(client, &greeting, wants_tls).map_err(|error| unreachable(&error))?;
    let mut output = BytesMut::new();
    connect(&mut output, &options);
    output.extend_from_slice(PING);
    write.write_all(&output).await.map_err(|error| unreachable(&error))?;
    write.flush().await.map_err(|error| unreachable(&error))?;
    logged_in(&mut read, &mut write, &mut decoder).await?;
    Ok(Opened { read, write, decoder, greeting })
}

async fn greeted(
    server: &Server,
    decoder: &mut Decoder,
) -> Result<(TcpStream, Greeting), NotOpened> {
    let address = (server.host.as_str(), server.port);
    let mut stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    let greeting = greeting(&mut stream, decoder).await?;
    Ok((stream, greeting))
}

async fn greeting(stream: &mut TcpStream, decoder: &mut Decoder) -> Result<Greeting, NotOpened> {
    match frame(stream, decoder).await? {
        Frame::Info(json) => match greeting_of(&json) {
            // Everything would be too large for it, for ever.
            Some(greeting) if greeting.max_payload == 0 => {
                Err(unreachable(&"the server does not say how large messages may be"))
            }
            greeting => greeting.ok_or_else(|| unreachable(&"no NATS greeting")),
        },
        _ => Err(unreachable(&"the server does not greet as a NATS server does")),
    }
}

/// Reads what a server says of itself.
pub(super) fn greeting_of(json: &[u8]) -> Option<Greeting> {
    let mut greeting: Greeting = serde_json::from_slice(json).ok()?;
    greeting.max_payload = greeting.max_payload.min(NATS_MESSAGE_BYTES_MAX);
    Some(greeting)
}

/// Waits for the answer to the question behind the login: the server answers questions of those
/// only whom it let in.
async fn logged_in(
    read: &mut ReadSide,
    write: &mut WriteSide,
    decoder: &mut Decoder,
) -> Result<(), NotOpened> {
    for _ in 0..NATS_LOGIN_FRAMES_MAX {
        match frame(read, decoder).await? {
            Frame::Pong => return Ok(()),
            Frame::Ping => write.write_all(PONG).await.map_err(|error| unreachable(&error))?,
            Frame::Error(said) => return Err(refusal(&said)),
            Frame::Info(_) | Frame::Okay | Frame::Message(_) => {}
        }
    }
    let reason = format!("{NATS_LOGIN_FRAMES_MAX} frames came and no answer to the login");
    Err(unreachable(&reason))
}

fn refusal(said: &str) -> NotOpened {
    let is_about_login = said.to_ascii_lowercase().contains("auth");
    let reason = format!("the server says: {said}");
    if is_about_login { NotOpened::Rejected(reason) } else { NotOpened::Unreachable(reason) }
}

/// The next frame.
async fn frame(
    read: &mut (impl AsyncRead + Unpin + ?Sized),
    decoder: &mut Decoder,
) -> Result<Frame, NotOpened> {
    loop {
        if let Some(frame) = decoder.next().map_err(|error| unreachable(&error))? {
            return Ok(frame);
        }
        decoder.buffer().reserve(NATS_READ_BYTES_MAX);
        if read.read_buf(decoder.buffer()).await.map_err(|error| unreachable(&error))? == 0 {
            return Err(unreachable(&"the server closed the connection"));
        }
    }
}

/// What of a connection is shared by all who try: login and certificates.
pub(super) struct Entrance {
    pub(super) login: Login,
    pub(super) tls: Tls,
    /// What the server shows as our name.
    pub(super) client: String,
}

impl Entrance {
    pub(super) async fn open(self: Arc<Entrance>, server: Server) -> Result<Opened, NotOpened> {
        open(&server, &self.login, &self.tls, &self.client).await
    }
}
