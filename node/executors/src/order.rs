//! What an executor is told: run this, stop that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jobmesh_protocol::job::Task;
use jobmesh_protocol::{DurationMillis, Outcome, RunId};

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
    /// How long it may take to end after TERM; at most [`KILL_GRACE_MAX`] counts.
    pub kill_grace: DurationMillis,
    /// The file that holds the task's input, if it has one.
    pub stdin: Option<PathBuf>,
    /// Where the attempt keeps its logs and its working directory. Made if missing, for the owner only.
    pub directory: PathBuf,
    /// Variables that win over the task's own.
    pub environment: BTreeMap<String, String>,
}

/// Why a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The job was cancelled.
    Cancel,
    /// It ran for longer than it may.
    Timeout,
    /// The lease of the attempt is over, so another node may run it.
    LeaseEnded,
    /// The daemon ends.
    Shutdown,
}

impl StopReason {
    /// The outcome of a run that was ended for this reason, whatever its exit code.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Cancel => Outcome::Cancelled,
            Self::Timeout => Outcome::Timeout,
            Self::LeaseEnded => Outcome::Lost { reason: "lease ended".to_owned() },
            Self::Shutdown => Outcome::Released { reason: "shutdown".to_owned() },
        }
    }

    /// The time between TERM and KILL for a job that asks for `wanted`.
    pub(crate) fn grace(self, wanted: DurationMillis) -> Duration {
        let longest = match self {
            Self::Cancel | Self::Timeout => KILL_GRACE_MAX,
            Self::LeaseEnded | Self::Shutdown => STOP_GRACE_MAX,
        };
        Duration::from_millis(wanted.0).min(longest)
    }
}
