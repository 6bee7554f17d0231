//! Every change of clocks of ten years, against a walk that looks at each minute and knows nothing of croner.

use std::collections::BTreeSet;
use std::ops::Bound;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use jobmesh_protocol::UnixMillis;

use super::{HOUR, MINUTE, Timetable, table, utc};

/// What a schedule does where the clock jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Fires once for each match, if need be after the gap.
    Appointment,
    /// Fires whenever the clock shows a match; what a gap leaves out is made up for once.
    Beat,
    /// Fires whenever the clock shows a match, and at nothing else.
    HourlyBeat,
}

/// Northern zones whose clocks are set: at night, at midnight, backwards in winter, and for Ramadan.
const NORTH: &[&str] = &[
    "Europe/Oslo",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "America/Nuuk",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
];

/// Southern ones: also at midnight, by half an hour, by two hours, and from an odd offset.
const SOUTH: &[&str] =
    &["America/Santiago", "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Chatham", "Antarctica/Troll"];

/// Zones that leave them alone, at least today.
const STEADY: &[&str] = &["UTC", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia"];

type Matches = fn(NaiveDateTime) -> bool;

const SCHEDULES: &[(&str, Kind, Matches)] = &[
    ("30 2 * * *", Kind::Appointment, |at| at.hour() == 2 && at.minute() == 30),
    ("0 2 * * *", Kind::Appointment, |at| at.hour() == 2 && at.minute() == 0),
    ("0 3 * * *", Kind::Appointment, |at| at.hour() == 3 && at.minute() == 0),
    ("5,50 1,2,3 * * *", Kind::Appointment, |at| (1..4).contains(&at.hour()) && [5, 50].contains(&at.minute())),
    ("@daily", Kind::Appointment, |at| at.hour() == 0 && at.minute() == 0),
    ("20 0 * * *", Kind::Appointment, |at| at.hour() == 0 && at.minute() == 20),
    ("30 23 * * *", Kind::Appointment, |at| at.hour() == 23 && at.minute() == 30),
    ("30 1 * * SUN", Kind::Appointment, |at| {
        at.weekday().number_from_monday() == 7 && at.hour() == 1 && at.minute() == 30
    }),
    ("0 */2 * * *", Kind::Appointment, |at| at.hour() % 2 == 0 && at.minute() == 0),
    ("*/20 1-3 * * *", Kind::Beat, |at| (1..4).contains(&at.hour()) && at.minute() % 20 == 0),
    ("*/30 0,23 * * *", Kind::Beat, |at| [0, 23].contains(&at.hour()) && at.minute() % 30 == 0),
    ("* 2 * * *", Kind::Beat, |at| at.hour() == 2),
    ("*/5 * * * *", Kind::HourlyBeat, |at| at.minute() % 5 == 0),
    ("*/7 * * * *", Kind::HourlyBeat, |at| at.minute() % 7 == 0),
    ("@hourly", Kind::HourlyBeat, |at| at.minute() == 0),
    ("45 0-23 * * *", Kind::HourlyBeat, |at| at.minute() == 45),
    ("10 * * * 1-5", Kind::HourlyBeat, |at| at.weekday().number_from_monday() < 6 && at.minute() == 10),
];

fn clock(zone: Tz, at: UnixMillis) -> DateTime<Tz> {
    let utc: DateTime<Utc> = DateTime::from_timestamp_millis(i64::try_from(at.0).unwrap()).unwrap();
    zone.from_utc_datetime(&utc.naive_utc())
}

/// The instants from 2025 to 2035 at which the zone's clock is set, by comparing its offset every six hours.
pub(super) fn transitions(zone: Tz) -> Vec<UnixMillis> {
    let offset = |at: u64| clock(zone, UnixMillis(at)).offset().fix();
    let years = utc("2025-01-01 00:00:00").0..utc("2036-01-01 00:00:00").0;
    let changed = years.step_by(usize::try_from(6 * HOUR).unwrap()).filter(|at| offset(*at) != offset(at + 6 * HOUR));
    let minutes = |at: u64| (at..at + 6 * HOUR).step_by(usize::try_from(MINUTE).unwrap());
    let turn = |at: u64| minutes(at).find(|minute| offset(*minute) != offset(minute + MINUTE)).unwrap() + MINUTE;
    changed.map(|at| UnixMillis(turn(at))).collect()
}

/// What the zone's clock shows at each minute from one instant to another.
pub(super) fn readings(zone: Tz, from: UnixMillis, to: UnixMillis) -> Vec<(UnixMillis, NaiveDateTime)> {
    let minutes = (from.0..=to.0).step_by(usize::try_from(MINUTE).unwrap()).map(UnixMillis);
    minutes.map(|at| (at, clock(zone, at).naive_local())).collect()
}

/// The instants after the first one at which a schedule must fire: looks at the clock each minute, and at what the
/// clock skipped since the minute before.
pub(super) fn walk(
    readings: &[(UnixMillis, NaiveDateTime)],
    kind: Kind,
    matches: impl Fn(NaiveDateTime) -> bool,
) -> BTreeSet<UnixMillis> {
    let minute = TimeDelta::minutes(1);
    let mut fired = BTreeSet::new();
    let (_, mut previous) = readings[0];
    let mut furthest = previous;
    for &(at, now) in &readings[1..] {
        let since = match kind {
            Kind::Appointment => furthest,
            Kind::Beat if now > previous => previous,
            Kind::Beat | Kind::HourlyBeat => now - minute,
        };
        let skipped = std::iter::successors(Some(since + minute), |at| Some(*at + minute));
        if skipped.take_while(|reading| *reading <= now).any(&matches) {
            fired.insert(at);
        }
        furthest = furthest.max(now);
        previous = now;
    }
    fired
}

/// Compares every schedule with the walk from a good day before an instant to a good day after it.
fn check_around(zone: &str, turn: UnixMillis) {
    let (from, to) = (UnixMillis(turn.0 - 27 * HOUR), UnixMillis(turn.0 + 27 * HOUR));
    let readings = readings(zone.parse().unwrap(), from, to);
    for (text, kind, matches) in SCHEDULES {
        let table = table(text, zone);
        let expected = walk(&readings, *kind, matches);
        let found: BTreeSet<UnixMillis> = table.between(from, to, usize::MAX).into_iter().collect();
        assert_eq!(found, expected, "{text} in {zone} around {}", table.wall_clock(turn));
        check_searches(&table, turn, &expected);
    }
}

/// Compares both searches with the instants, from many instants close to the turn and right at each of them.
fn check_searches(table: &Timetable, turn: UnixMillis, expected: &BTreeSet<UnixMillis>) {
    let close = (turn.0 - 4 * HOUR..turn.0 + 4 * HOUR).step_by(usize::try_from(13 * MINUTE + 500).unwrap());
    let exact = expected.range(UnixMillis(turn.0 - 3 * HOUR)..UnixMillis(turn.0 + 3 * HOUR));
    let exact = exact.chain([&turn]).flat_map(|at| [at.0 - 1, at.0, at.0 + 1]);
    for at in close.chain(exact).map(UnixMillis) {
        let next = expected.range((Bound::Excluded(at), Bound::Unbounded)).next();
        if next.is_some() {
            assert_eq!(table.next_after(at).as_ref(), next, "{} after {}", table.words(), table.wall_clock(at));
        }
        let latest = expected.range(..=at).next_back();
        if latest.is_some() {
            let found = table.latest_at_or_before(at);
            assert_eq!(found.as_ref(), latest, "{} up to {}", table.words(), table.wall_clock(at));
        }
    }
}

fn check_every_change(zones: &[&str]) {
    for zone in zones {
        let turns = transitions(zone.parse().unwrap());
        assert!(turns.len() >= 20, "{zone} has {} changes", turns.len());
        for turn in turns {
            check_around(zone, turn);
        }
    }
}

#[test]
fn every_northern_change_of_clocks_fires_what_it_must() {
    check_every_change(NORTH);
}

#[test]
fn every_southern_change_of_clocks_fires_what_it_must() {
    check_every_change(SOUTH);
}

#[test]
fn zones_without_daylight_saving_fire_every_day_alike() {
    for zone in STEADY {
        assert_eq!(transitions(zone.parse().unwrap()), [], "{zone}");
        for day in ["2025-03-30 01:00:00", "2028-02-29 12:00:00", "2035-11-04 06:00:00"] {
            check_around(zone, utc(day));
        }
    }
}

#[test]
fn a_daily_appointment_fires_once_on_each_day_of_ten_years() {
    for zone in NORTH.iter().chain(SOUTH).chain(STEADY) {
        for text in ["30 2 * * *", "0 0 * * *", "15 1 * * *", "59 23 * * *"] {
            let table = table(text, zone);
            let days = table.between(utc("2025-01-01 12:00:00"), utc("2035-01-01 12:00:00"), usize::MAX);
            // 2028 and 2032 have a day more.
            assert_eq!(days.len(), 10 * 365 + 2, "{text} in {zone}");
        }
    }
}
