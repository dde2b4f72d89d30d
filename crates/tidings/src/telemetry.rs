//! The log on standard error. Knows no secret and no part of the program: what is logged is
//! decided where it happens.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogOptions, level};

/// The variable that overrides the level of the configuration, as in most Rust programs.
const VARIABLE: &str = "RUST_LOG";

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BadLog {
    /// The filter directives are not valid.
    #[error("{origin} {reason}; {hint}")]
    Filter {
        /// Where they stand.
        origin: &'static str,
        /// What is wrong with them.
        reason: String,
        /// What to write instead.
        hint: String,
    },
    /// There is one already.
    #[error("the log has been started before")]
    Started,
}

/// Starts the log. `RUST_LOG` wins over the configured level where it is asked: not by a relay,
/// whose level was made of it.
///
/// # Errors
///
/// When the level is none, or there is a log already.
pub fn start(options: &LogOptions, asks_variable: bool) -> Result<(), BadLog> {
    let variable = asks_variable.then(|| std::env::var(VARIABLE).ok()).flatten();
    let variable = variable.filter(|text| !text.trim().is_empty());
    let (origin, text) = match &variable {
        Some(text) => (VARIABLE, text.as_str()),
        None => ("log.level", options.level.as_str()),
    };
    level::check(text).map_err(|(reason, hint)| BadLog::Filter { origin, reason, hint })?;
    let filter = EnvFilter::new(text);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let started = match options.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| BadLog::Started)
}
