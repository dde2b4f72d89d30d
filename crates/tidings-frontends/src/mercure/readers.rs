//! Threads that read the history for streams. They give way to everything else: a publisher
//! waits for the processor behind its equals, and ten thousand clients that come back at once
//! must not be that.
//!
//! Knows no stream, no entry and no cursor: only work that may wait for a disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use crate::limits::READERS_NICENESS;

type Work = Box<dyn FnOnce() + Send>;

/// A few threads of low priority. They end when this is dropped.
pub(super) struct Readers {
    /// One for each thread: who holds one finds room in the queue.
    places: Arc<Semaphore>,
    queue: SyncSender<Work>,
}

impl Readers {
    /// Starts `count` threads, fewer when the system has no more.
    pub(super) fn start(name: &str, count: usize) -> Readers {
        let (queue, waiting) = sync_channel(count);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            let thread = std::thread::Builder::new().name(name.to_owned());
            if let Err(error) = thread.spawn(move || work_off(&waiting)) {
                tracing::error!(%error, "a thread that reads the history did not start");
            }
        }
        Readers { places: Arc::new(Semaphore::new(count)), queue }
    }

    /// Does `work` when a thread is free, first come, first served. `None` when it panicked.
    pub(super) async fn read<T, W>(&self, work: W) -> Option<T>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Nobody may be there any more: a client that left.
            let _gone = answer.send(work());
            drop(place);
        });
        self.queue.try_send(work).ok()?;
        answered.await.ok()
    }
}

fn work_off(waiting: &Mutex<Receiver<Work>>) {
    // Of this thread alone, and only a wish: without it the others are slower, not wrong.
    let _refused = rustix::process::setpriority_process(None, READERS_NICENESS);
    loop {
        let work = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = work else { return };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("reading the history panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn all_work_is_done_by_the_threads_that_are_there() {
        let readers = Arc::new(Readers::start("reader", 2));
        let mut tasks = JoinSet::new();
        for number in 0..100 {
            let readers = Arc::clone(&readers);
            tasks.spawn(async move { readers.read(move || number).await });
        }
        let mut done: Vec<i32> = tasks.join_all().await.into_iter().flatten().collect();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn work_that_panics_takes_no_thread_with_it() {
        let readers = Readers::start("reader", 1);
        for _ in 0..3 {
            assert_eq!(readers.read(|| -> u8 { panic!("as it may") }).await, None);
        }
        assert_eq!(readers.read(|| 7).await, Some(7));
    }
}
