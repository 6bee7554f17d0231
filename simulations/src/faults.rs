//! What goes wrong, and how often. Each seed has its own mix.
//!
//! Every kind is on with one half. A mix that lacks a kind reaches states that the full mix never does: without
//! crashes a partition lasts long enough to matter, without loss a duplicate arrives (swarm testing, Groce et al.,
//! ISSTA 2012).

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::DurationMillis;

use crate::disk::{DiskFault, Loss, Strike};
use crate::network::Seat;
use crate::plan::Disks;
use crate::random::Stream;

/// One way in which things go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Frames take long.
    Delay,
    /// Frames vanish.
    Loss,
    /// Frames arrive twice, the second time perhaps much later.
    Duplicate,
    /// Frames overtake each other.
    Reorder,
    /// Groups of nodes can't reach each other, in one direction or both.
    Partition,
    /// A session breaks and comes back.
    Disconnect,
    /// A daemon is killed between two steps.
    Crash,
    /// A daemon is killed after it decided and before it committed.
    CrashBeforeCommit,
    /// A daemon is killed after it committed and before it acted.
    CrashBeforeRelease,
    /// A commit reports an error; whether it happened is unknown.
    CommitError,
    /// A daemon stands still, perhaps past its leases, then gets everything at once.
    Pause,
    /// Wall clocks are minutes apart.
    Skew,
    /// Processes fail that should not.
    Executor,
    /// A member forges receipts, replays frames and sends garbage.
    Forger,
    /// A disk fails, or the power that it needs.
    Disk(DiskFault),
}

impl FaultKind {
    /// Every kind but those of disks, which are [`DiskFault::HONEST`].
    pub const ALL: [Self; 14] = [
        Self::Delay,
        Self::Loss,
        Self::Duplicate,
        Self::Reorder,
        Self::Partition,
        Self::Disconnect,
        Self::Crash,
        Self::CrashBeforeCommit,
        Self::CrashBeforeRelease,
        Self::CommitError,
        Self::Pause,
        Self::Skew,
        Self::Executor,
        Self::Forger,
    ];

    /// The word for it in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Partition => "partition",
            Self::Disconnect => "disconnect",
            Self::Crash => "crash",
            Self::CrashBeforeCommit => "crash-before-commit",
            Self::CrashBeforeRelease => "crash-before-release",
            Self::CommitError => "commit-error",
            Self::Pause => "pause",
            Self::Skew => "skew",
            Self::Executor => "executor",
            Self::Forger => "forger",
            Self::Disk(fault) => fault.word(),
        }
    }

    /// Whether it strikes at times of its own, rather than with a frame or a run.
    const fn is_scheduled(self) -> bool {
        match self {
            Self::Partition
            | Self::Disconnect
            | Self::Crash
            | Self::CrashBeforeCommit
            | Self::CrashBeforeRelease
            | Self::CommitError
            | Self::Pause => true,
            Self::Delay | Self::Loss | Self::Duplicate | Self::Reorder | Self::Skew | Self::Executor | Self::Forger => {
                false
            }
            // Those of disks strike by a plan of their own.
            Self::Disk(_) => false,
        }
    }
}

/// Where in a step a daemon is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// Killed before the commit: nothing of the step happened.
    BeforeCommit,
    /// Killed between commit and release: the step happened, nobody heard of it.
    BeforeRelease,
    /// The commit reports an error though it happened.
    ErrorAfterCommit,
    /// The commit reports an error and did not happen.
    ErrorBeforeCommit,
}

impl Trap {
    /// Whether the daemon survives it, with an error.
    pub(crate) const fn is_error(self) -> bool {
        match self {
            Self::BeforeCommit | Self::BeforeRelease => false,
            Self::ErrorAfterCommit | Self::ErrorBeforeCommit => true,
        }
    }

    /// The kind of fault that it is.
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::BeforeCommit => FaultKind::CrashBeforeCommit,
            Self::BeforeRelease => FaultKind::CrashBeforeRelease,
            Self::ErrorAfterCommit | Self::ErrorBeforeCommit => FaultKind::CommitError,
        }
    }
}

/// The faults of one run.
#[derive(Debug)]
pub(crate) struct Faults {
    enabled: BTreeSet<FaultKind>,
    injected: BTreeMap<FaultKind, u64>,
    stream: Stream,
    /// What strikes disks is drawn apart, so that a run without it is otherwise the same.
    disk_stream: Stream,
    mean_pause: DurationMillis,
}

impl Faults {
    /// Draws a mix.
    pub(crate) fn draw(seed: u64, disks: Disks) -> Self {
        let mut stream = Stream::new(seed, "faults");
        let mut enabled: BTreeSet<_> = FaultKind::ALL.into_iter().filter(|_| stream.chance(500)).collect();
        let mean_pause = DurationMillis(stream.between(6_000, 40_000));
        let mut disk_stream = Stream::new(seed, "faults of disks");
        if disks == Disks::Honest {
            let drawn = DiskFault::HONEST.into_iter().filter(|_| disk_stream.chance(500));
            enabled.extend(drawn.map(FaultKind::Disk));
        }
        Self { enabled, injected: BTreeMap::new(), stream, disk_stream, mean_pause }
    }

