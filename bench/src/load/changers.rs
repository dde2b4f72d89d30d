//! Sockets of the hub that change what they listen to all the time, beside those that are counted:
//! each subscribes and unsubscribes in turn. On threads of their own, a few sockets at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::limits::{CHANGERS_AT_ONCE, READ_BYTES_MAX, VISIT_TIMEOUT};
use crate::peer::{change, upgrade};
use crate::socket::Dialer;

/// The numbers of changers, which tell where they come from, are above those of visitors.
const FIRST: usize = 1 << 21;

/// Those who change until this ends.
pub(crate) struct Changers {
    has_ended: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Changers {
    /// So many, each of which changes so many times a second.
    pub(crate) fn begin(dialer: &Dialer, count: usize, each: f64) -> Changers {
        let (has_ended, changes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = if count == 0 { 0 } else { CHANGERS_AT_ONCE };
        let pause = Duration::from_secs_f64(threads as f64 / (count as f64 * each).max(1e-3));
        let thread = |first: usize| {
            let (ended, changes) = (Arc::clone(&has_ended), Arc::clone(&changes));
            let dialer = dialer.clone();
            let numbers: Vec<usize> = (first..count).step_by(CHANGERS_AT_ONCE).collect();
            std::thread::spawn(move || change_on(&dialer, &numbers, pause, &ended, &changes))
        };
        let threads = (0..threads).map(thread).collect();
        Changers { has_ended, changes, threads }
    }

    /// Changes until now.
    ///
    /// # Errors
    ///
    /// When one of them has ended.
    pub(crate) fn changes(&mut self) -> io::Result<u64> {
        if let Some(ended) = self.threads.iter().position(JoinHandle::is_finished) {
            let panicked = |_| Err(io::Error::other("a changer panicked"));
            self.threads.swap_remove(ended).join().unwrap_or_else(panicked)?;
        }
        Ok(self.changes.load(Ordering::Relaxed))
    }
}

impl Drop for Changers {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What became of it was asked for before.
            let _ended = thread.join();
        }
    }
}

fn change_on(
    dialer: &Dialer,
    numbers: &[usize],
    pause: Duration,
    ended: &AtomicBool,
    changes: &AtomicU64,
) -> io::Result<()> {
    let open = |number: &usize| open(dialer, *number);
    let mut sockets: Vec<TcpStream> = numbers.iter().map(open).collect::<io::Result<_>>()?;
    let mut room = vec![0; READ_BYTES_MAX / CHANGERS_AT_ONCE];
    let mut due = Instant::now();
    for subscribes in [true, false].into_iter().cycle() {
        for (socket, number) in sockets.iter_mut().zip(numbers) {
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now() - pause) + pause;
            take_all(socket, &mut room)?;
            socket.write_all(&change(*number, subscribes))?;
            changes.fetch_add(1, Ordering::Relaxed);
        }
        if sockets.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

fn open(dialer: &Dialer, number: usize) -> io::Result<TcpStream> {
    let mut socket = TcpStream::from(dialer.dial_and_wait(FIRST + number)?);
    socket.set_read_timeout(Some(VISIT_TIMEOUT))?;
    socket.write_all(upgrade("").as_bytes())?;
    let (mut head, mut length) = ([0; 2048], 0);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(head.get_mut(length..).unwrap_or_default())? {
            0 => return Err(io::Error::other("a changer got no whole head")),
            read => length += read,
        }
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::other(format!("a changer was refused: {line}")));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Answers, and whatever else it is told.
fn take_all(socket: &mut TcpStream, room: &mut [u8]) -> io::Result<()> {
    loop {
        match socket.read(room) {
            Ok(0) => return Err(io::Error::other("the hub ended a changer")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
