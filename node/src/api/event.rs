//! What is told to those who watch, as server-sent events.

use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{Epoch, JobId, JobState, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::{NodeName, submission};

/// The name of a server-sent event that carries a [`Change`].
pub const CHANGE_EVENT: &str = "change";

/// The name of a server-sent event that carries a [`Missed`].
pub const MISSED_EVENT: &str = "missed";

/// A job moved or its attempt did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The event's number in the node's log; 0 for the present state of a job that has no event yet.
    pub event: u64,
    /// The job.
    pub job: JobId,
    /// The job's number on this node; of a task, that of its group.
    pub number: u64,
    /// Which task of its group it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// The job's state after it.
    pub state: JobState,
    /// What moved it.
    pub cause: Cause,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeName>,
    /// When.
    pub at: UnixMillis,
}

impl Change {
    /// What people call the job: `42`, or `42.7` for a task.
    #[must_use]
    pub fn label(&self) -> String {
        submission::numbered(self.number, self.task)
    }
}

/// The query of the log of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedQuery {
    /// Only events behind the one of this number; without it, the newest ones, or what comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Whether to go on as long as the node runs.
    #[serde(default)]
    pub follow: bool,
}

/// The watcher was too slow; read the lists again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many changes were left out.
    pub changes: u64,
}
