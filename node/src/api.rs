//! The JSON that the daemon and its clients exchange on the control socket: one type per body.
//!
//! | route | question | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/blobs` | raw bytes | [`jobmesh_protocol::BlobRef`] |
//! | `POST /v1/blobs/many` | up to [`BLOBS_TOGETHER_MAX`] blobs of [`SMALL_BLOB_BYTES_MAX`] at most, each behind its length as four bytes, the highest first | [`Uploaded`] |
//! | `POST /v1/blobs/missing` | [`MissingRequest`] | [`Missing`] |
//! | `GET`, `HEAD /v1/blobs/{hash}` | | raw bytes; their hash is for the reader to check |
//! | `POST /v1/jobs?follow=` | [`SubmitRequest`] | [`Submitted`]; with `follow`, JSON lines of [`FollowLine`] |
//! | `POST /v1/jobs/batch` | JSON lines of [`SubmitRequest`] | [`Batch`] |
//! | `POST /v1/plan` | [`SubmitRequest`] | [`Explanation`] |
//! | `GET /v1/jobs?state=&live=&queue=&type=&name=&limit=` | | [`JobList`] |
//! | `POST /v1/select` | [`SelectRequest`] | [`JobList`] |
//! | `POST /v1/wait` | [`WaitRequest`] | [`JobList`] once they have ended, else [`ErrorCode::Timeout`] |
//! | `POST /v1/actions` | [`ActRequest`] | [`Acted`] |
//! | `GET`, `DELETE /v1/jobs/{id}` | | [`JobDetail`], [`Done`] |
//! | `POST /v1/jobs/{id}/cancel` | [`CancelRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/hold` | [`HoldRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/reschedule` | [`RescheduleRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/prioritize` | [`PrioritizeRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/move` | [`MoveRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/{retry,release,close}` | | [`Done`] |
//! | `POST /v1/prune` | [`PruneRequest`] | [`Pruned`] |
//! | `GET /v1/jobs/{id}/explain` | | [`Explanation`] |
//! | `GET /v1/jobs/{id}/wait?timeout_ms=` | | [`JobDetail`] once final, else [`ErrorCode::Timeout`] |
//! | `GET /v1/jobs/{id}/watch` | | events `change` with a [`Change`] each, the last one final |
//! | `GET /v1/jobs/{id}/logs?stream=&attempt=&offset=&follow=` | | raw bytes; [`ATTEMPT_HEADER`] names the attempt |
//! | `GET /v1/jobs/{id}/receipt?attempt=` | | [`ReceiptView`] |
//! | `GET /v1/jobs/{id}/result?attempt=` | | raw bytes |
//! | `GET /v1/jobs/{id}/artifacts?attempt=` | | [`Artifacts`] |
//! | `GET /v1/jobs/{id}/checkpoints` | | [`Checkpoints`] |
//! | `GET /v1/queues` | | [`Queues`] |
//! | `GET /v1/queues/{name}` | | [`QueueView`] |
//! | `POST /v1/queues/{name}/{pause,resume,drain,reset}` | | [`Done`] |
//! | `PUT /v1/queues/{name}` | [`QueueRequest`] | [`Done`] |
//! | `GET /v1/schedules` | | [`Schedules`] |
//! | `GET /v1/schedules/{name}` | | [`ScheduleView`] |
//! | `GET /v1/schedules/{name}/next?limit=` | | [`Instants`] |
//! | `PUT`, `DELETE /v1/schedules/{name}` | [`jobmesh_engine::Schedule`] | [`Done`] |
//! | `POST /v1/schedules/{name}/{pause,resume,trigger}` | | [`Done`] |
//! | `POST /v1/schedules/{name}/backfill` | [`BackfillRequest`] | [`Backfilled`] |
//! | `GET /v1/types` | | [`Types`] |
//! | `GET /v1/types/{name}` | | [`crate::job_types::TypeView`] |
//! | `POST /v1/types/{name}/submission` | [`TypeRequest`] | [`SubmitRequest`], to be changed or submitted |
//! | `POST /v1/config/reload` | | [`Reloaded`] |
//! | `GET /v1/peers` | | [`Peers`] |
//! | `GET /v1/audit/{peer}` | | raw bytes: a signed [`jobmesh_protocol::chain::Export`] |
//! | `GET /v1/capabilities` | | [`Capabilities`] |
//! | `POST`, `DELETE /v1/capabilities` | [`CapabilityRequest`] | [`CapabilityAnswer`] |
//! | `POST /v1/invites` | [`InviteRequest`] | [`InviteView`] |
//! | `POST /v1/join` | [`JoinRequest`] | [`Joined`] |
//! | `GET /v1/learn` | | [`Learned`] |
//! | `GET /v1/metrics?since_ms=&by=` | | [`Metrics`] |
//! | `GET /v1/events` | | events `change` with a [`Change`] each, for ever; `missed` with a [`Missed`] |
//! | `GET /v1/feed?from=&follow=` | | JSON lines of [`Change`] |
//! | `POST /v1/shutdown` | [`ShutdownRequest`] | [`Done`] |
//!
//! `{id}` is a job's number on this node, `42` or `42.7` for a task, its whole UUID, or `last`. Every refusal is an [`ErrorBody`] with a fitting
//! HTTP status. Times are milliseconds since 1970 UTC, lengths of time milliseconds.
//!
//! **The hard case** is an older client and a newer daemon: answers may gain fields, so readers ignore what they do
//! not know; questions may not, because a restriction that is skipped over is a permission.

