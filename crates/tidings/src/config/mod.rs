//! Configuration: defaults, under a TOML file, under `TIDINGS_…` variables, checked as a whole.
//!
//! What comes out is ready to run: nothing behind this module reads a file or a variable for a
//! setting. It does not know what any setting does.

use std::net::SocketAddr;

use url::Url;

pub mod auth;
pub mod duration;
pub mod options;
pub mod size;

pub use options::{
    AdminOptions, Durability, HistoryOptions, HttpOptions, Keep, LogFormat, LogOptions,
    MercureOptions,
};

/// Everything the program needs to run, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the hub listens; at least one address.
    pub listen: Vec<SocketAddr>,
    /// The URL under which clients reach the hub, without the hub's path. Only base for `aud`,
    /// relative patterns and reserved topics.
    pub public_url: Url,
    /// The path of the Mercure protocol; starts with a slash and does not end with one.
    pub hub_path: String,
    /// The history.
    pub history: HistoryOptions,
    /// Who may publish and subscribe.
    pub auth: auth::Options,
    /// The Mercure protocol.
    pub mercure: MercureOptions,
    /// Connections.
    pub http: HttpOptions,
    /// The operator's listener.
    pub admin: AdminOptions,
    /// The log.
    pub log: LogOptions,
    /// What the operator should know at the start, one sentence each, for the log.
    pub notes: Vec<String>,
}

impl Config {
    /// The hub's URL: the public URL with the hub's path behind it.
    pub fn hub_url(&self) -> Url {
        let mut url = self.public_url.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), self.hub_path);
        url.set_path(&path);
        url
    }
}
