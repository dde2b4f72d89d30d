//! Updates as HTTP requests to a URL. Knows the requests, and neither when one is sent nor what
//! becomes of what failed.

pub mod options;
pub mod signature;

mod address;
mod answer;
mod cloud_event;
mod connection;
mod envelope;
mod exchange;
mod mistakes;
mod names;
#[cfg(test)]
mod peer;
mod pool;
mod request;
#[cfg(test)]
mod samples;
mod sink;
mod timestamp;
mod tls;
mod wire;

pub use address::{Egress, Refusal, is_internal};
pub use answer::{Success, outcome};
pub use exchange::{Client, Exchanged, Times};
pub use options::Options;
#[cfg(test)]
pub(crate) use samples::{all_published, update};
pub use sink::{Guard, Surroundings, Webhook};
pub use tls::{BadCertificates, tls, tls_with};
