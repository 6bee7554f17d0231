//! How fast bare processes can be started and waited for.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Spawns;
use crate::bench::error::BenchError;
use crate::bench::machine::cores;
use crate::bench::report::Figure;
use crate::bench::statistics::Samples;
use crate::bench::stop::Stop;

/// Where a program is, so that no search along the PATH is measured.
pub(in crate::bench) fn find(name: &'static str) -> Result<PathBuf, BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let places = std::env::split_paths(&path).filter(|place| place.is_absolute()).map(|place| place.join(name));
    places.into_iter().find(|file| file.is_file()).ok_or(BenchError::NoProgram(name))
}

/// Spawns `true` so many times on all processors together, then a tenth as often on one.
pub(super) fn spawns(count: usize, stop: &Stop) -> Result<Spawns, BenchError> {
    let program = find("true")?;
    // The first one reads the program from the disk.
    run(&program)?;
    let threads = cores();
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || repeat(&program, count / threads, stop);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| BenchError::Panicked)?.map(drop))
    })?;
    let rate = Figure::rate(count / threads * threads, start.elapsed());
    let alone = repeat(&program, count / 10, stop)?;
    Ok(Spawns { rate, median: alone.median(), slow: alone.percentile(99) })
}

fn repeat(program: &Path, count: usize, stop: &Stop) -> Result<Samples, BenchError> {
    (0..count)
        .map(|_| {
            stop.check()?;
            run(program)
        })
        .collect()
}

/// Runs a program as the executor does, in a process group of its own, but with nothing to read or write.
fn run(program: &Path) -> Result<Duration, BenchError> {
    let start = Instant::now();
    let spawned =
        Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
    let failed = |source| BenchError::Spawn { program: program.to_owned(), source };
    let status = spawned.and_then(|mut child| child.wait()).map_err(failed)?;
    if status.success() { Ok(start.elapsed()) } else { Err(BenchError::Ended { program: program.to_owned(), status }) }
}

/// Has xargs run `true` so many times, as many at once as there are processors.
pub(super) fn xargs(count: usize, stop: &Stop) -> Result<Figure, BenchError> {
    let (program, target) = (find("xargs")?, find("true")?);
    let failed = |source| BenchError::Spawn { program: program.clone(), source };
    stop.check()?;
    let mut command = Command::new(&program);
    command.arg(format!("-P{}", cores())).args(["-n", "1"]).arg(target);
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // If it ends early it does so with a status that says why.
        let _ = input.write_all("x\n".repeat(count).as_bytes());
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(Figure::rate(count, start.elapsed()))
    } else {
        Err(BenchError::Ended { program: program.clone(), status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_counted_and_timed() {
        let found = spawns(20, &Stop::default());
        assert!(found.as_ref().is_ok_and(|it| it.slow >= it.median && it.median > Duration::ZERO), "{found:?}");
    }

    #[test]
    fn a_wish_to_stop_ends_the_spawning() {
        let stop = Stop::default();
        stop.stop();
        assert!(matches!(spawns(20, &stop), Err(BenchError::Interrupted)));
    }

    #[test]
    fn a_program_that_fails_is_no_floor() {
        let ended = find("false").and_then(|program| run(&program));
        assert!(matches!(ended, Err(BenchError::Ended { .. })));
    }
}
