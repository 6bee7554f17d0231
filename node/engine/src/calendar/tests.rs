#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod properties;
mod transitions;

use chrono::{DateTime, NaiveDateTime, Utc};
use jobmesh_protocol::schedule::{CatchUp, TEXT_BYTES_MAX, Timing};
use jobmesh_protocol::{DurationMillis, UnixMillis};

use super::{Timetable, TimetableError};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The instant of a date in UTC.
fn utc(text: &str) -> UnixMillis {
    let at: DateTime<Utc> = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc();
    UnixMillis(u64::try_from(at.timestamp_millis()).unwrap())
}

fn anchor() -> UnixMillis {
    utc("2025-01-01 00:00:00")
}

fn table(text: &str, zone: &str) -> Timetable {
    Timetable::parse(&Timing::new(text).in_zone(zone), anchor()).unwrap()
}

fn error(text: &str) -> TimetableError {
    Timetable::parse(&Timing::new(text), anchor()).unwrap_err()
}

/// What the schedule's clock shows at its first `count` instants after a date in UTC.
fn shown(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let table = table(text, zone);
    let instants = table.between(utc(after), UnixMillis(u64::MAX), count);
    instants.into_iter().map(|at| table.wall_clock(at)).collect()
}

#[test]
fn a_match_in_the_spring_gap_fires_once_right_after_it() {
    assert_eq!(
        shown("30 2 * * *", "Europe/Oslo", "2027-03-27 00:00:00", 3),
        ["2027-03-27T02:30:00+01:00", "2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"]
    );
    assert_eq!(
        shown("0,15,30,45 2 * * *", "America/New_York", "2027-03-14 00:00:00", 2),
        ["2027-03-14T03:00:00-04:00", "2027-03-15T02:00:00-04:00"]
    );
    // 02:00 and 03:00 fall together.
    assert_eq!(
        shown("0 2,3 * * *", "Europe/Oslo", "2027-03-27 12:00:00", 2),
        ["2027-03-28T03:00:00+02:00", "2027-03-29T02:00:00+02:00"]
    );
}

#[test]
fn a_match_in_the_autumn_fold_fires_the_first_time_only() {
    assert_eq!(
        shown("30 2 * * *", "Europe/Oslo", "2027-10-30 12:00:00", 2),
        ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]
    );
    assert_eq!(
        shown("30 1 * * *", "Australia/Sydney", "2027-04-03 00:00:00", 2),
        ["2027-04-04T01:30:00+11:00", "2027-04-05T01:30:00+10:00"]
    );
}

#[test]
fn a_beat_goes_on_through_gap_and_fold() {
    let oslo = table("*/5 * * * *", "Europe/Oslo");
    for date in ["2027-03-27 22:00:00", "2027-10-30 22:00:00"] {
        let instants = oslo.between(utc(date), UnixMillis(utc(date).0 + 12 * HOUR), 1000);
        assert_eq!(instants.len(), 144);
        assert!(instants.windows(2).all(|pair| pair[1].since(pair[0]) == DurationMillis(5 * MINUTE)));
    }
    assert_eq!(
        shown("0 * * * *", "America/New_York", "2027-11-07 04:30:00", 3),
        ["2027-11-07T01:00:00-04:00", "2027-11-07T01:00:00-05:00", "2027-11-07T02:00:00-05:00"]
    );
    // With an hour of its own it still beats twice in the fold, and is made up for after the gap.
    assert_eq!(
        table("*/5 2 * * *", "Europe/Oslo").between(utc("2027-10-30 22:00:00"), utc("2027-10-31 04:00:00"), 100).len(),
        24
    );
    assert_eq!(shown("*/5 2 * * *", "Europe/Oslo", "2027-03-27 22:00:00", 1), ["2027-03-28T03:00:00+02:00"]);
}

#[test]
fn a_shift_of_half_an_hour_is_none_of_an_hour() {
    assert_eq!(
        shown("15 2 * * *", "Australia/Lord_Howe", "2027-10-02 00:00:00", 2),
        ["2027-10-03T02:30:00+11:00", "2027-10-04T02:15:00+11:00"]
    );
    assert_eq!(
        shown("45 1 * * *", "Australia/Lord_Howe", "2027-04-03 00:00:00", 2),
        ["2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"]
    );
}

