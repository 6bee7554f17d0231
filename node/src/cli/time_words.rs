//! Points in time and lengths of time in the words of people, and the lengths that people type.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeZone};
use jobmesh_protocol::time::{DATE_MAX, LENGTH_MAX};
use jobmesh_protocol::{DurationMillis, UnixMillis};

use crate::cli::words::not_below_zero;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// What is said of a time behind that.
const TOO_LATE: &str = "that is too late; the last year is 9999";

/// The time of this moment.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How far `then` lies from `now`: `12 s ago`, `in 55 min`.
pub(crate) fn relative(now: UnixMillis, then: UnixMillis) -> String {
    let (past, future) = (now.since(then).0, then.since(now).0);
    match past.max(future) {
        0..SECOND => "now".to_owned(),
        _ if past > 0 => format!("{} ago", coarse(past)),
        _ => format!("in {}", coarse(future)),
    }
}

/// A length in its largest unit.
fn coarse(millis: u64) -> String {
    match millis {
        0..MINUTE => format!("{} s", millis / SECOND),
        MINUTE..HOUR => format!("{} min", millis / MINUTE),
        HOUR..DAY => format!("{} h", millis / HOUR),
        DAY.. => format!("{} d", millis / DAY),
    }
}

/// How long something took: `850 ms`, `2.1 s`, `1 min 5 s`, `2 h 3 min`, `3 d 4 h`.
pub(crate) fn length(length: DurationMillis) -> String {
    let millis = length.0;
    let two = |large: u64, large_word: &str, small: u64, small_word: &str| match (millis % large) / small {
        0 => format!("{} {large_word}", millis / large),
        rest => format!("{} {large_word} {rest} {small_word}", millis / large),
    };
    match millis {
        0..SECOND => format!("{millis} ms"),
        SECOND..MINUTE => format!("{}.{} s", millis / SECOND, millis % SECOND / 100),
        MINUTE..HOUR => two(MINUTE, "min", SECOND, "s"),
        HOUR..DAY => two(HOUR, "h", MINUTE, "min"),
        DAY.. => two(DAY, "d", HOUR, "h"),
    }
}

/// The time of the day in UTC, to the millisecond.
pub(crate) fn clock(at: UnixMillis) -> String {
    let text = at.to_rfc3339();
    text.split_once('T').map_or_else(|| text.clone(), |(_, time)| time.trim_end_matches('Z').to_owned())
}

/// Reads a length such as `30s` or `1h30m`.
pub(crate) fn parse_length(text: &str) -> Result<DurationMillis, String> {
    let wrong = |error: String| format!("{error}; write it as 30s, 5m or 1h30m");
    not_below_zero(text).map_err(wrong)?;
    let length = humantime::parse_duration(text).map_err(|error| wrong(error.to_string()))?;
    let length = u64::try_from(length.as_millis()).map(DurationMillis).ok();
    length.filter(|length| *length <= LENGTH_MAX).ok_or_else(|| format!("{text} is longer than 100 years"))
}

/// Reads a point in time: `now`, `2026-03-01T08:00:00+01:00`, `2026-03-01 08:00`, `08:00`, `tomorrow 08:00`. Where no zone is
/// given, by the clock on the wall of this machine; a time without a day is the next one.
pub(crate) fn parse_time(text: &str) -> Result<UnixMillis, String> {
    read_time(text, &chrono::Local::now())
}

/// Reads a length of time back from now, or a point in time like [`parse_time`] does; a day alone begins at its midnight.
pub(crate) fn parse_since(text: &str) -> Result<UnixMillis, String> {
    read_since(text, &chrono::Local::now())
}

fn read_since<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Result<UnixMillis, String> {
    let form = "write it as 7d, 2026-01-31 or 2026-01-31 08:00";
    not_below_zero(text).map_err(|error| format!("{error}; {form}"))?;
    if let Ok(length) = parse_length(text) {
        return millis(now).map(|now| UnixMillis(now.0.saturating_sub(length.0)));
    }
    // The next 08:00 is meant by no one who asks what has been.
    if !text.contains('-') {
        return Err(form.to_owned());
    }
    let is_day = NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
    let time = if is_day { format!("{text} 00:00") } else { text.to_owned() };
    read_time(&time, now).map_err(|_| form.to_owned())
}

