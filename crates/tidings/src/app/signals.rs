//! Signals of the operating system, and what is wished by them. Knows nothing of what is done then.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::AppProblem;

/// What the operating system asks for.
pub(super) enum Wish {
    Reload,
    End(&'static str),
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Signals, AppProblem> {
        let on = |kind| signal(kind).map_err(AppProblem::Start);
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End("SIGTERM"),
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }

    /// The next signal that ends the program; reloading is over.
    pub(super) async fn end(&mut self) {
        while let Wish::Reload = self.next().await {}
    }
}
