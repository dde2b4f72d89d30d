//! The program: configuration in, running tasks out.
//!
//! A library only so that tests and fuzzers reach its parsers; the program is `main.rs`.

pub mod admin;
pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod courier;
mod keys;
mod ledger;
pub mod limits;
mod link;
mod reading;
pub mod relay;
pub mod telemetry;
mod token;
pub mod verify;
