//! What a running job says of itself, through the socket that `$JOBMESH_SOCKET` names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The variable that names the socket on which a job can talk of itself.
pub const SOCKET_VARIABLE: &str = "JOBMESH_SOCKET";
/// The variable that names the run, `JOB-ID.EPOCH`.
pub const RUN_VARIABLE: &str = "JOBMESH_RUN";
/// The variable that names the file for the outcome.
pub const OUTCOME_VARIABLE: &str = "JOBMESH_OUTCOME";
/// The variable that names the job that a process is of, by its number.
pub const JOB_VARIABLE: &str = "JOBMESH_JOB";
/// The variable that names the file for the result.
pub const RESULT_VARIABLE: &str = "JOBMESH_RESULT";
/// The variable that proves to the node which run is speaking.
pub const TOKEN_VARIABLE: &str = "JOBMESH_TOKEN";

/// What a job had written down for its next attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// By key.
    pub checkpoints: BTreeMap<String, String>,
}
