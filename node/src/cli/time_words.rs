//! Points in time and lengths of time in the words of people, and the lengths that people type.

use std::time::{SystemTime, UNIX_EPOCH};

use jobmesh_protocol::{DurationMillis, UnixMillis};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

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
    let length = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s, 5m or 1h30m"))?;
    u64::try_from(length.as_millis())
        .map(DurationMillis)
        .map_err(|_| "that is longer than the age of the world".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn the_clock_leaves_the_date_out() {
        assert_eq!(clock(UnixMillis(1_000)), "00:00:01.000");
    }
}
