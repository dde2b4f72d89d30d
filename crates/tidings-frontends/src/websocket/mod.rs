//! The hub over a WebSocket (RFC 6455): the same subscriptions as over Server-Sent Events, changed
//! on an open connection. Knows nothing of storage, and not who else receives.

mod decoder;
pub(crate) mod delivery;
mod fault;
pub(crate) mod frame;
pub(crate) mod words;
