//! Which instants a wall clock's reading stands for, and what the clock reads at an instant.
//!
//! A reading is one instant, or two where the clock was set back (a **fold**), or none where it was set forward
//! (a **gap**). The hard case is an instant inside a fold: whether its reading comes for the first or the second time
//! decides what fires next. Instants are whole seconds since 1970 here; readings are dates without a zone.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};
use jobmesh_protocol::schedule::ZONE_BYTES_MAX;

use super::TimetableError;
use crate::typing::slips;

/// Names that an unknown zone is answered with, at most.
const NEAR_MAX: usize = 3;
/// The last second of the year 9999: dates beyond it can't be written, and nothing fires after it.
pub(super) const END_SECS: i64 = 253_402_300_799;

/// The clock set back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fold {
    /// The first reading that comes twice.
    pub(super) start: NaiveDateTime,
    /// The first reading after it that comes once.
    pub(super) end: NaiveDateTime,
}

/// How often the reading of an instant comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Once.
    Only,
    /// Twice, and this is the first time.
    First(Fold),
    /// Twice, and this is the second time.
    Second(Fold),
}

/// The instants of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instants {
    /// Most readings.
    One(i64),
    /// In a fold: both, in order.
    Two(i64, i64),
    /// In a gap: none.
    None {
        /// The first instant after the gap.
        after: i64,
        /// The first reading that is left out.
        start: NaiveDateTime,
        /// The first reading after the gap.
        end: NaiveDateTime,
    },
}

/// A wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zone(Tz);

impl Zone {
    /// Finds a zone by its IANA name.
    pub(super) fn parse(name: &str) -> Result<Self, TimetableError> {
        let name: String = name.trim().chars().take(ZONE_BYTES_MAX).collect();
        let found = name.parse::<Tz>().ok();
        found.map(Self).ok_or_else(|| TimetableError::Zone { near: near(&name), zone: name })
    }

    /// The IANA name.
    pub(super) fn name(self) -> &'static str {
        self.0.name()
    }

    /// The date and time at an instant.
    pub(super) fn at(self, secs: i64) -> Option<DateTime<Tz>> {
        let utc = DateTime::from_timestamp(secs, 0).filter(|_| secs <= END_SECS)?;
        Some(utc.with_timezone(&self.0))
    }

    /// What the clock reads at an instant.
    pub(super) fn reading(self, secs: i64) -> Option<NaiveDateTime> {
        self.at(secs).map(|at| at.naive_local())
    }

    /// The instants of a reading.
    pub(super) fn instants(self, reading: NaiveDateTime) -> Option<Instants> {
        match self.0.from_local_datetime(&reading) {
            MappedLocalTime::Single(at) => Some(Instants::One(at.timestamp())),
            MappedLocalTime::Ambiguous(one, other) => {
                let (one, other) = (one.timestamp(), other.timestamp());
                Some(Instants::Two(one.min(other), one.max(other)))
            }
            MappedLocalTime::None => {
                let gap = GapInfo::new(&reading, &self.0)?;
                let (start, _) = gap.begin?;
                let after = gap.end?;
                Some(Instants::None { after: after.timestamp(), start, end: after.naive_local() })
            }
        }
    }

    /// Whether the reading of an instant comes twice, and which of the two this is.
    pub(super) fn pass(self, secs: i64) -> Option<Pass> {
        let Some(Instants::Two(first, second)) = self.instants(self.reading(secs)?) else {
            return Some(Pass::Only);
        };
        let fold = self.fold(first, second)?;
        Some(if secs < second { Pass::First(fold) } else { Pass::Second(fold) })
    }

    /// The fold between two instants of one reading: bisects to the second at which the clock was set back.
    fn fold(self, first: i64, second: i64) -> Option<Fold> {
        let offset = |secs| Some(i64::from(self.at(secs)?.offset().fix().local_minus_utc()));
        let after = offset(second)?;
        let (mut before_turn, mut turn) = (first, second);
        while turn - before_turn > 1 {
            let middle = before_turn + (turn - before_turn) / 2;
            if offset(middle)? == after { turn = middle } else { before_turn = middle }
        }
        let start = self.reading(turn)?;
        Some(Fold { start, end: start.checked_add_signed(chrono::TimeDelta::try_seconds(second - first)?)? })
    }
}

/// The names most like `name`, best first: by the whole name or by the place alone.
fn near(name: &str) -> Vec<&'static str> {
    let wanted = name.to_lowercase().replace(' ', "_");
    let allowed = wanted.chars().count() / 4;
    let score = |zone: &'static str| {
        let lower = zone.to_lowercase();
        let place = lower.rsplit('/').next().unwrap_or(&lower);
        slips(&wanted, &lower).min(slips(&wanted, place))
    };
    let mut scored: Vec<(usize, &str)> = TZ_VARIANTS
        .iter()
        .map(|zone| (score(zone.name()), zone.name()))
        .filter(|(score, _)| *score <= allowed)
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(NEAR_MAX).map(|(_, zone)| zone).collect()
}
