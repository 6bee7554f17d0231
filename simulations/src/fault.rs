//! One thing that goes wrong, as a plan says it: when, for how long, and what.

use jobmesh_protocol::DurationMillis;
use serde::{Deserialize, Serialize};

use crate::disk::{DiskFault, Loss};

/// One entry of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its number, from which its accidents grow.
    pub number: u32,
    /// When it begins.
    #[serde(rename = "at_ms")]
    pub at: DurationMillis,
    /// How long it lasts, or how long what it killed stays dead.
    #[serde(rename = "length_ms")]
    pub length: DurationMillis,
    /// What it is.
    pub what: What,
}

/// What goes wrong. Nodes are named by their seats; rates are so many of a thousand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Now and then with a frame.
    Frames(FrameFault),
    /// Now and then with a process.
    Runs(RunFault),
    /// A member forges receipts, replays frames and sends garbage.
    Forger,
    /// Between nodes.
    Links(LinkFault),
    /// With one node.
    Node {
        /// Which.
        seat: usize,
        /// What.
        fault: NodeFault,
    },
}

/// What goes wrong with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are rates and lengths, as their names say")]
pub enum FrameFault {
    /// They take long.
    Delay { per_mille: u32, longest_ms: u64 },
    /// They vanish.
    Loss { per_mille: u32 },
    /// They vanish in bursts: each link is good or bad for a while (Gilbert and Elliott).
    Burst { begins_per_mille: u32, ends_per_mille: u32 },
    /// They arrive twice, the second time perhaps much later.
    Duplicate { per_mille: u32 },
    /// They overtake each other.
    Reorder { per_mille: u32 },
    /// They break off below what authenticates them: the connection is closed, and what was on it is gone.
    Truncate { per_mille: u32 },
    /// They arrive once more minutes later, on whatever connection there is by then.
    Replay { per_mille: u32, after_ms: u64 },
}

/// What goes wrong with processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the field is a rate, as its name says")]
pub enum RunFault {
    /// They fail where they should not.
    Fail { per_mille: u32 },
    /// They hang until somebody stops them.
    Hang { per_mille: u32 },
    /// Their end is told twice.
    Double { per_mille: u32 },
    /// They write far more than anybody wants.
    Flood { per_mille: u32 },
    /// Their node says to others that they have written what they have not.
    Lie { per_mille: u32 },
}

/// What goes wrong between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are seats, as their names say")]
pub enum LinkFault {
    /// These can't send to those.
    Cut { shape: Shape, ways: Vec<(usize, usize)> },
    /// These and all others can't reach each other: a cut of a world with too many pairs to name them.
    Split { seats: Vec<usize> },
    /// Some nodes are clogged one by one and unclogged in another order.
    Swizzle { clogs: Vec<Clog> },
    /// One end of a connection takes it for closed, the other for open.
    HalfOpen { near: usize, far: usize },
    /// A connection breaks.
    Disconnect { one: usize, other: usize },
}

/// What goes wrong with one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields say what they are by their names")]
pub enum NodeFault {
    /// Nothing reaches it or leaves it, and all of it arrives when the clog ends, if the connection lives.
    Clog,
    /// Its daemon is killed. Its processes die with it or go on as orphans.
    Crash { leaves_orphans: bool },
    /// Its daemon is struck at a commit.
    Trap { place: Trap, when: When },
    /// Its daemon stands still while the clock goes on, then gets everything that has come in the meantime.
    Pause,
    /// It sleeps: its clock goes on, its processes stand still and what is sent to it is lost.
    Sleep,
    /// Its wall clock is set, and set right when the fault ends.
    Jump { by_ms: i64 },
    /// Its disk fails, or the power that it needs.
    Disk(DiskStrike),
    /// It is lost with all that it knew; its owner sets it up anew with the same key.
    Wipe,
    /// Its drive takes syncs and does nothing, then the power is cut. Its owner sets it up anew a minute later.
    LyingSync { loss: Loss },
    /// A bit of its drive flips while the daemon is down. Its owner sets it up anew when the fault ends.
    BitRot { in_log: bool },
    /// Its files as they were when the fault began are put back when it ends.
    OldBackup,
    /// Its machine is copied. From then on two databases under one key take turns; when the fault ends, the one that
    /// stands by is thrown away.
    Clone { turn_ms: u64 },
}

/// What kind of hole a cut is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Two groups, both ways.
    Groups,
    /// Two groups, one way.
    OneWay,
    /// One node alone.
    Isolation,
    /// Two groups and one node that reaches both.
    Bridge,
}

