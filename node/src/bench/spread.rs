//! How fast other nodes run the jobs of one, from the first submit until the last result is durable where it was
//! submitted.

use std::time::{Duration, Instant};

use super::error::BenchError;
use super::local::Bench;
use super::meshed::Meshed;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{Job, Work};

const PART: Part = Part::Spread;
/// Jobs of a second that were promised.
const PROMISED: f64 = 1000.0;

/// Measures jobs that need no process, on one other node and on two.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut rows = Rows::new(PART);
    let mut nodes = Meshed::build(&bench.site, "spread")?;
    for what in ["noops on one other node", "noops on two other nodes"] {
        rows.add(what, || {
            nodes.grow(&bench.site)?;
            found(bench, what, drain(bench, &nodes)?)
        })?;
    }
    Ok(rows.into_rows())
}

fn drain(bench: &Bench, nodes: &Meshed) -> Result<Duration, BenchError> {
    let count = bench.sizes.spread;
    let start = Instant::now();
    let (last, _) = nodes.origin().fill(&Job::elsewhere(Work::Noop), count)?;
    nodes.origin().drained(last, count)?;
    Ok(start.elapsed())
}

fn found(bench: &Bench, what: &str, elapsed: Duration) -> Result<Vec<Row>, BenchError> {
    let count = bench.sizes.spread;
    let rate = Figure::rate(count, elapsed);
    let floor = bench.floors.commits()?.pairs;
    let condition = format!("N={count}, batches of 1,000; floor: one node without a network, nothing run");
    let verdict = if rate.is_at_least(PROMISED) { "met" } else { "missed" };
    Ok(vec![
        Row::new(PART, what, rate, condition).over(floor),
        Row::new(PART, format!("{what}, promise"), rate, format!("promise {verdict}: {PROMISED}/s at least"))
            .over(Figure::PerSecond(PROMISED)),
    ])
}
