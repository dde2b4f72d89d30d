//! How other systems reach the hub, and how it reaches them: one system, one file or folder. Knows
//! the core; never a frontend.
//!
//! [`SINKS`] and [`SOURCES`] are where a connector is registered: its kind, as `[[sink]]` and
//! `[[source]]` name it, and its options.

pub mod attempts;
pub mod book;
pub mod connector;
pub mod delivery;
pub mod endpoints;
mod forms;
pub mod hash;
#[cfg(test)]
mod in_memory;
pub mod ingest;
mod kinds;
pub mod limits;
pub mod make;
pub mod nats;
pub mod nearest;
mod reader;
mod recalled;
mod records;
pub mod rows;
pub mod secret;
pub mod sinks;
pub mod sources;
pub mod space;
pub mod span;
pub mod specification;
pub mod webhook;

pub use kinds::{ENDPOINTS, SINKS, SOURCES};
