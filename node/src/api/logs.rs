//! The output of an attempt. The bytes travel raw; only the question has a type.

use jobmesh_protocol::Epoch;
use serde::{Deserialize, Serialize};

/// The header of a logs answer that says which attempt's bytes follow.
pub const ATTEMPT_HEADER: &str = "x-jobmesh-attempt";

/// Which of its two outputs an attempt wrote to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// The query of a job's result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultQuery {
    /// Of which attempt; none is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Epoch>,
}

/// The query of an attempt's output.
///
/// Without `follow` the answer is what is here now. With it the answer ends after the attempt does; a job that has
/// no attempt yet is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// Which output.
    #[serde(default)]
    pub stream: LogStream,
    /// Which attempt; none is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Epoch>,
    /// How many bytes to leave out at the start.
    #[serde(default)]
    pub offset: u64,
    /// Whether to go on until the attempt ends.
    #[serde(default)]
    pub follow: bool,
}