mod action;
mod blob;
mod capability;
mod event;
mod explain;
#[cfg(test)]
mod fuzz;
mod job;
mod job_type;
mod learn;
mod logs;
mod membership;
mod metrics;
mod node;
mod peer;
mod queue;
mod receipt;
mod report;
mod schedule;
mod selection;
mod submission;

use jobmesh_protocol::NodeId;
use serde::{Deserialize, Serialize};

pub use action::{
    ActRequest, Acted, ActedJob, Action, CancelRequest, HoldRequest, MoveRequest, PrioritizeRequest, PruneRequest,
    Pruned, RescheduleRequest,
};
pub use blob::{
    Artifact, ArtifactKind, Artifacts, BLOBS_ASKED_MAX, BLOBS_TOGETHER_MAX, BlobUse, Missing, MissingRequest,
    SMALL_BLOB_BYTES_MAX, Uploaded,
};
pub use capability::{Capabilities, CapabilityAnswer, CapabilityRequest, TagSource, TagView};
pub use event::{CHANGE_EVENT, Change, FeedQuery, MISSED_EVENT, Missed};
pub use explain::{Explanation, NodeFit, Reason};
pub use job::{
    AttemptView, EventView, FILES_TOLD_MAX, FileCount, Fire, JobDetail, JobView, ListQuery, Progress, TaskCounts,
    WaitQuery, task_words,
};
pub use job_type::{Reloaded, TypeRequest, Types};
pub use learn::{CellView, HeardView, Learned};
pub use logs::{ATTEMPT_HEADER, LogStream, LogsQuery, ResultQuery};
pub use membership::{InviteRequest, InviteView, JoinRequest, Joined};
pub use metrics::{Grain, METRICS_SPAN_MAX, MetricView, Metrics, MetricsQuery};
pub use node::{Alarm, ShutdownMode, ShutdownRequest, Status};
pub use peer::{AttributeValue, PeerView, Peers, RecordView, RefusedBy, RefusedView};
pub use queue::{QueueMode, QueueRequest, QueueView, Queues};
pub use receipt::{Expected, ReceiptBody, ReceiptHead, ReceiptQuery, ReceiptView};
pub use report::Checkpoints;
pub use schedule::{BackfillRequest, Backfilled, INSTANTS_MAX, Instants, NextQuery, Passed, ScheduleView, Schedules};
pub use selection::{Filter, JobList, PICKS_MAX, Pick, PickError, SELECTED_MAX, SelectRequest, Span, WaitRequest};
pub use submission::{BATCH_LINES_MAX, Batch, Ended, FollowLine, SubmitQuery, SubmitRequest, Submitted, number_parts};

/// What a refused request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// Why a request was refused, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: a fragment without a final dot.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The question is malformed or out of bounds: HTTP 400.
    BadRequest,
    /// No such job, attempt, receipt or output: HTTP 404.
    NotFound,
    /// The state of the job, the node or the mesh does not allow it: HTTP 409.
    Conflict,
    /// The body is too large: HTTP 413.
    TooLarge,
    /// The node has more to do than it can queue: HTTP 429. Try again.
    Busy,
    /// The node shuts down: HTTP 503.
    Draining,
    /// The disk is full: HTTP 507. Nothing that was acknowledged is lost.
    DiskFull,
    /// The job database can't be read or written: HTTP 500.
    Database,
    /// The other node could not be reached or did not answer: HTTP 502.
    PeerUnreachable,
    /// The other node said no: HTTP 403.
    PeerRefused,
    /// The time given is over: HTTP 504.
    Timeout,
    /// A fault of the daemon or its disk: HTTP 500.
    Internal,
}

/// A node with the name that people know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// The node.
    pub node: NodeId,
    /// Its name; the short form of its id where no name is known.
    pub name: String,
    /// Whether it is the node that answers.
    pub is_self: bool,
}

/// The request was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Whether that changed anything; `false` if it was so already.
    pub changed: bool,
}
