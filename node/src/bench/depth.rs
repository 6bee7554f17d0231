//! Whether a long queue makes taking on and starting jobs slower. The floor of a row is the same at the shortest
//! queue.

use std::time::Instant;

use super::connection::ANSWER_LIMIT;
use super::error::BenchError;
use super::local::Bench;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{self, Job, Work};

const PART: Part = Part::Depth;

/// What was found at one length of the queue.
#[derive(Clone, Copy, Debug)]
struct Found {
    filled: (Figure, &'static str),
    enqueued: Figure,
    /// Time for each job.
    claimed: Figure,
}

/// Measures at each length of the queue, with a new daemon for each.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut rows = Rows::new(PART);
    let mut shortest: Option<Found> = None;
    for depth in bench.sizes.depths {
        rows.add(&format!("{depth} queued"), || {
            let found = at(bench, *depth)?;
            let base = *shortest.get_or_insert(found);
            let (filled, how) = found.filled;
            let condition = format!("one by one, N={}", bench.sizes.depth_singles);
            let enqueue = Row::new(PART, format!("{depth} queued: enqueue"), found.enqueued, condition);
            let condition = format!("noop, time each, N={}", bench.sizes.depth_drained);
            let claim = Row::new(PART, format!("{depth} queued: claim and run"), found.claimed, condition);
            Ok(vec![
                Row::new(PART, format!("{depth} queued: filled"), filled, how),
                enqueue.over(base.enqueued),
                claim.over(base.claimed),
            ])
        })?;
    }
    Ok(rows.into_rows())
}

fn at(bench: &Bench, depth: usize) -> Result<Found, BenchError> {
    let (job, drained) = (Job::new(Work::Noop), bench.sizes.depth_drained);
    let daemon = bench.site.daemon(&format!("depth-{depth}"), None)?;
    daemon.ask(&requests::pause())?;
    let mut connection = daemon.connect()?;
    let request = requests::submit(&job);
    // Jobs start in the order of their numbers, so the wait for this one is the wait for all that follow up to it.
    let first = requests::submitted(&request, &connection.ask(&request, ANSWER_LIMIT)?)?.number;
    let until = first + u64::try_from(drained).unwrap_or(u64::MAX);
    let start = Instant::now();
    // As many more as are run, so that the queue is at least that long to the end.
    let (_, how) = daemon.fill(&job, depth + drained)?;
    let filled = (Figure::rate(depth + drained, start.elapsed()), how);
    let start = Instant::now();
    for _ in 0..bench.sizes.depth_singles {
        connection.ask(&request, ANSWER_LIMIT)?;
    }
    let enqueued = Figure::rate(bench.sizes.depth_singles, start.elapsed());
    let start = Instant::now();
    connection.ask(&requests::resume(), ANSWER_LIMIT)?;
    connection.ask(&requests::wait(until), ANSWER_LIMIT)?;
    let each = start.elapsed() / u32::try_from(drained).unwrap_or(u32::MAX);
    Ok(Found { filled, enqueued, claimed: Figure::length(each) })
}
