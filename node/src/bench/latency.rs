//! How long one job takes on an idle node.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jobmesh_executors::{Stream, log_path};
use jobmesh_protocol::{Epoch, RunId};

use super::connection::ANSWER_LIMIT;
use super::error::BenchError;
use super::floor::find;
use super::local::Bench;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{self, Job, Work};
use super::site::{self, Daemon};
use super::statistics::Samples;

const PART: Part = Part::Latency;
/// What lies between two jobs, so that nothing of the last one is left to do.
const REST: Duration = Duration::from_millis(3);

/// Measures one job at a time, through the socket and through the command line.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let daemon = bench.site.daemon("latency", None)?;
    let program = find("true")?;
    let (spawn, commit) = (bench.floors.spawns()?.median, bench.floors.commits()?.median);
    let mut rows = Rows::new(PART);
    rows.add("submit to done, noop", || {
        let samples = submits(bench, &daemon, &Job::new(Work::Noop))?;
        let floor = (2 * commit, "2 commits");
        Ok(pair("submit to done, noop", &samples, "API", floor))
    })?;
    rows.add("submit to done, true", || {
        let job = Job::new(Work::Command(vec![program.to_string_lossy().into_owned()]));
        let floor = (spawn + 2 * commit, "a spawn, 2 commits");
        Ok(pair("submit to done, true", &submits(bench, &daemon, &job)?, "API", floor))
    })?;
    rows.add("submit to start", || {
        let floor = (spawn + commit, "a spawn, a commit");
        Ok(pair("submit to start", &starts(bench, &daemon)?, "API, the job's own clock", floor))
    })?;
    rows.add("jobmesh run -- true", || {
        let floor = (2 * (spawn + commit), "2 spawns, 2 commits");
        Ok(pair("jobmesh run -- true", &commands(bench, &daemon, &program)?, "a new process each", floor))
    })?;
    Ok(rows.into_rows())
}

/// The two rows of a latency. The floor is what the medians of its parts add up to.
fn pair(what: &str, samples: &Samples, how: &str, (floor, parts): (Duration, &str)) -> Vec<Row> {
    let condition = format!("N={}, {how}; floor: {parts}", samples.len());
    let floor = Figure::length(floor);
    let p50 = Row::new(PART, format!("{what}, p50"), Figure::length(samples.median()), condition);
    let p99 = Row::new(PART, format!("{what}, p99"), Figure::length(samples.percentile(99)), String::new());
    vec![p50.over(floor), p99.over(floor)]
}

/// Submits a job, waits for its end, and again.
fn submits(bench: &Bench, daemon: &Daemon, job: &Job) -> Result<Samples, BenchError> {
    let request = requests::submit(job);
    let mut connection = daemon.connect()?;
    let mut samples = Samples::default();
    for _ in 0..bench.sizes.latencies {
        bench.stop.rest(REST)?;
        let start = Instant::now();
        let number = requests::submitted(&request, &connection.ask(&request, ANSWER_LIMIT)?)?.number;
        let wait = requests::wait(number);
        let ended = connection.ask(&wait, ANSWER_LIMIT)?;
        samples.add(start.elapsed());
        requests::completed(&wait, &ended)?;
    }
    Ok(samples)
}

/// Submits a job that prints what time it is, so that no clock but the machine's own is asked.
fn starts(bench: &Bench, daemon: &Daemon) -> Result<Samples, BenchError> {
    let date = find("date")?.to_string_lossy().into_owned();
    let request = requests::submit(&Job::new(Work::Command(vec![date, "+%s%N".to_owned()])));
    let mut connection = daemon.connect()?;
    let mut samples = Samples::default();
    for _ in 0..bench.sizes.latencies.min(200) {
        bench.stop.rest(REST)?;
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let job = requests::submitted(&request, &connection.ask(&request, ANSWER_LIMIT)?)?;
        connection.ask(&requests::wait(job.number), ANSWER_LIMIT)?;
        let directory = daemon.home().run(RunId { job: job.id, epoch: Epoch(1) });
        samples.add(printed(&log_path(&directory, Stream::Stdout))?.saturating_sub(before));
    }
    Ok(samples)
}

/// The time since 1970 in nanoseconds that a job has printed.
fn printed(path: &Path) -> Result<Duration, BenchError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| BenchError::File { action: "read", path: path.to_owned(), source })?;
    // Some systems' `date` knows no nanoseconds and prints an N.
    text.trim().parse().map(Duration::from_nanos).map_err(|_| BenchError::Untold { what: "the time in nanoseconds" })
}

/// Runs `jobmesh run -- true` as a person would.
fn commands(bench: &Bench, daemon: &Daemon, program: &Path) -> Result<Samples, BenchError> {
    let mut samples = Samples::default();
    for _ in 0..bench.sizes.commands {
        bench.stop.rest(REST)?;
        let mut command = site::command(daemon.home())?;
        command.args(["run", "--"]).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status();
        samples.add(start.elapsed());
        let program = || command.get_program().into();
        let status = status.map_err(|source| BenchError::Spawn { program: program(), source })?;
        if !status.success() {
            return Err(BenchError::Ended { program: program(), status });
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_time_of_a_job_is_read_or_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        std::fs::write(&path, "1795000000123456789\n").unwrap();
        assert_eq!(printed(&path).unwrap(), Duration::from_nanos(1_795_000_000_123_456_789));
        std::fs::write(&path, "1795000000N\n").unwrap();
        assert!(matches!(printed(&path), Err(BenchError::Untold { .. })));
        assert!(matches!(printed(&folder.path().join("none")), Err(BenchError::File { .. })));
    }

    #[test]
    fn a_latency_has_a_median_and_a_tail() {
        let samples: Samples = (1..=100).map(Duration::from_millis).collect();
        let rows = pair("x", &samples, "API", (Duration::from_millis(25), "parts"));
        let figures: Vec<_> = rows.iter().filter_map(Row::figure).collect();
        assert_eq!(figures, [Figure::Millis(50.0), Figure::Millis(99.0)]);
    }
}
