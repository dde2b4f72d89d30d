//! Courier: topics of audiences over bare WebSockets. Knows nothing of other protocols.

pub(crate) mod delivery;
