//! What the HTTP side counts. Knows no metric format: the program reads the fields.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use super::places::Full;

/// Counters that only grow, from the start of the program.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// Connections that were let in.
    pub connections: AtomicU64,
    /// Connections refused because all places were taken.
    pub refused_in_total: AtomicU64,
    /// Connections and proxied requests refused because one address had all its places.
    pub refused_of_address: AtomicU64,
    /// Connections that sent no request in time.
    pub silent: AtomicU64,
    /// Connections cut off because their clients left their sockets full.
    pub stalled: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Connections of balancers closed because their PROXY header was missing or wrong.
    pub proxy_headers_bad: AtomicU64,
    /// Times that the accept loop waited for descriptors or buffers.
    pub accept_pauses: AtomicU64,
    /// Requests whose frontend panicked.
    pub panics: AtomicU64,
    /// Answers by class of status: 1xx to 5xx.
    pub answers: [AtomicU64; 5],
    /// WebSockets now.
    pub sockets: AtomicU64,
    /// Messages that their clients said.
    pub socket_messages: AtomicU64,
    /// Those that the hub closed, by [`SOCKET_CLOSES`].
    pub socket_closes: [AtomicU64; SOCKET_CLOSES.len()],
}

/// The codes that the hub closes WebSockets with (RFC 6455 section 7.4.1).
pub const SOCKET_CLOSES: [&str; 8] =
    ["1001", "1002", "1003", "1007", "1008", "1009", "1011", "1013"];

impl HttpCounters {
    /// The hub closes a socket with this code.
    pub(crate) fn socket_closes(&self, code: u16) {
        let mut places = SOCKET_CLOSES.iter().zip(&self.socket_closes);
        if let Some((_, counter)) = places.find(|(known, _)| known.parse() == Ok(code)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn refused(&self, full: Full) -> &AtomicU64 {
        match full {
            Full::InTotal => &self.refused_in_total,
            Full::OfAddress => &self.refused_of_address,
        }
    }

    /// The counter of the class that `status` belongs to, if there is one.
    pub(super) fn answer(&self, status: StatusCode) -> Option<&AtomicU64> {
        self.answers.get(usize::from(status.as_u16() / 100).checked_sub(1)?)
    }
}
