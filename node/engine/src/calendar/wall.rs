//! A cron expression on a wall clock: which instants fire.
//!
//! croner searches the dates without a zone, and this file decides what becomes of a match that the clock reads twice
//! or never. **In a gap** matches fire once, together, at the first instant after it. **In a fold** a match fires the
//! first time only. That is right for an appointment (`30 2 * * *`) and wrong for a beat (`*/5 * * * *`), which would
//! pause for an hour or get a stroke too many, so, as in vixie cron, a beat simply follows the clock:
//!
//! - with a star for the minute, or with every hour, a schedule fires in both passes of a fold;
//! - with every hour, nothing is made up for after a gap: the same minute comes again an hour later anyway.
//!
//! vixie cron also takes `0 */2 * * *` for a beat, loses its run in a gap and doubles it in a fold. Here it is an
//! appointment at twelve hours of the day.
//!
//! Both searches rest on this: as readings grow, the first instants that they stand for never get smaller. So only an
//! instant inside a fold needs a second look.

use chrono::{Datelike, NaiveDateTime};
use croner::Cron;

use super::TimetableError;
use super::expression::Expression;
use super::zone::{END_SECS, Instants, Pass, Zone};

/// The longest that a date can keep one waiting, in years: 29 February on a given weekday comes after 28 years, and
/// after 40 where a century without a leap day lies between. Whatever has not come by then never comes.
const WAIT_YEARS_MAX: i32 = 41;

/// An expression read by a clock.
#[derive(Clone, Debug)]
pub(super) struct Wall {
    expression: Expression,
    pattern: Cron,
    zone: Zone,
    /// Whether it fires in both passes of a fold.
    repeats: bool,
    /// Whether what falls into a gap is left out.
    skips: bool,
}

impl Wall {
    /// Puts an expression on a clock; `from` is where the search for a first date starts.
    pub(super) fn new(expression: Expression, zone: Zone, from: i64) -> Result<Self, TimetableError> {
        let skips = expression.hour.is_all();
        let is_beat = expression.minute.starts_with_star() || expression.minute.is_all();
        let ticks = is_beat && expression.minute.numbers().len() > 1;
        let wall = Self { pattern: expression.pattern()?, repeats: skips || ticks, skips, zone, expression };
        wall.check_fires(from)?;
        Ok(wall)
    }

    fn check_fires(&self, from: i64) -> Result<(), TimetableError> {
        let from = self.zone.reading(from).unwrap_or_default();
        let found = self.at_or_after(from);
        match found {
            Some(found) if found.year() - from.year() <= WAIT_YEARS_MAX => Ok(()),
            Some(_) | None => Err(TimetableError::Never { years: WAIT_YEARS_MAX }),
        }
    }

    /// The expression.
    pub(super) const fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The first instant after `after` that fires.
    pub(super) fn next_after(&self, after: i64) -> Option<i64> {
        let reading = self.zone.reading(after)?;
        let found = match self.zone.pass(after)? {
            // Every match of the fold has fired once the second pass has begun.
            Pass::Second(fold) if !self.repeats => self.first(self.at_or_after(fold.end)?, after),
            Pass::First(_) if !self.repeats => self.first(self.after(reading)?, after),
            Pass::Only | Pass::Second(_) => self.first(self.after(reading)?, after),
            Pass::First(fold) => {
                let ahead = self.after(reading).and_then(|reading| self.first(reading, after));
                let again = self.at_or_after(fold.start).filter(|reading| *reading < fold.end);
                let again = again.and_then(|reading| match self.zone.instants(reading)? {
                    Instants::Two(_, second) => Some(second),
                    Instants::One(_) | Instants::None { .. } => None,
                });
                [ahead, again].into_iter().flatten().min()
            }
        };
        found.filter(|secs| *secs <= END_SECS)
    }

    /// The last instant that fires and is not after `at`.
    pub(super) fn latest_at_or_before(&self, at: i64) -> Option<i64> {
        let at = at.min(END_SECS);
        let reading = self.zone.reading(at)?;
        let reading = match self.zone.pass(at)? {
            Pass::Only | Pass::First(_) => self.at_or_before(reading)?,
            Pass::Second(fold) => {
                // The second pass may not have come to a match yet that the first one has.
                let again = self.at_or_before(reading).filter(|found| self.repeats && *found >= fold.start);
                again.or_else(|| self.before(fold.end))?
            }
        };
        self.last(reading, at)
    }

    /// The first instant after `after` of this match or, if it is left out, of the next.
    fn first(&self, mut reading: NaiveDateTime, after: i64) -> Option<i64> {
        loop {
            match self.zone.instants(reading)? {
                Instants::One(instant) => return Some(instant),
                Instants::Two(first, second) => return Some(if first > after { first } else { second }),
                Instants::None { after, .. } if !self.skips => return Some(after),
                // Readings only grow, and croner's end with the year 5000.
                Instants::None { end, .. } => reading = self.at_or_after(end)?,
            }
        }
    }

    /// The last instant of this match that is not after `at` or, if it is left out, of the match before.
    fn last(&self, mut reading: NaiveDateTime, at: i64) -> Option<i64> {
        loop {
            match self.zone.instants(reading)? {
                Instants::One(instant) => return Some(instant),
                Instants::Two(_, second) if self.repeats && second <= at => return Some(second),
                Instants::Two(first, _) => return Some(first),
                Instants::None { after, .. } if !self.skips => return Some(after),
                Instants::None { start, .. } => reading = self.before(start)?,
            }
        }
    }

    // croner's errors here all mean that it left the years it searches: there is no such match.

    fn after(&self, reading: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_next_occurrence(&reading, false).ok()
    }

    fn at_or_after(&self, reading: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_next_occurrence(&reading, true).ok()
    }

    fn before(&self, reading: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_previous_occurrence(&reading, false).ok()
    }

    fn at_or_before(&self, reading: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_previous_occurrence(&reading, true).ok()
    }
}
