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

mod check;
mod document;
mod environment;
mod load;
mod mistakes;
mod nearest;
mod scalar;
mod schema;
mod value;
mod variables;

pub use load::load;
/// Stub until the reader of the image's environment is here.
const DEVELOPMENT_KEY: &str = "!ChangeThisMercureHubJWTSecretKey!";
mod image {
    use super::{mistakes::Problem, value::Node, variables::Variables};
    pub(super) struct Drop {
        pub(super) problems: Vec<Problem>,
        pub(super) notes: Vec<String>,
    }
    pub(super) fn apply(_: &mut Node, _: &Variables) -> Drop {
        Drop { problems: Vec::new(), notes: Vec::new() }
    }
    pub(super) fn settle(_: &mut Node) {}
}
/// What only a development hub has.
#[derive(Clone, Debug)]
pub struct Dev {
    /// A 1.0 token for everything.
    pub token: String,
    /// A 0.x token for everything.
    pub draft_token: String,
}

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
    /// What only a development hub has.
    pub dev: Option<Dev>,
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
