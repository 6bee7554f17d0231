//! How fast jobs are run, from the first submit until the last is durably completed.

use std::time::{Duration, Instant};

use super::connection::ANSWER_LIMIT;
use super::error::BenchError;
use super::floor::find;
use super::local::Bench;
use super::machine::cores;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{self, Job, Work};
use super::site::Daemon;

/// Measures jobs that need no process.
pub(super) fn noop_rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let (job, count) = (Job::new(Work::Noop), bench.sizes.noops);
    let floor = bench.floors.commits()?.pairs;
    let mut rows = Rows::new(Part::Noop);
    let row = |what, elapsed, condition: String| {
        vec![Row::new(Part::Noop, what, Figure::rate(count, elapsed), condition).over(floor)]
    };
    rows.add("submitted and run", || {
        let daemon = bench.site.daemon("noop", None)?;
        let (elapsed, how) = through(&daemon, &job, count)?;
        Ok(row("submitted and run", elapsed, format!("N={count}, {how}")))
    })?;
    rows.add("drained", || {
        let daemon = bench.site.daemon("noop-drain", None)?;
        daemon.ask(&requests::pause())?;
        let (last, _) = daemon.fill(&job, count)?;
        let start = Instant::now();
        daemon.ask(&requests::resume())?;
        daemon.drained(last, count)?;
        Ok(row("drained", start.elapsed(), format!("N={count}, queued before")))
    })?;
    rows.add("as one array", || {
        let daemon = bench.site.daemon("noop-array", None)?;
        let elapsed = array(&daemon, &job, count)?;
        Ok(row("as one array", elapsed, format!("N={count}, one submit")))
    })?;
    Ok(rows.into_rows())
}

/// Measures jobs that run `true`.
pub(super) fn process_rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let job = Job::new(Work::Command(vec![find("true")?.to_string_lossy().into_owned()]));
    let count = bench.sizes.processes;
    let floor = bench.floors.spawns()?.rate;
    let mut rows = Rows::new(Part::Process);
    let mut figures = Vec::new();
    rows.add("single jobs", || {
        let daemon = bench.site.daemon("process", None)?;
        let (elapsed, how) = through(&daemon, &job, count)?;
        let figure = Figure::rate(count, elapsed);
        figures.push(("single jobs against xargs", figure));
        let condition = format!("N={count}, {} slots, {how}", cores());
        Ok(vec![Row::new(Part::Process, "single jobs", figure, condition).over(floor)])
    })?;
    rows.add("as one array", || {
        let daemon = bench.site.daemon("process-array", None)?;
        let figure = Figure::rate(count, array(&daemon, &job, count)?);
        figures.push(("one array against xargs", figure));
        let condition = format!("N={count}, {} slots, one submit", cores());
        Ok(vec![Row::new(Part::Process, "as one array", figure, condition).over(floor)])
    })?;
    rows.add("against xargs", || {
        let (xargs, condition) = (bench.floors.xargs()?, format!("floor: xargs -P{}", cores()));
        let row = |(what, figure)| Row::new(Part::Process, what, figure, condition.clone()).over(xargs);
        Ok(figures.into_iter().map(row).collect())
    })?;
    Ok(rows.into_rows())
}

/// Submits so many jobs that may start at once, and waits for their end.
fn through(daemon: &Daemon, job: &Job, count: usize) -> Result<(Duration, &'static str), BenchError> {
    let start = Instant::now();
    let (last, how) = daemon.fill(job, count)?;
    daemon.drained(last, count)?;
    Ok((start.elapsed(), how))
}

fn array(daemon: &Daemon, job: &Job, count: usize) -> Result<Duration, BenchError> {
    let request = requests::array(job, count);
    let start = Instant::now();
    let submitted = requests::submitted(&request, &daemon.connect()?.ask(&request, ANSWER_LIMIT)?)?;
    daemon.drained(submitted.number, count)?;
    Ok(start.elapsed())
}
