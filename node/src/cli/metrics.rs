//! `jobmesh metrics`: how many jobs of which type ended how, how often, and how long they ran.

use clap::{Args, ValueEnum};
use jobmesh::api::{METRICS_SPAN_MAX, MetricView};
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::schedule::format_length;
use jobmesh_protocol::time::HOUR_MS;

use crate::cli::time_words::{length, now, parse_since};
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table};

#[derive(Args, Debug)]
#[command(
    after_help = "Jobs are counted when they have ended, and stay counted when they are deleted. The percentiles \
                        are those of attempts that succeeded, on all days (UTC) that the time touches, as far as \
                        they are among the last 14."
)]
pub(crate) struct Metrics {
    /// How far to look back, up to 395d: a length of time, or a date
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_span)]
    since: DurationMillis,
    /// How finely
    #[arg(long, value_name = "GRAIN", default_value = "whole")]
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// All of it as one
    Whole,
    /// By days (UTC)
    Day,
    /// By hours
    Hour,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

impl Metrics {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let path = format!("/v1/metrics?since_ms={}&by={}", self.since.0, self.by.word());
        let metrics: jobmesh::api::Metrics = context.client()?.get(&path).await?;
        let name = |row: &MetricView| row.job_type.clone();
        context.output.list((&metrics, &metrics.rows), name, |colour| text(&metrics.rows, self.by, colour))?;
        Ok(Exit::OK)
    }
}

fn parse_span(text: &str) -> Result<DurationMillis, String> {
    let span = now().since(parse_since(text)?);
    if span.0 == 0 || span > METRICS_SPAN_MAX {
        return Err(format!(
            "write a time or a date from 1ms to {} ago: for so long the hours are kept",
            format_length(METRICS_SPAN_MAX)
        ));
    }
    Ok(span)
}

fn text(rows: &[MetricView], by: By, colour: Colour) -> String {
    if rows.is_empty() {
        return "No job has ended in that time.\n".to_owned();
    }
    let mut table = Table::new([
        "FROM (UTC)",
        "TYPE",
        "OK",
        "FAILED",
        "CANCELLED",
        "SKIPPED",
        "PER HOUR",
        "MEAN",
        "HALF WITHIN",
        "90 % WITHIN",
    ]);
    for row in rows {
        let time = |time: Option<_>| Cell::from(time.map(length).unwrap_or_default());
        let from = row.from.to_rfc3339();
        let from = match by {
            By::Day => from.get(..10).unwrap_or_default().to_owned(),
            By::Whole | By::Hour => from.get(..16).unwrap_or_default().replace('T', " "),
        };
        let failed = if row.discarded > 0 { Style::Bad } else { Style::Plain };
        table.push([
            Cell::styled(Style::Dim, from),
            Cell::from(&row.job_type),
            Cell::from(row.completed.to_string()),
            Cell::styled(failed, row.discarded.to_string()),
            Cell::from(row.cancelled.to_string()),
            Cell::from(row.skipped.to_string()),
            Cell::from(per_hour(row)),
            time(row.run_ms.0.checked_div(row.ended()).map(DurationMillis)),
            time(row.p50_ms),
            time(row.p90_ms),
        ]);
    }
    table.render(colour, 0)
}

/// How many jobs ended in an hour, to a tenth. A time that has hardly begun says nothing of that.
fn per_hour(row: &MetricView) -> String {
    let span = row.to.since(row.from).0.max(60_000);
    let tenths = row.ended().saturating_mul(10 * HOUR_MS) / span;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::UnixMillis;

    use super::*;

    #[test]
    fn it_looks_back_by_a_length_or_to_a_date() {
        assert!(parse_span("1d").is_ok_and(|span| span.0.abs_diff(24 * HOUR_MS) < HOUR_MS));
        let yesterday = UnixMillis(now().0 - 24 * HOUR_MS).to_rfc3339();
        assert!(parse_span(yesterday.get(..10).unwrap_or_default()).is_ok_and(|span| span.0 >= 24 * HOUR_MS));
        for text in ["0s", "396d", "1999-01-01", "2999-01-01", "soon"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_counted_reads_well() {
        let row = MetricView {
            from: UnixMillis(1_767_225_600_000),
            to: UnixMillis(1_767_225_600_000 + 24 * HOUR_MS),
            job_type: "gzip".to_owned(),
            completed: 118,
            discarded: 2,
            cancelled: 0,
            skipped: 0,
            run_ms: DurationMillis(240_000),
            p50_ms: Some(DurationMillis(1_682)),
            p90_ms: None,
        };
        insta::assert_snapshot!(text(&[row], By::Day, Colour::Off), @r"
        FROM (UTC)  TYPE  OK   FAILED  CANCELLED  SKIPPED  PER HOUR  MEAN   HALF WITHIN  90 % WITHIN
        2026-01-01  gzip  118  2       0          0        5.0       2.0 s  1.6 s
        ");
        assert_eq!(text(&[], By::Day, Colour::Off), "No job has ended in that time.\n");
    }
}
