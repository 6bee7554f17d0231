//! Percentiles and rates.

use std::time::Duration;

/// How long the same thing took, again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one length of time.
    pub(super) fn add(&mut self, length: Duration) {
        self.0.push(length);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them together.
    pub(super) fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// The length that at least `percent` of a hundred do not exceed, by nearest rank; zero if there is none.
    ///
    /// Nearest rank invents no value between two samples, so the 99th of fewer than 100 is the longest.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent.min(100)).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The middle one.
    pub(super) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(lengths: I) -> Self {
        Self(lengths.into_iter().collect())
    }
}

/// How many of `count` things were done in a second, if all took `elapsed`. Zero if no time passed.
pub(super) fn per_second(count: usize, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(millis: impl IntoIterator<Item = u64>) -> Samples {
        millis.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_samples() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.median(), Duration::from_millis(50));
        assert_eq!(hundred.percentile(99), Duration::from_millis(99));
        assert_eq!(hundred.percentile(100), Duration::from_millis(100));
        assert_eq!(hundred.percentile(0), Duration::from_millis(1));
        let few = samples([7, 3, 5]);
        assert_eq!((few.median(), few.percentile(99)), (Duration::from_millis(5), Duration::from_millis(7)));
        assert_eq!(samples([4, 2]).median(), Duration::from_millis(2));
    }

    #[test]
    fn nothing_has_no_length() {
        assert_eq!(Samples::default().median(), Duration::ZERO);
        assert_eq!(Samples::default().total(), Duration::ZERO);
    }

    #[test]
    fn rates_are_per_second() {
        assert!((per_second(500, Duration::from_millis(250)) - 2000.0).abs() < 1e-9);
        assert!(per_second(500, Duration::ZERO).abs() < 1e-9);
    }
}