#[test]
fn a_day_that_a_zone_left_out_fires_at_its_end() {
    // Samoa moved across the date line: after Thursday 29 December 2011 came Saturday 31.
    assert_eq!(
        shown("0 12 30 12 *", "Pacific/Apia", "2011-01-01 00:00:00", 2),
        ["2011-12-31T00:00:00+14:00", "2012-12-30T12:00:00+14:00"]
    );
    assert_eq!(shown("0 * 30 12 *", "Pacific/Apia", "2011-01-01 00:00:00", 1), ["2012-12-30T00:00:00+14:00"]);
}

#[test]
fn a_leap_day_comes_in_leap_years() {
    assert_eq!(
        shown("0 0 29 2 *", "UTC", "2025-01-01 00:00:00", 3),
        ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00", "2036-02-29T00:00:00+00:00"]
    );
    // 2100 is none.
    assert_eq!(
        shown("0 0 29 2 *", "Asia/Kolkata", "2095-01-01 00:00:00", 2),
        ["2096-02-29T00:00:00+05:30", "2104-02-29T00:00:00+05:30"]
    );
    assert_eq!(shown("0 0 29 2 +MON", "UTC", "2072-03-01 00:00:00", 1), ["2112-02-29T00:00:00+00:00"]);
}

#[test]
fn the_last_day_of_a_month_is_found_in_each() {
    let shown = shown("0 23 L * *", "Asia/Kolkata", "2027-12-31 20:00:00", 12);
    let days: Vec<&str> = shown.iter().map(|at| &at[5..10]).collect();
    assert_eq!(
        days,
        ["01-31", "02-29", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "11-30", "12-31"]
    );
}

#[test]
fn days_are_counted_from_the_end_by_weekday_and_by_working_day() {
    // October 2027 begins on a Friday and ends on a Sunday.
    for (text, day) in [
        ("0 0 LW * *", "2027-10-29"),
        ("0 0 * * MON#2", "2027-10-11"),
        ("0 0 * * friL", "2027-10-29"),
        ("0 0 16W * *", "2027-10-15"),
        ("0 0 * * 7#1", "2027-10-03"),
        ("0 0 4-31 * SAT-SUN", "2027-10-02"),
        ("0 0 4-31 * +SAT-SUN", "2027-10-09"),
    ] {
        assert_eq!(shown(text, "UTC", "2027-09-30 12:00:00", 1), [format!("{day}T00:00:00+00:00")], "{text}");
    }
}

#[test]
fn either_day_matches_if_both_are_restricted() {
    // Fridays and the 13th.
    assert_eq!(
        shown("0 0 13 * FRI", "UTC", "2027-10-06 00:00:00", 3),
        ["2027-10-08T00:00:00+00:00", "2027-10-13T00:00:00+00:00", "2027-10-15T00:00:00+00:00"]
    );
    // A field that starts with a star is not restricted, so both must match: odd days that are Fridays.
    assert_eq!(
        shown("0 0 */2 * FRI", "UTC", "2027-10-02 00:00:00", 2),
        ["2027-10-15T00:00:00+00:00", "2027-10-29T00:00:00+00:00"]
    );
}

#[test]
fn six_fields_begin_with_the_second() {
    assert_eq!(
        shown("*/20 30 2 * * *", "Europe/Oslo", "2027-06-01 00:00:00", 4),
        [
            "2027-06-01T02:30:00+02:00",
            "2027-06-01T02:30:20+02:00",
            "2027-06-01T02:30:40+02:00",
            "2027-06-02T02:30:00+02:00"
        ]
    );
    let every_second = table("* * * * * *", "America/New_York");
    let turn = utc("2027-11-07 06:00:00");
    let around = every_second.between(UnixMillis(turn.0 - 2500), UnixMillis(turn.0 + 2500), 10);
    assert_eq!(around.iter().map(|at| at.0 + 2000 - turn.0).collect::<Vec<_>>(), [0, 1000, 2000, 3000, 4000]);
}

