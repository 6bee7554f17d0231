//! Jobs: what is asked for, and what is told of them.

use jobmesh_protocol::outcome::{Exit, Outputs};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AttemptState, AwardId, DurationMillis, Epoch, JobId, JobSpec, JobState, ReceiptId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::{NodeName, ReceiptHead};

/// Asks for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// What is to be done. Its input blob, if any, was uploaded before.
    pub spec: JobSpec,
}

/// A job that is queued and will survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
}

/// Jobs, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobView>,
}

/// A job as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node.
    pub number: u64,
    /// Where it is in its life.
    pub state: JobState,
    /// Since when.
    pub state_since: UnixMillis,
    /// Its name for people.
    pub name: Option<String>,
    /// Its type, by which learning groups.
    pub job_type: String,
    /// Its program and arguments; empty for an executor that has none.
    pub command: Vec<String>,
    /// The epoch of its last attempt; 0 before the first.
    pub epoch: Epoch,
    /// The node of its last attempt.
    pub node: Option<NodeName>,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeName>,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that vanished.
    pub crashes: u32,
    /// How the last attempt that ended did so, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal of the last attempt that ended.
    pub exit: Exit,
    /// Why the job ended.
    pub finish_reason: Option<FinishReason>,
    /// Why it is to be cancelled, once someone asked for that.
    pub cancel_reason: Option<String>,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// When it was submitted here.
    pub created_at: UnixMillis,
    /// When its last attempt started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// Everything that is known about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDetail {
    /// The job.
    pub job: JobView,
    /// What was asked for.
    pub spec: JobSpec,
    /// Every execution, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Its history, oldest first.
    pub events: Vec<EventView>,
    /// The receipts that came in, oldest first.
    pub receipts: Vec<ReceiptHead>,
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Which attempt.
    pub epoch: Epoch,
    /// Where it is.
    pub state: AttemptState,
    /// Which node runs it.
    pub node: NodeName,
    /// Its process number, if it runs on this node and has started.
    pub pid: Option<u32>,
    /// How it ended, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// The award, if it runs on a peer.
    pub award: Option<AwardId>,
    /// The receipt that ended it.
    pub receipt: Option<ReceiptId>,
    /// What became of the last receipt for it: `superseded` is kept as evidence only.
    pub verdict: Option<Verdict>,
    /// When it was decided.
    pub created_at: UnixMillis,
    /// When it started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number in the node's log.
    pub id: u64,
    /// When.
    pub at: UnixMillis,
    /// The job's state after it.
    pub state: JobState,
    /// What moved the job.
    pub cause: Cause,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeName>,
    /// What is to be said about it.
    pub note: Option<String>,
}

/// Asks for the end of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, for people.
    pub reason: String,
}

/// The query of a job list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only jobs that have not ended.
    #[serde(default)]
    pub live: bool,
    /// At most so many; the default is 50, the most 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The query of a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// How long to wait; none is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<DurationMillis>,
}
