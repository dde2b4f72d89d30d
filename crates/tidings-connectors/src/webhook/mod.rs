//! Updates as HTTP requests to a URL. Knows the requests, and not when one is sent.

mod address;
mod answer;
mod connection;
mod exchange;
mod pool;
mod tls;

pub use address::{Egress, Refusal, is_internal};
pub use answer::{Success, outcome};
pub use exchange::{Client, Exchanged, Times};
pub use tls::{BadCertificates, tls, tls_with};
