//! What the kernel knows of the machine at the other end. A client that vanished without a word
//! looks like one that has nothing to say; but what it is sent stays unacknowledged.
//!
//! The one file with unsafe code: neither the standard library nor a crate in use asks this.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "one system call, argued below"))]

use std::time::Duration;

/// Whether bytes are on their way and nothing was acknowledged for `limit`. A reader that pauses is
/// not meant: its machine acknowledges all that it is sent, and that it takes no more.
#[cfg(target_os = "linux")]
pub(crate) fn has_vanished(stream: &impl std::os::fd::AsRawFd, limit: Duration) -> bool {
    use std::mem::MaybeUninit;

    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed. The kernel writes at most
    // `length` bytes, which the buffer has. A `tcp_info` consists of integers, so that zeros are
    // one, whatever part of it an older kernel fills.
    let info = unsafe {
        let asked = libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        if asked != 0 {
            return false;
        }
        info.assume_init()
    };
    info.tcpi_unacked > 0 && u128::from(info.tcpi_last_ack_recv) >= limit.as_millis()
}

/// Elsewhere the system's own time-outs find out, later.
#[cfg(not(target_os = "linux"))]
pub(crate) fn has_vanished<Stream>(_: &Stream, _: Duration) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn who_acknowledges_has_not_vanished_and_who_is_no_socket_of_tcp_is_not_judged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert!(!has_vanished(&near, Duration::ZERO), "nothing was sent");
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        // The other machine acknowledges what it has, however little it reads.
        while has_vanished(&near, Duration::ZERO) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!has_vanished(&near, Duration::from_secs(60)));
        let (pipe, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!has_vanished(&pipe, Duration::ZERO));
    }
}
