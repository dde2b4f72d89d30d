//! Messages of HTTP/1.1, as far as the floors and the load generator look at them. Knows no bodies
//! beside their length and forms.

/// A complete head.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// The request or status line.
    pub(crate) first: &'a [u8],
    /// Bytes of the head with the empty line behind it.
    pub(crate) length: usize,
    fields: &'a [u8],
}

impl<'a> Head<'a> {
    /// The head at the beginning, when it is complete.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Head<'a>> {
        let length = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let first = memchr::memchr(b'\n', bytes)?;
        let fields = bytes.get(first + 1..length)?;
        Some(Head { first: bytes.get(..first)?.trim_ascii_end(), length, fields })
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields.split(|&byte| byte == b'\n').find_map(|line| {
            let (field, value) = line.split_at(memchr::memchr(b':', line)?);
            field.eq_ignore_ascii_case(name).then(|| value.get(1..).unwrap_or(&[]).trim_ascii())
        })
    }

    /// Whether there is such a field.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.field(name).is_some()
    }

    /// The length of the body, where the head says it.
    pub(crate) fn content_length(&self) -> Option<usize> {
        str::from_utf8(self.field(b"content-length")?).ok()?.parse().ok()
    }

    /// Whether the connection goes on in another protocol.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.first.starts_with(b"HTTP/1.1 101")
    }

    /// Whether this is an answer with a status of the 2xx class.
    pub(crate) fn is_success(&self) -> bool {
        self.first.starts_with(b"HTTP/1.") && self.first.get(8..10) == Some(b" 2")
    }
}

/// What of a request a floor looks at.
pub(crate) struct Request<'a> {
    /// Whether it is a POST.
    pub(crate) publishes: bool,
    /// Whether it carries a token, whatever it is.
    pub(crate) authorized: bool,
    /// The query or the body.
    pub(crate) form: &'a [u8],
    /// Bytes of the head and the body.
    pub(crate) length: usize,
}

impl<'a> Request<'a> {
    /// The first request, when it is complete.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let head = Head::parse(bytes)?;
        let length = head.length + head.content_length().unwrap_or(0);
        let publishes = head.first.starts_with(b"POST");
        let query = || head.first.split(|byte| b" ?".contains(byte)).nth(2);
        let form = if publishes { bytes.get(head.length..length)? } else { query()? };
        Some(Request { publishes, authorized: head.has(b"authorization"), form, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let text = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 45\r\n\r\nbody";
        assert!(Head::parse(&text[..text.len() - 5]).is_none());
        let head = Head::parse(text).unwrap();
        assert_eq!((head.content_length(), head.length), (Some(45), text.len() - 4));
        assert_eq!(head.field(b"date"), Some(&b"now"[..]));
        assert!(head.is_success() && !head.has(b"authorization"));
        assert!(!Head::parse(b"HTTP/1.1 429 No\r\n\r\n").unwrap().is_success());
    }
}
