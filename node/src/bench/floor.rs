//! What the machine itself allows: processes, flushes, commits, measured in the same run and on the same disk.
//!
//! Each floor is measured when a part first asks for it, and once for that part: next to the figures that it stands
//! beside, so that a neighbour who comes or goes in the meantime does not get between the two.

mod process;
mod session;
mod sqlite;
mod sync;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::BenchError;
use super::machine::cores;
use super::plan::{Part, Sizes};
use super::report::{Figure, Row, Rows};
use super::stop::Stop;

pub(super) use process::find;

/// What bare processes take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spawns {
    /// On all processors together, in a second.
    pub(super) rate: Figure,
    /// One after the other, half of them.
    pub(super) median: Duration,
    /// One after the other, all but one in a hundred.
    pub(super) slow: Duration,
}

/// What flushes to the disk take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushes {
    /// Half of them.
    pub(super) median: Duration,
    /// All but one in a hundred.
    pub(super) slow: Duration,
}

/// What messages to another node and back take.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrips {
    /// Half of them.
    pub(super) median: Duration,
    /// All but five in a hundred.
    pub(super) slow: Duration,
}

/// What commits of SQLite take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commits {
    /// Of one row, one after the other, in a second.
    pub(super) single: Figure,
    /// Half of these.
    pub(super) median: Duration,
    /// Rows in a second, a thousand a commit.
    pub(super) bulk: Figure,
    /// Rows in a second, by one writer for many that wait for their own.
    pub(super) group: Figure,
    /// Jobs in a second that are completed and followed by the next claim, fifty a commit.
    pub(super) pairs: Figure,
}

/// The floors.
#[derive(Debug)]
pub(super) struct Floors {
    folder: PathBuf,
    sizes: Sizes,
    stop: Stop,
    spawns: Cell<Option<Spawns>>,
    flushes: Cell<Option<Flushes>>,
    commits: Cell<Option<Commits>>,
    xargs: Cell<Option<Figure>>,
    round_trips: Cell<Option<RoundTrips>>,
}

/// Measures unless that was done before.
fn once<T: Copy>(kept: &Cell<Option<T>>, measure: impl FnOnce() -> Result<T, BenchError>) -> Result<T, BenchError> {
    if let Some(found) = kept.get() {
        return Ok(found);
    }
    let found = measure()?;
    kept.set(Some(found));
    Ok(found)
}

impl Floors {
    /// Floors of the disk that `folder` is on. Measures nothing yet.
    pub(super) fn new(folder: &Path, sizes: Sizes, stop: &Stop) -> Self {
        let (spawns, flushes, commits, xargs, round_trips) = Default::default();
        Self { folder: folder.to_owned(), sizes, stop: stop.clone(), spawns, flushes, commits, xargs, round_trips }
    }

    /// What bare processes take.
    pub(super) fn spawns(&self) -> Result<Spawns, BenchError> {
        once(&self.spawns, || process::spawns(self.sizes.spawns, &self.stop))
    }

    /// What flushes take.
    pub(super) fn flushes(&self) -> Result<Flushes, BenchError> {
        once(&self.flushes, || sync::flushes(&self.folder, self.sizes.syncs, &self.stop))
    }

    /// What commits take.
    pub(super) fn commits(&self) -> Result<Commits, BenchError> {
        once(&self.commits, || sqlite::commits(&self.folder, &self.sizes, &self.stop))
    }

    /// How many processes xargs runs in a second.
    pub(super) fn xargs(&self) -> Result<Figure, BenchError> {
        once(&self.xargs, || process::xargs(self.sizes.xargs, &self.stop))
    }

    /// What messages to another node and back take.
    pub(super) fn round_trips(&self) -> Result<RoundTrips, BenchError> {
        once(&self.round_trips, || session::round_trips(self.sizes.round_trips, &self.stop))
    }

    /// Those of one node as rows.
    pub(super) fn rows(&self) -> Result<Vec<Row>, BenchError> {
        let mut rows = Rows::new(Part::Floors);
        let row = |what: &str, figure, condition: String| Row::new(Part::Floors, what, figure, condition);
        rows.add("spawn + wait of true", || {
            let found = self.spawns()?;
            let alone = "one by one".to_owned();
            Ok(vec![
                row("spawn + wait of true", found.rate, format!("{} threads", cores())),
                row("spawn + wait of true, p50", Figure::length(found.median), alone.clone()),
                row("spawn + wait of true, p99", Figure::length(found.slow), alone),
            ])
        })?;
        rows.add("xargs running true", || {
            let condition = format!("-P{}, {} processes, keeps no record", cores(), self.sizes.xargs);
            Ok(vec![row("xargs running true", self.xargs()?, condition)])
        })?;
        rows.add("fdatasync", || {
            let found = self.flushes()?;
            let condition = "append of 4 KiB".to_owned();
            Ok(vec![
                row("fdatasync, p50", Figure::length(found.median), condition.clone()),
                row("fdatasync, p99", Figure::length(found.slow), condition),
            ])
        })?;
        rows.add("SQLite commits", || {
            let found = self.commits()?;
            Ok(vec![
                row("SQLite commit of one row", found.single, "one by one".to_owned()),
                row("SQLite commit of one row, p50", Figure::length(found.median), "one by one".to_owned()),
                row("SQLite group commit", found.group, "one writer, 64 threads await their row".to_owned()),
                row("SQLite rows, 1,000 a commit", found.bulk, "one thread".to_owned()),
                row("SQLite complete + claim, 50 a commit", found.pairs, "one thread, no job is run".to_owned()),
            ])
        })?;
        Ok(rows.into_rows())
    }
}
