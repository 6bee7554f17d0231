//! How long a server asks to be left alone: the header `retry-after`, in seconds or as a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobmesh_protocol::DurationMillis;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Longest wait that is believed: a day. A server that asks for more is asked again tomorrow.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// What a server asks for at time `now`. `retry-after-ms`, which some providers of models send, is exacter and wins.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<DurationMillis> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let exact = text("retry-after-ms").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let wait = exact.or_else(|| wait_of(text(RETRY_AFTER.as_str())?, now))?;
    Some(millis(wait))
}

/// The same, within what is believed.
pub(crate) fn millis(wait: Duration) -> DurationMillis {
    DurationMillis(u64::try_from(wait.min(WAIT_MAX).as_millis()).unwrap_or(u64::MAX))
}

fn wait_of(text: &str, now: SystemTime) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number has room for is long enough, too.
        return Some(text.parse().map_or(WAIT_MAX, Duration::from_secs)).filter(|_| !text.is_empty());
    }
    let then = date(text)?;
    Some(then.duration_since(now).unwrap_or_default())
}

/// Reads a date as servers write it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split_ascii_whitespace();
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = (1_u64..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970 to a date of the Gregorian calendar; years are counted from March, so that leap days come last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    // What the line above gives for the day before 1970-01-01.
    before - 719_469
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn asked(pairs: &[(&'static str, &str)], now: u64) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        retry_after(&headers, UNIX_EPOCH + Duration::from_secs(now)).map(|wait| wait.0)
    }

    #[test]
    fn both_forms_are_read_and_a_day_is_the_most() {
        assert_eq!(asked(&[("retry-after", "120")], 0), Some(120_000));
        assert_eq!(asked(&[("retry-after", "0")], 0), Some(0));
        assert_eq!(asked(&[("retry-after", "99999999999999999999")], 0), Some(86_400_000));
        assert_eq!(asked(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 784_111_770), Some(7_000));
        assert_eq!(asked(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 784_111_778), Some(0));
        assert_eq!(asked(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], 0), Some(86_400_000));
        assert_eq!(asked(&[("retry-after-ms", "250"), ("retry-after", "9")], 0), Some(250));
        for wrong in [
            "",
            "soon",
            "-1",
            "1.5",
            "Sun, 06 Nov 1994",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(asked(&[("retry-after", wrong)], 0), None, "{wrong}");
        }
        assert_eq!(asked(&[], 0), None);
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        for (date, count) in [
            ((1970, 1, 1), 0),
            ((1970, 3, 1), 59),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 22), 20_779),
        ] {
            assert_eq!(days(date.0, date.1, date.2), count, "{date:?}");
        }
    }
}
