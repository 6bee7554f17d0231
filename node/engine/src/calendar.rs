//! When a schedule fires: every instant, and those that a node missed.
//!
//! A [`Timetable`] is a pure function from time to instants. It keeps no place of its own: the caller says what was
//! fired last, which is a row, and asks what is due. So a schedule fires each instant once, whatever happens to the
//! node or to its clock in between.
//!
//! The hard case is the day on which the wall clock is set; see `wall`. The other one is a clock that jumps: set
//! forward, it makes instants that were never lived through, and [`Timetable::missed`] treats them as a time in which
//! the node was down; set back, it makes none.

mod expression;
mod wall;
mod words;
mod zone;

#[cfg(test)]
mod tests;

use jobmesh_protocol::schedule::{CatchUp, TEXT_BYTES_MAX, Timing, format_length, parse_length};
use jobmesh_protocol::{DurationMillis, UnixMillis};

use self::expression::Expression;
use self::wall::Wall;
use self::zone::{END_SECS, Zone};

/// How late a firing may come and still count as on time: 1 minute.
///
/// A busy node or a short suspend delays a tick by seconds, and a job that was asked for every day must not be dropped
/// for that. The smallest unit of a cron expression is a minute, so nothing waits for longer than its next turn.
const LATE_MAX: DurationMillis = DurationMillis::from_secs(60);
/// The largest jitter: 1 day.
const JITTER_MAX: DurationMillis = DurationMillis::from_secs(86_400);
/// How many pauses are looked at for one that is as long as the jitter: about 50 ms of searching. The time between two
/// of them is the jitter, so a jitter of 10 minutes is looked for in ten days.
const PAUSES_MAX: usize = 1500;
/// The shortest period of `every`: 1 second, the resolution of a cron expression.
const PERIOD_MIN: DurationMillis = DurationMillis::from_secs(1);
/// The longest period of `every`: ten years of 365 days.
const PERIOD_MAX: DurationMillis = DurationMillis::from_secs(3_650 * 86_400);
/// The names that stand for an expression.
const NAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The instants of a schedule, in order. They strictly increase, and none is after the year 9999.
#[derive(Clone, Debug)]
pub struct Timetable {
    rule: Rule,
    zone: Zone,
    jitter: DurationMillis,
}

#[derive(Clone, Debug)]
enum Rule {
    /// A cron expression. Boxed, because croner keeps a byte for every year.
    Wall(Box<Wall>),
    /// The same length of time again and again; the first instant is one period after the anchor.
    Every { period: DurationMillis, anchor: UnixMillis },
}

