//! A cron expression, checked field by field so that an error can say what is wrong and where.
//!
//! What is understood is the language of vixie cron with the second as a sixth field in front, and `L`, `LW`, `15W`,
//! `MON#2` and `FRIL` for days. The hard case is that croner, which searches the dates, is more lenient in places and
//! its errors name no field: so it is only ever handed numbers that were understood here.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::TimetableError;

/// A field of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day of the month",
            Self::Month => "month",
            Self::Weekday => "day of the week",
        }
    }

    /// What can be written, for people.
    const fn takes(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "0-59",
            Self::Hour => "0-23",
            Self::Day => "1-31, L for the last day, LW for the last working day, 15W for the one nearest the 15th",
            Self::Month => "1-12 or JAN-DEC",
            Self::Weekday => {
                "0-7 or SUN-SAT (0 and 7 are Sunday), MON#2 for the second Monday, FRIL for the last Friday"
            }
        }
    }

    /// The lowest and the highest number.
    pub(super) const fn bounds(self) -> (u8, u8) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
        }
    }

    /// The words that may stand for a number, with the number of the first.
    const fn words(self) -> (u8, &'static [&'static str]) {
        match self {
            Self::Second | Self::Minute | Self::Hour | Self::Day => (0, &[]),
            Self::Month => (1, &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]),
            Self::Weekday => (0, &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]),
        }
    }

    fn number(self, text: &str) -> Option<u8> {
        let (first, words) = self.words();
        if let Some((number, _)) = (first..).zip(words).find(|(_, word)| **word == text) {
            return Some(number);
        }
        let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let (lowest, highest) = self.bounds();
        text.parse().ok().filter(|number| is_number && (lowest..=highest).contains(number))
    }

    fn wrong(self, part: &str) -> TimetableError {
        TimetableError::Field { field: self.name(), part: part.to_owned(), takes: self.takes() }
    }
}

/// One member of a field's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `*`, or `*/by`.
    Every { by: u8 },
    /// `from-to`, or `from-to/by`; a single number is a span of one.
    Span { from: u8, to: u8, by: u8 },
    /// The last day of the month.
    Last,
    /// The last day of the month from Monday to Friday.
    LastWorkday,
    /// The day from Monday to Friday that is nearest to this one, in the same month.
    Near(u8),
    /// The first to fifth such weekday of the month; Sunday is 0.
    Nth { weekday: u8, nth: u8 },
    /// The last such weekday of the month; Sunday is 0.
    LastOf(u8),
}

impl Part {
    fn parse(field: Field, text: &str) -> Result<Self, TimetableError> {
        let wrong = || field.wrong(text);
        if let Some((range, step)) = text.split_once('/') {
            return Self::stepped(field, text, range, step);
        }
        match (field, text) {
            (_, "*") | (Field::Day | Field::Weekday, "?") => return Ok(Self::Every { by: 1 }),
            (Field::Day, "L") => return Ok(Self::Last),
            (Field::Day, "LW") => return Ok(Self::LastWorkday),
            (_, _) => {}
        }
        if let (Field::Day, Some(day)) = (field, text.strip_suffix('W')) {
            return field.number(day).map(Self::Near).ok_or_else(wrong);
        }
        if let (Field::Weekday, Some((day, nth))) = (field, text.split_once('#')) {
            let nth = nth.parse().ok().filter(|nth| (1..=5).contains(nth)).ok_or_else(wrong)?;
            return field.number(day).map(|day| Self::Nth { weekday: day % 7, nth }).ok_or_else(wrong);
        }
        if let (Field::Weekday, Some(day)) = (field, text.strip_suffix('L')) {
            return field.number(day).map(|day| Self::LastOf(day % 7)).ok_or_else(wrong);
        }
        Self::span(field, text, text, 1)
    }

    fn stepped(field: Field, text: &str, range: &str, step: &str) -> Result<Self, TimetableError> {
        let (lowest, highest) = field.bounds();
        // A step over the whole field is as good as its first number; one beyond that is a slip.
        let longest = highest - lowest + 1;
        let by: u8 = step.parse().ok().filter(|by| (1..=longest).contains(by)).ok_or_else(|| TimetableError::Step {
            field: field.name(),
            part: text.to_owned(),
            longest,
        })?;
        if range == "*" {
            return Ok(Self::Every { by });
        }
        match range.contains('-') {
            true => Self::span(field, text, range, by),
            // Some crons read it as from there to the end, others as that number alone.
            false => Err(TimetableError::StepFromOne { field: field.name(), part: text.to_owned(), highest }),
        }
    }

    fn span(field: Field, text: &str, range: &str, by: u8) -> Result<Self, TimetableError> {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (Some(from), Some(to)) = (field.number(from), field.number(to)) else {
            return Err(field.wrong(text));
        };
        // The week of a range may end with Sunday.
        let to = if field == Field::Weekday && to == 0 && from > 0 { 7 } else { to };
        if from > to {
            return Err(TimetableError::Reversed { field: field.name(), part: text.to_owned() });
        }
        Ok(Self::Span { from, to, by })
    }

