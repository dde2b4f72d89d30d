//! Names and values of a query or a form body, read as the WHATWG URL standard reads
//! `application/x-www-form-urlencoded` (section 5.1), with the one difference that text which is
//! not UTF-8 is known as such instead of being mended in silence.
//!
//! Knows no parameter of the protocol and no HTTP.

/// One name with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) value: Text,
}

/// A field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// One that every publication has, as it was sent.
    Usual(&'static str),
    /// Any other.
    Other(Text),
}

impl Name {
    const USUAL: [&'static str; 6] = ["topic", "data", "private", "id", "type", "retry"];

    fn decode(bytes: &[u8]) -> Name {
        match Name::USUAL.iter().find(|name| name.as_bytes() == bytes) {
            Some(name) => Name::Usual(name),
            None => Name::Other(Text::decode(bytes)),
        }
    }

    /// The name if it was UTF-8.
    pub(super) fn utf8(&self) -> Option<&str> {
        match self {
            Name::Usual(name) => Some(name),
            Name::Other(name) => name.utf8(),
        }
    }

    /// The name as far as it could be read.
    pub(super) fn readable(&self) -> &str {
        match self {
            Name::Usual(name) => name,
            Name::Other(name) => name.readable(),
        }
    }
}

/// Decoded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    /// As it was sent.
    Utf8(String),
    /// Not UTF-8. What could not be read is replaced, so that a name can still be recognised.
    Broken(String),
}

impl Text {
    /// The text if it was UTF-8.
    pub(super) fn utf8(&self) -> Option<&str> {
        match self {
            Text::Utf8(text) => Some(text),
            Text::Broken(_) => None,
        }
    }

    /// The text as far as it could be read.
    pub(super) fn readable(&self) -> &str {
        match self {
            Text::Utf8(text) | Text::Broken(text) => text,
        }
    }

    /// As [`Text::readable`], without a copy.
    pub(super) fn into_readable(self) -> String {
        match self {
            Text::Utf8(text) | Text::Broken(text) => text,
        }
    }

    fn decode(bytes: &[u8]) -> Text {
        match String::from_utf8(decoded(bytes)) {
            Ok(text) => Text::Utf8(text),
            Err(broken) => Text::Broken(String::from_utf8_lossy(broken.as_bytes()).into_owned()),
        }
    }
}

/// `+` is a space, `%` and two digits are a byte, everything else is itself.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(plain) = memchr::memchr2(b'+', b'%', rest) {
        let (before, behind) = rest.split_at(plain);
        decoded.extend_from_slice(before);
        let digit = |at: usize| {
            let digit = behind.get(at).and_then(|byte| char::from(*byte).to_digit(16))?;
            u8::try_from(digit).ok()
        };
        let (byte, length) = match (behind.first(), digit(1), digit(2)) {
            (Some(b'+'), _, _) => (b' ', 1),
            (_, Some(high), Some(low)) => (high * 16 + low, 3),
            _ => (b'%', 1),
        };
        decoded.push(byte);
        rest = behind.get(length..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest);
    decoded
}

/// There are more fields than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyFields;

/// Reads at most `fields_max` fields. A stray `%` and a `;` are data, `+` is a space, a name
/// without `=` has an empty value, nothing between two `&` is no field.
pub(super) fn parse(bytes: &[u8], fields_max: usize) -> Result<Vec<Field>, TooManyFields> {
    let mut fields = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (pair, behind) = split_at(b'&', rest);
        rest = behind;
        if pair.is_empty() {
            continue;
        }
        if fields.len() == fields_max {
            return Err(TooManyFields);
        }
        let (name, value) = split_at(b'=', pair);
        fields.push(Field { name: Name::decode(name), value: Text::decode(value) });
    }
    Ok(fields)
}

/// What stands before the first `mark`, and behind it.
fn split_at(mark: u8, bytes: &[u8]) -> (&[u8], &[u8]) {
    let place = memchr::memchr(mark, bytes).unwrap_or(bytes.len());
    let (before, behind) = bytes.split_at(place);
    (before, behind.get(1..).unwrap_or_default())
}