impl Timetable {
    /// Reads a timing. `anchor` is when the schedule was made: `every` counts from it, and it must be the same each
    /// time the timing is read.
    ///
    /// # Errors
    /// [`TimetableError`] names the part that can't be read, or says that the schedule would never fire.
    pub fn parse(timing: &Timing, anchor: UnixMillis) -> Result<Self, TimetableError> {
        let text = timing.text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(TimetableError::TooLong { found: text.len() });
        }
        if timing.jitter_ms > JITTER_MAX {
            return Err(TimetableError::Jitter { found: timing.jitter_ms });
        }
        let zone = Zone::parse(&timing.zone)?;
        let rule = match period_of(text) {
            Some(length) => Rule::Every { period: parse_period(length)?, anchor },
            None => {
                let expression = Expression::parse(expression_of(text)?)?;
                Rule::Wall(Box::new(Wall::new(expression, zone, seconds(anchor))?))
            }
        };
        Ok(Self { rule, zone, jitter: timing.jitter_ms })
    }

    /// The first instant after `at`; none once the calendar ends.
    #[must_use]
    pub fn next_after(&self, at: UnixMillis) -> Option<UnixMillis> {
        match &self.rule {
            Rule::Wall(wall) => wall.next_after(seconds(at)).and_then(instant),
            Rule::Every { period, anchor } => {
                let turns = (at.0.saturating_sub(anchor.0) / period.0).checked_add(1)?;
                let next = anchor.0.checked_add(period.0.checked_mul(turns)?)?;
                Some(UnixMillis(next)).filter(|next| seconds(*next) <= END_SECS)
            }
        }
    }

    /// The last instant that is not after `at`; none if there was none yet.
    ///
    /// Costs about as much as [`Self::next_after`], however long ago the instant is.
    #[must_use]
    pub fn latest_at_or_before(&self, at: UnixMillis) -> Option<UnixMillis> {
        match &self.rule {
            Rule::Wall(wall) => wall.latest_at_or_before(seconds(at)).and_then(instant),
            Rule::Every { period, anchor } => {
                let end = u64::try_from(END_SECS).unwrap_or(0).saturating_mul(1000).saturating_add(999);
                let turns = at.0.min(end).checked_sub(anchor.0)? / period.0;
                Some(UnixMillis(anchor.0 + turns * period.0)).filter(|_| turns > 0)
            }
        }
    }

    /// The instants after `from_exclusive` and up to `to_inclusive`, oldest first, the first `limit` of them.
    #[must_use]
    pub fn between(&self, from_exclusive: UnixMillis, to_inclusive: UnixMillis, limit: usize) -> Vec<UnixMillis> {
        let next = |at: &UnixMillis| self.next_after(*at);
        let instants = std::iter::successors(next(&from_exclusive), next);
        instants.take_while(|at| *at <= to_inclusive).take(limit).collect()
    }

    /// The instants after `last`, the newest one already fired, that must fire at `now`: oldest first, the newest
    /// `limit` of them.
    ///
    /// The same call serves the tick of an ordinary minute, the start of a node that was down and a clock that was set
    /// forward. Nothing comes of a clock that was set back: `now` is before `last` then. The newest instant is fired under
    /// every policy if it comes no more than a minute late; one whose jitter has not run out is not late at all, and is
    /// among those returned though [`Self::jittered`] may put its firing still ahead.
    #[must_use]
    pub fn missed(&self, last: UnixMillis, now: UnixMillis, catch_up: CatchUp, limit: usize) -> Vec<UnixMillis> {
        let (reach, limit) = match catch_up {
            CatchUp::None => (LATE_MAX, limit.min(1)),
            CatchUp::Latest => (DurationMillis(u64::MAX), limit.min(1)),
            CatchUp::Window(window) => (window, limit),
        };
        let mut found = Vec::new();
        let mut newest = self.latest_at_or_before(now);
        while let Some(at) = newest.filter(|at| *at > last && found.len() < limit) {
            let reach = if found.is_empty() { reach.max(LATE_MAX) } else { reach };
            if now.since(at) > reach.plus(self.jitter_of(at)) {
                break;
            }
            found.push(at);
            newest = at.0.checked_sub(1).and_then(|before| self.latest_at_or_before(UnixMillis(before)));
        }
        found.reverse();
        found
    }

    /// When the instant `at` of the schedule `name` is to fire: at it, or later by less than the jitter.
    ///
    /// The same for the same name and instant on every node and after every restart. Always before the next instant,
    /// so that firings keep their order.
    #[must_use]
    pub fn jittered(&self, at: UnixMillis, name: &str) -> UnixMillis {
        let jitter = self.jitter_of(at);
        if jitter.0 == 0 {
            return at;
        }
        let mut hasher = blake3::Hasher::new_derive_key("jobmesh 2025 jitter of a schedule");
        hasher.update(&at.0.to_le_bytes()).update(name.as_bytes());
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        at.plus(DurationMillis(u64::from_le_bytes(bytes) % jitter.0))
    }

    /// Refuses a jitter that is longer than any pause between instants: it would be cut at each of them. The pauses
    /// that are looked at do not depend on the time of the question, so what was taken once is taken for ever.
    ///
    /// # Errors
    /// [`TimetableError::JitterPause`].
    pub fn check_jitter(&self) -> Result<(), TimetableError> {
        let mut longest = DurationMillis(0);
        let mut place = match &self.rule {
            Rule::Wall(_) => UnixMillis(0),
            Rule::Every { anchor, .. } => *anchor,
        };
        // A pause that is long enough holds one of the places.
        for _ in 0..PAUSES_MAX {
            let Some(next) = self.next_after(place) else { return Ok(()) };
            let before = self.latest_at_or_before(place).unwrap_or(place);
            longest = longest.max(next.since(before));
            if self.jitter <= longest {
                return Ok(());
            }
            place = place.plus(self.jitter);
        }
        Err(TimetableError::JitterPause { found: self.jitter, longest })
    }

    /// The jitter, or the time to the next instant if that is shorter.
    fn jitter_of(&self, at: UnixMillis) -> DurationMillis {
        if self.jitter.0 == 0 {
            return self.jitter;
        }
        self.next_after(at).map_or(self.jitter, |next| self.jitter.min(next.since(at)))
    }

    /// The schedule in plain English, such as `at 02:30 on Monday to Friday, Europe/Oslo time`.
    #[must_use]
    pub fn words(&self) -> String {
        let rule = match &self.rule {
            Rule::Wall(wall) => format!("{}, {} time", words::describe(wall.expression()), self.zone.name()),
            Rule::Every { period, anchor } => {
                format!("every {}, counted from {}", format_length(*period), self.wall_clock(*anchor))
            }
        };
        match self.jitter {
            DurationMillis(0) => rule,
            jitter => format!("{rule}, up to {} later", format_length(jitter)),
        }
    }

    /// What the schedule's own wall clock shows at `at`, to the second: RFC 3339 with the offset from UTC.
    #[must_use]
    pub fn wall_clock(&self, at: UnixMillis) -> String {
        self.zone.at(seconds(at)).map_or_else(|| at.to_rfc3339(), |at| at.to_rfc3339())
    }
}

