//! Forms as HTTP carries them: `name=value&…`, percent-encoded. Knows no field's meaning.

/// Appends a text as a form's value.
pub(crate) fn encode(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    for &byte in text {
        match byte {
            b' ' => out.push(b'+'),
            b'-' | b'.' | b'_' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

/// A text as a form's value.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = Vec::new();
    encode(&mut out, text.as_bytes());
    // It is ASCII by construction.
    String::from_utf8_lossy(&out).into_owned()
}

/// The decoded value of the first field with one of these names.
pub(crate) fn field(form: &[u8], names: &[&[u8]]) -> Option<Vec<u8>> {
    form.split(|&byte| byte == b'&').find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at(at);
        names.contains(&name).then(|| decoded(value.get(1..).unwrap_or(&[])))
    })
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, behind @ ..]) => {
                let value = digit(high).zip(digit(low)).map(|(high, low)| high * 16 + low);
                out.push(value.and_then(|value| u8::try_from(value).ok()).unwrap_or(b'%'));
                rest = behind;
            }
            _ => out.push(*first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_comes_back_as_it_was_written() {
        let text = "https://example.com/a b?c=d&e=%41+ü";
        let form = format!("topic={}&data=x&private=on", encoded(text));
        assert_eq!(field(form.as_bytes(), &[b"match", b"topic"]).unwrap(), text.as_bytes());
        assert_eq!(field(form.as_bytes(), &[b"private"]).unwrap(), b"on");
        assert_eq!(field(form.as_bytes(), &[b"id"]), None);
        assert_eq!(decoded(b"%4"), b"%4");
    }
}
