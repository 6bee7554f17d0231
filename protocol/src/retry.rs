//! What happens after an attempt that did not succeed: whether there is another one, and when.
//!
//! A failure is matched against `fail_on` first (it would only repeat itself, so the job is given up), then against
//! `retry_on` (if that names anything, a failure that it does not name is given up too). Crashes, which are attempts
//! that vanished with their process or node, are counted apart: a job that takes its nodes down must stop at some
//! point, but an unlucky one must not use up its attempts.

use serde::{Deserialize, Serialize};

use crate::outcome::{Exit, Outcome};
use crate::time::DurationMillis;

/// Most attempts that a job may ask for.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Most crashes that a job may ask to survive.
pub const CRASHES_MAX: u32 = 1000;
/// Most kinds of failure in one list.
pub const FAILURES_MAX: usize = 32;
/// Most waits of a custom backoff.
pub const WAITS_MAX: usize = 64;
/// Longest wait before a retry: a year.
pub const WAIT_MAX: DurationMillis = DurationMillis::from_secs(366 * 86_400);

/// How often and when a job is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How many attempts may fail in all; 1 never retries.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// How long to wait before the next one.
    #[serde(default)]
    pub backoff: Backoff,
    /// The failures after which to try again; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<Failure>,
    /// The failures after which never to try again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail_on: Vec<Failure>,
    /// How many attempts may vanish; one more ends the job.
    #[serde(default = "default_crash_limit")]
    pub crash_limit: u32,
    /// How often an attempt may ask to be continued later; none is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_snoozes: Option<u32>,
}

const fn default_max_attempts() -> u32 {
    1
}

const fn default_crash_limit() -> u32 {
    5
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: default_max_attempts(),
            backoff: Backoff::default(),
            retry_on: Vec::new(),
            fail_on: Vec::new(),
            crash_limit: default_crash_limit(),
            max_snoozes: None,
        }
    }
}

impl Retry {
    /// Whether a failure of this kind may be followed by another attempt, attempts left or not.
    #[must_use]
    pub fn may_follow(&self, outcome: &Outcome, exit: Exit) -> bool {
        let names = |list: &[Failure]| list.iter().any(|failure| failure.matches(outcome, exit));
        !names(&self.fail_on) && (self.retry_on.is_empty() || names(&self.retry_on))
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`RetryError`] names the field and its range.
    pub fn check(&self) -> Result<(), RetryError> {
        if self.max_attempts == 0 || self.max_attempts > ATTEMPTS_MAX {
            return Err(RetryError::Attempts { found: self.max_attempts });
        }
        if self.crash_limit > CRASHES_MAX {
            return Err(RetryError::Crashes { found: self.crash_limit });
        }
        let longest = self.retry_on.len().max(self.fail_on.len());
        if longest > FAILURES_MAX {
            return Err(RetryError::Failures { found: longest });
        }
        self.backoff.check()
    }
}

/// A kind of failure, as `retry_on` and `fail_on` name it: `exit=75`, `exit=1-9`, `signal=9`, `timeout`, `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// An exit code in this range, both ends included.
    Exit {
        /// The lowest code.
        from: i32,
        /// The highest code.
        to: i32,
    },
    /// Ended by this signal.
    Signal(i32),
    /// It ran too long.
    Timeout,
    /// Any failure.
    Error,
}

impl Failure {
    fn matches(self, outcome: &Outcome, exit: Exit) -> bool {
        match self {
            Self::Exit { from, to } => exit.code.is_some_and(|code| (from..=to).contains(&code)),
            Self::Signal(signal) => exit.signal == Some(signal),
            Self::Timeout => matches!(outcome, Outcome::Timeout),
            Self::Error => true,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit { from, to } if from == to => write!(f, "exit={from}"),
            Self::Exit { from, to } => write!(f, "exit={from}-{to}"),
            Self::Signal(signal) => write!(f, "signal={signal}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Error => f.write_str("error"),
        }
    }
}

impl std::str::FromStr for Failure {
    type Err = RetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || RetryError::Failure { text: text.to_owned() };
        let number = |text: &str| text.trim().parse::<i32>().map_err(|_| wrong());
        match text.trim().split_once('=') {
            Some(("exit", codes)) => {
                let (from, to) = codes.split_once('-').unwrap_or((codes, codes));
                let (from, to) = (number(from)?, number(to)?);
                if from > to { Err(wrong()) } else { Ok(Self::Exit { from, to }) }
            }
            Some(("signal", signal)) => Ok(Self::Signal(number(signal)?)),
            Some(_) => Err(wrong()),
            None if text.trim() == "timeout" => Ok(Self::Timeout),
            None if text.trim() == "error" => Ok(Self::Error),
            None => Err(wrong()),
        }
    }
}

/// How long to wait before a retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// How the wait grows with every failure.
    pub growth: Growth,
    /// How much of it is left to chance, so that many jobs that failed together do not come back together.
    #[serde(default)]
    pub jitter: Jitter,
}

/// How a wait grows with the failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// `base × 2^(failures − 1)`, at most `max`.
    Exponential {
        /// The wait after the first failure.
        base_ms: DurationMillis,
        /// The longest wait.
        max_ms: DurationMillis,
    },
    /// Always the same.
    Fixed {
        /// The wait.
        wait_ms: DurationMillis,
    },
    /// One after the other; the last one is repeated.
    Custom {
        /// The waits.
        waits_ms: Vec<DurationMillis>,
    },
}

