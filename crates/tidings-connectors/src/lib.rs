//! How other systems reach the hub, and how it reaches them: one system, one file or folder. Knows
//! the core; never a frontend.
//!
//! The two tables below are where a connector is registered: its kind, as `[[sink]]` and
//! `[[source]]` name it. They are empty so far, and the configuration refuses every kind.

pub mod connector;
pub mod limits;
pub mod secret;
pub mod span;
pub mod specification;
pub mod webhook;

/// Kinds of systems that updates leave to.
pub const SINKS: &[&str] = &[];

/// Kinds of systems that updates come from.
pub const SOURCES: &[&str] = &[];
