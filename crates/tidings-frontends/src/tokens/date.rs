//! A moment as ISO 8601 writes it in UTC, with the offset as other programs print it. Knows no
//! zone.

const DAY: u64 = 86_400;

/// `2026-04-15T12:18:52+00:00` of seconds since 1970.
pub(super) fn shown(seconds: u64) -> String {
    let (days, time) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

/// `2026-04-15T12:18:52.123Z` of milliseconds since 1970 (RFC 3339).
pub(crate) fn precise(milliseconds: u64) -> String {
    let whole = shown(milliseconds / 1_000);
    format!("{}.{:03}Z", whole.trim_end_matches("+00:00"), milliseconds % 1_000)
}

/// The Gregorian date of days since 1970. Years begin in March, so that the leap day is their last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_782_399, "2000-02-28T23:59:59+00:00"),
            (951_782_400, "2000-02-29T00:00:00+00:00"),
            (1_776_255_532, "2026-04-15T12:18:52+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00+00:00"),
        ] {
            assert_eq!(shown(seconds), text);
        }
        assert_eq!(precise(1_776_255_532_007), "2026-04-15T12:18:52.007Z");
    }
}
