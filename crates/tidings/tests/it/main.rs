//! Journeys against the real program on port 0: one file per journey, one binary for all.
//!
//! `hub` starts, kills and restarts the program, `http` speaks to it byte by byte, `tokens` mints
//! what issuers would. No test sleeps to wait for something: it reads a log line, an answer or an
//! update, each with a deadline. "Nothing arrives" is proved by publishing one more update that
//! must arrive, and looking at what came before it.

// A test says no by panicking; the lint's own exception only covers functions marked as tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    // Journeys pick what they need of the harness.
    dead_code
)]

mod acme_server;
mod browser;
mod encrypted;
mod http;
mod hub;
mod mercure;
mod nats_server;
mod python;
mod receiver;
mod tokens;

// Journeys.
mod acme;
mod auth_jwks;
mod auth_revocation;
mod continuity;
mod courier;
mod courier_import;
mod crash;
mod delivery_crash;
mod egress;
mod endpoints;
mod endpoints_made;
mod exchange;
mod explain;
mod follow_up;
mod fuzz_loops;
mod http2_abuse;
mod http_admin;
mod http_commands;
mod http_connections;
mod isolation;
mod keys;
mod mercure_cookies;
mod mercure_cors;
mod mercure_draft;
mod mercure_generations;
mod mercure_presence;
mod mercure_publish;
mod mercure_refusals;
mod mercure_replay;
mod mercure_subscribe;
mod mercure_tokens;
mod nats;
mod page;
mod privacy;
mod proxy_protocol;
mod readme;
mod relay;
mod revoked_keys;
mod shlink;
mod shutdown;
mod silent_readers;
mod sinks;
mod sinks_admin;
mod storage_faults;
mod strace;
mod streams;
mod streams_connections;
mod tickets;
mod tls;
mod webhook;
mod webhook_order;
mod webhook_signature;
mod websocket;