/// The value of the first field called `name`.
pub(super) fn first<'f>(fields: &'f [Field], name: &str) -> Option<&'f Text> {
    all(fields, name).next()
}

/// The values of all fields called `name`, in the order in which they were sent.
pub(super) fn all<'f>(fields: &'f [Field], name: &str) -> impl Iterator<Item = &'f Text> {
    fields.iter().filter(move |field| field.name.utf8() == Some(name)).map(|field| &field.value)
}

/// Reads `bytes` as a form and looks at every field. For fuzzing.
pub(super) fn fuzz(bytes: &[u8]) {
    let Ok(fields) = parse(bytes, crate::limits::FORM_FIELDS_MAX) else { return };
    assert!(fields.len() <= crate::limits::FORM_FIELDS_MAX, "the bound holds");
    for field in &fields {
        assert!(field.name.readable().len() <= 3 * bytes.len(), "decoding does not blow up");
        assert!(field.value.readable().len() <= 3 * bytes.len(), "decoding does not blow up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(form: &str, expected: &[(&str, &str)]) {
        let fields = parse(form.as_bytes(), 100).unwrap();
        let found: Vec<(&str, &str)> = fields
            .iter()
            .map(|field| (field.name.utf8().unwrap(), field.value.utf8().unwrap()))
            .collect();
        assert_eq!(found, expected, "{form:?}");
    }

    #[test]
    fn m05_names_and_values_are_read_as_browsers_write_them() {
        check("", &[]);
        check("&&", &[]);
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("a", &[("a", "")]);
        check("a&b=", &[("a", ""), ("b", "")]);
        check("=", &[("", "")]);
        check("=x", &[("", "x")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=x;b=y", &[("a", "x;b=y")]);
        check("a=%", &[("a", "%")]);
        check("a=100%&b=%zz&c=%4", &[("a", "100%"), ("b", "%zz"), ("c", "%4")]);
        check("a=x+y%2Bz%20", &[("a", "x y+z ")]);
        check("%6Datch=%C3%A9", &[("match", "é")]);
        check("a=é", &[("a", "é")]);
        check("a=%EF%BB%BFx", &[("a", "\u{feff}x")]);
        check("a=%00%0A", &[("a", "\0\n")]);
    }

    #[test]
    fn text_that_is_not_utf8_is_known() {
        let fields = parse(b"a=%FF&match%FE=x&b=ok", 100).unwrap();
        assert_eq!(fields[0].value.utf8(), None);
        assert_eq!(fields[1].name.utf8(), None);
        assert!(fields[1].name.readable().starts_with("match"));
        assert_eq!(first(&fields, "b").unwrap().utf8(), Some("ok"));
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        assert_eq!(parse(b"a&b&c", 3).unwrap().len(), 3);
        assert_eq!(parse(b"a&b&c&&d", 3), Err(TooManyFields));
    }

    proptest! {
        #[test]
        fn agrees_with_the_url_crate_on_everything(bytes: Vec<u8>) {
            let expected: Vec<(String, String)> =
                url::form_urlencoded::parse(&bytes).into_owned().collect();
            let found: Vec<(String, String)> = parse(&bytes, usize::MAX)
                .unwrap()
                .into_iter()
                .map(|field| {
                    (field.name.readable().to_owned(), field.value.readable().to_owned())
                })
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_encoded_is_read_back(pairs: Vec<(String, String)>) {
            let text = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&pairs)
                .finish();
            let found: Vec<(String, String)> = parse(text.as_bytes(), usize::MAX)
                .unwrap()
                .into_iter()
                .map(|field| {
                    (field.name.utf8().unwrap().to_owned(), field.value.utf8().unwrap().to_owned())
                })
                .collect();
            prop_assert_eq!(found, pairs);
        }
    }
}
