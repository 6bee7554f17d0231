//! Whether, after what, and how soon a job is tried again.

use clap::{Args, ValueEnum};
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::retry::{self, ATTEMPTS_MAX, Backoff, CRASHES_MAX, Growth, Jitter};

use super::Draft;
use crate::cli::time_words::parse_length;

/// The longest wait of a backoff that names only its first.
const WAIT_MAX_DEFAULT: DurationMillis = DurationMillis::from_secs(600);

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Tries")]
pub(super) struct TriesOptions {
    /// How often to try again after it failed [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..i64::from(ATTEMPTS_MAX)))]
    retries: Option<u32>,
    /// How long to wait before a retry: exp:2s..10m doubles, fixed:30s, or one after the other 1s,5s,1m;
    /// with ,jitter=none|half|full behind it
    #[arg(long, value_name = "WAITS", value_parser = parse_backoff)]
    backoff: Option<Backoff>,
    /// Try again only after these: exit=75, exit=1-9, signal=9, timeout, error (several with commas)
    #[arg(long, value_name = "FAILURE", value_delimiter = ',', value_parser = parse_failure)]
    retry_on: Vec<retry::Failure>,
    /// Never try again after these
    #[arg(long, value_name = "FAILURE", value_delimiter = ',', value_parser = parse_failure)]
    fail_on: Vec<retry::Failure>,
    /// How many attempts may vanish with their process or node before the job is given up [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(CRASHES_MAX)))]
    crash_limit: Option<u32>,
    /// How often it may ask to go on later [default: without limit]
    #[arg(long, value_name = "N")]
    max_snoozes: Option<u32>,
    /// What running it twice would do: decides whether it is run again after its node was lost [default: idempotent]
    #[arg(long, value_name = "EFFECTS")]
    effects: Option<EffectsWord>,
}

/// What running a job a second time would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EffectsWord {
    /// Nothing but its output depends on it
    Pure,
    /// Twice is as good as once
    Idempotent,
    /// It must not run again once it may have started
    Once,
}

impl From<EffectsWord> for Effects {
    fn from(word: EffectsWord) -> Self {
        match word {
            EffectsWord::Pure => Self::Pure,
            EffectsWord::Idempotent => Self::Idempotent,
            EffectsWord::Once => Self::Once,
        }
    }
}

impl TriesOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) {
        let spec = &mut draft.submission.spec;
        let retry = &mut spec.retry;
        retry.max_attempts = self.retries.map_or(retry.max_attempts, |retries| retries.saturating_add(1));
        if let Some(backoff) = self.backoff {
            retry.backoff = backoff;
        }
        if !self.retry_on.is_empty() {
            retry.retry_on = self.retry_on;
        }
        if !self.fail_on.is_empty() {
            retry.fail_on = self.fail_on;
        }
        retry.crash_limit = self.crash_limit.unwrap_or(retry.crash_limit);
        retry.max_snoozes = self.max_snoozes.or(retry.max_snoozes);
        spec.effects = self.effects.map_or(spec.effects, Effects::from);
    }
}

fn parse_failure(text: &str) -> Result<retry::Failure, String> {
    let examples = "a failure is exit=75, exit=1-9, signal=9, timeout or error";
    text.parse().map_err(|_| examples.to_owned())
}

/// Reads `exp:2s..10m`, `2s..10m`, `fixed:30s` or `1s,5s,1m`, each with `,jitter=WORD` behind it if so wanted.
pub(crate) fn parse_backoff(text: &str) -> Result<Backoff, String> {
    let (waits, jitter) = match text.rsplit_once(",jitter=") {
        None => (text, Jitter::default()),
        Some((waits, "none")) => (waits, Jitter::None),
        Some((waits, "half")) => (waits, Jitter::Half),
        Some((waits, "full")) => (waits, Jitter::Full),
        Some((_, word)) => return Err(format!("{word:?} is no jitter; write jitter=none, jitter=half or jitter=full")),
    };
    let growth = if let Some(wait) = waits.strip_prefix("fixed:") {
        Growth::Fixed { wait_ms: parse_length(wait)? }
    } else if waits.contains(',') {
        let waits_ms: Result<Vec<_>, String> =
            waits.trim_start_matches("custom:").split(',').map(parse_length).collect();
        Growth::Custom { waits_ms: waits_ms? }
    } else {
        exponential(waits.trim_start_matches("exp:"))?
    };
    Ok(Backoff { growth, jitter })
}

fn exponential(text: &str) -> Result<Growth, String> {
    let (base_ms, max_ms) = match text.split_once("..") {
        Some((base, max)) => (parse_length(base)?, parse_length(max)?),
        None => (parse_length(text)?, WAIT_MAX_DEFAULT.max(parse_length(text)?)),
    };
    if max_ms < base_ms {
        return Err("the longest wait is shorter than the first".to_owned());
    }
    Ok(Growth::Exponential { base_ms, max_ms })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_backoff_is_read_in_all_its_forms() {
        let (second, minute) = (DurationMillis(1000), DurationMillis(60_000));
        let growth = |text| parse_backoff(text).unwrap().growth;
        assert_eq!(growth("exp:1s..1m"), Growth::Exponential { base_ms: second, max_ms: minute });
        assert_eq!(growth("1s..1m"), growth("exp:1s..1m"));
        let hour = DurationMillis(3_600_000);
        assert_eq!(growth("1h"), Growth::Exponential { base_ms: hour, max_ms: hour });
        assert_eq!(growth("fixed:1m"), Growth::Fixed { wait_ms: minute });
        assert_eq!(growth("1s,1m"), Growth::Custom { waits_ms: vec![second, minute] });
        assert_eq!(parse_backoff("1s,1m,jitter=full").unwrap().jitter, Jitter::Full);
        assert_eq!(parse_backoff("fixed:1s,jitter=none").unwrap().jitter, Jitter::None);
    }

    #[test]
    fn a_backoff_that_makes_no_sense_is_refused() {
        for text in ["", "2m..1m", "fixed:", "1s,,2s", "exp:1s..", "1s,jitter=some", "30"] {
            assert!(parse_backoff(text).is_err(), "{text}");
        }
    }
}
