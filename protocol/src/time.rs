//! Points in time and lengths of time. The core never asks for them: they are handed in.

use serde::{Deserialize, Serialize};

/// The milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;
/// The longest length of time that can be asked for: 100 years. Longer than any job is waited for, and so short that no
/// sum of a few of them comes near what a number or a column of a database can hold.
pub const LENGTH_MAX: DurationMillis = DurationMillis::from_secs(100 * 366 * 86_400);
/// The last date: the end of the year 9999, which is also the last one that RFC 3339 can write.
pub const DATE_MAX: UnixMillis = UnixMillis(253_402_300_799_999);

/// Milliseconds since 1970-01-01 UTC on the node's wall clock, which may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus `by`, at most [`DATE_MAX`].
    #[must_use]
    pub const fn plus(self, by: DurationMillis) -> Self {
        let sum = self.0.saturating_add(by.0);
        if sum > DATE_MAX.0 { DATE_MAX } else { Self(sum) }
    }

    /// How long it is since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> DurationMillis {
        DurationMillis(self.0.saturating_sub(earlier.0))
    }

    /// Whole days since 1970-01-01 UTC: the day of a learning summary.
    #[must_use]
    pub fn day(self) -> u32 {
        u32::try_from(self.0 / 86_400_000).unwrap_or(u32::MAX)
    }

    /// RFC 3339 in UTC, to the millisecond.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        i64::try_from(self.0).ok().and_then(chrono::DateTime::from_timestamp_millis).map_or_else(
            || format!("{} ms after 1970", self.0),
            |at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        )
    }
}

/// Milliseconds on a clock that never jumps and runs on while the machine sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoMillis(pub u64);

impl MonoMillis {
    /// This time plus `by`.
    #[must_use]
    pub const fn plus(self, by: DurationMillis) -> Self {
        Self(self.0.saturating_add(by.0))
    }

    /// How long it is since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> DurationMillis {
        DurationMillis(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationMillis(pub u64);

impl DurationMillis {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// The length times `numerator / denominator`, rounded down.
    #[must_use]
    pub const fn scale(self, numerator: u64, denominator: u64) -> Self {
        Self(self.0.saturating_mul(numerator) / denominator)
    }

    /// The sum of two lengths.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Both clocks, read together.
///
/// Leases are counted on `mono`; what is written down or signed carries `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The clock for lengths of time.
    pub mono: MonoMillis,
    /// The clock for dates.
    pub wall: UnixMillis,
}
