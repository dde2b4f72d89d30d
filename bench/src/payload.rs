//! What is in an update: `bench NUMBER NANOSECONDS xxxx…`, one line of a given size. Knows nobody
//! who carries it.

use std::io::Write;

const MARK: &[u8] = b"bench ";

/// Replaces `out` by the payload of update `number`, sent at `nanoseconds` of the sender's clock.
/// It has `size` bytes, or more where the numbers do not fit.
pub(crate) fn render(out: &mut Vec<u8>, number: u64, nanoseconds: u64, size: usize) {
    out.clear();
    out.extend_from_slice(MARK);
    // Writing to a vector does not fail.
    let _ok = write!(out, "{number} {nanoseconds} ");
    out.resize(size.max(out.len()), b'x');
}

/// The number of the update with this payload.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(MARK)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = digits.get(..end)?.iter();
    digits.into_iter().try_fold(0u64, |number, &digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_tells_its_number() {
        let mut out = Vec::new();
        render(&mut out, 4_711, 123_456_789, 256);
        assert_eq!((out.len(), number(&out)), (256, Some(4_711)));
        assert_eq!(number(b"something else"), None);
        assert_eq!(number(b"bench 99999999999999999999 1 x"), None);
    }
}
