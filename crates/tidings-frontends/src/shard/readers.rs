//! Threads that read the history for streams. They give way to everything else: a publisher
//! waits for the processor behind its equals, and ten thousand clients that come back at once
//! must not be that.
//!
//! Knows no stream, no entry and no cursor: only work that may wait for a disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::limits::READERS_NICENESS;

type Work = Box<dyn FnOnce() + Send>;

/// A few threads of low priority. They end when this is dropped.
pub(crate) struct Readers {
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// Who gives work waits for it, so that there is never more than there are streams.
#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    is_over: bool,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Work> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_over {
                return None;
            }
            if let Some(work) = waiting.work.pop_front() {
                if waiting.work.is_empty() {
                    // What a storm needed is given back when it is over.
                    waiting.work = VecDeque::new();
                }
                return Some(work);
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Readers {
    /// Starts `count` threads, fewer when the system has no more.
    pub(crate) fn start(name: &str, count: usize) -> Readers {
        let line = Arc::new(Line::default());
        for _ in 0..count {
            let line = Arc::clone(&line);
            let thread = std::thread::Builder::new().name(name.to_owned());
            if let Err(error) = thread.spawn(move || work_off(&line)) {
                tracing::error!(%error, "a thread that reads the history did not start");
            }
        }
        Readers { line }
    }

    /// Has `work` done when a thread is free, first come, first served.
    pub(super) fn give(&self, work: impl FnOnce() + Send + 'static) {
        self.line.lock().work.push_back(Box::new(work));
        self.line.changed.notify_one();
    }

    /// Does `work` when a thread is free. `None` when it panicked. Nothing is done for who does
    /// not wait any more.
    pub(crate) async fn read<T, W>(&self, work: W) -> Option<T>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.give(move || {
            if !answer.is_closed() {
                // Nobody may be there any more: a client that left.
                let _gone = answer.send(work());
            }
        });
        answered.await.ok()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        waiting.is_over = true;
        // Who waits for it hears that it will not be done.
        waiting.work = VecDeque::new();
        drop(waiting);
        self.line.changed.notify_all();
    }
}

fn work_off(line: &Line) {
    // Of this thread alone, and only a wish: without it the others are slower, not wrong.
    let _refused = rustix::process::setpriority_process(None, READERS_NICENESS);
    while let Some(work) = line.next() {
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

    #[tokio::test]
    async fn nothing_is_read_for_who_does_not_wait_any_more() {
        let readers = Readers::start("reader", 1);
        let (open, opened) = std::sync::mpsc::channel::<()>();
        readers.give(move || assert!(opened.recv().is_err()));
        drop(Box::pin(readers.read(|| panic!("nobody waits"))));
        let abandoned = tokio::time::timeout(
            std::time::Duration::from_millis(10),
            readers.read(|| panic!("nobody waits")),
        );
        assert!(abandoned.await.is_err());
        drop(open);
        assert_eq!(readers.read(|| 7).await, Some(7));
    }
}
