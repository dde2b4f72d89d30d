//! What stands before HTTP on a connection: a balancer's header, then TLS. Knows no request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use super::forwarded::is_trusted;
use super::impatient::Impatient;
use super::places::Place;
use super::proxy_protocol::{self, Origin};
use super::tls::Tls;
use super::wire::Wire;
use super::{HttpOptions, Server, refusal};
use crate::limits::TLS_HANDSHAKE_TIMEOUT;

/// What connections of a listener begin with.
#[derive(Clone)]
pub enum Entrance {
    /// HTTP at once.
    Plain,
    /// A handshake.
    Tls(Arc<Tls>),
}

impl Entrance {
    /// Whether what comes through cannot be read on the way.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Entrance::Tls(_))
    }
}

/// A connection that has been let in.
pub(super) struct Entered {
    pub(super) wire: Wire,
    /// Who has connected: the peer, or whom a balancer named.
    pub(super) peer: IpAddr,
    pub(super) place: Place,
}

/// Leads a new connection to HTTP. `None` when it ended before.
pub(super) async fn enter(
    server: &Arc<Server>,
    options: &HttpOptions,
    mut stream: TcpStream,
    peer: IpAddr,
    mut place: Place,
    entrance: &Entrance,
) -> Option<Entered> {
    let mut client = peer;
    if is_trusted(peer, &options.proxy_protocol) {
        client = behind_balancer(server, &mut stream, peer).await?;
        // A proxy's own clients are counted for each request, and probes not at all.
        if client != peer && !is_trusted(client, &options.trusted_proxies) {
            let counted = place.count_for(client, options.connections_per_address_max);
            if let Err(full) = counted {
                server.counters.refused(full).fetch_add(1, Ordering::Relaxed);
                if !entrance.is_secure() {
                    refusal::tell(stream, full).await;
                }
                return None;
            }
        }
    }
    let stream = Impatient::new(stream, options, Arc::clone(server));
    let wire = match entrance {
        Entrance::Plain => Wire::plain(stream),
        Entrance::Tls(tls) => encrypted(server, tls, stream, client).await?,
    };
    Some(Entered { wire, peer: client, place })
}

async fn behind_balancer(server: &Server, stream: &mut TcpStream, peer: IpAddr) -> Option<IpAddr> {
    let read = tokio::select! {
        read = proxy_protocol::read(stream) => read,
        // Nobody has asked for anything yet.
        () = server.shutdown.accepting_ended() => return None,
    };
    match read {
        Ok(Origin::Client(client)) => Some(client),
        Ok(Origin::Balancer) => Some(peer),
        Err(error) => {
            server.counters.proxy_headers_bad.fetch_add(1, Ordering::Relaxed);
            if server.hints.balancer.may_speak() {
                tracing::warn!(
                    %peer,
                    "a connection was closed: {error}; is `http.proxy_protocol` meant for it, \
                     and has the balancer been told to send it?"
                );
            }
            None
        }
    }
}

async fn encrypted(server: &Server, tls: &Tls, stream: Impatient, client: IpAddr) -> Option<Wire> {
    let handshake = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream));
    let ended = tokio::select! {
        ended = handshake => ended,
        // Nobody has asked for anything yet.
        () = server.shutdown.accepting_ended() => return None,
    };
    let reason = match ended {
        Ok(Ok(Some(stream))) => return Some(Wire::encrypted(stream)),
        Ok(Ok(None)) => {
            tracing::info!(%client, "a name was validated over TLS");
            return None;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    server.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%client, reason, "a TLS handshake failed");
    None
}
