//! Streams by the thousand. A shard owns sockets whose request was answered by a stream of what the
//! hub delivers: it takes each batch once for all who ask for the same, and everything that waits
//! for a socket leaves in one write. An idle stream has a socket, a place in
//! the history and a line in a wheel of times; no task, no buffer, no timer of its own.
//!
//! Knows no request, no token and no parameter: a frontend decides who gets what, from where on.

mod arrival;
mod audience;
mod catch_up;
mod deliver;
mod handoff;
mod inbox;
mod limits;
mod listen;
mod lives;
mod moving;
mod orders;
mod outlet;
mod portion;
mod readers;
mod receiver;
mod run;
mod side;
mod socket;
pub(crate) mod talk;
#[cfg(test)]
mod tests;
mod wants;
mod wheel;
mod words;
mod work;

use std::sync::Arc;
use std::thread::JoinHandle;

use tidings_core::{Clock, Hub};
use tokio::task::AbortHandle;

pub(crate) use arrival::{Carrier, Limits, Patience, Stream};
pub(crate) use handoff::{Feed, Handoff, Sent};
pub(crate) use outlet::{Encrypted, Outlet};
pub(crate) use readers::Readers;

use crate::limits::{CATCH_UP_READERS, CURSOR_READERS};
use arrival::{Arrival, Load};
use inbox::{Inbox, Message};
use run::Shard;
use work::Desk;

/// All shards, which frontends share. They end when this is dropped, and their streams with them.
pub struct Shards {
    shards: Vec<Running>,
    /// Who looks up where streams begin.
    pub(crate) cursor_readers: Readers,
}

/// The operating system's fault: there would be nobody to write to subscribers.
#[derive(Debug, thiserror::Error)]
#[error(
    "a thread that writes to subscribers did not start: {0}; raise the limits of threads and \
     open files"
)]
pub struct NoShards(#[from] std::io::Error);

struct Running {
    inbox: Arc<Inbox>,
    load: Load,
    thread: Option<JoinHandle<()>>,
    help: Option<AbortHandle>,
}

impl Shards {
    /// Starts a shard for each processor, for streams of this hub. Inside a runtime, its threads
    /// help theirs.
    ///
    /// # Errors
    ///
    /// When the system has no more threads or descriptors.
    pub fn start(hub: &Hub, clock: &Arc<dyn Clock>) -> Result<Arc<Shards>, NoShards> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let readers = Arc::new(Readers::start("history", processors.min(CATCH_UP_READERS)));
        Ok(Arc::new(Shards::start_some(hub, clock, &readers, processors)?))
    }

    /// The same with `count` of them.
    fn start_some(
        hub: &Hub,
        clock: &Arc<dyn Clock>,
        readers: &Arc<Readers>,
        count: usize,
    ) -> std::io::Result<Shards> {
        let cursor_readers = Readers::start("cursors", CURSOR_READERS);
        let mut shards = Shards { shards: Vec::new(), cursor_readers };
        for number in 0..count {
            let poll = mio::Poll::new()?;
            let inbox = Inbox::new(mio::Waker::new(poll.registry(), run::WAKE)?);
            let given = (hub.clone(), Arc::clone(clock), Arc::clone(readers));
            let (hub, clock, readers) = given;
            let registry = poll.registry().try_clone()?;
            let shard = Shard::new(hub, clock, readers, registry, Arc::clone(&inbox));
            let desk = Desk::new(shard, Arc::clone(&inbox));
            let own = Arc::clone(&desk);
            let thread = std::thread::Builder::new().name(format!("shard-{number}"));
            let thread = thread.spawn(move || own.run(poll))?;
            let help = desk.find_help();
            let load = Load::default();
            shards.shards.push(Running { inbox, load, thread: Some(thread), help });
        }
        Ok(shards)
    }

    /// Gives a stream to the shard that has the fewest.
    pub(crate) fn begin(&self, stream: Stream, carrier: Carrier) {
        if let Some(shard) = self.shards.iter().min_by_key(|shard| shard.load.streams()) {
            let counted = shard.load.one_more();
            shard.inbox.put(Message::Arrived(Box::new(Arrival { stream, carrier, counted })));
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.inbox.put(Message::End);
            if let Some(help) = &shard.help {
                help.abort();
            }
        }
        for shard in &mut self.shards {
            if let Some(thread) = shard.thread.take() {
                // A panic was reported where it happened.
                let _ended = thread.join();
            }
        }
    }
}
