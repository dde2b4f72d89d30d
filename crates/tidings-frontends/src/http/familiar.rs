//! A head that was read before. Who sends many requests with a body on one connection mostly sends
//! the same head with each, but for the length of the body: what it says is not worked out again.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::connection::Head;
use super::head;
use super::usual::read_length;
use crate::limits::FAMILIAR_HEAD_BYTES_MAX;

/// The last head of a connection.
#[derive(Debug)]
pub(super) struct Familiar {
    /// As it was sent, with its empty line.
    bytes: Bytes,
    /// Where in it the digits of the body's length stand.
    digits: Range<usize>,
    parts: Arc<Parts>,
}

/// A head at the beginning of what was read.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) head_length: usize,
    /// Of the body behind it.
    pub(super) length: usize,
}

impl Familiar {
    /// The head at the beginning of what was read, for itself: no body is kept for its sake.
    pub(super) fn copy(waiting: &[u8]) -> Option<Bytes> {
        let begin = waiting.get(..waiting.len().min(FAMILIAR_HEAD_BYTES_MAX))?;
        let end = memchr::memmem::find(begin, b"\r\n\r\n")? + 4;
        begin.get(..end).map(Bytes::copy_from_slice)
    }

    /// A head that was read as `parts`, and the length that it says. There is none of one that is
    /// refused, or where it is not plain to see which bytes are the length.
    pub(super) fn new(bytes: Bytes, length: usize, parts: &Arc<Parts>) -> Option<Familiar> {
        if head::refusal(parts).is_some() {
            return None;
        }
        let digits = digits(&bytes, length)?;
        Some(Familiar { bytes, digits, parts: Arc::clone(parts) })
    }

    /// The head at the beginning of what was read, if it is this one again.
    pub(super) fn recognize(&self, waiting: &[u8]) -> Option<Found> {
        let (begin, end) =
            (self.bytes.get(..self.digits.start)?, self.bytes.get(self.digits.end..)?);
        let rest = waiting.strip_prefix(begin)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = rest.split_at_checked(count)?;
        if !rest.starts_with(end) {
            return None;
        }
        let head = Head { parts: Arc::clone(&self.parts), is_judged: true };
        let head_length = begin.len() + count + end.len();
        Some(Found { head, head_length, length: read_length(digits)? })
    }
}

/// Where the digits of the length stand, if there is one field of that name and it holds nothing
/// but them.
fn digits(head: &[u8], length: usize) -> Option<Range<usize>> {
    const NAME: &[u8] = b"content-length:";
    let mut begin = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.get(..NAME.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(NAME) {
            let value = line.get(NAME.len()..)?;
            let spaces = value.iter().take_while(|byte| **byte == b' ').count();
            let digits = value.strip_suffix(b"\r\n")?.get(spaces..)?;
            let from = begin + NAME.len() + spaces;
            return (read_length(digits)? == length).then_some(from..from + digits.len());
        }
        begin += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Arc<Parts> {
        let request = http::Request::post("/a").header("host", "x").body(()).unwrap();
        Arc::new(request.into_parts().0)
    }

    fn familiar(head: &str, length: usize) -> Option<Familiar> {
        Familiar::new(Familiar::copy(head.as_bytes())?, length, &parts())
    }

    const HEAD: &str = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nA: b\r\n\r\n";

    #[test]
    fn the_same_head_is_known_whatever_the_length() {
        let familiar = familiar(&format!("{HEAD}body and more"), 12).unwrap();
        assert_eq!(familiar.bytes, HEAD);
        for length in [0, 7, 12, 65_000] {
            let head = HEAD.replace("12", &length.to_string());
            let found = familiar.recognize(format!("{head}body").as_bytes()).unwrap();
            assert_eq!((found.head_length, found.length), (head.len(), length));
            assert!(found.head.is_judged && Arc::ptr_eq(&found.head.parts, &familiar.parts));
        }
    }

    #[test]
    fn another_head_is_not_known() {
        let familiar = familiar(HEAD, 12).unwrap();
        for end in 0..HEAD.len() {
            assert!(familiar.recognize(&HEAD.as_bytes()[..end]).is_none(), "{end} bytes");
            let mut other = HEAD.as_bytes().to_vec();
            other[end] ^= 0x20;
            assert!(familiar.recognize(&other).is_none(), "{end}");
        }
        let endless = HEAD.replace("12", "99999999999999999999");
        let signed = HEAD.replace("12", "+1");
        for other in [HEAD.replace("12", ""), endless, signed, HEAD.replace("12", "1 2")] {
            assert!(familiar.recognize(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_not_plain_or_refused_is_not_kept() {
        for head in [
            HEAD.replace("Content-Length: 12", "Content-Length: 12 "),
            HEAD.replace("Content-Length: 12", "Content-Length:\t12"),
            HEAD.replace("Content-Length: 12", "B: 12"),
            HEAD.replace("A: b", &format!("A: {}", "b".repeat(FAMILIAR_HEAD_BYTES_MAX))),
        ] {
            assert!(familiar(&head, 12).is_none(), "{head}");
        }
        assert!(familiar(HEAD, 13).is_none());
        let hostless = Arc::new(http::Request::post("/a").body(()).unwrap().into_parts().0);
        assert!(Familiar::new(Bytes::from_static(HEAD.as_bytes()), 12, &hostless).is_none());
    }
}
