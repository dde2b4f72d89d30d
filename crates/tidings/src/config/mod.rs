//! Configuration: defaults, under a TOML file, under `TIDINGS_…` variables, checked as a whole.
//!
//! What comes out is ready to run: nothing behind this module reads a file or a variable for a
//! setting. It does not know what any setting does.

use std::net::SocketAddr;

use tidings_connectors::specification::{SinkSpecification, SourceSpecification};
use tidings_frontends::auth;
use url::Url;

mod caddyfile;
mod check;
mod connectors;
mod courier;
mod dev;
mod directives;
mod document;
pub mod duration;
mod environment;
mod image;
mod issuers;
mod kind;
pub(crate) mod level;
mod load;
mod mistakes;
pub mod options;
mod paths;
mod reference;
mod relay;
mod scalar;
mod schema;
mod server_name;
pub mod size;
mod tls;
mod value;
mod variables;
mod webhooks;
mod websocket;

pub(crate) use courier::socket_url;
pub use courier::{CourierOptions, courier};
pub use dev::{Dev, banner, dev, dev_again};
pub(crate) use load::is_admin_token;
pub use load::{from_text, from_variables, load};
pub use mistakes::Mistakes;
pub use options::{
    AdminOptions, Durability, HistoryOptions, HttpOptions, Keep, LogFormat, LogOptions,
    MercureOptions, TokensOptions,
};
pub use reference::reference;
pub use relay::relay;
pub use tls::TlsOptions;
pub use variables::Variables;
pub(crate) use variables::read_secret;
pub use webhooks::{KeepAttempts, WebhookOptions};
pub use websocket::WebSocketOptions;

/// Everything the program needs to run, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the hub listens without TLS; at least one address here or in `tls`.
    pub listen: Vec<SocketAddr>,
    /// The URL under which clients reach the hub, without the hub's path. Only base for `aud`,
    /// relative patterns and reserved topics.
    pub public_url: Url,
    /// Whether the operator has said so, or it was made up for this machine.
    pub has_public_url: bool,
    /// The path of the Mercure protocol; starts with a slash and does not end with one.
    pub hub_path: String,
    /// The history.
    pub history: HistoryOptions,
    /// Who may publish and subscribe.
    pub auth: auth::Options,
    /// The Mercure protocol.
    pub mercure: MercureOptions,
    /// The hub over WebSockets.
    pub websocket: WebSocketOptions,
    /// Connections.
    pub http: HttpOptions,
    /// Tokens for consumers.
    pub tokens: TokensOptions,
    /// Tenants over bare WebSockets; `None` where there are none.
    pub courier: Option<CourierOptions>,
    /// Listeners with TLS.
    pub tls: TlsOptions,
    /// Systems that updates leave to. Names are unique among sinks and sources.
    pub sinks: Vec<SinkSpecification>,
    /// Systems that updates come from.
    pub sources: Vec<SourceSpecification>,
    /// What endpoints made over the API have in common.
    pub webhooks: WebhookOptions,
    /// The operator's listener.
    pub admin: AdminOptions,
    /// The log.
    pub log: LogOptions,
    /// Whether it is a relay, which trusts its own destinations and ends when it is not let in.
    pub is_relay: bool,
    /// Whether it serves Courier and nothing else.
    pub is_courier: bool,
    /// What only `tidings dev` has.
    pub dev: Option<Dev>,
    /// What the operator should know at the start, one sentence each, for the log.
    pub notes: Vec<String>,
}

impl Config {
    /// The hub's URL: the public URL with the hub's path behind it.
    pub fn hub_url(&self) -> Url {
        let mut url = self.public_url.clone();
        url.set_path(&self.below_public_url(&self.hub_path));
        url
    }

    /// The path of requests for WebSockets.
    pub fn websocket_path(&self) -> String {
        self.below_public_url(&self.websocket.path)
    }

    fn below_public_url(&self, path: &str) -> String {
        format!("{}{path}", self.public_url.path().trim_end_matches('/'))
    }
}

/// Any bytes as a configuration file: must end in a configuration or in mistakes.
#[doc(hidden)]
pub fn fuzz_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(mistakes) = from_text("fuzz.toml", &text, &Variables::default()) {
        let _ = mistakes.report(false);
    }
}

/// Any bytes as directives of the Mercure hub's image: must end in a configuration or in mistakes.
#[doc(hidden)]
pub fn fuzz_directives(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let key = "MERCURE_PUBLISHER_JWT_KEY";
    let variables = [(key, "a key of the fuzzer"), ("MERCURE_EXTRA_DIRECTIVES", text.as_ref())];
    if let Err(mistakes) = from_variables(&variables.into()) {
        let _ = mistakes.report(false);
    }
}

/// Any bytes as a `.env` file, whose variables configure a hub without a file and one with: must
/// end in a configuration or in mistakes.
#[doc(hidden)]
pub fn fuzz_variables(bytes: &[u8]) {
    let Ok(variables) = Variables::of_text(&String::from_utf8_lossy(bytes)) else { return };
    for read in [from_variables(&variables), from_text("fuzz.toml", "", &variables)] {
        if let Err(mistakes) = read {
            let _ = mistakes.report(false);
        }
    }
}

#[cfg(test)]
mod tests;
