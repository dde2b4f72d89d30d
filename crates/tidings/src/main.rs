//! Temporary.
use std::process::ExitCode;

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let path: std::path::PathBuf = std::env::args().nth(3).unwrap_or_default().into();
    let config = match tidings::config::load(Some(&path)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", error.report(false));
            return ExitCode::from(2);
        }
    };
    let reload =
        move || tidings::config::load(Some(&path)).map_err(|mistakes| mistakes.report(false));
    let launch =
        tidings::app::Launch { config, reload: Box::new(reload), listening: Box::new(|_| {}) };
    match tidings::app::run(launch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