/// Whole seconds since 1970, rounded down.
fn seconds(at: UnixMillis) -> i64 {
    i64::try_from(at.0 / 1000).unwrap_or(i64::MAX)
}

/// The instant of so many seconds; none before 1970.
fn instant(secs: i64) -> Option<UnixMillis> {
    u64::try_from(secs).ok()?.checked_mul(1000).map(UnixMillis)
}

/// The length in `every 5m`, `every: 5m` or `@every 5m`; none in any other text.
fn period_of(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('@').unwrap_or(text).strip_prefix("every")?;
    match rest.trim_start().strip_prefix(':') {
        Some(length) => Some(length),
        None => Some(rest).filter(|rest| rest.starts_with(|c: char| c.is_ascii_whitespace())),
    }
}

fn parse_period(length: &str) -> Result<DurationMillis, TimetableError> {
    let period = parse_length(length).ok_or_else(|| TimetableError::Length { text: length.trim().to_owned() })?;
    if period < PERIOD_MIN || period > PERIOD_MAX {
        return Err(TimetableError::Period { found: period });
    }
    Ok(period)
}

/// The cron expression that a text is or that its name stands for.
fn expression_of(text: &str) -> Result<&str, TimetableError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let lower = text.to_ascii_lowercase();
    if lower == "@reboot" {
        return Err(TimetableError::Reboot);
    }
    let found = NAMES.iter().find(|(name, _)| *name == lower);
    found.map(|(_, expression)| *expression).ok_or_else(|| TimetableError::Name { text: text.to_owned() })
}

