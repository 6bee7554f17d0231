//! The JSON that the daemon and its clients exchange on the control socket: one type per body.
//!
//! | route | question | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/blobs` | raw bytes | [`jobmesh_protocol::BlobRef`] |
//! | `POST /v1/jobs` | [`SubmitRequest`] | [`Submitted`] |
//! | `GET /v1/jobs?state=&live=&limit=` | | [`JobList`] |
//! | `GET /v1/jobs/{id}` | | [`JobDetail`] |
//! | `POST /v1/jobs/{id}/cancel` | [`CancelRequest`] | [`Done`] |
//! | `POST /v1/jobs/{id}/retry` | | [`Done`] |
//! | `GET /v1/jobs/{id}/explain` | | [`Explanation`] |
//! | `GET /v1/jobs/{id}/wait?timeout_ms=` | | [`JobDetail`] once final, else [`ErrorCode::Timeout`] |
//! | `GET /v1/jobs/{id}/watch` | | events `change` with a [`Change`] each, the last one final |
//! | `GET /v1/jobs/{id}/logs?stream=&attempt=&offset=&follow=` | | raw bytes; [`ATTEMPT_HEADER`] names the attempt |
//! | `GET /v1/jobs/{id}/receipt?attempt=` | | [`ReceiptView`] |
//! | `GET /v1/peers` | | [`Peers`] |
//! | `GET /v1/capabilities` | | [`Capabilities`] |
//! | `POST`, `DELETE /v1/capabilities` | [`CapabilityRequest`] | [`CapabilityAnswer`] |
//! | `POST /v1/invites` | [`InviteRequest`] | [`InviteView`] |
//! | `POST /v1/join` | [`JoinRequest`] | [`Joined`] |
//! | `GET /v1/learn` | | [`Learned`] |
//! | `GET /v1/events` | | events `change` with a [`Change`] each, for ever; `missed` with a [`Missed`] |
//! | `POST /v1/shutdown` | [`ShutdownRequest`] | [`Done`] |
//!
//! `{id}` is a job's number on this node, its whole UUID, or `last`. Every refusal is an [`ErrorBody`] with a fitting
//! HTTP status. Times are milliseconds since 1970 UTC, lengths of time milliseconds.
//!
//! **The hard case** is an older client and a newer daemon: answers may gain fields, so readers ignore what they do
//! not know; questions may not, because a restriction that is skipped over is a permission.

mod capability;
mod event;
mod explain;
mod job;
mod learn;
mod logs;
mod membership;
mod node;
mod peer;
mod receipt;

use jobmesh_protocol::NodeId;
use serde::{Deserialize, Serialize};

pub use capability::{Capabilities, CapabilityAnswer, CapabilityRequest, TagSource, TagView};
pub use event::{CHANGE_EVENT, Change, MISSED_EVENT, Missed};
pub use explain::{Explanation, NodeFit};
pub use job::{
    AttemptView, CancelRequest, EventView, JobDetail, JobList, JobView, ListQuery, SubmitRequest, Submitted, WaitQuery,
};
pub use learn::{CellView, HeardView, Learned};
pub use logs::{ATTEMPT_HEADER, LogStream, LogsQuery};
pub use membership::{InviteRequest, InviteView, JoinRequest, Joined};
pub use node::{ShutdownMode, ShutdownRequest, Status};
pub use peer::{AttributeValue, PeerView, Peers, RecordView, RefusedBy, RefusedView};
pub use receipt::{Expected, ReceiptBody, ReceiptHead, ReceiptQuery, ReceiptView};

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