    /// Whether this kind is on now.
    pub(crate) fn has(&self, kind: FaultKind) -> bool {
        self.enabled.contains(&kind)
    }

    /// Ends them all.
    pub(crate) fn heal(&mut self) {
        self.enabled.clear();
    }

    /// Counts one.
    pub(crate) fn note(&mut self, kind: FaultKind) {
        *self.injected.entry(kind).or_default() += 1;
    }

    /// Whether a fault of this kind strikes now, so many times of a thousand. Not counted yet.
    pub(crate) fn strikes(&mut self, kind: FaultKind, per_mille: u64) -> bool {
        self.has(kind) && self.stream.chance(per_mille)
    }

    /// How many of each kind struck.
    pub(crate) fn injected(&self) -> BTreeMap<FaultKind, u64> {
        self.injected.clone()
    }

    /// How long until the next scheduled fault.
    pub(crate) fn pause(&mut self) -> DurationMillis {
        DurationMillis(self.stream.between(self.mean_pause.0 / 10, self.mean_pause.0 * 2))
    }

    /// Which scheduled fault comes next; `None` if this run has none.
    pub(crate) fn next(&mut self) -> Option<FaultKind> {
        let scheduled: Vec<_> = self.enabled.iter().copied().filter(|kind| kind.is_scheduled()).collect();
        self.stream.pick(&scheduled)
    }

    /// How long a fault lasts: mostly short, at times past every lease.
    pub(crate) fn length(&mut self) -> DurationMillis {
        let longest = if self.stream.chance(300) { 130_000 } else { 15_000 };
        DurationMillis(self.stream.between(100, longest))
    }

    pub(crate) fn seat(&mut self, nodes: usize) -> Seat {
        Seat(self.stream.index(nodes))
    }

    /// Where the next struck commit is struck, and after how many more steps.
    pub(crate) fn trap(&mut self, kind: FaultKind) -> (Trap, u64) {
        let steps = self.stream.below(12);
        let trap = if kind == FaultKind::CrashBeforeCommit {
            Trap::BeforeCommit
        } else if kind == FaultKind::CrashBeforeRelease {
            Trap::BeforeRelease
        } else if self.stream.chance(500) {
            Trap::ErrorAfterCommit
        } else {
            Trap::ErrorBeforeCommit
        };
        (trap, steps)
    }

    /// How long until a disk is struck the next time.
    pub(crate) fn disk_pause(&mut self) -> DurationMillis {
        DurationMillis(self.disk_stream.between(self.mean_pause.0 / 10, self.mean_pause.0 * 2))
    }

    /// What strikes a disk next, whose, and what else there is to draw about it; `None` if this run has no such fault.
    pub(crate) fn next_of_disks(&mut self, nodes: usize) -> Option<(Seat, DiskFault)> {
        let drawn =
            self.enabled.iter().filter_map(|kind| if let FaultKind::Disk(fault) = kind { Some(*fault) } else { None });
        let scheduled: Vec<_> = drawn.filter(|fault| fault.is_scheduled()).collect();
        let fault = self.disk_stream.pick(&scheduled)?;
        Some((Seat(self.disk_stream.index(nodes)), fault))
    }

    /// What a power cut does to unsynced writes, by what this run has.
    pub(crate) fn loss(&mut self) -> Loss {
        let enabled = DiskFault::HONEST.into_iter().filter(|fault| self.enabled.contains(&FaultKind::Disk(*fault)));
        let losses: Vec<_> = enabled.filter_map(DiskFault::loss).collect();
        self.disk_stream.pick(&losses).unwrap_or(Loss::Kept)
    }

    /// How many operations on files a disk has left before it is struck: some tens, which is a few steps.
    pub(crate) fn operations(&mut self) -> u64 {
        self.disk_stream.below(60)
    }

    /// So many reads and writes in a row fail.
    pub(crate) fn io_errors(&mut self) -> Strike {
        Strike::Io(u32::try_from(self.disk_stream.between(1, 4)).unwrap_or(1))
    }

    /// How many bytes a disk has left when it runs full, and how long it stays so.
    pub(crate) fn shortage(&mut self) -> (usize, DurationMillis) {
        let free = self.disk_stream.index(40_000);
        (free, DurationMillis(self.disk_stream.between(500, 90_000)))
    }

    /// The directions that a new partition blocks: both ways between two groups, one way, or one node alone.
    pub(crate) fn cut(&mut self, nodes: usize) -> BTreeSet<(Seat, Seat)> {
        let is_one_way = self.stream.chance(333);
        let alone = self.stream.chance(333).then(|| self.stream.index(nodes));
        let inside: Vec<bool> = match alone {
            Some(alone) => (0..nodes).map(|seat| seat == alone).collect(),
            None => (0..nodes).map(|_| self.stream.chance(500)).collect(),
        };
        let mut cut = BTreeSet::new();
        for (from, from_in) in inside.iter().enumerate() {
            for (to, to_in) in inside.iter().enumerate() {
                let is_cut = if is_one_way { *from_in && !*to_in } else { from_in != to_in };
                if is_cut {
                    cut.insert((Seat(from), Seat(to)));
                }
            }
        }
        cut
    }
}
