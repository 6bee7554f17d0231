//! What there may be only one of, or only so many at once or in a time.

use clap::Args;
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Concurrency, Rate, RateLimit};
use jobmesh_protocol::submission::{Conflict, Field, Span, Unique};

use super::Draft;
use crate::cli::failure::{Failure, Kind};
use crate::cli::time_words::parse_length;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Only one, or only so many")]
pub(super) struct UniqueOptions {
    /// Have only one job of this key; the second is answered with the first, unless something else stands behind it
    ///
    /// KEY:reject refuses the second. KEY:replace lets it take the place of one that does not run. KEY:merge adds its
    /// arguments to those of one that has not started. KEY:debounce=5s lets the first one start when no further one has
    /// come for so long. KEY:throttle=1m answers with the first for so long, even if it has ended.
    ///
    /// What has started is never changed: a job that would replace it, or be merged into it, waits for its end. So does
    /// one whose arguments can't be added, since it runs another program or script, with other options, elsewhere, with
    /// another environment or input, is an array, or has too many of them.
    #[arg(long, value_name = "KEY[:WHAT]", value_parser = parse_unique)]
    unique: Option<(String, Conflict)>,
    /// What makes jobs the same, beside the key or without one: type, queue, task, label:KEY (several with commas)
    #[arg(long, value_name = "FIELD", value_delimiter = ',', value_parser = parse_field)]
    unique_by: Vec<Field>,
    /// For how long the first one is in the way: incomplete, retained, or a time [default: incomplete]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    unique_for: Option<Span>,
    /// Name this very submission: another one of that name within a day gets the answer of the first
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How many jobs of one key may run at once, such as customer-7:2
    #[arg(long, value_name = "KEY:N", value_parser = parse_concurrency)]
    concurrency_key: Option<Concurrency>,
    /// How many jobs of one key may start in a time, such as api=60/1m: never more in any stretch of that length (may be
    /// repeated)
    #[arg(long = "rate", value_name = "KEY=N/TIME", value_parser = parse_rate)]
    rates: Vec<Rate>,
}

impl UniqueOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let submission = &mut draft.submission;
        if self.unique.is_some() || !self.unique_by.is_empty() {
            let (key, on_conflict) = self.unique.map_or((None, Conflict::Return), |(key, what)| (Some(key), what));
            submission.unique = Some(Unique { key, by: self.unique_by, scope: Span::default(), on_conflict });
        }
        match (self.unique_for, &mut submission.unique) {
            (Some(scope), Some(unique)) => unique.scope = scope,
            (Some(_), None) => {
                let failure = Failure::new(Kind::Usage, "--unique-for says for how long, but nothing says of what");
                return Err(failure.hint("add --unique KEY or --unique-by FIELD"));
            }
            (None, _) => {}
        }
        submission.idempotency_key = self.idempotency_key.or_else(|| submission.idempotency_key.take());
        let spec = &mut submission.spec;
        spec.concurrency = self.concurrency_key.or_else(|| spec.concurrency.take());
        spec.rates.extend(self.rates);
        Ok(())
    }
}

fn parse_unique(text: &str) -> Result<(String, Conflict), String> {
    let Some((key, what)) = text.rsplit_once(':') else { return Ok((text.to_owned(), Conflict::Return)) };
    let conflict = match what.split_once('=') {
        None => match what {
            "return" => Some(Conflict::Return),
            "reject" => Some(Conflict::Reject),
            "replace" => Some(Conflict::Replace),
            "merge" => Some(Conflict::Merge),
            _ => None,
        },
        Some(("debounce", time)) => Some(Conflict::Debounce(parse_length(time)?)),
        Some(("throttle", time)) => Some(Conflict::Throttle(parse_length(time)?)),
        Some(_) => None,
    };
    let known = "return, reject, replace, merge, debounce=TIME or throttle=TIME";
    let wrong = || format!("{what:?} is none of {known}; a key with a colon in it needs one of these behind it");
    Ok((key.to_owned(), conflict.ok_or_else(wrong)?))
}

fn parse_field(text: &str) -> Result<Field, String> {
    match text {
        "type" => Ok(Field::Type),
        "queue" => Ok(Field::Queue),
        "task" => Ok(Field::Task),
        other => match other.strip_prefix("label:") {
            Some(label) if !label.is_empty() => Ok(Field::Label(label.to_owned())),
            Some(_) | None => Err("jobs are the same by type, queue, task or label:KEY".to_owned()),
        },
    }
}

fn parse_span(text: &str) -> Result<Span, String> {
    match text {
        "incomplete" => Ok(Span::Incomplete),
        "retained" => Ok(Span::Retained),
        time => match parse_length(time)? {
            DurationMillis(0) => Err("the time must be longer than 0".to_owned()),
            length => Ok(Span::Period(length)),
        },
    }
}

fn parse_concurrency(text: &str) -> Result<Concurrency, String> {
    let wrong = || "write it as KEY:N, such as customer-7:2".to_owned();
    let (key, limit) = text.rsplit_once(':').ok_or_else(wrong)?;
    let limit = limit.parse().map_err(|_| wrong())?;
    Ok(Concurrency { key: key.to_owned(), limit })
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    let (key, limit) = text.rsplit_once('=').ok_or_else(|| "write it as KEY=N/TIME, such as api=60/1m".to_owned())?;
    Ok(Rate { key: key.to_owned(), limit: parse_rate_limit(limit)? })
}

/// Reads `60/1m`; `60/m` is short for it.
pub(crate) fn parse_rate_limit(text: &str) -> Result<RateLimit, String> {
    let wrong = || format!("{text:?} is no rate; write it as a number in a time, such as 60/1m");
    let (count, period) = text.split_once('/').ok_or_else(wrong)?;
    let count = count.trim().parse().map_err(|_| wrong())?;
    let period = period.trim();
    let one = format!("1{period}");
    let period_ms = parse_length(if period.starts_with(|c: char| c.is_ascii_digit()) { period } else { &one });
    let limit = RateLimit { count, period_ms: period_ms.map_err(|_| wrong())? };
    limit.check().map_err(|error| error.to_string())?;
    Ok(limit)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_becomes_of_the_second_is_said_behind_the_key() {
        let second = DurationMillis(5000);
        for (text, key, conflict) in [
            ("a", "a", Conflict::Return),
            ("a:reject", "a", Conflict::Reject),
            ("a:b:debounce=5s", "a:b", Conflict::Debounce(second)),
            ("a:throttle=5s", "a", Conflict::Throttle(second)),
        ] {
            assert_eq!(parse_unique(text).unwrap(), (key.to_owned(), conflict));
        }
        for text in ["a:retrun", "a:debounce", "a:debounce=x", "a:b"] {
            assert!(parse_unique(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_read_with_their_keys() {
        let limit = RateLimit { count: 60, period_ms: DurationMillis(60_000) };
        assert_eq!(parse_rate("api=60/1m").unwrap(), Rate { key: "api".to_owned(), limit });
        assert_eq!(parse_rate_limit("60/m").unwrap(), limit);
        assert_eq!(parse_concurrency("a:b:3").unwrap(), Concurrency { key: "a:b".to_owned(), limit: 3 });
        for text in ["api", "api=60", "api=0/1m", "api=1/0s", "api=x/1m"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
