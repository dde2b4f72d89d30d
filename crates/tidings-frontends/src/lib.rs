//! How clients reach the hub: one protocol, one file or folder.
//!
//! Nothing here knows a connector, a configuration file or how updates are stored. A frontend turns
//! what a client says into an `Update` or a `Selection` and the hub's answer into its protocol.

pub mod auth;
mod causes;
pub mod courier;
pub mod http;
pub mod limits;
pub mod mercure;
pub mod page;
pub mod problem;
mod shard;
mod sse;
pub mod tokens;
pub mod websocket;

pub use causes::causes;
pub use shard::{NoShards, Shards};
