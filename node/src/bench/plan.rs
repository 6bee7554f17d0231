//! What is measured, and how much of it.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// One part of the measurement; each has daemons of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// What the machine itself allows
    Floors,
    /// Taking jobs on, durably
    Enqueue,
    /// Jobs that do nothing and need no process
    Noop,
    /// Jobs that run `true`
    Process,
    /// One job at a time on an idle node
    Latency,
    /// The same with long queues
    Depth,
    /// Starting again with much to do
    Restart,
    /// Doing nothing
    Idle,
    /// One job at a time on another node
    #[value(skip)]
    Remote,
    /// Many jobs on other nodes
    #[value(skip)]
    Spread,
}

/// A part for which several nodes are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeshPart {
    /// One job at a time on another node
    Remote,
    /// Many jobs on other nodes
    Spread,
}

impl From<MeshPart> for Part {
    fn from(part: MeshPart) -> Self {
        match part {
            MeshPart::Remote => Self::Remote,
            MeshPart::Spread => Self::Spread,
        }
    }
}

/// Which parts belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Course {
    /// Those of one node.
    #[default]
    Local,
    /// Those of several.
    Mesh,
}

impl Part {
    /// Its name on the command line and in the table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Floors => "floor",
            Self::Enqueue => "enqueue",
            Self::Noop => "noop",
            Self::Process => "process",
            Self::Latency => "latency",
            Self::Depth => "depth",
            Self::Restart => "restart",
            Self::Idle => "idle",
            Self::Remote => "remote",
            Self::Spread => "spread",
        }
    }
}

/// How much is done for each figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Enough to see that it works: below 20 seconds in all.
    Quick,
    /// Enough for figures to quote: some minutes.
    #[default]
    Normal,
    /// The same with more patience where rare things show.
    Long,
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What they are taken from.
    pub(crate) course: Course,
    /// Which parts; none is all.
    pub(crate) only: Vec<Part>,
    /// How much.
    pub(crate) scale: Scale,
}

impl Plan {
    /// The parts in the order of the table.
    pub(super) fn parts(&self) -> Vec<Part> {
        let is_wanted = |part: &Part| self.only.is_empty() || self.only.contains(part);
        let all = match self.course {
            Course::Local => Part::value_variants(),
            Course::Mesh => &[Part::Remote, Part::Spread],
        };
        all.iter().copied().filter(is_wanted).collect()
    }
}

/// Counts of everything that is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Bare spawns on all processors together; a tenth of them one by one for the latency.
    pub(super) spawns: usize,
    /// Appends with fdatasync.
    pub(super) syncs: usize,
    /// Commits of one row.
    pub(super) commits: usize,
    /// How long the group commit floor is measured.
    pub(super) group_commit: Duration,
    /// Processes that xargs runs.
    pub(super) xargs: usize,
    /// Submits on one connection.
    pub(super) singles: usize,
    /// Submits on all connections of the crowd together.
    pub(super) crowd: usize,
    /// Requests of a thousand jobs.
    pub(super) batches: usize,
    /// Tasks of the array that is submitted but not run.
    pub(super) array: usize,
    /// Jobs without a process.
    pub(super) noops: usize,
    /// Jobs with a process.
    pub(super) processes: usize,
    /// Jobs one at a time through the socket.
    pub(super) latencies: usize,
    /// Messages there and back, one at a time.
    pub(super) round_trips: usize,
    /// Jobs one at a time, here and as many elsewhere.
    pub(super) remote: usize,
    /// Jobs for other nodes.
    pub(super) spread: usize,
    /// Jobs one at a time through the command line.
    pub(super) commands: usize,
    /// Lengths of the queue, ascending.
    pub(super) depths: &'static [usize],
    /// Submits at each of these lengths.
    pub(super) depth_singles: usize,
    /// Jobs that are run at each of these lengths.
    pub(super) depth_drained: usize,
    /// Jobs that wait while the daemon starts.
    pub(super) restart_queued: usize,
    /// Jobs that ran when it was killed.
    pub(super) restart_running: usize,
    /// How long the node is left alone before it is looked at.
    pub(super) settle: Duration,
    /// How long it is looked at.
    pub(super) idle: Duration,
}

const QUICK: Sizes = Sizes {
    spawns: 400,
    syncs: 60,
    commits: 400,
    group_commit: Duration::from_millis(250),
    xargs: 400,
    singles: 100,
    crowd: 1000,
    batches: 5,
    array: 100_000,
    noops: 2000,
    processes: 300,
    latencies: 40,
    round_trips: 200,
    remote: 30,
    spread: 500,
    commands: 10,
    depths: &[100, 5000],
    depth_singles: 40,
    depth_drained: 500,
    restart_queued: 1000,
    restart_running: 20,
    settle: Duration::from_millis(500),
    idle: Duration::from_secs(2),
};

const NORMAL: Sizes = Sizes {
    spawns: 4000,
    syncs: 500,
    commits: 3000,
    group_commit: Duration::from_secs(1),
    xargs: 2000,
    singles: 2000,
    crowd: 20_000,
    batches: 100,
    array: 1_000_000,
    noops: 50_000,
    processes: 10_000,
    latencies: 500,
    round_trips: 5000,
    remote: 300,
    spread: 20_000,
    commands: 100,
    depths: &[1000, 100_000, 1_000_000],
    depth_singles: 500,
    depth_drained: 5000,
    restart_queued: 100_000,
    restart_running: 1000,
    settle: Duration::from_secs(2),
    idle: Duration::from_secs(10),
};

const LONG: Sizes = Sizes { latencies: 5000, remote: 3000, commands: 1000, idle: Duration::from_secs(60), ..NORMAL };

impl Sizes {
    /// The counts that belong to a scale.
    pub(super) const fn of(scale: Scale) -> Self {
        match scale {
            Scale::Quick => QUICK,
            Scale::Normal => NORMAL,
            Scale::Long => LONG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_once_and_in_order() {
        let plan = |course, only| Plan { course, only, scale: Scale::Quick };
        let only = vec![Part::Idle, Part::Enqueue, Part::Idle];
        assert_eq!(plan(Course::Local, only).parts(), [Part::Enqueue, Part::Idle]);
        assert_eq!(plan(Course::Local, Vec::new()).parts().len(), 8);
        assert_eq!(plan(Course::Mesh, Vec::new()).parts(), [Part::Remote, Part::Spread]);
        assert_eq!(plan(Course::Mesh, vec![MeshPart::Spread.into()]).parts(), [Part::Spread]);
    }

    #[test]
    fn depths_ascend() {
        for scale in [Scale::Quick, Scale::Normal, Scale::Long] {
            assert!(Sizes::of(scale).depths.is_sorted());
        }
    }
}
