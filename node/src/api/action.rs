//! Doing something to jobs: to one by its route, or to all that a selection means.

use jobmesh_protocol::{JobId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, SelectRequest, submission};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stop it.
    Cancel(CancelRequest),
    /// Give it another try. Of a group, the tasks that did not complete.
    Retry,
    /// Let it wait until it is released.
    Hold(HoldRequest),
    /// Let a held one go on.
    Release,
    /// Let it start at this time.
    Reschedule(RescheduleRequest),
    /// Change its place among those that wait.
    Prioritize(PrioritizeRequest),
    /// Put it into another queue.
    Move(MoveRequest),
    /// Take no more tasks into an open group.
    Close,
    /// Delete it and all that is kept of it, if it has ended.
    Remove,
}

/// Asks for the end of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, for people.
    pub reason: String,
    /// Whether to leave it no time to end by itself.
    #[serde(default)]
    pub force: bool,
}

/// Asks for a job to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Why, for people.
    pub reason: String,
}

/// Asks for a job to start at another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RescheduleRequest {
    /// When.
    pub at: UnixMillis,
}

/// Asks for another place among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrioritizeRequest {
    /// Higher runs first.
    pub priority: i32,
}

/// Asks for another queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// Which.
    pub queue: String,
}

/// Asks for something to be done to jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// To which. At least something must be said of them.
    pub select: SelectRequest,
    /// What.
    pub action: Action,
}

/// What became of each job that was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// The jobs, in the order of the selection.
    pub jobs: Vec<ActedJob>,
    /// Whether the selection means more jobs than the limit let through; nothing was done to those.
    #[serde(default)]
    pub more: bool,
}

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActedJob {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
    /// Which task of that number it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Whether anything changed; `false` if it was so already, or if it was refused.
    pub changed: bool,
    /// Whether it stays held, so that its new time alone does not start it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays_held: bool,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

impl ActedJob {
    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        submission::numbered(self.number, self.task)
    }
}

/// Asks for old jobs to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// Those that ended before this, whatever their retention; none goes by the retention alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_before: Option<UnixMillis>,
}

/// How much was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// So many jobs.
    pub jobs: u64,
}
