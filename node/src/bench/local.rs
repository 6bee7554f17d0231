//! The whole measurement, part by part.

use jobmesh::home::Home;

use super::error::BenchError;
use super::floor::Floors;
use super::machine::Machine;
use super::others::Others;
use super::plan::{Part, Plan, Sizes};
use super::report::{Report, Row};
use super::site::Site;
use super::stop::Stop;
use super::{depth, drain, enqueue, idle, latency, remote, restart, spread};

/// What every part works with.
#[derive(Debug)]
pub(super) struct Bench {
    /// What the machine allows, asked anew by each part.
    pub(super) floors: Floors,
    /// How much is done.
    pub(super) sizes: Sizes,
    /// Whether to go on.
    pub(super) stop: Stop,
    /// Last, so that the folder outlives what is in it.
    pub(super) site: Site,
}

/// Measures what `plan` says on the disk that `home` is on. Blocks for up to some minutes; `say` is told what is going
/// on.
///
/// # Errors
/// [`BenchError::Interrupted`] after `stop`, or [`BenchError::File`] if there is no place to measure. Whatever else
/// fails is a row that says so. Nothing is left behind in any case.
pub(crate) fn measure(plan: &Plan, home: &Home, stop: Stop, say: fn(&str)) -> Result<Report, BenchError> {
    let site = Site::build(home, &stop)?;
    let sizes = Sizes::of(plan.scale);
    let machine = Machine::look(site.folder());
    let floors = Floors::new(site.folder(), sizes, &stop);
    let mut bench = Bench { floors, sizes, stop, site };
    let (mut rows, mut others) = (Vec::new(), Others::default());
    for part in plan.parts() {
        say(&format!("measuring {} …", part.word()));
        others.look(part, &bench.stop)?;
        bench.floors = Floors::new(bench.site.folder(), sizes, &bench.stop);
        match of_part(part, &bench) {
            Ok(found) => rows.extend(found),
            Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
            Err(error) => rows.push(Row::missing(part, "everything", &error)),
        }
    }
    Ok(Report { machine, others, rows })
}

fn of_part(part: Part, bench: &Bench) -> Result<Vec<Row>, BenchError> {
    match part {
        Part::Floors => bench.floors.rows(),
        Part::Enqueue => enqueue::rows(bench),
        Part::Noop => drain::noop_rows(bench),
        Part::Process => drain::process_rows(bench),
        Part::Latency => latency::rows(bench),
        Part::Depth => depth::rows(bench),
        Part::Restart => restart::rows(bench),
        Part::Idle => idle::rows(bench),
        Part::Remote => remote::rows(bench),
        Part::Spread => spread::rows(bench),
    }
}
