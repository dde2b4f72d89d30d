//! The program: configuration in, running tasks out.
#![allow(dead_code, missing_docs)]
mod admin;
mod client;
mod config;
mod limits;
mod telemetry;
fn main() {}