/// How much of a wait is left to chance (AWS Architecture Blog, *Exponential Backoff And Jitter*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Nothing.
    None,
    /// The upper half, so that a retry never comes at once.
    #[default]
    Half,
    /// All of it.
    Full,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(DurationMillis::from_secs(2), DurationMillis::from_secs(600))
    }
}

impl Backoff {
    /// A wait that doubles from `base` up to `max`, with the usual jitter.
    #[must_use]
    pub const fn exponential(base: DurationMillis, max: DurationMillis) -> Self {
        Self { growth: Growth::Exponential { base_ms: base, max_ms: max }, jitter: Jitter::Half }
    }

    /// The wait after `failures` failures (≥ 1), jittered by `random`.
    #[must_use]
    pub fn wait(&self, failures: u32, random: u64) -> DurationMillis {
        let before = failures.saturating_sub(1);
        let whole = match &self.growth {
            Growth::Exponential { base_ms, max_ms } => base_ms.0.saturating_mul(1 << before.min(40)).min(max_ms.0),
            Growth::Fixed { wait_ms } => wait_ms.0,
            Growth::Custom { waits_ms } => {
                let at = usize::try_from(before).unwrap_or(usize::MAX);
                waits_ms.get(at).or(waits_ms.last()).map_or(0, |wait| wait.0)
            }
        };
        let least = match self.jitter {
            Jitter::None => whole,
            Jitter::Half => whole / 2,
            Jitter::Full => 0,
        };
        DurationMillis(least + random % (whole - least + 1))
    }

    fn check(&self) -> Result<(), RetryError> {
        let longest = match &self.growth {
            Growth::Exponential { base_ms, max_ms } if max_ms < base_ms => return Err(RetryError::Order),
            Growth::Exponential { max_ms, .. } => *max_ms,
            Growth::Fixed { wait_ms } => *wait_ms,
            Growth::Custom { waits_ms } if waits_ms.is_empty() || waits_ms.len() > WAITS_MAX => {
                return Err(RetryError::Waits { found: waits_ms.len() });
            }
            Growth::Custom { waits_ms } => waits_ms.iter().copied().max().unwrap_or_default(),
        };
        if longest > WAIT_MAX { Err(RetryError::Wait) } else { Ok(()) }
    }
}

/// What is wrong with a retry policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// Attempts out of range.
    #[error("max_attempts is {found}; it must be 1 to {ATTEMPTS_MAX}")]
    Attempts {
        /// The number found.
        found: u32,
    },
    /// Crash limit out of range.
    #[error("crash_limit is {found}; it must be 0 to {CRASHES_MAX}")]
    Crashes {
        /// The number found.
        found: u32,
    },
    /// Too many kinds of failure.
    #[error("retry_on or fail_on names {found} failures; the limit is {FAILURES_MAX}")]
    Failures {
        /// How many.
        found: usize,
    },
    /// Not a kind of failure.
    #[error("{text:?} is no failure; write exit=75, exit=1-9, signal=9, timeout or error")]
    Failure {
        /// What was written.
        text: String,
    },
    /// The longest wait is below the first one.
    #[error("the longest backoff is shorter than the first one")]
    Order,
    /// No waits, or too many.
    #[error("the backoff lists {found} waits; it must be 1 to {WAITS_MAX}")]
    Waits {
        /// How many.
        found: usize,
    },
    /// A wait beyond all sense.
    #[error("a backoff may wait a year at most")]
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_stays_in_the_upper_half() {
        let backoff = Backoff::exponential(DurationMillis(100), DurationMillis(1000));
        assert_eq!(backoff.wait(1, 0), DurationMillis(50));
        assert_eq!(backoff.wait(1, 50), DurationMillis(100));
        assert_eq!(backoff.wait(3, 0), DurationMillis(200));
        assert_eq!(backoff.wait(u32::MAX, 500), DurationMillis(1000));
    }

    #[test]
    fn a_custom_backoff_repeats_its_last_wait_and_a_fixed_one_its_only_one() {
        let waits_ms = vec![DurationMillis(1), DurationMillis(5)];
        let backoff = Backoff { growth: Growth::Custom { waits_ms }, jitter: Jitter::None };
        assert_eq!([1, 2, 3].map(|failures| backoff.wait(failures, 9).0), [1, 5, 5]);
        let fixed = Backoff { growth: Growth::Fixed { wait_ms: DurationMillis(10) }, jitter: Jitter::Full };
        assert_eq!([0, 4, 10, 11].map(|random| fixed.wait(7, random).0), [0, 4, 10, 0]);
    }

    #[test]
    fn fail_on_wins_over_retry_on_and_retry_on_excludes_what_it_does_not_name() {
        let parse = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<Failure>>();
        let retry =
            Retry { retry_on: parse(&["exit=70-79", "timeout"]), fail_on: parse(&["exit=77"]), ..Retry::default() };
        let error = Outcome::Error { message: String::new(), retry_after_ms: None };
        let ends = |code| retry.may_follow(&error, Exit { code: Some(code), signal: None });
        assert_eq!([75, 77, 1].map(ends), [true, false, false]);
        assert!(retry.may_follow(&Outcome::Timeout, Exit { code: None, signal: Some(15) }));
    }

    #[test]
    fn failures_read_back_and_nonsense_is_refused() {
        for text in ["exit=75", "exit=1-9", "signal=9", "timeout", "error"] {
            assert_eq!(text.parse::<Failure>().map(|failure| failure.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "exit", "exit=x", "exit=9-1", "signal=", "oops"] {
            assert!(text.parse::<Failure>().is_err(), "{text}");
        }
    }
}
