//! Memory for messages that are not whole yet: what all sockets of the program take together.
//!
//! Knows no message. The first bytes of each come out of one half, what goes beyond out of another:
//! who says much does not keep those waiting who say little.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{ASSEMBLING_BYTES_MAX, SOCKET_MESSAGE_BYTES_DEFAULT};

/// Both halves.
#[derive(Debug)]
pub(super) struct Assembling {
    /// Bytes of a message that count as its first.
    first: usize,
    few: Half,
    many: Half,
}

/// That of all sockets of this program.
pub(super) static ALL: Assembling =
    Assembling::up_to(SOCKET_MESSAGE_BYTES_DEFAULT, ASSEMBLING_BYTES_MAX);

#[derive(Debug)]
struct Half {
    bytes_max: usize,
    claimed: AtomicUsize,
}

impl Half {
    fn claim(&self, bytes: usize) -> bool {
        let more = |claimed: usize| {
            let all = claimed.saturating_add(bytes);
            (all <= self.bytes_max).then_some(all)
        };
        self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.claimed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether an eighth at most is free.
    fn is_short(&self) -> bool {
        self.claimed.load(Ordering::Relaxed) > self.bytes_max / 8 * 7
    }
}

impl Assembling {
    pub(super) const fn up_to(first: usize, bytes_max: usize) -> Assembling {
        let half = bytes_max / 2;
        let few = Half { bytes_max: half, claimed: AtomicUsize::new(0) };
        let many = Half { bytes_max: half, claimed: AtomicUsize::new(0) };
        Assembling { first, few, many }
    }

    /// Lets a message that has `claimed` bytes have `bytes`, which are not fewer; or nothing more.
    pub(super) fn claim(&self, claimed: usize, bytes: usize) -> bool {
        let few = bytes.min(self.first) - claimed.min(self.first);
        let many = bytes.saturating_sub(self.first) - claimed.saturating_sub(self.first);
        if !self.few.claim(few) {
            return false;
        }
        let has_all = self.many.claim(many);
        if !has_all {
            self.few.release(few);
        }
        has_all
    }

    /// A message has no bytes any more.
    pub(super) fn release(&self, claimed: usize) {
        self.few.release(claimed.min(self.first));
        self.many.release(claimed.saturating_sub(self.first));
    }

    /// Whether others may have to wait for what a message of so many bytes has.
    pub(super) fn is_short(&self, claimed: usize) -> bool {
        (claimed > 0 && self.few.is_short()) || (claimed > self.first && self.many.is_short())
    }

    #[cfg(test)]
    pub(super) fn claimed(&self) -> usize {
        self.few.claimed.load(Ordering::Relaxed) + self.many.claimed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_leave_room_for_small_ones() {
        let memory = Assembling::up_to(10, 200);
        assert!(memory.claim(0, 60) && memory.claim(0, 60));
        assert!(!memory.claim(0, 60) && memory.claimed() == 120, "nothing is kept of a part");
        assert!(memory.is_short(60) && !memory.is_short(10));
        assert!((0..8).all(|_| memory.claim(0, 10)));
        assert!(!memory.claim(0, 1) && memory.is_short(1) && !memory.is_short(0));
        memory.release(60);
        assert!(memory.claim(0, 5) && memory.claim(5, 55), "by and by");
        assert_eq!(memory.claimed(), 195);
    }
}
