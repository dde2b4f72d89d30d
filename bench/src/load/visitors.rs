//! Clients that come and go beside those that are counted: each asks for a stream, waits for the
//! head of the answer, and leaves, most of them without a word. On threads of their own, which wait
//! for the server like clients do.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::limits::{VISIT_TIMEOUT, VISITORS_AT_ONCE};
use crate::socket::Dialer;

/// The numbers of visitors, which tell where they come from, are above those of subscribers.
const FIRST: usize = 1 << 20;
/// One in so many says goodbye: each keeps a port of its address busy for a minute.
const POLITE: usize = 16;

/// Those who come and go until this ends.
pub(crate) struct Visitors {
    has_ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<u64>>>,
}

impl Visitors {
    /// So many a second, each with one of these requests.
    pub(crate) fn begin(
        dialer: &Dialer,
        requests: &Arc<[Vec<u8>; 2]>,
        per_second: usize,
    ) -> Visitors {
        let has_ended = Arc::new(AtomicBool::new(false));
        let count = if per_second == 0 { 0 } else { VISITORS_AT_ONCE };
        let pause = Duration::from_secs_f64(count as f64 / per_second.max(1) as f64);
        let thread = |first: usize| {
            let (ended, requests) = (Arc::clone(&has_ended), Arc::clone(requests));
            let dialer = dialer.clone();
            std::thread::spawn(move || {
                let mut due = Instant::now();
                let mut visits = 0;
                let numbers = (FIRST + first..).step_by(VISITORS_AT_ONCE);
                for (number, request) in numbers.zip(requests.iter().cycle()) {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    // Who is late does not come twice as often afterwards.
                    due = due.max(Instant::now() - pause) + pause;
                    visit(&dialer, number, request)?;
                    visits += 1;
                }
                Ok(visits)
            })
        };
        let threads = (0..count).map(thread).collect();
        Visitors { has_ended, threads }
    }

    /// Ends it. Answers how many were there and got an answer.
    pub(crate) fn end(self) -> io::Result<u64> {
        self.has_ended.store(true, Ordering::Relaxed);
        let visits = self.threads.into_iter().map(|thread| {
            let panicked = |_| Err(io::Error::other("a visitor panicked"));
            thread.join().unwrap_or_else(panicked)
        });
        visits.sum()
    }
}

fn visit(dialer: &Dialer, number: usize, request: &[u8]) -> io::Result<()> {
    let mut socket = TcpStream::from(dialer.dial_and_wait(number % (FIRST / 16) + FIRST)?);
    socket.set_read_timeout(Some(VISIT_TIMEOUT))?;
    socket.write_all(request)?;
    let (mut head, mut length) = ([0; 2048], 0);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let room = head.get_mut(length..).unwrap_or_default();
        match socket.read(room)? {
            0 => return Err(io::Error::other("a visitor got no whole head")),
            read => length += read,
        }
    }
    if !head.starts_with(b"HTTP/1.1 200 ") {
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::other(format!("a visitor was refused: {line}")));
    }
    if !number.is_multiple_of(POLITE) {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}
