//! What a node costs that has nothing to do: memory and processor time, from `/proc` (proc(5)).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::BenchError;
use super::floor::find;
use super::local::Bench;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{Job, Work};

const PART: Part = Part::Idle;
/// Jobs that ran before, so that everything which a node needs once is there.
const JOBS: usize = 100;

/// Measures a node that has done some work and then rests.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let daemon = bench.site.daemon("idle", None)?;
    let job = Job::new(Work::Command(vec![find("true")?.to_string_lossy().into_owned()]));
    let (last, _) = daemon.fill(&job, JOBS)?;
    daemon.drained(last, JOBS)?;
    bench.stop.rest(bench.sizes.settle)?;
    let folder = PathBuf::from(format!("/proc/{}", daemon.pid()));
    let rested = format!("after {JOBS} jobs and {} ms of rest, mesh on", bench.sizes.settle.as_millis());
    let mut rows = Rows::new(PART);
    rows.add("processor", || {
        let (start, before) = (Instant::now(), processor_time(&folder)?);
        bench.stop.rest(bench.sizes.idle)?;
        let spent = processor_time(&folder)?.saturating_sub(before);
        let percent = spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        let condition = format!("of one core, over {} s", bench.sizes.idle.as_secs());
        Ok(vec![Row::new(PART, "processor", Figure::Percent(percent), condition)])
    })?;
    rows.add("memory, RSS", || {
        let kibibytes = field(&folder.join("status"), "VmRSS:", "the memory of a process")?;
        Ok(vec![Row::new(PART, "memory, RSS", mebibytes(kibibytes), rested)])
    })?;
    rows.add("memory, PSS", || {
        let kibibytes = field(&folder.join("smaps_rollup"), "Pss:", "the memory of a process")?;
        Ok(vec![Row::new(PART, "memory, PSS", mebibytes(kibibytes), "pages that others share count in part")])
    })?;
    Ok(rows.into_rows())
}

fn mebibytes(kibibytes: u64) -> Figure {
    Figure::Mebibytes(kibibytes as f64 / 1024.0)
}

/// The number after `label` in a file of `/proc`.
fn field(path: &PathBuf, label: &str, what: &'static str) -> Result<u64, BenchError> {
    let text = fs::read_to_string(path).map_err(|_| BenchError::Untold { what })?;
    find_field(&text, label).ok_or(BenchError::Untold { what })
}

fn find_field(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What all threads of a process have run. Ticks of a hundredth of a second would be too coarse here.
fn processor_time(process: &std::path::Path) -> Result<Duration, BenchError> {
    let what = "the time of a process to the nanosecond";
    let untold = |_| BenchError::Untold { what };
    let mut sum = 0;
    for thread in fs::read_dir(process.join("task")).map_err(untold)? {
        let path = thread.map_err(untold)?.path().join("schedstat");
        // A thread may end between the list and the look.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let nanos: u64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
        sum += nanos;
    }
    if sum == 0 { Err(BenchError::Untold { what }) } else { Ok(Duration::from_nanos(sum)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_label() {
        let text = "Name:\tjobmesh\nVmPeak:\t  100 kB\nVmRSS:\t   29312 kB\n";
        assert_eq!(find_field(text, "VmRSS:"), Some(29_312));
        assert_eq!(find_field(text, "Pss:"), None);
    }
}
