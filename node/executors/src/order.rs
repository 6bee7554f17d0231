//! What an executor is told: run this, stop that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jobmesh_protocol::task::Task;
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome, RunId};

use crate::event::ProcessId;
use crate::secret::Secrets;
use crate::shelf::BLOB_BYTES_MAX;

/// Longest time that a job may take to end after TERM: one minute.
///
/// The bound keeps a job from holding up the daemon's own shutdown, for which service managers allow 90 s by default
/// (systemd `DefaultTimeoutStopSec`).
pub const KILL_GRACE_MAX: Duration = Duration::from_secs(60);

/// Longest time after TERM where somebody else waits, at the end of a lease or of the daemon: ten seconds.
pub const STOP_GRACE_MAX: Duration = Duration::from_secs(10);

/// One attempt to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The attempt.
    pub run: RunId,
    /// What runs.
    pub task: Task,
    /// The run whose slot it inherits: it starts the moment that one ends, with nothing in between. If that one isn't
    /// here, or has another follower already, this is an order like any other.
    pub follows: Option<RunId>,
    /// How long it may take to end after TERM; at most [`KILL_GRACE_MAX`] counts.
    pub kill_grace: DurationMillis,
    /// The folder of blobs, each under its hash: those that the task names, and those of the files it begins with.
    pub blobs: PathBuf,
    /// The file that holds the command's standard input, if it has one.
    pub stdin: Option<PathBuf>,
    /// The tree of files that the working directory begins with.
    pub inputs: Option<BlobRef>,
    /// Patterns of the files in the working directory that are kept.
    pub outputs: Vec<String>,
    /// Where the attempt keeps its logs and its working directory. Made if missing, for the owner only, and removed
    /// after the end if nothing was left in it.
    pub directory: PathBuf,
    /// Variables that win over the task's own.
    pub environment: BTreeMap<String, String>,
    /// What it is given that nobody else may read. Replaced by its name wherever the run says it.
    pub secrets: Secrets,
    /// What it may use.
    pub limits: Limits,
    /// Whose job it is: whether of somebody else.
    pub is_foreign: bool,
    /// Whether it may use the network.
    pub network: bool,
    /// How well it must be kept apart at least. What can't be kept apart so well is not run.
    pub isolation: Isolation,
}

/// How much of the machine one run may use. What is not limited by the kernel is looked at ten times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of both logs together.
    pub log_bytes_max: u64,
    /// Most processes at a time. Where the kernel counts, each thread is one.
    pub processes_max: u32,
    /// Most memory of all processes together; none is no limit.
    pub memory_bytes: Option<u64>,
    /// Most processor time in a second of the clock, in thousandths of a processor; none is no limit. Containers are held
    /// to it.
    pub processor_millis: Option<u64>,
    /// Most bytes of the files that the working directory begins with, and of those that are kept of it.
    pub file_bytes_max: u64,
    /// Most room on the disk for what it writes beside its logs; none is no limit. It is measured about once a second.
    pub disk_bytes: Option<u64>,
}

/// What a file may be larger than the disk limit, so that the limit is what is told of and not the signal.
const FILE_SLACK: u64 = 1 << 20;

impl Limits {
    /// Largest file that a process of the run may write where the kernel is told, its log among them; none is no limit.
    pub(crate) fn largest_file(&self) -> Option<u64> {
        self.disk_bytes.map(|bytes| bytes.max(self.log_bytes_max).saturating_add(FILE_SLACK))
    }
}

impl Default for Limits {
    /// 1 GiB of logs: more than anybody reads, and a tenth of what a small disk has left. 2,048 processes: twice what a
    /// parallel build on a large machine or a browser starts, and few enough that the machine can still be used. Files up
    /// to the largest blob.
    fn default() -> Self {
        Self {
            log_bytes_max: 1 << 30,
            processes_max: 2048,
            memory_bytes: None,
            processor_millis: None,
            file_bytes_max: BLOB_BYTES_MAX,
            disk_bytes: None,
        }
    }
}

/// A run that an earlier life of the daemon began, to be seen to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopt {
    /// The attempt.
    pub run: RunId,
    /// Its main process, as it was told when it started; none looks for it by the run's marker. It must be from this
    /// start of the operating system: start times begin anew with each.
    pub process: Option<ProcessId>,
    /// The directory of its order.
    pub directory: PathBuf,
    /// Whether its working directory began with files.
    pub had_inputs: bool,
    /// Patterns of the files in its working directory that are kept.
    pub outputs: Vec<String>,
    /// How long it may take to end after TERM; at most [`KILL_GRACE_MAX`] counts.
    pub kill_grace: DurationMillis,
    /// What it may use.
    pub limits: Limits,
    /// What its process is kept in, and so which of the files in its directory its job can't have written.
    pub confinement: Confinement,
    /// Its order, for a container: what goes on there is no process of ours, and the engine tells how it ended.
    pub container: Option<Box<Order>>,
}

/// What the process of an adopted run is kept in. Whatever its files claim beyond that, the job may have written itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Nothing: a command that can write wherever its files are.
    Open,
    /// A sandbox, which shows it a directory of its own.
    Sandbox,
    /// The interpreter of a module or a script, which can't name those files.
    Worker,
}

/// Why a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The job was cancelled.
    Cancel,
    /// The job was cancelled and gets no time to end by itself, also if it was asked before.
    Kill,
    /// It ran for longer than it may.
    Timeout,
    /// The lease of the attempt is over, so another node may run it.
    LeaseEnded,
    /// The daemon ends.
    Shutdown,
    /// Something else shall start in its place. Means nothing to a run that has started.
    Withdraw,
}

impl StopReason {
    /// The outcome of a run that was ended for this reason, whatever its exit code.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Cancel | Self::Kill => Outcome::Cancelled,
            Self::Timeout => Outcome::Timeout,
            Self::LeaseEnded => Outcome::Lost { reason: "lease ended".to_owned() },
            Self::Shutdown => Outcome::Released { reason: "shutdown".to_owned() },
            Self::Withdraw => Outcome::Released { reason: "withdrawn before it started".to_owned() },
        }
    }

    /// The time between TERM and KILL for a job that asks for `wanted`; none is KILL at once.
    pub(crate) fn grace(self, wanted: DurationMillis) -> Option<Duration> {
        let longest = match self {
            Self::Cancel | Self::Timeout => KILL_GRACE_MAX,
            Self::Kill => return None,
            Self::LeaseEnded | Self::Shutdown | Self::Withdraw => STOP_GRACE_MAX,
        };
        Some(Duration::from_millis(wanted.0).min(longest))
    }
}