#[test]
fn a_name_stands_for_its_expression() {
    let after = "2027-05-06 07:08:09";
    for (name, next) in [
        ("@hourly", "2027-05-06T08:00:00+00:00"),
        ("@daily", "2027-05-07T00:00:00+00:00"),
        ("@midnight", "2027-05-07T00:00:00+00:00"),
        ("@weekly", "2027-05-09T00:00:00+00:00"),
        ("@Monthly", "2027-06-01T00:00:00+00:00"),
        ("@yearly", "2028-01-01T00:00:00+00:00"),
        (" @annually ", "2028-01-01T00:00:00+00:00"),
    ] {
        assert_eq!(shown(name, "UTC", after, 1), [next], "{name}");
    }
}

#[test]
fn every_counts_from_its_anchor() {
    for text in ["every 5m", "every: 5m", "every:5m", "@every 5m", "every 300 s", "every 4m60s"] {
        let table = table(text, "UTC");
        let start = anchor();
        assert_eq!(table.next_after(UnixMillis(0)), Some(start.plus(DurationMillis(5 * MINUTE))), "{text}");
        assert_eq!(table.next_after(start), Some(start.plus(DurationMillis(5 * MINUTE))));
        assert_eq!(table.next_after(UnixMillis(start.0 + 5 * MINUTE - 1)), Some(UnixMillis(start.0 + 5 * MINUTE)));
        assert_eq!(table.next_after(UnixMillis(start.0 + 5 * MINUTE)), Some(UnixMillis(start.0 + 10 * MINUTE)));
        assert_eq!(table.latest_at_or_before(UnixMillis(start.0 + 5 * MINUTE - 1)), None);
        assert_eq!(
            table.latest_at_or_before(UnixMillis(start.0 + 12 * MINUTE)),
            Some(UnixMillis(start.0 + 10 * MINUTE))
        );
    }
}

#[test]
fn time_ends_without_a_panic() {
    for text in ["* * * * *", "30 2 * * *", "every 7s", "0 0 29 2 *"] {
        for zone in ["UTC", "Europe/Oslo", "Pacific/Apia"] {
            let table = table(text, zone);
            assert_eq!(table.next_after(UnixMillis(u64::MAX)), None);
            let last = table.latest_at_or_before(UnixMillis(u64::MAX)).unwrap();
            assert_eq!(table.latest_at_or_before(last), Some(last), "{text} {zone}");
            let first = table.next_after(UnixMillis(0)).unwrap();
            assert!(first > UnixMillis(0));
            let _ = table.wall_clock(UnixMillis(u64::MAX));
        }
    }
    let far = Timetable::parse(&Timing::new("every 1h"), UnixMillis(u64::MAX)).unwrap();
    assert_eq!(far.next_after(UnixMillis(5)), None);
    assert_eq!(far.latest_at_or_before(UnixMillis(u64::MAX)), None);
    assert!(Timetable::parse(&Timing::new("@daily"), UnixMillis(u64::MAX)).is_ok());
}

