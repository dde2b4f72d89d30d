//! The program `tidings`: a few lines around its library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Every part that speaks TLS or verifies signatures uses this one. It can only be taken
    // already by itself.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tidings::cli::run()
}
