//! Times in claims for people: a date, and how far away it is. Knows no token.

use std::time::Duration;

use crate::config::duration;

const DAY: i64 = 86_400;
/// The first second of the year 10000, from which on dates have another form.
const END: i64 = 253_402_300_800;

/// Seconds since 1970 as a date and its distance from `now`: `2027-01-15T08:02:00Z, in 2m`. `None`
/// before 1970 and after 9999.
pub(crate) fn shown(seconds: i64, now: i64) -> Option<String> {
    if !(0..END).contains(&seconds) {
        return None;
    }
    let (year, month, day) = date(seconds / DAY);
    let time = seconds % DAY;
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    let distance = distance(seconds.abs_diff(now));
    let distance = if seconds > now { format!("in {distance}") } else { format!("{distance} ago") };
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z, {distance}"))
}

/// A date, or a date with its time of day in UTC, as seconds since 1970: `2027-01-15`,
/// `2027-01-15T08:02:00Z`. `None` for anything else, before 1970 and after 9999.
pub(crate) fn parsed(text: &str) -> Option<u64> {
    let (day, time) = match text.split_once(['T', ' ']) {
        Some((day, time)) => (day, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, separator: char, lengths: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        let parts: [&str; 3] = parts.try_into().ok()?;
        let mut numbers = [0; 3];
        for ((number, part), length) in numbers.iter_mut().zip(parts).zip(lengths) {
            let digits = part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
            *number = part.parse::<i64>().ok().filter(|_| digits)?;
        }
        Some(numbers)
    };
    let wanted = numbers(day, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Found by going back: one way to count days is enough.
    let [year, month, of_month] = wanted;
    let near = (year - 1970) * 365 + (year - 1969) / 4 + (month - 1) * 30 + of_month - 1;
    let day = (near - 100..near + 100).find(|day| {
        let (y, m, d) = date(*day);
        [y, m, d] == wanted
    })?;
    u64::try_from(day * DAY + hour * 3_600 + minute * 60 + second).ok()
}

/// A span without the units that nobody asks for at its length.
fn distance(seconds: u64) -> String {
    let unit = match seconds {
        ..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    duration::render(Duration::from_secs(seconds / unit * unit))
}

/// Year, month and day of a day since 1970-01-01. Counts in years that begin in March, so that the
/// leap day is the last of its year.
fn date(day: i64) -> (i64, i64, i64) {
    /// Days from the March that begins the year 0 to 1970.
    const BEFORE_1970: i64 = 719_468;
    const FOUR_CENTURIES: i64 = 146_097;
    let day = day + BEFORE_1970;
    let (era, of_era) = (day / FOUR_CENTURIES, day % FOUR_CENTURIES);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, of_year - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_with_their_distance() {
        for (seconds, now, text) in [
            (0, 0, "1970-01-01T00:00:00Z, 0s ago"),
            (951_782_400, 951_782_399, "2000-02-29T00:00:00Z, in 1s"),
            (1_800_000_120, 1_800_000_000, "2027-01-15T08:02:00Z, in 2m"),
            (1_800_000_000, 1_800_003_600, "2027-01-15T08:00:00Z, 1h ago"),
            (4_107_542_400, 4_107_542_400 - 90_061, "2100-03-01T00:00:00Z, in 1d1h"),
        ] {
            assert_eq!(shown(seconds, now).as_deref(), Some(text));
        }
        assert_eq!(shown(-1, 0), None);
        assert_eq!(shown(i64::MAX, 0), None);
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2027-01-15T08:02:00Z", 1_800_000_120),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parsed(text), Some(seconds), "{text}");
        }
        for text in ["", "2027", "2027-02-30", "2027-1-5", "2027-01-15T08:02", "1969-12-31"] {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert!(shown(END - 1, 0).unwrap().starts_with("9999-12-31T23:59:59Z"));
    }
}
