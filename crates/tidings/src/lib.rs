//! The program: configuration in, running tasks out. It alone sees the core, the frontends and the
//! connectors; the binary is a few lines around it.

pub mod clock;
pub mod config;
pub mod limits;
