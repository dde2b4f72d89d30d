//! Sizes as people write them: `10 GiB`, `512KiB`, `1MB`, `4096`, and counts; `off` where that is
//! allowed.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
];

/// Reads a size in bytes. `KiB`, `MiB`, `GiB`, `TiB` count in 1,024, `KB` to `TB` in 1,000.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("{text:?} is not a size: write a number with a unit, as in \"10 GiB\" or \"1MB\"")
    };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let unit = unit.trim();
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .or_else(|| UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)))
        .ok_or_else(wrong)?;
    let bytes = super::duration::scaled(number, *factor).ok_or_else(wrong)?;
    u64::try_from(bytes).map_err(|_| wrong())
}

/// A size in the largest binary unit that says it exactly: `10 GiB`.
pub fn render(bytes: u64) -> String {
    for (name, unit) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
    {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} B")
}

/// A number or a text, as both are natural for a size.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn read<E: de::Error>(self) -> Result<Option<u64>, E> {
        match self {
            Written::Number(number) => Ok(Some(number)),
            Written::Text(text) if text == "off" => Ok(None),
            Written::Text(text) => parse(&text).map(Some).map_err(E::custom),
        }
    }
}

/// For `deserialize_with`: a size in bytes.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Written::deserialize(from)?.read()?.ok_or_else(|| de::Error::custom("a size is needed here"))
}

/// For `deserialize_with`: a size in bytes, or `None` for `off`.
pub(super) fn or_off<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Written::deserialize(from)?.read()
}

/// For `deserialize_with`: a number, or `None` for `off`.
pub(super) fn count_or_off<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Written::deserialize(from)?.read()
}

/// For `deserialize_with`: an address to listen on, or `None` for `off`.
pub(super) fn address_or_off<'de, D>(from: D) -> Result<Option<SocketAddr>, D::Error>
where
    D: Deserializer<'de>,
{
    match String::deserialize(from)?.as_str() {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("10 GiB", 10 << 30),
            ("512KiB", 512 << 10),
            ("1MB", 1_000_000),
            ("1mib", 1 << 20),
            ("1.5 MiB", 3 << 19),
            ("4096", 4096),
            ("0", 0),
            (" 7 B ", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "GiB", "-1", "1 XiB", "1 GiB 2", "999999999999 TiB", "1,5 GiB", "off"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rendered_sizes_are_read_back(bytes: u64) {
            prop_assert_eq!(parse(&render(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