/// One clog of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clog {
    /// Which node.
    pub seat: usize,
    /// When it begins, from the beginning of the fault.
    pub from_ms: u64,
    /// How long it lasts.
    pub length_ms: u64,
}

/// Where in a step a daemon is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trap {
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

/// Which step a trap waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The one after so many.
    Steps(u64),
    /// The next that takes a command: where most is to lose.
    Command,
    /// The next start of the daemon.
    Start,
}

/// What strikes a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields say what they are by their names")]
pub enum DiskStrike {
    /// The power is cut at an operation on a file.
    PowerCut { operations: u64, loss: Loss },
    /// The daemon is killed in it.
    Kill { operations: u64 },
    /// So many reads and writes fail.
    Io { operations: u64, times: u32 },
    /// The next sync fails.
    Sync,
    /// The disk has so many bytes left, for as long as the fault lasts.
    Full { free_bytes: usize },
}

/// The word for a kind of fault in reports and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is what the fault with its name says")]
pub enum FaultKind {
    Delay,
    Loss,
    Burst,
    Duplicate,
    Reorder,
    Truncate,
    Replay,
    Partition,
    OneWay,
    Isolation,
    Bridge,
    Clog,
    Swizzle,
    HalfOpen,
    Disconnect,
    Crash,
    Orphans,
    CrashBeforeCommit,
    CrashBeforeRelease,
    CommitError,
    Pause,
    Sleep,
    Jump,
    Skew,
    Drift,
    Fail,
    Hang,
    Double,
    Flood,
    Lie,
    Forger,
    Wipe,
    Clone,
    Disk(DiskFault),
}

impl FaultKind {
    /// Every kind but those of disks, which are [`DiskFault::HONEST`] and those that break their word.
    pub const ALL: [Self; 33] = [
        Self::Delay,
        Self::Loss,
        Self::Burst,
        Self::Duplicate,
        Self::Reorder,
        Self::Truncate,
        Self::Replay,
        Self::Partition,
        Self::OneWay,
        Self::Isolation,
        Self::Bridge,
        Self::Clog,
        Self::Swizzle,
        Self::HalfOpen,
        Self::Disconnect,
        Self::Crash,
        Self::Orphans,
        Self::CrashBeforeCommit,
        Self::CrashBeforeRelease,
        Self::CommitError,
        Self::Pause,
        Self::Sleep,
        Self::Jump,
        Self::Skew,
        Self::Drift,
        Self::Fail,
        Self::Hang,
        Self::Double,
        Self::Flood,
        Self::Lie,
        Self::Forger,
        Self::Wipe,
        Self::Clone,
    ];

    /// The word for it in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Burst => "burst",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Truncate => "truncate",
            Self::Replay => "replay",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Isolation => "isolation",
            Self::Bridge => "bridge",
            Self::Clog => "clog",
            Self::Swizzle => "swizzle",
            Self::HalfOpen => "half-open",
            Self::Disconnect => "disconnect",
            Self::Crash => "crash",
            Self::Orphans => "orphans",
            Self::CrashBeforeCommit => "crash-before-commit",
            Self::CrashBeforeRelease => "crash-before-release",
            Self::CommitError => "commit-error",
            Self::Pause => "pause",
            Self::Sleep => "sleep",
            Self::Jump => "jump",
            Self::Skew => "skew",
            Self::Drift => "drift",
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::Double => "double",
            Self::Flood => "flood",
            Self::Lie => "lie",
            Self::Forger => "forger",
            Self::Wipe => "wipe",
            Self::Clone => "clone",
            Self::Disk(fault) => fault.word(),
        }
    }
}

impl Shape {
    /// The kind of fault that it is.
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::Groups => FaultKind::Partition,
            Self::OneWay => FaultKind::OneWay,
            Self::Isolation => FaultKind::Isolation,
            Self::Bridge => FaultKind::Bridge,
        }
    }
}

impl What {
    /// The seats that it names.
    pub(crate) fn seats(&self) -> Vec<usize> {
        match self {
            Self::Frames(_) | Self::Runs(_) | Self::Forger => Vec::new(),
            Self::Links(LinkFault::Cut { ways, .. }) => ways.iter().flat_map(|(from, to)| [*from, *to]).collect(),
            Self::Links(LinkFault::Split { seats }) => seats.clone(),
            Self::Links(LinkFault::Swizzle { clogs }) => clogs.iter().map(|clog| clog.seat).collect(),
            Self::Links(LinkFault::HalfOpen { near: one, far: other } | LinkFault::Disconnect { one, other }) => {
                vec![*one, *other]
            }
            Self::Node { seat, .. } => vec![*seat],
        }
    }
}
