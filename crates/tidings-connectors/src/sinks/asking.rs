//! One sink that runs, as whoever asks something of it holds it: it does not keep the sink running.

use std::sync::Arc;

use tidings_core::StateError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::delivery::run::{Around, Command};
use crate::delivery::{Again, Status};

/// A sink to ask.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) around: Around,
    pub(super) name: Arc<str>,
    /// Weak: a sink ends when nobody can command it any more.
    pub(super) commands: mpsc::WeakSender<Command>,
    /// Cancelled when the sink is to end.
    pub(super) stop: CancellationToken,
}

impl Asking {
    /// Asks; `None` when the sink has ended.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (to, from) = oneshot::channel();
        let commands = self.commands.upgrade()?;
        commands.send(command(to)).await.ok()?;
        // It must not be kept running by who waits for its answer.
        drop(commands);
        from.await.ok()
    }

    pub(super) async fn status(&self) -> Option<Status> {
        self.ask(Command::Tell).await
    }

    /// How many of these were taken to be delivered again.
    pub(super) async fn again(&self, entries: Vec<Again>) -> Option<usize> {
        self.ask(|to| Command::Again(entries, to)).await
    }

    /// These dead letters are none any more.
    pub(super) async fn forget(&self, letters: Vec<(u64, usize)>) -> Option<()> {
        let commands = self.commands.upgrade()?;
        commands.send(Command::Forget(letters)).await.ok()
    }

    /// Waits until everything that was asked before is saved.
    pub(super) async fn settle(&self) -> Option<Result<(), StateError>> {
        // Commands are done one after the other, and noted before the next one.
        self.status().await?;
        Some(self.around.book.save().await)
    }
}
