//! The program: configuration in, running tasks out.
//!
//! A library only so that tests and fuzzers reach its parsers; the program is `main.rs`.

pub mod admin;
pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod keys;
mod ledger;
pub mod limits;
mod link;
pub mod relay;
pub mod telemetry;
mod token;
pub mod verify;
