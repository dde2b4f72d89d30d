//! The date of an answer, as HTTP writes it (RFC 9110 section 6.6.1). Knows no answer.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The clock that says whole seconds: for a fraction of what the exact time costs, where the system
/// has such a one.
#[cfg(target_os = "linux")]
const SECONDS: ClockId = ClockId::RealtimeCoarse;
#[cfg(not(target_os = "linux"))]
const SECONDS: ClockId = ClockId::Realtime;

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: 0, text: String::new() }) };
}

/// Worked out once a second.
struct Date {
    second: i64,
    text: String,
}

impl Date {
    fn at(&mut self, second: i64) -> &str {
        if self.second != second || self.text.is_empty() {
            let since = Duration::from_secs(u64::try_from(second).unwrap_or_default());
            self.second = second;
            self.text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
        }
        &self.text
    }
}

/// Hands out the date of now.
pub(super) fn now(with: impl FnOnce(&str)) {
    DATE.with_borrow_mut(|date| with(date.at(clock_gettime(SECONDS).tv_sec)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_second() {
        let mut date = Date { second: 0, text: String::new() };
        assert_eq!(date.at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date.at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.at(-5), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date.at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
    }

    #[test]
    fn now_is_now() {
        let before = SystemTime::now() - Duration::from_secs(2);
        let mut text = String::new();
        now(|date| text.push_str(date));
        let date = httpdate::parse_http_date(&text).unwrap();
        assert!(date >= before && date <= SystemTime::now(), "{text}");
    }
}
