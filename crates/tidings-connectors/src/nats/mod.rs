//! NATS, where updates leave to and come from: subjects and `JetStream` streams, by our own code
//! for the protocol. It can do two things that libraries do not: stop reading while the hub is
//! busy, and know that a server has read what was sent. Knows no delivery order and no retries.

mod answers;
mod connection;
mod consumer;
mod counters;
mod encoding;
mod headers;
mod inbox;
mod jetstream;
pub(crate) mod limits;
mod login;
mod nkey;
mod opening;
mod options;
mod pace;
mod protocol;
mod published;
mod server;
mod session;
mod sink;
mod source;
mod subject;
#[cfg(test)]
mod tests;
mod tls;

pub use connection::{Link, Server};
pub use counters::Counters;
pub use options::{Deliver, JetStreamOptions, Rewrite, ServerOptions, SinkOptions, SourceOptions};
#[doc(hidden)]
pub use protocol::fuzz_frames;
pub use sink::NatsSink;
pub use source::NatsSource;