/// Why a timing can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// The text is longer than any schedule needs.
    #[error("the schedule has {found} bytes; the limit is {TEXT_BYTES_MAX}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// `@reboot`.
    #[error("@reboot is not a time, so no schedule can have it; let the service that starts the node submit the job")]
    Reboot,
    /// A name that stands for nothing.
    #[error(
        "{text:?} is no name of a schedule; there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, \
         @annually and @every 5m"
    )]
    Name {
        /// The text.
        text: String,
    },
    /// The wrong number of fields.
    #[error(
        "the schedule has {found} fields; write 5 (minute, hour, day of the month, month, day of the week), or 6 with \
         the second in front, or a length like every 5m"
    )]
    FieldCount {
        /// How many there are.
        found: usize,
    },
    /// A part that the field does not take.
    #[error("{part:?} can't be the {field}, which takes {takes}; and *, lists, ranges and steps of these")]
    Field {
        /// The field.
        field: &'static str,
        /// The part of it.
        part: String,
        /// What it takes.
        takes: &'static str,
    },
    /// A step that is no number, zero, or longer than the field.
    #[error("{part:?} has no step that the {field} can take; write a number from 1 to {longest} after the slash")]
    Step {
        /// The field.
        field: &'static str,
        /// The part of it.
        part: String,
        /// The longest step.
        longest: u8,
    },
    /// Steps from a single number.
    #[error("{part:?} steps from a single {field}; write a range, such as {}-{highest}/{}", from(part), step(part))]
    StepFromOne {
        /// The field.
        field: &'static str,
        /// The part of it.
        part: String,
        /// The highest number of the field.
        highest: u8,
    },
    /// A range that ends before it starts.
    #[error("{part:?} runs backwards; write two ranges for the {field}, such as 22-23,0-2 for 22-2")]
    Reversed {
        /// The field.
        field: &'static str,
        /// The part of it.
        part: String,
    },
    /// A list whose members contradict each other.
    #[error("{list:?} lists something beside * or beside LW that it already covers; write the {field} as one of them")]
    Alone {
        /// The field.
        field: &'static str,
        /// The list.
        list: String,
    },
    /// `every` without a length of time.
    #[error("{text:?} is no length of time; write it like 90s, 5m or 1h30m")]
    Length {
        /// The text.
        text: String,
    },
    /// `every` with a length out of range.
    #[error("every {} is out of range; it must be {} to {}", format_length(*found), format_length(PERIOD_MIN), format_length(PERIOD_MAX))]
    Period {
        /// The length.
        found: DurationMillis,
    },
    /// A jitter out of range.
    #[error("a jitter of {} is too long; the limit is {}", format_length(*found), format_length(JITTER_MAX))]
    Jitter {
        /// The jitter.
        found: DurationMillis,
    },
    /// A jitter that is never had in full.
    #[error(
        "a jitter of {} is longer than the time between two of its instants; make it {} at most",
        format_length(*found),
        format_length(*longest)
    )]
    JitterPause {
        /// The jitter.
        found: DurationMillis,
        /// The longest pause that was found.
        longest: DurationMillis,
    },
    /// A time zone that the database does not know.
    #[error("unknown time zone {zone:?}; {}", suggestion(near))]
    Zone {
        /// The name, cut to size.
        zone: String,
        /// The names most like it, best first.
        near: Vec<&'static str>,
    },
    /// No date matches.
    #[error("the schedule never fires: no date of the next {years} years matches its days and months")]
    Never {
        /// How far was looked.
        years: i32,
    },
    /// An expression that was understood here, but not by the library that searches it.
    #[error("the schedule {text:?} can't be searched: {reason}")]
    Unreadable {
        /// The expression in numbers.
        text: String,
        /// What the library says.
        reason: String,
    },
}

fn from(part: &str) -> &str {
    part.split('/').next().unwrap_or(part)
}

fn step(part: &str) -> &str {
    part.rsplit('/').next().unwrap_or(part)
}

fn suggestion(near: &[&str]) -> String {
    match near {
        [] => "write an IANA name such as Europe/Oslo, or UTC".to_owned(),
        [one] => format!("did you mean {one}?"),
        [front @ .., last] => format!("did you mean {} or {last}?", front.join(", ")),
    }
}
