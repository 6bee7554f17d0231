//! What a running job says of itself, through the socket that `$JOBMESH_SOCKET` names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a job had written down for its next attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// By key.
    pub checkpoints: BTreeMap<String, String>,
}
