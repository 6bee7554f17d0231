//! What was counted of the jobs that ended, summed up.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jobmesh_protocol::summary::{Cell, Histogram};
use jobmesh_protocol::time::HOUR_MS;
use jobmesh_protocol::{DurationMillis, JobState, UnixMillis};
use jobmesh_store::{Metric, StoreError, View};

use super::Control;
use super::error::Answer;
use super::extract::Params;
use crate::api::{Grain, METRICS_SPAN_MAX, MetricView, Metrics, MetricsQuery};

const DAY_HOURS: u64 = 24;
const SPAN_DEFAULT: DurationMillis = DurationMillis::from_secs(86_400);

pub(super) async fn show(State(control): State<Control>, Params(query): Params<MetricsQuery>) -> Answer<Json<Metrics>> {
    let now = control.handle.wall();
    let span = query.since_ms.unwrap_or(SPAN_DEFAULT).min(METRICS_SPAN_MAX);
    let since = UnixMillis(now.0.saturating_sub(span.0));
    let read = move |view: View<'_>| {
        let counted = view.metrics(since.0 / HOUR_MS)?;
        let mut durations = Durations::new();
        if query.by != Grain::Hour {
            for day in since.day()..=now.day() {
                view.cells(day)?.into_iter().for_each(|cell| keep(&mut durations, day, cell));
            }
        }
        Ok::<_, StoreError>(rows(query.by, (since, now), &counted, &durations))
    };
    Ok(Json(Metrics { rows: control.handle.read(read).await? }))
}

/// How long attempts took that succeeded, by type and day.
type Durations = BTreeMap<String, BTreeMap<u32, Histogram>>;

fn keep(durations: &mut Durations, day: u32, cell: Cell) {
    durations.entry(cell.job_type).or_default().entry(day).or_default().merge(&cell.durations);
}

/// Sums up by time and type.
fn rows(
    grain: Grain,
    (since, now): (UnixMillis, UnixMillis),
    counted: &[Metric],
    durations: &Durations,
) -> Vec<MetricView> {
    let first = since.0 / HOUR_MS;
    let begin = |hour: u64| match grain {
        Grain::Whole => first,
        Grain::Day => (hour - hour % DAY_HOURS).max(first),
        Grain::Hour => hour,
    };
    let end = |hour: u64| match grain {
        Grain::Whole => now,
        Grain::Day => UnixMillis((hour - hour % DAY_HOURS + DAY_HOURS) * HOUR_MS).min(now),
        Grain::Hour => UnixMillis((hour + 1) * HOUR_MS).min(now),
    };
    let mut rows: BTreeMap<(u64, &str), MetricView> = BTreeMap::new();
    for metric in counted.iter().filter(|metric| metric.hour >= first) {
        let from = begin(metric.hour);
        let empty = || empty(&metric.job_type, (UnixMillis(from * HOUR_MS), end(metric.hour)));
        add(rows.entry((from, &metric.job_type)).or_insert_with(empty), metric);
    }
    for row in rows.values_mut() {
        let durations = durations_of(row, durations);
        row.p50_ms = durations.quantile(50);
        row.p90_ms = durations.quantile(90);
    }
    rows.into_values().collect()
}

fn empty(job_type: &str, (from, to): (UnixMillis, UnixMillis)) -> MetricView {
    MetricView {
        from,
        to,
        job_type: job_type.to_owned(),
        completed: 0,
        discarded: 0,
        cancelled: 0,
        skipped: 0,
        run_ms: DurationMillis(0),
        p50_ms: None,
        p90_ms: None,
    }
}

fn add(row: &mut MetricView, metric: &Metric) {
    let count = match metric.state {
        JobState::Completed => &mut row.completed,
        JobState::Discarded => &mut row.discarded,
        JobState::Cancelled => &mut row.cancelled,
        JobState::Skipped => &mut row.skipped,
        JobState::Pending
        | JobState::Scheduled
        | JobState::Available
        | JobState::Offered
        | JobState::Running
        | JobState::Suspended
        | JobState::Retryable => return,
    };
    *count = count.saturating_add(metric.jobs);
    row.run_ms = DurationMillis(row.run_ms.0.saturating_add(metric.run_ms.0));
}

/// How long the attempts took that succeeded on the days of a row.
fn durations_of(row: &MetricView, durations: &Durations) -> Histogram {
    // A day that ends at midnight does not touch the next one.
    let days = row.from.day()..=UnixMillis(row.to.0.saturating_sub(1)).day();
    let mut all = Histogram::default();
    for (_, one) in durations.get(&row.job_type).into_iter().flat_map(|of_type| of_type.range(days.clone())) {
        all.merge(one);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = DAY_HOURS * HOUR_MS;

    fn metric(hour: u64, job_type: &str, state: JobState, jobs: u64) -> Metric {
        Metric { hour, job_type: job_type.to_owned(), state, jobs, run_ms: DurationMillis(jobs * 10) }
    }

    #[test]
    fn hours_are_summed_up_by_time_and_type() {
        let counted = [
            metric(20, "a", JobState::Completed, 5),
            metric(23, "a", JobState::Completed, 2),
            metric(24, "a", JobState::Discarded, 1),
            metric(24, "b", JobState::Skipped, 3),
        ];
        let told = |grain| {
            let (since, now) = (UnixMillis(22 * HOUR_MS + 7), UnixMillis(DAY + 90 * 60_000));
            let rows = rows(grain, (since, now), &counted, &Durations::new());
            let row = |row: &MetricView| (row.from.0 / HOUR_MS, row.to.0, row.job_type.clone(), row.ended());
            rows.iter().map(row).collect::<Vec<_>>()
        };
        let now = DAY + 90 * 60_000;
        assert_eq!(told(Grain::Whole), [(22, now, "a".to_owned(), 3), (22, now, "b".to_owned(), 3)]);
        assert_eq!(
            told(Grain::Day),
            [(22, DAY, "a".to_owned(), 2), (24, now, "a".to_owned(), 1), (24, now, "b".to_owned(), 3)]
        );
        assert_eq!(told(Grain::Hour).first(), Some(&(23, DAY, "a".to_owned(), 2)));
    }

    #[test]
    fn percentiles_are_those_of_the_type_on_the_days_of_the_row() {
        let counted = [metric(1, "a", JobState::Completed, 1), metric(25, "a", JobState::Completed, 1)];
        let mut durations = Durations::new();
        for (job_type, day, ms) in [("a", 0, 100), ("a", 1, 1_000_000), ("b", 0, 50_000_000)] {
            let mut one = Histogram::default();
            one.add(DurationMillis(ms));
            durations.entry(job_type.to_owned()).or_default().insert(day, one);
        }
        let rows = rows(Grain::Day, (UnixMillis(0), UnixMillis(DAY + HOUR_MS)), &counted, &durations);
        let halves: Vec<_> = rows.iter().map(|row| row.p50_ms).collect();
        let alone = |day| durations["a"][&day].quantile(50);
        assert_eq!(halves, [alone(0), alone(1)]);
        assert_ne!(alone(0), alone(1));
    }
}