#[test]
fn an_error_names_the_field_and_what_it_takes() {
    for (text, message) in [
        ("60 * * * *", r#""60" can't be the minute, which takes 0-59; and *, lists, ranges and steps of these"#),
        ("* 24 * * *", r#""24" can't be the hour, which takes 0-23; and *, lists, ranges and steps of these"#),
        (
            "* * * 13 *",
            r#""13" can't be the month, which takes 1-12 or JAN-DEC; and *, lists, ranges and steps of these"#,
        ),
        ("*/0 * * * *", r#""*/0" has no step that the minute can take; write a number from 1 to 60 after the slash"#),
        ("5/10 * * * *", r#""5/10" steps from a single minute; write a range, such as 5-59/10"#),
        ("0 22-2 * * *", r#""22-2" runs backwards; write two ranges for the hour, such as 22-23,0-2 for 22-2"#),
        (
            "@reboot",
            "@reboot is not a time, so no schedule can have it; let the service that starts the node submit the job",
        ),
        ("every 5", r#""5" is no length of time; write it like 90s, 5m or 1h30m"#),
        ("every 999ms", "every 999ms is out of range; it must be 1s to 3650d"),
        ("every 3651d", "every 3651d is out of range; it must be 1s to 3650d"),
        ("0 0 30 2 *", "the schedule never fires: no date of the next 41 years matches its days and months"),
    ] {
        assert_eq!(error(text).to_string(), message, "{text}");
    }
}

#[test]
fn what_is_no_schedule_is_refused() {
    for text in ["", "* * * *", "* * * * * * *", "5m", "hourly", "every"] {
        let found = text.split_ascii_whitespace().count();
        assert_eq!(error(text), TimetableError::FieldCount { found }, "{text:?}");
    }
    for text in ["@", "@fortnightly", "@every5m", "@daily x"] {
        assert!(matches!(error(text), TimetableError::Name { .. }), "{text:?}");
    }
    for text in [
        "JAN * * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * * 8",
        "* * * * L",
        "* * * * MON#6",
        "* * * * MON#0",
        "* * W * *",
        "L * * * *",
        "1,,2 * * * *",
        ", * * * *",
        "1- * * * *",
        "-1 * * * *",
        "+1 * * * *",
        "1-2-3 * * * *",
        "? * * * *",
        "* * * * MONDAY",
        "* * 1W5 * *",
        "é * * * *",
        "* * * * 1#1#1",
        "256 * * * *",
        "1.5 * * * *",
        "H * * * *",
    ] {
        assert!(matches!(error(text), TimetableError::Field { .. }), "{text:?} gave {:?}", error(text));
    }
    for text in
        ["*/ * * * *", "*/x * * * *", "*/300 * * * *", "*/61 * * * *", "* */25 * * *", "1-5/0 * * * *", "*/2/3 * * * *"]
    {
        assert!(matches!(error(text), TimetableError::Step { .. }), "{text:?} gave {:?}", error(text));
    }
    assert!(matches!(error("*,5 * * * *"), TimetableError::Alone { .. }));
    assert!(matches!(error("0 0 L,LW * *"), TimetableError::Alone { .. }));
    assert!(matches!(error("0 0 * * FRI-MON"), TimetableError::Reversed { .. }));
    assert_eq!(error(&"1".repeat(TEXT_BYTES_MAX + 1)), TimetableError::TooLong { found: TEXT_BYTES_MAX + 1 });
    for text in ["0 0 31 4,6,9,11 *", "0 0 30-31 2 *", "0 0 1-3 * +MON#2"] {
        assert!(matches!(error(text), TimetableError::Never { .. }), "{text:?}");
    }
    let jitter = Timing { jitter_ms: DurationMillis(DAY + 1), ..Timing::new("@daily") };
    assert_eq!(
        Timetable::parse(&jitter, anchor()).unwrap_err(),
        TimetableError::Jitter { found: DurationMillis(DAY + 1) }
    );
}

#[test]
fn an_unknown_zone_is_answered_with_names_like_it() {
    let message =
        |zone: &str| Timetable::parse(&Timing::new("@daily").in_zone(zone), anchor()).unwrap_err().to_string();
    assert_eq!(message("Europe/Olso"), r#"unknown time zone "Europe/Olso"; did you mean Europe/Oslo?"#);
    assert_eq!(message("europe/oslo"), r#"unknown time zone "europe/oslo"; did you mean Europe/Oslo?"#);
    assert_eq!(message("Oslo"), r#"unknown time zone "Oslo"; did you mean Europe/Oslo?"#);
    assert!(message("New York").contains("America/New_York"));
    assert_eq!(message("+02:00"), r#"unknown time zone "+02:00"; write an IANA name such as Europe/Oslo, or UTC"#);
    assert!(message(&"x".repeat(100_000)).len() < 200);
}

#[test]
fn a_schedule_is_told_in_words() {
    for (text, words) in [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("*/7 * * * *", "at minute 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("@hourly", "every hour"),
        ("5 * * * *", "at minute 5 of every hour"),
        ("@daily", "at 00:00"),
        ("0 9,17 * * 1-5", "at 09:00 and 17:00 on Monday to Friday"),
        ("*/15 9-17 * * 1-5", "every 15 minutes in hour 9 to 17 on Monday to Friday"),
        ("0 */2 * * *", "at minute 0 in hour 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22"),
        ("30 2 1,15 * *", "at 02:30 on day 1 and 15 of the month"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 LW 3,6 *", "at 00:00 on the last working day of the month in March and June"),
        ("0 0 15W 1-3 *", "at 00:00 on the working day nearest day 15 of the month in January to March"),
        ("0 0 * * MON#2", "at 00:00 on the 2nd Monday of the month"),
        ("0 0 * * FRIL", "at 00:00 on the last Friday of the month"),
        ("0 0 13 * FRI", "at 00:00 on day 13 of the month and on Friday"),
        ("0 0 1-7 * +0", "at 00:00 on day 1 to 7 of the month if that is Sunday"),
        ("0 0 * * 5-7", "at 00:00 on Friday to Sunday"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("30 0 12 * * *", "at 12:00:30"),
    ] {
        assert_eq!(table(text, "Europe/Oslo").words(), format!("{words}, Europe/Oslo time"), "{text}");
    }
    let timing = Timing { jitter_ms: DurationMillis(30_000), ..Timing::new("every 90m").in_zone("Europe/Oslo") };
    let words = Timetable::parse(&timing, anchor()).unwrap().words();
    assert_eq!(words, "every 1h30m, counted from 2025-01-01T01:00:00+01:00, up to 30s later");
}

#[test]
fn a_node_that_was_down_fires_what_its_policy_says() {
    let daily = table("0 12 * * *", "UTC");
    let last = utc("2027-05-01 12:00:00");
    let now = utc("2027-05-06 18:00:00");
    assert_eq!(daily.missed(last, now, CatchUp::None, 10), []);
    assert_eq!(daily.missed(last, now, CatchUp::Latest, 10), [utc("2027-05-06 12:00:00")]);
    let days = CatchUp::Window(DurationMillis(2 * DAY + 6 * HOUR));
    let window = [utc("2027-05-04 12:00:00"), utc("2027-05-05 12:00:00"), utc("2027-05-06 12:00:00")];
    assert_eq!(daily.missed(last, now, days, 10), window);
    assert_eq!(daily.missed(last, now, days, 2), window[1..]);
    assert_eq!(daily.missed(window[1], now, days, 10), window[2..]);
    for policy in [CatchUp::Latest, days] {
        assert_eq!(daily.missed(last, now, policy, 0), []);
        assert_eq!(daily.missed(window[2], now, policy, 10), []);
    }
}

#[test]
fn a_tick_that_comes_late_still_fires() {
    let minutely = table("* * * * *", "UTC");
    let at = utc("2027-05-01 12:00:00");
    for policy in [CatchUp::None, CatchUp::Latest, CatchUp::Window(DurationMillis(1))] {
        let late = UnixMillis(at.0 + 59 * SECOND);
        assert_eq!(minutely.missed(UnixMillis(at.0 - MINUTE), late, policy, 10), [at], "{policy}");
    }
    let daily = table("0 12 * * *", "UTC");
    let last = UnixMillis(at.0 - DAY);
    assert_eq!(daily.missed(last, UnixMillis(at.0 + MINUTE), CatchUp::None, 10), [at]);
    assert_eq!(daily.missed(last, UnixMillis(at.0 + MINUTE + 1), CatchUp::None, 10), []);
    assert_eq!(daily.missed(last, UnixMillis(at.0 - 1), CatchUp::None, 10), []);
}

/// Twelve instants of `every 5s` were made up for after 100 seconds, because none of them was a minute late.
#[test]
fn what_was_missed_is_not_made_up_for_because_it_was_just_now() {
    let often = table("every 5s", "UTC");
    let last = UnixMillis(anchor().0 + DAY);
    let now = UnixMillis(last.0 + 102 * SECOND);
    let at = |secs: u64| UnixMillis(last.0 + secs * SECOND);
    assert_eq!(often.missed(last, now, CatchUp::None, 1000), [at(100)]);
    assert_eq!(often.missed(last, now, CatchUp::Latest, 1000), [at(100)]);
    let window = CatchUp::Window(DurationMillis(8 * SECOND));
    assert_eq!(often.missed(last, now, window, 1000), [at(95), at(100)]);
}

#[test]
fn a_clock_set_by_a_year_makes_no_storm() {
    let table = table("*/5 * * * *", "Europe/Oslo");
    let last = utc("2027-05-01 12:00:00");
    let forward = utc("2028-05-01 12:02:00");
    assert_eq!(table.missed(last, forward, CatchUp::None, 1000), []);
    assert_eq!(table.missed(last, forward, CatchUp::Latest, 1000), [utc("2028-05-01 12:00:00")]);
    let window = table.missed(last, forward, CatchUp::Window(DurationMillis(365 * DAY)), 1000);
    assert_eq!(window.len(), 1000);
    assert_eq!(window.last(), Some(&utc("2028-05-01 12:00:00")));
    let back = utc("2026-05-01 12:02:00");
    for policy in [CatchUp::None, CatchUp::Latest, CatchUp::Window(DurationMillis(365 * DAY))] {
        assert_eq!(table.missed(last, back, policy, 1000), [], "{policy}");
    }
}

#[test]
fn jitter_spreads_schedules_and_keeps_their_order() {
    let timing = |text: &str| Timing { jitter_ms: DurationMillis(10 * MINUTE), ..Timing::new(text) };
    let hourly = Timetable::parse(&timing("@hourly"), anchor()).unwrap();
    let at = utc("2027-05-01 12:00:00");
    let names: Vec<String> = (0..100).map(|number| format!("schedule {number}")).collect();
    let firings: std::collections::BTreeSet<UnixMillis> = names.iter().map(|name| hourly.jittered(at, name)).collect();
    assert!(firings.len() > 90);
    assert!(firings.iter().all(|firing| (at.0..at.0 + 10 * MINUTE).contains(&firing.0)));
    assert_eq!(hourly.jittered(at, "backup"), hourly.clone().jittered(at, "backup"));
    // A jitter longer than the time to the next instant ends there.
    let minutely = Timetable::parse(&timing("* * * * *"), anchor()).unwrap();
    assert!(names.iter().all(|name| minutely.jittered(at, name) < UnixMillis(at.0 + MINUTE)));
    let still = table("@hourly", "UTC");
    assert_eq!(still.jittered(at, "backup"), at);
}

#[test]
fn a_firing_that_jitter_holds_back_is_not_late() {
    let timing = Timing { jitter_ms: DurationMillis(30 * MINUTE), ..Timing::new("@daily") };
    let daily = Timetable::parse(&timing, anchor()).unwrap();
    let at = utc("2027-05-01 00:00:00");
    let last = UnixMillis(at.0 - DAY);
    assert_eq!(daily.missed(last, UnixMillis(at.0 + 30 * MINUTE), CatchUp::None, 10), [at]);
    assert_eq!(daily.missed(last, UnixMillis(at.0 + 32 * MINUTE), CatchUp::None, 10), []);
}

#[test]
fn a_jitter_is_no_longer_than_some_pause_between_two_instants() {
    let check = |text: &str, millis: u64| {
        let timing = Timing { jitter_ms: DurationMillis(millis), ..Timing::new(text) };
        Timetable::parse(&timing, anchor()).unwrap().check_jitter()
    };
    for (text, seconds) in [
        ("every 5m", 300),
        ("* * * * *", 60),
        // The night between two mornings, and the end of the week.
        ("0-30 9 * * *", 300),
        ("* * * * 1-5", 3600),
        ("0 3 * * *", 86_400),
        ("0 9,17 * * *", 36_000),
    ] {
        assert_eq!(check(text, seconds * 1000), Ok(()), "{text}");
    }
    for (text, seconds, longest) in [("every 5m", 301, 300), ("* * * * *", 61, 60), ("@hourly", 7200, 3600)] {
        let longest = DurationMillis::from_secs(longest);
        let found = DurationMillis::from_secs(seconds);
        assert_eq!(check(text, seconds * 1000), Err(TimetableError::JitterPause { found, longest }), "{text}");
    }
}
