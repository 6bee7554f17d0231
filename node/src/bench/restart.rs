//! How long a daemon that was killed takes to answer again, with much to do.

use std::time::{Duration, Instant};

use super::error::BenchError;
use super::floor::find;
use super::local::Bench;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{Job, Work};
use super::site::Daemon;

const PART: Part = Part::Restart;
/// How long the jobs run that are to run when the daemon is killed: longer than it takes to queue the others, and not
/// so long that one which were left behind would matter.
const SLEEP_SECONDS: &str = "120";
/// How long as many processes may take to start.
const RUNNING_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at how many run.
const LOOK: Duration = Duration::from_millis(20);

/// Measures a start with nothing to do, and one with everything.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut rows = Rows::new(PART);
    let mut empty = None;
    rows.add("with nothing", || {
        let mut daemon = bench.site.daemon("restart-empty", None)?;
        let figure = Figure::length(daemon.restart()?);
        empty = Some(figure);
        Ok(vec![Row::new(PART, "with nothing", figure, "from kill -9 until it answers")])
    })?;
    rows.add("with jobs", || {
        let (queued, running) = (bench.sizes.restart_queued, bench.sizes.restart_running);
        let elapsed = with_jobs(bench, queued, running)?;
        let condition = format!("{queued} queued, {running} sleeps, killed; floor: the above");
        let row = Row::new(PART, "with jobs", Figure::length(elapsed), condition);
        Ok(vec![match empty {
            Some(empty) => row.over(empty),
            None => row,
        }])
    })?;
    Ok(rows.into_rows())
}

fn with_jobs(bench: &Bench, queued: usize, running: usize) -> Result<Duration, BenchError> {
    let mut daemon = bench.site.daemon("restart", Some(running))?;
    raise_file_limit(&daemon);
    let sleep = vec![find("sleep")?.to_string_lossy().into_owned(), SLEEP_SECONDS.to_owned()];
    let job = Job::new(Work::Sleeper(sleep));
    // With every slot taken by a sleeper, more of them wait.
    daemon.fill(&job, running)?;
    until_running(bench, &daemon, running)?;
    daemon.fill(&job, queued)?;
    daemon.restart()
}

fn until_running(bench: &Bench, daemon: &Daemon, wanted: usize) -> Result<(), BenchError> {
    let mut connection = daemon.connect()?;
    let deadline = Instant::now() + RUNNING_LIMIT;
    loop {
        let running = daemon.counts(&mut connection)?.running;
        if running >= wanted {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(BenchError::NotRunning { running, wanted, limit: RUNNING_LIMIT });
        }
        bench.stop.rest(LOOK)?;
    }
}

/// Lets the daemon have as many files open as the system allows: each job that runs has two.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn raise_file_limit(daemon: &Daemon) {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if pid.is_some() {
        // If it is refused, fewer jobs run, and the measurement says so.
        let _ = prlimit(pid, Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Elsewhere the limit of another process can't be changed.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn raise_file_limit(_daemon: &Daemon) {}
