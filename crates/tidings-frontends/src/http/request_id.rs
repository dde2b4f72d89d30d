//! Names for requests. Knows nothing of the request: what a client sends is never part of it.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// One request's name in logs and answers: 16 hexadecimal digits, never repeated in one process
/// and not likely to be in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
    let seed = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()) << 32);
    AtomicU64::new(seed)
});

impl RequestId {
    /// The next name: a bijection of a counter that starts at random, so no system call each time.
    pub fn next() -> RequestId {
        let mut mixed = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId(mixed ^ (mixed >> 31))
    }

    /// The name as it is written. Each answer has one.
    pub(super) fn digits(self) -> [u8; 16] {
        let mut rest = self.0;
        std::array::from_fn(|_| {
            rest = rest.rotate_left(4);
            let digit = (rest & 0xf) as u8;
            if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
        })
    }

    /// The name as a header's value.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.digits()).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_do_not_repeat_and_have_one_length() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| RequestId::next()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.to_string().len() == 16));
        assert!(ids.iter().all(|id| id.header() == id.to_string().as_str()));
    }
}