fn read_time<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Result<UnixMillis, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return millis(&at);
    }
    if text.trim() == "now" {
        return millis(now);
    }
    // No reader knows years of five digits without a sign.
    if text.trim().split('-').next().is_some_and(|year| year.len() > 4 && year.bytes().all(|b| b.is_ascii_digit())) {
        return Err(TOO_LATE.to_owned());
    }
    let wrong = || {
        format!(
            "{text:?} is no point in time; write now, 08:00, tomorrow 08:00, 2026-03-01 08:00 or 2026-03-01T08:00:00Z"
        )
    };
    let today = now.naive_local().date();
    let (day, clock) = match text.trim().split_once([' ', 'T']) {
        None => (None, text.trim()),
        Some(("today", clock)) => (Some(today), clock),
        Some(("tomorrow", clock)) => (today.succ_opt(), clock),
        Some((day, clock)) => (Some(NaiveDate::parse_from_str(day, "%Y-%m-%d").map_err(|_| wrong())?), clock),
    };
    let clock = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(clock.trim(), form).ok());
    let clock = clock.ok_or_else(wrong)?;
    let next = if clock > now.naive_local().time() { Some(today) } else { today.succ_opt() };
    let local = day.or(next).ok_or_else(wrong)?.and_time(clock);
    let at = now.timezone().from_local_datetime(&local).earliest();
    millis(&at.ok_or_else(|| format!("the clocks here skip {text}; give another time, or one with its zone"))?)
}

fn millis<Z: TimeZone>(at: &DateTime<Z>) -> Result<UnixMillis, String> {
    let at = u64::try_from(at.timestamp_millis()).map(UnixMillis).map_err(|_| "that is before 1970".to_owned())?;
    if at > DATE_MAX { Err(TOO_LATE.to_owned()) } else { Ok(at) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn points_in_time_that_people_type() {
        let now = DateTime::parse_from_rfc3339("2026-03-01T12:00:00+01:00").unwrap();
        for (text, at) in [
            ("now", "2026-03-01T11:00:00.000Z"),
            ("12:30", "2026-03-01T11:30:00.000Z"),
            ("11:59:30", "2026-03-02T10:59:30.000Z"),
            ("12:00", "2026-03-02T11:00:00.000Z"),
            ("today 08:00", "2026-03-01T07:00:00.000Z"),
            ("tomorrow 08:00", "2026-03-02T07:00:00.000Z"),
            ("2027-01-02 03:04", "2027-01-02T02:04:00.000Z"),
            ("2027-01-02T03:04", "2027-01-02T02:04:00.000Z"),
            ("2027-01-02T03:04:05Z", "2027-01-02T03:04:05.000Z"),
        ] {
            assert_eq!(read_time(text, &now).unwrap().to_rfc3339(), at, "{text}");
        }
        for late in ["+10000-02-01 00:00", "10000-02-01 00:00", "10000-02-01T00:00:00Z"] {
            assert_eq!(read_time(late, &now), Err(TOO_LATE.to_owned()), "{late}");
        }
        for text in ["", "25:00", "8", "soon", "yesterday 08:00", "2026-13-01 08:00", "1950-01-01 00:00"] {
            assert!(read_time(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_read_well() {
        let cases = [
            (0, "0 ms"),
            (850, "850 ms"),
            (2_149, "2.1 s"),
            (65_000, "1 min 5 s"),
            (60_000, "1 min"),
            (7_380_000, "2 h 3 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (millis, words) in cases {
            assert_eq!(length(DurationMillis(millis)), words);
        }
    }

    #[test]
    fn times_are_told_from_now() {
        let now = UnixMillis(10 * DAY);
        let cases = [
            (now.0, "now"),
            (now.0 - 999, "now"),
            (now.0 - 12_500, "12 s ago"),
            (now.0 - 2 * HOUR, "2 h ago"),
            (now.0 - 9 * DAY, "9 d ago"),
            (now.0 + 55 * MINUTE, "in 55 min"),
        ];
        for (then, words) in cases {
            assert_eq!(relative(now, UnixMillis(then)), words);
        }
    }

    #[test]
    fn lengths_that_people_type() {
        assert_eq!(parse_length("1h30m"), Ok(DurationMillis(5_400_000)));
        assert_eq!(parse_length("250ms"), Ok(DurationMillis(250)));
        assert!(parse_length("30").is_err_and(|error| error.contains("30s")));
        assert!(parse_length("soon").is_err());
        assert!(parse_length("36500d").is_ok());
        assert!(parse_length("1000000y").is_err_and(|error| error.ends_with("is longer than 100 years")));
        for below in [parse_length("-1h").map(drop), parse_since("-1h").map(drop)] {
            assert!(below.is_err_and(|error| error.starts_with("-1h is below zero; write it as")));
        }
    }

    #[test]
    fn a_time_is_a_length_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-03-01T12:00:00+01:00").unwrap();
        for (text, at) in [
            ("2026-01-31", "2026-01-30T23:00:00.000Z"),
            ("2026-01-31 08:00", "2026-01-31T07:00:00.000Z"),
            ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00.000Z"),
            ("7d", "2026-02-22T11:00:00.000Z"),
        ] {
            assert_eq!(read_since(text, &now).unwrap().to_rfc3339(), at, "{text}");
        }
        assert!(read_since("08:00", &now).is_err());
        assert!(parse_since("then").is_err());
    }

    #[test]
    fn the_clock_leaves_the_date_out() {
        assert_eq!(clock(UnixMillis(1_000)), "00:00:01.000");
    }
}
