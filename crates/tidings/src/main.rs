//! The program `tidings`: a few lines around its library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives memory back to the system when a storm of connections is over, which the allocator of the
/// GNU C library keeps for ever.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Every part that speaks TLS or verifies signatures uses this one. It can only be taken
    // already by itself.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tidings::cli::run()
}
