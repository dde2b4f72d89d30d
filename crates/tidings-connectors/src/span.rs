//! Durations as people write them: `15s`, `1m30s`, `7d`, `0`. Knows no setting.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const UNITS: [(&str, u64); 8] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
    ("", 0),
];

/// A duration that stands as a text such as `1h30m` wherever it is written. Whole milliseconds:
/// what is shorter is lost in the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&render(self.0))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        parse(&String::deserialize(from)?).map(Span).map_err(de::Error::custom)
    }
}

/// Reads a duration: whole or decimal numbers, each with its unit (ms, s, m, min, h, d, w),
/// largest first or not; `0` needs no unit. The error says what is accepted.
pub fn parse(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u128 = 0;
    let mut rest = trimmed;
    while !rest.is_empty() {
        let (number, after) = split_at(rest, |c| !(c.is_ascii_digit() || c == '.'));
        let (unit, after) = split_at(after.trim_start(), |c| !c.is_ascii_alphabetic());
        let milliseconds =
            UNITS.iter().find(|(name, value)| *name == unit && *value > 0).map(|(_, value)| *value);
        let part = milliseconds.and_then(|unit| scaled(number, unit)).ok_or_else(|| wrong(text))?;
        total = total.saturating_add(part);
        rest = after.trim_start();
    }
    match u64::try_from(total) {
        Ok(total) if !trimmed.is_empty() => Ok(Duration::from_millis(total)),
        _ => Err(wrong(text)),
    }
}

/// A duration in the largest units that say it exactly: `1h30m`.
pub fn render(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if rest > 0 || text.is_empty() {
        let (rest, name) = if text.is_empty() && rest == 0 { (0, "s") } else { (rest, "ms") };
        text.push_str(&format!("{rest}{name}"));
    }
    text
}

fn wrong(text: &str) -> String {
    format!("{text:?} is not a duration: write a number with a unit, as in \"15s\" or \"1h30m\"")
}

fn split_at(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// `number` (decimal) times `unit`, rounded down. `None` for what is not a number.
pub fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Nine digits of a fraction are more than any unit here can use.
    let fraction = fraction.get(..9.min(fraction.len()))?;
    if whole.is_empty() || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let unit = u128::from(unit);
    Some(u128::from(whole) * unit + u128::from(part) * unit / scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, milliseconds) in [
            ("15s", 15_000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("1h 30min", 5_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("0s", 0),
            (" 10 s ", 10_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", " ", "15", "s", "1x", "-1s", "1..5s", "1.s", ".5s", "off", "99999999999w"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rendered_durations_are_read_back(milliseconds in 0u64..u64::MAX / 2) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&render(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
