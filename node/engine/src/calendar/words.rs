//! A cron expression in plain English, so that whoever wrote it can see that it says what was meant.

use super::expression::{Expression, Field, List, Part};

/// Times of day that are listed one by one; more are described by their fields.
const TIMES_MAX: usize = 6;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// What the expression means, without the zone: `at 09:00 and 17:00 on Monday to Friday`.
pub(super) fn describe(expression: &Expression) -> String {
    let parts = [time(expression), days(expression), months(&expression.month)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn time(expression: &Expression) -> String {
    let [seconds, minutes, hours] = [&expression.second, &expression.minute, &expression.hour].map(List::numbers);
    if seconds.len() * minutes.len() * hours.len() <= TIMES_MAX {
        return format!("at {}", joined(times(&hours, &minutes, &seconds)));
    }
    let at_second_zero = seconds == [0];
    if at_second_zero && minutes == [0] && expression.hour.is_all() {
        return "every hour".to_owned();
    }
    let mut parts = Vec::new();
    if !at_second_zero {
        parts.push(beat(&expression.second).unwrap_or_else(|| format!("at second {}", ranges(&seconds))));
    }
    match (beat(&expression.minute), at_second_zero) {
        (Some(beat), true) => parts.push(beat),
        (_, false) if expression.minute.is_all() => {}
        (_, true) => parts.push(format!("at minute {}", ranges(&minutes))),
        (_, false) => parts.push(format!("in minute {}", ranges(&minutes))),
    }
    match expression.hour.is_all() {
        true if expression.minute.is_all() || (at_second_zero && beat(&expression.minute).is_some()) => {}
        true => parts.push("of every hour".to_owned()),
        false => parts.push(format!("in hour {}", ranges(&hours))),
    }
    parts.join(" ")
}

/// The list as a beat that never falters, if it is one: `every 5 minutes`.
fn beat(list: &List) -> Option<String> {
    let unit = if list.field() == Field::Second { "second" } else { "minute" };
    match list.parts() {
        _ if list.is_all() => Some(format!("every {unit}")),
        [Part::Every { by }] if 60 % by == 0 => Some(format!("every {by} {unit}s")),
        _ => None,
    }
}

fn times(hours: &[u8], minutes: &[u8], seconds: &[u8]) -> Vec<String> {
    let mut times = Vec::new();
    for hour in hours {
        for minute in minutes {
            for second in seconds {
                times.push(match second {
                    0 => format!("{hour:02}:{minute:02}"),
                    second => format!("{hour:02}:{minute:02}:{second:02}"),
                });
            }
        }
    }
    times
}

fn days(expression: &Expression) -> String {
    let of_month = || format!("on {} of the month", days_of_month(&expression.day));
    let of_week = || days_of_week(&expression.weekday);
    match (expression.day.is_star(), expression.weekday.is_star()) {
        (true, true) => String::new(),
        (false, true) => of_month(),
        (true, false) => format!("on {}", of_week()),
        (false, false) if expression.needs_both_days => format!("{} if that is {}", of_month(), of_week()),
        (false, false) => format!("{} and on {}", of_month(), of_week()),
    }
}

fn days_of_month(list: &List) -> String {
    let mut named = Vec::new();
    let numbers = list.numbers();
    if !numbers.is_empty() {
        named.push(format!("day {}", ranges(&numbers)));
    }
    for part in list.parts() {
        match part {
            Part::Last => named.push("the last day".to_owned()),
            Part::LastWorkday => named.push("the last working day".to_owned()),
            Part::Near(day) => named.push(format!("the working day nearest day {day}")),
            Part::Every { .. } | Part::Span { .. } | Part::Nth { .. } | Part::LastOf(_) => {}
        }
    }
    joined(named)
}

fn days_of_week(list: &List) -> String {
    let mut numbers = list.numbers();
    // Sunday is 7 after a Saturday and 0 otherwise; never both.
    if numbers.contains(&7) {
        numbers.retain(|day| *day != 0);
        if !numbers.contains(&6) {
            numbers.retain(|day| *day != 7);
            numbers.insert(0, 0);
        }
    }
    let mut named: Vec<String> = spans(&numbers).into_iter().map(|span| span_words(span, weekday)).collect();
    for part in list.parts() {
        match part {
            Part::Nth { weekday: day, nth } => {
                named.push(format!("the {} {} of the month", ordinal(*nth), weekday(*day)));
            }
            Part::LastOf(day) => named.push(format!("the last {} of the month", weekday(*day))),
            Part::Every { .. } | Part::Span { .. } | Part::Last | Part::LastWorkday | Part::Near(_) => {}
        }
    }
    joined(named)
}

fn months(list: &List) -> String {
    if list.is_all() {
        return String::new();
    }
    let named = spans(&list.numbers()).into_iter().map(|span| span_words(span, month));
    format!("in {}", joined(named.collect()))
}

fn weekday(number: u8) -> String {
    WEEKDAYS.get(usize::from(number % 7)).copied().unwrap_or_default().to_owned()
}

fn month(number: u8) -> String {
    MONTHS.get(usize::from(number.saturating_sub(1))).copied().unwrap_or_default().to_owned()
}

const fn ordinal(number: u8) -> &'static str {
    match number {
        1 => "1st",
        2 => "2nd",
        3 => "3rd",
        4 => "4th",
        _ => "5th",
    }
}

fn ranges(numbers: &[u8]) -> String {
    joined(spans(numbers).into_iter().map(|span| span_words(span, |number| number.to_string())).collect())
}

/// The runs of numbers that follow each other, first and last of each. Runs of two are two runs of one.
fn spans(numbers: &[u8]) -> Vec<(u8, u8)> {
    let mut spans = Vec::new();
    let runs = numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    for run in runs {
        match run {
            [first, .., last] if run.len() > 2 => spans.push((*first, *last)),
            short => spans.extend(short.iter().map(|number| (*number, *number))),
        }
    }
    spans
}

fn span_words((first, last): (u8, u8), word: impl Fn(u8) -> String) -> String {
    if first == last { word(first) } else { format!("{} to {}", word(first), word(last)) }
}

/// Joins words the way a sentence does: `a, b and c`.
fn joined(mut words: Vec<String>) -> String {
    let Some(last) = words.pop() else { return String::new() };
    if words.is_empty() { last } else { format!("{} and {last}", words.join(", ")) }
}
