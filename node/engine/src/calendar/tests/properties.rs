//! What holds for any schedule in any zone at any time.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDateTime, Timelike};
use jobmesh_protocol::schedule::{CatchUp, Timing};
use jobmesh_protocol::{DurationMillis, UnixMillis};
use proptest::prelude::*;

use super::transitions::{Kind, readings, transitions, walk};
use super::{DAY, MINUTE, Timetable, anchor, table, utc};

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Oslo",
    "America/New_York",
    "America/Havana",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Kolkata",
    "Pacific/Apia",
];

fn zone() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(ZONES)
}

/// A field of any form.
fn field(lowest: u8, highest: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..=highest).prop_map(|by| format!("*/{by}")),
        3 => (lowest..=highest).prop_map(|one| one.to_string()),
        1 => proptest::collection::vec(lowest..=highest, 1..5).prop_map(|list| list.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        1 => (lowest..=highest, lowest..=highest, 1_u8..20)
            .prop_map(|(one, other, by)| format!("{}-{}/{by}", one.min(other), one.max(other))),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let second = prop_oneof![4 => Just(String::new()), 1 => field(0, 59).prop_map(|second| format!("{second} "))];
    let day = prop_oneof![4 => field(1, 31), 1 => Just("L".to_owned()), 1 => Just("LW".to_owned()), 1 => Just("15W".to_owned())];
    let weekday = prop_oneof![4 => field(0, 7), 1 => Just("MON#2".to_owned()), 1 => Just("FRIL".to_owned())];
    let cron = (second, field(0, 59), field(0, 23), day, field(1, 12), weekday);
    let cron = cron.prop_map(|(second, minute, hour, day, month, weekday)| {
        format!("{second}{minute} {hour} {day} {month} {weekday}")
    });
    prop_oneof![6 => cron, 1 => (1_u32..100_000_000).prop_map(|secs| format!("every {secs}s"))]
}

/// An instant of the years 2024 to 2036, to the millisecond.
fn instant() -> impl Strategy<Value = UnixMillis> {
    (utc("2024-01-01 00:00:00").0..utc("2036-12-31 00:00:00").0).prop_map(UnixMillis)
}

/// An instant close to a change of clocks of the zone or, if it has none, anywhere.
fn close_to_change(zone: &str, pick: usize, away: u64) -> UnixMillis {
    let turns = transitions(zone.parse().unwrap());
    let turn = turns.get(pick % turns.len().max(1)).copied().unwrap_or(utc("2027-05-01 00:00:00"));
    UnixMillis(turn.0 - 3 * 60 * MINUTE + away)
}

fn check_instants(table: &Timetable, at: UnixMillis) {
    let instants = table.between(at, UnixMillis(u64::MAX), 40);
    let mut expected = Vec::new();
    let mut last = at;
    while let Some(next) = table.next_after(last).filter(|_| expected.len() < 40) {
        assert!(next > last);
        expected.push(next);
        last = next;
    }
    assert_eq!(instants, expected);
    for pair in instants.windows(2) {
        let [one, next] = *pair else { continue };
        let between = UnixMillis(one.0 + (next.0 - one.0) / 2);
        for at in [one, between, UnixMillis(next.0 - 1)] {
            assert_eq!(table.latest_at_or_before(at), Some(one));
            assert_eq!(table.next_after(at), Some(next));
        }
    }
    if let Some(latest) = table.latest_at_or_before(at) {
        assert!(latest <= at);
        assert_eq!(table.next_after(UnixMillis(latest.0 - 1)), Some(latest));
        assert!(table.next_after(latest).is_none_or(|next| next > at));
    }
}

/// Sets of numbers, small enough that matches are rare and large enough that they meet a change of clocks.
fn numbers(highest: u32, most: usize) -> impl Strategy<Value = BTreeSet<u32>> {
    proptest::collection::btree_set(0..=highest, 1..=most)
}

fn list(numbers: &BTreeSet<u32>) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn instants_increase_and_both_searches_agree(text in expression(), zone in zone(), at in instant()) {
        // A random date may be the 31st of February.
        if let Ok(table) = Timetable::parse(&Timing::new(text).in_zone(zone), anchor()) {
            check_instants(&table, at);
        }
    }

    #[test]
    fn they_agree_where_the_clock_is_set(
        minute in field(0, 59), hour in field(0, 4), zone in zone(), pick in 0_usize..40, away in 0..6 * 60 * MINUTE,
    ) {
        check_instants(&table(&format!("{minute} {hour} * * *"), zone), close_to_change(zone, pick, away));
    }

    #[test]
    fn any_hours_and_minutes_fire_as_the_walk_says(
        minutes in numbers(59, 4), hours in numbers(4, 3), days in numbers(6, 5), zone in zone(), pick in 0_usize..40,
    ) {
        let table = table(&format!("{} {} * * {}", list(&minutes), list(&hours), list(&days)), zone);
        let turn = close_to_change(zone, pick, 3 * 60 * MINUTE);
        let (from, to) = (UnixMillis(turn.0 - 2 * DAY), UnixMillis(turn.0 + 2 * DAY));
        let matches = |at: NaiveDateTime| {
            let day = at.weekday().num_days_from_sunday();
            minutes.contains(&at.minute()) && hours.contains(&at.hour()) && days.contains(&day)
        };
        let expected = walk(&readings(zone.parse().unwrap(), from, to), Kind::Appointment, matches);
        prop_assert_eq!(table.between(from, to, usize::MAX), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_window_misses_what_lies_between(text in expression(), zone in zone(), last in instant(), gone in 0..400 * DAY) {
        let Ok(table) = Timetable::parse(&Timing::new(text).in_zone(zone), anchor()) else { return Ok(()) };
        let now = UnixMillis(last.0 + gone);
        let all = table.between(last, now, 50);
        let always = CatchUp::Window(DurationMillis(u64::MAX));
        let missed = table.missed(last, now, always, 50);
        prop_assert!(missed.windows(2).all(|pair| pair[0] < pair[1]));
        if all.len() < 50 {
            prop_assert_eq!(&missed, &all);
        }
        prop_assert_eq!(missed.last().copied(), table.missed(last, now, CatchUp::Latest, 1).first().copied());
        prop_assert_eq!(table.missed(now, last, always, 50), Vec::new());
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", fields in "[-0-9*/,LW#?+A-Z ]{0,40}", zone in ".{0,30}") {
        for text in [text, fields] {
            let _ = Timetable::parse(&Timing::new(text.clone()), anchor()).map(|table| table.words());
            let _ = Timetable::parse(&Timing::new(text).in_zone(zone.clone()), anchor());
        }
    }

    #[test]
    fn jittered_firings_keep_their_order(text in expression(), at in instant(), jitter in 0..DAY) {
        let timing = Timing { jitter_ms: DurationMillis(jitter), ..Timing::new(text) };
        let Ok(table) = Timetable::parse(&timing, anchor()) else { return Ok(()) };
        let firings: Vec<UnixMillis> =
            table.between(at, UnixMillis(u64::MAX), 10).into_iter().map(|at| table.jittered(at, "nightly")).collect();
        prop_assert!(firings.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
