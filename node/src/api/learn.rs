//! What was learned of who does which work how well.

use jobmesh_protocol::DurationMillis;
use serde::{Deserialize, Serialize};

use crate::api::NodeName;

/// What was learned of who does which work how well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// What this node has seen itself.
    pub own: Vec<CellView>,
    /// What other members have told, by author and day.
    pub heard: Vec<HeardView>,
}

/// The summary of another member for one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardView {
    /// Who saw it.
    pub author: NodeName,
    /// Days since 1970-01-01 UTC.
    pub day: u32,
    /// Which version of that day's summary.
    pub version: u64,
    /// What it saw.
    pub cells: Vec<CellView>,
}

/// What was seen of one kind of work on one node in one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellView {
    /// Days since 1970-01-01 UTC.
    pub day: u32,
    /// The job type.
    pub job_type: String,
    /// The executor.
    pub executor: String,
    /// The node that ran it.
    pub node: NodeName,
    /// Attempts that succeeded.
    pub succeeded: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// Attempts that ran too long.
    pub timed_out: u32,
    /// Attempts that vanished.
    pub lost: u32,
    /// Half of the successful ones took at most this long.
    pub p50_ms: Option<DurationMillis>,
    /// Nine of ten successful ones took at most this long.
    pub p90_ms: Option<DurationMillis>,
}