    /// The part in croner's words.
    fn render(self) -> String {
        match self {
            Self::Every { by: 1 } => "*".to_owned(),
            Self::Every { by } => format!("*/{by}"),
            Self::Span { from, to, .. } if from == to => from.to_string(),
            Self::Span { from, to, by } => format!("{from}-{to}/{by}"),
            Self::Last => "L".to_owned(),
            Self::LastWorkday => "LW".to_owned(),
            Self::Near(day) => format!("{day}W"),
            Self::Nth { weekday, nth } => format!("{weekday}#{nth}"),
            Self::LastOf(weekday) => format!("{weekday}#L"),
        }
    }

    /// The numbers of the field that it means; none if that depends on the month.
    fn numbers(self, field: Field) -> impl Iterator<Item = u8> {
        let (lowest, highest) = field.bounds();
        let (from, to, by) = match self {
            Self::Every { by } => (lowest, highest, by),
            Self::Span { from, to, by } => (from, to, by),
            Self::Last | Self::LastWorkday | Self::Near(_) | Self::Nth { .. } | Self::LastOf(_) => (1, 0, 1),
        };
        (from..=to).step_by(usize::from(by.max(1)))
    }
}

/// The list of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    field: Field,
    parts: Vec<Part>,
}

impl List {
    fn parse(field: Field, text: &str) -> Result<Self, TimetableError> {
        let parts = text.split(',').map(|part| Part::parse(field, part)).collect::<Result<Vec<_>, _>>()?;
        let list = Self { field, parts };
        // croner takes `L,LW` for `LW`, and a star in a list for nothing.
        let is_mixed = list.parts.contains(&Part::Last) && list.parts.contains(&Part::LastWorkday);
        let has_star = list.parts.len() > 1 && list.parts.contains(&Part::Every { by: 1 });
        if is_mixed || has_star {
            return Err(TimetableError::Alone { field: field.name(), list: text.to_owned() });
        }
        Ok(list)
    }

    fn render(&self) -> String {
        self.parts.iter().map(|part| part.render()).collect::<Vec<_>>().join(",")
    }

    /// The members of the list, in the order written.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The field that the list belongs to.
    pub(super) const fn field(&self) -> Field {
        self.field
    }

    /// The numbers that it means, in order and each once. Those that depend on the month are not among them.
    pub(super) fn numbers(&self) -> Vec<u8> {
        let mut numbers: Vec<u8> = self.parts.iter().flat_map(|part| part.numbers(self.field)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Whether it is a plain star.
    pub(super) fn is_star(&self) -> bool {
        self.parts == [Part::Every { by: 1 }]
    }

    /// Whether it was written with a star in front, be it `*` or `*/2`.
    pub(super) fn starts_with_star(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Every { .. }))
    }

    /// Whether every number of the field is meant.
    pub(super) fn is_all(&self) -> bool {
        let (lowest, highest) = self.field.bounds();
        self.numbers().len() > usize::from(highest - lowest)
    }
}

/// A cron expression that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) second: List,
    pub(super) minute: List,
    pub(super) hour: List,
    pub(super) day: List,
    pub(super) month: List,
    pub(super) weekday: List,
    /// Whether a date must match both days. Otherwise either one does, if both are restricted.
    pub(super) needs_both_days: bool,
}

impl Expression {
    /// Reads five fields, or six with the second in front.
    pub(super) fn parse(text: &str) -> Result<Self, TimetableError> {
        let text = text.to_ascii_uppercase();
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let (second, [minute, hour, day, month, weekday]) = match *fields.as_slice() {
            [minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
            [second, minute, hour, day, month, weekday] => (second, [minute, hour, day, month, weekday]),
            _ => return Err(TimetableError::FieldCount { found: fields.len() }),
        };
        let (weekday, is_joined) = weekday.strip_prefix('+').map_or((weekday, false), |rest| (rest, true));
        let mut expression = Self {
            second: List::parse(Field::Second, second)?,
            minute: List::parse(Field::Minute, minute)?,
            hour: List::parse(Field::Hour, hour)?,
            day: List::parse(Field::Day, day)?,
            month: List::parse(Field::Month, month)?,
            weekday: List::parse(Field::Weekday, weekday)?,
            needs_both_days: is_joined,
        };
        // vixie cron calls a field that starts with a star unrestricted, and `*/2` starts with one. crontab(5).
        expression.needs_both_days |= expression.day.starts_with_star() || expression.weekday.starts_with_star();
        Ok(expression)
    }

    /// The same as a pattern that can be searched.
    pub(super) fn pattern(&self) -> Result<Cron, TimetableError> {
        let lists = [&self.second, &self.minute, &self.hour, &self.day, &self.month, &self.weekday];
        let text = lists.map(List::render).join(" ");
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed);
        let parsed = parser.dom_and_dow(self.needs_both_days).build().parse(&text);
        parsed.map_err(|error| TimetableError::Unreadable { text, reason: error.to_string() })
    }
}
