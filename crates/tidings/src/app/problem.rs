//! Why the program did not run to its planned end. Knows no part but by what went wrong in it.

use std::net::SocketAddr;

use tidings_core::OpenError;
use tidings_frontends::NoShards;
use tidings_frontends::auth::BadKeys;
use tidings_frontends::courier::NoCourier;
use tidings_frontends::http::BadCertificate;
use tidings_frontends::http::acme::AcmeProblem;
use tidings_frontends::mercure::{BadOrigin, BadStart};

use super::connectors::BadConnector;
use crate::keys::{KeyringProblem, UnreadableKeys};
use crate::ledger::UnreadableLedger;
use crate::telemetry::BadLog;

/// Why the program did not run to its planned end.
#[derive(Debug, thiserror::Error)]
pub enum AppProblem {
    /// The log.
    #[error(transparent)]
    Log(#[from] BadLog),
    /// The history.
    #[error("the history cannot be opened: {0}")]
    History(#[from] OpenError),
    /// The keys of an issuer.
    #[error(transparent)]
    Keys(#[from] BadKeys),
    /// What the hub keeps beside its history.
    #[error(transparent)]
    Revocations(#[from] UnreadableLedger),
    /// API keys and what signs their tokens.
    #[error(transparent)]
    ApiKeys(#[from] UnreadableKeys),
    /// The API key of a development hub.
    #[error(transparent)]
    DevKey(#[from] KeyringProblem),
    /// The connections to issuers.
    #[error("key sets cannot be read: {0}")]
    KeySets(#[from] reqwest::Error),
    /// The list of origins.
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The Mercure frontend.
    #[error(transparent)]
    Mercure(#[from] BadStart),
    /// The threads that serve subscribers.
    #[error(transparent)]
    Shards(#[from] NoShards),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// Courier.
    #[error(transparent)]
    Courier(#[from] NoCourier),
    /// A sink or a source.
    #[error(transparent)]
    Connector(#[from] BadConnector),
    /// Certificates from an ACME server.
    #[error(transparent)]
    Acme(#[from] AcmeProblem),
    /// TLS itself.
    #[error("TLS cannot be offered: {0}")]
    Tls(#[from] rustls::Error),
    /// An address is taken or is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The runtime or the signals.
    #[error("the program cannot start: {0}")]
    Start(#[source] std::io::Error),
    /// A relay's NATS server.
    #[error("the NATS server refuses this relay: {0}")]
    Refused(String),
    /// A second signal came before the shutdown was over.
    #[error("ended at once by a second signal")]
    Interrupted,
}
