//! Rate limits: how many may start in a time.
//!
//! A [`Log`] keeps when the last ones started. So in no stretch of time as long as the period do more start than a limit
//! allows, wherever it begins: not even twice as many around the end of a period, as with counters that begin anew or
//! with a bucket that is filled while it is emptied. A limit of thousands would make a log of thousands. What starts
//! within a thousandth of its period is therefore kept as one, under the end of that thousandth, which keeps the promise
//! and gives room back a thousandth of the period late at most.
//!
//! **The hard case** is a wall clock that is set back, after which the log lies in the future. What lies further ahead
//! than a period can't be from this clock, so it counts for nothing.

use std::collections::BTreeMap;

use jobmesh_protocol::job::RateLimit;
use jobmesh_protocol::{UnixMillis, cbor};
use jobmesh_store::StoreError;
use serde::{Deserialize, Serialize};

/// Up to so many, each start is kept by itself; and into so many parts the period of a larger limit is divided.
const PARTS: u32 = 1000;
/// Most moments of one log. Only limits of one key that have very different periods come near it; the oldest moments
/// then become one.
const MOMENTS_MAX: usize = 2048;
/// Largest encoded log: a time and a count for each moment.
const LOG_BYTES_MAX: usize = MOMENTS_MAX * 16 + 64;

/// What has started under one name, as far back as it counts for any limit of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// How many, by millisecond since 1970 UTC.
    starts: BTreeMap<u64, u32>,
    /// The longest period of the limits of this name.
    longest_ms: u64,
}

impl Log {
    /// When another one may start; `None` if now.
    pub(crate) fn next(&self, limit: RateLimit, now: UnixMillis) -> Option<UnixMillis> {
        let period = limit.period_ms.0;
        let counts = |(at, _): &(&u64, &u32)| counts(**at, period, now);
        let mut left: u64 = self.starts.iter().filter(counts).map(|(_, count)| u64::from(*count)).sum();
        if left < u64::from(limit.count) {
            return None;
        }
        for (at, count) in self.starts.iter().filter(counts) {
            left = left.saturating_sub(u64::from(*count));
            if left < u64::from(limit.count) {
                return Some(UnixMillis(at.saturating_add(period)));
            }
        }
        None
    }

    /// One more starts.
    pub(crate) fn start(&mut self, limit: RateLimit, now: UnixMillis) {
        self.longest_ms = self.longest_ms.max(limit.period_ms.0);
        self.forget(now);
        let part = if limit.count <= PARTS { 1 } else { limit.period_ms.0.div_ceil(u64::from(PARTS)).max(1) };
        let at = now.0.div_ceil(part).saturating_mul(part);
        let count = self.starts.entry(at).or_default();
        *count = count.saturating_add(1);
        while self.starts.len() > MOMENTS_MAX
            && let Some((_, oldest)) = self.starts.pop_first()
            && let Some(mut next) = self.starts.first_entry()
        {
            let count = next.get_mut();
            *count = count.saturating_add(oldest);
        }
    }

    /// Forgets what counts no more. Returns whether anything is left.
    pub(crate) fn forget(&mut self, now: UnixMillis) -> bool {
        let longest = self.longest_ms;
        self.starts.retain(|at, _| counts(*at, longest, now));
        !self.starts.is_empty()
    }

    /// The log as it is kept.
    pub(crate) fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it does not read back.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        cbor::decode(bytes, LOG_BYTES_MAX).map_err(|_| StoreError::Damaged { what: "rate limit" })
    }
}

/// Whether a start at this time counts now for a limit of this period.
const fn counts(at: u64, period: u64, now: UnixMillis) -> bool {
    at.saturating_add(period) > now.0 && at <= now.0.saturating_add(period)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use jobmesh_protocol::DurationMillis;
    use proptest::prelude::*;

    use super::*;

    fn limit(count: u32, period: u64) -> RateLimit {
        RateLimit { count, period_ms: DurationMillis(period) }
    }

    /// When each starts of those that want to at each of these times.
    fn starts(log: &mut Log, limit: RateLimit, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut starts = Vec::new();
        for now in times {
            while log.next(limit, UnixMillis(now)).is_none() {
                log.start(limit, UnixMillis(now));
                starts.push(now);
            }
        }
        starts
    }

    /// Nine of `5/5s` once started within four seconds: five at once, and one more in each second.
    #[test]
    fn no_more_start_in_a_period_than_its_limit_however_they_come() {
        let mut log = Log::default();
        let found = starts(&mut log, limit(4, 100), 1000..1201);
        assert_eq!(found, [1000, 1000, 1000, 1000, 1100, 1100, 1100, 1100, 1200, 1200, 1200, 1200]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let mut log = Log::default();
        assert_eq!(starts(&mut log, limit(1, 100), [1_000_000]), [1_000_000]);
        assert_eq!(starts(&mut log, limit(1, 100), 1000..1200), [1000, 1100]);
    }

    #[test]
    fn limits_of_one_key_count_the_same_starts_each_over_its_own_period() {
        let mut log = Log::default();
        assert_eq!(starts(&mut log, limit(2, 1000), [0, 1]), [0, 0]);
        assert_eq!(log.next(limit(2, 10), UnixMillis(9)), Some(UnixMillis(10)));
        assert_eq!(log.next(limit(2, 10), UnixMillis(10)), None);
        log.start(limit(2, 10), UnixMillis(10));
        assert_eq!(log.next(limit(2, 1000), UnixMillis(1000)), None, "the two of the beginning are over");
        assert_eq!(log.next(limit(1, 1000), UnixMillis(1000)), Some(UnixMillis(1010)));
        assert!(log.forget(UnixMillis(1009)));
        assert!(!log.forget(UnixMillis(1010)));
    }

    #[test]
    fn the_log_of_a_large_limit_stays_small_and_fits_its_column() {
        let mut log = Log::default();
        let large = limit(1_000_000, 60_000);
        for now in 0..60_000 {
            log.start(large, UnixMillis(now));
            log.start(limit(1, 60_000), UnixMillis(now));
        }
        assert!(log.starts.len() <= MOMENTS_MAX);
        assert_eq!(Log::decode(&log.encode()).unwrap(), log);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn in_no_stretch_as_long_as_the_period_do_more_start_than_allowed(
            count in prop_oneof![1_u32..6, 1001_u32..1010],
            period in 1_u64..5000,
            pauses in proptest::collection::vec(0_u64..900, 1..40),
        ) {
            let limit = limit(count, period);
            let times = pauses.iter().scan(10_000, |now, pause| {
                *now += pause;
                Some(*now)
            });
            let mut log = Log::default();
            let starts = starts(&mut log, limit, times);
            let most = usize::try_from(count).unwrap();
            for pair in starts.windows(most + 1) {
                prop_assert!(pair[most] - pair[0] >= period, "{} to {}", pair[0], pair[most]);
            }
            // Whoever waits as long as it says may start, and not much later than it might.
            let now = UnixMillis(starts.last().copied().unwrap());
            if let Some(until) = log.next(limit, now) {
                prop_assert!(until > now && until.0 <= now.0 + period + period.div_ceil(1000));
                prop_assert_eq!(log.next(limit, until), None);
            }
        }
    }
}
